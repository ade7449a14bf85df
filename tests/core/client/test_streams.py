"""Streams that this client writes: what goes to the service and what comes back, step by step."""

from __future__ import annotations

from typing import Any

import pytest
from tests.helpers.driving import PING, Drive, hello, ok

from limpet import (
    JSON,
    Backoff,
    ClientStopped,
    InvalidType,
    InvalidValue,
    LocalProtocolError,
    State,
    StreamClosed,
    StreamOpened,
    StreamProgress,
    TooManyRequests,
)
from limpet_core.protocol.json_requests import encode_stream_data, encode_stream_end
from limpet_core.protocol.messages import StreamEndError


def start(stream_id: str = "s", group: str = "g", **fields: Any) -> dict[str, Any]:
    more = {"idleTimeoutMs": 300_000} | {key: value for key, value in fields.items() if key != "noEcho"}
    no_echo = {"noEcho": fields["noEcho"]} if "noEcho" in fields else {}
    return {"type": "sendToGroup", "group": group, "stream": {"streamId": stream_id} | more} | no_echo


def fragment(number: int, data: Any = None, stream_id: str = "s", kind: str = "text") -> dict[str, Any]:
    data = f"f{number}" if data is None else data
    return {
        "type": "streamData",
        "streamId": stream_id,
        "streamSequenceId": number,
        "dataType": kind,
        "data": data,
    }


def keepalive(stream_id: str = "s") -> dict[str, Any]:
    return {"type": "streamData", "streamId": stream_id}


def end(stream_id: str = "s", **error: str) -> dict[str, Any]:
    return {"type": "streamEnd", "streamId": stream_id} | ({"error": error} if error else {})


def ack(expected: int, stream_id: str = "s") -> dict[str, Any]:
    return {"type": "streamAck", "streamId": stream_id, "expectedSequenceId": expected}


def nack(expected: int, name: str = "InvalidSequenceId", stream_id: str = "s") -> dict[str, Any]:
    return {
        "type": "streamNack",
        "streamId": stream_id,
        "expectedSequenceId": expected,
        "name": name,
        "message": "no",
    }


def closed(name: str | None = None, message: str = "no", stream_id: str = "s") -> dict[str, Any]:
    error = {} if name is None else {"error": {"name": name, "message": message}}
    return {"type": "streamClosed", "streamId": stream_id} | error


def connected(**options: Any) -> Drive:
    drive = Drive(**options)
    drive.connect()
    return drive


def opened(**options: Any) -> Drive:
    """A client with an open stream ``s``."""
    drive = connected(**options)
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    assert drive.sent() == [start()]
    drive.says(ack(1))
    assert drive.events() == [StreamOpened("s", "mine")]
    return drive


def write(drive: Drive, *numbers: int, stream_id: str = "s") -> None:
    for number in numbers:
        assert drive.session.write_stream(stream_id, f"f{number}", drive.now) == number


def written(*numbers: int, **options: Any) -> Drive:
    """The same, and these fragments have been sent."""
    drive = opened(**options)
    write(drive, *numbers)
    assert drive.sent() == [fragment(number) for number in numbers]
    return drive


def ended(drive: Drive) -> tuple[str | None, int]:
    """How the one stream ended: the name of the error, and how many fragments are certain."""
    [event] = drive.events(StreamClosed)
    assert event.user_data == "mine"
    if event.error is None:
        return None, event.acknowledged
    assert event.error.acknowledged == event.acknowledged
    return event.error.name, event.acknowledged


# ---- The whole way


def test_a_stream_from_its_start_to_its_end() -> None:
    drive = connected()
    assert drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine") == "s"
    assert drive.sent() == [start()]
    assert drive.session.stream_has_room("s")
    drive.says(ack(1))
    assert drive.events() == [StreamOpened("s", "mine")]
    assert drive.session.write_stream("s", "f1", drive.now) == 1
    assert drive.session.write_stream("s", b"\0", drive.now) == 2
    assert drive.session.write_stream("s", {"a": 1}, drive.now) == 3
    assert drive.session.write_stream("s", "x", drive.now, data_type="json") == 4
    others = [fragment(2, "AA==", kind="binary"), fragment(3, {"a": 1}, kind="json"), fragment(4, "x", kind="json")]
    assert drive.sent() == [fragment(1), *others]
    drive.says(ack(3))
    assert drive.events() == [StreamProgress("s", 2, "mine")]
    drive.session.end_stream("s", drive.now)
    assert drive.sent() == []
    drive.says(ack(5))
    assert drive.events() == [StreamProgress("s", 4, "mine")]
    assert drive.sent() == [end()]
    drive.says(closed())
    assert drive.events() == [StreamClosed("s", 4, "mine", None)]
    assert not drive.session.stream_has_room("s")
    drive.advance(2.0)
    assert drive.session.deadline == float("inf")


def test_the_start_says_what_was_asked_for() -> None:
    drive = connected()
    for seconds, milliseconds in (
        (0.001, 1),
        (0.0010001, 1),
        (0.1, 100),
        (1.0005, 1001),
        (300, 300_000),
        (4294967.295, 2**32 - 1),
    ):
        drive.session.open_stream("room", drive.now, stream_id="s", no_echo=True, idle_timeout=seconds)
        assert drive.sent() == [start("s", "room", noEcho=True, idleTimeoutMs=milliseconds)]
        drive.says(closed("Forbidden"))


