"""Protobuf clients that are not ours: protobufjs with the schema, over a plain WebSocket in Node."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from google.protobuf import any_pb2, wrappers_pb2
from tests.interop.events import Events
from tests.interop.node import Node
from tests.interop.stage import Programs, Stage

import limpet_core.protocol.protobuf as package
from limpet import PROTOBUF, RELIABLE_PROTOBUF, GroupMessage, Options
from limpet.sync import Client

SCHEMA = Path(package.__file__).parent / "webpubsub.proto"
PACKED = any_pb2.Any()
PACKED.Pack(wrappers_pb2.StringValue(value="x"))
ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")

_names = itertools.count(1)


class Foreign:
    """A client of protobufjs; ``messages`` are what it was told, as objects."""

    def __init__(self, node: Node, url: str, protocol: str) -> None:
        self.name = f"protobuf-{next(_names)}"
        self.events = Events()
        self._node = node
        self._seen = 0
        node.listen(self.name, self.events.add)
        chosen = node.call("start", client=self.name, url=url, protocol=protocol, schema=str(SCHEMA))
        assert chosen == protocol
        self.hello = self.next()["systemMessage"]["connectedMessage"]

    def next(self) -> dict[str, Any]:
        """The next message."""
        self._seen += 1
        message: dict[str, Any] = self.events.wait("message", self._seen)[self._seen - 1]
        return message

    def say(self, **message: Any) -> None:
        self._node.call("say", client=self.name, message=message)

    def do(self, **message: Any) -> dict[str, Any]:
        """Say something, and return the answer."""
        self.say(**message)
        return self.next()

    def call(self, command: str, **options: Any) -> None:
        self._node.call(command, client=self.name, **options)


@pytest.fixture
def foreign(stage: Stage, programs: Programs) -> Callable[..., Foreign]:
    def make(protocol: str = PROTOBUF, url: str | None = None, **options: Any) -> Foreign:
        known = url or stage.service("js").client_url("ann", roles=ROLES, **{"groups": ()} | options)
        return Foreign(programs("protobuf.mjs"), known, protocol)

    return make


@contextmanager
def ours(stage: Stage, protocol: str) -> Iterator[tuple[Client, Events]]:
    """Our blocking client in the group room."""
    events = Events()
    url = stage.service("python").client_url("ben", roles=ROLES, groups=["room"])
    client = Client(url, Options(protocol=protocol))
    client.on(GroupMessage, lambda message: events.add("message", message))
    with client:
        yield client, events


VALUES: list[tuple[dict[str, Any], Any, str]] = [
    ({"textData": "t\u00e9xt"}, "t\u00e9xt", "text"),
    ({"textData": ""}, "", "text"),
    ({"jsonData": '{"a":[1,null]}'}, {"a": [1, None]}, "json"),
    ({"binaryData": "AP8="}, b"\0\xff", "binary"),
    ({"protobufData": {"type_url": PACKED.type_url, "value": base64.b64encode(PACKED.value).decode()}},
     PACKED.SerializeToString(), "protobuf"),
]  # fmt: skip


@pytest.mark.parametrize("protocol", [PROTOBUF, RELIABLE_PROTOBUF])
def test_values_cross_between_a_foreign_client_and_ours(
    stage: Stage, foreign: Callable[..., Foreign], protocol: str
) -> None:
    other = foreign(protocol, groups=["room"])
    assert other.hello["userId"] == "ann"
    assert ("reconnectionToken" in other.hello) == (protocol == RELIABLE_PROTOBUF)
    with ours(stage, protocol) as (client, events):
        for number, (data, value, data_type) in enumerate(VALUES, 1):
            other.say(sendToGroupMessage={"group": "room", "data": data, "noEcho": True, "metadata": {"k": "v"}})
            message = events.wait("message", number)[-1]
            assert (message.data, message.data_type, message.metadata) == (value, data_type, {"k": "v"})
            client.send_to_group("room", value, data_type=data_type, no_echo=True)  # type: ignore[arg-type]
            told = other.next()["dataMessage"]
            assert (told["from"], told["group"]) == ("group", "room")
            ((kind, content),) = [(key, item) for key, item in told["data"].items() if key != "data"]
            if data_type == "protobuf":
                assert content["type_url"] == PACKED.type_url
            elif data_type != "json":
                assert {kind: content} == data
        assert events.wait("message", len(VALUES))[-1].unpack(wrappers_pb2.StringValue).value == "x"


@pytest.mark.parametrize("kind", ["js", "python-aio"])
def test_values_cross_between_a_foreign_client_and_an_official_json_client(
    stage: Stage, foreign: Callable[..., Foreign], kind: str
) -> None:
    official, other = stage.open(kind, "ben", groups=["room"]), foreign(groups=["room"])
    for number, (data, value, data_type) in enumerate(VALUES[:4], 1):
        other.say(sendToGroupMessage={"group": "room", "data": data, "noEcho": True})
        (message,) = official.messages(number)[number - 1 :]
        assert (message.data, message.data_type) == (value, data_type)
    for data, value, data_type in VALUES[:4]:
        official.send("room", value, data_type, no_echo=True)
        told = other.next()["dataMessage"]
        assert {key: item for key, item in told["data"].items() if key != "data"}.keys() == data.keys()


def test_requests_and_their_answers(foreign: Callable[..., Foreign]) -> None:
    client = foreign()
    assert client.do(joinGroupMessage={"group": "room", "ackId": 1})["ackMessage"] == {
        "ackId": 1, "success": True,
    }  # fmt: skip
    again = client.do(joinGroupMessage={"group": "room", "ackId": 1})["ackMessage"]
    assert again["error"]["name"] == "Duplicate"
    assert client.do(leaveGroupMessage={"group": "room", "ackId": 2})["ackMessage"]["success"]
    assert "pongMessage" in client.do(pingMessage={})
    failed = client.do(eventMessage={"event": "order", "data": {"textData": "x"}, "ackId": 3})["ackMessage"]
    assert failed["error"]["name"] == "NotFound"


def test_a_recovery_replays(stage: Stage, foreign: Callable[..., Foreign]) -> None:
    client = foreign(RELIABLE_PROTOBUF, groups=["room"])
    publisher = foreign()
    publisher.say(sendToGroupMessage={"group": "room", "data": {"textData": "1"}})
    assert client.next()["dataMessage"]["sequenceId"] == 1
    client.call("drop")
    client.events.wait("closed")
    publisher.say(sendToGroupMessage={"group": "room", "data": {"textData": "2"}})
    hello = client.hello
    identity = {"awps_connection_id": hello["connectionId"], "awps_reconnection_token": hello["reconnectionToken"]}
    url = urlsplit(stage.service("js").client_url("ann"))._replace(query=urlencode(identity)).geturl()
    back = foreign(RELIABLE_PROTOBUF, url=url)
    assert back.hello["connectionId"] == hello["connectionId"]
    replayed = [back.next()["dataMessage"] for _ in range(2)]
    assert [(message["data"]["textData"], message["sequenceId"]) for message in replayed] == [("1", 1), ("2", 2)]
    back.say(sequenceAckMessage={"sequenceId": 2})
    assert "pongMessage" in back.do(pingMessage={})


def test_a_stream_of_a_foreign_client(stage: Stage, foreign: Callable[..., Foreign]) -> None:
    publisher = foreign()
    with ours(stage, RELIABLE_PROTOBUF) as (_, events):
        start = publisher.do(sendToGroupMessage={"group": "room", "stream": {"streamId": "s", "idleTimeoutMs": 5000}})
        assert start["streamAckMessage"] == {"streamId": "s", "expectedSequenceId": 1}
        data = {"streamId": "s", "streamSequenceId": 1, "data": {"textData": "token"}}
        assert publisher.do(streamDataMessage=data)["streamAckMessage"]["expectedSequenceId"] == 2
        nack = publisher.do(streamDataMessage=data | {"streamSequenceId": 5})["streamNackMessage"]
        assert (nack["name"], nack["expectedSequenceId"]) == ("InvalidSequenceId", 2)
        publisher.say(streamDataMessage=data | {"streamSequenceId": 2})
        assert publisher.next()["streamAckMessage"]["expectedSequenceId"] == 3
        closed = publisher.do(streamEndMessage={"streamId": "s", "error": {"message": "why", "userErrorCode": "E"}})
        assert closed["streamClosedMessage"] == {"streamId": "s"}
        seen = [message.stream for message in events.wait("message", 3)]
    assert [(place.sequence_id, place.end) for place in seen] == [(1, False), (2, False), (3, True)]
    assert (seen[-1].error.name, seen[-1].error.message, seen[-1].error.user_error_code) == ("UserError", "why", "E")


def test_our_stream_reaches_a_foreign_client(stage: Stage, foreign: Callable[..., Foreign]) -> None:
    member = foreign(RELIABLE_PROTOBUF, groups=["room"])
    with ours(stage, PROTOBUF) as (client, _), client.open_stream("room") as stream:
        stream.write("token")
        stream.write({"a": 1})
    places = [member.next()["dataMessage"]["stream"] for _ in range(3)]
    assert [place["streamSequenceId"] for place in places] == [1, 2, 3]
    assert [place.get("endOfStream", False) for place in places] == [False, False, True]


@pytest.mark.parametrize(("text", "code"), [("hello", 1003)])
def test_a_text_frame_closes(foreign: Callable[..., Foreign], text: str, code: int) -> None:
    client = foreign()
    client.call("text", text=text)
    assert client.events.wait("closed")[0]["code"] == code
