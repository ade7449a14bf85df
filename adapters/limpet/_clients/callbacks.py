"""The application's callbacks: called in the order of the events, one at a time. No event loop in here."""

from __future__ import annotations

import inspect
import logging
import math
from asyncio import CancelledError
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol, cast

from limpet import Acked, Event, InvalidType, Invoked, LocalProtocolError, StreamClosed, StreamOpened, StreamProgress
from limpet._transports.cancellation import is_failure

log: logging.Logger = logging.getLogger("limpet")

Callback = Callable[[Any], object]
"""A function of one event. A returned awaitable is awaited."""


STALLED_AFTER = 10.0
"""Seconds for which one callback may hold up others before the log says so."""

_LOOKS = 4
"""How often a callback is looked at in that time."""


class Running(NamedTuple):
    """A callback that has not come to its end yet; a new one for each call."""

    callback: Callback
    event: Event
    rest: tuple[Callback, ...]  # the event's other callbacks
    result: Awaitable[object] | None = None  # to be awaited, where it is not a thread that calls


class Reading(Protocol):
    """Is held as long as somebody is too far behind."""

    def hold(self) -> None:
        """Count one more who is."""
        ...

    def release(self) -> None:
        """Count one less."""
        ...


class Home(Protocol):
    """Where callbacks are called."""

    def raise_later(self, error: BaseException, /) -> object:
        """Raise ``error`` out of the event loop or nursery, after this call."""
        ...


