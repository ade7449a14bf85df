"""The states of a group, as a live mapping with a stream of the changes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Generic, TypeVar

from limpet import GroupState, GroupStatesChanged, LocalProtocolError, Session
from limpet._clients.streams import EventStream
from limpet_core.text import short_repr

S = TypeVar("S")

_NOBODY: Mapping[str, GroupState] = {}


class StatesView(Mapping[str, GroupState], Generic[S]):
    """The states of a group as they are at the moment: connection id to state; empty while they are not subscribed.

    Each call looks anew; an iteration goes over the states of the moment at which it began. To keep those of a moment,
    copy them: ``dict(states)``.

    Attributes:
        group: the group's name.
        changes: the stream of :class:`limpet.GroupStatesChanged`, from the subscription on.
    """

    def __init__(self, session: Session, group: str, changes: S) -> None:
        self._session = session
        self.group: str = group
        self.changes: S = changes

    def _states(self) -> Mapping[str, GroupState]:
        try:
            return self._session.group_states(self.group)
        except LocalProtocolError:
            return _NOBODY

    def __getitem__(self, connection_id: str) -> GroupState:
        return self._states()[connection_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._states())

    def __len__(self) -> int:
        return len(self._states())

    def __repr__(self) -> str:
        return f"<states of the group {self.group!r}: {short_repr(dict(self._states()))}>"


class GroupStates(StatesView[EventStream[GroupStatesChanged]]):
    """The states of a group, live, and with ``async for`` their changes; made by ``client.watch_group_states()``.

    A mapping of connection id to :class:`limpet.GroupState` that cannot be changed.
    """

    def __aiter__(self) -> AsyncIterator[GroupStatesChanged]:
        return aiter(self.changes)
