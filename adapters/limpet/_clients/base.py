"""What every client has in common, whether its methods are async or block."""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar, Generic, TypeVar, overload

from limpet import (
    GroupMessage,
    InvalidType,
    LimpetError,
    LocalProtocolError,
    SendError,
    State,
)
from limpet._clients.delivery import Buffer, Callback, check_types
from limpet._clients.driver import BaseDriver, Waiter
from limpet_core.text import one_line

log: logging.Logger = logging.getLogger("limpet")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
W = TypeVar("W", bound=Waiter[Any])
F = TypeVar("F", bound=Callback)
D = TypeVar("D", bound=BaseDriver[Any])


_NOT_GIVEN: Any = object()  # None is a likely slip: on(GroupMessage, print("x"))


class BaseStream(Generic[T_co, W]):
    """Iteration, but for the waiting."""

    _END: ClassVar[type[Exception]]

    def __init__(self, buffer: Buffer, waiter: Callable[[], W], guard: AbstractContextManager[Any]) -> None:
        self._buffer = buffer
        self._waiter = waiter
        self._guard = guard
        self._news: W | None = None
        self._closed = False

    def _wait_for(self) -> W:
        """What to wait for, since there is nothing to take; raises at the end. ``buffer.wake`` is to be reset then."""
        buffer = self._buffer
        if self._closed or (buffer.ended and buffer.error is None):
            raise self._END
        if buffer.error is not None:
            raise buffer.error
        if buffer.wake is not None:
            raise LocalProtocolError(
                "somebody iterates over it already; for another reader: client.events(GroupMessage)"
            )
        if not buffer.delivery.begun:
            log.warning(
                "nothing arrives before the client is started: `async with client:` or `with client:` does that"
            )
        self._news = news = self._waiter()
        buffer.wake = self._wake
        return news

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def close(self) -> None:
        """Take no more events; what waits in the stream is dropped. Repeats do nothing."""
        with self._guard:
            if not self._closed:
                self._closed = True
                self._buffer.close()
                self._wake()

    def __del__(self, over: Callable[[], bool] = sys.is_finalizing) -> None:
        if not over():  # else a thread that will never run again may have the lock
            self.close()


class Subscription:
    """One ``subscribe()`` of a group: its buffer, and whether the service may count us among the members."""

    def __init__(self, buffer: Buffer) -> None:
        self.buffer: Buffer = buffer
        self.group: str = buffer.group or ""
        self.joined: bool = True  # also where that is not known: cancelled, or without an answer

    @contextmanager
    def joining(self) -> Generator[None]:
        """Around the request: a clear refusal needs no leaving."""
        try:
            yield
        except LimpetError as error:
            self.joined = isinstance(error, SendError) and error.outcome == "unknown"
            raise


class BaseClient(Generic[D]):
    """State, callbacks, buffers and answers; requests and iteration are each client's own.

    Args:
        driver: keeps the session going.
        guard: held while session and buffers are touched; a client of many threads has a lock.
    """

    def __init__(self, driver: D, guard: AbstractContextManager[Any] | None = None) -> None:
        self._driver = driver
        self._session = driver.session
        self._guard: AbstractContextManager[Any] = guard if guard is not None else nullcontext()
        self._delivery = driver.delivery
        self._subscriptions: Counter[str] = Counter()
        self._to_leave: set[str] = set()  # groups that one of these has joined

    # ---- What is true

    @property
    def state(self) -> State:
        """Where the client is in its life."""
        return self._session.state

    @property
    def connection_id(self) -> str | None:
        """The id of the connection, also while it is recovered; None without one."""
        return self._session.connection_id

    @property
    def user_id(self) -> str | None:
        """The user the service took us for; None without a connection, or for an anonymous user."""
        return self._session.user_id

    @property
    def groups(self) -> frozenset[str]:
        """The groups joined by this client, those to be joined again included."""
        with self._guard:
            return self._session.groups

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
        They stay registered when the client stops. With an async client, a callback may be a plain or an async
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
            self._delivery.on(event_type, callback)
        return callback

    def off(self, event_type: type[Any], callback: Callback) -> None:
        """Undo :meth:`on`. Raises LocalProtocolError if ``callback`` is not registered for ``event_type``."""
        with self._guard:
            self._delivery.off(event_type, callback)

    # ---- For the clients

    def _buffer(self, types: tuple[type[Any], ...], group: str | None = None) -> Buffer:
        """A buffer for a new stream; nothing comes in yet."""
        if not types:
            raise InvalidType("events() needs at least one event type, such as GroupMessage")
        check_types(types)
        return Buffer(self._delivery, frozenset(types), group)

    def _open(self, types: tuple[type[Any], ...], group: str | None = None) -> Buffer:
        buffer = self._buffer(types, group)
        self._delivery.buffers.add(buffer)
        return buffer

    @contextmanager
    def _subscribed(self, group: str) -> Generator[Subscription]:
        """A buffer for the group's messages; the last one to go leaves the group."""
        subscription = Subscription(self._open((GroupMessage,), group))
        with self._guard:
            self._subscriptions[group] += 1
        try:
            yield subscription
        finally:
            with self._guard:
                if subscription.joined:
                    self._to_leave.add(group)
                self._subscriptions[group] -= 1
                if not self._subscriptions[group]:
                    del self._subscriptions[group]
                    if group in self._to_leave:
                        self._to_leave.discard(group)
                        self._leave_later(group)

    def _leave_later(self, group: str) -> None:
        """Leave without waiting for the answer: the way out of a block must not hang on the network."""
        if self.state not in (State.STOPPED, State.STOPPING):
            try:
                self._session.leave_group(group, self._driver.now())
            except LimpetError as error:
                log.warning("could not leave the group %s: %s", one_line(repr(group)), error)
            else:
                self._driver.flush()
