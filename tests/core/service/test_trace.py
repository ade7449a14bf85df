"""What observers of the service are told, and what a snapshot shows; under a virtual clock."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.service.virtual import ServiceUnderTest

from limpet_core.service import (
    JSON,
    RELIABLE_JSON,
    Acked,
    Answer,
    ConnectionClosed,
    ConnectionDropped,
    ConnectionOpened,
    ConnectionRecovered,
    ConnectionState,
    EventHandler,
    EventRaised,
    Failure,
    HandlerCall,
    HandlerCalled,
    HandshakeRefused,
    HubState,
    Joined,
    Left,
    ListedConnection,
    Published,
    RecoveryRefused,
    Refused,
    SequenceAcked,
    ShutDown,
    Snapshot,
    StreamAcked,
    StreamEnded,
    StreamNacked,
    StreamRefused,
    StreamStarted,
    Totals,
    TraceEvent,
    list_connections,
    server_publication,
    snapshot,
)
from limpet_core.service.data_plane import operations

ANN = ("chat", "c1", "ann")


class Watched(ServiceUnderTest):
    """A service with an observer, whose notes `seen` returns and forgets."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(**limits)
        self.notes: list[TraceEvent] = []
        self.core.observers.append(self.notes.append)

    def seen(self) -> list[TraceEvent]:
        notes = self.notes.copy()
        self.notes.clear()
        return notes


def test_a_client_that_got_no_connection() -> None:
    service = Watched()
    service.core.observers.handshake_refused(None, 401, "x" * 1000)
    assert service.seen() == [HandshakeRefused("", 401, "x" * 239 + "\u2026")]


# ---- Connections


def test_a_connection_opens_drops_recovers_and_closes() -> None:
    service = Watched(recovery_window=30.0)
    client = service.connect(user="ann", hub="CHAT", groups=("a", "b"))
    hello = client.hello()
    assert service.seen() == [ConnectionOpened(*ANN, RELIABLE_JSON, ("a", "b"))]
    service.core.send_to_all("chat", server_publication("json", b"1"))
    service.seen()
    client.drop()
    assert service.seen() == [ConnectionDropped(*ANN, 1006, 30.0)]
    again = service.recover(hello)
    assert service.seen() == [ConnectionRecovered(*ANN, 1, False)]
    once_more = service.recover(hello)
    assert service.seen() == [ConnectionRecovered(*ANN, 1, True)]
    again.drop()
    assert service.seen() == []
    once_more.drop(1000)
    assert service.seen() == [ConnectionClosed(*ANN, 1000, "The client closed the connection.")]


def test_a_connection_that_cannot_recover_closes_when_it_is_lost() -> None:
    service = Watched()
    service.connect(user="ann", subprotocol=JSON).drop()
    assert service.seen()[1:] == [ConnectionClosed(*ANN, 1006, "The connection ended.")]


def test_a_connection_that_nobody_recovers_closes_when_its_time_is_over() -> None:
    service = Watched()
    service.connect(user="ann").drop()
    service.seen()
    service.advance(30)
    assert service.seen() == [ConnectionClosed(*ANN, 1006, "The connection recovery timeout expired.")]


def test_a_refused_recovery_is_told_and_shortened() -> None:
    service = Watched()
    hello = service.connect(user="ann").hello()
    service.seen()
    service.recover(hello, token="wrong")
    assert service.seen() == [RecoveryRefused("chat", "c1")]
    service.recover({**hello, "connectionId": "x" * 5000})
    (refused,) = service.seen()
    assert isinstance(refused, RecoveryRefused)
    assert len(refused.connection_id) == 240


def test_broken_and_slow_clients_close_with_a_reason() -> None:
    service = Watched(retained_messages=1)
    service.connect(user="ann").send_raw("nonsense")
    closed = service.seen()[1]
    assert isinstance(closed, ConnectionClosed)
    said = "The client message is not a valid JSON protocol message. Invalid message: JSON is malformed"
    assert (closed.code, closed.reason[: len(said)]) == (1007, said)
    slow = service.connect(groups=("room",))
    service.seen()
    for _ in range(2):
        slow.publish(1)
    closed = service.seen()[-1]
    assert isinstance(closed, ConnectionClosed)
    assert (closed.code, closed.connection_id) == (1008, "c2")


