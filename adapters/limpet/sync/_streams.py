"""Iteration for code that blocks. No lock is held here, so that no interrupt can leave one locked."""

from __future__ import annotations

import logging
from _thread import TIMEOUT_MAX, allocate_lock, get_ident
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar
from weakref import ReferenceType, ref

from limpet import GroupMessage, InvalidType, InvalidValue, LocalProtocolError
from limpet._clients.delivery import Buffer, Inbox
from limpet._clients.streams import Subscription

log: logging.Logger = logging.getLogger("limpet")

T_co = TypeVar("T_co", covariant=True)

_pop: Callable[[deque[Any]], Any] = deque[Any].popleft
_pop_last: Callable[[list[Any]], Any] = list[Any].pop


class Poster(Protocol):
    """The driver, as far as a stream needs it."""

    def post(self, work: Callable[[], None]) -> None:
        """Have the client's own thread do something soon, or when it starts."""
        ...

    @property
    def running(self) -> bool:
        """Whether the client's own thread is there."""
        ...

    def check_waiting(self) -> None:
        """Raise LocalProtocolError where nothing would ever come to this thread."""
        ...


class Waiter:
    """The thread that waits for something to come into a buffer."""

    __slots__ = ("_gate", "thread")

    def __init__(self) -> None:
        self.thread: int = get_ident()
        self._gate = gate = allocate_lock()
        gate.acquire()

    def wait(self, timeout: float | None) -> bool:
        """Wait for at most ``timeout`` seconds; return whether it was woken."""
        return self._gate.acquire(timeout=-1 if timeout is None else timeout)

    def wake(self) -> None:
        """There is something, or the end. From any thread, any number of times."""
        with suppress(RuntimeError):  # it is awake already
            self._gate.release()


class Hand:
    """What one thread has taken from a stream: an interrupt between taking and returning must not lose it.

    Attributes:
        events: one or none, until the next is taken.
        given: the one that was returned.
    """

    __slots__ = ("events", "given")

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.given: object = None

    @property
    def owing(self) -> bool:
        """Whether there is one that was not returned."""
        return bool(self.events) and self.events[0] is not self.given


class Streams:
    """The open streams of a client, and how each is shut once nobody refers to it.

    A ``__del__`` is interrupted like anything else, and what it raises is lost. So nothing of ours runs when a stream
    is dropped: its reference is put into a queue, by the interpreter itself, and looked at later.
    """

    def __init__(self, driver: Poster) -> None:
        self.driver: Poster = driver
        self.waiting: dict[Buffer, Waiter] = {}
        self._shuts: dict[ReferenceType[Any], Callable[[], None]] = {}
        self._dropped: deque[ReferenceType[Any]] = deque()

    def add(self, stream: EventStream[Any], shut: Callable[[], None]) -> ReferenceType[Any]:
        """Call ``shut`` soon after ``stream`` was dropped; it may be called twice, and from any thread."""
        if not self.driver.running:
            self.tidy()
        reference = ref(stream, self._dropped.append)
        self._shuts[reference] = shut
        return reference

    def remove(self, reference: ReferenceType[Any]) -> None:
        """That one is shut."""
        self._shuts.pop(reference, None)

    def tidy(self) -> None:
        """Shut what was dropped. Can be interrupted, and done by two threads at a time."""
        for reference in tuple(self._dropped):
            shut = self._shuts.get(reference)
            if shut is not None:
                shut()
            self.remove(reference)
            with suppress(ValueError):
                self._dropped.remove(reference)


