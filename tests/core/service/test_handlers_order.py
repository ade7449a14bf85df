"""Event handlers in virtual time: what waits for whom, and what is told of connections that come and go."""

from __future__ import annotations

import pytest
from tests.core.service.backend import (
    EVENTS_ONLY,
    NEWS,
    Backend,
    ack,
    body,
    event,
    failure,
    header,
    talking,
)
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import (
    JSON,
    Binary,
    EventHandler,
    RawMode,
)

# ---- Order


def test_a_slow_handler_holds_up_what_comes_after_but_no_ping_and_no_sequence_ack() -> None:
    service, backend, client = talking()
    other = service.connect()
    other.hello()
    client.ask({"type": "joinGroup", "group": "room", "ackId": 1})
    other.publish("before")
    client.send(event("first", ackId=2))
    call = backend.call()
    client.publish("mine", ackId=3)
    client.send({"type": "leaveGroup", "group": "room", "ackId": 4})
    client.send(event("second", ackId=5))
    client.send({"type": "sequenceAck", "sequenceId": 1})
    assert [message["type"] for message in client.ask({"type": "ping"})] == ["message", "pong"]
    connection = client.transport.connection
    assert connection is not None
    assert connection.retained == 0
    # Others are not concerned: neither their messages nor their events.
    other.publish("more")
    assert [message["data"] for message in client.received()] == ["more"]
    other.send(event("third", ackId=1))
    assert [running.event for running in backend.calls()] == ["first", "third"]
    backend.answer(call, body="done")
    received = client.received()
    assert [message.get("data", message.get("ackId")) for message in received] == ["done", 2, "mine", 3, 4]
    assert [running.event for running in backend.calls()] == ["third", "second"]


def test_events_of_one_client_are_called_one_after_the_other_with_rising_ids() -> None:
    _, backend, client = talking()
    for number in range(1500):
        client.send(event("order", str(number)))
        if number % 3 == 0:
            backend.answer()
    seen = [500]
    while backend.calls():
        call = backend.answer()
        seen.append(int(call.body))
        assert header(call, "ce-id") == str(seen[-1] + 2)
    assert seen[1:] == list(range(500, 1500))


@pytest.mark.parametrize("size", [10, 6000])
def test_a_client_that_does_not_wait_for_its_handler_is_ended(size: int) -> None:
    service, backend, client = talking(NEWS, retained_messages=20, retained_bytes=50_000)
    backend.answer()
    sent = 0
    while client.transport.close is None:
        client.send(event("order", "x" * size))
        sent += 1
    assert client.close_code == 1008
    assert sent == (22 if size == 10 else 10)
    # What waited is dropped; the handler hears of the end when it has answered.
    backend.answer()
    assert body(backend.call())["reason"] == client.transport.close.reason
    assert service.core.connection("c1") is None


def test_what_a_client_sent_before_it_left_still_counts() -> None:
    service, backend, client = talking(NEWS)
    backend.answer()
    other = service.connect(groups=("room",))
    other.hello()
    backend.answer()
    client.send(event("first", ackId=1))
    client.publish("bye", ackId=2)
    client.send({"type": "joinGroup", "group": "room", "ackId": 3})
    client.send(event("second", ackId=4))
    client.drop(1000)
    assert backend.call().event == "first"
    backend.answer(body="too late")
    assert [message["data"] for message in other.received()] == ["bye"]
    assert len(service.core.hub("chat").members("room")) == 1
    assert backend.answer().event == "second"
    assert backend.answer().event == "disconnected"
    assert backend.idle()
    assert client.received() == []


def test_if_the_handler_fails_nobody_works_for_a_client_that_is_gone() -> None:
    _, backend, client = talking(NEWS)
    backend.answer()
    for _ in range(5):
        client.send(event())
    client.drop(1000)
    backend.fail("timeout")
    assert backend.call().event == "disconnected"


def test_a_reply_is_replayed_after_a_recovery_and_a_repeat_is_not_done_again() -> None:
    service = ServiceUnderTest(EVENTS_ONLY)
    backend, client = Backend(service), service.connect()
    hello = client.hello()
    client.send(event(ackId=1))
    call = backend.call()
    client.drop()
    backend.answer(call, body="done", headers=[("ce-connectionState", "s")])
    client = service.recover(hello)
    client.send(event(ackId=1))
    _, message, repeat = client.received()
    assert (message["sequenceId"], message["data"]) == (1, "done")
    assert failure([repeat]) == (1, "Duplicate")
    client.send(event(ackId=2))
    assert header(backend.call(), "ce-connectionState") == "s"


def test_a_handler_that_answers_after_a_recovery_answers_the_new_transport() -> None:
    service = ServiceUnderTest(EVENTS_ONLY)
    backend, client = Backend(service), service.connect()
    hello = client.hello()
    client.send(event(ackId=1))
    call = backend.call()
    client.drop()
    client = service.recover(hello)
    client.hello()
    backend.answer(call)
    assert client.received() == [ack(1)]


