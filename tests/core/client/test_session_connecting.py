"""Making new connections: the first one, the next ones, and when to give up."""

from __future__ import annotations

import math
from typing import Any

import pytest
from tests.helpers.driving import OWN, URL, Drive, closed_with, hello, news, ok

from limpet import (
    Acked,
    Backoff,
    Connected,
    ConnectError,
    ConnectionFailed,
    Disconnected,
    GroupMessage,
    LocalProtocolError,
    RejoinGroupFailed,
    Session,
    State,
    Stopped,
    TooManyRequests,
)

PLAIN = "json.webpubsub.azure.v1"


def test_a_new_session_is_stopped_and_wants_nothing() -> None:
    session = Session(random=lambda: 0.5)
    assert (session.state, session.dial, session.deadline) == (State.STOPPED, None, math.inf)
    assert (session.connection_id, session.user_id, session.groups) == (None, None, frozenset())
    assert session.events() == []
    assert session.messages_to_send() == []


def test_options_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match=r"^options must be an Options, not dict$"):
        Session({"auto_reconnect": False}, random=lambda: 0.5)  # type: ignore[arg-type]


def test_start_asks_for_a_url_first() -> None:
    drive = Drive()
    drive.start()
    assert drive.state is State.CONNECTING
    assert (drive.dial.url, drive.dial.recovery, drive.dial.attempt) == (None, False, 1)
    drive.session.url_ready(URL, drive.now)
    assert drive.dial.url == URL


@pytest.mark.parametrize("protocol", [PLAIN, "json.reliable.webpubsub.azure.v1"])
def test_the_dial_offers_the_chosen_subprotocol(protocol: str) -> None:
    drive = Drive(protocol=protocol)
    drive.start()
    assert drive.dial.protocol == protocol


def test_it_is_connected_when_the_first_connected_message_has_arrived_and_not_before() -> None:
    drive = Drive()
    drive.start()
    drive.open()
    assert drive.state is State.CONNECTING
    assert drive.events() == []
    drive.says(hello("c1", user="ann"))
    assert drive.state is State.CONNECTED
    assert drive.events() == [Connected("c1", "ann")]
    assert (drive.session.connection_id, drive.session.user_id) == ("c1", "ann")
    assert drive.session.deadline == math.inf


def test_connected_and_messages_may_come_in_one_batch() -> None:
    drive = Drive()
    drive.start()
    drive.open()
    drive.says(hello(), news(1, "a"), news(2, "b"))
    connected, *messages = drive.events()
    assert connected == Connected("c1")
    assert [message.data for message in messages] == ["a", "b"]


@pytest.mark.parametrize("state", ["connecting", "connected", "recovering", "waiting", "stopping"])
def test_start_raises_unless_stopped_and_says_what_the_client_is_doing(state: str) -> None:
    drive = in_state(state)
    with pytest.raises(LocalProtocolError, match=state):
        drive.session.start(drive.now)
    assert drive.state.value == state


def in_state(state: str) -> Drive:
    drive = Drive()
    if state == "stopped":
        return drive
    drive.start()
    if state == "connecting":
        return drive
    drive.connect()
    if state == "recovering":
        drive.drop()
    elif state == "waiting":
        drive.lose()
    elif state == "stopping":
        drive.session.stop(drive.now)
    drive.session.events()
    assert drive.state.value == state
    return drive


def provider_fails(drive: Drive) -> None:
    drive.session.url_failed(OSError("no token today"), drive.now)


def provider_gives_nonsense(drive: Drive) -> None:
    drive.session.url_ready("https://example.test", drive.now)


def provider_gives_nothing(drive: Drive) -> None:
    drive.session.url_ready(None, drive.now)  # type: ignore[arg-type]


def provider_gives_what_can_not_be_encoded(drive: Drive) -> None:
    drive.session.url_ready("wss://example.test/\ud800?access_token=\ud800", drive.now)


def provider_hangs(drive: Drive) -> None:
    drive.advance(30)


def refused(drive: Drive) -> None:
    drive.session.url_ready(URL, drive.now)
    drive.session.dial_failed(OSError("connection refused"), drive.now)


