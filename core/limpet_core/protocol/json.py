"""The codec of the JSON subprotocols: decode the messages of the service, encode the messages of a client.

The functions and constants of :class:`~limpet_core.protocol.codec.Codec`, as a module.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

# Parts of the codec.
from limpet_core.protocol.json_requests import encode_cancel_invocation as encode_cancel_invocation
from limpet_core.protocol.json_requests import encode_event as encode_event
from limpet_core.protocol.json_requests import encode_invoke as encode_invoke
from limpet_core.protocol.json_requests import encode_join as encode_join
from limpet_core.protocol.json_requests import encode_leave as encode_leave
from limpet_core.protocol.json_requests import encode_send as encode_send
from limpet_core.protocol.json_requests import encode_set_group_state as encode_set_group_state
from limpet_core.protocol.json_requests import encode_stream_data as encode_stream_data
from limpet_core.protocol.json_requests import encode_stream_end as encode_stream_end
from limpet_core.protocol.json_requests import encode_stream_keepalive as encode_stream_keepalive
from limpet_core.protocol.json_requests import encode_stream_start as encode_stream_start
from limpet_core.protocol.json_requests import encode_subscribe_group_state as encode_subscribe_group_state
from limpet_core.protocol.json_requests import encode_unsubscribe_group_state as encode_unsubscribe_group_state
from limpet_core.protocol.json_requests import sequence_ack as sequence_ack
from limpet_core.protocol.json_requests import with_ack_id as with_ack_id
from limpet_core.protocol.lenient_json import read_object, replace_half_pairs, without_deep_values
from limpet_core.protocol.messages import (
    MAX_SEQUENCE_ID,
    AckMessage,
    Broken,
    ErrorDetail,
    GroupMessage,
    GroupState,
    GroupStateSnapshot,
    GroupStateUpdate,
    Ignored,
    Incoming,
    InvokeResponseMessage,
    PongMessage,
    ServerMessage,
    StatesMessage,
    StreamControl,
    StreamFault,
    SystemMessage,
)

binary: bool = False
ping: bytes = b'{"type":"ping"}'
ack_id_size: int = 32


def show(message: bytes, *, received: bool) -> str:
    """Return a message as text, for a log. It may hold tokens."""
    return message.decode("utf-8", "replace")


class _DataMessage(msgspec.Struct, frozen=True, gc=False, tag="message"):
    """Stands for data messages where only the ``type`` is looked at."""


_Data = GroupMessage | ServerMessage
_Answer = AckMessage | SystemMessage | PongMessage | StreamControl | InvokeResponseMessage | StatesMessage

_decode_data: Callable[[bytes | memoryview], _Data]
_decode_data = msgspec.json.Decoder(_Data).decode
_decode_control: Callable[[bytes], _Answer | _DataMessage]
_decode_control = msgspec.json.Decoder(_Answer | _DataMessage).decode
# Of two kinds: a decoder of one kind alone takes a message without a type for it.
_decode_ack: Callable[[bytes], AckMessage | PongMessage]
_decode_ack = msgspec.json.Decoder(AckMessage | PongMessage).decode
_KNOWN_TYPES = frozenset(
    {
        "message",
        "ack",
        "system",
        "pong",
        "streamAck",
        "streamNack",
        "streamClosed",
        "invokeResponse",
        "groupStateSnapshot",
        "groupStateUpdate",
    }
)
_STATES: Final[dict[str, type[StatesMessage]]] = {
    "groupStateSnapshot": GroupStateSnapshot,
    "groupStateUpdate": GroupStateUpdate,
}
# Bad UTF-8 is a ValueError, too deep nesting a RecursionError, a message of a few bytes an IndexError.
_UNREADABLE = msgspec.MsgspecError, ValueError, RecursionError, IndexError
_AROUND: Final = 2048
"""Bytes around a long string that are looked at without a look at the whole message."""

_T, _A = b"ta"


def decode(message: bytes) -> Incoming:
    """Decode one text message; never raises, whatever the peer sends.

    Args:
        message: the text's UTF-8 bytes. The caller has checked that they are UTF-8: what a decoder skips is not
            looked at again.
    """
    try:
        # Only a hint for speed, two letters of `{"type":"ack"`, which cost less to look at than all of it: which
        # decoder is tried first does not change what is understood, if it has a type.
        if message[9] == _A and message[2] == _T:
            return _decode_ack(message)
        decoded = _decode_data(message)
    except _UNREADABLE:
        return _decode_other(message)
    kind = decoded.data_type
    if (kind == "text" and type(decoded.data) is str) or kind == "json":
        return decoded
    return _convert(decoded)


def decode_long(text: memoryview) -> Incoming | None:
    """Decode one text message of many bytes that may not be UTF-8; None: it is not. Never raises.

    What it skips, a decoder does not look at, but what becomes a str it does. Of a message with one long string, only
    the few bytes around that are looked at once more.
    """
    decoded: _Data | None = None
    try:
        decoded = _decode_data(text)
    except _UNREADABLE:
        pass
    else:
        data = decoded.data
        around = len(text) - len(data) if type(data) is str and data.isascii() else len(text)
        # The string has at least as many bytes as characters. So wherever it is, all bytes that are as far as that from
        # the beginning and from the end belong to it.
        if around <= _AROUND and bytes(text[:around]).isascii() and bytes(text[-around:]).isascii():
            return _finished(decoded)
    message = bytes(text)
    if not message.isascii():
        try:
            message.decode()
        except UnicodeDecodeError:
            return None
    return decode(message) if decoded is None else _finished(decoded)


def _finished(decoded: _Data) -> Incoming:
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
    if type(control) is InvokeResponseMessage:
        return _read_reply(control)
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
    if kind in _STATES:
        return _read_states(_STATES[kind], fields)
    if isinstance(fields.get("stream"), dict):
        _mend_stream(fields, fields["stream"])
    try:
        if kind != "message":
            control = msgspec.convert(fields, _Answer)
            if type(control) is InvokeResponseMessage:
                return _read_reply(control, problem)
            return _check_identity(message, control)
        if not problem:
            return _check_stream(message, _convert(msgspec.convert(fields, _Data)))
    except (msgspec.ValidationError, RecursionError) as error:
        problem = str(error)
    broken = f"a message of type {kind!r} that does not fit: {problem}"
    return Broken(broken, sequence_id) if kind == "message" else Broken(broken, may_be_data=False)


def _read_states(kind: type[StatesMessage], fields: dict[str, Any]) -> Incoming:
    """Read the states of a group one by one: those of one connection must not hide those of the others.

    There is nothing to recover, so that a message without a group or items is worth no new transport.
    """
    group, items = fields.get("group"), fields.get("items")
    if not isinstance(group, str) or not isinstance(items, list):
        return Ignored(f"content in {fields['type']}: group must be a string, items an array")
    return kind(group, [_read_state(item) for item in cast("list[object]", items)])


def _read_state(item: object) -> GroupState | None:
    try:
        return msgspec.convert(item, GroupState)
    except (msgspec.ValidationError, RecursionError):
        return None


def _mend_stream(fields: dict[str, Any], stream: dict[str, Any]) -> None:
    """Take null for what is not there, and read the end of a stream even if its error cannot be read.

    A reader would wait for an end that is lost.
    """
    if fields.get("dataType") is None:
        fields.pop("dataType", None)
    error = stream.get("error")
    if isinstance(error, dict):
        stream["error"] = error = _without_null(cast("dict[str, Any]", error))
    try:
        msgspec.convert(error, StreamFault | None)
    except (msgspec.ValidationError, RecursionError):
        stream["error"] = {"message": "the error with which the stream ended cannot be read"}
    fields["stream"] = _without_null(stream)


def _without_null(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _check_stream(message: bytes, data: _Data | Broken) -> _Data | Broken:
    """Refuse a stream id that holds half of a surrogate pair: with U+FFFD in it, it may be the id of another stream."""
    stream = data.stream if type(data) is GroupMessage else None
    if stream is not None and "\ufffd" in stream.stream_id and replace_half_pairs(message) != message:
        return Broken("a stream id that holds half of a surrogate pair", data.sequence_id)
    return data


def _check_identity(message: bytes, control: _Answer) -> _Answer | Broken:
    """Refuse a connection id or token that holds half of a surrogate pair: with U+FFFD in it, it recovers nothing."""
    if type(control) is SystemMessage and replace_half_pairs(message) != message:
        identity = f"{control.connection_id}{control.reconnection_token}"
        if "\ufffd" in identity:
            return Broken("a connection id or token that holds half of a surrogate pair", may_be_data=False)
    return control


def _read_reply(response: InvokeResponseMessage, problem: str = "") -> InvokeResponseMessage:
    """Read the data of a reply as that of a message; a reply that cannot be read fails its own invocation alone.

    Args:
        problem: what is wrong with the message, where that is known already.
    """
    if not response.success or response.data_type is None:
        return msgspec.structs.replace(response, data=None)
    read = _convert(ServerMessage(data=response.data, data_type=response.data_type))
    if isinstance(read, Broken):
        problem = problem or read.reason
    elif not problem:
        return InvokeResponseMessage(response.invocation_id, True, response.data_type, read.data)
    text = f"the event handler was called, and its reply cannot be read: {problem}"
    return InvokeResponseMessage(response.invocation_id, error=ErrorDetail("InvalidReply", text))


def _convert(message: _Data) -> _Data | Broken:
    """Read the data of a message; that of the end of a stream may be missing or wrong, and is None then."""
    read = _read_data(message)
    if type(read) is Broken and type(message) is GroupMessage and message.stream is not None and message.stream.end:
        msgspec.structs.force_setattr(message, "data", None)
        return message
    return read


def _read_data(message: _Data) -> _Data | Broken:
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
