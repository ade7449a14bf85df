"""Keepalive: pings, silence, and a consumer that is too slow to read."""

from __future__ import annotations

import math

import pytest
from tests.helpers.driving import PING, Drive, closed_with, hello, news, ok

from limpet import Backoff, Disconnected, Recovering, State

DEFAULTS = {"keepalive_interval": 20.0, "keepalive_timeout": 120.0}
PLAIN = "json.webpubsub.azure.v1"


def connected(**options: object) -> Drive:
    drive = Drive(**(DEFAULTS | options))
    drive.connect()
    return drive


def pinged(drive: Drive) -> bool:
    return PING in drive.sent()


def test_a_ping_goes_out_every_20_seconds_whatever_else_happens() -> None:
    drive = connected()
    for _ in range(20):
        drive.advance(10)
        assert not pinged(drive)
        drive.says(news())
        drive.advance(10)
        assert pinged(drive)
        drive.says({"type": "pong"})
    assert drive.state is State.CONNECTED


def test_silence_for_120_seconds_gives_the_transport_up_and_recovers() -> None:
    drive = connected()
    transport = drive.dial
    drive.advance(119.5)
    assert drive.state is State.CONNECTED
    drive.advance(0.5)
    assert drive.state is State.RECOVERING
    assert drive.events() == [Recovering("c1", 1006, "nothing was heard for 120 s")]
    assert drive.session.dial is not transport
    assert closed_with(transport) is None  # nobody would answer a close


def test_the_session_sleeps_until_the_silence_would_be_too_long() -> None:
    drive = connected(keepalive_interval=None)
    assert drive.session.deadline == drive.now + 120


def test_without_recovery_silence_leads_to_a_new_connection() -> None:
    drive = connected(protocol=PLAIN)
    drive.advance(120)
    assert drive.state is State.WAITING
    assert drive.events() == [Disconnected("c1", 1006, "nothing was heard for 120 s")]


@pytest.mark.parametrize("sign", ["pong", "data", "bytes", "binary"])
def test_any_sign_of_life_starts_the_silence_anew(sign: str) -> None:
    drive = connected(protocol=PLAIN)
    for _ in range(5):
        drive.advance(100)
        drive.sent()
        if sign == "pong":
            drive.says({"type": "pong"})
        elif sign == "data":
            drive.says(news())
        elif sign == "binary":
            drive.session.receive_binary(b"", drive.now)
        else:
            drive.session.heard(drive.now)
    drive.advance(119.5)
    assert drive.state is State.CONNECTED
    drive.advance(0.5)
    assert drive.state is State.WAITING


def test_what_we_send_is_no_sign_of_life() -> None:
    drive = connected(keepalive_interval=None, ack_timeout=None)
    drive.advance(119)
    drive.session.join_group("g", drive.now)
    drive.sent()
    drive.advance(1)
    assert drive.state is State.RECOVERING


@pytest.mark.parametrize("off", [0, None])
def test_pings_and_the_watch_for_silence_can_be_turned_off(off: float | None) -> None:
    drive = connected(keepalive_interval=off, keepalive_timeout=off)
    assert drive.session.deadline == math.inf
    drive.advance(1_000_000)
    assert drive.state is State.CONNECTED
    assert drive.sent() == []


def test_pings_and_the_watch_for_silence_are_independent() -> None:
    drive = connected(keepalive_interval=None)
    drive.advance(120)
    assert drive.state is State.RECOVERING
    drive = connected(keepalive_timeout=None)
    drive.advance(10_000)
    assert drive.state is State.CONNECTED
    assert pinged(drive)


def test_keepalive_goes_on_after_a_recovery_and_rests_during_it() -> None:
    drive = connected()
    drive.drop()
    drive.session.dial_failed(OSError("refused"), drive.now)
    drive.advance(1)
    assert drive.sent() == []
    drive.recover()
    drive.advance(20)
    assert pinged(drive)
    drive.advance(100)
    assert drive.state is State.RECOVERING


def test_pings_and_silence_wait_for_the_recovery() -> None:
    drive = connected(keepalive_interval=1.0, keepalive_timeout=3.0)
    drive.drop()
    dial = drive.dial
    drive.advance(9)
    assert drive.session.dial is dial, "an attempt has its own time"
    drive.open()
    assert drive.sent() == [PING]  # the one that asks for life


