"""Iteration for code that blocks. It holds no lock, so that an interrupt cannot leave one locked."""

from __future__ import annotations

import logging
from _thread import get_ident
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from limpet import LocalProtocolError
from limpet._clients.buffers import Buffer, Inbox
from limpet._clients.misuse import OnlyBlocking
from limpet._clients.typed import Decoder
from limpet.sync._open_streams import Reader
from limpet.sync._portal import Portal
from limpet_core.protocol.rules import check_timeout

log: logging.Logger = logging.getLogger("limpet")

T_co = TypeVar("T_co", covariant=True)

_pop: Callable[[deque[Any]], Any] = deque[Any].popleft
_pop_last: Callable[[list[Any]], Any] = list[Any].pop


class Taken:
    """The event that one thread took from a stream last, so that an interrupt before it is returned does not lose it.

    Attributes:
        events: the event; empty before the first.
        returned: the event that was returned last.
    """

    __slots__ = ("events", "returned")

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.returned: object = None

    @property
    def pending(self) -> bool:
        """Whether the event was not returned."""
        return bool(self.events) and self.events[0] is not self.returned


class EventStream(OnlyBlocking, Generic[T_co]):
    """Events in order, to iterate over with ``for``; made by the methods of a client.

    The stream ends when the client stops, with the client's error if the application did not ask for the stop. A stream
    that is not read holds up the connection when ``max_buffered_messages`` events wait in it: close it when it is not
    needed any more (leaving a ``with`` or dropping the last reference does that, too). Where :meth:`next` is
    interrupted (Ctrl-C), no event is lost: the next call returns it.
    """

    def __init__(self, buffer: Buffer, portal: Portal) -> None:
        self._buffer = buffer
        self._portal = portal
        self._streams = portal.streams
        self._source = (buffer.items,)
        self._taken: dict[int, Taken] = {}  # by thread
        self._closed = self._done = False
        if not portal.running:
            self._streams.close_dropped()
        self._reference = self._streams.add(self, self._closing())
        self._open()  # last: an interrupt here leaves a stream that can be closed

    def _open(self) -> None:
        self._buffer.delivery.open(self._buffer)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._buffer!r}{', closed' if self._closed else ''}>"

    def __iter__(self) -> Self:
        return self

    def next(self, timeout: float | None = None) -> T_co:
        """Return the next event; wait for it for at most ``timeout`` seconds.

        Raises:
            TimeoutError: none has come in time; the stream goes on.
            StopIteration: the client was stopped.
            LimpetError: the client could not go on.
            InvalidValue, InvalidType: ``timeout`` is not a number of seconds.
        """
        if timeout is not None:
            check_timeout(timeout)
        try:
            taken = self._taken[get_ident()]
        except KeyError:
            taken = self._taken.setdefault(get_ident(), Taken())
        buffer, events = self._buffer, taken.events
        while self._closed or not events or events[0] is taken.returned:
            ended = buffer.ended  # before looking at what is left: nothing comes behind the end
            if buffer.items and not self._closed:
                try:
                    events[:] = map(_pop, self._source)  # one step of the interpreter: always in one of the two
                except IndexError:
                    continue  # another reader was faster
                if buffer.full and len(buffer.items) <= buffer.half:
                    self._portal.post(buffer.relax)
                break
            events.clear()
            taken.returned = None
            self._wait(ended, timeout)
        event: T_co = events[0]
        try:
            taken.returned = event
            return event  # the interpreter looks for interrupts on the way into functions, and not on the way out
        except BaseException:
            taken.returned = None
            raise

    __next__ = next

    def _put_back(self) -> None:
        """Have this thread's next call return the event once more that the last one has returned."""
        self._taken[get_ident()].returned = None

    def _wait(self, ended: bool, timeout: float | None) -> None:
        """Wait until there may be something to take; raise at the end."""
        buffer, readers, reader = self._buffer, self._streams.readers, Reader()
        if self._closed or (ended and buffer.error is None):
            raise StopIteration
        if ended and buffer.error is not None:
            raise buffer.error
        if buffer.full:
            self._portal.post(buffer.relax)  # again, perhaps: an interrupt may have come before the first time
        self._portal.check_may_wait()
        if not buffer.delivery.begun:
            log.warning("nothing arrives before the client is started: `with client:` starts it")
        try:
            other = readers.setdefault(buffer, reader)
            # One of the same thread was left by an interrupt: it does not wait any more.
            if other is not reader and other.thread != reader.thread:
                raise LocalProtocolError(f"another thread iterates over it already; {buffer.other_readers}")
            readers[buffer] = reader
            buffer.wake = reader.wake
            # Nothing wakes the reader for events that came before that.
            if not (buffer.items or buffer.ended or self._closed or reader.wait(timeout)):
                raise TimeoutError(f"no event within {timeout or 0:g} s")
        finally:
            if readers.get(buffer) is reader:
                buffer.wake = None
                readers.pop(buffer, None)

    def close(self) -> None:
        """Take no more events, and drop those that wait in the stream. Repeats do nothing."""
        if not self._done:
            self._closed = True
            self._closing(get_ident())()
            wake_reader(self._buffer)
            self._streams.remove(self._reference)
            self._done = True  # last: a call that is interrupted before is made again

    def _closing(self, *threads: int) -> Callable[[], None]:
        """Return a function that closes the stream and holds no reference to it; see :class:`OpenStreams`."""
        buffer, portal = self._buffer, self._portal

        def close() -> None:
            buffer.delivery.buffers.discard(buffer)
            buffer.items.clear()
            if portal.running or buffer.full:
                portal.post(close_in_thread)

        def close_in_thread() -> None:
            buffer.close()
            wake_reader(buffer)

        return close

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TypedIteration:
    """Decodes what the stream behind it, in the order of inheritance, takes from its buffer."""

    decoder: Decoder

    def next(self, timeout: float | None = None) -> Any:
        """Return the next message; wait for it for at most ``timeout`` seconds. One that is left out does not count.

        Raises:
            InvalidData: its data does not fit; the next call returns the message behind it.
            TimeoutError, StopIteration, LimpetError, InvalidValue, InvalidType: as :meth:`EventStream.next`.
        """
        stream: Any = super()
        end = None if timeout is None else monotonic() + timeout
        while True:
            event: Any = None
            try:
                event = stream.next(timeout)
                message = self.decoder.take(event)
                if message is not None:
                    return message
            except Exception:  # of on_invalid as well: a message that does not fit must not come again
                raise
            except BaseException:  # an interrupt before it was decoded
                if event is not None:
                    stream._put_back()
                raise
            if end is not None:
                timeout = max(0.0, end - monotonic())

    __next__ = next


