"""Trace events: the arguments of observers of the service, one struct for each kind.

An observer is any function in ``ServiceCore.observers``. The service calls it in the middle of its own work, so an
observer must be quick, must not raise and must not call the service. Without observers no event is made. No event holds
a token or key; payloads and user ids are shortened.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import msgspec

__all__ = [
    "Acked",
    "ConnectionClosed",
    "ConnectionDropped",
    "ConnectionOpened",
    "ConnectionRecovered",
    "EventRaised",
    "GroupStateCleared",
    "GroupStateSet",
    "GroupStatesUnwatched",
    "GroupStatesWatched",
    "HandlerCalled",
    "HandshakeRefused",
    "InvocationAnswered",
    "InvocationCancelled",
    "InvocationFailed",
    "Invoked",
    "Joined",
    "Left",
    "Observer",
    "Published",
    "RecoveryRefused",
    "Refused",
    "SequenceAcked",
    "ShutDown",
    "StreamAcked",
    "StreamEnded",
    "StreamNacked",
    "StreamRefused",
    "StreamStarted",
    "TraceEvent",
]


class ConnectionOpened(msgspec.Struct, frozen=True, tag_field="kind", tag="opened", rename="camel"):
    """A new connection, with the groups its token joined at once."""

    hub: str
    connection_id: str
    user_id: str | None
    subprotocol: str
    groups: tuple[str, ...]


class ConnectionDropped(msgspec.Struct, frozen=True, tag_field="kind", tag="dropped", rename="camel"):
    """A reliable connection lost its transport; the client can recover it for ``window`` seconds."""

    hub: str
    connection_id: str
    user_id: str | None
    code: int
    window: float


class ConnectionRecovered(msgspec.Struct, frozen=True, tag_field="kind", tag="recovered", rename="camel"):
    """A connection has a new transport.

    Attributes:
        replayed: the number of messages that were sent again.
        replaced: whether the previous transport was still attached.
    """

    hub: str
    connection_id: str
    user_id: str | None
    replayed: int
    replaced: bool


class RecoveryRefused(msgspec.Struct, frozen=True, tag_field="kind", tag="recoveryRefused", rename="camel"):
    """A recovery was refused: the connection is unknown or over, or the token is wrong."""

    hub: str
    connection_id: str


class ConnectionClosed(msgspec.Struct, frozen=True, tag_field="kind", tag="closed", rename="camel"):
    """A connection is over."""

    hub: str
    connection_id: str
    user_id: str | None
    code: int
    reason: str


class HandshakeRefused(msgspec.Struct, frozen=True, tag_field="kind", tag="handshakeRefused", rename="camel"):
    """A client was answered with an HTTP error instead of a WebSocket."""

    hub: str
    status: int
    reason: str


class Joined(msgspec.Struct, frozen=True, tag_field="kind", tag="joined", rename="camel"):
    """A client joined a group."""

    hub: str
    connection_id: str
    user_id: str | None
    group: str


class Left(msgspec.Struct, frozen=True, tag_field="kind", tag="left", rename="camel"):
    """A client left a group."""

    hub: str
    connection_id: str
    user_id: str | None
    group: str


class Published(msgspec.Struct, frozen=True, tag_field="kind", tag="published", rename="camel", omit_defaults=True):
    """A message was sent to ``receivers`` connections.

    Attributes:
        connection_id: the sender; ``None``: the application server.
        to: the kind of receivers.
        name: the name of the group, the user id or the connection id; empty for a hub.
        data: the beginning of the payload, as JSON.
        size: the length of the whole payload as JSON, in bytes; of ``binary`` and ``protobuf`` before base64.
        stream_id: of a fragment of a stream; else ``None``.
        stream_sequence_id: the position of a fragment in its stream; else ``None``.
    """

    hub: str
    connection_id: str | None
    user_id: str | None
    to: Literal["group", "hub", "user", "connection"]
    name: str
    data_type: str
    data: str
    size: int
    receivers: int
    stream_id: str | None = None
    stream_sequence_id: int | None = None


class EventRaised(msgspec.Struct, frozen=True, tag_field="kind", tag="raised", rename="camel"):
    """A client sent an event to the application server; ``data`` and ``size`` as in :class:`Published`."""

    hub: str
    connection_id: str
    user_id: str | None
    event: str
    data_type: str
    data: str
    size: int


class Invoked(msgspec.Struct, frozen=True, tag_field="kind", tag="invoked", rename="camel"):
    """A client called an event handler for its reply; ``data`` and ``size`` as in :class:`Published`."""

    hub: str
    connection_id: str
    user_id: str | None
    invocation_id: str
    event: str
    data_type: str
    data: str
    size: int


class InvocationAnswered(msgspec.Struct, frozen=True, tag_field="kind", tag="invocationAnswered", rename="camel"):
    """An invocation has a reply; without a ``data_type`` it is empty."""

    hub: str
    connection_id: str
    user_id: str | None
    invocation_id: str
    data_type: str | None
    data: str
    size: int


class InvocationFailed(msgspec.Struct, frozen=True, tag_field="kind", tag="invocationFailed", rename="camel"):
    """An invocation failed or was refused."""

    hub: str
    connection_id: str
    user_id: str | None
    invocation_id: str
    error: str
    message: str


class InvocationCancelled(msgspec.Struct, frozen=True, tag_field="kind", tag="invocationCancelled", rename="camel"):
    """A client gave an invocation up, or its connection is over."""

    hub: str
    connection_id: str
    user_id: str | None
    invocation_id: str


class HandlerCalled(msgspec.Struct, frozen=True, tag_field="kind", tag="handlerCalled", rename="camel"):
    """A call of an event handler has ended, after all its attempts.

    Attributes:
        event: the name of the event.
        address: the URL that was called, without credentials and query.
        status: of the HTTP answer; ``None``: there was none.
        error: why there was none.
        duration: seconds from the beginning of the call to its end, the pauses between attempts included.
        attempts: 0: the handler was not called.
    """

    hub: str
    connection_id: str
    user_id: str | None
    event: str
    address: str
    status: int | None
    error: str | None
    duration: float
    attempts: int


class GroupStateSet(msgspec.Struct, frozen=True, tag_field="kind", tag="groupStateSet", rename="camel"):
    """A client has a new state in a group.

    Attributes:
        data: the beginning of the state, as JSON.
        size: the length of the whole state as JSON, in bytes.
        receivers: the number of connections that watch the states of the group.
    """

    hub: str
    connection_id: str
    user_id: str | None
    group: str
    data: str
    size: int
    receivers: int


class GroupStateCleared(msgspec.Struct, frozen=True, tag_field="kind", tag="groupStateCleared", rename="camel"):
    """A client has no state in a group any more: it cleared the state, left the group, or its connection is over."""

    hub: str
    connection_id: str
    user_id: str | None
    group: str
    receivers: int


class GroupStatesWatched(msgspec.Struct, frozen=True, tag_field="kind", tag="groupStatesWatched", rename="camel"):
    """A client subscribed to the states of a group; it gets those of ``states`` connections."""

    hub: str
    connection_id: str
    user_id: str | None
    group: str
    states: int


class GroupStatesUnwatched(msgspec.Struct, frozen=True, tag_field="kind", tag="groupStatesUnwatched", rename="camel"):
    """A client ended its subscription to the states of a group, or may not have it any more."""

    hub: str
    connection_id: str
    user_id: str | None
    group: str


class Acked(msgspec.Struct, frozen=True, tag_field="kind", tag="acked", rename="camel"):
    """A request was carried out and acknowledged."""

    hub: str
    connection_id: str
    user_id: str | None
    ack_id: int


class Refused(msgspec.Struct, frozen=True, tag_field="kind", tag="refused", rename="camel"):
    """A request was not carried out. Without an ``ack_id`` the client is not told."""

    hub: str
    connection_id: str
    user_id: str | None
    ack_id: int | None
    error: str
    message: str


class SequenceAcked(msgspec.Struct, frozen=True, tag_field="kind", tag="sequenceAcked", rename="camel"):
    """A client acknowledged all messages up to ``sequence_id``; ``unacknowledged`` messages are still retained."""

    hub: str
    connection_id: str
    user_id: str | None
    sequence_id: int
    unacknowledged: int


class StreamStarted(msgspec.Struct, frozen=True, tag_field="kind", tag="streamStarted", rename="camel"):
    """A client opened a stream to a group; it ends after ``idle_timeout`` seconds of silence."""

    hub: str
    connection_id: str
    user_id: str | None
    group: str
    stream_id: str
    idle_timeout: float


class StreamAcked(msgspec.Struct, frozen=True, tag_field="kind", tag="streamAcked", rename="camel"):
    """The fragments of a stream before ``expected`` are acknowledged; 1: the stream is started."""

    hub: str
    connection_id: str
    user_id: str | None
    stream_id: str
    expected: int


class StreamNacked(msgspec.Struct, frozen=True, tag_field="kind", tag="streamNacked", rename="camel"):
    """A message about a stream was refused; the client is to go on with the fragment ``expected``."""

    hub: str
    connection_id: str
    user_id: str | None
    stream_id: str
    expected: int
    error: str
    message: str


class StreamEnded(msgspec.Struct, frozen=True, tag_field="kind", tag="streamEnded", rename="camel"):
    """A stream is over.

    Attributes:
        fragments: the number of fragments that were published.
        error: the error that the members of the group are told; ``UserError``: the publisher's. ``None``: none.
        message: its text, if there is one.
    """

    hub: str
    connection_id: str
    user_id: str | None
    group: str
    stream_id: str
    fragments: int
    error: str | None
    message: str | None


class StreamRefused(msgspec.Struct, frozen=True, tag_field="kind", tag="streamRefused", rename="camel"):
    """A message about a stream that is not open was refused, or a stream was not opened."""

    hub: str
    connection_id: str
    user_id: str | None
    stream_id: str
    error: str
    message: str


class ShutDown(msgspec.Struct, frozen=True, tag_field="kind", tag="shutDown"):
    """The service stops; its connections are closed."""


TraceEvent: TypeAlias = (
    ConnectionOpened
    | ConnectionDropped
    | ConnectionRecovered
    | RecoveryRefused
    | ConnectionClosed
    | HandshakeRefused
    | Joined
    | Left
    | Published
    | EventRaised
    | Invoked
    | InvocationAnswered
    | InvocationFailed
    | InvocationCancelled
    | HandlerCalled
    | GroupStateSet
    | GroupStateCleared
    | GroupStatesWatched
    | GroupStatesUnwatched
    | Acked
    | Refused
    | SequenceAcked
    | StreamStarted
    | StreamAcked
    | StreamNacked
    | StreamEnded
    | StreamRefused
    | ShutDown
)
"""Any trace event."""

Observer: TypeAlias = Callable[[TraceEvent], None]
"""A function that is called with every trace event; it must be quick and must not raise."""
