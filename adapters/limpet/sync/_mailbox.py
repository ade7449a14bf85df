"""The work that threads of the application leave for the driver's thread."""

from __future__ import annotations

import socket
import time
from _thread import get_ident
from collections.abc import Callable, Iterable
from contextlib import suppress
from weakref import finalize

Work = Callable[[], None]


class WakeupPipe:
    """Wakes a thread that waits in a selector.

    Attributes:
        reader: the socket for the selector.
    """

    __slots__ = (
        "_writer",
        "reader",
    )

    def __init__(self) -> None:
        self.reader: socket.socket
        self._writer: socket.socket
        self.reader, self._writer = socket.socketpair()
        self.reader.setblocking(False)
        self._writer.setblocking(False)

    def wake(self) -> None:
        with suppress(OSError):  # full: the thread has not read the last thousand bytes yet
            self._writer.send(b"!")

    def clear(self) -> None:
        with suppress(BlockingIOError):
            self.reader.recv(4096)

    def close(self) -> None:
        """Close the sockets. No thread may be about to call :meth:`wake`: its byte could get into another new file."""
        self.reader.close()
        self._writer.close()


class Mailbox:
    """A queue of work, and the pipe that wakes the driver's thread.

    A thread that posts can be interrupted between any two steps. It takes no lock: ``list.append`` is one step of the
    interpreter.

    Attributes:
        asleep: the driver's thread waits in its selector, or is about to, and has to be woken.
    """

    __slots__ = (
        "__weakref__",
        "_closed_at_the_end",
        "_queue",
        "_retired",
        "_wakeup",
        "_waking",
        "asleep",
    )

    def __init__(self) -> None:
        self.asleep: bool = False
        self._queue: list[Work] = []  # a deque takes 0.7 KiB, even empty
        self._wakeup: WakeupPipe | None = None
        self._retired: list[WakeupPipe] = []
        self._closed_at_the_end: finalize[..., Mailbox] | None = None
        self._waking: dict[int, None] = {}  # the threads that are in wake()

    # ---- For any thread

    def __len__(self) -> int:
        return len(self._queue)

    def post(self, work: Work) -> None:
        self._queue.append(work)
        if self.asleep:
            self.wake()

    def wake(self) -> None:
        """Wake the driver's thread, if there is one."""
        me = get_ident()
        self._waking[me] = None  # before the pipe is read: it is not closed while a thread may hold it
        try:
            wakeup = self._wakeup
            if wakeup is not None:
                wakeup.wake()
        finally:
            self._waking.pop(me, None)

    # ---- For the driver's thread

    def put_first(self, work: Iterable[Work]) -> None:
        self._queue[:0] = work

    def do_all(self) -> None:
        """Do the work that has been posted so far."""
        if not self._queue:
            return
        work = self._queue[:]
        del self._queue[: len(work)]  # what was posted meanwhile stays
        left = iter(work)
        try:
            for each in left:
                each()
        finally:
            self._queue[:0] = left  # none, unless one has raised

    def open(self, wakeup: WakeupPipe) -> None:
        """Be woken through ``wakeup`` from now on."""
        self._wakeup = wakeup

    def woken(self) -> None:
        """Empty the pipe."""
        if self._wakeup is not None:
            self._wakeup.clear()

    def close(self) -> None:
        """Close the pipe as soon as no thread is about to use it.

        A thread that was interrupted in :meth:`wake` may count as being in it until it comes again: the pipe is closed
        by the next call then, or with the mailbox.
        """
        self._retire()
        for _ in range(10):
            if not self._waking:
                _close_all(self._retired)
                return
            time.sleep(0.001)
        if self._closed_at_the_end is None:
            self._closed_at_the_end = finalize(self, _close_all, self._retired)

    def after_fork(self) -> None:
        """Forget in a forked child all that the threads of the parent have left."""
        self.asleep = False
        self._queue.clear()
        self._retire()
        _close_all(self._retired)

    def _retire(self) -> None:
        if self._wakeup is not None:
            self._retired.append(self._wakeup)
            self._wakeup = None


def _close_all(pipes: list[WakeupPipe]) -> None:
    while pipes:
        pipes.pop().close()