def rejected_token(drive: Drive) -> None:
    drive.session.url_ready(URL, drive.now)
    drive.session.dial_failed(OSError("401 Unauthorized"), drive.now, status=401)


def never_upgraded(drive: Drive) -> None:
    drive.session.url_ready(URL, drive.now)
    drive.advance(30)


def proxy_hangs(drive: Drive) -> None:
    drive.session.url_ready(URL, drive.now)
    drive.dial.waits_for = "the proxy"
    drive.advance(30)


def no_connected_message(drive: Drive) -> None:
    drive.open()
    drive.advance(30)


def gone_at_once(drive: Drive) -> None:
    drive.open()
    drive.drop()


def closed_at_once(drive: Drive) -> None:
    drive.open()
    drive.drop(1011, "internal error")


def broken_first_message(drive: Drive) -> None:
    drive.open()
    drive.says("not json")


def data_before_connected(drive: Drive) -> None:
    drive.open()
    drive.says(news())


def binary_before_connected(drive: Drive) -> None:
    drive.open()
    drive.session.receive_binary(b"", drive.now)


def connected_without_an_id(drive: Drive) -> None:
    drive.open()
    drive.says({"type": "system", "event": "connected"})


FAILURES: list[tuple[Any, str]] = [
    (provider_fails, "no URL to connect to: no token today"),
    (provider_gives_nonsense, "url must start with wss://"),
    (provider_gives_nothing, "url must be a str"),
    (provider_gives_what_can_not_be_encoded, "url"),
    (provider_hangs, "timed out: there was no URL in time"),
    (refused, "cannot connect to example.test port 443: connection refused"),
    (rejected_token, "401"),
    (never_upgraded, "the connection timed out: example.test port 443 did not answer in time"),
    (proxy_hangs, "the connection to example.test port 443 timed out: the proxy did not answer in time"),
    (no_connected_message, "timed out"),
    (gone_at_once, "^the connection was closed before it was established: close code 1006$"),
    (closed_at_once, r"internal error \(close code 1011\)"),
    (broken_first_message, "not JSON"),
    (data_before_connected, "^the service sent a message before the connected message$"),
    (binary_before_connected, "binary"),
    (connected_without_an_id, "without connectionId"),
]


@pytest.mark.parametrize(("fail", "message"), FAILURES, ids=[fail.__name__ for fail, _ in FAILURES])
def test_a_first_connection_that_can_not_be_made_stops_with_the_reason(fail: Any, message: str) -> None:
    drive = Drive()
    drive.start()
    dial = drive.dial
    fail(drive)
    assert drive.state is State.STOPPED
    failed, stopped = drive.events()
    assert type(stopped) is Stopped
    assert isinstance(stopped.error, ConnectError)
    assert failed == ConnectionFailed(stopped.error, 1, None)
    with pytest.raises(ConnectError, match=message):
        raise stopped.error
    assert "SECRET" not in str(stopped.error)

    # Nothing is left behind that could connect later.
    assert (drive.session.dial, drive.session.deadline) == (None, math.inf)
    late = drive.session
    late.url_ready(URL, drive.now)
    late.connected(drive.now)
    late.receive_message('{"type":"system","event":"connected","connectionId":"c1"}', drive.now)
    drive.advance(1000)
    assert (drive.state, drive.session.dial, drive.events(), drive.sent()) == (State.STOPPED, None, [], [])
    assert dial.close is None or closed_with(dial) == 1000


@pytest.mark.parametrize(("fail", "_message"), FAILURES, ids=[fail.__name__ for fail, _ in FAILURES])
def test_start_works_again_after_a_first_connection_failed(fail: Any, _message: str) -> None:
    drive = Drive()
    drive.start()
    fail(drive)
    drive.events()
    drive.connect("c2")
    assert drive.session.connection_id == "c2"


@pytest.mark.parametrize(("fail", "_message"), FAILURES, ids=[fail.__name__ for fail, _ in FAILURES])
def test_a_later_connection_that_can_not_be_made_is_tried_again(fail: Any, _message: str) -> None:
    drive = Drive()
    drive.connect()
    drive.lose()
    for attempt in (1, 2, 3):
        drive.until_dial()
        assert (drive.dial.attempt, drive.dial.recovery, drive.dial.url) == (attempt, False, None)
        fail(drive)
        assert drive.state is State.WAITING
    drive.events()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert drive.events() == [Connected("c2")]


