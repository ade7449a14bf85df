"""Calls of a client's instrument, which cannot break the client. No event loop in here."""

from __future__ import annotations

import inspect
import logging
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, suppress
from functools import partial
from time import perf_counter
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, get_args

from limpet import (
    ClientInfo,
    Event,
    GroupMessage,
    Instrument,
    InvalidValue,
    LifecycleEvent,
    Observation,
    OutgoingRequest,
    Session,
)
from limpet._clients.buffers import MESSAGES
from limpet._clients.callbacks import Callback, CallbackWrapper, give_up
from limpet_core.protocol.names import is_metadata_key, is_metadata_value

log: logging.Logger = logging.getLogger("limpet")

T = TypeVar("T")

_LIFECYCLE: frozenset[type] = frozenset(get_args(LifecycleEvent))

_FAILURES = (Exception, CancelledError)  # nothing is awaited in an instrument: no cancellation of this task


class Instruments:
    """The instrument of one client.

    Args:
        instrument: the application's.
        session: the client's.
    """

    def __init__(self, instrument: Instrument, session: Session) -> None:
        self._instrument = instrument
        self._client = ClientInfo(session)
        self._failed: set[str] = set()

    def failed(self, hook: str) -> None:
        """Log the exception of a method of the instrument: in full the first time, then only for who looks closely."""
        if hook in self._failed:
            log.debug("the instrument failed again in %s", hook, exc_info=True)
        else:
            self._failed.add(hook)
            log.exception(
                "the instrument failed in %s; the client goes on, and further failures there are logged as DEBUG", hook
            )

    # ---- Events

    def observe(self, events: Iterable[Event]) -> None:
        """Tell the instrument of a batch of events, before the application hears of them."""
        messages = [event for event in events if type(event) in MESSAGES]
        if messages:
            try:
                self._instrument.messages(self._client, messages)  # type: ignore[arg-type]
            except _FAILURES:
                self.failed("messages")
        for event in events:
            if type(event) is not GroupMessage and type(event) in _LIFECYCLE:
                try:
                    self._instrument.lifecycle(self._client, event)  # type: ignore[arg-type]
                except _FAILURES:
                    self.failed("lifecycle")

    # ---- Requests

    def request(self, call: partial[T]) -> ObservedRequest[T]:
        """Tell the instrument of a request; use the result as a context manager around its ``call``.

        Args:
            call: a method of the session with its arguments, the target first.
        """
        target, *more = call.args
        named = call.keywords
        name = target if isinstance(target, str) else type(target).__name__  # then the request raises
        request = OutgoingRequest(
            call.func.__name__, name, more[0] if more else None, named.get("data_type"), named.get("metadata")
        )
        observation: Observation | None = None
        added: dict[str, str] = {}
        try:
            observation = self._instrument.request(self._client, request)
            added = _sendable(request.added) if request.takes_metadata else added
        except _FAILURES:
            self.failed("request")
        return ObservedRequest(self, observation, _with_metadata(call, added))

    async def ask(self, method: Callable[[Callable[..., Any]], Awaitable[T]], call: partial[Any]) -> T:
        """Await ``method(call)``, and tell the instrument of its beginning and its end."""
        with self.request(call) as observed:
            return await method(observed.call)

    # ---- Callbacks

    def callback(self, callback: Callback) -> ObservedCallback:
        """Return a callback for messages that is ``callback``, and tells the instrument of each call."""
        return ObservedCallback(self, callback)

    def begin(self, event: Any, callback: Callback) -> Observation | None:
        """Tell the instrument of a call of a callback."""
        try:
            return self._instrument.callback(self._client, event, callback)
        except _FAILURES:
            self.failed("callback")
            return None

    def ended(self, observation: Observation | None, error: BaseException | None, began: float) -> None:
        """Tell an observation of the end."""
        if observation is not None:
            try:
                observation.ended(error, perf_counter() - began)
            except _FAILURES:
                self.failed("ended")


