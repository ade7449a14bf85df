"""A client under test, with one face for every client."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import wraps
from types import TracebackType
from typing import Any, ClassVar, Self

import anyio

from limpet import Ack, ConnectError, GroupState, State, Stats
from limpet.testing.contract.needs import Allowed

GROUP = "g"
"""The group of a check that needs one."""

SECONDS = (0.3, 1.0, 5.0)
"""Times to try, one after the other, until the service has heard of a call: only the last one may not be too short."""

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


class Streams:
    """Iteration over streams; made by the methods of a :class:`Subject`.

    Args:
        streams: the client's.
        face: what it and each of its streams are wrapped in.
    """

    def __init__(self, streams: Any, face: type[Stream]) -> None:
        self._streams = face(streams)
        self._face = face

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Stream:
        return self._face(await self._streams.__anext__())

    def close(self) -> None:
        """Take no more streams."""
        self._streams.close()


class Submitted:
    """The future of a request; made by :meth:`Subject.submit`."""

    def __init__(self, future: Any) -> None:
        self.future: Any = future

    def done(self) -> bool:
        """Return whether the answer is here, an error, or the request was given up."""
        return self.future.done()  # type: ignore[no-any-return]

    async def wait(self) -> Ack:
        """Wait for the answer."""
        return await self.future  # type: ignore[no-any-return]

    async def cancel(self) -> bool:
        """Give the request up; return False if it was done."""
        return self.future.cancel()  # type: ignore[no-any-return]


class Writing:
    """A stream that is written; made by the methods of a :class:`Subject`.

    Args:
        stream: the client's.
        call: calls a method of it.
    """

    def __init__(self, stream: Any, call: Callable[..., Awaitable[Any]]) -> None:
        self.stream: Any = stream
        self._call = call

    @property
    def stream_id(self) -> str:
        """The stream's ``stream_id``."""
        return self.stream.stream_id  # type: ignore[no-any-return]

    @property
    def acknowledged(self) -> int:
        """The stream's ``acknowledged``."""
        return self.stream.acknowledged  # type: ignore[no-any-return]

    @property
    def closed(self) -> bool:
        """The stream's ``closed``."""
        return self.stream.closed  # type: ignore[no-any-return]

    async def write(self, data: Any, **named: Any) -> None:
        """Call ``write``."""
        await self._call(self.stream.write, data, **named)

    async def flush(self, **named: Any) -> None:
        """Call ``flush``."""
        await self._call(self.stream.flush, **named)

    async def end(self, **named: Any) -> None:
        """Call ``end``."""
        await self._call(self.stream.end, **named)

    async def abort(self, message: str, code: str | None = None, **named: Any) -> None:
        """Call ``abort``."""
        await self._call(self.stream.abort, message, code, **named)


async def _await(function: Callable[..., Awaitable[Any]], *args: Any, **named: Any) -> Any:
    return await function(*args, **named)


