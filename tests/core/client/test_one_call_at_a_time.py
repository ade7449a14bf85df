"""Calls that come while another one runs, and the log, whose handlers may call back."""

from __future__ import annotations

import inspect as introspection
import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from types import FrameType
from typing import Any

import pytest
from tests.helpers import frames
from tests.helpers.driving import URL, Drive, WsprotoLink, encoded, hello, news
from tests.helpers.protobuf import downstream

from limpet import (
    RELIABLE_JSON,
    RELIABLE_PROTOBUF,
    Backoff,
    Channel,
    ConnectError,
    ConnectionFailed,
    Dial,
    InvalidType,
    InvalidValue,
    Link,
    LocalProtocolError,
    Options,
    Recovering,
    Session,
    State,
    Stopped,
)
from limpet_core.client.ack_runs import AckRun

NOW = 1000.0

# Everything that reads and changes the state. What only sets a flag may be called at any time.
GUARDED: dict[str, Callable[[Session], Any]] = {
    "start": lambda session: session.start(NOW),
    "url_ready": lambda session: session.url_ready(URL, NOW),
    "url_failed": lambda session: session.url_failed(OSError("no"), NOW),
    "connected": lambda session: session.connected(NOW),
    "dial_refused": lambda session: session.dial_refused(ConnectError("no"), NOW),
    "dial_failed": lambda session: session.dial_failed(OSError("no"), NOW),
    "receive_long_text": lambda session: session.receive_long_text(memoryview(b"{}"), NOW),
    "receive_acks": lambda session: session.receive_acks(AckRun([1, 2], 0, 0), NOW),
    "receive_messages": lambda session: session.receive_messages([b"{}"], NOW),
    "receive_message": lambda session: session.receive_message("{}", NOW),
    "receive_binary": lambda session: session.receive_binary(b"", NOW),
    "transport_broken": lambda session: session.transport_broken(1002, "no", NOW),
    "disconnected": lambda session: session.disconnected(NOW),
    "send_failed": lambda session: session.send_failed(NOW),
    "heard": lambda session: session.heard(NOW),
    "wake": lambda session: session.wake(NOW),
    "check": lambda session: session.check(NOW),
    "asleep": lambda session: session.asleep(0.0, NOW),
    "join_group": lambda session: session.join_group("g", NOW),
    "leave_group": lambda session: session.leave_group("g", NOW),
    "send_to_group": lambda session: session.send_to_group("g", "x", NOW),
    "send_event": lambda session: session.send_event("e", "x", NOW),
    "send_prepared": lambda session: session.send_prepared(b"{}", NOW, publish=True),
    "set_group_state": lambda session: session.set_group_state("g", {}, NOW),
    "clear_group_state": lambda session: session.clear_group_state("g", NOW),
    "subscribe_group_states": lambda session: session.subscribe_group_states("g", NOW),
    "unsubscribe_group_states": lambda session: session.unsubscribe_group_states("g", NOW),
    "open_stream": lambda session: session.open_stream("g", NOW),
    "write_stream": lambda session: session.write_stream("s", "x", NOW),
    "end_stream": lambda session: session.end_stream("s", NOW),
    "abort_stream": lambda session: session.abort_stream("s", "no", NOW),
    "withdraw": lambda session: session.withdraw(1),
    "invoke": lambda session: session.invoke("e", "x", NOW),
    "cancel_invocation": lambda session: session.cancel_invocation("1", NOW),
    "stop": lambda session: session.stop(NOW),
    "events": lambda session: session.events(),
    "messages_to_send": lambda session: session.messages_to_send(),
}
AT_ANY_TIME = {
    *{"reading_paused", "reading_resumed", "sender_waits", "sender_goes_on", "check_running", "attach"},
    *{
        "presentable",
        "without_secrets",
        "prepare_send",
        "prepare_event",
        "check_call",
        "stream_has_room",
        "group_states",
    },
}


def test_each_method_is_guarded_or_may_be_called_at_any_time() -> None:
    methods = {name for name, _ in introspection.getmembers(Session, callable) if not name.startswith("_")}
    assert methods == GUARDED.keys() | AT_ANY_TIME


