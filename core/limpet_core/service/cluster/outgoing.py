"""The entries that a node writes into the log, and those of them that it has not read back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from limpet_core.service.cluster.commands import Command, Fork, encode, envelop

_ENTRY_BYTES: Final = 256 * 1024
"""An entry is closed at this size: many small commands share one, and a large one has its own."""


class Outgoing:
    """Commands in entries, numbered 1, 2, 3, ...; an entry is kept until it is read back."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._commands: list[bytes] = []
        self._size = 0
        self._counter = 0
        self._ready: list[bytes] = []
        self._unread: deque[tuple[int, bytes]] = deque()

    @property
    def unread(self) -> int:
        """The number of entries that were not read back."""
        return len(self._unread)

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

    def take(self) -> list[bytes]:
        """Return the entries since the last call."""
        if self._commands:
            self._close()
        ready, self._ready = self._ready, []
        return ready

    def repeats(self) -> list[bytes]:
        """Return all entries that were not read back, in order."""
        return [entry for _, entry in self._unread]

    def read_back(self, counter: int) -> None:
        """Handle that an entry has come back."""
        while self._unread and self._unread[0][0] <= counter:
            self._unread.popleft()

    def _close(self) -> None:
        self._counter += 1
        entry = envelop(self._node, self._counter, self._commands)
        self._commands = []
        self._size = 0
        self._ready.append(entry)
        self._unread.append((self._counter, entry))
