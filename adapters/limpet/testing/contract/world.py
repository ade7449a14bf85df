"""What a check of the contract has in its hands: a service, clients with one face, and ways to wait."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio

from limpet import Ack, Backoff, Options, State
from limpet.service import ServiceOptions
from limpet.testing.service import BackgroundService

E = TypeVar("E", bound=BaseException)

GROUP = "g"
WAIT = 15.0
"""Seconds to wait for anything before that is a failure."""

_FAST: dict[str, Any] = {
    "connect_timeout": 6.0,
    "close_timeout": 1.0,
    "recovery_timeout": 20.0,
    "recovery_interval": 0.02,
    "sequence_ack_interval": 0.05,
    "reconnect": Backoff(initial=0.01, maximum=0.05),
    "retry": Backoff(initial=0.02, maximum=0.02, multiplier=1.0, jitter=0.0, limit=3),
    "ack_timeout": 5.0,
    "keepalive_interval": None,
    "keepalive_timeout": None,
}

Steps = Generator[tuple[Any, ...], Any, None]
"""What a callback does with its client: it yields ``(method, *arguments)`` and is sent the result, or thrown the
exception; ``("sleep", seconds)`` waits."""


def fast(**changes: Any) -> Options:
    """Options with times that suit a test on one machine."""
    return Options(**(_FAST | changes))


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
    """

    def __init__(self, client: Any) -> None:
        self.client: Any = client

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        return self

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
        """Call a method, but wait only so long; tell whether that was too short."""
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

    def on_steps(self, event_type: type[Any], callback: Callable[[Any], Steps]) -> None:
        """Register a callback that waits and calls the client."""

        async def take(event: Any) -> None:
            await _walk(callback(event), self.client)

        self.client.on(event_type, take)

    def __aiter__(self) -> Stream:
        return Stream(aiter(self.client))

    def events(self, *types: type[Any]) -> Stream:
        """Call ``events``."""
        return Stream(self.client.events(*types))

    def subscribe(self, group: str = GROUP) -> AbstractAsyncContextManager[Stream]:
        """Call ``subscribe``."""
        return self._subscribe(group)

    @asynccontextmanager
    async def _subscribe(self, group: str) -> AsyncGenerator[Stream]:
        async with self.client.subscribe(group) as stream:
            yield Stream(stream)


async def _walk(steps: Steps, client: Any) -> None:
    outcome: Any = None
    error: Exception | None = None
    while True:
        try:
            name, *args = steps.throw(error) if error is not None else steps.send(outcome)
        except StopIteration:
            return
        outcome, error = None, None
        try:
            outcome = await (anyio.sleep(*args) if name == "sleep" else getattr(client, name)(*args))
        except Exception as raised:  # noqa: BLE001 - it is the callback's
            error = raised


class _Errors(logging.Handler):
    """Remembers the texts of what is logged, or of the exceptions that are."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self.texts.append(record.getMessage() if error is None else str(error))


@contextmanager
def logged() -> Generator[list[str]]:
    """The texts of warnings and of exceptions that are logged meanwhile, whichever the logger."""
    handler = _Errors()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield handler.texts
    finally:
        root.removeHandler(handler)


class Log:
    """The events of some types, in order, to look at and to wait for."""

    def __init__(self, subject: Subject, *types: type[Any]) -> None:
        self.events: list[Any] = []
        for kind in types:
            subject.on(kind, self.events.append)

    @property
    def data(self) -> list[Any]:
        """The data of the messages among them."""
        return [event.data for event in self.events]

    def of(self, kind: type[Any]) -> list[Any]:
        """Those of one type."""
        return [event for event in self.events if type(event) is kind]

    async def wait(self, kind: type[Any], count: int = 1) -> Any:
        """Wait for so many of one type; the result is the last of these."""
        await soon(lambda: len(self.of(kind)) >= count, f"{count} {kind.__name__}")
        return self.of(kind)[count - 1]

    async def upto(self, data: Any) -> None:
        """Wait for the message with this data."""
        await soon(lambda: self.events and self.events[-1].data == data, f"the message {data!r}")


class World:
    """One check's surroundings.

    Attributes:
        service: to be reached by way of a proxy that cuts.
    """

    def __init__(
        self,
        service: BackgroundService,
        make: Callable[..., Any],
        subject: type[Subject],
        tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    ) -> None:
        self.service: BackgroundService = service
        self._make = make
        self._subject = subject
        self._service_tls = tls[0] if tls else None
        self._tls = tls[1] if tls else None

    def another(self, options: ServiceOptions) -> BackgroundService:
        """A service of the check's own, to be started, with a network of its own."""
        return BackgroundService(options, tls=self._service_tls)

    def client(self, url: Any = None, **options: Any) -> Subject:
        """A client, not started yet; by default by way of the proxy and with quick :func:`fast` options."""
        where = self.service.url() if url is None else url
        return self._subject(self._make(where, fast(**options), ssl=self._tls))

    def undisturbed(self, **options: Any) -> Subject:
        """A client past the proxy."""
        return self.client(self.service.direct_url(), **options)


class Caught(Generic[E]):
    """An exception that was expected."""

    error: E


@contextmanager
def raises(kind: type[E]) -> Generator[Caught[E]]:
    """Fail unless the block raises ``kind`` itself, not wrapped into a group."""
    caught: Caught[E] = Caught()
    try:
        yield caught
    except kind as error:
        caught.error = error
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


async def soon(true: Callable[[], object], what: str = "what was to come", seconds: float = WAIT) -> None:
    """Wait until something is true."""
    end = anyio.current_time() + seconds
    while not true():
        if anyio.current_time() > end:
            raise AssertionError(f"waited {seconds:g} s for {what} in vain")
        await anyio.sleep(0.002)


@contextmanager
def prompt(seconds: float = 6.0) -> Generator[None]:
    """Fail if the block takes longer."""
    start = anyio.current_time()
    yield
    took = anyio.current_time() - start
    assert took < seconds, f"took {took:.2f} s, more than {seconds:g} s"
