"""Pacing: a send window for publishes without an ack."""

from __future__ import annotations

from typing import Final

STRIDE: Final = 150
"""Every so many publishes without an ack, the session asks for an ack of its own."""

_WHOLE: Final = 2 * STRIDE  # one object for all sessions


class Pacing:
    """Counts publishes without an ack against the acks that the session asks for.

    The service drops a connection that has 1000 unacknowledged messages, and it reads our sequence acks only after
    everything that was sent before them. A client that publishes to its own group without pause would therefore be
    dropped. So every :data:`STRIDE`-th publish asks for an ack, and senders wait while two such acks are outstanding.
    """

    __slots__ = ("_room", "_stride")

    def __init__(self) -> None:
        self._stride = STRIDE
        self._room = _WHOLE

    def reset(self) -> None:
        """Open the whole window."""
        self._room = 2 * self._stride

    @property
    def full(self) -> bool:
        """Whether the next publish should wait."""
        return self._room <= 0

    @property
    def asks_for_ack(self) -> bool:
        """Whether the next publish asks for an ack."""
        return self._room % self._stride == 1

    def published(self) -> None:
        """Count a publish."""
        self._room -= 1

    def answered(self) -> None:
        """Reopen the window by one stride: a publish with an ack was executed, refused or lost."""
        self._room += self._stride
