"""Single frames, and clients without a subprotocol, with tokens of the official packages."""

from __future__ import annotations

import pytest
from tests.interop.clients import KINDS
from tests.interop.raw import JSON, RELIABLE, recovery_url, socket
from tests.interop.stage import Stage


def test_the_first_message_says_connected_in_both_subprotocols(stage: Stage) -> None:
    for subprotocol in (RELIABLE, JSON):
        with socket(stage.service().client_url(), subprotocol) as client:
            hello = client.receive()
            assert client.websocket.subprotocol == subprotocol
            assert (hello["type"], hello["event"], hello["userId"]) == ("system", "connected", None)
            assert ("reconnectionToken" in hello) is (subprotocol == RELIABLE)


def test_ids_begin_at_one_and_replay_stops_once_acknowledged(stage: Stage) -> None:
    service = stage.service()
    url = service.client_url("ann", groups=["room"])
    with socket(url) as client:
        hello = client.receive()
        client.websocket.close_socket()
    connection_id = hello["connectionId"]
    stage.backend.until(lambda: not stage.backend.connected(connection_id))
    for n in (1, 2, 3):
        service.send("group:room", str(n))
    for acknowledged, replayed in ((0, [1, 2, 3]), (2, [1, 2, 3]), (3, [3])):
        with socket(recovery_url(url, hello)) as client:
            assert client.receive()["event"] == "connected"
            found = [client.receive() for _ in replayed]
            assert [(m["sequenceId"], m["data"]) for m in found] == [(n, str(n)) for n in replayed]
            client.send(type="sequenceAck", sequenceId=acknowledged)
            client.send(type="ping")
            assert client.receive() == {"type": "pong"}, "nothing else was replayed"
            client.websocket.close_socket()
    with socket(recovery_url(url, hello)) as client:
        assert client.receive()["event"] == "connected"
        client.send(type="ping")
        assert client.receive() == {"type": "pong"}


@pytest.mark.parametrize("kind", KINDS)
def test_raw_clients_hear_groups_in_frames_of_the_right_type(stage: Stage, kind: str) -> None:
    sender = stage.open(kind)
    with socket(stage.service(kind).client_url(groups=["room"]), None) as raw:
        stage.backend.until(lambda: stage.members("room"))
        for data_type, data, frame in [
            ("text", "hi", "hi"),
            ("json", "a string", '"a string"'),
            ("json", [1], "[1]"),
            ("json", False, "false"),
            ("binary", b"\0\1", b"\0\1"),
            ("protobuf", b"\n\1t", b"\n\1t"),
        ]:
            sender.send("room", data, data_type)
            found = raw.websocket.recv(15)
            assert (type(found), found) == (type(frame), frame)


@pytest.mark.parametrize("kind", KINDS)
def test_what_raw_clients_send_to_their_group(stage: Stage, kind: str) -> None:
    receiver = stage.open(kind)
    receiver.join("room")
    url = stage.service(kind).client_url("raw", roles=["webpubsub.sendToGroup.room"])
    with socket(f"{url}&webpubsub_mode=sendToGroup&group=room", None) as raw:
        raw.websocket.send("hi")
        raw.websocket.send(b"\0\1")
        found = [(message.data_type, message.data, message.from_user_id) for message in receiver.messages(2)]
    assert found == [("text", "hi", "raw"), ("binary", b"\0\1", "raw")]
