"""From events to the application: callbacks in order, bounded buffers for iteration. No event loop in here."""

from __future__ import annotations

import inspect
import logging
from asyncio import CancelledError
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any

from limpet import (
    Acked,
    Connected,
    Event,
    GroupMessage,
    InvalidType,
    LimpetError,
    LocalProtocolError,
    ServerMessage,
    Stopped,
)

log: logging.Logger = logging.getLogger("limpet")

Callback = Callable[[Any], object]
"""A function of one event; what it returns is awaited if it can be."""

MESSAGES: frozenset[type] = frozenset({GroupMessage, ServerMessage})


class Buffer:
    """Events that wait for one consumer.

    Attributes:
        delivery: fills it.
        group: the only one whose messages it wants; None: it takes them of all.
        items: the events, oldest first.
        ended: no more will come.
        error: why, where it was not the application's wish.
        wake: called when there is something new, or the end.
    """

    __slots__ = ("_types", "delivery", "ended", "error", "full", "group", "items", "wake")

    def __init__(self, delivery: Delivery, types: frozenset[type], group: str | None = None) -> None:
        self.delivery: Delivery = delivery
        self._types = types
        self.group: str | None = group
        self.items: deque[Any] = deque()
        self.full: bool = False
        self.ended: bool = False
        self.error: LimpetError | None = None
        self.wake: Callable[[], None] | None = None

    def wants(self, event: Event) -> bool:
        """Whether ``event`` is for this buffer."""
        if type(event) not in self._types:
            return False
        return self.group is None or (type(event) is GroupMessage and event.group == self.group)

    def put(self, event: Event) -> None:
        """Take an event in. Over the limit, reading is paused; what was read already is still taken."""
        items = self.items
        items.append(event)
        size = len(items)
        if size >= self.delivery.limit and not self.full:
            self.full = True
            self.delivery.hold()
            self.relax()  # a consumer in another thread has taken all of it since, perhaps, and saw no reason to tell
        # Nobody sleeps beside what could be taken. Who wakes up in another thread may take `wake` away at any time.
        if size == 1 and (wake := self.wake) is not None:
            wake()

    def pop(self) -> Any:
        """Give the oldest event out; there must be one."""
        item = self.items.popleft()
        if self.full:
            self.relax()
        return item

    def relax(self) -> None:
        """Something was taken: at half the limit, reading goes on."""
        if self.full and len(self.items) <= self.delivery.limit // 2:
            self.full = False
            self.delivery.release()

    def end(self, error: LimpetError | None) -> None:
        """No more will come; what is here can still be taken."""
        self.error = error
        self.ended = True  # last: another thread looks at this first
        if (wake := self.wake) is not None:
            wake()

    def close(self) -> None:
        """The consumer is gone: its slowness must not hold up others."""
        self.delivery.buffers.discard(self)
        self.items.clear()
        if self.full:
            self.full = False
            self.delivery.release()


class Inbox(Buffer):
    """Messages for ``async for message in client``: there before the first reader is, and after the last.

    Attributes:
        readers: one thing for each iterator that takes from it.
    """

    __slots__ = ("_warned", "readers")

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery, MESSAGES)
        self.readers: set[object] = set()
        self._warned = False

    def put(self, event: Event) -> None:
        """Take a message in; without a reader, the oldest makes room for it when the limit is reached."""
        if self.readers or len(self.items) < self.delivery.limit - 1:
            Buffer.put(self, event)  # super() would cost as much as all of this
            return
        # To pause reading would stop acks as well, and with them every request.
        if not self._warned:
            self._warned = True
            log.warning(
                "nobody takes the messages that arrive; the oldest of %d are dropped now. "
                "Register a callback, or iterate over the client",
                self.delivery.limit,
            )
        with suppress(IndexError):  # another thread has taken what there was
            self.items.popleft()
        self.items.append(event)

    def close(self) -> None:
        """One reader is gone; what it did not take waits for the next."""
        self.readers.pop()
        self.relax()

    def relax(self) -> None:
        """Something was taken, or a reader is gone: without any, reading goes on."""
        if self.full and not self.readers:
            self.full = False
            self.delivery.release()
        else:
            super().relax()


