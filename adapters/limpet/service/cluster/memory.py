"""A log in the memory of one process, for tests with several nodes in one event loop."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from limpet.service.cluster._unread import Unread
from limpet.service.cluster.errors import EngineUnreachable, EntryForgotten, EntryTrimmed
from limpet.service.cluster.log import (
    MAX_UNREAD,
    MAX_UNREAD_BYTES,
    START,
    LogEntry,
    LogId,
    LogState,
    OnCongested,
    Snapshot,
    check_entry,
    check_snapshot,
)

__all__ = ["MemoryEngine", "MemoryLog"]

_PAGE = 64
"""Entries that are read at once at most."""


def _now() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class MemoryEngine:
    """The engine that some :class:`MemoryLog` share: the order, the clock, the snapshot, and the faults of a test."""

    clock: Callable[[], int] = _now
    """Milliseconds since 1970. Log time follows it, and never goes back."""
    entries: list[LogEntry] = field(default_factory=list[LogEntry])
    """The log, for tests to look at."""
    snapshot: Snapshot | None = None
    stopped: bool = False
    """Nothing is stored, read or answered until :meth:`go_on`."""
    _last: LogId = START
    _logs: list[MemoryLog] = field(default_factory=list["MemoryLog"])

    def stop(self) -> None:
        """Stand still, as an engine does that is too slow or being replaced."""
        self.stopped = True

    def go_on(self) -> None:
        """End :meth:`stop`. What was appended meanwhile is stored now."""
        self.stopped = False
        for log in self._logs:
            log.arrive_late()
        self._news()

    def forget(self, count: int) -> None:
        """Lose the newest entries, as a failover to a server that was behind does. All logs repeat what is unread."""
        del self.entries[len(self.entries) - min(count, len(self.entries)) :]
        for log in self._logs:
            log.repeat()
        self._news()

    def restart_empty(self) -> None:
        """Lose all entries and the snapshot."""
        self.snapshot = None
        self.forget(len(self.entries))

    # ---- What the logs call

    def attach(self, log: MemoryLog) -> None:
        """Note a log that wants news."""
        self._logs.append(log)

    def detach(self, log: MemoryLog) -> None:
        """Forget a log that is closed."""
        self._logs = [each for each in self._logs if each is not log]

    def store(self, data: bytes) -> None:
        """Add an entry to the log."""
        milliseconds = max(self.clock(), self._last.milliseconds)
        number = self._last.number + 1 if milliseconds == self._last.milliseconds else 0
        self._last = LogId(milliseconds, number)
        self.entries.append(LogEntry(self._last, milliseconds, data))
        self._news()

    def find(self, entry: LogId) -> bool:
        """Return whether an entry is in the log."""
        place = bisect_left(self.entries, entry, key=_id_of)
        return place < len(self.entries) and self.entries[place].id == entry

    def _news(self) -> None:
        for log in self._logs:
            log.wake()


def _id_of(entry: LogEntry) -> LogId:
    return entry.id


class MemoryLog:
    """A node's :class:`~limpet.service.cluster.log.Log` on a :class:`MemoryEngine`.

    Attributes:
        append_delay: seconds from an append until the engine stores it. May be changed at any time; the order stays.
        read_delay: seconds that it takes to read a list of entries. May be changed at any time.
    """

    def __init__(
        self,
        engine: MemoryEngine,
        *,
        append_delay: float = 0.0,
        read_delay: float = 0.0,
        max_unread: int = MAX_UNREAD,
        max_unread_bytes: int = MAX_UNREAD_BYTES,
        on_congested: OnCongested | None = None,
    ) -> None:
        """Make a log; to be called in a running event loop."""
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._unread = Unread(max_unread, max_unread_bytes, on_congested, self._loop.time)
        self._travelling: deque[bytes] = deque()
        self._timers: deque[asyncio.TimerHandle] = deque()
        self._newest_due = 0.0
        self._news = asyncio.Event()
        self._reading = False
        self._cut = False
        self._closed = False
        self._repeated = 0
        self._reconnects = 0
        self.append_delay = append_delay
        self.read_delay = read_delay
        engine.attach(self)

    def append(self, entry: bytes) -> None:
        """Append an entry; see :meth:`Log.append <limpet.service.cluster.Log.append>`."""
        check_entry(entry)
        if self._closed:
            raise RuntimeError("the log is closed")
        self._unread.append(entry)
        if not self._cut:
            self._send(entry)

    async def read(self, after: LogId = START) -> AsyncGenerator[list[LogEntry]]:
        """Read all entries behind ``after``; see :meth:`Log.read <limpet.service.cluster.Log.read>`."""
        if self._reading or self._closed:
            raise RuntimeError("the log is closed" if self._closed else "the log has a reader already")
        self._reading = True
        position = after
        try:
            while not self._closed:
                self._news.clear()
                page = self._page(position)
                if page and self.read_delay > 0:
                    await asyncio.sleep(self.read_delay)
                    page = self._page(position)
                if page:
                    position = page[-1].id
                    for entry in page:
                        self._unread.take(entry.data)
                    yield page
                else:
                    await self._news.wait()
        finally:
            self._reading = False

    async def newest(self) -> LogId:
        """Return the id of the newest entry."""
        self._reach()
        return self._engine.entries[-1].id if self._engine.entries else START

    async def save_snapshot(self, at: LogId, data: bytes, *, kept: LogId | None = None) -> bool:
        """Keep a snapshot, and trim the log before its entry, or before ``kept``."""
        check_snapshot(at, data)
        self._reach()
        before = self._engine.snapshot
        if before is not None and before.at >= at:
            return False
        if not self._engine.find(at):
            raise EntryForgotten(f"entry {at} is no longer in the log, so there is no snapshot of it")
        self._engine.snapshot = Snapshot(at, data)
        first = at if kept is None else min(at, kept)
        del self._engine.entries[: bisect_left(self._engine.entries, first, key=_id_of)]
        return True

    async def load_snapshot(self) -> Snapshot | None:
        """Return the newest snapshot."""
        self._reach()
        return self._engine.snapshot

    @property
    def state(self) -> LogState:
        """The log at this moment."""
        reachable = self._reachable
        return LogState(
            reading_from="replica" if reachable else "nothing",
            primary="memory" if reachable else None,
            source="memory" if reachable else None,
            unread_entries=len(self._unread),
            unread_bytes=self._unread.size,
            lag=self._unread.lag(),
            congested=self._unread.congested,
            repeated=self._repeated,
            reconnects=self._reconnects,
            problem=None if reachable else "the engine does not answer: the test has stopped it, or cut this log off",
            engine="memory" if reachable else None,
        )

    @property
    def congested(self) -> bool:
        """Whether too much is unread."""
        return self._unread.congested

    async def close(self) -> None:
        """Give up what was not read back, and end the reader."""
        self._closed = True
        self._lose_what_travels()
        self._unread.clear()
        self._engine.detach(self)
        self.wake()

    # ---- The faults of a test

    def cut(self) -> None:
        """Cut this node off from the engine: what travels is lost, nothing is read or answered until :meth:`mend`."""
        self._cut = True
        self._lose_what_travels()

    def mend(self) -> None:
        """End :meth:`cut`: the node appends again what it has not read back."""
        self._cut = False
        self._reconnects += 1
        self.repeat()
        self.wake()

    def repeat(self) -> None:
        """Append again all that was not read back, as after a failover."""
        if not self._cut:
            self._lose_what_travels()
            for item in self._unread:
                self._repeated += 1
                self._send(item.data)

    def wake(self) -> None:
        """Look for news of the engine, which calls this itself."""
        self._news.set()

    def arrive_late(self) -> None:
        """Store what arrived while the engine stood still, which calls this itself."""
        while len(self._travelling) > len(self._timers):
            self._engine.store(self._travelling.popleft())

    # ---- Inside

    @property
    def _reachable(self) -> bool:
        return not (self._cut or self._engine.stopped or self._closed)

    def _reach(self) -> None:
        if not self._reachable:
            raise EngineUnreachable("the engine does not answer: the test has stopped it, or cut this log off")

    def _send(self, data: bytes) -> None:
        self._travelling.append(data)
        due = self._loop.time() + self.append_delay
        if self._timers:
            due = max(due, self._newest_due)  # no entry overtakes another one of this node
        self._newest_due = due  # the timers of uvloop do not always tell
        self._timers.append(self._loop.call_at(due, self._arrive))

    def _arrive(self) -> None:
        # Timers of the same time come in any order: each of them takes the oldest entry.
        self._timers.popleft()
        if not self._engine.stopped:
            self._engine.store(self._travelling.popleft())

    def _lose_what_travels(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._travelling.clear()

    def _page(self, position: LogId) -> list[LogEntry]:
        if not self._reachable:
            return []
        snapshot = self._engine.snapshot
        known = snapshot is None if position == START else self._engine.find(position)
        if not known and snapshot is not None and snapshot.at > position:
            raise EntryTrimmed(f"entry {position} was trimmed: load the snapshot of entry {snapshot.at}, and read on")
        if not known:
            raise EntryForgotten(f"entry {position} is no longer in the log")
        first = bisect_right(self._engine.entries, position, key=_id_of)
        return self._engine.entries[first : first + _PAGE]
