"""Protobuf clients of the service: beside JSON clients they see the same values, and the same rules hold for them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from google.protobuf import any_pb2, wrappers_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.service.backend import EVENTS_ONLY, EVERYTHING, Backend, header, knock
from tests.core.service.virtual import Client, ServiceUnderTest
from tests.helpers.profiles import examples

from limpet import (
    JSON,
    PROTOBUF,
    RELIABLE_JSON,
    RELIABLE_PROTOBUF,
    GroupMessage,
    Options,
    ServerMessage,
    Session,
    State,
)
from limpet_core.protocol import protobuf as package
from limpet_core.protocol.messages import (
    AckMessage,
    ErrorDetail,
    StreamAckMessage,
    StreamClosedMessage,
    StreamEndError,
    SystemMessage,
)
from limpet_core.protocol.protobuf import codec
from limpet_core.protocol.protobuf._wire.webpubsub_pb2 import MessageData, UpstreamMessage
from limpet_core.service import Binary, RawMode, server_publication
from limpet_core.service.wire.codecs import is_spoken
from limpet_core.service.wire.subprotocols import choose_subprotocol, select_subprotocol

BOTH = pytest.mark.parametrize("protocol", [PROTOBUF, RELIABLE_PROTOBUF])
LIMIT = 1 << 20


class Member:
    """One of our own clients at the service; what it is told comes out as events."""

    def __init__(self, service: ServiceUnderTest, protocol: str, **grant: Any) -> None:
        self.service = service
        self.client: Client = service.connect(subprotocol=protocol, **{"groups": ("room",)} | grant)
        options = Options(protocol=protocol, keepalive_interval=None, keepalive_timeout=None)
        self.session = Session(options, random=lambda: 0.5)
        self.session.start(0.0)
        self.session.url_ready("ws://service.test/client/hubs/chat", 0.0)
        self.session.connected(0.0)
        self.hears()
        assert self.session.state is State.CONNECTED

    def hears(self) -> list[Any]:
        messages = self.client.received_raw()
        assert all(isinstance(message, Binary) == self.session.options.binary for message in messages)
        self.session.receive_messages(messages, 0.0)
        return [event for event in self.session.events() if isinstance(event, GroupMessage | ServerMessage)]

    def says(self) -> None:
        """Hand what the session wants said to the service."""
        for message in self.session.messages_to_send():
            self.client.send_raw(message)


def ask(client: Client, message: bytes) -> list[Any]:
    """Send what a protobuf client sends, and return what it is told."""
    client.send_raw(message)
    return [codec.decode(answer) for answer in client.received_raw()]


def anything(service: ServiceUnderTest, protocol: str = PROTOBUF, **grant: Any) -> Client:
    client = service.connect(subprotocol=protocol, **grant)
    client.received_raw()
    return client


# ---- The same values for everybody

PACKED = any_pb2.Any()
PACKED.Pack(wrappers_pb2.StringValue(value="x"))

VALUES: dict[str, tuple[Any, str | None]] = {
    "text": ("t\u00e9xt", None),
    "no text": ("", None),
    "object": ({"a": [1, None, {"b": "\U0001f600"}]}, None),
    "number": (2.5, None),
    "false": (False, None),
    "text as JSON": ("t", "json"),
    "bytes": (b"\0\xff", None),
    "no bytes": (b"", None),
    "protobuf": (PACKED.SerializeToString(), "protobuf"),
}


@pytest.mark.parametrize("sender", [JSON, RELIABLE_JSON, PROTOBUF, RELIABLE_PROTOBUF])
@pytest.mark.parametrize("name", VALUES)
def test_members_of_each_subprotocol_see_the_same_value(name: str, sender: str) -> None:
    data, data_type = VALUES[name]
    service = ServiceUnderTest()
    members = [Member(service, protocol) for protocol in (JSON, RELIABLE_JSON, PROTOBUF, RELIABLE_PROTOBUF)]
    raw = service.connect(raw=RawMode(), groups=("room",))
    publisher = Member(service, sender, user="ann", groups=())
    publisher.session.send_to_group("room", data, 0.0, data_type=data_type, metadata={"k": "v"})  # type: ignore[arg-type]
    publisher.says()
    for member in members:
        (message,) = member.hears()
        expected_type = data_type or (
            "text" if isinstance(data, str) else "binary" if isinstance(data, bytes) else "json"
        )
        assert (message.data, message.data_type, message.metadata) == (data, expected_type, {"k": "v"})
        assert type(message.data) is type(data)
        assert message.group == "room"
        assert (message.sequence_id is not None) == member.session.options.reliable
        assert message.from_user_id == (None if member.session.options.binary else "ann")
    (payload,) = raw.received_raw()
    assert isinstance(payload, Binary) == isinstance(data, bytes)
    if data_type == "protobuf":
        assert message.unpack(wrappers_pb2.StringValue) == wrappers_pb2.StringValue(value="x")


TEXT = st.text(max_size=30)
JSON_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner | st.none(), max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(100))
@given(
    st.one_of(
        st.tuples(TEXT, st.none()),
        st.tuples(st.binary(max_size=40), st.none()),
        st.tuples(JSON_VALUES, st.just("json")),
    ),
    st.sampled_from([RELIABLE_JSON, RELIABLE_PROTOBUF]),
)
def test_json_and_protobuf_clients_in_one_group_see_the_same(sent: tuple[Any, Any], sender: str) -> None:
    data, data_type = sent
    service = ServiceUnderTest()
    publisher = Member(service, sender)
    members = [publisher, Member(service, RELIABLE_JSON), Member(service, RELIABLE_PROTOBUF)]
    publisher.session.send_to_group("room", data, 0.0, data_type=data_type)
    publisher.says()
    seen = [member.hears() for member in members]
    assert [(message.data, message.data_type) for (message,) in seen] == [(seen[0][0].data, seen[0][0].data_type)] * 3
    assert seen[0][0].data == data


def test_messages_of_the_application_server_reach_protobuf_clients() -> None:
    service = ServiceUnderTest()
    member = Member(service, RELIABLE_PROTOBUF)
    service.core.send_to_all("chat", server_publication("json", b'{"a":1}', b'{"k":"v"}'))
    assert member.hears() == [ServerMessage(data={"a": 1}, data_type="json", sequence_id=1, metadata={"k": "v"})]


def test_json_as_text_for_clients_with_the_published_schema() -> None:
    service = ServiceUnderTest(protobuf_json_as_text=True)
    member, other = Member(service, PROTOBUF), Member(service, JSON)
    service.core.send_to_all("chat", server_publication("json", b'{"a":1}'))
    assert member.hears() == [ServerMessage(data='{"a":1}', data_type="text")]
    assert other.hears() == [ServerMessage(data={"a": 1})]


# ---- Requests


@BOTH
def test_the_life_of_a_client(protocol: str) -> None:
    service = ServiceUnderTest()
    client = service.connect(subprotocol=protocol, user="ann")
    (hello,) = [codec.decode(message) for message in client.received_raw()]
    assert isinstance(hello, SystemMessage)
    assert (hello.event, hello.connection_id, hello.user_id) == ("connected", "c1", "ann")
    assert (hello.reconnection_token is not None) == (protocol == RELIABLE_PROTOBUF)
    assert ask(client, codec.encode_join("room", 1)) == [AckMessage(1, True)]
    duplicate = ErrorDetail("Duplicate", "Message with ack-id: 1 has been processed")
    assert ask(client, codec.encode_join("room", 1)) == [AckMessage(1, False, duplicate)]
    echo = codec.encode_send("room", "x", None, False, 2, LIMIT)
    answers = ask(client, echo)
    assert [type(answer) for answer in answers] == [GroupMessage, AckMessage]
    assert ask(client, codec.encode_send("room", "x", None, True, 3, LIMIT)) == [AckMessage(3, True)]
    assert ask(client, codec.encode_leave("room", 4)) == [AckMessage(4, True)]
    assert [type(answer).__name__ for answer in ask(client, codec.ping)] == ["PongMessage"]
    assert ask(client, codec.sequence_ack(1)) == []
    service.core.close_connection("c1", "enough")
    assert [codec.decode(message) for message in client.received_raw()] == [
        SystemMessage("disconnected", message="Application server closed the connection. Reason: enough")
    ]


def test_a_refused_request_says_why() -> None:
    service = ServiceUnderTest()
    client = anything(service, roles=())
    (answer,) = ask(client, codec.encode_join("room", 1))
    assert answer.error is not None
    assert answer.error.name == "Forbidden"
    (answer,) = ask(client, codec.encode_event("e", "x", None, 2, LIMIT))
    assert answer.error.name == "NotFound"


def test_a_recovery_replays_what_is_not_acknowledged() -> None:
    service = ServiceUnderTest()
    client = service.connect(subprotocol=RELIABLE_PROTOBUF, groups=("room",))
    (hello,) = [codec.decode(message) for message in client.received_raw()]
    assert isinstance(hello, SystemMessage)
    for number in range(3):
        service.core.send_to_all("chat", server_publication("json", b"%d" % number))
    client.received_raw()
    client.send_raw(codec.sequence_ack(1))
    service.core.disconnected(client.transport, 1006, service.now)
    again = service.recover({"reconnectionToken": hello.reconnection_token, "connectionId": hello.connection_id})
    first, *replayed = [codec.decode(message) for message in again.received_raw()]
    assert isinstance(first, SystemMessage)
    assert [(message.data, message.sequence_id) for message in replayed] == [(1, 2), (2, 3)]  # type: ignore[union-attr]


def test_a_stream_through_protobuf_clients() -> None:
    service = ServiceUnderTest()
    publisher = anything(service)
    members = [Member(service, RELIABLE_JSON), Member(service, PROTOBUF)]

    def say(message: bytes) -> list[Any]:
        publisher.send_raw(message)
        service.core.transports_with_output()  # acks are put together until then
        return [codec.decode(answer) for answer in publisher.received_raw()]

    assert say(codec.encode_stream_start("room", "s", False, 5000)) == [StreamAckMessage("s", 1)]
    assert say(codec.encode_stream_data("s", 1, {"a": 1}, None, LIMIT)) == [StreamAckMessage("s", 2)]
    assert say(codec.encode_stream_keepalive("s")) == []
    (nack,) = say(codec.encode_stream_data("s", 3, "gap", None, LIMIT))
    assert (nack.name, nack.expected_sequence_id) == ("InvalidSequenceId", 2)
    say(codec.encode_stream_data("s", 2, b"\0", None, LIMIT))
    assert say(codec.encode_stream_end("s", None)) == [StreamClosedMessage("s")]
    (closed,) = say(codec.encode_stream_end("t", None))
    assert closed.error.name == "StreamNotFound"
    seen = [member.hears() for member in members]
    for messages in seen:
        assert [message.data for message in messages] == [{"a": 1}, b"\0", ""]
        assert [(message.stream.sequence_id, bool(message.stream.end)) for message in messages] == [
            (1, False), (2, False), (3, True),
        ]  # fmt: skip
        assert [message.stream.stream_id for message in messages] == ["s"] * 3


def test_the_error_of_a_publisher_reaches_members() -> None:
    service = ServiceUnderTest()
    publisher = anything(service)
    members = [Member(service, RELIABLE_JSON), Member(service, PROTOBUF)]
    for stream_id, error in (("a", StreamEndError("why", "E42")), ("b", StreamEndError())):
        publisher.send_raw(codec.encode_stream_start("room", stream_id, False, None))
        publisher.send_raw(codec.encode_stream_end(stream_id, error))
    (first, second), other = members[0].hears(), members[1].hears()
    assert [message.stream.error for message in other] == [first.stream.error, second.stream.error]
    assert first.stream.error.user_error_code == "E42"


# ---- Event handlers


@pytest.mark.parametrize(
    ("data", "content_type", "body"),
    [
        ("x", "text/plain; charset=utf-8", b"x"),
        ({"a": 1}, "application/json", b'{"a":1}'),
        (b"\0", "application/octet-stream", b"\0"),
        (wrappers_pb2.StringValue(value="x"), "application/x-protobuf", PACKED.SerializeToString()),
    ],
)
def test_an_event_handler_is_called_and_its_reply_comes_back(data: Any, content_type: str, body: bytes) -> None:
    service = ServiceUnderTest(EVENTS_ONLY)
    backend = Backend(service)
    client = anything(service, user="ann")
    client.send_raw(codec.encode_event("order", data, None, 1, LIMIT, {"k": "v"}))
    call = backend.call()
    assert (header(call, "Content-Type"), call.body) == (content_type, body)
    assert header(call, "ce-subprotocol") == PROTOBUF
    backend.answer(call, body=body, content_type=content_type)
    message, answer = [codec.decode(answer) for answer in client.received_raw()]
    assert answer == AckMessage(1, True)
    assert isinstance(message, ServerMessage)
    if message.data_type == "protobuf":
        assert message.unpack(wrappers_pb2.StringValue) == data
    else:
        assert message.data == data


def test_an_event_handler_may_choose_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    knock(service, subprotocols=[JSON, PROTOBUF.upper()])
    backend.answer(body={"subprotocol": PROTOBUF})
    pending = backend.decided()
    assert pending.subprotocol == PROTOBUF.upper()
    assert pending.transport is not None
    (hello,) = pending.transport.messages_to_send()
    assert isinstance(codec.decode(hello), SystemMessage)
    without_the_package(monkeypatch)
    knock(service, subprotocols=[JSON, PROTOBUF])
    backend.answer(backend.calls()[-1], body={"subprotocol": PROTOBUF})
    rejection = backend.decided().rejection
    assert rejection is not None
    assert "lacks the package protobuf" in rejection.text


def without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("limpet_core.protocol.protobuf.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(package, "codec")
    monkeypatch.setitem(sys.modules, "google.protobuf.message", None)


# ---- What is refused


def sent(**fields: Any) -> bytes:
    content = {"group": "room", "ack_id": 5, "data": MessageData(text_data="x")} | fields
    return UpstreamMessage(send_to_group_message=UpstreamMessage.SendToGroupMessage(**content)).SerializeToString()


FATAL: dict[str, tuple[bytes | str, int]] = {
    "a text frame": ('{"type":"ping"}', 1003),
    "no protobuf": (b"\xff\xff", 1007),
    "JSON": (b'{"type":"ping"}', 1007),
    "nothing": (b"", 1007),
    "a number in place of a message": (b"\x08\1", 1007),
    "a message with a retired number, cut": (b"\x12\5x", 1007),
    "an unknown message beside something else": (b"\x52\0\x08\1", 1007),
    "a known number as another type": (b"\x4d\0\0\0\0", 1007),
    "no data": (sent(data=None), 1007),
    "data without a kind": (sent(data=MessageData()), 1007),
    "no group": (sent(group=""), 1007),
    "half a message": (sent()[:-1], 1007),
    "bad UTF-8": (sent().replace(b"\1x", b"\1\xff"), 1007),
    "too long a life": (sent(ttl_seconds=301), 1007),
    "no JSON, and nobody to tell": (sent(ack_id=None, data=MessageData(json_data="{")), 1007),
    "null": (sent(data=MessageData(json_data=" null ")), 1007),
    "bad metadata": (sent(metadata={"a b": "c"}), 1007),
    "no name of an event": (UpstreamMessage(event_message=UpstreamMessage.EventMessage(
        event="1", data=MessageData(text_data=""))).SerializeToString(), 1007),
    "too large": (sent(data=MessageData(text_data="x" * (1 << 20))), 1009),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", FATAL)
def test_a_break_of_the_protocol_ends_the_connection(name: str, protocol: str) -> None:
    message, code = FATAL[name]
    service = ServiceUnderTest()
    client = anything(service, protocol)
    client.send_raw(message)
    assert client.close_code == code
    assert service.core.connection_count == 0


STREAM_OF_AN_EVENT = UpstreamMessage(
    event_message=UpstreamMessage.EventMessage(event="e", ack_id=5, stream=UpstreamMessage.StreamStartInfo())
).SerializeToString()


@pytest.mark.parametrize(
    ("message", "stream_too"),
    [
        (sent(data=MessageData(json_data="[" * 300 + "]" * 300)), False),
        (sent(data=MessageData(json_data="{")), False),
        (sent(data=MessageData.FromString(b"\x2a\0")), False),
        (sent(data=None, stream=UpstreamMessage.StreamStartInfo(stream_id="s", idle_timeout_ms=0)), True),
        (sent(stream=UpstreamMessage.StreamStartInfo(stream_id="s")), True),
        (STREAM_OF_AN_EVENT, False),
    ],
)  # fmt: skip
def test_a_request_that_cannot_be_carried_out_is_answered(message: bytes, stream_too: bool) -> None:
    service = ServiceUnderTest()
    client = anything(service)
    answers = ask(client, message)
    assert [(answer.ack_id, answer.error.name) for answer in answers if isinstance(answer, AckMessage)] == [
        (5, "BadRequest")
    ]
    assert any(isinstance(answer, StreamClosedMessage) for answer in answers) == stream_too
    assert client.close_code is None


def test_data_of_the_future_in_a_stream_closes_the_stream() -> None:
    service = ServiceUnderTest()
    client = anything(service)
    ask(client, codec.encode_stream_start("room", "s", False, None))
    fragment = UpstreamMessage.StreamDataMessage(
        stream_id="s", stream_sequence_id=1, data=MessageData.FromString(b"\x2a\0")
    )
    (closed,) = ask(client, UpstreamMessage(stream_data_message=fragment).SerializeToString())
    assert (closed.stream_id, closed.error.name) == ("s", "BadRequest")


def test_a_message_of_the_future_is_refused_and_the_connection_goes_on() -> None:
    service = ServiceUnderTest()
    client = anything(service)
    assert ask(client, b"\x52\0") == []
    assert ask(client, codec.encode_join("room", 1)) == [AckMessage(1, True)]


@settings(max_examples=examples(200))
@given(st.binary(max_size=60))
def test_no_bytes_make_the_service_raise(data: bytes) -> None:
    service = ServiceUnderTest()
    client = anything(service, RELIABLE_PROTOBUF)
    client.send_raw(data)
    assert client.close_code in (None, 1007)


_IN_PYTHON = """
from google.protobuf.any_pb2 import Any
from google.protobuf.internal import api_implementation
from limpet_core.protocol.any_data import unpack
from limpet_core.protocol.protobuf import codec
from limpet_core.protocol.protobuf._wire.webpubsub_pb2 import DownstreamMessage
from limpet_core.protocol.protobuf.decoding import decode_whole
from limpet_core.protocol.protobuf.values import message_data
from limpet_core.service import server_publication
from limpet_core.service.wire.protobuf_from_client import decode
from limpet_core.service.wire.protobuf_to_client import plain

