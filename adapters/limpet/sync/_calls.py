"""What an application's threads and a client's own threads hand each other: nothing that could be left locked.

An application's thread can be interrupted between any two steps, by Ctrl-C for one. So it holds no lock that a thread
of the client's waits for, and no state of the client's is ever half changed by it: it adds one thing to a queue, and
waits for one lock of its own that only a thread of the client's unlocks.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections.abc import Callable
from typing import Any

Request = Callable[..., int | None]
"""A method of the session that asks for something, with all arguments but ``now`` and what becomes of the answer."""


class Answer:
    """One result for one waiting thread, which may give up at any moment.

    A ``Future`` has a lock that both sides take: whoever is interrupted with it leaves it locked.
    """

    __slots__ = ("_done", "_error", "_gate", "_value")

    def __init__(self) -> None:
        self._done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._gate = gate = allocate_lock()
        gate.acquire()

    def done(self) -> bool:
        """Whether there is a result."""
        return self._done

    def set_result(self, value: Any) -> None:
        """Here is the result; only one thread may do this at a time, once."""
        self._value = value
        self._done = True
        self._gate.release()

    def set_exception(self, error: BaseException) -> None:
        """Here is what is raised instead of a result."""
        self._error = error
        self.set_result(None)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for at most ``timeout`` seconds; return whether there is a result."""
        return self._done or self._gate.acquire(timeout=-1 if timeout is None else timeout)

    def result(self) -> Any:
        """The result that is there; raises the exception that was set in its place."""
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # it refers to this frame now
        return self._value


class Call(Answer):
    """Something that a client's own thread does for another one, and its result.

    Attributes:
        request: what to ask the session for.
        publish: whether it counts as a publish without an ack.
        key: the ack id, once it was asked for.
        unsent: it was taken back before it was sent.
        unwanted: it is not to be done any more.
    """

    __slots__ = ("_claims", "key", "publish", "request", "unsent", "unwanted")

    def __init__(self, request: Request | None = None, *, publish: bool = False) -> None:
        super().__init__()
        self._claims = [None]
        self.request: Request | None = request
        self.publish: bool = publish
        self.key: int | None = None
        self.unsent: bool = False
        self.unwanted: bool = False

    def claim(self) -> bool:
        """True for one of all who ask: it is theirs to do, or to make sure that nobody does."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True
