"""Clients that do not take what they get: their own node says so, and a node that is behind ends nobody."""

from __future__ import annotations

import gc

import pytest
from tests.core.service.cluster.nodes import Client, Cluster

from limpet_core.protocol.names import JSON
from limpet_core.service import Limits, RawMode, Transport
from limpet_core.service.cluster import commands

LIMITS = Limits(retained_messages=10)
BYTES = Limits(retained_bytes=10 * 91)  # the same for the messages of flood()
BOTH = pytest.mark.parametrize("limits", [LIMITS, BYTES], ids=["messages", "bytes"])


def flood(sender: Client, count: int) -> None:
    for number in range(count):
        sender.says(type="sendToGroup", group="g", data=number)


@BOTH
@pytest.mark.parametrize("count", [10, 11])
def test_a_client_that_acknowledges_nothing_ends_at_the_limit(count: int, limits: Limits) -> None:
    cluster = Cluster("a", "b", limits=limits)
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    flood(bob, 10)
    flood(bob, count - 10)
    cluster.run(1)
    assert (ann.close is None) is (count == 10)
    if count == 11:
        assert ann.close.code == 1008
        assert cluster.nodes["b"].replica.core.connection_count == 1


@BOTH
def test_what_a_client_has_acknowledged_counts_before_the_log_has_it(limits: Limits) -> None:
    cluster = Cluster("a", "b", limits=limits)
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    for start in range(0, 30, 10):
        flood(bob, 10)
        cluster.nodes["b"].append()
        cluster.nodes["a"].catch_up()
        ann.says(type="sequenceAck", sequenceId=start + 10)
    cluster.run(1)
    assert ann.close is None
    assert [data for _, data in ann.messages] == [*range(10)] * 3


def test_what_a_client_has_acknowledged_counts_while_it_is_on_its_way_to_the_log() -> None:
    cluster = Cluster("a", "b", limits=LIMITS)
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    a, b = cluster.nodes["a"], cluster.nodes["b"]
    flood(bob, 10)
    cluster.run()
    ann.says(type="sequenceAck", sequenceId=10)
    cluster.now += 0.2
    a.replica.wake(cluster.now)
    acks = a.replica.entries_to_append(cluster.now)
    flood(bob, 10)
    b.append()  # before the acks
    a.catch_up()
    a.append()
    for entry in acks:
        cluster.write(entry)
    cluster.run(1)
    assert ann.close is None


@BOTH
@pytest.mark.parametrize("count", [10, 11])
def test_what_comes_behind_acknowledgements_that_the_log_has_not_counts_alone(count: int, limits: Limits) -> None:
    cluster = Cluster("a", "b", limits=limits)
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    flood(bob, 10)
    cluster.run()
    ann.says(type="sequenceAck", sequenceId=10)
    for each in (1, count - 1):
        flood(bob, each)
        cluster.run()
    assert (ann.close is None) is (count == 10)


def test_a_client_that_does_not_read_ends_at_the_limit() -> None:
    cluster = Cluster("a", "b", limits=LIMITS)
    slow = cluster.connect("a", groups=("g",), subprotocol=JSON, reads=False)
    bob = cluster.connect("b", "bob")
    flood(bob, 9)
    cluster.run()
    assert slow.transport is not None
    assert slow.transport.close is None
    flood(bob, 60)
    cluster.run()
    assert slow.transport.close is not None
    assert slow.transport.close.code == 1008
    assert cluster.nodes["b"].replica.core.connection_count == 1


def test_a_node_that_is_behind_does_not_end_its_clients() -> None:
    cluster = Cluster("a", "b", limits=LIMITS)
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    cluster.nodes["a"].is_down = True  # for two seconds, in which others publish much
    for _ in range(3):
        flood(bob, 10)
        cluster.run(0.5)
    cluster.nodes["a"].is_down = False
    a = cluster.nodes["a"]
    while a.read < len(cluster.log):  # and the client is as fast as its node
        time, entry = cluster.log[a.read]
        a.read += 1
        a.replica.apply(str(a.read), time, entry)
        a.carry_out()
        if ann.messages:
            ann.says(type="sequenceAck", sequenceId=ann.messages[-1][0])
        a.append()
    cluster.run(1)
    assert ann.close is None
    assert len(ann.messages) == 30


