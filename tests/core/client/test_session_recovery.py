"""Recovering a connection whose transport was lost."""

from __future__ import annotations

import gc
import logging
import math
import weakref

import pytest
from tests.helpers.driving import PING, URL, Drive, closed_with, hello, news, ok, sequence_ack

from limpet import (
    Backoff,
    Close,
    Connected,
    ConnectionFailed,
    Disconnected,
    GroupMessage,
    MessagesMissed,
    Recovered,
    Recovering,
    State,
)

BROKEN = "{broken"


def fail(drive: Drive) -> None:
    drive.session.dial_failed(OSError("refused"), drive.now)


def test_the_first_attempt_to_recover_is_made_at_once() -> None:
    drive = Drive()
    drive.connect("c1", token="t/1")
    drive.drop(1006, "reset by peer")
    assert drive.state is State.RECOVERING
    assert drive.events() == [Recovering("c1", 1006, "reset by peer")]
    assert (drive.dial.recovery, drive.dial.attempt) == (True, 1)
    assert drive.dial.url == f"{URL}&awps_connection_id=c1&awps_reconnection_token=t%2F1"
    assert drive.session.connection_id == "c1"


def test_a_transport_that_is_just_gone_has_close_code_1006_and_no_reason() -> None:
    drive = Drive()
    drive.connect()
    drive.session.disconnected(drive.now)
    assert drive.events() == [Recovering("c1", 1006, "")]


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1005, 1006, 1007, 1009, 1011, 1012, 4000])
def test_every_close_code_but_1008_is_recovered_from(code: int) -> None:
    drive = Drive()
    drive.connect()
    drive.drop(code)
    assert drive.state is State.RECOVERING


@pytest.mark.parametrize(
    "first", [{"type": "pong"}, news(1), {"type": "future"}, {"type": "ack", "ackId": 9, "success": True}]
)
def test_any_message_shows_that_the_service_took_us_back(first: dict[str, object]) -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    drive.open()
    drive.events()
    assert drive.state is State.RECOVERING
    drive.says(first)
    assert drive.state is State.CONNECTED
    assert drive.events()[0] == Recovered("c1")
    assert drive.session.deadline in (math.inf, drive.now + 1)  # nothing but the ack of the news, if it was news


def test_an_open_transport_alone_shows_nothing() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    drive.open()
    drive.session.heard(drive.now)
    assert drive.state is State.RECOVERING
    drive.advance(10)
    assert drive.session.dial is None or drive.dial.attempt == 2


def test_a_recovery_asks_for_life_with_a_ping() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    drive.open()
    assert drive.sent() == [PING]


def test_a_transport_that_says_twice_that_it_is_open_is_asked_for_life_once() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    drive.open()
    drive.session.connected(drive.now)
    assert drive.sent() == [PING]


def test_a_repeated_report_of_a_loss_does_nothing() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    dial = drive.session.dial
    drive.drop()
    assert drive.session.dial is dial
    drive.recover()
    assert drive.events() == [Recovering("c1", 1006, ""), Recovered("c1")]


def test_a_recovery_is_no_new_connection() -> None:
    drive = Drive()
    drive.connect("c1", user="ann")
    drive.drop()
    drive.recover()
    assert drive.events(Connected) == []
    assert (drive.session.connection_id, drive.session.user_id) == ("c1", "ann")


@pytest.mark.parametrize(("draw", "interval"), [(0.0, 1.0), (0.5, 1.125), (1.0, 1.25)])
def test_further_attempts_follow_every_second_with_jitter(draw: float, interval: float) -> None:
    drive = Drive(random=lambda: draw)
    drive.connect()
    drive.drop()
    for attempt in (1, 2, 3, 4):
        assert drive.dial.attempt == attempt
        fail(drive)
        assert drive.until_dial() == interval


def test_the_interval_counts_from_the_start_of_an_attempt() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    drive.advance(0.625)
    fail(drive)
    assert drive.until_dial() == 0.5
    drive.advance(5)
    fail(drive)
    assert drive.until_dial() == 0
    assert [event.next_in for event in drive.events(ConnectionFailed)] == [0.5, 0.0]


