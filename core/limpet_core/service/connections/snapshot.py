"""Snapshots of the service's state for people: without tokens and payloads, bounded in length."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

import msgspec

from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.hub import Hub


class ConnectionState(msgspec.Struct, frozen=True, rename="camel"):
    """The state of a connection.

    Attributes:
        attached: whether the connection has a transport.
        unacknowledged: the number of retained messages.
        group_count: the number of groups, also of those beyond the limit for ``groups``.
    """

    connection_id: str
    user_id: str | None
    subprotocol: str
    attached: bool
    sequence_id: int
    unacknowledged: int
    group_count: int
    groups: tuple[str, ...]


class HubState(msgspec.Struct, frozen=True, rename="camel"):
    """The state of a hub: all counts, and the oldest entries of each kind.

    Attributes:
        groups: pairs of a group's name and its number of members.
        users: pairs of a user id and the user's number of connections.
    """

    name: str
    connection_count: int
    group_count: int
    user_count: int
    connections: tuple[ConnectionState, ...]
    groups: tuple[tuple[str, int], ...]
    users: tuple[tuple[str, int], ...]


class Snapshot(msgspec.Struct, frozen=True, rename="camel"):
    """The state of the service; ``hub_count`` also counts hubs beyond the limit for ``hubs``."""

    connection_count: int
    hub_count: int
    hubs: tuple[HubState, ...]


def snapshot(hubs: Collection[Hub], limit: int = 100) -> Snapshot:
    """Return the state of :attr:`ServiceCore.hubs`; no list in it has more than ``limit`` entries."""
    return Snapshot(
        sum(len(hub.connections) for hub in hubs),
        len(hubs),
        tuple(_hub_state(hub, limit) for hub in islice(hubs, limit)),
    )


def _hub_state(hub: Hub, limit: int) -> HubState:
    return HubState(
        hub.name,
        len(hub.connections),
        len(hub.groups),
        len(hub.users),
        tuple(_connection_state(connection, limit) for connection in islice(hub.connections.values(), limit)),
        tuple((name, len(members)) for name, members in islice(hub.groups.items(), limit)),
        tuple((user, len(connections)) for user, connections in islice(hub.users.items(), limit)),
    )


def _connection_state(connection: Connection, limit: int) -> ConnectionState:
    return ConnectionState(
        connection.connection_id,
        connection.user_id,
        connection.subprotocol or "",
        connection.transport is not None,
        connection.sequence_id,
        connection.retained,
        len(connection.groups),
        tuple(islice(connection.groups, limit)),
    )
