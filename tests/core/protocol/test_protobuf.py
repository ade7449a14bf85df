"""The codec of the protobuf subprotocols beside Google's code, and the common message beside the general way."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import any_pb2, descriptor_pb2, struct_pb2, wrappers_pb2
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.helpers.driving import hello, news, ok, refused
from tests.helpers.profiles import examples
from tests.helpers.protobuf import downstream, upstream

import limpet_core.protocol.protobuf as package
from limpet import (
    PROTOBUF,
    RELIABLE_PROTOBUF,
    GroupMessage,
    InvalidType,
    InvalidValue,
    LocalProtocolError,
    Options,
    ServerMessage,
    StreamFault,
    StreamInfo,
    unpack,
)
from limpet_core.protocol import json as json_codec
from limpet_core.protocol.codec import codec_for
from limpet_core.protocol.messages import Broken, Ignored, StreamEndError
from limpet_core.protocol.protobuf import codec, decoding
from limpet_core.protocol.protobuf._wire import webpubsub_pb2 as wire
from limpet_core.protocol.protobuf.varint import read_varint, varint
from limpet_core.service.wire.frames import message_of
from limpet_core.service.wire.protobuf_codec import ProtobufCodec
from limpet_core.service.wire.to_client import StreamPlace, group_publication, server_publication

LIMIT = 1 << 20

# ---- The schema


def schema() -> set[tuple[str, str, int]]:
    """The fields of ``webpubsub.proto``: message, field, number; read line by line."""
    found: set[tuple[str, str, int]] = set()
    scopes: list[str] = []
    for line in (Path(package.__file__).parent / "webpubsub.proto").read_text().splitlines():
        line = line.split("//")[0].strip()
        if opened := re.match(r"(message|oneof) (\w+) \{", line):
            scopes.append(opened[2] if opened[1] == "message" else "")
        elif field := re.match(r"(?:optional )?[\w.<>, ]+ (\w+) = (\d+);", line):
            found.add((".".join(filter(None, scopes)), field[1], int(field[2])))
        if line.endswith("}"):
            scopes.pop()
    return found


def test_the_generated_code_has_the_fields_of_the_schema() -> None:
    """CI makes the code anew as well; this needs no compiler."""
    found: set[tuple[str, str, int]] = set()

    def collect(message: descriptor_pb2.DescriptorProto, scope: str) -> None:
        if not message.options.map_entry:
            name = f"{scope}{message.name}"
            found.update((name, field.name, field.number) for field in message.field)
            for nested in message.nested_type:
                collect(nested, f"{name}.")

    file = descriptor_pb2.FileDescriptorProto()
    wire.DESCRIPTOR.CopyToProto(file)
    for message in file.message_type:
        collect(message, "")
    assert found == schema()
    assert len(found) > 70


def test_the_names_of_the_schema_are_our_own() -> None:
    """Generated code of an application, from the schema that Azure publishes, must be able to live beside ours."""
    assert wire.DESCRIPTOR.package == "limpet_core.protocol"
    assert wire.DESCRIPTOR.name.startswith("limpet_core/")


# ---- Decoding

MESSAGES: dict[str, dict[str, Any]] = {
    "text": news(7, "h\u00e9"),
    "empty text": news(7, ""),
    "of a plain connection": news(None, "text"),
    "json": news(3, {"a": [1, None, "\U0001f600"]}, dataType="json"),
    "false": news(3, False, dataType="json"),
    "binary": news(1, base64.b64encode(b"\0\xff").decode(), dataType="binary"),
    "empty binary": news(1, "", dataType="binary"),
    "protobuf": news(1, base64.b64encode(any_pb2.Any(type_url="a/b", value=b"\1").SerializeToString()).decode(),
                     dataType="protobuf"),
    "large": news(2**20, "x" * 100_000),
    "small": news(130, "x" * 120),
    "a high id": news(2**64 - 1, "x"),
    "an id of four bytes": news(2**21, "x"),
    "of the server": {"type": "message", "from": "server", "dataType": "text", "data": "x", "sequenceId": 300},
    "of the server, json": {"type": "message", "from": "server", "dataType": "json", "data": 1},
    "without data": {"type": "message", "from": "group", "group": "g", "sequenceId": 1},
    "metadata": news(2, "x", metadata={"a": "b", "c": ""}),
    "of the server, metadata": news(2, "x", metadata={"a": "b"}) | {"from": "server"},
    "a long group": news(5, "x", group="g" * 128),
    "a group beyond ASCII": news(5, "x", group="\u00e9" * 60),
    "an empty group": news(5, "x", group=""),
    "a fragment": news(5, "x", stream={"streamId": "s", "streamSequenceId": 3}),
    "the end of a stream": news(5, "", stream={"streamId": "s", "streamSequenceId": 3, "endOfStream": True}),
    "a failed stream": news(5, "", stream={"streamId": "s", "streamSequenceId": 3, "endOfStream": True,
                            "error": {"name": "UserError", "message": "m", "userErrorCode": "E"}}),
    "a stream ended by the service": news(5, "", stream={"streamId": "s", "streamSequenceId": 1, "endOfStream": True,
                                          "error": {"name": "IdleTimeout", "message": "m"}}),
    "connected": hello("c1", user="ann"),
    "connected, anonymous and plain": hello("c1", token=None),
    "disconnected": {"type": "system", "event": "disconnected", "message": "bye"},
    "ack": ok(2**53),
    "refused": refused(4, "Forbidden", "no"),
    "pong": {"type": "pong"},
    "streamAck": {"type": "streamAck", "streamId": "s", "expectedSequenceId": 4},
    "streamNack": {"type": "streamNack", "streamId": "s", "expectedSequenceId": 2, "name": "N", "message": "m"},
    "streamClosed": {"type": "streamClosed", "streamId": "s"},
    "streamClosed with an error": {"type": "streamClosed", "streamId": "s", "error": {"name": "N", "message": "m"}},
}  # fmt: skip


def same(one: Any, other: Any) -> bool:
    """Whether two messages are equal, and of the same types: 1 is not True."""
    data = getattr(one, "data", None), getattr(other, "data", None)
    return bool(one == other) and type(one) is type(other) and type(data[0]) is type(data[1])


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_is_decoded_as_the_same_in_json(name: str) -> None:
    message = MESSAGES[name]
    expected = json_codec.decode(json.dumps(message).encode())
    assert not isinstance(expected, Broken | Ignored)
    for _ in range(2):  # the second time its group is known
        assert same(codec.decode(downstream(message)), expected)


def data_message(**fields: Any) -> bytes:
    content = {"from": "group", "group": "g", "data": wire.MessageData(text_data="x"), "sequence_id": 9} | fields
    return wire.DownstreamMessage(data_message=wire.DownstreamMessage.DataMessage(**content)).SerializeToString()


def broken(reason: str, sequence_id: int | None = 9) -> Broken:
    return Broken(reason, sequence_id)


UNREADABLE = "not protobuf, or text that is not UTF-8"
ODD: dict[str, tuple[bytes, Broken | Ignored]] = {
    "nothing": (b"", Broken("the message is empty")),
    "no protobuf": (b"\xff\xff", Broken(UNREADABLE)),
    "JSON": (b'{"type":"pong"}', Broken(UNREADABLE)),
    "cut short": (data_message()[:-1], Broken(UNREADABLE)),
    "bad UTF-8": (data_message().replace(b"\n\1x", b"\n\1\xff"), broken(UNREADABLE)),
    "bad UTF-8 in a group": (data_message().replace(b"\1g", b"\1\xff"), broken(UNREADABLE)),
    "bad UTF-8, no number": (data_message(sequence_id=None).replace(b"\n\1x", b"\n\1\xff"), Broken(UNREADABLE)),
    "bad UTF-8 in an ack": (b"\n\7\x1a\5\n\3\xff\xff\xff", Broken(UNREADABLE)),
    "a data message that is none": (b"\x12\2\xff\xff", Broken(UNREADABLE)),
    "a data message that is a number": (b"\x10\1\n\3\x1a\1\xff", Broken(UNREADABLE)),
    "an unknown member": (b"\x2a\0", Ignored("field 5")),
    "a known number of another type": (b"\x20\1", Ignored("field 4")),
    "an unknown system event": (b"\x1a\2\x1a\0", Ignored("event of the system")),
    "number 0": (data_message(sequence_id=0), Broken("a data message whose sequence id is 0")),
    "an unknown origin": (data_message(**{"from": "moon"}), Ignored("from 'moon'", 9)),
    "no origin": (data_message(**{"from": ""}), broken("data from nowhere")),
    "no group": (data_message(group=None), broken("a message from a group without its name")),
    "an unknown kind of data": (data_message(data=wire.MessageData.FromString(b"\x2a\0")),
                                broken("data of an unknown kind")),
    "a fragment without a number": (data_message(stream=wire.StreamInfo(stream_id="s")),
                                    broken("a fragment of a stream without a number")),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_what_cannot_be_delivered(name: str) -> None:
    message, expected = ODD[name]
    assert codec.decode(message) == expected


@pytest.mark.parametrize("text", ["{", "nul", "[" * 100_000, "1 2", ""])
def test_json_that_cannot_be_read(text: str) -> None:
    found = codec.decode(data_message(data=wire.MessageData(json_data=text)))
    assert isinstance(found, Broken)
    assert found.reason.startswith("json data that cannot be read: ")
    assert found.sequence_id == 9


@pytest.mark.parametrize(
    ("text", "value"), [(r'"\ud83d"', "\ufffd"), ("1e999", float("inf")), ("9" * 400, int("9" * 400))]
)
def test_json_that_only_the_slow_reader_reads(text: str, value: Any) -> None:
    found = codec.decode(data_message(data=wire.MessageData(json_data=text)))
    assert isinstance(found, GroupMessage)
    assert (found.data, found.data_type) == (value, "json")


def test_the_end_of_a_stream_needs_no_data() -> None:
    stream = wire.StreamInfo(
        stream_id="s", stream_sequence_id=4, end_of_stream=True, error=wire.StreamInfo.StreamError()
    )
    found = codec.decode(data_message(data=None, stream=stream))
    info = StreamInfo(stream_id="s", sequence_id=4, end=True, error=StreamFault("Unknown"))
    assert found == GroupMessage(group="g", data="", data_type="text", sequence_id=9, stream=info)


def test_fields_of_the_future_are_skipped_wherever_they_are() -> None:
    unknown = b"\xa2\6\3odd"
    message = data_message()
    inner = message[2:] + unknown
    assert codec.decode(b"\x12" + bytes([len(inner)]) + inner + unknown) == codec.decode(message)


def test_an_any_keeps_what_is_unknown_in_it() -> None:
    raw = any_pb2.Any(type_url="a/b", value=b"\1").SerializeToString() + b"\xa2\6\3odd"
    found = codec.decode(data_message(data=wire.MessageData(protobuf_data=any_pb2.Any.FromString(raw))))
    assert isinstance(found, GroupMessage)
    assert found.data == raw


# ---- The common message: by hand and by Google's parser

NAMES = st.one_of(st.sampled_from(["g", "room", "", "g" * 127, "g" * 128]), st.text(max_size=70))
PAYLOADS: st.SearchStrategy[wire.MessageData | None] = st.one_of(
    st.none(),
    st.text(max_size=300).map(lambda text: wire.MessageData(text_data=text)),
    st.sampled_from([0, 1, 114, 115, 120, 122, 125, 126, 127, 128, 16_300, 16_383, 16_384, 70_000]).map(
        lambda size: wire.MessageData(text_data="x" * size)
    ),
    st.binary(max_size=300).map(lambda data: wire.MessageData(binary_data=data)),
    st.sampled_from(["1", '{"a":[]}', "{", r'"\ud800"', "[" * 2000, ""]).map(
        lambda text: wire.MessageData(json_data=text)
    ),
    st.just(wire.MessageData(protobuf_data=any_pb2.Any(type_url="a/b"))),
    st.just(wire.MessageData()),
)
IDS = st.one_of(
    st.none(), st.integers(0, 2**64 - 1), st.sampled_from([0, 1, 127, 128, 16_383, 16_384, 2**21 - 1, 2**21])
)


@st.composite
def encoded_messages(draw: st.DrawFn) -> bytes:
    fields: dict[str, Any] = {"from": draw(st.sampled_from(["group", "group", "group", "server", "moon"]))}
    if draw(st.integers(0, 9)):
        fields["group"] = draw(NAMES)
    if fields["from"] == "server":
        fields.pop("group", None)
    fields["data"] = draw(PAYLOADS)
    fields["sequence_id"] = draw(IDS)
    if not draw(st.integers(0, 6)):
        fields["metadata"] = {"key": draw(st.text(max_size=5))}
    if not draw(st.integers(0, 6)):
        fields["stream"] = wire.StreamInfo(stream_id="s", stream_sequence_id=draw(st.integers(0, 3)))
    message = data_message(**fields)
    how = draw(st.sampled_from(["whole", "whole", "whole", "flip", "insert", "delete", "cut", "twice"]))
    at = draw(st.integers(0, min(len(message) - 1, 40)))
    if draw(st.booleans()):
        at = len(message) - 1 - at
    if how == "flip":
        return message[:at] + bytes([message[at] ^ draw(st.integers(1, 255))]) + message[at + 1 :]
    if how == "insert":
        return message[:at] + draw(st.binary(max_size=4)) + message[at:]
    if how == "delete":
        return message[:at] + message[at + draw(st.integers(1, 4)) :]
    if how == "cut":
        return message[:at]
    return message * 2 if how == "twice" else message


@settings(max_examples=examples(1000))
@given(encoded_messages())
@example(b"\x12\x80\0")
@example(b"\x12\xff\xff\xff\1" + bytes(200))  # a length of four bytes
@example(b"\x12\x8f\0\n\5group\x12\1g\x1a\3\n\1x")  # a length of two bytes that fits into one
@example(b"\x12\x11\n\5group\x12\1g\x1a\x84\0\n\x81\0x")
@example(b"\x12\x14\n\6server\x1a\3\n\1x\x20\x80\x80\x80\0")
@example(b"\x12\x13\n\5group\x12\1g\x1a\3\n\1x\x20\xff\x7f")
@example(b"\x12\x0c\n\5group\x12\1g\x1a\0")
def test_the_common_message_is_read_as_google_reads_it(message: bytes) -> None:
    expected = decoding.decode_whole(message)
    for _ in range(2):
        assert same(codec.decode(message), expected)


@settings(max_examples=examples(300))
@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_and_shown(message: bytes) -> None:
    assert same(codec.decode(message), decoding.decode_whole(message))
    assert codec.show(message, received=True)
    assert codec.show(message, received=False) is not None


def test_the_common_message_does_not_go_through_google(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(message: bytes) -> Any:
        raise AssertionError("this one is common")

    monkeypatch.setattr(decoding, "decode_whole", refuse)
    for name in ("text", "empty text", "of a plain connection", "json", "binary", "large", "small", "of the server"):
        assert isinstance(codec.decode(downstream(MESSAGES[name])), GroupMessage | ServerMessage)


def test_remembered_groups_are_bounded() -> None:
    for number in range(3000):
        assert codec.decode(data_message(group=f"group {number}")) is not None
        assert len(decoding.known_groups) <= 1024


def test_remembered_beginnings_are_bounded() -> None:
    for number in range(9000):
        codec.decode(data_message(group=f"group {number}"))
        assert len(decoding.known_beginnings) <= 4096


def test_what_is_remembered_says_nothing_of_the_rest_of_a_message() -> None:
    message = data_message(group="known", data=wire.MessageData(text_data="text"), sequence_id=300)
    codec.decode(message)
    assert message[2:-7] in decoding.known_beginnings
    cut = [message[:at] for at in range(len(message))]
    flipped = [
        message[:at] + bytes([message[at] ^ bit]) + message[at + 1 :] for at in range(len(message)) for bit in (1, 128)
    ]
    longer = [bytes([message[0], message[1] + more]) + message[2:] + bytes(more) for more in (1, 2, 5)]
    for other in (*cut, *flipped, *longer):
        assert same(codec.decode(other), decoding.decode_whole(other))


@pytest.mark.parametrize("size", range(60, 140))
def test_short_messages_and_longer_ones_are_read_alike(size: int) -> None:
    for kind in ({"text_data": "x" * size}, {"binary_data": bytes(size)}, {"json_data": '"%s"' % ("x" * size)}):
        message = data_message(group="g", data=wire.MessageData(**kind), sequence_id=1)
        assert same(codec.decode(message), decoding.decode_whole(message))


# ---- Encoding

REQUESTS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "join": (codec.encode_join("r", 1), {"type": "joinGroup", "group": "r", "ackId": 1}),
    "leave": (codec.encode_leave("r", 2**53 - 1), {"type": "leaveGroup", "group": "r", "ackId": 2**53 - 1}),
    "text": (codec.encode_send("r", "t", None, False, 3, LIMIT),
             {"type": "sendToGroup", "group": "r", "ackId": 3, "dataType": "text", "data": "t"}),
    "empty": (codec.encode_send("r", "", None, False, None, LIMIT),
              {"type": "sendToGroup", "group": "r", "dataType": "text", "data": ""}),
    "json": (codec.encode_send("r", {"a": 1}, None, True, None, LIMIT, 60, {"k": "v"}),
             {"type": "sendToGroup", "group": "r", "noEcho": True, "ttlSeconds": 60, "metadata": {"k": "v"},
              "dataType": "json", "data": {"a": 1}}),
    "text as json": (codec.encode_send("r", "t", "json", False, None, LIMIT),
                     {"type": "sendToGroup", "group": "r", "dataType": "json", "data": "t"}),
    "binary": (codec.encode_send("r", memoryview(b"\0"), None, False, None, LIMIT),
               {"type": "sendToGroup", "group": "r", "dataType": "binary", "data": "AA=="}),
    "event": (codec.encode_event("e", b"\0", None, 9, LIMIT, {"k": "v"}),
              {"type": "event", "event": "e", "ackId": 9, "metadata": {"k": "v"}, "dataType": "binary",
               "data": "AA=="}),
    "start": (codec.encode_stream_start("r", "s", True, 5000),
              {"type": "sendToGroup", "group": "r", "noEcho": True,
               "stream": {"streamId": "s", "idleTimeoutMs": 5000}}),
    "plain start": (codec.encode_stream_start("r", "s", False, None),
                    {"type": "sendToGroup", "group": "r", "stream": {"streamId": "s"}}),
    "fragment": (codec.encode_stream_data("s", 1, "t", None, LIMIT),
                 {"type": "streamData", "streamId": "s", "streamSequenceId": 1, "dataType": "text", "data": "t"}),
    "keepalive": (codec.encode_stream_keepalive("s"), {"type": "streamData", "streamId": "s"}),
    "end": (codec.encode_stream_end("s", None), {"type": "streamEnd", "streamId": "s"}),
    "abort": (codec.encode_stream_end("s", StreamEndError("m", "E")),
              {"type": "streamEnd", "streamId": "s", "error": {"message": "m", "userErrorCode": "E"}}),
    "sequenceAck": (codec.sequence_ack(2**64 - 1), {"type": "sequenceAck", "sequenceId": 2**64 - 1}),
    "ping": (codec.ping, {"type": "ping"}),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_is_the_same_as_in_json(name: str) -> None:
    encoded, expected = REQUESTS[name]
    assert upstream(encoded) == expected
    assert (
        codec.show(encoded, received=False).split("_message")[0].replace("_", "") in expected["type"].lower() + "ping"
    )


@given(st.sampled_from(["send", "event"]), st.integers(1, 2**53 - 1), st.sampled_from([0, 1, 100, 118, 120, 20_000]))
def test_an_ack_id_can_be_added_later(kind: str, ack_id: int, size: int) -> None:
    def encode(ack: int | None) -> bytes:
        if kind == "send":
            return codec.encode_send("r", "x" * size, None, True, ack, LIMIT)
        return codec.encode_event("e", "x" * size, None, ack, LIMIT)

    without = encode(None)
    added = codec.with_ack_id(without, ack_id)
    assert upstream(added) == upstream(encode(ack_id))
    assert len(added) - len(without) <= codec.ack_id_size


@given(st.integers(0, 2**64 - 1))
@example(127)
@example(128)
def test_integers_are_read_back(number: int) -> None:
    encoded = wire.UpstreamMessage.SequenceAckMessage(sequence_id=number).SerializeToString()
    assert (b"\x08" + varint(number) if number else b"") == encoded
    assert read_varint(b"*" + varint(number) + b"*", 1) == (number, 1 + len(varint(number)))


def test_a_protobuf_message_is_packed() -> None:
    value = struct_pb2.Value(number_value=3)
    told = upstream(codec.encode_send("r", value, None, False, None, LIMIT))
    packed = base64.b64decode(told["data"])
    assert told["dataType"] == "protobuf"
    assert unpack(packed, struct_pb2.Value) == value
    assert upstream(codec.encode_send("r", packed, "protobuf", False, None, LIMIT)) == told
    assert upstream(codec.encode_send("r", any_pb2.Any.FromString(packed), "protobuf", False, None, LIMIT)) == told


REFUSED: dict[str, tuple[Any, str | None, type[Exception], str]] = {
    "a message as text": (struct_pb2.Value(), "text", InvalidType, "data_type must be 'protobuf' or None, not 'text'"),
    "no message": (
        b"\xff",
        "protobuf",
        InvalidValue,
        "data must be a protobuf message, or the bytes of a google",
    ),
    "text as a message": ("x", "protobuf", InvalidType, "data must be bytes"),
    "an unknown type": (b"x", "xml", InvalidValue, "data_type must be"),
    "null": (None, None, InvalidValue, "data must not be None"),
    "no JSON": (object(), None, InvalidType, "data cannot be encoded as JSON"),
    "half a pair": ("\ud800", None, InvalidValue, "data cannot be encoded as UTF-8"),
    "an incomplete message": (descriptor_pb2.UninterpretedOption.NamePart(), None, InvalidValue, "cannot be encoded"),
    "too large": ("x" * 2000, None, InvalidValue, "data is too large: 20"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_data_that_cannot_be_sent(name: str) -> None:
    data, data_type, error, text = REFUSED[name]
    with pytest.raises(error, match=re.escape(text)):
        codec.encode_send("r", data, data_type, False, None, 1000)
    with pytest.raises(error, match=re.escape(text)):
        codec.encode_event("e", data, data_type, None, 1000)
    with pytest.raises(error, match=re.escape(text)):
        codec.encode_stream_data("s", 1, data, data_type, 1000)


@pytest.mark.parametrize(
    "call",
    [
        lambda: codec.encode_join("", 1),
        lambda: codec.encode_leave(" ", 1),
        lambda: codec.encode_send("", "x", None, False, None, LIMIT),
        lambda: codec.encode_event("1", "x", None, None, LIMIT),
        lambda: codec.encode_stream_start("", "s", False, None),
        lambda: codec.encode_send("r", "x", None, False, None, LIMIT, None, {"a b": "c"}),
    ],
)
def test_names_that_cannot_be_sent(call: Any) -> None:
    with pytest.raises(InvalidValue):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: codec.encode_invoke("1", "e", "x", None, LIMIT),
        lambda: codec.encode_cancel_invocation("1"),
        lambda: codec.encode_set_group_state("r", {}, 1),
        lambda: codec.encode_subscribe_group_state("r", 1),
        lambda: codec.encode_unsubscribe_group_state("r", 1),
    ],
)
def test_what_has_no_form_in_protobuf(call: Any) -> None:
    with pytest.raises(LocalProtocolError, match="has no form in the protobuf subprotocols: use a client"):
        call()


# ---- What the service writes


@pytest.mark.parametrize("reliable", [True, False])
@pytest.mark.parametrize("json_as_text", [True, False])
@given(
    name=st.text(min_size=1, max_size=20),
    text=st.text(max_size=200),
    metadata=st.sampled_from([{}, {"a": "b"}]),
    sequence_id=st.integers(1, 2**64 - 1),
)
@settings(max_examples=examples(30))
def test_what_the_service_writes_is_what_the_client_reads(
    reliable: bool, json_as_text: bool, name: str, text: str, metadata: dict[str, str], sequence_id: int
) -> None:
    service = ProtobufCodec(json_as_text)
    attached = json.dumps(metadata).encode() if metadata else b""
    values: list[tuple[str, str, Any]] = [
        ("text", text, text),
        ("json", text, json.dumps(text) if json_as_text else text),
        ("binary", base64.b64encode(text.encode()).decode(), text.encode()),
    ]
    for data_type, value, expected in values:
        encoded = json.dumps(value).encode()
        place = StreamPlace("s", 4) if metadata else None
        for publication, kind in (
            (group_publication(name, "ann", data_type, encoded, attached, stream=place), GroupMessage),
            (server_publication(data_type, encoded, attached), ServerMessage),
        ):
            frame = service.numbered_frame(publication, sequence_id) if reliable else service.frame(publication)
            found = codec.decode(message_of(frame))
            assert isinstance(found, GroupMessage | ServerMessage)
            assert type(found) is kind
            assert found.data == expected
            assert found.data_type == ("text" if json_as_text and data_type == "json" else data_type)
            assert found.metadata == (metadata or None)
            assert found.sequence_id == (sequence_id if reliable else None)
            if isinstance(found, GroupMessage):
                assert found.group == name
                assert (found.stream is not None) == (place is not None)


def test_bytes_that_are_no_any_cross_as_binary() -> None:
    publication = group_publication("g", None, "protobuf", b'"/w=="')
    assert codec.decode(message_of(ProtobufCodec(False).frame(publication))) == GroupMessage(
        group="g", data=b"\xff", data_type="binary"
    )


# ---- unpack


def packed(message: Any) -> bytes:
    whole = any_pb2.Any()
    whole.Pack(message)
    return whole.SerializeToString()


def test_a_received_message_is_unpacked() -> None:
    value = wrappers_pb2.StringValue(value="x")
    for message in (
        GroupMessage(group="g", data=packed(value), data_type="protobuf"),
        ServerMessage(data=packed(value), data_type="protobuf"),
    ):
        assert message.unpack(wrappers_pb2.StringValue) == value
    with pytest.raises(InvalidType, match="the message has data of type text, and no protobuf message"):
        ServerMessage(data="x", data_type="text").unpack(wrappers_pb2.StringValue)


@pytest.mark.parametrize(
    ("data", "wanted", "error", "text"),
    [
        (packed(wrappers_pb2.BoolValue()), wrappers_pb2.StringValue, InvalidValue,
         "a message of type google.protobuf.BoolValue, not google.protobuf.StringValue"),
        (b"", wrappers_pb2.StringValue, InvalidValue, "a message of type (none), not"),
        (b"\xff", wrappers_pb2.StringValue, InvalidValue, "data holds no google.protobuf.StringValue that can be read"),
        (any_pb2.Any(type_url="/google.protobuf.StringValue", value=b"\xff").SerializeToString(),
         wrappers_pb2.StringValue, InvalidValue, "data holds no google.protobuf.StringValue that can be read"),
        ("text", wrappers_pb2.StringValue, InvalidType, "data must be bytes, not str"),
        (b"", str, InvalidType, "message_type must be a class of protobuf messages"),
        (b"", "StringValue", InvalidType, "message_type must be a class of protobuf messages"),
    ],
)  # fmt: skip
def test_what_cannot_be_unpacked(data: Any, wanted: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=re.escape(text)):
        unpack(data, wanted)


# ---- Without the package


@pytest.mark.parametrize("protocol", [PROTOBUF, RELIABLE_PROTOBUF])
def test_without_the_package_the_options_say_what_to_install(monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    assert codec_for(protocol) is codec
    for name in [name for name in sys.modules if name.startswith("limpet_core.protocol.protobuf.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(package, "codec")
    monkeypatch.setitem(sys.modules, "google.protobuf.message", None)
    with pytest.raises(InvalidValue, match=re.escape("pip install 'limpet[protobuf]'")):
        Options(protocol=protocol)
