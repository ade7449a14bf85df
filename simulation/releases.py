"""Two releases of the service: the next one has one more behaviour, and a format of entries of its own.

Both are invented. A node of the next release reads what both write. It behaves in the new way, and writes the new
format, from the place of the log on at which the behaviour is active.
"""

from __future__ import annotations

from typing import Any, Final

from limpet_core.service.behaviour import BEHAVIOUR, OLDEST_BEHAVIOUR
from limpet_core.service.cluster.commands import FORMAT
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.cluster.rollout import Rollout
from limpet_core.service.connections.connection import Attachment
from simulation.inspect import set_rollout

NEXT: Final = BEHAVIOUR + 1
"""The behaviour that the next release has."""

AFTER: Final = 2.0
"""Seconds for which all nodes have it before it is active: fewer than in the service: much is to happen behind."""

_HEAD: Final = bytes((0x92, FORMAT))  # a pair in msgpack, whose first value is the format
_NEXT_HEAD: Final = bytes((0x92, FORMAT + 1))


def known(entry: bytes) -> bytes:
    """Return an entry of either format in the one that the present release reads."""
    return _HEAD + entry[len(_HEAD) :] if entry.startswith(_NEXT_HEAD) else entry


class NextCore(ReplicatedCore):
    """Does one thing more with each message of a client, which others can only see in the digest."""

    @property
    def is_next(self) -> bool:
        """Whether the new behaviour is active."""
        return self.behaviour >= NEXT

    def receive(self, attachment: Attachment, data: str | bytes, now: float) -> None:
        super().receive(attachment, data, now)
        if self.is_next and attachment.connection is not None:
            attachment.connection.warned_of_unknown = True


class NextReplica(Replica):
    """A node of the next release."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, behaviours=(OLDEST_BEHAVIOUR, NEXT), **named)
        set_rollout(self, Rollout(AFTER))

    @property
    def writes_next(self) -> bool:
        """Whether entries have the new format: not before all nodes can read it."""
        return self.shared.behaviour >= NEXT

    def entries_to_append(self, now: float) -> list[bytes]:
        entries = super().entries_to_append(now)
        return [_NEXT_HEAD + entry[len(_HEAD) :] for entry in entries] if self.writes_next else entries

    def forked(self) -> bytes:
        entry = super().forked()
        return _NEXT_HEAD + entry[len(_HEAD) :] if self.writes_next else entry

    def apply(self, position: str, time: float, data: bytes) -> None:
        super().apply(position, time, known(data))