def test_no_ping_of_a_lost_connection_goes_out_on_the_next_one() -> None:
    drive = connected(keepalive_interval=1.0, reconnect=Backoff(initial=5.0, jitter=0.0))
    drive.lose()
    assert drive.until_dial() == 5.0
    drive.open()
    drive.says(hello("c2"))
    assert drive.sent() == []


def test_while_reading_is_paused_silence_means_nothing() -> None:
    drive = connected()
    drive.session.reading_paused(drive.now)
    assert drive.session.reading is False
    drive.advance(1000)
    assert drive.state is State.CONNECTED
    drive.session.reading_resumed(drive.now)
    assert drive.session.reading is True
    drive.advance(119)
    assert drive.state is State.CONNECTED
    drive.advance(1)
    assert drive.state is State.RECOVERING


def test_pings_go_out_while_reading_is_paused() -> None:
    drive = connected()
    drive.session.reading_paused(drive.now)
    drive.advance(20)
    assert pinged(drive)


def test_a_paused_reader_reads_while_an_answer_is_awaited() -> None:
    drive = connected(ack_timeout=10.0)
    drive.session.reading_paused(drive.now)
    assert drive.session.reading is False
    ack_id = drive.session.join_group("g", drive.now)
    assert drive.session.reading is True
    for _ in range(2):  # so that a missing ack does mean something
        assert [message["ackId"] for message in drive.sent() if message != PING] == [ack_id]
        drive.advance(10)
    drive.says(ok(ack_id))
    assert drive.answers() == {ack_id: "done"}
    assert drive.session.reading is False


@pytest.mark.parametrize("request_of", ["join_group", "leave_group", "send_to_group", "send_event", "invoke"])
def test_silence_counts_from_when_a_paused_reader_begins_to_read(request_of: str) -> None:
    drive = connected(keepalive_timeout=60.0, ack_timeout=None)
    data = ("data",) if request_of in ("send_to_group", "send_event", "invoke") else ()
    drive.session.reading_paused(drive.now)
    drive.advance(59)
    getattr(drive.session, request_of)("name", *data, drive.now)
    drive.advance(59)
    getattr(drive.session, request_of)("name", *data, drive.now)
    assert drive.session.state is State.CONNECTED
    drive.advance(2)
    assert drive.session.state is State.RECOVERING


def test_a_paused_reader_reads_while_a_sender_waits_and_finds_a_dead_line() -> None:
    drive = connected(keepalive_timeout=60.0)
    drive.session.reading_paused(drive.now)
    drive.advance(1000)
    drive.session.sender_waits(drive.now)
    drive.session.sender_waits(drive.now)
    assert drive.session.reading is True
    drive.advance(30)
    drive.session.sender_goes_on()
    drive.advance(29)
    assert (drive.session.reading, drive.state) == (True, State.CONNECTED)
    drive.advance(1)
    assert drive.state is State.RECOVERING


def test_a_paused_reader_rests_again_when_the_last_sender_goes_on() -> None:
    drive = connected(keepalive_timeout=60.0)
    drive.session.reading_paused(drive.now)
    drive.session.sender_waits(drive.now)
    drive.session.sender_goes_on()
    assert drive.session.reading is False
    drive.advance(1000)
    assert drive.state is State.CONNECTED


def test_a_sender_that_waits_is_no_sign_of_life() -> None:
    drive = connected()
    drive.advance(100)
    drive.session.sender_waits(drive.now)
    drive.advance(20)
    assert drive.state is State.RECOVERING


def test_a_paused_reader_reads_until_a_connection_stands() -> None:
    drive = connected()
    drive.session.reading_paused(drive.now)
    drive.drop()
    assert drive.session.reading is True
    drive.recover()
    assert drive.session.reading is False


def test_resuming_without_a_pause_does_nothing() -> None:
    drive = connected()
    drive.advance(100)
    before = drive.session.deadline
    drive.session.reading_resumed(drive.now)
    assert drive.session.deadline == before
    drive.advance(20)
    assert drive.state is State.RECOVERING


def test_no_messages_are_no_sign_of_life() -> None:
    drive = connected()
    for _ in range(11):
        drive.advance(10)
        drive.session.receive_messages([], drive.now)
    drive.advance(10)
    assert drive.session.state is State.RECOVERING