def test_connections_that_die_at_once_after_each_recovery_are_not_hammered() -> None:
    drive = Drive()
    drive.connect()
    began = drive.now
    for _ in range(10):
        drive.drop()
        drive.recover()
    assert drive.now - began == 9 * 1.125


@pytest.mark.parametrize("draw", [0.0, 0.5, 0.99])
def test_recovery_ends_30_s_after_the_drop(draw: float) -> None:
    drive = Drive(random=lambda: draw)
    drive.connect()
    drive.drop()
    dropped = drive.now
    attempts = 0
    while drive.state is State.RECOVERING:
        if drive.session.dial is not None:
            attempts += 1
            fail(drive)
        drive.advance(min(drive.session.deadline - drive.now, 60))
    assert drive.now == dropped + 30
    assert 24 <= attempts <= 30
    recovering, *failed, disconnected = drive.events()
    assert recovering == Recovering("c1", 1006, "")
    assert disconnected == Disconnected("c1", 1006, "not recovered within 30 s")
    assert [event.attempt for event in failed] == list(range(1, attempts + 1))
    assert drive.state is State.WAITING
    drive.until_dial()
    assert (drive.dial.url, drive.dial.recovery, drive.dial.attempt) == (None, False, 1)


def test_transports_that_open_but_show_no_life_do_not_prolong_the_window() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    dropped = drive.now
    while drive.state is State.RECOVERING:
        if drive.session.dial is not None:
            drive.open()
            drive.drop(1011)
        drive.advance(min(drive.session.deadline - drive.now, 60))
    assert drive.now == dropped + 30


def test_the_window_counts_anew_after_the_recovered_connection_has_shown_life() -> None:
    drive = Drive()
    drive.connect()
    for _ in range(5):
        drive.drop()
        fail(drive)
        drive.advance(20)
        drive.recover()
    assert drive.state is State.CONNECTED
    assert drive.events(Disconnected) == []


def test_an_attempt_that_hangs_makes_room_for_others_in_the_window() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    dials = set()
    while drive.state is State.RECOVERING:
        dials.add(drive.dial.attempt)
        drive.advance(1)
    assert dials == {1, 2, 3}


def test_an_attempt_is_never_given_longer_than_connect_timeout() -> None:
    drive = Drive(connect_timeout=2.0)
    drive.connect()
    drive.drop()
    drive.advance(2)
    assert drive.dial.attempt == 2


def test_the_log_warns_of_a_connection_that_is_lost_for_good(caplog: pytest.LogCaptureFixture) -> None:
    drive = Drive()
    drive.connect()
    drive.lose()
    drive.events()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the connection was lost: gone (close code 1008); messages are lost until a new connection is made")
    ]


def test_the_log_says_why_an_attempt_to_recover_failed(caplog: pytest.LogCaptureFixture) -> None:
    drive = Drive()
    drive.connect()
    with caplog.at_level("DEBUG", logger="limpet"):
        drive.drop(1006, "reset by peer")
        fail(drive)
        drive.until_dial()
        drive.advance(10)
        drive.events()
    assert [record.message for record in caplog.records] == [
        "recovering c1: reset by peer (close code 1006)",
        "attempt 1 failed: cannot connect to example.test port 443: refused; no connection for 0.0 s; "
        "the next attempt is in 1.1 s",
        "attempt 2 failed: the recovery timed out: example.test port 443 did not answer in time; the next is at once",
    ]


def test_the_window_of_a_connection_that_was_lost_means_nothing_any_more() -> None:
    drive = Drive(reconnect=Backoff(initial=100, maximum=100, jitter=0))
    drive.connect()
    drive.drop()
    drive.open()
    drive.drop(1008)
    assert drive.session.deadline == drive.now + 100
    assert drive.until_dial() == 100


