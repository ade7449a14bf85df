"""The API of the client whose methods block, however its connection is kept."""

from __future__ import annotations

import inspect
import logging
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, cast, overload

from holdfast import Ack, DataType, Event, GroupMessage, InvalidType, InvalidValue, Message, Options, State, _base
from holdfast._base import BaseClient, BaseStream
from holdfast._channels import BlockingConnect
from holdfast._delivery import Buffer, Callback
from holdfast._forks import FORKS
from holdfast._route import Route, TlsSetting
from holdfast._wire import ProxySetting

log: logging.Logger = logging.getLogger("holdfast")

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
F = TypeVar("F", bound=Callback)

Answer = Future[Any]
"""One result for one waiting thread."""

Request = Callable[..., int | None]
"""A method of the session that asks for something, with all arguments but ``now`` and what becomes of the answer."""


class Driver(_base.Driver, Protocol):
    """Keeps a Session going in threads.

    Attributes:
        lock: held while session and buffers are touched.
        turn: of the same lock; notified when it is worth asking :meth:`takes` again.
    """

    lock: threading.RLock
    turn: threading.Condition

    def answer(self) -> Answer:
        """A new thing to wait for. Raises LocalProtocolError in a forked child."""
        ...

    def check_process(self) -> None:
        """Raise LocalProtocolError if this process only inherited the client."""
        ...

    def forked(self) -> None:
        """This is a forked child now (lock held)."""
        ...

    def takes(self, publish: bool) -> bool:
        """Whether another message without an ack, perhaps a publish, can go out, and others have had their turn lately
        (lock held).
        """
        ...


D = TypeVar("D", bound=Driver)


class EventStream(BaseStream[T_co, Answer]):
    """Events in order, to iterate over with ``for``; made by the methods of a client.

    It ends when the client stops, with the client's error if that was not asked for. A stream that is not read
    holds up the connection when ``max_buffered_messages`` events wait in it: close it when it is of no use any more
    (leaving a ``with`` or dropping the last reference does that, too).
    """

    _END = StopIteration

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
            InvalidValue, InvalidType: ``timeout`` is not a number of seconds.
        """
        if timeout is not None:
            _check_timeout(timeout)
        while True:
            ours = False
            try:
                with self._guard:
                    if self._buffer.items and not self._closed:
                        return cast(T_co, self._buffer.pop())
                    ours = self._buffer.wake is None
                    news = self._wait_for()
                _wait(news, timeout, "no event")
            finally:
                if ours:
                    self._buffer.wake = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class BlockingClient(BaseClient[D]):
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
        driver = self._drive(Route(url, ssl, proxy, blocking_connect=connect), options)
        super().__init__(driver, driver.lock)
        self._delivery.busy = True  # callbacks always wait for their thread
        self._work = threading.Condition(driver.lock)
        self._caller: threading.Thread | None = None
        FORKS.watch(self, driver.lock, self._forked)

    def _drive(self, route: Route, options: Options | None) -> D:
        """The driver for this client."""
        raise AssertionError("each client has its own")

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
            LocalProtocolError: an argument can not be used, the client is not started, or this is a forked child of the
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
            ack: wait for the service's answer; without it None is returned as soon as the message is on its way, and
                errors are silent.
            ack_id, timeout: as for :meth:`join_group`.

        Raises:
            SendError, TimeoutError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
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
        with self._guard:
            return self._iterate(self._delivery.read_inbox())

    def events(self, *types: type[T]) -> EventStream[T]:
        """Events of the given types from now on: ``for event in client.events(GroupMessage, Recovered)``.

        Raises:
            InvalidType: no type is given, or one is no event type.
        """
        return self._iterate(self._open(types))

    @contextmanager
    def subscribe(self, group: str) -> Generator[EventStream[GroupMessage]]:
        """Join ``group``, iterate over its messages, leave: ``with client.subscribe("group1") as messages:``.

        Raises:
            SendError, TooManyRequests, LocalProtocolError: as :meth:`join_group`.
        """
        with self._subscribed(group) as subscription, self._iterate(subscription.buffer) as stream:
            with subscription.joining():
                self.join_group(group)
            yield stream

    # ---- Inside

    def _iterate(self, buffer: Buffer) -> EventStream[Any]:
        return EventStream(buffer, self._driver.answer, self._guard)

    def _ask(self, request: Request, timeout: float | None) -> Ack:
        """Make a request and wait for its answer."""
        _check_timeout(timeout)
        answer = self._driver.answer()
        with self._guard:
            key = request(self._driver.now(), user_data=answer)
            self._driver.flush()
        assert key is not None
        try:
            return cast(Ack, _wait(answer, timeout, "no answer"))
        except (TimeoutError, KeyboardInterrupt, SystemExit) as error:
            with self._guard:
                unsent = self._session.withdraw(key)
            if not isinstance(error, TimeoutError):
                raise
            known = "it was not sent" if unsent else "it was sent, and may be executed"
            raise TimeoutError(f"{error}: {known} (ack id {key})") from None

    def _tell(self, request: Request, timeout: float | None, *, publish: bool) -> None:
        """Make a request whose answer nobody wants, as soon as one more can go out."""
        _check_timeout(timeout)
        driver = self._driver
        driver.check_process()
        with self._guard:
            if not driver.takes(publish):
                self._session.sender_waits(driver.now())
                try:
                    if not driver.turn.wait_for(lambda: driver.takes(publish), timeout):
                        raise TimeoutError(f"not sent: the service is too far behind, and still is after {timeout:g} s")
                finally:
                    self._session.sender_goes_on()
            request(driver.now(), ack=False)
            driver.flush()

    def _deliver(self, events: list[Event]) -> None:
        super()._deliver(events)
        if self._delivery.waiting and self._caller is None:
            caller = threading.Thread(target=self._call, name="holdfast-callbacks", daemon=True)
            try:
                caller.start()
            except RuntimeError as error:
                log.error("callbacks have to wait, until the next event at least: %s", error)
            else:
                self._caller = caller
        self._work.notify()

    def _forked(self) -> None:
        """In a forked child (lock held): what waits to be taken is for the parent to take."""
        self._caller = None
        self._work = threading.Condition(self._driver.lock)  # in the old one, threads of the parent wait
        for buffer in (*self._delivery.buffers, self._delivery.inbox):
            buffer.items.clear()
            buffer.wake = None
        self._driver.forked()

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
                except BaseException:  # sys.exit() in a callback ends no program, and must not end the callbacks
                    log.exception("a callback for %s failed", type(event).__name__)


def _check_timeout(timeout: object) -> None:
    """Raise InvalidType or InvalidValue unless that is how long one can wait."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise InvalidType(f"timeout must be a number of seconds or None, not {type(timeout).__name__}")
    if not 0 <= timeout <= threading.TIMEOUT_MAX:
        raise InvalidValue(f"timeout must be 0 or more seconds, or None to wait as long as it takes, not {timeout}")


def _wait(answer: Answer, timeout: float | None, missing: str) -> Any:
    try:
        return answer.result(timeout)
    except TimeoutError:
        raise TimeoutError(f"{missing} within {timeout:g} s") from None