def test_ids_are_fresh_whatever_the_randomness_does() -> None:
    drive = connected()
    taken = drive.session.open_stream("g", drive.now)
    following = f"{taken[:-8]}{2:08x}"
    drive.session.open_stream("g", drive.now, stream_id=following)
    ids = [drive.session.open_stream("g", drive.now) for _ in range(3)]
    assert len({taken, following, *ids}) == 5
    assert {len(stream_id) for stream_id in ids} == {32}
    ones = Drive(random=lambda: 1.0)
    ones.connect()
    assert ones.session.open_stream("g", ones.now) == "f" * 24 + "00000001"


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"group": " "}, InvalidValue, "group must not be empty"),
        ({"stream_id": ""}, InvalidValue, "stream_id must not be empty"),
        ({"stream_id": "x" * 1025}, InvalidValue, "stream_id must have at most 1024 characters"),
        ({"stream_id": "\ud800"}, InvalidValue, "stream_id cannot be encoded"),
        ({"stream_id": 1}, InvalidType, "stream_id must be a str"),
        ({"stream_id": "s"}, LocalProtocolError, "stream_id 's' belongs to a stream that is still open"),
        ({"idle_timeout": 0}, InvalidValue, "idle_timeout must be from 0.001"),
        ({"idle_timeout": 4294968}, InvalidValue, "idle_timeout must be from 0.001"),
        ({"idle_timeout": "1"}, InvalidType, "idle_timeout must be a number"),
        ({"idle_timeout": None}, InvalidType, "idle_timeout must be a number"),
    ],
)
def test_a_start_that_cannot_be_is_refused_by_the_call(arguments: Any, kind: type[Exception], text: str) -> None:
    drive = opened()
    with pytest.raises(kind, match=f"^{text}"):
        drive.session.open_stream(**({"group": "g"} | arguments), now=drive.now)
    assert drive.sent() == []
    write(drive, 1)


def test_not_more_streams_than_the_option_allows() -> None:
    drive = connected(max_streams=2, max_pending_requests=1)
    for _ in range(2):
        drive.session.open_stream("g", drive.now)
    with pytest.raises(TooManyRequests, match=r"^2 streams are open already \(max_streams\)"):
        drive.session.open_stream("g", drive.now)
    assert len(drive.sent()) == 2


def test_a_stream_needs_a_client_that_runs() -> None:
    drive = Drive()
    with pytest.raises(ClientStopped):
        drive.session.open_stream("g", drive.now)
    for call in (
        lambda: drive.session.write_stream("s", "x", drive.now),
        lambda: drive.session.end_stream("s", drive.now),
        lambda: drive.session.abort_stream("s", "no", drive.now),
    ):
        with pytest.raises(LocalProtocolError, match=r"^stream_id 's' belongs to no open stream$"):
            call()
    with pytest.raises(InvalidType, match=r"^stream_id must be a str, not int$"):
        drive.session.end_stream(1, drive.now)  # type: ignore[arg-type]


# ---- Fragments


def test_fragments_wait_for_the_answer_to_the_start() -> None:
    drive = connected()
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    write(drive, 1, 2)
    drive.session.end_stream("s", drive.now)
    assert drive.sent() == [start()]
    drive.says(ack(1))
    assert drive.sent() == [fragment(1), fragment(2)]
    drive.says(ack(3))
    assert drive.sent() == [end()]


def test_a_fragment_above_the_limit_changes_nothing() -> None:
    drive = opened(max_request_size=200)
    with pytest.raises(InvalidValue, match=r"max_request_size"):
        drive.session.write_stream("s", "x" * 200, drive.now)
    with pytest.raises(InvalidType, match="data"):
        drive.session.write_stream("s", {1, object()}, drive.now)
    write(drive, 1)
    assert drive.sent() == [fragment(1)]


def test_a_writer_that_is_too_far_ahead_is_told() -> None:
    drive = written(1, 2, 3, max_stream_unacked=3)
    assert not drive.session.stream_has_room("s")
    with pytest.raises(TooManyRequests, match=r"^3 fragments with \d+ bytes are not acknowledged yet \(max_stream_un"):
        drive.session.write_stream("s", "x", drive.now)
    drive.says(ack(2))
    assert drive.session.stream_has_room("s")
    write(drive, 4)
    assert not drive.session.stream_has_room("s")


def test_a_mebibyte_is_enough() -> None:
    drive = opened()
    for _ in range(2):
        assert drive.session.stream_has_room("s")
        drive.session.write_stream("s", "x" * 600_000, drive.now)
        assert len(drive.sent()) == 1
    with pytest.raises(TooManyRequests, match="1048576 bytes"):
        drive.session.write_stream("s", "x", drive.now)
    drive.says(ack(2))
    assert drive.session.stream_has_room("s")


def test_nothing_follows_the_end() -> None:
    for how in ("end", "abort"):
        drive = opened()
        if how == "end":
            drive.session.end_stream("s", drive.now)
        else:
            drive.session.abort_stream("s", "why", drive.now)
        assert not drive.session.stream_has_room("s")
        with pytest.raises(LocalProtocolError, match=r"^the stream 's' has been ended or aborted"):
            drive.session.write_stream("s", "x", drive.now)


# ---- The end


def test_an_abort_says_why() -> None:
    drive = written(1)
    drive.session.abort_stream("s", "why", drive.now, code="E42")
    drive.says(ack(2))
    assert drive.sent() == [end(message="why", userErrorCode="E42")]
    drive.says(closed())
    assert ended(drive) == (None, 1)


def test_the_first_end_counts_but_an_abort_replaces_an_end_that_waits() -> None:
    drive = written(1)
    drive.session.end_stream("s", drive.now)
    drive.session.end_stream("s", drive.now)
    drive.session.abort_stream("s", "why", drive.now)
    drive.session.end_stream("s", drive.now)
    drive.session.abort_stream("s", "another", drive.now)
    drive.says(ack(2))
    assert drive.sent() == [end(message="why")]
    drive.session.abort_stream("s", "another", drive.now)
    assert drive.sent() == []


@pytest.mark.parametrize(
    ("message", "code", "kind", "text"),
    [
        (1, None, InvalidType, "message must be a str"),
        ("\ud800", None, InvalidValue, "message cannot be encoded"),
        ("x", 1, InvalidType, "code must be a str"),
        ("x", "\ud800", InvalidValue, "code cannot be encoded"),
        ("x" * 300, None, InvalidValue, r"message makes a request of \d+ bytes; max_request_size is 300"),
    ],
)
def test_an_abort_that_cannot_be_is_refused(message: Any, code: Any, kind: type[Exception], text: str) -> None:
    drive = opened(max_request_size=300)
    with pytest.raises(kind, match=f"^{text}"):
        drive.session.abort_stream("s", message, drive.now, code=code)
    write(drive, 1)


