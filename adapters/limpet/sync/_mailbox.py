"""The work that threads of the application leave for the driver's thread."""

from __future__ import annotations

import time
from _thread import get_ident
from collections.abc import Callable, Iterable
from weakref import finalize

from limpet.sync._waits import Wakeup

Work = Callable[[], None]


class Mailbox:
    """A queue of work, and the wakeup of the driver's thread.

    A thread that posts can be interrupted between any two steps. It takes no lock: ``list.append`` is one step of the
    interpreter.

    Attributes:
        asleep: the driver's thread waits, or is about to, and has to be woken.
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
        self._wakeup: Wakeup | None = None
        self._retired: list[Wakeup] | None = None
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
        self._waking[me] = None  # before the wakeup is read: it is not closed while a thread may hold it
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

    def open(self, wakeup: Wakeup) -> None:
        """Be woken through ``wakeup`` from now on."""
        self._wakeup = wakeup

    @property
    def reader(self) -> int:
        """The file descriptor that wakes the thread."""
        assert self._wakeup is not None, "bug: nothing was started"
        return self._wakeup.reader

    def woken(self) -> None:
        """Have the next wait sleep again."""
        if self._wakeup is not None:
            self._wakeup.clear()

    def close(self) -> None:
        """Close the wakeup as soon as no thread is about to use it.

        A thread that was interrupted in :meth:`wake` may count as being in it until it comes again: the wakeup is
        closed by the next call then, or with the mailbox.
        """
        retired = self._retire()
        for _ in range(10):
            if not self._waking:
                _close_all(retired)
                return
            time.sleep(0.001)
        if self._closed_at_the_end is None:
            self._closed_at_the_end = finalize(self, _close_all, retired)

    def after_fork(self) -> None:
        """Forget in a forked child all that the threads of the parent have left."""
        self.asleep = False
        self._queue.clear()
        _close_all(self._retire())

    def _retire(self) -> list[Wakeup]:
        if self._retired is None:
            self._retired = []
        if self._wakeup is not None:
            self._retired.append(self._wakeup)
            self._wakeup = None
        return self._retired


def _close_all(wakeups: list[Wakeup]) -> None:
    while wakeups:
        wakeups.pop().close()
