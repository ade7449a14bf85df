"""Sequence ids of the reliable subprotocol: order, duplicates, gaps, and when to acknowledge."""

from __future__ import annotations


class Sequence:
    """The largest sequence id seen and what of it is not yet acknowledged (client-spec 3.2).

    Attributes:
        last: the largest sequence id seen on this connection; 0: none yet.
        messages: how many messages arrived since the last acknowledgement, duplicates included.
        bytes: their size.
    """

    __slots__ = ("bytes", "last", "messages")

    last: int
    messages: int
    bytes: int

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget everything: a new connection counts from 1 again."""
        self.last = self.messages = self.bytes = 0

    def acknowledge(self) -> int:
        """Return the id to acknowledge, which covers everything seen, and start to count anew."""
        self.messages = self.bytes = 0
        return self.last