def test_a_stream_can_be_ended_whatever_the_limit_is() -> None:
    drive = opened(max_request_size=20)
    with pytest.raises(InvalidValue, match=r"^message makes a request of "):
        drive.session.abort_stream("s", "why", drive.now)
    drive.session.end_stream("s", drive.now)
    drive.session.abort_stream("s", "", drive.now)
    assert drive.sent() == [end(message="")]


def test_an_abort_before_the_start_was_sent_takes_it_back() -> None:
    for fragments in (0, 1):
        drive = Drive()
        drive.start()
        drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
        write(drive, *range(1, fragments + 1))
        drive.session.abort_stream("s", "why", drive.now)
        assert ended(drive) == ("Aborted" if fragments else None, 0)
        drive.connect()
        assert drive.sent() == []


def test_an_abort_before_the_answer_to_the_start_waits_for_it() -> None:
    drive = connected()
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    drive.sent()
    drive.session.abort_stream("s", "why", drive.now)
    assert drive.sent() == []
    drive.says(ack(1))
    assert drive.sent() == [end(message="why")]
    drive.says(closed())
    assert ended(drive) == (None, 0)


def test_an_end_without_an_acknowledgement_goes_out_after_two_seconds() -> None:
    drive = written(1, 2)
    drive.session.end_stream("s", drive.now)
    drive.advance(1.9)
    assert drive.sent() == []
    drive.says(ack(2))
    drive.advance(1.9)
    assert drive.sent() == []
    drive.advance(0.2)
    assert drive.sent() == [end()]
    drive.says(closed())
    assert ended(drive) == (None, 2)


def test_a_fragment_that_was_refused_before_such_an_end_is_missing() -> None:
    drive = written(1, 2, 3)
    drive.session.end_stream("s", drive.now)
    drive.advance(2.0)
    assert drive.sent() == [end()]
    drive.says(nack(2))
    assert drive.sent() == []
    drive.says(closed())
    assert ended(drive) == ("Incomplete", 1)


def test_a_late_wake_leaves_nothing_due() -> None:
    drive = written(1, keepalive_interval=None, keepalive_timeout=None)
    drive.now += 150.0  # later than the time-out and the keepalive; what has arrived meanwhile is read first
    drive.session.wake(drive.now)
    assert drive.sent() == [PING]
    drive.now = drive.session.deadline
    drive.session.wake(drive.now)
    assert drive.session.deadline > drive.now
    assert drive.sent() == [fragment(1)]


def test_a_refusal_behind_the_end_counts_also_while_a_repeat_is_on_its_way() -> None:
    drive = written(1, 2)
    drive.session.end_stream("s", drive.now)
    drive.advance(2.0)
    assert drive.sent() == [end()]
    drive.advance(30.0)  # the transport takes nothing
    drive.says(nack(1), closed())
    assert ended(drive) == ("Incomplete", 0)


def test_a_fragment_that_was_refused_before_the_end_and_then_taken_is_not_missing() -> None:
    drive = written(1, 2, 3)
    drive.session.end_stream("s", drive.now)
    drive.advance(2.0)
    assert drive.sent() == [end()]
    drive.says(nack(2, "TransientError"))  # the service keeps the stream open for what it wants again
    drive.advance(2.0)
    assert drive.sent() == [fragment(2), fragment(3)]
    drive.says(ack(4))
    assert drive.sent() == [end()]
    drive.events()
    drive.says(closed())
    assert ended(drive) == (None, 3)


@pytest.mark.parametrize("acknowledged", [True, False])
def test_a_fragment_that_was_refused_before_such_an_end_may_be_taken_later(acknowledged: bool) -> None:
    drive = written(1, 2, 3)
    drive.session.end_stream("s", drive.now)
    drive.advance(2.0)
    assert drive.sent() == [end()]
    drive.says(nack(2))
    drive.advance(2.0)
    assert drive.sent() == [fragment(2), fragment(3)]
    if acknowledged:
        drive.says(ack(4))
    else:
        drive.advance(2.0)
    assert drive.sent() == [end()]
    drive.says(closed())
    assert ended(drive) == (None, 3)


@pytest.mark.parametrize("ack_timeout", [10.0, None])
def test_a_service_that_does_not_take_an_end_behind_a_refused_fragment_gets_all_again(ack_timeout: Any) -> None:
    drive = written(1, 2, ack_timeout=ack_timeout)
    drive.session.end_stream("s", drive.now)
    drive.advance(2.0)
    assert drive.sent() == [end()]
    drive.says(nack(1))
    drive.advance(1.9)
    assert drive.sent() == []
    drive.advance(0.1)
    assert drive.sent() == [fragment(1), fragment(2)]
    drive.says(ack(3))
    assert drive.sent() == [end()]
    drive.says(closed())
    assert ended(drive) == (None, 2)


def test_what_is_refused_before_every_end_is_given_up() -> None:
    drive = written(1, retry=Backoff(jitter=0.0, limit=2))
    drive.session.end_stream("s", drive.now)
    ends = 0
    for _ in range(9):
        drive.advance(2.0)
        sent = drive.sent()
        ends += end() in sent
        if sent[-1:] == [end()]:
            drive.says(nack(1, "TransientError"))
    assert ends == 4
    assert ended(drive) == ("TransientError", 0)


def test_a_close_for_an_end_before_the_repeat_is_no_success() -> None:
    drive = written(1, 2)
    drive.session.end_stream("s", drive.now)
    drive.advance(2.0)
    assert drive.sent() == [end()]
    drive.says(nack(2))
    drive.advance(2.0)
    assert drive.sent() == [fragment(2)]
    drive.says(closed())  # for the end before
    assert ended(drive) == ("Closed", 1)


def test_without_a_time_out_too_an_end_goes_out_after_a_refusal() -> None:
    drive = written(1, ack_timeout=None)
    drive.session.end_stream("s", drive.now)
    drive.advance(2.0)  # the end is about to be sent
    drive.says(nack(1))
    assert drive.sent() == [fragment(1)]
    drive.advance(2.0)
    assert drive.sent() == [end()]
    drive.says(closed())
    assert ended(drive) == (None, 1)


def test_a_fragment_that_is_refused_before_the_end_went_out_is_sent_before_it() -> None:
    drive = written(1, 2, 3)
    drive.session.end_stream("s", drive.now)
    drive.says(nack(2))
    assert drive.sent() == [fragment(2), fragment(3)]
    drive.says(ack(4))
    assert drive.sent() == [end()]