def raw_world() -> tuple[ServiceUnderTest, Backend, Client]:
    service = ServiceUnderTest(NEWS)
    backend, client = Backend(service), service.connect(raw=RawMode())
    connected = backend.answer()
    assert header(connected, "ce-subprotocol") is None
    return service, backend, client


@pytest.mark.parametrize(
    ("frame", "content_type"), [("hi \u20ac", "text/plain; charset=utf-8"), (b"\x00\xff", "application/octet-stream")]
)
def test_frames_of_raw_clients_are_events_called_message(frame: str | bytes, content_type: str) -> None:
    _, backend, client = raw_world()
    client.send_raw(frame)
    client.send_raw("next")
    call = backend.call()
    assert call.event == "message"
    assert call.body == (frame.encode() if isinstance(frame, str) else frame)
    assert header(call, "Content-Type") == content_type
    backend.answer()
    assert backend.answer().body == b"next"
    assert client.transport.messages_to_send() == []


@pytest.mark.parametrize(
    ("content_type", "payload", "binary"),
    [
        ("text/plain", b"yes", False),
        ("application/json", b'"yes"', False),
        ("application/octet-stream", b"\x00", True),
        ("application/x-protobuf", b"\x00", True),
    ],
)
def test_a_reply_to_a_raw_client_is_one_frame_with_the_body(content_type: str, payload: bytes, binary: bool) -> None:
    _, backend, client = raw_world()
    client.send_raw("question")
    backend.answer(body=payload, content_type=content_type)
    (message,) = client.transport.messages_to_send()
    assert message == payload
    assert isinstance(message, Binary) is binary


def test_an_empty_reply_with_metadata_is_an_empty_frame_to_a_raw_client() -> None:
    _, backend, client = raw_world()
    client.send_raw("question")
    backend.answer(headers=[("x-webpubsub-metadata-a", "1")])
    assert client.transport.messages_to_send() == [b""]


def test_a_raw_client_whose_event_fails_is_closed() -> None:
    _, backend, client = raw_world()
    client.send_raw("question")
    client.send_raw("another")
    backend.answer(status=400)
    assert client.close_code == 1011
    assert backend.answer().event == "disconnected"
    assert backend.idle()


def test_a_raw_client_that_left_cannot_be_closed() -> None:
    _, backend, client = raw_world()
    client.send_raw("question")
    client.send_raw("another")
    client.drop(1000)
    backend.answer()
    backend.answer(status=400)
    assert backend.answer().event == "disconnected"


# ---- Connected and disconnected


def test_connections_that_come_and_go_are_told_once_each() -> None:
    service = ServiceUnderTest(NEWS)
    backend, client = Backend(service), service.connect(user="ann")
    hello = client.hello()
    call = backend.answer()
    assert (call.url, call.body) == ("http://app.example/api/chat/connected?code=secret", b"{}")
    assert header(call, "Content-Type") == "application/json"
    assert [header(call, name) for name in ("ce-type", "ce-id", "ce-eventName")] == [
        "azure.webpubsub.sys.connected",
        "1",
        "connected",
    ]
    client.drop()
    client = service.recover(hello)
    assert backend.idle()
    client.drop()
    service.advance(29)
    assert backend.idle()
    service.advance(1)
    call = backend.answer()
    assert header(call, "ce-type") == "azure.webpubsub.sys.disconnected"
    assert header(call, "ce-id") == "2"
    assert body(call) == {"reason": "The connection recovery timeout expired."}
    service.advance(1000)
    assert backend.idle()


def test_a_close_by_the_service_is_told_with_its_reason() -> None:
    service, backend, _ = talking(NEWS)
    backend.answer()
    service.core.close_connection("c1", "Too loud.")
    assert body(backend.call()) == {"reason": "Application server closed the connection. Reason: Too loud."}


def test_connected_is_not_waited_for_but_disconnected_comes_last() -> None:
    _, backend, client = talking(NEWS)
    connected = backend.call()
    client.send(event(ackId=1))
    _, running = backend.calls()
    backend.answer(running)
    assert client.received() == [ack(1)]
    client.drop(1000)
    assert backend.calls() == [connected]
    backend.answer(connected, status=400)
    assert backend.call().event == "disconnected"


def test_a_connection_that_ends_amid_its_opening_is_told_as_connected_first() -> None:
    # Not even the connected message has room.
    service = ServiceUnderTest(NEWS, retained_bytes=1)
    backend, client = Backend(service), service.connect(subprotocol=JSON)
    assert client.close_code == 1008
    assert backend.answer().event == "connected"
    assert backend.answer().event == "disconnected"
    assert backend.idle()


def test_a_handler_of_the_beginnings_alone_is_not_told_of_the_ends() -> None:
    service = ServiceUnderTest(
        EventHandler(url="http://app.example/{event}", user_events=(), system_events=("connected",))
    )
    backend, client = Backend(service), service.connect()
    assert backend.answer().event == "connected"
    client.drop(1000)
    assert backend.idle()
