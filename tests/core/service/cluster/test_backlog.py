"""Messages to a group are kept once for members at other nodes: nobody can tell, but for the time that it takes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from types import FrameType

import pytest
from tests.core.service.cluster.nodes import Client, Cluster

from limpet_core.protocol.names import JSON, RELIABLE_JSON
from limpet_core.service import Connection, Limits, RawMode, group_publication
from limpet_core.service.cluster.commands import Open
from limpet_core.service.connections.backlog import Backlog
from limpet_core.service.data_plane.writes import Message, Send, Target

GROUPS = ("g", "h")
THINGS = ("open", "publish", "publish", "publish", "direct", "join", "ack", "ack", "lose", "back", "run")


def publish(client: Client, group: str = "g", *, data: object = 1, no_echo: bool = False) -> None:
    client.says(type="sendToGroup", group=group, data=data, noEcho=no_echo)


def backlog_at(cluster: Cluster, name: str, group: str = "g") -> Backlog[Connection]:
    return cluster.nodes[name].replica.core.hub("h")._backlogs[group]


def backlog_of(cluster: Cluster, name: str, group: str = "g") -> int:
    """Return how many messages a node keeps for several members."""
    return len(backlog_at(cluster, name, group)._messages)


def at(cluster: Cluster, name: str, client: Client) -> Connection:
    connection = cluster.nodes[name].replica.core.connection(client.connection_id)
    assert connection is not None
    return connection


@contextmanager
def counted() -> Iterator[list[int]]:
    """Count the calls of functions in Python."""
    calls = [0]

    def count(frame: FrameType, event: str, argument: object) -> None:
        calls[0] += event == "call"

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield calls
    finally:
        sys.setprofile(before)


def calls_of_a_publication(members: int) -> int:
    """Return the calls that a node makes for a message to so many members, all of whom are at another node."""
    cluster = Cluster("a", "b")
    sender = cluster.connect("b", "bob")
    for _ in range(members):
        cluster.connect("b", groups=("g",))
    publish(sender)  # the first one finds out who shares
    cluster.run()
    publish(sender)
    cluster.nodes["b"].append()
    with counted() as calls:
        cluster.nodes["a"].catch_up()
    return calls[0]


def test_a_message_costs_the_same_for_any_number_of_members_at_other_nodes() -> None:
    few, many = calls_of_a_publication(10), calls_of_a_publication(60)
    assert many == few


def calls_of_a_renewal(retained: int) -> int:
    """Return the calls that a node makes for a message behind a change of the group, whose members have so many."""
    cluster = Cluster("a", "b")
    sender = cluster.connect("b", "bob")
    members = [cluster.connect("b", groups=("g",)) for _ in range(3)]
    for _ in range(5 + retained):
        publish(sender)
    cluster.run()
    for member in members:
        member.says(type="sequenceAck", sequenceId=5)
    cluster.run(1)
    assert [at(cluster, "a", member).retained for member in members] == [retained] * 3
    backlog_at(cluster, "a").changed()
    publish(sender)
    cluster.nodes["b"].append()
    with counted() as calls:
        cluster.nodes["a"].catch_up()
    return calls[0]


def test_a_change_of_the_group_costs_the_same_for_any_number_of_messages_that_members_have() -> None:
    few, many = calls_of_a_renewal(10), calls_of_a_renewal(60)
    assert many == few


def test_what_all_have_taken_is_kept_no_longer() -> None:
    cluster = Cluster("a", "b")
    sender = cluster.connect("b", "bob")
    members = [cluster.connect("b", groups=("g",)) for _ in range(3)]
    cluster.run(2)  # nodes compare their states at the beginning, for which all take what there is
    for _ in range(5):
        publish(sender)
    cluster.run()
    assert backlog_of(cluster, "a") == 5
    for number, member in enumerate(members, 1):
        member.says(type="sequenceAck", sequenceId=5)
        cluster.run(1)
        assert backlog_of(cluster, "a") == (5 if number < 3 else 0)
    assert [at(cluster, "a", member).retained for member in members] == [0, 0, 0]


def test_a_member_that_is_gone_is_kept_no_longer() -> None:
    """Also if nobody publishes to the group again."""
    cluster = Cluster("a", "b")
    cluster.connect("b", groups=("g",))
    here = cluster.connect("a", groups=("g",))
    publish(here)
    cluster.run()
    assert backlog_at(cluster, "a").others == [at(cluster, "a", here)]
    assert here.transport is not None
    cluster.nodes["a"].replica.disconnected(here.transport, 1000)
    cluster.run()
    assert cluster.nodes["a"].replica.core.connection_count == 1
    assert backlog_at(cluster, "a").others == []


def test_a_hub_that_begins_anew_keeps_nothing_for_members_of_before() -> None:
    """The object of the hub may be the same: an application holds it."""
    cluster = Cluster("a", "b")
    sender = cluster.connect("b", "bob")
    cluster.connect("b", groups=("g",))
    publish(sender)
    cluster.run()
    core = cluster.nodes["a"].replica.core
    hub = core.hub("h")
    assert backlog_of(cluster, "a") == 1
    core.begin_anew()
    core.open(Open("c", 1, "h", RELIABLE_JSON, "ann", (), ("g",), RawMode()), ("b", 9), here=False)
    for _ in range(3):
        core.send_to_group("h", "g", group_publication("g", None, "json", b"1"))
    (member,) = hub.members("g")
    assert member.retained == 3
    assert backlog_of(cluster, "a") == 0, "all have taken all"


def test_members_that_come_back_here_have_all_messages() -> None:
    cluster = Cluster("a", "b")
    sender = cluster.connect("b", "bob")
    members = [cluster.connect("b", groups=("g",)) for _ in range(3)]
    for number in range(4):
        publish(sender, data=number)
    cluster.run()
    back = cluster.recover(members[0], "a")
    publish(sender, data=4)
    cluster.run()
    assert back.messages == [(number + 1, number) for number in range(5)]
    assert [at(cluster, "a", member).sequence_id for member in members] == [5, 5, 5]


@pytest.mark.parametrize(
    "limits", [Limits(retained_messages=5), Limits(retained_bytes=5 * 91)], ids=["messages", "bytes"]
)
@pytest.mark.parametrize("alone", [False, True], ids=["of the group", "and alone"])
def test_a_member_without_room_ends_at_the_same_message_at_all_nodes(limits: Limits, alone: bool) -> None:
    """Its node is away, so that no node says that it does not read: all find that nothing more can be kept."""
    cluster = Cluster("a", "b", "c", limits=limits)
    sender = cluster.connect("c", "bob")
    slow, quick = [cluster.connect("c", groups=("g",)) for _ in range(2)]
    slow.is_lost()
    cluster.run()
    for number in range(1, 30):
        if alone and number % 3:  # the members have no message in common
            cluster.nodes["c"].replica.ask(Send("h", "connection", slow.connection_id, Message("json", b"1")))
        else:
            publish(sender)
        cluster.run()
        quick.says(type="sequenceAck", sequenceId=len(quick.messages))
        cluster.run(0.5)
        assert len(cluster.digests()) == 1
        if cluster.nodes["a"].replica.core.connection(slow.connection_id) is None:
            break
    assert alone or number == 21, "four times the limit, and one"
    assert number < 29
    assert at(cluster, "a", quick).retained == 0


@pytest.mark.parametrize("seed", range(40))
def test_nodes_agree_whatever_happens_to_members_that_share(seed: int) -> None:
    """Node b keeps each message for each member, the others keep those of a group once."""
    random = Random(seed)
    cluster = Cluster("a", "b", "c", limits=Limits(retained_messages=8, recovery_window=5))
    clients: list[Client] = []
    for _ in range(120):
        living = [each for each in clients if each.transport is not None and each.close is None]
        what = random.choice(THINGS)
        if what == "open" or not living:
            subprotocol = {"subprotocol": JSON} if random.random() < 0.2 else {}
            if len(living) < 8:
                groups = tuple(random.sample(GROUPS, random.randint(0, 2)))
                clients.append(cluster.connect(random.choice("abc"), groups=groups, **subprotocol))
            continue
        client = random.choice(living)
        group = random.choice(GROUPS)
        if what == "publish":
            for _ in range(random.choice([1, 1, 3])):
                publish(client, group, data="x" * random.choice([1, 20]), no_echo=random.random() < 0.2)
        elif what == "direct":
            to: Target
            to, name = random.choice([("group", group), ("connection", client.connection_id), ("hub", "h")])
            write = Send("h", to, name, Message("text", b'"y"'))
            cluster.nodes[random.choice("abc")].replica.ask(write)
        elif what == "join":
            client.says(type=random.choice(["joinGroup", "leaveGroup"]), group=group)
        elif what == "ack" and (got := [each["sequenceId"] for each in client.got if "sequenceId" in each]):
            client.says(type="sequenceAck", sequenceId=random.choice(got))
        elif what == "lose":
            client.is_lost()
            client.transport = None
        elif what == "back":
            away = [each for each in clients if each.transport is None and each.connection_id]
            if away:
                clients.append(cluster.recover(random.choice(away), random.choice("abc")))
        if random.random() < 0.6:
            cluster.run(random.choice([0, 0, 0.25, 2]))
            assert len(cluster.digests()) == 1
    cluster.run(1)
    assert len(cluster.digests()) == 1
