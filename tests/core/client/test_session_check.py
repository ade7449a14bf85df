"""Time that a session did not see, and checks: after a suspend, in a frozen process, and when the application asks."""

from __future__ import annotations

import logging
import math

import pytest
from tests.helpers.driving import PING, Drive, hello, news, ok, refused

from limpet import Acked, Backoff, ConnectError, InvalidValue, Recovering, State, Stopped

DEFAULTS = {"keepalive_interval": 20.0, "keepalive_timeout": 120.0}
PLAIN = "json.webpubsub.azure.v1"
LOST = Recovering("c1", 1006, "nothing was heard within 5 s of a check")


def connected(**options: object) -> Drive:
    drive = Drive(**(DEFAULTS | options))
    drive.connect()
    return drive


def oversleep(drive: Drive, seconds: float) -> None:
    """Stand still, and wake that much later than the session wants."""
    drive.now = drive.session.deadline + seconds
    drive.session.wake(drive.now)


# ---- A check


@pytest.mark.parametrize("sign", ["pong", "data", "bytes"])
def test_a_check_pings_at_once_and_any_sign_of_life_answers_it(sign: str) -> None:
    drive = connected(keepalive_interval=None, keepalive_timeout=None)
    drive.advance(100)
    drive.session.check(drive.now)
    assert drive.sent() == [PING]
    drive.advance(4.9)
    if sign == "bytes":
        drive.session.heard(drive.now)
    else:
        drive.says({"type": "pong"} if sign == "pong" else news())
    drive.advance(1_000)
    assert drive.state is State.CONNECTED
    assert drive.session.deadline == math.inf or sign == "data"


def test_a_check_ends_with_its_transport() -> None:
    drive = connected(keepalive_interval=None, keepalive_timeout=None)
    drive.advance(100)
    drive.session.check(drive.now)
    drive.advance(1)
    drive.drop()
    drive.events()
    dial = drive.open()
    drive.advance(9)
    assert (drive.state, dial.wanted, drive.events()) == (State.RECOVERING, True, [])


def test_a_check_without_an_answer_gives_the_transport_up_and_recovers() -> None:
    drive = connected(keepalive_interval=None, keepalive_timeout=None)
    drive.session.heard(drive.now)
    drive.advance(100)
    drive.session.check(drive.now)
    drive.advance(4.9)
    assert drive.state is State.CONNECTED
    drive.advance(0.1)
    assert drive.events() == [LOST]
    assert drive.dial.recovery


@pytest.mark.parametrize("answered", [False, True], ids=["silent", "answered"])
def test_in_one_tick_of_the_clock_bytes_before_a_check_are_no_answer_and_bytes_after_it_are(answered: bool) -> None:
    drive = connected(keepalive_interval=None, keepalive_timeout=None)
    drive.advance(100)
    drive.session.heard(drive.now)
    drive.session.check(drive.now)  # uvloop's clock moves once a millisecond
    if answered:
        drive.session.heard(drive.now)
    drive.advance(10)
    assert drive.events() == ([] if answered else [LOST])


def test_a_check_is_over_with_its_transport() -> None:
    drive = connected()
    drive.advance(1)
    drive.session.check(drive.now)
    drive.drop()
    drive.recover()
    drive.events()
    drive.advance(10)
    assert (drive.state, drive.events()) == (State.CONNECTED, [])


def test_a_check_that_is_repeated_puts_its_end_off_only_after_an_answer() -> None:
    drive = connected()
    drive.advance(1)
    drive.session.check(drive.now)
    drive.advance(3)
    drive.session.check(drive.now)
    drive.advance(1.9)
    assert drive.state is State.CONNECTED
    drive.advance(0.1)
    assert drive.events() == [LOST]

    drive.recover()
    drive.events()
    drive.advance(1)
    drive.session.check(drive.now)
    drive.advance(1)
    drive.says({"type": "pong"})
    drive.advance(2)
    drive.session.check(drive.now)  # the network has changed after the answer
    drive.advance(4.9)
    assert drive.state is State.CONNECTED
    drive.advance(0.1)
    assert drive.events() == [LOST]


def test_a_check_reads_although_the_consumer_is_too_slow_until_something_is_heard() -> None:
    drive = connected()
    drive.session.reading_paused(drive.now)
    drive.advance(1_000)
    assert not drive.session.reading
    drive.session.check(drive.now)
    assert drive.session.reading
    drive.advance(1)
    drive.says({"type": "pong"})
    assert not drive.session.reading
    drive.advance(1_000)
    assert drive.state is State.CONNECTED
    drive.session.check(drive.now)
    drive.session.reading_resumed(drive.now)  # which is no sign of life
    drive.advance(5)
    assert drive.state is State.RECOVERING