@pytest.mark.parametrize(
    "message", [closed(), closed("IdleTimeout"), closed("StreamNotFound"), closed("Forbidden", "")]
)
def test_the_service_closes_a_stream_that_was_not_ended(message: dict[str, Any]) -> None:
    drive = written(1, 2)
    drive.says(ack(2), message)
    assert ended(drive) == (message.get("error", {"name": "Closed"})["name"], 1)
    drive.advance(1000)
    assert drive.sent() == []


def test_a_refused_start() -> None:
    drive = connected()
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    drive.sent()
    drive.says(closed("Forbidden", "not you"))
    [event] = drive.events()
    assert str(event.error) == "Forbidden: not you"


# ---- Acknowledgements


@pytest.mark.parametrize("expected", [0, -1, 1, 5, 2**70])
@pytest.mark.parametrize("answer", [ack, nack])
def test_an_acknowledgement_that_cannot_be_fails_the_stream(answer: Any, expected: int) -> None:
    drive = written(1, 2, 3)
    drive.says(ack(2))
    drive.events()
    drive.says(answer(expected))
    assert ended(drive) == ("InvalidAck", 1)
    text = f"InvalidAck: the service expects fragment {expected}, but 2 to 4 can come next"
    assert drive.sent() == [end(message=text)]
    assert drive.sent() == []
    drive.says(closed("StreamNotFound"))
    assert drive.events() == []


def failed() -> Drive:
    drive = written(1)
    drive.says(ack(3))
    assert ended(drive) == ("InvalidAck", 0)
    return drive


@pytest.mark.parametrize("how", ["closed", "connection lost", "forgotten"])
def test_the_id_of_a_failed_stream_is_free_when_the_service_has_closed_it(how: str) -> None:
    drive = failed()
    with pytest.raises(LocalProtocolError, match=r"^stream_id 's' belongs to a failed stream"):
        drive.session.open_stream("g", drive.now, stream_id="s")
    [last] = drive.sent()
    assert last["type"] == "streamEnd"
    if how == "closed":
        drive.says(ack(2), closed())
    elif how == "connection lost":
        drive.drop(1008)
        drive.until_dial()
        drive.open()
        drive.says(hello("c2"))
        drive.sent()
    else:  # a service that lets all streams fail, and closes none
        for number in range(1000):
            drive.session.open_stream("g", drive.now, stream_id=str(number))
            drive.sent()
            drive.says(ack(2, str(number)))
        drive.sent()
    drive.events()
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    assert drive.sent() == [start()]
    drive.says(ack(1))
    assert drive.events() == [StreamOpened("s", "mine")]


def test_the_end_of_a_failed_stream_is_repeated_after_a_recovery() -> None:
    drive = failed()
    last = drive.sent()
    drive.drop()
    assert drive.recover() == [PING, *last]
    drive.says(closed("StreamNotFound"))
    drive.drop()
    assert drive.recover() == [PING]
    assert drive.events(StreamClosed) == []


def test_late_answers_to_a_failed_stream_do_not_end_the_next_one_of_its_id() -> None:
    drive = written(1, 2)
    drive.says(closed("Forbidden"))
    assert ended(drive) == ("Forbidden", 0)
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    assert drive.sent() == [start()]
    drive.says(closed("StreamNotFound"), ack(1))
    assert drive.events() == [StreamOpened("s", "mine")]


def test_a_fragment_that_was_not_handed_out_cannot_be_acknowledged() -> None:
    drive = written(1)
    write(drive, 2)
    drive.says(ack(3))
    assert ended(drive) == ("InvalidAck", 0)


def test_an_acknowledgement_twice_does_nothing() -> None:
    drive = written(1, 2)
    drive.says(ack(2), ack(2))
    assert drive.events() == [StreamProgress("s", 1, "mine")]


def test_what_is_said_of_other_streams_does_nothing() -> None:
    drive = opened()
    drive.drop()
    drive.session.open_stream("g", drive.now, stream_id="later")
    drive.until_dial()
    drive.open()
    drive.says(*[answer for name in ("x", "later") for answer in (ack(7, name), nack(7, stream_id=name))])
    drive.says(closed(stream_id="x"), closed(stream_id="later"))
    assert drive.events(StreamClosed) == []


# ---- Refusals


def test_what_is_refused_is_sent_again_once_and_in_order() -> None:
    drive = written(1, 2, 3, 4, 5)
    drive.says(nack(3))
    assert drive.events() == [StreamProgress("s", 2, "mine")]
    assert drive.sent() == [fragment(3), fragment(4), fragment(5)]
    drive.says(nack(3), nack(3))  # for 4 and 5, the first time
    assert drive.sent() == []
    write(drive, 6)
    assert drive.sent() == []  # not before it is known where to go on
    drive.says(ack(6))
    assert drive.sent() == [fragment(6)]
    drive.advance(10)
    assert drive.sent() == []


def test_refusals_in_one_go_lead_to_one_repeat() -> None:
    drive = written(1, 2, 3)
    drive.says(nack(1), nack(1), nack(1))
    assert drive.sent() == [fragment(1), fragment(2), fragment(3)]
    assert drive.session.deadline > drive.now + 29


def test_a_refusal_of_what_was_not_sent_yet_is_an_acknowledgement() -> None:
    drive = written(1, 2)
    drive.says(nack(3, "TransientError"))
    write(drive, 3)
    assert drive.sent() == [fragment(3)]


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_service_that_refuses_for_ever_is_given_up_and_makes_no_hot_loop(limit: int) -> None:
    drive = written(1, 2, retry=Backoff(initial=1.0, multiplier=2.0, jitter=0.0, limit=limit))
    drive.says(nack(1, "TransientError"))
    assert drive.sent() == [fragment(1), fragment(2)]
    for repeat in range(limit):
        for _ in range(1000):
            drive.says(nack(1, "TransientError"))
            assert drive.sent() == []
        drive.advance(2.0**repeat - 0.1)
        assert drive.sent() == []
        drive.advance(0.1)
        assert drive.sent() == [fragment(1), fragment(2)]
    drive.says(nack(1, "TransientError"))
    assert ended(drive) == ("TransientError", 0)
    assert drive.sent() == [end(message="TransientError: no")]


