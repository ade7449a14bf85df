"""What event handlers get and say, to the letter of the cloud (emulator)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.core.service.backend import (
    EVERYTHING,
    NEWS,
    URL,
    Backend,
    ack,
    event,
    failure,
    header,
    knock,
    talking,
)
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import JSON, ClientGrant, EventHandler
from limpet_core.service.wire.from_client import decode
from limpet_core.service.wire.requests import Event, Invoke, SendToGroup, StreamData

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}")


# ---- Calls


def test_every_event_has_a_request_id_of_its_own_that_its_retries_keep() -> None:
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    knock(service)
    ids = [header(backend.answer(status=503), "x-ms-client-request-id")]
    service.advance(1)
    ids.append(header(backend.answer(), "x-ms-client-request-id"))
    transport = backend.decided().transport
    assert transport is not None
    client = Client(service, transport)
    ids.append(header(backend.answer(), "x-ms-client-request-id"))
    client.send(event())
    call = backend.fail("broken")
    ids.append(header(call, "x-ms-client-request-id"))
    service.advance(1)
    ids.append(header(backend.answer(), "x-ms-client-request-id"))
    knock(service)
    ids.append(header(backend.answer(), "x-ms-client-request-id"))
    assert ids[0] == ids[1]
    assert ids[3] == ids[4]
    assert len(set(ids)) == 4
    assert all(UUID.fullmatch(found or "") for found in ids)


def test_an_event_that_no_handler_gets_has_an_id_too() -> None:
    only = EventHandler(url=URL, user_events=("order",), system_events=("disconnected",))
    service, backend, client = talking(only)
    client.send(event("other"))
    client.send(event())
    assert header(backend.answer(), "ce-id") == "3", "connected was 1, the other event 2"
    service.core.close_connection("c1", "")
    assert header(backend.call(), "ce-id") == "4"


def test_an_empty_user_id_stays_empty_and_is_no_header() -> None:
    service = ServiceUnderTest(NEWS)
    backend, client = Backend(service), service.connect(user="", subprotocol=JSON, groups=("room",))
    assert client.hello()["userId"] == ""
    assert header(backend.call(), "ce-userId") is None
    client.publish(1)
    assert client.received()[0]["fromUserId"] == ""
    assert [connection.connection_id for connection in service.core.hub("chat").user("")] == ["c1"]


@pytest.mark.parametrize(
    ("claims", "user"),
    [
        ({"nameid": "ann"}, "ann"),
        ({"sub": None, "nameid": "ann"}, "ann"),
        ({"sub": "ann", "nameid": "ben"}, "ann"),
        ({"sub": "", "nameid": "ben"}, ""),
        ({"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier": "ann"}, "ann"),
        ({"NAMEID": "ann"}, None),
    ],
)
def test_the_user_may_be_named_by_another_claim(claims: dict[str, object], user: str | None) -> None:
    assert ClientGrant.from_claims(claims).user_id == user


@pytest.mark.parametrize(
    ("patterns", "name", "matches"),
    [
        (("*",), "room.message", True),
        (("join", "ROOM.*"), "room.message", True),
        (("room.*",), "room.message.more", False),
        (("room.**",), "room.message.more", True),
        (("room.?",), "room.a", True),
        (("room.?",), "room..", False),
        (("**",), "room.message", True),
        (("CONNECTED",), "connected", True),
        (("connect",), "connected", False),
        ((), "connected", False),
    ],
)
def test_names_of_events_may_have_wildcards(patterns: tuple[str, ...], name: str, matches: bool) -> None:
    handler = EventHandler(url=URL, user_events=patterns, system_events=())
    assert handler.gets_user_event(name) == matches


@pytest.mark.parametrize("pattern", ["", "a b", "room.\\*", "*" * 6, "?" * 129, "ü*", "1st"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="not the name of an event"):
        EventHandler(url=URL, user_events=(pattern,))


# ---- Answers


@pytest.mark.parametrize(
    "content",
    [
        b'{"UserId":"ben","GROUPS":["h"],"Roles":[],"subProtocol":null,"more":1}',
        b'{"userId":"ben","groups":["h"],"roles":[]}',
    ],
)
def test_names_in_the_answer_to_connect_have_any_case(content: bytes) -> None:
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    knock(service)
    backend.answer(body=content)
    transport = backend.decided().transport
    assert transport is not None
    connection = transport.connection
    assert connection is not None
    assert (connection.user_id, list(connection.groups)) == ("ben", ["h"])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["one"], "one"),
        (["one", "two"], "two"),
        (["one, two"], "two"),
        (["first", " middle, last "], "last"),
        (["one,"], ""),
    ],
)
def test_of_repeated_and_joined_metadata_the_last_counts(values: list[str], expected: str) -> None:
    _, backend, client = talking(subprotocol=JSON)
    client.send(event(ackId=1))
    headers = [("X-WebPubSub-Metadata-Trace", value) for value in values]
    backend.answer(body=b"hi", content_type="text/plain", headers=headers)
    reply, answer = client.received()
    assert reply["metadata"] == {"trace": expected}
    assert answer == ack(1)


@pytest.mark.parametrize("content", [b"hi", b""])
def test_metadata_without_a_key_is_ignored_and_the_reply_is_not_lost(content: bytes) -> None:
    _, backend, client = talking(subprotocol=JSON)
    client.send(event(ackId=1))
    backend.answer(body=content, content_type="text/plain", headers=[("X-WebPubSub-Metadata-", "ignored")])
    replies = client.received()
    assert replies[-1] == ack(1)
    assert replies[:-1] == (
        [{"type": "message", "from": "server", "dataType": "text", "data": "hi"}] if content else []
    )


def test_an_empty_state_of_the_connect_event_is_sent_with_the_next() -> None:
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    knock(service)
    backend.answer(headers=[("ce-connectionState", "")])
    assert header(backend.call(), "ce-connectionState") == ""


# ---- Validation


def asked(**settings: Any) -> tuple[ServiceUnderTest, Backend, Client]:
    """A service with one event that waits for the permission of its handler."""
    service = ServiceUnderTest(EventHandler(url=URL, system_events=(), **settings))
    backend, client = Backend(service, validates=False), service.connect()
    client.hello()
    client.send(event(ackId=1))
    return service, backend, client


@pytest.mark.parametrize("status", [408, 500, 503, 599])
def test_a_validation_is_tried_again_while_the_event_waits(status: int) -> None:
    service, backend, client = asked()
    backend.answer(status=status)
    for delay in (1, 3, 5):
        assert backend.idle()
        service.advance(delay - 0.01)
        assert backend.idle()
        assert client.received() == []
        service.advance(0.01)
        question = backend.call()
        assert (question.method, question.event) == ("OPTIONS", "validate")
        if delay < 5:
            backend.answer(status=status)
    backend.answer(headers=[("WebHook-Allowed-Origin", "*")])
    backend.answer()
    assert client.received() == [ack(1)]


@pytest.mark.parametrize("kind", ["unreachable", "broken"])
def test_after_the_last_attempt_the_validation_has_failed(kind: Any) -> None:
    service, backend, client = asked()
    for delay in (1, 3, 5):
        backend.fail(kind)
        assert backend.idle()
        service.advance(delay)
        assert client.received() == [], "the event waits"
    backend.fail(kind)
    assert backend.idle()
    service.advance(0)
    assert failure(client.received()) == (1, "NotFound")


@pytest.mark.parametrize("status", [400, 401, 403, 405, 429])
def test_a_validation_that_is_refused_is_not_tried_again(status: int) -> None:
    service, backend, client = asked()
    backend.answer(status=status)
    assert backend.idle()
    service.advance(0)
    assert failure(client.received()) == (1, "NotFound")


def test_a_validation_whose_time_is_over_before_its_next_attempt_has_failed() -> None:
    service, backend, client = asked()
    backend.answer(status=503)
    service.advance(60)
    assert backend.idle()
    service.advance(0)
    assert failure(client.received()) == (1, "NotFound")


def test_validations_that_are_safe_to_repeat_are_repeated_whatever_is_said_of_events() -> None:
    service, backend, client = asked(resend="safe")
    backend.answer(status=503)
    assert backend.idle()
    service.advance(1)
    assert client.received() == []
    assert backend.call().method == "OPTIONS"


def test_without_retries_there_is_one_question() -> None:
    service, backend, client = asked(retries=0)
    backend.answer(status=503)
    assert backend.idle()
    service.advance(0)
    assert failure(client.received()) == (1, "NotFound")


# ---- Messages


@pytest.mark.parametrize("spelled", ["TEXT", "Text", "tExT"])
def test_the_case_of_a_data_type_does_not_matter(spelled: str) -> None:
    data = b'"dataType":"%b","data":"\\u00e9"}' % spelled.encode()
    sent = decode(b'{"type":"sendToGroup","group":"room",' + data)
    raised = decode(b'{"type":"EVENT","event":"order",' + data)
    invoked = decode(b'{"type":"invoke","invocationId":"1","target":"event","event":"order",' + data)
    part = decode(b'{"type":"streamData","streamId":"s","streamSequenceId":1,' + data)
    assert isinstance(sent, SendToGroup)
    assert isinstance(raised, Event)
    assert isinstance(invoked, Invoke)
    assert isinstance(part, StreamData)
    for message in (sent, raised, invoked, part):
        assert message.data_type == "text"
        assert bytes(message.data) == b'"\\u00e9"', "as it was sent"
