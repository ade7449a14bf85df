"""Decoding of the service's messages in the protobuf subprotocols.

The common data message is read by hand: to take it out of Google's objects, field by field, takes three times as long.
The result is the same, which a property test checks (tests/core/protocol/test_protobuf.py).
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import Any, Final

import msgspec
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet

from limpet_core.protocol.lenient_json import read_value
from limpet_core.protocol.messages import (
    MAX_SEQUENCE_ID,
    AckMessage,
    Broken,
    ErrorDetail,
    GroupMessage,
    Ignored,
    Incoming,
    PongMessage,
    ServerMessage,
    StreamAckMessage,
    StreamClosedMessage,
    StreamFault,
    StreamInfo,
    StreamNackMessage,
    SystemMessage,
)
from limpet_core.protocol.protobuf._wire import webpubsub_pb2 as wire
from limpet_core.redaction import HIDDEN

_DATA: Final = 0x12
_FROM_GROUP: Final = b"\n\x05group\x12"
_FROM_SERVER: Final = b"\n\x06server"
_PAYLOAD: Final = 0x1A
_SEQUENCE_ID: Final = 0x20
_TEXT: Final = 0x0A
_BINARY: Final = 0x12
_JSON: Final = 0x22

_SHORT_PAYLOADS: Final = {
    bytes((_PAYLOAD, length + 2, kind, length)): (kind, length)
    for kind in (_TEXT, _BINARY, _JSON)
    for length in range(0x7E)
}
"""Heads of short payloads, and what they say."""

_four_bytes: Callable[[bytes, int], tuple[int, int, int, int]] = Struct("4B").unpack_from

known_groups: Final[dict[bytes, str]] = {}
"""Groups by the encoded beginning of their messages, ``from`` and ``group``: a look-up is quicker than to decode it."""

_MOST_GROUPS: Final = 1024

known_beginnings: Final[dict[bytes, tuple[str, int, int, int]]] = {}
"""What comes before the data of short messages: the group, the kind of the data, and where it begins and ends."""

_MOST_BEGINNINGS: Final = 4096

_TOO_LONG: Final = 1 << 21
"""A length, or sequence id, of four bytes and more."""

_FIELDS: Final = {"data": 2, "sequence_id": 4}
"""Numbers of fields that are looked for in a message that cannot be decoded."""

_parse: Callable[[bytes], wire.DownstreamMessage] = wire.DownstreamMessage.FromString
_decode_json: Callable[[bytes], Any] = msgspec.json.Decoder().decode
_NOT_COMMON = LookupError, ValueError, msgspec.MsgspecError, RecursionError, StructError
_UNREADABLE = ValueError, RecursionError


def decode(message: bytes) -> Incoming:
    """Decode one message; never raises, whatever the peer sends.

    A data message of text, JSON or binary without metadata and stream, its fields in order, is read here. Each number
    in it may take up to three bytes.
    """
    try:
        whole = len(message)
        if whole < 0x80:  # each length in it is one byte
            if message[1] + 2 != whole or message[0] != _DATA:
                return decode_whole(message)
            known = known_beginnings.get(message[2 : message[10] + 15]) or _beginning(message)
            group: str | None
            group, kind, at, stop = known
        else:
            length = message[1]
            start = 2
            if length > 0x7F:
                length += (message[2] << 7) - 0x80
                start = 3
                if length > 0x3FFF:
                    length += (message[3] << 14) - 0x4000
                    start = 4
                    if length >= _TOO_LONG:  # its third byte says that there is a fourth one
                        return decode_whole(message)
            if start + length != whole or message[0] != _DATA:
                return decode_whole(message)
            at = start + 9 + message[start + 8]
            group = known_groups.get(message[start:at])
            if group is None:
                group, at = _origin(message, start)
            tag, inner, kind, length = _four_bytes(message, at)
            at += 4
            if inner > 0x7F:
                inner += (kind << 7) - 0x80
                kind, length = length, message[at]
                at += 1
                if inner > 0x3FFF:
                    inner += (kind << 14) - 0x4000
                    kind, length = length, message[at]
                    at += 1
                stop = at - 2 + inner
                if length > 0x7F:
                    length += (message[at] << 7) - 0x80
                    at += 1
                    if length > 0x3FFF:
                        length += (message[at] << 14) - 0x4000
                        at += 1
            else:
                stop = at - 2 + inner
            if tag != _PAYLOAD or at + length != stop:
                return decode_whole(message)
        sequence_id = None
        if stop != whole:
            sequence_id = message[stop + 1]  # raises if the payload would be longer than the message
            end = stop + 2
            if sequence_id > 0x7F:
                sequence_id += (message[end] << 7) - 0x80
                end += 1
                if sequence_id > 0x3FFF:
                    sequence_id += (message[end] << 14) - 0x4000
                    end += 1
                    if sequence_id >= _TOO_LONG:
                        return decode_whole(message)
            if end != whole or message[stop] != _SEQUENCE_ID or not sequence_id:
                return decode_whole(message)
        data: Any = message[at:stop]
        if kind == _TEXT:
            data = data.decode()
            data_type = "text"
        elif kind == _JSON:
            data = _decode_json(data)
            data_type = "json"
        elif kind == _BINARY:
            data_type = "binary"
        else:
            return decode_whole(message)
    except _NOT_COMMON:
        return decode_whole(message)
    if group:
        return GroupMessage(group=group, data=data, data_type=data_type, sequence_id=sequence_id)
    return ServerMessage(data=data, data_type=data_type, sequence_id=sequence_id)


def _origin(message: bytes, start: int) -> tuple[str, int]:
    """Read the group of a data message, and remember it; the group is empty if the message is from the server.

    Returns:
        The group, and where the payload begins.

    Raises:
        ValueError, IndexError: the message is no common one.
    """
    if message.startswith(_FROM_SERVER, start):
        return "", start + len(_FROM_SERVER)
    length = message[start + 8]
    name = start + 9
    at = name + length
    group = message[name:at].decode()
    if not message.startswith(_FROM_GROUP, start) or length > 0x7F or not group or at >= len(message):
        raise ValueError
    if len(known_groups) >= _MOST_GROUPS:
        known_groups.clear()
    known_groups[message[start:at]] = group
    return group, at


def _beginning(message: bytes) -> tuple[str, int, int, int]:
    """Read what comes before the data of a short message, and remember it.

    Raises:
        ValueError, LookupError: the message is no common one.
    """
    group, at = _origin(message, 2)
    kind, length = _SHORT_PAYLOADS[message[at : at + 4]]
    beginning = group, kind, at + 4, at + 4 + length
    if group:
        if len(known_beginnings) >= _MOST_BEGINNINGS:
            known_beginnings.clear()
        known_beginnings[message[2 : at + 4]] = beginning
    return beginning


def decode_whole(message: bytes) -> Incoming:
    """Decode any message with Google's parser; never raises."""
    try:
        whole = _parse(message)
    except (DecodeError, UnicodeDecodeError):  # this one is of the parser in Python
        return _unreadable(message)
    match whole.WhichOneof("message"):
        case "data_message":
            return _data_message(whole.data_message)
        case "ack_message":
            ack = whole.ack_message
            return AckMessage(ack.ack_id, ack.success, _error(ack))
        case "system_message":
            return _system_message(whole.system_message)
        case "pong_message":
            return PongMessage()
        case "stream_ack_message":
            stream_ack = whole.stream_ack_message
            return StreamAckMessage(stream_ack.stream_id, stream_ack.expected_sequence_id)
        case "stream_nack_message":
            nack = whole.stream_nack_message
            return StreamNackMessage(nack.stream_id, nack.expected_sequence_id, nack.name, nack.message)
        case "stream_closed_message":
            closed = whole.stream_closed_message
            return StreamClosedMessage(closed.stream_id, _error(closed))
        case _:
            unknown = unknown_fields(whole)
            return Ignored(f"field {unknown[0][0]}") if unknown else Broken("the message is empty")


