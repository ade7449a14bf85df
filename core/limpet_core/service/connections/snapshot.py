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

# The states of a connection that are shown.
_STATES = 3

_T = TypeVar("_T")


class ConnectionState(msgspec.Struct, frozen=True, rename="camel"):
    """The state of a connection.

    Attributes:
        attached: whether the client is connected, be it to this node or to another one of the cluster.
        unacknowledged: the number of retained messages.
        group_count: the number of groups; their names are those of the hub.
        stream_count: the number of open streams that the client publishes.
        invocation_count: the number of running invocations.
        state_count: the number of groups in which the client has a state.
        states: pairs of a group and the beginning of the client's state there, as JSON; the first few.
        node: the run of the node of a cluster that the client is connected to; empty while detached, and alone.
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
    states: tuple[tuple[str, str], ...] = ()
    node: str = ""


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


class ListedConnection(ConnectionState, frozen=True, rename="camel", kw_only=True):
    """A connection with the name of its hub."""

    hub: str


class ConnectionList(msgspec.Struct, frozen=True, rename="camel"):
    """A part of the connections of all hubs.

    Attributes:
        total: all connections.
        found: those that match the search.
        offset: those of them before the first of ``connections``.
    """

    total: int
    found: int
    offset: int
    connections: tuple[ListedConnection, ...]


class Snapshot(msgspec.Struct, frozen=True, rename="camel"):
    """The state of the service; ``hub_count`` also counts hubs beyond the limit for ``hubs``."""

    connection_count: int
    hub_count: int
    hubs: tuple[HubState, ...]


def snapshot(hubs: Collection[Hub], limit: int = 100, *, connections: bool = True) -> Snapshot:
    """Return the state of :attr:`ServiceCore.hubs`, of a bounded size.

    Args:
        limit: entries in each list, at most. The lists of all hubs together have at most ten times as many entries;
            what is left out is that of the youngest hubs.
        connections: ``False``: no hub lists its connections; see :func:`list_connections`.
    """
    listed = _Listed(limit)
    each = limit if connections else 0
    return Snapshot(
        sum(len(hub.connections) for hub in hubs),
        len(hubs),
        tuple(_hub_state(hub, listed, each) for hub in islice(hubs, limit)),
    )


def list_connections(hubs: Collection[Hub], search: str = "", offset: int = 0, limit: int = 100) -> ConnectionList:
    """Return a part of the connections, the oldest of each hub first.

    Args:
        hubs: those of :attr:`ServiceCore.hubs`.
        search: what the user id, the connection id, the hub or a group of the connection contains, in any case.
        offset: the first of the found connections that is returned; beyond the end: none are.
        limit: the number of those that are returned, at most.
    """
    text = search.casefold()
    total = sum(len(hub.connections) for hub in hubs)
    every = ((hub, connection) for hub in hubs for connection in hub.connections.values())
    if not text:
        found, some = total, list(islice(every, offset, offset + limit))
    else:
        matching = [pair for pair in every if _matches(*pair, text)]
        found, some = len(matching), matching[offset : offset + limit]
    return ConnectionList(
        total,
        found,
        offset,
        tuple(
            ListedConnection(*msgspec.structs.astuple(_connection_state(connection)), hub=hub.name)
            for hub, connection in some
        ),
    )


def _matches(hub: Hub, connection: Connection, text: str) -> bool:
    return (
        text in (connection.user_id or "").casefold()
        or text in connection.connection_id.casefold()
        or text in hub.name.casefold()
        or any(text in group.casefold() for group in connection.groups)
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


def _hub_state(hub: Hub, listed: _Listed, connection_limit: int) -> HubState:
    connections = listed.some_of(islice(hub.connections.values(), connection_limit))
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
    attachment = connection.attachment
    return ConnectionState(
        connection.connection_id,
        None if user_id is None else shortened(user_id),
        connection.subprotocol or "",
        attachment is not None,
        connection.sequence_id,
        connection.retained,
        len(connection.groups),
        len(connection.streams),
        len(connection.invocations),
        len(connection.group_states),
        tuple(
            (shortened(group), shortened(msgspec.json.encode(state).decode()))
            for group, state in islice(connection.group_states.items(), _STATES)
        ),
        "" if attachment is None or attachment.place is None else attachment.place[0],
    )
