"""Invocations from the call to the reply: sent once, cancelled, out of time, dropped, answered in any order."""

from __future__ import annotations

import base64
import math
import weakref
from typing import Any

import pytest
from simulation.inspect import inspect, invocations_inside
from tests.helpers.driving import Drive, hello, ok

from limpet import (
    JSON,
    Backoff,
    ClientStopped,
    Disconnected,
    InvalidType,
    InvalidValue,
    InvocationError,
    InvocationTimeout,
    Invoked,
    LocalProtocolError,
    Recovering,
    Reply,
    State,
    TooManyRequests,
)

Said = dict[str, Any]


def connected(**options: Any) -> Drive:
    drive = Drive(**options)
    drive.connect()
    return drive


def invoke(drive: Drive, **named: Any) -> str:
    return drive.session.invoke("order", {"id": 1}, drive.now, **named)


def replied(invocation_id: str = "1", **fields: Any) -> Said:
    return {"type": "invokeResponse", "invocationId": invocation_id, "success": True} | fields


def refused(name: str, message: str = "no", invocation_id: str = "1") -> Said:
    error = {"name": name, "message": message}
    return {"type": "invokeResponse", "invocationId": invocation_id, "success": False, "error": error}


def outcomes(drive: Drive) -> dict[str, str]:
    """How the invocations ended since the last call: id to the reply's data, or ``Name/outcome``."""
    return {event.invocation_id: how(event) for event in drive.events(Invoked)}


def how(event: Invoked) -> str:
    if event.error is not None:
        assert event.reply is None
        return f"{event.error.name}/{event.error.outcome}"
    assert event.reply is not None
    return repr(event.reply.data)


def cancelled(invocation_id: str) -> Said:
    return {"type": "cancelInvocation", "invocationId": invocation_id}


# ---- On the wire, and the answer


@pytest.mark.parametrize(
    ("data", "named", "sent"),
    [
        ({"id": 1}, {}, {"dataType": "json", "data": {"id": 1}}),
        ("hi", {}, {"dataType": "text", "data": "hi"}),
        (b"hi", {}, {"dataType": "binary", "data": "aGk="}),
        (b"hi", {"data_type": "protobuf"}, {"dataType": "protobuf", "data": "aGk="}),
        ("hi", {"data_type": "json"}, {"dataType": "json", "data": "hi"}),
        (None, {}, {}),
        (None, {"metadata": {"a": "b"}}, {"metadata": {"a": "b"}}),
        ("hi", {"metadata": {"a": "b"}}, {"dataType": "text", "data": "hi", "metadata": {"a": "b"}}),
    ],
)
def test_an_invocation_is_sent_with_its_data(data: Any, named: dict[str, Any], sent: Said) -> None:
    drive = connected()
    assert drive.session.invoke("order", data, drive.now, **named) == "1"
    assert drive.sent() == [{"type": "invoke", "invocationId": "1", "target": "event", "event": "order"} | sent]
    assert drive.sent() == []


@pytest.mark.parametrize(
    ("fields", "reply"),
    [
        ({}, Reply(None, None)),
        ({"dataType": "text", "data": "pong"}, Reply("pong", "text")),
        ({"dataType": "json", "data": {"a": [1, None]}}, Reply({"a": [1, None]}, "json")),
        ({"dataType": "json", "data": None}, Reply(None, "json")),
        ({"dataType": "json"}, Reply(None, "json")),
        ({"dataType": "binary", "data": base64.b64encode(b"\x00\xff").decode()}, Reply(b"\x00\xff", "binary")),
        ({"dataType": "protobuf", "data": "aGk="}, Reply(b"hi", "protobuf")),
        ({"dataType": "future", "data": [1]}, Reply([1], "future")),
        ({"data": "without a type"}, Reply(None, None)),
        ({"dataType": "text", "data": "x", "error": {"name": "Odd"}}, Reply("x", "text")),
        ({"dataType": None, "error": None, "future": {}}, Reply(None, None)),
    ],
)
def test_a_reply_is_decoded_as_a_message_is(fields: Said, reply: Reply) -> None:
    drive = connected()
    mark = object()
    invoke(drive, user_data=mark)
    drive.sent()
    drive.says(replied(**fields))
    (event,) = drive.events()
    assert event == Invoked("1", mark, reply)
    assert event.user_data is mark


