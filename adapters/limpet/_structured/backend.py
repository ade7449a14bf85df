"""The backend of the structured driver: the differences between trio and anyio."""

from __future__ import annotations

import dataclasses
import math
import socket
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager
from time import monotonic
from types import TracebackType
from typing import Any, Final, Generic, Protocol, TypeVar

from limpet._transports.held import Signal

T = TypeVar("T")


class Scope(Protocol):
    """A cancel scope."""

    def cancel(self) -> object: ...
    def __enter__(self) -> Any: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> bool | None: ...


class Nursery(Protocol):
    """A nursery or task group.

    Attributes:
        cancel_scope: its cancel scope, whose ``shield`` may be set.
    """

    cancel_scope: Any

    def start_soon(self, function: Callable[..., Awaitable[Any]], /, *args: Any) -> object: ...
    async def start(self, function: Callable[..., Awaitable[Any]], /, *args: Any) -> Any: ...


class ByteStream(Protocol):
    """A TCP connection."""

    async def receive(self, max_bytes: int, /) -> bytes:
        """Some bytes; ``b""`` at the end."""
        ...

    async def send(self, data: bytes, /) -> None:
        """Send all of ``data``."""
        ...

    def send_now(self, data: bytes) -> bytes | None:
        """Send as much of ``data`` as the system takes at once, while no :meth:`send` runs.

        Returns:
            None if that is all; else what is left for :meth:`send`, which may be empty: then it waits for the rest.
        """
        ...

    async def aclose(self) -> None:
        """Close it."""
        ...


def send_now(sock: socket.socket, data: bytes) -> bytes | None:
    """Do what :meth:`ByteStream.send_now` does, with a socket that does not block."""
    try:
        sent = sock.send(data)
    except BlockingIOError:
        return data
    return None if sent == len(data) else data[sent:]


class Alarm(Protocol):
    """Wakes one task, at a time that can be changed."""

    async def wait(self, deadline: float) -> None:
        """Wait until ``deadline``, or less long; not while another task waits."""
        ...

    def advance(self, deadline: float) -> None:
        """Have the task that waits go on at ``deadline``, which is earlier than before, and not wake it up for that."""
        ...

    def ring(self) -> None:
        """Have the task that waits go on now."""
        ...

    def close(self) -> None:
        """Forget all times: nobody waits any more."""
        ...


@dataclasses.dataclass(frozen=True)
class Backend:
    """The functions that trio and anyio name differently. One instance per library, and all the driver uses of it.

    Attributes:
        now: returns the loop's time.
        event: makes an event, in the running loop.
        scope: makes a cancel scope of a deadline and a shield.
        alarm: makes an alarm.
        nursery: opens a nursery or task group.
        open_tcp: opens a TCP connection to a host and port.
        broken: the exceptions of a broken TCP connection.
        checkpoint: lets other tasks run.
        checkpoint_if_cancelled: raises the cancellation of the current task, if it was cancelled.
        cancelled: returns the exception class of cancellations.
        call_soon: returns a function that calls a function in the running loop, soon, from any thread.
        protect: protects the clients' work from ``KeyboardInterrupt``; returns a wrapper for callbacks, or None.
        cancels_waits: every wait of a cancelled task raises, also where its event is set before the task runs again.
            anyio on asyncio looks once in a turn of the loop, and finds the event of a busy reader set each time.
        events_per_look: iteration over events that wait already looks once in so many for a cancellation; a multiple of
            8. With anyio on asyncio a look takes as long as to receive a message.
    """

    now: Callable[[], float]
    event: Callable[[], Signal]
    scope: Callable[[float, bool], Scope]
    alarm: Callable[[], Alarm]
    nursery: Callable[[], AbstractAsyncContextManager[Any]]
    open_tcp: Callable[[str, int], Awaitable[ByteStream]]
    broken: tuple[type[Exception], ...]
    checkpoint: Callable[[], Awaitable[Any]]
    checkpoint_if_cancelled: Callable[[], Awaitable[Any]]
    cancelled: Callable[[], type[BaseException]]
    call_soon: Callable[[], Callable[[Callable[[], object]], object]]
    protect: Callable[[], Callable[[Callable[[Any], object]], Callable[[Any], object]] | None]
    cancels_waits: bool
    events_per_look: int

    def signal(self) -> Signal:
        """Return a new event, which is made when somebody waits for it: before, it takes a tenth of the memory."""
        return LazySignal(self.event)

    async def waited(self) -> None:
        """Raise a cancellation of the task that the wait before this may not have raised."""
        if not self.cancels_waits:
            await self.checkpoint_if_cancelled()


