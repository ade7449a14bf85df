"""Whatever the service sends: nothing raises, nothing wedges, nothing that follows is lost."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.driving import Drive, encoded, hello, news, observed, ok, refused
from tests.helpers.profiles import examples

from holdfast import (
    JSON,
    RELIABLE_JSON,
    Backoff,
    Disconnected,
    GroupMessage,
    LocalProtocolError,
    MessagesMissed,
    Recovering,
    State,
    Stopped,
)

DEEP = "[" * 100_000
HUGE = "9" * 5000

BROKEN: dict[str, Any] = {
    "nothing": "",
    "spaces": "   ",
    "cut short": '{"type":"mess',
    "two objects": "{}{}",
    "null": "null",
    "a list": "[]",
    "a number": "7",
    "a string": '"message"',
    "an empty object": "{}",
    "no JSON": "not json at all",
    "bytes that are no UTF-8": b'\xff\xfe{"type":"pong"}',
    "an endless nest": DEEP,
    "a deep nest": DEEP + "]" * 100_000,
    "a deep nest in data": '{"type":"message","from":"group","group":"g","data":' + DEEP + "]" * 100_000 + "}",
    "a deep nest where nobody looks": '{"type":"pong","x":' + DEEP + "]" * 100_000 + "}",
    "a lone surrogate": '{"type":"message","from":"group","group":"g","dataType":"text","data":"\ud800"}',
    "an escaped lone surrogate": '{"type":"message","from":"group","group":"g","dataType":"text","data":"\\ud800"}',
    "a lone surrogate as the connection id": '{"type":"system","event":"connected","connectionId":"\\ud800"}',
    "a huge number": HUGE,
    "a huge number as the ack id": '{"type":"ack","ackId":' + HUGE + ',"success":true}',
    "a huge number as data": '{"type":"message","from":"group","group":"g","data":' + HUGE + "}",
    "a number beyond floats": '{"type":"message","from":"group","group":"g","data":1e999}',
    "type of another type": {"type": 7},
    "type null": {"type": None},
    "ack without id": {"type": "ack", "success": True},
    "ack without success": {"type": "ack", "ackId": 1},
    "ack id of another type": {"type": "ack", "ackId": "1", "success": True},
    "ack id null": {"type": "ack", "ackId": None, "success": True},
    "success of another type": {"type": "ack", "ackId": 1, "success": "yes"},
    "error of another type": {"type": "ack", "ackId": 1, "success": False, "error": "no"},
    "error name of another type": {"type": "ack", "ackId": 1, "success": False, "error": {"name": 5}},
    "system without event": {"type": "system"},
    "connection id of another type": {"type": "system", "event": "connected", "connectionId": 5},
    "connected without an id": {"type": "system", "event": "connected"},
    "connected with an empty id": {"type": "system", "event": "connected", "connectionId": ""},
    "connected with a boundless id": hello("x" * (1 << 14)),
    "connected with a boundless token": hello("c1", token="x" * (1 << 14)),
    "token of another type": {"type": "system", "event": "connected", "connectionId": "c1", "reconnectionToken": 5},
    "message without from": {"type": "message", "data": "x"},
    "from of another type": {"type": "message", "from": 5, "data": "x"},
    "message without group": {"type": "message", "from": "group", "data": "x"},
    "group of another type": news(group=5),
    "data type of another type": news(dataType=5),
    "sender of another type": news(fromUserId=5),
    "metadata of another type": news(metadata="x"),
    "sequence id of another type": news(sequenceId="1"),
    "sequence id as a fraction": news(sequenceId=1.5),
    "sequence id true": news(sequenceId=True),
    "sequence id 0": news(sequenceId=0),
    "sequence id below 0": news(sequenceId=-5),
    "huge sequence id": news(sequenceId=10**30),
    "text that is no string": news(data=5),
    "text that is not there": {"type": "message", "from": "group", "group": "g", "dataType": "text"},
    "binary that is no string": news(dataType="binary", data=[1]),
    "binary that is no base64": news(dataType="binary", data="%%%"),
    "binary with bad padding": news(dataType="binary", data="aGk"),
    "binary with other letters": news(dataType="binary", data="äöü="),
    "protobuf that is no base64": news(dataType="protobuf", data="!"),
}

UNKNOWN: dict[str, Any] = {
    "type": {"type": "future"},
    "empty type": {"type": ""},
    "type with odd letters": {"type": "\U0001f600\n\x00"},
    "type with everything": {"type": "streamData", "ackId": "x", "sequenceId": [], "data": {"a": [1]}},
    "system event": {"type": "system", "event": "weather"},
    "system event with other fields": {"type": "system", "event": "weather", "message": {"a": 1}, "userId": 5},
    "origin": {"type": "message", "from": "the future", "group": 5, "data": 1},
    "fields": {"type": "pong", "future": [1, 2, {"x": None}]},
    "ack id": ok(4711),
    "huge ack id": ok(10**300),
    "ack id below 0": refused(-1, "Forbidden"),
}


@pytest.mark.parametrize("message", BROKEN.values(), ids=BROKEN.keys())
def test_something_broken_costs_at_most_a_recovery_and_no_later_message(message: Any) -> None:
    drive = Drive()
    drive.connect()
    drive.says(news(1, "before"), message, news(2, "after"))
    assert drive.state is State.RECOVERING
    drive.until_dial()
    drive.open()
    drive.says(message, news(2, "after"))  # the service sends it again
    events = drive.events()
    assert [event.data for event in events if type(event) is GroupMessage] == ["before", "after"]
    assert [event for event in events if type(event) in (Disconnected, MessagesMissed, Stopped)] == []
    assert drive.state is State.CONNECTED
    still_works(drive)


@pytest.mark.parametrize("name", BROKEN)
def test_without_recovery_something_broken_is_skipped(name: str) -> None:
    drive = Drive(protocol=JSON)
    drive.connect(token=None)
    drive.says(news(None, "before"), BROKEN[name], news(None, "after"))
    seen = [event.data for event in drive.events(GroupMessage)]
    # A sequence id means nothing here: it only has to be a number.
    assert seen == (["before", "news", "after"] if name == "huge sequence id" else ["before", "after"])
    assert drive.state is State.CONNECTED
    still_works(drive)


@pytest.mark.parametrize("protocol", [JSON, RELIABLE_JSON])
@pytest.mark.parametrize("message", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_the_unknown_is_ignored(message: Any, protocol: str) -> None:
    drive = Drive(protocol=protocol)
    drive.connect()
    drive.says(news(1, "before"), message, news(2, "after"))
    assert [event.data for event in drive.events()] == ["before", "after"]
    assert drive.state is State.CONNECTED
    still_works(drive)


@pytest.mark.parametrize("message", [*BROKEN.values(), *UNKNOWN.values()], ids=[*BROKEN.keys(), *UNKNOWN.keys()])
def test_str_and_bytes_are_understood_alike(message: Any) -> None:
    def after(form: Callable[[Any], Any]) -> str:
        drive = Drive()
        drive.connect()
        drive.session.receive_message(form(message), drive.now)
        return observed(drive)

    assert after(encoded) == after(lambda m: m if isinstance(m, str) else encoded(m))


@pytest.mark.parametrize("message", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_said_about_something_broken_is_short_and_can_be_sent(message: Any) -> None:
    drive = Drive()
    transport = drive.connect()
    drive.says(message)
    assert transport.hang_up is not None
    assert transport.hang_up.code == 1007
    assert 0 < len(transport.hang_up.reason.encode()) <= 123


def test_the_log_says_what_could_not_be_used(caplog: pytest.LogCaptureFixture) -> None:
    drive = Drive()
    drive.connect()
    with caplog.at_level("DEBUG", logger="holdfast"):
        drive.says({"type": "future"}, {"type": "system", "event": "connected", "connectionId": ""})
    assert [(record.levelname, record.message) for record in caplog.records if record.name == "holdfast"] == [
        ("DEBUG", "ignored a message of unknown type 'future'"),
        ("WARNING", "the service sent a connected message without connectionId"),
        ("DEBUG", "recovering c1: a connected message without connectionId (close code 1007)"),
    ]


def test_a_connection_id_and_its_token_may_have_16384_characters_together() -> None:
    """They go into the URL of every recovery."""
    drive = Drive()
    drive.connect("c" * 384, token="t" * 16_000)
    drive.says(hello("c" * 384, token="t" * 16_001))
    assert drive.events() == [
        Recovering("c" * 384, 1007, "a connection id and token of more than 16384 characters"),
    ]


def test_a_data_type_of_the_future_is_delivered_as_it_came() -> None:
    drive = Drive()
    drive.connect()
    drive.says(news(1, {"a": 1}, dataType="cbor"))
    (message,) = drive.events()
    assert (message.data_type, message.data) == ("cbor", {"a": 1})


def still_works(drive: Drive) -> None:
    drive.sent()
    drive.events()
    ack_id = drive.session.join_group("g", drive.now)
    assert [message["ackId"] for message in drive.sent() if "ackId" in message] == [ack_id]
    drive.says(ok(ack_id))
    assert drive.answers() == {ack_id: "done"}


# ---- Anything at all, in any order

TEXTS = st.one_of(
    st.sampled_from([broken for broken in BROKEN.values() if not isinstance(broken, str) or len(broken) < 9999]),
    st.sampled_from(list(UNKNOWN.values())),
    st.sampled_from([hello("c1"), hello("c2"), hello("c3", token=None), {"type": "pong"}]),
    st.integers(1, 20).map(news),
    st.integers(1, 9).map(ok),
    st.builds(
        refused, st.integers(1, 9), st.sampled_from(["Forbidden", "InternalServerError", "Duplicate", "NotFound"])
    ),
    st.just({"type": "system", "event": "disconnected", "message": "bye"}),
    st.text(max_size=20),
    st.binary(max_size=20),
)

STEPS = st.one_of(
    st.tuples(st.just("says"), st.lists(TEXTS, max_size=4)),
    st.tuples(st.just("says"), st.just([hello("c1")])),
    st.tuples(st.just("open"), st.none()),
    st.tuples(st.just("open"), st.none()),
    st.tuples(st.just("pass"), st.sampled_from([0.0, 0.5, 1.0, 5.0, 31.0, 1000.0])),
    st.tuples(st.just("due"), st.none()),
    st.tuples(
        st.just("call"),
        st.sampled_from(
            [
                lambda s, now: s.start(now),
                lambda s, now: s.stop(now),
                lambda s, now: s.disconnected(now),
                lambda s, now: s.disconnected(now, code=1008, reason="gone"),
                lambda s, now: s.disconnected(now, code=1000),
                lambda s, now: s.dial_failed(OSError("x"), now, status=401),
                lambda s, now: s.url_failed(OSError("x"), now),
                lambda s, now: s.url_ready("nonsense", now, fixed=True),
                lambda s, now: s.receive_binary(now),
                lambda s, now: s.transport_broken(1002, "x", now),
                lambda s, now: s.heard(now),
                lambda s, now: s.reading_paused(now),
                lambda s, now: s.reading_resumed(now),
                lambda s, now: s.wake(now),
                lambda s, now: s.join_group("g", now),
                lambda s, now: s.leave_group("g", now),
                lambda s, now: s.send_to_group("g", "x", now),
                lambda s, now: s.send_to_group("g", "x", now, ack=False),
                lambda s, now: s.send_event("e", 1, now, ack_id=7),
                lambda s, now: s.withdraw(3),
                lambda s, now: s.messages_to_send(),
            ]
        ),
    ),
)

OPTIONS = st.fixed_dictionaries(
    {
        "protocol": st.sampled_from([RELIABLE_JSON, RELIABLE_JSON, JSON]),
        "resend": st.sampled_from(["safe", "always"]),
        "request_timeout": st.sampled_from([None, 3.0]),
        "ack_timeout": st.sampled_from([None, 2.0, 30.0]),
        "keepalive_interval": st.sampled_from([None, 20.0]),
        "keepalive_timeout": st.sampled_from([None, 120.0]),
        "auto_reconnect": st.sampled_from([True, True, False]),
        "reconnect": st.sampled_from([Backoff(), Backoff(limit=2), Backoff(initial=0.5, jitter=0.0)]),
        "max_pending_requests": st.sampled_from([3, 100]),
    }
)


@given(OPTIONS, st.lists(STEPS, max_size=40))
@settings(max_examples=examples(300))
def test_any_input_in_any_state_never_raises_and_the_deadline_contract_holds(
    options: dict[str, Any], steps: list[tuple[str, Any]]
) -> None:
    drive = Drive(**options)
    log: list[Any] = []
    starts = 0
    for step, argument in steps:
        if step == "says":
            drive.says(*argument)
        elif step == "open" and drive.session.dial is not None:
            drive.open()
        elif step == "pass":
            drive.now += argument  # past deadlines too: a computer that slept
        elif step == "due" and drive.session.deadline < math.inf:
            drive.now = max(drive.now, drive.session.deadline)
            drive.session.wake(drive.now)
            assert drive.session.deadline > drive.now, "after wake(deadline) the deadline has moved"
        elif step == "call":
            before = drive.state
            try:
                argument(drive.session, drive.now)
            except LocalProtocolError:
                assert drive.state is before
            starts += before is State.STOPPED and drive.state is State.CONNECTING
        log += drive.events()
        assert (drive.session.dial is None) or drive.state not in (State.STOPPED, State.WAITING)
        assert (drive.session.connection_id is not None) == (
            drive.state in (State.CONNECTED, State.RECOVERING)
            or (drive.state is State.STOPPING and drive.session.connection_id is not None)
        )
        if drive.state is State.STOPPED:
            assert drive.session.deadline == math.inf
        else:
            # Something will happen, unless it is connected and nothing is asked for.
            assert drive.session.deadline < math.inf or drive.state is State.CONNECTED
    # It can always be stopped, and Stopped comes exactly once for each start.
    drive.session.stop(drive.now)
    drive.advance(5)
    log += drive.events()
    assert drive.state is State.STOPPED
    assert sum(type(event) is Stopped for event in log) == starts


@given(OPTIONS, st.lists(STEPS, max_size=25), st.integers(0, 5))
@settings(max_examples=examples(100))
def test_spurious_wakes_change_nothing(options: dict[str, Any], steps: list[tuple[str, Any]], extra: int) -> None:
    def run(wakes: int) -> str:
        drive = Drive(**options)
        out: list[Any] = []
        for step, argument in steps:
            if step == "says":
                drive.says(*argument)
            elif step == "open" and drive.session.dial is not None:
                drive.open()
            elif step == "pass":
                drive.advance(argument)
            elif step == "call":
                try:
                    argument(drive.session, drive.now)
                except LocalProtocolError as error:
                    out.append(repr(error))
            for _ in range(wakes):
                if drive.session.deadline > drive.now:
                    drive.session.wake(drive.now)
            out += [drive.events(), drive.sent(), drive.state, drive.session.deadline, drive.session.dial]
        return repr(out)

    assert run(0) == run(extra)


def test_the_same_inputs_give_the_same_outputs() -> None:
    def run() -> str:
        draws = iter([0.1, 0.9, 0.4, 0.7] * 20)
        drive = Drive(random=lambda: next(draws))
        drive.connect()
        drive.says(news(1))
        drive.drop()
        for _ in range(10):
            drive.until_dial()
            if drive.dial.url is None:
                drive.session.url_failed(OSError("x"), drive.now)
            else:
                drive.session.dial_failed(OSError("x"), drive.now)
        return f"{drive.now} {drive.events()} {drive.session.deadline}"

    assert run() == run()


def test_wake_too_early_does_nothing_and_wake_too_late_does_everything_due() -> None:
    drive = Drive(keepalive_interval=20.0, keepalive_timeout=120.0)
    drive.connect()
    drive.says(news(1))
    drive.session.wake(drive.now + 0.5)
    assert drive.sent() == []
    drive.now += 50
    drive.session.wake(drive.now)
    assert [message["type"] for message in drive.sent()] == ["sequenceAck", "ping"]
    assert drive.session.deadline > drive.now
