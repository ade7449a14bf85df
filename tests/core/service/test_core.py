from __future__ import annotations

import json
import math
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.service.virtual import ServiceUnderTest

from limpet_core.service import JSON, NO_CLOSE_FRAME, RELIABLE_JSON, Limits, RawMode, server_publication
from limpet_core.service.wire.from_client import ProtocolViolation, decode
from limpet_core.service.wire.requests import SendToGroup, SequenceAck

JOIN = {"type": "joinGroup", "group": "room", "ackId": 1}


def ok(ack_id: int) -> dict[str, object]:
    return {"type": "ack", "ackId": ack_id, "success": True}


def ids(messages: list[dict[str, object]]) -> list[object]:
    return [message["sequenceId"] for message in messages]


# ---- Connecting


def test_the_first_message_of_a_reliable_client_says_connected_with_a_token() -> None:
    assert ServiceUnderTest().connect(user="ann").hello() == {
        "type": "system",
        "event": "connected",
        "userId": "ann",
        "connectionId": "c1",
        "reconnectionToken": "token-of-c1/1",
    }


def test_an_anonymous_client_without_reliability_has_a_null_user_and_no_token() -> None:
    hello = ServiceUnderTest().connect(subprotocol=JSON).hello()
    assert hello == {"type": "system", "event": "connected", "userId": None, "connectionId": "c1"}


def test_hubs_are_one_whatever_the_case_and_groups_are_not() -> None:
    service = ServiceUnderTest()
    receiver = service.connect(hub="Chat", groups=("room", "ROOM"))
    receiver.hello()
    service.connect(hub="chAT").publish("hi", "ROOM", dataType="text")
    service.connect(hub="other").publish("hi", "ROOM", dataType="text")
    assert [message["group"] for message in receiver.received()] == ["ROOM"]


# ---- Requests


@pytest.mark.parametrize(
    ("roles", "allowed"),
    [
        ((), False),
        (("webpubsub.joinLeaveGroup",), True),
        (("webpubsub.joinLeaveGroup.room",), True),
        (("webpubsub.joinLeaveGroup.other",), False),
        (("webpubsub.joinLeaveGroup.r*",), False),
        (("webpubsub.joinLeaveGroups.r?o*",), True),
        (("webpubsub.joinLeaveGroups.**",), True),
        (("webpubsub.joinLeaveGroups.x*",), False),
        (("webpubsub.sendToGroup",), False),
        (("webpubsub.joinLeaveGroups.\\x", "unknown", "webpubsub.joinLeaveGroup."), False),
    ],
)
def test_joining_and_leaving_take_the_role(roles: tuple[str, ...], allowed: bool) -> None:
    client = ServiceUnderTest().connect(roles=roles)
    client.hello()
    for kind, ack_id in (("joinGroup", 1), ("joinGroup", 2), ("leaveGroup", 3), ("leaveGroup", 4)):
        (answer,) = client.ask({"type": kind, "group": "room", "ackId": ack_id})
        assert answer["success"] is allowed
        if not allowed:
            assert answer["error"]["name"] == "Forbidden"


def test_without_an_ack_id_success_and_failure_are_silent() -> None:
    client = ServiceUnderTest().connect(roles=())
    client.hello()
    assert client.ask({"type": "joinGroup", "group": "room"}) == []
    assert client.ask({"type": "event", "event": "order", "data": 1}) == []


def test_an_event_without_a_handler_is_not_found() -> None:
    """The emulator has InternalServerError, by which a client could not tell that no handler was called."""
    client = ServiceUnderTest().connect()
    client.hello()
    (answer,) = client.ask({"type": "event", "event": "order", "ackId": 1, "data": 1})
    assert answer["error"]["name"] == "NotFound"


def test_a_repeated_ack_id_is_a_duplicate_and_not_carried_out() -> None:
    client = ServiceUnderTest().connect(groups=("room",))
    client.hello()
    publish = {"type": "sendToGroup", "group": "room", "ackId": 5, "dataType": "text", "data": "hi"}
    assert len(client.ask(publish)) == 2
    (answer,) = client.ask(publish)
    assert answer["success"] is False
    assert answer["error"] == {"name": "Duplicate", "message": "Message with ack-id: 5 has been processed"}


