"""StateCache: the states of one group, out of snapshots and updates that arrive in any order."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from limpet_core.client.events import GroupStatesChanged
from limpet_core.errors import SendError
from limpet_core.protocol.messages import GroupState

MAX_STATES: Final = 10_000
"""Connections of one group whose states are remembered; the states of further ones are ignored."""

MAX_TOMBSTONES: Final = 200
"""Connections of one group that are remembered to have no state any more (js)."""

RETENTION: Final = 300.0
"""Seconds for which is remembered that a state was removed, or that it came by an update (js)."""

_NEVER: Final = -1.0
"""Before any time."""


class StateCache:
    """The states of one group.

    A record of a connection replaces the one before only if it is *newer*: if its ``updated_at`` is strictly greater.
    A record without a state leaves a *tombstone*, so that an older record cannot bring the state back. A snapshot
    removes the states that it does not have. But an update may overtake the snapshot: so a state that came by an
    update, on this transport, is removed by an update alone. On another transport updates may have been lost, and the
    snapshot counts.

    Attributes:
        states: the state of each connection; never changed, but replaced as a whole, so that it can be handed out.
        confirmed: whether the service has answered that the group is subscribed.
        awaited: whether the application waits for a snapshot, which is told even if it changes nothing.
        ignored: how many states were ignored since :data:`MAX_STATES` connections have one.
    """

    __slots__ = ("_arrived", "_group", "_old", "_tombstones", "awaited", "confirmed", "ignored", "states")

    def __init__(self, group: str) -> None:
        self._group = group
        self.states: dict[str, GroupState] = {}
        self.confirmed: bool = False
        self.awaited: bool = True
        self.ignored: int = 0
        self._tombstones: dict[str, tuple[float, float]] = {}  # updated_at and time of arrival, the oldest first
        self._arrived: dict[str, float] = {}  # when the states that came by an update on this transport arrived
        self._old = False  # whether the states are of the connection before, but for those that arrived

    def update(
        self, items: Iterable[GroupState | None], now: float, own: Collection[str] = ()
    ) -> GroupStatesChanged | None:
        """Take in an update; return the change, if there is one.

        Args:
            items: the records, in order.
            now: the time, in seconds.
            own: ids of this client's own former connections: their states are not shown any more.
        """
        before = self.states
        states = before.copy()
        touched: dict[str, None] = {}
        for item in items:
            if item is not None and self._newer(item, states):
                touched[item.connection_id] = None
                self._apply(item, states, now, own)
                if item.connection_id in states:
                    self._arrived[item.connection_id] = now
        return self._changed(before, states, touched)

    def snapshot(
        self, items: Collection[GroupState | None], now: float, own: Collection[str] = ()
    ) -> GroupStatesChanged | None:
        """Take in a snapshot; return the change, if there is one. The arguments are those of :meth:`update`."""
        self._expire(now)
        before = self.states
        present = {item.connection_id for item in items if item is not None}
        touched = {each: None for each in before if each not in present and each not in self._arrived}
        states = {each: state for each, state in before.items() if each not in touched}
        for item in items:
            if item is not None and self._newer(item, states):
                touched[item.connection_id] = None
                self._apply(item, states, now, own)
        self._old = False
        awaited, self.awaited = self.awaited, False
        change = self._changed(before, states, touched)
        return GroupStatesChanged(self._group, (), ()) if change is None and awaited else change

    def transport_lost(self) -> None:
        """Note that the transport is lost, and with it any number of updates."""
        self._arrived.clear()

    def connection_lost(self, connection_id: str) -> GroupStatesChanged | None:
        """Remove the own state of a connection that is lost; the states of others stay until the next snapshot.

        That counts then, and not what the service said on the connection before.
        """
        self.transport_lost()
        self._tombstones.clear()
        self._old = True
        states = self.states.copy()
        states.pop(connection_id, None)
        return self._changed(self.states, states, (connection_id,))

    def clear(self, error: SendError | None = None) -> GroupStatesChanged | None:
        """Forget everything: the subscription has ended, because of ``error`` if there is one."""
        removed = tuple(self.states)
        self.states = {}
        self._tombstones.clear()
        self._arrived.clear()
        self._old = False
        if not removed and error is None:
            return None
        return GroupStatesChanged(self._group, (), removed, error)

    def _newer(self, item: GroupState, states: dict[str, GroupState]) -> bool:
        connection_id = item.connection_id
        known = states.get(connection_id)
        if known is not None and (not self._old or connection_id in self._arrived):
            return item.updated_at > known.updated_at
        return item.updated_at > self._tombstones.get(connection_id, (_NEVER, 0.0))[0]

    def _apply(self, item: GroupState, states: dict[str, GroupState], now: float, own: Collection[str]) -> None:
        connection_id = item.connection_id
        self._arrived.pop(connection_id, None)
        self._tombstones.pop(connection_id, None)
        if item.state is not None and connection_id not in own:
            if len(states) >= MAX_STATES and connection_id not in states:
                self.ignored += 1
                return
            states[connection_id] = item
            return
        states.pop(connection_id, None)
        self._tombstones[connection_id] = (item.updated_at, now)
        if len(self._tombstones) > MAX_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]

    def _expire(self, now: float) -> None:
        """Forget what was noted more than :data:`RETENTION` ago."""
        since = now - RETENTION
        for connection_id in [each for each, (_, noted) in self._tombstones.items() if noted < since]:
            del self._tombstones[connection_id]
        for connection_id in [each for each, arrived in self._arrived.items() if arrived < since]:
            del self._arrived[connection_id]

    def _changed(
        self, before: dict[str, GroupState], states: dict[str, GroupState], touched: Iterable[str]
    ) -> GroupStatesChanged | None:
        """Put ``states`` in place; return what is different in them, of the connections ``touched``."""
        changed = tuple(
            states[connection_id]
            for connection_id in touched
            if connection_id in states and states[connection_id] != before.get(connection_id)
        )
        removed = tuple(
            connection_id for connection_id in touched if connection_id in before and connection_id not in states
        )
        if not changed and not removed:
            return None
        self.states = states
        return GroupStatesChanged(self._group, changed, removed)
