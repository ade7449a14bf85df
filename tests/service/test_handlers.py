"""Event handlers in virtual time: what they are told, what their answers do, and what waits for whom."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from tests.service.backend import Backend, body, header
from tests.service.virtual import Client, World

from holdfast_core.service import (
    JSON,
    JSON_RELIABLE,
    Binary,
    ClientGrant,
    ConnectRequest,
    EventHandler,
    HandlerCall,
    PendingConnect,
    RawMode,
)

URL = "http://app.example/api/{hub}/{event}?code=secret"
EVENTS_ONLY = EventHandler(url=URL, system_events=())
NEWS = EventHandler(url=URL, system_events=("connected", "disconnected"))
EVERYTHING = EventHandler(url=URL)


def talking(
    handler: EventHandler = EVENTS_ONLY, subprotocol: str = JSON_RELIABLE, **limits: Any
) -> tuple[World, Backend, Client]:
    """A world whose only client has said hello."""
    world = World(handler, **limits)
    backend = Backend(world)
    client = world.connect(user="ann", subprotocol=subprotocol)
    client.hello()
    return world, backend, client


def event(name: str = "order", data: object = "x", **more: object) -> dict[str, object]:
    return {"type": "event", "event": name, "dataType": "text", "data": data, **more}


def ack(ack_id: int) -> dict[str, object]:
    return {"type": "ack", "ackId": ack_id, "success": True}


def failure(answers: list[dict[str, Any]]) -> tuple[int, str]:
    """Return ack id and error name of the only answer."""
    (answer,) = answers
    assert answer["success"] is False
    assert answer["error"]["message"]
    return answer["ackId"], answer["error"]["name"]


# --- The request ------------------------------------------------------------------------------------


def test_an_event_is_a_cloud_event_with_the_signatures_of_both_keys() -> None:
    _, backend, client = talking()
    client.send(event("order.create", "hé", ackId=1, metadata={"Trace-ID": "abc"}))
    call = backend.call()
    assert (call.method, call.url) == ("POST", "http://app.example/api/chat/order.create?code=secret")
    assert call.body == "hé".encode()

    def signature(key: bytes) -> str:
        return "sha256=" + hmac.digest(key, b"c1", hashlib.sha256).hex()

    assert dict(call.headers) == {
        "ce-specversion": "1.0",
        "ce-awpsversion": "1.0",
        "ce-type": "azure.webpubsub.user.order.create",
        "ce-source": "/hubs/chat/client/c1",
        "ce-id": "1",
        "ce-time": "2026-01-31T12:00:00Z",
        "ce-hub": "chat",
        "ce-connectionId": "c1",
        "ce-eventName": "order.create",
        "ce-userId": "ann",
        "ce-subprotocol": JSON_RELIABLE,
        "ce-signature": f"{signature(b'first')},{signature(b'second')}",
        "WebHook-Request-Origin": "service.example:8080",
        "Content-Type": "text/plain",
        "x-webpubsub-metadata-trace-id": "abc",
    }


@pytest.mark.parametrize(
    ("message", "content_type", "payload"),
    [
        ({"dataType": "text", "data": "\u20ac"}, "text/plain", "\u20ac".encode()),
        ({"dataType": "text", "data": ""}, "text/plain", b""),
        ({"dataType": "json", "data": {"a": [1]}}, "application/json", b'{"a": [1]}'),
        ({"data": "s"}, "application/json", b'"s"'),
        ({"dataType": "binary", "data": "AP8="}, "application/octet-stream", b"\x00\xff"),
        ({"dataType": "protobuf", "data": "AP8="}, "application/x-protobuf", b"\x00\xff"),
        ({"metadata": {"a": "b"}}, "text/plain", b""),
    ],
)
def test_the_body_is_the_payload_itself(message: dict[str, object], content_type: str, payload: bytes) -> None:
    _, backend, client = talking()
    client.send({"type": "event", "event": "order", **message})
    call = backend.call()
    assert (header(call, "Content-Type"), call.body) == (content_type, payload)


@pytest.mark.parametrize(
    ("user", "value"),
    [
        ("100% Ann", "100% Ann"),
        ("Zoë", "Zo%C3%AB"),
        ("a\r\nevil: 1", "a%0D%0Aevil: 1"),
        (" a ", "%20a%20"),
        ("\x7f", "%7F"),
    ],
)
def test_a_user_id_cannot_break_the_headers(user: str, value: str) -> None:
    world = World(EVENTS_ONLY)
    client = world.connect(user=user)
    client.send(event())
    assert header(Backend(world).call(), "ce-userId") == value


def test_what_is_empty_has_no_header() -> None:
    world = World(EVENTS_ONLY)
    world.connect().send(event())
    call = Backend(world).call()
    assert {"ce-userId", "ce-connectionState", "Cookie"}.isdisjoint(name for name, _ in call.headers)


def test_the_first_handler_that_gets_an_event_is_called_and_without_one_the_event_fails() -> None:
    world = World(
        EventHandler(url="http://a.example/", user_events=("Order", "pay.*"[:3]), system_events=()),
        EventHandler(url="http://b.example/", user_events=("order", "log"), system_events=()),
    )
    backend, client = Backend(world), world.connect()
    client.hello()
    urls = []
    for name in ("ORDER", "pay", "Log"):
        client.send(event(name))
        urls.append(backend.answer().url)
    assert urls == ["http://a.example/", "http://a.example/", "http://b.example/"]
    assert failure(client.ask(event("other", ackId=1))) == (1, "InternalServerError")
    assert failure(world_of_another_hub(world).ask(event("order", ackId=1))) == (1, "InternalServerError")
    assert backend.idle()


def world_of_another_hub(world: World) -> Client:
    client = world.connect(hub="other")
    client.hello()
    return client


@pytest.mark.parametrize(
    ("template", "url"),
    [
        ("http://h/{HUB}/{Event}", "http://h/my%60hub/a.b"),
        ("https://h:1/x?e={event}&h={hub}", "https://h:1/x?e=a.b&h=my%60hub"),
    ],
)
def test_names_in_urls_are_escaped(template: str, url: str) -> None:
    assert EventHandler(url=template).url_for("my`hub", "a.b") == url


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": ""},
        {"url": "ftp://h/"},
        {"url": "h/api"},
        {"url": "http://{hub}.example/"},
        {"url": "http://h/{name}"},
        {"url": "http://h/{@Microsoft.KeyVault(SecretUri=x)}"},
        {"url": "http://h/{"},
        {"url": "http://h:port/"},
        {"url": "http://h/a b"},
        {"url": "http://h/\n"},
        {"url": "http://h/#part"},
        {"url": "http://h/", "user_events": ("a b",)},
        {"url": "http://h/", "user_events": ("",)},
        {"url": "http://h/", "system_events": ("closed",)},
        {"url": "http://h/", "timeout": 0.0},
        {"url": "http://h/", "timeout": float("inf")},
        {"url": "http://h/", "retry_delays": (-1.0,)},
    ],
)
def test_a_handler_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w{3,} .+"):
        EventHandler(**wrong)
    with pytest.raises(TypeError, match="list"):
        EventHandler(url="http://h/", user_events="*")  # type: ignore[arg-type]


# --- Answers to user events ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content_type", "payload", "expected"),
    [
        ("text/plain", "\u20ac".encode(), {"dataType": "text", "data": "\u20ac"}),
        ("Text/Plain; Charset=ISO-8859-15", b"\xa4", {"dataType": "text", "data": "\u20ac"}),
        ("application/json; charset=utf-8", b' {"a":\n1} ', {"dataType": "json", "data": {"a": 1}}),
        ("application/octet-stream", b"\x00\xff", {"dataType": "binary", "data": "AP8="}),
        ("application/x-protobuf", b"\x00\xff", {"dataType": "protobuf", "data": "AP8="}),
        (None, b"hi", {"dataType": "binary", "data": "aGk="}),
    ],
)
@pytest.mark.parametrize("subprotocol", [JSON, JSON_RELIABLE])
def test_a_reply_reaches_the_client_before_the_ack(
    content_type: str | None, payload: bytes, expected: dict[str, object], subprotocol: str
) -> None:
    _, backend, client = talking(subprotocol=subprotocol)
    assert client.ask(event(ackId=7)) == []
    backend.answer(body=payload, content_type=content_type, headers=[("X-WebPubSub-Metadata-Key", "v")])
    reply = {"type": "message", "from": "server", **expected, "metadata": {"key": "v"}}
    if subprotocol == JSON_RELIABLE:
        reply["sequenceId"] = 1
    assert client.received() == [reply, ack(7)]


@pytest.mark.parametrize(("status", "payload"), [(204, b""), (200, b""), (204, b"ignored")])
def test_an_empty_answer_is_just_acknowledged(status: int, payload: bytes) -> None:
    _, backend, client = talking()
    client.send(event(ackId=7))
    backend.answer(status=status, body=payload, content_type="text/html")
    assert client.received() == [ack(7)]


def test_metadata_alone_is_an_empty_text() -> None:
    _, backend, client = talking(subprotocol=JSON)
    client.send(event())
    backend.answer(headers=[("x-webpubsub-metadata-a", "1")])
    expected = {"type": "message", "from": "server", "dataType": "text", "data": "", "metadata": {"a": "1"}}
    assert client.received() == [expected]


@pytest.mark.parametrize(
    "answer",
    [
        {"status": 400, "body": b"no"},
        {"status": 401},
        {"status": 429},
        {"status": 302, "headers": [("Location", "http://elsewhere.example/")]},
        {"status": 101},
        {"body": b"<p>", "content_type": "text/html"},
        {"body": b"\xff", "content_type": "text/plain"},
        {"body": b"x", "content_type": "text/plain; charset=nonsense"},
        {"body": b"x", "content_type": "text/plain; charset=hex"},
        {"body": b"{", "content_type": "application/json"},
        {"body": b"NaN", "content_type": "application/json"},
        {"body": b"[" * 100_000, "content_type": "application/json"},
        {"body": b"x", "headers": [("X-WebPubSub-Metadata-a b", "1")]},
        {"body": b"x", "headers": [("X-WebPubSub-Metadata-a", "\xff")]},
    ],
)
def test_a_bad_answer_fails_the_event_and_not_the_connection(answer: dict[str, Any]) -> None:
    _, backend, client = talking()
    client.send(event(ackId=7))
    backend.answer(**answer)
    assert failure(client.received()) == (7, "InternalServerError")
    assert backend.idle()
    # It did not happen: the same ack id is tried again (client-spec 3.1).
    client.send(event(ackId=7))
    backend.answer()
    assert client.received() == [ack(7)]
    assert client.ask({"type": "ping"}) == [{"type": "pong"}]


def test_without_ack_id_failures_are_silent() -> None:
    _, backend, client = talking()
    client.send(event())
    backend.answer(status=400)
    assert client.received() == []
    assert client.transport.close is None


def test_what_was_done_is_not_done_again() -> None:
    _, backend, client = talking()
    client.send(event(ackId=7))
    client.send(event(ackId=7))  # a repeat while the handler is still thinking
    backend.answer()
    success, repeat = client.received()
    assert success == ack(7)
    assert failure([repeat]) == (7, "Duplicate")
    assert failure(client.ask(event(ackId=7))) == (7, "Duplicate")
    assert backend.idle()


# --- Order --------------------------------------------------------------------------------------------


def test_a_slow_handler_holds_up_what_comes_after_but_no_ping_and_no_sequence_ack() -> None:
    world, backend, client = talking()
    other = world.connect()
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
        assert header(call, "ce-id") == str(seen[-1] + 1)
    assert seen[1:] == list(range(500, 1500))


@pytest.mark.parametrize("size", [10, 6000])
def test_a_client_that_does_not_wait_for_its_handler_is_ended(size: int) -> None:
    world, backend, client = talking(NEWS, retained_messages=20, retained_bytes=50_000)
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
    assert world.core.connection("c1") is None


def test_what_a_client_sent_before_it_left_still_counts() -> None:
    world, backend, client = talking(NEWS)
    backend.answer()
    other = world.connect(groups=("room",))
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
    assert len(world.core.hub("chat").members("room")) == 1
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
    world = World(EVENTS_ONLY)
    backend, client = Backend(world), world.connect()
    hello = client.hello()
    client.send(event(ackId=1))
    call = backend.call()
    client.drop()
    backend.answer(call, body="done", headers=[("ce-connectionState", "s")])
    client = world.recover(hello)
    client.send(event(ackId=1))
    _, message, repeat = client.received()
    assert (message["sequenceId"], message["data"]) == (1, "done")
    assert failure([repeat]) == (1, "Duplicate")
    client.send(event(ackId=2))
    assert header(backend.call(), "ce-connectionState") == "s"


def test_a_handler_that_answers_after_a_recovery_answers_the_new_transport() -> None:
    world = World(EVENTS_ONLY)
    backend, client = Backend(world), world.connect()
    hello = client.hello()
    client.send(event(ackId=1))
    call = backend.call()
    client.drop()
    client = world.recover(hello)
    client.hello()
    backend.answer(call)
    assert client.received() == [ack(1)]


def raw_world() -> tuple[World, Backend, Client]:
    world = World(NEWS)
    backend, client = Backend(world), world.connect(raw=RawMode())
    connected = backend.answer()
    assert header(connected, "ce-subprotocol") is None
    return world, backend, client


@pytest.mark.parametrize(
    ("frame", "content_type"), [("hi \u20ac", "text/plain"), (b"\x00\xff", "application/octet-stream")]
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


# --- State and cookies --------------------------------------------------------------------------------


def test_the_state_is_kept_and_returned_and_only_successful_blocking_events_set_it() -> None:
    _, backend, client = talking(NEWS)
    backend.answer(headers=[("ce-connectionState", "from connected")])

    def state_sent(status: int = 200, *states: str) -> str | None:
        client.send(event())
        headers = [("CE-ConnectionState", state) for state in states]
        return header(backend.answer(status=status, headers=headers), "ce-connectionState")

    assert state_sent(200, "eyJhIjoxfQ==") is None
    assert state_sent(200, "one", "two") == "eyJhIjoxfQ=="
    assert state_sent(400, "three") == "two"
    assert state_sent(200, "") == "two"
    assert state_sent(204, "\xe9") is None
    client.send(event())
    client.drop(1000)
    call = backend.call()
    assert header(call, "ce-connectionState") == "\xe9"
    backend.answer(call)
    assert header(backend.call(), "ce-connectionState") == "\xe9"


def test_cookies_go_back_to_the_host_that_set_them() -> None:
    world = World(
        EventHandler(url="http://a.example/{event}", user_events=("a", "b"), system_events=()),
        EventHandler(url="http://b.example/{event}", system_events=()),
    )
    backend, client = Backend(world), world.connect()

    def cookies_sent(name: str, *cookies: str, status: int = 200) -> str | None:
        client.send(event(name))
        headers = [("Set-Cookie", cookie) for cookie in cookies]
        return header(backend.answer(status=status, headers=headers), "Cookie")

    assert cookies_sent("a", "x=1; Path=/; HttpOnly", "y=a=b", "nonsense", "=z") is None
    assert cookies_sent("b", "x=; Expires=Thu, 01 Jan 1970 00:00:00 GMT") == "x=1; y=a=b"
    assert cookies_sent("other") is None
    assert cookies_sent("a", "y=2; Max-Age=0", "z=3") == "y=a=b"
    assert cookies_sent("a", "w=4", status=400) == "z=3"
    assert cookies_sent("a", *(f"c{number}=1" for number in range(100))) == "z=3"
    assert str(cookies_sent("a")).count("=") == 50


# --- Connected and disconnected -------------------------------------------------------------------------


def test_connections_that_come_and_go_are_told_once_each() -> None:
    world = World(NEWS)
    backend, client = Backend(world), world.connect(user="ann")
    hello = client.hello()
    call = backend.answer()
    assert (call.url, call.body) == ("http://app.example/api/chat/connected?code=secret", b"{}")
    assert header(call, "Content-Type") == "application/json; charset=utf-8"
    assert [header(call, name) for name in ("ce-type", "ce-id", "ce-eventName")] == [
        "azure.webpubsub.sys.connected",
        "1",
        "connected",
    ]
    client.drop()
    client = world.recover(hello)
    assert backend.idle()
    client.drop()
    world.advance(29)
    assert backend.idle()
    world.advance(1)
    call = backend.answer()
    assert header(call, "ce-type") == "azure.webpubsub.sys.disconnected"
    assert header(call, "ce-id") == "2"
    assert body(call) == {"reason": "The client did not come back in time."}
    world.advance(1000)
    assert backend.idle()


def test_a_close_by_the_service_is_told_with_its_reason() -> None:
    world, backend, _ = talking(NEWS)
    backend.answer()
    world.core.close_connection("c1", "Too loud.")
    assert body(backend.call()) == {"reason": "Too loud."}


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


# --- Connect --------------------------------------------------------------------------------------------


def knock(world: World, grant: ClientGrant | None = None, **request: Any) -> PendingConnect:
    assert world.core.handler_decides("Chat")
    request.setdefault("subprotocols", [JSON_RELIABLE])
    return world.core.ask_to_connect("Chat", grant or ClientGrant("ann", ("r",), ("g",)), ConnectRequest(**request))


def test_connect_is_asked_for_and_nobody_else_hears_before() -> None:
    world = World(EVERYTHING)
    backend = Backend(world)
    pending = knock(
        world,
        claims={"sub": ["ann"], "role": ["r"]},
        query={"a": ["1", "2"]},
        headers={"Host": ["x"]},
        subprotocols=["custom", JSON_RELIABLE],
    )
    call = backend.call()
    assert body(call) == {
        "claims": {"sub": ["ann"], "role": ["r"]},
        "query": {"a": ["1", "2"]},
        "headers": {"Host": ["x"]},
        "subprotocols": ["custom", JSON_RELIABLE],
        "clientCertificates": [],
    }
    assert call.url == "http://app.example/api/chat/connect?code=secret"
    headers = dict(call.headers)
    assert headers["ce-type"] == "azure.webpubsub.sys.connect"
    assert (headers["ce-id"], headers["ce-userId"], headers["ce-connectionId"]) == ("0", "ann", "c1")
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert "ce-subprotocol" not in headers
    assert world.core.hub("chat").connections == {}
    assert world.core.decided_connects() == []
    backend.answer(call, headers=[("ce-connectionState", "s"), ("Set-Cookie", "c=1")])
    assert backend.decided() is pending
    assert pending.subprotocol == JSON_RELIABLE
    assert pending.transport is not None
    connection = pending.transport.connection
    assert connection is not None
    assert (connection.connection_id, connection.user_id, list(connection.groups)) == ("c1", "ann", ["g"])
    connected = backend.call()
    assert dict(connected.headers)["ce-id"] == "1"
    assert dict(connected.headers)["ce-subprotocol"] == JSON_RELIABLE
    assert dict(connected.headers)["ce-connectionState"] == "s"
    assert dict(connected.headers)["Cookie"] == "c=1"


@pytest.mark.parametrize(
    ("answer", "user", "groups", "may_send"),
    [
        ({"status": 204}, "ann", ["g"], False),
        ({"body": b""}, "ann", ["g"], False),
        ({"body": b"null"}, "ann", ["g"], False),
        ({"body": {}}, "ann", ["g"], False),
        ({"body": {"userId": None, "groups": None, "roles": None, "subprotocol": None}}, "ann", ["g"], False),
        ({"body": {"userId": "ben", "more": 1}}, "ben", ["g"], False),
        ({"body": {"userId": ""}}, None, ["g"], False),
        ({"body": {"groups": ["h", "i"]}}, "ann", ["h", "i"], False),
        ({"body": {"groups": []}}, "ann", ["g"], False),
        ({"body": {"roles": ["webpubsub.sendToGroup"]}}, "ann", ["g"], True),
        ({"body": {"roles": []}}, "ann", ["g"], False),
        ({"body": {"subprotocol": ""}}, "ann", ["g"], False),
    ],
)
def test_a_handler_may_change_what_the_token_says(
    answer: dict[str, Any], user: str | None, groups: list[str], may_send: bool
) -> None:
    world = World(EVERYTHING)
    backend = Backend(world)
    knock(world, ClientGrant("ann", ("webpubsub.joinLeaveGroup",), ("g",)))
    backend.answer(**answer)
    transport = backend.decided().transport
    assert transport is not None
    client = Client(world, transport)
    assert client.hello()["userId"] == user
    connection = transport.connection
    assert connection is not None
    assert list(connection.groups) == groups
    assert connection.permissions.send.allows("g") is may_send
    roles = answer.get("body", {})["roles"] if b"roles" in json.dumps(answer, default=str).encode() else None
    assert connection.permissions.join_leave.allows("g") is (roles is None)
    assert header(backend.call(), "ce-userId") == user


def test_a_handler_may_pick_the_subprotocol() -> None:
    for chosen in (JSON, JSON.upper()):
        world = World(EVERYTHING)
        backend = Backend(world)
        knock(world, subprotocols=["other", JSON_RELIABLE, JSON])
        backend.answer(body={"subprotocol": chosen})
        pending = backend.decided()
        assert pending.transport is not None
        assert pending.transport.connection is not None
        assert pending.transport.connection.subprotocol == JSON
        assert pending.subprotocol == JSON


@pytest.mark.parametrize(
    ("offers", "answer", "echoed", "name", "raw"),
    [
        (["A", "b"], {"subprotocol": "a"}, "A", "A", True),
        ([JSON, "b"], {"subprotocol": "b"}, "b", "b", True),
        (["a", "b"], {}, None, None, True),
        ([], {}, None, None, True),
        (["a", JSON.upper()], {}, JSON.upper(), JSON, False),
    ],
)
def test_a_custom_subprotocol_is_for_raw_clients_and_needs_the_handlers_word(
    offers: list[str], answer: dict[str, str], echoed: str | None, name: str | None, raw: bool
) -> None:
    world = World(EVERYTHING)
    backend = Backend(world)
    knock(world, subprotocols=offers)
    backend.answer(body=answer)
    pending = backend.decided()
    assert pending.subprotocol == echoed
    assert pending.transport is not None
    connection = pending.transport.connection
    assert connection is not None
    assert (connection.subprotocol, connection.raw is not None) == (name, raw)
    assert header(backend.call(), "ce-subprotocol") == name


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        ({"status": 401}, 401, "401"),
        ({"status": 400, "body": b"Who are you?", "content_type": "text/plain"}, 400, "Who are you?"),
        ({"status": 403, "body": {"error": 1}}, 403, '{"error": 1}'),
        ({"status": 403, "body": b"<p>", "content_type": "text/html"}, 403, "403"),
        ({"status": 429, "body": b"\xff" * 9999}, 429, "\ufffd" * 1024),
        ({"status": 302, "headers": [("Location", "http://x/")]}, 500, "302"),
        ({"body": b"OK", "content_type": "text/plain"}, 500, "valid"),
        ({"body": {"userId": 1}}, 500, "valid"),
        ({"body": {"groups": "g"}}, 500, "valid"),
        ({"body": b'{"userId":"\xff"}'}, 500, "valid"),
        ({"body": []}, 500, "valid"),
        ({"body": {"groups": [" "]}}, 500, "group"),
        ({"body": {"subprotocol": "other"}}, 500, "subprotocol"),
        ({"body": {"subprotocol": "protobuf.webpubsub.azure.v1"}}, 500, "protobuf"),
    ],
)
def test_a_refused_client_sees_the_status(answer: dict[str, Any], status: int, text: str) -> None:
    world = World(EVERYTHING)
    backend = Backend(world)
    knock(world, subprotocols=[JSON, "protobuf.webpubsub.azure.v1"])
    backend.answer(**answer)
    pending = backend.decided()
    assert pending.rejection is not None
    assert pending.rejection.status == status
    assert text in pending.rejection.text
    assert pending.transport is None
    world.advance(1000)
    assert backend.idle()
    assert world.core.hub("chat").connections == {}


def test_a_handler_that_stays_in_trouble_refuses_the_client_with_its_status() -> None:
    world = World(EVERYTHING)
    backend = Backend(world)
    knock(world)
    for wait in (1, 3, 5):
        backend.answer(status=503, body=b"internal details", content_type="text/plain")
        assert world.core.decided_connects() == []
        world.advance(wait)
    backend.answer(status=503, body=b"internal details", content_type="text/plain")
    rejection = backend.decided().rejection
    assert rejection is not None
    assert rejection.status == 503
    assert "details" not in rejection.text


def test_a_handler_that_does_not_answer_refuses_the_client_with_500() -> None:
    world = World(EVERYTHING)
    backend = Backend(world)
    knock(world)
    backend.fail("timeout")
    rejection = backend.decided().rejection
    assert rejection is not None
    assert rejection.status == 500


def test_a_client_that_gives_up_is_forgotten() -> None:
    world = World(EVERYTHING)
    backend = Backend(world)
    pending = knock(world)
    call = backend.call()
    world.core.forget_connect(pending)
    assert backend.idle()
    assert backend.cancelled == [call]
    world.core.handler_answered(call, 200, (), b"", world.now)
    world.core.forget_connect(pending)
    assert world.core.decided_connects() == []
    assert world.core.hub("chat").connections == {}


def test_a_hub_without_handlers_is_open() -> None:
    world = World(NEWS)
    assert not world.core.handler_decides("chat")
    assert not world.core.handler_decides("other")


# --- Attempts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [408, 500, 503, "unreachable"])
def test_trouble_is_tried_again_after_1_3_and_5_seconds(trouble: int | str) -> None:
    world, backend, client = talking()

    def attempt() -> HandlerCall:
        return backend.answer(status=trouble) if isinstance(trouble, int) else backend.fail()

    client.send(event(ackId=1))
    first = attempt()
    for wait in (1, 3, 5):
        world.advance(wait - 0.01)
        assert backend.idle()
        assert client.received() == []
        world.advance(0.01)
        assert attempt() is first
    assert failure(client.received()) == (1, "InternalServerError")
    world.advance(1000)
    assert backend.idle()


def test_another_attempt_may_succeed() -> None:
    world, backend, client = talking()
    client.send(event(ackId=1))
    backend.answer(status=500)
    world.advance(1)
    backend.answer()
    assert client.received() == [ack(1)]


@pytest.mark.parametrize("hopeless", [400, 404, 429, 302, "timeout", "too large"])
def test_what_is_hopeless_is_not_tried_again(hopeless: Any) -> None:
    world, backend, client = talking()
    client.send(event(ackId=1))
    _ = backend.answer(status=hopeless) if isinstance(hopeless, int) else backend.fail(hopeless)
    assert failure(client.received()) == (1, "InternalServerError")
    world.advance(1000)
    assert backend.idle()


def test_all_attempts_share_one_time_limit() -> None:
    world, backend, client = talking(EventHandler(url=URL, system_events=(), timeout=4.0))
    client.send(event(ackId=1))
    start = world.now
    assert backend.call().deadline == start + 4
    backend.answer(status=500)
    world.advance(1)
    assert backend.answer(status=500).deadline == start + 4
    # The next attempt would begin when it is too late.
    assert failure(client.received()) == (1, "InternalServerError")


def test_retries_can_be_switched_off() -> None:
    _, backend, client = talking(EventHandler(url=URL, system_events=(), retry_delays=()))
    client.send(event(ackId=1))
    backend.fail()
    assert failure(client.received()) == (1, "InternalServerError")


# --- Permission ------------------------------------------------------------------------------------------


def asked(handler: EventHandler = EVENTS_ONLY) -> tuple[World, Backend, Client]:
    """A world where the test gives permission, with one event that waits for it."""
    world = World(handler)
    backend, client = Backend(world, validates=False), world.connect()
    client.hello()
    client.send(event(ackId=1))
    return world, backend, client


def test_a_handler_is_asked_for_permission_first() -> None:
    world, backend, client = asked()
    question = backend.call()
    assert (question.method, question.url) == ("OPTIONS", "http://app.example/api/chat/validate?code=secret")
    assert question.headers == (("WebHook-Request-Origin", "service.example:8080"), ("ce-awpsversion", "1.0"))
    assert question.body == b""
    assert question.deadline == world.now + 10
    other = world.connect()
    other.send(event("other"))
    assert backend.call() is question, "one question is enough"
    backend.answer(
        headers=[("webhook-allowed-origin", "a.example"), ("WebHook-Allowed-Origin", "SERVICE.example:8080")]
    )
    assert [call.event for call in backend.calls()] == ["order", "other"]
    for call in backend.calls():
        backend.answer(call)
    assert client.received() == [ack(1)]


@pytest.mark.parametrize("allowed", ["*", "a.example, service.example:8080", "Service.Example:8080"])
def test_permission_is_for_all_or_for_this_service(allowed: str) -> None:
    _, backend, _ = asked()
    backend.answer(status=204, headers=[("WebHook-Allowed-Origin", allowed)])
    assert backend.call().method == "POST"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"headers": [("WebHook-Allowed-Origin", "")]},
        {"headers": [("WebHook-Allowed-Origin", "service.example")]},
        {"headers": [("WebHook-Allowed-Origin", "*.example")]},
        {"status": 405, "headers": [("WebHook-Allowed-Origin", "*")]},
        {"status": 302, "headers": [("WebHook-Allowed-Origin", "*"), ("Location", "/")]},
        {"status": 500, "headers": [("WebHook-Allowed-Origin", "*")]},
    ],
)
def test_without_permission_nothing_is_sent(answer: dict[str, Any]) -> None:
    world, backend, client = asked()
    backend.answer(**answer)
    assert backend.idle()
    world.advance(0)
    assert failure(client.received()) == (1, "InternalServerError")


def test_get_will_do_where_there_is_no_options() -> None:
    world, backend, _ = asked()
    question = backend.answer(status=404)
    repeated = backend.call()
    assert (repeated.method, repeated.url, repeated.headers) == ("GET", question.url, question.headers)
    assert repeated.deadline == world.now + 10
    backend.answer(headers=[("WebHook-Allowed-Origin", "*")])
    assert backend.call().method == "POST"


def test_a_refusal_holds_for_1_second_then_2_and_up_to_a_minute() -> None:
    world, backend, client = asked()
    backend.fail("timeout")
    assert backend.idle()
    world.advance(0)
    assert failure(client.received())[1] == "InternalServerError"
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        world.advance(pause - 0.01)
        client.send(event(ackId=1))
        assert backend.idle(), "fails at once without a call"
        world.advance(0)
        assert failure(client.received())[1] == "InternalServerError"
        world.advance(0.01)
        client.send(event(ackId=1))
        backend.answer(status=500)
        assert backend.idle()
        world.advance(0)
        assert failure(client.received())[1] == "InternalServerError"
    world.advance(60)
    client.send(event(ackId=1))
    backend.answer(headers=[("WebHook-Allowed-Origin", "*")])
    backend.answer()
    assert client.received() == [ack(1)]


def test_permission_is_renewed_after_a_minute_without_holding_up_events() -> None:
    world, backend, client = asked()
    backend.answer(headers=[("WebHook-Allowed-Origin", "*")])
    backend.answer()
    world.advance(59)
    client.send(event())
    assert backend.answer().method == "POST"
    world.advance(1)
    client.send(event())
    question, call = sorted(backend.calls(), key=lambda call: call.method)
    assert (question.method, call.method) == ("OPTIONS", "POST")
    backend.answer(call)
    backend.answer(question)
    client.send(event(ackId=9))
    assert backend.idle(), "the new answer holds"
    world.advance(1)
    client.send(event())
    assert backend.call().method == "OPTIONS"


def test_waiting_for_permission_counts() -> None:
    world, backend, client = asked(EventHandler(url=URL, system_events=(), timeout=3.0))
    assert backend.call().deadline == world.now + 3
    world.advance(3)
    backend.answer(headers=[("WebHook-Allowed-Origin", "*")])
    assert backend.idle()
    world.advance(0)
    assert failure(client.received()) == (1, "InternalServerError")


# --- The end ---------------------------------------------------------------------------------------------


def test_shutting_down_gives_everything_up() -> None:
    world = World(EVERYTHING)
    backend = Backend(world)
    knock(world)
    backend.answer()
    transport = backend.decided().transport
    assert transport is not None
    client = Client(world, transport)
    client.hello()
    client.send(event())
    client.send(event())
    knock(world)
    calls = backend.calls()
    assert [call.event for call in calls] == ["connected", "order", "connect"]
    world.core.shut_down()
    assert backend.idle()
    assert backend.cancelled == calls
    rejection = backend.decided().rejection
    assert rejection is not None
    assert rejection.status == 503
    assert client.close_code == 1001
    for call in calls:
        world.core.handler_answered(call, 200, (), b"", world.now)
    world.advance(1000)
    assert backend.idle()
    # It may be used again.
    knock(world)
    backend.answer()
    assert backend.decided().transport is not None


def test_a_repeat_that_is_due_after_the_shutdown_is_not_made() -> None:
    world, backend, client = talking()
    client.send(event())
    backend.fail()
    world.core.shut_down()
    world.advance(1000)
    assert backend.idle()


def test_no_secret_is_in_a_repr_or_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    handler = EventHandler(url="http://me:pass@app.example/x?code=secret", system_events=())
    assert repr(handler).startswith("EventHandler(url='http://app.example/x', user_events=('*',)")
    assert "secret" not in repr(handler)
    _, backend, client = talking(handler)
    client.send(event())
    call = backend.fail("timeout")
    assert repr(call) == "<HandlerCall order POST http://app.example/x>"
    assert "http://app.example/x" in caplog.text
    assert "secret" not in caplog.text
    assert "pass" not in caplog.text


def test_a_call_that_waits_for_permission_at_the_shutdown_is_not_made() -> None:
    world, backend, client = asked()
    question = backend.call()
    world.core.shut_down()
    assert backend.idle()
    assert backend.cancelled == [question]
    backend.answer(question, headers=[("WebHook-Allowed-Origin", "*")])
    world.advance(1000)
    assert backend.idle()
    assert client.received() == []
