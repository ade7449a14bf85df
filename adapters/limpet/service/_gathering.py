"""Output for clients that is written at the end of a turn of the event loop, and how many messages may lead to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from limpet_core.service.connections.limits import Limits

_MOST: Final = 64
"""Messages of clients that share a write; as many as one client may bring in its turn."""

_MOST_BYTES: Final = 64 * 1024
"""Bytes of them: of long messages each is worth a write of its own."""

_PART: Final = 16
"""They take at most one of so many parts of what may wait for a client: its outbox has room for all that they cause."""


class Gathering:
    """Calls ``write`` at the end of a turn of the event loop, once for the messages of all clients in it.

    Args:
        limits: what may wait for a client.
        write: writes the output for all clients; must call :meth:`written`.
    """

    __slots__ = ("_bytes", "_messages", "_most", "_most_bytes", "_scheduled", "_write")

    def __init__(self, limits: Limits, write: Callable[[], object]) -> None:
        self._most = min(_MOST, limits.retained_messages // _PART)
        self._most_bytes = min(_MOST_BYTES, limits.retained_bytes // _PART)
        self._write = write
        self._messages = 0
        self._bytes = 0
        self._scheduled = False

    def add(self, messages: int, size: int) -> None:
        """Count messages that are about to be handled, and their bytes; write before if they would be too many."""
        all_messages, all_bytes = self._messages + messages, self._bytes + size
        if self._messages and (all_messages > self._most or all_bytes > self._most_bytes):
            self._write()
            all_messages, all_bytes = messages, size
        self._messages, self._bytes = all_messages, all_bytes

    def write_soon(self) -> None:
        """Write at the end of this turn of the event loop."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._end_turn)

    def written(self) -> None:
        """Handle that all output was written: the count begins anew."""
        self._messages = self._bytes = 0

    def _end_turn(self) -> None:
        self._scheduled = False
        self._write()