def test_a_refused_request_may_be_repeated_with_its_ack_id() -> None:
    client = ServiceUnderTest().connect(roles=())
    client.hello()
    assert client.ask(JOIN)[0]["error"]["name"] == "Forbidden"
    connection = client.transport.connection
    assert connection is not None
    connection.permissions.join_leave.grant("room")
    assert client.ask(JOIN) == [ok(1)]
    assert client.ask(JOIN)[0]["error"]["name"] == "Duplicate"


def test_the_newest_thousand_successful_ack_ids_are_remembered() -> None:
    client = ServiceUnderTest().connect()
    client.hello()
    for ack_id in range(1, 1001):
        assert client.ask({"type": "joinGroup", "group": "room", "ackId": ack_id}) == [ok(ack_id)]
    assert client.ask(JOIN)[0]["success"] is False
    assert client.ask({"type": "joinGroup", "group": "room", "ackId": 1001}) == [ok(1001)]
    assert client.ask(JOIN) == [ok(1)]


def test_an_echo_comes_before_the_ack_and_can_be_switched_off() -> None:
    service = ServiceUnderTest()
    sender = service.connect(user="ann", groups=("room",))
    other = service.connect(groups=("room",))
    sender.hello()
    other.hello()
    echo, answer = sender.ask({"type": "sendToGroup", "group": "room", "ackId": 1, "dataType": "text", "data": "a"})
    assert echo == {
        "sequenceId": 1,
        "type": "message",
        "from": "group",
        "group": "room",
        "fromUserId": "ann",
        "dataType": "text",
        "data": "a",
    }
    assert answer == ok(1)
    sender.publish("b", dataType="text", noEcho=True)
    assert sender.received() == []
    assert [message["data"] for message in other.received()] == ["a", "b"]


def test_a_sender_need_not_be_a_member_but_needs_the_role() -> None:
    service = ServiceUnderTest()
    member = service.connect(groups=("room",))
    member.hello()
    service.connect(roles=()).publish("no")
    service.connect(roles=("webpubsub.sendToGroup.room",)).publish("yes")
    assert [message["data"] for message in member.received()] == ["yes"]


@pytest.mark.parametrize(
    ("data_type", "data"),
    [
        ("json", {"a": [1, 2.5, None, True]}),
        ("json", "text"),
        ("json", 123456789012345678901234567890),
        ("json", False),
        ("json", "\U0001f600\u2028"),
        ("text", ""),
        ("text", "grüße"),
        ("binary", "AAEC"),
        ("binary", ""),
        ("protobuf", "CgFh"),
    ],
)
@pytest.mark.parametrize("subprotocol", [JSON, RELIABLE_JSON])
def test_payloads_arrive_as_they_were_sent(subprotocol: str, data_type: str, data: object) -> None:
    client = ServiceUnderTest().connect(subprotocol=subprotocol, groups=("room",))
    client.hello()
    client.publish(data, dataType=data_type, metadata={"trace-id": "x"})
    (message,) = client.received()
    assert (message["dataType"], message["data"]) == (data_type, data)
    assert message["metadata"] == {"trace-id": "x"}
    assert ("sequenceId" in message) is (subprotocol == RELIABLE_JSON)


def test_metadata_alone_is_sent_as_an_empty_text() -> None:
    client = ServiceUnderTest().connect(groups=("room",))
    client.hello()
    client.send({"type": "sendToGroup", "group": "room", "metadata": {"a": "b"}})
    (message,) = client.received()
    assert (message["dataType"], message["data"], message["metadata"]) == ("text", "", {"a": "b"})


def test_ping_is_answered_and_json_in_a_binary_frame_is_understood() -> None:
    client = ServiceUnderTest().connect()
    client.hello()
    client.send_raw(b'{"type":"ping"}')
    assert client.received() == [{"type": "pong"}]


