"""What can go wrong with the log of a cluster. No text contains a password."""

from __future__ import annotations

__all__ = [
    "EngineRefused",
    "EngineUnreachable",
    "EntryForgotten",
    "EntryTrimmed",
    "LogError",
    "SnapshotBroken",
]


class LogError(Exception):
    """The log of a cluster cannot do what was asked. The text says what happened, what it means and what to do."""


class EngineRefused(LogError):
    """The engine must not be used, or does not let us: a setting, a version or an access right has to change first.

    Raised at the start only. While the log is in use the same text is in ``LogState.problem``, and the log tries again.
    """


class EngineUnreachable(LogError):
    """No server of the engine answered in time. Try again later; the log itself goes on trying."""


class EntryForgotten(LogError):
    """The entry read last is no longer in the log, though no snapshot replaced it: the engine has lost entries.

    Clients may have been told what these entries said. The node must end its connections; it can read no further.
    """


class EntryTrimmed(LogError):
    """The entry read last was trimmed from the log, and a newer snapshot is there: this node was too slow.

    Load the snapshot with :meth:`~limpet.service.cluster.Log.load_snapshot`, and read on behind it.
    """


class SnapshotBroken(LogError):
    """The snapshot is there, but parts of it are missing or damaged, so that a node cannot start from it."""
