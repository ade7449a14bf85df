"""The messages from the client to the service, as they are decoded."""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from limpet_core.protocol.rules import MAX_TTL

MAX_UINT64: Final = 2**64 - 1
MAX_UINT32: Final = 2**32 - 1
MAX_STREAM_ID: Final = 1024

# A JSON number that is an unsigned integer; msgspec cannot state a bound above int64, `_check_uint64` does.
Unsigned: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
"""An integer from 0 on; :func:`~limpet_core.service.wire.from_client.decode` checks that it fits in 64 bits."""
_Ttl: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=MAX_TTL)]
DataType: TypeAlias = Literal["json", "text", "binary", "protobuf"]
"""The kind of a payload."""


class JoinGroup(msgspec.Struct, frozen=True, tag="joinGroup", tag_field="type", rename="camel"):
    """Join ``group``; an ``ack_id`` asks for an answer (client-spec 3.1)."""

    group: str
    ack_id: Unsigned | None = None


class LeaveGroup(msgspec.Struct, frozen=True, tag="leaveGroup", tag_field="type", rename="camel"):
    """Leave ``group``; an ``ack_id`` asks for an answer (client-spec 3.1)."""

    group: str
    ack_id: Unsigned | None = None


class StreamStart(msgspec.Struct, frozen=True, rename="camel"):
    """The stream that a ``sendToGroup`` without data opens (client-spec 3.6.1); unchecked."""

    stream_id: str
    idle_timeout_ms: int | None = None


class SendToGroup(msgspec.Struct, frozen=True, tag="sendToGroup", tag_field="type", rename="camel"):
    """Publish ``data`` to ``group``; the sender need not be a member (Azure docs).

    After :func:`decode`, ``data`` and ``metadata`` are valid JSON, to be copied into a message to clients
    (``metadata`` is empty if there is none). Without ``ttl_seconds``, or with 0, the message never expires. A message
    with a ``stream`` has become a :class:`StartStream`.
    """

    group: str
    ack_id: Unsigned | None = None
    no_echo: bool = False
    data_type: DataType = "json"
    data: msgspec.Raw = msgspec.Raw()
    ttl_seconds: _Ttl | None = None
    metadata: msgspec.Raw = msgspec.Raw()
    stream: StreamStart | None = None


class Event(msgspec.Struct, frozen=True, tag="event", tag_field="type", rename="camel"):
    """Send the event ``event`` to the application server (Azure docs)."""

    event: str
    ack_id: Unsigned | None = None
    data_type: DataType = "json"
    data: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()


class SequenceAck(msgspec.Struct, frozen=True, tag="sequenceAck", tag_field="type", rename="camel"):
    """Acknowledge all messages up to ``sequence_id`` (client-spec 3.2)."""

    sequence_id: Unsigned


class Ping(msgspec.Struct, frozen=True, tag="ping", tag_field="type"):
    """Ask for a pong (Azure docs)."""


class StreamMessage(msgspec.Struct, frozen=True, rename="camel"):
    """Any message about a stream of the client."""

    stream_id: str


class StartStream(StreamMessage, frozen=True):
    """Open a stream to ``group`` (client-spec 3.6.1); ``idle_timeout`` is in seconds, ``None``: the service chooses.

    On the wire it is a ``sendToGroup`` with a ``stream``.
    """

    group: str
    no_echo: bool = False
    idle_timeout: float | None = None
    ack_id: int | None = None


class StreamData(StreamMessage, frozen=True, tag="streamData", tag_field="type"):
    """Write a fragment of a stream; with ``stream_id`` alone: keep it from its idle timeout (client-spec 3.6.2).

    After :func:`decode` a fragment has all its fields, and ``data`` is valid JSON, to be copied.
    """

    stream_sequence_id: Unsigned | None = None
    data_type: DataType | None = None
    data: msgspec.Raw = msgspec.Raw()


class StreamEndError(msgspec.Struct, frozen=True, rename="camel"):
    """The error with which a publisher ends its stream (client-spec 3.6.3)."""

    message: str | None = None
    user_error_code: str | None = None


class StreamEnd(StreamMessage, frozen=True, tag="streamEnd", tag_field="type"):
    """End a stream (client-spec 3.6.3)."""

    error: StreamEndError | None = None


class Invoke(msgspec.Struct, frozen=True, tag="invoke", tag_field="type", rename="camel"):
    """Call the event handler of ``event`` for its reply (js).

    After :func:`decode`, ``data`` and ``metadata`` are as in an :class:`Event`; without data they are an empty text.
    The id, the target and the event are not checked: an answer to the invocation says what is wrong with them.
    """

    invocation_id: str
    target: str = ""
    event: str = ""
    data_type: DataType = "json"
    data: msgspec.Raw = msgspec.Raw()
    metadata: msgspec.Raw = msgspec.Raw()


class CancelInvocation(msgspec.Struct, frozen=True, tag="cancelInvocation", tag_field="type", rename="camel"):
    """Give an invocation up (js)."""

    invocation_id: str


class SetGroupState(msgspec.Struct, frozen=True, tag="setGroupState", tag_field="type", rename="camel"):
    """Set the own state in a group, the whole of it; ``state`` is ``None``: clear it (js)."""

    group: str
    ack_id: Unsigned | None = None
    state: dict[str, str] | None = None


class SubscribeGroupState(msgspec.Struct, frozen=True, tag="subscribeGroupState", tag_field="type", rename="camel"):
    """Ask for the states of a group, and for their changes (js)."""

    group: str
    ack_id: Unsigned | None = None


class UnsubscribeGroupState(msgspec.Struct, frozen=True, tag="unsubscribeGroupState", tag_field="type", rename="camel"):
    """Ask for no more changes of the states of a group (js)."""

    group: str
    ack_id: Unsigned | None = None


GroupStateRequest: TypeAlias = SetGroupState | SubscribeGroupState | UnsubscribeGroupState
"""A request about the states of a group."""

ClientRequest: TypeAlias = JoinGroup | LeaveGroup | SendToGroup | Event | GroupStateRequest
"""A message that can be acknowledged."""

ClientMessage: TypeAlias = ClientRequest | SequenceAck | Ping | StreamMessage | Invoke | CancelInvocation
"""Any message from a client, decoded."""

WireMessage: TypeAlias = ClientRequest | SequenceAck | Ping | StreamData | StreamEnd | Invoke | CancelInvocation
"""Any message from a client, as it is on the wire."""