@pytest.mark.parametrize(
    "message",
    [
        '{"type":"PING"}',
        '{"TYPE":1,"type":"ping","unknown":{"a":[1]}}',
        '{"type":"JoinGroup","group":"room","ackId":null}',
        '{"type":"joingroup","group":"room","ackId":18446744073709551615}',
        '{"type":"sendToGroup","group":"room","data":1,"ttlSeconds":null,"metadata":null,"ackId":null}',
        '{"type":"sendToGroup","group":"room","data":1,"ttlSeconds":300,"metadata":{},"stream":null}',
        '{"type":"sequenceAck","sequenceId":18446744073709551615}',
        '{"type":"event","event":"a.b-c_d","data":1}',
    ],
)
def test_tolerated_messages(message: str) -> None:
    client = ServiceUnderTest().connect()
    client.send_raw(message)
    assert client.close_code is None


@pytest.mark.parametrize(
    "message",
    [
        "",
        "no",
        "[]",
        "null",
        '"ping"',
        "{}",
        '{"type":null}',
        '{"type":1}',
        '{"type":"ping"}x',
        '{"type":"joinGroup"}',
        '{"type":"joinGroup","group":""}',
        '{"type":"joinGroup","group":" \\t"}',
        '{"type":"joinGroup","group":1}',
        '{"type":"joinGroup","group":null}',
        '{"type":"joinGroup","group":"\\ud800"}',
        '{"type":"joinGroup","group":"' + "g" * 1025 + '"}',
        '{"type":"joinGroup","group":"room","ackId":"1"}',
        '{"type":"joinGroup","group":"room","ackId":-1}',
        '{"type":"joinGroup","group":"room","ackId":1.5}',
        '{"type":"joinGroup","group":"room","ackId":18446744073709551616}',
        '{"type":"sendToGroup","group":"room"}',
        '{"type":"sendToGroup","group":"room","metadata":{}}',
        '{"type":"sendToGroup","group":"room","data":null}',
        '{"type":"sendToGroup","group":"room","data":1,"noEcho":null}',
        '{"type":"sendToGroup","group":"room","data":1,"dataType":null}',
        '{"type":"sendToGroup","group":"room","data":1,"dataType":"text"}',
        '{"type":"sendToGroup","group":"room","data":"AAE","dataType":"binary"}',
        '{"type":"sendToGroup","group":"room","data":"AA E","dataType":"binary"}',
        '{"type":"sendToGroup","group":"room","data":"AA-_","dataType":"binary"}',
        '{"type":"sendToGroup","group":"room","data":"AAEC\\n","dataType":"protobuf"}',
        '{"type":"sendToGroup","group":"room","data":1,"ttlSeconds":301}',
        '{"type":"sendToGroup","group":"room","data":1,"ttlSeconds":-1}',
        '{"type":"sendToGroup","group":"room","data":1,"metadata":[]}',
        '{"type":"sendToGroup","group":"room","data":1,"metadata":{"a":1}}',
        '{"type":"sendToGroup","group":"room","data":1,"metadata":{"a":{}}}',
        '{"type":"sendToGroup","group":"room","data":1,"metadata":{"a":' + "9" * 5000 + "}}",
        '{"type":"sendToGroup","group":"room","data":1,"metadata":{"a":' + "[" * 900 + "]" * 900 + "}}",
        '{"type":"sendToGroup","group":"room","data":1,"metadata":{"a b":"c"}}',
        '{"type":"sendToGroup","group":"room","data":1,"metadata":{"":"c"}}',
        '{"type":"sendToGroup","group":"room","data":1,"metadata":{"a":"é"}}',
        '{"type":"sendToGroup","group":"room","data":1,"metadata":{"a":"b","a":"c"}}',
        '{"type":"sendToGroup","group":"room","data":1,"metadata":{"a":"' + "b" * 1025 + '"}}',
        json.dumps(
            {
                "type": "sendToGroup",
                "group": "room",
                "data": 1,
                "metadata": {f"k{n}": "v" * 1024 for n in range(8)},
            }
        ),
        '{"type":"event","event":"1st","data":1}',
        '{"type":"event","event":"order"}',
        '{"type":"sequenceAck"}',
        '{"type":"sequenceAck","sequenceId":null}',
        '{"type":"sequenceAck","sequenceId":"1"}',
        b'{"type":"ping","x":"\xff"}',
        b'\xef\xbb\xbf{"type":"ping"}',
        '{"type":"sendToGroup","group":"room","data":' + "[" * 200_000 + "]" * 200_000 + "}",
        '{"type":"ping","x":"\ud800"}',
    ],
)
def test_an_invalid_message_ends_the_connection_with_1007_and_without_an_ack(message: str | bytes) -> None:
    service = ServiceUnderTest()
    client = service.connect()
    hello = client.hello()
    client.send_raw(message)
    assert client.close_code == 1007
    assert client.received() == []
    assert client.ask({"type": "ping"}) == []
    assert service.recover(hello).close_code == 1008


