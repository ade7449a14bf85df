"""Calls from threads of the application to the driver's thread; nothing in them can be left locked.

An application's thread can be interrupted between any two steps, by Ctrl-C for one. So it holds no lock that a thread
of the client waits for, and never leaves state of the client half changed: it appends one item to a queue, and waits
for a lock of its own that only a thread of the client releases.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock
from collections.abc import Callable
from typing import Any

Request = Callable[..., int | str | None]
"""A method of the session that asks the service, with all arguments but ``now``, ``user_data`` and ``ack``."""


class Waiter:
    """One result for one waiting thread, which may give up at any moment.

    A ``Future`` has a lock that both sides take: a thread that is interrupted in it leaves it locked.
    """

    __slots__ = ("_done", "_error", "_lock", "_value")

    def __init__(self) -> None:
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._lock = lock = allocate_lock()
        lock.acquire()

    def done(self) -> bool:
        return self._done

    def set_result(self, value: Any) -> None:
        """Wake the thread with a result; to be called once."""
        self._value = value
        self._done = True
        self._lock.release()

    def set_exception(self, error: BaseException) -> None:
        """Wake the thread with an exception in place of a result."""
        self._error = error
        self.set_result(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for at most ``timeout`` seconds; return whether there is a result."""
        return self._done or self._lock.acquire(timeout=-1 if timeout is None else min(timeout, TIMEOUT_MAX))

    def result(self) -> Any:
        """Return the result, or raise the exception."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # it refers to this frame now
        return self._value


class Call(Waiter):
    """Work that the driver's thread does for another thread, and its result.

    Attributes:
        request: the request to make.
        publish: whether the request counts as a publish without an ack.
        key: the ack id of the request, or the invocation id (str), once it was made; of a start: its number.
        unwanted: whether the caller has given up: the work must not begin any more.
    """

    __slots__ = ("_claims", "key", "publish", "request", "unwanted")

    def __init__(self, request: Request | None = None, *, publish: bool = False) -> None:
        super().__init__()
        self._claims = [None]
        self.request: Request | None = request
        self.publish: bool = publish
        self.key: int | str | None = None
        self.unwanted: bool = False

    def claim(self) -> bool:
        """Return True to one caller only, which then does the work or refuses it."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True
