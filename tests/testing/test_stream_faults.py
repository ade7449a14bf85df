"""Faults of streams in the services for tests: fragments that are refused, acks that are lost, streams that end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.core.service.virtual import Client, ServiceUnderTest
from tests.interop.raw import Socket, recovery_url, socket

from limpet.testing import BackgroundService, trace
from limpet_core.service import RELIABLE_JSON


def start(stream_id: str = "s") -> dict[str, Any]:
    return {"type": "sendToGroup", "group": "room", "stream": {"streamId": stream_id}}


def fragment(number: int, stream_id: str = "s") -> dict[str, Any]:
    place = {"streamId": stream_id, "streamSequenceId": number}
    return {"type": "streamData", **place, "dataType": "json", "data": number}


def publisher(service: ServiceUnderTest, *stream_ids: str) -> Client:
    client = service.connect(user="ann")
    client.received()
    for stream_id in stream_ids:
        client.send(start(stream_id))
    assert len(client.received()) == len(stream_ids)
    if service.log.note not in service.core.observers:
        service.core.observers.append(service.log.note)
    return client


def said(client: Client, *messages: dict[str, Any]) -> list[tuple[str, Any]]:
    for message in messages:
        client.send(message)
    client.service.core.transports_with_output()
    told = client.received()
    return [(message["type"], message.get("expectedSequenceId")) for message in told]


# ---- In memory


def test_the_ack_of_fragments_is_lost_and_the_fragments_are_not() -> None:
    service = ServiceUnderTest()
    client = publisher(service)
    service.lose_stream_ack()
    assert said(client, start()) == [("streamAck", 1)]
    assert said(client, fragment(1), fragment(2)) == []
    assert client.close_code == 1006
    assert [event.size for event in service.log.of(trace.Published)] == [1, 1]
    client.drop()
    again = service.recover({"connectionId": "c1", "reconnectionToken": "token-of-c1/1"})
    again.received()
    assert said(again, fragment(1), fragment(2)) == [("streamAck", 3)]
    assert len(service.log.of(trace.Published)) == 2


def test_acks_are_lost_of_one_client_only() -> None:
    service = ServiceUnderTest()
    ann, bob = publisher(service, "s"), publisher(service, "s")
    service.lose_stream_ack("c2")
    assert said(ann, fragment(1)) == [("streamAck", 2)]
    assert said(bob, fragment(1)) == []


def test_fragments_are_refused_as_often_as_was_said() -> None:
    service = ServiceUnderTest()
    client = publisher(service, "s", "t")
    service.nack_stream("t", times=2)
    assert said(client, fragment(1)) == [("streamAck", 2)]
    assert said(client, fragment(1, "t"), fragment(2, "t")) == [("streamNack", 1)]
    assert said(client, fragment(1, "t")) == [("streamNack", 1)]
    assert said(client, fragment(1, "t")) == [("streamAck", 2)]
    assert {event.error for event in service.log.of(trace.StreamNacked)} == {"TransientError"}
    service.nack_stream()
    assert said(client, fragment(2), fragment(2)) == [("streamNack", 2), ("streamAck", 3)]
    with pytest.raises(ValueError, match="times"):
        service.nack_stream(times=0)


def test_a_stream_is_closed() -> None:
    service = ServiceUnderTest()
    ann, bob, _ = publisher(service, "s"), publisher(service, "s"), publisher(service, "t")
    assert service.close_stream("s")
    assert not service.close_stream("s", "Forbidden")
    for client in (ann, bob):
        (closed,) = client.received()
        assert closed["error"] == {"name": "InternalServerError", "message": "The test has closed the stream."}
    assert service.close_stream("t", "Forbidden")
    assert [event.error for event in service.log.of(trace.StreamEnded)] == [*["InternalServerError"] * 2, "Forbidden"]


def test_what_has_not_happened_is_taken_back() -> None:
    service = ServiceUnderTest()
    client = publisher(service, "s")
    service.nack_stream()
    service.lose_stream_ack()
    service.heal()
    assert said(client, fragment(1)) == [("streamAck", 2)]
    service.nack_stream()
    assert said(client, fragment(2)) == [("streamNack", 2)]
    service.lose_stream_ack()
    assert said(client, fragment(2)) == []
    service.heal()


# ---- Over sockets


@pytest.fixture
def service() -> Iterator[BackgroundService]:
    with BackgroundService() as service:
        yield service


def begin(client: Socket) -> dict[str, Any]:
    hello = client.receive()
    client.send(**start())
    assert client.receive() == {"type": "streamAck", "streamId": "s", "expectedSequenceId": 1}
    return hello


def test_faults_over_sockets(service: BackgroundService) -> None:
    url = service.url("ann")
    with socket(url, RELIABLE_JSON) as client:
        hello = begin(client)
        service.nack_stream("s")
        client.send(**fragment(1))
        assert client.receive()["name"] == "TransientError"
        service.lose_stream_ack(hello["connectionId"])
        client.send(**fragment(1))
        service.log.wait(trace.ConnectionDropped)
    with socket(recovery_url(url, hello), RELIABLE_JSON) as client:
        client.receive()
        client.send(**fragment(1))
        assert client.receive() == {"type": "streamAck", "streamId": "s", "expectedSequenceId": 2}
        assert service.close_stream("s", "IdleTimeout")
        assert client.receive()["error"]["name"] == "IdleTimeout"
        assert not service.close_stream("s")


def test_a_silent_stream_ends_by_itself(service: BackgroundService) -> None:
    with socket(service.url("ann"), RELIABLE_JSON) as client:
        client.receive()
        client.send(type="sendToGroup", group="room", stream={"streamId": "s", "idleTimeoutMs": 30})
        assert client.receive()["type"] == "streamAck"
        assert client.receive()["error"]["name"] == "IdleTimeout"