class Calling:
    """Randomness that calls the session back, which is in the middle of a transition then."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.call: Callable[[Session], Any] | None = None
        self.refusal: LocalProtocolError | None = None

    def __call__(self) -> float:
        if self.session is not None and self.call is not None:
            call, self.call = self.call, None
            with pytest.raises(LocalProtocolError) as refused:
                call(self.session)
            self.refusal = refused.value
        return 0.5


@pytest.mark.parametrize("name", GUARDED)
def test_a_call_amid_another_is_refused_and_changes_nothing(name: str) -> None:
    def after(call: Callable[[Session], Any] | None) -> tuple[Any, ...]:
        calling = Calling()
        drive = Drive(random=calling)
        drive.connect()
        drive.says(news(1), news(2))
        drive.session.join_group("pending", drive.now)
        calling.session, calling.call = drive.session, call
        drive.drop()  # draws for the recovery
        if call is not None:
            assert calling.refusal is not None
            meant = "receive_messages" if name == "receive_message" else name
            assert f"Session.{meant} was called while Session.disconnected runs" in str(calling.refusal)
        session = drive.session
        assert session.running == ""
        seen = session.state, session.deadline, session.events(), session.messages_to_send(), sorted(session.groups)
        drive.recover()
        return (*seen[:3], *seen[3:], drive.state)

    assert after(GUARDED[name]) == after(None)


INTERRUPTED: dict[str, tuple[str, Callable[[Drive], Any]]] = {
    "receive_messages": (RELIABLE_JSON, lambda drive: drive.says(news(1))),
    "receive_long_text": (
        RELIABLE_JSON,
        lambda drive: drive.session.receive_long_text(memoryview(encoded(news(1))), drive.now),
    ),
    "receive_acks": (RELIABLE_JSON, lambda drive: drive.session.receive_acks(AckRun([1, 2], 0, 0), drive.now)),
    "receive_binary": (RELIABLE_JSON, lambda drive: drive.session.receive_binary(b"", drive.now)),
    "receive_message": (RELIABLE_PROTOBUF, lambda drive: drive.session.receive_message("", drive.now)),
    "messages_to_send": (RELIABLE_JSON, lambda drive: drive.session.messages_to_send()),
    "wake": (RELIABLE_JSON, lambda drive: drive.session.wake(drive.now)),
    "asleep": (RELIABLE_JSON, lambda drive: drive.session.asleep(0.0, drive.now)),
}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_a_call_that_interrupts_another_one_anywhere_is_told_which(name: str) -> None:
    """As that of a signal handler or a finalizer, where no code of the application's is called."""
    protocol, call = INTERRUPTED[name]
    drive = Drive(protocol=protocol)
    drive.start()
    drive.open()
    greeting = encoded(hello()) if protocol == RELIABLE_JSON else downstream(hello())
    drive.session.receive_messages([greeting], drive.now)
    drive.session.join_group("g", drive.now)
    told: set[str] = set()

    def interrupt(frame: FrameType, event: str, argument: object) -> None:
        if drive.session.running:
            with pytest.raises(LocalProtocolError) as refused:
                drive.session.check(drive.now)
            told.add(str(refused.value).partition(" runs")[0])

    before = sys.getprofile()
    sys.setprofile(interrupt)
    try:
        call(drive)
    finally:
        sys.setprofile(before)
    assert told == {f"Session.check was called while Session.{name}"}
    assert drive.session.running == ""


def test_no_call_runs_in_a_new_session() -> None:
    assert Session(random=lambda: 0.5).running == ""


def test_after_a_call_that_raised_the_next_one_runs() -> None:
    drive = Drive()
    drive.connect()
    with pytest.raises(LocalProtocolError):
        drive.session.send_to_group("g", "x", drive.now, data_type=1)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        drive.session.join_group(" ", drive.now)
    drive.session.join_group("g", drive.now)
    assert [message["type"] for message in drive.sent()] == ["joinGroup"]


# ---- The log


