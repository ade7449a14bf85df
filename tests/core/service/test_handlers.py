"""Event handlers in virtual time: what they are told of events, and what becomes of their answers."""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import pytest
from tests.core.service.backend import (
    EVENTS_ONLY,
    NEWS,
    Backend,
    ack,
    event,
    failure,
    header,
    talking,
)
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import JSON, RELIABLE_JSON, EventHandler, index_by_hub

# ---- The request


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
        "ce-id": "2",
        "ce-time": "2026-01-31T12:00:00Z",
        "ce-hub": "chat",
        "ce-connectionId": "c1",
        "ce-eventName": "order.create",
        "ce-userId": "ann",
        "ce-subprotocol": RELIABLE_JSON,
        "ce-signature": f"{signature(b'first')},{signature(b'second')}",
        "WebHook-Request-Origin": "service.example:8080",
        "x-ms-client-request-id": "f7b5e3ae-eb03-87db-84ad-448473e7a769",
        "Content-Type": "text/plain; charset=utf-8",
        "x-webpubsub-metadata-trace-id": "abc",
    }


@pytest.mark.parametrize(
    ("message", "content_type", "payload"),
    [
        ({"dataType": "text", "data": "\u20ac"}, "text/plain; charset=utf-8", "\u20ac".encode()),
        ({"dataType": "text", "data": ""}, "text/plain; charset=utf-8", b""),
        ({"dataType": "json", "data": {"a": [1]}}, "application/json", b'{"a": [1]}'),
        ({"data": "s"}, "application/json", b'"s"'),
        ({"dataType": "binary", "data": "AP8="}, "application/octet-stream", b"\x00\xff"),
        ({"dataType": "protobuf", "data": "AP8="}, "application/x-protobuf", b"\x00\xff"),
        ({"metadata": {"a": "b"}}, "text/plain; charset=utf-8", b""),
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
    service = ServiceUnderTest(EVENTS_ONLY)
    client = service.connect(user=user)
    client.send(event())
    assert header(Backend(service).call(), "ce-userId") == value


def test_what_is_empty_has_no_header() -> None:
    service = ServiceUnderTest(EVENTS_ONLY)
    service.connect().send(event())
    call = Backend(service).call()
    assert {"ce-userId", "ce-connectionState", "Cookie"}.isdisjoint(name for name, _ in call.headers)


def test_the_first_handler_that_gets_an_event_is_called_and_without_one_the_event_fails() -> None:
    service = ServiceUnderTest(
        EventHandler(url="http://a.example/", user_events=("Order", "pay.*"[:3]), system_events=()),
        EventHandler(url="http://b.example/", user_events=("order", "log"), system_events=()),
    )
    backend, client = Backend(service), service.connect()
    client.hello()
    urls = []
    for name in ("ORDER", "pay", "Log"):
        client.send(event(name))
        urls.append(backend.answer().url)
    assert urls == ["http://a.example/", "http://a.example/", "http://b.example/"]
    assert failure(client.ask(event("other", ackId=1))) == (1, "NotFound")
    assert failure(world_of_another_hub(service).ask(event("order", ackId=1))) == (1, "NotFound")
    assert backend.idle()


def world_of_another_hub(service: ServiceUnderTest) -> Client:
    client = service.connect(hub="other")
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
        {"url": "http://h/", "retries": -1},
        {"url": "http://h/", "retries": 1.0},
        {"url": "http://h/", "retries": True},
        {"url": "http://h/", "retries": 1, "retry_delays": ()},
        {"url": "http://h/", "resend": "never"},
    ],
)
def test_a_handler_that_cannot_work_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"\w{3,} .+"):
        EventHandler(**wrong)
    with pytest.raises(TypeError, match="list"):
        EventHandler(url="http://h/", user_events="*")  # type: ignore[arg-type]


def test_handlers_are_found_by_the_lower_case_name_of_their_hub() -> None:
    handler = EventHandler(url="http://h/")
    assert index_by_hub({"Chat": [handler], "news": []}) == {"chat": (handler,)}


# ---- Answers to user events


@pytest.mark.parametrize(
    ("content_type", "payload", "expected"),
    [
        ("text/plain", "\u20ac".encode(), {"dataType": "text", "data": "\u20ac"}),
        ("Text/Plain; Charset=ISO-8859-15", b"\xa4", {"dataType": "text", "data": "\u20ac"}),
        ('Text/Plain; format=flowed; Charset="UTF-16"', "hé".encode("utf-16"), {"dataType": "text", "data": "hé"}),
        ("application/json; charset=utf-8", b' {"a":\n1} ', {"dataType": "json", "data": {"a": 1}}),
        ("application/octet-stream", b"\x00\xff", {"dataType": "binary", "data": "AP8="}),
        ("application/x-protobuf", b"\x00\xff", {"dataType": "protobuf", "data": "AP8="}),
        (None, b"hi", {"dataType": "binary", "data": "aGk="}),
    ],
)
@pytest.mark.parametrize("subprotocol", [JSON, RELIABLE_JSON])
def test_a_reply_reaches_the_client_before_the_ack(
    content_type: str | None, payload: bytes, expected: dict[str, object], subprotocol: str
) -> None:
    _, backend, client = talking(subprotocol=subprotocol)
    assert client.ask(event(ackId=7)) == []
    backend.answer(body=payload, content_type=content_type, headers=[("X-WebPubSub-Metadata-Key", "v")])
    reply = {"type": "message", "from": "server", **expected, "metadata": {"key": "v"}}
    if subprotocol == RELIABLE_JSON:
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
        {"body": b"\\q", "content_type": "text/plain; charset=unicode_escape"},
        {"body": b"x-a", "content_type": "text/plain; charset=punycode"},
        {"body": b"x", "content_type": "text/plain; charset=" + "x" * 5000},
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


# ---- State and cookies


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
    assert state_sent(204, "\xe9") == "", "an empty state is one that was set"
    client.send(event())
    client.drop(1000)
    call = backend.call()
    assert header(call, "ce-connectionState") == "\xe9"
    backend.answer(call)
    assert header(backend.call(), "ce-connectionState") == "\xe9"


def test_cookies_go_back_to_the_host_that_set_them() -> None:
    service = ServiceUnderTest(
        EventHandler(url="http://a.example/{event}", user_events=("a", "b"), system_events=()),
        EventHandler(url="http://b.example/{event}", system_events=()),
    )
    backend, client = Backend(service), service.connect()

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
