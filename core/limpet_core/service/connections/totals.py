"""Totals: how much has happened at a service, and how long its event handlers take."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import accumulate
from typing import Final

import msgspec

_NAMED: Final = 20
"""Events with numbers of their own; clients choose the names."""

_SHORTEST: Final = 1e-4
_STEPS: Final = 8
"""Steps of the scale of durations for each doubling: a percentile is at most 9 % too high."""
_BUCKETS: Final = 20 * _STEPS + 1


class HandlerTotals(msgspec.Struct, frozen=True, rename="camel"):
    """The calls of event handlers with one event.

    Attributes:
        event: its name; ``None``: all events beyond the first twenty together.
        calls: the number of calls.
        failed: those of them without an answer, or with status 5xx.
        p50: seconds in which half of the calls ended; at most 9 % too high.
        p95: seconds in which 95 % of the calls ended, likewise.
        p99: seconds in which 99 % of the calls ended, likewise.
        longest: seconds of the longest call.
    """

    event: str | None
    calls: int
    failed: int
    p50: float
    p95: float
    p99: float
    longest: float


class _Durations:
    """The distribution of durations, on a scale of fixed size."""

    __slots__ = ("_buckets", "calls", "failed", "longest")

    def __init__(self) -> None:
        self._buckets: list[int] = [0] * _BUCKETS
        self.calls = 0
        self.failed = 0
        self.longest = 0.0

    def add(self, duration: float, *, failed: bool) -> None:
        step = math.ceil(_STEPS * math.log2(max(duration, _SHORTEST) / _SHORTEST))
        self._buckets[min(step, _BUCKETS - 1)] += 1
        self.calls += 1
        self.failed += failed
        self.longest = max(self.longest, duration)

    def percentile(self, part: float) -> float:
        """Return the duration that this part of the calls did not exceed."""
        step = bisect_left(list(accumulate(self._buckets)), math.ceil(part * self.calls))
        return min(_SHORTEST * math.exp2(step / _STEPS), self.longest)


class Totals:
    """Numbers of events since the beginning.

    Attributes:
        others: events that are in neither ``published`` nor ``acked``.
        published: messages of clients and the application server, fragments of streams included.
        delivered: receivers of these messages.
        acked: requests that were carried out.
        dropped: lost transports of reliable connections.
        recovered: recoveries.
        refused: refused clients, recoveries, requests and messages about streams.
    """

    __slots__ = ("_handlers", "acked", "delivered", "dropped", "others", "published", "recovered", "refused")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin again at 0."""
        self.others: int = 0
        self.published: int = 0
        self.delivered: int = 0
        self.acked: int = 0
        self.dropped: int = 0
        self.recovered: int = 0
        self.refused: int = 0
        self._handlers: dict[str | None, _Durations] = {}

    @property
    def events(self) -> int:
        """The number of events of all kinds. A sum: under load two numbers less are written for each message."""
        return self.published + self.acked + self.others

    def add_call(self, event: str, duration: float, *, failed: bool) -> None:
        """Count a call of an event handler that took so many seconds."""
        known = self._handlers
        key = event if event in known or len(known) < _NAMED else None
        durations = known.get(key)
        if durations is None:
            durations = known[key] = _Durations()
        durations.add(duration, failed=failed)

    def handlers(self) -> tuple[HandlerTotals, ...]:
        """Return the numbers of each event that a handler was called with, in the order of their first calls."""
        return tuple(
            HandlerTotals(
                event,
                durations.calls,
                durations.failed,
                durations.percentile(0.5),
                durations.percentile(0.95),
                durations.percentile(0.99),
                durations.longest,
            )
            for event, durations in self._handlers.items()
        )
