"""Snapshots: what a node that begins with one does for clients, and which bytes are no snapshot for a node."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.service.cluster.account import picture
from tests.core.service.cluster.nodes import Client, Cluster, Node
from tests.core.service.cluster.test_handlers import EVENTS, allow, calls, event

from limpet_core.service import Limits, Transport
from limpet_core.service.cluster import records, snapshot
from limpet_core.service.cluster.snapshot import UnreadableSnapshot, digest


def begun(cluster: Cluster, old: str, name: str = "new") -> Node:
    """Return a node of a cluster that has begun with a snapshot of another node, and takes part."""
    node = cluster.start(name)
    node.replica.restore(cluster.nodes[old].replica.snapshot())
    node.read = cluster.nodes[old].read
    cluster.run()
    return node


def cluster_with_state() -> tuple[Cluster, Client, Client]:
    cluster = Cluster("a", "b", handlers=[EVENTS])
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob", groups=("g",))
    allow(cluster.nodes["a"])
    allow(cluster.nodes["b"])
    bob.says(type="sendToGroup", group="g", data=1, ackId=1)
    event(ann, "hello", 1)
    ann.says(type="sendToGroup", group="g", data="queued", ackId=2)
    cluster.run()
    return cluster, ann, bob


def test_a_client_recovers_at_a_node_that_began_with_a_snapshot() -> None:
    cluster, ann, bob = cluster_with_state()
    new = begun(cluster, "a")
    assert new.replica.is_member
    bob.says(type="sendToGroup", group="g", data=2, ackId=2)
    cluster.run()
    cluster.kill("a")
    back = cluster.recover(ann, "new")
    assert back.messages == [(1, 1), (2, 2)]
    back.says(type="sendToGroup", group="g", data="again", ackId=1)  # behind the event, which has this ack id
    cluster.run(6)
    a_call = next(node for node in cluster.up if "hello" in calls(node))
    a_call.answers(
        next(call for call in a_call.calls if call.event == "hello"), 200, b"reply", content_type="text/plain"
    )
    cluster.run()
    assert back.messages == [(1, 1), (2, 2), (3, "reply"), (4, "queued")]
    assert back.acks == [(1, None), (2, None), (1, "Duplicate")]
    assert len(cluster.digests()) == 1


def test_all_attachments_are_those_of_other_nodes() -> None:
    cluster, ann, _ = cluster_with_state()
    new = cluster.start("new")
    new.replica.restore(cluster.nodes["a"].replica.snapshot())
    old, restored = (cluster.nodes[name].replica.core.connection(ann.connection_id) for name in ("a", "new"))
    assert old is not None
    assert restored is not None
    assert isinstance(old.attachment, Transport)
    assert restored.attachment is not None
    assert not isinstance(restored.attachment, Transport)
    assert restored.attachment.place == old.attachment.place
    assert restored.transport is None
    assert new.replica.position == cluster.nodes["a"].replica.position


def test_observers_hear_of_nothing_when_a_node_begins() -> None:
    cluster, _, _ = cluster_with_state()
    heard: list[Any] = []
    new = cluster.start("new")
    new.replica.core.observers.append(heard.append)
    new.replica.restore(cluster.nodes["a"].replica.snapshot())
    assert heard == []
    assert new.replica.transports_with_output() == []
    assert [call for call in new.replica.handler_calls(0.0) if call.event != "validate"] == []


def test_the_origin_of_calls_is_that_of_the_node() -> None:
    cluster, _, _ = cluster_with_state()
    b, new = cluster.nodes["b"], cluster.start("new")
    origins = {b: "b.example", new: "new.example"}
    for node, origin in origins.items():
        node.replica.core.events.origin = origin
    new.replica.restore(b.replica.snapshot())
    found = [pending.call for pending in new.replica.core.logged_calls.pending.values()]
    assert [dict(call.headers)["WebHook-Request-Origin"] for call in found] == ["new.example"] * len(found) != []
    assert digest(new.replica.shared) == digest(b.replica.shared) == digest(cluster.nodes["a"].replica.shared)


@pytest.mark.parametrize("count", [1, 24, 25, 26, 80])
def test_any_number_of_connections_and_messages(count: int) -> None:
    cluster = Cluster("a")
    clients = [cluster.connect("a", f"user {number}", groups=("g",)) for number in range(count)]
    for number in range(count):
        clients[0].says(type="sendToGroup", group="g", data=number)
    cluster.run()
    new = begun(cluster, "a")
    assert picture(new.replica.shared) == picture(cluster.nodes["a"].replica.shared)
    assert len(cluster.recover(clients[-1], "new").messages) == count


def test_large_messages_are_encoded_once_however_many_have_them() -> None:
    cluster = Cluster("a")
    clients = [cluster.connect("a", groups=("g",)) for _ in range(20)]
    for _ in range(3):
        clients[0].says(type="sendToGroup", group="g", data="x" * 600_000)
    cluster.run()
    data = cluster.nodes["a"].replica.snapshot()
    assert 1_800_000 < len(data) < 1_810_000
    assert len(cluster.recover(clients[1], begun(cluster, "a").name).messages) == 3


@pytest.mark.parametrize("status", [200, None])
def test_an_answer_that_is_held_back_is_given_by_the_new_node(status: int | None) -> None:
    cluster, _, bob = cluster_with_state()
    b = cluster.nodes["b"]
    for node in cluster.up:
        node.replica.core.invocations.faults.append(lambda connection, invocation_id: 5)
    bob.says(type="invoke", invocationId="i", target="event", event="ask", data=1)
    cluster.run()
    call = next(call for call in b.calls if call.event == "ask")
    if status is None:
        b.replica.handler_failed(call, "timeout", "too late", cluster.now)
    else:
        b.answers(call, status, b"answer", content_type="text/plain")
    cluster.run()
    # A node that was to make the call once more, when the first outcome came, still counts its attempts.
    call.attempts += 1
    new = begun(cluster, "b")
    assert len(cluster.digests()) == 1
    assert picture(new.replica.shared) == picture(b.replica.shared)
    cluster.run(6)
    told = [message for message in bob.got if message["type"] == "invokeResponse"]
    assert [message["success"] for message in told] == [status == 200]
    assert len(cluster.digests()) == 1


def test_an_ack_id_that_was_remembered_twice_and_forgotten_once_is_forgotten_at_the_new_node() -> None:
    # An event and the start of a stream may share an ack id, and both succeed.
    cluster = Cluster("a", limits=Limits(remembered_acks=3))
    ann = cluster.connect("a")
    old = cluster.nodes["a"].replica.core.connection(ann.connection_id)
    assert old is not None
    for ack_id in (1, 1, 2, 3):
        old.acks.remember(ack_id)
    new = begun(cluster, "a").replica.core.connection(ann.connection_id)
    assert new is not None
    for connection in (old, new):
        assert [ack_id in connection.acks.succeeded for ack_id in (1, 2, 3)] == [False, True, True]
        connection.acks.remember(4)
        assert [ack_id in connection.acks.succeeded for ack_id in (1, 2, 3, 4)] == [False, True, True, True]


def test_the_digest_sees_what_changes() -> None:
    cluster, ann, _ = cluster_with_state()
    shared = cluster.nodes["b"].replica.shared
    before = digest(shared)
    assert digest(shared) == before
    cluster.recover(ann, "b")
    assert digest(shared) != before


# ---- What is no snapshot for a node


def refused(data: bytes, **settings: Any) -> str:
    """Return why a new node refuses bytes, and check that nothing of them has come into its state."""
    node = Node(Cluster(**settings), "new", Limits(), b"same")
    before = picture(node.replica.shared)
    with pytest.raises(UnreadableSnapshot) as caught:
        node.replica.restore(data)
    assert picture(node.replica.shared) == before
    return str(caught.value)


def data_with_state() -> bytes:
    return cluster_with_state()[0].nodes["a"].replica.snapshot()


_DATA = data_with_state()


def test_nested_bytes_are_refused() -> None:
    assert "damaged" in refused(b"\x92\x01" + b"\x91" * 100_000 + b"\x01")


@given(st.data())
def test_damaged_bytes_are_refused(data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(_DATA) - 1))
    damaged = bytearray(_DATA)
    damaged[at] ^= data.draw(st.integers(1, 255))
    refused(bytes(damaged), handlers=[EVENTS])


@given(st.integers(0, len(_DATA) - 1))
def test_a_part_is_refused(length: int) -> None:
    refused(_DATA[:length], handlers=[EVENTS])


@given(st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    refused(data)


def test_a_changed_bit_of_a_message_is_noticed() -> None:
    at = _DATA.index(b"queued")
    assert "its digest is another one" in refused(_DATA[:at] + b"Q" + _DATA[at + 1 :], handlers=[EVENTS])


def test_another_format_is_refused() -> None:
    assert "format 2" in refused(msgspec.msgpack.encode((2, "of a later release")))


def test_a_node_without_the_event_handlers_refuses() -> None:
    assert "no event handlers" in refused(_DATA)


def test_a_snapshot_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_SNAPSHOT", len(_DATA) - 1)
    assert f"it has {len(_DATA)} bytes" in refused(_DATA, handlers=[EVENTS])
    monkeypatch.setattr(snapshot, "MAX_SNAPSHOT", len(_DATA))
    Node(Cluster(handlers=[EVENTS]), "new", Limits(), b"same").replica.restore(_DATA)


def rewritten(state: Any = lambda same: same, connections: Any = lambda same: same) -> bytes:
    """Return a snapshot that somebody has changed, with the digest that belongs to it."""
    _, raw = msgspec.msgpack.decode(_DATA, type=tuple[int, msgspec.Raw])
    pieces = msgspec.msgpack.decode(raw, type=records.Pieces)
    changed = msgspec.structs.replace(
        pieces,
        connections=[
            msgspec.msgpack.encode(connections(msgspec.msgpack.decode(piece, type=list[records.SavedConnection])))
            for piece in pieces.connections
        ],
        state=msgspec.msgpack.encode(state(msgspec.msgpack.decode(pieces.state, type=records.SavedState))),
    )
    summary = hashlib.sha256()
    for piece in (changed.settings, *changed.connections, *changed.publications, changed.state):
        summary.update(b"%d:" % len(piece) + piece)
    return msgspec.msgpack.encode((records.FORMAT, msgspec.structs.replace(changed, digest=summary.digest())))


def test_a_rewritten_snapshot_is_read_if_nothing_has_changed() -> None:
    assert rewritten() == _DATA


@pytest.mark.parametrize(
    "wrong",
    [
        {"texts": []},
        {"detached": [(1000, 1.0)]},
        {"detached": [(-1, 1.0)]},
        {"timers": [(1.0, 0, "no such stream")]},
        {"hubs": []},
        {"states": [records.SavedGroupStates("h", "g", [0], [])]},
        {"calls": [records.SavedCall(1, 0, 7, "hello", (), b"", ("h", "a-1", None), None)]},
        {"calls": [records.SavedCall(1, 0, 0, "hello", (), b"", ("other", "a-1", None), None)]},
        {"now": "soon"},
    ],
    ids=str,
)
def test_values_that_do_not_fit_together_are_refused(wrong: dict[str, Any]) -> None:
    data = rewritten(state=lambda state: msgspec.structs.replace(state, **wrong))
    assert "damaged" in refused(data, handlers=[EVENTS])


def test_a_call_of_a_client_without_event_handlers_is_refused() -> None:
    def orphaned(connections: list[records.SavedConnection]) -> list[records.SavedConnection]:
        return [msgspec.structs.replace(each, context=None) for each in connections]

    assert "without one" in refused(rewritten(connections=orphaned), handlers=[EVENTS])


def test_the_copy_of_a_snapshot_is_the_same_bytes() -> None:
    node = Node(Cluster(handlers=[EVENTS]), "new", Limits(), b"same")
    node.replica.restore(_DATA)
    assert node.replica.snapshot() == _DATA


# ---- When


def test_a_node_that_has_begun_takes_no_snapshot_in() -> None:
    cluster, _, _ = cluster_with_state()
    with pytest.raises(ValueError, match="beginning"):
        cluster.nodes["b"].replica.restore(_DATA)


def test_a_node_that_ends_gives_no_snapshot() -> None:
    cluster, _, _ = cluster_with_state()
    cluster.nodes["a"].replica.forked()
    with pytest.raises(RuntimeError, match="this node ends"):
        cluster.nodes["a"].replica.snapshot()
