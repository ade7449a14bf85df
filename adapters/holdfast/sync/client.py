"""The blocking client."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, cast, overload

from holdfast import (
    Ack,
    ClientStopped,
    DataType,
    Event,
    GroupMessage,
    InvalidType,
    LocalProtocolError,
    Message,
    Options,
    State,
    Stopped,
)
from holdfast._base import BaseClient
from holdfast._delivery import Buffer, Callback
from holdfast._route import Route, TlsSetting
from holdfast._wire import ProxySetting
from holdfast.sync.driver import Answer, Driver

log: logging.Logger = logging.getLogger("holdfast")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
F = TypeVar("F", bound=Callback)


class EventStream(Generic[T_co]):
    """Events in order, to iterate over with ``for``; made by the methods of a client.

    It ends when the client stops, with the client's error if that was not asked for. A stream that is not read
    holds up the connection when ``max_buffered_messages`` events wait in it: close it when it is of no use any more
    (leaving a ``with`` or dropping the last reference does that, too).
    """

    def __init__(self, buffer: Buffer, lock: threading.RLock) -> None:
        self._buffer = buffer
        self._lock = lock
        self._closed = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T_co:
        return self.next()

    def next(self, timeout: float | None = None) -> T_co:
        """The next event, waited for at most ``timeout`` seconds.

        Raises:
            TimeoutError: none has come in time; the stream goes on.
            StopIteration: the client was stopped.
            HoldfastError: the client could not go on.
        """
        buffer = self._buffer
        while True:
            with self._lock:
                if self._closed:
                    raise StopIteration
                if buffer.items:
                    return cast(T_co, buffer.pop())
                if buffer.error is not None:
                    raise buffer.error
                if buffer.ended:
                    raise StopIteration
                if buffer.wake is not None:
                    raise LocalProtocolError("two threads iterate over the same stream of events; give each its own")
                news = Answer()
                buffer.wake = _once(news)
            try:
                news.wait(timeout)
            finally:
                buffer.wake = None

    def close(self) -> None:
        """Take no more events; what waits in the stream is dropped. Repeats do nothing."""
        with self._lock:
            if not self._closed:
                self._closed = True
                self._buffer.close()
                if self._buffer.wake is not None:
                    self._buffer.wake()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


class Client(BaseClient[Driver]):
    """A Web PubSub client that holds on, for code that blocks; every method may be called from any thread.

    Use it as ``with Client(url) as client:``, or call :meth:`start` and :meth:`stop`. A thread of its own keeps the
    connection; a second one, if there are callbacks, calls these, so that they may call the client's methods.

    Args:
        url: the Client Access URL, or a function that returns one. A function is asked for every new connection,
            never for a recovery; with a fixed URL the client can go on only as long as its token is valid.
        options: see :class:`holdfast.Options`.
        ssl: an ``ssl.SSLContext``, or the path of a file with the CA certificates to trust; None: the system's trust
            store. With a context of your own you can show a client certificate.
        proxy: ``http://[user:password@]host[:port]``; None: what the environment says; False: none.

    Raises:
        InvalidType, InvalidValue: an argument can not be used; the message names it.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        options: Options | None = None,
        *,
        ssl: TlsSetting = None,
        proxy: ProxySetting = None,
    ) -> None:
        driver = Driver(Route(url, ssl, proxy), options, self._deliver)
        super().__init__(driver, driver.lock)
        self._lock = driver.lock
        self._delivery.busy = True  # callbacks always wait for their thread
        self._work = threading.Condition(self._lock)
        self._caller: threading.Thread | None = None

    # ---- Life

    def start(self) -> None:
        """Connect. Done when the service's first message is here; from then on the client keeps itself connected.

        Raises:
            ConnectError: no connection could be made; the client is stopped again and may be started again.
            LocalProtocolError: it was started already.
        """
        self._delivery.begin()
        try:
            event = self._driver.start()
        except KeyboardInterrupt:
            self.stop()
            raise
        if type(event) is Stopped:
            self.stop()
            raise event.error or ClientStopped("the client was stopped while it started")

    def stop(self) -> None:
        """Disconnect, in whatever state; done when the connection is closed, at most ``close_timeout`` later.

        Requests that wait fail with :class:`holdfast.SendError`. A client that is stopped already stays so.
        """
        self._driver.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # ---- Requests

    def join_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Join ``group``; after a reconnect the client joins it again by itself.

        Args:
            group: 1 to 1024 characters, not blank.
            ack_id: repeat an earlier request under its ack id.
            timeout: seconds to wait for the answer; None: as long as it takes.

        Raises:
            SendError: the service refused, or the outcome is not known; see its ``outcome``.
            TimeoutError: after ``timeout`` seconds; the request may still be executed if it was sent already.
            TooManyRequests: ``max_pending_requests`` wait already.
            LocalProtocolError: an argument can not be used, or the client is not started.
        """
        answer = Answer()
        with self._lock:
            key = self._session.join_group(group, self._driver.now(), ack_id=ack_id, user_data=answer)
            self._driver.flush()
        return self._settled(key, answer, timeout)

    def leave_group(self, group: str, *, ack_id: int | None = None, timeout: float | None = None) -> Ack:
        """Leave ``group``. Arguments and errors are those of :meth:`join_group`."""
        answer = Answer()
        with self._lock:
            key = self._session.leave_group(group, self._driver.now(), ack_id=ack_id, user_data=answer)
            self._driver.flush()
        return self._settled(key, answer, timeout)

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
        self, group: str, data: Any, *, data_type: DataType | None = None, no_echo: bool = False, ack: Literal[False]
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
            ack: wait for the service's answer; without it None is returned at once and errors are silent.
            ack_id, timeout: as for :meth:`join_group`.

        Raises:
            SendError, TimeoutError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        answer = Answer() if ack else None
        with self._lock:
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
            self._driver.flush()
        return self._settled(key, answer, timeout) if key is not None and answer is not None else None

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
    def send_event(self, event: str, data: Any, *, data_type: DataType | None = None, ack: Literal[False]) -> None: ...
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
        answer = Answer() if ack else None
        with self._lock:
            key = self._session.send_event(
                event, data, self._driver.now(), data_type=data_type, ack=ack, ack_id=ack_id, user_data=answer
            )
            self._driver.flush()
        return self._settled(key, answer, timeout) if key is not None and answer is not None else None

    # ---- Events

    def _register(self, event_type: type[Any], callback: F) -> F:
        if inspect.iscoroutinefunction(callback):
            raise InvalidType("callback is async; this client needs a plain function")
        return super()._register(event_type, callback)

    def __iter__(self) -> EventStream[Message]:
        """Group and server messages, in order, those included that arrived before and were not taken."""
        with self._lock:
            return EventStream(self._delivery.read_inbox(), self._lock)

    def events(self, *types: type[T]) -> EventStream[T]:
        """Events of the given types from now on: ``for event in client.events(GroupMessage, Recovered)``.

        Raises:
            InvalidType: no type is given, or one is no event type.
        """
        return EventStream(self._open(types), self._lock)

    @contextmanager
    def subscribe(self, group: str) -> Generator[EventStream[GroupMessage]]:
        """Join ``group``, iterate over its messages, leave: ``with client.subscribe("group1") as messages:``.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        with (
            self._subscribed(group) as subscription,
            EventStream[GroupMessage](subscription.buffer, self._lock) as stream,
        ):
            with subscription.joining():
                self.join_group(group)
            yield stream

    # ---- Inside

    def _settled(self, key: int, answer: Answer, timeout: float | None) -> Ack:
        try:
            result: Ack = answer.wait(timeout)
        except (TimeoutError, KeyboardInterrupt):
            with self._lock:
                self._session.withdraw(key)
            raise
        return result

    def _deliver(self, events: list[Event]) -> None:
        super()._deliver(events)
        if self._delivery.waiting and self._caller is None:
            self._caller = threading.Thread(target=self._call, name="holdfast-callbacks", daemon=True)
            self._caller.start()
        self._work.notify()

    def _call(self) -> None:
        """Call callbacks, from the first event that has one until the client stops."""
        while True:
            with self._work:
                while (queued := self._delivery.take()) is None:
                    if self.state is State.STOPPED:
                        self._caller = None
                        return
                    self._work.wait()
            event, callbacks = queued
            for callback in callbacks:
                try:
                    callback(event)
                except Exception:
                    log.exception("a callback for %s failed", type(event).__name__)


def _once(answer: Answer) -> Callable[[], None]:
    """Wake ``answer``, but only the first time."""

    def wake() -> None:
        if not answer.done():
            answer.set_result(None)

    return wake
