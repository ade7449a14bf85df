"""A client that blocks, with the face of the others."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import wraps
from types import TracebackType
from typing import Any, ClassVar

import anyio
import anyio.lowlevel
import anyio.to_thread

from limpet import Ack, ConnectError, GroupState, InvocationTimeout
from limpet.testing.contract.subject import GROUP, SECONDS, Steps, Stream, Subject, Submitted, Writing, walk

_POLL = 0.02


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


class BlockingSubmitted(Submitted):
    """A future that blocks, waited for in a thread."""

    async def wait(self) -> Ack:
        """Wait for the answer."""
        return await _in_a_thread(self.future.result)  # type: ignore[no-any-return]

    async def cancel(self) -> bool:
        """Give the request up; return False if it was done."""
        return await _in_a_thread(self.future.cancel)  # type: ignore[no-any-return]


class _Singles(BlockingStream):
    """Batches of one message."""

    async def __anext__(self) -> list[Any]:
        return [await super().__anext__()]


class Blocking(Subject):
    """A client that blocks: each call runs in a thread of its own."""

    cancellable: ClassVar[bool] = False
    face: ClassVar[type[Stream]] = BlockingStream

    async def enter(self) -> None:
        """Start the client."""
        await anyio.to_thread.run_sync(self.client.__enter__, limiter=_LIMITERS.get())

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.client.__exit__, None, None, None, limiter=_LIMITERS.get())

    async def start_within(self, seconds: float) -> Exception | None:
        """Start the client with a timeout, without a block; return the error of the start, or None."""
        self.allowed.use("timeouts")
        try:
            await self.call("start", timeout=seconds)
        except ConnectError as error:
            return error
        return None

    async def call(self, method: str, *args: Any, **named: Any) -> Any:
        """Call a method of the client; where this is cancelled, its thread goes on until it is answered."""
        function = getattr(self.client, method)
        return await anyio.to_thread.run_sync(
            lambda: function(*args, **named), abandon_on_cancel=True, limiter=_LIMITERS.get()
        )

    def submit(self, method: str, *args: Any, **named: Any) -> Submitted:
        """Call a method of ``submit``."""
        return BlockingSubmitted(super().submit(method, *args, **named).future)

    async def open_stream(self, group: str = GROUP, **named: Any) -> Writing:
        """Open a stream to write, without a block."""
        self.allowed.use("write streams")
        return Writing(await self.call("open_stream", group, **named), _in_a_thread)

    @asynccontextmanager
    async def _writing(self, group: str, **named: Any) -> AsyncGenerator[Writing]:
        stream = await self.call("open_stream", group, **named)
        enter, leave = stream.__enter__, stream.__exit__
        writing = Writing(await _in_a_thread(enter), _in_a_thread)
        try:
            yield writing
        except BaseException as error:
            with anyio.CancelScope(shield=True):
                await _in_a_thread(leave, type(error), error, None)
            raise
        else:
            await _in_a_thread(leave, None, None, None)

    async def write_gives_up(self, writing: Writing, seconds: float, data: Any) -> bool:
        """The same by way of ``timeout=``."""
        self.allowed.use("cancel")
        try:
            await writing.write(data, timeout=seconds)
        except TimeoutError:
            return True
        return False

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
        self.allowed.use("cancel")
        try:
            await self.call(method, *args, timeout=seconds)
        except TimeoutError:
            return True
        return False

    async def invocation_given_up(self, event: str, when: Callable[[], object]) -> bool:
        """The same by way of ``timeout=``, which is the session's; a longer one where that was too early."""
        self.allowed.use("invocations")
        self.allowed.use("cancel")
        for seconds in SECONDS:
            try:
                await self.call("invoke", event, timeout=seconds)
            except InvocationTimeout:
                if when():
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
        self.allowed.use("callbacks")

        @wraps(callback)  # logs name it
        def take(event: Any) -> None:
            with suppress(StopIteration):
                walk(callback(event), self._step).send(None)  # to its end: no step suspends

        self.client.on(event_type, take)

    async def _step(self, method: str, *args: Any) -> Any:
        return (time.sleep if method == "sleep" else getattr(self.client, method))(*args)

    def __aiter__(self) -> Stream:
        self.allowed.use("streams")
        return BlockingStream(iter(self.client))

    def batches(self) -> Stream:
        """Iterate over the client, with each message as a batch: the blocking clients have no others."""
        self.allowed.use("batches")
        return _Singles(iter(self.client))

    def events(self, *types: type[Any], **named: Any) -> Stream:
        """Call ``events``."""
        self.allowed.use("streams")
        return BlockingStream(self.client.events(*types, **named))

    @asynccontextmanager
    async def _subscribe(self, group: str, **named: Any) -> AsyncGenerator[Stream]:
        manager = self.client.subscribe(group, **named)
        stream = await anyio.to_thread.run_sync(manager.__enter__, limiter=_LIMITERS.get())
        try:
            yield BlockingStream(stream)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(manager.__exit__, None, None, None, limiter=_LIMITERS.get())

    @asynccontextmanager
    async def _watch(self, group: str, **named: Any) -> AsyncGenerator[tuple[Mapping[str, GroupState], Stream]]:
        manager = self.client.watch_group_states(group, **named)
        states = await anyio.to_thread.run_sync(manager.__enter__, limiter=_LIMITERS.get())
        try:
            yield states, BlockingStream(states.changes)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(manager.__exit__, None, None, None, limiter=_LIMITERS.get())


async def _in_a_thread(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    return await anyio.to_thread.run_sync(
        lambda: function(*args, **named), abandon_on_cancel=True, limiter=_LIMITERS.get()
    )


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
