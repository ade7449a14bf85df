"""The blocking client."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from limpet import Ack, DataType, GroupMessage, InvalidType, Message, Options, State
from limpet._clients.base import BaseClient
from limpet._clients.callbacks import Callback
from limpet._clients.streams import Subscription
from limpet._transports.messages import BlockingConnect
from limpet._transports.proxies import ProxySetting
from limpet._transports.route import Route
from limpet._transports.tls import TlsSetting
from limpet.sync import _forks
from limpet.sync._portal import Portal
from limpet.sync._streams import EventStream, InboxStream
from limpet.sync._subscriptions import Subscribing, Subscriptions, SubscriptionStream
from limpet.sync.driver import Driver
from limpet_core.client.headers import HeadersSetting

T = TypeVar("T")
F = TypeVar("F", bound=Callback)


class Client(BaseClient[Driver]):
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

        Raises:
            InvalidType, InvalidValue: an argument cannot be used; the message names it.
        """
        driver = Driver(Route(url, ssl, proxy, blocking_connect=connect, headers=headers), options)
        super().__init__(driver, threading.RLock())  # among the application's threads
        self._portal = Portal(driver)
        self._open_subscriptions = Subscriptions(self._leave_later)
        _forks.watch(self, self._after_fork)

    def _after_fork(self) -> None:
        self._guard = threading.RLock()  # a thread of the parent may have the old one
        self._driver.after_fork()

    # ---- Start and stop

    def start(self) -> None:
        """Connect. Return when the service's first message is here; the client then keeps itself connected.

        Raises:
            ConnectError: no connection could be made, or the URL function raised an exception, which is the
                ``__cause__``; the client is stopped, and may be started again. By default the first failed attempt
                raises; see :attr:`Options.first_connection <limpet.Options>`.
            ClientStopped: another thread called :meth:`stop` meanwhile; this ends a start that takes too long.
            LocalProtocolError: the client was started already, perhaps by the process that this one was forked from.
        """
        self._portal.start()

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

    if not TYPE_CHECKING:  # type checkers refuse `async with` by themselves

        async def __aenter__(self):
            raise TypeError("this client blocks: use `with client:`")

        async def __aexit__(self, *_):
            raise AssertionError("bug: never entered")

    # ---- Requests

    def join_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Join ``group``; after a reconnect the client joins it again by itself.

        Args:
            group: 1 to 1024 characters, not blank.
            ack_id: repeat an earlier request under its ack id.
            timeout: seconds to wait for the answer; None: as long as it takes.

        Raises:
            SendError: the service refused, or the outcome is not known; see its ``outcome``.
            TimeoutError: no answer in time; its text says whether the request was sent, and may be executed.
            TooManyRequests: ``max_pending_requests`` wait already.
            LocalProtocolError: an argument cannot be used, the client is not started, or this is a forked child of the
                process that started it.
        """
        return self._portal.request(partial(self._session.join_group, group, ack_id=ack_id), timeout)

    def leave_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Leave ``group``. Arguments and errors are those of :meth:`join_group`."""
        return self._portal.request(partial(self._session.leave_group, group, ack_id=ack_id), timeout)

    @overload
    def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: Literal[True] = True,
        ack_id: int | None = None,
        timeout: float | None = None,
    ) -> Ack: ...
    @overload
    def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: Literal[False],
        timeout: float | None = None,
    ) -> None: ...
    def send_to_group(
        self,
        group: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        no_echo: bool = False,
        ack: bool = True,
        ack_id: int | None = None,
        timeout: float | None = None,
    ) -> Ack | None:
        """Publish to ``group``, which this client need not have joined.

        Args:
            group: 1 to 1024 characters, not blank.
            data: a str is sent as ``text``, bytes as ``binary``, anything else as ``json``.
            data_type: overrides that: ``text``, ``json``, ``binary`` or ``protobuf``.
            no_echo: do not deliver it back to this client.
            ack: wait for the service's answer. False: return None as soon as the message is on its way, or at most 64
                others are before it; errors are silent.
            ack_id, timeout: as for :meth:`join_group`.

        Raises:
            SendError, TimeoutError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        if not ack and ack_id is None:
            message = self._session.prepare_send(group, data, data_type=data_type, no_echo=no_echo)
            if self._portal.send_prepared(message, timeout, publish=True):
                return None
        request = partial(self._session.send_to_group, group, data, data_type=data_type, no_echo=no_echo, ack_id=ack_id)
        if ack:
            return self._portal.request(request, timeout)
        self._portal.send(request, timeout, publish=True)
        return None

    @overload
    def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack: Literal[True] = True,
        ack_id: int | None = None,
        timeout: float | None = None,
    ) -> Ack: ...
    @overload
    def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack: Literal[False],
        timeout: float | None = None,
    ) -> None: ...
    def send_event(
        self,
        event: str,
        data: Any,
        *,
        data_type: DataType | None = None,
        ack: bool = True,
        ack_id: int | None = None,
        timeout: float | None = None,
    ) -> Ack | None:
        """Send ``event`` to the application server.

        Args:
            event: a letter, then at most 127 letters, digits, ``_``, ``.`` and ``-``.
            data, data_type, ack, ack_id, timeout: as for :meth:`send_to_group`.

        Raises:
            SendError, TimeoutError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        if not ack and ack_id is None:
            message = self._session.prepare_event(event, data, data_type=data_type)
            if self._portal.send_prepared(message, timeout, publish=False):
                return None
        request = partial(self._session.send_event, event, data, data_type=data_type, ack_id=ack_id)
        if ack:
            return self._portal.request(request, timeout)
        self._portal.send(request, timeout, publish=False)
        return None

    # ---- Events

    def _register(self, event_type: type[Any], callback: F) -> F:
        if inspect.iscoroutinefunction(callback):
            raise InvalidType("callback is async; this client needs a plain function")
        return super()._register(event_type, callback)

    def __iter__(self) -> EventStream[Message]:
        """Iterate over group and server messages, in order, from the oldest message that no iterator has
        returned yet.
        """
        return InboxStream(self._delivery.inbox, self._portal)

    def events(self, *types: type[T]) -> EventStream[T]:
        """Iterate over events of the given types from now on: ``for event in client.events(GroupMessage)``.

        Raises:
            InvalidType: no type is given, or one is no event type.
        """
        return EventStream(self._buffer(types), self._portal)

    def subscribe(self, group: str) -> AbstractContextManager[EventStream[GroupMessage]]:
        """Join ``group``, iterate over its messages, leave: ``with client.subscribe("group1") as messages:``.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """

        def make() -> SubscriptionStream:
            subscription = Subscription(self._buffer((GroupMessage,), group))
            return SubscriptionStream(subscription, self._open_subscriptions, self._portal)

        return Subscribing(make, partial(self.join_group, group))
