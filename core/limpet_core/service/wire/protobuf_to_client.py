"""Messages from the service to protobuf clients: encoding; the twin of ``to_client`` for JSON."""

from __future__ import annotations

import binascii
from typing import Final

import msgspec
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError

from limpet_core.protocol.protobuf._wire.webpubsub_pb2 import DownstreamMessage, MessageData, StreamInfo
from limpet_core.protocol.protobuf.varint import varint
from limpet_core.service.wire.frames import Binary
from limpet_core.service.wire.to_client import Publication, StreamPlace, readable

_decode_text = msgspec.json.Decoder(str).decode
_decode_metadata = msgspec.json.Decoder(dict[str, str]).decode

# Wholes are put together from the parts that all receivers have in common, and the sequence id.
_DATA_MESSAGE: Final = b"\x12"
_SEQUENCE_ID: Final = b"\x20"


def _binary(message: DownstreamMessage) -> Binary:
    return Binary(message.SerializeToString())


PONG: Final = _binary(DownstreamMessage(pong_message=DownstreamMessage.PongMessage()))
"""The answer to a ping (Azure docs)."""


def plain(publication: Publication, *, json_as_text: bool) -> Binary:
    """Encode a message without a sequence id."""
    body = publication.protobuf or _encode_body(publication, json_as_text)
    return Binary(b"%b%b%b" % (_DATA_MESSAGE, varint(len(body)), body))


def numbered(publication: Publication, sequence_id: int, *, json_as_text: bool) -> Binary:
    """Encode a message with a sequence id, for a reliable connection (client-spec 3.2)."""
    body = publication.protobuf or _encode_body(publication, json_as_text)
    number = varint(sequence_id)
    return Binary(b"%b%b%b%b%b" % (_DATA_MESSAGE, varint(len(body) + 1 + len(number)), body, _SEQUENCE_ID, number))


def _encode_body(publication: Publication, json_as_text: bool) -> bytes:
    origin = "server" if publication.group is None else "group"
    message = DownstreamMessage.DataMessage(
        group=publication.group,
        data=_data(publication.data_type, publication.data, json_as_text),
        metadata=_decode_metadata(publication.metadata) if publication.metadata else None,
        stream=None if publication.stream is None else _stream(publication.stream),
    )
    setattr(message, "from", origin)
    body = publication.protobuf = message.SerializeToString()
    return body


def _data(data_type: str, data: bytes, json_as_text: bool) -> MessageData:
    """Return a payload, given as JSON."""
    if data_type == "json":
        return MessageData(text_data=data.decode()) if json_as_text else MessageData(json_data=data.decode())
    text = _decode_text(data)
    if data_type == "text":
        return MessageData(text_data=text)
    content = binascii.a2b_base64(text)
    if data_type == "protobuf":
        try:
            return MessageData(protobuf_data=any_pb2.Any.FromString(content))
        except (DecodeError, UnicodeDecodeError):
            pass  # a JSON client or an event handler may say so of any bytes; within a message they would break it
    return MessageData(binary_data=content)


def _stream(place: StreamPlace) -> StreamInfo:
    error = None
    if place.error is not None:
        fault = place.error
        error = StreamInfo.StreamError(
            name=fault.name, message=fault.message or "", user_error_code=fault.user_error_code or ""
        )
    return StreamInfo(
        stream_id=place.stream_id,
        stream_sequence_id=place.stream_sequence_id,
        end_of_stream=True if place.end_of_stream else None,
        error=error,
    )


def connected(connection_id: str, user_id: str | None, reconnection_token: str | None) -> Binary:
    """Encode the connected message; anonymous users have an empty user id (client-spec 1.2)."""
    message = DownstreamMessage.SystemMessage.ConnectedMessage(
        connection_id=connection_id, user_id=readable(user_id or ""), reconnection_token=reconnection_token
    )
    return _binary(DownstreamMessage(system_message=DownstreamMessage.SystemMessage(connected_message=message)))


def disconnected(message: str) -> Binary:
    """Encode the message that announces a close by the service (client-spec 1.3)."""
    told = DownstreamMessage.SystemMessage.DisconnectedMessage(reason=readable(message))
    return _binary(DownstreamMessage(system_message=DownstreamMessage.SystemMessage(disconnected_message=told)))


def ack(ack_id: int) -> Binary:
    """Encode the success of a request (client-spec 3.1)."""
    return _binary(DownstreamMessage(ack_message=DownstreamMessage.AckMessage(ack_id=ack_id, success=True)))


def ack_error(ack_id: int, name: str, message: str) -> Binary:
    """Encode the failure of a request; ``name`` is such as ``Forbidden`` or ``NotFound`` (Azure docs)."""
    error = DownstreamMessage.AckMessage.ErrorMessage(name=name, message=readable(message))
    return _binary(DownstreamMessage(ack_message=DownstreamMessage.AckMessage(ack_id=ack_id, error=error)))


def stream_ack(stream_id: str, expected: int) -> Binary:
    """Encode that the service has all fragments of a stream before ``expected`` (client-spec 3.6.4)."""
    message = DownstreamMessage.StreamAckMessage(stream_id=stream_id, expected_sequence_id=expected)
    return _binary(DownstreamMessage(stream_ack_message=message))


def stream_nack(stream_id: str, expected: int, name: str, message: str) -> Binary:
    """Encode that the service wants a stream from the fragment ``expected`` on once more (client-spec 3.6.4.5)."""
    nack = DownstreamMessage.StreamNackMessage(
        stream_id=stream_id, name=name, message=readable(message), expected_sequence_id=expected
    )
    return _binary(DownstreamMessage(stream_nack_message=nack))


def stream_closed(stream_id: str, error: tuple[str, str] | None) -> Binary:
    """Encode the end of a stream, with the name and the text of an error if there is one (client-spec 3.6.4)."""
    fault = None
    if error is not None:
        name, message = error
        fault = DownstreamMessage.StreamClosedMessage.StreamClosedError(name=name, message=readable(message))
    closed = DownstreamMessage.StreamClosedMessage(stream_id=stream_id, error=fault)
    return _binary(DownstreamMessage(stream_closed_message=closed))
