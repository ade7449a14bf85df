"""A context manager that ``connect=`` returned, held open as long as its transport is. No event loop in here."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from limpet import ConnectError
from limpet._transports.cancellation import is_failure


class Signal(Protocol):
    """An event, as of asyncio, trio or anyio."""

    def set(self) -> object:
        """Wake the tasks that wait, now or later."""
        ...

    def wait(self) -> Coroutine[Any, Any, object]:
        """Wait until the event is set."""
        ...


class Home(Protocol):
    """What the tasks of a driver do for a message transport."""

    def signal(self) -> Signal:
        """Return a new event."""
        ...

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run ``work`` in a task of its own, which nothing else cancels; return a function that cancels it."""
        ...

    async def finish(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``work`` to its end, even where the caller is cancelled; cancel it after ``close_timeout``."""
        ...


class Held:
    """A context manager that is entered and left by one task, as one with a nursery or a cancel scope must be.

    Args:
        manager: what ``connect`` returned.
        home: runs the task.
        lost: is told the reason when the manager ends before it is left.
    """

    def __init__(
        self, manager: AbstractAsyncContextManager[Any], home: Home, lost: Callable[[BaseException], object]
    ) -> None:
        self._manager = manager
        self._home = home
        self._lost = lost
        self._transport: Any = None
        self._error: BaseException | None = None
        self._is_open = self._is_left = False
        self._entered, self._release, self._ended = home.signal(), home.signal(), home.signal()
        self._cancel = home.spawn(self._run)

    async def enter(self) -> Any:
        """Return the transport that the manager gives; raise what it raises."""
        try:
            await self._entered.wait()
        except BaseException as error:
            if self._is_open and not isinstance(error, GeneratorExit):
                await self._home.finish(self.leave)  # entered in this very moment
            else:
                self.cancel()
            raise
        if self._error is not None:
            raise self._error
        return self._transport

    async def leave(self) -> None:
        """Leave the manager, and wait for its end; cancelled, it cancels the manager."""
        self._is_left = True
        self._release.set()
        try:
            await self._ended.wait()
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Cancel the manager's task."""
        self._is_left = True
        self._release.set()  # its entry may swallow the cancellation
        self._cancel()

    async def _run(self) -> None:
        try:
            async with self._manager as self._transport:
                self._is_open = True
                self._entered.set()
                await self._release.wait()
        except BaseException as error:
            if not is_failure(error):
                self._is_left = True  # the event loop ends, or the client
                raise
            self._error = _only(error)
        finally:
            if not self._is_left and self._error is None:
                self._error = ConnectError("the context manager of connect ended before it was left")
            self._entered.set()
            self._ended.set()
            if self._is_open and not self._is_left and self._error is not None:
                self._lost(self._error)


def _only(error: BaseException) -> BaseException:
    """Return the one exception in a group of one: its text is for people."""
    errors: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return _only(errors[0]) if len(errors) == 1 else error
