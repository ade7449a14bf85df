"""What the async clients share: the API, without the event loop."""

from __future__ import annotations

import logging
import ssl as ssl_module
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeVar, cast, overload

from holdfast import (
    Ack,
    Acked,
    Connected,
    DataType,
    Event,
    GroupMessage,
    HoldfastError,
    InvalidType,
    LocalProtocolError,
    Message,
    Options,
    SendError,
    Session,
    State,
    Stopped,
    parse_url,
)
from holdfast._channels import Connect, check_connect
from holdfast._delivery import Buffer, Callback, Delivery, Provider, check_provider, check_types
from holdfast._wire import ProxySetting, check_proxy

log: logging.Logger = logging.getLogger("holdfast")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
F = TypeVar("F", bound=Callback)


class Answer(Protocol[T]):
    """Something to wait for, once; an ``asyncio.Future`` is one."""

    def done(self) -> bool: ...
    def set_result(self, result: T, /) -> None: ...
    def set_exception(self, exception: BaseException, /) -> None: ...
    def __await__(self) -> Generator[Any, Any, T]: ...


class Driver(Protocol):
    """Keeps a Session going on one event loop."""

    session: Session

    def now(self) -> float:
        """The session's time."""
        ...

    def answer(self) -> Answer[Any]:
        """A new thing to wait for."""
        ...

    def flush(self) -> None:
        """Something was added to the session: send it soon."""
        ...

    async def writable(self) -> None:
        """Wait until the transport, if there is one, can take more."""
        ...

    def consumers_ready(self, ready: bool) -> None:
        """Consumers have caught up, or are too far behind."""
        ...

    def settle(self, event: Connected | Stopped) -> None:
        """The session stands or has stopped: tell those who wait for it."""
        ...

    async def stop(self) -> None:
        """Stop the session and wait until it has stopped."""
        ...


D = TypeVar("D", bound=Driver)


class EventStream(Generic[T_co]):
    """Events in order, to iterate over with ``async for``; made by the methods of a client.

    It ends when the client stops, with the client's error if that was not asked for. A stream that is not read
    holds up the connection when ``max_buffered_messages`` events wait in it: close it when it is of no use any more
    (leaving an ``async with`` or dropping the last reference does that, too).
    """

    def __init__(self, buffer: Buffer, answer: Callable[[], Answer[None]]) -> None:
        self._buffer = buffer
        self._answer = answer
        self._news: Answer[None] | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T_co:
        while self._closed or not self._buffer.items:
            await self._wait()
        return cast(T_co, self._buffer.pop())

    async def _wait(self) -> None:
        """Wait until there is something to take; raise at the end."""
        buffer = self._buffer
        if self._closed or (buffer.ended and buffer.error is None):
            raise StopAsyncIteration
        if buffer.error is not None:
            raise buffer.error
        if buffer.wake is not None:
            raise LocalProtocolError("two tasks iterate over the same stream of events; give each its own")
        self._news = self._answer()
        buffer.wake = self._wake
        try:
            await self._news
        finally:
            buffer.wake = None

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def close(self) -> None:
        """Take no more events; what waits in the stream is dropped. Repeats do nothing."""
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

    def __del__(self) -> None:
        self.close()


