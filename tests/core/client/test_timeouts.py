"""Timeouts of single calls: what was not sent in time is never sent, and the outcome stays true."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.driving import Drive, hello, ok

from limpet import (
    Acked,
    Backoff,
    ConnectTimeout,
    InvalidType,
    InvalidValue,
    Invoked,
    SendError,
    SendTimeout,
    State,
    Stopped,
    StreamClosed,
    StreamTimeout,
)

Ask = Callable[[Drive, float | None], object]

ASKS: dict[str, Ask] = {
    "join": lambda d, t: d.session.join_group("g", d.now, timeout=t),
    "leave": lambda d, t: d.session.leave_group("g", d.now, timeout=t),
    "send": lambda d, t: d.session.send_to_group("g", "x", d.now, timeout=t),
    "event": lambda d, t: d.session.send_event("e", "x", d.now, timeout=t),
    "set state": lambda d, t: d.session.set_group_state("g", {"a": "b"}, d.now, timeout=t),
    "clear state": lambda d, t: d.session.clear_group_state("g", d.now, timeout=t),
    "subscribe states": lambda d, t: d.session.subscribe_group_states("g", d.now, timeout=t),
    "unsubscribe states": lambda d, t: d.session.unsubscribe_group_states("g", d.now, timeout=t),
}


@pytest.fixture(params=ASKS)
def ask(request: pytest.FixtureRequest) -> Ask:
    return ASKS[request.param]


def error_of(drive: Drive) -> SendError | None:
    (acked,) = drive.events(Acked)
    return acked.error  # type: ignore[no-any-return]


def test_a_request_that_was_not_sent_in_time_is_unsent_and_never_sent(ask: Ask) -> None:
    drive = Drive()
    drive.start()
    ask(drive, 5.0)
    drive.advance(4.9)
    assert not drive.events(Acked)
    drive.advance(0.1)
    error = error_of(drive)
    assert isinstance(error, SendTimeout)
    assert (error.name, error.outcome) == ("Timeout", "unsent")
    assert str(error) == "Timeout: it could not be sent within timeout (5 s) (ack id 1; it was never sent)"
    drive.open()
    drive.says(hello())
    assert drive.sent() == []


def test_a_request_without_an_answer_in_time_is_unknown_and_not_repeated(ask: Ask) -> None:
    drive = Drive()
    drive.connect()
    ask(drive, 5.0)
    assert len(drive.sent()) == 1
    drive.drop()
    drive.advance(5.0)
    error = error_of(drive)
    assert isinstance(error, SendTimeout)
    assert error.outcome == "unknown"
    assert "no answer came within timeout (5 s)" in str(error)
    assert [each for each in drive.recover() if "ackId" in each] == []
    drive.says(ok(1))
    assert drive.events(Acked) == []


def test_nothing_is_due_before_the_timeout_of_a_call(ask: Ask) -> None:
    drive = Drive()
    drive.start()
    ask(drive, 5.0)
    assert drive.session.deadline == drive.now + 5.0


def test_the_timeout_of_a_call_replaces_that_of_the_options(ask: Ask) -> None:
    drive = Drive(request_timeout=10.0)
    drive.start()
    ask(drive, 60.0)
    drive.session.send_to_group("other", "x", drive.now)
    drive.session.send_to_group("other", "x", drive.now, timeout=2.0)
    outcomes: list[tuple[float, list[int]]] = []
    start = drive.now
    for seconds in (2.0, 8.0, 50.0):
        drive.advance(seconds)
        outcomes.append((drive.now - start, list(drive.answers())))
    assert outcomes == [(2.0, [3]), (10.0, [2]), (60.0, [1])]


@pytest.mark.parametrize("timeout", [None, math.inf])
def test_without_a_limit_a_request_waits(ask: Ask, timeout: float | None) -> None:
    drive = Drive(first_connection=None, connect_timeout=1e9)
    drive.start()
    ask(drive, timeout)
    drive.advance(1e6)
    assert drive.answers() == {}


@pytest.mark.parametrize(
    ("timeout", "error", "text"),
    [
        (-1, InvalidValue, "timeout must be at least 0 seconds, not -1"),
        (math.nan, InvalidValue, "timeout must be at least 0 seconds, not nan"),
        pytest.param(
            10**400,
            InvalidValue,
            r"timeout is too large: an integer of 1329 bits; math\.inf is without a limit",
            id="huge",
        ),
        pytest.param(
            -(10**5000),
            InvalidValue,
            "timeout must be at least 0 seconds, not an integer of 16610 bits",
            id="less than nothing",
        ),
        ("5", InvalidType, "timeout must be a number of seconds of type int or float, not str"),
        (True, InvalidType, "timeout must be a number of seconds of type int or float, not bool"),
    ],
)
def test_a_timeout_is_a_number_of_seconds(ask: Ask, timeout: Any, error: type[Exception], text: str) -> None:
    drive = Drive()
    with pytest.raises(error, match=f"^{text}$"):
        drive.session.start(drive.now, timeout=timeout)
    assert drive.state is State.STOPPED
    drive.connect()
    with pytest.raises(error, match=f"^{text}$"):
        ask(drive, timeout)
    with pytest.raises(error, match=f"^{text}$"):
        drive.session.open_stream("g", drive.now, timeout=timeout)
    assert drive.sent() == []


def test_requests_that_run_out_of_time_together_end_in_the_order_of_the_calls() -> None:
    drive = Drive()
    drive.start()
    asked = [drive.session.join_group(f"g{number}", drive.now, timeout=5.0) for number in range(5)]
    drive.advance(5.0)
    assert [event.ack_id for event in drive.events(Acked)] == asked


def test_a_message_without_an_ack_has_no_timeout() -> None:
    drive = Drive()
    drive.connect()
    with pytest.raises(InvalidValue, match="timeout has no meaning with ack=False"):
        drive.session.send_to_group("g", "x", drive.now, ack=False, timeout=1.0)
    with pytest.raises(InvalidValue, match="timeout has no meaning with ack=False"):
        drive.session.send_event("e", "x", drive.now, ack=False, timeout=1.0)
    assert drive.sent() == []


def test_an_ack_id_that_is_used_again_has_the_timeout_of_its_own_request() -> None:
    drive = Drive()
    drive.connect()
    drive.session.send_to_group("g", "x", drive.now, ack_id=7, timeout=5.0)
    drive.sent()
    drive.says(ok(7))
    drive.session.send_to_group("g", "x", drive.now, ack_id=7, timeout=9.0)
    drive.events()
    drive.advance(8.9)
    assert drive.answers() == {}
    drive.advance(0.1)
    assert drive.answers() == {7: "Timeout/unsent"}


@pytest.mark.parametrize("timeout", [None, 3.0])
def test_request_timeout_holds_for_invocations_without_a_timeout_of_their_own(timeout: float | None) -> None:
    drive = Drive(request_timeout=10.0)
    drive.start()
    drive.session.invoke("e", None, drive.now, timeout=timeout)
    drive.advance((timeout or 10.0) - 0.1)
    assert drive.events(Invoked) == []
    drive.advance(0.1)
    (invoked,) = drive.events(Invoked)
    assert invoked.error.outcome == "unsent"


# ---- Starts


def test_a_start_gives_up_after_its_timeout() -> None:
    drive = Drive()
    drive.session.start(drive.now, timeout=2.0)
    dial = drive.open()
    drive.advance(2.0)
    (stopped,) = drive.events(Stopped)
    assert isinstance(stopped.error, ConnectTimeout)
    assert isinstance(stopped.error, TimeoutError)
    assert str(stopped.error) == "there was no connection within timeout (2 s)"
    assert drive.state is State.STOPPED
    assert not dial.wanted
    assert dial.close is not None
    assert dial.close.code == 1000
    assert drive.session.deadline == math.inf


def test_the_timeout_of_a_start_tells_of_the_last_attempt() -> None:
    drive = Drive(first_connection=Backoff(initial=5.0, multiplier=1.0, jitter=0.0))
    drive.session.start(drive.now, timeout=7.0)
    for _ in range(2):
        drive.until_dial()
        drive.session.url_failed(OSError("no way"), drive.now)
    drive.advance(7.0)
    (stopped,) = drive.events(Stopped)
    text = "there was no connection within timeout (7 s); the last attempt: no URL to connect to: no way"
    assert str(stopped.error) == text
    assert str(stopped.error.__cause__) == "no URL to connect to: no way"
    assert drive.session.stats.last_error == text


def test_a_start_that_succeeds_has_no_timeout_any_more() -> None:
    drive = Drive()
    drive.session.start(drive.now, timeout=2.0)
    drive.open()
    drive.says(hello())
    drive.advance(100.0)
    assert drive.state is State.CONNECTED
    drive.lose()
    drive.advance(10.0)
    assert drive.state is not State.STOPPED


# ---- Streams


def test_a_stream_that_could_not_be_started_in_time_is_never_started() -> None:
    drive = Drive()
    drive.start()
    stream = drive.session.open_stream("g", drive.now, timeout=5.0)
    drive.session.write_stream(stream, "x", drive.now)
    drive.advance(5.0)
    (closed,) = drive.events(StreamClosed)
    assert isinstance(closed.error, StreamTimeout)
    assert (closed.error.name, closed.error.outcome) == ("Timeout", "unsent")
    assert str(closed.error) == "Timeout: the start of the stream could not be sent within timeout (5 s)"
    drive.open()
    drive.says(hello())
    assert drive.sent() == []


def test_the_starts_of_streams_run_out_of_time_each_at_its_own() -> None:
    drive = Drive()
    drive.start()
    for seconds in (9.0, 3.0, 6.0):
        drive.session.open_stream("g", drive.now, stream_id=f"{seconds:g} s", timeout=seconds)
    for name in ("3 s", "6 s", "9 s"):
        assert drive.session.deadline == drive.now + 3.0
        drive.advance(3.0)
        assert [event.stream_id for event in drive.events(StreamClosed)] == [name]


def test_a_stream_that_is_not_accepted_in_time_is_ended() -> None:
    drive = Drive(request_timeout=5.0)
    drive.connect()
    stream = drive.session.open_stream("g", drive.now)
    assert len(drive.sent()) == 1
    drive.advance(5.0)
    (closed,) = drive.events(StreamClosed)
    assert isinstance(closed.error, StreamTimeout)
    assert closed.error.outcome == "unknown"
    assert "has not accepted the start of the stream within request_timeout (5 s)" in str(closed.error)
    (end,) = drive.sent()
    assert (end["type"], end["streamId"]) == ("streamEnd", stream)


def test_a_stream_that_is_open_has_no_timeout_any_more() -> None:
    drive = Drive()
    drive.connect()
    stream = drive.session.open_stream("g", drive.now, timeout=5.0)
    drive.sent()
    drive.says({"type": "streamAck", "streamId": stream, "expectedSequenceId": 1})
    drive.advance(50.0)
    assert drive.events(StreamClosed) == []


def test_an_idle_timeout_names_its_unit() -> None:
    drive = Drive()
    drive.connect()
    with pytest.raises(InvalidValue, match=r"^idle_timeout must be from 0\.001 to 4294967\.295 seconds, not 0$"):
        drive.session.open_stream("g", drive.now, idle_timeout=0)
    with pytest.raises(InvalidType, match=r"^idle_timeout must be a number of seconds of type int or float, not str$"):
        drive.session.open_stream("g", drive.now, idle_timeout="5")  # type: ignore[arg-type]


# ---- Whatever happens


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.sampled_from([*ASKS, "invoke", "stream"]), st.sampled_from([0.0, 0.5, 2.0, 60.0])),
        st.tuples(st.just("advance"), st.sampled_from([0.1, 0.5, 2.0, 10.0])),
        st.tuples(st.sampled_from(["send", "drop", "lose", "connect", "answer"])),
    ),
    max_size=40,
)


@given(STEPS)
def test_what_is_unsent_was_never_sent_and_never_will_be(steps: list[tuple[Any, ...]]) -> None:
    drive = Drive(connect_timeout=1e6, ack_timeout=3.0)
    drive.start()
    seen: set[object] = set()  # ids that were handed to a transport
    unsent: set[object] = set()
    pending: dict[object, float] = {}

    def look() -> None:
        for message in drive.sent():
            seen.update(message[name] for name in ("ackId", "invocationId", "streamId") if name in message)
            if "stream" in message:
                seen.add(message["stream"]["streamId"])
        for event in drive.events():
            if isinstance(event, Acked | Invoked | StreamClosed):
                key = getattr(event, "ack_id", None) or getattr(event, "invocation_id", None) or event.stream_id  # type: ignore[union-attr]
                pending.pop(key, None)
                outcome = getattr(event.error, "outcome", None)
                if outcome == "unsent":
                    unsent.add(key)
                elif isinstance(event.error, TimeoutError):
                    assert outcome == "unknown"
                    assert key in seen
        assert not unsent & seen

    for what, *arguments in [*steps, ("connect",), ("advance", 100.0), ("send",)]:
        if what == "ask":
            kind, timeout = arguments
            if kind == "invoke":
                key: object = drive.session.invoke("e", 1, drive.now, timeout=timeout)
            elif kind == "stream":
                key = drive.session.open_stream("g", drive.now, timeout=timeout)
            else:
                key = ASKS[kind](drive, timeout)
            pending[key] = drive.now + timeout
        elif what == "advance":
            drive.advance(*arguments)
            look()
            assert all(due > drive.now or key in seen for key, due in pending.items()), "it waits longer than it may"
        elif what == "send":
            look()
        elif what in ("drop", "lose") and drive.state is State.CONNECTED:
            getattr(drive, what)()
        elif what == "answer":
            drive.says(*(ok(key) for key in sorted(key for key in seen if isinstance(key, int))))
        elif what == "connect" and drive.state is not State.CONNECTED:
            drive.until_dial()
            if drive.dial.recovery:
                drive.open()
                drive.says({"type": "pong"})
            else:
                drive.open()
                drive.says(hello(f"c{drive.now}"))
    assert not {key for key, due in pending.items() if due <= drive.now and not isinstance(key, str)}
