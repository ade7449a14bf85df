"""Nodes that have the name of this one: a name belongs to one node at a time."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Final

from limpet_core.service.cluster.members import Member
from limpet_core.service.cluster.replica import Replica
from limpet_core.text import one_line

QUIET: Final = 1.5
"""Seconds without an entry after which a node's name may be taken: a node that lives writes one each second."""


class Namesakes:
    """The other nodes of this name that came before this one: one that lives keeps the name.

    A node that was killed stays among the nodes of the cluster for some seconds, and its name is free for a node that
    comes in its place. What tells them apart: a node that lives writes entries.

    Args:
        replica: of this node, which knows all entries up to now.
        name: of this node.
    """

    def __init__(self, replica: Replica, name: str) -> None:
        self._replica = replica
        self._name = name
        self._since = monotonic()
        # By run: the number of entries that do not count as a sign of life.
        self._known: dict[str, int] = {member.node: member.counter for member in self._others()}

    def refusal(self) -> str:
        """Return why this node cannot have its name; empty: nobody of this name has given a sign of life."""
        for other in self._others():
            if self._known.get(other.node) != other.counter:
                return (
                    f"a node of the name {one_line(self._name)} lives in the cluster already ({one_line(other.node)}). "
                    "Give this node another name (--node NAME, or ClusterOptions.name), or stop the other one"
                )
        return ""

    @property
    def wait(self) -> float:
        """Seconds until the others of this name have been quiet for so long that the name is free."""
        newest = max((other.seen for other in self._others()), default=None)
        if newest is None:
            return 0.0
        # By the log's clock, which nodes that live move on, or by this machine's.
        quiet = max(self._replica.core.now - newest, monotonic() - self._since)
        return max(QUIET - quiet, 0.0)

    def _others(self) -> Iterator[Member]:
        for member in self._replica.members:
            if member.node == self._replica.node:
                return  # those that come later are refused themselves
            if member.name == self._name:
                yield member
