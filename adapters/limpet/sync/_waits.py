"""Waits of the client's threads, for a socket and for each other; nothing is kept between two waits."""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from contextlib import suppress
from typing import Protocol

READ, WRITE = 1, 4
"""What to wait for, as bits: bytes to read, room to write."""


class Wakeup(Protocol):
    """Wakes a thread that is in :func:`wait`.

    Attributes:
        reader: the file descriptor to wait for.
    """

    reader: int

    def wake(self) -> None:
        """Wake the thread; from any thread, any number of times."""
        ...

    def clear(self) -> None:
        """Have the next wait sleep again."""
        ...

    def close(self) -> None:
        """Close the file descriptors. Repeats, and :meth:`wake` from now on, do nothing.

        No other thread may be amid :meth:`wake`: it could write into a new file.
        """
        ...


class SocketPair:
    """A wakeup for every system: two file descriptors."""

    __slots__ = ("_reading", "_writing", "reader")

    def __init__(self) -> None:
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        self.reader: int = self._reading.fileno()

    def wake(self) -> None:
        """Write a byte."""
        with suppress(OSError):  # full: the thread has not read the last thousand bytes yet
            self._writing.send(b"!")

    def clear(self) -> None:
        """Read all bytes."""
        with suppress(BlockingIOError):
            self._reading.recv(4096)

    def close(self) -> None:
        """Close both sockets."""
        self._reading.close()
        self._writing.close()


if sys.platform == "linux":

    class EventFd:
        """A wakeup that takes one file descriptor, and a tenth of the memory of two sockets."""

        __slots__ = ("reader",)

        def __init__(self) -> None:
            self.reader: int = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

        def wake(self) -> None:
            """Add to the counter."""
            with suppress(OSError, ValueError):  # it is at its end, after 2**64 wake-ups; or closed
                os.eventfd_write(self.reader, 1)

        def clear(self) -> None:
            """Take all of the counter."""
            with suppress(BlockingIOError):
                os.eventfd_read(self.reader)

        def close(self) -> None:
            """Close the file descriptor.

            A thread amid :meth:`wake` may have been interrupted, and go on later: its number is forgotten, since it
            may soon be that of another file.
            """
            reader, self.reader = self.reader, -1
            if reader >= 0:
                os.close(reader)


def make_wakeup() -> Wakeup:
    """Return a new wakeup. Raises OSError if the system has no file descriptors left."""
    if sys.platform == "linux" and hasattr(os, "eventfd"):
        return EventFd()
    return SocketPair()


if sys.platform == "win32":

    def wait(seconds: float, wakeup: int, sock: int, events: int) -> tuple[bool, bool]:
        """As below."""
        reading = [fd for fd, wanted in ((wakeup, wakeup >= 0), (sock, events & READ)) if wanted]
        writing = [sock] if events & WRITE else []
        if not reading and not writing:
            time.sleep(seconds)
            return False, False
        try:
            ready = select.select(reading, writing, writing, seconds)
        except OSError:  # another thread has closed the socket
            return False, True
        found = {fd for fds in ready for fd in fds}
        return wakeup in found, sock in found

else:

    def wait(seconds: float, wakeup: int, sock: int, events: int) -> tuple[bool, bool]:
        """Wait for at most so many seconds; return whether another thread has woken this one, and what a socket says.

        A poll(2) for each wait: a selector would take a file descriptor of its own, and 0.5 KiB.

        Args:
            seconds: 0: return at once.
            wakeup: :attr:`Wakeup.reader`; -1: nothing wakes this thread.
            sock: a socket's file descriptor; another thread may close it meanwhile.
            events: what to wait for at the socket; 0: nothing.
        """
        poll = select.poll()
        if wakeup >= 0:
            poll.register(wakeup, select.POLLIN)
        if events:
            poll.register(sock, (select.POLLIN if events & READ else 0) | (select.POLLOUT if events & WRITE else 0))
        woken = ready = False
        for fd, _ in poll.poll(1000 * seconds):
            if fd == sock:
                ready = True
            else:
                woken = True
        return woken, ready