def _unreadable(message: bytes) -> Broken:
    """Return what is wrong with bytes that cannot be parsed: most likely text that is not UTF-8.

    The sequence id is looked for in the fields alone, whose contents nothing checks then.
    """
    reason = "not protobuf, or text that is not UTF-8"
    try:
        data = _field(message, _FIELDS["data"])
        if type(data) is bytes:
            sequence_id = _field(data, _FIELDS["sequence_id"])
            if type(sequence_id) is int and 1 <= sequence_id <= MAX_SEQUENCE_ID:
                return Broken(reason, sequence_id)
    except DecodeError:
        pass  # not protobuf at all
    return Broken(reason)


def _field(message: bytes, number: int) -> object:
    """Return the last value of a field in encoded bytes, as it is on the wire; None: there is none."""
    return dict(unknown_fields(Empty.FromString(message))).get(number)


def unknown_fields(message: Message) -> list[tuple[int, object]]:
    """Return the fields of a message that the schema does not know: their numbers, and what is on the wire."""
    fields = UnknownFieldSet(message)
    return [(fields[index].field_number, fields[index].data) for index in range(len(fields))]


def _data_message(message: wire.DownstreamMessage.DataMessage) -> Incoming:
    sequence_id = message.sequence_id if message.HasField("sequence_id") else None
    origin = getattr(message, "from")
    if sequence_id == 0:
        return Broken("a data message whose sequence id is 0")
    if origin not in ("group", "server"):
        return Ignored(f"from {origin[:64]!r}", sequence_id) if origin else Broken("data from nowhere", sequence_id)
    if origin == "group" and not message.HasField("group"):
        return Broken("a message from a group without its name", sequence_id)
    stream = None
    if message.HasField("stream"):
        if not message.stream.stream_sequence_id:
            return Broken("a fragment of a stream without a number", sequence_id)
        stream = _stream(message.stream)
    data: Any
    match message.data.WhichOneof("data"):
        case "text_data":
            data, data_type = message.data.text_data, "text"
        case "binary_data":
            data, data_type = message.data.binary_data, "binary"
        case "protobuf_data":
            data, data_type = message.data.protobuf_data.SerializeToString(), "protobuf"
        case "json_data":
            data_type = "json"
            try:
                data = _json(message.data.json_data.encode())
            except _UNREADABLE as error:
                return Broken(f"json data that cannot be read: {error}", sequence_id)
        case _:
            if unknown_fields(message.data):
                return Broken("data of an unknown kind", sequence_id)
            # The end of a stream may have no data.
            data, data_type = (None, "json") if stream is None else ("", "text")
    metadata = dict(message.metadata) or None
    if origin == "server":
        return ServerMessage(data=data, data_type=data_type, sequence_id=sequence_id, metadata=metadata)
    return GroupMessage(
        group=message.group,
        data=data,
        data_type=data_type,
        sequence_id=sequence_id,
        metadata=metadata,
        stream=stream,
    )