class CallingHandler(logging.Handler):
    """A handler of the log that calls the session, or raises."""

    def __init__(self, called: Callable[[str], None]) -> None:
        super().__init__(logging.DEBUG)
        self._called = called
        self._busy = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._busy:
            self._busy = True
            try:
                self._called(record.getMessage())
            finally:
                self._busy = False


@contextmanager
def handled(called: Callable[[str], None]) -> Generator[None]:
    log = logging.getLogger("limpet")
    handler, level = CallingHandler(called), log.level
    log.addHandler(handler)
    log.setLevel(logging.DEBUG)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def a_life(drive: Drive) -> list[Any]:
    """Every line of the log that a session has, more or less; returns the events."""
    events: list[Any] = []
    session = drive.session

    def drain() -> None:
        events.extend(session.events())
        session.messages_to_send()

    def dial() -> None:
        while session.state is not State.STOPPED and session.dial is None:
            drive.now = max(drive.now, session.deadline)
            session.wake(drive.now)
            drain()

    session.start(drive.now)
    drain()
    for fault in ({"type": "future"}, news(1, 7), {"type": "system", "event": "connected", "connectionId": ""}):
        dial()
        if session.dial is None:
            break
        drive.open()
        drive.says(hello(), fault)
        drain()
    drive.drop(1006, "reset")
    drain()
    dial()
    if session.dial is not None:
        session.url_ready(URL, drive.now)
        session.dial_failed(OSError("no"), drive.now)
        drain()
    drive.lose()
    drain()
    session.stop(drive.now)
    drain()
    session.disconnected(drive.now)
    drain()
    return events


@pytest.mark.parametrize("name", GUARDED)
def test_a_handler_of_the_log_may_call_the_session(name: str) -> None:
    drive = Drive()
    lines = 0
    refusals: list[str] = []

    def call(line: str) -> None:
        nonlocal lines
        lines += 1
        assert drive.session.running == ""
        try:
            GUARDED[name](drive.session)
        except LocalProtocolError as error:  # "the client is stopped" and the like
            refusals.append(str(error))

    with handled(call):
        a_life(drive)
    assert lines > 2
    assert not [refusal for refusal in refusals if "was called while" in refusal]
    session = drive.session
    if session.state is not State.STOPPED:  # the handler started it anew
        session.stop(drive.now)
        session.disconnected(drive.now)
    assert session.state is State.STOPPED
    assert session.dial is None
    assert session.deadline == float("inf")


def test_a_handler_that_raises_loses_no_event_and_no_other_line(caplog: pytest.LogCaptureFixture) -> None:
    drive = Drive()
    drive.connect()

    def call(line: str) -> None:
        if "no string" in line:
            raise RuntimeError("the disk is full")

    with handled(call):
        drive.says(news(1, 7))
        drive.drop(1006, "reset")
        with pytest.raises(RuntimeError, match="the disk is full"):
            drive.session.events()
        names = [type(event).__name__ for event in drive.session.events()]
    assert names == ["MessagesMissed", "Recovering"]
    assert "recovering c1: reset (close code 1006)" in caplog.messages


def test_a_handler_that_takes_the_events_takes_them_in_order_and_once() -> None:
    drive = Drive()
    drive.connect()
    taken: list[Any] = []
    with handled(lambda line: taken.extend(drive.session.events())):
        drive.says(news(1, "one"), news(2, 7), news(3, "three"))
        drive.drop()
        taken.extend(drive.session.events())
    assert [getattr(event, "data", type(event).__name__) for event in taken] == [
        *("one", "MessagesMissed", "three", "Recovering")
    ]


