"""Requests from the call to the answer: ack ids, order, repeats, outcomes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest
from simulation.inspect import inspect
from tests.helpers.driving import URL, Drive, ack_ids, encoded, hello, news, observed, ok, refused

from limpet import (
    Acked,
    Backoff,
    ClientStopped,
    Connected,
    InvalidType,
    InvalidValue,
    LocalProtocolError,
    Recovered,
    SendError,
    State,
    TooManyRequests,
)

Ask = Callable[..., int]

ASKS: dict[str, Callable[..., int | None]] = {
    "join": lambda drive, **kw: drive.session.join_group("g", drive.now, **kw),
    "leave": lambda drive, **kw: drive.session.leave_group("g", drive.now, **kw),
    "send": lambda drive, **kw: drive.session.send_to_group("g", "hi", drive.now, **kw),
    "event": lambda drive, **kw: drive.session.send_event("order", "hi", drive.now, **kw),
}
each_request = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS.keys())
each_publish = pytest.mark.parametrize("ask", [ASKS["send"], ASKS["event"]], ids=["send", "event"])
each_membership = pytest.mark.parametrize("ask", [ASKS["join"], ASKS["leave"]], ids=["join", "leave"])


def connected(**options: Any) -> Drive:
    drive = Drive(**options)
    drive.connect()
    return drive


# ---- On the wire, and the answer


@pytest.mark.parametrize(
    ("ask", "expected"),
    [
        (lambda s, now: s.join_group("g", now), {"type": "joinGroup", "group": "g", "ackId": 1}),
        (lambda s, now: s.leave_group("g", now), {"type": "leaveGroup", "group": "g", "ackId": 1}),
        (
            lambda s, now: s.send_to_group("g", "hi", now, no_echo=True),
            {"type": "sendToGroup", "group": "g", "dataType": "text", "data": "hi", "ackId": 1, "noEcho": True},
        ),
        (
            lambda s, now: s.send_to_group("g", b"hi", now, ack=False),
            {"type": "sendToGroup", "group": "g", "dataType": "binary", "data": "aGk="},
        ),
        (
            lambda s, now: s.send_event("order", {"id": 7}, now),
            {"type": "event", "event": "order", "dataType": "json", "data": {"id": 7}, "ackId": 1},
        ),
        (
            lambda s, now: s.send_event("order", "[1]", now, data_type="json", ack=False),
            {"type": "event", "event": "order", "dataType": "json", "data": "[1]"},
        ),
    ],
    ids=["join", "leave", "send", "send without ack", "event", "event without ack"],
)
def test_a_request_goes_out_as_one_message(ask: Any, expected: dict[str, Any]) -> None:
    drive = connected()
    ask(drive.session, drive.now)
    assert drive.sent() == [expected]
    assert drive.sent() == []


@each_request
def test_an_ack_settles_a_request_and_brings_user_data_back(ask: Ask) -> None:
    drive = connected()
    future = object()
    ack_id = ask(drive, user_data=future)
    drive.sent()
    drive.says(ok(ack_id))
    (acked,) = drive.events()
    assert acked == Acked(ack_id, future)
    assert acked.user_data is future


@each_request
def test_duplicate_means_done(ask: Ask) -> None:
    drive = connected()
    ack_id = ask(drive)
    drive.sent()
    drive.says(refused(ack_id, "Duplicate"))
    assert drive.events() == [Acked(ack_id, duplicate=True)]


def test_groups_follow_the_answers() -> None:
    drive = connected()
    assert drive.session.groups == frozenset()
    first = ASKS["join"](drive)
    drive.sent()
    assert drive.session.groups == frozenset()
    drive.says(ok(first))
    assert drive.session.groups == {"g"}
    second = ASKS["leave"](drive)
    drive.sent()
    drive.says(refused(second, "Forbidden"))
    assert drive.session.groups == {"g"}
    third = ASKS["leave"](drive)
    drive.sent()
    drive.says(refused(third, "Duplicate"))
    assert drive.session.groups == frozenset()


@pytest.mark.parametrize("name", ["Forbidden", "BadRequest", "NotFound", "InvocationFailed", "SomethingNew"])
@each_request
def test_a_refusal_that_can_not_get_better_is_not_retried(ask: Ask, name: str) -> None:
    drive = connected()
    ack_id = ask(drive)
    drive.sent()
    drive.says(refused(ack_id, name, "no permission"))
    (acked,) = drive.events()
    error = acked.error
    assert type(error) is SendError
    # What this library does not know says nothing about an event: its handler may have been called.
    sure = ask is not ASKS["event"] or name in ("Forbidden", "BadRequest", "NotFound")
    outcome = "rejected" if sure else "unknown"
    assert (error.ack_id, error.name, error.message, error.outcome) == (ack_id, name, "no permission", outcome)
    drive.advance(1000)
    assert (drive.sent(), drive.events()) == ([], [])


@pytest.mark.parametrize("error", [None, {}, {"name": "Odd"}, {"message": "odd"}])
def test_a_refusal_without_much_of_a_reason_is_a_refusal(error: Any) -> None:
    drive = connected()
    ack_id = ASKS["send"](drive)
    drive.sent()
    drive.says({"type": "ack", "ackId": ack_id, "success": False, "error": error})
    (acked,) = drive.events()
    assert acked.error.outcome == "rejected"
    assert acked.error.message


@each_request
def test_a_second_refusal_of_a_request_that_waits_for_its_repeat_uses_one_up(ask: Ask) -> None:
    drive = connected(resend="always" if ask is ASKS["event"] else "safe")
    ack_id = ask(drive)
    first = drive.sent()
    drive.says(refused(ack_id, "InternalServerError"), refused(ack_id, "InternalServerError"))
    drive.advance(0.999)
    assert (drive.sent(), drive.events()) == ([], [])
    drive.advance(10.0)
    assert drive.sent() == first
    drive.says(refused(ack_id, "InternalServerError"))
    drive.advance(10.0)
    assert drive.sent() == first
    drive.says(refused(ack_id, "InternalServerError", "still"))
    assert drive.answers()[ack_id].startswith("InternalServerError/")


@each_request
@pytest.mark.parametrize("name", ["InternalServerError", "Timeout"])
def test_internal_server_error_is_retried_three_times_under_the_same_ack_id(ask: Ask, name: str) -> None:
    drive = connected(resend="always" if ask is ASKS["event"] else "safe")
    ack_id = ask(drive)
    first = drive.sent()
    for _ in range(3):
        drive.says(refused(ack_id, name))
        assert (drive.sent(), drive.events()) == ([], [])
        drive.advance(0.999)
        assert drive.sent() == []
        drive.advance(0.001 + 1e-9)
        assert drive.sent() == first
    drive.says(refused(ack_id, name, "still"))
    # A failure within the service says nothing for certain about a publish; a membership is as it was.
    outcome = "unknown" if ask in (ASKS["send"], ASKS["event"]) else "rejected"
    assert drive.answers() == {ack_id: f"{name}/{outcome}"}
    drive.advance(100)
    assert drive.sent() == []


@pytest.mark.parametrize("name", ["InternalServerError", "Timeout"])
def test_an_event_that_its_handler_failed_is_unknown_and_left_to_the_retries_of_the_service(name: str) -> None:
    drive = connected()
    ack_id = ASKS["event"](drive)
    drive.sent()
    drive.says(refused(ack_id, name, "The event handler answered with status 500."))
    assert drive.answers() == {ack_id: f"{name}/unknown"}
    drive.advance(1000)
    assert (drive.sent(), drive.events()) == ([], [])


def test_an_event_with_a_slow_handler_is_not_sent_again_while_its_connection_lives() -> None:
    drive = connected(ack_timeout=10.0, keepalive_interval=None)
    ack_id = ASKS["event"](drive)
    first = drive.sent()
    drive.advance(30)
    assert drive.sent() == []
    drive.drop()
    ping, *repeated = drive.recover()
    assert (ping, repeated) == ({"type": "ping"}, first), "it may never have arrived"
    drive.events()
    drive.advance(5)
    assert (drive.sent(), drive.events()) == ([], [])
    drive.advance(5)
    assert drive.answers() == {ack_id: "Timeout/unknown"}


@each_publish
def test_what_may_have_been_executed_is_not_called_rejected_later(ask: Ask) -> None:
    """The first copy: a failure of the service. The second: lost with its connection. The third is refused."""
    for end in ("InternalServerError", "lost"):
        drive = connected(resend="always")
        ack_id = ask(drive)
        first = drive.sent()
        if end == "lost":
            drive.lose()
            drive.until_dial()
            drive.open()
            drive.says(hello("c2"))
        else:
            drive.says(refused(ack_id, end))
            drive.advance(2)
        assert drive.sent() == first
        drive.events()
        drive.says(refused(ack_id, "Forbidden"))
        assert drive.answers() == {ack_id: "Forbidden/unknown"}


@each_publish
def test_a_refusal_after_a_recovery_is_certain_unless_a_handler_may_have_been_called(ask: Ask) -> None:
    drive = connected()
    ack_id = ask(drive)
    drive.sent()
    drive.drop()
    drive.recover()
    drive.says(refused(ack_id, "NotFound"))
    # The answer that was lost may have been that the handler failed; a send that was executed would be a Duplicate.
    assert drive.answers() == {ack_id: "NotFound/unknown" if ask is ASKS["event"] else "NotFound/rejected"}


def test_an_event_that_waited_for_its_turn_through_a_recovery_is_rejected_for_certain() -> None:
    drive = connected()
    ack_id = ASKS["event"](drive)
    drive.drop()
    drive.recover()
    drive.says(refused(ack_id, "NotFound"))
    assert drive.answers() == {ack_id: "NotFound/rejected"}


def test_an_event_that_was_lost_once_stays_doubtful_through_a_transport_that_took_nothing() -> None:
    drive = connected()
    ack_id = ASKS["event"](drive)
    drive.sent()
    for _ in range(2):
        drive.drop()
        drive.until_dial()
        drive.open()
        drive.says({"type": "pong"})
    assert ack_ids(drive.sent()) == [ack_id]
    drive.says(refused(ack_id, "NotFound"))
    assert drive.answers() == {ack_id: "NotFound/unknown"}


@each_publish
@pytest.mark.parametrize(("first", "outcome"), [("sent", "unknown"), ("queued", "rejected")])
def test_a_publish_that_was_lost_once_stays_doubtful_through_a_connection_that_took_nothing(
    ask: Ask, first: str, outcome: str
) -> None:
    drive = connected(resend="always")
    ack_id = ask(drive)
    if first == "sent":
        drive.sent()
    for connection_id in ("c2", "c3"):
        drive.lose()
        drive.until_dial()
        drive.open()
        drive.says(hello(connection_id))
    assert ack_ids(drive.sent()) == [ack_id]
    drive.says(refused(ack_id, "Forbidden"))
    assert drive.answers() == {ack_id: f"Forbidden/{outcome}"}


@each_membership
def test_a_request_that_any_connection_has_taken_cannot_be_withdrawn_and_ends_as_unknown(ask: Ask) -> None:
    drive = connected()
    ack_id = ask(drive)
    drive.sent()
    for connection_id in ("c2", "c3"):  # these take nothing
        drive.lose()
        drive.until_dial()
        drive.open()
        drive.says(hello(connection_id))
        assert drive.session.stats.requests_unsent == 0
    assert not drive.session.withdraw(ack_id)
    drive.session.stop(drive.now)
    assert drive.answers() == {ack_id: "Stopped/unknown"}


@each_membership
def test_a_join_or_leave_that_was_lost_with_its_connection_is_rejected_for_certain_on_the_next(ask: Ask) -> None:
    drive = connected()
    ack_id = ask(drive)
    drive.sent()
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    drive.sent()
    drive.says(refused(ack_id, "Forbidden"))
    assert drive.answers() == {ack_id: "Forbidden/rejected"}


def test_a_refused_request_is_retried_also_without_ack_timeout_and_with_jitter() -> None:
    drive = connected(ack_timeout=None, retry=Backoff(initial=4, jitter=1))
    ack_id = ASKS["send"](drive)
    drive.sent()
    drive.says(refused(ack_id, "InternalServerError"))
    drive.advance(1.5)
    assert drive.sent() == []
    drive.advance(0.5)  # half of the 4 s
    assert ack_ids(drive.sent()) == [ack_id]


def test_the_backoff_of_retries_is_an_option() -> None:
    drive = connected(retry=Backoff(initial=0.5, multiplier=4, maximum=100, jitter=0, limit=None))
    ack_id = ASKS["send"](drive)
    drive.sent()
    for delay in (0.5, 2, 8, 32):
        drive.says(refused(ack_id, "InternalServerError"))
        drive.advance(delay - 0.25)
        assert drive.sent() == []
        drive.advance(0.25)
        assert ack_ids(drive.sent()) == [ack_id]
    drive.says(ok(ack_id))
    assert drive.answers() == {ack_id: "done"}


@each_request
def test_a_missing_ack_is_repeated_under_the_same_ack_id_and_then_unknown(ask: Ask) -> None:
    drive = connected(ack_timeout=10.0, resend="always" if ask is ASKS["event"] else "safe")
    ack_id = ask(drive)
    first = drive.sent()
    for _ in range(3):
        drive.advance(9.5)
        assert drive.sent() == []
        drive.advance(0.5)
        assert drive.sent() == first
    drive.advance(9.5)
    assert drive.events() == []
    drive.advance(0.5)
    assert drive.answers() == {ack_id: "Timeout/unknown"}


def test_each_missing_ack_is_noticed_at_its_own_time() -> None:
    drive = connected(ack_timeout=10.0)
    first = ASKS["send"](drive)
    drive.advance(5)
    second = ASKS["send"](drive)
    drive.sent()
    for ack_id in (first, second, first, second, first, second):
        drive.advance(5)
        assert ack_ids(drive.sent()) == [ack_id]


def test_without_ack_timeout_a_request_waits() -> None:
    drive = connected(ack_timeout=None)
    ack_id = ASKS["send"](drive)
    drive.sent()
    drive.advance(100_000)
    assert (drive.sent(), drive.events()) == ([], [])
    drive.says(ok(ack_id))
    assert drive.answers() == {ack_id: "done"}


def test_a_late_ack_of_a_repeat_still_counts() -> None:
    drive = connected(ack_timeout=10.0)
    ack_id = ASKS["send"](drive)
    drive.sent()
    drive.advance(10)  # the repeat is due but not handed out yet
    drive.says(ok(ack_id))
    assert drive.answers() == {ack_id: "done"}
    assert drive.sent() == []


def test_an_ack_for_an_unknown_id_is_ignored() -> None:
    drive = connected()
    ack_id = ASKS["send"](drive)
    drive.sent()
    drive.says(ok(99), refused(0, "Forbidden"), ok(-1), ok(2**70), ok(ack_id), ok(ack_id))
    assert drive.answers() == {ack_id: "done"}
    assert drive.state is State.CONNECTED


def test_an_ack_for_a_request_that_was_not_handed_out_is_ignored() -> None:
    drive = connected()
    ack_id = ASKS["send"](drive)
    drive.says(ok(ack_id))
    assert drive.events() == []
    assert ack_ids(drive.sent()) == [ack_id]
    drive.says(ok(ack_id))
    assert drive.answers() == {ack_id: "done"}


# ---- How many at a time


def full_window(**options: Any) -> Drive:
    """500 requests are in flight, under the ack ids up to 500; 501 and 502 wait for one of them to be answered."""
    drive = connected(ack_timeout=10.0, **options)
    for _ in range(502):
        ASKS["send"](drive)
    assert len(drive.sent()) == 500
    return drive


def test_repeats_do_not_wait_behind_what_waits_for_their_answers() -> None:
    drive = full_window(retry=Backoff(limit=1))
    drive.advance(10)
    assert ack_ids(drive.sent()) == [*range(1, 501)]
    drive.advance(10)
    assert drive.answers() == dict.fromkeys(range(1, 501), "Timeout/unknown")
    assert ack_ids(drive.sent()) == [501, 502]  # these have used up no repeats
    drive.advance(10)
    assert ack_ids(drive.sent()) == [501, 502]


def test_a_repeat_after_a_backoff_takes_its_turn_among_the_requests_in_flight() -> None:
    drive = full_window()
    drive.says(refused(1, "InternalServerError"))
    assert ack_ids(drive.sent()) == [501]
    drive.advance(2)
    assert drive.sent() == []  # neither 502 nor 1
    drive.says(ok(2), ok(3))
    assert ack_ids(drive.sent()) == [502, 1]
    drive.says(ok(1))
    assert drive.answers() == {1: "done", 2: "done", 3: "done"}


@pytest.mark.parametrize("timeout", [None, 60.0])
def test_a_request_waits_for_its_turn_whether_it_has_a_timeout_of_its_own_or_not(timeout: float | None) -> None:
    drive = connected(ack_timeout=10.0)
    for _ in range(500):
        ASKS["send"](drive)
    drive.sent()
    ASKS["send"](drive, timeout=timeout)
    ASKS["send"](drive)
    assert drive.sent() == []
    drive.says(ok(1))
    assert ack_ids(drive.sent()) == [501]
    drive.says(ok(2))
    assert ack_ids(drive.sent()) == [502]


def test_after_a_recovery_as_many_are_in_flight_as_before() -> None:
    drive = full_window()
    drive.drop()
    assert ack_ids(drive.recover()) == [*range(1, 501)]
    drive.says(ok(1), ok(2))
    assert ack_ids(drive.sent()) == [501, 502]


def test_a_repeat_that_is_due_when_an_answer_comes_waits_for_the_backoff() -> None:
    drive = connected(ack_timeout=10.0)
    ack_id = ASKS["send"](drive)
    drive.sent()
    drive.advance(10)
    drive.says(refused(ack_id, "InternalServerError"))
    assert drive.sent() == []
    drive.advance(2)
    assert ack_ids(drive.sent()) == [ack_id]


@pytest.mark.parametrize("ahead", [0, 500])
def test_what_a_busy_transport_never_takes_is_given_up(ahead: int) -> None:
    drive = connected(ack_timeout=10.0, retry=Backoff(limit=1))
    for _ in range(ahead):
        ASKS["send"](drive)
    drive.sent()
    ASKS["send"](drive)
    drive.advance(20)
    assert set(drive.answers().values()) == {"Timeout/unknown" if ahead else "Timeout/unsent"}


# ---- Ack ids


def test_fresh_ack_ids_never_repeat_and_start_at_1() -> None:
    drive = connected()
    assert [ask(drive) for ask in ASKS.values()] == [1, 2, 3, 4]
    drive.lose()
    drive.connect("c2")
    assert ASKS["send"](drive) == 5


def test_fresh_ack_ids_never_meet_those_given_by_the_caller() -> None:
    drive = connected()
    ids = [
        ASKS["send"](drive),
        ASKS["send"](drive, ack_id=2),
        ASKS["send"](drive),
        ASKS["send"](drive, ack_id=77),
        ASKS["send"](drive),
        ASKS["send"](drive, ack_id=50),
        ASKS["send"](drive),
    ]
    assert ids == [1, 2, 3, 77, 78, 50, 79]


def test_an_ack_id_may_be_used_again_to_repeat_a_settled_request() -> None:
    drive = connected()
    drive.says(*(ok(ASKS["send"](drive)) for _ in range(1)))
    drive.sent()
    drive.says(ok(1))
    drive.events()
    assert ASKS["send"](drive, ack_id=1) == 1
    assert ack_ids(drive.sent()) == [1]


def test_requests_without_ack_have_no_id_and_no_answer() -> None:
    drive = connected()
    assert drive.session.send_to_group("g", "a", drive.now, ack=False) is None
    assert drive.session.send_event("order", "b", drive.now, ack=False) is None
    assert [message["data"] for message in drive.sent()] == ["a", "b"]
    drive.advance(1000)
    assert (drive.sent(), drive.events()) == ([], [])


# ---- Over recoveries and new connections


def test_after_a_recovery_every_unanswered_request_goes_first_in_its_original_order() -> None:
    drive = connected()
    ids = [ask(drive) for ask in ASKS.values()]
    before = drive.sent()
    drive.says(ok(ids[1]))
    drive.drop()
    late = ASKS["send"](drive)
    drive.open()
    drive.sent()
    drive.says({"type": "pong"})
    newest = ASKS["send"](drive)
    sent = drive.sent()
    assert ack_ids(sent) == [ids[0], ids[2], ids[3], late, newest]
    assert sent[:3] == [before[0], before[2], before[3]]  # to the letter
    drive.says(*(refused(ack_id, "Duplicate") for ack_id in ack_ids(sent)))
    assert set(drive.answers().values()) == {"done", "duplicate"}


def test_the_original_order_counts_also_for_requests_that_were_repeated_or_backing_off() -> None:
    drive = connected(ack_timeout=10.0)
    first = ASKS["send"](drive)
    drive.advance(5)
    second, third = ASKS["send"](drive), ASKS["event"](drive)
    drive.sent()
    drive.says(refused(second, "InternalServerError"))
    drive.advance(5)  # the first is repeated
    drive.sent()
    drive.drop()
    assert ack_ids(drive.recover()) == [first, second, third]


def test_an_ack_that_ends_a_recovery_is_not_followed_by_a_repeat_of_its_request() -> None:
    drive = connected()
    first, second = ASKS["send"](drive), ASKS["send"](drive)
    drive.sent()
    drive.drop()
    drive.open()
    drive.sent()
    drive.says(ok(first))
    assert ack_ids(drive.sent()) == [second]


def test_requests_wait_during_a_recovery() -> None:
    drive = connected()
    drive.drop()
    ack_id = ASKS["send"](drive)
    drive.open()
    assert ack_ids(drive.sent()) == []
    drive.says({"type": "pong"})
    assert ack_ids(drive.sent()) == [ack_id]


@each_publish
def test_publishes_of_unknown_outcome_fail_when_the_connection_is_lost(ask: Ask) -> None:
    drive = connected()
    ack_ids = [ask(drive), ask(drive)]
    drive.sent()
    drive.lose()
    assert drive.answers() == dict.fromkeys(ack_ids, "ConnectionLost/unknown")
    drive.connect("c2")
    assert drive.sent() == []


@each_publish
def test_a_publish_never_handed_to_a_transport_stays_queued(ask: Ask) -> None:
    drive = connected()
    queued = ask(drive)
    drive.lose()
    waiting = ask(drive)
    silent = ask(drive, ack=False)
    assert silent is None
    assert drive.answers() == {}
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    sent = drive.sent()
    assert ack_ids(sent) == [queued, waiting]
    assert len(sent) == 3


@each_membership
def test_a_join_or_leave_is_asked_again_on_the_new_connection(ask: Ask) -> None:
    drive = connected()
    ack_id = ask(drive)
    first = drive.sent()
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert drive.sent() == first
    drive.events()
    drive.says(ok(ack_id))
    assert drive.answers() == {ack_id: "done"}


def test_a_request_asked_again_on_a_new_connection_has_all_its_retries_again() -> None:
    drive = connected()
    ack_id = ASKS["join"](drive)
    for connection in ("c2", "c3"):
        drive.sent()
        for _ in range(3):
            drive.says(refused(ack_id, "InternalServerError"))
            drive.advance(1)
            assert ack_ids(drive.sent()) == [ack_id]
        drive.lose()
        drive.until_dial()
        drive.open()
        drive.says(hello(connection))
        assert drive.answers() == {}


@each_publish
def test_resend_always_sends_it_again_on_the_new_connection(ask: Ask) -> None:
    drive = connected(resend="always")
    ack_id = ask(drive)
    first = drive.sent()
    drive.lose()
    assert drive.answers() == {}
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert drive.sent() == first
    drive.says(ok(ack_id))
    assert drive.answers() == {ack_id: "done"}


@each_publish
def test_what_was_once_handed_to_a_transport_is_never_called_unsent(ask: Ask) -> None:
    drive = connected(resend="always")
    ack_id = ask(drive)
    drive.sent()
    drive.lose()
    assert drive.session.withdraw(ack_id) is False
    drive.events()
    drive.session.stop(drive.now)
    assert drive.answers() == {ack_id: "Stopped/unknown"}


def test_an_ack_of_the_connection_before_means_nothing_on_the_new_one() -> None:
    drive = connected(resend="always")
    ack_id = ASKS["send"](drive)
    drive.sent()
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"), ok(ack_id))
    assert drive.answers() == {}


# ---- Deadlines and limits


@each_request
@pytest.mark.parametrize("state", ["connecting", "connected", "recovering", "waiting"])
def test_a_request_fails_at_its_own_deadline_in_whatever_state(ask: Ask, state: str) -> None:
    drive = Drive(request_timeout=0.25, reconnect=Backoff(initial=10, jitter=0))
    drive.start()
    if state != "connecting":
        drive.connect()
    if state == "recovering":
        drive.drop()
    elif state == "waiting":
        drive.lose()
    assert drive.state.value == state
    ack_id = ask(drive)
    drive.advance(0.2)
    assert drive.answers() == {}
    drive.advance(0.05 + 1e-9)
    assert drive.answers() == {ack_id: "Timeout/unsent"}
    if state == "connected":
        assert drive.sent() == []


def test_a_request_handed_out_fails_at_its_deadline_as_unknown() -> None:
    drive = connected(request_timeout=3.0)
    ack_id = ASKS["send"](drive)
    drive.sent()
    drive.advance(3)
    assert drive.answers() == {ack_id: "Timeout/unknown"}


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (12, "it could not be sent: the connection takes nothing"),
        (15, "not sent within request_timeout (15 s)"),
    ],
)
def test_the_error_of_a_request_that_was_never_sent_says_so(seconds: float, message: str) -> None:
    drive = connected(request_timeout=15.0, ack_timeout=6.0 if seconds == 12 else None, retry=Backoff(limit=1))
    ASKS["send"](drive)
    drive.advance(seconds)
    (acked,) = drive.events(Acked)
    assert (acked.error.name, acked.error.message, acked.error.outcome) == ("Timeout", message, "unsent")


@pytest.mark.parametrize(
    ("end", "name", "message"),
    [
        (lambda d: d.advance(15), "Timeout", "no answer within request_timeout (15 s)"),
        (lambda d: d.advance(12), "Timeout", "no answer came to the request and its repeats"),
        (lambda d: d.lose(), "ConnectionLost", "the connection was lost before the answer came"),
        (lambda d: d.session.stop(d.now), "Stopped", "the client was stopped before the answer came"),
        (lambda d: d.says(refused(1, "Forbidden", "")), "Forbidden", "the service gave no reason"),
        (lambda d: d.says({"type": "ack", "ackId": 1, "success": False}), "Unknown", "the service gave no reason"),
    ],
)
def test_the_error_of_a_request_says_what_happened(end: Callable[[Drive], None], name: str, message: str) -> None:
    ack_timeout = 6.0 if "repeats" in message else None
    drive = connected(request_timeout=15.0, ack_timeout=ack_timeout, retry=Backoff(limit=1))
    ack_id = ASKS["send"](drive)
    drive.sent()
    end(drive)
    (acked,) = drive.events(Acked)
    assert (acked.ack_id, acked.error.ack_id) == (ack_id, ack_id)
    assert (acked.error.name, acked.error.message) == (name, message)


@pytest.mark.parametrize(("sent", "outcome"), [(True, "unknown"), (False, "unsent")])
def test_requests_of_a_client_that_stopped_by_itself_have_the_reason(sent: bool, outcome: str) -> None:
    drive = connected(resend="always")
    waiting = ASKS["send"](drive)
    if sent:
        drive.sent()
    drive.lose()
    drive.until_dial()
    drive.session.url_ready(URL, drive.now, fixed=True)
    drive.session.dial_failed(ConnectionError("HTTP status 401"), drive.now, status=401)
    (acked,) = drive.events(Acked)
    assert (acked.ack_id, acked.error.name, acked.error.outcome) == (waiting, "Stopped", outcome)
    assert acked.error.message.startswith("the client has stopped: cannot connect to ")
    assert acked.error.message.endswith(": HTTP status 401")


def test_a_request_that_was_not_sent_before_the_stop_says_so() -> None:
    drive = connected()
    ASKS["send"](drive)
    drive.session.stop(drive.now)
    (acked,) = drive.events(Acked)
    assert (acked.error.name, acked.error.outcome) == ("Stopped", "unsent")
    assert acked.error.message == "the client was stopped before the request was sent"


def test_the_session_sleeps_until_the_deadline_of_a_request() -> None:
    drive = connected(request_timeout=3.0, ack_timeout=None)
    ASKS["send"](drive)
    assert drive.session.deadline == drive.now + 3


def test_the_deadline_is_for_requests_of_the_application_that_want_an_answer() -> None:
    drive = connected(request_timeout=3.0, ack_timeout=None)
    joined = ASKS["join"](drive)
    drive.sent()
    drive.says(ok(joined))
    drive.lose()
    drive.until_dial()
    ASKS["send"](drive, ack=False)
    asked = ASKS["send"](drive)
    drive.open()
    drive.advance(2)
    drive.says(hello("c2"))
    drive.events()
    drive.advance(2)
    assert drive.answers() == {asked: "Timeout/unsent"}
    drive.advance(2)
    assert drive.events() == []
    assert [message["type"] for message in drive.sent()] == ["joinGroup", "sendToGroup"]


def test_each_request_has_a_deadline_of_its_own() -> None:
    drive = connected(request_timeout=3.0)
    first = ASKS["send"](drive)
    drive.advance(2)
    second = ASKS["send"](drive)
    drive.advance(1)
    assert list(drive.answers()) == [first]
    drive.advance(2)
    assert list(drive.answers()) == [second]


@each_request
def test_over_the_limit_a_request_fails_at_once_and_nothing_changes(ask: Ask) -> None:
    def full() -> Drive:
        drive = Drive(max_pending_requests=2)
        drive.start()
        ASKS["send"](drive)
        ASKS["send"](drive, ack=False)
        return drive

    drive = full()
    with pytest.raises(TooManyRequests, match="max_pending_requests") as caught:
        ask(drive)
    assert str(caught.value) == (
        "2 requests wait for the service already (max_pending_requests); wait for some of them before making more"
    )
    assert observed(drive) == observed(full())


def test_the_limit_is_what_it_was_when_groups_are_joined_again() -> None:
    drive = connected(max_pending_requests=2)
    for group in ("a", "b"):
        drive.session.join_group(group, drive.now)
    drive.says(*map(ok, ack_ids(drive.sent())))
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    drive.says(*map(ok, ack_ids(drive.sent())))
    for _ in range(2):
        ASKS["send"](drive)
    with pytest.raises(TooManyRequests, match=r"^2 requests wait"):
        ASKS["send"](drive)


def test_there_is_room_again_after_an_answer() -> None:
    drive = connected(max_pending_requests=1)
    ack_id = ASKS["send"](drive)
    drive.sent()
    drive.says(ok(ack_id))
    ASKS["send"](drive)


@each_request
@pytest.mark.parametrize("state", ["stopped", "stopping"])
def test_requests_to_a_stopped_client_fail_at_once(ask: Ask, state: str) -> None:
    drive = Drive()
    if state == "stopping":
        drive.connect()
        drive.session.stop(drive.now)
        drive.events()
    with pytest.raises(ClientStopped, match=state):
        ask(drive)
    assert drive.events() == []


# ---- Taking requests back


@each_request
@pytest.mark.parametrize("user_data", [None, ["mine"]])
def test_a_request_is_withdrawn_for_its_own_user_data_alone(ask: Ask, user_data: object) -> None:
    drive = connected()
    ack_id = ask(drive, user_data=user_data)
    for other in (["mine"], ["theirs"], 0, *([None] if user_data else [])):
        assert drive.session.withdraw(ack_id or 0, user_data=other) is False
    assert drive.session.withdraw(ack_id or 0, user_data=user_data) is True
    assert drive.sent() == []


@each_request
@pytest.mark.parametrize("state", ["connecting", "connected", "recovering", "waiting"])
def test_a_request_can_be_withdrawn_before_it_is_handed_out(ask: Ask, state: str) -> None:
    drive = Drive()
    drive.start()
    if state != "connecting":
        drive.connect()
    if state == "recovering":
        drive.drop()
    elif state == "waiting":
        drive.lose()
    ack_id, other = ask(drive), ASKS["send"](drive)
    assert drive.session.withdraw(ack_id) is True
    assert drive.session.withdraw(ack_id) is False
    if state == "recovering":
        sent = drive.recover()
    elif state == "connected":
        sent = drive.sent()
    else:
        drive.until_dial()
        drive.open()
        drive.says(hello("c9"))
        sent = drive.sent()
    assert ack_ids(sent) == [other]
    drive.says(ok(ack_id))
    assert drive.answers() == {}


@each_request
def test_a_request_can_not_be_withdrawn_after_it_was_handed_out(ask: Ask) -> None:
    drive = connected()
    ack_id = ask(drive)
    drive.sent()
    assert drive.session.withdraw(ack_id) is False
    drive.says(ok(ack_id))
    assert drive.answers() == {ack_id: "done"}


def test_withdrawing_an_unknown_request_does_nothing() -> None:
    drive = connected()
    assert drive.session.withdraw(12345) is False
    assert observed(drive) == observed(connected())


# ---- Wrong use

WRONG: list[tuple[str, type[Exception], str, Callable[[Drive], object]]] = [
    ("group of another type", InvalidType, "group", lambda d: d.session.join_group(5, d.now)),  # type: ignore[arg-type]
    ("empty group", InvalidValue, "group", lambda d: d.session.join_group("", d.now)),
    ("blank group", InvalidValue, "group", lambda d: d.session.leave_group(" \t", d.now)),
    ("long group", InvalidValue, "group", lambda d: d.session.send_to_group("x" * 1025, "a", d.now)),
    ("long group of emoji", InvalidValue, "group", lambda d: d.session.join_group("\U0001f600" * 513, d.now)),
    ("group that is no text", InvalidValue, "group", lambda d: d.session.join_group("\ud800", d.now)),
    ("event of another type", InvalidType, "event", lambda d: d.session.send_event(b"x", "a", d.now)),  # type: ignore[arg-type]
    ("empty event", InvalidValue, "event", lambda d: d.session.send_event("", "a", d.now)),
    ("event with a digit first", InvalidValue, "event", lambda d: d.session.send_event("1st", "a", d.now)),
    ("event with a newline", InvalidValue, "event", lambda d: d.session.send_event("order\n", "a", d.now)),
    ("long event", InvalidValue, "event", lambda d: d.session.send_event("x" * 129, "a", d.now)),
    ("ack_id of another type", InvalidType, "ack_id", lambda d: d.session.join_group("g", d.now, ack_id="7")),  # type: ignore[arg-type]
    ("bool as ack_id", InvalidType, "ack_id", lambda d: d.session.join_group("g", d.now, ack_id=True)),
    ("ack_id 0", InvalidValue, "ack_id", lambda d: d.session.leave_group("g", d.now, ack_id=0)),
    ("negative ack_id", InvalidValue, "ack_id", lambda d: d.session.join_group("g", d.now, ack_id=-1)),
    ("huge ack_id", InvalidValue, "ack_id", lambda d: d.session.join_group("g", d.now, ack_id=2**53)),
    ("ack_id in use", LocalProtocolError, "ack_id 1 ", lambda d: d.session.join_group("g", d.now, ack_id=1)),
    (
        "ack_id without ack",
        InvalidValue,
        "^ack_id has no meaning with ack=False$",
        lambda d: d.session.send_event("order", "a", d.now, ack=False, ack_id=7),
    ),
    ("None as data", InvalidValue, "data", lambda d: d.session.send_to_group("g", None, d.now)),
    ("NaN as data", InvalidValue, "data", lambda d: d.session.send_to_group("g", float("nan"), d.now)),
    ("an object as data", InvalidType, "data", lambda d: d.session.send_to_group("g", object(), d.now)),
    ("bytes as text", InvalidType, "data", lambda d: d.session.send_to_group("g", b"a", d.now, data_type="text")),
    ("str as binary", InvalidType, "data", lambda d: d.session.send_event("e", "a", d.now, data_type="binary")),
    ("str as protobuf", InvalidType, "data", lambda d: d.session.send_event("e", "a", d.now, data_type="protobuf")),
    ("unknown data_type", InvalidValue, "data_type", lambda d: d.session.send_event("e", "a", d.now, data_type="xml")),  # type: ignore[arg-type]
    ("data that is no text", InvalidValue, "data", lambda d: d.session.send_to_group("g", "\ud800", d.now)),
    ("json that is no text", InvalidValue, "data", lambda d: d.session.send_to_group("g", ["\ud800"], d.now)),
    ("data in circles", InvalidValue, "data", lambda d: d.session.send_to_group("g", circle(), d.now)),
    (
        "data too large",
        InvalidValue,
        "max_request_size",
        lambda d: d.session.send_to_group("g", "x" * (1 << 20), d.now),
    ),
]


def circle() -> list[object]:
    data: list[object] = []
    data.append(data)
    return data


def busy(state: str) -> Drive:
    """A session with a bit of everything going on."""
    drive = Drive(request_timeout=100.0)
    drive.start()
    if state != "connecting":
        drive.connect()
        ASKS["join"](drive)
        ASKS["send"](drive, ack=False)
        drive.sent()
    if state == "recovering":
        drive.drop()
    elif state == "waiting":
        drive.lose()
    if state == "connecting":
        ASKS["join"](drive)
    ASKS["send"](drive, user_data="mine")
    return drive


@pytest.mark.parametrize("state", ["connecting", "connected", "recovering", "waiting"])
@pytest.mark.parametrize(("kind", "argument", "call"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_wrong_use_raises_at_once_names_the_argument_and_changes_nothing(
    kind: type[Exception], argument: str, call: Callable[[Drive], object], state: str
) -> None:
    drive = busy(state)
    with pytest.raises(kind, match=argument) as caught:
        call(drive)
    assert isinstance(caught.value, LocalProtocolError)
    assert observed(drive) == observed(busy(state))


def test_what_is_sent_after_a_wrong_call_is_what_was_asked_for() -> None:
    drive = connected()
    with pytest.raises(InvalidValue):
        drive.session.join_group("", drive.now)
    assert drive.session.join_group("g", drive.now) == 1
    assert ack_ids(drive.sent()) == [1]


def test_events_of_requests_come_in_the_order_of_the_answers() -> None:
    drive = connected()
    ids = [ASKS["send"](drive) for _ in range(3)]
    drive.sent()
    drive.says(*(ok(ack_id) for ack_id in reversed(ids)))
    assert [event.ack_id for event in drive.events()] == list(reversed(ids))


def test_a_request_during_each_kind_of_outage_is_answered_in_the_end() -> None:
    drive = Drive()
    drive.start()
    ids = [ASKS["send"](drive)]
    drive.open()
    drive.says(hello("c1"))
    drive.drop()
    ids.append(ASKS["send"](drive))
    drive.lose()
    ids.append(ASKS["send"](drive))
    drive.until_dial()
    drive.open()
    ids.append(ASKS["send"](drive))
    drive.says(hello("c2"))
    sent = ack_ids(drive.sent())
    assert sent == ids
    drive.says(*(ok(ack_id) for ack_id in sent))
    events = drive.events()
    assert [event.ack_id for event in events if type(event) is Acked] == ids
    assert [event.connection_id for event in events if type(event) is Connected] == ["c1", "c2"]
    assert [event for event in events if type(event) is Recovered] == []


def test_nothing_is_kept_of_requests_that_were_answered() -> None:
    class Asker:
        """Who waits for the answer."""

    drive = connected()
    gone: list[weakref.ref[Asker]] = []
    for _ in range(3):
        asker = Asker()
        gone.append(weakref.ref(asker))
        ack_id = drive.session.send_to_group("g", "hi", drive.now, user_data=asker)
        drive.session.messages_to_send()
        drive.session.receive_message(encoded(ok(ack_id)), drive.now)
        drive.session.events()
    del asker
    assert [ref() for ref in gone] == [None] * 3


FAILED = "InternalServerError"


def test_a_leave_that_failed_is_not_repeated_after_a_later_join() -> None:
    drive = connected()
    leave = drive.session.leave_group("g", drive.now)
    drive.sent()
    drive.says(refused(leave, FAILED))
    join = drive.session.join_group("g", drive.now)
    (acked,) = drive.events()
    assert (acked.ack_id, acked.error.name, acked.error.outcome) == (leave, "Superseded", "rejected")
    drive.sent()
    drive.says(ok(join))
    drive.advance(60)
    assert [message for message in drive.sent() if message["type"] == "leaveGroup"] == []
    assert drive.session.groups == {"g"}


def test_a_join_that_fails_after_a_later_leave_was_asked_for_is_not_repeated() -> None:
    drive = connected()
    join = drive.session.join_group("g", drive.now)
    leave = drive.session.leave_group("g", drive.now)
    drive.sent()
    drive.says(refused(join, FAILED), ok(leave))
    acked = drive.events()
    assert [(event.ack_id, event.error and event.error.outcome) for event in acked] == [
        (join, "rejected"),
        (leave, None),
    ]
    drive.advance(60)
    assert drive.sent() == []
    assert drive.session.groups == frozenset()


def test_a_leave_without_an_answer_is_not_repeated_after_a_later_join() -> None:
    drive = connected()
    leave = drive.session.leave_group("g", drive.now)
    join = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(join))
    drive.events()
    drive.advance(30)
    (acked,) = drive.events()
    assert (acked.ack_id, acked.error.name, acked.error.outcome) == (leave, "Timeout", "unknown")
    assert drive.sent() == []
    assert drive.session.groups == {"g"}


def test_a_late_answer_to_a_leave_does_not_undo_a_later_join() -> None:
    drive = connected()
    leave = drive.session.leave_group("g", drive.now)
    join = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(join), ok(leave))
    assert drive.session.groups == {"g"}


def test_a_leave_that_a_later_join_has_overtaken_is_not_asked_for_on_a_new_connection() -> None:
    drive = connected()
    leave = drive.session.leave_group("g", drive.now)
    join = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(join))
    drive.events()
    drive.lose()
    assert [(event.ack_id, event.error.outcome) for event in drive.events(Acked)] == [(leave, "unknown")]
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert [(message["type"], message["group"]) for message in drive.sent()] == [("joinGroup", "g")]


def test_memberships_asked_for_during_an_outage_are_all_carried_out_in_order() -> None:
    drive = Drive()
    drive.session.start(drive.now)
    for ask in (drive.session.join_group, drive.session.leave_group, drive.session.join_group):
        ask("g", drive.now)
    drive.session.url_ready("ws://host/client/hubs/chat", drive.now)
    drive.open()
    drive.says(hello("c1"))
    sent = drive.sent()
    assert [message["type"] for message in sent] == ["joinGroup", "leaveGroup", "joinGroup"]
    drive.says(*(ok(message["ackId"]) for message in sent))
    assert [event.error for event in drive.events(Acked)] == [None] * 3
    assert drive.session.groups == {"g"}


def test_a_later_request_that_is_withdrawn_changes_nothing() -> None:
    drive = connected()
    drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(1))
    drive.drop()
    leave = drive.session.leave_group("g", drive.now)
    join = drive.session.join_group("g", drive.now)
    assert drive.session.withdraw(join)
    drive.open()
    drive.says({"type": "pong"})
    drive.sent()
    drive.says(refused(leave, FAILED))
    drive.advance(1)
    assert [message["ackId"] for message in drive.sent()] == [leave]
    drive.says(ok(leave))
    assert drive.session.groups == frozenset()
    drive.session.join_group("g", drive.now)


def test_what_is_told_of_a_leave_that_a_later_join_made_impossible() -> None:
    drive = connected()
    leave = drive.session.leave_group("g", drive.now)
    drive.sent()
    drive.says(refused(leave, FAILED))
    drive.session.join_group("g", drive.now)
    (acked,) = drive.events()
    assert str(acked.error) == (
        "Superseded: the service failed, and a later request for the same group came before the repeat "
        f"(ack id {leave}; the service did not execute it)"
    )


def test_publishes_do_not_get_into_the_way_of_memberships_and_nothing_is_kept_of_these() -> None:
    drive = connected()
    send = drive.session.send_to_group("h", "hi", drive.now)
    drive.sent()
    drive.says(refused(send, FAILED))
    drive.session.send_to_group("g", "hi", drive.now)
    assert drive.events() == []
    join = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(join))
    assert "memberships" not in inspect(drive.session).left


def test_after_a_later_request_was_withdrawn_the_next_one_counts() -> None:
    drive = connected()
    leave = drive.session.leave_group("g", drive.now)
    drive.sent()
    assert drive.session.withdraw(drive.session.join_group("g", drive.now))
    drive.says(refused(leave, FAILED))
    assert drive.events() == []
    drive.session.join_group("g", drive.now)
    assert [(event.ack_id, event.error.name) for event in drive.events()] == [(leave, "Superseded")]


def test_a_refusal_between_new_messages_and_old_ones_is_repeated_in_time() -> None:
    drive = connected()
    drive.says(news(1))
    join = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(news(1), news(2), refused(join, FAILED))
    drive.advance(1)
    assert ack_ids(drive.sent()) == [join]


def test_the_error_of_an_event_that_is_not_repeated_tells_of_no_repeats() -> None:
    drive = connected(ack_timeout=6.0)
    ASKS["event"](drive)
    drive.sent()
    drive.advance(60)
    (acked,) = drive.events(Acked)
    assert (acked.error.name, acked.error.message) == ("Timeout", "no answer came to the request")


def test_a_request_of_a_stopped_session_gets_the_hint_how_to_start_it() -> None:
    drive = Drive()
    drive.session.start_hint = "`begin()`"
    with pytest.raises(ClientStopped, match=r"`begin\(\)`"):
        drive.session.send_to_group("g", "x", drive.now)
