"""What a node knows of its cluster, for the health check, the metrics and the trace page. No client is named."""

from __future__ import annotations

import msgspec

from limpet.service.cluster.log import LogState
from limpet_core.service.cluster.shared_state import SharedState

__all__ = ["ClusterView", "NodeView", "cluster_view"]


class NodeView(msgspec.Struct, frozen=True, rename="camel"):
    """A node of the cluster.

    Attributes:
        name: for people.
        run: the name of this run of the node, which no other has.
        is_this: whether it is the node that answers.
        age: seconds since its newest entry in the log, by the time of the log. A node writes one at least each second.
    """

    name: str
    run: str
    is_this: bool
    age: float


class ClusterView(msgspec.Struct, frozen=True, rename="camel"):
    """A cluster as one of its nodes has it.

    Attributes:
        node: the name of the node, for people.
        cell: the name of the cluster.
        refusal: why the node takes no clients; ``None``: it does.
        nodes: all nodes, in the order in which they came.
        log: ``None`` before the node has opened it.
        behaviour: the version of the service's behaviour that the nodes have agreed on.
        comparison: the number of the newest comparison of all nodes' states; 0 before the first.
        differing: the nodes whose state differed from that of this node there.
        failures: commands that have failed, at all nodes alike, by a fault of the service.
    """

    node: str
    cell: str
    refusal: str | None
    nodes: tuple[NodeView, ...]
    log: LogState | None
    behaviour: int
    comparison: int
    differing: int
    failures: int


def cluster_view(
    shared: SharedState, this: str, now: float, log: LogState | None, *, node: str, cell: str, refusal: str | None
) -> ClusterView:
    """Return what a node knows.

    Args:
        this: the run of the node.
        now: the present time of the log, as far as the node knows it.
        node, cell, refusal: see :class:`ClusterView`.
    """
    mine = shared.digests.get(this)
    return ClusterView(
        node,
        cell,
        refusal,
        tuple(
            NodeView(member.name, member.node, member.node == this, round(max(now - member.seen, 0.0), 1))
            for member in shared.members
        ),
        log,
        shared.behaviour,
        shared.compared,
        0 if mine is None else sum(digest != mine for digest in shared.digests.values()),
        shared.failures,
    )
