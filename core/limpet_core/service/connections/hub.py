"""A hub: its connections, by id, by user and by group."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from limpet_core.service.connections.backlog import Backlog
from limpet_core.service.connections.connection import Connection
from limpet_core.service.wire.to_client import Publication


class Hub:
    """The connections of one hub.

    Dictionaries without values serve as ordered sets: members receive in the order in which they joined.

    Attributes:
        name: in lower case.
        connections: by connection id.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.connections: dict[str, Connection] = {}
        self._groups: dict[str, dict[Connection, None]] = {}
        self._users: dict[str, dict[Connection, None]] = {}
        self._backlogs: dict[str, Backlog[Connection]] = {}

    @property
    def groups(self) -> Mapping[str, Collection[Connection]]:
        """The members of each group that has any. Do not change the hub while you iterate."""
        return self._groups

    @property
    def users(self) -> Mapping[str, Collection[Connection]]:
        """The connections of each user who has any. Do not change the hub while you iterate."""
        return self._users

    def members(self, group: str) -> Collection[Connection]:
        """Return the members of a group, perhaps none. Do not change the hub while you iterate."""
        return self._groups.get(group, ())

    def share(self, group: str, publication: Publication, left_out: Connection | None) -> Iterable[Connection]:
        """Keep a message once for the members to whom nothing is sent here; return those who must get it each."""
        if left_out is not None:
            left_out.keep_apart()
        backlog = self._backlogs.get(group)
        if backlog is None:
            backlog = self._backlogs[group] = Backlog()
        return backlog.receivers(self.members(group), publication)

    def user(self, user_id: str) -> Collection[Connection]:
        """Return the connections of a user, perhaps none. Do not change the hub while you iterate."""
        return self._users.get(user_id, ())

    def add(self, connection: Connection) -> None:
        """Add a new connection."""
        self.connections[connection.connection_id] = connection
        if connection.user_id is not None:
            self._users.setdefault(connection.user_id, {})[connection] = None

    def remove(self, connection: Connection) -> None:
        """Remove a connection and its memberships."""
        del self.connections[connection.connection_id]
        if connection.user_id is not None:
            _discard(self._users, connection.user_id, connection)
        for group in list(connection.groups):
            self.leave(connection, group)

    def join(self, connection: Connection, group: str) -> None:
        """Make a connection a member of a group; a repeat changes nothing (emulator)."""
        self._groups.setdefault(group, {})[connection] = None
        connection.groups[group] = None
        if group in self._backlogs:
            self._backlogs[group].changed()

    def leave(self, connection: Connection, group: str) -> None:
        """End the membership of a connection that is a member."""
        del connection.groups[group]
        _discard(self._groups, group, connection)
        backlog = self._backlogs.get(group)
        if backlog is not None:
            backlog.changed()
            if connection in backlog.sharers:
                connection.leave_backlog()
            if group not in self._groups:
                del self._backlogs[group]

    def restore(
        self,
        connections: Iterable[Connection],
        users: Iterable[str],
        groups: Mapping[str, Iterable[Connection]],
    ) -> None:
        """Have the connections, users and groups of a snapshot, in their order; the connections have their groups."""
        self.connections = {connection.connection_id: connection for connection in connections}
        self._users = {user_id: {} for user_id in users}
        for connection in self.connections.values():
            if connection.user_id is not None:
                self._users[connection.user_id][connection] = None
        self._groups = {group: dict.fromkeys(members) for group, members in groups.items()}
        self._backlogs = {}  # sharers of before would never take what is kept


def _discard(index: dict[str, dict[Connection, None]], key: str, connection: Connection) -> None:
    connections = index[key]
    del connections[connection]
    if not connections:
        del index[key]
