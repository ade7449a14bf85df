"""What a node needs of a log: entries of bytes in one order, the same for all nodes, and snapshots of what they did."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

import msgspec

__all__ = [
    "MAX_ENTRY",
    "MAX_SNAPSHOT",
    "MAX_UNREAD",
    "MAX_UNREAD_BYTES",
    "START",
    "Log",
    "LogEntry",
    "LogId",
    "LogState",
    "OnCongested",
    "Snapshot",
    "check_entry",
    "check_snapshot",
]

MAX_ENTRY: Final = 4 * 1024 * 1024
"""Bytes of the largest entry."""

MAX_SNAPSHOT: Final = 1024 * 1024 * 1024
"""Bytes of the largest snapshot."""

MAX_UNREAD: Final = 1000
"""Entries that were appended and not read back: with more of them a log is congested."""

MAX_UNREAD_BYTES: Final = 16 * 1024 * 1024
"""Bytes of entries that were appended and not read back: with more of them a log is congested."""

OnCongested = Callable[[bool], None]
"""Is called with True when a log becomes congested, and with False when it no longer is. It must not raise."""


class LogId(NamedTuple):
    """The place of an entry in the log. Ids can be compared: a later entry has a greater id."""

    milliseconds: int
    """The log time of the entry: of the engine's clock, and never less than that of the entry before."""
    number: int
    """The place among the entries of this millisecond, from 0 on."""

    def __str__(self) -> str:
        return f"{self.milliseconds}-{self.number}"

    @classmethod
    def parse(cls, text: str | bytes) -> LogId:
        """Return the id that ``str(id)`` wrote.

        Raises:
            ValueError: ``text`` is not such an id.
        """
        plain = text.encode("ascii", "replace") if isinstance(text, str) else text
        milliseconds, _, number = plain.partition(b"-")
        # Ids are two numbers of 64 bits: longer texts are no ids, and Python must not be busy with their digits.
        if not (milliseconds.isdigit() and number.isdigit()) or len(milliseconds) > 20 or len(number) > 20:
            raise ValueError(f"not the id of an entry: {plain[:60].decode('ascii', 'replace')!r}")
        return cls(int(milliseconds), int(number))


START: Final = LogId(0, 0)
"""Before the first entry of a log."""


class LogEntry(NamedTuple):
    """An entry as it was read."""

    id: LogId
    time: int
    """Log time in milliseconds since 1970: never less than that of the entry before."""
    data: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a node knew after the entry ``at``. Read on behind this entry."""

    at: LogId
    data: bytes


class LogState(msgspec.Struct, frozen=True, rename="camel"):
    """A log at this moment, for health and metrics. Names of servers are ``host:port``."""

    reading_from: Literal["replica", "primary", "nothing"]
    """``"primary"`` is degraded: what is read may be lost if this server is lost."""
    primary: str | None
    """The server to which entries are appended; None while none is known."""
    source: str | None
    """The server from which entries are read; None while there is none."""
    unread_entries: int
    """Entries that were appended and not yet read back."""
    unread_bytes: int
    lag: float
    """Seconds from append to read: of the own entry read last, or of the oldest unread one if it waits longer."""
    congested: bool
    repeated: int
    """Entries that were appended once more, since they did not come back. Counts from the start of the log."""
    reconnects: int
    """Connections that were made again after the first ones. Counts from the start of the log."""
    problem: str | None
    """What keeps the log from working or makes it less safe, and what to do about it; None while all is well."""
    engine: str | None = None
    """What the primary is, for people, such as ``"Valkey 8.1.1"``; None while none is known."""


class Log(Protocol):
    """A log that several nodes append to and read, each through an object of its own, in one event loop.

    What was appended counts only when it was read back: :meth:`append` tells nothing. **Each entry must differ in its
    bytes from all others of all nodes**; a node that counts its entries does so. An entry may be in the log several
    times, since the log appends again what did not come back after a failure. If a reader ignores each entry of a node
    whose number is not the one after the last, each entry counts once and in order.
    """

    def append(self, entry: bytes) -> None:
        """Append an entry. All entries appended in one turn of the event loop travel together.

        Never fails for the sake of the engine: an entry waits, and is repeated, until it was read back. While
        :attr:`congested` is true, append no more than must be.

        Raises:
            ValueError: the entry is empty, or larger than ``MAX_ENTRY``.
            RuntimeError: the log is closed.
        """
        ...

    def read(self, after: LogId = START) -> AsyncGenerator[list[LogEntry]]:
        """Read all entries behind ``after``, in order, for ever: lists of at least one entry.

        The next list is asked for when the loop comes around, so a slow reader slows down nothing but itself. A lost
        connection is made again without notice, and the entry read last is looked for on the new one. One reader at a
        time; close the generator before the next one begins (``contextlib.aclosing``).

        Raises:
            EntryForgotten: the engine has lost the entry read last, or ``after``.
            EntryTrimmed: that entry was trimmed, since a newer snapshot is there; also if nothing was read yet.
            RuntimeError: the log has a reader already, or is closed.
        """
        ...

    async def newest(self) -> LogId:
        """Return the id of the newest entry, or ``START`` of an empty log.

        A node that has read up to it has read all that was appended and read back anywhere before this call.

        Raises:
            EngineUnreachable: no primary answered in time.
        """
        ...

    async def save_snapshot(self, at: LogId, data: bytes, *, kept: LogId | None = None) -> bool:
        """Keep a snapshot of what a node knew after the entry ``at``, and trim the log before this entry.

        Nothing is trimmed, and the snapshot before stays, until all of this one is stored. With ``kept``, which need
        not be the id of an entry, entries from there on stay, too: nodes that are a little behind read on.

        Returns:
            Whether it was kept: False if there is one of this entry or a later one.

        Raises:
            ValueError: the snapshot is larger than ``MAX_SNAPSHOT``, or ``at`` is ``START``.
            EntryForgotten: the engine has lost the entry ``at``: with this snapshot no node could begin.
            EngineUnreachable: the engine did not answer in time. The snapshot before is still there.
            EngineRefused: the engine refused to store it, as a full one does. The snapshot before is still there.
        """
        ...

    async def load_snapshot(self) -> Snapshot | None:
        """Return the newest snapshot, or None if none was kept.

        Raises:
            SnapshotBroken: a part is missing or damaged.
            EngineUnreachable: no primary answered in time.
        """
        ...

    @property
    def state(self) -> LogState:
        """The log at this moment."""
        ...

    @property
    def congested(self) -> bool:
        """Whether so much is unread that no further input should be taken; see ``OnCongested``."""
        ...

    async def close(self) -> None:
        """Give up what was not read back, and end all connections. A reader ends."""
        ...


def check_entry(entry: bytes) -> None:
    """Raise ValueError if an entry is empty or too large."""
    if not 0 < len(entry) <= MAX_ENTRY:
        raise ValueError(f"an entry has 1 to {MAX_ENTRY:,} bytes, and this one {len(entry):,}")


def check_snapshot(at: LogId, data: bytes) -> None:
    """Raise ValueError if a snapshot is too large or of no entry."""
    if at <= START:
        raise ValueError("a snapshot is of an entry of the log, and the start is none")
    if len(data) > MAX_SNAPSHOT:
        raise ValueError(f"a snapshot has at most {MAX_SNAPSHOT:,} bytes, and this one {len(data):,}")