def test_a_message_of_exactly_the_limit_is_fine_and_one_byte_more_closes_with_1009() -> None:
    service = ServiceUnderTest(max_message_size=64)
    client = service.connect()
    client.send_raw('{"type":"ping"}'.ljust(64))
    assert client.close_code is None
    client.send_raw('{"type":"ping"}'.ljust(65))
    assert client.close_code == 1009


# ---- Reliability


def test_what_is_not_acknowledged_comes_again_in_order_after_a_recovery() -> None:
    service = ServiceUnderTest()
    client = service.connect(groups=("room",))
    hello = client.hello()
    sender = service.connect()
    for text in "ab":
        sender.publish(text)
    before = client.received()
    assert ids(before) == [1, 2]
    client.send({"type": "sequenceAck", "sequenceId": 1})
    client.drop()
    for text in "cde":
        sender.publish(text)

    recovered = service.recover(hello)
    again, *messages = recovered.received()
    assert again["event"] == "connected"
    assert again["connectionId"] == hello["connectionId"]
    assert again["reconnectionToken"] != hello["reconnectionToken"]
    assert messages[0] == before[1]
    assert [(message["sequenceId"], message["data"]) for message in messages] == [
        (2, "b"),
        (3, "c"),
        (4, "d"),
        (5, "e"),
    ]

    recovered.send({"type": "sequenceAck", "sequenceId": 5})
    recovered.drop()
    third = service.recover(again)
    third.hello()
    sender.publish("f")
    assert ids(third.received()) == [6]


def test_without_connected_after_recovery_the_replay_comes_first() -> None:
    service = ServiceUnderTest(connected_after_recovery=False)
    client = service.connect(groups=("room",))
    hello = client.hello()
    client.publish("a")
    client.drop()
    assert ids(service.recover(hello).received()) == [1]


def test_acknowledging_more_than_was_sent_acknowledges_everything() -> None:
    service = ServiceUnderTest()
    client = service.connect(groups=("room",))
    hello = client.hello()
    client.publish("a")
    client.send({"type": "sequenceAck", "sequenceId": 99})
    client.drop()
    recovered = service.recover(hello)
    recovered.hello()
    recovered.publish("b")
    assert ids(recovered.received()) == [2]


def test_groups_permissions_user_and_ack_ids_survive_a_recovery() -> None:
    service = ServiceUnderTest()
    client = service.connect(user="ann", roles=("webpubsub.joinLeaveGroup.room",))
    hello = client.hello()
    assert client.ask(JOIN) == [ok(1)]
    client.drop()
    recovered = service.recover(hello)
    assert recovered.hello()["userId"] == "ann"
    assert recovered.ask(JOIN)[0]["error"]["name"] == "Duplicate"
    service.connect().publish("still a member")
    assert len(recovered.received()) == 1


@pytest.mark.parametrize("detached", [False, True])
def test_the_thousand_and_first_unacknowledged_message_ends_the_connection(detached: bool) -> None:
    service = ServiceUnderTest()
    client = service.connect(groups=("room",))
    hello = client.hello()
    if detached:
        client.drop()
    sender = service.connect()
    for number in range(1000):
        sender.publish(number)
        client.received()
    assert client.close_code is None
    assert service.core.connection("c1") is not None
    sender.publish("one too many")
    assert service.core.connection("c1") is None
    assert service.core.deadline == math.inf
    if not detached:
        assert client.close_code == 1008
    assert service.recover(hello).close_code == 1008


