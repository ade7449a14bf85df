"""Streams: ordered fragments from one connection to one group, under a virtual clock (client-spec 3.6)."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from tests.core.service.backend import Backend, event, talking
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import JSON, RELIABLE_JSON, Limits, RawMode, group_publication
from limpet_core.service.data_plane import operations

GONE = "There is no open stream with this id."


def start(stream_id: str = "s", group: str = "room", timeout: object = None, **more: object) -> dict[str, object]:
    stream = {"streamId": stream_id} | ({} if timeout is None else {"idleTimeoutMs": timeout})
    return {"type": "sendToGroup", "group": group, "stream": stream, **more}


def fragment(number: int, data: object = "x", stream_id: str = "s", data_type: str = "text") -> dict[str, object]:
    place = {"streamId": stream_id, "streamSequenceId": number}
    return {"type": "streamData", **place, "dataType": data_type, "data": data}


def keepalive(stream_id: str = "s") -> dict[str, object]:
    return {"type": "streamData", "streamId": stream_id}


def end(stream_id: str = "s", **error: object) -> dict[str, object]:
    return {"type": "streamEnd", "streamId": stream_id} | ({"error": error} if error else {})


def ack(expected: int, stream_id: str = "s") -> dict[str, object]:
    return {"type": "streamAck", "streamId": stream_id, "expectedSequenceId": expected}


def nack(expected: int, name: str = "InvalidSequenceId", stream_id: str = "s") -> dict[str, object]:
    return {"type": "streamNack", "streamId": stream_id, "expectedSequenceId": expected, "name": name}


def closed(name: str | None = None, stream_id: str = "s") -> dict[str, Any]:
    return {"type": "streamClosed", "streamId": stream_id} | ({} if name is None else {"error": name})


def heard(client: Client) -> list[dict[str, Any]]:
    """What a client is told, without the texts for people, which must be there."""
    client.service.core.transports_with_output()
    told = client.received()
    for message in told:
        if message["type"] == "streamNack":
            assert message.pop("message")
        elif "error" in message:
            assert message["error"]["message"]
            message["error"] = message["error"]["name"]
    return told


def said(client: Client, *messages: dict[str, object]) -> list[dict[str, Any]]:
    """What a client is told after all these."""
    for message in messages:
        client.send(message)
    return heard(client)


def parts(client: Client) -> list[tuple[Any, ...]]:
    """The messages of streams that a member got: data and place, and the name of an error."""
    client.service.core.transports_with_output()
    found: list[tuple[Any, ...]] = []
    for message in client.received():
        stream = message["stream"]
        if not stream.get("endOfStream"):
            assert "error" not in stream
            found.append((message["data"], stream["streamSequenceId"]))
            continue
        assert (message["dataType"], message["data"]) == ("text", "")
        found.append((stream["streamSequenceId"], stream.get("error", {}).get("name")))
    return found


def streaming(
    *messages: dict[str, object], subprotocol: str = RELIABLE_JSON, **limits: Any
) -> tuple[ServiceUnderTest, Client, Client]:
    """A publisher who has said these, and a member of the group."""
    service = ServiceUnderTest(**limits)
    publisher = service.connect(user="ann", subprotocol=subprotocol)
    member = service.connect(user="bob", groups=("room",), subprotocol=subprotocol)
    publisher.hello()
    member.hello()
    said(publisher, *messages)
    return service, publisher, member


# ---- The way of a stream


@pytest.mark.parametrize("subprotocol", [JSON, RELIABLE_JSON])
def test_fragments_arrive_in_order_and_are_acknowledged(subprotocol: str) -> None:
    _, publisher, member = streaming(subprotocol=subprotocol)
    assert said(publisher, start()) == [ack(1)]
    assert said(publisher, fragment(1, "one")) == [ack(2)]
    assert said(publisher, fragment(2, {"two": 2}, data_type="json")) == [ack(3)]
    numbered = [{"sequenceId": number} if subprotocol == RELIABLE_JSON else {} for number in (1, 2, 3)]
    head = {"type": "message", "from": "group", "group": "room", "fromUserId": "ann"}
    one, two = member.received()
    place = {"streamId": "s", "streamSequenceId": 1}
    assert one == {**numbered[0], **head, "dataType": "text", "data": "one", "stream": place}
    assert (two["dataType"], two["data"], two["stream"]["streamSequenceId"]) == ("json", {"two": 2}, 2)
    assert said(publisher, end()) == [closed()]
    place = {"streamId": "s", "streamSequenceId": 3, "endOfStream": True}
    assert member.received() == [{**numbered[2], **head, "dataType": "text", "data": "", "stream": place}]
    assert said(publisher, start(), fragment(1)) == [ack(1), ack(2)]


def test_a_burst_has_one_ack_for_each_stream() -> None:
    _, publisher, member = streaming(start(), start("t"))
    burst = [message for number in range(1, 65) for message in (fragment(number), fragment(number, stream_id="t"))]
    assert said(publisher, *burst) == [ack(65), ack(65, "t")]
    assert len(parts(member)) == 128
    assert heard(publisher) == []


@pytest.mark.parametrize("kind", ["sendToGroup", "SENDTOGROUP", "sendtogroup"])
def test_the_case_of_a_type_does_not_matter(kind: str) -> None:
    _, publisher, member = streaming()
    assert said(publisher, start() | {"type": kind}) == [ack(1)]
    assert said(publisher, fragment(1) | {"type": "STREAMDATA"}) == [ack(2)]
    assert said(publisher, end() | {"type": "StreamEnd"}) == [closed()]
    assert parts(member) == [("x", 1), (2, None)]


@pytest.mark.parametrize("message", [fragment(1), keepalive(), end(), end(message="why")])
def test_what_was_never_there_is_not_found(message: dict[str, Any]) -> None:
    _, publisher, _ = streaming()
    assert said(publisher, message) == [closed("StreamNotFound")]


def test_what_comes_again_after_the_end_is_answered_as_the_first_time() -> None:
    """A client whose answers were lost in a drop says all of it once more."""
    _, publisher, member = streaming(start(), fragment(1), fragment(2), end())
    assert said(publisher, fragment(1)) == [ack(3)]
    assert said(publisher, fragment(2)) == [ack(3)]
    assert said(publisher, end()) == [closed()]
    assert said(publisher, fragment(3)) == [closed("StreamNotFound")]
    assert said(publisher, keepalive()) == [closed("StreamNotFound")]
    assert parts(member) == [("x", 1), ("x", 2), (3, None)]


def test_what_comes_after_the_end_with_an_error_is_answered_with_it() -> None:
    service, publisher, _ = streaming(start(), fragment(1))
    service.advance(301.0)
    assert heard(publisher) == [closed("IdleTimeout")]
    for message in (fragment(1), fragment(2), keepalive(), end()):
        assert said(publisher, message) == [closed("IdleTimeout")]
    assert said(publisher, start(), end(), end()) == [ack(1), closed(), closed()]


def test_only_the_last_streams_that_ended_are_remembered() -> None:
    _, publisher, _ = streaming()
    for number in range(65):
        said(publisher, start(str(number)), end(str(number)))
    assert said(publisher, end("0")) == [closed("StreamNotFound", "0")]
    assert said(publisher, end("1")) == [closed(None, "1")]


def test_an_end_with_an_error_is_passed_on() -> None:
    _, publisher, member = streaming(start(), fragment(1))
    member.received()
    assert said(publisher, end(message="why", userErrorCode="E42", name="Forbidden")) == [closed()]
    (last,) = member.received()
    assert last["stream"]["error"] == {"name": "UserError", "message": "why", "userErrorCode": "E42"}
    said(publisher, start(), {"type": "streamEnd", "streamId": "s", "error": {}})
    (last,) = member.received()
    assert last["stream"] == {
        "streamId": "s",
        "streamSequenceId": 1,
        "endOfStream": True,
        "error": {"name": "UserError"},
    }
    said(publisher, start(), {"type": "streamEnd", "streamId": "s", "error": None})
    (last,) = member.received()
    assert "error" not in last["stream"]


@pytest.mark.parametrize("no_echo", [False, True])
def test_the_publisher_hears_its_own_stream_unless_it_says_no(no_echo: bool) -> None:
    service = ServiceUnderTest()
    publisher = service.connect(groups=("room",))
    said(publisher, start(noEcho=no_echo))
    own = said(publisher, fragment(1), end())
    assert [message["type"] for message in own] == [*([] if no_echo else ["message"] * 2), "streamClosed"]


def test_members_who_join_in_the_middle_get_the_rest_and_nobody_is_no_error() -> None:
    service, publisher, member = streaming(start(), fragment(1))
    late = service.connect(groups=("room",))
    late.hello()
    said(publisher, fragment(2), end())
    assert parts(member) == [("x", 1), ("x", 2), (3, None)]
    assert parts(late) == [("x", 2), (3, None)]
    assert said(publisher, start(group="nobody"), fragment(1), end()) == [ack(1), closed()]


def test_raw_members_get_payloads_alone() -> None:
    service, publisher, _ = streaming(start())
    raw = service.connect(groups=("room",), raw=RawMode())
    said(publisher, fragment(1, "hi"), fragment(2, "aGk=", data_type="binary"), fragment(3, [1], data_type="json"))
    assert raw.received_raw() == [b"hi", b"hi", b"[1]"]
    said(publisher, end(message="why"))
    assert raw.received_raw() == []


def test_streams_are_apart() -> None:
    service, publisher, member = streaming(start("a"), start("b"), fragment(1, "1", "a"))
    other = service.connect()
    other.hello()
    assert said(other, start("a"), fragment(1, "other", "a")) == [ack(1, "a"), ack(2, "a")]
    assert said(publisher, fragment(2, "2", "a"), fragment(1, "1", "b"), end("b")) == [closed(None, "b"), ack(3, "a")]
    assert said(publisher, fragment(2, "2", "b")) == [closed("StreamNotFound", "b")]
    assert [data for data, _ in parts(member)] == ["1", "other", "2", "1", 2]


# ---- Order


def test_a_duplicate_is_acknowledged_and_not_published() -> None:
    _, publisher, member = streaming(start(), fragment(1), fragment(2))
    member.received()
    assert said(publisher, fragment(1), fragment(2)) == [ack(3)]
    assert said(publisher, fragment(0)) == [ack(3)]
    assert member.received() == []


def test_a_gap_is_refused_once_and_sent_again() -> None:
    _, publisher, member = streaming(start(), fragment(1))
    assert said(publisher, fragment(3), fragment(4), fragment(5)) == [nack(2)]
    assert said(publisher, fragment(2), fragment(3), fragment(4), fragment(5)) == [ack(6)]
    assert said(publisher, fragment(7), fragment(8)) == [nack(6)]
    assert said(publisher, fragment(7), fragment(8)) == [nack(6)]  # back again, still not far enough
    assert said(publisher, fragment(2**64 - 1)) == []
    assert said(publisher, fragment(6), end()) == [closed()]
    assert parts(member) == [*(("x", number) for number in range(1, 7)), (7, None)]


def test_an_end_behind_refused_fragments_waits_for_them() -> None:
    _, publisher, member = streaming(start(), fragment(1))
    assert said(publisher, fragment(3), end()) == [nack(2)]
    assert said(publisher, fragment(2), fragment(3), end()) == [closed()]
    assert parts(member) == [("x", 1), ("x", 2), ("x", 3), (4, None)]


def test_a_fragment_that_cannot_be_published_at_the_moment_is_asked_for_again() -> None:
    service, publisher, member = streaming(start())
    refusals = [False, True]
    service.core.streams.faults.append(lambda *about: about[1:] == ("s", 1) and refusals.pop())
    assert said(publisher, fragment(1), fragment(2), fragment(3), end()) == [nack(1, "TransientError")]
    assert said(publisher, fragment(1), fragment(2), fragment(3)) == [ack(4)]
    assert parts(member) == [("x", 1), ("x", 2), ("x", 3)]
    assert refusals == []


# ---- Starts


def test_a_repeated_start_goes_on_and_one_to_another_group_is_refused() -> None:
    _, publisher, member = streaming(start(), fragment(1))
    assert said(publisher, start()) == [ack(2)]
    assert said(publisher, start(group="other")) == [nack(2, "TransientError")]
    assert said(publisher, fragment(2)) == [ack(3)]
    assert parts(member) == [("x", 1), ("x", 2)]


def test_a_start_with_an_ack_id_is_answered_twice_and_done_once() -> None:
    service, publisher, _ = streaming()
    done = {"type": "ack", "ackId": 7, "success": True}
    assert said(publisher, start(ackId=7)) == [ack(1), done]
    failed = {"type": "ack", "ackId": 8, "success": False, "error": "BadRequest"}
    assert said(publisher, start(group="other", ackId=8)) == [nack(1, "TransientError"), failed]
    said(publisher, end())
    again = {"type": "ack", "ackId": 7, "success": False, "error": "Duplicate"}
    assert said(publisher, start(ackId=7)) == [again]
    stranger = service.connect(roles=())
    stranger.hello()
    failed = {"type": "ack", "ackId": 7, "success": False, "error": "Forbidden"}
    assert said(stranger, start(ackId=7)) == [closed("Forbidden"), failed]
    failed |= {"error": "BadRequest"}
    assert said(stranger, start("", ackId=7)) == [failed, closed("BadRequest", "")]


@pytest.mark.parametrize(
    "wrong",
    [
        start(""),
        start("s" * 1025),
        start(timeout=0),
        start(timeout=-1),
        start(timeout=2**32),
        start(timeout=10**400),
        start(data="x"),
        start(data=None),
    ],
)
def test_a_start_that_cannot_be_carried_out_is_refused(wrong: dict[str, Any]) -> None:
    _, publisher, _ = streaming()
    stream_id = wrong["stream"]["streamId"]
    assert said(publisher, wrong) == [closed("BadRequest", stream_id)]
    assert said(publisher, fragment(1, stream_id=stream_id)) == [closed("StreamNotFound", stream_id)]


@pytest.mark.parametrize("good", [start("s" * 1024), start(timeout=1), start(timeout=2**32 - 1), start(stream=None)])
def test_a_start_at_the_limits(good: dict[str, Any]) -> None:
    service, publisher, _ = streaming()
    if good["stream"] is None:
        good |= {"data": 1}
        assert said(publisher, good) == []
        assert service.core.deadline == math.inf
    else:
        assert said(publisher, good) == [ack(1, good["stream"]["streamId"])]


def test_streams_are_counted() -> None:
    _, publisher, _ = streaming(start("a"), start("b"), streams=2)
    assert said(publisher, start("c")) == [closed("BadRequest", "c")]
    assert said(publisher, start("a")) == [ack(1, "a")]
    assert said(publisher, end("a"), start("c")) == [closed(None, "a"), ack(1, "c")]


@pytest.mark.parametrize("wrong", [{"streams": 0}, {"stream_idle_timeout": 0}, {"stream_idle_timeout": math.inf}])
def test_limits_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)


# ---- Time


def test_a_silent_stream_ends() -> None:
    service, publisher, member = streaming(start(timeout=1500), fragment(1))
    service.advance(1.4)
    assert heard(publisher) == []
    service.advance(0.2)
    assert heard(publisher) == [closed("IdleTimeout")]
    assert parts(member) == [("x", 1), (2, "IdleTimeout")]
    assert service.core.deadline == math.inf


@pytest.mark.parametrize("message", ["fragment", "keepalive"])
def test_what_is_said_keeps_a_stream_open(message: str) -> None:
    service, publisher, _ = streaming(start())
    for number in range(1, 4):
        service.advance(299.0)
        said(publisher, fragment(number) if message == "fragment" else keepalive())
    service.advance(299.0)
    assert said(publisher, keepalive()) == []
    service.advance(301.0)
    assert heard(publisher) == [closed("IdleTimeout")]


def test_what_does_not_go_on_does_not_keep_a_stream_open() -> None:
    service, publisher, _ = streaming(start(), fragment(1), stream_idle_timeout=10.0)
    service.advance(9.0)
    assert said(publisher, fragment(1), fragment(3), start()) == [nack(2), ack(2)]
    service.advance(2.0)
    assert heard(publisher) == [closed("IdleTimeout")]


def test_the_time_of_one_stream_is_not_that_of_another() -> None:
    service, publisher, _ = streaming(start("a", timeout=5000), start("b", timeout=10_000), start("c", timeout=20_000))
    service.advance(4.0)
    said(publisher, keepalive("a"), end("b"))
    service.advance(4.0)
    said(publisher, keepalive("a"))
    service.advance(3.0)
    assert said(publisher, keepalive("a"), keepalive("b")) == [closed("StreamNotFound", "b")]
    service.advance(6.0)
    assert heard(publisher) == [closed("IdleTimeout", "a")]
    service.advance(4.0)
    assert heard(publisher) == [closed("IdleTimeout", "c")]


def test_many_streams_that_came_and_went_leave_nothing_behind() -> None:
    service, publisher, _ = streaming(start("last", timeout=10_000))
    for number in range(1000):
        said(publisher, start(str(number), timeout=2**32 - 1 - number), end(str(number)))
    assert len(service.core.streams._timers) < 100
    assert service.core.deadline == service.now + 10.0
    said(publisher, end("last"))
    assert service.core.deadline == math.inf
    assert service.core.streams._timers == []


# ---- Permissions


def test_a_stream_needs_the_permission_to_send() -> None:
    service = ServiceUnderTest()
    publisher = service.connect(roles=("webpubsub.sendToGroup.mine",))
    publisher.hello()
    assert said(publisher, start()) == [closed("Forbidden")]
    assert said(publisher, start(group="mine")) == [ack(1)]


def test_a_revoked_permission_ends_the_stream_at_its_next_fragment() -> None:
    service, publisher, member = streaming(start(), fragment(1))
    said(publisher, fragment(2))
    connection = publisher.transport.connection
    assert connection is not None
    operations.revoke(service.core, "chat", "sendToGroup", connection.connection_id, "room")
    assert said(publisher, keepalive(), fragment(2)) == [ack(3)]
    publisher.send(fragment(2))
    assert said(publisher, fragment(3), fragment(4)) == [ack(3), closed("Forbidden"), closed("Forbidden")]
    assert parts(member) == [("x", 1), ("x", 2), (3, "Forbidden")]


# ---- Connections


@pytest.mark.parametrize("subprotocol", [JSON, RELIABLE_JSON])
def test_the_end_of_the_connection_cancels_its_streams(subprotocol: str) -> None:
    service, publisher, member = streaming(start("a"), start("b"), fragment(1, "x", "b"), subprotocol=subprotocol)
    publisher.drop(1000)
    assert parts(member) == [("x", 1), (1, "Cancelled"), (2, "Cancelled")]
    assert service.core.deadline == math.inf


def test_a_drop_keeps_streams_and_their_time_goes_on() -> None:
    service, publisher, member = streaming()
    said(publisher, start("long"), start("short", timeout=5000), fragment(1, stream_id="long"))
    hello = {"connectionId": "c1", "reconnectionToken": "token-of-c1/1"}
    publisher.drop()
    service.advance(10.0)
    assert parts(member) == [("x", 1), (1, "IdleTimeout")]
    publisher = service.recover(hello)
    publisher.hello()
    assert said(publisher, fragment(1, stream_id="long"), fragment(2, stream_id="long")) == [ack(3, "long")]
    assert said(publisher, keepalive("short")) == [closed("IdleTimeout", "short")]
    publisher.drop()
    service.advance(30.0)
    assert parts(member) == [("x", 2), (3, "Cancelled")]


def test_acks_of_a_cut_transport_are_lost() -> None:
    service, publisher, _ = streaming(start())
    publisher.send(fragment(1))
    publisher.drop()
    publisher = service.recover({"connectionId": "c1", "reconnectionToken": "token-of-c1/1"})
    assert [message["type"] for message in heard(publisher)] == ["system", "streamAck"]


def test_fragments_for_those_who_are_away_count_as_retained() -> None:
    service, publisher, member = streaming(start(), retained_messages=3)
    member.drop()
    said(publisher, fragment(1), fragment(2), fragment(3))
    assert service.core.connection_count == 2
    assert said(publisher, fragment(4)) == [ack(5)]
    assert service.core.connection_count == 1


def test_members_too_slow_for_the_end_of_a_stream_end_with_their_own_streams() -> None:
    """However many there are: each of them publishes a stream to the next one."""
    number = 1500
    service = ServiceUnderTest(retained_messages=1)
    chain = [service.connect(groups=(str(place), "all")) for place in range(number)]
    for place, client in enumerate(chain):
        client.received()
        said(client, start(group=str(place + 1)))
    last = service.connect(groups=(str(number),))
    last.hello()
    chain[0].publish(1, "all", noEcho=True)
    assert service.core.connection_count == number + 1
    chain[0].drop(1000)
    assert service.core.connection_count == 1
    assert parts(last) == [(1, "Cancelled")]


def test_two_who_are_too_slow_for_a_message_and_one_ends_the_other() -> None:
    service = ServiceUnderTest(retained_messages=1)
    ann, bob = (service.connect(groups=("room",)) for _ in range(2))
    said(ann, start())
    said(bob, start())
    service.core.send_to_group("chat", "room", group_publication("room", None, "json", b"1"))
    service.core.send_to_group("chat", "room", group_publication("room", None, "json", b"2"))
    assert [ann.close_code, bob.close_code] == [1008, 1008]
    assert service.core.connection_count == 0


@pytest.mark.parametrize("reason", ["IdleTimeout", "closed"])
def test_a_publisher_without_room_for_the_last_ack(reason: str) -> None:
    """It ends, and with it the stream, before the stream can be closed."""
    service, publisher, member = streaming(start(), retained_messages=1)
    for _ in range(100):
        service.core.receive(publisher.transport, b'{"type":"ping"}', service.now)
        if publisher.close_code is None and len(publisher.transport._outbox) == 33:
            break
    publisher.send(fragment(1))
    assert publisher.close_code is None
    member.send({"type": "sequenceAck", "sequenceId": 1})
    if reason == "IdleTimeout":
        service.advance(300.0)
    else:
        assert service.core.close_stream("c1", "s", "Forbidden", "a fault")
    assert publisher.close_code == 1008
    assert parts(member) == [("x", 1), (2, "Cancelled")]


def test_a_publisher_too_slow_for_its_own_stream() -> None:
    service = ServiceUnderTest(retained_messages=2)
    publisher = service.connect(groups=("room",))
    member = service.connect(groups=("room",))
    member.hello()
    said(publisher, start(), fragment(1), fragment(2))
    member.send({"type": "sequenceAck", "sequenceId": 2})
    said(publisher, fragment(3))
    assert publisher.close_code == 1008
    assert parts(member) == [("x", 1), ("x", 2), ("x", 3), (4, "Cancelled")]


def test_shutting_down_ends_everybody_once() -> None:
    service = ServiceUnderTest(retained_messages=1)
    clients = [service.connect(groups=("room",)) for _ in range(3)]
    for client in clients:
        said(client, start())
    service.core.shut_down()
    assert service.core.connection_count == 0
    assert [client.close_code for client in clients] == [1001, 1001, 1008]


@pytest.mark.parametrize(
    ("name", "members_see"),
    [("InternalServerError", "InternalServerError"), ("Forbidden", "Forbidden"), ("Whatever", "Cancelled")],
)
def test_the_service_closes_a_stream(name: str, members_see: str) -> None:
    service, publisher, member = streaming(start(), fragment(1))
    publisher.send(fragment(2))
    assert service.core.close_stream("c1", "s", name, "a fault")
    assert heard(publisher) == [ack(3), closed(name)]
    assert parts(member) == [("x", 1), ("x", 2), (3, members_see)]
    assert not service.core.close_stream("c1", "s", name, "a fault")
    assert not service.core.close_stream("nobody", "s", name, "a fault")


# ---- Event handlers


def test_a_slow_event_handler_holds_up_no_stream() -> None:
    service, backend, publisher = talking()
    member = service.connect(groups=("room",))
    member.hello()
    publisher.send(event(ackId=1))
    publisher.publish("later", dataType="text")
    assert said(publisher, start(), fragment(1), end()) == [ack(1), closed()]
    assert parts(member) == [("x", 1), (2, None)]
    assert isinstance(backend, Backend)
    backend.answer()
    assert [message["data"] for message in member.received()] == ["later"]


# ---- Hostile input


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"streamData"}',
        '{"type":"streamData","streamId":null}',
        '{"type":"streamData","streamId":1}',
        '{"type":"streamData","streamId":["s"]}',
        '{"type":"streamData","streamId":"s","streamSequenceId":-1,"dataType":"text","data":"x"}',
        '{"type":"streamData","streamId":"s","streamSequenceId":1.5,"dataType":"text","data":"x"}',
        '{"type":"streamData","streamId":"s","streamSequenceId":"1","dataType":"text","data":"x"}',
        '{"type":"streamData","streamId":"s","streamSequenceId":18446744073709551616,"dataType":"text","data":"x"}',
        '{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":1,"data":"x"}',
        '{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"text","data":1}',
        '{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"binary","data":"?"}',
        '{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"protobuf","data":{}}',
        '{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"json","data":null}',
        '{"type":"streamData","streamId":"\\ud83d"}',
        '{"type":"streamEnd"}',
        '{"type":"streamEnd","streamId":1}',
        '{"type":"streamEnd","streamId":"\\udc00"}',
        '{"type":"streamEnd","streamId":"s","error":"why"}',
        '{"type":"streamEnd","streamId":"s","error":{"message":1}}',
        '{"type":"streamEnd","streamId":"s","error":{"userErrorCode":42}}',
        '{"type":"sendToGroup","group":"room","stream":1}',
        '{"type":"sendToGroup","group":"room","stream":{}}',
        '{"type":"sendToGroup","group":"room","stream":[]}',
        '{"type":"sendToGroup","group":"room","stream":{"streamId":1}}',
        '{"type":"sendToGroup","group":"room","stream":{"streamId":"t","idleTimeoutMs":"1"}}',
        '{"type":"sendToGroup","group":"room","stream":{"streamId":"t","idleTimeoutMs":1.5}}',
        '{"type":"sendToGroup","group":"room","stream":{"streamId":"\\ud83d"}}',
        '{"type":"sendToGroup","group":"","stream":{"streamId":"t"}}',
        '{"type":"sendToGroup","stream":{"streamId":"t"}}',
    ],
)
def test_a_malformed_message_ends_the_connection_and_its_streams(message: str) -> None:
    _, publisher, member = streaming(start())
    publisher.send_raw(message)
    assert publisher.close_code == 1007
    assert parts(member) == [(1, "Cancelled")]


DEEP = "[" * 300 + "]" * 300
DEEPER = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"streamData","streamId":"s","streamSequenceId":1}',
        '{"type":"streamData","streamId":"s","streamSequenceId":1,"data":"x"}',
        '{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"text"}',
        '{"type":"streamData","streamId":"s","dataType":"text","data":"x"}',
        '{"type":"streamData","streamId":"s","data":null}',
        '{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"json","data":' + DEEP + "}",
        '{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"json","data":' + DEEPER + "}",
        '{"type":"sendToGroup","group":"room","stream":{"streamId":"s"},"data":' + DEEPER + "}",
        '{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"xml","data":1}',
        '{"type":"streamOther","streamId":"s"}',
    ],
)
def test_what_cannot_be_carried_out_ends_the_stream_alone(message: str) -> None:
    _, publisher, member = streaming(start())
    publisher.send_raw(message)
    assert heard(publisher) == [closed("BadRequest")]
    assert parts(member) == [(1, "Cancelled")]
    assert said(publisher, start(), fragment(1)) == [ack(1), ack(2)]


def test_halves_of_surrogate_pairs_are_replaced_in_data_and_errors() -> None:
    _, publisher, member = streaming(start())
    publisher.send_raw('{"type":"streamData","streamId":"s","streamSequenceId":1,"dataType":"text","data":"\\ud83d"}')
    publisher.send_raw('{"type":"streamEnd","streamId":"s","error":{"message":"\\ud83d"}}')
    one, last = member.received()
    assert one["data"] == last["stream"]["error"]["message"] == "\ufffd"
    answer = '{"type":"sendToGroup","group":"room","ackId":1,"stream":{"streamId":"\\ud83d"}}'
    publisher.send_raw(answer)
    refused = heard(publisher)[-1]
    assert (refused["ackId"], refused["error"]) == (1, "BadRequest")


@pytest.mark.parametrize("stream_id", ["\u202e\n\0", "\U0001f99b", '"\\', "a" * 1024])
def test_ids_of_any_characters_come_back_as_they_are(stream_id: str) -> None:
    service, publisher, member = streaming()
    seen: list[Any] = []
    service.core.observers.append(seen.append)
    assert said(publisher, start(stream_id), fragment(1, "x", stream_id)) == [ack(1, stream_id), ack(2, stream_id)]
    assert member.received()[0]["stream"]["streamId"] == stream_id
    assert said(publisher, end(stream_id), keepalive(stream_id)) == [
        closed(None, stream_id),
        closed("StreamNotFound", stream_id),
    ]
    assert all(len(json.dumps(note.stream_id)) < 500 for note in seen)