def test_an_acknowledgement_gives_new_repeats() -> None:
    drive = written(1, 2, 3, retry=Backoff(initial=1.0, jitter=0.0, limit=1))
    for number in (1, 2, 3):
        drive.says(nack(number))
        assert len(drive.sent()) == 4 - number
        drive.says(nack(number))
        drive.advance(1.0)
        assert len(drive.sent()) == 4 - number
    drive.says(ack(4))
    assert drive.events(StreamClosed) == []


def test_a_start_that_is_refused_for_the_moment_is_repeated_later() -> None:
    drive = connected(retry=Backoff(initial=1.0, multiplier=1.0, jitter=0.0, limit=1))
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    assert drive.sent() == [start()]
    drive.says(nack(1, "TransientError"), nack(1, "TransientError"))
    assert drive.sent() == []
    drive.advance(1.0)
    drive.says(nack(1, "TransientError"))  # of the first, late
    assert drive.sent() == [start()]
    drive.says(nack(9, ""))
    assert ended(drive) == ("Unknown", 0)


# ---- Time


def test_what_is_not_acknowledged_in_time_is_sent_again_and_then_given_up() -> None:
    drive = written(1, 2, ack_timeout=10.0, retry=Backoff(limit=2))
    for _ in range(2):
        drive.advance(9.9)
        assert drive.sent() == []
        drive.advance(0.1)
        assert drive.sent() == [fragment(1), fragment(2)]
    drive.advance(10.0)
    assert ended(drive) == ("Timeout", 0)
    [last] = drive.sent()
    assert last["type"] == "streamEnd"
    assert last["error"]["message"].startswith("Timeout: ")


def test_any_progress_is_enough() -> None:
    drive = written(*range(1, 20), ack_timeout=10.0, retry=Backoff(limit=0))
    for number in range(2, 21):
        drive.advance(9.0)
        drive.says(ack(number))
    drive.advance(100.0)
    assert drive.events(StreamClosed) == []
    assert drive.sent() == [keepalive()]


def test_a_start_and_an_end_without_an_answer_are_repeated() -> None:
    drive = connected(ack_timeout=10.0)
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    assert drive.sent() == [start()]
    drive.advance(10.0)
    assert drive.sent() == [start()]
    drive.says(ack(1))
    drive.session.end_stream("s", drive.now)
    assert drive.sent() == [end()]
    drive.advance(10.0)
    assert drive.sent() == [end()]
    drive.says(closed("StreamNotFound"))
    assert ended(drive) == (None, 0)


def test_a_close_for_an_end_that_is_about_to_be_repeated_is_a_success() -> None:
    drive = opened(ack_timeout=10.0)
    drive.session.end_stream("s", drive.now)
    assert drive.sent() == [end()]
    drive.advance(10.0)
    drive.says(closed())
    assert ended(drive) == (None, 0)


def test_a_connection_that_takes_nothing_is_given_up_too() -> None:
    drive = connected(ack_timeout=10.0, retry=Backoff(limit=1))
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    drive.advance(20.0)
    [event] = drive.events()
    assert str(event.error) == "Timeout: the stream could not be started: the connection takes nothing"
    assert drive.sent() == []


def test_without_a_time_out_nothing_is_repeated() -> None:
    drive = written(1, ack_timeout=None)
    drive.advance(99.0)
    assert drive.sent() == []


@pytest.mark.parametrize(("idle", "third"), [({}, 100.0), ({"idle_timeout": 30.0}, 10.0)])
def test_a_silent_stream_is_kept_alive(idle: dict[str, Any], third: float) -> None:
    drive = connected()
    drive.session.open_stream("g", drive.now, stream_id="s", **idle)
    drive.sent()
    drive.says(ack(1))
    drive.advance(third - 1)
    write(drive, 1)
    drive.says(ack(1))
    assert drive.sent() == [fragment(1)]
    drive.says(ack(2))
    drive.advance(third - 1)
    assert drive.sent() == []
    drive.advance(1)
    assert drive.sent() == [keepalive()]
    drive.advance(3 * third)
    assert drive.sent() == [keepalive()]  # they do not pile up on a transport that takes nothing
    drive.session.end_stream("s", drive.now)
    assert drive.sent() == [end()]
    drive.advance(29.0 if third > 29 else 2 * third)
    assert drive.sent() == []


def test_a_keepalive_goes_out_while_a_repeat_waits() -> None:
    drive = written(1, retry=Backoff(initial=150.0, maximum=150.0, jitter=0.0), ack_timeout=None)
    drive.says(nack(1))
    assert drive.sent() == [fragment(1)]
    drive.says(nack(1))
    drive.session.end_stream("s", drive.now)
    drive.advance(149.0)
    assert drive.sent() == [keepalive()]
    drive.advance(1.0)
    assert drive.sent() == [fragment(1)]


def test_what_is_written_while_a_repeat_waits_does_not_hold_up_keepalives() -> None:
    drive = connected(retry=Backoff(initial=50.0, maximum=50.0, jitter=0.0))
    drive.session.open_stream("g", drive.now, stream_id="s", idle_timeout=30.0)
    drive.sent()
    drive.says(ack(1))
    write(drive, 1)
    drive.sent()
    drive.says(nack(1))
    drive.sent()
    drive.says(nack(1))
    for number in (2, 3, 4):
        drive.advance(5.0)
        write(drive, number)
        assert drive.sent() == ([keepalive()] if number == 3 else [])


# ---- Several at once


def test_several_streams_take_turns() -> None:
    drive = connected()
    for name in "abc":
        drive.session.open_stream("g", drive.now, stream_id=name)
    drive.sent()
    drive.says(*[ack(1, name) for name in "abc"])
    drive.events()
    for name, count in (("a", 4), ("b", 1), ("c", 2)):
        write(drive, *range(1, count + 1), stream_id=name)
    sent = [(message["streamId"], message["streamSequenceId"]) for message in drive.sent()]
    assert sent == [("a", 1), ("b", 1), ("c", 1), ("a", 2), ("c", 2), ("a", 3), ("a", 4)]


