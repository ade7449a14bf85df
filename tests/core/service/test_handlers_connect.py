"""Event handlers in virtual time: deciding whether a client may connect."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.core.service.backend import (
    EVERYTHING,
    NEWS,
    Backend,
    body,
    header,
    knock,
)
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import JSON, RELIABLE_JSON, ClientGrant


def test_connect_is_asked_for_and_nobody_else_hears_before() -> None:
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    pending = knock(
        service,
        claims={"sub": ["ann"], "role": ["r"]},
        query={"a": ["1", "2"]},
        headers={"Host": ["x"]},
        subprotocols=["custom", RELIABLE_JSON],
    )
    call = backend.call()
    assert body(call) == {
        "claims": {"sub": ["ann"], "role": ["r"]},
        "query": {"a": ["1", "2"]},
        "headers": {"Host": ["x"]},
        "subprotocols": ["custom", RELIABLE_JSON],
        "clientCertificates": [],
    }
    assert call.url == "http://app.example/api/chat/connect?code=secret"
    headers = dict(call.headers)
    assert headers["ce-type"] == "azure.webpubsub.sys.connect"
    assert (headers["ce-id"], headers["ce-userId"], headers["ce-connectionId"]) == ("0", "ann", "c1")
    assert headers["Content-Type"] == "application/json"
    assert "ce-subprotocol" not in headers
    assert service.core.hub("chat").connections == {}
    assert service.core.decided_connects() == []
    backend.answer(call, headers=[("ce-connectionState", "s"), ("Set-Cookie", "c=1")])
    assert backend.decided() is pending
    assert pending.subprotocol == RELIABLE_JSON
    assert pending.transport is not None
    connection = pending.transport.connection
    assert connection is not None
    assert (connection.connection_id, connection.user_id, list(connection.groups)) == ("c1", "ann", ["g"])
    connected = backend.call()
    assert dict(connected.headers)["ce-id"] == "1"
    assert dict(connected.headers)["ce-subprotocol"] == RELIABLE_JSON
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
        ({"body": {"userId": ""}}, "", ["g"], False),
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
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    knock(service, ClientGrant("ann", ("webpubsub.joinLeaveGroup",), ("g",)))
    backend.answer(**answer)
    transport = backend.decided().transport
    assert transport is not None
    client = Client(service, transport)
    assert client.hello()["userId"] == user
    connection = transport.connection
    assert connection is not None
    assert list(connection.groups) == groups
    assert connection.permissions.send.allows("g") is may_send
    roles = answer.get("body", {})["roles"] if b"roles" in json.dumps(answer, default=str).encode() else None
    assert connection.permissions.join_leave.allows("g") is (roles is None)
    assert header(backend.call(), "ce-userId") == (user or None)


def test_a_handler_may_pick_the_subprotocol() -> None:
    for chosen in (JSON, JSON.upper()):
        service = ServiceUnderTest(EVERYTHING)
        backend = Backend(service)
        knock(service, subprotocols=["other", RELIABLE_JSON, JSON])
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
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    knock(service, subprotocols=offers)
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
        ({"status": 403, "body": b"\x1f", "headers": [("Content-Encoding", "gzip")]}, 403, "403"),
        ({"body": b"\x1f", "headers": [("Content-Encoding", "GZIP, br")]}, 500, "content encoding is gzip, br"),
        ({"body": b"{", "headers": [("Content-Encoding", "Identity")]}, 500, "valid: Input data"),
        ({"status": 429, "body": b"\xff" * 9999}, 429, "\ufffd" * 1024),
        ({"status": 302, "headers": [("Location", "http://x/")]}, 500, "302"),
        ({"body": b"OK", "content_type": "text/plain"}, 500, "valid"),
        ({"body": {"userId": 1}}, 500, "valid"),
        ({"body": {"groups": "g"}}, 500, "valid"),
        ({"body": b'{"userId":"\xff"}'}, 500, "valid"),
        ({"body": []}, 500, "valid"),
        ({"body": {"groups": [" "]}}, 500, "group"),
        ({"body": {"subprotocol": "other"}}, 500, "subprotocol"),
    ],
)
def test_a_refused_client_sees_the_status(answer: dict[str, Any], status: int, text: str) -> None:
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    knock(service, subprotocols=[JSON, "protobuf.webpubsub.azure.v1"])
    backend.answer(**answer)
    pending = backend.decided()
    assert pending.rejection is not None
    assert pending.rejection.status == status
    assert text in pending.rejection.text
    assert pending.transport is None
    service.advance(1000)
    assert backend.idle()
    assert service.core.hub("chat").connections == {}


def test_a_handler_that_stays_in_trouble_refuses_the_client_with_its_status() -> None:
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    knock(service)
    for wait in (1, 3, 5):
        backend.answer(status=503, body=b"internal details", content_type="text/plain")
        assert service.core.decided_connects() == []
        service.advance(wait)
    backend.answer(status=503, body=b"internal details", content_type="text/plain")
    rejection = backend.decided().rejection
    assert rejection is not None
    assert rejection.status == 503
    assert "details" not in rejection.text


def test_a_handler_that_does_not_answer_refuses_the_client_with_500() -> None:
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    knock(service)
    backend.fail("timeout")
    rejection = backend.decided().rejection
    assert rejection is not None
    assert rejection.status == 500


def test_a_client_that_gives_up_is_forgotten() -> None:
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    pending = knock(service)
    call = backend.call()
    service.core.forget_connect(pending)
    assert backend.idle()
    assert backend.cancelled == [call]
    service.core.handler_answered(call, 200, (), b"", service.now)
    service.core.forget_connect(pending)
    assert service.core.decided_connects() == []
    assert service.core.hub("chat").connections == {}


def test_a_hub_without_handlers_is_open() -> None:
    service = ServiceUnderTest(NEWS)
    assert not service.core.handler_decides("chat")
    assert not service.core.handler_decides("other")


def test_a_client_may_leave_when_its_call_has_failed_and_nothing_was_decided_yet() -> None:
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service, validates=False)
    first = knock(service)
    backend.answer(backend.call(), status=403)
    assert backend.idle()
    service.advance(0)
    assert backend.decided() is first
    second = knock(service)
    assert backend.idle(), "that calls are not allowed is known"
    assert service.core.deadline == service.now, "and is to be told"
    service.core.forget_connect(second)
    service.advance(0)
    assert second not in service.core.decided_connects()
    assert second.transport is second.rejection is None
