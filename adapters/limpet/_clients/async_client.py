"""The API of the clients whose methods are async."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cached_property, partial
from typing import Any, TypeVar, overload

from limpet import (
    GroupMessage,
    GroupStatesChanged,
    Instrument,
    Message,
    Options,
    ServerMessage,
)
from limpet._clients.async_driver import AsyncDriver
from limpet._clients.async_requests import AsyncRequests
from limpet._clients.buffers import Buffer
from limpet._clients.group_states import GroupStates
from limpet._clients.incoming import IncomingStream
from limpet._clients.incoming_buffers import Fragments
from limpet._clients.misuse import OnlyAsync
from limpet._clients.outgoing import OutgoingStream
from limpet._clients.streams import Batches, Block, EventStream, Subscriptions, TypedEventStream
from limpet._clients.typed import Decoder, OnInvalid, decoder
from limpet._transports.messages import Connect, ConnectManager
from limpet._transports.proxies import ProxySetting
from limpet._transports.route import Provider, Route
from limpet._transports.tls import TlsSetting
from limpet_core.client.headers import HeadersSetting
from limpet_core.client.incoming_streams import FollowedStream

T = TypeVar("T")
P = TypeVar("P")

D = TypeVar("D", bound=AsyncDriver[Any])


class AsyncClient(OnlyAsync, AsyncRequests[D]):
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
        instrument: Instrument | None = None,
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
            instrument: watches the client, see :class:`limpet.Instrument`; for example
                ``limpet.opentelemetry.OpenTelemetry()``.

        Raises:
            InvalidType, InvalidValue: an argument cannot be used; the message names it.
        """
        driver = self._driver_type(Route(url, ssl, proxy, connect, headers=headers), options)
        super().__init__(driver, instrument=instrument)

    @cached_property
    def _subscriptions(self) -> Subscriptions:
        return Subscriptions(self._leave_later)

    @cached_property
    def _watches(self) -> Subscriptions:
        return Subscriptions(self._unsubscribe_later)

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

    # ---- Streams

    def open_stream(
        self,
        group: str,
        *,
        no_echo: bool = False,
        idle_timeout: float = 300.0,
        stream_id: str | None = None,
        timeout: float | None = None,
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
            timeout: seconds, 0 or more, to wait until the service has accepted the start, and again at the end of the
                block until it has closed the stream; None: ``request_timeout`` of the options, and as long as it takes.

        Raises, when it is awaited or entered:
            StreamError: the service refused, or the connection was lost; see its ``name``.
            StreamTimeout: the time is over; a StreamError and a TimeoutError. The stream is given up.
            TooManyRequests: ``max_streams`` streams are open already.
            LocalProtocolError: an argument cannot be used, or the client is not started.
        """
        opening = partial(
            self._session.open_stream,
            group,
            stream_id=stream_id,
            no_echo=no_echo,
            idle_timeout=idle_timeout,
            timeout=timeout,
        )
        return OutgoingStream(self._driver, opening, timeout)

    @overload
    def streams(self, group: str | None = None, *, from_start_only: bool = False) -> EventStream[IncomingStream]: ...
    @overload
    def streams(
        self,
        group: str | None = None,
        *,
        from_start_only: bool = False,
        type: type[P],
        on_invalid: OnInvalid | None = None,
    ) -> EventStream[IncomingStream[P]]: ...
    def streams(
        self,
        group: str | None = None,
        *,
        from_start_only: bool = False,
        type: Any = None,
        on_invalid: OnInvalid | None = None,
    ) -> EventStream[IncomingStream[Any]]:
        """Read the streams of a group, or of all groups: ``async for stream in client.streams("group1")``.

        Each stream that begins from now on comes as an :class:`IncomingStream`, whose fragments are iterated over in
        turn. Read several at once with a task each. This joins no group: nothing comes, and nothing is said, before
        :meth:`join_group` or the application server has put the client into the group. A stream of a group that is left
        has no more fragments, and no end. Leaving the iteration takes no more new streams;
        those that were taken go on.

        Args:
            group: the group; None: all groups.
            from_start_only: leave out streams that are under way already when their first fragment arrives.
            type, on_invalid: of the data of fragments, as for :meth:`events`; a fragment that does not fit raises
                :class:`limpet.InvalidData` out of the iteration over its stream, which goes on with the next one.

        Raises:
            InvalidType, InvalidValue: an argument cannot be used; the message names it.
        """
        make = partial(self._incoming, decoder(type, on_invalid))
        buffer = self._streams_buffer(group, from_start_only, make)
        self._delivery.open(buffer)
        return self._iterate(buffer)

    # ---- Events

    def __aiter__(self) -> EventStream[Message]:
        """Iterate over group and server messages, in order, from the oldest message that no iterator has
        returned yet.
        """
        return self._iterate(self._delivery.read_inbox())

    def batches(self) -> EventStream[list[Message]]:
        """Iterate over the same messages, all that wait at a time: ``async for batch in client.batches()``.

        A batch is a list of at least one message, in order. There are as many as have arrived since the last batch, so
        nothing is held back to fill one. With many messages a second this costs less than a step for each, on trio and
        anyio most of all. Messages of a batch that are not handled are gone when the iteration is left; an iteration
        over the client leaves them for the next one.

        On trio and anyio each batch is a checkpoint: other tasks run, and a cancellation is raised before the batch is
        taken. A task that takes long for a large batch should have checkpoints of its own.
        """
        return self._iterate_batches(self._delivery.read_inbox())

    @overload
    def events(self, *types: type[T]) -> EventStream[T]: ...
    @overload
    def events(
        self, kind: type[GroupMessage[Any]], /, *, type: type[P], on_invalid: OnInvalid | None = None
    ) -> EventStream[GroupMessage[P]]: ...
    @overload
    def events(
        self, kind: type[ServerMessage[Any]], /, *, type: type[P], on_invalid: OnInvalid | None = None
    ) -> EventStream[ServerMessage[P]]: ...
    @overload
    def events(
        self,
        *kinds: type[GroupMessage[Any]] | type[ServerMessage[Any]],
        type: type[P],
        on_invalid: OnInvalid | None = None,
    ) -> EventStream[GroupMessage[P] | ServerMessage[P]]: ...
    def events(self, *types: Any, type: Any = None, on_invalid: OnInvalid | None = None) -> EventStream[Any]:
        """Iterate over events of the given types from now on: ``async for event in client.events(GroupMessage)``.

        Args:
            types: types of events.
            type: of messages: the type of their data: a msgspec Struct, a dataclass, a pydantic model, or one of these
                and of Python's own types, such as ``list[int]``. The iteration gives messages with such an object as
                ``data``. Ends of streams, which have no data, are left out. None: the data as it came.
            on_invalid: a plain function that is called with the :class:`limpet.InvalidData` of each message whose data
                does not fit, which is left out then. None: the iteration raises the error, and can go on with the next
                message.

        Raises:
            InvalidType: no type is given, one is no event type, or data cannot be decoded into ``type``.
        """
        decode = decoder(type, on_invalid, types)
        return self._iterate(self._open(types), decode)

    @overload
    def subscribe(
        self, group: str, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[EventStream[GroupMessage]]: ...
    @overload
    def subscribe(
        self, group: str, *, type: type[P], on_invalid: OnInvalid | None = None, timeout: float | None = None
    ) -> AbstractAsyncContextManager[EventStream[GroupMessage[P]]]: ...
    def subscribe(
        self, group: str, *, type: Any = None, on_invalid: OnInvalid | None = None, timeout: float | None = None
    ) -> AbstractAsyncContextManager[EventStream[GroupMessage[Any]]]:
        """Join ``group``, iterate over its messages, leave: ``async with client.subscribe("group1") as messages:``.

        Args:
            group: 1 to 1024 characters, not blank.
            type, on_invalid: of the data of messages, as for :meth:`events`.
            timeout: of the join, as for :meth:`join_group`.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        return Block(self._subscribe(group, decoder(type, on_invalid), timeout))

    @asynccontextmanager
    async def _subscribe(
        self, group: str, decoder: Decoder | None, timeout: float | None
    ) -> AsyncGenerator[EventStream[GroupMessage[Any]]]:
        with self._subscriptions.subscribed(self._open((GroupMessage,), group)) as subscription:
            async with self._iterate(subscription.buffer, decoder) as stream:
                with subscription.joining():
                    await self.join_group(group, timeout=timeout)
                yield stream

    def watch_group_states(
        self, group: str, *, timeout: float | None = None
    ) -> AbstractAsyncContextManager[GroupStates]:
        """Subscribe the states of ``group`` within a block: ``async with client.watch_group_states("g") as states:``.

        ``states`` is a live mapping, connection id to :class:`limpet.GroupState`, that cannot be changed;
        ``async for change in states:`` iterates over the changes, as :class:`limpet.GroupStatesChanged`. The first
        change comes when all states are here, even if there are none. A change with an ``error`` tells that the service
        has ended the subscription. At the end of the last block of a group the states are unsubscribed.

        Args:
            group: 1 to 1024 characters, not blank.
            timeout: of the subscription, as for :meth:`join_group`.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`subscribe_group_states`.
        """
        return Block(self._watch(group, timeout))

    @asynccontextmanager
    async def _watch(self, group: str, timeout: float | None) -> AsyncGenerator[GroupStates]:
        with self._watches.subscribed(self._open((GroupStatesChanged,), group)) as subscription:
            async with self._iterate(subscription.buffer) as changes:
                with subscription.joining():
                    await self.subscribe_group_states(group, timeout=timeout)
                yield GroupStates(self._session, group, changes)

    # ---- Inside

    def _open(self, types: tuple[type[Any], ...], group: str | None = None) -> Buffer:
        buffer = self._buffer(types, group)
        self._delivery.open(buffer)
        return buffer

    def _incoming(self, decoder: Decoder | None, stream: FollowedStream, fragments: Fragments) -> IncomingStream[Any]:
        return IncomingStream(stream, self._iterate(fragments, decoder))

    def _iterate(self, buffer: Buffer, decoder: Decoder | None = None) -> EventStream[Any]:
        waiter = self._driver.waiter
        return EventStream(buffer, waiter) if decoder is None else TypedEventStream(buffer, waiter, decoder)

    def _iterate_batches(self, buffer: Buffer) -> EventStream[list[Message]]:
        return Batches(buffer, self._driver.waiter)