# ---- Randomness and time from outside


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def unreadable() -> float:
    raise Speechless


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (lambda: 1.5, "returned 1.5"),
        (lambda: -0.1, "returned -0.1"),
        (lambda: float("nan"), "returned nan"),
        (lambda: "x", "returned 'x'"),
        (lambda: None, "returned None"),
        (lambda: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (unreadable, "raised Speechless: Speechless"),
    ],
)
def test_random_that_does_not_work_is_told_once_and_costs_nothing_else(
    bad: Callable[[], Any], told: str, caplog: pytest.LogCaptureFixture
) -> None:
    drive = Drive(random=bad, reconnect=Backoff(initial=1.0, maximum=1.0, jitter=1.0))
    drive.connect()
    drive.drop()
    assert isinstance(drive.events()[0], Recovering)
    drive.open()
    drive.lose()
    assert drive.state is State.WAITING
    assert drive.until_dial() == 0.5
    drive.connect("c2")
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert errors == [f"random {told} instead of a number from 0 to 1; 0.5 is used in its place"]


# ---- Exceptions of the application, whose text is the application's code


TOLD: dict[str, Callable[[Session, Exception], Any]] = {
    "url_failed": lambda session, error: session.url_failed(error, NOW),
    "dial_failed": lambda session, error: (session.url_ready(URL, NOW), session.dial_failed(error, NOW)),
    "a channel that fails": lambda session, error: (
        session.url_ready(URL, NOW),
        Channel(session, current(session)).failed(error, NOW),
    ),
    "a channel that breaks": lambda session, error: broken(session, error),
    "a link that fails": lambda session, error: (
        session.url_ready(URL, NOW),
        Link(session, current(session), random_bytes=bytes).failed(error, NOW),
    ),
}


def current(session: Session) -> Dial:
    assert session.dial is not None
    return session.dial


def broken(session: Session, error: Exception) -> None:
    session.url_ready(URL, NOW)
    channel = Channel(session, current(session))
    channel.opened(NOW)
    channel.failed(error, NOW)


@pytest.mark.parametrize("tell", TOLD.values(), ids=TOLD)
def test_an_error_without_a_text_is_told_by_its_type(tell: Callable[[Session, Exception], Any]) -> None:
    session = Session(random=lambda: 0.5)
    session.start(NOW)
    tell(session, Speechless())
    failed, stopped = session.events()
    assert isinstance(failed, ConnectionFailed)
    assert isinstance(stopped, Stopped)
    assert failed.error is stopped.error
    assert "Speechless" in str(stopped.error)
    assert session.state is State.STOPPED


def test_an_error_whose_text_calls_the_session_changes_nothing() -> None:
    session = Session(Options(first_connection=Backoff()), random=lambda: 0.5)

    class Calling(Exception):
        def __str__(self) -> str:
            session.stop(NOW)
            return "stopped"

    session.start(NOW)
    session.url_failed(Calling(), NOW)
    assert session.state is State.WAITING
    session.wake(session.deadline)
    assert session.state is State.CONNECTING


def test_random_has_to_be_a_function() -> None:
    with pytest.raises(InvalidType, match=r"random must be a function such as random\.random, not float"):
        Session(Options(), random=0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "error", "text"),
    [
        (float("nan"), InvalidValue, "now must be finite, not nan"),
        (float("inf"), InvalidValue, "now must be finite, not inf"),
        pytest.param(10**400, InvalidValue, "now must be finite, not an integer of 1329 bits", id="huge"),
        pytest.param(
            -(10**5000), InvalidValue, "now must be finite, not an integer of 16610 bits", id="less than nothing"
        ),
        (1_700_000_000_000, InvalidValue, "now must be in seconds, such as time.monotonic()"),
        (True, InvalidType, "now must be a number of seconds, not bool"),
        ("0", InvalidType, "now must be a number of seconds, not str"),
        (None, InvalidType, "now must be a number of seconds, not NoneType"),
    ],
)
def test_a_start_at_no_time_is_refused(now: Any, error: type[Exception], text: str) -> None:
    session = Session(random=lambda: 0.5)
    with pytest.raises(error) as refused:
        session.start(now)
    assert str(refused.value).startswith(text)
    assert session.state is State.STOPPED
    assert session.events() == []


@pytest.mark.parametrize("now", [0, 0.0, -5.0, 1_800_000_000.0])
def test_a_start_at_any_other_time(now: float) -> None:
    session = Session(random=lambda: 0.5)
    session.start(now)
    assert session.deadline == now + session.options.connect_timeout
    session.stop(now)
    assert isinstance(session.events()[-1], Stopped)