def test_a_reply_holds_what_json_can_and_python_cannot() -> None:
    drive = connected()
    invoke(drive)
    invoke(drive)
    drive.sent()
    drive.says(rb'{"type":"invokeResponse","invocationId":"1","success":true,"dataType":"text","data":"a\ud800"}')
    drive.says('{"type":"invokeResponse","invocationId":"2","success":true,"dataType":"json","data":1e999}')
    assert outcomes(drive) == {"1": repr("a\ufffd"), "2": "inf"}


DEEP = "[" * 100_000 + "]" * 100_000

UNREADABLE: list[tuple[str, str, str]] = [
    ("binary", '"*"', "no base64"),
    ("binary", '"aGk"', "no base64"),
    ("protobuf", '"é"', "no base64"),
    ("protobuf", "7", "no string"),
    ("binary", "null", "no string"),
    ("text", "7", "no string"),
    ("text", "null", "no string"),
    ("json", DEEP, "nested too deeply"),
    ("text", DEEP, "nested too deeply"),
]


@pytest.mark.parametrize(("data_type", "data", "reason"), UNREADABLE)
def test_a_reply_that_cannot_be_read_fails_its_own_invocation_alone(data_type: str, data: str, reason: str) -> None:
    drive = connected()
    invoke(drive)
    invoke(drive)
    drive.sent()
    head = '{"type":"invokeResponse","invocationId":"1","success":true'
    drive.says(f'{head},"dataType":"{data_type}","data":{data}}}')
    drive.says(replied("2"))
    first, second = drive.events()
    assert (first.error.name, first.error.outcome) == ("InvalidReply", "unknown")
    assert "the event handler was called" in first.error.message
    assert reason in first.error.message
    assert second == Invoked("2", None, Reply())
    assert drive.state is State.CONNECTED
    assert drive.sent() == []


def test_data_without_a_type_is_not_read_even_if_it_is_deep() -> None:
    drive = connected()
    invoke(drive)
    drive.sent()
    drive.says(f'{{"type":"invokeResponse","invocationId":"1","success":true,"data":{DEEP}}}')
    assert outcomes(drive) == {"1": "None"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refused("NotFound"), "NotFound/rejected"),
        (refused("BadRequest"), "BadRequest/rejected"),
        (refused("Forbidden"), "Forbidden/rejected"),
        (refused("InternalServerError"), "InternalServerError/unknown"),
        (refused("Timeout"), "Timeout/unknown"),
        (refused("FutureName"), "FutureName/unknown"),
        ({"type": "invokeResponse", "invocationId": "1", "success": False}, "Unknown/unknown"),
        ({"type": "invokeResponse", "invocationId": "1", "success": False, "error": {}}, "Unknown/unknown"),
        ({"type": "invokeResponse", "invocationId": "1"}, "Unknown/unknown"),
        ({"type": "invokeResponse", "invocationId": "1", "dataType": "text", "data": "x"}, "Unknown/unknown"),
        (refused("NotFound") | {"dataType": "binary", "data": "*"}, "NotFound/rejected"),
    ],
)
def test_an_error_of_the_service_says_whether_the_handler_may_have_been_called(answer: Said, expected: str) -> None:
    drive = connected()
    invoke(drive)
    drive.sent()
    drive.says(answer)
    assert outcomes(drive) == {"1": expected}
    assert drive.sent() == []


def test_the_text_of_an_error_is_the_services_without_secrets_and_bounded() -> None:
    drive = connected()
    for _ in range(3):
        invoke(drive)
    drive.sent()
    drive.says(
        refused("Bad" * 100, "the token is SECRET, too"), refused("Odd", "x" * 5000, "2"), refused("Odd", "", "3")
    )
    first, second, third = (event.error for event in drive.events(Invoked))
    assert "SECRET" not in first.message
    assert len(first.name) <= 128
    assert len(second.message) <= 1000
    assert third.message == "the service gave no reason"