@pytest.mark.parametrize(
    ("fail", "code"),
    [
        (broken_first_message, 1002),
        (data_before_connected, 1002),
        (binary_before_connected, 1003),
        (connected_without_an_id, 1007),
        (closed_at_once, 1011),
    ],
)
def test_the_error_of_a_first_connection_has_the_code_of_its_close(fail: Any, code: int) -> None:
    drive = Drive()
    drive.start()
    fail(drive)
    (stopped,) = drive.events(Stopped)
    assert stopped.error.code == code


def test_a_transport_that_opened_too_late_is_closed() -> None:
    drive = Drive(connect_timeout=2.0)
    drive.start()
    dial = drive.open()
    drive.advance(2)
    assert closed_with(dial) == 1000


def test_connect_timeout_counts_from_the_url_being_asked_for() -> None:
    drive = Drive(connect_timeout=10.0)
    drive.start()
    drive.advance(6)
    drive.session.url_ready(URL, drive.now)
    drive.advance(3)
    drive.session.connected(drive.now)
    assert drive.state is State.CONNECTING
    drive.advance(1)
    assert drive.state is State.STOPPED


def test_the_cause_of_a_failure_is_kept() -> None:
    drive = Drive()
    drive.start()
    cause = OSError("boom")
    drive.session.url_failed(cause, drive.now)
    (stopped,) = drive.events(Stopped)
    assert stopped.error.__cause__ is cause


@pytest.mark.parametrize("later", [False, True], ids=["the first connection", "a later one"])
def test_the_cause_of_the_last_failure_is_kept_after_many(later: bool) -> None:
    drive = Drive(first_connection=Backoff(limit=2), reconnect=Backoff(limit=2))
    if later:
        drive.connect()
        drive.lose()
        drive.until_dial()
    else:
        drive.start()
    for cause in (OSError("one"), OSError("two")):
        if drive.state is State.WAITING:
            drive.until_dial()
        drive.session.url_failed(cause, drive.now)
    (stopped,) = drive.events(Stopped)
    assert stopped.error.__cause__ is cause
    assert str(stopped.error).count("two") == 1


def test_a_cause_that_says_the_same_is_left_out_and_its_own_cause_kept() -> None:
    drive = Drive()
    drive.start()
    drive.session.url_ready(URL, drive.now)
    cause, explained = OSError("boom"), ConnectError("boom, explained")
    explained.__cause__ = cause
    drive.session.dial_failed(explained, drive.now)
    (stopped,) = drive.events(Stopped)
    assert str(stopped.error) == "cannot connect to example.test port 443: boom, explained"
    assert stopped.error.__cause__ is cause


def test_the_error_of_a_connection_through_a_proxy_names_the_proxy() -> None:
    drive = Drive()
    drive.start()
    drive.session.url_ready(URL, drive.now)
    drive.dial.through = "the proxy proxy.test port 3128"
    drive.session.dial_failed(OSError("boom"), drive.now)
    (stopped,) = drive.events(Stopped)
    assert str(stopped.error) == "cannot connect to example.test port 443 through the proxy proxy.test port 3128: boom"


@pytest.mark.parametrize(("cause", "text"), [(TimeoutError(), "TimeoutError"), (KeyError("url"), "KeyError: 'url'")])
def test_a_failure_whose_text_says_nothing_is_named_by_its_type(cause: Exception, text: str) -> None:
    drive = Drive()
    drive.start()
    drive.session.url_failed(cause, drive.now)
    (stopped,) = drive.events(Stopped)
    assert str(stopped.error) == f"no URL to connect to: {text}"


def test_system_events_of_the_future_before_connected_are_ignored() -> None:
    drive = Drive()
    drive.start()
    drive.open()
    drive.says({"type": "system", "event": "weather"}, hello())
    assert drive.events() == [Connected("c1")]


# ---- Making another one


