"""Stopping, in every state, and every transition of the table."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from tests.helpers.driving import URL, Drive, ack_ids, closed_with, hello, news, ok, sequence_ack

from limpet import Acked, Backoff, ClientStopped, Connected, Disconnected, Session, State, Stopped
from limpet_core.client.states import TRANSITIONS


def url_asked(drive: Drive) -> None:
    drive.start()


def dialling(drive: Drive) -> None:
    drive.start()
    drive.session.url_ready(URL, drive.now)


def handshaken(drive: Drive) -> None:
    drive.start()
    drive.open()


def connected(drive: Drive) -> None:
    drive.connect()


def recovering_dialling(drive: Drive) -> None:
    drive.connect()
    drive.drop()


def recovering_pausing(drive: Drive) -> None:
    drive.connect()
    drive.drop()
    drive.session.dial_failed(OSError("refused"), drive.now)
    assert drive.session.dial is None


def recovering_open(drive: Drive) -> None:
    drive.connect()
    drive.drop()
    drive.open()


def waiting(drive: Drive) -> None:
    drive.connect()
    drive.lose()


def reconnecting(drive: Drive) -> None:
    drive.connect()
    drive.lose()
    drive.until_dial()


SITUATIONS = [
    url_asked,
    dialling,
    handshaken,
    connected,
    recovering_dialling,
    recovering_pausing,
    recovering_open,
    waiting,
    reconnecting,
]
each_situation = pytest.mark.parametrize("situation", SITUATIONS, ids=[s.__name__ for s in SITUATIONS])


@each_situation
def test_stop_works_in_every_state_and_is_told_exactly_once(situation: Callable[[Drive], None]) -> None:
    drive = Drive()
    situation(drive)
    drive.events()
    dial = drive.session.dial
    drive.session.stop(drive.now)
    if situation is handshaken:
        assert dial is not None
        assert closed_with(dial) == 1000
    if situation in (connected, recovering_open):
        assert drive.state is State.STOPPING
        assert dial is not None
        assert closed_with(dial) == 1000
        assert drive.session.dial is dial
        assert drive.events(Stopped) == []
        drive.drop(1000)
    assert drive.state is State.STOPPED
    assert drive.events(Stopped) == [Stopped(None)]
    drive.session.stop(drive.now)
    drive.drop()
    assert drive.events() == []
    # Nothing can come back.
    assert (drive.session.dial, drive.session.deadline) == (None, math.inf)
    drive.session.url_ready(URL, drive.now)
    drive.session.connected(drive.now)
    drive.says(hello("late"))
    drive.advance(1000)
    assert (drive.state, drive.events(), drive.sent()) == (State.STOPPED, [], [])


@each_situation
def test_start_works_again_after_stop(situation: Callable[[Drive], None]) -> None:
    drive = Drive()
    situation(drive)
    drive.session.stop(drive.now)
    drive.drop(1000)
    drive.events()
    drive.start()
    assert drive.dial.attempt == 1
    drive.open()
    drive.says(hello("again"), news(1))
    connected, message = drive.events()
    assert connected == Connected("again")
    assert message.sequence_id == 1
    assert drive.session.groups == frozenset()


@each_situation
def test_stop_fails_what_waits(situation: Callable[[Drive], None]) -> None:
    drive = Drive()
    situation(drive)
    drive.events()
    unsent = drive.session.join_group("g", drive.now)
    drive.session.stop(drive.now)
    drive.drop(1000)
    assert drive.answers() == {unsent: "Stopped/unsent"}
    assert drive.sent() == []


@pytest.mark.parametrize("situation", [connected, recovering_open], ids=["connected", "recovering"])
def test_what_was_sent_and_not_answered_is_unknown(situation: Callable[[Drive], None]) -> None:
    drive = Drive()
    drive.connect()
    sent = drive.session.send_to_group("g", 1, drive.now)
    drive.sent()
    if situation is recovering_open:
        drive.drop()
        drive.open()
    waits = drive.session.send_to_group("g", 2, drive.now)
    drive.session.stop(drive.now)
    assert drive.answers() == {sent: "Stopped/unknown", waits: "Stopped/unsent"}


@pytest.mark.parametrize("situation", [connected, recovering_pausing, recovering_dialling, recovering_open])
def test_the_end_of_a_connection_is_told_before_stopped(situation: Callable[[Drive], None]) -> None:
    drive = Drive()
    situation(drive)
    drive.events()
    drive.session.stop(drive.now)
    drive.drop(1000)
    assert drive.events() == [Disconnected("c1", 1000, "stopped"), Stopped(None)]
    assert (drive.session.connection_id, drive.session.user_id) == (None, None)


@pytest.mark.parametrize("again", [False, True])
def test_before_the_connected_message_the_service_gets_a_close_that_it_need_not_answer(again: bool) -> None:
    drive = Drive()
    if again:
        waiting(drive)
        drive.until_dial()
        drive.open()
    else:
        handshaken(drive)
    drive.events()
    dial = drive.dial
    drive.session.stop(drive.now)
    assert (drive.state, drive.events()) == (State.STOPPED, [Stopped(None)])
    assert (closed_with(dial), dial.wanted) == (1000, False)
    assert (drive.session.dial, drive.session.deadline) == (None, math.inf)


@pytest.mark.parametrize("situation", [connected, recovering_open])
def test_stop_does_not_wait_longer_than_close_timeout(situation: Callable[[Drive], None]) -> None:
    drive = Drive(close_timeout=2.0)
    situation(drive)
    drive.session.stop(drive.now)
    drive.events()
    assert drive.session.deadline == drive.now + 2
    drive.advance(2)
    assert drive.state is State.STOPPED
    assert drive.session.dial is None
    assert drive.events()[-1] == Stopped(None)


def test_messages_without_ack_and_the_sequence_ack_still_go_out_before_the_close() -> None:
    drive = Drive()
    drive.connect()
    drive.says(news(1))
    drive.session.send_to_group("g", "bye", drive.now, ack=False)
    acked = drive.session.send_to_group("g", "fails", drive.now)
    drive.session.stop(drive.now)
    sent = drive.sent()
    assert sent[0] == sequence_ack(1)
    assert [message.get("data") for message in sent[1:]] == ["bye"]
    assert drive.answers() == {acked: "Stopped/unsent"}


def test_while_stopping_the_service_is_not_listened_to_any_more() -> None:
    drive = Drive()
    drive.connect()
    ack_id = drive.session.send_to_group("g", 1, drive.now)
    drive.sent()
    drive.session.stop(drive.now)
    drive.events()
    drive.says(ok(ack_id), news(1), "not json", hello("other"))
    drive.session.receive_binary(b"", drive.now)
    assert drive.state is State.STOPPING
    assert drive.events() == []
    assert closed_with(drive.dial) == 1000


@pytest.mark.parametrize("how", ["closed", "broken", "silent"])
def test_whatever_answers_the_close_stops_the_client(how: str) -> None:
    drive = Drive()
    drive.connect()
    drive.session.stop(drive.now)
    drive.events()
    if how == "closed":
        drive.drop(1008)
    elif how == "broken":
        drive.session.transport_broken(1002, "garbage", drive.now)
    else:
        drive.advance(5)
    assert drive.events() == [Disconnected("c1", 1000, "stopped"), Stopped(None)]


def test_nobody_hears_of_rejoins_that_were_under_way_when_the_client_was_stopped() -> None:
    drive = Drive()
    drive.connect()
    ack_id = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(ack_id))
    drive.lose()
    drive.connect("c2")
    drive.session.stop(drive.now)
    drive.drop(1000)
    assert drive.events() == [Disconnected("c2", 1000, "stopped"), Stopped(None)]


def test_requests_of_a_stopped_run_are_not_sent_in_the_next_one() -> None:
    drive = Drive()
    drive.start()
    drive.session.send_to_group("g", 1, drive.now)
    drive.session.send_to_group("g", 2, drive.now, ack=False)
    drive.session.stop(drive.now)
    drive.events()
    drive.start()
    drive.open()
    drive.says(hello())
    assert drive.sent() == []
    new = drive.session.send_to_group("g", 3, drive.now)
    assert ack_ids(drive.sent()) == [new]


def test_stop_when_stopped_does_nothing() -> None:
    session = Session(random=lambda: 0.5)
    session.stop(5.0)
    assert (session.state, session.events(), session.deadline) == (State.STOPPED, [], math.inf)


# ---- The table of transitions


def stop(drive: Drive) -> None:
    drive.session.stop(drive.now)


def refuse(drive: Drive) -> None:
    if drive.dial.url is None:
        drive.session.url_ready(URL, drive.now)
    drive.session.dial_failed(OSError("refused"), drive.now)


def end(drive: Drive) -> None:
    drive.lose()


WAYS: dict[tuple[State, State], tuple[list[Callable[[Drive], object]], Callable[[Drive], object]]] = {
    (State.STOPPED, State.CONNECTING): ([], Drive.start),
    (State.CONNECTING, State.CONNECTED): ([handshaken], lambda d: d.says(hello())),
    (State.CONNECTING, State.WAITING): ([reconnecting], refuse),
    (State.CONNECTING, State.STOPPED): ([url_asked], refuse),
    (State.CONNECTED, State.RECOVERING): ([connected], Drive.drop),
    (State.CONNECTED, State.WAITING): ([connected], end),
    (State.CONNECTED, State.STOPPED): ([connected], end),
    (State.CONNECTED, State.STOPPING): ([connected], stop),
    (State.RECOVERING, State.CONNECTED): ([recovering_open], lambda d: d.says({"type": "pong"})),
    (State.RECOVERING, State.WAITING): ([recovering_open], end),
    (State.RECOVERING, State.STOPPED): ([recovering_pausing], stop),
    (State.RECOVERING, State.STOPPING): ([recovering_open], stop),
    (State.WAITING, State.CONNECTING): ([waiting], Drive.until_dial),
    (State.WAITING, State.STOPPED): ([waiting], stop),
    (State.STOPPING, State.STOPPED): ([connected, stop], lambda d: d.drop(1000)),
}


def test_every_transition_of_the_table_has_a_way_to_it() -> None:
    assert set(WAYS) == set(TRANSITIONS)


@pytest.mark.parametrize("transition", WAYS, ids=lambda t: f"{t[0].value}-{t[1].value}")
def test_each_transition_happens(transition: tuple[State, State]) -> None:
    before, after = transition
    prepare, act = WAYS[transition]
    limit = 0 if transition == (State.CONNECTED, State.STOPPED) else None
    drive = Drive(reconnect=Backoff(limit=limit))
    for step in prepare:
        step(drive)
    assert drive.state is before
    act(drive)
    assert drive.state is after


@pytest.mark.parametrize("situation", [url_asked, dialling])
def test_stop_during_the_first_connection_is_no_failure(situation: Callable[[Drive], None]) -> None:
    drive = Drive()
    situation(drive)
    drive.session.stop(drive.now)
    assert drive.events() == [Stopped(None)]


def test_what_happened_before_stop_can_still_be_read() -> None:
    drive = Drive()
    drive.connect()
    drive.says(news(1))
    ack_id = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(ack_id))
    drive.session.stop(drive.now)
    drive.drop(1000)
    kinds = [type(event) for event in drive.events()]
    assert kinds[1:] == [Acked, Disconnected, Stopped]


def test_a_call_that_comes_too_early_or_too_late_says_what_to_do() -> None:
    drive = Drive()
    with pytest.raises(ClientStopped, match=r"^the client is stopped; start\(\) starts it$"):
        drive.session.join_group("g", drive.now)
    drive.connect()
    drive.session.stop(drive.now)
    with pytest.raises(ClientStopped, match=r"^the client is stopping$"):
        drive.session.join_group("g", drive.now)


def test_after_a_client_has_given_up_every_call_says_why(caplog: pytest.LogCaptureFixture) -> None:
    drive = Drive(auto_reconnect=False)
    drive.connect()
    drive.lose()
    (stopped,) = drive.events(Stopped)
    with pytest.raises(ClientStopped, match="the client has stopped: the connection was lost: gone") as raised:
        drive.session.join_group("g", drive.now)
    assert raised.value.__cause__ is stopped.error
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "the client has stopped: the connection was lost: gone (close code 1008)"
    ]
    caplog.clear()
    drive.connect("c2")
    drive.session.stop(drive.now)
    drive.session.disconnected(drive.now)
    with pytest.raises(ClientStopped, match=r"^the client is (stopped; start\(\) starts it|stopping)$"):
        drive.session.join_group("g", drive.now)
    drive.start()
    drive.session.url_failed(OSError("no URL"), drive.now)  # which start() raises
    assert drive.events(Stopped)
    assert caplog.text == ""


def test_a_session_that_was_not_started_says_how_to_start_it() -> None:
    drive = Drive()
    drive.session.start_hint = "the button"
    with pytest.raises(ClientStopped, match="the client is stopped; the button starts it"):
        drive.session.check_running()


def test_a_restart_knows_nothing_of_deadlines_before_the_stop() -> None:
    drive = Drive()
    drive.connect()
    drive.session.open_stream("g", drive.now, stream_id="s")
    drive.session.invoke("e", None, drive.now, timeout=50.0)
    drive.session.set_group_state("g", {"a": "1"}, drive.now)
    drive.session.stop(drive.now)
    drive.drop(1000)
    assert drive.state is State.STOPPED
    drive.now += 3600.0
    drive.connect()
    assert drive.session.deadline == math.inf
    drive.session.wake(drive.now)
    assert drive.sent() == []  # no ping: the process did not stand still