@BOTH
def test_a_client_that_comes_back_to_more_than_the_limit_has_time_to_acknowledge_it(limits: Limits) -> None:
    cluster = Cluster("a", "b", limits=limits)
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    ann.is_lost()
    flood(bob, 15)
    cluster.run()
    back = cluster.recover(ann, "b")
    flood(bob, 10)
    cluster.run(1)
    assert back.close is None
    assert [number for number, _ in back.messages] == [*range(1, 26)]
    back.says(type="sequenceAck", sequenceId=25)
    flood(bob, 10)
    cluster.run(1)
    assert back.close is None
    flood(bob, 1)
    cluster.run(1)
    assert back.close.code == 1008


@BOTH
def test_a_client_that_comes_back_and_acknowledges_nothing_ends_at_the_limit(limits: Limits) -> None:
    cluster = Cluster("a", "b", limits=limits)
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    ann.is_lost()
    flood(bob, 20)
    cluster.run()
    back = cluster.recover(ann, "b")
    flood(bob, 11)
    cluster.run(1)
    assert back.close.code == 1008


def test_no_connection_has_more_than_four_times_the_limit_whatever_its_node_does() -> None:
    cluster = Cluster("a", "b", limits=LIMITS)
    cluster.connect("a", groups=("g",))
    bob = cluster.connect("b", "bob")
    cluster.nodes["a"].is_down = True
    flood(bob, 41)
    cluster.nodes["b"].append()
    cluster.nodes["b"].catch_up()
    assert cluster.nodes["b"].replica.core.connection_count == 1


def test_many_acknowledgements_are_written_at_once() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    flood(bob, 600)
    cluster.nodes["b"].append()
    cluster.nodes["a"].catch_up()
    ann.says(type="sequenceAck", sequenceId=600)
    assert cluster.nodes["a"].replica.deadline <= cluster.now


def test_a_client_that_cannot_recover_may_acknowledge_what_it_likes() -> None:
    cluster = Cluster("a")
    ann = cluster.connect("a", subprotocol=JSON)
    before = len(cluster.log)
    ann.says(type="sequenceAck", sequenceId=2**64 - 1)
    ann.says(type="ping")
    cluster.run()
    assert ann.close is None
    assert ann.got[-1] == {"type": "pong"}
    assert len(cluster.log) == before


def test_a_client_that_uses_no_subprotocol_has_no_messages_for_the_node_alone() -> None:
    cluster = Cluster("a", "b")
    raw, bob = cluster.connect("a", subprotocol=None, raw=RawMode("g")), cluster.connect("b", "bob", groups=("g",))
    raw.says(type="ping")
    raw.says(type="sequenceAck", sequenceId=1)
    cluster.run()
    assert raw.got == []
    assert len(bob.messages) == 2


def test_what_a_client_says_behind_its_end_does_not_fill_the_log() -> None:
    cluster = Cluster("a", limits=Limits(max_message_size=100))
    ann = cluster.connect("a")
    before = len(cluster.log)
    for _ in range(3):
        ann.says(type="event", event="e", data="x" * 100)
        ann.says(type="sequenceAck", sequenceId=7)
        ann.says(type="event", event="e", data="x")
    cluster.run()
    written = [command for _, entry in cluster.log[before:] for command in commands.decode(entry).commands]
    assert [type(command) for command in written] == [commands.Overrun]
    assert ann.close is not None


def test_nothing_stays_of_a_client_that_was_lost_before_its_end_was_read_back() -> None:
    cluster = Cluster("a", "b", limits=LIMITS)
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    flood(bob, 11)
    cluster.nodes["b"].append()
    ann.is_lost()
    cluster.nodes["a"].catch_up()  # too much waits, and its end is already on its way
    cluster.run(40)
    connection_id = ann.connection_id
    assert cluster.nodes["a"].replica.core.connection(connection_id) is None
    cluster.clients.clear()
    ann.transport = None
    gc.collect()
    left = [each for each in gc.get_objects() if isinstance(each, Transport) and each.connection is not None]
    assert connection_id not in [each.connection.connection_id for each in left if each.connection is not None]


def test_what_a_client_has_acknowledged_before_it_was_lost_does_not_come_again() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    flood(bob, 3)
    cluster.run()
    ann.says(type="sequenceAck", sequenceId=2)
    ann.is_lost()
    assert [data for _, data in cluster.recover(ann, "b").messages] == [2]
    assert len(cluster.digests()) == 1