@pytest.mark.parametrize(
    "answer",
    [
        {"type": "invokeResponse", "success": True},
        {"type": "invokeResponse", "invocationId": 1, "success": True},
        {"type": "invokeResponse", "invocationId": "1", "success": "yes"},
        {"type": "invokeResponse", "invocationId": "1", "success": False, "error": {"name": 1}},
        {"type": "invokeResponse", "invocationId": "1", "success": True, "dataType": 7, "data": 7},
    ],
)
def test_an_answer_of_wrong_types_breaks_the_protocol_and_loses_no_message(answer: Said) -> None:
    drive = connected()
    invoke(drive)
    dial = drive.dial
    drive.sent()
    drive.says(answer)
    assert dial.close is not None
    assert dial.close.code == 1007
    settled, recovering = drive.events()
    assert how(settled) == "ConnectionLost/unknown"
    assert str(settled.error).startswith("ConnectionLost: the connection was dropped before the reply came")
    assert type(recovering) is Recovering


def test_answers_come_in_any_order() -> None:
    drive = connected()
    ids = [invoke(drive) for _ in range(5)]
    assert ids == ["1", "2", "3", "4", "5"]
    drive.sent()
    drive.says(*(replied(key, dataType="text", data=f"reply {key}") for key in ("4", "2", "5", "1", "3")))
    assert list(outcomes(drive).items()) == [(key, repr(f"reply {key}")) for key in ("4", "2", "5", "1", "3")]


@pytest.mark.parametrize("answer", [replied("9"), replied(""), refused("Odd", invocation_id="9")])
def test_an_answer_to_no_invocation_is_ignored(answer: Said) -> None:
    drive = connected()
    invoke(drive)
    drive.sent()
    drive.says(answer)
    assert drive.events() == []
    drive.says(replied("1"), replied("1"))
    assert outcomes(drive) == {"1": "None"}


def test_an_answer_to_an_invocation_that_was_not_sent_is_ignored() -> None:
    drive = connected()
    invoke(drive)
    drive.says(replied("1"))
    assert drive.events() == []
    assert len(drive.sent()) == 1


# ---- Ids


def test_fresh_ids_count_from_1() -> None:
    drive = connected()
    assert [invoke(drive) for _ in range(3)] == ["1", "2", "3"]


def test_a_callers_id_is_used_and_no_fresh_id_repeats_it() -> None:
    drive = connected()
    assert invoke(drive, invocation_id="order-7") == "order-7"
    assert invoke(drive, invocation_id="3") == "3"
    drive.sent()
    drive.session.cancel_invocation("3", drive.now)
    assert [invoke(drive) for _ in range(2)] == ["4", "5"]
    assert invoke(drive, invocation_id="1") == "1"
    assert invoke(drive, invocation_id="9" * 128) == "9" * 128
    assert invoke(drive, invocation_id="٧") == "٧"
    assert invoke(drive) == "6"


def test_an_id_in_use_is_refused_and_free_again_when_it_is_settled() -> None:
    drive = connected()
    invoke(drive, invocation_id="x")
    with pytest.raises(LocalProtocolError, match=r"^invocation_id 'x' belongs to an invocation that still waits"):
        invoke(drive, invocation_id="x")
    assert len(drive.sent()) == 1
    drive.says(replied("x"))
    assert outcomes(drive) == {"x": "None"}
    assert invoke(drive, invocation_id="x") == "x"


@pytest.mark.parametrize("user_data", [None, ["mine"]])
def test_an_invocation_is_cancelled_for_its_own_user_data_alone(user_data: object) -> None:
    drive = connected()
    invocation_id = invoke(drive, user_data=user_data)
    for other in (["mine"], ["theirs"], 0, *([None] if user_data else [])):
        assert drive.session.cancel_invocation(invocation_id, drive.now, user_data=other) is None
    assert drive.session.cancel_invocation(invocation_id, drive.now, user_data=user_data) == "unsent"
    assert drive.sent() == []


def test_a_cancellation_goes_before_the_next_use_of_its_id() -> None:
    drive = connected()
    invoke(drive, invocation_id="x")
    drive.sent()
    assert drive.session.cancel_invocation("x", drive.now) == "unknown"
    invoke(drive, invocation_id="x")
    first, second = drive.sent()
    assert first == cancelled("x")
    assert second["type"] == "invoke"


# ---- Wrong use


