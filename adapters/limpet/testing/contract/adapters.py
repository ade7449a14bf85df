"""Limpet's own clients, each with the event loop it runs on."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.lowlevel
import anyio.to_thread

from limpet import Options
from limpet.testing.contract.world import Steps, Stream, Subject

_POLL = 0.02


@dataclass(frozen=True)
class Adapter:
    """A client and the event loop it is to be checked on.

    Args:
        name: for the reader of a report.
        make: ``make(url, options, ssl=...)`` returns a client.
        backend: ``asyncio`` or ``trio``, as for ``anyio.run``.
        backend_options: the same.
        subject: the client's face; :class:`Blocking` for one that blocks.
    """

    name: str
    make: Callable[..., Any]
    backend: str = "asyncio"
    backend_options: dict[str, Any] = field(default_factory=dict[str, Any])
    subject: type[Subject] = Subject


class BlockingStream(Stream):
    """A stream that blocks, read in a thread."""

    async def __anext__(self) -> Any:
        while True:
            # A turn is not abandoned when this is cancelled: the event it takes would be lost.
            event = await anyio.to_thread.run_sync(self._next, limiter=_LIMITERS.get())
            if event is _NONE:
                raise StopAsyncIteration
            if event is not _LATE:
                return event

    def _next(self) -> Any:
        try:
            return self.stream.next(timeout=_POLL)
        except TimeoutError:
            return _LATE
        except StopIteration:
            return _NONE


class Blocking(Subject):
    """A client that blocks: each call runs in a thread of its own."""

    async def __aenter__(self) -> Self:
        await anyio.to_thread.run_sync(self.client.__enter__, limiter=_LIMITERS.get())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.client.__exit__, None, None, None, limiter=_LIMITERS.get())

    async def call(self, method: str, *args: Any, **named: Any) -> Any:
        """Call a method of the client; where this is cancelled, its thread goes on until it is answered."""
        function = getattr(self.client, method)
        return await anyio.to_thread.run_sync(
            lambda: function(*args, **named), abandon_on_cancel=True, limiter=_LIMITERS.get()
        )

    async def repeat(
        self, count: int, method: str, *args: Any, until: Callable[[], object] = bool, **named: Any
    ) -> None:
        """All calls are made by one thread."""
        call = getattr(self.client, method)

        def repeat() -> None:
            for number in range(count):
                if until():
                    return
                call(*args, number, **named)

        await anyio.to_thread.run_sync(repeat, limiter=_LIMITERS.get())

    async def gives_up(self, seconds: float, method: str, *args: Any) -> bool:
        """The same by way of ``timeout=``."""
        try:
            await self.call(method, *args, timeout=seconds)
        except TimeoutError:
            return True
        return False

    @staticmethod
    def slow_provider(provide: Callable[[], str], seconds: float = 0.01) -> Callable[[], str]:
        """A function that blocks."""

        def slow() -> str:
            time.sleep(seconds)
            return provide()

        return slow

    def on_steps(self, event_type: type[Any], callback: Callable[[Any], Steps]) -> None:
        """The steps are taken in the client's thread for callbacks."""

        def take(event: Any) -> None:
            _walk(callback(event), self.client)

        self.client.on(event_type, take)

    def __aiter__(self) -> Stream:
        return BlockingStream(iter(self.client))

    def events(self, *types: type[Any]) -> Stream:
        """Call ``events``."""
        return BlockingStream(self.client.events(*types))

    @asynccontextmanager
    async def _subscribe(self, group: str) -> AsyncGenerator[Stream]:
        manager = self.client.subscribe(group)
        stream = await anyio.to_thread.run_sync(manager.__enter__, limiter=_LIMITERS.get())
        try:
            yield BlockingStream(stream)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(manager.__exit__, None, None, None, limiter=_LIMITERS.get())


def _walk(steps: Steps, client: Any) -> None:
    outcome: Any = None
    error: Exception | None = None
    while True:
        try:
            name, *args = steps.throw(error) if error is not None else steps.send(outcome)
        except StopIteration:
            return
        outcome, error = None, None
        try:
            outcome = (time.sleep if name == "sleep" else getattr(client, name))(*args)
        except Exception as raised:  # noqa: BLE001 - it is the callback's
            error = raised


class _Limiters:
    """Enough threads for many calls at once; a limiter belongs to one event loop."""

    def __init__(self) -> None:
        self._limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("limpet-testing")

    def get(self) -> anyio.CapacityLimiter:
        try:
            return self._limiter.get()
        except LookupError:
            limiter = anyio.CapacityLimiter(300)
            self._limiter.set(limiter)
            return limiter


_LIMITERS = _Limiters()
_LATE, _NONE = object(), object()


def own() -> list[Adapter]:
    """Limpet's clients on every event loop that is installed here."""
    adapters = [
        Adapter("asyncio", _client("asyncio"), backend_options={"debug": True}),
        Adapter("anyio-asyncio", _client("anyio")),
        Adapter("sync", _client("sync"), subject=Blocking),
    ]
    if importlib.util.find_spec("uvloop") is not None:
        adapters.append(Adapter("asyncio-uvloop", _client("asyncio"), backend_options={"use_uvloop": True}))
    if importlib.util.find_spec("trio") is not None:
        adapters.append(Adapter("trio", _client("trio"), backend="trio"))
        adapters.append(Adapter("anyio-trio", _client("anyio"), backend="trio"))
    return adapters


def connectors() -> list[Adapter]:
    """Limpet's asyncio and blocking clients over every WebSocket library that is installed here, by ``connect=``."""
    libraries = {"websockets": "ssl", "aiohttp": "ssl", "picows": "ssl_context"}
    installed = {library: ssl for library, ssl in libraries.items() if importlib.util.find_spec(library) is not None}
    adapters = [Adapter(f"asyncio-{library}", _over("asyncio", library, ssl)) for library, ssl in installed.items()]
    if "websockets" in installed:
        over = _over("sync", "websockets", "ssl", "blocking_connector")
        adapters.append(Adapter("sync-websockets", over, subject=Blocking))
    return adapters


def _client(name: str) -> Callable[..., Any]:
    return importlib.import_module(f"limpet.{name}").Client  # type: ignore[no-any-return]


def _over(client: str, library: str, ssl_option: str, kind: str = "connector") -> Callable[..., Any]:
    connector = getattr(importlib.import_module(f"limpet.connect.{library}"), kind)

    def make(url: Any, options: Options, ssl: SSLContext | None = None) -> Any:
        return _client(client)(url, options, connect=connector(**({ssl_option: ssl} if ssl else {})))

    return make
