"""A count of numbered messages at one receiver: delivered, lost, duplicated, out of order."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Tally:
    """The messages that one receiver got; the sender numbers them from 0, without gaps.

    Attributes:
        delivered: all deliveries, duplicates included.
        duplicated: deliveries of a message that was delivered before.
        out_of_order: first deliveries of a message after one with a higher number.
    """

    delivered: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    _seen: set[int] = field(default_factory=set[int])
    _highest: int = -1

    def add(self, number: int) -> None:
        """Count a delivery."""
        self.delivered += 1
        if number in self._seen:
            self.duplicated += 1
        elif number < self._highest:
            self.out_of_order += 1
        self._seen.add(number)
        self._highest = max(self._highest, number)

    def lost(self, sent: int) -> int:
        """Return how many of the first ``sent`` messages have not arrived."""
        return sent - len(self._seen)
