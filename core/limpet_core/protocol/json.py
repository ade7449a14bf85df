"""The codec of the JSON subprotocols: decode the messages of the service, encode the messages of a client.

The functions and constants of :class:`~limpet_core.protocol.codec.Codec`, as a module.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Any, Final

import msgspec

from limpet_core.errors import InvalidType, InvalidValue
from limpet_core.protocol.lenient_json import (
    find_non_finite,
    may_hold_null,
    read_object,
    replace_half_pairs,
    without_deep_values,
)
from limpet_core.protocol.messages import (
    MAX_SEQUENCE_ID,
    AckMessage,
    Broken,
    GroupMessage,
    Ignored,
    Incoming,
    PongMessage,
    ServerMessage,
    SystemMessage,
)
from limpet_core.protocol.rules import check_data, check_event_name, check_group

ping: bytes = b'{"type":"ping"}'
ack_id_size: int = 32


class _DataMessage(msgspec.Struct, frozen=True, gc=False, tag="message"):
    """Stands for data messages where only the ``type`` is looked at."""


_Data = GroupMessage | ServerMessage
_Answer = AckMessage | SystemMessage | PongMessage

_decode_data: Callable[[bytes], _Data]
_decode_data = msgspec.json.Decoder(_Data).decode
_decode_control: Callable[[bytes], _Answer | _DataMessage]
_decode_control = msgspec.json.Decoder(_Answer | _DataMessage).decode
_KNOWN_TYPES = frozenset({"message", "ack", "system", "pong"})
# Bad UTF-8 is a ValueError, too deep nesting a RecursionError, a message of a few bytes an IndexError.
_UNREADABLE = msgspec.MsgspecError, ValueError, RecursionError, IndexError
_ACK: Final = b'{"type":"ack"'
_A: Final = _ACK[9]


def decode(message: bytes) -> Incoming:
    """Decode one text message; never raises, whatever the peer sends.

    Args:
        message: the text's UTF-8 bytes. The caller has checked that they are UTF-8: what a decoder skips is not
            looked at again.
    """
    try:
        # Only a hint for speed, `{"type":"ack"`: which decoder is tried first does not change what is understood.
        if message[9] == _A and message.startswith(_ACK) and type(control := _decode_control(message)) is AckMessage:
            return control
        decoded = _decode_data(message)
    except _UNREADABLE:
        return _decode_other(message)
    kind = decoded.data_type
    if (kind == "text" and type(decoded.data) is str) or kind == "json":
        return decoded
    return _convert(decoded)


def _decode_other(message: bytes) -> Incoming:
    """Decode a message that the decoder for data refused: of another kind, or rare."""
    try:
        control = _decode_control(message)
    except _UNREADABLE:
        return _decode_slowly(message)
    return _decode_slowly(message) if isinstance(control, _DataMessage) else control


def _decode_slowly(message: bytes) -> Incoming:
    """Decode JSON that the fast decoders refuse; tell a message of a future protocol from a broken one.

    The sequence id is read apart from the data, which may be nested too deeply for any decoder.
    """
    problem = ""
    try:
        try:
            fields = read_object(message)
        except RecursionError:
            problem = "it is nested too deeply"
            fields = read_object(without_deep_values(message))
    except (ValueError, RecursionError) as error:
        return Broken(f"not JSON: {error}")
    kind = fields.get("type")
    if not isinstance(kind, str):
        return Broken("the message has no type")
    if kind not in _KNOWN_TYPES:
        return Ignored(f"type {kind[:64]!r}")
    origin = fields.get("from")
    sequence_id = fields.get("sequenceId")
    sequence_id = sequence_id if type(sequence_id) is int and 1 <= sequence_id <= MAX_SEQUENCE_ID else None
    if kind == "message" and isinstance(origin, str) and origin not in ("group", "server"):
        return Ignored(f"from {origin[:64]!r}", sequence_id)
    event = fields.get("event")
    if kind == "system" and isinstance(event, str) and event not in ("connected", "disconnected"):
        return Ignored(f"event {event[:64]!r}")
    try:
        if kind != "message":
            return _check_identity(message, msgspec.convert(fields, _Answer))
        if not problem:
            return _convert(msgspec.convert(fields, _Data))
    except (msgspec.ValidationError, RecursionError) as error:
        problem = str(error)
    broken = f"a message of type {kind!r} that does not fit: {problem}"
    return Broken(broken, sequence_id) if kind == "message" else Broken(broken, may_be_data=False)


def _check_identity(message: bytes, control: _Answer) -> _Answer | Broken:
    """Refuse a connection id or token that holds half of a surrogate pair: with U+FFFD in it, it recovers nothing."""
    if type(control) is SystemMessage and replace_half_pairs(message) != message:
        identity = f"{control.connection_id}{control.reconnection_token}"
        if "\ufffd" in identity:
            return Broken("a connection id or token that holds half of a surrogate pair", may_be_data=False)
    return control


def _convert(message: _Data) -> _Data | Broken:
    """Turn base64 into bytes; tolerate data types of the future; refuse data of the wrong type."""
    if message.data_type in ("binary", "protobuf"):
        if type(message.data) is not str:
            return Broken(f"{message.data_type} data that is no string", message.sequence_id)
        try:
            data = binascii.a2b_base64(message.data.encode("ascii"), strict_mode=True)
        except ValueError as error:
            return Broken(f"{message.data_type} data that is no base64: {error}", message.sequence_id)
        msgspec.structs.force_setattr(message, "data", data)
    elif message.data_type == "text" and type(message.data) is not str:
        return Broken("text data that is no string", message.sequence_id)
    return message


class JoinGroup(msgspec.Struct, frozen=True, gc=False, tag="joinGroup", rename="camel"):
    """Ask to become a member of a group."""

    group: str
    ack_id: int


class LeaveGroup(msgspec.Struct, frozen=True, gc=False, tag="leaveGroup", rename="camel"):
    """Ask to stop being a member of a group."""

    group: str
    ack_id: int


class SendToGroup(msgspec.Struct, frozen=True, gc=False, tag="sendToGroup", rename="camel", omit_defaults=True):
    """Publish to a group."""

    group: str
    data_type: str
    data: Any
    ack_id: int | None = None
    no_echo: bool = False


class SendEvent(msgspec.Struct, frozen=True, gc=False, tag="event", rename="camel", omit_defaults=True):
    """Send an event to the application server."""

    event: str
    data_type: str
    data: Any
    ack_id: int | None = None


_encode = msgspec.json.Encoder().encode


def encode_join(group: str, ack_id: int) -> bytes:
    """Encode a joinGroup. Raises InvalidType or InvalidValue for a name that cannot be one."""
    check_group(group)
    return _encode(JoinGroup(group, ack_id))


def encode_leave(group: str, ack_id: int) -> bytes:
    """Encode a leaveGroup. Raises as :func:`encode_join`."""
    check_group(group)
    return _encode(LeaveGroup(group, ack_id))


def encode_send(group: str, data: Any, data_type: str | None, no_echo: bool, ack_id: int | None, limit: int) -> bytes:
    """Encode a sendToGroup.

    Args:
        ack_id: None: the service shall not answer.
        limit: the largest size in bytes.

    Raises:
        InvalidType, InvalidValue: the message names the argument.
    """
    check_group(group)
    data_type = check_data(data, data_type)
    return _encode_data(SendToGroup(group, data_type, data, ack_id, bool(no_echo)), limit)


def encode_event(event: str, data: Any, data_type: str | None, ack_id: int | None, limit: int) -> bytes:
    """Encode an event. Arguments and errors are those of :func:`encode_send`."""
    check_event_name(event)
    data_type = check_data(data, data_type)
    return _encode_data(SendEvent(event, data_type, data, ack_id), limit)


def with_ack_id(message: bytes, ack_id: int) -> bytes:
    """Return ``message``, which was encoded without an ack id, with ``ack_id``."""
    return b'%b,"ackId":%d}' % (message[:-1], ack_id)


def encode_json(data: Any) -> bytes:
    """Encode data as JSON of the same value.

    Raises:
        InvalidType: JSON has nothing for a type in it.
        InvalidValue: JSON cannot hold a value in it (nan, inf, half of a surrogate pair), or it is nested too deeply.
    """
    return _encode_checked(data, data)


def _encode_checked(whole: Any, data: Any) -> bytes:
    """Encode ``whole``, refusing nan and inf in ``data``, for which the encoder writes null."""
    found = None
    try:
        encoded = _encode(whole)
        if data is not None and may_hold_null(encoded):
            found = find_non_finite(data)
    except TypeError as error:
        raise InvalidType(f"data cannot be encoded as JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidValue(f"data cannot be encoded as JSON: {error}") from None
    if found is not None:
        path, number = found
        where = f" ({path})" if path != "data" else ""
        raise InvalidValue(
            f"data must not hold {number!r}{where}: JSON has no such number, and null would arrive in its place"
        )
    return encoded


def _encode_data(request: SendToGroup | SendEvent, limit: int) -> bytes:
    message = _encode_checked(request, request.data if request.data_type == "json" else None)
    if len(message) > limit:
        raise InvalidValue(
            f"data is too large: {len(message)} bytes as a message, above max_request_size ({limit} bytes)"
        )
    return message


def sequence_ack(sequence_id: int) -> bytes:
    """Encode the message that acknowledges everything up to ``sequence_id`` (client-spec 3.2.3)."""
    return b'{"type":"sequenceAck","sequenceId":%d}' % sequence_id
