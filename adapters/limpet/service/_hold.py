"""Output for clients that waits for more of it, so that one write takes all of it to a client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

LONGEST: Final = 0.002
"""Seconds that output waits at most."""


class Hold:
    """Says for how long the output of entries of a log waits for that of the next ones.

    It waits only while entries of this node are on their way, which come in a moment: a message that is alone leaves at
    once.

    Args:
        most: bytes of entries whose output waits, at most.
        write: writes the output; must call :meth:`written`.
    """

    __slots__ = ("_bytes", "_most", "_timer", "_write")

    def __init__(self, most: int, write: Callable[[], object]) -> None:
        self._most = most
        self._write = write
        self._bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def add(self, size: int) -> None:
        """Handle that entries were applied, which led to output."""
        self._bytes += size

    def waits(self, unread: int) -> bool:
        """Return whether the output waits, which it then does for :data:`LONGEST` at most.

        ``unread``: the number of entries of this node that are on their way.
        """
        if not unread or not 0 < self._bytes < self._most:
            return False
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LONGEST, self._end)
        return True

    def written(self) -> None:
        """Handle that all output was written."""
        self._bytes = 0

    def close(self) -> None:
        """Write what waits; from now on nothing does."""
        self._most = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._bytes:
            self._write()

    def _end(self) -> None:
        # It may have begun for output that has left: what came after it waits for less, and no timer is stopped for it.
        self._timer = None
        if self._bytes:
            self._write()
