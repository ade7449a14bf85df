"""The application's callbacks: called in the order of the events, one at a time. No event loop in here."""

from __future__ import annotations

import inspect
import logging
from asyncio import CancelledError
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, NamedTuple

from limpet import Acked, Event, InvalidType, LocalProtocolError
from limpet._cancellation import is_failure

log: logging.Logger = logging.getLogger("limpet")

Callback = Callable[[Any], object]
"""A function of one event. A returned awaitable is awaited."""


class _Awaited(NamedTuple):
    """An awaitable that a callback returned."""

    result: Awaitable[object]
    event: Event
    rest: tuple[Callback, ...]  # the event's other callbacks


class CallbackQueue:
    """Calls callbacks, and queues events while their callbacks cannot be called.

    The queue is in one of two states. Idle: the callbacks of an event are called at once. Busy: a callback has returned
    an awaitable, and later events wait until :meth:`run` has awaited it.

    Args:
        limit: events that may wait before reading is paused.
        hold: called when the limit is reached.
        release: called when half of these are gone.
        raise_later: called with an exception of a callback that is meant to end the program (``KeyboardInterrupt``,
            ``SystemExit``), to be raised out of the event loop or nursery once all events are delivered. None:
            callbacks are called elsewhere, with the events that :meth:`take` returns; the queue is always busy then.

    Attributes:
        registered: callbacks by type of event.
        busy: the state.
        raise_later: the argument.
    """

    def __init__(
        self,
        limit: int,
        hold: Callable[[], None],
        release: Callable[[], None],
        raise_later: Callable[[BaseException], object] | None,
    ) -> None:
        self.registered: dict[type, tuple[Callback, ...]] = {}
        self.busy: bool = raise_later is None
        self.raise_later: Callable[[BaseException], object] = raise_later or raise_at_once
        self._limit = limit
        self._hold = hold
        self._release = release
        self._events: deque[Event] | None = None  # made when needed: it takes 0.7 KiB, even empty
        self._full = False
        self._awaited: _Awaited | None = None

    # ---- Registration

    def on(self, event_type: type, callback: Callback) -> None:
        """Call ``callback`` with every event of ``event_type`` from now on."""
        check_types((event_type,))
        if not callable(callback):
            raise InvalidType(f"callback must be callable, not {type(callback).__name__}")
        self.registered[event_type] = (*self.registered.get(event_type, ()), callback)

    def off(self, event_type: type, callback: Callback) -> None:
        """Undo one :meth:`on`. Raises LocalProtocolError if there is none."""
        callbacks = list(self.registered.get(event_type, ()))
        if callback not in callbacks:
            raise LocalProtocolError(f"callback is not registered for {event_type.__name__}")
        callbacks.remove(callback)
        self.registered[event_type] = tuple(callbacks)

    # ---- Events

    def call(self, event: Event, callbacks: Iterable[Callback]) -> None:
        """Call ``callbacks``, up to the first that returns an awaitable."""
        rest = iter(callbacks)
        for callback in rest:
            try:
                result = callback(event)
            except (Exception, CancelledError):  # nothing is awaited here: no cancellation of this task
                log.exception("a callback for %s failed", type(event).__name__)
            except BaseException as error:  # noqa: BLE001 - raised where it ends something
                self.raise_later(error)
            else:
                if result is not None and inspect.isawaitable(result):
                    self.busy = True
                    self._awaited = _Awaited(result, event, tuple(rest))
                    return

    def put(self, event: Event) -> None:
        """Queue an event."""
        if self._events is None:
            self._events = deque()
        self._events.append(event)
        if len(self._events) >= self._limit and not self._full:
            self._full = True
            self._hold()

    @property
    def waiting(self) -> bool:
        """Whether events are queued."""
        return bool(self._events)

    def take(self) -> tuple[Event, tuple[Callback, ...]] | None:
        """Return the oldest event of the queue and its callbacks; None without one."""
        if not self._events:
            return None
        event = self._events.popleft()
        if self._full and len(self._events) <= self._limit // 2:
            self._full = False
            self._release()
        return event, self.registered.get(type(event), ())

    # ---- Awaitables

    async def run(self) -> None:
        """Await what callbacks return, and call the callbacks of queued events, until the queue is idle.

        Whatever this raises was aimed at the current task. Call :meth:`drop` then, or :meth:`resume` and this again.
        """
        while (awaited := self._next()) is not None:
            try:
                await awaited.result
            except BaseException as error:
                if not is_failure(error):
                    raise
                log.exception("a callback for %s failed", type(awaited.event).__name__)
            self.resume()

    def resume(self) -> None:
        """Call the other callbacks of an event whose awaitable has ended."""
        if (awaited := self._awaited) is not None:
            self._awaited = None
            self.call(awaited.event, awaited.rest)

    def drop(self) -> None:
        """Call the callbacks of all queued events, and give up every awaitable: no task is left to await them.

        An async callback is not begun. The queue is idle then.
        """
        dropped = 0
        while (awaited := self._next()) is not None:
            dropped += 1
            try:
                _give_up(awaited.result)
            except Exception:
                log.exception("a callback for %s failed", type(awaited.event).__name__)
            except BaseException as error:  # noqa: BLE001 - raised where it ends something
                self.raise_later(error)
            self.resume()
        if dropped:
            log.info("cancelled: %d async callbacks were not run to their end", dropped)

    def _next(self) -> _Awaited | None:
        """Call callbacks until one returns an awaitable, and return that; None: the queue is idle."""
        while self._awaited is None:
            if (queued := self.take()) is None:
                self.busy = False
                return None
            self.call(*queued)
        return self._awaited


def raise_at_once(error: BaseException) -> None:
    raise error


def _give_up(awaitable: Awaitable[object]) -> None:
    """End ``awaitable`` as the cancellation of its awaiter would."""
    if isinstance(awaitable, Coroutine):
        awaitable.close()  # else Python warns that it was never awaited
    elif callable(cancel := getattr(awaitable, "cancel", None)):
        cancel()  # a task or future


def check_types(types: Iterable[object]) -> None:
    """Raise InvalidType unless all ``types`` are classes of events that a client hands out."""
    for kind in types:
        if kind is Acked:
            raise InvalidType("Acked is not handed out: the answer to a request is what its method returns or raises")
        if kind not in Event.__args__:
            hint = "" if isinstance(kind, type) or not callable(kind) else "; a decorator is @client.on(GroupMessage)"
            raise InvalidType(f"an event type such as GroupMessage or Recovered is needed, not {kind!r}{hint}")