def test_the_application_server_closes_one_and_shutting_down_closes_all() -> None:
    service = Watched()
    for user in ("ann", "ben"):
        service.connect(user=user)
    service.seen()
    service.core.close_connection("c1", "Enough.")
    assert service.seen() == [ConnectionClosed(*ANN, 1000, "Application server closed the connection. Reason: Enough.")]
    service.core.shut_down()
    assert service.seen() == [ConnectionClosed("chat", "c2", "ben", 1001, "The service is shutting down."), ShutDown()]


# ---- Requests and messages


def test_requests_are_told_with_their_outcome() -> None:
    service = Watched()
    client = service.connect(user="ann")
    service.seen()
    client.send({"type": "joinGroup", "group": "room", "ackId": 1})
    client.send({"type": "joinGroup", "group": "room", "ackId": 1})
    client.send({"type": "leaveGroup", "group": "room"})
    client.send({"type": "ping"})
    assert service.seen() == [
        Joined(*ANN, "room"),
        Acked(*ANN, 1),
        Refused(*ANN, 1, "Duplicate", "Message with ack-id: 1 has been processed"),
        Left(*ANN, "room"),
    ]


@pytest.mark.parametrize("ack_id", [7, None])
def test_a_refusal_is_told_even_if_the_client_does_not_learn_it(ack_id: int | None) -> None:
    service = Watched()
    client = service.connect(user="ann", roles=())
    service.seen()
    client.send({"type": "joinGroup", "group": "room", "ackId": ack_id})
    (refused,) = service.seen()
    assert isinstance(refused, Refused)
    assert (refused.ack_id, refused.error) == (ack_id, "Forbidden")


def test_an_event_for_the_application_server_is_told() -> None:
    service = Watched()
    client = service.connect(user="ann")
    service.seen()
    client.send({"type": "event", "event": "order", "dataType": "text", "data": "x"})
    raised, refused = service.seen()
    assert raised == EventRaised(*ANN, "order", "text", '"x"', 3)
    assert isinstance(refused, Refused)


def test_a_message_is_told_with_its_receivers_and_what_is_acknowledged() -> None:
    service = Watched()
    sender = service.connect(user="ann", groups=("room",))
    service.connect(user="ben", groups=("room",))
    service.seen()
    sender.publish({"a": 1})
    sender.publish("hi", dataType="text", noEcho=True)
    sender.publish("aGk=", "empty", dataType="binary")
    sender.send({"type": "sequenceAck", "sequenceId": 1})
    assert service.seen() == [
        Published(*ANN, "group", "room", "json", '{"a": 1}', 8, 2),
        Published(*ANN, "group", "room", "text", '"hi"', 4, 1),
        Published(*ANN, "group", "empty", "binary", '"aGk="', 2, 0),
        SequenceAcked(*ANN, 1, 0),
    ]


def test_messages_of_the_application_server_are_told() -> None:
    service = Watched()
    service.connect(user="ann", groups=("room",))
    service.connect(user="ben")
    service.seen()
    publication = server_publication("text", b'"hi"')
    service.core.send_to_all("CHAT", publication)
    service.core.send_to_group("chat", "room", publication)
    service.core.send_to_user("chat", "nobody", publication)
    service.core.send_to_connection("c2", publication)
    service.core.send_to_connection("c3", publication)
    payload = ("text", '"hi"', 4)
    assert service.seen() == [
        Published("chat", None, None, "hub", "", *payload, 2),
        Published("chat", None, None, "group", "room", *payload, 1),
        Published("chat", None, None, "user", "nobody", *payload, 0),
        Published("chat", None, None, "connection", "c2", *payload, 1),
    ]