def test_close_code_1008_ends_the_recovery() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    drive.open()
    drive.drop(1008, "unknown connection")
    recovering, failed, disconnected = drive.events()
    assert recovering == Recovering("c1", 1006, "")
    assert disconnected == Disconnected("c1", 1008, "unknown connection")
    assert str(failed.error) == "the connection was lost: unknown connection (close code 1008)"
    assert failed.error.code == 1008
    assert failed.attempt == 1
    assert failed.next_in == pytest.approx(drive.session.deadline - drive.now)
    assert (drive.state, drive.session.connection_id) == (State.WAITING, None)
    drive.until_dial()
    assert drive.dial.url is None


def test_a_refused_handshake_does_not_end_the_recovery() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    for status in (401, 403, 404, 429, 500, 502, 503):
        drive.until_dial()
        drive.session.dial_failed(OSError("refused"), drive.now, status=status)
        assert drive.state is State.RECOVERING


def test_a_farewell_and_a_normal_close_end_the_connection_with_the_services_reason() -> None:
    drive = Drive()
    drive.connect()
    drive.says({"type": "system", "event": "disconnected", "message": "closed by the administrator"})
    drive.drop(1000)
    assert drive.events() == [Disconnected("c1", 1000, "closed by the administrator")]


def test_a_farewell_without_words_leaves_the_reason_to_the_close() -> None:
    drive = Drive()
    drive.connect()
    drive.says({"type": "system", "event": "disconnected"})
    drive.drop(1000, "bye")
    assert drive.events() == [Disconnected("c1", 1000, "bye")]


def test_a_farewell_without_a_normal_close_is_recovered_from() -> None:
    drive = Drive()
    drive.connect()
    drive.says({"type": "system", "event": "disconnected", "message": "service reload"})
    drive.drop(1001)
    assert drive.state is State.RECOVERING
    drive.recover()
    drive.drop(1000)  # the farewell belonged to the transport before
    assert drive.state is State.RECOVERING


@pytest.mark.parametrize("farewell", [False, True])
def test_a_farewell_is_not_why_the_connection_could_not_be_recovered(farewell: bool) -> None:
    drive = Drive()
    drive.connect()
    if farewell:
        drive.says({"type": "system", "event": "disconnected", "message": "service reload"})
    drive.drop(1001)
    while drive.state is State.RECOVERING:
        if drive.session.dial is not None:
            fail(drive)
        drive.advance(drive.session.deadline - drive.now)
    lost = [event for event in drive.events() if isinstance(event, Disconnected)]
    assert lost == [Disconnected("c1", 1006, "not recovered within 30 s")]


def test_the_error_of_an_attempt_is_not_kept_once_there_is_a_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Refused(OSError):
        """Takes weak references."""

    caplog.set_level(logging.CRITICAL)  # pytest keeps what is logged
    drive = Drive()
    drive.start()
    errors = [Refused("refused"), Refused("refused again")]
    kept = [weakref.ref(error) for error in errors]
    drive.session.dial_failed(errors[0], drive.now)
    drive.until_dial()
    drive.connect()
    drive.drop()
    drive.session.dial_failed(errors[1], drive.now)
    drive.until_dial()
    drive.recover()
    drive.events()
    del errors
    gc.collect()
    assert [error() for error in kept] == [None, None]


def test_the_url_provider_is_not_asked_for_a_recovery() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    for _ in range(3):
        assert drive.dial.url is not None
        fail(drive)
        drive.until_dial()


def test_a_fresh_reconnection_token_replaces_the_old_one() -> None:
    drive = Drive()
    drive.connect("c1", token="old")
    drive.says(hello("c1", token="new"))
    assert drive.events() == []
    drive.drop()
    assert drive.dial.url is not None
    assert drive.dial.url.endswith("awps_reconnection_token=new")


def test_a_connected_message_without_a_token_keeps_the_one_there_is() -> None:
    drive = Drive()
    drive.connect("c1", token="old")
    drive.says(hello("c1", token=None))
    drive.drop()
    assert drive.dial.url is not None
    assert drive.dial.url.endswith("awps_reconnection_token=old")