TIMED: dict[str, Callable[[Session, Any], Any]] = {
    "url_ready": lambda session, now: session.url_ready(URL, now),
    "dial_failed": lambda session, now: session.dial_failed(OSError("no"), now),
    "receive_messages": lambda session, now: session.receive_messages([b"{}"], now),
    "receive_message": lambda session, now: session.receive_message("{}", now),
    "disconnected": lambda session, now: session.disconnected(now),
    "send_failed": lambda session, now: session.send_failed(now),
    "heard": lambda session, now: session.heard(now),
    "wake": lambda session, now: session.wake(now),
    "wake, by name": lambda session, now: session.wake(now=now),
    "check": lambda session, now: session.check(now),
    "asleep": lambda session, now: session.asleep(0.0, now),
    "reading_resumed": lambda session, now: session.reading_resumed(now),
    "sender_waits": lambda session, now: session.sender_waits(now),
    "join_group": lambda session, now: session.join_group("g", now),
    "send_to_group": lambda session, now: session.send_to_group("g", "x", now),
    "send_event": lambda session, now: session.send_event("e", "x", now),
    "open_stream": lambda session, now: session.open_stream("g", now),
    "write_stream": lambda session, now: session.write_stream("s", "x", now),
    "end_stream": lambda session, now: session.end_stream("s", now),
    "abort_stream": lambda session, now: session.abort_stream("s", "no", now),
    "invoke": lambda session, now: session.invoke("e", "x", now),
    "cancel_invocation": lambda session, now: session.cancel_invocation("1", now),
    "set_group_state": lambda session, now: session.set_group_state("g", {"a": "b"}, now),
    "clear_group_state": lambda session, now: session.clear_group_state("g", now),
    "subscribe_group_states": lambda session, now: session.subscribe_group_states("g", now),
    "unsubscribe_group_states": lambda session, now: session.unsubscribe_group_states("g", now),
    "stop": lambda session, now: session.stop(now),
}


NO_TIMES: list[Any] = [float("nan"), float("inf"), float("-inf"), None, "0", True, timedelta(1), Decimal(1), [1.0]]


@pytest.mark.parametrize("now", NO_TIMES, ids=str)
@pytest.mark.parametrize("name", TIMED)
def test_a_time_that_is_none_is_refused_by_every_call_and_changes_nothing(name: str, now: Any) -> None:
    drive = Drive(keepalive_timeout=60.0)
    drive.connect()
    drive.session.reading_paused(drive.now)
    before = drive.state, drive.session.deadline, drive.dial, drive.session.reading
    error, text = (InvalidValue, "finite, not") if isinstance(now, float) else (InvalidType, "a number of seconds, not")
    with pytest.raises(error, match=f"now must be {text}"):
        TIMED[name](drive.session, now)
    assert (drive.state, drive.session.deadline, drive.dial, drive.session.reading) == before
    assert drive.session.events() == []
    assert drive.session.messages_to_send() == []
    assert drive.session.running == ""
    drive.says(news(1))
    assert [event.data for event in drive.events()] == ["news"]


@pytest.mark.parametrize("seconds", [None, "0", True, timedelta(1), Decimal(1)], ids=str)
def test_seconds_of_suspends_that_are_no_number_are_refused_and_change_nothing(seconds: Any) -> None:
    drive = Drive()
    drive.connect()
    with pytest.raises(InvalidType, match="seconds must be a number of seconds, not"):
        drive.session.asleep(seconds, drive.now)
    drive.session.asleep(0.0, drive.now)
    assert drive.session.messages_to_send() == []


# ---- Links and channels: what is refused costs them nothing


REFUSALS = {
    "at no time": (lambda call, session: call(float("nan")), InvalidValue),
    "amid another call": (lambda call, session: amid(session, lambda: call(NOW)), LocalProtocolError),
}
refusals = pytest.mark.parametrize(("refuse", "error"), REFUSALS.values(), ids=REFUSALS)
Refuse = Callable[[Callable[[float], Any], Session], Any]


