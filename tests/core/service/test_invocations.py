"""Invocations: calls of event handlers whose replies go to the caller alone; in both JSON subprotocols."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.service.backend import (
    EVENTS_ONLY,
    NEWS,
    URL,
    Backend,
    ack,
    event,
    header,
    talking,
)
from tests.core.service.test_json import nest
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import (
    JSON,
    RELIABLE_JSON,
    ConnectionClosed,
    EventHandler,
    FailureKind,
    HandlerCalled,
    InvocationAnswered,
    InvocationCancelled,
    InvocationFailed,
    Invoked,
    Limits,
)

each_subprotocol = pytest.mark.parametrize("subprotocol", [JSON, RELIABLE_JSON])


def invoke(invocation_id: str = "7", name: str = "order", **more: object) -> dict[str, object]:
    return {"type": "invoke", "invocationId": invocation_id, "target": "event", "event": name, **more}


def cancel(invocation_id: str = "7") -> dict[str, object]:
    return {"type": "cancelInvocation", "invocationId": invocation_id}


def success(invocation_id: str = "7", **more: object) -> dict[str, object]:
    return {"type": "invokeResponse", "invocationId": invocation_id, "success": True, **more}


def error(client: Client, invocation_id: str = "7") -> tuple[str, str]:
    """Return name and text of the error that is the only message of a client."""
    (answer,) = client.received()
    found = answer.pop("error")
    assert answer == {"type": "invokeResponse", "invocationId": invocation_id, "success": False}
    return found["name"], found["message"]


def goes_on(client: Client) -> None:
    assert client.ask({"type": "ping"}) == [{"type": "pong"}]
    assert client.close_code is None


# ---- The call


@each_subprotocol
def test_an_invocation_is_a_call_like_that_of_an_event_and_its_reply_goes_to_the_caller(subprotocol: str) -> None:
    _, backend, client = talking(subprotocol=subprotocol)
    client.send(invoke(dataType="json", data={"id": 1}, metadata={"Trace-Id": "abc"}))
    invoked = backend.answer(body={"done": True})
    assert client.received() == [success(dataType="json", data={"done": True})]
    client.send(
        {"type": "event", "event": "order", "dataType": "json", "data": {"id": 1}, "metadata": {"Trace-Id": "abc"}}
    )
    raised = backend.call()
    assert (invoked.method, invoked.url, invoked.body) == (raised.method, raised.url, raised.body)
    ids = [header(call, "ce-id") for call in (invoked, raised)]
    assert ids == ["2", "3"]
    own = ("ce-id", "x-ms-client-request-id")
    assert [pair for pair in invoked.headers if pair[0] not in own] == [
        pair for pair in raised.headers if pair[0] not in own
    ]
    assert header(invoked, "ce-type") == "azure.webpubsub.user.order"
    assert header(invoked, "x-webpubsub-metadata-trace-id") == "abc"
    assert header(invoked, "ce-signature")
    goes_on(client)


@pytest.mark.parametrize("change", [str.lower, str.upper])
def test_the_case_of_a_type_does_not_matter(change: Callable[[str], str]) -> None:
    _, backend, client = talking()
    client.send(invoke() | {"type": change("invoke")})
    call = backend.call()
    client.send(cancel() | {"type": change("cancelInvocation")})
    assert backend.idle()
    assert backend.cancelled == [call]


@pytest.mark.parametrize(
    ("sent", "content_type", "payload"),
    [
        ({"dataType": "text", "data": "x"}, "text/plain; charset=utf-8", b"x"),
        ({"dataType": "json", "data": [1]}, "application/json", b"[1]"),
        ({"data": [1]}, "application/json", b"[1]"),
        ({"dataType": "binary", "data": "AAE="}, "application/octet-stream", b"\0\1"),
        ({"dataType": "protobuf", "data": "AAE="}, "application/x-protobuf", b"\0\1"),
        ({}, "text/plain; charset=utf-8", b""),
        ({"dataType": "json"}, "text/plain; charset=utf-8", b""),  # the JavaScript client drops null like this
        ({"metadata": {"a": "b"}}, "text/plain; charset=utf-8", b""),
        ({"metadata": None}, "text/plain; charset=utf-8", b""),
    ],
)
def test_payloads(sent: dict[str, object], content_type: str, payload: bytes) -> None:
    _, backend, client = talking()
    client.send(invoke(**sent))
    call = backend.call()
    assert (header(call, "Content-Type"), call.body) == (content_type, payload)


@pytest.mark.parametrize(
    ("body", "content_type", "reply"),
    [
        (b"", None, {}),
        (b"", "text/plain", {}),
        (b"x", "text/plain; charset=utf-8", {"dataType": "text", "data": "x"}),
        (b"\xe9", "text/plain; charset=latin-1", {"dataType": "text", "data": "\xe9"}),
        (b'{"a":[1]}', "application/json", {"dataType": "json", "data": {"a": [1]}}),
        (b"null", "application/json", {"dataType": "json", "data": None}),
        (b"\0\1", "application/octet-stream", {"dataType": "binary", "data": "AAE="}),
        (b"\0\1", None, {"dataType": "binary", "data": "AAE="}),
        (b"\0\1", "application/x-protobuf", {"dataType": "protobuf", "data": "AAE="}),
    ],
)
def test_replies(body: bytes, content_type: str | None, reply: dict[str, object]) -> None:
    _, backend, client = talking()
    client.send(invoke())
    backend.answer(body=body, content_type=content_type)
    assert client.received() == [success(**reply)]


def test_a_status_204_and_metadata_alone_are_an_empty_reply() -> None:
    _, backend, client = talking()
    client.send(invoke("1"))
    backend.answer(status=204, body=b"ignored")
    client.send(invoke("2"))
    backend.answer(headers=[("x-webpubsub-metadata-a", "b")])
    assert client.received() == [success("1"), success("2")]


# ---- Errors


@pytest.mark.parametrize("handlers", [(), (EventHandler(url=URL, user_events=("other",)),)])
def test_without_a_handler_it_is_not_found(handlers: tuple[EventHandler, ...]) -> None:
    client = ServiceUnderTest(*handlers).connect()
    client.hello()
    client.send(invoke())
    name, text = error(client)
    assert name == "NotFound"
    assert "order" in text
    goes_on(client)


@pytest.mark.parametrize(
    ("status", "body", "content_type", "name", "text"),
    [
        (400, b"no such order", "text/plain", "BadRequest", "no such order"),
        (404, b'{"why":1}', "application/json", "BadRequest", '{"why":1}'),
        (422, b"", None, "BadRequest", "The event handler answered with status 422."),
        (429, b"<html>", "text/html", "BadRequest", "The event handler answered with status 429."),
        (499, b"\xff" * 5000, None, "BadRequest", "\ufffd" * 1024),
        (500, b"secret", "text/plain", "InternalServerError", "The event handler answered with status 500."),
        (302, b"", None, "InternalServerError", "The event handler answered with status 302."),
        (200, b"x", "a/b", "InternalServerError", "The event handler's answer is not valid: its content type is a/b."),
    ],
)  # fmt: skip
def test_answers_that_are_errors(status: int, body: bytes, content_type: str | None, name: str, text: str) -> None:
    _, backend, client = talking(EventHandler(url=URL, system_events=(), retries=0))
    client.send(invoke())
    backend.answer(status=status, body=body, content_type=content_type)
    assert error(client) == (name, text)
    goes_on(client)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("timeout", "Timeout"),
        ("broken", "InternalServerError"),
        ("too large", "InternalServerError"),
        ("unreachable", "NotFound"),
    ],
)
def test_calls_without_an_answer(kind: FailureKind, name: str) -> None:
    _, backend, client = talking(EventHandler(url=URL, system_events=(), retries=0))
    client.send(invoke())
    backend.fail(kind)
    assert error(client)[0] == name


def test_a_handler_that_does_not_allow_calls_is_not_called() -> None:
    service = ServiceUnderTest(EVENTS_ONLY)
    backend = Backend(service, validates=False)
    client = service.connect()
    client.hello()
    client.send(invoke())
    backend.answer(status=403)
    backend.take()
    service.advance(0)
    name, text = error(client)
    assert name == "NotFound"
    assert "No event handler was called." in text


def test_a_call_is_repeated_as_that_of_an_event_is() -> None:
    service, backend, client = talking()
    client.send(invoke())
    for delay in (1, 3, 5):
        backend.answer(status=503)
        assert client.received() == []
        service.advance(delay)
    backend.answer(status=503)
    assert error(client)[0] == "InternalServerError"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"target": "group"}, "The target is 'event', not 'group'."),
        ({"target": "\u202e\n"}, r"The target is 'event', not '\u202e\n'."),
        ({"target": ""}, "The target is 'event', not ''."),
        ({"event": ""}, "The event of an invocation is missing, or is no name of an event."),
        ({"event": "1"}, "The event of an invocation is missing, or is no name of an event."),
        ({"event": "x" * 129}, "The event of an invocation is missing, or is no name of an event."),
        ({"data": json.loads(nest(300))}, "invalid message: JSON may be nested 256 deep"),
    ],
)
def test_bad_requests(change: dict[str, object], text: str) -> None:
    _, backend, client = talking()
    client.send(invoke(data=1) | change)
    assert error(client) == ("BadRequest", text)
    assert backend.idle()
    goes_on(client)


def test_data_that_is_nested_beyond_measure() -> None:
    _, backend, client = talking()
    client.send_raw(
        '{"type":"invoke","invocationId":"7","target":"event","event":"order","data":' + nest(100_000) + "}"
    )
    assert error(client) == ("BadRequest", "invalid message: JSON may be nested 256 deep")
    assert backend.idle()
    client.send_raw('{"type":"cancelInvocation","invocationId":"7","x":' + nest(100_000) + "}")
    goes_on(client)


@pytest.mark.parametrize("missing", ["target", "event"])
def test_without_a_target_or_an_event(missing: str) -> None:
    _, backend, client = talking()
    message = invoke()
    del message[missing]
    client.send(message)
    assert error(client)[0] == "BadRequest"
    assert backend.idle()


@pytest.mark.parametrize("invocation_id", ["", "x" * 1025])
def test_ids_that_are_refused(invocation_id: str) -> None:
    _, backend, client = talking()
    client.send(invoke(invocation_id))
    assert error(client, invocation_id)[0] == "BadRequest"
    assert backend.idle()
    goes_on(client)


@each_subprotocol
@pytest.mark.parametrize("kind", ["invoke", "INVOKE", "cancelInvocation"])
@pytest.mark.parametrize(
    "fields",
    [
        "{}",
        '{"invocationId":7}',
        '{"invocationId":null}',
        '{"invocationId":["7"]}',
        r'{"invocationId":"\ud83d"}',
    ],
)
def test_ids_that_break_the_protocol(subprotocol: str, kind: str, fields: str) -> None:
    _, _, client = talking(subprotocol=subprotocol)
    client.send_raw(json.dumps({"type": kind})[:-1] + ("," + fields[1:] if fields != "{}" else "}"))
    assert client.received() == []
    assert client.close_code == 1007


@pytest.mark.parametrize(
    "change",
    [
        {"target": 1},
        {"target": None},
        {"event": ["order"]},
        {"event": None},
        {"dataType": 1},
        {"dataType": None},
        {"data": None},
        {"dataType": "text", "data": 1},
        {"dataType": "text", "data": None},
        {"dataType": "binary", "data": "!"},
        {"metadata": "x"},
        {"metadata": {"a": 1}},
        {"metadata": {"a": "\xe9"}},
        {"metadata": {"a b": "c"}},
        {"metadata": {"a": "x" * 1025}},
    ],
)
def test_content_that_breaks_the_protocol(change: dict[str, object]) -> None:
    _, backend, client = talking()
    client.send(invoke(data=1) | change)
    assert client.received() == []
    assert client.close_code == 1007
    assert backend.idle()


def test_half_surrogates_in_data_are_replaced_and_elsewhere_refused() -> None:
    _, backend, client = talking()
    client.send_raw(r'{"type":"invoke","invocationId":"7","target":"event","event":"order","data":"\ud83d"}')
    assert json.loads(backend.call().body) == "\ufffd"
    client.send_raw(r'{"type":"invoke","invocationId":"8","target":"\ud83d","event":"order","data":"\ud83d"}')
    assert error(client, "8")[0] == "BadRequest"
    client.send_raw(r'{"type":"invoke","invocationId":"8","target":"event","event":"\ud83d","data":"\ud83d"}')
    assert error(client, "8")[0] == "BadRequest"


# ---- At the same time


def test_invocations_wait_for_nothing_and_nothing_waits_for_them() -> None:
    _, backend, client = talking()
    client.send(event(ackId=1))
    client.send(invoke("a"))
    client.send(invoke("b"))
    client.send({"type": "joinGroup", "group": "room", "ackId": 2})
    raised, first, second = backend.calls()
    backend.answer(second, body=2)
    assert client.received() == [success("b", dataType="json", data=2)]
    backend.answer(raised)
    assert client.received() == [ack(1), ack(2)]
    client.send(event(ackId=3))
    backend.answer(backend.calls()[1])
    assert client.received() == [ack(3)]
    backend.answer(first, body=1)
    assert client.received() == [success("a", dataType="json", data=1)]


def test_the_last_answer_sets_the_connection_state() -> None:
    _, backend, client = talking()
    client.send(invoke("a"))
    client.send(invoke("b"))
    first, second = backend.calls()
    assert header(first, "ce-connectionState") is header(second, "ce-connectionState") is None
    backend.answer(second, headers=[("ce-connectionState", "two"), ("Set-Cookie", "c=2")])
    client.send(invoke("c"))
    third = backend.calls()[-1]
    assert (header(third, "ce-connectionState"), header(third, "Cookie")) == ("two", "c=2")
    backend.answer(first, headers=[("ce-connectionState", "one")])
    client.send(event())
    assert header(backend.calls()[-1], "ce-connectionState") == "one"
    backend.answer(third, status=400, headers=[("ce-connectionState", "three")])
    client.send(invoke("d"))
    assert header(backend.calls()[-1], "ce-connectionState") == "one"


def test_an_id_that_is_pending_is_refused_and_free_afterwards() -> None:
    _, backend, client = talking()
    client.send(invoke())
    client.send(invoke())
    assert error(client)[0] == "BadRequest"
    backend.answer(body=1)
    assert client.received() == [success(dataType="json", data=1)]
    client.send(invoke())
    backend.answer(body=2)
    assert client.received() == [success(dataType="json", data=2)]


def test_ids_of_other_clients_do_not_matter() -> None:
    service, backend, client = talking()
    other = service.connect()
    other.hello()
    client.send(invoke())
    other.send(invoke())
    mine, others = backend.calls()
    other.send(cancel())
    assert backend.calls() == [mine]
    assert backend.cancelled == [others]
    backend.answer(mine)
    assert client.received() == [success()]
    assert other.received() == []


def test_the_number_of_running_invocations_is_limited() -> None:
    _, backend, client = talking(invocations=2)
    for invocation_id in "abc":
        client.send(invoke(invocation_id))
    assert error(client, "c")[0] == "BadRequest"
    client.send(cancel("a"))
    client.send(invoke("c"))
    assert len(backend.calls()) == 2
    for _ in range(2):
        backend.answer(backend.calls()[0])
    assert len(client.received()) == 2
    client.send(invoke("d"))
    backend.answer()
    assert client.received() == [success("d")]


def test_the_bytes_of_running_invocations_are_limited() -> None:
    _, backend, client = talking(invocation_bytes=300)
    client.send(invoke("a", data="x" * 100))
    client.send(invoke("b", data="x" * 100))
    assert error(client, "b")[0] == "BadRequest"
    backend.answer()
    assert client.received() == [success("a")]
    client.send(invoke("b", data="x" * 100))
    backend.call()


@pytest.mark.parametrize("name", ["invocations", "invocation_bytes", "group_states", "group_state_bytes"])
def test_limits_are_at_least_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1"):
        Limits(**{name: 0})


# ---- Ends


def test_to_cancel_gives_the_call_up_and_there_is_no_answer() -> None:
    _, backend, client = talking()
    client.send(invoke())
    call = backend.call()
    client.send(cancel())
    assert backend.idle()
    assert backend.cancelled == [call]
    backend.answer(call, body=1)
    client.send(cancel())
    client.send(cancel("unknown"))
    assert client.received() == []
    client.send(invoke())
    backend.answer(body=2)
    assert client.received() == [success(dataType="json", data=2)]


def test_to_cancel_ends_the_repeats_of_a_call() -> None:
    service, backend, client = talking()
    client.send(invoke())
    backend.answer(status=503)
    client.send(cancel())
    service.advance(200)
    assert backend.idle()
    assert client.received() == []


def test_the_answer_is_discarded_if_the_transport_is_gone() -> None:
    service = ServiceUnderTest(EVENTS_ONLY)
    backend = Backend(service)
    client = service.connect()
    hello = client.hello()
    client.send(invoke())
    client.drop()
    first = backend.call()
    again = service.recover(hello)
    again.received()
    again.send(cancel())  # of this transport there is none
    assert backend.cancelled == []
    again.send(invoke())
    second = backend.calls()[1]
    backend.answer(first, body=1, headers=[("ce-connectionState", "one")])
    assert again.received() == []
    backend.answer(second, body=2)
    assert again.received() == [success(dataType="json", data=2)]
    again.send(invoke())
    assert header(backend.call(), "ce-connectionState") == "one"


def test_without_a_transport_the_answer_is_discarded_and_room_is_free_again() -> None:
    service = ServiceUnderTest(EVENTS_ONLY, invocations=1)
    backend = Backend(service)
    client = service.connect()
    hello = client.hello()
    client.send(invoke())
    client.drop()
    backend.answer(body=1)
    again = service.recover(hello)
    again.received()
    again.send(invoke("8"))
    backend.answer()
    assert again.received() == [success("8")]


@pytest.mark.parametrize("way", ["closes", "expires", "is closed", "breaks"])
def test_the_end_of_the_connection_gives_its_invocations_up(way: str) -> None:
    service = ServiceUnderTest(NEWS)
    backend = Backend(service)
    client = service.connect()
    connection_id = client.hello()["connectionId"]
    backend.answer()
    client.send(invoke("a"))
    client.send(invoke("b"))
    calls = backend.calls()
    match way:
        case "closes":
            client.drop(1000)
        case "expires":
            client.drop()
            service.advance(30)
        case "is closed":
            service.core.close_connection(connection_id, "enough")
        case _:
            client.send_raw("{")
    assert header(backend.call(), "ce-eventName") == "disconnected"
    assert backend.cancelled == calls


def test_a_shutdown_gives_all_invocations_up() -> None:
    service, backend, client = talking()
    client.send(invoke())
    call = backend.call()
    service.core.shut_down()
    assert backend.idle()
    assert backend.cancelled == [call]
    assert [message["type"] for message in client.received()] == ["system"]


# ---- Delays, for tests


def test_an_answer_that_is_held_back() -> None:
    service, backend, client = talking()
    asked: list[tuple[str, str]] = []

    def fault(connection: Any, invocation_id: str) -> float | None:
        asked.append((connection.connection_id, invocation_id))
        return 2.5 if invocation_id == "a" else None

    service.core.invocations.faults.append(fault)
    client.send(invoke("a"))
    client.send(invoke("b"))
    for call in backend.calls():
        backend.answer(call)
    assert client.received() == [success("b")]
    assert asked == [("c1", "a"), ("c1", "b")]
    assert service.core.deadline == service.now + 2.5
    service.advance(2.4)
    assert client.received() == []
    service.advance(0.1)
    assert client.received() == [success("a")]
    assert service.core.deadline == math.inf


def test_an_answer_that_is_held_back_can_be_given_up() -> None:
    service, backend, client = talking()
    delays = [5.0, math.inf]
    service.core.invocations.faults.append(lambda connection, invocation_id: delays.pop(0) if delays else None)
    client.send(invoke("a"))
    backend.answer()
    client.send(cancel("a"))
    client.send(invoke("a"))
    backend.answer()
    service.advance(1000)
    client.send(invoke("a"))
    assert error(client, "a")[0] == "BadRequest"  # it is pending for ever
    client.drop(1000)
    service.advance(1000)
    assert client.received() == []


# ---- Trace events


def test_observers_are_told() -> None:
    service, backend, client = talking()
    seen: list[Any] = []
    service.core.observers.append(seen.append)
    client.send(invoke("a", dataType="text", data="x"))
    call = backend.call()
    service.advance(0.25)
    backend.answer(call, body={"b": 1})
    client.send(invoke("b"))
    backend.answer(status=400, body=b"y" * 1000, content_type="text/plain")
    client.send(invoke("c" * 1000))
    client.send(cancel("c" * 1000))
    client.send(invoke("d"))
    client.drop(1000)
    who = ("chat", "c1", "ann")
    where = ("order", "http://app.example/api/chat/order")
    long = "c" * 239 + "…"
    assert [event for event in seen if not isinstance(event, ConnectionClosed)] == [
        Invoked(*who, "a", "order", "text", '"x"', 3),
        HandlerCalled(*who, *where, 200, None, 0.25, 1),
        InvocationAnswered(*who, "a", "json", '{"b": 1}', 8),
        Invoked(*who, "b", "order", "text", '""', 2),
        HandlerCalled(*who, *where, 400, None, 0.0, 1),
        InvocationFailed(*who, "b", "BadRequest", "y" * 239 + "…"),
        Invoked(*who, long, "order", "text", '""', 2),
        InvocationCancelled(*who, long),
        Invoked(*who, "d", "order", "text", '""', 2),
        InvocationCancelled(*who, "d"),
    ]
