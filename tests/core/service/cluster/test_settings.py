"""Settings change while all nodes of a cluster are stopped: it begins anew then, and nobody has to delete anything."""

from __future__ import annotations

import logging
import math

import pytest
from tests.core.service.cluster.account import picture
from tests.core.service.cluster.nodes import Client, Cluster, Node
from tests.core.service.cluster.schedule import Schedule
from tests.core.service.cluster.test_snapshot import cluster_with_state

from limpet_core.service import JSON, EventListener, Limits, closes, trace
from limpet_core.service.behaviour import BEHAVIOUR
from limpet_core.service.cluster import commands
from limpet_core.service.cluster.members import ABANDONED, Member

NEW = b"others"


def stopped() -> tuple[Cluster, Client]:
    """Return a cluster whose nodes have left while a client was connected; and the client."""
    cluster, ann, _ = cluster_with_state()
    leave(cluster)
    return cluster, ann


def leave(cluster: Cluster) -> None:
    for node in cluster.up:
        node.replica.leave()
    cluster.run()
    assert not cluster.up


def begun(cluster: Cluster, name: str, settings: bytes, data: bytes = b"", read: int = 0) -> Node:
    """Start a node with a snapshot, or with the whole log, and let it come in."""
    node = cluster.start(name, settings=settings)
    if data:
        node.replica.restore(data)
        node.read = read
    cluster.run()
    return node


def test_other_settings_are_taken_when_all_nodes_have_left(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "limpet.service.cluster")
    cluster, ann = stopped()
    caplog.clear()
    node = begun(cluster, "c", NEW)
    assert node.replica.is_member
    assert node.replica.core.connection_count == 0
    assert cluster.recover(ann, "c").close == closes.REFUSED
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.getMessage().partition(",")[0] for record in told] == ["the cluster begins anew"]
    ben = cluster.connect("c", groups=("g",))
    ben.says(type="sendToGroup", group="g", data="new", ackId=1)
    cluster.run()
    assert ben.messages == [(1, "new")]


def test_the_same_settings_keep_what_there_is() -> None:
    cluster, ann = stopped()
    node = begun(cluster, "c", b"same")
    assert node.replica.core.connection_count > 0
    assert cluster.recover(ann, "c").close is None


@pytest.mark.parametrize("with_snapshot", [True, False])
def test_one_node_that_stays_is_enough_for_a_refusal(with_snapshot: bool) -> None:
    cluster, _, _ = cluster_with_state()
    data, read = cluster.nodes["b"].replica.snapshot(), len(cluster.log)
    cluster.nodes["a"].replica.leave()
    cluster.run(1)
    node = begun(cluster, "c", NEW, data if with_snapshot else b"", read)
    assert "settings" in node.replica.fenced
    assert "stop them all" in node.replica.fenced
    assert [each.node for each in cluster.nodes["b"].replica.members] == ["b"]
    assert cluster.nodes["b"].replica.core.connection_count > 0


def test_a_node_that_was_killed_counts_as_stopped_after_a_while() -> None:
    cluster, _, _ = cluster_with_state()
    cluster.kill("a")
    cluster.kill("b")
    cluster.now += ABANDONED - 2.0
    assert begun(cluster, "c", NEW).replica.fenced
    cluster.now += 2.0
    node = begun(cluster, "d", NEW)
    assert [each.node for each in node.replica.members] == ["d"]
    assert node.replica.core.connection_count == 0


def test_a_node_that_only_stood_still_is_expelled_and_its_clients_sent_away() -> None:
    cluster, ann, _ = cluster_with_state()
    for name in ("a", "b"):
        cluster.kill(name)
    cluster.now += ABANDONED
    begun(cluster, "c", NEW)
    cluster.nodes["a"].is_down = False
    cluster.nodes["a"].catch_up()
    assert "other settings" in cluster.nodes["a"].replica.fenced
    assert ann.close is not None
    assert ann.close.code == 1001