def test_requests_and_pings_go_first() -> None:
    drive = opened()
    write(drive, 1)
    drive.session.join_group("g", drive.now)
    drive.session.check(drive.now)
    assert [message["type"] for message in drive.sent()] == ["ping", "joinGroup", "streamData"]


# ---- Connections


def test_the_start_waits_for_a_connection() -> None:
    drive = Drive()
    drive.start()
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    write(drive, 1)
    drive.session.end_stream("s", drive.now)
    drive.advance(5.0)
    drive.open()
    assert drive.sent() == []
    drive.says(hello("c1"))
    assert drive.sent() == [start()]


def test_a_recovery_sends_what_is_not_acknowledged_again_in_order_and_the_end_last() -> None:
    drive = written(1, 2, 3, 4)
    drive.says(ack(3))
    drive.session.end_stream("s", drive.now)
    drive.advance(2.0)
    assert drive.sent() == [end()]
    drive.drop()
    drive.advance(1.0)
    assert drive.recover() == [PING, fragment(3), fragment(4)]
    drive.says(ack(5))
    assert drive.sent() == [end()]
    drive.says(closed())
    assert ended(drive) == (None, 4)


def test_a_recovery_repeats_an_unanswered_start_and_keeps_a_silent_stream_alive() -> None:
    drive = opened()
    drive.session.open_stream("g", drive.now, stream_id="t")
    drive.sent()
    drive.drop()
    assert drive.recover() == [PING, keepalive(), start("t")]
    drive.says(ack(1, "t"))
    assert drive.events(StreamOpened) == [StreamOpened("t", None)]


def test_after_a_recovery_the_silence_of_a_stream_counts_anew() -> None:
    drive = opened()
    drive.advance(60.0)
    drive.drop()
    assert drive.recover() == [PING, keepalive()]
    drive.advance(99.0)
    assert drive.sent() == []
    drive.advance(1.0)
    assert drive.sent() == [keepalive()]


def test_a_stream_that_has_nothing_to_send_again_any_more_is_kept_alive() -> None:
    drive = written(1)
    drive.drop()
    drive.open()
    drive.says(ack(2))
    assert drive.sent() == [PING, keepalive()]


def test_a_stream_that_was_not_accepted_before_a_recovery_needs_no_keepalive() -> None:
    drive = connected(ack_timeout=None)
    drive.session.open_stream("g", drive.now, stream_id="s", idle_timeout=30.0)
    drive.sent()
    drive.drop()
    assert drive.recover() == [PING, start(idleTimeoutMs=30_000)]
    drive.advance(15.0)
    drive.says(ack(1))
    assert drive.sent() == []


def test_what_is_written_while_there_is_no_transport_comes_after_the_rest() -> None:
    drive = written(1, 2)
    drive.drop()
    write(drive, 3)
    drive.session.open_stream("g", drive.now, stream_id="t")
    assert drive.recover() == [PING, fragment(1), start("t"), fragment(2), fragment(3)]


@pytest.mark.parametrize("acknowledged", [True, False])
def test_an_end_that_the_service_has_read_before_a_recovery(acknowledged: bool) -> None:
    drive = written(1)
    drive.session.end_stream("s", drive.now)
    if acknowledged:
        drive.says(ack(2))
    drive.advance(2.0)
    assert drive.sent() == [end()]
    drive.drop()
    assert drive.recover() == [PING, end() if acknowledged else fragment(1)]
    drive.says(closed("StreamNotFound"))
    assert ended(drive) == ((None, 1) if acknowledged else ("StreamNotFound", 0))


def test_a_refusal_is_forgotten_with_its_transport() -> None:
    drive = written(1, 2)
    drive.says(nack(1))
    drive.sent()
    drive.says(nack(1))
    drive.session.end_stream("s", drive.now)
    drive.drop()
    assert drive.recover() == [PING, fragment(1), fragment(2)]
    drive.says(nack(1))
    assert drive.sent() == [fragment(1), fragment(2)]


def test_a_fragment_that_was_refused_before_the_end_is_sent_again_if_the_transport_was_lost() -> None:
    drive = written(1)
    drive.session.end_stream("s", drive.now)
    drive.advance(2.0)
    drive.sent()
    drive.says(nack(1))
    drive.drop()
    assert drive.recover() == [PING, fragment(1)]
    drive.says(ack(2))
    assert drive.sent() == [end()]
    drive.says(closed())
    assert ended(drive) == (None, 1)


def test_the_loss_of_the_connection_fails_the_streams_that_have_begun() -> None:
    drive = written(1, 2)
    drive.says(ack(2))
    drive.events()
    drive.drop()
    drive.session.open_stream("g", drive.now, stream_id="later", user_data="later")
    drive.until_dial()
    drive.open()
    drive.lose()
    [event] = drive.events(StreamClosed)
    assert (event.user_data, event.acknowledged, event.error.name) == ("mine", 1, "ConnectionLost")
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert drive.sent() == [start("later")]


def test_a_start_that_waits_is_sent_on_the_next_connection() -> None:
    drive = connected()
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert drive.sent() == [start()]


def test_without_recovery_a_drop_fails_the_streams() -> None:
    drive = written(1, protocol=JSON)
    drive.drop()
    assert ended(drive) == ("ConnectionLost", 0)


@pytest.mark.parametrize("state", [State.CONNECTED, State.RECOVERING, State.WAITING])
def test_a_stop_fails_all_streams(state: State) -> None:
    drive = written(1)
    if state is not State.CONNECTED:
        drive.drop(1006 if state is State.RECOVERING else 1008)
        drive.events()
        if state is State.WAITING:
            drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    drive.session.stop(drive.now)
    assert ended(drive) == ("Stopped", 0)
    assert [message for message in drive.sent() if "streamId" in message or "stream" in message] == []


def test_the_reason_of_a_stop_is_told() -> None:
    drive = written(1, auto_reconnect=False)
    drive.drop(1008, "gone")
    [event] = drive.events(StreamClosed)
    assert event.error.name == "ConnectionLost"
    drive = connected(auto_reconnect=False)
    drive.session.open_stream("g", drive.now, stream_id="s")
    drive.drop(1008, "gone")
    [event] = drive.events(StreamClosed)
    assert str(event.error).startswith("Stopped: the client has stopped: the connection was lost")