class EventStream(Generic[T_co]):
    """Events in order, to iterate over with ``for``; made by the methods of a client.

    It ends when the client stops, with the client's error if that was not asked for. A stream that is not read
    holds up the connection when ``max_buffered_messages`` events wait in it: close it when it is of no use any more
    (leaving a ``with`` or dropping the last reference does that, too). Where :meth:`next` is interrupted (Ctrl-C), no
    event is lost: the next call returns it.
    """

    def __init__(self, buffer: Buffer, streams: Streams) -> None:
        self._buffer = buffer
        self._driver = streams.driver
        self._streams = streams
        self._source = (buffer.items,)
        self._hands: dict[int, Hand] = {}
        self._closed = self._done = False
        self._reference = streams.add(self, self._shutting())
        self._open()  # last: whatever interrupts it, there is a stream to be shut

    def _open(self) -> None:
        self._buffer.delivery.buffers.add(self._buffer)

    def __iter__(self) -> Self:
        return self

    def next(self, timeout: float | None = None) -> T_co:
        """The next event, waited for at most ``timeout`` seconds.

        Raises:
            TimeoutError: none has come in time; the stream goes on.
            StopIteration: the client was stopped.
            LimpetError: the client could not go on.
            InvalidValue, InvalidType: ``timeout`` is not a number of seconds.
        """
        if timeout is not None:
            check_timeout(timeout)
        try:
            hand = self._hands[get_ident()]
        except KeyError:
            hand = self._hands.setdefault(get_ident(), Hand())
        buffer, events = self._buffer, hand.events
        while self._closed or not events or events[0] is hand.given:
            ended = buffer.ended  # before looking at what is left: nothing comes behind the end
            if buffer.items and not self._closed:
                try:
                    events[:] = map(_pop, self._source)  # one step, for the interpreter: it is always in one of them
                except IndexError:
                    continue  # another reader was faster
                if buffer.full and len(buffer.items) <= buffer.delivery.limit // 2:
                    self._driver.post(buffer.relax)
                break
            events.clear()
            hand.given = None
            self._wait(ended, timeout)
        event: T_co = events[0]
        try:
            hand.given = event
            return event  # the interpreter looks for interrupts on the way into functions, and not on the way out
        except BaseException:
            hand.given = None
            raise

    __next__ = next

    def _wait(self, ended: bool, timeout: float | None) -> None:
        """Wait until there may be something to take; raises at the end."""
        buffer, waiting, waiter = self._buffer, self._streams.waiting, Waiter()
        if self._closed or (ended and buffer.error is None):
            raise StopIteration
        if ended and buffer.error is not None:
            raise buffer.error
        if buffer.full:
            self._driver.post(buffer.relax)  # again, perhaps: an interrupt may have come before that
        self._driver.check_waiting()
        if not buffer.delivery.begun:
            log.warning(
                "nothing arrives before the client is started: `async with client:` or `with client:` does that"
            )
        try:
            other = waiting.setdefault(buffer, waiter)
            # One of this thread's own is what an interrupt has left: it does not wait any more.
            if other is not waiter and other.thread != waiter.thread:
                raise LocalProtocolError(
                    "somebody iterates over it already; for another reader: client.events(GroupMessage)"
                )
            waiting[buffer] = waiter
            buffer.wake = waiter.wake
            # Nobody wakes us for what has come before that.
            if not (buffer.items or buffer.ended or self._closed or waiter.wait(timeout)):
                raise TimeoutError(f"no event within {timeout or 0:g} s")
        finally:
            if waiting.get(buffer) is waiter:
                buffer.wake = None
                waiting.pop(buffer, None)

    def close(self) -> None:
        """Take no more events; what waits in the stream is dropped. Repeats do nothing."""
        if not self._done:
            self._closed = True
            self._shutting(get_ident())()
            _wake(self._buffer)
            self._streams.remove(self._reference)
            self._done = True  # last: who is interrupted before that does it once more

    def _shutting(self, *threads: int) -> Callable[[], None]:
        """What shuts the stream without the stream; see :meth:`Streams.add`."""
        buffer, driver = self._buffer, self._driver

        def shut() -> None:
            buffer.delivery.buffers.discard(buffer)
            buffer.items.clear()
            if driver.running or buffer.full:
                driver.post(there)

        def there() -> None:
            buffer.close()
            _wake(buffer)

        return shut

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class InboxStream(EventStream[T_co]):
    """Messages of a client's inbox, which several may take from; what they leave waits for the next."""

    def __init__(self, inbox: Inbox, streams: Streams) -> None:
        self._inbox = inbox
        self._reader = object()
        super().__init__(inbox, streams)

    def _open(self) -> None:
        self._streams.tidy()  # what a reader before this one has left comes first
        self._inbox.readers.add(self._reader)

    def _shutting(self, *threads: int) -> Callable[[], None]:
        """What ``threads`` (none given: all) have in their hands goes back to where another reader can take it."""
        inbox, driver, hands, reader = self._inbox, self._driver, self._hands, self._reader

        def shut() -> None:
            for thread in threads or tuple(hands):
                hand = hands.get(thread)
                if hand is not None and hand.owing:
                    with suppress(IndexError):  # another thread has done it
                        inbox.items.extendleft(map(_pop_last, (hand.events,)))  # one step, as above
            inbox.readers.discard(reader)
            if driver.running or inbox.full:
                driver.post(there)

        def there() -> None:
            inbox.relax()
            _wake(inbox)  # another reader: for what came back

        return shut


class SubscriptionStream(EventStream[GroupMessage]):
    """The messages of one ``subscribe()`` of a group.

    Args:
        subscriptions: the open ones.
        leave: to be called by the client's own thread when one has ended.
    """

    def __init__(
        self,
        subscription: Subscription,
        subscriptions: set[Subscription],
        leave: Callable[[Subscription], None],
        streams: Streams,
    ) -> None:
        self.subscription: Subscription = subscription
        self._subscriptions = subscriptions
        self._leave = leave
        super().__init__(subscription.buffer, streams)

    def _open(self) -> None:
        self._subscriptions.add(self.subscription)
        super()._open()

    def _shutting(self, *threads: int) -> Callable[[], None]:
        shut_buffer, driver = super()._shutting(), self._driver
        subscription, subscriptions, leave = self.subscription, self._subscriptions, self._leave

        def shut() -> None:
            shut_buffer()
            if driver.running:
                driver.post(lambda: leave(subscription))
            else:
                subscriptions.discard(subscription)

        return shut


class Subscribing:
    """``with client.subscribe(group) as messages``.

    No generator: one that is interrupted before it goes on is closed by the interpreter, and what interrupts that is
    lost.
    """

    def __init__(self, make: Callable[[], SubscriptionStream], join: Callable[[], object]) -> None:
        self._make = make
        self._join = join
        self._stream: SubscriptionStream | None = None

    def __enter__(self) -> EventStream[GroupMessage]:
        self._stream = stream = self._make()
        try:
            with stream.subscription.joining():
                self._join()
            return stream
        except BaseException:
            stream.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def _wake(buffer: Buffer) -> None:
    """Wake who waits for something to come into ``buffer``, if anybody does."""
    if (wake := buffer.wake) is not None:
        wake()


def check_timeout(timeout: object) -> None:
    """Raise InvalidType or InvalidValue unless that is how long one can wait."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise InvalidType(f"timeout must be a number of seconds or None, not {type(timeout).__name__}")
    if not 0 <= timeout <= TIMEOUT_MAX:
        raise InvalidValue(f"timeout must be 0 or more seconds, or None to wait as long as it takes, not {timeout}")
