"""The open streams of a client, and how those are closed that nothing refers to any more."""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock, get_ident
from collections.abc import Callable
from contextlib import suppress
from weakref import ReferenceType, ref

from limpet._clients.buffers import Buffer


class Reader:
    """A thread that waits for the next event of a buffer.

    A ``Condition`` is Python code that can be interrupted with its lock held; a raw lock cannot.
    """

    __slots__ = ("_lock", "thread")

    def __init__(self) -> None:
        self.thread: int = get_ident()
        self._lock = lock = allocate_lock()
        lock.acquire()

    def wait(self, timeout: float | None) -> bool:
        """Wait for at most ``timeout`` seconds; return whether the thread was woken."""
        return self._lock.acquire(timeout=-1 if timeout is None else min(timeout, TIMEOUT_MAX))

    def wake(self) -> None:
        """Wake the thread; from any thread, any number of times."""
        with suppress(RuntimeError):  # awake already
            self._lock.release()


class OpenStreams:
    """Closes each stream soon after its last reference was dropped.

    A ``__del__`` can be interrupted like any other function, and its exceptions are lost. So streams have none: when a
    stream is dropped, the interpreter itself appends its weak reference to a queue, which is looked at later.

    Attributes:
        readers: the thread that waits for the next event of each buffer.
    """

    __slots__ = (
        "_closing",
        "_dropped",
        "readers",
    )

    def __init__(self) -> None:
        self.readers: dict[Buffer, Reader] = {}
        self._closing: dict[ReferenceType[object], Callable[[], None]] = {}
        self._dropped: list[ReferenceType[object]] = []

    def add(self, stream: object, close: Callable[[], None]) -> ReferenceType[object]:
        """Call ``close`` soon after ``stream`` was dropped; perhaps twice, and from any thread."""
        reference = ref(stream, self._dropped.append)
        self._closing[reference] = close
        return reference

    def remove(self, reference: ReferenceType[object]) -> None:
        self._closing.pop(reference, None)

    def close_dropped(self) -> None:
        """Close the streams that were dropped. Can be interrupted, and called by two threads at a time."""
        for reference in tuple(self._dropped):
            close = self._closing.get(reference)
            if close is not None:
                close()
            self.remove(reference)
            with suppress(ValueError):
                self._dropped.remove(reference)
