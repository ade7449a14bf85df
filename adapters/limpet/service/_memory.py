"""What the service remembers of itself for pages that are opened later: its newest events, in bounded memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from itertools import dropwhile
from secrets import token_hex
from time import monotonic, time
from typing import TypeVar, cast

import msgspec

from limpet_core.service import (
    Acked,
    ConnectionOpened,
    Observers,
    Published,
    SequenceAcked,
    ServiceCore,
    ShutDown,
    StreamAcked,
    TraceEvent,
)
from limpet_core.service.connections.observers import SHORT, shortened

_SHOWN_GROUPS = 6
"""Groups of a new connection in an event: one more than the page names, so that it can tell that there are more."""

_REST = 0.25
"""Seconds for which frequent events are only counted after more came than may be remembered."""

_OVERHEAD = 200
"""Bytes that an event takes besides its text."""

_FREQUENT = (Published, Acked, SequenceAcked, StreamAcked)
"""Events that come once or more with each message."""

_Event = TypeVar("_Event", bound=msgspec.Struct)


class RememberedEvent(msgspec.Struct, frozen=True):
    """An event as JSON, with its number and its time in seconds since 1970.

    Numbers count all events since the service began; those between two remembered ones were too many.
    """

    number: int
    at: float
    event: msgspec.Raw


class Memory:
    """The newest events of a service, as a page shows them: long texts are shortened.

    It costs the service little: after more than ``burst`` events at once, or ``rate`` events a second for long, those
    that come with every message are counted and not made. Events of connections are always remembered.

    Args:
        core: the service to watch.
        count: events that are remembered, at most.
        size: the bytes that they take together, at most.
        burst: events that may come at once.
        rate: events per second that may come all the time.

    Attributes:
        run: differs for each start of a service, on this machine or another.
        started: when the service began, in seconds since 1970.
        listeners: are called after each event and each rest; the argument is whether the service has ended.
    """

    def __init__(
        self, core: ServiceCore, *, count: int = 1000, size: int = 512 * 1024, burst: int = 1000, rate: float = 500.0
    ) -> None:
        self._observers: Observers = core.observers
        self._count = count
        self._size_limit = size
        self._burst = burst
        self._rate = rate
        self.listeners: set[Callable[[bool], None]] = set()
        self._events: deque[RememberedEvent] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self.begin()
        core.observers.append(self._record)

    def begin(self) -> None:
        """Begin again, without events and with totals of 0: the service has started."""
        self.run: str = token_hex(8)
        self.started: float = time()
        self._observers.totals.reset()
        self._events.clear()
        self._size = 0
        self._budget: float = self._burst
        self._recorded_at = monotonic()

    @property
    def newest(self) -> int:
        """The number of the newest event, remembered or not."""
        return self._observers.totals.events

    @property
    def size(self) -> int:
        """The bytes that the events take, about."""
        return self._size

    def since(self, number: int, limit: int) -> list[RememberedEvent]:
        """Return the newest events after the one with this number, the newest last."""
        events = list(dropwhile(lambda remembered: remembered.number <= number, self._events))
        return events[-limit:]

    def _record(self, event: TraceEvent) -> None:
        if self._timer is not None and isinstance(event, _FREQUENT):
            return  # another observer wants each event, such as the metrics: a rest is one all the same
        now = monotonic()
        self._budget = min(self._burst, self._budget + (now - self._recorded_at) * self._rate) - 1
        self._recorded_at = now
        encoded = msgspec.json.encode(event)
        if len(encoded) > SHORT or isinstance(event, ConnectionOpened):  # else no text in it is long
            encoded = msgspec.json.encode(_shown(event))
        self._events.append(RememberedEvent(self._observers.totals.events, time(), msgspec.Raw(encoded)))
        self._size += len(encoded) + _OVERHEAD
        while len(self._events) > self._count or self._size > self._size_limit:
            self._size -= len(memoryview(self._events.popleft().event)) + _OVERHEAD
        ended = isinstance(event, ShutDown)
        if ended:
            self._wake_up()
        elif self._budget < 0:
            self._rest()
        self._tell(ended)

    def _tell(self, ended: bool) -> None:
        for listener in tuple(self.listeners):
            listener(ended)

    # ---- Rests

    def _rest(self) -> None:
        if self._timer is not None:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # nobody would end the rest
        self._observers.is_brief = True
        self._timer = loop.call_later(_REST, self._end_rest)

    def _end_rest(self) -> None:
        self._wake_up()
        self._tell(False)

    def _wake_up(self) -> None:
        self._observers.is_brief = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _shown(event: _Event) -> _Event:
    """Return an event with what a page shows of it: any text of a client is short, and groups are few."""
    changes: dict[str, object] = {}
    for name in event.__struct_fields__:
        value: object = getattr(event, name)
        if isinstance(value, str):
            short: object = shortened(value)
        elif isinstance(value, tuple):
            short = tuple(map(shortened, cast("tuple[str, ...]", value)[:_SHOWN_GROUPS]))
        else:
            continue
        if short != value:
            changes[name] = short
    return msgspec.structs.replace(event, **changes) if changes else event