@pytest.mark.parametrize(
    ("named", "error", "text"),
    [
        ({"invocation_id": 7}, InvalidType, r"^invocation_id must be a str, not int"),
        ({"invocation_id": ""}, InvalidValue, r"^invocation_id must have 1 to 128 characters, not 0"),
        ({"invocation_id": "x" * 129}, InvalidValue, r"^invocation_id must have 1 to 128 characters, not 129"),
        ({"invocation_id": "\ud800"}, InvalidValue, r"^invocation_id cannot be encoded"),
        ({"timeout": -1.0}, InvalidValue, r"^timeout must be at least 0"),
        ({"timeout": math.nan}, InvalidValue, r"^timeout must be at least 0"),
        ({"timeout": "5"}, InvalidType, r"^timeout must be a number"),
        ({"timeout": True}, InvalidType, r"^timeout must be a number"),
        ({"metadata": {"a": "é"}}, InvalidValue, r"^metadata\['a'\] must be ASCII"),
        ({"data_type": "xml"}, InvalidValue, r"^data_type must be"),
        ({"data": None, "data_type": "json"}, InvalidValue, r"^data must not be None"),
        ({"data": 7, "data_type": "text"}, InvalidType, r"^data must be a str"),
        ({"data": {1, 2}, "event": "9"}, InvalidValue, r"^event must start with a letter"),
        ({"data": object()}, InvalidType, r"^data cannot be encoded as JSON"),
        ({"data": math.nan}, InvalidValue, r"^data must not be nan"),
        ({"data": "x" * 2000}, InvalidValue, r"^data is too large.*max_request_size"),
        ({"data": None, "metadata": {"a": "x" * 1024}}, InvalidValue, r"^metadata is too large.*max_request_size"),
    ],
)
def test_wrong_arguments_are_refused_and_change_nothing(
    named: dict[str, Any], error: type[LocalProtocolError], text: str
) -> None:
    drive = connected(max_request_size=1000)
    arguments = {"event": "order", "data": "x"} | named
    event, data = arguments.pop("event"), arguments.pop("data")
    with pytest.raises(error, match=text):
        drive.session.invoke(event, data, drive.now, **arguments)
    assert drive.sent() == []
    assert drive.session.deadline == math.inf
    assert not inspect(drive.session).left
    assert invoke(drive) == "1"


@pytest.mark.parametrize("wrong", [7, None, [], ""])
def test_to_cancel_what_can_be_no_id_is_wrong(wrong: Any) -> None:
    with pytest.raises(LocalProtocolError, match=r"^invocation_id must"):
        connected().session.cancel_invocation(wrong, 1000.0)


def test_a_stopped_session_takes_no_invocation() -> None:
    drive = Drive()
    with pytest.raises(ClientStopped):
        invoke(drive)
    assert drive.session.cancel_invocation("1", drive.now) is None


def test_invocations_and_requests_share_one_limit() -> None:
    drive = connected(max_pending_requests=3)
    invoke(drive)
    drive.session.join_group("g", drive.now)
    invoke(drive)
    with pytest.raises(TooManyRequests, match="3 requests wait"):
        invoke(drive)
    with pytest.raises(TooManyRequests, match="3 requests wait"):
        drive.session.send_to_group("g", "x", drive.now)
    drive.sent()
    drive.says(replied("2"))
    assert drive.session.send_to_group("g", "x", drive.now) == 2
    drive.says(ok(1))
    assert invoke(drive) == "3"
    drive.session.cancel_invocation("1", drive.now)
    drive.advance(0.0)
    assert invoke(drive) == "4"
    with pytest.raises(TooManyRequests):
        invoke(drive)


# ---- Without a connection


def test_an_invocation_waits_for_a_connection_and_is_sent_once() -> None:
    drive = Drive()
    drive.start()
    invoke(drive)
    drive.open()
    assert drive.sent() == []
    drive.says(hello())
    assert [message["type"] for message in drive.sent()] == ["invoke"]
    drive.events()
    drive.drop()
    assert outcomes(drive) == {"1": "ConnectionLost/unknown"}
    assert [message["type"] for message in drive.recover()] == ["ping"]


