"""The API of the client whose methods block, however its connection is kept."""

from __future__ import annotations

import inspect
import logging
import math
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Literal, TypeVar, cast, overload

from limpet import Ack, DataType, GroupMessage, InvalidType, Message, Options, State
from limpet._clients.base import BaseClient
from limpet._clients.callbacks import Callback
from limpet._clients.streams import Subscription
from limpet._transports.messages import BlockingConnect
from limpet._transports.proxies import ProxySetting
from limpet._transports.route import Route
from limpet._transports.tls import TlsSetting
from limpet.sync._calls import Call, Request
from limpet.sync._forks import FORKS
from limpet.sync._streams import EventStream, InboxStream, Streams, Subscribing, SubscriptionStream, check_timeout
from limpet.sync.driver import Driver

log: logging.Logger = logging.getLogger("limpet")

T = TypeVar("T")
F = TypeVar("F", bound=Callback)

_SMALL = 16384
"""Bytes of a message that may wait for the client's thread while who has sent it goes on."""

RETRY = 1.0
"""Seconds until a thread is tried again that could not be started."""

LOOK = 0.1
"""Seconds between two looks for streams that were dropped, while consumers hold up the connection."""


class BlockingClient(BaseClient[Driver]):
    """The part of a client with blocking methods that does not depend on how its connection is kept."""

    def __init__(
        self,
        url: str | Callable[[], str],
        options: Options | None = None,
        *,
        ssl: TlsSetting = None,
        proxy: ProxySetting = None,
        connect: BlockingConnect | None = None,
    ) -> None:
        driver = Driver(Route(url, ssl, proxy, blocking_connect=connect), options)
        super().__init__(driver, threading.RLock())  # among the application's threads
        driver.run_callbacks, driver.keep_house = self._run_callbacks, self._keep_house
        self._work = threading.Condition(driver.lock)
        self._caller: threading.Thread | None = None
        self._open_subscriptions: set[Subscription] = set()
        self._streams = Streams(driver)
        self._retry_at = math.inf
        FORKS.watch(self, self._forked)

    # ---- Requests

    def join_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Join ``group``; after a reconnect the client joins it again by itself.

        Args:
            group: 1 to 1024 characters, not blank.
            ack_id: repeat an earlier request under its ack id.
            timeout: seconds to wait for the answer; None: as long as it takes.

        Raises:
            SendError: the service refused, or the outcome is not known; see its ``outcome``.
            TimeoutError: after ``timeout`` seconds; its text says whether the request was sent, and may be executed.
            TooManyRequests: ``max_pending_requests`` wait already.
            LocalProtocolError: an argument cannot be used, the client is not started, or this is a forked child of the
                process that started it.
        """
        return self._ask(partial(self._session.join_group, group, ack_id=ack_id), timeout)

    def leave_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Leave ``group``. Arguments and errors are those of :meth:`join_group`."""
        return self._ask(partial(self._session.leave_group, group, ack_id=ack_id), timeout)

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
            ack: wait for the service's answer; without it None is returned as soon as the message is on its way, or
                behind at most 64 others that are, and errors are silent.
            ack_id, timeout: as for :meth:`join_group`.

        Raises:
            SendError, TimeoutError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        if not ack and ack_id is None:
            message = self._session.prepare_send(group, data, data_type=data_type, no_echo=no_echo)
            if self._tell_soon(message, timeout, publish=True):
                return None
        request = partial(self._session.send_to_group, group, data, data_type=data_type, no_echo=no_echo, ack_id=ack_id)
        if ack:
            return self._ask(request, timeout)
        self._tell(request, timeout, publish=True)
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
            if self._tell_soon(message, timeout, publish=False):
                return None
        request = partial(self._session.send_event, event, data, data_type=data_type, ack_id=ack_id)
        if ack:
            return self._ask(request, timeout)
        self._tell(request, timeout, publish=False)
        return None

    # ---- Events

    def _register(self, event_type: type[Any], callback: F) -> F:
        if inspect.iscoroutinefunction(callback):
            raise InvalidType("callback is async; this client needs a plain function")
        return super()._register(event_type, callback)

    def __iter__(self) -> EventStream[Message]:
        """Group and server messages, in order, those included that arrived before and were not taken."""
        return InboxStream(self._delivery.inbox, self._streams)

    def events(self, *types: type[T]) -> EventStream[T]:
        """Events of the given types from now on: ``for event in client.events(GroupMessage, Recovered)``.

        Raises:
            InvalidType: no type is given, or one is no event type.
        """
        return EventStream(self._buffer(types), self._streams)

    def subscribe(self, group: str) -> AbstractContextManager[EventStream[GroupMessage]]:
        """Join ``group``, iterate over its messages, leave: ``with client.subscribe("group1") as messages:``.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """

        def make() -> SubscriptionStream:
            subscription = Subscription(self._buffer((GroupMessage,), group))
            return SubscriptionStream(subscription, self._open_subscriptions, self._unsubscribe, self._streams)

        return Subscribing(make, partial(self.join_group, group))

    # ---- Inside

    def _unsubscribe(self, subscription: Subscription) -> None:
        """A subscription has ended (driver's thread): the last one to go leaves the group."""
        if subscription not in self._open_subscriptions:
            return
        self._open_subscriptions.discard(subscription)
        group = subscription.group
        if subscription.joined:
            self._to_leave.add(group)
        if group in self._to_leave and not any(one.group == group for one in self._open_subscriptions.copy()):
            self._to_leave.discard(group)
            self._leave_later(group)

    def _ask(self, request: Request, timeout: float | None) -> Ack:
        """Make a request and wait for its answer."""
        check_timeout(timeout)
        call, driver = Call(request), self._driver
        try:
            driver.ask(call)
            if not call.wait(timeout):
                driver.perform(partial(driver.withdraw, call))
        except BaseException:  # whatever interrupts it
            driver.post(partial(driver.withdraw, call))
            raise
        if not call.done():
            known = "it was not sent" if call.unsent else "it was sent, and may be executed"
            raise TimeoutError(f"no answer within {timeout:g} s: {known} (ack id {call.key})")
        return cast(Ack, call.result())

    def _tell_soon(self, message: bytes | None, timeout: float | None, *, publish: bool) -> bool:
        """Leave a message that was prepared to the client's thread, without waiting; return whether that can be."""
        check_timeout(timeout)
        return message is not None and len(message) <= _SMALL and self._driver.tell_soon(message, publish)

    def _tell(self, request: Request, timeout: float | None, *, publish: bool) -> None:
        """Make a request whose answer nobody wants, as soon as one more can go out."""
        check_timeout(timeout)
        call, driver = Call(request, publish=publish), self._driver
        try:
            if not driver.tell(call):
                return
            if not call.wait(timeout):
                driver.perform(partial(driver.withdraw, call))
        except BaseException:  # as above
            driver.post(partial(driver.withdraw, call))
            raise
        if not call.done():
            raise TimeoutError(f"not sent: the service is too far behind, and still is after {timeout:g} s")
        call.result()

    def _run_callbacks(self) -> None:
        self._need_caller()
        self._work.notify()

    def _need_caller(self) -> None:
        """Have a thread for callbacks that wait."""
        self._retry_at = math.inf
        if self._delivery.callbacks.waiting and self._caller is None:
            caller = threading.Thread(target=self._call, name="limpet-callbacks", daemon=True)
            try:
                caller.start()
            except RuntimeError as error:
                log.error("callbacks have to wait for their thread, which is tried again in %g s: %s", RETRY, error)
                self._retry_at = self._driver.now() + RETRY
            else:
                self._caller = caller

    def _keep_house(self) -> float:
        """Do what nobody asks for (lock held); return when to do it again, whatever happens."""
        self._streams.tidy()
        if self._driver.now() >= self._retry_at:
            self._need_caller()
        # While nothing is read, nothing wakes the driver: a stream that is dropped may be what it waits for.
        return min(self._retry_at, self._driver.now() + LOOK if self._delivery.held else math.inf)

    def _forked(self) -> None:
        """In a forked child: what waits to be taken is for the parent to take."""
        self._caller = None
        self._guard = threading.RLock()  # a thread of the parent may have the old one
        for buffer in (*self._delivery.buffers, self._delivery.inbox):
            buffer.items.clear()
            buffer.wake = None
        self._streams.waiting.clear()
        self._driver.forked()
        self._work = threading.Condition(self._driver.lock)

    def _call(self) -> None:
        """Call callbacks, from the first event that has one until the client stops."""
        while True:
            with self._work:
                while (queued := self._delivery.callbacks.take()) is None:
                    if self.state is State.STOPPED:
                        self._caller = None
                        return
                    self._work.wait()
            event, callbacks = queued
            for callback in callbacks:
                try:
                    callback(event)
                except BaseException:  # sys.exit() in a callback ends no program, and must not end the callbacks
                    log.exception("a callback for %s failed", type(event).__name__)
