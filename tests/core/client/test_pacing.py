"""Publishes without an ack: every 150th asks for one all the same, and who is 300 ahead is told to wait."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.driving import OWN, Drive, ack_ids, hello, ok, refused
from tests.helpers.profiles import examples

from limpet import ClientStopped, InvalidType, InvalidValue, Stopped, TooManyRequests
from limpet_core.client.ack_runs import AckRun
from limpet_core.protocol.json import ack_id_size
from limpet_core.protocol.rules import DataType


def connected(**options: object) -> Drive:
    drive = Drive(**({"ack_timeout": None} | options))
    drive.connect()
    return drive


def publish(drive: Drive, count: int) -> None:
    for number in range(count):
        assert drive.session.send_to_group("g", number, drive.now, ack=False) is None


def test_of_150_the_last_asks_for_an_ack_and_nobody_hears_of_it() -> None:
    drive = connected()
    publish(drive, 149)
    assert ack_ids(drive.sent()) == []
    publish(drive, 1)
    assert drive.sent() == [{"type": "sendToGroup", "group": "g", "dataType": "json", "data": 0, "ackId": OWN}]
    drive.says(ok(OWN))
    assert drive.events() == []


def test_nobody_hears_of_it_either_where_the_answers_are_read_at_once() -> None:
    drive = connected()
    publish(drive, 300)
    assert not drive.session.publishing
    asked = ack_ids(drive.sent())
    drive.session.receive_acks(AckRun(asked, 0, 100), drive.now)
    assert drive.session.publishing
    assert drive.events() == []
    publish(drive, 299)
    assert drive.session.publishing, "each answer counts"


def test_after_300_without_an_ack_there_should_be_no_more_until_one_is_here() -> None:
    drive = connected()
    publish(drive, 299)
    assert drive.session.publishing
    publish(drive, 1)
    assert not drive.session.publishing
    asked = ack_ids(drive.sent())
    assert len(asked) == 2
    drive.says(ok(asked[0]))
    assert drive.session.publishing
    publish(drive, 149)
    assert drive.session.publishing
    publish(drive, 1)
    assert not drive.session.publishing


def test_one_that_is_made_all_the_same_is_sent_and_counts() -> None:
    drive = connected()
    publish(drive, 450)
    sent = drive.sent()
    assert len(sent) == 450
    for number, ack_id in enumerate(ack_ids(sent)):
        assert drive.session.publishing is (number == 2)
        drive.says(ok(ack_id))
    assert drive.session.publishing


@pytest.mark.parametrize("how", ["refused", "lost", "stopped", "stopped at once"])
def test_whatever_becomes_of_it_nobody_waits_for_ever(how: str) -> None:
    drive = connected()
    publish(drive, 300)
    first, _ = ack_ids(drive.sent())
    if how == "refused":
        drive.says(refused(first, "Forbidden"))
    elif how == "lost":
        drive.lose()
    else:
        if how == "stopped at once":
            drive.drop()
        drive.session.stop(drive.now)
    assert drive.session.publishing
    assert all(type(event).__name__ != "Acked" for event in drive.events())


def test_after_a_recovery_the_one_that_asked_is_repeated() -> None:
    drive = connected()
    publish(drive, 300)
    asked = ack_ids(drive.sent())
    drive.drop()
    assert not drive.session.publishing
    assert ack_ids(drive.recover()) == asked
    drive.says(*map(ok, asked))
    publish(drive, 299)
    assert drive.session.publishing


def test_a_stop_still_sends_the_one_that_asks() -> None:
    drive = connected()
    publish(drive, 150)
    drive.session.stop(drive.now)
    assert [message["data"] for message in drive.sent()] == list(range(150))
    drive.drop(1000)
    assert drive.events()[-1] == Stopped(None)
    drive.connect()
    publish(drive, 299)
    assert drive.session.publishing


def test_a_stop_forgets_the_one_that_waits_for_its_ack() -> None:
    drive = connected()
    publish(drive, 150)
    drive.sent()
    drive.session.stop(drive.now)
    assert drive.sent() == []
    assert drive.events() == []


def test_what_has_an_ack_or_is_an_event_is_not_counted() -> None:
    drive = connected()
    for _ in range(200):
        drive.session.send_to_group("g", 0, drive.now)
        drive.session.send_event("order", 0, drive.now, ack=False)
    publish(drive, 299)
    assert drive.session.publishing


def test_a_call_that_fails_is_not_counted() -> None:
    drive = connected(max_request_size=1000)
    for _ in range(300):
        with pytest.raises(InvalidValue):
            drive.session.send_to_group("g", "x" * 1000, drive.now, ack=False)
    publish(drive, 149)
    drive.sent()
    with pytest.raises(InvalidValue, match=r"^ack_id has no meaning with ack=False$"):
        drive.session.send_to_group("g", "x", drive.now, ack=False, ack_id=7)
    publish(drive, 1)
    assert ack_ids(drive.sent()) == [OWN]


def test_the_ack_ids_of_a_caller_who_counts_by_himself_are_left_alone() -> None:
    drive = connected()
    for ack_id in (1, 2):
        assert drive.session.send_to_group("g", "mine", drive.now, ack_id=ack_id) == ack_id
        publish(drive, 150)
    assert ack_ids(drive.sent()) == [1, OWN, 2, OWN + 1]
    assert drive.session.send_to_group("g", "fresh", drive.now) == 3


def test_one_that_asks_takes_no_room_from_others() -> None:
    drive = connected(max_pending_requests=1)
    for _ in range(300):
        publish(drive, 1)
        drive.sent()
    drive.session.send_to_group("g", "mine", drive.now)
    drive.says(ok(OWN))
    with pytest.raises(TooManyRequests, match=r"^1 requests wait"):
        drive.session.send_to_group("g", "mine", drive.now)


@settings(max_examples=examples(25))
@given(st.lists(st.integers(min_value=0, max_value=3), min_size=100, max_size=600))
def test_who_heeds_it_is_never_more_than_300_ahead_of_what_the_service_has_seen(turns: list[int]) -> None:
    drive = connected()
    made = 0
    seen = 0  # by the service, and answered
    line: list[dict[str, object]] = []
    for turn in turns:
        if turn and drive.session.publishing:
            publish(drive, turn)
            made += turn
            line += drive.sent()
        elif line:
            for _ in range(min(100, len(line))):
                message = line.pop(0)
                seen += 1
                if "ackId" in message:
                    drive.says(ok(message["ackId"]))  # type: ignore[arg-type]
        assert made - seen < 300 + 3
    for message in line:
        if "ackId" in message:
            drive.says(ok(message["ackId"]))  # type: ignore[arg-type]
    assert drive.session.publishing


# ---- Prepared in one thread, sent in another


def test_what_was_prepared_is_sent_as_it_would_have_been_without_that() -> None:
    ways = [connected(), connected()]
    for drive, prepared in zip(ways, (False, True), strict=True):
        session = drive.session
        for number in range(301):
            data_type: DataType | None = "json" if number % 3 == 0 else None
            if prepared:
                message = session.prepare_send("g", str(number), data_type=data_type, no_echo=number % 2 == 0)
                assert message is not None
                session.send_prepared(message, drive.now, publish=True)
                event = session.prepare_event("e", "x", data_type=data_type)
                session.send_prepared(event, drive.now, publish=False)
            else:
                no_echo = number % 2 == 0
                session.send_to_group("g", str(number), drive.now, data_type=data_type, no_echo=no_echo, ack=False)
                session.send_event("e", "x", drive.now, data_type=data_type, ack=False)
        assert not session.publishing
    sent = [drive.sent() for drive in ways]
    assert sent[0] == sent[1]
    assert ack_ids(sent[1]) == [OWN, OWN + 1]


def test_to_prepare_checks_everything_and_changes_nothing() -> None:
    drive = Drive(max_request_size=200)
    session = drive.session
    with pytest.raises(InvalidValue, match="group"):
        session.prepare_send(" ", "x")
    with pytest.raises(InvalidType, match="data"):
        session.prepare_send("g", {1, object()})
    with pytest.raises(InvalidValue, match="event"):
        session.prepare_event("", "x")
    with pytest.raises(InvalidValue, match="too large"):
        session.prepare_send("g", "x" * 200)
    with pytest.raises(InvalidValue, match="too large"):
        session.prepare_event("e", "x" * 200)
    assert session.prepare_send("g", "x" * 130) is None  # an ack id may have no room any more
    message = session.prepare_send("g", "")
    assert message is not None
    room = 200 - len(message) - ack_id_size
    assert session.prepare_send("g", "x" * room) is not None
    assert session.prepare_send("g", "x" * (room + 1)) is None
    with pytest.raises(ClientStopped, match="starts it"):
        session.check_running()
    with pytest.raises(ClientStopped):
        session.send_prepared(session.prepare_event("e", "x"), drive.now, publish=False)
    drive.connect()
    session.check_running()


def test_what_was_prepared_and_lost_with_its_connection_is_not_sent_again() -> None:
    drive = connected(ack_timeout=10.0, request_timeout=60.0)
    message = drive.session.prepare_send("g", "x")
    assert message is not None
    for _ in range(150):
        drive.session.send_prepared(message, drive.now, publish=True)
    assert ack_ids(drive.sent()) == [OWN]
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert drive.sent() == []


def test_what_was_prepared_counts_as_a_request() -> None:
    drive = Drive(max_pending_requests=1)
    drive.session.start(drive.now)
    message = drive.session.prepare_event("e", "x")
    drive.session.send_prepared(message, drive.now, publish=False)
    with pytest.raises(TooManyRequests):
        drive.session.send_prepared(message, drive.now, publish=False)