@pytest.mark.parametrize("earlier", [False, True])
def test_what_waits_in_a_recovery_is_sent_when_the_peer_has_shown_life(earlier: bool) -> None:
    drive = connected()
    if earlier:
        invoke(drive, invocation_id="earlier")
        drive.sent()
        drive.says(replied("earlier"))
        assert outcomes(drive) == {"earlier": "None"}
    drive.drop()
    invoke(drive)
    drive.until_dial()
    drive.open()
    assert [message["type"] for message in drive.sent()] == ["ping"]
    drive.says({"type": "pong"})
    assert [message["type"] for message in drive.sent()] == ["invoke"]
    drive.says(replied())
    assert outcomes(drive) == {"1": "None"}


def test_what_was_not_sent_survives_the_loss_of_the_connection() -> None:
    drive = connected(reconnect=Backoff(jitter=0.0))
    drive.drop()
    invoke(drive)
    drive.until_dial()
    drive.open()
    drive.lose()
    assert not drive.events(Invoked)
    drive.connect("c2")
    drive.session.cancel_invocation("1", drive.now)
    assert drive.sent() == [cancelled("1")], "connect() has sent the invocation"


@pytest.mark.parametrize("protocol", [None, JSON])
def test_a_drop_settles_what_was_sent_and_keeps_the_rest(protocol: str | None) -> None:
    drive = connected(**({} if protocol is None else {"protocol": protocol}))
    invoke(drive)
    drive.sent()
    invoke(drive)
    drive.drop()
    events = drive.events()
    assert how(events[0]) == "ConnectionLost/unknown"
    assert type(events[1]) is (Recovering if protocol is None else Disconnected)
    assert len(events) == 2
    assert drive.session.cancel_invocation("2", drive.now) == "unsent"


def test_an_answer_on_the_next_transport_is_late() -> None:
    drive = connected()
    invoke(drive)
    drive.sent()
    drive.drop()
    assert outcomes(drive) == {"1": "ConnectionLost/unknown"}
    drive.until_dial()
    drive.open()
    drive.says(replied("1"))
    assert drive.state is State.CONNECTED
    assert not drive.events(Invoked)


def test_a_reply_is_progress_of_the_connection() -> None:
    """After a drop, a connection with progress is recovered at once, and one without only after the interval."""
    waits = []
    for progress in (True, False):
        drive = connected()
        drive.drop()
        drive.recover()
        invoke(drive)
        drive.sent()
        drive.says(*([replied()] if progress else []))
        drive.drop()
        waits.append(drive.until_dial())
    assert waits == [0.0, pytest.approx(1.0, abs=0.25)]


# ---- Cancellation


def test_to_cancel_what_was_sent_tells_the_service_and_ignores_a_late_answer() -> None:
    drive = connected()
    invoke(drive)
    drive.sent()
    assert drive.session.cancel_invocation("1", drive.now) == "unknown"
    assert drive.sent() == [cancelled("1")]
    drive.says(replied("1"))
    assert drive.events() == []
    assert drive.session.cancel_invocation("1", drive.now) is None
    assert drive.sent() == []


@pytest.mark.parametrize("open_", [True, False])
def test_to_cancel_what_was_not_sent_withdraws_it(open_: bool) -> None:
    drive = connected()
    if not open_:
        drive.drop()
        drive.events()
    invoke(drive)
    assert drive.session.cancel_invocation("1", drive.now) == "unsent"
    assert drive.sent() == []
    assert drive.events() == []
    if not open_:
        assert [message["type"] for message in drive.recover()] == ["ping"]


def test_to_cancel_what_is_answered_or_unknown_does_nothing() -> None:
    drive = connected()
    invoke(drive)
    drive.sent()
    drive.says(replied())
    assert drive.session.cancel_invocation("1", drive.now) is None
    assert drive.session.cancel_invocation("nobody", drive.now) is None
    assert drive.sent() == []
    assert outcomes(drive) == {"1": "None"}


def test_a_cancellation_that_was_not_sent_ends_with_its_transport() -> None:
    drive = connected()
    invoke(drive)
    drive.sent()
    drive.session.cancel_invocation("1", drive.now)
    drive.drop()
    assert not drive.events(Invoked)
    assert [message["type"] for message in drive.recover()] == ["ping"]


def test_a_cancellation_goes_out_before_the_close_of_a_stop() -> None:
    drive = connected()
    invoke(drive)
    drive.sent()
    drive.session.cancel_invocation("1", drive.now)
    drive.session.stop(drive.now)
    assert drive.state is State.STOPPING
    assert drive.sent() == [cancelled("1")]