# ---- The rest of the session


def test_a_slow_consumer_does_not_hold_up_the_acknowledgements() -> None:
    drive = opened()
    drive.session.reading_paused(drive.now)
    assert not drive.session.reading
    write(drive, 1)
    assert drive.session.reading
    drive.sent()
    drive.says(ack(2))
    assert not drive.session.reading
    drive.session.end_stream("s", drive.now)
    assert drive.session.reading
    drive.says(closed("StreamNotFound"))
    assert not drive.session.reading


def test_names_and_texts_of_the_service_are_without_secrets() -> None:
    drive = opened()
    drive.says(closed("SECRET", "the token is SECRET"))
    [event] = drive.events()
    assert "SECRET" not in repr(event)
    drive.session.open_stream("g", drive.now, stream_id="s")
    write(drive, 1)
    drive.sent()
    drive.says(ack(1))
    drive.sent()
    for _ in range(9):
        drive.says(nack(1, "SECRET") | {"message": "SECRET"})
        drive.advance(5.0)
        drive.sent()
    [event] = drive.events(StreamClosed)
    assert "SECRET" not in repr(event)


def test_the_session_counts_its_streams() -> None:
    drive = opened()
    assert "1 streams" in repr(drive.session)
    assert "to send" not in repr(drive.session)
    write(drive, 1, 2)
    drive.session.open_stream("g", drive.now)
    drive.session.invoke("e", None, drive.now)
    drive.session.invoke("e", None, drive.now, invocation_id="given up")
    assert "2 streams, 2 invocations, 5 messages to send" in repr(drive.session)
    assert len(drive.sent()) == 5
    drive.session.cancel_invocation("given up", drive.now)
    assert "1 messages to send" in repr(drive.session)


def test_acks_of_requests_and_streams_do_not_mix() -> None:
    drive = written(1)
    key = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(key), ack(2))
    assert [type(event).__name__ for event in drive.events()] == ["Acked", "StreamProgress"]
    assert drive.sent() == []


def test_without_a_transport_nothing_is_due() -> None:
    drive = written(1, ack_timeout=10.0, retry=Backoff(limit=0))
    drive.drop()
    drive.session.dial_failed(OSError("no"), drive.now)
    while drive.session.state is State.RECOVERING and drive.now < 1029.0:
        drive.advance(1.0)
        if drive.session.dial is not None:
            drive.session.dial_failed(OSError("no"), drive.now)
    assert drive.events(StreamClosed) == []
    assert drive.recover() == [PING, fragment(1)]


def test_an_acknowledgement_shows_that_the_connection_makes_progress() -> None:
    """So the first attempt to recover is made at once, also if the last one was a moment ago."""
    for progress in (True, False):
        drive = written(1)
        drive.drop()
        drive.recover()
        if progress:
            drive.says(ack(2))
        drive.drop()
        assert (drive.until_dial() == 0) is progress


# ---- Small changes that these alone notice


def test_the_bytes_of_what_is_acknowledged_are_given_back_one_by_one() -> None:
    drive = opened()
    large = "x" * 300_000
    for number in range(1, 5):
        assert drive.session.write_stream("s", large, drive.now) == number
    assert not drive.session.stream_has_room("s")
    assert len(drive.sent()) == 4
    drive.says(ack(3))
    assert drive.session.stream_has_room("s")
    drive.session.write_stream("s", large, drive.now)
    drive.session.write_stream("s", large, drive.now)
    assert not drive.session.stream_has_room("s"), "four are unacknowledged again"


def test_a_mebibyte_is_the_limit() -> None:
    overhead = len(encode_stream_data("s", 1, "", None, 1 << 21))
    drive = opened(max_request_size=1 << 21)
    drive.session.write_stream("s", "x" * ((1 << 20) - overhead), drive.now)
    assert not drive.session.stream_has_room("s")
    with pytest.raises(TooManyRequests):
        drive.session.write_stream("s", "x", drive.now)


def test_an_end_on_the_transport_before_is_none_on_this_one() -> None:
    drive = written(1)
    drive.session.end_stream("s", drive.now)
    drive.advance(2.0)
    assert drive.sent() == [end()]
    drive.drop()
    drive.until_dial()
    drive.open()
    drive.says({"type": "pong"}, closed())
    assert ended(drive) == ("Closed", 0)


def test_an_acknowledged_end_without_a_repeat_counts_whatever_was_handed_before() -> None:
    drive = written(1, 2)
    drive.says(nack(1))
    assert drive.sent() == [fragment(1), fragment(2)]
    drive.says(ack(3))
    assert drive.events() == [StreamProgress("s", 2, "mine")], "a repeat hands out nothing new"


@pytest.mark.parametrize(
    ("say", "text"),
    [
        ([closed("Cancelled", "")], "Cancelled: the service gave no reason"),
        ([closed()], "Closed: the service closed the stream before its end"),
    ],
    ids=["no reason", "before its end"],
)
def test_what_the_writer_is_told(say: list[dict[str, Any]], text: str) -> None:
    drive = written(1)
    drive.says(*say)
    [event] = drive.events(StreamClosed)
    assert event.error is not None
    assert f"{event.error.name}: {event.error.message}" == text


def test_what_the_writer_is_told_when_the_service_refuses_without_a_word() -> None:
    drive = written(1, retry=Backoff(initial=1.0, multiplier=1.0, jitter=0.0, limit=1))
    for _ in range(3):
        drive.says({"type": "streamNack", "streamId": "s", "expectedSequenceId": 1, "name": "Busy"})
        drive.sent()
        drive.advance(1.5)
        drive.sent()
    [event] = drive.events(StreamClosed)
    assert event.error is not None
    assert event.error.message == "the service refused the same fragment again and again"


def test_what_the_writer_is_told_when_no_answer_comes() -> None:
    drive = written(1, ack_timeout=1.0, retry=Backoff(initial=1.0, multiplier=1.0, jitter=0.0, limit=1))
    drive.advance(10.0)
    [event] = drive.events(StreamClosed)
    assert event.error is not None
    assert event.error.message == "no answer came to the stream, although it was sent again"