def test_a_thousand_messages_are_replayed_and_one_more_is_delivered_after_an_ack() -> None:
    service = ServiceUnderTest()
    client = service.connect(groups=("room",))
    hello = client.hello()
    client.drop()
    sender = service.connect()
    for number in range(1000):
        sender.publish(number)
    recovered = service.recover(hello)
    recovered.send({"type": "sequenceAck", "sequenceId": 1})
    sender.publish(1000)
    assert ids(recovered.received()[1:]) == list(range(1, 1002))
    assert recovered.close_code is None


def test_acknowledged_bytes_make_room_for_new_ones() -> None:
    service = ServiceUnderTest(retained_bytes=10_000)
    client = service.connect(groups=("room",))
    client.hello()
    for number in range(1, 101):
        service.connect().publish("x" * 900)
        client.received()
        client.send({"type": "sequenceAck", "sequenceId": number})
    assert client.close_code is None


def test_bytes_are_limited_behind_acknowledgements_as_before_them() -> None:
    service = ServiceUnderTest(retained_bytes=10_000)
    client, sender = service.connect(groups=("room",)), service.connect()
    client.hello()
    for number in range(1, 41):
        sender.publish("x" * 900)
        client.received()
        client.send({"type": "sequenceAck", "sequenceId": number - 1})
    for _ in range(8):
        sender.publish("x" * 900)
    assert client.close_code is None, "nine are retained"
    sender.publish("x" * 2000)
    assert client.close_code == 1008


def test_the_retained_bytes_are_limited_too() -> None:
    service = ServiceUnderTest(retained_bytes=10_000)
    client = service.connect(groups=("room",))
    client.hello()
    sender = service.connect()
    for _ in range(9):
        sender.publish("x" * 900)
    assert client.close_code is None
    sender.publish("x" * 2000)
    assert client.close_code == 1008


def test_a_slow_client_without_reliability_is_closed_with_1008() -> None:
    service = ServiceUnderTest(retained_messages=10)
    slow = service.connect(subprotocol=JSON, groups=("room",))
    fast = service.connect(subprotocol=JSON, groups=("room",))
    slow.hello()
    for number in range(11):
        service.connect(subprotocol=JSON).publish(number)
        fast.received()
    assert (slow.close_code, fast.close_code) == (1008, None)
    assert slow.received() == []


def test_a_client_that_only_asks_and_never_reads_is_closed_with_1008() -> None:
    service = ServiceUnderTest(retained_messages=10)
    client = service.connect()
    for _ in range(10 + 32):
        client.send({"type": "ping"})
    assert client.close_code == 1008


def test_expired_messages_are_left_out_of_the_replay() -> None:
    service = ServiceUnderTest()
    client = service.connect(groups=("room",))
    hello = client.hello()
    client.drop()
    sender = service.connect()
    sender.publish("short", ttlSeconds=5)
    sender.publish("long", ttlSeconds=300)
    sender.publish("endless", ttlSeconds=0)
    service.advance(5)
    assert [message["data"] for message in service.recover(hello).received()[1:]] == ["long", "endless"]


def test_the_window_is_counted_from_each_drop_and_then_recovery_is_refused() -> None:
    service = ServiceUnderTest()
    client = service.connect(groups=("room",))
    hello = client.hello()
    service.advance(100)
    client.drop()
    assert service.core.deadline == service.now + 30
    service.advance(29.9)
    recovered = service.recover(hello)
    assert recovered.close_code is None
    assert service.core.deadline == math.inf
    recovered.drop()
    service.advance(30)
    assert service.core.connection("c1") is None
    assert len(service.core.hub("chat").members("room")) == 0
    refused = service.recover(hello)
    assert refused.close_code == 1008
    assert refused.received() == []
    assert refused.transport.connection is None


def test_recovery_is_refused_when_the_window_is_over_though_nobody_woke_the_service() -> None:
    service = ServiceUnderTest()
    client = service.connect()
    hello = client.hello()
    client.drop()
    service.now += 30
    assert service.recover(hello).close_code == 1008


def test_dropped_connections_end_in_the_order_of_their_drops() -> None:
    service = ServiceUnderTest()
    clients = [service.connect() for _ in range(3)]
    for client in (clients[1], clients[0], clients[2]):
        client.drop()
        service.advance(1)
    assert service.core.deadline == service.now - 3 + 30
    service.advance(27)
    assert [service.core.connection(f"c{n}") is None for n in (1, 2, 3)] == [False, True, False]
    service.advance(30)
    assert service.core.deadline == math.inf


