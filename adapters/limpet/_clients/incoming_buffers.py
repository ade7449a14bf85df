"""Streams that a client reads: the fragments of each wait in a buffer of their own. No event loop in here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import ClassVar, Protocol

from limpet import Disconnected, Event, GroupMessage, LimpetError, MessagesMissed, StreamChunk
from limpet._clients.buffers import Buffer, Buffers
from limpet_core.client.incoming_streams import Begun, Extended, FollowedStream, IncomingStreams, News

log: logging.Logger = logging.getLogger("limpet")


class Closable(Protocol):
    """What a client makes of a stream for its reader."""

    def close(self) -> None:
        """Let go of the stream."""
        ...


class Fragments(Buffer):
    """The fragments of one stream that wait for its reader.

    Attributes:
        dropped: nobody reads the stream any more.
    """

    __slots__ = ("_all", "dropped")

    other_readers: ClassVar[str] = "a stream has one reader"

    def __init__(self, streams: StreamsBuffer) -> None:
        super().__init__(streams.delivery, frozenset({StreamChunk}))
        self._all = streams
        self.full: bool = streams.full
        self.dropped: bool = False

    def add(self, chunk: StreamChunk) -> None:
        """Add a fragment, unless nobody reads the stream any more."""
        if not self.dropped:
            self.items.append(chunk)
            if len(self.items) == 1 and (wake := self.wake) is not None:
                wake()

    def relax(self) -> None:
        """Resume reading if all streams together have caught up; to be called after fragments were removed."""
        self.full = self._all.full
        self._all.relax()

    def close(self) -> None:
        """Drop the fragments that wait and take no more."""
        self.dropped = True
        self.items.clear()
        self._all.remove(self)


class StreamsBuffer(Buffer):
    """The streams that wait for a reader, of one call of ``client.streams()``.

    The limit on what may wait holds for all of these streams and their fragments together. To sum them up each time
    would take long: so they are counted as they come, and summed up when the count is at the limit.

    Args:
        delivery: the buffers of the client.
        group: the only group whose streams are wanted; None: those of all.
        sorter: sorts the fragments.
        make: makes what the reader gets for a stream.
    """

    other_readers: ClassVar[str] = "for another reader, call client.streams() once more"

    __slots__ = ("_accepting", "_come", "_make", "_sorter", "_streams", "_warned")

    def __init__(
        self,
        delivery: Buffers,
        group: str | None,
        sorter: IncomingStreams,
        make: Callable[[FollowedStream, Fragments], Closable],
    ) -> None:
        super().__init__(delivery, frozenset({GroupMessage, MessagesMissed, Disconnected}), group)
        self.full: bool = False
        self._sorter = sorter
        self._make = make
        self._streams: set[Fragments] = set()  # those that go on, and those that wait to be read to their ends
        self._come = 0  # at least as much as waits
        self._accepting = True
        self._warned = False

    def __repr__(self) -> str:
        group = "" if self.group is None else f" of the group {self.group!r}"
        return f"streams{group}: {len(self.items)} waiting, {len(self._streams)} under way"

    @property
    def waiting(self) -> int:
        """How many streams and fragments wait."""
        return len(self.items) + sum(len(each.items) for each in tuple(self._streams))

    def wants(self, event: Event) -> bool:
        """Return whether ``event`` changes something for streams."""
        if type(event) is GroupMessage:
            return event.stream is not None and (self.group is None or event.group == self.group)
        return type(event) is Disconnected or type(event) is MessagesMissed

    def put(self, event: Event) -> None:
        """Sort a fragment into its stream. At the limit, reading is paused; what was read already is still added."""
        if type(event) is GroupMessage:
            self._take(self._sorter.receive(event))
        elif type(event) is MessagesMissed:
            self._sorter.missed(event.last - event.first + 1)
        elif type(event) is Disconnected:
            self._take(self._sorter.disconnected(event.reason))
        if self._come >= self.delivery.limit and not self.full:
            self._hold()

    def _take(self, news: list[News]) -> None:
        for each in news:
            fragments: Fragments | None = each.stream.user_data
            if isinstance(each, Begun):
                if self._accepting:
                    self._begin(each.stream)
            elif fragments is None:
                continue  # it has begun after the close
            elif isinstance(each, Extended):
                fragments.add(each.chunk)
                self._come += 1
            else:
                fragments.end(each.error)
                self._leave_if_done()

    def _begin(self, stream: FollowedStream) -> None:
        stream.user_data = fragments = Fragments(self)
        self._streams.add(fragments)
        self.items.append(self._make(stream, fragments))
        self._come += 1
        if len(self.items) == 1 and (wake := self.wake) is not None:
            wake()

    def _hold(self) -> None:
        """Pause reading, if so much waits indeed."""
        self._come = self._sum()
        if self._come < self.delivery.limit:
            return
        self.full = True
        for fragments in tuple(self._streams):
            fragments.full = True
        self.delivery.hold()
        if self._read_one_by_one and not self._warned:
            self._warned = True
            log.warning(
                "nothing is received any more: a stream is waited for, and %d fragments and streams wait that nobody "
                "reads. Read each stream in a task or thread of its own, or close those that you do not want",
                self._come,
            )
        self.relax()  # a reader in another thread may have taken all of them before `full` was set

    @property
    def _read_one_by_one(self) -> bool:
        """Whether somebody waits for more of a stream, and nobody for the other streams."""
        return (
            self.wake is None
            and bool(self.items)
            and any(each.wake is not None and not each.items for each in tuple(self._streams))
        )

    def _sum(self) -> int:
        """Return how many streams and fragments wait; forget the streams that were read to their ends."""
        come = len(self.items)
        for fragments in tuple(self._streams):  # another thread may drop one
            waiting = len(fragments.items)
            come += waiting
            if fragments.ended and not waiting:
                self._streams.discard(fragments)
        return come

    def relax(self) -> None:
        """Resume reading when no more than half the limit waits; to be called after something was removed."""
        if not self.full:
            return
        waiting = self._sum()
        if self.full and waiting <= self.half:  # a finalizer may have called meanwhile
            self.full = False
            self._come = waiting
            self.delivery.release()

    def remove(self, fragments: Fragments) -> None:
        """Forget a stream that nobody reads any more."""
        self._streams.discard(fragments)
        self._leave_if_done()
        self.relax()

    def end(self, error: LimpetError | None) -> None:
        """Fail the streams that go on, if the loss of the connection has not done it, and note the end."""
        self._take(self._sorter.disconnected("the client has stopped"))
        super().end(error)

    def close(self) -> None:
        """Take no new streams, and drop those that wait; those that are being read go on."""
        self._accepting = False
        with suppress(IndexError):  # all are gone, or another thread has taken the last one
            while True:
                self.items.popleft().close()
        self._leave_if_done()
        self.relax()

    def forget(self) -> None:
        """Drop all that waits: this is a forked child, and the parent has its readers."""
        super().forget()
        for fragments in self._streams:
            fragments.forget()

    def _leave_if_done(self) -> None:
        if not self._accepting and all(each.ended for each in tuple(self._streams)):
            self.delivery.buffers.discard(self)