def amid(session: Session, call: Callable[[], Any]) -> None:
    """Make ``call`` while another one runs."""
    session.running = "wake"
    try:
        call()
    finally:
        session.running = ""


def dialling() -> Session:
    session = Session(Options(keepalive_interval=None, keepalive_timeout=None), random=lambda: 0.5)
    session.start(NOW)
    session.url_ready(URL, NOW)
    return session


@refusals
def test_a_channel_that_is_refused_is_not_open(refuse: Refuse, error: type[Exception]) -> None:
    session = dialling()
    channel = Channel(session, current(session))
    with pytest.raises(error):
        refuse(channel.opened, session)
    assert "not open" in repr(channel)
    channel.opened(NOW)
    channel.message(encoded(hello()), NOW)
    assert session.state is State.CONNECTED


@pytest.mark.parametrize("kind", [Link, WsprotoLink])
@refusals
def test_a_link_that_is_refused_has_taken_nothing_in(refuse: Refuse, error: type[Exception], kind: type[Link]) -> None:
    session = dialling()
    link = kind(session, current(session), random_bytes=bytes)
    answer = frames.accept(b"".join(link.data_to_send()))
    greeting = frames.text(encoded(hello()))
    for data, meant in ((answer, "connected"), (greeting[:9], "heard"), (greeting[9:], "heard")):
        with pytest.raises(error) as refused:
            refuse(lambda now, data=data: link.receive_data(data, now), session)
        assert error is InvalidValue or str(refused.value).startswith(f"Session.{meant} was called while ")
        link.receive_data(data, NOW)
    assert session.state is State.CONNECTED
    with pytest.raises(error):
        refuse(lambda now: link.transport_lost("reset", now), session)
    assert session.state is State.CONNECTED
    link.transport_lost("reset", NOW)
    assert session.state is State.RECOVERING


@pytest.mark.parametrize("now", NO_TIMES, ids=str)
def test_a_link_that_reads_at_no_time_has_taken_nothing_in(now: Any) -> None:
    session = dialling()
    link = Link(session, current(session), random_bytes=bytes)
    link.receive_data(frames.accept(b"".join(link.data_to_send())) + frames.text(encoded(hello())), NOW)
    session.events()
    whole = frames.text(encoded(news(1)))
    for data in (whole[:9], whole[9:]):
        with pytest.raises((InvalidType, InvalidValue), match="now must be"):
            link.receive_data(data, now)
        link.receive_data(data, NOW)
    assert [type(event).__name__ for event in session.events()] == ["GroupMessage"]
    assert session.state is State.CONNECTED


def test_senders_that_go_on_without_having_waited_are_no_senders() -> None:
    drive = Drive()
    drive.connect()
    drive.session.sender_goes_on()
    drive.session.reading_paused(drive.now)
    assert not drive.session.reading
    drive.session.sender_waits(drive.now)
    assert drive.session.reading


@pytest.mark.parametrize("method", ["send_to_group", "write_stream"])
def test_data_that_calls_the_session_meets_the_name_of_the_call_that_runs(method: str) -> None:
    drive = Drive()
    drive.connect()
    drive.session.open_stream("g", drive.now, stream_id="s")

    class Calls(str):
        __slots__ = ()

        def isascii(self) -> bool:
            drive.session.check(drive.now)
            return True

    with pytest.raises(LocalProtocolError, match=f"check was called while Session.{method} runs"):
        getattr(drive.session, method)("g" if method == "send_to_group" else "s", Calls("x"), drive.now)


def test_the_loss_of_a_transport_amid_another_call_is_refused_by_name() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    drive.until_dial()
    link = Link(drive.session, drive.dial, random_bytes=bytes)
    handshake = b"".join(link.data_to_send())
    drive.session.url_ready(URL, drive.now) if drive.dial.url is None else None
    link.receive_data(frames.accept(handshake), drive.now)
    drive.session.running = "events"
    with pytest.raises(LocalProtocolError, match=r"Session\.disconnected was called while Session\.events runs"):
        link.transport_lost("cut", drive.now)
