"""The base of all drivers, with the one rule how a session is drained."""

from __future__ import annotations

import math
import random
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

from limpet import Acked, Connected, Dial, Event, Invoked, Options, Session, Stopped
from limpet._clients import suspend
from limpet._clients.delivery import Delivery
from limpet._clients.waiters import settle_invocation, settle_request
from limpet._transports.route import Route
from limpet_core.nothing import NOTHING

_MOST_LINES = 1000
"""Lines of the log that may fail before a driver gives up to hand on events."""


class Transport(Protocol):
    """The methods of an open transport that the drain calls."""

    @property
    def writable(self) -> bool:
        """Whether a message would be sent without waiting for the peer."""
        ...

    def write(self) -> None:
        """Send the session's messages, now or soon."""
        ...

    def read(self, wanted: bool) -> None:
        """Pause or resume reading."""
        ...


class Owner(Protocol):
    """The attributes of the driver that its transport uses."""

    session: Session

    def drain(self) -> None:
        """Do what the session wants done; to be called after every call to the session."""
        ...

    def failed(self, error: BaseException) -> None:
        """Note that ``error`` interrupted a call to the session."""
        ...

    def wake_senders(self) -> None:
        """Wake callers that can send now; to be called when the transport has become writable."""
        ...


TransportT = TypeVar("TransportT", bound=Transport)


class BaseDriver(ABC, Generic[TransportT]):
    """Keeps one session going: its transport, its timer, its events.

    Args:
        route: the way to the service.
        options: the session's.
        elsewhere: callbacks are called elsewhere, see :meth:`_run_callbacks`.

    Attributes:
        session: the protocol's state.
        delivery: hands the session's events to the application.
        unseen: how many errors of ``client.submit`` nobody has looked at.
    """

    __slots__ = (
        "__weakref__",
        "_armed",
        "_called_meanwhile",
        "_delivering",
        "_dial",
        "_draining",
        "_route",
        "_senders",
        "_transport",
        "_wall_clock",
        "delivery",
        "session",
        "unseen",
    )

    _start_hint = "`async with client:`"

    def __init__(self, route: Route, options: Options | None, *, elsewhere: bool = False) -> None:
        self.session: Session = Session(options, random=random.random, headers=route.headers)
        self.session.start_hint = self._start_hint
        self.unseen: int = 0
        limit = self.session.options.max_buffered_messages
        self.delivery: Delivery = Delivery(limit, self, elsewhere=elsewhere)
        self._senders: Any = NOTHING  # callers that wait until a message without an ack can be sent
        self._dial: Dial | None = None  # of the transport, or of the attempt to open it
        self._transport: TransportT | None = None
        self._route = route
        self._armed = math.inf  # when the timer fires
        self._wall_clock = 0.0  # the seconds since 1970, less those of the session's clock
        self._draining = False
        self._called_meanwhile = False  # the session was called since the drain last looked at it
        self._delivering: Iterable[Event] = ()  # events that are being delivered

    # ---- For the client

    @abstractmethod
    def now(self) -> float:
        """Return the session's time."""

    @abstractmethod
    def flush(self) -> None:
        """Send the requests that were added to the session, now or soon."""

    def flush_soon(self) -> None:
        """Send fragments, for whose answers nobody waits: soon, as many as possible together."""
        self.flush()

    def consumers_ready(self, ready: bool) -> None:
        """Pause or resume reading: consumers are too far behind, or have caught up."""
        if ready:
            self.session.reading_resumed(self.now())
        else:
            self.session.reading_paused(self.now())
        self.drain()

    def start_session(self, now: float, timeout: float | None = None) -> None:
        """Start the session; reading is paused if consumers of the run before are still too far behind."""
        self.session.asleep(suspend.asleep(), now)  # what it slept before does not count
        self._wall_clock = time.time() - now
        self.session.start(now, timeout=timeout)
        self.delivery.begin()
        if self.delivery.held:
            self.session.reading_paused(now)
        else:
            self.session.reading_resumed(now)

    @abstractmethod
    def settle(self, event: Connected | Stopped) -> None:
        """Wake the callers that wait for the start or for the stop."""

    def settle_requests(self, events: Collection[Acked]) -> None:
        """Give the ends of requests to their waiters."""
        for event in events:
            settle_request(event, event.user_data)

    def settle_invocation(self, event: Invoked) -> None:
        """Give the end of an invocation to its waiter."""
        settle_invocation(event)

    def raise_later(self, error: BaseException) -> None:
        """Raise ``error``, which a callback raised, out of the event loop or nursery, after this call; else now."""
        raise error

    def can_send(self, publish: bool) -> bool:
        """Return whether a message without an ack can be sent now.

        The transport accepts data and, for a publish, the session's window has room.
        """
        transport = self._transport
        return (transport is None or transport.writable) and (not publish or self.session.publishing)

    # ---- Time

    def _wake_session(self, now: float) -> None:
        """Have the session do what is due, and notice a suspend of the machine."""
        if self.session.connection_id is None:  # within a connection the time of its begin must not move
            self._wall_clock = time.time() - now
        self.session.asleep(suspend.asleep(), now)
        self.session.wake(now)

    def wall_time(self, when: float) -> float:
        """Return a time of the session's clock in seconds since 1970; any thread may ask."""
        return self._wall_clock + when

    # ---- The rule

    def drain(self) -> None:
        """Do what the session wants done; to be called after every call to the session, before waiting.

        Write first, so that acknowledgements do not wait for slow callbacks; follow the session's dial; deliver the
        events; and again, if a callback has called the session meanwhile.
        """
        if self._draining:
            self._called_meanwhile = True
            return  # a callback called: the drain that called the callback goes on
        session, delivery = self.session, self.delivery
        try:
            try:
                self._draining = True
                while True:
                    self._called_meanwhile = False
                    if self._transport is not None:
                        self._transport.write()
                    if session.dial is not self._dial:
                        self._redial()
                    events = session.events()
                    if not events:
                        break
                    self._delivering = events
                    delivery.deliver(events)
                    self._delivering = ()
                    if delivery.callbacks.busy:
                        self._run_callbacks()
                    if not self._called_meanwhile:
                        break  # another round would find nothing
            finally:
                self._draining = False
            if self._transport is not None:
                self._transport.read(session.reading)
            if self._senders:
                self.wake_senders()
            deadline = session.deadline
            if deadline < self._armed:
                self._arm(deadline)
        except BaseException as error:
            self.failed(error)
            raise

    def failed(self, error: BaseException) -> None:
        """Note that ``error`` interrupted the client's own work, of which an unknown part was done."""

    def last_events(self) -> list[Event]:
        """Return the events of a session that was stopped, of which each must arrive.

        A handler of the log may be what has failed, and may fail again. Each line is written once, so this has an end.
        """
        for _ in range(_MOST_LINES):
            with suppress(Exception):
                return self.session.events()
        return self.session.events()

    # ---- Hooks of the rule

    @abstractmethod
    def _redial(self) -> None:
        """Close the transport, which is not wanted any more, and open the one that ``session.dial`` asks for."""

    @abstractmethod
    def _run_callbacks(self) -> None:
        """Have the callbacks go on that the delivery cannot call itself."""

    @abstractmethod
    def wake_senders(self) -> None:
        """Wake those of ``_senders`` that can send now."""

    @abstractmethod
    def _arm(self, deadline: float) -> None:
        """Set the timer, which would fire too late, to ``deadline``."""