class LazySignal:
    """An event that is made when somebody waits for it."""

    __slots__ = ("_event", "_make", "_set")

    def __init__(self, make: Callable[[], Signal]) -> None:
        self._make = make
        self._event: Signal | None = None
        self._set = False

    def set(self) -> None:
        """Wake the tasks that wait, now or later."""
        self._set = True
        if self._event is not None:
            self._event.set()

    def wait(self) -> Coroutine[Any, Any, object]:
        """Wait until the event is set."""
        if self._event is None:
            self._event = self._make()
            if self._set:
                self._event.set()
        return self._event.wait()


class ScopeAlarm:
    """An alarm by a cancel scope, whose deadline can be set without a wake of its task.

    Args:
        scope: makes a cancel scope of a deadline and a shield.
        sleep: sleeps for ever.
    """

    __slots__ = ("_make", "_scope", "_sleep")

    def __init__(self, scope: Callable[[float, bool], Scope], sleep: Callable[[], Awaitable[Any]]) -> None:
        self._make = scope
        self._sleep = sleep
        self._scope: Any = None

    async def wait(self, deadline: float) -> None:
        try:
            with self._make(deadline, False) as self._scope:
                await self._sleep()
        finally:
            self._scope = None

    def advance(self, deadline: float) -> None:
        if self._scope is not None:
            self._scope.deadline = deadline

    def ring(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    def close(self) -> None: ...


SLICE: Final = 0.001
"""Seconds for which iteration over events that wait already keeps other tasks from running: some 100 times a switch."""


class Fairness:
    """Checkpoints for a task that never has to wait, at a price that it can pay.

    A sender has one for each message, which raises a cancellation of the task; other tasks run at the last of
    ``min(64, most)``. Iteration asks at each eighth event whether one is due: other tasks run when :data:`SLICE` is
    over, and a cancellation is raised at each of ``events_per_look`` of the backend.

    Args:
        most: how many requests can be pending: senders must not run ahead of the answers to more.

    Attributes:
        taken: how many events were taken without a wait.
    """

    __slots__ = ("_backend", "_length", "_sent", "_slice_end", "taken")

    def __init__(self, backend: Backend, most: int) -> None:
        self._backend = backend
        self._length = min(64, most)
        self._sent = 0
        self._slice_end = -math.inf
        self.taken: int = 0

    async def waited(self) -> None:
        """Note that other tasks have run just now; raise a cancellation of the task that a wait may not raise."""
        self._others_ran()
        await self._backend.waited()

    def due(self) -> Awaitable[Any] | None:
        """Return the checkpoint of iteration, to be awaited, that is due; None: none is. Ask at each eighth event."""
        if monotonic() >= self._slice_end:
            return self.yield_now()
        return None if self.taken % self._backend.events_per_look else self._backend.checkpoint_if_cancelled()

    async def yield_now(self) -> None:
        """Let other tasks run; raise a cancellation of the task."""
        await self._backend.checkpoint()
        self._others_ran()

    def checkpoint(self) -> Awaitable[Any]:
        """Return the checkpoint of a sender, to be awaited."""
        self._sent += 1
        return self._backend.checkpoint_if_cancelled() if self._sent < self._length else self.yield_now()

    def _others_ran(self) -> None:
        self._sent = 0
        self._slice_end = monotonic() + SLICE


class SignalWaiter(Generic[T]):
    """A waiter over an event, which is made when somebody waits, as that of :class:`LazySignal`."""

    __slots__ = ("_done", "_error", "_event", "_make", "_result")

    def __init__(self, make: Callable[[], Signal]) -> None:
        self._make = make
        self._event: Signal | None = None
        self._done = False
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Return whether the waiter has a result or an exception."""
        return self._done

    def set_result(self, result: T) -> None:
        """Wake the waiter with ``result``."""
        self._done, self._result = True, result
        if self._event is not None:
            self._event.set()

    def set_exception(self, exception: BaseException) -> None:
        """Wake the waiter with ``exception``."""
        self._done, self._error = True, exception
        if self._event is not None:
            self._event.set()

    def __await__(self) -> Generator[Any, Any, T]:
        if self._event is None:
            self._event = self._make()
            if self._done:
                self._event.set()
        yield from self._event.wait().__await__()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[no-any-return]
