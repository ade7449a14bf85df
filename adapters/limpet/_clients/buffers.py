"""Bounded buffers of events that wait for iteration. No event loop in here."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from typing import Any, ClassVar, Protocol, TypeVar

from limpet import Event, GroupMessage, GroupStatesChanged, LimpetError, ServerMessage
from limpet._clients.open_buffers import NO_BUFFERS, OpenBuffers
from limpet_core.nothing import NOTHING

log: logging.Logger = logging.getLogger("limpet")

MESSAGES: frozenset[type] = frozenset({GroupMessage, ServerMessage})

T = TypeVar("T")

_NO_ITEMS: Any = ()
"""In place of a deque, which takes 0.7 KiB, even empty, until there is something to put into it."""


class Buffer:
    """Events that wait for one consumer.

    Attributes:
        delivery: the buffers of the client, this one included.
        types: the types of events that the consumer wants.
        group: the only group whose messages or changes of states the consumer wants; None: it wants those of all.
        half: of the limit; with more events than that a full buffer stays full.
        number: the place in the order in which buffers were opened; 0: the index does not know the buffer yet.
        items: the events, oldest first.
        ended: no more events will come.
        error: the client's error, if the application did not ask for the end.
        wake: called when there is a new event, and at the end.
        other_readers: what a second reader can do, for the text of an error.
    """

    other_readers: ClassVar[str] = "for another reader: client.events(GroupMessage)"

    __slots__ = ("delivery", "ended", "error", "full", "group", "half", "items", "number", "types", "wake")

    def __init__(self, delivery: Buffers, types: frozenset[type], group: str | None = None) -> None:
        self.delivery: Buffers = delivery
        self.types: frozenset[type] = types
        self.group: str | None = group
        self.half: int = delivery.limit // 2
        self.number: int = 0
        self.items: deque[Any] = deque()
        self.full: bool = False
        self.ended: bool = False
        self.error: LimpetError | None = None
        self.wake: Callable[[], None] | None = None

    def __repr__(self) -> str:
        types = " and ".join(sorted(kind.__name__ for kind in self.types))
        group = "" if self.group is None else f" of the group {self.group!r}"
        state = ", over" if self.ended else ", full" if self.full else ""
        return f"{types}{group}: {len(self.items)} waiting{state}"

    @property
    def waiting(self) -> int:
        """How many events wait."""
        return len(self.items)

    def wants(self, event: Event) -> bool:
        """Return whether ``event`` is for this buffer."""
        if type(event) not in self.types:
            return False
        if self.group is None:
            return True
        return (type(event) is GroupMessage or type(event) is GroupStatesChanged) and event.group == self.group

    def put(self, event: Event) -> None:
        """Add an event. At the limit, reading is paused; events that were read already are still added."""
        items = self.items
        items.append(event)
        size = len(items)
        if size >= self.delivery.limit and not self.full:
            self.fill()
        # A consumer that wakes up in another thread may reset `wake` at any time.
        if size == 1 and (wake := self.wake) is not None:
            wake()

    def fill(self) -> None:
        """Pause reading: as many events wait as the limit allows."""
        self.full = True
        self.delivery.hold()
        self.relax()  # a consumer in another thread may have taken all of them before `full` was set

    def pop_all(self) -> list[Any]:
        """Remove and return all events that wait, oldest first; there must be one. For one thread alone."""
        items = list(self.items)
        self.items.clear()
        if self.full:
            self.relax()
        return items

    def relax(self) -> None:
        """Resume reading at half the limit; to be called after events were removed."""
        if self.full and len(self.items) <= self.half:
            self.full = False
            self.delivery.release()

    def end(self, error: LimpetError | None) -> None:
        """Note that no more events will come; those that are here can still be taken."""
        self.error = error
        self.ended = True  # last: another thread looks at this first
        if (wake := self.wake) is not None:
            wake()

    def forget(self) -> None:
        """Drop the events that wait: this is a forked child, and the parent takes them."""
        self.items.clear()
        self.wake = None

    def close(self) -> None:
        """Drop the events that wait and take no more, so that this buffer cannot pause reading."""
        self.delivery.buffers.discard(self)
        self.items.clear()
        if self.full:
            self.full = False
            self.delivery.release()


class Inbox(Buffer):
    """Messages for iteration over the client. It is there before the first reader and after the last.

    Attributes:
        readers: one object for each iterator; nobody may be added before :meth:`open`.
        dropped: how many messages were dropped, since nobody reads.
    """

    __slots__ = ("_warned", "dropped", "readers")

    def __init__(self, delivery: Buffers) -> None:
        super().__init__(delivery, MESSAGES)
        self.items: deque[Any] = _NO_ITEMS
        self.readers: dict[object, None] = NOTHING
        self.dropped: int = 0
        self._warned = False

    def put(self, event: Event) -> None:
        """Add a message; at the limit and without a reader, in place of the oldest one."""
        if self.items is _NO_ITEMS:
            self.open()
        if self.readers or len(self.items) < self.delivery.limit - 1:
            Buffer.put(self, event)  # super() would cost as much as the rest
            return
        # To pause reading would stop acks as well, and so every request.
        if not self._warned:
            self._warned = True
            log.warning(
                "no callback or iterator reads messages: %d wait, and each new one now replaces the oldest",
                len(self.items),
            )
        with suppress(IndexError):  # another thread has emptied it
            self.items.popleft()
            self.dropped += 1
        self.items.append(event)

    def put_all(self, events: Collection[Event]) -> None:
        """Add messages while there is a reader, as so many calls of :meth:`put` do, in one step."""
        self.open()
        items = self.items
        items.extend(events)
        size = len(items)
        if size >= self.delivery.limit and not self.full:
            self.fill()
        # Not more than these: a reader in another thread may have seen that there was nothing, and wait.
        if 0 < size <= len(events) and (wake := self.wake) is not None:
            wake()

    def open(self) -> None:
        """Make room for messages and readers; any thread may call, and be interrupted."""
        if self.items is _NO_ITEMS:
            # The items last: they say that all is there.
            self.readers, self.items = self.delivery.first("inbox", ({}, deque()))

    def forget(self) -> None:
        """Drop the events that wait, if there ever were any."""
        if self.items is not _NO_ITEMS:
            super().forget()

    def close(self) -> None:
        """Remove one reader; messages that it did not take wait for the next."""
        self.readers.popitem()
        self.relax()

    def relax(self) -> None:
        """Resume reading at half the limit, or when no reader is left."""
        if self.full and not self.readers:
            self.full = False
            self.delivery.release()
        else:
            super().relax()


class Consumers(Protocol):
    """Pauses and resumes reading."""

    def consumers_ready(self, ready: bool, /) -> object:
        """Pause or resume reading: consumers are too far behind, or have caught up."""
        ...


class Buffers:
    """All buffers of a client, and how many consumers are too far behind.

    Messages without a consumer wait in :attr:`inbox`, so that nothing is lost between joining a group and the first
    ``async for``.

    Args:
        limit: how many events a consumer may be behind before reading is paused.
        home: is told when consumers are too far behind, and when they have caught up.

    Attributes:
        held: how many consumers are too far behind; above 0, reading is to be paused.
        begun: whether the client was ever started.
        buffers: the open ones, but for the inbox; :meth:`open` opens one.
    """

    __slots__ = ("__weakref__", "_consumers", "_made", "begun", "buffers", "held", "inbox", "limit")

    def __init__(self, limit: int, home: Consumers) -> None:
        self.limit: int = limit
        self.held: int = 0
        self.begun: bool = False
        self.buffers: OpenBuffers[Buffer] = NO_BUFFERS
        self.inbox: Inbox = Inbox(self)
        self._consumers = home
        self._made: dict[str, Any] = {}  # see first()

    def first(self, name: str, made: T) -> T:
        """Return ``made``, or what another thread has made of this name before: for all that is made when needed."""
        first: T = self._made.setdefault(name, made)  # in one step of the interpreter
        return first

    def open(self, buffer: Buffer) -> None:
        """Open a buffer: it gets all later events that it wants. Any thread may call, and be interrupted."""
        if self.buffers is NO_BUFFERS:
            self.buffers = self.first("buffers", OpenBuffers())
        self.buffers.add(buffer)

    def hold(self) -> None:
        """Count one more consumer that is too far behind."""
        self.held += 1
        if self.held == 1:
            self._consumers.consumers_ready(False)

    def release(self) -> None:
        """Count one consumer less: it has caught up, or is gone."""
        self.held -= 1
        if self.held == 0:
            self._consumers.consumers_ready(True)

    def begin(self) -> None:
        """Reopen the buffers that have ended: the client starts (again)."""
        self.begun = True
        for buffer in (*self.buffers, self.inbox):
            buffer.ended = False
            buffer.error = None

    def read_inbox(self) -> Inbox:
        """Return the inbox, for one more reader, which must close it."""
        self.inbox.open()
        self.inbox.readers[object()] = None
        return self.inbox
