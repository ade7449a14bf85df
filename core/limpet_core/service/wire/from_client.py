"""Messages from the client to the service: decoding and validation.

An invalid message raises :class:`ProtocolViolation`, an unknown one :class:`UnknownOperation`, and nothing else. JSON
payloads are passed on byte by byte, so they are made readable for every client here: no lone surrogates, no deep
nesting.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from typing import Annotated, Final, Literal, TypeAlias, get_args

import msgspec

from limpet_core.protocol.lenient_json import is_deep, replace_half_pairs, without_deep_values
from limpet_core.protocol.names import is_event_name, is_group_name
from limpet_core.service.wire.metadata import InvalidMetadata, encode_metadata
from limpet_core.text import one_line

MAX_UINT64: Final = 2**64 - 1
MAX_TTL: Final = 300
MAX_NESTING: Final = 256
"""The maximum depth of nested JSON (RFC 8259 9); the decoders of clients have limits, too."""

# A JSON number that is an unsigned integer; msgspec cannot state a bound above int64, `_check_uint64` does.
_Unsigned: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
_Ttl: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_TTL)]
DataType: TypeAlias = Literal["json", "text", "binary", "protobuf"]
"""The kind of a payload."""


class ProtocolViolation(Exception):
    """A client broke the protocol: its transport is closed and its logical connection ends (emulator).

    Attributes:
        reason: for people.
        code: the WebSocket close code.
        ack_id: set if the connection goes on: the message is a request in valid JSON that cannot be carried out, to be
            answered with an error.
    """

    def __init__(self, reason: str, code: int = 1007, ack_id: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.code = code
        self.ack_id = ack_id


class UnknownOperation(Exception):
    """A well-formed message asks for what this service does not know: it is refused, and the connection goes on.

    The cloud closes here (emulator), which a client that is newer than this service would meet again and again.

    Attributes:
        reason: for people, in one line.
        ack_id: the ack id of the message, to be answered with an error.
        invocation_id: the same of an invocation (js).
        stream_id: the same of a message about a stream (client-spec 3.6).
    """

    def __init__(
        self,
        reason: str,
        ack_id: int | None = None,
        *,
        invocation_id: str | None = None,
        stream_id: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.ack_id = ack_id
        self.invocation_id = invocation_id
        self.stream_id = stream_id


class JoinGroup(msgspec.Struct, frozen=True, tag="joinGroup", tag_field="type", rename="camel"):
    """Join ``group``; an ``ack_id`` asks for an answer (client-spec 3.1)."""

    group: str
    ack_id: _Unsigned | None = None


class LeaveGroup(msgspec.Struct, frozen=True, tag="leaveGroup", tag_field="type", rename="camel"):
    """Leave ``group``; an ``ack_id`` asks for an answer (client-spec 3.1)."""

    group: str
    ack_id: _Unsigned | None = None


class SendToGroup(msgspec.Struct, frozen=True, tag="sendToGroup", tag_field="type", rename="camel"):
    """Publish ``data`` to ``group``; the sender need not be a member (Azure docs).

    After :func:`decode`, ``data`` and ``metadata`` are valid JSON, to be copied into a message to clients
    (``metadata`` is empty if there is none). Without ``ttl_seconds``, or with 0, the message never expires.
    """

    group: str
    ack_id: _Unsigned | None = None
    no_echo: bool = False
    data_type: DataType = "json"
    data: msgspec.Raw = msgspec.Raw()
    ttl_seconds: _Ttl | None = None
    metadata: msgspec.Raw = msgspec.Raw()
    stream: msgspec.Raw = msgspec.Raw()


class Event(msgspec.Struct, frozen=True, tag="event", tag_field="type", rename="camel"):
    """Send the event ``event`` to the application server (Azure docs)."""

    event: str
    ack_id: _Unsigned | None = None
    data_type: DataType = "json"
    data: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()


class SequenceAck(msgspec.Struct, frozen=True, tag="sequenceAck", tag_field="type", rename="camel"):
    """Acknowledge all messages up to ``sequence_id`` (client-spec 3.2)."""

    sequence_id: _Unsigned


class Ping(msgspec.Struct, frozen=True, tag="ping", tag_field="type"):
    """Ask for a pong (Azure docs)."""


ClientRequest: TypeAlias = JoinGroup | LeaveGroup | SendToGroup | Event
"""A message that can be acknowledged."""

ClientMessage: TypeAlias = ClientRequest | SequenceAck | Ping
"""Any message from a client."""

_TYPES: Final = {
    name.lower(): name for name in ("joinGroup", "leaveGroup", "sendToGroup", "event", "sequenceAck", "ping")
}
_WITH_DATA: Final = ("sendToGroup", "event")
_TOO_DEEP: Final = f"invalid message: JSON may be nested {MAX_NESTING} deep"
_EMPTY_TEXT: Final = msgspec.Raw(b'""')
_NOTHING: Final = msgspec.Raw()

_decoder: msgspec.json.Decoder[ClientMessage] = msgspec.json.Decoder(ClientMessage)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_decoder = msgspec.json.Decoder(msgspec.Raw)
_text_decoder = msgspec.json.Decoder(str)
_uint64_decoder: msgspec.json.Decoder[int | None] = msgspec.json.Decoder(_Unsigned | None)


def decode(data: bytes) -> ClientMessage:
    """Decode and validate one message.

    Unknown properties are ignored, the case of the type does not matter, and ``null`` means absent for ``ackId``,
    ``ttlSeconds`` and ``metadata`` (emulator).

    Raises:
        ProtocolViolation: for an invalid message.
        UnknownOperation: for an unknown type or data type, or a stream.
    """
    try:
        # Parts of the message are copied to other clients byte by byte, so all of it must be UTF-8.
        str(data, "utf-8")
        return _check(_decode_whole(data))
    except UnicodeDecodeError:
        raise ProtocolViolation("the message is not valid UTF-8") from None
    except RecursionError:
        message = _decode_whole(without_deep_values(data))
        if isinstance(message, SendToGroup | Event):  # perhaps the payload is deep
            raise ProtocolViolation(_TOO_DEEP, ack_id=_ack_id(message)) from None
        return _check(message)


def _decode_whole(data: bytes) -> ClientMessage:
    try:
        return _decode_any_case(data)
    except msgspec.DecodeError as error:
        mended = replace_half_pairs(data)
        if mended == data:
            raise ProtocolViolation(f"invalid message: {error}") from None
    return _decode_mended(data, mended)


def _decode_mended(data: bytes, mended: bytes) -> ClientMessage:
    """Decode a message with lone surrogates: allowed in data, refused in names."""
    try:
        message = _decode_any_case(mended)
        # With another replacement a name that has lone surrogates is different.
        other = _decode_any_case(replace_half_pairs(data, b"\\u0000"))
    except msgspec.DecodeError as error:
        raise ProtocolViolation(f"invalid message: {error}") from None
    if _group(message) != _group(other):
        raise ProtocolViolation("invalid group name: it holds half of a surrogate pair", ack_id=_ack_id(message))
    return message


def _group(message: ClientMessage) -> str | None:
    return message.group if isinstance(message, JoinGroup | LeaveGroup | SendToGroup) else None


def _ack_id(message: ClientMessage) -> int | None:
    """Return the ack id of an unchecked message; ``None`` if it cannot be answered."""
    ack_id = None if isinstance(message, Ping | SequenceAck) else message.ack_id
    return ack_id if ack_id is not None and ack_id <= MAX_UINT64 else None


def check_json(text: bytes) -> bytes:
    """Return JSON that any client can read: lone surrogates are replaced by U+FFFD.

    Raises:
        ValueError: for text that is not JSON in UTF-8, or nested too deeply.
    """
    try:
        str(text, "utf-8")
        try:
            _raw_decoder.decode(text)
        except msgspec.DecodeError:
            text = replace_half_pairs(text)
            _raw_decoder.decode(text)
    except (UnicodeDecodeError, msgspec.DecodeError):
        raise ValueError("not valid JSON") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if is_deep(text, MAX_NESTING):
        raise ValueError("nested too deeply")
    return text


def _decode_any_case(data: bytes) -> ClientMessage:
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        # Rare: the message is invalid or unknown, or its type has another case.
        fields = _fields_decoder.decode(data)
        spelled = _text_decoder.decode(fields.get("type", b"null"))
        name = _TYPES.get(spelled.lower())
        if name is None:
            raise _unknown(f"the type {one_line(spelled)!r} is", fields, invokes=spelled.lower() == "invoke") from None
        data_type = _string(fields, "dataType")
        if name in _WITH_DATA and data_type is not None and data_type not in get_args(DataType):
            raise _unknown(f"the dataType {one_line(data_type)!r} is", fields) from None
        if name == spelled:
            raise
        fields["type"] = msgspec.Raw(msgspec.json.encode(name))
        return _decoder.decode(msgspec.json.encode(fields))


def _unknown(what: str, fields: Mapping[str, msgspec.Raw], *, invokes: bool = False) -> UnknownOperation:
    """Return the refusal of a message, with all that an answer to it needs."""
    try:
        ack_id = _uint64_decoder.decode(fields.get("ackId", b"null"))
    except msgspec.DecodeError:
        ack_id = None  # nobody could answer
    return UnknownOperation(
        f"{what} not known to this service",
        ack_id if ack_id is None or ack_id <= MAX_UINT64 else None,
        invocation_id=_string(fields, "invocationId") if invokes else None,
        stream_id=_string(fields, "streamId"),
    )


def _string(fields: Mapping[str, msgspec.Raw], name: str) -> str | None:
    try:
        return _text_decoder.decode(fields.get(name, b"null"))
    except msgspec.DecodeError:
        return None


def _check(message: ClientMessage) -> ClientMessage:
    if isinstance(message, Ping):
        return message
    if isinstance(message, SequenceAck):
        _check_uint64(message.sequence_id, "sequenceId")
        return message
    if message.ack_id is not None:
        _check_uint64(message.ack_id, "ackId")
    if isinstance(message, Event):
        if not is_event_name(message.event):
            raise ProtocolViolation("invalid event name")
    elif not is_group_name(message.group):
        raise ProtocolViolation("invalid group name: 1 to 1024 characters, not all white space")
    if isinstance(message, SendToGroup):
        if bytes(message.stream) not in (b"", b"null"):
            raise UnknownOperation(
                "streams are not known to this service", message.ack_id, stream_id=_stream_id(bytes(message.stream))
            )
        return _check_payload(message)
    if isinstance(message, Event):
        return _check_payload(message)
    return message


def _stream_id(stream: bytes) -> str | None:
    try:
        return _string(_fields_decoder.decode(stream), "streamId")
    except msgspec.DecodeError:
        return None


def _check_uint64(value: int, name: str) -> None:
    if value > MAX_UINT64:
        raise ProtocolViolation(f"{name} does not fit in 64 bits")


def _check_payload(message: SendToGroup | Event) -> SendToGroup | Event:
    """Check ``data`` against ``dataType`` (Azure docs); with metadata alone the payload is an empty text."""
    metadata = _check_metadata(bytes(message.metadata)) if bytes(message.metadata) else _NOTHING
    data_type: DataType = message.data_type
    raw = bytes(message.data)
    if not raw:
        if not bytes(metadata):
            raise ProtocolViolation("data is required")
        return msgspec.structs.replace(message, data_type="text", data=_EMPTY_TEXT, metadata=metadata)
    if data_type == "json":
        if raw == b"null":
            raise ProtocolViolation("data of type json must not be null")
        if is_deep(raw, MAX_NESTING):
            raise ProtocolViolation(_TOO_DEEP, ack_id=message.ack_id)
        data = message.data
    else:
        # The decoder also refuses everything that is not a string.
        try:
            text = _text_decoder.decode(raw)
        except msgspec.DecodeError as error:
            raise ProtocolViolation(f"invalid message: {error}") from None
        if data_type == "text":
            data = message.data
        else:
            _check_base64(text)
            data = msgspec.Raw(b'"' + text.encode() + b'"')
    return msgspec.structs.replace(message, data=data, metadata=metadata)


def _check_base64(text: str) -> None:
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        raise ProtocolViolation("data is not valid base64") from None


def _check_metadata(raw: bytes) -> msgspec.Raw:
    """Return the metadata in compact form, empty for ``null`` and ``{}``."""
    if raw == b"null":
        return _NOTHING
    if not raw.startswith(b"{"):
        raise ProtocolViolation("metadata must be an object")
    if is_deep(raw, 1):
        raise ProtocolViolation("metadata values must be strings")
    # Only the pairs hook sees repeated keys. Numbers are refused later, whatever their size.
    pairs: list[tuple[str, object]] = json.loads(raw, object_pairs_hook=list, parse_int=float)
    try:
        return msgspec.Raw(encode_metadata(pairs))
    except InvalidMetadata as error:
        raise ProtocolViolation(str(error)) from None
