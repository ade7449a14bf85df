"""A client under test, with one face for every client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from types import TracebackType
from typing import Any, ClassVar, Self

import anyio

from limpet import Ack, State
from limpet.testing.contract.needs import Allowed

GROUP = "g"
"""The group of a check that needs one."""

Steps = Generator[tuple[Any, ...], Any, None]
"""What a callback does with its client: it yields ``(method, *arguments)`` and is sent the result, or thrown the
exception; ``("sleep", seconds)`` waits."""


async def walk(steps: Steps, call: Callable[..., Awaitable[Any]]) -> None:
    """Await ``call(method, *arguments)`` for each step; the steps are sent its result, or thrown its exception."""
    outcome: Any = None
    error: Exception | None = None
    while True:
        try:
            step = steps.throw(error) if error is not None else steps.send(outcome)
        except StopIteration:
            return
        outcome, error = None, None
        try:
            outcome = await call(*step)
        except Exception as raised:  # noqa: BLE001 - it is the callback's
            error = raised


class Stream:
    """A stream of events; made by the methods of a :class:`Subject`."""

    def __init__(self, stream: Any) -> None:
        self.stream: Any = stream

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self.stream.__anext__()

    def close(self) -> None:
        """Take no more events."""
        self.stream.close()


class Subject:
    """A client under test. This face fits every async client; :class:`limpet.testing.contract.Blocking` one that
    blocks. ``async with subject:`` is its life, and may be repeated.

    Attributes:
        client: the client itself.
        cancellable: whether a cancellation reaches a call that waits.
        allowed: what the check may ask the client for.
    """

    cancellable: ClassVar[bool] = True

    def __init__(self, client: Any) -> None:
        self.client: Any = client
        self.allowed: Allowed = Allowed()
        self._starts = 0

    async def __aenter__(self) -> Self:
        if self._starts:
            self.allowed.use("restart")
        self._starts += 1
        await self.enter()
        return self

    async def enter(self) -> None:
        """Start the client."""
        await self.client.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.__aexit__(kind, error, trace)

    @property
    def state(self) -> State:
        """The client's ``state``."""
        return self.client.state  # type: ignore[no-any-return]

    @property
    def connection_id(self) -> str | None:
        """The client's ``connection_id``."""
        return self.client.connection_id  # type: ignore[no-any-return]

    @property
    def user_id(self) -> str | None:
        """The client's ``user_id``."""
        return self.client.user_id  # type: ignore[no-any-return]

    @property
    def groups(self) -> frozenset[str]:
        """The client's ``groups``."""
        return self.client.groups  # type: ignore[no-any-return]

    async def call(self, method: str, *args: Any, **named: Any) -> Any:
        """Call a method of the client."""
        return await getattr(self.client, method)(*args, **named)

    async def stop(self) -> None:
        """Stop the client."""
        await self.call("stop")

    async def check(self) -> None:
        """Call ``check``."""
        self.allowed.use("check")
        self.client.check()

    async def join(self, group: str = GROUP, **named: Any) -> Ack:
        """Call ``join_group``."""
        return await self.call("join_group", group, **named)  # type: ignore[no-any-return]

    async def leave(self, group: str = GROUP, **named: Any) -> Ack:
        """Call ``leave_group``."""
        return await self.call("leave_group", group, **named)  # type: ignore[no-any-return]

    async def send(self, data: Any, group: str = GROUP, **named: Any) -> Any:
        """Call ``send_to_group``."""
        return await self.call("send_to_group", group, data, **named)

    async def repeat(
        self, count: int, method: str, *args: Any, until: Callable[[], object] = bool, **named: Any
    ) -> None:
        """Call a method with 0, 1, 2 and so on as its last argument, without anything in between."""
        call = getattr(self.client, method)
        for number in range(count):
            if until():
                return
            await call(*args, number, **named)

    async def gives_up(self, seconds: float, method: str, *args: Any) -> bool:
        """Call a method, but wait only so long; return whether that was too short."""
        self.allowed.use("cancel")
        with anyio.move_on_after(seconds) as scope:
            await self.call(method, *args)
        return scope.cancelled_caught

    @staticmethod
    def slow_provider(provide: Callable[[], str], seconds: float = 0.01) -> Callable[[], Any]:
        """A function for the URL that takes its time, in the client's own way."""

        async def slow() -> str:
            await anyio.sleep(seconds)
            return provide()

        return slow

    def on(self, event_type: type[Any], callback: Callable[[Any], object]) -> None:
        """Register a plain callback, which must not wait."""
        self.client.on(event_type, callback)

    def off(self, event_type: type[Any], callback: Callable[[Any], object]) -> None:
        """Remove a plain callback."""
        self.allowed.use("callbacks")
        self.client.off(event_type, callback)

    def on_steps(self, event_type: type[Any], callback: Callable[[Any], Steps]) -> None:
        """Register a callback that waits and calls the client."""
        self.allowed.use("callbacks")

        @wraps(callback)  # logs name it
        async def take(event: Any) -> None:
            await walk(callback(event), self._step)

        self.client.on(event_type, take)

    async def _step(self, method: str, *args: Any) -> Any:
        return await (anyio.sleep(*args) if method == "sleep" else getattr(self.client, method)(*args))

    def __aiter__(self) -> Stream:
        self.allowed.use("streams")
        return Stream(aiter(self.client))

    def events(self, *types: type[Any]) -> Stream:
        """Call ``events``."""
        self.allowed.use("streams")
        return Stream(self.client.events(*types))

    def subscribe(self, group: str = GROUP) -> AbstractAsyncContextManager[Stream]:
        """Call ``subscribe``."""
        self.allowed.use("streams")
        return self._subscribe(group)

    @asynccontextmanager
    async def _subscribe(self, group: str) -> AsyncGenerator[Stream]:
        async with self.client.subscribe(group) as stream:
            yield Stream(stream)


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
