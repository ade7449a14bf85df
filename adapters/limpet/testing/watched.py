"""A strict session for authors of drivers: it raises where a driver uses the session in a wrong way."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from limpet import Dial, Event, Options, Session, State

PATIENCE: Final = 1.0
"""Seconds between two calls that show that the driver has waited between them."""


_DRAW: Final = "pass a function that draws from [0, 1), such as random.random"


class Misuse(AssertionError):
    """A driver used the session in a wrong way; the text says how, and what to do instead."""


_noting: Final[list[list[Misuse]]] = []


@contextmanager
def noted_misuses() -> Generator[list[Misuse]]:
    """Collect the misuses that all strict sessions find in the block, in any thread."""
    misuses: list[Misuse] = []
    _noting.append(misuses)
    try:
        yield misuses
    finally:
        _noting[:] = [each for each in _noting if each is not misuses]


class Watched(Session):
    """A :class:`limpet.Session` that raises :class:`Misuse` where a driver uses it in a wrong way.

    Use it in place of ``Session`` in the tests of a driver. A plain session ignores most of these mistakes, because
    late and repeated calls have to be harmless.

    It finds:

    - a ``now`` that is no finite number, goes back, or is not of ``clock``;
    - ``random`` that raises or draws outside [0, 1): a 1, which a plain session forgives, is outside;
    - a call amid another call;
    - a second :class:`limpet.Link` or :class:`limpet.Channel` for a dial, one for a dial that is not wanted any more,
      and one for the dial of another session;
    - a call that does nothing: a late one, of an old socket, or a repeated one;
    - arguments of a wrong type;
    - events, a new dial or an earlier deadline that the driver has not looked at when it waits;
    - a deadline that passes without :meth:`wake`.

    The session does not see how a driver waits. If ``now`` has moved by more than ``patience`` between two calls, the
    driver has waited; unless a handler of events may have taken that time, or a dial that blocks. To be exact, call
    :meth:`check_drained` before each wait.

    Args:
        options, random, headers: as for :class:`limpet.Session`.
        patience: seconds between two calls that show a wait between them.
        clock: the clock of ``now``. A ``now`` that is later than it, or earlier by more than ``patience``, is none of
            it: milliseconds, or another clock. None: any ``now`` will do.

    Attributes:
        misuses: all that were raised so far, also those that the driver or its event loop has caught.
    """

    def __init__(
        self,
        options: Options | None = None,
        *,
        random: Callable[[], float],
        headers: Any = None,
        patience: float = PATIENCE,
        clock: Callable[[], float] | None = None,
    ) -> None:
        super().__init__(options, random=self._watch(random), headers=headers)
        self.misuses: list[Misuse] = []
        self._patience = patience
        self._clock = clock
        self._draw: str | None = None  # the fault of the last draw
        self._depth = 0
        self._last: tuple[str, float] | None = None  # the last call, and its time
        self._overdue: float | None = None  # the time of the first call after the deadline
        self._seen_dial: Dial | None = None
        self._open_dial: Dial | None = None
        self._attached: Dial | None = None
        self._seen_deadline = math.inf
        self._sent = True
        self._last_taken: Dial | None = None  # the dial that closes, once its last messages were taken
        self._waiting: list[Event] = []  # events that the driver has not taken
        self._handling = False  # the driver has events that it may pass on at the moment
        self._senders = 0
        self._asleep = -math.inf

    # ---- Outputs that a driver looks at

    @property
    def dial(self) -> Dial | None:
        """See :attr:`limpet.Session.dial`."""
        dial = super().dial
        if not self._depth:
            self._seen_dial = dial
        return dial

    @property
    def deadline(self) -> float:
        """See :attr:`limpet.Session.deadline`."""
        deadline = super().deadline
        if not self._depth:
            self._seen_deadline = deadline
            self._handling = False
        return deadline

    def events(self) -> list[Event]:
        """See :meth:`limpet.Session.events`."""
        self._before("events", {})
        events, self._waiting = [*self._waiting, *super().events()], []
        self._handling = bool(events)
        return events

    def check_drained(self, *, writable: bool = True) -> None:
        """Raise Misuse unless everything is drained; call it before each wait.

        Args:
            writable: the transport takes more messages; False: it is full, and messages have to wait.
        """
        name = self._last[0] if self._last is not None else "start"
        if self._waiting:
            kinds = ", ".join(type(event).__name__ for event in self._waiting[:5])
            raise self._misuse(f"after {name}, events wait ({kinds}): call session.events() before the wait")
        if self._seen_dial is not super().dial:
            raise self._misuse(
                f"after {name}, session.dial was not read before the wait: open or drop the transport first"
            )
        if self._seen_deadline > super().deadline:
            raise self._misuse(
                f"after {name}, session.deadline was not read before the wait: set the timer to it first"
            )
        if writable and not self._sent and self._open and super().dial is not self._last_taken:
            raise self._misuse(
                f"after {name}, the messages to send were not taken before the wait: call link.data_to_send(), "
                "channel.to_send() or session.messages_to_send() first"
            )

    # ---- What is watched

    def _misuse(self, text: str) -> Misuse:
        misuse = Misuse(text)
        self.misuses.append(misuse)
        for noted in _noting:
            noted.append(misuse)
        return misuse

    @property
    def _open(self) -> bool:
        dial = super().dial
        return dial is not None and dial is self._open_dial

    def _watch(self, random: Callable[[], float]) -> Callable[[], float]:
        if not callable(random):
            return random  # the session refuses it

        def draw() -> float:
            try:
                number = random()
            except Misuse as error:  # it called the session
                self._draw = str(error)
                raise
            except Exception as error:
                self._draw = f"random raised {type(error).__name__}: {_DRAW}"
                raise
            if not isinstance(number, int | float) or not 0.0 <= number < 1.0:  # pyright: ignore[reportUnnecessaryIsInstance]
                self._draw = f"random returned {number!r}: {_DRAW}"
            return number

        return draw

    def attach(self, dial: Dial) -> None:
        """See :meth:`limpet.Session.attach`."""
        self._depth += 1
        try:
            super().attach(dial)
        finally:
            self._depth -= 1
        if dial is self._attached:
            raise self._misuse(
                "there is a Link or Channel for this dial already: make one for each dial, after connecting"
            )
        if not dial.wanted:
            raise self._misuse(
                "this dial is not wanted any more: check dial.wanted after each wait, and take session.dial"
            )
        self._attached = dial

    def check_call(self, name: str, now: float) -> None:
        """See :meth:`limpet.Session.check_call`."""
        self._before(name, {"now": now})
        super().check_call(name, now)

    def _before(self, name: str, arguments: dict[str, Any]) -> None:
        if self.running:
            raise self._misuse(
                f"{name} was called while {self.running} runs: hold one lock around each call and its drain, and have "
                "signal handlers and finalizers leave their calls to the loop"
            )
        self._check_types(name, arguments)
        if "now" in arguments:
            self._check_time(name, arguments["now"])
        self._check_use(name, arguments)

    def _check_time(self, name: str, now: Any) -> None:
        if isinstance(now, bool) or not isinstance(now, int | float) or not math.isfinite(now):
            raise self._misuse(f"{name}: now must be a finite number of seconds, not {now!r}")
        if self._clock is not None and not self._clock() - self._patience <= now <= self._clock():
            raise self._misuse(f"{name}: now is {now:g}, and the clock says {self._clock():g}: use the clock's seconds")
        if self._last is not None:
            before, then = self._last
            if now < then:
                raise self._misuse(f"{name}: now is {then - now:g} s before that of {before}: use one monotonic clock")
            if now - then > self._patience and not self._within_drain(name):
                self.check_drained(writable=False)
        if name == "wake" or now <= super().deadline or self._within_drain(name):
            self._overdue = None
        elif self._overdue is None:
            self._overdue = now
        elif now - self._overdue > self._patience:
            raise self._misuse(
                f"{name}: session.deadline has passed {now - super().deadline:g} s ago: call wake(now) then"
            )

    def _within_drain(self, name: str) -> bool:
        """Whether a call may come amid a drain, which may take its time: a handler of events, or a dial that blocks."""
        if name in _OF_A_DIAL:
            return self._seen_dial is super().dial
        return self._handling and name in _OF_THE_APPLICATION

    def _check_types(self, name: str, arguments: dict[str, Any]) -> None:
        """Raise Misuse for an argument of a wrong type."""
        wanted: dict[str, Any] = {
            "code": int,
            "reason": str,
            "error": BaseException,
            "url": str,
            "seconds": (int, float),
        }
        if name == "receive_message":
            wanted["message"] = (str, bytes)
        if name == "receive_binary":
            wanted["message"] = bytes
        for argument, kind in wanted.items():
            value = arguments.get(argument, kind)
            if value is not kind and not isinstance(value, kind):
                raise self._misuse(f"{name}: {argument} is {value!r}, which is a {type(value).__name__}")
        if name == "receive_messages":
            messages: Sequence[Any] = arguments["messages"]
            for message in messages:
                if not isinstance(message, bytes):
                    raise self._misuse(f"{name}: the messages are bytes, and one is a {type(message).__name__}")

    def _check_use(self, name: str, arguments: dict[str, Any]) -> None:
        """Raise Misuse for a call that would do nothing."""
        dial = super().dial
        if name in ("url_ready", "url_failed"):
            if dial is None or dial.url is not None:
                raise self._misuse(
                    f"{name}: no URL is wanted: check dial.wanted and dial.url after the URL was fetched"
                )
        elif name in ("connected", "dial_failed", "dial_refused"):
            if dial is None or dial.url is None or self._open:
                fault = (
                    "no transport is wanted" if dial is None else "it is open" if self._open else "it has no URL yet"
                )
                raise self._misuse(f"{name}: {fault}: check dial.wanted, or use a Link or Channel, which does so")
        elif name in _OF_A_TRANSPORT:
            if not self._open:
                raise self._misuse(
                    f"{name}: no transport is open, so this is a late call of an old one, or connected() is missing: "
                    "use a Link or Channel, whose late calls do nothing"
                )
        elif name == "sender_goes_on" and not self._senders:
            raise self._misuse("sender_goes_on without sender_waits: call it once for each sender that has waited")
        elif name == "asleep" and arguments["seconds"] < self._asleep - self._patience:
            raise self._misuse(
                "asleep: the seconds go back: pass the boot clock minus the monotonic clock, from one place"
            )

    def _after(self, name: str, arguments: dict[str, Any]) -> None:
        if "now" in arguments:
            self._last = name, arguments["now"]
        if name == "connected":
            self._open_dial = super().dial
        elif name == "sender_waits":
            self._senders += 1
        elif name == "sender_goes_on":
            self._senders -= 1
        elif name == "asleep":
            self._asleep = arguments["seconds"]
        if name == "messages_to_send":
            self._sent = True
            dial = super().dial
            if dial is not None and dial.close is not None:
                self._last_taken = dial  # nothing follows a close: the driver need not ask again
        else:
            self._waiting += super().events()
            self._sent = False
        if super().state is State.STOPPED:
            self._overdue = None
        if self._draw is not None:
            fault, self._draw = self._draw, None
            raise self._misuse(f"{name}: {fault}")


_OF_A_TRANSPORT: Final = (
    *("receive_message", "receive_messages", "receive_binary", "heard", "transport_broken", "disconnected"),
    "send_failed",
)
_OF_A_DIAL: Final = ("url_ready", "url_failed", "connected", "dial_refused", "dial_failed")
_OF_THE_APPLICATION: Final = (
    *("start", "stop", "check", "reading_paused", "reading_resumed", "sender_waits", "join_group", "leave_group"),
    *("send_to_group", "send_event", "send_prepared"),
)


# pyright: reportPrivateUsage=false
# What follows are methods of Watched.


def _watched(method: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(method)
    name = method.__name__

    @functools.wraps(method)
    def watched(self: Watched, *args: Any, **kwargs: Any) -> Any:
        if self._depth and not self.running:  # the session calls itself
            return method(self, *args, **kwargs)
        arguments = signature.bind(self, *args, **kwargs).arguments
        self._before(name, arguments)
        self._depth += 1
        try:
            result = method(self, *args, **kwargs)
        finally:
            self._depth -= 1
        self._after(name, arguments)
        return result

    return watched


INPUTS: Final = (
    *("start", "url_ready", "url_failed", "connected", "dial_refused", "dial_failed", "receive_message"),
    *("receive_messages", "receive_binary", "heard", "reading_paused", "reading_resumed", "sender_waits"),
    *("sender_goes_on", "transport_broken", "disconnected", "send_failed", "wake", "check", "asleep"),
    *("join_group", "leave_group", "send_to_group", "send_event", "send_prepared", "withdraw", "stop"),
    "messages_to_send",
)
"""The methods of a session that are watched: all that change it, but for ``events``."""

for _name in INPUTS:
    setattr(Watched, _name, _watched(getattr(Session, _name)))
