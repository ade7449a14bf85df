"""Messages from the client to the service: decoding and validation.

An invalid message raises :class:`ProtocolViolation`, an unknown one :class:`UnknownOperation`, and nothing else. JSON
payloads are passed on byte by byte, so they are made readable for every client here: no lone surrogates, no deep
nesting.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Mapping
from typing import Final, NoReturn, TypeVar, get_args

import msgspec

from limpet_core.protocol.lenient_json import is_deep, replace_half_pairs, without_deep_values
from limpet_core.protocol.names import is_event_name, is_group_name
from limpet_core.service.wire.metadata import InvalidMetadata, encode_metadata
from limpet_core.service.wire.requests import (
    MAX_STREAM_ID,
    MAX_UINT32,
    MAX_UINT64,
    CancelInvocation,
    ClientMessage,
    DataType,
    Event,
    Invoke,
    JoinGroup,
    LeaveGroup,
    Ping,
    SendToGroup,
    SequenceAck,
    SetGroupState,
    StartStream,
    StreamData,
    StreamEnd,
    StreamStart,
    SubscribeGroupState,
    Unsigned,
    UnsubscribeGroupState,
    WireMessage,
)
from limpet_core.text import one_line

MAX_NESTING: Final = 256
"""The maximum depth of nested JSON (RFC 8259 9); the decoders of clients have limits, too."""


class ProtocolViolation(Exception):
    """A client broke the protocol: its transport is closed and its logical connection ends (emulator).

    Attributes:
        reason: for people.
        ack_id: set if the connection goes on: the message is a request in valid JSON that cannot be carried out, to be
            answered with an error.
        stream_id: the same of a message about a stream, which ends.
    """

    def __init__(self, reason: str, *, ack_id: int | None = None, stream_id: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.ack_id = ack_id
        self.stream_id = stream_id


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


_TYPES: Final = {
    name.lower(): name
    for name in (
        "joinGroup",
        "leaveGroup",
        "sendToGroup",
        "event",
        "sequenceAck",
        "ping",
        "streamData",
        "streamEnd",
        "invoke",
        "cancelInvocation",
        "setGroupState",
        "subscribeGroupState",
        "unsubscribeGroupState",
    )
}
_WITH_DATA: Final = ("sendToGroup", "event", "streamData", "invoke")
_OF_GROUPS: Final = (JoinGroup, LeaveGroup, SendToGroup, SetGroupState, SubscribeGroupState, UnsubscribeGroupState)
_TOO_DEEP: Final = f"invalid message: JSON may be nested {MAX_NESTING} deep"
_EMPTY_TEXT: Final = msgspec.Raw(b'""')
_NOTHING: Final = msgspec.Raw()

_decoder: msgspec.json.Decoder[WireMessage] = msgspec.json.Decoder(WireMessage)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_decoder = msgspec.json.Decoder(msgspec.Raw)
_text_decoder = msgspec.json.Decoder(str)
_uint64_decoder: msgspec.json.Decoder[int | None] = msgspec.json.Decoder(Unsigned | None)


def decode(data: bytes) -> ClientMessage:
    """Decode and validate one message.

    Unknown properties are ignored, the case of the type and of the data type does not matter, and ``null`` means absent
    for ``ackId``, ``ttlSeconds`` and ``metadata`` (emulator).

    Raises:
        ProtocolViolation: for an invalid message.
        UnknownOperation: for an unknown type or data type.
    """
    try:
        # Parts of the message are copied to other clients byte by byte, so all of it must be UTF-8.
        if not data.isascii():
            str(data, "utf-8")
        # What decoders take depends on the Python, and on the calls that have led here. All nodes of a cluster must do
        # the same. Short messages are never too deep.
        if len(data) > 2 * MAX_NESTING and is_deep(data, MAX_NESTING + 1):
            return _decode_deep(data)
        return check(_decode_whole(data))
    except UnicodeDecodeError:
        raise ProtocolViolation("the message is not valid UTF-8") from None
    except RecursionError:  # below very many calls
        return _decode_deep(data)


def _decode_deep(data: bytes) -> ClientMessage:
    message = _decode_whole(without_deep_values(data))
    if isinstance(message, SendToGroup | Event | StreamData):  # perhaps the payload is deep
        raise ProtocolViolation(_TOO_DEEP, ack_id=_ack_id(message), stream_id=_stream_id(message))
    if isinstance(message, Invoke):
        raise UnknownOperation(_TOO_DEEP, invocation_id=message.invocation_id)
    return check(message)


def _decode_whole(data: bytes) -> WireMessage:
    try:
        return _decode_any_case(data)
    except msgspec.DecodeError as error:
        mended = replace_half_pairs(data)
        if mended == data:
            raise ProtocolViolation(f"invalid message: {error}") from None
    return _decode_mended(data, mended)


def _decode_mended(data: bytes, mended: bytes) -> WireMessage:
    """Decode a message with lone surrogates: allowed in data, refused in names."""
    try:
        message = _decode_any_case(mended)
        # With another replacement a name that has lone surrogates is different.
        other = _decode_any_case(replace_half_pairs(data, b"\\u0000"))
    except msgspec.DecodeError as error:
        raise ProtocolViolation(f"invalid message: {error}") from None
    if _group(message) != _group(other):
        raise ProtocolViolation("invalid group name: it holds half of a surrogate pair", ack_id=_ack_id(message))
    if _stream_id(message) != _stream_id(other):
        raise ProtocolViolation("invalid stream id: it holds half of a surrogate pair", ack_id=_ack_id(message))
    if _invocation_id(message) != _invocation_id(other):
        raise ProtocolViolation("invalid invocation id: it holds half of a surrogate pair")
    return message


def _group(message: WireMessage) -> str | None:
    return message.group if isinstance(message, _OF_GROUPS) else None


def _invocation_id(message: WireMessage) -> str | None:
    return message.invocation_id if isinstance(message, Invoke | CancelInvocation) else None


def _stream_id(message: WireMessage) -> str | None:
    if isinstance(message, SendToGroup):
        return None if message.stream is None else message.stream.stream_id
    return message.stream_id if isinstance(message, StreamData | StreamEnd) else None


def _ack_id(message: WireMessage) -> int | None:
    """Return the ack id of an unchecked message; ``None`` if it cannot be answered."""
    if isinstance(message, Ping | SequenceAck | StreamData | StreamEnd | Invoke | CancelInvocation):
        return None
    ack_id = message.ack_id
    return ack_id if ack_id is not None and ack_id <= MAX_UINT64 else None


def check_json(text: bytes) -> bytes:
    """Return JSON that any client can read: lone surrogates are replaced by U+FFFD.

    Raises:
        ValueError: for text that is not JSON in UTF-8, or nested too deeply.
    """
    if is_deep(text, MAX_NESTING):  # first: what a decoder takes is not the same everywhere, see decode()
        raise ValueError("nested too deeply")
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
    return text


def _decode_any_case(data: bytes) -> WireMessage:
    try:
        return _decoder.decode(data)
    except msgspec.ValidationError:
        # Rare: the message is invalid or unknown, or its type or data type has another case.
        fields = _fields_decoder.decode(data)
        spelled = _text_decoder.decode(fields.get("type", b"null"))
        name = _TYPES.get(spelled.lower())
        if name is None:
            raise _unknown(f"the type {one_line(spelled)!r} is", fields) from None
        data_type = _string(fields, "dataType")
        known = None if data_type is None else data_type.lower()
        if name in _WITH_DATA and data_type is not None and known not in get_args(DataType):
            raise _unknown(f"the dataType {one_line(data_type)!r} is", fields, invokes=name == "invoke") from None
        if name == spelled and known == data_type:
            raise
        fields["type"] = msgspec.Raw(msgspec.json.encode(name))
        if known is not None:
            fields["dataType"] = msgspec.Raw(msgspec.json.encode(known))
        return _decoder.decode(msgspec.json.encode(fields))


def _unknown(what: str, fields: Mapping[str, msgspec.Raw], *, invokes: bool = False) -> UnknownOperation:
    """Return the refusal of a message, with all that an answer to it needs."""
    try:
        ack_id = _uint64_decoder.decode(fields.get("ackId", b"null"))
    except msgspec.DecodeError:
        ack_id = None  # nobody could answer
    try:
        stream = _fields_decoder.decode(fields.get("stream", b"{}"))
    except msgspec.DecodeError:
        stream = {}
    stream_id = _string(fields, "streamId")
    return UnknownOperation(
        f"{what} not known to this service",
        ack_id if ack_id is None or ack_id <= MAX_UINT64 else None,
        invocation_id=_string(fields, "invocationId") if invokes else None,
        stream_id=_string(stream, "streamId") if stream_id is None else stream_id,
    )


def _string(fields: Mapping[str, msgspec.Raw], name: str) -> str | None:
    try:
        return _text_decoder.decode(fields.get(name, b"null"))
    except msgspec.DecodeError:
        return None


def check(message: WireMessage) -> ClientMessage:
    """Check a message whose fields have the right types; the last step of :func:`decode`, which says what it raises."""
    if isinstance(message, SendToGroup):  # most messages
        return _check_send(message)
    if isinstance(message, SequenceAck):  # most of the others
        _check_uint64(message.sequence_id, "sequenceId")
        return message
    if isinstance(message, Ping | CancelInvocation):
        return message
    if isinstance(message, Invoke):
        return _check_payload(message)
    if isinstance(message, StreamData):
        return _check_fragment(message)
    if isinstance(message, StreamEnd):
        return message
    if message.ack_id is not None:
        _check_uint64(message.ack_id, "ackId")
    if isinstance(message, Event):
        if not is_event_name(message.event):
            raise ProtocolViolation("invalid event name")
        return _check_payload(message)
    _check_group(message.group)
    return message


def _check_send(message: SendToGroup) -> SendToGroup | StartStream:
    if message.ack_id is not None:
        _check_uint64(message.ack_id, "ackId")
    _check_group(message.group)
    return _check_payload(message) if message.stream is None else _check_start(message, message.stream)


def _check_group(group: str) -> None:
    if not is_group_name(group):
        raise ProtocolViolation("invalid group name: 1 to 1024 characters, not all white space")


def _check_start(message: SendToGroup, stream: StreamStart) -> StartStream:
    stream_id, idle_timeout = stream.stream_id, stream.idle_timeout_ms

    def refuse(reason: str) -> NoReturn:
        raise ProtocolViolation(reason, ack_id=message.ack_id, stream_id=stream_id)

    if not stream_id or len(stream_id) > MAX_STREAM_ID:
        refuse(f"invalid stream id: 1 to {MAX_STREAM_ID} characters")
    if idle_timeout is not None and not 0 < idle_timeout <= MAX_UINT32:
        refuse(f"idleTimeoutMs is from 1 to {MAX_UINT32}")
    if bytes(message.data):
        refuse("the start of a stream has no data")
    seconds = None if idle_timeout is None else idle_timeout / 1000
    return StartStream(stream_id, message.group, message.no_echo, seconds, message.ack_id)


def _check_fragment(message: StreamData) -> StreamData:
    data_type, raw = message.data_type, bytes(message.data)
    given = (message.stream_sequence_id is not None, data_type is not None, bool(raw))
    if not any(given):
        return message  # a keepalive
    if message.stream_sequence_id is None or data_type is None or not raw:
        raise ProtocolViolation(
            "a fragment has streamSequenceId, dataType and data; a keepalive has none of them",
            stream_id=message.stream_id,
        )
    _check_uint64(message.stream_sequence_id, "streamSequenceId")
    return msgspec.structs.replace(message, data=_check_data(data_type, message.data))


def _check_uint64(value: int, name: str) -> None:
    if value > MAX_UINT64:
        raise ProtocolViolation(f"{name} does not fit in 64 bits")


_Carrier = TypeVar("_Carrier", SendToGroup, Event, Invoke)


def _check_payload(message: _Carrier) -> _Carrier:
    """Check ``data`` against ``dataType`` (Azure docs); with metadata alone the payload is an empty text."""
    given = message.metadata
    metadata = _check_metadata(bytes(given)) if given else _NOTHING
    data_type: DataType = message.data_type
    if not message.data:
        if not metadata and not isinstance(message, Invoke):
            raise ProtocolViolation("data is required")
        return msgspec.structs.replace(message, data_type="text", data=_EMPTY_TEXT, metadata=metadata)
    data = _check_data(data_type, message.data)
    if data is message.data and not given:
        return message  # as it came
    return msgspec.structs.replace(message, data=data, metadata=metadata)


def _check_data(data_type: DataType, data: msgspec.Raw) -> msgspec.Raw:
    """Return ``data``, checked against its type, as it is passed on."""
    if data_type == "json":
        if bytes(data) == b"null":
            raise ProtocolViolation("data of type json must not be null")
        return data
    # The decoder also refuses everything that is not a string.
    try:
        text = _text_decoder.decode(data)
    except msgspec.DecodeError as error:
        raise ProtocolViolation(f"invalid message: {error}") from None
    if data_type == "text":
        return data
    _check_base64(text)
    return msgspec.Raw(b'"' + text.encode() + b'"')


def _check_base64(text: str) -> None:
    try:
        binascii.a2b_base64(text, strict_mode=True)
        is_padded = len(text) % 4 == 0 and "===" not in text  # before Python 3.13 more = may follow than are needed
    except ValueError:
        is_padded = False
    if not is_padded:
        raise ProtocolViolation("data is not valid base64")


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
