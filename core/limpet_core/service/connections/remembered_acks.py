"""The outcomes of a client's requests, remembered so that a repeat is not carried out again."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

SavedAcks: TypeAlias = tuple[list[int], list[int], dict[int, tuple[str, str]]]
"""What is remembered of requests: see :meth:`RememberedAcks.save`."""


class RememberedAcks:
    """What was answered to the requests of one connection, by ack id.

    Args:
        limit: how many successes are remembered, and how many failures.

    Attributes:
        succeeded: the ack ids of requests that were carried out before (client-spec 3.1); to be read only.
    """

    __slots__ = ("_failed", "_limit", "_order", "succeeded")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._failed: dict[int, tuple[str, str]] = {}
        self.succeeded: set[int] = set()
        self._order: deque[int] = deque()  # of the successes

    def remember(self, ack_id: int) -> None:
        """Remember the ack id of a successful request; forget the oldest beyond the limit (emulator)."""
        order = self._order
        if len(order) >= self._limit:
            self.succeeded.discard(order.popleft())
        self.succeeded.add(ack_id)
        order.append(ack_id)

    def failure(self, ack_id: int) -> tuple[str, str] | None:
        """Return the remembered error (name and text) of a request that must not be carried out again."""
        return self._failed.get(ack_id)

    def remember_failure(self, ack_id: int, error: tuple[str, str]) -> None:
        """Remember the error of a request that must not be carried out again; forget the oldest beyond the limit."""
        if len(self._failed) >= self._limit:
            del self._failed[next(iter(self._failed))]
        self._failed[ack_id] = error

    def save(self) -> SavedAcks:
        """Return what is remembered, as values for :meth:`restore`; to be read before the next change.

        Those are the ack ids of successful requests, the oldest first; of these the ones that are forgotten already,
        since one that was remembered twice is forgotten once; and the errors by ack id, the oldest first.
        """
        succeeded, order = self.succeeded, self._order
        forgotten = [] if len(succeeded) == len(order) else [ack_id for ack_id in order if ack_id not in succeeded]
        return list(order), forgotten, self._failed

    def restore(self, saved: SavedAcks) -> None:
        """Remember what was saved."""
        order, forgotten, failed = saved
        self._order = deque(order)
        self.succeeded = set(order).difference(forgotten)
        self._failed = dict(failed)