# ---- Time


@pytest.mark.parametrize("sent", [True, False])
def test_the_timeout_fails_an_invocation_and_cancels_it_if_it_was_sent(sent: bool) -> None:
    drive = connected()
    if not sent:
        drive.drop()
    invoke(drive, timeout=5.0)
    drive.sent()
    drive.events()
    drive.advance(4.9)
    assert not drive.events(Invoked)
    drive.advance(0.1)
    (event,) = drive.events(Invoked)
    assert how(event) == f"Timeout/{'unknown' if sent else 'unsent'}"
    assert type(event.error) is InvocationTimeout
    assert event.error.message == (
        "no reply came within timeout (5 s)" if sent else "it could not be sent within timeout (5 s)"
    )
    assert drive.sent() == ([cancelled("1")] if sent else [])
    if sent:
        drive.says(replied())
        assert not drive.events()


@pytest.mark.parametrize("up", [True, False])
def test_without_any_time_an_invocation_is_given_up_at_once(up: bool) -> None:
    drive = connected()
    if not up:
        drive.drop()
    invoke(drive, timeout=0)
    assert drive.session.deadline <= drive.now
    drive.events()
    drive.advance(0.0)
    assert outcomes(drive) == {"1": "Timeout/unsent"}


def test_a_timeout_counts_from_the_call_over_drops_and_reconnects() -> None:
    drive = connected(recovery_timeout=3.0, reconnect=Backoff(initial=60.0, maximum=60.0, jitter=0.0))
    drive.drop()
    invoke(drive, timeout=10.0)
    drive.events()
    for _ in range(10):
        drive.advance(1.0)
        if drive.session.dial is not None and drive.now < 1008.0:
            drive.drop()
    assert outcomes(drive) == {"1": "Timeout/unsent"}


@pytest.mark.parametrize("forever", [None, math.inf])
def test_without_a_timeout_an_invocation_waits_as_long_as_it_takes(forever: float | None) -> None:
    drive = connected()
    invoke(drive, timeout=forever)
    drive.sent()
    drive.advance(1e6)
    assert drive.events() == []
    drive.says(replied())
    assert outcomes(drive) == {"1": "None"}


def test_each_invocation_has_a_time_of_its_own() -> None:
    drive = connected()
    for timeout in (5.0, 1.0, None, 3.0, 3.0):
        invoke(drive, timeout=timeout)
    drive.sent()
    drive.says(replied("4"))
    seen = {}
    for _ in range(6):
        drive.advance(1.0)
        seen |= dict.fromkeys((event.invocation_id for event in drive.events(Invoked)), drive.now - 1000.0)
    assert seen == {"4": 1.0, "2": 1.0, "5": 3.0, "1": 5.0}
    assert drive.session.deadline == math.inf


def test_the_deadlines_of_settled_invocations_do_not_pile_up() -> None:
    drive = connected()
    invoke(drive, timeout=1e6)
    for number in range(2, 1002):
        invoke(drive, timeout=1e5 + number)
        drive.sent()
        drive.says(replied(str(number)))
    assert invocations_inside(drive.session).deadlines < 50
    drive.events()
    drive.advance(1e6)
    assert outcomes(drive) == {"1": "Timeout/unknown"}


def test_an_id_that_is_used_again_has_the_time_of_its_second_use() -> None:
    drive = connected()
    invoke(drive, invocation_id="x", timeout=2.0)
    drive.session.cancel_invocation("x", drive.now)
    invoke(drive, invocation_id="x", timeout=5.0)
    drive.advance(4.0)
    assert not drive.events()
    drive.advance(1.0)
    assert outcomes(drive) == {"x": "Timeout/unsent"}


def test_a_process_that_stood_still_reads_before_it_judges() -> None:
    drive = connected()
    invoke(drive, timeout=5.0)
    drive.sent()
    drive.now += 60.0
    drive.session.wake(drive.now)
    assert not drive.events()
    drive.says(replied())
    assert outcomes(drive) == {"1": "None"}


# ---- Reading


def test_reading_goes_on_for_a_slow_consumer_while_a_reply_is_awaited() -> None:
    drive = connected()
    drive.session.reading_paused(drive.now)
    assert not drive.session.reading
    invoke(drive)
    assert drive.session.reading
    drive.sent()
    drive.says(replied())
    assert not drive.session.reading