def test_connected_with_the_same_id_during_a_recovery_completes_it() -> None:
    drive = Drive(keepalive_interval=20.0)
    drive.connect("c1", token="old")
    drive.drop()
    drive.open()
    drive.says(hello("c1", token="new"))
    assert drive.events() == [Recovering("c1", 1006, ""), Recovered("c1")]
    assert drive.session.deadline == drive.now + 20
    drive.drop()
    drive.until_dial()
    assert drive.dial.url is not None
    assert drive.dial.url.endswith("awps_reconnection_token=new")


def test_connected_with_another_id_is_a_new_connection() -> None:
    drive = Drive()
    drive.connect("c1")
    drive.says(news(1), news(2))
    sent_before = drive.session.send_to_group("g", 1, drive.now)
    drive.sent()
    drive.drop()
    drive.open()
    drive.sent()
    drive.events()
    drive.says(hello("c2"), news(1, "a"))
    disconnected, acked, connected, message = drive.events()
    assert disconnected == Disconnected("c1", 1006, "the service replaced the connection by another")
    assert (acked.ack_id, acked.error.outcome) == (sent_before, "unknown")
    assert connected == Connected("c2")
    assert message.data == "a"
    assert (drive.state, drive.session.connection_id) == (State.CONNECTED, "c2")


def test_connected_with_another_id_in_the_middle_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """To follow the service there would be to join all groups again as often as it says so."""
    drive = Drive()
    dial = drive.connect("c1")
    for number in range(50):
        ack_id = drive.session.join_group(f"g{number}", drive.now)
        drive.sent()
        drive.says(ok(ack_id))
    drive.events()
    drive.says(*(hello(f"c{number}") for number in range(2, 100)))
    reason = "a connected message of another connection, in the middle of one"
    assert drive.events() == [Disconnected("c1", 1002, reason)]
    assert (drive.state, dial.close, drive.sent()) == (State.WAITING, Close(1002, reason), [])
    assert caplog.messages[0] == f"the service sent {reason}"
    assert drive.until_dial() > 0.0
    drive.open()
    drive.says(hello("c100"))
    assert len(drive.sent()) == 50


def test_nothing_of_a_replaced_connection_is_acknowledged_on_the_new_one() -> None:
    drive = Drive(sequence_ack_messages=2)
    drive.connect("c1")
    drive.says(news(1), news(2))
    drive.drop()
    drive.open()  # the ack is due, but the transport is busy
    drive.says(hello("c2"))
    assert drive.sent() == []
    drive.advance(5)
    assert drive.sent() == []


def test_groups_are_kept_and_not_joined_again_after_a_recovery() -> None:
    drive = Drive()
    drive.connect()
    ack_id = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says({"type": "ack", "ackId": ack_id, "success": True})
    drive.drop()
    assert drive.recover() == [PING]
    assert drive.session.groups == {"g"}


def test_a_session_asleep_for_an_hour_while_recovering_makes_a_new_connection() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    fail(drive)
    drive.now += 3600
    drive.session.wake(drive.now)
    assert drive.state is State.WAITING
    drive.until_dial()
    assert drive.dial.recovery is False


def test_recovery_timeout_0_makes_a_new_connection_at_once() -> None:
    drive = Drive(recovery_timeout=0, reconnect=Backoff(initial=0, maximum=0))
    drive.connect()
    drive.drop()
    for _ in range(3):
        drive.session.wake(drive.now)
    assert drive.state is State.CONNECTING
    assert drive.dial.recovery is False


# ---- Broken input


def test_something_broken_closes_with_the_right_code_and_recovers() -> None:
    drive = Drive()
    transport = drive.connect()
    drive.says(news(1), BROKEN, news(2))
    assert closed_with(transport) == 1007
    assert [type(event) for event in drive.events()] == [GroupMessage, Recovering]
    sent = drive.recover()
    assert sent[0] == sequence_ack(1)
    drive.says(news(2, "b"))
    assert [event.data for event in drive.events(GroupMessage)] == ["b"]


def test_something_broken_shows_no_life() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    drive.open()
    drive.says(BROKEN)
    assert drive.state is State.RECOVERING
    recovering, failed = drive.events()
    assert recovering == Recovering("c1", 1006, "")
    assert str(failed.error).startswith("the connection was closed before it was recovered: not JSON: ")
    assert str(failed.error).endswith(" (close code 1007)")
    assert (failed.error.code, failed.attempt) == (1007, 1)