def test_streams_are_told_from_start_to_end() -> None:
    service = Watched()
    client = service.connect(user="ann", groups=("room",))
    service.connect(user="ben", groups=("room",))
    service.seen()
    start = {"type": "sendToGroup", "group": "room", "noEcho": True, "stream": {"streamId": "s", "idleTimeoutMs": 1500}}
    fragment = {"type": "streamData", "streamId": "s", "dataType": "text", "data": "x"}
    client.send(start)
    assert service.seen() == [StreamStarted(*ANN, "room", "s", 1.5), StreamAcked(*ANN, "s", 1)]
    client.send(fragment | {"streamSequenceId": 1})
    client.send(fragment | {"streamSequenceId": 3})
    client.send({"type": "streamData", "streamId": "s"})
    service.core.transports_with_output()
    gap = "Fragment 3 came, 2 is expected."
    assert service.seen() == [
        Published(*ANN, "group", "room", "text", '"x"', 3, 1, "s", 1),
        StreamNacked(*ANN, "s", 2, "InvalidSequenceId", gap),
        StreamAcked(*ANN, "s", 2),
    ]
    service.advance(2)
    silence = "There was no fragment and no keepalive for 1.5 s."
    assert service.seen() == [StreamEnded(*ANN, "room", "s", 1, "IdleTimeout", silence)]
    client.send({"type": "streamEnd", "streamId": "s"})
    client.send({"type": "streamEnd", "streamId": "t"})
    assert service.seen() == [
        StreamRefused(*ANN, "s", "IdleTimeout", silence),
        StreamRefused(*ANN, "t", "StreamNotFound", "There is no open stream with this id."),
    ]
    client.send(start)
    client.send({"type": "streamEnd", "streamId": "s", "error": {"message": "m" * 500}})
    client.send(start)
    client.send({"type": "streamEnd", "streamId": "s"})
    ends = [note for note in service.seen() if isinstance(note, StreamEnded)]
    assert ends == [
        StreamEnded(*ANN, "room", "s", 0, "UserError", "m" * 239 + "…"),
        StreamEnded(*ANN, "room", "s", 0, None, None),
    ]


def test_of_messages_the_feed_says_only_of_fragments_where_they_belong() -> None:
    message = Published(*ANN, "group", "room", "text", '"x"', 3, 1)
    assert b"stream" not in msgspec.json.encode(message)
    fragment = msgspec.json.decode(msgspec.json.encode(Published(*ANN, "group", "room", "text", '"x"', 3, 1, "s", 1)))
    assert (fragment["streamId"], fragment["streamSequenceId"]) == ("s", 1)


@given(st.text(max_size=600))
def test_payloads_are_shortened_whatever_they_hold(text: str) -> None:
    service = Watched()
    client = service.connect()
    service.seen()
    data = json.dumps(text, ensure_ascii=False) if text.isprintable() else json.dumps(text)
    client.send_raw(f'{{"type":"sendToGroup","group":"room","data":{data}}}')
    (published,) = service.seen()
    assert isinstance(published, Published)
    assert published.size == len(data.encode())
    if len(data) <= 240:
        assert published.data == data
    else:
        assert published.data == data[:239] + "…"


def test_changes_of_groups_by_the_application_server_are_told_if_they_change_anything() -> None:
    service = Watched()
    service.connect(user="ann", groups=("room",))
    service.connect(user="ben")
    service.seen()
    everybody = list(service.core.hub("chat").connections.values())
    operations.add_to_groups(service.core, everybody, ("room",))
    operations.remove_from_groups(service.core, everybody, ("room", "never"))
    operations.add_user_to_group(service.core, "chat", "ann", "x")
    operations.remove_from_groups(service.core, service.core.hub("chat").user("ann"))
    ben = ("chat", "c2", "ben")
    assert service.seen() == [
        Joined(*ben, "room"),
        Left(*ANN, "room"),
        Left(*ben, "room"),
        Joined(*ANN, "x"),
        Left(*ANN, "x"),
    ]


# ---- Nobody looks


def a_busy_day(service: ServiceUnderTest) -> list[object]:
    """Everything that can happen; returns what the clients received."""
    ann = service.connect(user="ann", groups=("room",))
    ben = service.connect(user="ben", roles=(), subprotocol=JSON)
    hello = ann.hello()
    received: list[object] = [*ben.received()]
    received += ann.ask({"type": "joinGroup", "group": "other", "ackId": 1})
    received += ann.ask({"type": "leaveGroup", "group": "other"})
    received += ann.ask({"type": "sendToGroup", "group": "room", "data": "x", "ackId": 2})
    received += ann.ask({"type": "event", "event": "order", "data": 1, "ackId": 3})
    received += ben.ask({"type": "joinGroup", "group": "room", "ackId": 1})
    received += ann.ask({"type": "sendToGroup", "group": "room", "noEcho": True, "stream": {"streamId": "s"}})
    for number in (1, 3):
        fragment = {"streamSequenceId": number, "dataType": "json", "data": 1}
        received += ann.ask({"type": "streamData", "streamId": "s", **fragment})
    received += ben.ask({"type": "streamEnd", "streamId": "s"})
    service.core.transports_with_output()
    service.core.send_to_all("chat", server_publication("json", b"1"))
    ann.drop()
    ann = service.recover(hello)
    ann.send({"type": "sequenceAck", "sequenceId": 2})
    received += ann.received() + ben.received()
    service.recover(hello, token="wrong")
    ben.send_raw("nonsense")
    service.core.shut_down()
    return received