def test_every_new_connection_gets_a_fresh_url() -> None:
    drive = Drive()
    drive.start()
    for number in (1, 2, 3):
        assert drive.dial.url is None
        drive.open(f"wss://example.test/client/hubs/chat?n={number}")
        drive.says(hello(f"c{number}"))
        drive.lose()
        drive.until_dial()
    assert [event.connection_id for event in drive.events(Connected)] == ["c1", "c2", "c3"]


@pytest.mark.parametrize(
    ("draw", "delays"),
    [
        (0.0, [1, 2, 4, 8, 16, 30, 30]),
        (0.5, [0.5, 1, 2, 4, 8, 15, 15]),
        (0.75, [0.25, 0.5, 1, 2, 4, 7.5, 7.5]),
    ],
)
def test_reconnecting_backs_off_exponentially_with_full_jitter(draw: float, delays: list[float]) -> None:
    drive = Drive(random=lambda: draw)
    drive.connect()
    drive.lose()
    waits = []
    for _ in delays:
        waits.append(drive.until_dial())
        refused(drive)
    assert waits == delays


def test_reconnecting_is_unlimited_by_default() -> None:
    drive = Drive()
    drive.connect()
    drive.lose()
    for _ in range(300):
        drive.until_dial()
        refused(drive)
    drive.until_dial()
    assert drive.state is State.CONNECTING


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_reconnecting_stops_with_the_reason_after_the_limit(limit: int) -> None:
    drive = Drive(reconnect=Backoff(limit=limit))
    drive.connect()
    drive.lose()
    for _ in range(limit):
        drive.until_dial()
        refused(drive)
    assert drive.state is State.STOPPED
    disconnected, *failed, stopped = drive.events()
    assert disconnected == Disconnected("c1", 1008, "gone")
    assert [(event.attempt, event.next_in is None) for event in failed] == [
        (number, number == limit) for number in range(1, limit + 1)
    ]
    assert f"gave up after {limit} attempt{'s' * (limit != 1)} to connect again" in str(stopped.error)
    assert isinstance(stopped.error, ConnectError)
    assert (drive.session.dial, drive.session.deadline) == (None, math.inf)


def test_giving_up_tells_status_and_close_code_of_the_last_failure() -> None:
    drive = Drive(reconnect=Backoff(limit=1))
    drive.connect()
    drive.lose()
    drive.until_dial()
    drive.session.url_ready(URL, drive.now)
    drive.session.dial_failed(OSError("unavailable"), drive.now, status=503)
    (stopped,) = drive.events(Stopped)
    assert (stopped.error.status, stopped.error.code) == (503, None)
    assert str(stopped.error) == (
        "gave up after 1 attempt to connect again: cannot connect to example.test port 443: unavailable"
    )
    drive.connect()
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.drop(1011, "overloaded")
    (stopped,) = drive.events(Stopped)
    assert (stopped.error.status, stopped.error.code) == (None, 1011)


def test_the_limit_counts_anew_after_a_connection_stood() -> None:
    drive = Drive(reconnect=Backoff(limit=2))
    drive.connect()
    for number in (2, 3, 4):
        drive.lose()
        drive.until_dial()
        refused(drive)
        drive.connect(f"c{number}")
    assert drive.state is State.CONNECTED


def test_delays_start_anew_only_after_a_stable_connection() -> None:
    drive = Drive(random=lambda: 0.0)
    drive.connect()
    drive.lose()
    assert drive.until_dial() == 1
    drive.connect("c2")
    drive.lose()  # it dropped at once
    assert drive.until_dial() == 2
    drive.connect("c3")
    drive.advance(30)
    drive.lose()
    assert drive.until_dial() == 1