@pytest.mark.parametrize("how", ["check", "asleep"])
def test_a_peer_that_was_not_read_has_the_time_of_the_check_to_answer(how: str) -> None:
    """What has been silent is the reader: that time does not count."""
    drive = connected()
    drive.session.asleep(0.0, drive.now)
    drive.session.reading_paused(drive.now)
    drive.advance(119.5)  # the silence ends half a second later
    if how == "check":
        drive.session.check(drive.now)
    else:
        drive.session.asleep(3600.0, drive.now)
    drive.advance(4.9)
    assert (drive.state, drive.events()) == (State.CONNECTED, [])
    drive.says({"type": "pong"})
    drive.advance(1_000)
    assert (drive.state, drive.events()) == (State.CONNECTED, [])

    drive.session.check(drive.now)
    drive.advance(5)
    assert drive.events() == [LOST]


def test_the_patience_of_a_check_is_an_option() -> None:
    drive = connected(check_timeout=0.5, protocol=PLAIN)
    drive.advance(1)
    drive.session.check(drive.now)
    drive.advance(0.5)
    assert drive.state is State.WAITING


def test_a_check_makes_the_attempt_that_waits_for_its_delay() -> None:
    drive = connected(reconnect=Backoff(initial=30.0, jitter=0.0))
    drive.lose()
    drive.events()
    drive.advance(1)
    drive.session.check(drive.now)
    assert drive.until_dial() == 0.0
    assert drive.state is State.CONNECTING

    # One attempt an interval, however often that is asked for.
    drive.session.url_failed(ConnectError("no"), drive.now)
    for _ in range(5):
        drive.session.check(drive.now)
    assert drive.until_dial() == 1.0
    drive.session.url_failed(ConnectError("no", retry_after=9.0), drive.now)
    drive.session.check(drive.now)
    assert drive.until_dial() == 9.0


def test_a_check_makes_the_attempt_to_recover_that_waits() -> None:
    drive = connected(recovery_interval=10.0)
    drive.drop()
    drive.session.dial_failed(OSError("no"), drive.now)
    drive.session.check(drive.now)
    assert drive.until_dial() == 10.0  # without the jitter, which would add to it


def test_a_check_never_puts_an_attempt_off() -> None:
    drive = connected(reconnect=Backoff(initial=0.1, jitter=0.0), recovery_interval=10.0)
    drive.lose()
    drive.until_dial()
    drive.session.url_failed(ConnectError("no"), drive.now)
    drive.session.check(drive.now)
    assert drive.until_dial() < 1.0


@pytest.mark.parametrize("state", ["stopped", "connecting", "recovering", "stopping"])
def test_a_check_does_nothing_where_there_is_nothing_to_check(state: str) -> None:
    drive = Drive(**DEFAULTS)
    if state == "connecting":
        drive.start()
    elif state != "stopped":
        drive.connect()
        if state == "recovering":
            drive.drop()
        else:
            drive.session.stop(drive.now)
    drive.sent(), drive.events()
    before = drive.session.deadline, drive.session.dial
    drive.session.check(drive.now)
    drive.session.asleep(0.0, drive.now)
    drive.session.asleep(1e9, drive.now)
    assert (drive.session.deadline, drive.session.dial) == before
    assert (drive.sent(), drive.events()) == ([], [])


# ---- A suspend


def test_a_suspend_is_a_reason_to_check() -> None:
    drive = connected()
    drive.session.asleep(500.0, drive.now)  # any constant
    drive.advance(1)
    drive.session.asleep(501.9, drive.now)
    assert drive.sent() == []
    drive.session.asleep(3_600.0, drive.now)
    assert drive.sent() == [PING]
    drive.session.asleep(3_600.0, drive.now)  # each suspend counts once
    drive.advance(4.9)
    assert drive.state is State.CONNECTED
    drive.advance(0.1)
    assert drive.events() == [LOST]


def test_a_second_suspend_gives_the_peer_its_time_anew() -> None:
    drive = connected()
    drive.session.asleep(0.0, drive.now)
    drive.advance(1)
    drive.session.asleep(100.0, drive.now)
    drive.advance(4)
    drive.session.asleep(200.0, drive.now)
    drive.advance(4.9)
    assert drive.state is State.CONNECTED
    drive.advance(0.1)
    assert drive.events() == [LOST]


def test_a_clock_that_is_set_back_or_drifts_is_no_suspend() -> None:
    drive = connected()
    for seconds in (1000.0, 10.0, 11.9, 13.8, 15.7, -5.0):
        drive.session.asleep(seconds, drive.now)
    assert drive.sent() == []


# ---- A process that stood still


