"""The live feed: events and state for one page, in batches, bounded whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import suppress
from types import TracebackType

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
    TraceEvent,
    snapshot,
)

__all__ = ["Batch", "Counts", "Feed", "Noted"]


class Noted(msgspec.Struct, frozen=True):
    """An event with its time, in seconds since 1970, and its number: 1 is the first this feed was told."""

    number: int
    at: float
    event: TraceEvent


class Counts(msgspec.Struct):
    """How much happened since the last batch, also of what was skipped."""

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
            case Refused() | RecoveryRefused() | HandshakeRefused():
                self.refused += 1
            case _:
                pass


class Batch(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the page gets at a time.

    ``skipped`` events came before ``events`` and were too many to show; ``state`` is left out if it is what
    it was in the batch before.
    """

    counts: Counts
    events: list[Noted] = []
    skipped: int = 0
    state: Snapshot | None = None


class Feed:
    """Watches a service for one page: ``with Feed(core) as feed: async for chunk in feed.chunks(): ...``.

    A page that reads slowly, or not at all, costs the memory of ``capacity`` events: newer ones push out
    the oldest, and the next batch says how many were skipped.

    Args:
        core: the service to watch.
        capacity: events in one batch.
        pause: seconds between two batches, at least.
        heartbeat: seconds after which a quiet feed shows that it is there; this also finds out that the page
            is gone.
    """

    def __init__(self, core: ServiceCore, *, capacity: int = 200, pause: float = 0.2, heartbeat: float = 15.0) -> None:
        self._core = core
        self._pause = pause
        self._heartbeat = heartbeat
        self._events: deque[Noted] = deque(maxlen=capacity)
        self._noted = 0
        self._told = 0
        self._counts = Counts()
        self._last_state: Snapshot | None = None
        self._wanted = asyncio.Event()
        self._over = asyncio.Event()

    def __enter__(self) -> Feed:
        self._core.observers.append(self._note)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._core.observers.remove(self._note)

    def batch(self) -> Batch:
        """Return what happened since the last batch."""
        events = list(self._events)
        self._events.clear()
        skipped = self._noted - self._told - len(events)
        self._told = self._noted
        counts, self._counts = self._counts, Counts()
        state = snapshot(self._core.hubs)
        if state == self._last_state:
            return Batch(counts, events, skipped)
        self._last_state = state
        return Batch(counts, events, skipped, state)

    async def chunks(self) -> AsyncIterator[bytes]:
        """Give server-sent events until the service stops (HTML standard, 9.2)."""
        # A page whose service is gone tries again every second.
        yield b"retry: 1000\n\n" + self._encoded()
        while not self._over.is_set():
            if await _is_set(self._wanted, self._heartbeat):
                yield self._encoded()
                await _is_set(self._over, self._pause)
            else:
                yield b": still here\n\n"

    def _encoded(self) -> bytes:
        self._wanted.clear()
        return b"data: " + msgspec.json.encode(self.batch()) + b"\n\n"

    def _note(self, event: TraceEvent) -> None:
        self._noted += 1
        self._events.append(Noted(self._noted, time.time(), event))
        self._counts.add(event)
        self._wanted.set()
        if isinstance(event, ShutDown):
            self._over.set()


async def _is_set(event: asyncio.Event, patience: float) -> bool:
    with suppress(TimeoutError):
        async with asyncio.timeout(patience):
            await event.wait()
    return event.is_set()
