"""The live feed: events and state for one page, in batches of bounded size."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType
from typing import Final, TypeVar, cast

import msgspec

from limpet_core.service import (
    Acked,
    ConnectionDropped,
    ConnectionRecovered,
    HandshakeRefused,
    Published,
    RecoveryRefused,
    Refused,
    ServiceCore,
    ShutDown,
    Snapshot,
    StreamRefused,
    TraceEvent,
    snapshot,
)
from limpet_core.service.connections.observers import shortened

SHOWN_GROUPS: Final = 6
"""Groups of a new connection in an event: one more than the page names, so that it can tell that there are more."""

_Event = TypeVar("_Event", bound=msgspec.Struct)


class TimedEvent(msgspec.Struct, frozen=True):
    """An event with its number, from 1 on in each feed, and its time, in seconds since 1970."""

    number: int
    at: float
    event: TraceEvent


class Counts(msgspec.Struct):
    """Numbers of events since the last batch, skipped events included."""

    published: int = 0
    delivered: int = 0
    acked: int = 0
    dropped: int = 0
    recovered: int = 0
    refused: int = 0

    def add(self, event: TraceEvent) -> None:
        """Count an event."""
        match event:
            case Published():
                self.published += 1
                self.delivered += event.receivers
            case Acked():
                self.acked += 1
            case ConnectionDropped():
                self.dropped += 1
            case ConnectionRecovered():
                self.recovered += 1
            case Refused() | RecoveryRefused() | HandshakeRefused() | StreamRefused():
                self.refused += 1
            case _:
                pass


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """One update of the page.

    Attributes:
        skipped: the number of events before ``events`` that were too many to show.
        state: ``None`` if it is the same as in the last batch.
    """

    counts: Counts
    events: list[TimedEvent] = []
    skipped: int = 0
    state: Snapshot | None = None


class Feed:
    """Watches a service for one page: ``with Feed(core) as feed: async for chunk in feed.chunks(): ...``.

    A page that reads slowly, or not at all, costs the memory of ``capacity`` events: newer events replace the oldest,
    and the next batch has the number of the skipped ones. Names are shortened to what a page shows.

    Args:
        core: the service to watch.
        capacity: events in one batch.
        pause: seconds between two batches, at least.
        rate: bytes per second, at most, on average: a long batch is followed by a longer pause.
        heartbeat: seconds without an event after which a comment is sent, which also detects that the page is gone.
    """

    def __init__(
        self,
        core: ServiceCore,
        *,
        capacity: int = 200,
        pause: float = 0.2,
        rate: float = 1024 * 1024,
        heartbeat: float = 15.0,
    ) -> None:
        self._core = core
        self._pause = pause
        self._rate = rate
        self._heartbeat = heartbeat
        self._events: deque[TimedEvent] = deque(maxlen=capacity)
        self._recorded = 0
        self._reported = 0
        self._counts = Counts()
        self._last_state: Snapshot | None = None
        self._changed = asyncio.Event()
        self._stopped = asyncio.Event()

    def __enter__(self) -> Feed:
        self._core.observers.append(self._record)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._core.observers.remove(self._record)

    def batch(self) -> Batch:
        """Return the events since the last batch, and the state."""
        events = [TimedEvent(noted.number, noted.at, _shown(noted.event)) for noted in self._events]
        self._events.clear()
        skipped = self._recorded - self._reported - len(events)
        self._reported = self._recorded
        counts, self._counts = self._counts, Counts()
        state = snapshot(self._core.hubs)
        if state == self._last_state:
            return Batch(counts, events, skipped)
        self._last_state = state
        return Batch(counts, events, skipped, state)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield server-sent events until the service stops (HTML standard, 9.2)."""
        # The page reconnects every second after the service is gone.
        chunk = b"retry: 1000\n\n" + self._encoded()
        yield chunk
        while not self._stopped.is_set():
            await _is_set(self._stopped, max(self._pause, len(chunk) / self._rate))
            chunk = self._encoded() if await _is_set(self._changed, self._heartbeat) else b": still here\n\n"
            yield chunk

    def _encoded(self) -> bytes:
        self._changed.clear()
        return b"data: " + msgspec.json.encode(self.batch()) + b"\n\n"

    def _record(self, event: TraceEvent) -> None:
        self._recorded += 1
        self._events.append(TimedEvent(self._recorded, time.time(), event))
        self._counts.add(event)
        self._changed.set()
        if isinstance(event, ShutDown):
            self._stopped.set()


def _shown(event: _Event) -> _Event:
    """Return an event with what a page shows of it: any text of a client is short, and groups are few."""
    changes: dict[str, object] = {}
    for name in event.__struct_fields__:
        value: object = getattr(event, name)
        if isinstance(value, str):
            short: object = shortened(value)
        elif isinstance(value, tuple):
            short = tuple(map(shortened, cast("tuple[str, ...]", value)[:SHOWN_GROUPS]))
        else:
            continue
        if short != value:
            changes[name] = short
    return msgspec.structs.replace(event, **changes) if changes else event


async def _is_set(event: asyncio.Event, timeout: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(timeout):
            await event.wait()
    return event.is_set()
