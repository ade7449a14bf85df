"""The surroundings of a check: a service behind a network that can be broken, drivers, and ways to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from limpet import Acked, Backoff, Connected, ConnectionFailed, Event, GroupMessage, Options, SendError, State, Stopped
from limpet.testing.conformance.driver import Candidate, PausingDriver, Url
from limpet.testing.service import BackgroundService

E = TypeVar("E")
X = TypeVar("X", bound=BaseException)

GROUP: Final = "group1"

WAIT: Final = 30.0
"""Seconds to wait for anything before that is a failure: more than a busy machine needs."""

PROMPT: Final = 10.0
"""Seconds in which something happens that waits for nobody, also on a busy machine."""

_FAST: dict[str, Any] = {
    "connect_timeout": 10.0,
    "close_timeout": 1.0,
    "recovery_timeout": 25.0,
    "recovery_interval": 0.02,
    "sequence_ack_interval": 0.05,
    "reconnect": Backoff(initial=0.01, maximum=0.05),
    "retry": Backoff(initial=0.02, maximum=0.02, multiplier=1.0, jitter=0.0, limit=3),
    "ack_timeout": 10.0,
    "keepalive_interval": None,
    "keepalive_timeout": None,
}


class Tested:
    """A driver in a check: its methods, called where they belong, and the events so far.

    Args:
        react: called with each event, where the driver passes it on; may call :attr:`driver`.

    Attributes:
        driver: the driver itself, for ``react``.
        events: all events, in order.
    """

    def __init__(
        self, candidate: Candidate, url: Url, options: Options, react: Callable[[Any, Event], object] | None = None
    ) -> None:
        self.events: list[Event] = []
        self._changed = threading.Condition()
        self._react = react
        self._call = candidate.call
        self._closed = False
        self.driver: Any = self._call(lambda: candidate.make(url, options, self._handle))

    def _handle(self, event: Event) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()
        if self._react is not None:
            self._react(self.driver, event)

    # ---- Calls

    @property
    def state(self) -> State:
        """The driver's state."""
        return self._call(lambda: self.driver.state)  # type: ignore[no-any-return]

    def start(self) -> None:
        """Start, and wait for nothing."""
        self._call(self.driver.start)

    def stop(self) -> None:
        """Stop, and wait for nothing."""
        self._call(self.driver.stop)

    def close(self) -> None:
        """Close."""
        self._closed = True
        self._call(self.driver.close)

    def pause(self) -> None:
        """Pause a driver that can."""
        assert isinstance(self.driver, PausingDriver), "a driver that does not lack 'pause' has pause() and resume()"
        self._call(self.driver.pause)

    def resume(self) -> None:
        """Resume a driver that can pause."""
        self._call(self.driver.resume)

    def request(self, method: str, *args: Any, **named: Any) -> Any:
        """Make a request; return its ack id."""
        return self._call(lambda: getattr(self.driver, method)(*args, **named))

    # ---- Calls and their answers

    def connect(self) -> str:
        """Start, and return the connection id."""
        count = len(self.of(Connected))
        self.start()
        return self.wait(Connected, count + 1).connection_id

    def end(self) -> Stopped:
        """Stop, and return the event."""
        count = len(self.of(Stopped))
        self.stop()
        return self.wait(Stopped, count + 1)

    def ask(self, method: str, *args: Any, **named: Any) -> Acked:
        """Make a request, and return its answer."""
        ack_id = self.request(method, *args, **named)
        assert type(ack_id) is int, f"{method} returned {ack_id!r}: return the ack id that the session returns"
        return self.answer(ack_id)

    def do(self, method: str, *args: Any, **named: Any) -> None:
        """Make a request, which must succeed."""
        error = self.ask(method, *args, **named).error
        if error is not None:
            raise error

    def join(self, group: str = GROUP) -> None:
        """Join a group."""
        self.do("join_group", group)

    def send(self, data: Any, group: str = GROUP) -> None:
        """Publish with an ack."""
        self.do("send_to_group", group, data)

    def answer(self, ack_id: int) -> Acked:
        """Wait for the answer to a request."""
        return self.wait(Acked, where=lambda event: event.ack_id == ack_id)

    def errors(self, ack_ids: list[int]) -> list[SendError | None]:
        """Wait for the answers to requests, and return their errors."""
        return [self.answer(ack_id).error for ack_id in ack_ids]

    # ---- Events

    def of(self, *kinds: type[E]) -> list[E]:
        """The events of some types so far."""
        with self._changed:
            return [event for event in self.events if isinstance(event, kinds)]

    @property
    def data(self) -> list[Any]:
        """The data of all messages of groups so far."""
        return [event.data for event in self.of(GroupMessage)]

    @property
    def life(self) -> list[str]:
        """The names of all events but messages, answers and failed attempts, whose number is a matter of time."""
        others = GroupMessage | Acked | ConnectionFailed
        with self._changed:
            return [type(event).__name__ for event in self.events if not isinstance(event, others)]

    def wait(self, kind: type[E], count: int = 1, where: Callable[[E], object] = bool) -> E:
        """Wait for so many of one type; the result is the last of these."""

        def found() -> list[E]:
            return [event for event in self.events if isinstance(event, kind) and (where is bool or where(event))]

        with self._changed:
            if not self._changed.wait_for(lambda: len(found()) >= count, WAIT):
                what = kind.__name__ if count == 1 else f"{count} {kind.__name__}"
                raise AssertionError(f"waited {WAIT:g} s in vain for {what}")
            return found()[count - 1]

    def upto(self, data: Any) -> None:
        """Wait for the message with this data."""
        self.wait(GroupMessage, where=lambda message: message.data == data)

    def forget(self) -> None:
        """Forget the events so far."""
        with self._changed:
            self.events.clear()


