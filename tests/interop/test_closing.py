"""Connections that end, by the client, the server or a fault."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.interop.clients import KINDS, JavaScriptClient, OfficialClient, Refused
from tests.interop.raw import JSON, RELIABLE, recovery_url, socket
from tests.interop.stage import Stage

from limpet.service import ServiceOptions

each_kind = pytest.mark.parametrize("kind", KINDS)
TIME_TO_GO = "Application server closed the connection. Reason: Time to go"


def test_the_javascript_client_closes_without_a_code_and_is_kept_for_the_window(
    staged: Callable[..., Stage],
) -> None:
    stage = staged(ServiceOptions(recovery_window=0.3))
    client = stage.open("js")
    client.stop()
    client.events.wait("stopped")
    stage.backend.until(lambda: not stage.backend.connected(client.connection_id))
    stage.backend.until(lambda: stage.backend.connection(client.connection_id) is None)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "js"])
def test_a_deliberate_close_ends_the_connection_at_once(stage: Stage, kind: str) -> None:
    client = stage.open(kind)
    client.stop()
    client.events.wait("stopped")
    stage.backend.until(lambda: stage.backend.connection(client.connection_id) is None)


def test_a_connection_closed_with_1000_cannot_be_recovered_one_without_a_code_can(stage: Stage) -> None:
    url = stage.service().client_url()
    for code, recovered in ((1000, False), (None, True)):
        with socket(url) as first:
            hello = first.receive()
            first.websocket.close(1000) if code else first.websocket.close_socket()
        with socket(recovery_url(url, hello)) as second:
            if recovered:
                assert second.receive()["connectionId"] == hello["connectionId"]
            else:
                assert second.ended()[0] == 1008


@pytest.mark.parametrize("target", ["connection", "user:ann", "group:room", "all"])
@each_kind
def test_the_server_closes_with_a_reason(stage: Stage, kind: str, target: str) -> None:
    client = stage.open(kind, "ann", groups=["room"])
    first = client.connection_id
    stage.service(kind).close(f"connection:{first}" if target == "connection" else target, "Time to go")
    assert client.events.wait("disconnected") == [{"message": TIME_TO_GO}]
    client.events.wait("connected", 2)
    assert client.connection_id != first


def test_the_disconnected_message_comes_before_the_close_and_recovery_is_refused(stage: Stage) -> None:
    service = stage.service()
    url = service.client_url("ann")
    with socket(url) as client:
        hello = client.receive()
        service.close("user:ann", "Time to go")
        assert client.receive() == {"type": "system", "event": "disconnected", "message": TIME_TO_GO}
        assert client.ended() == (1000, "")
    with socket(recovery_url(url, hello)) as again:
        assert again.ended()[0] == 1008


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '"text"',
        "{}",
        '{"type":1}',
        '{"type":"joinGroup"}',
        '{"type":"joinGroup","group":" "}',
        '{"type":"joinGroup","group":"room","ackId":"one"}',
        '{"type":"sendToGroup","group":"room","dataType":"binary","data":"not base64"}',
        '{"type":"sendToGroup","group":"room","dataType":"text","data":1}',
        '{"type":"sendToGroup","group":"room","dataType":"json","data":null}',
        '{"type":"event","event":"two words","data":1}',
    ],
)
def test_a_malformed_message_ends_the_connection_with_1007(stage: Stage, text: str) -> None:
    url = stage.service().client_url()
    hellos: dict[str, dict[str, Any]] = {}
    for subprotocol in (RELIABLE, JSON):
        with socket(url, subprotocol) as client:
            hellos[subprotocol] = client.receive()
            client.websocket.send(text)
            assert client.ended()[0] == 1007
    with socket(recovery_url(url, hellos[RELIABLE])) as again:
        assert again.ended()[0] == 1008


def back_again(stage: Stage, client: OfficialClient, first: str) -> None:
    """The first connection is over, and the client has a new one, in its groups."""
    client.events.wait("connected", 2)
    assert stage.backend.connection(first) is None
    assert client.connection_id != first
    stage.backend.until(lambda: stage.groups(client.connection_id) == ["room"])


def test_the_javascript_client_comes_back_after_a_malformed_message(stage: Stage) -> None:
    client = stage.open("js", verbatim=True)
    assert isinstance(client, JavaScriptClient)
    client.join("room")
    first = client.connection_id
    client.say('{"type":"joinGroup"')
    back_again(stage, client, first)


def test_the_javascript_client_keeps_its_connection_after_a_message_that_the_service_does_not_know(
    stage: Stage,
) -> None:
    client = stage.open("js", verbatim=True)
    assert isinstance(client, JavaScriptClient)
    first = client.connection_id
    client.say('{"type":"fromTheFuture"}')
    client.join("room")
    assert stage.groups(first) == ["room"]
    assert not client.events.of("disconnected")


@each_kind
def test_a_message_above_one_mebibyte_ends_the_connection(stage: Stage, kind: str) -> None:
    client = stage.open(kind)
    client.join("room")
    first = client.connection_id
    client.send("elsewhere", "x" * (1024 * 1024 - 200))
    with pytest.raises(Refused):
        client.send("elsewhere", "x" * (1024 * 1024 + 1))
    back_again(stage, client, first)


def test_one_byte_too_many_is_1009(stage: Stage) -> None:
    message: dict[str, Any] = {"type": "sendToGroup", "group": "room", "dataType": "text", "data": ""}
    with socket(stage.service().client_url(roles=["webpubsub.sendToGroup"])) as client:
        client.receive()
        envelope = len('{"type": "sendToGroup", "group": "room", "dataType": "text", "data": "", "ackId": 1}')
        client.send(**{**message, "data": "x" * (1024 * 1024 - envelope)}, ackId=1)
        assert client.receive() == {"type": "ack", "ackId": 1, "success": True}
        client.send(**{**message, "data": "x" * (1024 * 1024 - envelope + 1)}, ackId=2)
        assert client.ended()[0] == 1009
