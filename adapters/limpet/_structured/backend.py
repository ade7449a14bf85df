"""The backend of the structured driver: the differences between trio and anyio."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

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
    """A nursery or task group."""

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

    async def aclose(self) -> None:
        """Close it."""
        ...


@dataclasses.dataclass(frozen=True)
class Backend:
    """The functions that trio and anyio name differently. One instance per library, and all the driver uses of it.

    Attributes:
        now: returns the loop's time.
        signal: makes an event.
        scope: makes a cancel scope of a deadline and a shield.
        nursery: opens a nursery or task group.
        open_tcp: opens a TCP connection to a host and port.
        broken: the exceptions of a broken TCP connection.
        checkpoint: lets other tasks run.
        checkpoint_if_cancelled: raises the cancellation of the current task, if it was cancelled.
        cancelled: returns the exception class of cancellations.
        call_soon: returns a function that calls a function in the running loop, soon, from any thread.
        protect: protects the clients' work from ``KeyboardInterrupt``; returns a wrapper for callbacks, or None.
    """

    now: Callable[[], float]
    signal: Callable[[], Signal]
    scope: Callable[[float, bool], Scope]
    nursery: Callable[[], AbstractAsyncContextManager[Any]]
    open_tcp: Callable[[str, int], Awaitable[ByteStream]]
    broken: tuple[type[Exception], ...]
    checkpoint: Callable[[], Awaitable[Any]]
    checkpoint_if_cancelled: Callable[[], Awaitable[Any]]
    cancelled: Callable[[], type[BaseException]]
    call_soon: Callable[[], Callable[[Callable[[], object]], object]]
    protect: Callable[[], Callable[[Callable[[Any], object]], Callable[[Any], object]] | None]


class Fairness:
    """Checkpoints for a task that never has to wait, at the price of one in 64.

    Every checkpoint raises a cancellation of the task; other tasks run only at the last of ``min(64, most)``.

    Args:
        most: how many requests can be pending: senders must not run ahead of the answers to more.
    """

    def __init__(self, backend: Backend, most: int) -> None:
        self._backend = backend
        self._length = min(64, most)
        self._taken = 0

    def reset(self) -> None:
        """Note that other tasks have run just now."""
        self._taken = 0

    def checkpoint(self) -> Awaitable[Any]:
        """Return a checkpoint, to be awaited."""
        self._taken += 1
        if self._taken <= self._length:
            return self._backend.checkpoint_if_cancelled()
        self._taken = 0
        return self._backend.checkpoint()


class SignalWaiter(Generic[T]):
    """A waiter over a :class:`Signal`."""

    __slots__ = ("_done", "_error", "_result", "_signal")

    def __init__(self, signal: Signal) -> None:
        self._signal = signal
        self._done = False
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Return whether the waiter has a result or an exception."""
        return self._done

    def set_result(self, result: T) -> None:
        """Wake the waiter with ``result``."""
        self._done, self._result = True, result
        self._signal.set()

    def set_exception(self, exception: BaseException) -> None:
        """Wake the waiter with ``exception``."""
        self._done, self._error = True, exception
        self._signal.set()

    def __await__(self) -> Generator[Any, Any, T]:
        yield from self._signal.wait().__await__()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[no-any-return]
