"""Nodes of several releases: a newer behaviour of the service is active once all nodes have it, and for good."""

from __future__ import annotations

import logging

import pytest
from tests.core.service.cluster.nodes import Cluster

from limpet_core.service.cluster import commands
from limpet_core.service.cluster.members import SILENCE
from limpet_core.service.cluster.rollout import PROPOSE_AFTER

OLD, BOTH, NEW = (1, 1), (1, 2), (2, 3)


def cluster_of(**nodes: tuple[int, int]) -> Cluster:
    cluster = Cluster()
    for name, behaviours in nodes.items():
        cluster.start(name, behaviours=behaviours)
        cluster.run()
    return cluster


def active(cluster: Cluster) -> list[int]:
    """Return the behaviour of each node that is up."""
    return [node.replica.shared.behaviour for node in cluster.up]


def leave(cluster: Cluster, name: str) -> None:
    cluster.nodes[name].replica.leave()
    cluster.run()


def test_the_first_node_of_a_log_decides_for_all_that_read_it() -> None:
    cluster = cluster_of(a=OLD, b=BOTH)
    cluster.start("c", behaviours=BOTH)  # which reads from the beginning that the first node had the old behaviour
    cluster.run()
    assert active(cluster) == [1, 1, 1]
    assert active(cluster_of(a=BOTH, b=BOTH)) == [2, 2]


def test_a_rolling_restart_goes_over_to_the_new_behaviour_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "limpet.service")
    cluster = cluster_of(a=OLD, b=OLD)
    leave(cluster, "a")
    cluster.start("a2", behaviours=BOTH)
    cluster.run(2 * PROPOSE_AFTER)
    assert active(cluster) == [1, 1], "one node of the old release is left"
    leave(cluster, "b")
    cluster.start("b2", behaviours=BOTH)
    cluster.run(PROPOSE_AFTER - 2)
    assert active(cluster) == [1, 1]
    cluster.run(4)
    assert active(cluster) == [2, 2]
    told = [record.getMessage() for record in caplog.records if "version 2" in record.getMessage()]
    assert told == ["all nodes of the cluster behave like version 2 of the service from now on"] * 2
    assert len(cluster.digests()) == 1


def test_nodes_tell_who_comes_and_goes_and_a_new_one_nothing_of_the_time_before_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "limpet.service")
    cluster = cluster_of(a=OLD, b=OLD)
    leave(cluster, "b")
    told = [record.getMessage() for record in caplog.records]
    assert told[0] == "node a is in the cluster of 1"
    assert told.count("node b is in the cluster of 2") == 2
    assert "node b is out of the cluster: it has left" in told
    caplog.clear()
    cluster.start("c", behaviours=OLD)
    cluster.run()
    assert [record.getMessage() for record in caplog.records] == ["node c is in the cluster of 2"] * 2


def test_a_node_of_the_old_release_that_comes_back_in_time_holds_it_up() -> None:
    cluster = cluster_of(a=BOTH, b=OLD)
    assert active(cluster) == [2], "the first one had the new behaviour already"
    cluster = cluster_of(b=OLD, a=BOTH)
    cluster.kill("b")
    cluster.run(SILENCE + PROPOSE_AFTER / 2)
    cluster.start("b2", behaviours=OLD)
    cluster.run(PROPOSE_AFTER)
    assert active(cluster) == [1, 1]
    leave(cluster, "b2")
    cluster.run(PROPOSE_AFTER / 2)
    assert active(cluster) == [1], "the time before the old node does not count"
    cluster.run(PROPOSE_AFTER)
    assert active(cluster) == [2]


def test_an_old_node_is_refused_once_the_new_behaviour_is_active() -> None:
    cluster = cluster_of(a=OLD, b=BOTH)
    leave(cluster, "a")
    cluster.run(2 * PROPOSE_AFTER)
    assert active(cluster) == [2]
    late = cluster.start("a2", behaviours=OLD)
    cluster.run(1)
    assert late.replica.fenced == ("the log needs version 2 of the service's behaviour; this release has 1 to 1")
    assert [member.node for member in cluster.nodes["b"].replica.members] == ["b"]


def test_a_release_that_lacks_the_behaviour_of_old_entries_does_not_read_them() -> None:
    cluster = cluster_of(a=OLD, b=BOTH)
    leave(cluster, "a")
    cluster.run(2 * PROPOSE_AFTER)
    late = cluster.start("c", behaviours=NEW)
    before = late.replica.core.connection_count, late.replica.position
    cluster.run(1)
    assert "version 1 of the service's behaviour; this release has 2 to 3" in late.replica.fenced
    assert before == (0, "")
    assert late.replica.position == "1", "it has read no more than the entry that says so"


def test_there_is_no_way_back() -> None:
    cluster = cluster_of(a=BOTH)
    cluster.write(commands.envelop("z", 1, [commands.encode(commands.Hello(b"same", 1, 3, "z"))]))
    cluster.write(commands.envelop("z", 2, [commands.encode(commands.Activate(1))]))
    cluster.run()
    assert active(cluster) == [2]


def test_only_the_first_node_proposes() -> None:
    cluster = cluster_of(a=OLD, b=BOTH, c=BOTH)
    leave(cluster, "a")
    cluster.run(2 * PROPOSE_AFTER)
    proposals = [
        entry.node
        for _, data in cluster.log
        for entry in [commands.decode(data)]
        for command in entry.commands
        if isinstance(command, commands.Activate)
    ]
    assert proposals == ["b"]