def test_silence_counts_from_the_invocation_after_a_pause() -> None:
    drive = connected(keepalive_timeout=10.0, keepalive_interval=5.0)
    drive.session.reading_paused(drive.now)
    drive.advance(100.0)
    invoke(drive)
    drive.advance(9.0)
    assert drive.state is State.CONNECTED
    drive.advance(2.0)
    assert drive.state is State.RECOVERING


# ---- The end


def test_a_stop_settles_all() -> None:
    drive = connected()
    invoke(drive)
    drive.sent()
    invoke(drive)
    drive.session.stop(drive.now)
    events = drive.events()
    assert [how(event) for event in events] == ["Stopped/unknown", "Stopped/unsent"]
    assert [event.error.message for event in events] == [
        "the client was stopped before the reply came",
        "the client was stopped before the invocation was sent",
    ]
    assert drive.sent() == []
    with pytest.raises(ClientStopped):
        invoke(drive)
    drive.drop()
    assert drive.state is State.STOPPED
    assert not inspect(drive.session).left
    assert drive.session.deadline == math.inf


def test_the_end_of_the_last_attempt_settles_all() -> None:
    drive = connected(auto_reconnect=False)
    invoke(drive)
    drive.drop()
    drive.events()
    drive.until_dial()
    drive.open()
    drive.lose()
    (event,) = drive.events(Invoked)
    assert how(event) == "Stopped/unsent"
    assert event.error.message.startswith("the client has stopped: the connection was lost: gone")


def test_a_session_starts_anew_after_its_stop() -> None:
    drive = connected()
    invoke(drive, timeout=60.0)
    drive.sent()
    drive.session.stop(drive.now)
    drive.drop()
    drive.events()
    drive.connect("c2")
    assert invoke(drive) == "2"
    assert len(drive.sent()) == 1
    drive.says(replied("1"), replied("2"))
    assert outcomes(drive) == {"2": "None"}


def test_what_is_settled_or_sent_is_freed() -> None:
    class Mark:
        pass

    drive = connected()
    marks = [Mark() for _ in range(3)]
    freed = [weakref.ref(mark) for mark in marks]
    for mark in marks:
        invoke(drive, user_data=mark, timeout=60.0)
    del mark
    drive.session.cancel_invocation("3", drive.now)
    drive.sent()
    assert invocations_inside(drive.session).payloads == [b"", b""]
    drive.session.cancel_invocation("2", drive.now)
    drive.says(replied("1"))
    drive.events()
    marks.clear()
    assert [ref() for ref in freed] == [None, None, None]


def test_the_text_of_a_session_counts_its_invocations() -> None:
    drive = connected()
    invoke(drive)
    assert "1 invocations" in repr(drive.session)


@pytest.mark.parametrize(
    ("outcome", "meaning"),
    [
        ("rejected", "the service did not execute it"),
        ("unsent", "it was never sent"),
        ("unknown", "it may or may not have been executed"),
    ],
)
def test_the_text_of_an_error_is_one_line(outcome: Any, meaning: str) -> None:
    error = InvocationError("Odd\nname", "why\nnot", outcome)
    assert str(error) == rf"Odd\nname: why\nnot ({meaning})"
    assert (error.name, error.message, error.outcome) == ("Odd\nname", "why\nnot", outcome)


def test_a_number_of_fifteen_digits_counts_for_fresh_ids() -> None:
    drive = connected()
    invoke(drive, invocation_id="9" * 15)
    assert invoke(drive) == "1" + "0" * 15


def test_the_end_of_the_time_says_whose_it_was_and_gives_the_callers_data_back() -> None:
    drive = connected(request_timeout=3.0)
    invoke(drive, user_data="mine")
    drive.sent()
    drive.advance(3.0)
    [event] = drive.events(Invoked)
    assert event.user_data == "mine"
    assert isinstance(event.error, InvocationTimeout)
    assert event.error.message == "no reply came within request_timeout (3 s)"


def test_a_token_in_the_name_of_an_error_is_not_shown() -> None:
    drive = connected()
    invoke(drive)
    drive.sent()
    drive.says(refused("SECRET"))
    [event] = drive.events(Invoked)
    assert "SECRET" not in repr(event)
