"""The entries that a node writes into the log, and how many of them it has not read back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Final

from limpet_core.service.cluster.commands import Command, Fork, encode, envelop

_ENTRY_BYTES: Final = 256 * 1024
"""An entry is closed at this size: many small commands share one, and a large one has its own."""


class Outgoing:
    """Commands in entries, numbered 1, 2, 3, ...

    The part of a node that appends to the log keeps the entries, and repeats those that the log has lost.

    Attributes:
        alive_at: when the newest entry that has come back was taken from here, in monotonic seconds of this machine:
            since then other nodes may have heard nothing; ``-math.inf`` before the first.
    """

    def __init__(self, node: str) -> None:
        self._node = node
        self._commands: list[bytes] = []
        self._size = 0
        self._counter = 0
        self._ready: list[bytes] = []
        self._read_back = 0
        # The newest counter at each call of take(), and when that was: what was not read back.
        self._taken: deque[tuple[int, float]] = deque()
        self.alive_at: float = -math.inf

    @property
    def has_commands(self) -> bool:
        """Whether :meth:`take` would return the entry of a command that was added since the last call."""
        return bool(self._commands)

    @property
    def unread(self) -> int:
        """The number of entries that were not read back."""
        return self._counter - self._read_back

    def add(self, command: Command) -> None:
        """Write a command into the next entry."""
        encoded = encode(command)
        if self._commands and self._size + len(encoded) > _ENTRY_BYTES:
            self._close()
        self._commands.append(encoded)
        self._size += len(encoded)

    def extend(self, commands: Iterable[Command]) -> None:
        """Write several commands."""
        for command in commands:
            self.add(command)

    def fork(self) -> bytes:
        """Return an entry that counts whatever became of the others: it has the counter 0."""
        return envelop(self._node, 0, [encode(Fork())])

    def take(self, now: float) -> list[bytes]:
        """Return the entries since the last call."""
        if self._commands:
            self._close()
        ready, self._ready = self._ready, []
        if ready:
            self._taken.append((self._counter, now))
        return ready

    def read_back(self, counter: int) -> None:
        """Handle that an entry has come back: they do so in order, but for a fork, which has the counter 0."""
        self._read_back = max(self._read_back, counter)
        while self._taken and self._taken[0][0] <= counter:
            self.alive_at = self._taken.popleft()[1]

    def _close(self) -> None:
        self._counter += 1
        self._ready.append(envelop(self._node, self._counter, self._commands))
        self._commands = []
        self._size = 0
