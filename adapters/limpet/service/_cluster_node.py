"""A node at the log of its cluster: it joins, appends what the node has to say, and reads what all nodes have said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import aclosing, suppress
from time import monotonic
from typing import Final

from limpet.service._cluster_snapshots import Snapshots
from limpet.service._joining import WAITS, ClusterRefused, open_log, restore
from limpet.service._namesakes import Namesakes
from limpet.service.cluster import (
    START,
    EntryForgotten,
    EntryTrimmed,
    Log,
    LogEntry,
    LogError,
    LogId,
    LogState,
    OnCongested,
)
from limpet.service.options import ClusterOptions
from limpet_core.service.cluster.members import SILENCE
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.silence import BEAT, Vigil

_LOGGER: Final = logging.getLogger("limpet.service.cluster")

LEASE: Final = SILENCE
"""Seconds without an own entry read back after which a node sends its clients to other nodes.

The others take it for dead after as long, and go on with its connections.
"""

PORTION: Final = 8 * 1024
"""Bytes of entries that are applied in one turn of the event loop: some sixty short messages to each member."""

_LAST_WORDS: Final = 1.0
"""Seconds that the last entries of a node have to get into the log."""


class ClusterNode:
    """Keeps a replica at the log of its cluster.

    Args:
        options: the node's place in its cluster.
        replica: the node's part of the cluster, which nobody else gives entries to or takes them from.
        applied: is called when entries were applied, with their size in bytes.
        flush: carries out the outputs of the replica; calls :meth:`write`.
        on_congested: is called when so much waits for the log that no more should be taken, and when it is over.

    Attributes:
        log: ``None`` before it was opened.
        appends: whether the node writes into the log: it joins its cluster, or is in it.
        is_cut_off: whether the log was silent for so long that the others may go on without this node.
        position: the id of the newest entry that was applied.
    """

    def __init__(
        self,
        options: ClusterOptions,
        replica: Replica,
        *,
        applied: Callable[[int], None],
        flush: Callable[[], None],
        on_congested: OnCongested,
    ) -> None:
        self.log: Log | None = None
        self.appends: bool = False
        self.is_cut_off: bool = False
        self.position: LogId = START
        self._options = options
        self._replica = replica
        self._applied = applied
        self._flush = flush
        self._on_congested = on_congested
        self._reader: asyncio.Task[None] | None = None
        self._snapshots: Snapshots | None = None
        self._namesakes: Namesakes | None = None
        self._waiting: list[asyncio.Future[None]] = []
        self._log_ahead = -monotonic()
        self._read_back_at = monotonic()

    @property
    def state(self) -> LogState | None:
        """The state of the log; ``None`` before the node has opened it."""
        return None if self.log is None else self.log.state

    def time(self) -> float:
        """Return the present time of the log, in seconds since 1970, as far as the node knows it."""
        return monotonic() + self._log_ahead  # is asked for each client that is written to

    # ---- Begin and end

    async def open(self) -> None:
        """Join the cluster: read what there is, then say so in the log.

        Raises:
            LogError: if the log cannot be used.
            ClusterRefused: if the cluster does not take this node.
        """
        if self.log is not None:
            raise RuntimeError("this node has been in its cluster: make a new service")
        self.log = log = await open_log(self._options, self._on_congested)
        snapshot = await log.load_snapshot()
        if snapshot is not None:
            restore(self._replica, snapshot)
            self.position = snapshot.at
        newest = await log.newest()
        self._snapshots = Snapshots(log, self._replica)
        self._reader = asyncio.create_task(self._read(log, self._snapshots))
        await self._until_read(newest)
        self._namesakes = Namesakes(self._replica, self._options.name)
        await self._until_quiet(self._namesakes)
        await self._until_deserted(log)
        self.appends = True
        self._read_back_at = monotonic()
        self._flush()
        await self._until(lambda: self._replica.is_member)
        self._check_fence()  # another one of this name may have come just before

    def end(self, reason: str) -> None:
        """Take no more part: the clients go to other nodes, and the process has to end."""
        self._replica.fence(reason)
        self._flush()
        self._wake_waiting()

    async def finish(self) -> None:
        """Append no more, once the last entries are in the log: from them the others learn that this node is gone."""
        if self.log is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORDS):
                    while self.log.state.unread_entries:
                        await self._next_entry()
        self.appends = False

    async def close(self) -> None:
        """End the reader, a snapshot that is being kept, and the log."""
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.wait((self._reader,))
        if self._snapshots is not None:
            await self._snapshots.close()
        if self.log is not None:
            await self.log.close()

    # ---- Waiting

    async def catch_up(self) -> None:
        """Wait until this node knows all that any node has answered for before.

        Raises:
            LogError: if the log does not say how far that is.
            ClusterRefused: if this node ends meanwhile.
        """
        assert self.log is not None, "call open() before"
        await self._until_read(await self.log.newest())

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._check_fence()
            await self._next_entry()

    async def _until_read(self, newest: LogId) -> None:
        await self._until(lambda: self.position >= newest)

    async def _until_quiet(self, namesakes: Namesakes) -> None:
        """Wait until nobody of this node's name can be alive any more."""
        while (wait := namesakes.wait) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._next_entry()
            self._check_fence()

    async def _until_deserted(self, log: Log) -> None:
        """Wait until the nodes of a cluster with other settings are stopped, or one of them was heard."""
        vigil = Vigil(self._replica.shared, monotonic())
        if not vigil.is_over(monotonic()):
            _LOGGER.warning(WAITS)
        while not vigil.is_over(monotonic()):
            with suppress(TimeoutError):
                async with asyncio.timeout(BEAT):
                    await self._next_entry()
            self._check_fence()
            await self._until_read(await log.newest())

    def _check_fence(self) -> None:
        if self._replica.fenced:
            raise ClusterRefused(self._replica.fenced)

    async def _next_entry(self) -> None:
        """Wait until something was read, or nothing will be any more."""
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        await waiting

    def _wake_waiting(self) -> None:
        woken, self._waiting = self._waiting, []
        for waiting in woken:
            if not waiting.done():
                waiting.set_result(None)

    # ---- Reading

    async def _read(self, log: Log, snapshots: Snapshots) -> None:
        try:
            async with aclosing(log.read(self.position)) as batches:
                async for batch in batches:
                    for portion in _portions(batch):
                        if portion[0] is not batch[0]:
                            await asyncio.sleep(0)
                        self.apply(portion)
                        snapshots.applied(self.position, sum(len(entry.data) for entry in portion))
        except EntryForgotten as error:
            self._append(log, [self._replica.forked()])
            self.end(f"{self._replica.fenced}: {error}")
        except EntryTrimmed as error:
            self.end(f"this node was too slow for the log, and has to start anew: {error}")
        except LogError as error:
            self.end(str(error))
        except Exception as error:
            _LOGGER.exception("this node has failed")
            self.end(f"a fault of this service: {error!r}")

    def apply(self, entries: list[LogEntry]) -> None:
        """Carry out the next entries of the log; there is at least one."""
        replica = self._replica
        unread = replica.unread
        for entry in entries:
            replica.apply(str(entry.id), entry.time / 1000, entry.data)
        self.position = entries[-1].id
        now = monotonic()
        self._log_ahead = replica.core.now - now
        if replica.unread < unread or not replica.unread:
            self._read_back_at = now
        if self._namesakes is not None and (refusal := self._namesakes.refusal()):
            replica.fence(refusal)
        self._applied(sum(len(entry.data) for entry in entries))
        self._wake_waiting()

    def loses_log(self) -> bool:
        """Look whether the log answers, at least once a second; return whether the node is cut off since this look."""
        was_cut_off = self.is_cut_off
        self.is_cut_off = monotonic() - self._read_back_at > LEASE and self._replica.unread > 0
        if was_cut_off and not self.is_cut_off:
            _LOGGER.info("the log of the cluster answers again: clients are served again")
        return self.is_cut_off and not was_cut_off

    # ---- Writing

    def write(self) -> None:
        """Append what the node has to say, once it may say something."""
        if self.appends:
            assert self.log is not None, "it was opened before"
            self._append(self.log, self._replica.entries_to_append(monotonic()))

    def _append(self, log: Log, entries: list[bytes]) -> None:
        try:
            for entry in entries:
                log.append(entry)
        except Exception as error:
            # An entry is missing: without it none of the later ones counts.
            _LOGGER.exception("an entry could not be appended to the log of the cluster")
            self.appends = False
            self._replica.fence(f"a fault of this service: {error!r}")
            self._wake_waiting()


def _portions(batch: list[LogEntry]) -> Iterator[list[LogEntry]]:
    """Divide entries into those to apply in one turn: their clients acknowledge, and others are served, in between."""
    portion: list[LogEntry] = []
    size = 0
    for entry in batch:
        portion.append(entry)
        size += len(entry.data)
        if size >= PORTION:
            yield portion
            portion, size = [], 0
    if portion:
        yield portion
