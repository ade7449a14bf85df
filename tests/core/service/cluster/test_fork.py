"""The log has forgotten entries that nodes have read: all connections end, and that is decided in the log alone."""

from __future__ import annotations

from tests.core.service.cluster.nodes import Cluster
from tests.core.service.cluster.test_handlers import allow, calls, connected, event

from limpet_core.service import EventHandler

HANDLER = EventHandler(url="http://handler.test/", system_events=("disconnected",))


def test_a_node_that_finds_a_fork_closes_its_clients_and_leaves_the_end_of_connections_to_the_log() -> None:
    cluster = Cluster("a", "b", handlers=(HANDLER,))
    ann = cluster.connect("a")
    node = cluster.nodes["a"]
    fork = node.replica.forked()
    node.carry_out()
    assert ann.close is not None
    assert ann.close.code == 1008
    assert node.calls == [], "the others call the handler, and it hears of the end once"
    cluster.write(fork)
    cluster.run(6)
    assert [call.event for call in cluster.nodes["b"].calls] == ["validate"], "before the event, once a is dead"


def test_a_node_that_reads_its_own_fork_has_no_more_unread_entries_than_before() -> None:
    cluster = Cluster("a", "b")
    replica = cluster.nodes["a"].replica
    fork = replica.forked()
    before = replica.unread
    replica.apply("9", cluster.now, fork)
    assert replica.unread == before == 0


def test_what_waited_behind_an_event_of_a_client_that_has_left_is_not_carried_out_after_a_fork() -> None:
    cluster, ann = connected("a", "b")
    a, b = cluster.nodes["a"], cluster.nodes["b"]
    event(ann, "hello", 1)
    ann.says(type="sendToGroup", group="g", data=1)
    cluster.run()
    assert ann.transport is not None
    a.replica.disconnected(ann.transport, 1000)
    cluster.connect("b")  # with an event that no client has sent
    cluster.write(a.replica.forked())
    cluster.run(6)
    bob = cluster.connect("b", groups=("g",))
    allow(b)
    hello = next(call for call in b.calls if call.event == "hello")
    b.answers(hello)
    cluster.run()
    assert bob.messages == [], "the handler may have answered in what the log has lost: the message was delivered then"
    assert "disconnected" in calls(b)