@pytest.mark.parametrize("protocol", [PLAIN, "json.reliable.webpubsub.azure.v1"])
def test_without_auto_reconnect_a_connection_lost_for_good_stops_the_client(protocol: str) -> None:
    drive = Drive(auto_reconnect=False, protocol=protocol)
    drive.connect()
    drive.session.join_group("g", drive.now)
    drive.lose()
    assert drive.state is State.STOPPED
    disconnected, acked, stopped = drive.events()
    assert disconnected == Disconnected("c1", 1008, "gone")
    assert (acked.error.name, acked.error.outcome) == ("Stopped", "unsent")
    assert "gone (close code 1008)" in str(stopped.error)
    assert stopped.error.code == 1008


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_that_a_fixed_url_can_not_outlive_stops_with_a_clear_error(status: int) -> None:
    drive = Drive()
    drive.start()
    drive.open(fixed=True)
    drive.says(hello())
    drive.lose()
    drive.until_dial()
    drive.events()
    drive.session.url_ready(URL, drive.now, fixed=True)
    drive.session.dial_failed(OSError(f"HTTP status {status}"), drive.now, status=status)
    assert drive.state is State.STOPPED
    failed, stopped = drive.events()
    assert failed == ConnectionFailed(stopped.error, 1, None)
    assert stopped.error.status == status
    assert str(stopped.error) == f"cannot connect to example.test port 443: HTTP status {status}"


@pytest.mark.parametrize(("fixed", "state"), [(True, State.STOPPED), (False, State.WAITING)])
def test_a_fixed_url_that_can_not_be_used_is_final(fixed: bool, state: State) -> None:
    drive = Drive()
    drive.connect()
    drive.lose()
    drive.until_dial()
    drive.session.url_ready("https://example.test", drive.now, fixed=fixed)
    assert drive.state is state


@pytest.mark.parametrize(("status", "fixed"), [(401, False), (403, False), (404, False), (429, True), (503, True)])
def test_any_other_refusal_is_tried_again(status: int, fixed: bool) -> None:
    drive = Drive()
    drive.connect()
    drive.lose()
    drive.until_dial()
    drive.session.url_ready(URL, drive.now, fixed=fixed)
    drive.session.dial_failed(OSError("refused"), drive.now, status=status)
    assert drive.state is State.WAITING


def test_the_plain_subprotocol_never_recovers() -> None:
    drive = Drive(protocol=PLAIN)
    drive.connect(token=None)
    drive.drop()
    assert drive.state is State.WAITING
    assert drive.events() == [Disconnected("c1", 1006, "")]


def test_a_connection_without_a_reconnection_token_is_not_recovered() -> None:
    drive = Drive()
    drive.connect(token=None)
    drive.drop()
    assert drive.state is State.WAITING


# ---- Groups on the new connection


def join(drive: Drive, *groups: str) -> None:
    for group in groups:
        ack_id = drive.session.join_group(group, drive.now)
        drive.sent()
        drive.says(ok(ack_id))
    drive.events()


