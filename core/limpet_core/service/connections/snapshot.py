"""What is true of the service at one moment, in a form to show: no tokens, no payloads, bounded in length."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

import msgspec

from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.hub import Hub

__all__ = ["ConnectionState", "HubState", "Snapshot", "snapshot"]


class ConnectionState(msgspec.Struct, frozen=True, rename="camel"):
    """One connection; ``group_count`` counts also those beyond the listed ``groups``."""

    connection_id: str
    user_id: str | None
    subprotocol: str
    attached: bool
    sequence_id: int
    unacknowledged: int
    group_count: int
    groups: tuple[str, ...]


class HubState(msgspec.Struct, frozen=True, rename="camel"):
    """One hub: how much there is, and the first of each in the order they came.

    ``groups`` are pairs of name and number of members, ``users`` of user id and number of connections.
    """

    name: str
    connection_count: int
    group_count: int
    user_count: int
    connections: tuple[ConnectionState, ...]
    groups: tuple[tuple[str, int], ...]
    users: tuple[tuple[str, int], ...]


class Snapshot(msgspec.Struct, frozen=True, rename="camel"):
    """The service at one moment; ``hub_count`` counts also the hubs beyond those in ``hubs``."""

    connection_count: int
    hub_count: int
    hubs: tuple[HubState, ...]


def snapshot(hubs: Collection[Hub], limit: int = 100) -> Snapshot:
    """Describe `ServiceCore.hubs`; no list in the result has more than ``limit`` entries."""
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