class AsyncClient(Generic[D]):
    """The part of a client that is the same on every event loop."""

    _stream: type[EventStream[Any]] = EventStream
    _driver: D

    def __init__(
        self,
        url: Provider,
        options: Options | None = None,
        *,
        ssl: ssl_module.SSLContext | None = None,
        proxy: ProxySetting = None,
        connect: Connect | None = None,
    ) -> None:
        check_provider(url)
        if isinstance(url, str):
            parse_url(url)
        if ssl is not None and not isinstance(ssl, ssl_module.SSLContext):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidType(f"ssl must be an ssl.SSLContext, not {type(ssl).__name__}")
        check_proxy(proxy)
        check_connect(connect)
        self._driver = self._drive(url, options, ssl, proxy, connect)
        self._session = self._driver.session
        self._delivery = Delivery(self._session.options.max_buffered_messages, self._driver.consumers_ready)
        self._subscriptions: Counter[str] = Counter()

    def _drive(
        self,
        url: Provider,
        options: Options | None,
        ssl: ssl_module.SSLContext | None,
        proxy: ProxySetting,
        connect: Connect | None,
    ) -> D:
        """The driver for this client's event loop."""
        raise AssertionError("each client has its own")

    # ---- What is true

    @property
    def state(self) -> State:
        """Where the client is in its life."""
        return self._session.state

    @property
    def connection_id(self) -> str | None:
        """The id of the connection, also while it is recovered; None without one."""
        return self._session.connection_id

    @property
    def user_id(self) -> str | None:
        """The user the service took us for; None without a connection, or for an anonymous user."""
        return self._session.user_id

    @property
    def groups(self) -> frozenset[str]:
        """The groups joined by this client, those to be joined again included."""
        return self._session.groups

    # ---- Requests

    async def join_group(self, group: str, *, ack_id: int | None = None) -> Ack:
        """Join ``group``; after a reconnect the client joins it again by itself.

        Args:
            group: 1 to 1024 characters, not blank.
            ack_id: repeat an earlier request under its ack id.

        Raises:
            SendError: the service refused, or the outcome is not known; see its ``outcome``.
            TooManyRequests: ``max_pending_requests`` wait already.
            LocalProtocolError: an argument can not be used, or the client is not started.
        """
        answer = self._driver.answer()
        return await self._settled(
            self._session.join_group(group, self._driver.now(), ack_id=ack_id, user_data=answer), answer
        )

    async def leave_group(self, group: str, *, ack_id: int | None = None) -> Ack:
        """Leave ``group``. Arguments and errors are those of :meth:`join_group`."""
        answer = self._driver.answer()
        return await self._settled(
            self._session.leave_group(group, self._driver.now(), ack_id=ack_id, user_data=answer), answer
        )

    @overload
    async def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: Literal[True] = True,
        ack_id: int | None = None,
    ) -> Ack: ...
    @overload
    async def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: Literal[False],
    ) -> None: ...
    async def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: bool = True,
        ack_id: int | None = None,
    ) -> Ack | None:
        """Publish to ``group``, which this client need not have joined.

        Args:
            group: 1 to 1024 characters, not blank.
            data: a str is sent as ``text``, bytes as ``binary``, anything else as ``json``.
            data_type: overrides that: ``text``, ``json``, ``binary`` or ``protobuf``.
            no_echo: do not deliver it back to this client.
            ack: wait for the service's answer; without it None is returned at once and errors are silent.
            ack_id: repeat an earlier request under its ack id.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        if not ack:
            await self._driver.writable()
        answer = self._driver.answer() if ack else None
        key = self._session.send_to_group(
            group,
            data,
            self._driver.now(),
            data_type=data_type,
            no_echo=no_echo,
            ack=ack,
            ack_id=ack_id,
            user_data=answer,
        )
        if key is not None and answer is not None:
            return await self._settled(key, answer)
        self._driver.flush()
        return None

    @overload
    async def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack: Literal[True] = True,
        ack_id: int | None = None,
    ) -> Ack: ...
    @overload
    async def send_event(
        self, event: str, data: Any, *, data_type: DataType | None = None, ack: Literal[False]
    ) -> None: ...
    async def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack: bool = True,
        ack_id: int | None = None,
    ) -> Ack | None:
        """Send ``event`` to the application server.

        Args:
            event: a letter, then at most 127 letters, digits, ``_``, ``.`` and ``-``.
            data, data_type, ack, ack_id: as for :meth:`send_to_group`.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        if not ack:
            await self._driver.writable()
        answer = self._driver.answer() if ack else None
        key = self._session.send_event(
            event, data, self._driver.now(), data_type=data_type, ack=ack, ack_id=ack_id, user_data=answer
        )
        if key is not None and answer is not None:
            return await self._settled(key, answer)
        self._driver.flush()
        return None

    # ---- Events

    @overload
    def on(self, event_type: type[T], callback: Callable[[T], object]) -> Callable[[T], object]: ...
    @overload
    def on(self, event_type: type[Any]) -> Callable[[F], F]: ...
    def on(self, event_type: type[Any], callback: Callback | None = None) -> Callback | Callable[[F], F]:
        """Call ``callback`` with every event of ``event_type``: ``client.on(GroupMessage, show)``, or as a decorator.

        Callbacks run in the order of the events, one at a time. One may be a plain or an async function; one that
        raises is logged and holds up nothing. They stay registered when the client stops.

        Raises:
            InvalidType: ``event_type`` is no event type, or ``callback`` can not be called.
        """
        if callback is not None:
            self._delivery.on(event_type, callback)
            return callback
        check_types((event_type,))

        def register(function: F) -> F:
            self._delivery.on(event_type, function)
            return function

        return register

    def off(self, event_type: type[Any], callback: Callback) -> None:
        """Undo :meth:`on`. Raises LocalProtocolError if ``callback`` is not registered for ``event_type``."""
        self._delivery.off(event_type, callback)

    def __aiter__(self) -> EventStream[Message]:
        """Group and server messages, in order, those included that arrived before and were not taken."""
        return self._stream(self._delivery.read_inbox(), self._driver.answer)

    def events(self, *types: type[T]) -> EventStream[T]:
        """Events of the given types from now on: ``async for event in client.events(GroupMessage, Recovered)``.

        Raises:
            InvalidType: no type is given, or one is no event type.
        """
        if not types:
            raise InvalidType("events() needs at least one event type, such as GroupMessage")
        check_types(types)
        return self._stream(self._delivery.open(types), self._driver.answer)

    @asynccontextmanager
    async def subscribe(self, group: str) -> AsyncGenerator[EventStream[GroupMessage]]:
        """Join ``group``, iterate over its messages, leave: ``async with client.subscribe("group1") as messages:``.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        stream: EventStream[GroupMessage] = self._stream(
            self._delivery.open((GroupMessage,), group), self._driver.answer
        )
        self._subscriptions[group] += 1
        joined = True  # also where that is not known: cancelled, or without an answer
        try:
            try:
                await self.join_group(group)
            except HoldfastError as error:
                joined = isinstance(error, SendError) and error.outcome == "unknown"
                raise
            yield stream
        finally:
            stream.close()
            self._subscriptions[group] -= 1
            if not self._subscriptions[group]:
                del self._subscriptions[group]
                if joined:
                    self._leave_later(group)

    def _leave_later(self, group: str) -> None:
        """Leave without waiting for the answer: the way out of a block must not hang on the network."""
        if self.state not in (State.STOPPED, State.STOPPING):
            try:
                self._session.leave_group(group, self._driver.now())
            except HoldfastError as error:
                log.warning("could not leave the group %r: %s", group, error)
            else:
                self._driver.flush()

    # ---- Inside

    async def _settled(self, key: int, answer: Answer[Ack]) -> Ack:
        self._driver.flush()
        try:
            return await answer
        except BaseException:
            self._session.withdraw(key)  # cancelled; a request that was answered can not be withdrawn any more
            raise

    def _deliver(self, events: list[Event]) -> None:
        """Hand out what has happened; the part that is the same for every event loop."""
        deliver = self._delivery.deliver
        for event in events:
            if type(event) is Acked:
                answer = cast("Answer[Ack] | None", event.user_data)
                if answer is not None and not answer.done():
                    if event.error is None:
                        answer.set_result(Ack(event.ack_id, event.duplicate))
                    else:
                        answer.set_exception(event.error)
            else:
                deliver(event)
                if type(event) is Connected or type(event) is Stopped:
                    self._driver.settle(event)