class CallbackQueue:
    """Calls callbacks, and queues events while their callbacks cannot be called.

    The queue is in one of two states. Idle: the callbacks of an event are called at once. Busy: a callback has returned
    an awaitable, and later events wait until :meth:`run` has awaited it.

    Args:
        limit: events that may wait before reading is paused.
        reading: is held when the limit is reached, and released when half of these are gone.
        home: raises the exception of a callback that is meant to end the program (``KeyboardInterrupt``,
            ``SystemExit``) once all events are delivered.
        elsewhere: callbacks are called elsewhere, with the events that :meth:`take` returns; the queue is always busy
            then.

    Attributes:
        registered: callbacks by type of event.
        registration: another object after each change of them.
        busy: the state.
        running: the callback that others wait for; set by :meth:`call`, or by the thread that calls callbacks.
    """

    __slots__ = (
        "_events",
        "_full",
        "_home",
        "_limit",
        "_reading",
        "_seen",
        "_seen_at",
        "busy",
        "registered",
        "registration",
        "running",
    )

    def __init__(
        self,
        limit: int,
        reading: Reading,
        home: Home,
        elsewhere: bool,
    ) -> None:
        self.registered: dict[type, tuple[Callback, ...]] = {}
        self.registration: object = None
        self.busy: bool = elsewhere
        self._home = home
        self._limit = limit
        self._reading = reading
        self._events: deque[Event] | None = None  # made when needed: it takes 0.7 KiB, even empty
        self._full = False
        self.running: Running | None = None
        self._seen: Running | None = None  # at the last look
        self._seen_at = math.inf  # when it was seen first; inf: the log has told of it

    # ---- Registration

    def on(self, event_type: type, callback: Callback) -> None:
        """Call ``callback`` with every event of ``event_type`` from now on."""
        check_types((event_type,))
        if not callable(callback):
            raise InvalidType(f"callback must be callable, not {type(callback).__name__}")
        _check_signature(event_type, callback)
        self.registered[event_type] = (*self.registered.get(event_type, ()), callback)
        self.registration = object()

    def off(self, event_type: type, callback: Callback) -> None:
        """Undo one :meth:`on`. Raises LocalProtocolError if there is none."""
        callbacks = list(self.registered.get(event_type, ()))
        if callback not in callbacks:
            raise LocalProtocolError(f"callback is not registered for {event_type.__name__}")
        callbacks.remove(callback)
        self.registered[event_type] = tuple(callbacks)
        self.registration = object()

    # ---- Events

    def call(self, event: Event, callbacks: Iterable[Callback]) -> None:
        """Call ``callbacks``, up to the first that returns an awaitable."""
        rest = iter(callbacks)
        for callback in rest:
            try:
                result = callback(event)
            except BaseException as error:  # noqa: BLE001 - raised where it ends something
                self.failed(event, error)
            else:
                if result is not None and self.returned(result, callback, event, rest):
                    return

    def returned(self, result: object, callback: Callback, event: Event, rest: Iterable[Callback] = ()) -> bool:
        """Return whether the ``rest`` of the callbacks has to wait, since ``callback`` has returned an awaitable."""
        if not inspect.isawaitable(result):
            return False
        self.busy = True
        self.running = Running(callback, event, tuple(rest), result)
        return True

    def failed(self, event: Event, error: BaseException) -> None:
        """Log an exception of a callback, which is handled at the moment, or raise it later."""
        if isinstance(error, Exception | CancelledError):  # nothing is awaited here: no cancellation of this task
            log.exception("a callback for %s failed", type(event).__name__)
        else:
            self.raise_later(error)

    def raise_later(self, error: BaseException) -> None:
        """Raise ``error``, which ends the program, once all events are delivered."""
        self._home.raise_later(error)

    def put(self, event: Event) -> None:
        """Queue an event."""
        if self._events is None:
            self._events = deque()
        self._events.append(event)
        if len(self._events) >= self._limit and not self._full:
            self._full = True
            self._reading.hold()

    @property
    def waiting(self) -> int:
        """How many events are queued."""
        return len(self._events) if self._events is not None else 0

    def take(self) -> tuple[Event, tuple[Callback, ...]] | None:
        """Return the oldest event of the queue and its callbacks; None without one."""
        if not self._events:
            return None
        event = self._events.popleft()
        if self._full and len(self._events) <= self._limit // 2:
            self._full = False
            self._reading.release()
        return event, self.registered.get(type(event), ())

    # ---- Callbacks that hold up others

    @property
    def held_up(self) -> bool:
        """Whether events, or other callbacks of the same event, wait for a callback."""
        return bool(self._events) or (self.running is not None and bool(self.running.rest))

    def look(self, now: float) -> float:
        """Log a warning if one callback has held up others for :data:`STALLED_AFTER`, once for each of its calls.

        To be called when :attr:`held_up` has become true, and again at the time that this returns, ``inf`` if nothing
        is held up any more. Nothing is done for it where a callback begins or ends, so no message costs more.
        """
        running = self.running
        if not self.held_up:
            self._seen, self._seen_at = None, math.inf
            return math.inf
        if running is not self._seen:
            self._seen, self._seen_at = running, math.inf if running is None else now
        elif running is not None and now - self._seen_at >= STALLED_AFTER:
            self._seen_at = math.inf
            log.warning(
                "the callback %s for %s has not come to its end for %g s; behind it wait %s%s. Callbacks are called "
                "one at a time, so none may wait for what another is to get: hand such work to a task or thread",
                _name(running.callback),
                type(running.event).__name__,
                STALLED_AFTER,
                _count(len(self._events or ()), "event"),
                f" and {_count(len(running.rest), 'more callback')} for the same one" if running.rest else "",
            )
        return min(now + STALLED_AFTER / _LOOKS, self._seen_at + STALLED_AFTER)

    # ---- Awaitables

    async def run(self) -> None:
        """Await what callbacks return, and call the callbacks of queued events, until the queue is idle.

        Whatever this raises was aimed at the current task. Call :meth:`drop` then, or :meth:`resume` and this again.
        """
        while (running := self._next()) is not None:
            try:
                if running.result is not None:
                    await running.result
            except BaseException as error:
                if not is_failure(error):
                    raise
                log.exception("a callback for %s failed", type(running.event).__name__)
            self.resume()

    def resume(self) -> None:
        """Call the other callbacks of an event whose awaitable has ended."""
        if (running := self.running) is not None:
            self.running = None
            self.call(running.event, running.rest)

    def drop(self) -> None:
        """Call the callbacks of all queued events, and give up every awaitable: no task is left to await them.

        An async callback is not begun. The queue is idle then.
        """
        dropped = 0
        while (running := self._next()) is not None:
            dropped += 1
            try:
                give_up(running.result)
            except Exception:
                log.exception("a callback for %s failed", type(running.event).__name__)
            except BaseException as error:  # noqa: BLE001 - raised where it ends something
                self.raise_later(error)
            self.resume()
        if dropped:
            log.info("cancelled: %d async callbacks were not run to their end", dropped)

    def _next(self) -> Running | None:
        """Call callbacks until one returns an awaitable, and return that call; None: the queue is idle."""
        while self.running is None:
            if (queued := self.take()) is None:
                self.busy = False
                return None
            self.call(*queued)
        return self.running