class Subject:
    """A client under test. This face fits every async client; :class:`limpet.testing.contract.Blocking` one that
    blocks. ``async with subject:`` is its life, and may be repeated.

    Attributes:
        client: the client itself.
        cancellable: whether a cancellation reaches a call that waits.
        face: what the client's streams are wrapped in.
        allowed: what the check may ask the client for.
    """

    cancellable: ClassVar[bool] = True
    face: ClassVar[type[Stream]] = Stream

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

    async def start_within(self, seconds: float) -> Exception | None:
        """Start the client with a timeout, without a block; return the error of the start, or None."""
        self.allowed.use("timeouts")
        start = self.client.start if hasattr(self.client, "start") else self.client.run
        try:
            await start(timeout=seconds)
        except ConnectError as error:
            return error
        return None

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

    @property
    def stats(self) -> Stats:
        """The client's ``stats``."""
        self.allowed.use("stats")
        return self.client.stats  # type: ignore[no-any-return]

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

    async def invocation_given_up(self, event: str, when: Callable[[], object]) -> bool:
        """Invoke, and give the call up once ``when()`` is true; return whether that was before its end."""
        self.allowed.use("invocations")
        self.allowed.use("cancel")
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def give_up() -> None:
                    while not when():  # noqa: ASYNC110 - to the end of the call
                        await anyio.sleep(0.002)
                    scope.cancel()

                tasks.start_soon(give_up)
                await self.call("invoke", event)
                tasks.cancel_scope.cancel()
        return scope.cancelled_caught

    def submit(self, method: str, *args: Any, **named: Any) -> Submitted:
        """Call a method of ``submit``."""
        self.allowed.use("submit")
        return Submitted(getattr(self.client.submit, method)(*args, **named))

    async def open_stream(self, group: str = GROUP, **named: Any) -> Writing:
        """Open a stream to write, without a block."""
        self.allowed.use("write streams")
        return Writing(await self.client.open_stream(group, **named), _await)

    def writing(self, group: str = GROUP, **named: Any) -> AbstractAsyncContextManager[Writing]:
        """Write a stream within a block."""
        self.allowed.use("write streams")
        return self._writing(group, **named)

    @asynccontextmanager
    async def _writing(self, group: str, **named: Any) -> AsyncGenerator[Writing]:
        async with self.client.open_stream(group, **named) as stream:
            yield Writing(stream, _await)

    async def write_gives_up(self, writing: Writing, seconds: float, data: Any) -> bool:
        """Write, but wait only so long; return whether that was too short."""
        self.allowed.use("cancel")
        with anyio.move_on_after(seconds) as scope:
            await writing.write(data)
        return scope.cancelled_caught

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

    def on(self, event_type: type[Any], callback: Callable[[Any], object], **named: Any) -> None:
        """Register a plain callback, which must not wait."""
        self.client.on(event_type, callback, **named)

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

    def batches(self) -> Stream:
        """Call ``batches``."""
        self.allowed.use("batches")
        return Stream(self.client.batches())

    def events(self, *types: type[Any], **named: Any) -> Stream:
        """Call ``events``."""
        self.allowed.use("streams")
        return Stream(self.client.events(*types, **named))

    def streams(self, group: str | None = None, **named: Any) -> Streams:
        """Call ``streams``."""
        self.allowed.use("read streams")
        return Streams(self.client.streams(group, **named), self.face)

    def subscribe(self, group: str = GROUP, **named: Any) -> AbstractAsyncContextManager[Stream]:
        """Call ``subscribe``."""
        self.allowed.use("streams")
        return self._subscribe(group, **named)

    @asynccontextmanager
    async def _subscribe(self, group: str, **named: Any) -> AsyncGenerator[Stream]:
        async with self.client.subscribe(group, **named) as stream:
            yield Stream(stream)

    def states(self, group: str = GROUP) -> Mapping[str, GroupState]:
        """Call ``group_states``."""
        self.allowed.use("group states")
        return self.client.group_states(group)  # type: ignore[no-any-return]

    def watch(
        self, group: str = GROUP, **named: Any
    ) -> AbstractAsyncContextManager[tuple[Mapping[str, GroupState], Stream]]:
        """Call ``watch_group_states``; the block gets the mapping, and the stream of its changes."""
        self.allowed.use("streams")
        self.allowed.use("group states")
        return self._watch(group, **named)

    @asynccontextmanager
    async def _watch(self, group: str, **named: Any) -> AsyncGenerator[tuple[Mapping[str, GroupState], Stream]]:
        async with self.client.watch_group_states(group, **named) as states:
            yield states, Stream(aiter(states))


@dataclass(frozen=True)
class Adapter:
    """A client and the event loop it is to be checked on.

    Args:
        name: for the reader of a report.
        make: ``make(url, options, ssl=...)`` returns a client; ``instrument=`` is given only to one that can take it.
        backend: ``asyncio`` or ``trio``, as for ``anyio.run``.
        backend_options: the same.
        subject: the client's face; :class:`Blocking` for one that blocks.
    """

    name: str
    make: Callable[..., Any]
    backend: str = "asyncio"
    backend_options: dict[str, Any] = field(default_factory=dict[str, Any])
    subject: type[Subject] = Subject