def test_a_second_drop_is_due_after_the_drops_before_it() -> None:
    service = ServiceUnderTest()
    first, second = service.connect(), service.connect()
    hello = first.hello()
    first.drop()
    service.advance(1)
    again = service.recover(hello)
    second.drop()
    due = service.core.deadline
    service.advance(1)
    again.drop()
    assert service.core.deadline == due == service.now + 29
    service.advance(29)
    assert [service.core.connection(name) is None for name in ("c1", "c2")] == [False, True]


@pytest.mark.parametrize("code", [1001, 1002, 1003, 1005, 1006, 1007, 1008, 1009, 1011, 4000])
def test_after_these_close_codes_a_connection_can_be_recovered(code: int) -> None:
    service = ServiceUnderTest()
    client = service.connect()
    hello = client.hello()
    client.drop(code)
    assert service.recover(hello).close_code is None


def test_a_connection_that_its_client_closes_with_1000_is_over_at_once() -> None:
    service = ServiceUnderTest()
    client = service.connect()
    hello = client.hello()
    client.drop(1000)
    assert service.core.connection("c1") is None
    assert service.recover(hello).close_code == 1008


@pytest.mark.parametrize("code", [1002, 1007, 1009])
def test_a_client_that_breaks_the_rules_of_websockets_has_nothing_to_recover(code: int) -> None:
    service = ServiceUnderTest()
    client = service.connect()
    hello = client.hello()
    service.core.transport_broken(client.transport, code, service.now)
    assert service.core.connection("c1") is None
    assert service.recover(hello).close_code == 1008
    service.core.transport_broken(client.transport, code, service.now)  # repeats do nothing


def test_a_transport_that_was_replaced_may_break_without_consequences() -> None:
    service = ServiceUnderTest()
    client = service.connect()
    again = service.recover(client.hello())
    service.core.transport_broken(client.transport, 1002, service.now)
    assert again.ask({"type": "ping"})[-1] == {"type": "pong"}


def test_a_client_without_reliability_cannot_be_recovered_even_while_it_is_attached() -> None:
    service = ServiceUnderTest()
    client = service.connect(subprotocol=JSON)
    refused = service.recover({"connectionId": "c1", "reconnectionToken": "token-of-c1/1"})
    assert (client.close_code, refused.close_code) == (None, 1008)


def test_a_client_without_reliability_is_over_when_its_transport_is() -> None:
    service = ServiceUnderTest()
    client = service.connect(subprotocol=JSON, user="ann", groups=("room",))
    client.drop()
    assert service.core.connection("c1") is None
    assert len(service.core.hub("chat").user("ann")) == 0
    assert service.recover({"connectionId": "c1", "reconnectionToken": "token-of-c1/1"}).close_code == 1008


@pytest.mark.parametrize(
    ("hub", "token"),
    [("other", None), ("chat", "token-of-c2/1"), ("chat", "")],
)
def test_recovery_takes_the_right_hub_and_token(hub: str, token: str | None) -> None:
    service = ServiceUnderTest()
    client = service.connect()
    hello = client.hello()
    client.drop()
    assert service.recover(hello, hub=hub, token=token).close_code == 1008
    assert service.recover(hello, hub="CHAT").close_code is None


def test_a_second_transport_replaces_the_first_which_is_aborted() -> None:
    service = ServiceUnderTest()
    client = service.connect(groups=("room",))
    hello = client.hello()
    client.publish("a")
    second = service.recover(hello)
    assert client.close_code == NO_CLOSE_FRAME
    assert client.received() == []
    client.publish("ignored")
    client.drop()
    assert ids(second.received()[1:]) == [1]
    second.publish("b")
    assert ids(second.received()) == [2]
    assert service.core.deadline == math.inf


# ---- What the application server does


