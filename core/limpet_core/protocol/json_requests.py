"""The requests of a client in the JSON subprotocols, and how they are encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from limpet_core.errors import InvalidType, InvalidValue
from limpet_core.protocol.lenient_json import find_non_finite, may_hold_null
from limpet_core.protocol.messages import StreamEndError
from limpet_core.protocol.rules import check_data, check_event_name, check_group, check_metadata, check_size


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
    ttl_seconds: int | None = None
    metadata: Mapping[str, str] | None = None


class SendEvent(msgspec.Struct, frozen=True, gc=False, tag="event", rename="camel", omit_defaults=True):
    """Send an event to the application server."""

    event: str
    data_type: str
    data: Any
    ack_id: int | None = None
    metadata: Mapping[str, str] | None = None


class StreamStart(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """The stream that a start opens; ``idle_timeout_ms``: None for the service's 300 s (client-spec 3.6.1)."""

    stream_id: str
    idle_timeout_ms: int | None = None


class StartStream(msgspec.Struct, frozen=True, gc=False, tag="sendToGroup", rename="camel", omit_defaults=True):
    """Open a stream to a group."""

    group: str
    stream: StreamStart
    no_echo: bool = False


class StreamData(msgspec.Struct, frozen=True, gc=False, tag="streamData", rename="camel"):
    """Write one fragment of a stream."""

    stream_id: str
    stream_sequence_id: int
    data_type: str
    data: Any


class StreamKeepalive(msgspec.Struct, frozen=True, gc=False, tag="streamData", rename="camel"):
    """Keep a stream from its idle timeout."""

    stream_id: str


class StreamEnd(msgspec.Struct, frozen=True, gc=False, tag="streamEnd", rename="camel", omit_defaults=True):
    """End a stream."""

    stream_id: str
    error: StreamEndError | None = None


class Invoke(msgspec.Struct, frozen=True, gc=False, tag="invoke", rename="camel", omit_defaults=True):
    """Call an event handler for its reply (js)."""

    invocation_id: str
    target: str
    event: str
    metadata: Mapping[str, str] | None = None


class InvokeWithData(msgspec.Struct, frozen=True, gc=False, tag="invoke", rename="camel", omit_defaults=True):
    """Call an event handler with data for its reply (js)."""

    invocation_id: str
    target: str
    event: str
    data_type: str
    data: Any
    metadata: Mapping[str, str] | None = None


class CancelInvocation(msgspec.Struct, frozen=True, gc=False, tag="cancelInvocation", rename="camel"):
    """Give an invocation up (js)."""

    invocation_id: str


class SetGroupState(msgspec.Struct, frozen=True, gc=False, tag="setGroupState", rename="camel", omit_defaults=True):
    """Set, or without ``state`` clear, the own state in a group (js)."""

    group: str
    ack_id: int
    state: Mapping[str, str] | None = None


class SubscribeGroupState(msgspec.Struct, frozen=True, gc=False, tag="subscribeGroupState", rename="camel"):
    """Ask for the states of a group, and for their changes (js)."""

    group: str
    ack_id: int


class UnsubscribeGroupState(msgspec.Struct, frozen=True, gc=False, tag="unsubscribeGroupState", rename="camel"):
    """Ask for no more changes of the states of a group (js)."""

    group: str
    ack_id: int


def _encode_other(value: Any) -> Any:
    """Encode what the encoder does not know: subclasses of str, and models of pydantic."""
    if isinstance(value, str):
        return str.__str__(value)
    dump = getattr(value, "model_dump", None)
    if callable(dump) and not isinstance(value, type):
        return dump(mode="json")
    raise TypeError(f"Encoding objects of type {type(value).__module__}.{type(value).__qualname__} is unsupported")


_encode = msgspec.json.Encoder(enc_hook=_encode_other).encode


_known_groups: set[str] = set()
"""Names that were looked at before: one who sends much sends to few groups."""

_MOST_KNOWN: Final = 1000
_LONGEST_KNOWN: Final = 128


def _check_unknown_group(group: str) -> None:
    """Do what :func:`check_group` does, and remember the name, so that it is not looked at with each message."""
    check_group(group)
    if type(group) is str and len(group) <= _LONGEST_KNOWN:
        if len(_known_groups) >= _MOST_KNOWN:
            _known_groups.clear()
        _known_groups.add(group)


def encode_join(group: str, ack_id: int) -> bytes:
    """Encode a joinGroup. Raises InvalidType or InvalidValue for a name that cannot be one."""
    check_group(group)
    return _encode(JoinGroup(group, ack_id))


def encode_leave(group: str, ack_id: int) -> bytes:
    """Encode a leaveGroup. Raises as :func:`encode_join`."""
    check_group(group)
    return _encode(LeaveGroup(group, ack_id))