def _json(text: bytes) -> Any:
    try:
        return _decode_json(text)
    except msgspec.MsgspecError:
        return read_value(text)


def _stream(info: wire.StreamInfo) -> StreamInfo:
    error = None
    if info.HasField("error"):
        fault = info.error
        error = StreamFault(fault.name or "Unknown", fault.message, fault.user_error_code or None)
    return StreamInfo(
        stream_id=info.stream_id, sequence_id=info.stream_sequence_id, end=info.end_of_stream, error=error
    )


def _error(
    message: wire.DownstreamMessage.AckMessage | wire.DownstreamMessage.StreamClosedMessage,
) -> ErrorDetail | None:
    if not message.HasField("error"):
        return None
    return ErrorDetail(message.error.name or "Unknown", message.error.message)


def _system_message(message: wire.DownstreamMessage.SystemMessage) -> SystemMessage | Ignored:
    match message.WhichOneof("message"):
        case "connected_message":
            connected = message.connected_message
            token = connected.reconnection_token if connected.HasField("reconnection_token") else None
            return SystemMessage("connected", connected.connection_id, connected.user_id or None, token)
        case "disconnected_message":
            return SystemMessage("disconnected", message=message.disconnected_message.reason or None)
        case _:
            return Ignored("event of the system")


def show_received(message: bytes) -> str:
    """Return a message of the service as text, for a log, without the token of a connected message."""
    decoded = decode(message)
    if type(decoded) is SystemMessage and decoded.reconnection_token:
        decoded = msgspec.structs.replace(decoded, reconnection_token=HIDDEN)
    return repr(decoded)
