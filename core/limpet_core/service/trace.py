"""Trace events: the arguments of observers of the service, one struct for each kind.

An observer is any function in :attr:`ServiceCore.observers`. The service calls it in the middle of its own work, so an
observer must be quick, must not raise and must not call the service. Without observers no event is made. No event holds
a token or key; payloads are shortened.
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
    "HandshakeRefused",
    "Joined",
    "Left",
    "Observer",
    "Published",
    "RecoveryRefused",
    "Refused",
    "SequenceAcked",
    "ShutDown",
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


class Published(msgspec.Struct, frozen=True, tag_field="kind", tag="published", rename="camel"):
    """A message was sent to ``receivers`` connections.

    Attributes:
        connection_id: the sender; ``None``: the application server.
        to: the kind of receivers.
        name: the name of the group, the user id or the connection id; empty for a hub.
        data: the beginning of the payload, as JSON.
        size: the length of the whole payload as JSON, in bytes.
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


class EventRaised(msgspec.Struct, frozen=True, tag_field="kind", tag="raised", rename="camel"):
    """A client sent an event to the application server; ``data`` and ``size`` as in :class:`Published`."""

    hub: str
    connection_id: str
    user_id: str | None
    event: str
    data_type: str
    data: str
    size: int


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
    | Acked
    | Refused
    | SequenceAcked
    | ShutDown
)
"""Any trace event."""

Observer: TypeAlias = Callable[[TraceEvent], None]
"""A function that is called with every trace event; it must be quick and must not raise."""