def test_the_service_closes_with_a_disconnected_message_and_1000() -> None:
    service = ServiceUnderTest()
    client = service.connect()
    hello = client.hello()
    service.core.close_connection("c1", "bye")
    said = "Application server closed the connection. Reason: bye"
    assert client.received() == [{"type": "system", "event": "disconnected", "message": said}]
    assert client.transport.close is not None
    assert (client.close_code, client.transport.close.reason) == (1000, "")
    client.drop()
    assert service.recover(hello).close_code == 1008
    service.core.close_connection("c1", "again")


def test_a_detached_connection_can_be_closed() -> None:
    service = ServiceUnderTest()
    client = service.connect()
    hello = client.hello()
    client.drop()
    service.core.close_connection("c1", "bye")
    assert service.core.deadline == math.inf
    assert service.recover(hello).close_code == 1008


def test_a_message_that_waits_too_long_for_a_slow_client_is_dropped() -> None:
    service = ServiceUnderTest()
    reliable, plain = service.connect(), service.connect(subprotocol=JSON)
    for client in (reliable, plain):
        client.hello()
    for data, seconds in ((b"1", 5.0), (b"2", math.inf), (b"3", 15.0)):
        service.core.send_to_all("chat", server_publication("json", data, expires=service.now + seconds))
    service.advance(5)
    assert [message["data"] for message in plain.received()] == [2, 3]
    assert ids(reliable.received()) == [2, 3]
    # What was replayed and still waits expires as well.
    reliable.drop()
    recovered = service.recover({"connectionId": "c1", "reconnectionToken": "token-of-c1/1"})
    service.advance(10)
    assert ids(recovered.received()[1:]) == [2]


def test_server_messages_reach_all_a_user_a_connection_or_a_group() -> None:
    service = ServiceUnderTest()
    ann, ben = service.connect(user="ann", groups=("room",)), service.connect(user="ben")
    for client in (ann, ben):
        client.hello()
    publication = server_publication("text", b'"x"')
    service.core.send_to_all("chat", publication)
    service.core.send_to_user("chat", "ann", publication)
    service.core.send_to_connection("c2", publication)
    service.core.send_to_connection("gone", publication)
    service.core.send_to_group("chat", "room", publication)
    assert ids(ann.received()) == [1, 2, 3]
    assert ben.received() == [
        {"sequenceId": n, "type": "message", "from": "server", "dataType": "text", "data": "x"} for n in (1, 2)
    ]


def test_shutting_down_closes_everybody_with_1001() -> None:
    service = ServiceUnderTest()
    clients = [service.connect() for _ in range(3)]
    raw = service.connect(raw=RawMode())
    clients[0].drop()
    clients[1].received()
    service.core.shut_down()
    assert [client.close_code for client in clients] == [None, 1001, 1001]
    assert clients[1].received() == [
        {"type": "system", "event": "disconnected", "message": "The service is shutting down."}
    ]
    assert (raw.close_code, raw.received_raw()) == (1001, [])
    assert service.core.deadline == math.inf


def test_only_transports_with_output_are_handed_out_and_only_once() -> None:
    service = ServiceUnderTest()
    clients = [service.connect(groups=("room",)) for _ in range(3)]
    assert service.core.transports_with_output() == [client.transport for client in clients]
    assert service.core.transports_with_output() == []
    clients[0].publish("a", noEcho=True)
    clients[0].publish("b", noEcho=True)
    assert service.core.transports_with_output() == [client.transport for client in clients[1:]]


def test_limits_are_validated() -> None:
    for wrong in ({"recovery_window": -1.0}, {"recovery_window": math.nan}, {"retained_messages": 0}):
        with pytest.raises(ValueError, match=r"must|number"):
            Limits(**wrong)


# ---- Properties

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
TYPES = st.sampled_from(["joinGroup", "sendToGroup", "event", "sequenceAck", "ping", "LEAVEGROUP", ""])
FIELDS = st.sampled_from(
    [
        "group",
        "ackId",
        "data",
        "dataType",
        "noEcho",
        "metadata",
        "ttlSeconds",
        "stream",
        "event",
        "sequenceId",
    ]
)
ALMOST_MESSAGES = st.builds(
    lambda kind, fields: json.dumps({"type": kind, **fields}),
    TYPES | JSON_VALUES,
    st.dictionaries(FIELDS, JSON_VALUES | st.sampled_from(["room", "json", "text", "binary", 1])),
)


