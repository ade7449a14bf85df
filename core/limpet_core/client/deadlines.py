"""Deadlines of things that wait: each may have a time after which nobody waits for it any more."""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from limpet_core.nothing import NOTHING

_GAPS: Final = 32
"""Settled things that may stay among the deadlines before these are cleared of them."""


class Timed(Protocol):
    """A thing that may have a deadline; ``number`` is 0 without one, and else unlike that of any other thing."""

    number: int


K = TypeVar("K", bound=Hashable)
T = TypeVar("T", bound=Timed)


class Deadlines(Generic[K, T]):
    """The deadlines of what is in ``pending``. What was settled leaves them late, and is not kept alive by them.

    Args:
        pending: what is not settled, by its key; a key may be used again for something else.
    """

    __slots__ = ("_heap", "_made", "_pending")

    def __init__(self, pending: Mapping[K, T]) -> None:
        self._pending = pending
        self._heap: list[tuple[float, int, K]] = []
        self._made = 0

    @property
    def next(self) -> float:
        """The earliest deadline, in seconds; may be early, never late."""
        return self._heap[0][0] if self._heap else math.inf

    def add(self, key: K, thing: T, due: float) -> None:
        """Give ``thing``, which is pending under ``key``, a deadline."""
        self._made += 1
        thing.number = self._made
        heapq.heappush(self._heap, (due, self._made, key))

    def take(self, now: float) -> list[T]:
        """Remove the deadlines that are over; return the things that are still pending, in the order of these."""
        over: list[T] = []
        while self._heap and (self._heap[0][0] <= now or self._of(self._heap[0]) is None):
            thing = self._of(heapq.heappop(self._heap))
            if thing is not None:
                over.append(thing)
        return over

    def tidy(self) -> None:
        """Clear the deadlines of settled things, if these are many; to be called when one is settled."""
        if len(self._heap) > 2 * len(self._pending) + _GAPS:
            self._heap = [entry for entry in self._heap if self._of(entry) is not None]
            heapq.heapify(self._heap)

    def _of(self, entry: tuple[float, int, K]) -> T | None:
        """Return the thing of a deadline; None: it is settled."""
        _, number, key = entry
        thing = self._pending.get(key)
        return thing if thing is not None and thing.number == number else None


NO_DEADLINES: Final[Deadlines[Any, Any]] = Deadlines(NOTHING)
"""In place of deadlines where there were none so far, which all share: never call :meth:`Deadlines.add`."""
