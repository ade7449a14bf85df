"""The blocking client."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, overload

from limpet import (
    GroupMessage,
    GroupStatesChanged,
    Instrument,
    InvalidType,
    Message,
    Options,
    ServerMessage,
    State,
)
from limpet._clients.callbacks import Callback, unwrapped
from limpet._clients.incoming_buffers import Fragments
from limpet._clients.misuse import OnlyBlocking
from limpet._clients.streams import Subscription
from limpet._clients.typed import OnInvalid, decoder
from limpet._transports.messages import BlockingConnect
from limpet._transports.proxies import ProxySetting
from limpet._transports.route import Route
from limpet._transports.tls import TlsSetting
from limpet.sync import _forks
from limpet.sync._group_states import GroupStates, Watching
from limpet.sync._incoming import AllStreams, IncomingStream, TypedIncomingStream
from limpet.sync._outgoing import OutgoingStream
from limpet.sync._portal import Portal
from limpet.sync._requests import Requests
from limpet.sync._streams import EventStream, InboxStream, TypedEventStream
from limpet.sync._subscriptions import Subscribing, Subscriptions, SubscriptionStream, TypedSubscriptionStream
from limpet.sync.driver import Driver
from limpet_core.client.headers import HeadersSetting
from limpet_core.client.incoming_streams import FollowedStream

T = TypeVar("T")
P = TypeVar("P")
F = TypeVar("F", bound=Callback)


class Client(OnlyBlocking, Requests):
    """A Web PubSub client that recovers dropped connections, for code that blocks.

    Use it as ``with Client(url) as client:``, or call :meth:`start` and :meth:`stop`. Every method may be called from
    any thread. A thread of its own keeps the connection; if there are callbacks, a second one calls them, so that they
    may call the client's methods.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        options: Options | None = None,
        *,
        ssl: TlsSetting = None,
        proxy: ProxySetting = None,
        headers: HeadersSetting | None = None,
        connect: BlockingConnect | None = None,
        instrument: Instrument | None = None,
    ) -> None:
        """Make a client, which connects when it is started.

        Args:
            url: the Client Access URL, or a function that returns one. The function is called for every new
                connection, never for a recovery; with a fixed URL the client can go on only as long as its token is
                valid.
            options: see :class:`limpet.Options`.
            ssl: an ``ssl.SSLContext``, or the path of a file with the CA certificates to trust; None: the system's
                trust store. A context of your own can also present a client certificate.
            proxy: ``http://[user:password@]host[:port]``, the same with ``https://``, or with ``socks5://`` (needs
                ``limpet[socks]``); None: the environment's proxy; False: none. ``ssl`` checks the certificate of an
                ``https`` proxy, too.
            headers: more headers for each handshake with the service, a dict or pairs of name and value; never sent to
                a proxy. A ``User-Agent`` replaces the client's own.
            connect: opens the transport instead, see :data:`limpet.connect.BlockingConnect`, and sees to TLS and
                proxies.
            instrument: watches the client, see :class:`limpet.Instrument`; for example
                ``limpet.opentelemetry.OpenTelemetry()``.

        Raises:
            InvalidType, InvalidValue: an argument cannot be used; the message names it.
        """
        driver = Driver(Route(url, ssl, proxy, blocking_connect=connect, headers=headers), options)
        super().__init__(driver, threading.RLock(), instrument=instrument)  # among the application's threads
        self._portal = Portal(driver)
        _forks.watch(self, Client._after_fork)

    def _after_fork(self) -> None:
        self._guard = threading.RLock()  # a thread of the parent may have the old one
        self._driver.after_fork()

    # Made when needed, by the first of all threads that come at once: each takes 0.2 KiB.

    @property
    def _open_subscriptions(self) -> Subscriptions:
        made: Subscriptions = self.__dict__.setdefault("_subscriptions", Subscriptions(self._leave_later))
        return made

    @property
    def _open_watches(self) -> Subscriptions:
        made: Subscriptions = self.__dict__.setdefault("_watches", Subscriptions(self._unsubscribe_later))
        return made

    # ---- Start and stop

    def start(self, *, timeout: float | None = None) -> None:
        """Connect. Return when the service's first message is here; the client then keeps itself connected.

        Args:
            timeout: seconds, 0 or more, in which a connection must be there; None: as long as the options say.

        Raises:
            ConnectError: no connection could be made, or the URL function raised an exception, which is the
                ``__cause__``; the client is stopped, and may be started again. By default the first failed attempt
                raises; see :attr:`Options.first_connection <limpet.Options>`.
            ConnectTimeout: there was no connection in time; a ConnectError and a TimeoutError.
            ClientStopped: another thread called :meth:`stop` meanwhile; this ends a start that takes too long.
            LocalProtocolError: the client was started already, perhaps by the process that this one was forked from.
        """
        self._portal.start(timeout)

    def stop(self) -> None:
        """Disconnect, in any state. Return when the connection is closed, at most ``close_timeout`` later.

        Requests that wait fail with :class:`limpet.SendError`. On a client that is stopped, and in a forked child,
        whose parent has the connection, nothing happens.
        """
        self._portal.stop()

    def check(self) -> None:
        """Look at once whether the connection is still there: call it when you know that the network has changed.

        The client sends a ping, and recovers the connection unless it hears something within ``check_timeout`` (5 s).
        An attempt to connect that waits for its delay is made at once. The call returns immediately, and does nothing
        if the client is stopped. After a suspend of the machine the client checks by itself.
        """
        if self._session.state is not State.STOPPED:
            self._portal.post(self._driver.check_now)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

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
        """Open a stream of fragments to ``group``: ``with client.open_stream("group1") as stream:``.

        Without a block, call ``end()`` or ``abort()``.

        Args:
            group: 1 to 1024 characters, not blank.
            no_echo: do not deliver the fragments back to this client.
            idle_timeout: seconds without a sign of the stream after which the service closes it, from 0.001. The client
                keeps a silent stream alive, at a third of that time.
            stream_id: 1 to 1024 characters; None: a fresh id.
            timeout: seconds, 0 or more, to wait until the service has accepted the start, and again at the end of the
                block until it has closed the stream; None: ``request_timeout`` of the options, and as long as it takes.

        Raises:
            StreamError: the service refused, or the connection was lost; see its ``name``.
            StreamTimeout: the time is over; a StreamError and a TimeoutError. The stream is given up. At the end of the
                block: it ends all the same.
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
        return OutgoingStream(self._driver, self._portal, opening, timeout)

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
        """Read the streams of a group, or of all groups: ``for stream in client.streams("group1")``.

        Each stream that begins from now on comes as an :class:`IncomingStream`, whose fragments are iterated over in
        turn. Read several at once with a thread each. This joins no group: nothing comes, and nothing is said, before
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
        portal, decode = self._portal, decoder(type, on_invalid)

        def make(stream: FollowedStream, fragments: Fragments) -> IncomingStream[Any]:
            if decode is not None:
                return TypedIncomingStream(decode, stream, fragments, portal)
            return IncomingStream(stream, fragments, portal)

        return AllStreams(self._streams_buffer(group, from_start_only, make), portal)

    # ---- Events

    def _register(self, event_type: type[Any], callback: F) -> F:
        if inspect.iscoroutinefunction(unwrapped(callback)):
            raise InvalidType("callback is async; this client needs a plain function")
        return super()._register(event_type, callback)

    def __iter__(self) -> EventStream[Message]:
        """Iterate over group and server messages, in order, from the oldest message that no iterator has
        returned yet.
        """
        return InboxStream(self._delivery.inbox, self._portal)

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
        """Iterate over events of the given types from now on: ``for event in client.events(GroupMessage)``.

        Args:
            types: types of events.
            type: of messages: the type of their data: a msgspec Struct, a dataclass, a pydantic model, or one of these
                and of Python's own types, such as ``list[int]``. The iteration gives messages with such an object as
                ``data``. Ends of streams, which have no data, are left out. None: the data as it came.
            on_invalid: a function that is called with the :class:`limpet.InvalidData` of each message whose data does
                not fit, which is left out then. None: the iteration raises the error, and can go on with the next
                message.

        Raises:
            InvalidType: no type is given, one is no event type, or data cannot be decoded into ``type``.
        """
        decode, buffer = decoder(type, on_invalid, types), self._buffer(types)
        return EventStream(buffer, self._portal) if decode is None else TypedEventStream(decode, buffer, self._portal)

    @overload
    def subscribe(
        self, group: str, *, timeout: float | None = None
    ) -> AbstractContextManager[EventStream[GroupMessage]]: ...
    @overload
    def subscribe(
        self, group: str, *, type: type[P], on_invalid: OnInvalid | None = None, timeout: float | None = None
    ) -> AbstractContextManager[EventStream[GroupMessage[P]]]: ...
    def subscribe(
        self, group: str, *, type: Any = None, on_invalid: OnInvalid | None = None, timeout: float | None = None
    ) -> AbstractContextManager[EventStream[GroupMessage[Any]]]:
        """Join ``group``, iterate over its messages, leave: ``with client.subscribe("group1") as messages:``.

        Args:
            group: 1 to 1024 characters, not blank.
            type, on_invalid: of the data of messages, as for :meth:`events`.
            timeout: of the join, as for :meth:`join_group`.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """

        decode = decoder(type, on_invalid)

        def make() -> SubscriptionStream[GroupMessage[Any]]:
            subscription = Subscription(self._buffer((GroupMessage,), group))
            if decode is not None:
                return TypedSubscriptionStream(decode, subscription, self._open_subscriptions, self._portal)
            return SubscriptionStream(subscription, self._open_subscriptions, self._portal)

        return Subscribing(make, partial(self.join_group, group, timeout=timeout))

    def watch_group_states(self, group: str, *, timeout: float | None = None) -> AbstractContextManager[GroupStates]:
        """Subscribe the states of ``group`` within a block: ``with client.watch_group_states("g") as states:``.

        ``states`` is a live mapping, connection id to :class:`limpet.GroupState`, that cannot be changed;
        ``for change in states.changes:`` iterates over the changes, as :class:`limpet.GroupStatesChanged`. The first
        change comes when all states are here, even if there are none. A change with an ``error`` tells that the service
        has ended the subscription. At the end of the last block of a group the states are unsubscribed.

        Args:
            group: 1 to 1024 characters, not blank.
            timeout: of the subscription, as for :meth:`join_group`.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`subscribe_group_states`.
        """

        def make() -> SubscriptionStream[GroupStatesChanged]:
            subscription = Subscription(self._buffer((GroupStatesChanged,), group))
            return SubscriptionStream(subscription, self._open_watches, self._portal)

        return Watching(self._session, group, make, partial(self.subscribe_group_states, group, timeout=timeout))
