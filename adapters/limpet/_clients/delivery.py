"""From events to the application: callbacks, and the buffers of iterators. No event loop in here."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, cast

from limpet import (
    Acked,
    Connected,
    Event,
    GroupMessage,
    Invoked,
    ServerMessage,
    Stopped,
    StreamClosed,
    StreamError,
    StreamOpened,
    StreamProgress,
)
from limpet._clients.buffers import Buffers, Consumers
from limpet._clients.callbacks import Callback, CallbackQueue
from limpet._clients.instruments import Instruments
from limpet._clients.stream_record import OF_STREAMS, StreamRecord
from limpet_core.nothing import NOTHING

ONLY_MESSAGES: frozenset[type] = frozenset({GroupMessage})
ONLY_ANSWERS: frozenset[type] = frozenset({Acked})


class Home(Consumers, Protocol):
    """The driver, as far as it is told of events. One object, and no bound method for each thing to tell."""

    def settle(self, event: Connected | Stopped, /) -> object:
        """Note that the client is connected or has stopped, after the callbacks for that."""
        ...

    def settle_requests(self, events: Collection[Acked], /) -> object:
        """Give the ends of requests to their callers."""
        ...

    def settle_invocation(self, event: Invoked, /) -> object:
        """Give the end of an invocation to its caller."""
        ...

    def raise_later(self, error: BaseException, /) -> object:
        """Raise ``error``, which a callback raised, out of the event loop or nursery, after this call."""
        ...


class Delivery(Buffers):
    """Delivers each event to its callbacks, in order and one at a time, and to the buffers that want it.

    Args:
        limit: see :class:`Buffers`.
        home: the driver.
        elsewhere: whether callbacks are called elsewhere, see :class:`CallbackQueue`.

    Attributes:
        callbacks: the application's.
        outgoing: what is known of the streams that the client writes.
        instruments: the application's instrument; None: there is none.
    """

    __slots__ = ("_home", "callbacks", "instruments", "outgoing")

    def __init__(self, limit: int, home: Home, *, elsewhere: bool = False) -> None:
        super().__init__(limit, home)
        self.callbacks: CallbackQueue = CallbackQueue(limit, self, home, elsewhere)
        self.outgoing: dict[StreamRecord, None] = NOTHING
        self.instruments: Instruments | None = None
        self._home = home

    @property
    def waiting(self) -> int:
        """How many events wait for callbacks and iterators; any thread may ask."""
        return self.callbacks.waiting + sum(buffer.waiting for buffer in (*tuple(self.buffers), self.inbox))

    def write(self, record: StreamRecord) -> None:
        """Note a stream that the client writes, until its end is told."""
        if self.outgoing is NOTHING:
            self.outgoing = {}
        self.outgoing[record] = None

    # ---- Events

    def deliver(self, events: list[Event]) -> None:
        """Deliver events, in order."""
        if not events:
            return
        if self.instruments is not None:
            self.instruments.observe(events)
        callbacks, inbox = self.callbacks, self.inbox
        if self.buffers.changed:
            self.buffers.catch_up()  # also where none is open any more, so that the index keeps no closed ones
        iterated = inbox.readers and not self.buffers and not callbacks.registered.get(GroupMessage)
        if iterated and ONLY_MESSAGES.issuperset(map(type, events)):
            inbox.put_all(events)
            return
        # To many requests, which were sent together, or to one.
        if type(events[0]) is Acked and ONLY_ANSWERS.issuperset(map(type, events)):
            self._home.settle_requests(cast("Collection[Acked]", events))
            return
        # Looked up anew where the kind of event changes, or what is registered: most events are like the one before.
        kind: type | None = None
        registration: object = None
        functions: tuple[Callback, ...] = ()
        only: Callback | None = None
        called = of_group = False
        for event in events:
            if type(event) is not kind or callbacks.registration is not registration:
                if type(event) is Acked:
                    self._home.settle_requests((event,))
                    continue
                kind, registration = type(event), callbacks.registration
                functions = callbacks.registered.get(kind, ())
                count = len(functions)
                only = functions[0] if count == 1 else None
                called, of_group = count > 0, kind is GroupMessage
            if only is not None and not callbacks.busy:  # the ordinary case, with no other call than the callback's
                try:
                    result = only(event)
                except BaseException as error:  # noqa: BLE001 - raised where it ends something
                    callbacks.failed(event, error)
                else:
                    if result is not None:
                        callbacks.returned(result, only, event)
            elif called:
                if callbacks.busy:
                    callbacks.put(event)
                else:
                    callbacks.call(event, functions)
            if not of_group:
                self._put(event, claimed=called)
                continue
            if self.buffers:  # not as they were before: a callback may have opened the first one
                claimed, buffers = called, self.buffers
                for buffer in buffers.takers(event):
                    if buffer in buffers and buffer.wants(event):
                        buffer.put(event)
                        claimed = True
                if claimed and not inbox.readers:
                    continue
            elif called and not inbox.readers:
                continue
            inbox.put(event)

    def _put(self, event: Event, claimed: bool) -> None:
        """Hand on an event that is no group message."""
        if isinstance(event, OF_STREAMS):
            self._tell(event.user_data, event)
            return
        buffers = self.buffers
        for buffer in buffers.takers(event) if buffers else ():
            if buffer in buffers and buffer.wants(event):
                buffer.put(event)
                claimed = True
        if type(event) is ServerMessage:
            if not claimed or self.inbox.readers:
                self.inbox.put(event)
        elif type(event) is Invoked:
            self._home.settle_invocation(event)
        elif type(event) is Connected:
            self._home.settle(event)
        elif type(event) is Stopped:
            for buffer in (*self.buffers, self.inbox):
                buffer.end(event.error)
            for record in tuple(self.outgoing):  # none, unless their own ends were lost with an interrupt
                error = StreamError("Stopped", "the client has stopped", record.acknowledged)
                self._tell(record, StreamClosed(record.stream_id, record.acknowledged, record, error))
            self._home.settle(event)

    def _tell(self, record: StreamRecord, event: StreamOpened | StreamProgress | StreamClosed) -> None:
        if isinstance(event, StreamClosed) and self.outgoing:
            self.outgoing.pop(record, None)
        record.told(event)