def test_watching_changes_nothing_and_without_observers_no_event_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched()
    expected = a_busy_day(watched)
    kinds = {type(note) for note in watched.seen()}
    assert len(kinds) == 18, kinds

    def made(*args: object, **kwargs: object) -> None:
        raise AssertionError("an event was made for nobody")

    for kind in kinds:
        monkeypatch.setattr(f"limpet_core.service.trace.{kind.__name__}", made)
    assert a_busy_day(ServiceUnderTest()) == expected


def test_no_event_and_no_snapshot_holds_a_token() -> None:
    watched = Watched()
    states: list[Snapshot] = []
    watched.core.observers.append(lambda _: states.append(snapshot(watched.core.hubs)))
    a_busy_day(watched)
    text = msgspec.json.encode([watched.seen(), states]).decode()
    assert '"c1"' in text
    assert "token" not in text.lower()


def test_an_observer_that_is_gone_is_told_nothing() -> None:
    service = Watched()
    service.core.observers.clear()
    service.connect()
    service.core.observers.handshake_refused("chat", 401, "no token")
    assert service.seen() == []


# ---- Snapshots


def test_a_snapshot_shows_hubs_connections_groups_and_users() -> None:
    service = ServiceUnderTest()
    service.core.hub("nobody")
    ann = service.connect(user="ann", groups=("a", "b"))
    service.connect(user="ann", subprotocol=JSON, groups=("b",))
    service.connect(hub="Other")
    ann.send({"type": "sendToGroup", "group": "nobody", "stream": {"streamId": "s"}})
    service.core.send_to_group("chat", "b", server_publication("json", b"1"))
    ann.drop()
    assert snapshot(service.core.hubs) == Snapshot(
        3,
        2,
        (
            HubState(
                "chat",
                2,
                2,
                1,
                (
                    ConnectionState("c1", "ann", RELIABLE_JSON, False, 1, 1, 2, 1),
                    ConnectionState("c2", "ann", JSON, True, 0, 0, 1),
                ),
                (("a", 1), ("b", 2)),
                (("ann", 2),),
            ),
            HubState("other", 1, 0, 0, (ConnectionState("c3", None, RELIABLE_JSON, True, 0, 0, 0),), (), ()),
        ),
    )


def test_a_snapshot_counts_invocations_and_states() -> None:
    service = ServiceUnderTest(EventHandler(url="http://app.example/", system_events=()))
    ann = service.connect(groups=("a", "b"))
    for group in ("a", "b"):
        ann.send({"type": "setGroupState", "group": group, "state": {}})
    ann.send({"type": "invoke", "invocationId": "1", "target": "event", "event": "order"})
    (hub,) = snapshot(service.core.hubs).hubs
    assert hub.connections == (
        ConnectionState(
            "c1",
            None,
            RELIABLE_JSON,
            True,
            0,
            0,
            2,
            invocation_count=1,
            state_count=2,
            states=(("a", "{}"), ("b", "{}")),
        ),
    )


def test_a_snapshot_counts_all_and_lists_some() -> None:
    service = ServiceUnderTest()
    for number in range(5):
        service.connect(user=f"u{number}", groups=tuple(f"g{index}" for index in range(4)))
        service.connect(hub=f"h{number}")
    state = snapshot(service.core.hubs, limit=3)
    assert (state.connection_count, state.hub_count, len(state.hubs)) == (10, 6, 3)
    hub = state.hubs[0]
    assert (hub.connection_count, hub.group_count, hub.user_count) == (5, 4, 5)
    assert [len(listed) for listed in (hub.connections, hub.groups, hub.users)] == [3, 3, 3]
    assert hub.connections[0].group_count == 4


