"""Messages from protobuf clients to the service: decoding. They become the messages of the JSON subprotocols.

What is decoded is checked as JSON messages are, and its payload is JSON: it may go to clients of any kind.
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Final

import msgspec
from google.protobuf.message import DecodeError

from limpet_core.protocol.protobuf._wire.webpubsub_pb2 import MessageData, UpstreamMessage
from limpet_core.protocol.protobuf.decoding import unknown_fields
from limpet_core.protocol.rules import MAX_TTL
from limpet_core.service.wire.from_client import ProtocolViolation, UnknownOperation, check, check_json
from limpet_core.service.wire.requests import (
    ClientMessage,
    DataType,
    Event,
    JoinGroup,
    LeaveGroup,
    Ping,
    SendToGroup,
    SequenceAck,
    StreamData,
    StreamEnd,
    StreamEndError,
    StreamStart,
    WireMessage,
)

_NOTHING: Final = msgspec.Raw()
_encode = msgspec.json.encode


def decode(data: bytes) -> ClientMessage:
    """Decode and validate one message.

    Raises:
        ProtocolViolation: for an invalid message.
        UnknownOperation: for a member of the message, or a kind of data, that this service does not know.
    """
    try:
        message = UpstreamMessage.FromString(data)
    except (DecodeError, UnicodeDecodeError):  # this one is of the parser in Python
        raise ProtocolViolation("the message is not protobuf, or holds text that is not UTF-8") from None
    return check(_decoded(message))


def _decoded(message: UpstreamMessage) -> WireMessage:
    match message.WhichOneof("message"):
        case "send_to_group_message":
            return _send_to_group(message.send_to_group_message)
        case "event_message":
            return _event(message.event_message)
        case "join_group_message":
            join = message.join_group_message
            return JoinGroup(join.group, _ack_id(join))
        case "leave_group_message":
            leave = message.leave_group_message
            return LeaveGroup(leave.group, _ack_id(leave))
        case "sequence_ack_message":
            return SequenceAck(message.sequence_ack_message.sequence_id)
        case "ping_message":
            return Ping()
        case "stream_data_message":
            return _stream_data(message.stream_data_message)
        case "stream_end_message":
            return _stream_end(message.stream_end_message)
        case _:
            # Whole messages alone are members; the rest is most likely something that is not protobuf.
            numbers = [number for number, content in unknown_fields(message) if isinstance(content, bytes)]
            unused = [number for number in numbers if number not in UpstreamMessage.DESCRIPTOR.fields_by_number]
            if unused and len(unused) == len(unknown_fields(message)):
                raise UnknownOperation(f"the message {unused[0]} is not known to this service")
            raise ProtocolViolation("the message is empty")


def _ack_id(
    message: UpstreamMessage.JoinGroupMessage
    | UpstreamMessage.LeaveGroupMessage
    | UpstreamMessage.SendToGroupMessage
    | UpstreamMessage.EventMessage,
) -> int | None:
    return message.ack_id if message.HasField("ack_id") else None


def _send_to_group(message: UpstreamMessage.SendToGroupMessage) -> SendToGroup:
    stream = None
    if message.HasField("stream"):
        timeout = message.stream.idle_timeout_ms if message.stream.HasField("idle_timeout_ms") else None
        stream = StreamStart(message.stream.stream_id, timeout)
    ack_id = _ack_id(message)
    if message.ttl_seconds > MAX_TTL:
        raise ProtocolViolation(f"ttl_seconds is from 0 to {MAX_TTL}")
    data_type, data = _data(message.data, ack_id, None if stream is None else stream.stream_id) or ("json", _NOTHING)
    return SendToGroup(
        message.group,
        ack_id,
        message.no_echo,
        data_type,
        data,
        message.ttl_seconds,
        _metadata(message.metadata),
        stream,
    )


def _event(message: UpstreamMessage.EventMessage) -> Event:
    ack_id = _ack_id(message)
    if message.HasField("stream"):
        raise UnknownOperation("a stream of an event is not known to this service", ack_id)
    data_type, data = _data(message.data, ack_id) or ("json", _NOTHING)
    return Event(message.event, ack_id, data_type, data, _metadata(message.metadata))


def _stream_data(message: UpstreamMessage.StreamDataMessage) -> StreamData:
    number = message.stream_sequence_id if message.HasField("stream_sequence_id") else None
    data_type, data = _data(message.data, stream_id=message.stream_id) or (None, _NOTHING)
    return StreamData(message.stream_id, number, data_type, data)


def _stream_end(message: UpstreamMessage.StreamEndMessage) -> StreamEnd:
    if not message.HasField("error"):
        return StreamEnd(message.stream_id)
    error = message.error
    return StreamEnd(
        message.stream_id,
        StreamEndError(
            error.message if error.HasField("message") else None,
            error.user_error_code if error.HasField("user_error_code") else None,
        ),
    )


def _metadata(metadata: Mapping[str, str]) -> msgspec.Raw:
    return msgspec.Raw(_encode(dict(metadata))) if metadata else _NOTHING


def _data(
    data: MessageData, ack_id: int | None = None, stream_id: str | None = None
) -> tuple[DataType, msgspec.Raw] | None:
    """Return the type of a payload, and the payload as JSON; None: there is none."""
    match data.WhichOneof("data"):
        case "text_data":
            return "text", msgspec.Raw(_encode(data.text_data))
        case "binary_data":
            return "binary", _base64(data.binary_data)
        case "protobuf_data":
            return "protobuf", _base64(data.protobuf_data.SerializeToString())
        case "json_data":
            text = data.json_data.encode().strip(b" \t\r\n")
            try:
                return "json", msgspec.Raw(check_json(text))
            except ValueError as error:
                reason = f"invalid message: data of type json is {error}"
                raise ProtocolViolation(reason, ack_id=ack_id, stream_id=stream_id) from None
        case _:
            if unknown_fields(data):
                raise UnknownOperation("the kind of data is not known to this service", ack_id, stream_id=stream_id)
            return None


def _base64(data: bytes) -> msgspec.Raw:
    return msgspec.Raw(b'"%b"' % binascii.b2a_base64(data, newline=False))
