"""The nodes of a cluster, as the log tells of them: the same at all nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

SILENCE: Final = 4.0
"""Seconds, by the time of the log, after which a node without an entry is dead."""

ABANDONED: Final = 30.0
"""Seconds without an entry of any node after which a node with other settings may begin anew.

A failover of the engine, in which no node can write, takes less.
"""

_REMEMBERED: Final = 1000
"""Nodes that are gone, whose late entries are still known as such."""


class Member(msgspec.Struct):
    """A node that has come and is not gone.

    Attributes:
        node: the name of this run of the node.
        counter: that of its newest entry.
        seen: when that was, in seconds of the log.
        oldest, newest, name: as in :class:`~limpet_core.service.cluster.commands.Hello`.
    """

    node: str
    counter: int
    seen: float
    oldest: int
    newest: int
    name: str


class Members:
    """The nodes that are there, in the order in which they came, and the names of those that are gone."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._gone: dict[str, None] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(self._members.values())

    def __len__(self) -> int:
        return len(self._members)

    def get(self, node: str) -> Member | None:
        """Return a node that is there."""
        return self._members.get(node)

    def is_gone(self, node: str) -> bool:
        """Return whether a node was there and is gone: its entries do not count any more."""
        return node in self._gone

    @property
    def gone(self) -> tuple[str, ...]:
        """The names of the nodes that are gone, as far as they are remembered."""
        return tuple(self._gone)

    @property
    def first(self) -> str:
        """The node that has been there for the longest time; empty without any."""
        return next(iter(self._members), "")

    def add(self, member: Member) -> None:
        """Add a node that has come."""
        self._members[member.node] = member

    def remove(self, node: str) -> None:
        """Remove a node that is gone, also one that never was there."""
        self._members.pop(node, None)
        self._gone[node] = None
        if len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def restore(self, members: Iterable[Member], gone: Iterable[str]) -> None:
        """Have the nodes of a snapshot, in their order."""
        self._members = {member.node: member for member in members}
        self._gone = dict.fromkeys(gone)

    def are_stopped(self, now: float) -> bool:
        """Return whether all nodes have left, or were silent for :data:`ABANDONED` seconds."""
        return all(now - member.seen >= ABANDONED for member in self._members.values())

    def silent(self, now: float) -> list[Member]:
        """Return the nodes that were not heard of for too long."""
        return [member for member in self._members.values() if now - member.seen > SILENCE]
