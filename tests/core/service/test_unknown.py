"""What the service does not know is refused, and never costs the connection; both JSON subprotocols."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from tests.core.service.test_json import nest
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import JSON, RELIABLE_JSON, Refused

each_subprotocol = pytest.mark.parametrize("subprotocol", [JSON, RELIABLE_JSON])


def goes_on(client: Client) -> None:
    assert client.close_code is None
    client.send_raw('{"type":"ping"}')
    assert client.received() == [{"type": "pong"}]


@each_subprotocol
@pytest.mark.parametrize("kind", ["fromTheFuture", "setGroupStates", "message", "", "JOIN", "\u202e\n" * 1000])
def test_a_request_of_an_unknown_type_is_refused_by_its_ack(subprotocol: str, kind: str) -> None:
    client = ServiceUnderTest().connect(subprotocol=subprotocol)
    client.received()
    for ack_id in (0, 7, 2**64 - 1):
        client.send_raw(json.dumps({"type": kind, "group": "room", "ackId": ack_id}))
        (answer,) = client.received()
        error = answer.pop("error")
        assert answer == {"type": "ack", "ackId": ack_id, "success": False}
        assert error["name"] == "BadRequest"
        assert "is not known to this service" in error["message"]
        assert len(error["message"]) < 1000
        assert error["message"].isprintable()
    goes_on(client)


@each_subprotocol
@pytest.mark.parametrize(
    "message",
    [
        '{"type":"unknown"}',
        '{"type":"unknown","ackId":null}',
        '{"type":"unknown","ackId":"one"}',
        '{"type":"unknown","ackId":-1}',
        '{"type":"unknown","ackId":1.5}',
        '{"type":"unknown","ackId":18446744073709551616}',
        '{"type":"unknown","invocationId":"7"}',
        '{"type":"unknown","streamId":7}',
        '{"type":"invokeSlowly","invocationId":"7"}',
        '{"type":"invoke","invocationId":7,"target":"event","event":"echo","data":1,"dataType":"xml"}',
        '{"type":"sendToGroup","group":"room","data":1,"dataType":"xml"}',
        '{"type":"EVENT","event":"order","data":1,"dataType":"xml"}',
        '{"type":"sendToGroup","group":"room","data":1,"dataType":"xml","stream":1}',
        '{"type":"sendToGroup","group":"room","dataType":"xml","stream":{"streamId":1}}',
    ],
)
def test_without_an_ack_id_it_is_ignored_and_told_to_observers_and_the_log(
    subprotocol: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = ServiceUnderTest()
    member = service.connect(groups=("room",))
    client = service.connect(subprotocol=subprotocol)
    member.received()
    client.received()
    seen: list[Any] = []
    service.core.observers.append(seen.append)
    with caplog.at_level(logging.WARNING, "limpet.service"):
        for _ in range(3):
            client.send_raw(message)
    assert client.received() == member.received() == []
    assert [type(event) for event in seen] == [Refused] * 3
    assert {(event.ack_id, event.error) for event in seen} == {(None, "BadRequest")}
    assert [record.name for record in caplog.records] == ["limpet.service"]  # once for each client
    assert "not known to this service" in caplog.text
    goes_on(client)


@each_subprotocol
@pytest.mark.parametrize(
    "message",
    [
        r'{"type":"unknown","x":"\ud83d","ackId":1}',
        r'{"type":"\ud83d","ackId":1}',
        '{"type":"unknown","ackId":1,"x":' + nest(100_000) + "}",
        '{"type":"sendToGroup","group":"room","ackId":1,"data":1,"dataType":"xml"}',
        '{"type":"sendtogroup","group":"room","ackId":1,"data":1,"dataType":"xml"}',
        '{"type":"event","event":"order","ackId":1,"data":1,"dataType":"xml"}',
    ],
)
def test_other_ways_to_be_unknown(subprotocol: str, message: str) -> None:
    client = ServiceUnderTest().connect(subprotocol=subprotocol)
    client.received()
    client.send_raw(message)
    (answer,) = client.received()
    assert (answer["type"], answer["ackId"], answer["error"]["name"]) == ("ack", 1, "BadRequest")
    goes_on(client)


@each_subprotocol
@pytest.mark.parametrize("kind", ["invoke", "Invoke", "INVOKE"])
def test_an_invocation_of_an_unknown_data_type_is_refused_by_its_response(subprotocol: str, kind: str) -> None:
    client = ServiceUnderTest().connect(subprotocol=subprotocol)
    client.received()
    client.send_raw(
        f'{{"type":"{kind}","invocationId":"7","target":"event","event":"echo","dataType":"xml","data":"x"}}'
    )
    (answer,) = client.received()
    assert answer.pop("error") == {"name": "BadRequest", "message": "the dataType 'xml' is not known to this service"}
    assert answer == {"type": "invokeResponse", "invocationId": "7", "success": False}
    goes_on(client)


@each_subprotocol
@pytest.mark.parametrize(
    ("message", "acked"),
    [
        ('{"type":"sendToGroup","group":"room","dataType":"xml","stream":{"streamId":"s1"}}', False),
        ('{"type":"sendToGroup","group":"room","data":1,"dataType":"xml","ackId":3,"stream":{"streamId":"s1"}}', True),
        ('{"type":"streamData","streamId":"s1","streamSequenceId":1,"dataType":"xml","data":"x"}', False),
        ('{"type":"streamdata","streamId":"s1","streamSequenceId":1,"dataType":"xml","data":"x"}', False),
        ('{"type":"streamPause","streamId":"s1"}', False),
        ('{"type":"streamPause","streamId":"s1","stream":{"streamId":"s2"}}', False),
    ],
)
def test_what_is_unknown_about_a_stream_is_refused_by_its_end(subprotocol: str, message: str, acked: bool) -> None:
    client = ServiceUnderTest().connect(subprotocol=subprotocol)
    client.received()
    client.send_raw(message)
    *acks, closed = client.received()
    assert [ack["ackId"] for ack in acks] == ([3] if acked else [])
    assert (closed["type"], closed["streamId"], closed["error"]["name"]) == ("streamClosed", "s1", "BadRequest")
    goes_on(client)


def test_a_recovered_connection_goes_on_after_it() -> None:
    service = ServiceUnderTest()
    client = service.connect(groups=("room",))
    hello = client.hello()
    client.send_raw('{"type":"fromTheFuture"}')
    client.drop(1006)
    again = service.recover(hello)
    assert again.close_code is None
