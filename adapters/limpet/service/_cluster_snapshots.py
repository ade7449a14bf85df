"""Snapshots of a cluster: without them the log would grow for ever, and a new node would have to read all of it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import monotonic
from typing import Final

from limpet.service.cluster import Log, LogError, LogId
from limpet_core.service.cluster.members import SILENCE
from limpet_core.service.cluster.replica import Replica

_LOGGER: Final = logging.getLogger("limpet.service.cluster")

SNAPSHOT_EVERY: Final = 60.0
"""Seconds between snapshots of the cluster's state."""

SNAPSHOT_BYTES: Final = 64 * 1024 * 1024
"""Bytes of the log after which a snapshot is taken sooner."""

KEPT: Final = SILENCE + 1.0
"""Seconds before a snapshot whose entries stay in the log: a node that is behind by more is out of the cluster."""


class Snapshots:
    """Takes snapshots while this node is the one that has been there for the longest time.

    Args:
        log: where they are kept.
        replica: whose state they have.
    """

    def __init__(self, log: Log, replica: Replica) -> None:
        self._log = log
        self._replica = replica
        self._taken_at = monotonic()
        self._bytes = 0
        self._saving: asyncio.Task[None] | None = None
        # Places in the log, and when this node was there by its own clock: the log's may stand still.
        self._marks: deque[tuple[float, LogId]] = deque()

    def applied(self, at: LogId, size: int) -> None:
        """Handle that the replica has applied entries of ``size`` bytes, up to the entry ``at``."""
        self._bytes += size
        self._mark(at, monotonic())
        if self._is_due():
            self._taken_at, self._bytes = monotonic(), 0
            self._saving = asyncio.create_task(self._save(at, self._replica.snapshot()))

    async def close(self) -> None:
        """Give up a snapshot that is being kept."""
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.wait((self._saving,))

    def _mark(self, at: LogId, now: float) -> None:
        marks = self._marks
        if not marks or now - marks[-1][0] >= KEPT / 5:
            marks.append((now, at))
        while len(marks) > 1 and now - marks[1][0] >= KEPT:
            marks.popleft()

    def _is_due(self) -> bool:
        if self._replica.fenced:
            return False  # its state may not be that of the cluster
        late = monotonic() - self._taken_at > SNAPSHOT_EVERY or self._bytes > SNAPSHOT_BYTES
        return late and self._saving is None and self._replica.members.first == self._replica.node

    async def _save(self, at: LogId, data: bytes) -> None:
        try:
            await self._log.save_snapshot(at, data, kept=self._marks[0][1])
        except (LogError, ValueError) as error:
            _LOGGER.warning("the snapshot of the cluster was not kept, and is tried again later: %s", error)
        finally:
            self._saving = None