def test_what_the_writer_is_told_of_an_abort_before_the_start() -> None:
    drive = Drive()
    drive.start()
    drive.session.open_stream("g", drive.now, stream_id="s", user_data="mine")
    drive.session.write_stream("s", "f1", drive.now)
    drive.session.abort_stream("s", "enough", drive.now)
    [event] = drive.events(StreamClosed)
    assert event.error is not None
    assert event.error.message == "it was aborted before its start"


def test_an_end_may_be_as_long_as_a_request() -> None:
    error = StreamEndError("x" * 500)
    limit = len(encode_stream_end("s", error))
    drive = opened(max_request_size=limit)
    with pytest.raises(InvalidValue, match=f"message makes a request of {limit + 1} bytes"):
        drive.session.abort_stream("s", "x" * 501, drive.now)
    drive.session.abort_stream("s", error.message, drive.now)
    assert drive.sent() == [end(message="x" * 500)]


def test_fresh_ids_are_of_all_random_bits_and_pass_over_ids_in_use() -> None:
    drive = connected()
    first = drive.session.open_stream("g", drive.now)
    assert first == "80000000" * 3 + "00000001"
    taken = "80000000" * 3 + "00000002"
    drive.session.open_stream("g", drive.now, stream_id=taken)
    assert drive.session.open_stream("g", drive.now) == "80000000" * 3 + "00000003"
    assert drive.session.open_stream("g", drive.now) == "80000000" * 3 + "00000004"


def test_one_stream_that_is_given_up_does_not_hold_up_the_others() -> None:
    drive = written(1, ack_timeout=1.0, retry=Backoff(initial=1.0, multiplier=1.0, jitter=0.0, limit=0))
    drive.session.open_stream("g", drive.now, stream_id="t", user_data="other")
    drive.sent()
    drive.advance(1.0)
    assert [event.user_data for event in drive.events(StreamClosed)] == ["mine", "other"]


def test_a_stream_that_backs_off_goes_on_with_the_ordinary_wait_for_an_answer() -> None:
    drive = written(1, ack_timeout=5.0, retry=Backoff(initial=1.0, multiplier=1.0, jitter=0.0, limit=5))
    drive.says(nack(1))
    assert drive.sent() == [fragment(1)]
    drive.says(nack(1))
    assert drive.sent() == []
    drive.advance(1.0)
    assert drive.sent() == [fragment(1)]
    drive.advance(4.9)
    assert drive.sent() == []
    drive.advance(0.1)
    assert drive.sent() == [fragment(1)], "no answer for ack_timeout"
    write(drive, 2)
    assert drive.sent() == [fragment(2)], "it backs off no more"


def test_a_stream_that_is_ended_while_reading_is_paused_begins_the_silence_anew() -> None:
    drive = opened(keepalive_interval=20.0, keepalive_timeout=120.0)
    drive.session.reading_paused(drive.now)
    drive.advance(110.0)
    drive.sent()
    drive.session.end_stream("s", drive.now)
    drive.advance(119.0)
    assert drive.state is State.CONNECTED
    drive.advance(1.0)
    assert drive.state is State.RECOVERING


def test_a_repeat_that_backs_off_has_jitter() -> None:
    drive = written(1, retry=Backoff(initial=8.0, multiplier=1.0, jitter=1.0, limit=5))
    drive.says(nack(1))
    drive.sent()
    drive.says(nack(1))
    drive.advance(3.9)
    assert drive.sent() == []
    drive.advance(0.1)
    assert drive.sent() == [fragment(1)], "half of 8 s, as the session's randomness is one half"


def test_a_fragment_that_is_written_while_reading_is_paused_begins_the_silence_anew() -> None:
    drive = opened(keepalive_interval=20.0, keepalive_timeout=120.0)
    drive.session.reading_paused(drive.now)
    drive.advance(110.0)
    drive.sent()
    write(drive, 1)
    drive.advance(119.0)
    assert drive.state is State.CONNECTED
    drive.advance(1.0)
    assert drive.state is State.RECOVERING


def test_a_fragment_written_long_after_the_start_is_repeated_in_its_time() -> None:
    drive = opened()
    drive.advance(40.0)
    assert drive.sent() == []
    write(drive, 1)
    assert drive.sent() == [fragment(1)]
    drive.advance(29.9)
    assert drive.sent() == []
    drive.advance(0.1)
    assert drive.sent() == [fragment(1)]


def test_a_stream_has_its_time_to_be_opened() -> None:
    drive = connected()
    drive.session.open_stream("g", drive.now, stream_id="s", timeout=5.0)
    drive.sent()
    drive.advance(4.9)
    assert drive.events() == []
    drive.advance(0.1)
    [event] = drive.events(StreamClosed)
    assert event.error is not None
    assert (event.error.name, event.error.acknowledged) == ("Timeout", 0)


def test_the_texts_of_a_full_stream_and_of_ends_by_others() -> None:
    drive = opened(max_stream_unacked=1)
    write(drive, 1)
    with pytest.raises(TooManyRequests) as full:
        write(drive, 2)
    size = len(encode_stream_data("s", 1, "f1", None, 1000))
    assert str(full.value) == (
        f"1 fragments with {size} bytes are not acknowledged yet (max_stream_unacked is 1, and 1048576 bytes); "
        "wait for StreamProgress before writing more"
    )
    drive.lose()
    [event] = drive.events(StreamClosed)
    assert event.error is not None
    assert event.error.message == "the connection was lost, and the stream with it"
    drive.session.open_stream("g", drive.now, stream_id="t")
    drive.session.stop(drive.now)
    drive.session.disconnected(drive.now) if drive.session.dial else None
    [event] = drive.events(StreamClosed)
    assert event.error is not None
    assert event.error.message == "the client was stopped"


def test_reading_goes_on_while_any_of_two_streams_waits() -> None:
    drive = connected()
    for stream_id in ("s", "t"):
        drive.session.open_stream("g", drive.now, stream_id=stream_id)
    drive.sent()
    drive.session.reading_paused(drive.now)
    assert drive.session.reading
    drive.says(ack(1, "s"))
    assert drive.session.reading, "the other one waits"
    drive.says(ack(1, "t"))
    assert not drive.session.reading