@pytest.mark.parametrize("reads", ["it stood still", "it begins with the log"])
def test_no_node_of_before_tells_of_the_ends_of_clients(reads: str) -> None:
    listener = EventListener(
        event_hub="e", connection_string="Endpoint=sb://x.test/;SharedAccessKeyName=n;SharedAccessKey=a2V5"
    )
    cluster = Cluster("a", listeners=[listener])
    cluster.connect("a", subprotocol=JSON)
    cluster.connect("a", "bob")
    cluster.kill("a")
    cluster.now += ABANDONED
    begun(cluster, "c", NEW)
    node = cluster.nodes["a"] if reads == "it stood still" else Node(cluster, "old", Limits(), b"same")
    seen: list[trace.TraceEvent] = []
    node.told.clear()
    node.replica.core.observers.append(seen.append)
    node.catch_up()
    assert node.replica.core.connection_count == 0
    assert (node.told, seen) == ([], [])


def test_a_node_of_before_finds_its_cluster_taken() -> None:
    cluster, _ = stopped()
    begun(cluster, "c", NEW)
    node = begun(cluster, "old", b"same")
    assert "settings" in node.replica.fenced
    assert [each.node for each in cluster.nodes["c"].replica.members] == ["c"]


def test_a_node_with_other_settings_takes_no_snapshot() -> None:
    cluster, _, _ = cluster_with_state()
    other = cluster.start("new", settings=NEW)
    other.replica.restore(cluster.nodes["a"].replica.snapshot())
    assert other.replica.core.connection_count == 0
    assert [each.node for each in other.replica.members] == ["a", "b"]
    with pytest.raises(RuntimeError, match="other settings"):
        other.replica.snapshot()


@pytest.mark.parametrize("seed", range(12))
def test_from_the_log_and_from_any_snapshot_the_beginning_is_the_same(seed: int) -> None:
    """There and back: a node may have read the first part with its own settings, or nothing of it."""
    schedule = Schedule(seed)
    cluster = schedule.cluster
    snapshots: list[tuple[bytes, int]] = []
    for step in range(40):
        schedule.step()
        if step % 10 == 5 and cluster.up:
            one = cluster.up[0]
            snapshots.append((one.replica.snapshot(), one.read))
    leave(cluster)
    cluster.now += ABANDONED  # some nodes were killed
    new = begun(cluster, "new", NEW)
    snapshots.append((new.replica.snapshot(), new.read))
    cluster.connect("new", "ben", groups=("g1",))
    snapshots.append((new.replica.snapshot(), new.read))
    leave(cluster)
    again = begun(cluster, "again", b"same")
    nodes = [begun(cluster, f"s{place}", b"same", *each) for place, each in enumerate(snapshots)]
    nodes.append(begun(cluster, "log", b"same"))
    cluster.connect("again", "cid", groups=("g1",))
    cluster.run()
    assert all(node.replica.is_member for node in nodes)
    for node in nodes:
        assert picture(node.replica.shared) == picture(again.replica.shared)
    assert len(cluster.digests()) == 1


def test_a_hub_that_an_application_holds_is_empty() -> None:
    cluster, _ = stopped()
    reader = Node(cluster, "reader", Limits(), b"same")
    reader.catch_up()
    hub = reader.replica.core.registry.hub("h")
    assert hub.connections
    begun(cluster, "c", NEW)
    reader.catch_up()
    assert not hub.connections
    assert not hub.groups
    assert reader.replica.core.registry.hub("h") is hub


@pytest.mark.parametrize("part", ["streams", "invocations"])
def test_nothing_is_due_that_belonged_to_clients_of_before(part: str) -> None:
    schedule = Schedule(1)
    cluster = schedule.cluster
    core = (reader := cluster.nodes["a"]).replica.core
    parts = {"streams": core.streams.save, "invocations": core.invocations.save}
    while not parts[part]():
        assert reader in cluster.up
        schedule.step()
    for node in list(cluster.up):
        cluster.write(commands.envelop(node.name, member(reader, node.name).counter + 1, [commands.encode(LEAVE)]))
    cluster.write(commands.envelop("x", 1, [commands.encode(commands.Hello(NEW, BEHAVIOUR, BEHAVIOUR, "x"))]))
    reader.catch_up()
    assert reader.replica.shared.is_foreign
    assert parts[part]() == []
    assert core.deadline == math.inf


LEAVE = commands.Leave()


def member(node: Node, name: str) -> Member:
    found = node.replica.members.get(name)
    assert found is not None
    return found
