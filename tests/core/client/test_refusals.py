"""A refused handshake: its reason, where it redirects to, and the delay that it asks for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.driving import URL, Drive, hello

from limpet import Backoff, ConnectError, Link, State, Stopped
from limpet_core.client.refusals import refused

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def drive(**options: Any) -> Drive:
    """A session that makes new connections one second after a failure."""
    return Drive(reconnect=Backoff(initial=1.0, maximum=1.0, jitter=0.0), **options)


# ---- The delay


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("7", 7.0),
        (" 120 ", 120.0),
        ("999999999999999", 999999999999999.0),
        ("Sun, 06 Nov 1994 08:50:07 GMT", 30.0),
        ("Sunday, 06-Nov-94 08:50:07 GMT", 30.0),
        ("Sun Nov  6 08:50:07 1994", 30.0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),  # over already
        ("", None),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
        ("18446744073709551615", 1e15),  # for ever, in some programs
        ("1" * 400, 1e15),
        ("soon", None),
        ("Sun, 06 Foo 1994 08:50:07 GMT", None),
        ("Sun, 06 Nov 99999999 08:50:07 GMT", None),
        ("Sun, 06 Nov 1994 08:50:07" + " " * 40 + "GMT", None),  # longer than any date
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_delay_in_seconds_or_until_a_date_of_the_services_own_clock(
    status: int, value: str, seconds: float | None
) -> None:
    error = refused(status, b"", [("DATE", DATE), ("Retry-After", value), ("retry-after", "5")])
    assert error.retry_after == seconds


def test_without_a_date_of_its_own_an_answer_can_not_name_one() -> None:
    assert refused(503, b"", [("Retry-After", DATE)]).retry_after is None


@pytest.mark.parametrize("status", [301, 401, 403, 404, 500, 502])
def test_other_statuses_ask_for_no_delay(status: int) -> None:
    assert refused(status, b"", [("Retry-After", "7")]).retry_after is None


def give_up(drive: Drive, **named: Any) -> None:
    """Let the attempt of a connected client fail, which has to make a new connection."""
    drive.until_dial()
    drive.session.url_ready(URL, drive.now)
    drive.session.dial_failed(ConnectError("no", status=503), drive.now, **named)


def test_the_next_attempt_waits_as_long_as_it_was_asked_to_and_for_its_backoff() -> None:
    client = drive()
    client.connect()
    client.lose()
    give_up(client, status=503, retry_after=20.0)
    assert client.until_dial() == 21.0
    client.session.url_ready(URL, client.now)
    client.session.dial_failed(ConnectError("no", retry_after=5), client.now)
    assert client.until_dial() == 6.0
    client.session.url_failed(ConnectError("no", retry_after=4), client.now)  # by the application's function
    assert client.until_dial() == 5.0
    client.session.url_failed(ConnectError("no"), client.now)
    assert client.until_dial() == 1.0


@pytest.mark.parametrize(("most", "waits"), [(120.0, 121.0), (3.0, 4.0), (0.0, 1.0)])
def test_the_delay_has_a_bound(most: float, waits: float) -> None:
    client = drive(max_retry_after=most)
    client.connect()
    client.lose()
    give_up(client, retry_after=1e9)
    assert client.until_dial() == waits


@pytest.mark.parametrize("delay", [10**400, 1.7e308])
def test_so_has_one_that_is_no_float_or_almost_none(delay: float) -> None:
    """An application's function may have made an int of what its own service said."""
    client = drive()
    client.connect()
    client.lose()
    give_up(client, retry_after=delay)
    assert client.until_dial() == 121.0
    client.session.url_failed(ConnectError("no", retry_after=delay), client.now)
    assert client.until_dial() == 121.0


@pytest.mark.parametrize("value", [0, -5.0, float("nan"), float("inf"), True, "7", None])
def test_a_delay_that_is_none_is_ignored(value: Any) -> None:
    client = drive()
    client.connect()
    client.lose()
    give_up(client, retry_after=value)
    assert client.until_dial() == 1.0


