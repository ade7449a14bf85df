"""The log that the nodes of a cluster share: entries of bytes in one order, the same for all nodes.

:class:`~limpet.service.cluster.log.Log` says what a log does. :class:`~limpet.service.cluster.redis.RedisLog` keeps
it in Redis or Valkey (``pip install 'limpet[cluster]'``), :class:`MemoryLog` in the memory of one process, for tests.
"""

from __future__ import annotations

from limpet.service.cluster.errors import (
    EngineRefused,
    EngineUnreachable,
    EntryForgotten,
    EntryTrimmed,
    LogError,
    SnapshotBroken,
)
from limpet.service.cluster.log import (
    MAX_ENTRY,
    MAX_SNAPSHOT,
    START,
    Log,
    LogEntry,
    LogId,
    LogState,
    OnCongested,
    Snapshot,
)
from limpet.service.cluster.memory import MemoryEngine, MemoryLog
from limpet.service.cluster.view import ClusterView, NodeView

__all__ = [
    "MAX_ENTRY",
    "MAX_SNAPSHOT",
    "START",
    "ClusterView",
    "EngineRefused",
    "EngineUnreachable",
    "EntryForgotten",
    "EntryTrimmed",
    "Log",
    "LogEntry",
    "LogError",
    "LogId",
    "LogState",
    "MemoryEngine",
    "MemoryLog",
    "NodeView",
    "OnCongested",
    "Snapshot",
    "SnapshotBroken",
]
