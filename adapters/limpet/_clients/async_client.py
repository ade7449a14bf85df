"""The API of the clients whose methods are async."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from limpet import (
    Ack,
    DataType,
    GroupMessage,
    GroupStatesChanged,
    InvocationError,
    Message,
    Options,
    Reply,
    SendError,
)
from limpet._clients.base import BaseClient
from limpet._clients.buffers import Buffer
from limpet._clients.driver import AsyncDriver, AsyncWaiter
from limpet._clients.group_states import GroupStates
from limpet._clients.incoming import IncomingStream
from limpet._clients.incoming_buffers import Fragments
from limpet._clients.outgoing import OutgoingStream
from limpet._clients.streams import EventStream, Subscriptions
from limpet._transports.messages import Connect, ConnectManager
from limpet._transports.proxies import ProxySetting
from limpet._transports.route import Provider, Route
from limpet._transports.tls import TlsSetting
from limpet_core.client.headers import HeadersSetting
from limpet_core.client.incoming_streams import FollowedStream

T = TypeVar("T")


D = TypeVar("D", bound=AsyncDriver[Any])


class AsyncClient(BaseClient[D]):
    """The part of a client that is the same on every event loop."""

    _driver_type: type[D]

    def __init__(
        self,
        url: Provider,
        options: Options | None = None,
        *,
        ssl: TlsSetting = None,
        proxy: ProxySetting = None,
        headers: HeadersSetting | None = None,
        connect: Connect | ConnectManager | None = None,
    ) -> None:
        """Make a client, which connects when it is started.

        Args:
            url: the Client Access URL, or a function (plain or async) that returns one. The function is called for
                every new connection, never for a recovery; with a fixed URL the client can go on only as long as its
                token is valid.
            options: see :class:`limpet.Options`.
            ssl: an ``ssl.SSLContext``, or the path of a file with the CA certificates to trust; None: the system's
                trust store. A context of your own can also present a client certificate.
            proxy: ``http://[user:password@]host[:port]``, the same with ``https://``, or with ``socks5://`` (needs
                ``limpet[socks]``); None: the environment's proxy; False: none. ``ssl`` checks the certificate of an
                ``https`` proxy, too.
            headers: more headers for each handshake with the service, a dict or pairs of name and value; never sent to
                a proxy. A ``User-Agent`` replaces the client's own.
            connect: opens the transport instead, see :data:`limpet.connect.Connect`, and sees to TLS and proxies.

        Raises:
            InvalidType, InvalidValue: an argument cannot be used; the message names it.
        """
        super().__init__(self._driver_type(Route(url, ssl, proxy, connect, headers=headers), options))
        self._subscriptions = Subscriptions(self._leave_later)
        self._watches = Subscriptions(self._unsubscribe_later)

    # ---- State

    def check(self) -> None:
        """Look at once whether the connection is still there: call it when you know that the network has changed.

        The client sends a ping, and recovers the connection unless it hears something within ``check_timeout`` (5 s).
        An attempt to connect that waits for its delay is made at once. The call returns immediately, and does nothing
        if the client is stopped. After a suspend of the machine the client checks by itself.

        Raises:
            LocalProtocolError: the client was started in another event loop, or another thread calls.
        """
        self._driver.check()

    # ---- Requests

    async def join_group(self, group: str, *, ack_id: int | None = None) -> Ack:
        """Join ``group``; after a reconnect the client joins it again by itself.

        Args:
            group: 1 to 1024 characters, not blank.
            ack_id: repeat an earlier request under its ack id.

        Raises:
            SendError: the service refused, or the outcome is not known; see its ``outcome``.
            TooManyRequests: ``max_pending_requests`` wait already.
            LocalProtocolError: an argument cannot be used, or the client is not started.
        """
        return await self._ask(partial(self._session.join_group, group, ack_id=ack_id))

    async def leave_group(self, group: str, *, ack_id: int | None = None) -> Ack:
        """Leave ``group``. Arguments and errors are those of :meth:`join_group`."""
        return await self._ask(partial(self._session.leave_group, group, ack_id=ack_id))

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
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
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
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
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
        metadata: Mapping[str, str] | None = None,
        ttl: float | None = None,
    ) -> Ack | None:
        """Publish to ``group``, which this client need not have joined.

        Args:
            group: 1 to 1024 characters, not blank.
            data: a str is sent as ``text``, bytes as ``binary``, anything else as ``json``.
            data_type: overrides that: ``text``, ``json``, ``binary`` or ``protobuf``.
            no_echo: do not deliver it back to this client.
            ack: wait for the service's answer. False: return None as soon as the message is on its way; errors are
                silent.
            metadata: names and values that members get with the data. A name is an HTTP token of at most 256
                characters, a value has at most 1024 characters of ASCII, all together have at most 8192.
            ttl: seconds, at most 300, in which the service may deliver the message; after that it drops what has not
                been delivered. The wire has whole seconds: fractions are rounded up. None or 0: it never expires.
            ack_id: repeat an earlier request under its ack id.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        request = partial(
            self._session.send_to_group,
            group,
            data,
            data_type=data_type,
            no_echo=no_echo,
            ack=ack,
            ack_id=ack_id,
            metadata=metadata,
            ttl=ttl,
        )
        if ack:
            return await self._ask(request)
        await self._tell(request, publish=True)
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
        metadata: Mapping[str, str] | None = None,
    ) -> Ack: ...
    @overload
    async def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack: Literal[False],
        metadata: Mapping[str, str] | None = None,
    ) -> None: ...
    async def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack: bool = True,
        ack_id: int | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Ack | None:
        """Send ``event`` to the application server.

        Args:
            event: a letter, then at most 127 letters, digits, ``_``, ``.`` and ``-``.
            data, data_type, ack, ack_id, metadata: as for :meth:`send_to_group`.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        request = partial(
            self._session.send_event,
            event,
            data,
            data_type=data_type,
            ack=ack,
            ack_id=ack_id,
            metadata=metadata,
        )
        if ack:
            return await self._ask(request)
        await self._tell(request, publish=False)
        return None

    async def invoke(
        self,
        event: str,
        data: Any = None,
        *,
        data_type: DataType | None = None,
        metadata: Mapping[str, str] | None = None,
        timeout: float | None = None,
        invocation_id: str | None = None,
    ) -> Reply:
        """Call the event handler for ``event`` at the application server, and wait for its reply.

        The invocation waits while there is no connection. Once it was sent it is never sent again: if the connection
        drops before the reply is here, the outcome is ``unknown``. Cancelled, it asks the service to cancel the call
        of the handler.

        Args:
            event: a letter, then at most 127 letters, digits, ``_``, ``.`` and ``-``.
            data: as for :meth:`send_to_group`; None: no data.
            data_type, metadata: as for :meth:`send_to_group`.
            timeout: seconds, 0 or more, for all of it, the wait for a connection included; None: as long as it takes.
            invocation_id: 1 to 128 characters that belong to no pending invocation; by default a fresh id.

        Raises:
            InvocationError: the service refused, or the outcome is not known; see its ``outcome``.
            InvocationTimeout: the time is over; an InvocationError and a TimeoutError.
            TooManyRequests: ``max_pending_requests`` wait already, requests included.
            LocalProtocolError: an argument cannot be used, or the client is not started.
        """
        request = partial(
            self._session.invoke,
            event,
            data,
            data_type=data_type,
            metadata=metadata,
            timeout=timeout,
            invocation_id=invocation_id,
        )
        driver = self._driver
        waiter: AsyncWaiter[Reply]
        waiter, now = driver.begin_request()
        key: str = request(now, user_data=waiter)
        driver.flush()
        driver.waiting[waiter] = key
        try:
            return await waiter
        except InvocationError:
            raise  # the answer itself; its id may be in use again
        except BaseException as error:
            # Cancelled. Not at the time of now(): a coroutine that is thrown away is closed outside its event loop.
            self._take_back(partial(self._session.cancel_invocation, key, now), error)
            raise
        finally:
            del driver.waiting[waiter]

    # ---- Streams

    def open_stream(
        self,
        group: str,
        *,
        no_echo: bool = False,
        idle_timeout: float = 300.0,
        stream_id: str | None = None,
    ) -> OutgoingStream:
        """Write a stream of fragments to ``group``: ``async with client.open_stream("group1") as stream:``.

        ``stream = await client.open_stream("group1")`` opens one without a block: call ``end()`` or ``abort()`` then.
        Nothing happens before it is awaited or entered.

        Args:
            group: 1 to 1024 characters, not blank.
            no_echo: do not deliver the fragments back to this client.
            idle_timeout: seconds without a sign of the stream after which the service closes it, from 0.001. The client
                keeps a silent stream alive, at a third of that time.
            stream_id: 1 to 1024 characters; None: a fresh id.

        Raises, when it is awaited or entered:
            StreamError: the service refused, or the connection was lost; see its ``name``.
            TooManyRequests: ``max_streams`` streams are open already.
            LocalProtocolError: an argument cannot be used, or the client is not started.
        """
        opening = partial(
            self._session.open_stream, group, stream_id=stream_id, no_echo=no_echo, idle_timeout=idle_timeout
        )
        return OutgoingStream(self._driver, opening)

    def streams(self, group: str | None = None, *, from_start_only: bool = False) -> EventStream[IncomingStream]:
        """Read the streams of a group, or of all groups: ``async for stream in client.streams("group1")``.

        Each stream that begins from now on comes as an :class:`IncomingStream`, whose fragments are iterated over in
        turn. Read several at once with a task each. As :meth:`events`, this does not join a group, and a stream
        of a group that is left has no more fragments, and no end. Leaving the iteration takes no more new streams;
        those that were taken go on.

        Args:
            group: the group; None: all groups.
            from_start_only: leave out streams that are under way already when their first fragment arrives.

        Raises:
            InvalidType, InvalidValue: an argument cannot be used; the message names it.
        """
        buffer = self._streams_buffer(group, from_start_only, self._incoming)
        self._delivery.buffers.add(buffer)
        return self._iterate(buffer)

    # ---- Group states

    async def set_group_state(self, group: str, state: Mapping[str, str]) -> Ack:
        """Set this connection's state in ``group``, which all who watch the states of the group see.

        The service forgets it with :meth:`clear_group_state`, when the client leaves the group, and with the
        connection. After a reconnect the client sets it again by itself, see :class:`limpet.Options`.

        Args:
            group: a group that this client is in.
            state: names and values, all str, of at most 8192 bytes as UTF-8. It replaces the state before as a whole;
                of several calls the last one wins.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        return await self._ask(partial(self._session.set_group_state, group, state))

    async def clear_group_state(self, group: str) -> Ack:
        """Clear this connection's state in ``group``. Errors are those of :meth:`join_group`."""
        return await self._ask(partial(self._session.clear_group_state, group))

    async def subscribe_group_states(self, group: str) -> Ack:
        """Ask for the states of all connections in ``group``, and for their changes.

        The service needs membership, or the permission to join. The states come behind the answer, with the first
        :class:`limpet.GroupStatesChanged`; :meth:`group_states` has them from then on. After a recovery or reconnect
        the client subscribes again by itself. See also :meth:`watch_group_states`.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        return await self._ask(partial(self._session.subscribe_group_states, group))

    async def unsubscribe_group_states(self, group: str) -> Ack:
        """End the subscription of the states of ``group``. Errors are those of :meth:`join_group`."""
        return await self._ask(partial(self._session.unsubscribe_group_states, group))

    # ---- Events

    def __aiter__(self) -> EventStream[Message]:
        """Iterate over group and server messages, in order, from the oldest message that no iterator has
        returned yet.
        """
        return self._iterate(self._delivery.read_inbox())

    def events(self, *types: type[T]) -> EventStream[T]:
        """Iterate over events of the given types from now on: ``async for event in client.events(GroupMessage)``.

        Raises:
            InvalidType: no type is given, or one is no event type.
        """
        return self._iterate(self._open(types))

    def subscribe(self, group: str) -> AbstractAsyncContextManager[EventStream[GroupMessage]]:
        """Join ``group``, iterate over its messages, leave: ``async with client.subscribe("group1") as messages:``.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        return self._subscribe(group)

    @asynccontextmanager
    async def _subscribe(self, group: str) -> AsyncGenerator[EventStream[GroupMessage]]:
        with self._subscriptions.subscribed(self._open((GroupMessage,), group)) as subscription:
            async with self._iterate(subscription.buffer) as stream:
                with subscription.joining():
                    await self.join_group(group)
                yield stream

    def watch_group_states(self, group: str) -> AbstractAsyncContextManager[GroupStates]:
        """Subscribe the states of ``group`` within a block: ``async with client.watch_group_states("g") as states:``.

        ``states`` is a live mapping, connection id to :class:`limpet.GroupState`, that cannot be changed;
        ``async for change in states:`` iterates over the changes, as :class:`limpet.GroupStatesChanged`. The first
        change comes when all states are here, even if there are none. A change with an ``error`` tells that the service
        has ended the subscription. At the end of the last block of a group the states are unsubscribed.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`subscribe_group_states`.
        """
        return self._watch(group)

    @asynccontextmanager
    async def _watch(self, group: str) -> AsyncGenerator[GroupStates]:
        with self._watches.subscribed(self._open((GroupStatesChanged,), group)) as subscription:
            async with self._iterate(subscription.buffer) as changes:
                with subscription.joining():
                    await self.subscribe_group_states(group)
                yield GroupStates(self._session, group, changes)

    # ---- Inside

    if not TYPE_CHECKING:  # type checkers refuse `with` by themselves

        def __enter__(self):
            raise TypeError("this client is async: use `async with client:`")

        def __exit__(self, *_):
            raise AssertionError("bug: never entered")

    def _open(self, types: tuple[type[Any], ...], group: str | None = None) -> Buffer:
        buffer = self._buffer(types, group)
        self._delivery.buffers.add(buffer)
        return buffer

    def _incoming(self, stream: FollowedStream, fragments: Fragments) -> IncomingStream:
        return IncomingStream(stream, self._iterate(fragments))

    def _iterate(self, buffer: Buffer) -> EventStream[Any]:
        return EventStream(buffer, self._driver.waiter)

    async def _ask(self, request: Callable[..., int | None]) -> Ack:
        """Make a request and wait for its answer."""
        driver = self._driver
        waiter: AsyncWaiter[Ack]
        waiter, now = driver.begin_request()
        ack_id = request(now, user_data=waiter)
        assert ack_id is not None
        driver.flush()
        driver.waiting[waiter] = ack_id
        try:
            return await waiter
        except SendError:
            raise  # the answer itself; its ack id may be in use again
        except BaseException as error:
            # Cancelled. A request that was sent cannot be withdrawn any more. A rejoin may have waited for its end.
            self._take_back(partial(self._session.withdraw, ack_id), error)
            raise
        finally:
            del driver.waiting[waiter]

    def _take_back(self, call: Callable[[], object], error: BaseException) -> None:
        """Take a request back by ``call``, if that is still possible, since its caller was ended by ``error``."""
        driver = self._driver

        def take_back() -> None:
            if call():
                driver.flush()

        if isinstance(error, GeneratorExit):
            driver.call_soon(take_back)  # a coroutine may be thrown away amid a call of the session, in any thread
        else:
            take_back()

    async def _tell(self, request: Callable[..., int | None], *, publish: bool) -> None:
        """Make a request without an ack, as soon as the transport and the session's window have room."""
        driver = self._driver
        await driver.checkpoint()
        if not driver.can_send(publish):
            self._session.sender_waits(driver.now())
            driver.flush()  # reading may have been resumed
            try:
                while not driver.can_send(publish):
                    await driver.wait_writable(publish)
            finally:
                self._session.sender_goes_on()
        request(driver.now())
        driver.flush()