def test_attempts_to_recover_wait_too() -> None:
    client = drive(recovery_interval=1.0)
    client.connect()
    client.drop()
    client.session.dial_failed(ConnectError("no"), client.now, retry_after=10.0)
    assert client.until_dial() == 10.0
    assert client.dial.recovery
    client.session.connected(client.now)
    client.says({"type": "pong"})
    client.drop()
    assert client.until_dial() == 1.125  # the delay is over, and the usual interval counts


def test_an_early_attempt_after_progress_needs_no_delay_that_is_over() -> None:
    client = drive(recovery_interval=1.0)
    client.connect()
    client.drop()
    client.session.dial_failed(ConnectError("no"), client.now, retry_after=10.0)
    client.until_dial()
    client.session.connected(client.now)
    client.says({"type": "message", "from": "server", "dataType": "text", "data": "x", "sequenceId": 1})
    client.session.url_failed(ConnectError("no"), client.now)  # stale: nothing happens
    client.drop()
    assert client.dial.recovery


def test_a_delay_beyond_the_recovery_window_counts_for_the_new_connection() -> None:
    client = drive(recovery_timeout=30.0)
    client.connect()
    client.drop()
    client.session.dial_failed(ConnectError("no"), client.now, retry_after=50.0)
    client.advance(30.0)
    assert client.state is State.WAITING
    assert client.until_dial() == 21.0
    assert not client.dial.recovery


def test_a_start_that_fails_tells_the_delay_and_a_new_start_does_not_wait() -> None:
    client = drive()
    client.start()
    client.session.url_ready(URL, client.now)
    client.session.dial_failed(refused(503, b"", [("Retry-After", "9")]), client.now, status=503)
    (stopped,) = client.events(Stopped)
    assert isinstance(stopped.error, ConnectError)
    assert stopped.error.retry_after == 9.0
    client.start()
    assert client.dial.url is None


# ---- The reason


@pytest.mark.parametrize(
    ("body", "kind", "reason"),
    [
        (b"out of tea", "text/plain", "out of tea"),
        (b"out of tea", "", "out of tea"),
        (b'{"error": {"code": "Throttled", "message": "Too many\\n clients"}}', "application/json", "Too many clients"),
        (b'{"code": "Throttled", "message": "Too many"}', "application/json; charset=utf-8", "Too many"),
        (b'{"title": "Busy", "detail": "Come back later"}', "application/problem+json", "Come back later"),
        (b'{"error": "invalid_token", "error_description": "It is too old"}', "", "It is too old"),
        (b'{"error": "invalid_token"}', "", "invalid_token"),
        (b'{"error": {"code": "Throttled"}}', "", "Throttled"),
        (b'"too many"', "application/json", "too many"),
        (b'{"error": {"message": {"error": {"message": "deep"}}}}', "", '{"error": {"message": {"error": ...'),
        (b'{"error": 5}', "", '{"error": 5}'),
        (b"[1, 2]", "", "[1, 2]"),
        (b'{"message": "cut', "application/json", '{"message": "cut'),
        (b'{"message": "\xff"}', "application/json", '{"message": "\ufffd"}'),
        (b"[" * 4000, "application/json", "["),
        (b"<html><h1>503</h1></html>", "text/html", None),
        (b"503 Service Unavailable", "text/html; charset=utf-8", None),
        (b" <!doctype html>", "", None),
        (b"", "text/plain", None),
    ],
)
def test_text_and_json_give_the_reason_and_pages_for_browsers_do_not(
    body: bytes, kind: str, reason: str | None
) -> None:
    text = str(refused(500, body, [("content-type", kind)] if kind else []))
    prefix = "the service refused the connection with HTTP status 500"
    if reason is None:
        assert text == prefix
    else:
        assert text.startswith(f"{prefix}: {reason.removesuffix('...')}")
        assert len(text) < 1100


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_named_without_its_secrets_and_not_followed(status: int) -> None:
    location = "wss://ann:SECRET@else.test/hub?access_token=SECRET\x1b[2J&x=1"
    text = str(refused(status, b"<p>Moved</p>", [("Location", location)]))
    assert text == (
        f"the service refused the connection with HTTP status {status}: "
        "it redirects to wss://***@else.test/hub?access_token=***&x=1 (redirects are not followed)"
    )
    assert str(refused(status, b"moved")).endswith(f"HTTP status {status}: moved")  # no one knows where to
    assert "redirects" not in str(refused(200, b"", [("Location", location)]))