class TypedEventStream(TypedIteration, EventStream[T_co]):
    """Messages whose data is decoded."""

    def __init__(self, decoder: Decoder, buffer: Buffer, portal: Portal) -> None:
        self.decoder = decoder
        super().__init__(buffer, portal)


class InboxStream(EventStream[T_co]):
    """Messages of a client's inbox. Several streams may take from it; messages they leave wait for the next."""

    def __init__(self, inbox: Inbox, portal: Portal) -> None:
        inbox.open()  # now: the stream keeps what it takes from, and is among its readers
        self._inbox = inbox
        self._reader = object()
        super().__init__(inbox, portal)

    def _open(self) -> None:
        self._streams.close_dropped()  # messages that a stream before this one has left come first
        self._inbox.readers[self._reader] = None

    def _closing(self, *threads: int) -> Callable[[], None]:
        """Also put back the messages that ``threads`` (none given: all) have taken and not returned."""
        inbox, portal, all_taken, reader = self._inbox, self._portal, self._taken, self._reader

        def close() -> None:
            for thread in threads or tuple(all_taken):
                taken = all_taken.get(thread)
                if taken is not None and taken.pending:
                    with suppress(IndexError):  # another thread has done it
                        inbox.items.extendleft(map(_pop_last, (taken.events,)))  # one step, as above
            inbox.readers.pop(reader, None)
            if portal.running or inbox.full:
                portal.post(close_in_thread)

        def close_in_thread() -> None:
            inbox.relax()
            wake_reader(inbox)  # another reader, for the messages that were put back

        return close


def wake_reader(buffer: Buffer) -> None:
    """Wake the reader of ``buffer``, if there is one."""
    if (wake := buffer.wake) is not None:
        wake()