class Delivery:
    """Hands each event to its callbacks, in order and one at a time, and to the buffers that want it.

    Messages that nobody takes yet wait in :attr:`inbox`, so that nothing is lost between joining a group and the
    first ``async for``.

    Args:
        limit: how many events a consumer may be behind before reading is paused.
        reading: called with False when consumers are too far behind, with True when they have caught up.
        answered: called with the end of each request.
        settle: called when the client stands or has stopped, after the callbacks for that.

    Attributes:
        held: how many consumers are too far behind; above 0, reading is to be paused.
        busy: an awaitable of a callback must be awaited first: :meth:`run` does that.
        begun: whether the client was ever started.
        raise_later: called with an exception of a callback that is meant to end the program (``KeyboardInterrupt``,
            ``SystemExit``), to be raised out of the event loop or nursery once all events are delivered.
        wrap: returns the callable to call in place of a callback, equal to it; None: callbacks are called themselves.
    """

    def __init__(
        self,
        limit: int,
        reading: Callable[[bool], None],
        answered: Callable[[Acked], None],
        settle: Callable[[Connected | Stopped], None],
    ) -> None:
        self.limit = limit
        self.held: int = 0
        self.busy: bool = False
        self.begun: bool = False
        self.raise_later: Callable[[BaseException], object] = _raise
        self.wrap: Callable[[Callback], Callback] | None = None
        self.buffers: set[Buffer] = set()
        self.inbox: Inbox = Inbox(self)
        self._reading = reading
        self._answered = answered
        self._settle = settle
        self._callbacks: dict[type, tuple[Callback, ...]] = {}
        self._backlog: deque[Event] | None = None  # made when needed: it takes 0.7 KiB, even empty
        self._backlog_full = False
        self._current: tuple[Awaitable[object], Event, tuple[Callback, ...]] | None = None

    # ---- Consumers

    def on(self, event_type: type, callback: Callback) -> None:
        """Call ``callback`` with every event of ``event_type`` from now on."""
        check_types((event_type,))
        if not callable(callback):
            raise InvalidType(f"callback must be callable, not {type(callback).__name__}")
        called = callback if self.wrap is None else self.wrap(callback)
        self._callbacks[event_type] = (*self._callbacks.get(event_type, ()), called)

    def off(self, event_type: type, callback: Callback) -> None:
        """Undo one ``on``. Raises LocalProtocolError if there is none."""
        callbacks = list(self._callbacks.get(event_type, ()))
        if callback not in callbacks:
            raise LocalProtocolError(f"callback is not registered for {event_type.__name__}")
        callbacks.remove(callback)
        self._callbacks[event_type] = tuple(callbacks)

    def hold(self) -> None:
        """A consumer is too far behind."""
        self.held += 1
        if self.held == 1:
            self._reading(False)

    def release(self) -> None:
        """A consumer has caught up, or is gone."""
        self.held -= 1
        if self.held == 0:
            self._reading(True)

    def begin(self) -> None:
        """The client starts (again): buffers that ended go on."""
        self.begun = True
        for buffer in (*self.buffers, self.inbox):
            buffer.ended = False
            buffer.error = None

    def read_inbox(self) -> Inbox:
        """The inbox, for one more reader; to be closed when that is gone."""
        self.inbox.readers.add(object())
        return self.inbox

    # ---- Delivering

    def deliver(self, events: Iterable[Event]) -> None:
        """Hand events out, in order."""
        callbacks_of = self._callbacks.get
        for event in events:
            if type(event) is Acked:
                self._answered(event)
                continue
            callbacks = callbacks_of(type(event))
            if callbacks:
                if self.busy:
                    self._queue(event)
                else:
                    self._call(event, callbacks)
            if type(event) is GroupMessage and not self.buffers:  # the ordinary case, without a call for it
                if self.inbox.readers or not callbacks:
                    self.inbox.put(event)
            else:
                self._put(event, claimed=bool(callbacks))

    def _put(self, event: Event, claimed: bool) -> None:
        for buffer in tuple(self.buffers) if self.buffers else ():
            if buffer.wants(event):
                buffer.put(event)
                claimed = True
        if type(event) in MESSAGES:
            if not claimed or self.inbox.readers:
                self.inbox.put(event)
        elif type(event) is Connected:
            self._settle(event)
        elif type(event) is Stopped:
            for buffer in (*self.buffers, self.inbox):
                buffer.end(event.error)
            self._settle(event)

    def _queue(self, event: Event) -> None:
        if self._backlog is None:
            self._backlog = deque()
        self._backlog.append(event)
        if len(self._backlog) >= self.limit and not self._backlog_full:
            self._backlog_full = True
            self.hold()

    def _call(self, event: Event, callbacks: tuple[Callback, ...]) -> None:
        rest = iter(callbacks)
        for callback in rest:
            try:
                result = callback(event)
            except (Exception, CancelledError):  # nothing is awaited in there: it is not our cancellation
                log.exception("a callback for %s failed", type(event).__name__)
            except BaseException as error:  # noqa: BLE001 - raised where it ends something
                self.raise_later(error)
            else:
                if result is not None and inspect.isawaitable(result):
                    self.busy = True
                    self._current = result, event, tuple(rest)
                    return

    @property
    def waiting(self) -> bool:
        """Whether events wait for their callbacks."""
        return bool(self._backlog)

    def take(self) -> tuple[Event, tuple[Callback, ...]] | None:
        """The oldest event that waits for its callbacks, and these; None: there is none."""
        if not self._backlog:
            return None
        event = self._backlog.popleft()
        if self._backlog_full and len(self._backlog) <= self.limit // 2:
            self._backlog_full = False
            self.release()
        return event, self._callbacks.get(type(event), ())

    async def run(self, stray: Callable[[BaseException], bool]) -> None:
        """Await what callbacks returned, one after the other, until all events are delivered.

        Args:
            stray: whether an exception is a cancellation of something that a callback awaits, and not of who awaits
                this; it is the callback's failure then. After any other, call :meth:`drop`.
        """
        while (current := self._next()) is not None:
            awaitable, event, rest = current
            try:
                await awaitable
            except BaseException as error:
                if not isinstance(error, Exception) and not stray(error):
                    raise
                log.exception("a callback for %s failed", type(event).__name__)
            self._current = None
            self._call(event, rest)

    def skip_awaited(self) -> None:
        """Give up the awaitable whose exception ended :meth:`run`, and call the other callbacks of its event."""
        if (current := self._current) is not None:
            _, event, rest = current
            self._current = None
            self._call(event, rest)

    def drop(self) -> None:
        """Nobody awaits what callbacks return any more: plain callbacks get what is left, in order, all at once.

        An async one is not begun. For the next start all is as new.
        """
        dropped = 0
        while (current := self._next()) is not None:
            awaitable, event, rest = current
            dropped += 1
            try:
                _give_up(awaitable)
            except Exception:
                log.exception("a callback for %s failed", type(event).__name__)
            except BaseException as error:  # noqa: BLE001 - raised where it ends something
                self.raise_later(error)
            self._current = None
            self._call(event, rest)
        if dropped:
            log.info("cancelled: %d async callbacks were not run to their end", dropped)

    def _next(self) -> tuple[Awaitable[object], Event, tuple[Callback, ...]] | None:
        """What is to be awaited now, and what it came from; None: all events are delivered."""
        while self._current is None:
            if (queued := self.take()) is None:
                self.busy = False
                return None
            self._call(*queued)
        return self._current


def _raise(error: BaseException) -> None:
    raise error


def _give_up(awaitable: Awaitable[object]) -> None:
    """Do what becomes of an awaitable when who awaits it is cancelled."""
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