@pytest.mark.parametrize(("fail", "_message"), FAILURES, ids=[fail.__name__ for fail, _ in FAILURES])
def test_a_start_goes_on_after_a_first_attempt_that_failed_if_it_has_a_backoff(
    fail: Any, _message: str, caplog: pytest.LogCaptureFixture
) -> None:
    drive = Drive(
        first_connection=Backoff(initial=2.0, maximum=8.0, jitter=0.0), reconnect=Backoff(initial=1.0, jitter=0.0)
    )
    drive.start()
    for number, delay in enumerate((2.0, 4.0, 8.0, 8.0), 1):
        assert drive.dial.attempt == number
        fail(drive)
        assert drive.state is State.WAITING
        (failed,) = drive.events()
        assert (failed.attempt, failed.next_in) == (number, delay)
        assert drive.until_dial() == delay
    drive.connect()
    (warning,) = [record for record in caplog.records if "the start goes on" in record.message]
    assert "SECRET" not in warning.message
    assert warning.message.endswith("; the start goes on until a connection is made (the next attempt is in 2.0 s)")
    # Later connections have their own backoff, from its begin.
    drive.lose()
    assert drive.until_dial() == 1.0


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_start_with_a_backoff_ends_with_the_reason_after_its_limit(
    limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    drive = Drive(first_connection=Backoff(limit=limit))
    drive.start()
    for _ in range(limit - 1):
        refused(drive)
        drive.until_dial()
    refused(drive)
    *failed, stopped = drive.events()
    assert [event.attempt for event in failed] == list(range(1, max(limit, 1) + 1))
    warnings = [record.message for record in caplog.records if "the start goes on" in record.message]
    assert ["until a connection is made, for 3 attempts at most (the" in text for text in warnings] == [
        True for _ in range(limit == 3)
    ]
    assert ("gave up after 3 attempts to connect: " in str(stopped.error)) is (limit == 3)
    assert "cannot connect to example.test port 443" in str(stopped.error)
    with pytest.raises(LocalProtocolError, match="has stopped: "):
        drive.session.join_group("g", drive.now)


def test_a_start_that_was_asked_to_come_later_says_when_it_does(caplog: pytest.LogCaptureFixture) -> None:
    drive = Drive(first_connection=Backoff(initial=0.0, jitter=0.0), max_retry_after=40.0)
    drive.start()
    drive.session.url_failed(ConnectError("busy", retry_after=1000.0), drive.now)
    (failed,) = drive.events()
    assert failed.next_in == 40.0
    (warning,) = [record for record in caplog.records if "the start goes on" in record.message]
    assert warning.message.endswith("(the next attempt is in 40.0 s)")
    assert drive.until_dial() == 40.0


@pytest.mark.parametrize("fixed", [True, False])
def test_a_start_with_a_backoff_ends_at_once_where_a_fixed_url_is_refused(fixed: bool) -> None:
    drive = Drive(first_connection=Backoff())
    drive.start()
    drive.session.url_ready(URL, drive.now, fixed=fixed)
    drive.session.dial_failed(ConnectError("no"), drive.now, status=401)
    assert drive.state is (State.STOPPED if fixed else State.WAITING)


def test_a_start_that_still_tries_can_be_stopped_and_has_the_requests_made_meanwhile() -> None:
    drive = Drive(first_connection=Backoff(), auto_reconnect=False)
    drive.start()
    refused(drive)
    drive.session.join_group("g", drive.now)
    drive.session.stop(drive.now)
    assert [type(event) for event in drive.events()] == [ConnectionFailed, Acked, Stopped]
    drive.start()
    refused(drive)
    joined = drive.session.join_group("g", drive.now)
    drive.until_dial()
    drive.open()
    drive.says(hello())
    assert [message["ackId"] for message in drive.sent()] == [joined]


def test_groups_joined_by_the_client_are_joined_again_on_a_new_connection() -> None:
    drive = Drive()
    drive.connect()
    join(drive, "a", "b", "c")
    drive.says(ok(leave(drive, "b")))
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    sent = drive.sent()
    assert [(message["type"], message["group"]) for message in sent] == [("joinGroup", "a"), ("joinGroup", "c")]
    assert drive.session.groups == {"a", "c"}
    drive.events()
    drive.says(*(ok(message["ackId"]) for message in sent))
    assert drive.events() == []


def leave(drive: Drive, group: str) -> int:
    ack_id = drive.session.leave_group(group, drive.now)
    drive.sent()
    return ack_id


def test_groups_are_joined_again_before_anything_else_is_sent() -> None:
    drive = Drive()
    drive.connect()
    join(drive, "a")
    drive.lose()
    drive.session.send_to_group("a", "waits", drive.now)
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert [message["type"] for message in drive.sent()] == ["joinGroup", "sendToGroup"]


def test_groups_are_left_alone_without_auto_rejoin_groups() -> None:
    drive = Drive(auto_rejoin_groups=False)
    drive.connect()
    join(drive, "a")
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert drive.sent() == []
    assert drive.session.groups == frozenset()


def test_each_group_that_can_not_be_joined_again_is_told() -> None:
    drive = Drive()
    drive.connect()
    join(drive, "a", "b", "c")
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    keys = {message["group"]: message["ackId"] for message in drive.sent()}
    drive.events()
    no = {"name": "Forbidden", "message": "no permission"}
    for group in "ac":
        drive.says({"type": "ack", "ackId": keys[group], "success": False, "error": no})
    drive.says(ok(keys["b"]))
    failed = drive.events()
    assert [(type(event), event.group, event.error.name) for event in failed] == [
        (RejoinGroupFailed, "a", "Forbidden"),
        (RejoinGroupFailed, "c", "Forbidden"),
    ]
    assert drive.session.groups == {"b"}


def test_a_rejoin_without_an_answer_is_told_and_made_again_on_the_next_connection() -> None:
    drive = Drive()
    drive.connect()
    join(drive, "a")
    drive.lose()
    drive.connect("c2")
    drive.events()
    for _ in range(4):  # once, and three repeats
        drive.says({"type": "pong"})
        drive.advance(30)
    [failed] = drive.events(RejoinGroupFailed)
    assert (failed.group, failed.error.name, failed.error.outcome) == ("a", "Timeout", "unknown")
    assert drive.session.groups == {"a"}
    drive.sent()
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c3"))
    assert [message["group"] for message in drive.sent()] == ["a"]


def test_a_rejoin_that_may_still_succeed_is_repeated() -> None:
    drive = Drive()
    drive.connect()
    join(drive, "a")
    drive.lose()
    drive.connect("c2")
    ack_id = OWN
    no = {"name": "InternalServerError", "message": "later"}
    drive.says({"type": "ack", "ackId": ack_id, "success": False, "error": no})
    drive.advance(1)
    assert drive.sent() == [{"type": "joinGroup", "group": "a", "ackId": ack_id}]
    drive.says(ok(ack_id))
    assert drive.events() == []


def test_a_rejoin_cut_short_by_another_loss_is_made_again() -> None:
    drive = Drive()
    drive.connect()
    join(drive, "a")
    drive.lose()
    drive.connect("c2")
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c3"))
    assert [message["group"] for message in drive.sent()] == ["a"]
    assert drive.events(RejoinGroupFailed) == []


def test_rejoins_do_not_count_among_the_pending_requests() -> None:
    drive = Drive(max_pending_requests=1)
    drive.connect()
    join(drive, "a", "b", "c")
    drive.lose()
    drive.connect("c2")
    drive.session.send_to_group("a", "there is room", drive.now)


def test_the_limit_of_pending_requests_is_exact_whatever_becomes_of_rejoins() -> None:
    drive = Drive(max_pending_requests=2)
    drive.connect()
    join(drive, "a", "b", "c")
    drive.lose()
    drive.connect("c2")
    for answer in (None, ok(4), ok(5), ok(6)):
        if answer is not None:
            drive.says(answer)
        asked = [drive.session.send_event("e", n, drive.now) for n in range(2)]
        with pytest.raises(TooManyRequests, match="2 requests wait"):
            drive.session.send_event("e", 3, drive.now)
        drive.sent()
        drive.says(*(ok(ack_id) for ack_id in asked if ack_id is not None))


def test_to_leave_one_group_takes_nothing_else_back() -> None:
    drive = Drive()
    drive.connect()
    join(drive, "a", "b")
    drive.lose()
    drive.connect("c2")
    published = drive.session.send_to_group("a", "still", drive.now)
    left = leave(drive, "a")
    no = {"name": "InternalServerError", "message": "later"}
    drive.says({"type": "ack", "ackId": OWN + 1, "success": False, "error": no})  # the rejoin of b
    drive.says({"type": "ack", "ackId": published, "success": False, "error": no})
    drive.says(ok(left))
    drive.advance(1)
    assert [(message["type"], message["group"]) for message in drive.sent()] == [
        ("joinGroup", "b"),
        ("sendToGroup", "a"),
    ]


@pytest.mark.parametrize("leave_when", ["waiting", "connected"])
def test_a_group_that_was_left_is_not_joined_again_by_a_late_repeat(leave_when: str) -> None:
    drive = Drive()
    drive.connect()
    join(drive, "a")
    drive.lose()
    if leave_when == "waiting":
        leave_id = drive.session.leave_group("a", drive.now)
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    rejoins = [message["ackId"] for message in drive.sent() if message["type"] == "joinGroup"]
    for ack_id in rejoins:
        no = {"name": "InternalServerError", "message": "later"}
        drive.says({"type": "ack", "ackId": ack_id, "success": False, "error": no})
    if leave_when == "connected":
        leave_id = drive.session.leave_group("a", drive.now)
        drive.sent()
    drive.says(ok(leave_id))
    drive.advance(1)
    assert drive.sent() == []
    assert drive.session.groups == frozenset()


def test_groups_are_forgotten_by_stop() -> None:
    drive = Drive()
    drive.connect()
    join(drive, "a")
    drive.session.stop(drive.now)
    drive.drop(1000)
    drive.start()
    drive.open()
    drive.says(hello("c2"))
    assert drive.sent() == []


def test_a_service_that_answers_before_it_was_asked_is_ignored() -> None:
    drive = Drive()
    drive.start()
    drive.says(hello())  # no transport is open
    assert (drive.state, drive.events()) == (State.CONNECTING, [])


@pytest.mark.parametrize("state", ["stopped", "connecting", "connected", "recovering", "waiting", "stopping"])
def test_repeated_and_stale_calls_do_nothing(state: str) -> None:
    drive = in_state(state)
    before = (drive.state, drive.session.dial, drive.session.deadline)
    session = drive.session
    if state != "connecting":
        session.url_ready("wss://other.test", drive.now)
        session.url_failed(OSError("late"), drive.now)
    if state != "recovering":
        session.connected(drive.now)
        session.dial_failed(OSError("late"), drive.now)
    if state in ("stopped", "waiting", "connecting"):
        session.receive_message('{"type":"pong"}', drive.now)
        session.receive_binary(b"", drive.now)
        session.transport_broken(1002, "late", drive.now)
        session.disconnected(drive.now)
    session.heard(drive.now)
    session.wake(drive.now)
    assert (drive.state, drive.session.dial, drive.session.deadline) == before
    assert drive.events() == []


def test_late_answers_to_a_given_up_request_for_a_url_reach_nobody() -> None:
    drive = Drive()
    drive.connect()
    drive.lose()
    drive.until_dial()
    drive.session.url_failed(OSError("no"), drive.now)
    drive.session.url_failed(OSError("no"), drive.now)
    assert drive.state is State.WAITING


def test_messages_without_sequence_ids_are_delivered() -> None:
    drive = Drive(protocol=PLAIN)
    drive.connect(token=None)
    drive.says(news(None, "a"), news(None, "a"))
    assert [event.data for event in drive.events(GroupMessage)] == ["a", "a"]


def test_requests_made_while_connecting_go_out_when_it_is_connected() -> None:
    drive = Drive()
    drive.start()
    first = drive.session.join_group("g", drive.now)
    drive.open()
    second = drive.session.send_event("order", {"id": 7}, drive.now)
    assert drive.sent() == []
    drive.says(hello())
    assert [message["ackId"] for message in drive.sent()] == [first, second]
    drive.says(ok(first), ok(second))
    assert drive.events(Acked) == [Acked(first), Acked(second)]


def test_text_that_others_wrote_is_made_presentable() -> None:
    drive = Drive()
    drive.start()
    drive.open("wss://h/?access_token=TOKEN%20ONE")
    drive.says(hello(token="TOKEN TWO"))
    assert drive.session.presentable("of TOKEN%20ONE\nand TOKEN TWO\x1b") == "of ***\\nand ***\\u001b"
    assert drive.session.presentable("x" * 1000).endswith("... (1000 characters)")


def test_the_error_of_a_start_that_gives_up_has_the_delay_that_the_service_asked_for() -> None:
    drive = Drive(first_connection=Backoff(initial=1.0, jitter=0.0, limit=2))
    drive.start()
    for _ in range(2):
        drive.until_dial()
        drive.session.url_ready(URL, drive.now)
        drive.session.dial_failed(ConnectError("busy", status=503, retry_after=7.0), drive.now, status=503)
    [stopped] = drive.events(Stopped)
    assert isinstance(stopped.error, ConnectError)
    assert (stopped.error.status, stopped.error.retry_after) == (503, 7.0)


def test_the_message_of_a_close_may_come_before_any_other() -> None:
    drive = Drive()
    drive.start()
    drive.open()
    drive.says({"type": "system", "event": "disconnected", "message": "too many"})
    assert drive.state is State.CONNECTING
    drive.drop(1008, "policy")
    assert drive.state is not State.CONNECTING