class CallbackWrapper:
    """A callback of Limpet's own that calls one of the application's; it is equal to that, so that ``off()`` finds it.

    Attributes:
        __wrapped__: the callback, or a wrapper around it.
    """

    __slots__ = ("__wrapped__",)

    def __init__(self, callback: Callback) -> None:
        self.__wrapped__: Callback = callback

    def __eq__(self, other: object) -> bool:
        return bool(unwrapped(self) == unwrapped(other))

    def __hash__(self) -> int:
        return hash(unwrapped(self))


def unwrapped(callback: object) -> Any:
    """Return the application's callback."""
    while isinstance(callback, CallbackWrapper):
        callback = callback.__wrapped__
    return callback


def _check_signature(event_type: type, callback: Callback) -> None:
    """Raise InvalidType if ``callback`` cannot be called with one event."""
    try:
        signature = inspect.signature(callback)
    except (ValueError, TypeError):
        return  # some functions that are written in C have none
    try:
        signature.bind(None)
    except TypeError:
        raise InvalidType(
            f"callback must take the event, a {event_type.__name__}, as its one argument; "
            f"{_name(callback)} takes {signature}"
        ) from None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _name(callback: Callback) -> str:
    """Return the qualified name of a callback, or of what it is made of."""
    try:
        return _qualified_name(callback)
    except Exception:  # noqa: BLE001 - the attributes of an application's object, such as a proxy, may raise anything
        return f"{type(callback).__module__}.{type(callback).__qualname__}"


def _qualified_name(callback: Callback) -> str:
    function: Any = unwrapped(callback)
    function = getattr(function, "__wrapped__", function)
    while isinstance(function, partial):
        function = cast(Any, function).func
    if not isinstance(getattr(function, "__qualname__", None), str):
        function = cast(Any, type(function))
    return f"{function.__module__}.{function.__qualname__}"


def give_up(awaitable: object) -> None:
    """End ``awaitable`` as the cancellation of its awaiter would."""
    if isinstance(awaitable, Coroutine):
        awaitable.close()  # else Python warns that it was never awaited
    elif callable(cancel := getattr(awaitable, "cancel", None)):
        cancel()  # a task or future


def check_types(types: Iterable[object]) -> None:
    """Raise InvalidType unless all ``types`` are classes of events that a client hands out."""
    for kind in types:
        if kind is Acked or kind is Invoked:
            name = "Acked" if kind is Acked else "Invoked"
            raise InvalidType(f"{name} is not handed out: the answer to a call is what its method returns or raises")
        if isinstance(kind, type) and issubclass(kind, StreamOpened | StreamProgress | StreamClosed):
            raise InvalidType(
                f"{kind.__name__} is not handed out: the methods of the stream return or raise, and it has attributes"
            )
        if kind not in Event.__args__:
            hint = "" if isinstance(kind, type) or not callable(kind) else "; a decorator is @client.on(GroupMessage)"
            raise InvalidType(f"an event type such as GroupMessage or Recovered is needed, not {kind!r}{hint}")
