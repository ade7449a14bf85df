"""The part of a client that is the same whether its methods are async or block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar, overload

from limpet import GroupState, InvalidType, LimpetError, State
from limpet._clients.buffers import Buffer
from limpet._clients.callbacks import Callback, check_types
from limpet._clients.driver import BaseDriver
from limpet._clients.incoming_buffers import Closable, Fragments, StreamsBuffer
from limpet_core.client.incoming_streams import FollowedStream, IncomingStreams
from limpet_core.protocol.rules import check_group
from limpet_core.text import one_line

log: logging.Logger = logging.getLogger("limpet")

T = TypeVar("T")
F = TypeVar("F", bound=Callback)
D = TypeVar("D", bound=BaseDriver[Any])


class _NotGiven:
    def __repr__(self) -> str:
        return "<not given>"


_NOT_GIVEN: Any = _NotGiven()  # None is a likely slip: on(GroupMessage, print("x"))


class BaseClient(Generic[D]):
    """State, callbacks and buffers of a client; requests and iteration are in its subclasses.

    Args:
        driver: runs the session.
        guard: a context manager that is held while callbacks are registered and the session is read: a lock where many
            threads use the client; None: no guard.
    """

    def __init__(self, driver: D, guard: AbstractContextManager[Any] | None = None) -> None:
        self._driver = driver
        self._session = driver.session
        self._delivery = driver.delivery
        self._guard: AbstractContextManager[Any] = guard if guard is not None else nullcontext()

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__}: {self._session!r}>"

    # ---- State

    @property
    def state(self) -> State:
        """The client's state."""
        return self._session.state

    @property
    def connection_id(self) -> str | None:
        """The id of the connection, also while it is recovered; None without a connection."""
        return self._session.connection_id

    @property
    def user_id(self) -> str | None:
        """The user's id, as the service sees it; None without a connection, or for an anonymous user."""
        return self._session.user_id

    @property
    def groups(self) -> frozenset[str]:
        """The groups joined by this client, including those to be joined again."""
        with self._guard:
            return self._session.groups

    def group_states(self, group: str) -> Mapping[str, GroupState]:
        """Return the states of ``group``, which must be subscribed: connection id to state, as they are now.

        The mapping cannot be changed, and does not change; ``watch_group_states`` has a live one. The first
        :class:`limpet.GroupStatesChanged` after the subscription tells that all states are here.

        Raises:
            LocalProtocolError: the states of ``group`` are not subscribed, or ``group`` is no group name.
        """
        return self._session.group_states(group)

    # ---- Callbacks

    @overload
    def on(self, event_type: type[T], callback: Callable[[T], object]) -> Callable[[T], object]: ...
    @overload
    def on(self, event_type: type[Any]) -> Callable[[F], F]: ...
    def on(self, event_type: type[Any], callback: Callback = _NOT_GIVEN) -> Callback | Callable[[F], F]:
        """Call ``callback`` with every event of ``event_type``: ``client.on(GroupMessage, show)``, or as a decorator.

        Callbacks run in the order of the events, one at a time; one that raises is logged and holds up nothing.
        ``KeyboardInterrupt`` and ``SystemExit`` leave the event loop once all events so far are delivered; on trio and
        anyio they leave ``async with client:`` in an exception group, as out of any nursery.
        Callbacks stay registered when the client stops. With an async client, a callback may be a plain or an async
        function; the blocking client calls plain functions in a thread of its own.

        Raises:
            InvalidType: ``event_type`` is no event type, or ``callback`` cannot be called.
        """
        check_types((event_type,))
        if callback is _NOT_GIVEN:
            return lambda function: self._register(event_type, function)
        return self._register(event_type, callback)

    def _register(self, event_type: type[Any], callback: F) -> F:
        with self._guard:
            self._delivery.callbacks.on(event_type, callback)
        return callback

    def off(self, event_type: type[Any], callback: Callback) -> None:
        """Undo :meth:`on`. Raises LocalProtocolError if ``callback`` is not registered for ``event_type``."""
        with self._guard:
            self._delivery.callbacks.off(event_type, callback)

    # ---- For subclasses

    def _buffer(self, types: tuple[type[Any], ...], group: str | None = None) -> Buffer:
        """Return a buffer for a new stream, which gets no events yet."""
        if not types:
            raise InvalidType("events() needs at least one event type, such as GroupMessage")
        check_types(types)
        return Buffer(self._delivery, frozenset(types), group)

    def _streams_buffer(
        self, group: str | None, from_start_only: bool, make: Callable[[FollowedStream, Fragments], Closable]
    ) -> StreamsBuffer:
        """Return a buffer for the streams of ``client.streams()``, which gets no events yet."""
        if group is not None:
            check_group(group)
        if not isinstance(from_start_only, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(f"from_start_only must be a bool, not {type(from_start_only).__name__}")
        sorter = IncomingStreams(from_start_only=from_start_only, quote=self._session.without_secrets)
        return StreamsBuffer(self._delivery, group, sorter, make)

    def _leave_later(self, group: str) -> None:
        """Leave without waiting for the answer: the way out of a block must not hang on the network."""
        self._ask_later(self._session.leave_group, "leave the group", group)

    def _unsubscribe_later(self, group: str) -> None:
        """The same for the states of a group."""
        self._ask_later(self._session.unsubscribe_group_states, "unsubscribe the states of the group", group)

    def _ask_later(self, request: Callable[[str, float], int], what: str, group: str) -> None:
        if self.state not in (State.STOPPED, State.STOPPING):
            try:
                request(group, self._driver.now())
            except LimpetError as error:
                log.warning("could not %s %s: %s", what, one_line(repr(group)), error)
            else:
                self._driver.flush()