def test_a_location_stays_short_and_in_one_line() -> None:
    text = str(refused(302, b"", [("Location", "https://else.test/\r\n\u202e" + "x" * 100_000)]))
    assert "\\r\\n\\u202e" in text
    assert len(text) < 1200


@given(
    status=st.integers(100, 599),
    body=st.binary(max_size=200) | st.text(alphabet='{}[]":,error message').map(str.encode),
    headers=st.lists(
        st.tuples(
            st.sampled_from(["retry-after", "date", "location", "content-type"]),
            st.text(max_size=80) | st.text(alphabet="0123456789: ,-GMTSunNov", max_size=64),
        )
    ),
)
def test_any_answer_is_a_readable_error(status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
    error = refused(status, body, headers)
    assert f"HTTP status {status}" in str(error)
    assert error.retry_after is None or error.retry_after >= 0


# ---- A body that does not come


def refusing(head: bytes, **options: Any) -> tuple[Drive, Link]:
    client = drive(**options)
    client.start()
    client.session.url_ready(URL, client.now)
    link = Link(client.session, client.dial, random_bytes=bytes)
    link.data_to_send()
    link.receive_data(head, client.now)
    return client, link


def test_a_body_that_does_not_come_costs_two_seconds_and_not_the_status() -> None:
    client, _ = refusing(b"HTTP/1.1 503 No\r\nContent-Length: 9\r\nRetry-After: 7\r\n\r\nout of ")
    client.advance(1.9)
    assert client.state is State.CONNECTING
    client.advance(0.1)
    (stopped,) = client.events(Stopped)
    assert isinstance(stopped.error, ConnectError)
    assert (stopped.error.status, stopped.error.retry_after) == (503, 7.0)
    assert "HTTP status 503" in str(stopped.error)


def test_the_timeout_of_the_attempt_is_not_put_off_by_a_body() -> None:
    client, _ = refusing(b"HTTP/1.1 401 No\r\nContent-Length: 9\r\n\r\n", connect_timeout=0.5)
    client.advance(0.5)
    (stopped,) = client.events(Stopped)
    assert isinstance(stopped.error, ConnectError)
    assert stopped.error.status == 401


def test_a_body_that_comes_in_time_gives_the_reason() -> None:
    client, link = refusing(b"HTTP/1.1 503 No\r\nContent-Length: 10\r\n\r\n")
    client.advance(1.9)
    link.receive_data(b"out of tea", client.now)
    (stopped,) = client.events(Stopped)
    assert "HTTP status 503: out of tea" in str(stopped.error)


def test_a_fixed_url_that_is_refused_is_final_whether_or_not_the_body_comes() -> None:
    client = drive()
    client.connect()
    client.lose()
    client.until_dial()
    client.session.url_ready(URL, client.now, fixed=True)
    client.session.dial_refused(refused(403, b""), client.now)
    client.advance(2.0)
    assert client.state is State.STOPPED


def test_a_refusal_without_an_attempt_is_ignored() -> None:
    client = drive()
    client.session.dial_refused(refused(503, b""), client.now)
    client.start()
    client.session.dial_refused(refused(503, b""), client.now)  # there is no URL yet
    client.open()
    client.session.dial_refused(refused(503, b""), client.now)  # the transport is open
    client.says(hello())
    assert client.state is State.CONNECTED
