"""Whatever the service sends: nothing raises, nothing wedges, nothing that follows is lost."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.driving import Drive, encoded, hello, news, observed, ok, refused
from tests.helpers.profiles import examples

from limpet import (
    JSON,
    RELIABLE_JSON,
    Backoff,
    ConnectionFailed,
    Disconnected,
    GroupMessage,
    InvalidValue,
    LocalProtocolError,
    MessagesMissed,
    Recovered,
    Recovering,
    ServerMessage,
    State,
    Stopped,
)
from limpet_core.text import one_line

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
    "a lone surrogate": '{"type":"message","from":"group","group":"g","dataType":"text","data":"\ud800"}',
    "a lone surrogate as the connection id": '{"type":"system","event":"connected","connectionId":"\\ud800"}',
    "a huge number": HUGE,
    "a huge number as the ack id": '{"type":"ack","ackId":' + HUGE + ',"success":true}',
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
    assert [event for event in events if type(event) in (Disconnected, Stopped)] == []
    assert [event for event in events if type(event) is MessagesMissed] == untold(message)
    assert drive.state is State.CONNECTED
    still_works(drive)


@pytest.mark.parametrize("name", BROKEN)
def test_without_recovery_something_broken_is_skipped_and_told_if_it_may_have_been_a_message(name: str) -> None:
    drive = Drive(protocol=JSON)
    drive.connect(token=None)
    drive.says(news(None, "before"), BROKEN[name], news(None, "after"))
    seen = [event.data if type(event) is GroupMessage else event for event in drive.events()]
    # A sequence id means nothing here: it only has to be a number.
    between = ["news"] if name == "huge sequence id" else untold(BROKEN[name])
    assert seen == ["before", *between, "after"]
    assert drive.state is State.CONNECTED
    still_works(drive)


def untold(message: Any) -> list[MessagesMissed]:
    """How a broken message without a sequence id is told: not at all, if it can only have been something else."""
    other = re.search(rb'^{"type": ?"(ack|system|pong)".*}$', encoded(message))
    return [] if other else [MessagesMissed(0, 0)]


# ---- Whole messages that are JSON, whatever a decoder makes of them


def raw(data: str, data_type: str = "json", **fields: Any) -> str:
    """A message whose data is JSON that is spelled out."""
    return encoded(news(data=None, **fields) | {"dataType": data_type}).decode().replace("null", data)


INF = float("inf")

# What RFC 8259 allows, and what arrives.
HELD: dict[str, tuple[str, Any]] = {
    "the first half of a pair": (r'"\ud83d"', "\ufffd"),
    "the second half of a pair": (r'"\uDE00"', "\ufffd"),
    "half a pair amid a text": (r'"cut \ud83d off"', "cut \ufffd off"),
    "half a pair before a whole one": (r'"\ud83d\ud83d\ude00"', "\ufffd\U0001f600"),
    "halves the wrong way round": (r'"\ude00\ud83d"', "\ufffd\ufffd"),
    "half a pair before another escape": (r'"\ud83d\n\u0041"', "\ufffd\nA"),
    "half a pair in a key": (r'{"\ud83d":1}', {"\ufffd": 1}),
    "half a pair deep down": (r'[[{"a":["\ud83d"]}]]', [[{"a": ["\ufffd"]}]]),
    "half a pair after an escaped backslash": (r'"\\\ud83d"', "\\\ufffd"),
    "no half, but a backslash and letters, beside one": (r'["\\ud83d","\ud83d"]', ["\\ud83d", "\ufffd"]),
    "no half, but a backslash and letters": (r'"\\ud83d"', "\\ud83d"),
    "a whole pair": (r'"\ud83d\ude00"', "\U0001f600"),
    "a number beyond floats": ("1e999", INF),
    "a number beyond floats below 0": ("[-1E+999]", [-INF]),
    "a number of many digits beyond floats": ("9" * 400 + ".5", INF),
    "a number that is nearly 0": ("[1e-999]", [0.0]),
    "an integer beyond 64 bits": (str(2**64), 2**64),
    "an integer of 400 digits": ("9" * 400, int("9" * 400)),
    "an integer of 400 digits, beside half a pair": ("[" + "9" * 400 + r',"\ud83d"]', [int("9" * 400), "\ufffd"]),
    "an integer of more digits than Python converts": ("-" + HUGE, -INF),
    "an exponent of many digits": ("1e" + HUGE, INF),
    "a zero with a huge exponent": ("[0e999999999]", [0.0]),
    "minus zero": ("-0.0", -0.0),
    "a NUL": (r'"\u0000"', "\0"),
    "a NUL, beside half a pair": (r'["\u0000\ud83d"]', ["\0\ufffd"]),
    "a key twice": ('{"a":1,"a":2}', {"a": 2}),
    "a key twice, beside a number beyond floats": ('{"a":1,"a":1e999}', {"a": INF}),
    "names that JSON does not have, as text": ('["NaN","Infinity",1e999]', ["NaN", "Infinity", INF]),
    "a nest of 500": ("[" * 500 + "]" * 500, "any"),
}


@pytest.mark.parametrize("protocol", [JSON, RELIABLE_JSON])
@pytest.mark.parametrize("name", HELD)
def test_what_json_allows_is_delivered_and_costs_nothing(name: str, protocol: str) -> None:
    text, expected = HELD[name]
    drive = Drive(protocol=protocol)
    transport = drive.connect()
    drive.says(news(1, "before"), raw(text, sequenceId=2), news(3, "after"))
    before, message, after = drive.events()
    assert (before.data, message.group, message.sequence_id, after.data) == ("before", "g", 2, "after")
    assert expected == "any" or (repr(message.data) == repr(expected) and type(message.data) is type(expected))
    assert drive.state is State.CONNECTED
    assert transport.close is None
    still_works(drive)


def test_half_a_pair_in_a_text_a_name_or_metadata_is_delivered_with_a_replacement() -> None:
    drive = Drive()
    drive.connect()
    half = "\ud83d"
    drive.says(news(1, half, group=f"a{half}", fromUserId=f"b{half}", metadata={"k": half}))
    (message,) = drive.events()
    assert (message.data, message.group, message.from_user_id) == ("\ufffd", "a\ufffd", "b\ufffd")
    assert message.metadata == {"k": "\ufffd"}
    drive.says({"type": "message", "from": "server", "dataType": "text", "data": half, "sequenceId": 2})
    assert drive.events() == [ServerMessage(data="\ufffd", data_type="text", sequence_id=2)]


def test_half_a_pair_hides_no_answer_and_no_news_of_the_connection() -> None:
    drive = Drive()
    drive.connect()
    done, not_done = drive.session.join_group("g", drive.now), drive.session.join_group("h", drive.now)
    drive.sent()
    cut = "cut \ud83d"
    drive.says(refused(not_done, "Forbidden", cut), ok(done) | {"more": cut}, {"type": "pong", "more": cut})
    acked = drive.events()
    assert [(event.ack_id, event.error and str(event.error.message)) for event in acked] == [
        (not_done, "cut \ufffd"),
        (done, None),
    ]
    drive.says({"type": "system", "event": "disconnected", "message": cut})
    drive.drop(1000, "")
    assert drive.events(Disconnected) == [Disconnected("c1", 1000, "cut \ufffd")]
    drive.connect("c2", user="\ud83d")


@pytest.mark.parametrize("nested", ["[" * 100_000 + "]" * 100_000, '{"a":' * 2000 + "1" + "}" * 2000])
def test_a_deep_nest_where_nobody_looks_hides_no_answer(nested: str) -> None:
    drive = Drive()
    drive.connect()
    ack_id = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(encoded(refused(ack_id, "Forbidden")).decode()[:-1] + f',"more":[{nested},{{"a":{nested}}}]}}')
    assert drive.answers() == {ack_id: "Forbidden/rejected"}
    assert drive.state is State.CONNECTED


# Data messages that cannot be delivered although they are JSON, with sequence id 2.
UNDELIVERABLE: dict[str, Any] = {
    "base64": news(2, "%%%", dataType="binary"),
    "base64 of protobuf": news(2, "aGk", dataType="protobuf"),
    "binary that is no string": news(2, 7, dataType="binary"),
    "text": news(2, 7, dataType="text"),
    "no text": {"type": "message", "from": "group", "group": "g", "dataType": "text", "sequenceId": 2},
    "half a pair in base64": news(2, "\ud83d", dataType="binary"),
    "group": news(2, {"a": 1}, group=5),
    "no group": {"type": "message", "from": "group", "data": 1, "sequenceId": 2},
    "no origin": {"type": "message", "data": 1, "sequenceId": 2},
    "metadata": news(2, "x", metadata={"k": 1}),
    "metadata beyond floats": raw("1e999", sequenceId=2, metadata={"k": 1}),
    "sender": raw(r'"\ud83d"', sequenceId=2, fromUserId=5),
    "depth": raw(DEEP + "]" * 100_000, sequenceId=2),
    "depth, with the id behind": raw(DEEP + "]" * 100_000)[:-1] + ', "sequenceId":2}',
    "depth, mixed with strings": raw('{"]\\"}":[' * 50_000 + "]}" * 50_000, sequenceId=2),
}


@pytest.mark.parametrize("message", UNDELIVERABLE.values(), ids=UNDELIVERABLE.keys())
def test_what_can_not_be_delivered_is_told_at_once_and_the_connection_left_alone(message: Any) -> None:
    drive = Drive()
    transport = drive.connect()
    drive.says(news(1, "before"), message)
    assert drive.events()[1:] == [MessagesMissed(2, 2)]
    drive.says(message)  # once
    assert drive.events() == []
    drive.says(news(3, "after"))
    assert [event.data for event in drive.events()] == ["after"]
    assert drive.state is State.CONNECTED
    assert transport.close is None
    drive.advance(1)
    assert drive.sent() == [{"type": "sequenceAck", "sequenceId": 3}]
    still_works(drive)


@pytest.mark.parametrize("message", UNDELIVERABLE.values(), ids=UNDELIVERABLE.keys())
def test_what_can_not_be_delivered_counts_as_received_if_nothing_follows(message: Any) -> None:
    drive = Drive()
    drive.connect()
    drive.says(news(1, "before"), message)
    drive.advance(1)
    assert drive.sent() == [{"type": "sequenceAck", "sequenceId": 2}]


@pytest.mark.parametrize("message", UNDELIVERABLE.values(), ids=UNDELIVERABLE.keys())
def test_what_can_not_be_delivered_shows_life_after_a_recovery(message: Any) -> None:
    drive = Drive(keepalive_interval=20.0, keepalive_timeout=60.0)
    drive.connect()
    drive.drop()
    drive.until_dial()
    drive.open()
    drive.says(message)
    assert drive.events() == [Recovering("c1", 1006, ""), Recovered("c1"), MessagesMissed(1, 2)]
    assert drive.state is State.CONNECTED
    still_works(drive)
    drive.drop()
    assert drive.until_dial() == 0.0, "its answer was progress"


@pytest.mark.parametrize("message", UNDELIVERABLE.values(), ids=UNDELIVERABLE.keys())
def test_what_can_not_be_delivered_is_told_without_sequence_ids_too(message: Any) -> None:
    drive = Drive(protocol=JSON)
    transport = drive.connect(token=None)
    drive.says(news(None, "before"), message, message, news(None, "after"))
    before, *told, after = drive.events()
    assert (before.data, told, after.data) == ("before", [MessagesMissed(0, 0)] * 2, "after")
    assert transport.close is None


def test_what_comes_before_the_first_connected_message_fails_the_attempt_whatever_it_is() -> None:
    drive = Drive()
    drive.start()
    drive.open()
    drive.says(UNDELIVERABLE["base64"])
    failed, stopped = drive.events()
    assert type(stopped) is Stopped
    assert failed == ConnectionFailed(stopped.error, 1, None)


def test_the_log_says_what_was_skipped(caplog: pytest.LogCaptureFixture) -> None:
    drive = Drive()
    drive.connect()
    with caplog.at_level("WARNING", logger="limpet"):
        drive.says(UNDELIVERABLE["text"])
        drive.events()
    assert [record.message for record in caplog.records] == [
        "the service sent text data that is no string; it is skipped"
    ]


@pytest.mark.parametrize("protocol", [JSON, RELIABLE_JSON])
def test_a_flood_of_what_cannot_be_used_does_not_fill_the_log(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """Any publisher may cause it, for all subscribers."""
    drive = Drive(protocol=protocol)
    drive.connect(token="t" if protocol == RELIABLE_JSON else None)
    with caplog.at_level("DEBUG", logger="limpet"):
        for number in range(1, 201):
            drive.says({**UNDELIVERABLE["text"], "sequenceId": number if protocol == RELIABLE_JSON else None})
            drive.events()
    text = "the service sent text data that is no string" + ("; it is skipped" if protocol == RELIABLE_JSON else "")
    lines = [(record.levelname, record.message) for record in caplog.records if text in record.message]
    warnings = {1: "", 10: " (message 10 that cannot be used)", 100: " (message 100 that cannot be used)"}
    assert lines == [
        ("WARNING", text + warnings[number]) if number in warnings else ("DEBUG", text) for number in range(1, 201)
    ]


def test_an_endpoint_that_speaks_another_language_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    drive = Drive(first_connection=Backoff(initial=1.0, maximum=1.0, jitter=0.0))
    with caplog.at_level("WARNING", logger="limpet"):
        drive.start()
        for _ in range(50):
            drive.open()
            drive.says("hello?")
            drive.advance(1.0)
            drive.events()
    assert len(caplog.messages) == 1
    assert "the service sent " in caplog.messages[0]


# ---- More of what the service may send


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
    assert transport.close is not None
    assert transport.close.code == 1007
    assert 0 < len(transport.close.reason.encode()) <= 123


def test_the_log_says_what_could_not_be_used(caplog: pytest.LogCaptureFixture) -> None:
    drive = Drive()
    drive.connect()
    with caplog.at_level("DEBUG", logger="limpet"):
        drive.says({"type": "future"}, {"type": "system", "event": "connected", "connectionId": ""})
        drive.events()
    assert [(record.levelname, record.message) for record in caplog.records if record.name == "limpet"] == [
        ("DEBUG", "ignored a message of unknown type 'future'"),
        ("WARNING", "the service sent a connected message without connectionId"),
        ("INFO", "recovering c1: a connected message without connectionId (close code 1007)"),
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
                lambda s, now: s.receive_binary(b"", now),
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
    assert sorted(message["type"] for message in drive.sent()) == ["ping", "sequenceAck"]
    assert drive.session.deadline > drive.now


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_nothing_is_made_of_what_is_ignored_unless_it_is_logged(
    level: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To look for secrets in a message takes longer than to send it: with that, little traffic would stall a client."""
    looked: list[str] = []

    def look(text: str, **_: object) -> str:
        looked.append(text)
        return text

    monkeypatch.setattr("limpet_core.client.inbound.one_line", look)
    caplog.set_level(level, "limpet")
    drive = Drive()
    drive.connect()
    drive.says({"type": "future"}, {"type": "message", "from": "nobody", "sequenceId": 1})
    assert looked == (["type 'future'", "from 'nobody'"] if level == logging.DEBUG else [])


def test_what_is_said_of_states_that_are_not_subscribed_and_of_a_timeout_without_an_ack() -> None:
    drive = Drive()
    drive.connect()
    with pytest.raises(LocalProtocolError) as refused:
        drive.session.group_states("g" * 200)
    shown = one_line(repr("g" * 200), 100)
    assert str(refused.value) == (
        f"the states of the group {shown} are not subscribed: subscribe_group_states asks for them"
    )
    with pytest.raises(InvalidValue) as useless:
        drive.session.send_to_group("g", "x", drive.now, ack=False, timeout=1.0)
    assert str(useless.value) == "timeout has no meaning with ack=False"