class Bench:
    """The surroundings of one check.

    Attributes:
        service: the service; drivers reach it through a proxy that cuts.
        tested: the drivers so far.
    """

    def __init__(self, service: BackgroundService, candidate: Candidate) -> None:
        self.service: BackgroundService = service
        self._candidate = candidate
        self.tested: list[Tested] = []

    def driver(
        self, url: Url | None = None, react: Callable[[Any, Event], object] | None = None, /, **options: Any
    ) -> Tested:
        """Return a driver, not started yet, with options of short times; by default its URL goes through the proxy."""
        where = self.service.url() if url is None else url
        tested = Tested(self._candidate, where, Options(**(_FAST | options)), react)
        self.tested.append(tested)
        return tested

    def connected(self, url: Url | None = None, **options: Any) -> Tested:
        """Return a driver that is connected and has joined :data:`GROUP`."""
        tested = self.driver(url, **options)
        tested.connect()
        tested.join()
        return tested

    def witness(self) -> Tested:
        """Return a driver that is connected past the proxy and has joined :data:`GROUP`."""
        return self.connected(self.service.direct_url())

    def close(self) -> None:
        """Close every driver."""
        for tested in self.tested:
            tested.close()


def soon(true: Callable[[], object], what: str | Callable[[], str]) -> None:
    """Wait until ``true()``; ``what`` says what that means, after the wait if it is a function."""
    end = time.monotonic() + WAIT
    pause = 0.005
    while not true():
        if time.monotonic() > end:
            text = what if isinstance(what, str) else what()
            raise AssertionError(f"waited {WAIT:g} s in vain for {text}")
        time.sleep(pause)
        pause = min(pause * 1.25, 0.02)  # what takes long need not be asked about often


@contextmanager
def prompt(seconds: float = PROMPT) -> Generator[None]:
    """Fail if the block takes longer."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert took < seconds, f"took {took:.2f} s, more than {seconds:g} s"


@contextmanager
def raises(kind: type[X]) -> Generator[None]:
    """Fail unless the block raises ``kind``."""
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
