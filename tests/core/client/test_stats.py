"""Session.stats: counters that only grow, and gauges."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from tests.helpers.driving import URL, Drive, encoded, hello, news, ok

from limpet import JSON, Backoff, ConnectionFailed, Disconnected, Recovering, Stats, Stopped


def test_a_new_session_has_done_nothing() -> None:
    assert Drive().session.stats == Stats()


def test_a_snapshot_does_not_change() -> None:
    drive = Drive()
    before = drive.session.stats
    drive.connect()
    assert before == Stats()
    with pytest.raises(AttributeError):
        before.missed = 3  # type: ignore[misc]


def test_every_field_is_documented_with_its_kind() -> None:
    text = inspect.getdoc(Stats) or ""
    for name in Stats.__struct_fields__:
        assert f"    {name}: " in text, name
    assert text.count(": counter: ") == 9
    assert text.count(": gauge: ") == 5


@pytest.mark.parametrize("protocol", [None, JSON])
def test_messages_in_are_those_that_were_handed_out(protocol: str | None) -> None:
    drive = Drive(**({} if protocol is None else {"protocol": protocol}))
    drive.connect()
    numbers = iter(range(1, 100)) if protocol is None else iter(lambda: None, 0)
    drive.says(news(next(numbers)), {"type": "pong"}, news(next(numbers)))
    drive.says({"type": "message", "from": "server", "dataType": "text", "data": "x"} | _id(next(numbers)))
    assert drive.session.stats.messages_in == len(drive.events()) == 3


def _id(number: int | None) -> dict[str, Any]:
    return {} if number is None else {"sequenceId": number}


def test_repeats_and_gaps_are_no_messages_and_what_is_missed_is_counted() -> None:
    drive = Drive()
    drive.connect()
    drive.says(news(1), news(2), news(2), news(1))
    assert drive.session.stats.messages_in == 2
    drive.says(news(5), news(1))
    drive.says(news(6, "%%", dataType="binary"), news(7))
    stats = drive.session.stats
    assert (stats.messages_in, stats.missed) == (4, 3)


def test_a_message_that_cannot_be_told_apart_is_one_that_is_missed() -> None:
    drive = Drive(protocol=JSON)
    drive.connect(token=None)
    drive.says(news(None, "%%", dataType="binary"))
    assert drive.session.stats.missed == 1


def test_what_came_before_the_end_of_the_transport_is_counted() -> None:
    drive = Drive()
    drive.connect()
    drive.says(news(1), news(2), "{", news(3))
    assert drive.session.stats.messages_in == 2
    drive.recover()
    drive.says(news(3), news(1 << 65), news(4))
    assert drive.session.stats.messages_in == 3


def test_bytes_in_are_those_of_all_messages() -> None:
    drive = Drive()
    drive.start()
    drive.open()
    said = [hello(), {"type": "pong"}, news(1)]
    drive.says(*said)
    drive.says(news(1))
    assert drive.session.stats.bytes_in == sum(len(encoded(message)) for message in [*said, news(1)])
    drive.says(news(2), news(3, "longer"))
    said += [news(2), news(3, "longer")]
    assert drive.session.stats.bytes_in == sum(len(encoded(message)) for message in [*said, news(1)])


def test_bytes_and_messages_out_are_those_that_were_handed_to_a_transport() -> None:
    drive = Drive()
    drive.connect()
    before = drive.session.stats
    drive.session.send_to_group("g", "x", drive.now)
    drive.session.send_to_group("g", "x", drive.now, ack=False)
    drive.session.invoke("e", 1, drive.now)
    drive.session.check(drive.now)
    assert drive.session.stats.messages_out == before.messages_out
    sent = drive.session.messages_to_send()
    assert sorted(json.loads(message)["type"] for message in sent) == ["invoke", "ping", "sendToGroup", "sendToGroup"]
    stats = drive.session.stats
    assert stats.messages_out - before.messages_out == 3
    assert stats.bytes_out - before.bytes_out == sum(map(len, sent))
    for data in (["x"], ["x", "longer"]):
        for each in data:
            drive.session.send_to_group("g", each, drive.now, ack=False)
        sent += drive.session.messages_to_send()
        assert drive.session.stats.bytes_out - before.bytes_out == sum(map(len, sent))
    drive.drop()
    drive.recover()  # the request is repeated
    assert drive.session.stats.messages_out - before.messages_out == 3 + 3 + 1


def test_requests_are_unsent_then_outstanding_then_settled() -> None:
    drive = Drive()

    def now() -> tuple[int, int, int]:
        stats = drive.session.stats
        return stats.requests_pending, stats.requests_unsent, stats.acks_outstanding

    drive.start()
    ack_id = drive.session.join_group("g", drive.now)
    drive.session.send_to_group("g", "x", drive.now, ack=False)
    drive.session.invoke("e", 1, drive.now)
    assert now() == (3, 3, 0)
    drive.open()
    drive.says(hello())
    assert now() == (3, 3, 0)
    drive.sent()
    assert now() == (2, 0, 1)
    drive.drop()
    assert now() == (1, 0, 0)
    drive.recover()
    assert now() == (1, 0, 1)
    drive.says(ok(ack_id))
    assert now() == (0, 0, 0)


def test_events_wait_until_they_are_taken_and_streams_are_open_until_they_are_over() -> None:
    drive = Drive()
    drive.connect()
    drive.says(news(1), news(2))
    drive.session.open_stream("g", drive.now)
    assert (drive.session.stats.buffered, drive.session.stats.open_streams) == (2, 1)
    drive.events()
    drive.session.stop(drive.now)
    drive.drop(1000)
    drive.events()
    assert (drive.session.stats.buffered, drive.session.stats.open_streams) == (0, 0)


def test_recoveries_and_reconnects_are_counted_and_the_first_connection_is_neither() -> None:
    drive = Drive()
    drive.connect()
    for _ in range(3):
        drive.drop()
        drive.recover()
    drive.lose()
    drive.connect("c2")
    drive.drop()
    drive.until_dial()
    drive.open()
    drive.says(hello("c3"))  # in place of the recovery
    stats = drive.session.stats
    assert (stats.recoveries, stats.reconnects) == (3, 2)


def test_counters_go_on_over_a_restart_and_gauges_do_not() -> None:
    drive = Drive()
    for run in range(1, 3):
        drive.start()
        drive.session.url_ready(URL, drive.now)
        drive.session.dial_failed(OSError("no"), drive.now)
        drive.connect(f"c{run}")
        drive.says(news(1))
        drive.session.join_group("g", drive.now)
        drive.session.stop(drive.now)
        drive.drop(1000)
        drive.events()
        stats = drive.session.stats
        assert (stats.messages_in, stats.failed_attempts, stats.reconnects) == (run, run, 0)
        assert (stats.requests_pending, stats.connected_since) == (0, None)


def test_connected_since_is_the_begin_of_the_connection_over_its_recoveries() -> None:
    drive = Drive(reconnect=Backoff(initial=2.0, jitter=0.0))
    assert drive.session.stats.connected_since is None
    drive.connect()
    began = drive.now
    drive.advance(7)
    drive.drop()
    assert drive.session.stats.connected_since == began
    drive.recover()
    assert drive.session.stats.connected_since == began
    drive.lose()
    assert drive.session.stats.connected_since is None
    drive.connect("c2")
    assert drive.session.stats.connected_since == drive.now != began


def test_the_last_error_stays() -> None:
    drive = Drive()
    drive.connect()
    assert drive.session.stats.last_error is None
    drive.drop(1006, "reset")
    assert drive.session.stats.last_error == "reset (close code 1006)"
    drive.until_dial()
    drive.session.dial_failed(OSError("refused"), drive.now)
    assert drive.session.stats.last_error == "cannot connect to example.test port 443: refused"
    drive.recover()
    assert drive.session.stats.last_error == "cannot connect to example.test port 443: refused"
    drive.lose()
    assert drive.session.stats.last_error == "the connection was lost: gone (close code 1008)"
    drive.session.stop(drive.now)
    assert drive.session.stats.last_error == "the connection was lost: gone (close code 1008)"


def test_each_failed_attempt_has_its_number_and_the_time_of_the_next() -> None:
    drive = Drive(random=lambda: 0.0, reconnect=Backoff(initial=3.0, maximum=3.0, jitter=0.0, limit=2))
    drive.connect()
    drive.drop()
    for _ in range(2):
        drive.until_dial()
        drive.session.dial_failed(OSError("refused"), drive.now)
    drive.until_dial()
    drive.open()
    drive.advance(30)  # the window ends, amid an attempt
    for _ in range(2):
        drive.until_dial()
        drive.session.url_failed(OSError("no URL"), drive.now)
    events = drive.events()
    failed = [event for event in events if isinstance(event, ConnectionFailed)]
    kinds = [type(event) for event in events]
    lost = kinds.index(Disconnected)
    assert (kinds[0], kinds[-1]) == (Recovering, Stopped)
    assert set(kinds[1:lost]) == set(kinds[lost + 1 : -1]) == {ConnectionFailed}
    assert [event.attempt for event in failed] == list(range(1, len(failed) + 1))
    assert [event.next_in for event in failed[:2]] == [1.0, 1.0]
    assert [event.next_in for event in failed[-3:]] == [3.0, 3.0, None]
    assert str(failed[-3].error) == "the connection was lost: not recovered within 30 s (close code 1006)"
    assert drive.session.stats.failed_attempts == len(failed)


def test_a_window_that_ends_between_two_attempts_fails_none() -> None:
    drive = Drive(random=lambda: 0.0, recovery_interval=20.0)
    drive.connect()
    drive.drop()
    for _ in range(2):
        drive.until_dial()
        drive.session.dial_failed(OSError("refused"), drive.now)
    drive.advance(29)
    kinds = [type(event) for event in drive.events()]
    assert kinds == [Recovering, ConnectionFailed, ConnectionFailed, Disconnected]


def test_a_connection_that_is_lost_without_auto_reconnect_amid_a_recovery_fails_the_attempt() -> None:
    drive = Drive(auto_reconnect=False)
    drive.connect()
    drive.drop()
    drive.open()
    drive.lose()
    _recovering, failed, disconnected, stopped = drive.events()
    assert (type(failed), type(disconnected), type(stopped)) == (ConnectionFailed, Disconnected, Stopped)
    assert (failed.attempt, failed.next_in, failed.error) == (1, None, stopped.error)


def test_stop_amid_an_attempt_fails_none() -> None:
    drive = Drive()
    drive.connect()
    drive.drop()
    drive.open()
    drive.session.stop(drive.now)
    drive.advance(30)
    assert [type(event) for event in drive.events()] == [Recovering, Disconnected, Stopped]


def test_the_last_error_is_that_of_the_end() -> None:
    drive = Drive(auto_reconnect=False)
    drive.connect()
    drive.lose()
    [stopped] = drive.events(Stopped)
    assert drive.session.stats.last_error == str(stopped.error)
