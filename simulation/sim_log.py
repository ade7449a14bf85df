"""The log of a cluster in a run: an engine with a primary and a replica, and each node's connection to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

from simulation.clock import Clock

EPOCH: Final = 1_700_000_000.0
"""The time of the engine when a run begins, in seconds since 1970."""

_MOST: Final = 20_000  # entries of one run; more is a cluster that never comes to rest


@dataclass(eq=False)
class Logged:
    """An entry of the log. Compared by identity, as after a failover an id may stand for another entry.

    Attributes:
        position: its id, as Redis has it.
        time: the milliseconds of the id, as seconds since 1970.
        data: the entry.
    """

    position: str
    time: float
    data: bytes


class SimLog:
    """One order of entries. The primary takes them, the replica has them a little later, and nodes read them there.

    Attributes:
        entries: what the primary has.
        readable: how many of them the replica has, too.
        server: how many failovers there were.
        slow_until: the engine is slow before.
        stands_until: nothing is replicated before.
        on_read: called when more is readable.
        on_failover: called with the number of entries that are left.
    """

    def __init__(self, clock: Clock, random: Random) -> None:
        self.clock = clock
        self.entries: list[Logged] = []
        self.readable = 0
        self.server = 0
        self.slow_until = self.stands_until = 0.0
        self.on_read: list[Callable[[], None]] = []
        self.on_failover: list[Callable[[int], None]] = []
        self._lag = random.choice([0.0, 0.001, 0.02, 0.2])
        self._skew = 0.0  # the clock of the primary
        self._last = (0, 0)
        self._replicating = False

    def add(self, data: bytes) -> None:
        """Append an entry at the primary: its id has the time, and is larger than all before."""
        milliseconds, serial = self.next_id(int((EPOCH + self.clock.now + self._skew) * 1000))
        self._last = milliseconds, serial
        self.entries.append(Logged(f"{milliseconds}-{serial}", milliseconds / 1000, data))
        assert len(self.entries) < _MOST, "the cluster does not come to rest"
        self._replicate()

    def next_id(self, milliseconds: int) -> tuple[int, int]:
        """Return the id of the next entry at a time; a clock that goes back does not make it smaller."""
        newest, serial = self._last
        return (milliseconds, 0) if milliseconds > newest else (newest, serial + 1)

    def holds(self, count: int, last: Logged | None) -> bool:
        """Return whether the first ``count`` entries still end with ``last``."""
        return last is None or (count <= len(self.entries) and self.entries[count - 1] is last)

    @property
    def delay(self) -> float:
        """What a slow engine adds to everything, in seconds."""
        return 1.5 if self.clock.now < self.slow_until else 0.0

    # ---- The replica

    def _replicate(self) -> None:
        if not self._replicating:
            self._replicating = True
            lag = self.lag()
            if lag == 0.0:
                self._replicated(self.server, len(self.entries))
            else:
                self.clock.after(lag, self._replicated, self.server, len(self.entries))

    def lag(self) -> float:
        """Return after how many seconds the replica has the newest entry."""
        return max(self._lag + self.delay / 3, self.stands_until - self.clock.now)

    def _replicated(self, server: int, count: int) -> None:
        if server == self.server:
            self._replicating = False
            self.readable = max(self.readable, count)
            for function in self.on_read:
                function()
            if len(self.entries) > self.readable:
                self._replicate()

    # ---- Failover

    def fail_over(self, kept: int, skew: float) -> None:
        """Have the replica take the place of the primary, with its first ``kept`` entries and its own clock."""
        self.clock.log("the engine fails over: %s of %s entries are left", kept, len(self.entries))
        del self.entries[kept:]
        self.readable = kept
        self.server += 1
        self._skew = skew
        self._replicating = False
        if self.entries:
            milliseconds, _, serial = self.entries[-1].position.partition("-")
            self._last = int(milliseconds), int(serial)
        for function in self.on_failover:
            function(kept)


class Reader(Protocol):
    """The node that a connection to the engine belongs to."""

    def read(self) -> None: ...

    def reconnected(self) -> None: ...


class Link:
    """A node's connection to the engine: it keeps the order of what it carries, and may be cut.

    Attributes:
        connected: whether it stands.
        lags_until: the node gets what it reads late before.
    """

    def __init__(self, clock: Clock, log: SimLog, node: Reader, random: Random) -> None:
        self.clock, self.log, self.node, self.random = clock, log, node, random
        self.connected = True
        self.lags_until = 0.0
        self._write = random.choice([0.0005, 0.0005, 0.02, 0.3])
        self._read = random.choice([0.0005, 0.0005, 0.02, 0.3])
        self._arrival = 0.0
        self._serial = 0
        self._executed: set[int] = set()  # connections that are cut, what they carried arrives all the same
        self._unread: deque[bytes] = deque()
        self._reading = False

    def append(self, entries: list[bytes]) -> None:
        """Append entries, if the connection stands; else when it does, as the node has not read them."""
        self._unread.extend(entries)
        self._send(entries)

    def has_read(self, entry: bytes) -> None:
        """Handle that the node has read an entry: its own ones come back in order."""
        if self._unread and self._unread[0] == entry:
            self._unread.popleft()

    def to_repeat(self) -> list[bytes]:
        """Return the entries to append again when the connection stands again."""
        return list(self._unread)

    def _send(self, entries: list[bytes]) -> None:
        if self.connected and entries:
            latency = (self._write + self.log.delay) * (1.0 + self.random.random())
            self._arrival = max(self._arrival, self.clock.now + latency)
            self.clock.at(self._arrival, self._arrives, self._serial, self.log.server, entries)

    def append_in_any_case(self, entry: bytes) -> None:
        """Append an entry whatever happens to the connection: the node waits until it is done."""
        self.clock.after(self._write + self.log.delay, self.log.add, entry)

    def _arrives(self, serial: int, server: int, entries: list[bytes]) -> None:
        if server == self.log.server and (serial == self._serial or serial in self._executed):
            for entry in entries:
                self.log.add(entry)

    def more(self) -> None:
        """Handle that more is readable."""
        if self.connected and not self._reading:
            self._reading = True
            late = 2.5 if self.clock.now < self.lags_until else 0.0
            self.clock.after((self._read + late) * (1.0 + self.random.random()), self._reads, self._serial)

    def _reads(self, serial: int) -> None:
        if serial == self._serial:
            self._reading = False
            self.node.read()

    def cut(self, *, executed: bool, seconds: float) -> None:
        """Cut the connection; ``executed``: what is on its way arrives, and only the answer is lost."""
        if executed:
            self._executed.add(self._serial)
        self._serial += 1
        self.connected = self._reading = False
        self.clock.after(seconds, self._connects, self._serial)

    def _connects(self, serial: int) -> None:
        if serial == self._serial:
            self.node.reconnected()

    def stands(self) -> None:
        """Handle that the connection stands again: what is readable is read, and what was not read is repeated."""
        self.connected = True
        self._arrival = self.clock.now
        self.more()
        self._send(self.to_repeat())
