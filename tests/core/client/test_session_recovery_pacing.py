"""How soon a dropped connection is recovered: at once after progress, and never in a storm."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from tests.helpers.driving import Drive, hello, news, ok

from limpet import Connected, Disconnected, MessagesMissed, ServerMessage
from limpet_core.service import (
    NO_CLOSE_FRAME,
    RELIABLE_JSON,
    ClientGrant,
    Limits,
    ServiceCore,
    Transport,
    server_publication,
)


def recovered(drive: Drive) -> None:
    drive.open()
    drive.says({"type": "pong"})


def drops(drive: Drive, times: int, *, up: float, brings: Any = None) -> list[float]:
    """Recover and drop so often, each time after ``up`` seconds; return how long each recovery had to wait."""
    waited: list[float] = []
    for number in range(1, times + 1):
        drive.advance(up)
        if brings is not None:
            drive.says(brings(number))
        drive.drop()
        waited.append(drive.until_dial())
        recovered(drive)
    return waited


def new_message(number: int) -> dict[str, Any]:
    return news(number)


def test_a_line_that_drops_all_the_time_is_recovered_at_once_while_it_brings_something_new() -> None:
    drive = Drive()
    drive.connect()
    assert drops(drive, 200, up=0.3, brings=new_message) == [0.0] * 200


def test_an_answer_is_progress_too() -> None:
    drive = Drive()
    drive.connect()
    waited = []
    for _ in range(100):
        ack_id = drive.session.send_to_group("g", "x", drive.now)
        assert ack_id is not None
        drive.sent()
        drive.advance(0.3)
        drive.says(ok(ack_id))
        drive.drop()
        waited.append(drive.until_dial())
        recovered(drive)
    assert waited == [0.0] * 100


def test_without_progress_every_recovery_but_the_first_waits_for_the_interval() -> None:
    drive = Drive(random=lambda: 0.0)
    drive.connect()
    assert drops(drive, 20, up=0.25) == [0.0] + [0.75] * 19


def test_what_was_seen_before_is_no_progress() -> None:
    drive = Drive(random=lambda: 0.0)
    drive.connect()
    assert drops(drive, 20, up=0.25, brings=lambda number: news(1)) == [0.0] + [0.75] * 19


def test_a_connection_that_drops_as_soon_as_it_has_brought_something_has_ten_early_attempts() -> None:
    drive = Drive(random=lambda: 0.0)
    drive.connect()
    waited = drops(drive, 30, up=0.0, brings=new_message)
    # The first is no early one. After ten early ones the second of waiting does not count: it was no connection.
    assert waited == [0.0] * 11 + [1.0] * 19


def test_time_on_a_connection_that_makes_progress_fills_the_budget_again() -> None:
    drive = Drive(random=lambda: 0.0)
    drive.connect()
    sequence = iter(range(1, 1000))
    assert drops(drive, 12, up=0.0, brings=lambda _: news(next(sequence))) == [0.0] * 11 + [1.0]
    assert drops(drive, 1, up=100.0, brings=lambda _: news(next(sequence))) == [0.0]
    assert drops(drive, 12, up=0.0, brings=lambda _: news(next(sequence))) == [0.0] * 10 + [1.0, 1.0]


def test_an_early_attempt_that_fails_is_not_followed_by_another_early_one() -> None:
    drive = Drive(random=lambda: 0.0)
    drive.connect()
    drops(drive, 1, up=0.3, brings=new_message)
    drive.says(news(2))
    drive.drop()
    assert drive.until_dial() == 0.0
    drive.session.dial_failed(OSError("refused"), drive.now)
    assert drive.until_dial() == 1.0


@pytest.mark.parametrize("brings_messages", [False, True])
def test_a_recovery_that_is_answered_with_another_connection_and_dropped_is_no_storm(brings_messages: bool) -> None:
    drive = Drive(random=lambda: 0.0)
    drive.connect()
    waited = []
    for number in range(40):
        drive.drop()
        waited.append(drive.until_dial())
        assert drive.dial.recovery
        drive.open()
        drive.says(hello(f"c{number + 2}"))
        if brings_messages:
            drive.says(news(1))
        assert [event.connection_id for event in drive.events(Connected)] == [f"c{number + 2}"]
    at_once = 11 if brings_messages else 1
    assert waited == [0.0] * at_once + [1.0] * (40 - at_once)


def test_a_new_connection_after_a_backoff_is_recovered_at_once_whatever_was_before() -> None:
    drive = Drive(random=lambda: 0.0)
    drive.connect()
    drops(drive, 3, up=0.0)
    drive.lose()
    drive.connect("c2")
    drive.drop()
    assert drive.until_dial() == 0.0


@pytest.mark.parametrize("seed", range(5))
def test_a_subscriber_on_a_bad_line_loses_nothing_of_a_busy_group(seed: int) -> None:
    """5,000 messages, 2,000 a second, to a subscriber who is dropped every 0.2 to 0.7 s; a dial takes 50 ms."""
    random = Random(seed)
    ids = iter(f"c{number}" for number in range(1, 100))
    core = ServiceCore(
        Limits(),
        new_connection_id=lambda: next(ids),
        issue_reconnection_token=lambda connection_id: f"token of {connection_id}",
        check_reconnection_token=lambda token, connection_id: token == f"token of {connection_id}",
    )
    drive = Drive(random=random.random)
    session, delivered, transport = drive.session, [], None
    drive.start()
    published, opens_at, drops_at = 0, drive.now, float("inf")
    began = drive.now
    while len(delivered) < 5000 and drive.now < began + 120:
        drive.advance(0.005)
        for _ in range(10):
            if session.connection_id is not None and published < 5000:
                published += 1
                core.send_to_all("chat", server_publication("json", b"%d" % published))
        if transport is None and session.dial is not None and drive.now >= opens_at:
            transport = enter(core, drive)
            drops_at = drive.now + random.uniform(0.2, 0.7)
        if transport is not None:
            for request in session.messages_to_send():
                core.receive(transport, request, drive.now)
            if drive.now >= drops_at:
                core.disconnected(transport, NO_CLOSE_FRAME, drive.now)
                transport, opens_at = None, drive.now + 0.05
                drive.drop()
            elif messages := transport.messages_to_send(drive.now):
                session.receive_messages(messages, drive.now)
        for event in session.events():
            assert not isinstance(event, Disconnected | MessagesMissed)
            if isinstance(event, ServerMessage):
                delivered.append(event.data)
    assert delivered == list(range(1, 5001))


def enter(core: ServiceCore, drive: Drive) -> Transport:
    """Open the transport that is wanted, at both ends."""
    recovery = drive.dial.recovery
    drive.open()
    if not recovery:
        return core.connect("chat", RELIABLE_JSON, ClientGrant(None, (), ()), drive.now)
    connection_id = drive.session.connection_id
    assert connection_id is not None
    return core.recover("chat", connection_id, f"token of {connection_id}", drive.now)


def test_attempts_that_wait_for_their_time_are_no_early_ones() -> None:
    drive = Drive(random=lambda: 0.0)
    drive.connect()
    drive.drop()
    for _ in range(12):
        drive.session.dial_failed(OSError("refused"), drive.now)
        assert drive.until_dial() == 1.0
    recovered(drive)
    drive.says(news(1))
    drive.drop()
    assert drive.until_dial() == 0.0


def test_a_recovery_just_before_a_new_connection_does_not_delay_the_next_one() -> None:
    drive = Drive(random=lambda: 0.0, recovery_interval=5.0)
    drive.connect()
    drive.drop()
    recovered(drive)
    drive.lose()
    drive.connect("c2")
    drive.drop()
    assert drive.until_dial() == 0.0


def test_attempts_count_from_1_again_after_a_recovery() -> None:
    drive = Drive()
    drive.connect()
    for _ in range(2):
        drive.drop()
        drive.until_dial()
        assert drive.dial.attempt == 1
        drive.session.dial_failed(OSError("refused"), drive.now)
        drive.until_dial()
        assert drive.dial.attempt == 2
        recovered(drive)


@pytest.mark.parametrize(
    ("answer", "progress"),
    [
        ({"type": "invokeResponse", "invocationId": "i", "success": True}, True),
        (
            {"type": "invokeResponse", "invocationId": "i", "success": False, "error": {"name": "No", "message": ""}},
            True,
        ),
        ({"type": "invokeResponse", "invocationId": "late", "success": True}, False),
        ({"type": "streamAck", "streamId": "s", "expectedSequenceId": 1}, True),
        ({"type": "streamAck", "streamId": "late", "expectedSequenceId": 1}, False),
        (
            {"type": "streamClosed", "streamId": "s", "error": {"name": "StreamNotFound", "message": "late fragments"}},
            False,
        ),
    ],
    ids=["reply", "refusal", "late reply", "ack of a stream", "late ack of a stream", "late end of a stream"],
)
def test_an_answer_about_a_stream_or_an_invocation_is_progress_if_it_was_waited_for(
    answer: dict[str, object], progress: bool
) -> None:
    drive = Drive(recovery_interval=10.0)
    drive.connect()
    drive.session.open_stream("g", drive.now, stream_id="s")
    drive.sent()
    drive.drop()
    assert drive.until_dial() == 0.0
    drive.recover()
    drive.session.invoke("order", None, drive.now, invocation_id="i")
    drive.sent()
    drive.says(answer)
    drive.drop()
    assert (drive.until_dial() == 0.0) is progress