def _sendable(metadata: dict[str, str]) -> dict[str, str]:
    """Return the metadata that an instrument has added, as far as it can be sent; it may be anything."""
    return {key: value for key, value in metadata.copy().items() if is_metadata_key(key) and is_metadata_value(value)}


def _with_metadata(call: partial[T], added: dict[str, str]) -> Callable[..., T]:
    """Return ``call`` with more metadata."""
    own = call.keywords.get("metadata")
    if not added or not (own is None or isinstance(own, Mapping)):
        return call
    larger = partial(call, metadata={**added, **(own or {})})

    def make(*args: Any, **named: Any) -> T:
        with suppress(InvalidValue):  # too large; or wrong by itself, and then it is again
            return larger(*args, **named)
        return call(*args, **named)

    return make


class ObservedRequest(Generic[T]):
    """A request, and what the instrument notes of it; a context manager around the request.

    Attributes:
        call: makes the request.
    """

    __slots__ = ("_began", "_instruments", "_observation", "call")

    def __init__(self, instruments: Instruments, observation: Observation | None, call: Callable[..., T]) -> None:
        self.call: Callable[..., T] = call
        self._instruments = instruments
        self._observation = observation
        self._began = perf_counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ended(error)

    def ended(self, error: BaseException | None) -> None:
        """Tell the instrument of the end, where the request is no block."""
        self._instruments.ended(self._observation, error, self._began)


class _Within:
    """Surrounds the code of a callback with the context manager of an observation, whose faults are logged."""

    __slots__ = ("_entered", "_instruments", "_observation")

    def __init__(self, instruments: Instruments, observation: Observation) -> None:
        self._instruments = instruments
        self._observation = observation
        self._entered: AbstractContextManager[object] | None = None

    def __enter__(self) -> None:
        try:
            manager = self._observation.within()
            manager.__enter__()
            self._entered = manager
        except _FAILURES:
            self._instruments.failed("within")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._entered is not None:
            try:
                self._entered.__exit__(kind, error, trace)  # the result is ignored: it hides no exception
            except BaseException as late:
                if late is not error:  # some raise the exception that they were given, in place of returning False
                    if not isinstance(late, _FAILURES):
                        raise
                    self._instruments.failed("within")


class ObservedCallback(CallbackWrapper):
    """A callback of the application, and what the instrument notes of each of its calls."""

    __slots__ = ("_instruments",)

    def __init__(self, instruments: Instruments, callback: Callback) -> None:
        super().__init__(callback)
        self._instruments = instruments

    def __call__(self, event: Any) -> object:
        instruments, callback = self._instruments, self.__wrapped__
        observation = instruments.begin(event, callback)
        if observation is None:
            return callback(event)
        began = perf_counter()
        try:
            with _Within(instruments, observation):
                result = callback(event)
        except BaseException as error:
            instruments.ended(observation, error, began)
            raise
        if result is not None and inspect.isawaitable(result):
            return _ObservedAwaitable(instruments, observation, result, began)
        instruments.ended(observation, None, began)
        return result


class _ObservedAwaitable:
    """What an async callback has returned, and what the instrument notes of it."""

    __slots__ = ("_awaitable", "_began", "_instruments", "_observation")

    def __init__(
        self, instruments: Instruments, observation: Observation, awaitable: Awaitable[object], began: float
    ) -> None:
        self._instruments = instruments
        self._observation = observation
        self._awaitable = awaitable
        self._began = began

    def __await__(self) -> Generator[Any, Any, object]:
        try:
            with _Within(self._instruments, self._observation):
                result = yield from self._awaitable.__await__()
        except BaseException as error:
            self._instruments.ended(self._observation, error, self._began)
            raise
        self._instruments.ended(self._observation, None, self._began)
        return result

    def cancel(self) -> None:
        """Give it up: nothing awaits it any more."""
        try:
            give_up(self._awaitable)
        finally:
            self._instruments.ended(self._observation, CancelledError(), self._began)
