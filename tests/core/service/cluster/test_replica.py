"""Several nodes over one log: what a client of one does has the same effect at all, and its connection can move."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from tests.core.service.cluster.nodes import Client, Cluster

from limpet_core.protocol.names import JSON, RELIABLE_JSON, RELIABLE_PROTOBUF
from limpet_core.protocol.protobuf.codec import ping
from limpet_core.service import ClientGrant, Limits, RawMode, Transport
from limpet_core.service.cluster import commands
from limpet_core.service.cluster.acknowledgements import Acknowledgements
from limpet_core.service.cluster.outgoing import Outgoing
from limpet_core.service.connections.connection import Connection
from limpet_core.service.data_plane import writes


def publish(client: Client, data: Any, ack_id: int | None = None, group: str = "g") -> None:
    acked = {} if ack_id is None else {"ackId": ack_id}
    client.says(type="sendToGroup", group=group, data=data, **acked)


def test_a_message_reaches_the_members_at_all_nodes_in_one_order() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob", groups=("g",))
    publish(ann, "one", 1)
    publish(bob, "two", 1)
    assert ann.messages == bob.messages == []
    cluster.run()
    assert ann.messages == bob.messages == [(1, "one"), (2, "two")]
    assert ann.acks == bob.acks == [(1, None)]
    assert len(cluster.digests()) == 1


def test_a_client_recovers_at_another_node_and_misses_nothing() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    publish(bob, 1)
    cluster.run()
    ann.is_lost()
    publish(bob, 2)
    cluster.run()
    back = cluster.recover(ann, "b")
    publish(bob, 3)
    cluster.run()
    assert back.messages == [(1, 1), (2, 2), (3, 3)]
    assert len(cluster.digests()) == 1


def test_a_request_that_is_repeated_at_another_node_is_carried_out_once() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob", groups=("g",))
    publish(ann, "once", 7)
    cluster.nodes["a"].append()  # and dies before it has read this back
    cluster.kill("a")
    back = cluster.recover(ann, "b")
    publish(back, "once", 7)
    cluster.run()
    assert bob.messages == [(1, "once")]
    assert back.acks == [(7, "Duplicate")]


def test_the_old_transport_of_a_client_that_has_moved_is_mute_and_deaf() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    ann.reads = False
    publish(ann, "too late")  # written by a, after b has written the recovery
    opening = cluster.nodes["b"].replica.recover("h", ann.connection_id, f"token of {ann.connection_id}")
    back = cluster.waiting[opening] = Client(cluster.nodes["b"])
    cluster.nodes["b"].append()
    cluster.run()
    publish(bob, "for the new one")
    cluster.run()
    assert back.messages == [(1, "for the new one")]
    assert ann.transport is not None
    assert ann.transport.close is not None
    assert ann.transport.messages_to_send() == []
    ann.is_lost()  # which concerns nobody
    cluster.run()
    publish(bob, "still there")
    cluster.run()
    assert back.messages[1:] == [(2, "still there")]


def test_the_loss_of_an_old_transport_that_is_told_late_does_not_detach_the_new_one() -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a", groups=("g",))
    opening = cluster.nodes["b"].replica.recover("h", ann.connection_id, f"token of {ann.connection_id}")
    back = cluster.waiting[opening] = Client(cluster.nodes["b"])
    cluster.nodes["b"].append()
    ann.is_lost()
    cluster.run(40)
    publish(back, "here", 1)
    cluster.run()
    assert back.messages == [(1, "here")]


@pytest.mark.parametrize(
    ("token", "connection_id", "hub"),
    [("forged", "a-1", "h"), ("token of a-1", "a-1", "other"), ("token of a-9", "a-9", "h")],
    ids=["a wrong token", "another hub", "no such connection"],
)
def test_a_recovery_that_is_refused_closes_with_1008(token: str, connection_id: str, hub: str) -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a")
    assert ann.connection_id == "a-1"
    opening = cluster.nodes["b"].replica.recover(hub, connection_id, token)
    back = cluster.waiting[opening] = Client(cluster.nodes["b"])
    cluster.run()
    assert back.transport is not None
    assert back.transport.connection is None
    assert back.transport.close is not None
    assert back.transport.close.code == 1008


def test_a_detached_connection_ends_after_its_window_by_the_time_of_the_log() -> None:
    cluster = Cluster("a", "b", limits=Limits(recovery_window=30))
    ann = cluster.connect("a")
    ann.is_lost()
    cluster.run(28)
    assert cluster.nodes["b"].replica.core.connection_count == 1
    cluster.run(4)
    assert [node.replica.core.connection_count for node in cluster.up] == [0, 0]


def test_a_client_that_is_lost_before_its_websocket_is_open_leaves_nothing() -> None:
    cluster = Cluster("a", "b", limits=Limits(recovery_window=1))
    replica = cluster.nodes["a"].replica
    before = replica.connect("h", JSON, ClientGrant("ann"))
    replica.forget(before)  # before the log knows
    after = replica.connect("h", JSON, ClientGrant("ann"))
    for opening in (before, after):
        cluster.waiting[opening] = Client(cluster.nodes["a"])
    cluster.run()
    assert after.transport is not None
    replica.forget(after)
    cluster.run()
    assert [node.replica.core.connection_count for node in cluster.up] == [0, 0]


def test_the_limit_of_connections_is_that_of_the_whole_cluster() -> None:
    cluster = Cluster("a", "b")
    cluster.connect("a", most=2)
    cluster.connect("b", most=2)
    third = cluster.connect("a", most=2)
    assert third.transport is None
    assert third.rejection.status == 429
    assert "All 2 connections" in third.rejection.text


@pytest.mark.parametrize("as_text", [False, True])
def test_pings_are_answered_without_the_log(as_text: bool) -> None:
    cluster = Cluster("a")
    ann = cluster.connect("a")
    ann.as_text = as_text
    before = len(cluster.log)
    ann.says(type="ping")
    cluster.nodes["a"].carry_out()
    assert ann.got[-1] == {"type": "pong"}
    cluster.run()
    assert len(cluster.log) == before


def test_a_ping_of_a_client_with_binary_frames_is_answered_without_the_log() -> None:
    cluster = Cluster("a")
    ann = cluster.connect("a", subprotocol=RELIABLE_PROTOBUF, reads=False)
    assert ann.transport is not None
    ann.transport.messages_to_send()
    before = len(cluster.log)
    for data, entries in ((ping, 0), ("a text", 1)):
        cluster.nodes["a"].replica.receive(ann.transport, data, cluster.now)
        cluster.run()
        assert len(cluster.log) == before + entries
        if not entries:
            assert len(ann.transport.messages_to_send()) == 1  # the pong


@pytest.mark.parametrize(
    ("text", "type_"), [(b'{"type":"\\u0070ing"}', "pong"), (b'{"type":"ping"', "system"), (b'["ping"]', "system")]
)
def test_what_does_not_look_like_a_ping_and_what_is_none_goes_through_the_log(text: bytes, type_: str) -> None:
    cluster = Cluster("a")
    ann = cluster.connect("a")
    assert ann.transport is not None
    before = len(cluster.log)
    cluster.nodes["a"].replica.receive(ann.transport, text, cluster.now)
    cluster.run()
    assert len(cluster.log) == before + 1
    assert ann.got[-1]["type"] == type_


@pytest.mark.parametrize("as_text", [False, True])
def test_acknowledgements_travel_together(as_text: bool) -> None:
    cluster = Cluster("a", "b")
    clients = [cluster.connect("a", groups=("g",)) for _ in range(3)]
    publish(clients[0], "x")
    cluster.run()
    before = len(cluster.log)
    for client in clients:
        client.as_text = as_text
        client.says(type="sequenceAck", sequenceId=1)
        client.says(type="sequenceAck", sequenceId=0)  # which takes nothing back
    cluster.run(0.25)
    assert len(cluster.log) == before + 1
    for node in cluster.up:
        assert [connection.retained for connection in node.replica.core.hub("h").connections.values()] == [0, 0, 0]


def test_acknowledgements_of_any_number_of_clients_fit_into_entries() -> None:
    # Of as many clients as a node may have: one command with all of them would be larger than an entry may be.
    outgoing = Outgoing("n")
    acknowledgements = Acknowledgements(outgoing)
    connection = Connection("h", "c" * 24, RELIABLE_JSON, ClientGrant(), RawMode(), Limits())
    for number in range(130_000):
        transport = Transport([], None, connection)
        transport.place = ("n", 2**32 + number)
        acknowledgements.add(connection, transport, 1, 0.0)
    acknowledgements.flush()
    entries = outgoing.take(0.0)
    assert max(map(len, entries)) < 300_000
    read = [command for entry in entries for command in commands.decode(entry).commands]
    acks = [ack for command in read if isinstance(command, commands.SequenceAcks) for ack in command.acks]
    assert acks == [("c" * 24, 2**32 + number, 1) for number in range(130_000)]


def test_a_raw_client_and_one_with_binary_frames_work_over_the_log() -> None:
    cluster = Cluster("a", "b")
    raw = cluster.connect("a", subprotocol=None, raw=RawMode("g"), groups=("g",), reads=False)
    other = cluster.connect("b", subprotocol=RELIABLE_PROTOBUF, groups=("g",), reads=False)
    json_client = cluster.connect("b", groups=("g",))
    assert raw.transport is not None
    cluster.nodes["a"].replica.receive(raw.transport, "text", cluster.now)
    cluster.nodes["a"].replica.receive(raw.transport, b"bytes", cluster.now)
    cluster.run()
    assert json_client.messages == [(1, "text"), (2, "Ynl0ZXM=")]
    assert raw.transport.messages_to_send() == [b"text", b"bytes"]
    assert other.transport is not None
    assert len(other.transport.messages_to_send()) == 3  # with the connected message


@pytest.mark.parametrize("data", ["x" * 2000, b"x" * 2000, "\U0001f600" * 300, "\ud800", "no json", b"\xff"])
def test_a_message_that_is_refused_ends_the_client_at_all_nodes(data: str | bytes) -> None:
    cluster = Cluster("a", "b", limits=Limits(max_message_size=1000))
    ann = cluster.connect("a")
    assert ann.transport is not None
    cluster.nodes["a"].replica.receive(ann.transport, data, cluster.now)
    cluster.run()
    assert ann.close.code in (1007, 1009)
    assert [node.replica.core.connection_count for node in cluster.up] == [0, 0]
    assert max(len(entry) for _, entry in cluster.log) < 1500
    assert all(node.replica.shared.failures == 0 for node in cluster.up)


def test_a_client_that_breaks_the_websocket_protocol_ends_for_good() -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a")
    assert ann.transport is not None
    cluster.nodes["a"].replica.disconnected(ann.transport, 1002, broken=True)
    cluster.run()
    assert [node.replica.core.connection_count for node in cluster.up] == [0, 0]


def test_what_is_told_once_for_many_commands_is_the_same_at_all_nodes() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", groups=("g",))
    bob.says(type="subscribeGroupState", group="g", ackId=1)
    for number in range(5):
        ann.says(type="setGroupState", group="g", state={"n": str(number)}, ackId=number)
    ann.says(type="sendToGroup", group="g", stream={"streamId": "s"}, ackId=9)
    for number in range(1, 4):
        ann.says(type="streamData", streamId="s", streamSequenceId=number, dataType="json", data=number)
    cluster.run()
    assert [each["type"] for each in bob.got if "State" in each["type"]][-1] in (
        "groupStateUpdate",
        "groupStateSnapshot",
    )
    assert [each["expectedSequenceId"] for each in ann.got if each["type"] == "streamAck"] == [1, 4]
    assert [data for _, data in bob.messages] == [1, 2, 3]
    assert len(cluster.digests()) == 1


# ---- Operations of application servers


def test_an_operation_takes_effect_at_all_nodes_and_is_answered_at_its_own() -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("b", "ann")
    message = writes.Message("json", b'"hello"')
    asked = cluster.nodes["a"].replica.ask(writes.Send("h", "user", "ann", message))
    assert ann.messages == []
    cluster.run()
    assert ann.messages == [(1, "hello")]
    assert cluster.answered == [asked]
    assert asked.error is None


def test_an_operation_that_is_refused_is_refused_at_its_own_node() -> None:
    cluster = Cluster("a", "b")
    asked = cluster.nodes["a"].replica.ask(writes.AddToGroup("h", "connection", "nobody", "g"))
    cluster.run()
    assert asked.error is not None
    assert asked.error.status == 404


WRITES: list[tuple[writes.Write, Any]] = [
    (writes.Send("h", "hub", "", writes.Message("text", b'"x"')), "x"),
    (writes.Send("H", "group", "g", writes.Message("json", b"1", b"", 60), "'g' in groups"), 1),
    (writes.Send("h", "connection", "b-1", writes.Message("json", b"1")), 1),
    (writes.Send("h", "hub", "", writes.Message("json", b"1"), None, ("b-1",)), None),
    (writes.Send("other", "connection", "b-1", writes.Message("json", b"1")), None),
    (writes.Send("h", "group", "g", writes.Message("json", b"1"), "userId eq null"), None),
]


@pytest.mark.parametrize(("write", "expected"), WRITES, ids=[str(number) for number in range(len(WRITES))])
def test_a_message_of_the_server_reaches_whom_it_names(write: writes.Write, expected: Any) -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("b", "ann", groups=("g",))
    cluster.nodes["a"].replica.ask(write)
    cluster.run()
    assert [data for _, data in ann.messages] == ([] if expected is None else [expected])


@pytest.mark.parametrize(
    ("write", "groups"),
    [
        (writes.AddToGroup("h", "user", "ann", "new"), ["g", "new"]),
        (writes.AddToGroup("h", "connection", "b-1", "new"), ["g", "new"]),
        (writes.RemoveFromGroups("h", "user", "ann", ("g",)), []),
        (writes.RemoveFromGroups("h", "connection", "b-1"), []),
        (writes.ChangeGroups("h", True, ("x", "y"), "userId eq 'ann'"), ["g", "x", "y"]),
        (writes.ChangeGroups("h", False, ("g",)), []),
        (writes.ChangePermission("h", False, "joinLeaveGroup", "b-1", "g"), ["g"]),
        (writes.ChangePermission("h", True, "sendToGroup", "b-1", "g"), ["g"]),
    ],
)
def test_groups_and_permissions_change_at_all_nodes(write: writes.Write, groups: list[str]) -> None:
    cluster = Cluster("a", "b")
    cluster.connect("b", "ann", groups=("g",))
    cluster.nodes["a"].replica.ask(write)
    cluster.run()
    for node in cluster.up:
        connection = node.replica.core.connection("b-1")
        assert connection is not None
        assert list(connection.groups) == groups


@pytest.mark.parametrize(("to", "name"), [("hub", ""), ("group", "g"), ("user", "ann"), ("connection", "b-1")])
def test_connections_are_closed_at_their_own_node(to: writes.Target, name: str) -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("b", "ann", groups=("g",))
    cluster.nodes["a"].replica.ask(writes.Close("h", to, name, "enough"))
    cluster.run()
    assert ann.close.code == 1000
    assert "enough" in ann.got[-1]["message"]
    assert cluster.nodes["a"].replica.core.connection_count == 0


def test_commands_survive_their_encoding() -> None:
    for write, _ in WRITES:
        entry = commands.decode(commands.envelop("n", 3, [commands.encode(commands.Ask(1, write))]))
        assert entry == commands.Entry("n", 3, [commands.Ask(1, write)])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x93",
        msgspec.msgpack.encode((2, ("n", 1, []))),
        msgspec.msgpack.encode((1, ("n", 1, [[99]]))),
        b"\x92\x01" + b"\x91" * 100_000 + b"\x01",
        b"\x92\x01\x94\xa1n\x01\x90" + b"\x91" * 100_000 + b"\x01",  # in an element that a later release adds
    ],
    ids=["empty", "no value", "cut off", "of another release", "of an unknown command", "nested", "nested behind it"],
)
def test_an_entry_that_cannot_be_read_does_not_count(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster("a")
    ann = cluster.connect("a", groups=("g",))
    cluster.write(data)
    publish(ann, "still here", 1)
    cluster.run()
    assert ann.messages == [(1, "still here")]
    assert "an entry of the log does not count" in caplog.text


def test_a_node_does_not_join_a_cluster_of_another_release() -> None:
    cluster = Cluster()
    cluster.write(msgspec.msgpack.encode((2, ("n", 1, []))))
    cluster.start("a")
    cluster.run(1)
    assert "another release" in cluster.nodes["a"].replica.fenced


def test_a_role_that_no_log_can_hold_gives_nothing() -> None:
    cluster = Cluster("a", "b")
    roles = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup.\ud800")
    opening = cluster.nodes["a"].replica.connect("h", RELIABLE_JSON, ClientGrant("ann", roles))
    client = cluster.waiting[opening] = Client(cluster.nodes["a"])
    cluster.run()
    client.says(type="joinGroup", group="g", ackId=1)
    cluster.run()
    assert client.acks == [(1, None)]