def test_a_message_that_is_broken_on_every_replay_is_skipped_and_told() -> None:
    """At once, and the gap once it is known."""
    drive = Drive()
    drive.connect()
    drive.says(news(1), BROKEN, news(3))
    assert drive.state is State.RECOVERING
    drive.until_dial()
    drive.open()
    drive.sent()
    drive.says(news(1), BROKEN)
    assert drive.state is State.CONNECTED
    first, _, _, told = drive.events()
    assert first.sequence_id == 1
    assert told == MessagesMissed(0, 0)
    drive.says(news(3, "later"))
    told, later = drive.events()
    assert told == MessagesMissed(2, 2)
    assert later.data == "later"
    drive.advance(1)
    assert drive.sent() == [sequence_ack(3)]


def test_each_poison_message_costs_one_recovery_and_no_connection() -> None:
    """Those without a sequence id, that is; see below."""
    drive = Drive()
    drive.connect()
    queue = [BROKEN if n % 2 else news(n, f"m{n}") for n in range(1, 11)]
    drive.says(*queue)
    for _ in range(5):
        drive.until_dial()
        drive.open()
        drive.sent()
        drive.says(*queue)
    log = drive.events()
    assert drive.state is State.CONNECTED
    assert [event.data for event in log if type(event) is GroupMessage] == ["m2", "m4", "m6", "m8", "m10"]
    missed = [event for event in log if type(event) is MessagesMissed and event.first]
    assert missed == [MessagesMissed(n, n) for n in (1, 3, 5, 7, 9)]
    assert [event for event in log if type(event) is Disconnected] == []


def test_any_number_of_messages_that_can_not_be_delivered_costs_no_recovery() -> None:
    drive = Drive()
    transport = drive.connect()
    drive.says(*[news(n, "%%%" if n % 2 else f"m{n}", dataType="binary" if n % 2 else "text") for n in range(1, 11)])
    log = drive.events()
    assert [event.data for event in log if type(event) is GroupMessage] == ["m2", "m4", "m6", "m8", "m10"]
    assert [event for event in log if type(event) is MessagesMissed] == [MessagesMissed(n, n) for n in (1, 3, 5, 7, 9)]
    assert len(log) == 10
    assert (drive.state, transport.close) == (State.CONNECTED, None)


def test_a_transport_that_breaks_again_at_the_same_place_is_given_up() -> None:
    drive = Drive()
    first = drive.connect()
    drive.session.transport_broken(1009, "a message above max_message_size", drive.now)
    assert closed_with(first) == 1009
    assert drive.state is State.RECOVERING
    second = drive.open()
    drive.session.transport_broken(1009, "a message above max_message_size", drive.now)
    assert closed_with(second) == 1009
    assert drive.state is State.WAITING
    assert drive.events(Disconnected) == [Disconnected("c1", 1009, "a message above max_message_size")]


def test_a_transport_that_breaks_elsewhere_is_recovered_again() -> None:
    drive = Drive()
    drive.connect()
    for number in (1, 2, 3):
        drive.session.transport_broken(1002, "reserved bits", drive.now)
        drive.recover()
        drive.says(news(number))
    assert drive.events(Disconnected) == []


def test_a_binary_message_closes_with_1003_and_recovers() -> None:
    drive = Drive()
    transport = drive.connect()
    drive.session.receive_binary(b"", drive.now)
    assert transport.close == Close(1003, "a binary message where text belongs")
    assert drive.state is State.RECOVERING
    drive.recover()
    drive.says(news(1, "after"))
    assert [event.data for event in drive.events(GroupMessage)] == ["after"]


def test_the_reason_of_a_close_fits_into_a_close_frame() -> None:
    drive = Drive()
    transport = drive.connect()
    drive.session.transport_broken(1002, "x" + "ä" * 300, drive.now)
    assert transport.close == Close(1002, "x" + "ä" * 61)  # of 123 bytes, and only whole characters
