"""A node with other settings listens before it speaks: the others may live, whatever the log's clock says."""

from __future__ import annotations

import pytest
from tests.core.service.cluster.nodes import Cluster, Node

from limpet_core.service.cluster.members import ABANDONED
from limpet_core.service.cluster.silence import BEAT, Vigil

NEW = b"others"


def reader(cluster: Cluster, settings: bytes = NEW) -> Node:
    """Return a node that has read the log and said nothing."""
    node = Node(cluster, "new", cluster.nodes["a"].replica.core.node_limits, settings)
    node.catch_up()
    return node


def begun() -> tuple[Cluster, Node, Vigil]:
    """Return a cluster whose one node is silent, a node with other settings, and its vigil at the time 0."""
    cluster = Cluster("a")
    node = reader(cluster)
    vigil = Vigil(node.replica.shared, 0.0)
    assert not vigil.is_over(0.0)
    return cluster, node, vigil


def looks(vigil: Vigil, begin: float, seconds: float) -> list[bool]:
    return [vigil.is_over(begin + BEAT * number) for number in range(1, int(seconds / BEAT) + 1)]


def test_a_node_waits_while_others_may_live() -> None:
    _, _, vigil = begun()
    assert not any(looks(vigil, 0.0, ABANDONED))
    assert vigil.is_over(ABANDONED + BEAT)


@pytest.mark.parametrize("case", ["the same settings", "no node"])
def test_there_is_nothing_to_wait_for(case: str) -> None:
    cluster = Cluster("a")
    if case == "no node":
        cluster.nodes["a"].replica.leave()
        cluster.run()
    node = reader(cluster, NEW if case == "no node" else b"same")
    assert Vigil(node.replica.shared, 0.0).is_over(0.0)


@pytest.mark.parametrize("what", ["beat", "another comes", "it leaves"])
def test_an_entry_of_another_node_ends_the_vigil(what: str) -> None:
    cluster, node, vigil = begun()
    if what == "beat":
        cluster.run(2 * BEAT)
    elif what == "another comes":
        cluster.kill("a")
        cluster.start("b")
        cluster.run()
    else:
        cluster.nodes["a"].replica.leave()
        cluster.run()
    assert not vigil.is_over(BEAT), "not read yet"
    node.catch_up()
    assert vigil.is_over(2 * BEAT)


def test_nobody_is_heard_while_the_log_does_not_answer() -> None:
    _, _, vigil = begun()
    assert not any(looks(vigil, 0.0, ABANDONED - BEAT))
    back = ABANDONED + 10 * BEAT
    assert not vigil.is_over(back)
    assert not any(looks(vigil, back, ABANDONED))
    assert vigil.is_over(back + ABANDONED + BEAT)