@given(st.lists(st.binary() | st.text() | ALMOST_MESSAGES | JSON_VALUES.map(json.dumps), max_size=5))
def test_nothing_a_client_sends_raises_and_what_others_receive_is_json(
    messages: list[str | bytes],
) -> None:
    service = ServiceUnderTest()
    member = service.connect(groups=("room",))
    sender = service.connect(groups=("room",))
    for message in messages:
        sender.send_raw(message)
        member.received()
        sender.received()
    assert member.close_code is None
    assert sender.close_code in (None, 1007)


@given(
    st.lists(st.sampled_from(["publish", "read", "ack", "drop", "recover", "replace", "wait"]), max_size=40),
    st.booleans(),
)
def test_over_any_drops_each_message_is_delivered_once_and_in_order(steps: list[str], connected: bool) -> None:
    service = ServiceUnderTest(connected_after_recovery=connected)
    client = service.connect(groups=("room",))
    sender = service.connect()
    hello = client.hello()
    attached = True
    published = 0
    delivered: list[object] = []
    largest = 0

    def read() -> None:
        nonlocal largest
        for message in client.received():
            if message["type"] == "message" and message["sequenceId"] > largest:
                assert message["sequenceId"] == largest + 1
                largest = message["sequenceId"]
                delivered.append(message["data"])

    for step in [*steps, "replace", "read"]:
        if step == "publish":
            published += 1
            sender.publish(published)
        elif step == "read":
            read()
        elif step == "ack":
            client.send({"type": "sequenceAck", "sequenceId": largest})
        elif step == "drop":
            client.drop()
            attached = False
        elif step == "replace" or (step == "recover" and not attached):
            client = service.recover(hello)
            attached = True
            assert client.close_code is None
        elif step == "wait" and attached:
            service.advance(60)
    assert delivered == list(range(1, published + 1))


# ---- Hubs


def test_a_hub_lasts_as_long_as_its_connections() -> None:
    service = ServiceUnderTest()
    for number in range(100):
        assert not service.core.hub(f"named{number}").connections
    assert list(service.core.hubs) == []
    first, second = service.connect(hub="Chat"), service.connect(hub="chat")
    first.drop(1000)
    assert [hub.name for hub in service.core.hubs] == ["chat"]
    gone = weakref.ref(service.core.hub("chat"))
    second.drop()
    assert [hub.name for hub in service.core.hubs] == ["chat"], "its connection may come back"
    service.advance(30)
    assert (list(service.core.hubs), gone()) == ([], None)


def test_a_hub_that_somebody_keeps_stays_the_same() -> None:
    service = ServiceUnderTest()
    hub = service.core.hub("chat")
    for _ in range(2):
        client = service.connect(groups=("room",))
        assert len(hub.members("room")) == 1
        client.drop(1000)
        assert len(hub.members("room")) == 0


# ---- Decoding


@pytest.mark.parametrize("metadata", ["null", "{}"])
@pytest.mark.parametrize("data_type", ["json", "text"])
def test_empty_metadata_are_none(data_type: str, metadata: str) -> None:
    text = f'{{"type":"sendToGroup","group":"room","dataType":"{data_type}","data":"x","metadata":{metadata}}}'
    message = decode(text.encode())
    assert isinstance(message, SendToGroup)
    assert bytes(message.metadata) == b""


def test_the_metadata_of_a_text_are_passed_on_in_compact_form() -> None:
    message = decode(b'{"type":"sendToGroup","group":"room","dataType":"text","data":"x","metadata":{ "a" : "b" }}')
    assert isinstance(message, SendToGroup)
    assert (bytes(message.data), bytes(message.metadata)) == (b'"x"', b'{"a":"b"}')


def test_sequence_ids_have_64_bits() -> None:
    assert decode(b'{"type":"sequenceAck","sequenceId":%d}' % (2**64 - 1)) == SequenceAck(2**64 - 1)
    with pytest.raises(ProtocolViolation, match="sequenceId does not fit in 64 bits"):
        decode(b'{"type":"sequenceAck","sequenceId":%d}' % 2**64)
