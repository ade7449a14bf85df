"""The format of a snapshot: the state of a cluster as values. All nodes read it.

A field that is added, or read in another way, needs another ``FORMAT``. Numbers of connections, publications and texts
are places in their lists. What is missing here follows from the rest, from the settings, or is a node's own: the test
``test_account.py`` says so of each attribute.
"""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

from limpet_core.service.access.permissions import SavedRules
from limpet_core.service.cluster.commands import CallEnded
from limpet_core.service.cluster.members import Member
from limpet_core.service.webhooks.answers import Headers
from limpet_core.service.webhooks.cloud_events import ClientEvent
from limpet_core.service.wire.raw import RawMode
from limpet_core.service.wire.requests import (
    DataType,
    JoinGroup,
    LeaveGroup,
    SetGroupState,
    SubscribeGroupState,
    Unsigned,
    UnsubscribeGroupState,
)
from limpet_core.service.wire.to_client import StreamPlace

FORMAT: Final = 1
"""The version of the format."""

Index: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
"""A place in a list."""

Place: TypeAlias = tuple[Index, int]
"""Where an attachment is: the text that names its node, and its number there."""


class _Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    pass


class SavedStream(_Record, frozen=True, gc=False):
    """A stream of a connection, open or ended."""

    stream_id: str
    group: str
    no_echo: bool
    idle_timeout: float
    deadline: float
    expected: int
    fault: tuple[str, str] | None
    refused: int


class QueuedMessage(msgspec.Struct, frozen=True, tag="sendToGroup", tag_field="type"):
    """A message to a group that waits behind an event; ``data`` and ``metadata`` are JSON."""

    group: str
    ack_id: Unsigned | None
    no_echo: bool
    data_type: DataType
    data: bytes
    ttl_seconds: int | None
    metadata: bytes


class QueuedEvent(msgspec.Struct, frozen=True, tag="event", tag_field="type"):
    """An event that waits behind another one; ``data`` and ``metadata`` are JSON."""

    event: str
    ack_id: Unsigned | None
    data_type: DataType
    data: bytes
    metadata: bytes


QueuedRequest: TypeAlias = (
    JoinGroup | LeaveGroup | SetGroupState | SubscribeGroupState | UnsubscribeGroupState | QueuedMessage | QueuedEvent
)
"""A request that waits behind an event."""


class SavedContext(_Record, frozen=True, gc=False):
    """The state of a client at its event handlers.

    Attributes:
        subprotocol: the number of a text.
        queue: the requests, each with its size in bytes.
    """

    subprotocol: Index
    state: str | None
    cookies: dict[str, dict[str, str]]
    next_id: int
    close_reason: str | None
    queue: list[tuple[QueuedRequest, int]]


class SavedConnection(_Record, frozen=True, gc=False):
    """A connection.

    Attributes:
        hub, subprotocol: numbers of texts.
        groups: numbers of groups of the hub, in the order in which the client joined them.
        retained: numbers of publications.
        acks: see :meth:`RememberedAcks.save`.
        states: the encoded state in each group.
    """

    connection_id: str
    hub: Index
    subprotocol: Index | None
    raw: RawMode | None
    user_id: str | None
    join_leave: SavedRules
    send: SavedRules
    groups: list[Index]
    place: Place | None
    sequence_id: int
    retained: list[Index]
    acks: tuple[list[Unsigned], list[Unsigned], dict[Unsigned, tuple[str, str]]]
    streams: list[SavedStream]
    ended_streams: list[SavedStream]
    states: dict[str, bytes]
    watched: list[str]
    state_time: int
    warned_of_unknown: bool
    context: SavedContext | None


class SavedPublication(_Record, frozen=True, gc=False):
    """A message that some connections retain."""

    head: bytes
    group: str | None
    data_type: str
    data: bytes
    metadata: bytes
    expires: float
    stream: StreamPlace | None


class SavedHub(_Record, frozen=True, gc=False):
    """A hub.

    Attributes:
        users: for each user, in order, the number of the first connection.
        groups: names, and the numbers of the members in the order in which they joined.
    """

    name: str
    users: list[Index]
    groups: list[tuple[str, list[Index]]]


class SavedGroupStates(_Record, frozen=True, gc=False):
    """The order of the members with a state in a group, and of its watchers, by numbers of connections."""

    hub: str
    group: str
    members: list[Index]
    watchers: list[Index]


class OfConnected(_Record, frozen=True, gc=False, tag=1):
    """The purpose of a connected event; a disconnected event has none."""

    connection: Index


class OfEvent(_Record, frozen=True, gc=False, tag=2):
    """The purpose of a client's event, whose payload is the body of the call."""

    connection: Index
    event: ClientEvent


class OfInvocation(_Record, frozen=True, gc=False, tag=3):
    """The purpose of an invocation, whose payload is the body of the call."""

    connection: Index
    event: ClientEvent
    place: Place
    invocation_id: str
    size: int
    delay: float


class SavedCall(_Record, frozen=True, gc=False):
    """A call of an event handler.

    Attributes:
        number, executor: as in :class:`~limpet_core.service.cluster.logged_calls.PendingCall`; the executor is the
            number of a text.
        handler: its place among the handlers of the hub.
        headers: without the origin, which is a node's own.
        about: as in :class:`~limpet_core.service.webhooks.handlers.HandlerCall`.
    """

    number: int
    executor: Index
    handler: Index
    event: str
    headers: Headers
    body: bytes
    about: tuple[str, str, str | None]
    purpose: OfConnected | OfEvent | OfInvocation | None


class SavedState(_Record, frozen=True, gc=False):
    """All but connections and publications.

    Attributes:
        living: the number of the connections that are not over; the rest of the list still have calls.
        detached: numbers of connections, in the order in which their windows end, and when.
        timers: when the open streams are looked at: a time, the number of a connection, and the id of the stream.
        held: answers to invocations that are held back until a time.
    """

    position: str
    now: float
    behaviour: int
    compared: int
    compared_at: float
    digests: dict[str, bytes]
    failures: int
    members: list[Member]
    gone: list[str]
    texts: list[str]
    living: Index
    hubs: list[SavedHub]
    detached: list[tuple[Index, float]]
    timers: list[tuple[float, Index, str]]
    states: list[SavedGroupStates]
    next_call: int
    calls: list[SavedCall]
    held: list[tuple[float, SavedCall, CallEnded]]


class Pieces(_Record, frozen=True, gc=False):
    """A snapshot in encoded pieces.

    Attributes:
        settings: those of the cluster, see :class:`~limpet_core.service.cluster.commands.Hello`.
        digest: of the settings and the pieces, in this order.
        connections: lists of :class:`SavedConnection`.
        publications: lists of :class:`SavedPublication`.
        state: a :class:`SavedState`.
    """

    settings: bytes
    digest: bytes
    connections: list[bytes]
    publications: list[bytes]
    state: bytes
