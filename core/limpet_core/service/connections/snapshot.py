"""Snapshots of the service's state for people: what a page shows, without tokens and payloads, bounded."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice
from typing import TypeVar

import msgspec

from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.hub import Hub
from limpet_core.service.connections.observers import shortened

# The entries of all hubs together, in multiples of the limit for one list.
_LISTS = 10

_T = TypeVar("_T")


class ConnectionState(msgspec.Struct, frozen=True, rename="camel"):
    """The state of a connection.

    Attributes:
        attached: whether the connection has a transport.
        unacknowledged: the number of retained messages.
        group_count: the number of groups; their names are those of the hub.
        stream_count: the number of open streams that the client publishes.
        invocation_count: the number of running invocations.
        state_count: the number of groups in which the client has a state.
    """

    connection_id: str
    user_id: str | None
    subprotocol: str
    attached: bool
    sequence_id: int
    unacknowledged: int
    group_count: int
    stream_count: int = 0
    invocation_count: int = 0
    state_count: int = 0


class HubState(msgspec.Struct, frozen=True, rename="camel"):
    """The state of a hub: all counts, and the oldest entries of each kind. Long names are shortened.

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
    """Return the state of :attr:`ServiceCore.hubs`, of a bounded size.

    Args:
        limit: entries in each list, at most. The lists of all hubs together have at most ten times as many entries;
            what is left out is that of the youngest hubs.
    """
    listed = _Listed(limit)
    return Snapshot(
        sum(len(hub.connections) for hub in hubs),
        len(hubs),
        tuple(_hub_state(hub, listed) for hub in islice(hubs, limit)),
    )


class _Listed:
    """A limit for each list, and one for all lists together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._left = limit * _LISTS

    def some_of(self, entries: Iterable[_T]) -> tuple[_T, ...]:
        """Return the first entries, as many as there is room for."""
        some = tuple(islice(entries, min(self._limit, self._left)))
        self._left -= len(some)
        return some


def _hub_state(hub: Hub, listed: _Listed) -> HubState:
    connections = listed.some_of(hub.connections.values())
    groups = listed.some_of(hub.groups.items())
    users = listed.some_of(hub.users.items())
    return HubState(
        hub.name,
        len(hub.connections),
        len(hub.groups),
        len(hub.users),
        tuple(map(_connection_state, connections)),
        tuple((shortened(name), len(members)) for name, members in groups),
        tuple((shortened(user), len(connections)) for user, connections in users),
    )


def _connection_state(connection: Connection) -> ConnectionState:
    user_id = connection.user_id
    return ConnectionState(
        connection.connection_id,
        None if user_id is None else shortened(user_id),
        connection.subprotocol or "",
        connection.transport is not None,
        connection.sequence_id,
        connection.retained,
        len(connection.groups),
        len(connection.streams),
        len(connection.invocations),
        len(connection.group_states),
    )
