"""The states of a group for code that blocks, and the block that subscribes them."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from limpet import GroupStatesChanged, Session
from limpet._clients.group_states import StatesView
from limpet._clients.misuse import OnlyBlocking
from limpet.sync._streams import EventStream
from limpet.sync._subscriptions import Subscribing, SubscriptionStream


class GroupStates(StatesView[EventStream[GroupStatesChanged]]):
    """The states of a group, live; made by ``client.watch_group_states()``.

    A mapping of connection id to :class:`limpet.GroupState` that cannot be changed. Iterate over the changes with
    ``for change in states.changes:``, since ``for`` over a mapping goes over its keys.
    """


class Watching(OnlyBlocking):
    """The context manager that ``client.watch_group_states(group)`` returns."""

    def __init__(
        self,
        session: Session,
        group: str,
        make: Callable[[], SubscriptionStream[GroupStatesChanged]],
        subscribe: Callable[[], object],
    ) -> None:
        self._session = session
        self._group = group
        self._subscribing = Subscribing(make, subscribe)

    def __enter__(self) -> GroupStates:
        return GroupStates(self._session, self._group, self._subscribing.__enter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._subscribing.__exit__(kind, error, trace)
