"""From events to the application: callbacks, and bounded buffers for iteration. No event loop in here."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from limpet import Acked, Connected, Event, GroupMessage, LimpetError, ServerMessage, Stopped
from limpet._clients.callbacks import CallbackQueue, raise_at_once

log: logging.Logger = logging.getLogger("limpet")

MESSAGES: frozenset[type] = frozenset({GroupMessage, ServerMessage})


class Buffer:
    """Events that wait for one consumer.

    Attributes:
        delivery: fills the buffer.
        group: the only group whose messages the consumer wants; None: it wants those of all.
        items: the events, oldest first.
        ended: no more events will come.
        error: the client's error, if the application did not ask for the end.
        wake: called when there is a new event, and at the end.
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
        """Return whether ``event`` is for this buffer."""
        if type(event) not in self._types:
            return False
        return self.group is None or (type(event) is GroupMessage and event.group == self.group)

    def put(self, event: Event) -> None:
        """Add an event. At the limit, reading is paused; events that were read already are still added."""
        items = self.items
        items.append(event)
        size = len(items)
        if size >= self.delivery.limit and not self.full:
            self.full = True
            self.delivery.hold()
            self.relax()  # a consumer in another thread may have taken all of them before `full` was set
        # A consumer that wakes up in another thread may reset `wake` at any time.
        if size == 1 and (wake := self.wake) is not None:
            wake()

    def pop(self) -> Any:
        """Remove and return the oldest event; there must be one."""
        item = self.items.popleft()
        if self.full:
            self.relax()
        return item

    def relax(self) -> None:
        """Resume reading at half the limit; to be called after events were removed."""
        if self.full and len(self.items) <= self.delivery.limit // 2:
            self.full = False
            self.delivery.release()

    def end(self, error: LimpetError | None) -> None:
        """Note that no more events will come; those that are here can still be taken."""
        self.error = error
        self.ended = True  # last: another thread looks at this first
        if (wake := self.wake) is not None:
            wake()

    def close(self) -> None:
        """Drop everything: the consumer is gone, and must not hold up others any more."""
        self.delivery.buffers.discard(self)
        self.items.clear()
        if self.full:
            self.full = False
            self.delivery.release()


class Inbox(Buffer):
    """Messages for iteration over the client. It is there before the first reader and after the last.

    Attributes:
        readers: one object for each iterator.
    """

    __slots__ = ("_warned", "readers")

    def __init__(self, delivery: Delivery) -> None:
        super().__init__(delivery, MESSAGES)
        self.readers: set[object] = set()
        self._warned = False

    def put(self, event: Event) -> None:
        """Add a message; at the limit and without a reader, in place of the oldest one."""
        if self.readers or len(self.items) < self.delivery.limit - 1:
            Buffer.put(self, event)  # super() would cost as much as the rest
            return
        # To pause reading would stop acks as well, and so every request.
        if not self._warned:
            self._warned = True
            log.warning(
                "nobody takes the messages that arrive; the oldest of %d are dropped now. "
                "Register a callback, or iterate over the client",
                self.delivery.limit,
            )
        with suppress(IndexError):  # another thread has emptied it
            self.items.popleft()
        self.items.append(event)

    def close(self) -> None:
        """Remove one reader; messages that it did not take wait for the next."""
        self.readers.pop()
        self.relax()

    def relax(self) -> None:
        """Resume reading at half the limit, or when no reader is left."""
        if self.full and not self.readers:
            self.full = False
            self.delivery.release()
        else:
            super().relax()


class Delivery:
    """Delivers each event to its callbacks, in order and one at a time, and to the buffers that want it.

    Messages without a consumer wait in :attr:`inbox`, so that nothing is lost between joining a group and the first
    ``async for``.

    Args:
        limit: how many events a consumer may be behind before reading is paused.
        reading: called with False when consumers are too far behind, with True when they have caught up.
        answered: called with the end of each request.
        settle: called when the client is connected or has stopped, after the callbacks for that.
        raise_later: see :class:`CallbackQueue`.

    Attributes:
        callbacks: the application's.
        held: how many consumers are too far behind; above 0, reading is to be paused.
        begun: whether the client was ever started.
        buffers: the open ones, but for the inbox.
    """

    def __init__(
        self,
        limit: int,
        reading: Callable[[bool], None],
        answered: Callable[[Acked], None],
        settle: Callable[[Connected | Stopped], None],
        raise_later: Callable[[BaseException], object] | None = raise_at_once,
    ) -> None:
        self.limit = limit
        self.held: int = 0
        self.begun: bool = False
        self.callbacks: CallbackQueue = CallbackQueue(limit, self.hold, self.release, raise_later)
        self.buffers: set[Buffer] = set()
        self.inbox: Inbox = Inbox(self)
        self._reading = reading
        self._answered = answered
        self._settle = settle

    # ---- Consumers

    def hold(self) -> None:
        """Count one more consumer that is too far behind."""
        self.held += 1
        if self.held == 1:
            self._reading(False)

    def release(self) -> None:
        """Count one consumer less: it has caught up, or is gone."""
        self.held -= 1
        if self.held == 0:
            self._reading(True)

    def begin(self) -> None:
        """Reopen the buffers that have ended: the client starts (again)."""
        self.begun = True
        for buffer in (*self.buffers, self.inbox):
            buffer.ended = False
            buffer.error = None

    def read_inbox(self) -> Inbox:
        """Return the inbox, for one more reader, which must close it."""
        self.inbox.readers.add(object())
        return self.inbox

    # ---- Events

    def deliver(self, events: Iterable[Event]) -> None:
        """Deliver events, in order."""
        callbacks = self.callbacks
        registered = callbacks.registered.get
        for event in events:
            if type(event) is Acked:
                self._answered(event)
                continue
            functions = registered(type(event))
            if functions:
                if callbacks.busy:
                    callbacks.put(event)
                else:
                    callbacks.call(event, functions)
            if type(event) is GroupMessage and not self.buffers:  # the ordinary case, without a call for it
                if self.inbox.readers or not functions:
                    self.inbox.put(event)
            else:
                self._put(event, claimed=bool(functions))

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
