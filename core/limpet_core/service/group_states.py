"""The states of groups: what each member says about itself, and who is told."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, TypeAlias

from limpet_core.protocol.close import Close
from limpet_core.protocol.names import hub_identity
from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.observers import Observers
from limpet_core.service.connections.registry import Registry
from limpet_core.service.wire import to_client
from limpet_core.service.wire.requests import GroupStateRequest, SetGroupState, SubscribeGroupState

# Bytes of the items of one update: many changes at once are several messages.
_BATCH: Final = 64 * 1024


class _Group:
    """The states of one group.

    Attributes:
        states: the encoded items of a snapshot, by connection.
        size: their bytes together.
        watchers: the connections that have subscribed, as keys.
        changed: the encoded items of the next update, by connection.
        fresh: the watchers that get a snapshot next, as keys.
    """

    __slots__ = ("changed", "fresh", "hub", "name", "size", "states", "watchers")

    def __init__(self, hub: str, name: str) -> None:
        self.hub = hub
        self.name = name
        self.states: dict[Connection, bytes] = {}
        self.size = 0
        self.watchers: dict[Connection, None] = {}
        self.changed: dict[Connection, bytes] = {}
        self.fresh: dict[Connection, None] = {}


SavedGroup: TypeAlias = tuple[str, str, Mapping[Connection, bytes], Iterable[Connection]]
"""The hub and the name of a group, the encoded states of its members, and its watchers."""


class GroupStates:
    """The states of all groups of all hubs, by connection (js, and its next version).

    Changes are told when the service is asked for its output, all of one group at once: so ten thousand members who
    leave together are no burst that a watcher could not take. A snapshot is one message, so the states of one group
    are refused beyond the size of a message.
    """

    def __init__(self, registry: Registry, observers: Observers, unix_time: Callable[[], float]) -> None:
        self._registry = registry
        self._observers = observers
        self._unix_time = unix_time
        self._groups: dict[tuple[str, str], _Group] = {}
        self._with_news: dict[_Group, None] = {}
        registry.listen(self)
        registry.on_leave(self.left)

    def of(self, hub: str, group: str) -> dict[str, Mapping[str, str]]:
        """Return the states of a group, by connection id."""
        found = self._groups.get((hub_identity(hub), group))
        return {} if found is None else {each.connection_id: each.group_states[group] for each in found.states}

    # ---- Snapshots

    def save(self) -> list[SavedGroup]:
        """Return all groups, after :meth:`send_changes`; to be read before the next change. See :meth:`restore`."""
        return [(group.hub, group.name, group.states, group.watchers) for group in self._groups.values()]

    def restore(self, groups: Iterable[SavedGroup]) -> None:
        """Have the states and watchers of a snapshot; the connections have their parts already. Nobody is told."""
        self._groups.clear()
        self._with_news.clear()
        for hub, name, states, watchers in groups:
            group = self._groups[hub, name] = _Group(hub, name)
            group.states = dict(states)
            group.size = sum(map(len, group.states.values()))
            group.watchers = dict.fromkeys(watchers)

    # ---- What clients say

    def carry_out(self, connection: Connection, request: GroupStateRequest) -> tuple[str, str] | None:
        """Carry out a request; return the name and the text of an error if it is refused."""
        group = request.group
        if isinstance(request, SetGroupState):
            if request.state is not None:
                return self._set(connection, group, request.state)
            self.left(connection, group)
        elif isinstance(request, SubscribeGroupState):
            return self._watch(connection, group)
        elif group in connection.watched_groups:
            self._unwatch(connection, group)
            self._observers.states_unwatched(connection, group)
        return None

    def send_snapshot_again(self, connection: Connection, group: str) -> None:
        """Send a snapshot to a client whose subscription of a group was acknowledged before, if it still has it."""
        if group in connection.watched_groups:
            found = self._group(connection, group)
            found.fresh[connection] = None
            self._with_news[found] = None

    def _set(self, connection: Connection, group: str, state: Mapping[str, str]) -> tuple[str, str] | None:
        if group not in connection.groups:
            return ("Forbidden", f"The client is not in group '{group}', so it has no state there.")
        limits = self._registry.limits
        size = sum(len(name.encode()) + len(value.encode()) for name, value in state.items())
        if size > limits.group_state_bytes:
            limit = limits.group_state_bytes
            return ("BadRequest", f"The state has {size} bytes in names and values together; {limit} are allowed.")
        if group not in connection.group_states and len(connection.group_states) >= limits.group_states:
            return ("BadRequest", f"The client has a state in {limits.group_states} groups, which is the limit.")
        found = self._group(connection, group)
        item = self._item(connection, state)
        total = found.size - len(found.states.get(connection, b"")) + len(item)
        if total > limits.max_message_size:
            self._discard_empty(found)
            return ("BadRequest", "All states of the group together are too large for one message.")
        found.size = total
        found.states[connection] = item
        connection.group_states[group] = state
        self._observers.state_set(connection, group, state, len(found.watchers))
        self._note(found, connection, item)
        return None

    def _watch(self, connection: Connection, group: str) -> tuple[str, str] | None:
        limit = self._registry.limits.group_states
        if not _may_watch(connection, group):
            return (
                "Forbidden",
                f"The client is not in group '{group}' and does not have permission to join it, which its states need.",
            )
        if group not in connection.watched_groups and len(connection.watched_groups) >= limit:
            return ("BadRequest", f"The client watches the states of {limit} groups, which is the limit.")
        if self._registry.is_alive(connection):
            found = self._group(connection, group)
            connection.watched_groups[group] = None
            found.watchers[connection] = None
            self._observers.states_watched(connection, group, len(found.states))
            self.send_snapshot_again(connection, group)
        return None

    # ---- What ends states

    def left(self, connection: Connection, group: str) -> None:
        """Handle that a client has left a group, or clears its state there. Does nothing if there is no state."""
        if connection.group_states.pop(group, None) is not None:
            found = self._group(connection, group)
            found.size -= len(found.states.pop(connection))
            self._observers.state_cleared(connection, group, len(found.watchers))
            self._note(found, connection, self._item(connection, None))
            self._discard_empty(found)

    def opened(self, connection: Connection) -> None:
        """Handle a new connection, which has no states."""

    def closed(self, connection: Connection, close: Close, *, by_client: bool) -> None:
        """Handle the end of a connection: its states and subscriptions end."""
        for group in list(connection.watched_groups):
            self._unwatch(connection, group)
        for group in list(connection.group_states):
            self.left(connection, group)

    # ---- Output

    def send_changes(self) -> None:
        """Send the snapshots and updates that are due."""
        while self._with_news:
            # To be told can end a slow client, whose own states are the next news.
            with_news, self._with_news = self._with_news, {}
            for group in with_news:
                self._send(group)

    def _send(self, group: _Group) -> None:
        changed, fresh = group.changed, group.fresh
        group.changed, group.fresh = {}, {}
        watchers = list(group.watchers)
        if fresh:
            snapshot = to_client.group_state_snapshot(group.name, group.states.values())
            # A client may keep a state that came by an update until an update removes it (js).
            gone = _batches(item for each, item in changed.items() if each not in group.states)
            removals = [to_client.group_state_update(group.name, items) for items in gone]
            for connection in fresh:
                for message in (snapshot, *removals):
                    self._registry.send(connection, message)
        updates = [to_client.group_state_update(group.name, items) for items in _batches(changed.values())]
        for connection in watchers if updates else ():
            if not _may_watch(connection, group.name) and connection in group.watchers:
                self._unwatch(connection, group.name)
                self._observers.states_unwatched(connection, group.name)
            elif connection not in fresh:
                for update in updates:
                    self._registry.send(connection, update)

    def _note(self, group: _Group, connection: Connection, item: bytes) -> None:
        if group.watchers:
            group.changed[connection] = item
            self._with_news[group] = None

    def _item(self, connection: Connection, state: Mapping[str, str] | None) -> bytes:
        # Strictly increasing, whatever the clock does.
        connection.state_time = max(int(self._unix_time() * 1000), connection.state_time + 1)
        return to_client.group_state_item(connection.connection_id, connection.user_id, state, connection.state_time)

    # ---- The groups

    def _group(self, connection: Connection, group: str) -> _Group:
        key = (connection.hub, group)
        found = self._groups.get(key)
        if found is None:
            found = self._groups[key] = _Group(*key)
        return found

    def _unwatch(self, connection: Connection, group: str) -> None:
        found = self._group(connection, group)
        del connection.watched_groups[group]
        del found.watchers[connection]
        found.fresh.pop(connection, None)
        self._discard_empty(found)

    def _discard_empty(self, group: _Group) -> None:
        if not group.states and not group.watchers:
            del self._groups[group.hub, group.name]


def _may_watch(connection: Connection, group: str) -> bool:
    return group in connection.groups or connection.permissions.join_leave.allows(group)


def _batches(items: Iterable[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for item in items:
        batch.append(item)
        size += len(item)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
