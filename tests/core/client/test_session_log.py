"""What the log says of an outage: its begin, its first failure, seldom that it goes on, and its end."""

from __future__ import annotations

import logging

import pytest
from tests.helpers.driving import URL, Drive, hello, news, ok

from limpet import Backoff, ConnectError
from limpet_core.client.outages import Outage

Line = tuple[str, str]


class Told:
    """The lines of the log since the last look."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        caplog.set_level(logging.DEBUG, "limpet")

    def __call__(self, drive: Drive) -> list[Line]:
        drive.session.events()  # the lines are written here
        lines = [(record.levelname, record.getMessage()) for record in self._caplog.records if record.name == "limpet"]
        self._caplog.clear()
        return lines


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    return Told(caplog)


def refuse(drive: Drive) -> None:
    drive.until_dial()
    if drive.dial.url is None:
        drive.session.url_ready(URL, drive.now)
    drive.session.dial_failed(OSError("refused"), drive.now)


REFUSED = "cannot connect to example.test port 443: refused"
LOST = "the connection was lost: gone (close code 1008)"


def test_a_start_says_that_it_is_connected_and_a_stop_that_was_asked_for_nothing(told: Told) -> None:
    drive = Drive()
    drive.start()
    drive.open()
    drive.now += 0.25
    drive.says(hello("c1"))
    assert told(drive) == [("INFO", "connected: c1, after 0.2 s, at attempt 1")]
    drive.session.stop(drive.now)
    drive.drop(1000)
    assert told(drive) == []


def test_nothing_is_logged_for_messages_and_requests(told: Told) -> None:
    drive = Drive()
    drive.connect()
    told(drive)
    for number in range(1, 4):
        drive.says(news(number))
        ack_id = drive.session.join_group("g", drive.now)
        drive.sent()
        drive.says(ok(ack_id))
    assert told(drive) == []


def test_a_start_that_goes_on_warns_once_and_says_how_long_it_took(told: Told) -> None:
    drive = Drive(first_connection=Backoff(initial=4.0, maximum=4.0, jitter=0.0))
    drive.start()
    for _ in range(3):
        refuse(drive)
    drive.connect()
    assert told(drive) == [
        ("WARNING", f"{REFUSED}; the start goes on until a connection is made (the next attempt is in 4.0 s)"),
        ("DEBUG", f"attempt 2 failed: {REFUSED}; the next is in 4.0 s"),
        ("DEBUG", f"attempt 3 failed: {REFUSED}; the next is in 4.0 s"),
        ("INFO", "connected: c1, after 12.0 s, at attempt 4"),
    ]


def test_a_start_that_raises_leaves_the_log_alone(told: Told) -> None:
    drive = Drive()
    drive.start()
    refuse(drive)
    assert told(drive) == [("DEBUG", f"attempt 1 failed: {REFUSED}; no other follows")]


def test_a_recovery_has_a_begin_and_an_end(told: Told) -> None:
    drive = Drive(random=lambda: 0.0)
    drive.connect()
    told(drive)
    drive.drop(1006, "reset")
    refuse(drive)
    refuse(drive)
    drive.recover()
    assert told(drive) == [
        ("INFO", "recovering c1: reset (close code 1006)"),
        ("WARNING", f"attempt 1 failed: {REFUSED}; no connection for 0.0 s; the next attempt is in 1.0 s"),
        ("DEBUG", f"attempt 2 failed: {REFUSED}; the next is in 1.0 s"),
        ("INFO", "recovered c1 after 2.0 s, at attempt 3"),
    ]


def test_a_reconnect_names_both_connections_and_counts_from_the_loss_of_the_transport(told: Told) -> None:
    drive = Drive(random=lambda: 0.0, reconnect=Backoff(initial=1.0, jitter=0.0))
    drive.connect()
    told(drive)
    drive.drop()
    refuse(drive)
    drive.until_dial()
    drive.open()
    drive.lose()
    refuse(drive)
    drive.connect("c2")
    assert told(drive)[2:] == [
        ("DEBUG", f"attempt 2 failed: {LOST}; the next is in 1.0 s"),
        (
            "WARNING",
            "the connection was lost: gone (close code 1008); messages are lost until a new connection is made",
        ),
        ("DEBUG", f"attempt 3 failed: {REFUSED}; the next is in 2.0 s"),
        ("INFO", "reconnected: c2 replaces c1, after 4.0 s, at attempt 4"),
    ]


def test_the_next_outage_counts_and_warns_anew(told: Told) -> None:
    drive = Drive()
    drive.connect()
    for _ in range(2):
        told(drive)
        drive.advance(50)
        drive.drop()
        refuse(drive)
        drive.recover()
        lines = told(drive)
        assert [level for level, _ in lines] == ["INFO", "WARNING", "INFO"]
        assert lines[1][1].startswith("attempt 1 failed: ")
        assert lines[2][1].endswith("at attempt 2")


def test_a_long_outage_is_warned_of_ever_more_seldom(told: Told) -> None:
    """At the first failure after 1, 5 and 15 minutes, then in each hour."""
    drive = Drive(reconnect=Backoff(initial=10.0, maximum=10.0, jitter=0.0))
    drive.connect()
    drive.lose()
    began = drive.now
    warned = []
    while drive.now < began + 3 * 3600:
        told(drive)
        refuse(drive)
        warned += [(drive.now - began, text) for level, text in told(drive) if level == "WARNING"]
    assert [when for when, _ in warned] == [10.0, 60.0, 300.0, 900.0, 3600.0, 7200.0, 10800.0]
    texts = [text for _, text in warned]
    assert texts[1] == f"attempt 6 failed: {REFUSED}; no connection for 1 min 0 s; the next attempt is in 10.0 s"
    assert texts[-1].startswith(f"attempt 1080 failed: {REFUSED}; no connection for 3 h 0 min; ")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-1.0, "0.0 s"),
        (0.0, "0.0 s"),
        (59.9, "59.9 s"),
        (60.0, "1 min 0 s"),
        (119.9, "1 min 59 s"),
        (3599.9, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (7379.9, "2 h 2 min"),
    ],
)
def test_the_length_of_an_outage_is_told_in_the_units_that_fit(seconds: float, told: str) -> None:
    assert Outage(1000.0).length(1000.0 + seconds) == told


def test_attempts_that_are_far_apart_are_each_worth_a_warning(told: Told) -> None:
    drive = Drive(reconnect=Backoff(initial=4000.0, maximum=4000.0, jitter=0.0))
    drive.connect()
    drive.lose()
    told(drive)
    for _ in range(3):
        refuse(drive)
        assert [level for level, _ in told(drive)] == ["WARNING"]


def test_after_the_last_attempt_the_end_is_the_error(told: Told) -> None:
    drive = Drive(reconnect=Backoff(initial=1.0, jitter=0.0, limit=1))
    drive.connect()
    drive.lose()
    told(drive)
    refuse(drive)
    assert told(drive) == [
        ("DEBUG", f"attempt 1 failed: {REFUSED}; no other follows"),
        ("ERROR", f"the client has stopped: gave up after 1 attempt to connect again: {REFUSED}"),
    ]


def test_no_token_and_no_control_character_is_in_the_lines(told: Told) -> None:
    drive = Drive()
    drive.connect("c\x1b1", token="TOKEN-OF-RECOVERY")
    drive.drop(1006, "reset by\x1b TOKEN-OF-RECOVERY and SECRET")
    drive.until_dial()
    drive.session.dial_failed(ConnectError("refused SECRET\x1b TOKEN-OF-RECOVERY"), drive.now)
    drive.recover()
    drive.lose()
    drive.connect("c\x1b2")
    text = str(told(drive)) + str(drive.session.stats)
    assert "reconnected" in text
    assert "SECRET" not in text
    assert "TOKEN-OF-RECOVERY" not in text
    assert "\x1b" not in text
    assert "\\u001b" in text
