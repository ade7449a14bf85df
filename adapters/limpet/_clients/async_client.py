"""The API of the clients whose methods are async."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from limpet import Ack, DataType, GroupMessage, Message, Options, SendError
from limpet._clients.base import BaseClient
from limpet._clients.buffers import Buffer
from limpet._clients.driver import AsyncDriver, AsyncWaiter
from limpet._clients.streams import EventStream, Subscription
from limpet._transports.messages import Connect, ConnectManager
from limpet._transports.proxies import ProxySetting
from limpet._transports.route import Provider, Route
from limpet._transports.tls import TlsSetting
from limpet_core.client.headers import HeadersSetting

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
        self._subscriptions: Counter[str] = Counter()
        self._to_leave: set[str] = set()  # groups that a subscription has joined

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
            ack: wait for the service's answer. False: return None as soon as the message is on its way; errors are
                silent.
            ack_id: repeat an earlier request under its ack id.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        send = self._session.send_to_group
        request = partial(send, group, data, data_type=data_type, no_echo=no_echo, ack=ack, ack_id=ack_id)
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
        request = partial(self._session.send_event, event, data, data_type=data_type, ack=ack, ack_id=ack_id)
        if ack:
            return await self._ask(request)
        await self._tell(request, publish=False)
        return None

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
        with self._subscribed(group) as subscription:
            async with self._iterate(subscription.buffer) as stream:
                with subscription.joining():
                    await self.join_group(group)
                yield stream

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

    @contextmanager
    def _subscribed(self, group: str) -> Generator[Subscription]:
        """Keep a buffer for the group's messages; the last subscription to end leaves the group."""
        subscription = Subscription(self._open((GroupMessage,), group))
        self._subscriptions[group] += 1
        try:
            yield subscription
        finally:
            if subscription.joined:
                self._to_leave.add(group)
            self._subscriptions[group] -= 1
            if not self._subscriptions[group]:
                del self._subscriptions[group]
                if group in self._to_leave:
                    self._to_leave.discard(group)
                    self._leave_later(group)

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
            if self._session.withdraw(ack_id) and not isinstance(error, GeneratorExit):
                driver.flush()
            raise
        finally:
            del driver.waiting[waiter]

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
