"""The part of a client that is the same whether its methods are async or block."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Generic, TypeVar, overload

import msgspec

from limpet import GroupMessage, GroupState, Instrument, InvalidType, LimpetError, ServerMessage, State, Stats
from limpet._clients.buffers import MESSAGES, Buffer
from limpet._clients.callbacks import Callback, check_types
from limpet._clients.driver import BaseDriver
from limpet._clients.incoming_buffers import Closable, Fragments, StreamsBuffer
from limpet._clients.instruments import Instruments
from limpet._clients.log import log_as_environment_says
from limpet._clients.typed import OnInvalid, TypedCallback, decoder
from limpet_core.client.incoming_streams import FollowedStream, IncomingStreams
from limpet_core.protocol.rules import check_group
from limpet_core.text import one_line

log: logging.Logger = logging.getLogger("limpet")

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callback)
D = TypeVar("D", bound=BaseDriver[Any])


class _NotGiven:
    def __repr__(self) -> str:
        return "<not given>"


_NOT_GIVEN: Any = _NotGiven()  # None is a likely slip: on(GroupMessage, print("x"))


_NO_GUARD = nullcontext()  # holds nothing: one for all


class BaseClient(Generic[D]):
    """State, callbacks and buffers of a client; requests and iteration are in its subclasses.

    Args:
        driver: runs the session.
        guard: a context manager that is held while callbacks are registered and the session is read: a lock where many
            threads use the client; None: no guard.
        instrument: the application's; None: nothing is observed.
    """

    def __init__(
        self, driver: D, guard: AbstractContextManager[Any] | None = None, *, instrument: Instrument | None = None
    ) -> None:
        if not (instrument is None or isinstance(instrument, Instrument)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(f"instrument must be a limpet.Instrument, not {type(instrument).__name__}")
        log_as_environment_says()
        self._driver = driver
        self._session = driver.session
        self._delivery = driver.delivery
        self._guard: AbstractContextManager[Any] = guard if guard is not None else _NO_GUARD
        self._instruments = None if instrument is None else Instruments(instrument, driver.session)
        self._delivery.instruments = self._instruments

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

    @property
    def stats(self) -> Stats:
        """What the client has done so far, and what waits at the moment: a new :class:`limpet.Stats` each time.

        Counters go on over reconnects, and over a stop and another start. Any thread may ask, at any time. While
        another thread runs the client, the fields need not be of the very same instant.
        """
        stats, delivery = self._session.stats, self._delivery
        return msgspec.structs.replace(
            stats,
            buffered=delivery.waiting,
            dropped=delivery.inbox.dropped,
            connected_since=None if stats.connected_since is None else self._driver.wall_time(stats.connected_since),
        )

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
    def on(self, event_type: type[T], callback: Callable[[T], R]) -> Callable[[T], R]: ...
    @overload
    def on(self, event_type: type[T]) -> Callable[[Callable[[T], R]], Callable[[T], R]]: ...
    @overload
    def on(
        self,
        event_type: type[GroupMessage[Any]],
        callback: Callable[[GroupMessage[P]], R],
        *,
        type: type[P],
        on_invalid: OnInvalid | None = None,
    ) -> Callable[[GroupMessage[P]], R]: ...
    @overload
    def on(
        self, event_type: type[GroupMessage[Any]], *, type: type[P], on_invalid: OnInvalid | None = None
    ) -> Callable[[Callable[[GroupMessage[P]], R]], Callable[[GroupMessage[P]], R]]: ...
    @overload
    def on(
        self,
        event_type: type[ServerMessage[Any]],
        callback: Callable[[ServerMessage[P]], R],
        *,
        type: type[P],
        on_invalid: OnInvalid | None = None,
    ) -> Callable[[ServerMessage[P]], R]: ...
    @overload
    def on(
        self, event_type: type[ServerMessage[Any]], *, type: type[P], on_invalid: OnInvalid | None = None
    ) -> Callable[[Callable[[ServerMessage[P]], R]], Callable[[ServerMessage[P]], R]]: ...
    def on(
        self,
        event_type: Any,
        callback: Callback = _NOT_GIVEN,
        *,
        type: Any = None,
        on_invalid: OnInvalid | None = None,
    ) -> Any:
        """Call ``callback`` with every event of ``event_type``: ``client.on(GroupMessage, show)``, or as a decorator.

        Callbacks run in the order of the events, one at a time; one that raises is logged and holds up nothing.
        ``KeyboardInterrupt`` and ``SystemExit`` leave the event loop once all events so far are delivered; on trio and
        anyio they leave ``async with client:`` in an exception group, as out of any nursery.
        Callbacks stay registered when the client stops. With an async client, a callback may be a plain or an async
        function; the blocking client calls plain functions in a thread of its own.

        Args:
            event_type: such as :class:`limpet.GroupMessage` or :class:`limpet.Recovered`.
            callback: a function of one event; left out, this returns a decorator.
            type: of messages: the type of their data, as for :meth:`events`.
            on_invalid: called with the :class:`limpet.InvalidData` of each message whose data does not fit ``type``, in
                place of ``callback``; None: such messages are logged, ever more seldom.

        Raises:
            InvalidType: ``event_type`` is no event type, ``callback`` cannot be called with one argument, or data
                cannot be decoded into ``type``.
        """
        check_types((event_type,))
        decode = decoder(type, on_invalid, (event_type,), iterates=False)

        def register(function: Callback) -> Callback:
            self._register(event_type, function if decode is None else TypedCallback(function, decode))
            return function

        return register if callback is _NOT_GIVEN else register(callback)

    def _register(self, event_type: type[Any], callback: F) -> F:
        called: Callback = callback
        if self._instruments is not None and event_type in MESSAGES and callable(callback):
            called = self._instruments.callback(callback)
        with self._guard:
            self._delivery.callbacks.on(event_type, called)
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
