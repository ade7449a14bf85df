"""The words that a loop with structured concurrency needs: what differs between trio and anyio."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


class Flag(Protocol):
    """An event of the loop's own kind."""

    def set(self) -> object:
        """Wake whoever waits, now or later."""
        ...

    async def wait(self) -> None:
        """Wait until it is set."""
        ...


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

    async def receive(self, max_bytes: int) -> bytes:
        """Some bytes; ``b""`` at the end."""
        ...

    async def send(self, data: bytes) -> None:
        """Send all of ``data``."""
        ...

    async def aclose(self) -> None:
        """Close it."""
        ...


@dataclasses.dataclass(frozen=True)
class Kit:
    """The words of one library."""

    now: Callable[[], float]
    flag: Callable[[], Flag]
    scope: Callable[[float, bool], Scope]
    """A cancel scope: deadline, shield."""
    nursery: Callable[[], AbstractAsyncContextManager[Any]]
    dial: Callable[[str, int], Awaitable[ByteStream]]
    broken: tuple[type[Exception], ...]
    """What a broken connection raises."""
    checkpoint: Callable[[], Awaitable[Any]]
    checkpoint_if_cancelled: Callable[[], Awaitable[Any]]
    stray: Callable[[BaseException], bool]
    """Whether it is the cancellation of something that the running task awaits, and not of this task."""
    cancelled: Callable[[], type[BaseException]]
    """What a cancelled task raises."""
    protect: Callable[[], Callable[[Callable[[Any], object]], Callable[[Any], object]] | None]
    """Protects the clients' work from ``KeyboardInterrupt``; returns what callbacks are to be wrapped in, if any."""


class Turn:
    """The loop's turn, so that whoever never has to wait does not keep it for ever: whether the caller is cancelled is
    looked at each time, and every 64 times others may run, or as often as there can be requests that wait.
    """

    def __init__(self, kit: Kit, most: int) -> None:
        self._kit = kit
        self._length = min(64, most)
        self._taken = 0

    def over(self) -> None:
        """Others have run just now."""
        self._taken = 0

    def checkpoint(self) -> Awaitable[Any]:
        """To be awaited."""
        self._taken += 1
        if self._taken <= self._length:
            return self._kit.checkpoint_if_cancelled()
        self._taken = 0
        return self._kit.checkpoint()


class FlagAnswer(Generic[T]):
    """One result for one waiter."""

    __slots__ = ("_error", "_flag", "_result", "_set")

    def __init__(self, flag: Flag) -> None:
        self._flag = flag
        self._set = False
        self._result: Any = None
        self._error: BaseException | None = None

    def done(self) -> bool:
        """Whether there is a result."""
        return self._set

    def set_result(self, result: T) -> None:
        """Wake the waiter with ``result``."""
        self._set, self._result = True, result
        self._flag.set()

    def set_exception(self, exception: BaseException) -> None:
        """Wake the waiter with ``exception``."""
        self._set, self._error = True, exception
        self._flag.set()

    def __await__(self) -> Generator[Any, Any, T]:
        yield from self._flag.wait().__await__()
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[no-any-return]