def test_what_a_snapshot_lists_of_all_hubs_together_is_bounded() -> None:
    service = ServiceUnderTest()
    for number in range(20):
        service.connect(hub=f"h{number}", user="ann", groups=tuple(f"g{index}" for index in range(20)))
    state = snapshot(service.core.hubs, limit=20)
    listed = [(len(hub.connections), len(hub.groups), len(hub.users)) for hub in state.hubs]
    assert listed == [(1, 20, 1)] * 9 + [(1, 1, 0)] + [(0, 0, 0)] * 10
    assert {(hub.connection_count, hub.group_count, hub.user_count) for hub in state.hubs} == {(1, 20, 1)}


@pytest.mark.parametrize("hubs", [1, 120])
def test_a_snapshot_is_small_whatever_names_clients_choose(hubs: int) -> None:
    """A hundred long names of groups for each connection would be 10 MB."""
    service = ServiceUnderTest()
    groups = tuple(f"{number:03}" + "\x00" * 1000 for number in range(100))
    for number in range(120):
        service.connect(hub=f"h{number % hubs}", user=f"{number:03}" + "\x00" * 1000, groups=groups)
    state = snapshot(service.core.hubs)
    assert len(msgspec.json.encode(state)) < 2_000_000
    assert (state.connection_count, state.hub_count) == (120, hubs)
    (name, members), *_ = state.hubs[0].groups
    assert (len(name), name[-1], members) == (240, "…", 120 // hubs)
    assert {len(connection.user_id or "") for connection in state.hubs[0].connections} == {240}
    assert {connection.group_count for connection in state.hubs[0].connections} == {100}


def test_a_snapshot_of_nothing_is_empty() -> None:
    assert snapshot(ServiceUnderTest().core.hubs) == Snapshot(0, 0, ())


# ---- Lists of connections


def test_connections_are_found_by_user_id_hub_and_group_and_come_in_parts() -> None:
    service = ServiceUnderTest()
    for number in range(20):
        service.connect(user=f"User-{number}", groups=("Room",) if number % 2 else ())
    service.connect(hub="news")
    hubs = service.core.hubs

    def found(search: str, **part: int) -> tuple[int, list[str | None]]:
        listed = list_connections(hubs, search, **part)
        assert (listed.total, listed.offset) == (21, part.get("offset", 0))
        return listed.found, [connection.user_id for connection in listed.connections]

    assert found("", offset=19, limit=5) == (21, ["User-19", None])
    assert found("", offset=21, limit=5) == (21, [])
    assert found("uSER-1", limit=2) == (11, ["User-1", "User-10"])
    assert found("user-1", offset=10) == (11, ["User-19"])
    assert found("room", limit=1) == (10, ["User-1"])
    assert found("c21") == (1, [None])
    assert found("nobody") == (0, [])
    (news,) = list_connections(hubs, "NEWS").connections
    assert news == ListedConnection("c21", None, RELIABLE_JSON, True, 0, 0, 0, hub="news")


def test_a_snapshot_without_connections_counts_them() -> None:
    service = ServiceUnderTest()
    service.connect(user="ann", groups=("room",))
    (hub,) = snapshot(service.core.hubs, connections=False).hubs
    assert (hub.connection_count, hub.connections, hub.groups, hub.users) == (1, (), (("room", 1),), (("ann", 1),))


# ---- Totals


def test_events_are_counted_by_what_they_are() -> None:
    service = Watched()
    ann = service.connect(user="ann", groups=("room",))
    hello = ann.hello()
    ann.publish(1, ackId=1)
    ann.publish(1, ackId=1)
    service.core.send_to_all("chat", server_publication("json", b"1"))
    ann.send({"type": "sendToGroup", "group": "room", "stream": {"streamId": "s"}})
    ann.send({"type": "streamData", "streamId": "s", "streamSequenceId": 1, "dataType": "text", "data": "x"})
    ann.send({"type": "streamEnd", "streamId": "t"})
    ann.drop()
    service.recover(hello, token="wrong")
    service.recover(hello)
    service.core.observers.handshake_refused(None, 401, "no")
    totals = service.core.observers.totals
    assert (totals.published, totals.delivered, totals.acked) == (3, 3, 1)
    # The repeat of request 1, the unknown stream, the wrong token, the handshake.
    assert (totals.dropped, totals.recovered, totals.refused) == (1, 1, 4)
    assert totals.events == len(service.seen())
    totals.reset()
    assert (totals.events, totals.published, totals.refused, totals.handlers()) == (0, 0, 0, ())


def test_a_brief_observer_is_told_of_connections_and_not_of_each_message() -> None:
    service = Watched()
    ann = service.connect(user="ann", groups=("room",))
    ann.hello()
    service.seen()
    service.core.observers.is_brief = True
    ann.publish(1, ackId=1)
    ann.send({"type": "sequenceAck", "sequenceId": 1})
    service.core.send_to_all("chat", server_publication("json", b"1"))
    for message in ({"stream": {"streamId": "s"}}, {"stream": {"streamId": "s"}}):
        ann.send({"type": "sendToGroup", "group": "room", **message})
    ann.send({"type": "streamData", "streamId": "s", "streamSequenceId": 1, "dataType": "text", "data": "x"})
    ann.send({"type": "joinGroup", "group": "other", "ackId": 2})
    ann.received()
    assert [type(event) for event in service.seen()] == [StreamStarted, Joined]
    totals = service.core.observers.totals
    assert (totals.published, totals.delivered, totals.acked) == (3, 3, 2)
    # Opened, message, ack, sequence ack, message, start, two acks of it, fragment, joined, ack.
    assert totals.events == 11

    others: list[TraceEvent] = []
    service.core.observers.append(others.append)
    ann.publish(1)
    assert len(service.seen()) == len(others) == 1


def test_calls_of_handlers_are_counted_with_their_durations() -> None:
    totals = Totals()
    for number in range(1, 101):
        totals.add_call("order", number / 1000, failed=number > 98)
    totals.add_call("slow", 1e9, failed=False)
    totals.add_call("quick", 0.0, failed=False)
    order, slow, quick = totals.handlers()
    assert (order.event, order.calls, order.failed, order.longest) == ("order", 100, 2, 0.1)
    for found, true in ((order.p50, 0.05), (order.p95, 0.095), (order.p99, 0.099)):
        assert true <= found < 1.1 * true or found == order.longest
    assert (slow.p50, slow.longest) == (pytest.approx(104.8576), 1e9)
    assert (quick.p50, quick.p99, quick.longest) == (0.0, 0.0, 0.0)
    for number in range(100):
        totals.add_call(f"event {number}", 0.01, failed=False)
    names = [each.event for each in totals.handlers()]
    assert (len(names), names[-1], totals.handlers()[-1].calls) == (21, None, 83)


@given(st.lists(st.floats(0, 60), min_size=1, max_size=50))
def test_a_percentile_is_reached_and_hardly_exceeded(durations: list[float]) -> None:
    totals = Totals()
    for duration in durations:
        totals.add_call("e", duration, failed=False)
    (found,) = totals.handlers()
    for part, value in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        true = sorted(durations)[math.ceil(part * len(durations)) - 1]
        assert true <= value * (1 + 1e-9)
        assert value <= max(true * 1.0906, 1e-4)


def test_a_call_of_a_handler_is_told_without_secrets() -> None:
    service = Watched()
    handler = EventHandler(url="http://user:secret@app.example/{event}?code=secret")
    call = HandlerCall("POST", handler.url_for("chat", "order"), (), b"", handler=handler, event="order", about=ANN)
    call.attempts, call.duration = 2, 1.5
    observers = service.core.observers
    observers.handler_called(call, Answer(503, (), b"secret"))
    observers.handler_called(call, Failure("broken", "x" * 1000))
    call.attempts = 0
    observers.handler_called(call, Failure("not allowed", "no"))
    where = ("order", "http://app.example/order")
    assert service.seen() == [
        HandlerCalled(*ANN, *where, 503, None, 1.5, 2),
        HandlerCalled(*ANN, *where, None, "x" * 239 + "\u2026", 1.5, 2),
        HandlerCalled(*ANN, *where, None, "no", 1.5, 0),
    ]
    (order,) = observers.totals.handlers()
    assert (order.calls, order.failed) == (2, 2), "one was not called"


def test_long_user_ids_are_shortened() -> None:
    service = Watched()
    service.connect(user="u" * 1000)
    (opened,) = service.seen()
    assert isinstance(opened, ConnectionOpened)
    assert opened.user_id == "u" * 239 + "\u2026"
