"""The live feed: events, totals and state for one page, in batches of bounded size."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from types import TracebackType

import msgspec

from limpet.service._memory import Memory, RememberedEvent
from limpet.service.cluster.view import ClusterView
from limpet_core.service import HandlerTotals, ServiceCore, Snapshot, snapshot

# Seconds between two looks at a cluster.
_LOOK_AT_CLUSTER = 2.0

_PLACE = re.compile(r"([0-9a-f]{16})-([0-9]{1,18})", re.ASCII)


class TotalCounts(msgspec.Struct, frozen=True):
    """Numbers of events since the service began, events that nobody has seen included."""

    published: int
    delivered: int
    acked: int
    dropped: int
    recovered: int
    refused: int


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """One update of the page.

    Attributes:
        run: the start of the service that this is about; see :class:`Memory`.
        started: when that was, in seconds since 1970.
        skipped: the number of events before ``events`` that were too many to show.
        state: ``None`` if it is the same as in the last batch.
        handlers: the calls of event handlers; ``None`` likewise.
        cluster: the cluster of the service; ``None`` likewise, and if it is alone.
    """

    run: str
    started: float
    totals: TotalCounts
    events: list[RememberedEvent] = []
    skipped: int = 0
    state: Snapshot | None = None
    handlers: tuple[HandlerTotals, ...] | None = None
    cluster: ClusterView | None = None


class Feed:
    """Watches a service for one page: ``with Feed(...) as feed: async for chunk in feed.chunks(): ...``.

    The first batch has what the service remembers. A page that reads slowly, or not at all, costs nothing: the next
    batch has the newest events and the number of the others.

    Args:
        core: the service to watch.
        memory: of that service.
        after: the place at which the page left an earlier feed (``Last-Event-ID``), whatever it says.
        capacity: events in one batch after the first.
        pause: seconds between two batches, at least.
        rate: bytes per second, at most, on average: a long batch is followed by a longer pause.
        heartbeat: seconds without an event after which a comment is sent, which also detects that the page is gone.
        cluster: returns what is known of the service's cluster; ``None``: it is alone.
    """

    def __init__(
        self,
        core: ServiceCore,
        memory: Memory,
        *,
        after: str = "",
        capacity: int = 200,
        pause: float = 0.2,
        rate: float = 1024 * 1024,
        heartbeat: float = 15.0,
        cluster: Callable[[], ClusterView | None] = lambda: None,
    ) -> None:
        self._core = core
        self._memory = memory
        self._capacity = capacity
        self._pause = pause
        self._rate = rate
        self._cluster = cluster
        self._last_cluster = cluster()
        # Nodes come and go without an event of a client.
        self._heartbeat = heartbeat if self._last_cluster is None else min(heartbeat, _LOOK_AT_CLUSTER)
        self._run = memory.run
        self._seen = _seen(after, memory)
        self._is_first = True
        self._last_state: Snapshot | None = None
        self._last_handlers: tuple[HandlerTotals, ...] = ()
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()

    def __enter__(self) -> Feed:
        self._memory.listeners.add(self._told)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._memory.listeners.discard(self._told)

    def batch(self) -> Batch:
        """Return the events since the last batch, the totals, and the state."""
        memory, totals = self._memory, self._core.observers.totals
        if memory.run != self._run:
            self._run, self._seen, self._is_first = memory.run, 0, True
        events = memory.since(self._seen, memory.newest if self._is_first else self._capacity)
        skipped = memory.newest - self._seen - len(events)
        is_first = self._is_first
        self._seen, self._is_first = memory.newest, False
        counts = msgspec.convert(totals, TotalCounts, from_attributes=True)
        # The page asks for the connections that it shows: they may be many.
        state, handlers = snapshot(self._core.hubs, connections=False), totals.handlers()
        new_state = None if state == self._last_state else state
        new_handlers = None if handlers == self._last_handlers else handlers
        self._last_state, self._last_handlers = state, handlers
        cluster = self._cluster()
        new_cluster = None if cluster == self._last_cluster and not is_first else cluster
        self._last_cluster = cluster
        return Batch(memory.run, memory.started, counts, events, skipped, new_state, new_handlers, new_cluster)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield server-sent events until the service stops (HTML standard, 9.2)."""
        # The page reconnects every second after the service is gone.
        chunk = b"retry: 1000\n\n" + self._encoded()
        yield chunk
        while not self._stopped.is_set():
            await _is_set(self._stopped, max(self._pause, len(chunk) / self._rate))
            changed = await _is_set(self._changed, self._heartbeat) or self._last_cluster is not None
            chunk = self._encoded() if changed else b": still here\n\n"
            yield chunk

    def _encoded(self) -> bytes:
        self._changed.clear()
        batch = self.batch()
        return b"id: %b-%d\ndata: %b\n\n" % (batch.run.encode(), self._seen, msgspec.json.encode(batch))

    def _told(self, ended: bool) -> None:
        self._changed.set()
        if ended:
            self._stopped.set()


def _seen(after: str, memory: Memory) -> int:
    """Return the number of the last event that a page has seen; 0 for what is no place in this run."""
    place = _PLACE.fullmatch(after)
    if place is None or place[1] != memory.run:
        return 0
    return min(int(place[2]), memory.newest)


async def _is_set(event: asyncio.Event, timeout: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await event.wait()
    return event.is_set()
