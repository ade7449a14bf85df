"""The API that all async clients share."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal, TypeVar, overload

from limpet import Ack, DataType, GroupMessage, Message, Options, SendError
from limpet._clients.base import BaseClient
from limpet._clients.delivery import Buffer
from limpet._clients.driver import AsyncDriver
from limpet._clients.streams import EventStream, Subscription
from limpet._transports.messages import Connect
from limpet._transports.proxies import ProxySetting
from limpet._transports.route import Provider, Route
from limpet._transports.tls import TlsSetting

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
        connect: Connect | None = None,
    ) -> None:
        super().__init__(self._driver_type(Route(url, ssl, proxy, connect), options))
        self._subscriptions: Counter[str] = Counter()

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
        waiter = self._driver.waiter()
        key = self._session.join_group(group, self._driver.now(), ack_id=ack_id, user_data=waiter)
        self._driver.flush()
        return await self._settled(key, waiter)

    async def leave_group(self, group: str, *, ack_id: int | None = None) -> Ack:
        """Leave ``group``. Arguments and errors are those of :meth:`join_group`."""
        waiter = self._driver.waiter()
        key = self._session.leave_group(group, self._driver.now(), ack_id=ack_id, user_data=waiter)
        self._driver.flush()
        return await self._settled(key, waiter)

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
            ack: wait for the service's answer; without it None is returned as soon as the message is on its way, and
                errors are silent.
            ack_id: repeat an earlier request under its ack id.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        if not ack:
            await self._room(publish=True)
        waiter = self._driver.waiter() if ack else None
        key = self._session.send_to_group(
            group,
            data,
            self._driver.now(),
            data_type=data_type,
            no_echo=no_echo,
            ack=ack,
            ack_id=ack_id,
            user_data=waiter,
        )
        self._driver.flush()
        return await self._settled(key, waiter) if ack else None

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
            await self._room(publish=False)
        waiter = self._driver.waiter() if ack else None
        key = self._session.send_event(
            event, data, self._driver.now(), data_type=data_type, ack=ack, ack_id=ack_id, user_data=waiter
        )
        self._driver.flush()
        return await self._settled(key, waiter) if ack else None

    # ---- Events

    def __aiter__(self) -> EventStream[Message]:
        """Group and server messages, in order, those included that arrived before and were not taken."""
        return self._iterate(self._delivery.read_inbox())

    def events(self, *types: type[T]) -> EventStream[T]:
        """Events of the given types from now on: ``async for event in client.events(GroupMessage, Recovered)``.

        Raises:
            InvalidType: no type is given, or one is no event type.
        """
        return self._iterate(self._open(types))

    @asynccontextmanager
    async def subscribe(self, group: str) -> AsyncGenerator[EventStream[GroupMessage]]:
        """Join ``group``, iterate over its messages, leave: ``async with client.subscribe("group1") as messages:``.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        with self._subscribed(group) as subscription:
            async with self._iterate(subscription.buffer) as stream:
                with subscription.joining():
                    await self.join_group(group)
                yield stream

    # ---- Inside

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

    async def _settled(self, key: int | None, waiter: Any) -> Ack:
        assert key is not None
        self._driver.waiting[waiter] = key
        try:
            return await waiter  # type: ignore[no-any-return]
        except SendError:
            raise  # that was the answer; its ack id may be in use again
        except BaseException as error:
            # Cancelled. A request that was sent cannot be withdrawn any more. A rejoin may have waited for its end.
            if self._session.withdraw(key) and not isinstance(error, GeneratorExit):
                self._driver.flush()
            raise
        finally:
            del self._driver.waiting[waiter]

    async def _room(self, *, publish: bool) -> None:
        """Wait until one more message without an ack can go out."""
        driver = self._driver
        await driver.checkpoint()
        if not driver.can_send(publish):
            self._session.sender_waits(driver.now())
            driver.flush()  # for there may be reading now
            try:
                while not driver.can_send(publish):
                    await driver.wait_writable(publish)
            finally:
                self._session.sender_goes_on()