print(api_implementation.Type())
no_text = b"\\x0a\\x02\\xff\\xfe"  # the field 1, which is not UTF-8
publication = server_publication("protobuf", b'"CgL//g=="')  # the same, as a JSON client may say of any bytes
told = DownstreamMessage(data_message=DownstreamMessage.DataMessage(group="gg", sequence_id=7)).SerializeToString()
told = told.replace(b"gg", b"\\xff\\xfe")
for function in (
    lambda: decode(b"\\x3a\\x04" + no_text),
    lambda: decode_whole(told),
    lambda: DownstreamMessage.FromString(plain(publication, json_as_text=False)).data_message.data.WhichOneof("data"),
    lambda: codec.show(b"\\x3a\\x04" + no_text, received=False),
    lambda: message_data(no_text, "protobuf"),
    lambda: unpack(no_text, Any),
):
    try:
        print(function())
    except Exception as error:
        print(type(error).__name__)
"""


def test_text_that_is_none_is_refused_by_the_protobuf_in_python_too() -> None:
    # Which is there where the package has no compiled one, and raises what the other does not.
    environment = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python"}
    run = subprocess.run(
        [sys.executable, "-c", _IN_PYTHON], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines() == [
        "python",
        "ProtocolViolation",
        "Broken(reason='not protobuf, or text that is not UTF-8', sequence_id=7, may_be_data=True)",
        "binary_data",
        "6 bytes",
        "InvalidValue",
        "InvalidValue",
    ]


# ---- Subprotocols


def test_protobuf_can_be_chosen() -> None:
    assert select_subprotocol(["other", RELIABLE_PROTOBUF.upper()]) == (RELIABLE_PROTOBUF, RELIABLE_PROTOBUF.upper())
    assert choose_subprotocol([JSON, PROTOBUF], PROTOBUF) == (PROTOBUF, PROTOBUF)
    assert is_spoken(RELIABLE_JSON)
    assert not is_spoken("other")


def test_without_the_package_the_service_does_not_speak_protobuf(monkeypatch: pytest.MonkeyPatch) -> None:
    without_the_package(monkeypatch)
    assert not is_spoken(PROTOBUF)
    assert select_subprotocol([PROTOBUF, JSON]) == (JSON, JSON)
    assert select_subprotocol([PROTOBUF]) is None


def test_a_json_client_sends_protobuf_as_base64() -> None:
    service = ServiceUnderTest()
    member, publisher = Member(service, PROTOBUF), service.connect()
    publisher.hello()
    publisher.send_raw(json.dumps({"type": "sendToGroup", "group": "room", "dataType": "protobuf",
                                   "data": base64.b64encode(PACKED.SerializeToString()).decode()}))  # fmt: skip
    (message,) = member.hears()
    assert message.unpack(wrappers_pb2.StringValue).value == "x"
