"""Iteration over events with ``async for``, and subscriptions of a group."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from limpet import LimpetError, LocalProtocolError, Message, SendError
from limpet._clients.buffers import Buffer
from limpet._clients.misuse import OnlyAsync
from limpet._clients.typed import Decoder, TypedIteration
from limpet._clients.waiters import AsyncWaiter

log: logging.Logger = logging.getLogger("limpet")

T_co = TypeVar("T_co", covariant=True)


class EventStream(OnlyAsync, Generic[T_co]):
    """Events in order, to iterate over with ``async for``; made by the methods of a client.

    The stream waits for the first start, and ends when the client stops, with the client's error if the application
    did not ask for the stop. A stream that is not read holds up the connection when ``max_buffered_messages`` events
    wait in it: close it when it is not needed any more (leaving an ``async with`` or dropping the last reference does
    that, too).
    """

    def __init__(self, buffer: Buffer, waiter: Callable[[], AsyncWaiter[None]]) -> None:
        self._buffer = buffer
        self._new_waiter = waiter
        self._waiter: AsyncWaiter[None] | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._buffer!r}{', closed' if self._closed else ''}>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        buffer = self._buffer
        while self._closed or not buffer.items:
            await self._wait()
        item: T_co = buffer.items.popleft()
        if buffer.full and len(buffer.items) <= buffer.half:  # a call at each event would cost as much as the step
            buffer.relax()
        return item

    async def _wait(self) -> None:
        """Wait until there may be an event; raise at the end of the stream."""
        buffer = self._buffer
        if self._closed or (buffer.ended and buffer.error is None):
            raise StopAsyncIteration
        if buffer.error is not None:
            raise buffer.error
        if buffer.wake is not None:
            raise LocalProtocolError(f"another task iterates over it already; {buffer.other_readers}")
        if not buffer.delivery.begun:
            log.warning("nothing arrives before the client is started: `async with client:` starts it")
        self._waiter = waiter = self._new_waiter()
        buffer.wake = self._wake
        try:
            await waiter
        finally:
            buffer.wake = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        """Take no more events, and drop those that wait in the stream. Repeats do nothing."""
        if not self._closed:
            self._closed = True
            self._buffer.close()
            self._wake()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self, over: Callable[[], bool] = sys.is_finalizing) -> None:
        if not over():
            self.close()


class TypedEventStream(TypedIteration, EventStream[T_co]):
    """Messages whose data is decoded, see :meth:`events`."""

    def __init__(self, buffer: Buffer, waiter: Callable[[], AsyncWaiter[None]], decoder: Decoder) -> None:
        super().__init__(buffer, waiter)
        self.decoder = decoder


class Batches(EventStream[list[Message]]):
    """All messages that wait at a time, see :meth:`batches`."""

    async def __anext__(self) -> list[Message]:
        while self._closed or not self._buffer.items:
            await self._wait()
        return self._buffer.pop_all()


class Block(OnlyAsync, AbstractAsyncContextManager[T_co]):
    """The block of an async context manager."""

    def __init__(self, manager: AbstractAsyncContextManager[T_co]) -> None:
        self._manager = manager

    async def __aenter__(self) -> T_co:
        return await self._manager.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._manager.__aexit__(kind, error, trace)

    if not TYPE_CHECKING:  # type checkers refuse it by themselves

        def __aiter__(self):
            raise TypeError("use `async with ... as messages`, and in this block `async for` over messages")


class Subscription:
    """One ``subscribe()`` or ``watch_group_states()`` of a group.

    Attributes:
        buffer: the group's messages, or the changes of its states.
        group: its name.
        joined: whether the service may count the client among the members or subscribers, as far as is known.
    """

    def __init__(self, buffer: Buffer) -> None:
        self.buffer: Buffer = buffer
        self.group: str = buffer.group or ""
        self.joined: bool = True

    @contextmanager
    def joining(self) -> Generator[None]:
        """Surround the request to join or subscribe: after a clear refusal there is nothing to undo."""
        try:
            yield
        except LimpetError as error:
            self.joined = isinstance(error, SendError) and error.outcome == "unknown"
            raise


class Subscriptions:
    """The open subscriptions of a client, all of messages or all of states.

    Args:
        leave: makes the request to leave a group, or to unsubscribe its states.
    """

    def __init__(self, leave: Callable[[str], None]) -> None:
        self._leave = leave
        self._open: dict[str, int] = {}
        self._to_leave: set[str] = set()  # groups that a subscription has joined

    @contextmanager
    def subscribed(self, buffer: Buffer) -> Generator[Subscription]:
        """Count a subscription, with ``buffer``, as open; the last one of a group to end leaves it."""
        subscription = Subscription(buffer)
        group = subscription.group
        self._open[group] = self._open.get(group, 0) + 1
        try:
            yield subscription
        finally:
            if subscription.joined:
                self._to_leave.add(group)
            self._open[group] -= 1
            if not self._open[group]:
                del self._open[group]
                if group in self._to_leave:
                    self._to_leave.discard(group)
                    self._leave(group)