@pytest.mark.parametrize("arrived", [True, False])
def test_a_frozen_process_reads_before_it_judges_silence(arrived: bool) -> None:
    drive = connected()
    oversleep(drive, 3_600)
    assert drive.state is State.CONNECTED
    assert drive.sent() == [PING]
    if arrived:
        drive.says(news(1))  # it waited to be read
    drive.advance(4.9)
    assert drive.state is State.CONNECTED
    drive.advance(0.1)
    assert drive.state is (State.CONNECTED if arrived else State.RECOVERING)


def test_a_process_that_always_stands_still_notices_a_dead_peer_nevertheless() -> None:
    drive = connected()
    for _ in range(20):
        if drive.state is State.CONNECTED:
            oversleep(drive, 10)
    assert drive.state is State.RECOVERING


def test_a_timer_that_is_a_little_late_changes_nothing() -> None:
    drive = connected(keepalive_interval=None)
    oversleep(drive, 2.0)
    assert drive.state is State.RECOVERING


@pytest.mark.parametrize("answered", [True, False])
def test_a_frozen_process_reads_before_it_judges_an_attempt(answered: bool) -> None:
    drive = Drive()
    drive.start()
    drive.open()
    oversleep(drive, 3_600)
    assert drive.state is State.CONNECTING
    if answered:
        drive.advance(0.9)
        drive.says(hello())
        assert drive.state is State.CONNECTED
    else:
        drive.advance(1.0)
        (stopped,) = drive.events(Stopped)
        assert "timed out" in str(stopped.error)


@pytest.mark.parametrize("answered", [True, False])
def test_a_frozen_process_reads_before_it_gives_a_request_up(answered: bool) -> None:
    drive = connected(request_timeout=10.0)
    ack_id = drive.session.join_group("g", drive.now)
    drive.sent()
    oversleep(drive, 3_600)
    assert drive.events(Acked) == []
    for _ in range(50):  # other messages neither hasten the end of the wait nor put it off
        drive.advance(0.01)
        drive.says(news())
    assert drive.events(Acked) == []
    if answered:
        drive.says(ok(ack_id))
        assert drive.answers() == {ack_id: "done"}
    for _ in range(60):
        drive.advance(0.01)
        drive.says(news())
    assert drive.answers() == ({} if answered else {ack_id: "Timeout/unknown"})


def test_a_frozen_process_reads_before_it_gives_a_recovery_up() -> None:
    drive = connected()
    drive.drop()
    drive.open()
    oversleep(drive, 3_600)
    assert drive.state is State.RECOVERING
    drive.says({"type": "pong"})
    assert drive.state is State.CONNECTED


def test_a_frozen_process_with_nothing_to_read_judges_at_once() -> None:
    drive = connected()
    drive.drop()
    drive.session.dial_failed(OSError("no"), drive.now)
    oversleep(drive, 3_600)
    assert drive.state is State.WAITING


def test_a_frozen_process_reads_before_it_takes_a_stop_for_unanswered() -> None:
    drive = connected()
    drive.session.stop(drive.now)
    oversleep(drive, 3_600)
    assert drive.state is State.STOPPING
    drive.advance(1.0)
    assert drive.state is State.STOPPED


def test_a_request_that_the_service_refused_meanwhile_is_refused() -> None:
    drive = connected(request_timeout=10.0)
    ack_id = drive.session.send_event("e", "x", drive.now)
    drive.sent()
    oversleep(drive, 100)
    drive.says(refused(ack_id, "Forbidden"))
    assert drive.answers() == {ack_id: "Forbidden/rejected"}


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_seconds_of_suspends_that_are_none_are_refused_and_the_next_suspend_is_noticed(seconds: float) -> None:
    drive = Drive()
    drive.connect()
    drive.session.asleep(5.0, drive.now)
    with pytest.raises(InvalidValue, match="seconds must be finite"):
        drive.session.asleep(seconds, drive.now)
    assert drive.sent() == []
    drive.session.asleep(65.0, drive.now)
    assert drive.sent() == [PING]


def test_exactly_two_seconds_of_sleep_are_none() -> None:
    drive = connected()
    drive.session.asleep(0.0, drive.now)
    drive.session.asleep(2.0, drive.now)
    assert drive.sent() == []


def test_the_log_tells_of_a_suspend(caplog: pytest.LogCaptureFixture) -> None:
    drive = connected()
    drive.session.asleep(500.0, drive.now)
    with caplog.at_level(logging.DEBUG, "limpet"):
        drive.session.asleep(4_100.0, drive.now)
        drive.events()
    assert caplog.messages == ["the machine was suspended for 3600 s"]


def test_a_process_that_stood_still_gives_the_peer_the_time_of_a_check_anew() -> None:
    drive = connected()
    drive.session.check(drive.now)
    oversleep(drive, 100.0)
    drive.advance(4.9)
    assert (drive.state, drive.events()) == (State.CONNECTED, [])
    drive.advance(0.1)
    assert drive.events() == [LOST]