def encode_send(
    group: str,
    data: Any,
    data_type: str | None,
    no_echo: bool,
    ack_id: int | None,
    limit: int,
    ttl_seconds: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Encode a sendToGroup.

    Args:
        ack_id: None: the service shall not answer.
        limit: the largest size in bytes.

    Raises:
        InvalidType, InvalidValue: the message names the argument.
    """
    # What is usual needs no call; the others find what is wrong.
    if type(group) is not str or group not in _known_groups:
        _check_unknown_group(group)
    if data_type is None and type(data) is str and data.isascii() and metadata is None:
        no_echo = no_echo is not False and bool(no_echo)
        message = _encode(SendToGroup(group, "text", data, ack_id, no_echo, ttl_seconds))
        return message if len(message) <= limit else check_size(message, limit, "data")
    data_type = check_data(data, data_type)
    if metadata is not None:
        metadata = check_metadata(metadata)
    return _encode_data(SendToGroup(group, data_type, data, ack_id, bool(no_echo), ttl_seconds, metadata), limit)


def encode_event(
    event: str,
    data: Any,
    data_type: str | None,
    ack_id: int | None,
    limit: int,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Encode an event. Arguments and errors are those of :func:`encode_send`."""
    check_event_name(event)
    data_type = check_data(data, data_type)
    if metadata is not None:
        metadata = check_metadata(metadata)
    return _encode_data(SendEvent(event, data_type, data, ack_id, metadata), limit)


def encode_stream_start(group: str, stream_id: str, no_echo: bool, idle_timeout_ms: int | None) -> bytes:
    """Encode the start of a stream. Raises InvalidType or InvalidValue for a name that cannot be one."""
    check_group(group)
    return _encode(StartStream(group, StreamStart(stream_id, idle_timeout_ms), bool(no_echo)))


def encode_stream_data(stream_id: str, sequence_id: int, data: Any, data_type: str | None, limit: int) -> bytes:
    """Encode one fragment. Arguments and errors are those of :func:`encode_send`."""
    data_type = check_data(data, data_type)
    return _encode_data(StreamData(stream_id, sequence_id, data_type, data), limit)


def encode_stream_keepalive(stream_id: str) -> bytes:
    """Encode the message that keeps a stream from its idle timeout."""
    return _encode(StreamKeepalive(stream_id))


def encode_stream_end(stream_id: str, error: StreamEndError | None) -> bytes:
    """Encode the end of a stream."""
    return _encode(StreamEnd(stream_id, error))


def encode_invoke(
    invocation_id: str,
    event: str,
    data: Any,
    data_type: str | None,
    limit: int,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Encode an invocation; ``data`` None without ``data_type``: no data. Errors are those of :func:`encode_send`."""
    check_event_name(event)
    if metadata is not None:
        metadata = check_metadata(metadata)
    if data is None and data_type is None:
        return check_size(_encode(Invoke(invocation_id, "event", event, metadata)), limit, "metadata")
    data_type = check_data(data, data_type)
    return _encode_data(InvokeWithData(invocation_id, "event", event, data_type, data, metadata), limit)


def encode_cancel_invocation(invocation_id: str) -> bytes:
    """Encode the message that gives an invocation up."""
    return _encode(CancelInvocation(invocation_id))


def encode_set_group_state(group: str, state: Mapping[str, str] | None, ack_id: int) -> bytes:
    """Encode the own state in a group. Raises as :func:`encode_join`."""
    check_group(group)
    return _encode(SetGroupState(group, ack_id, state))


def encode_subscribe_group_state(group: str, ack_id: int) -> bytes:
    """Encode a subscription of the states of a group. Raises as :func:`encode_join`."""
    check_group(group)
    return _encode(SubscribeGroupState(group, ack_id))


def encode_unsubscribe_group_state(group: str, ack_id: int) -> bytes:
    """Encode the end of a subscription of the states of a group. Raises as :func:`encode_join`."""
    check_group(group)
    return _encode(UnsubscribeGroupState(group, ack_id))


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


def _encode_data(request: SendToGroup | SendEvent | StreamData | InvokeWithData, limit: int) -> bytes:
    if request.data_type == "text":  # a str that can be encoded
        message = _encode(request)
    else:
        message = _encode_checked(request, request.data if request.data_type == "json" else None)
    return message if len(message) <= limit else check_size(message, limit, "data")


def sequence_ack(sequence_id: int) -> bytes:
    """Encode the message that acknowledges everything up to ``sequence_id`` (client-spec 3.2.3)."""
    return b'{"type":"sequenceAck","sequenceId":%d}' % sequence_id
