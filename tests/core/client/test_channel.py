"""Channel: calls of a transport of messages, in any order and late, and what they come to."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import frames
from tests.helpers.driving import URL, Drive, encoded, hello, news

from limpet import Channel, Close, Connected, InvalidType, InvalidValue, Link, Recovering, Session, State, Stopped
from limpet_core.text import one_line


def opened() -> tuple[Drive, Channel]:
    drive = Drive()
    drive.start()
    drive.session.url_ready(URL, drive.now)
    channel = Channel(drive.session, drive.dial)
    channel.opened(drive.now)
    channel.message(encoded(hello()), drive.now)
    assert drive.events(Connected)
    return drive, channel


def test_a_life_from_the_handshake_to_the_close() -> None:
    drive, channel = opened()
    assert channel.to_send() == []
    drive.session.send_to_group("g", "x", drive.now)
    (message,) = channel.to_send()
    assert isinstance(message, str)
    assert '"group":"g"' in message
    channel.message(encoded(news(1)).decode(), drive.now)
    assert [event.data for event in drive.events()] == ["news"]
    assert channel.close is None
    drive.session.stop(drive.now)
    assert channel.to_send() == ['{"type":"sequenceAck","sequenceId":1}']
    assert channel.close == Close(1000)
    channel.closed(drive.now, code=1000)
    assert drive.state is State.STOPPED
    assert isinstance(drive.events()[-1], Stopped)


def test_late_calls_for_an_old_socket_do_nothing() -> None:
    """The end of a socket is often told twice, and after the next one is open."""
    drive, old = opened()
    old.failed(OSError("reset"), drive.now)
    assert [type(event) for event in drive.events()] == [Recovering]
    new = Channel(drive.session, drive.dial)
    new.opened(drive.now)
    old.closed(drive.now, code=1008, reason="gone")
    old.failed("again", drive.now)
    old.opened(drive.now)
    old.message('{"type":"pong"}', drive.now)
    old.binary(b"", drive.now)
    old.broken(1002, "?", drive.now)
    old.heard(drive.now)
    assert old.to_send() == []
    assert old.close == Close(1001)
    assert drive.state is State.RECOVERING
    assert new.close is None
    new.message('{"type":"pong"}', drive.now)
    assert drive.state is State.CONNECTED


# ---- A send that fails


def test_what_arrived_before_a_send_failed_is_received() -> None:
    """The service's last words: a message, `disconnected`, and a close that allows no recovery."""
    drive, channel = opened()
    drive.session.send_to_group("g", "x", drive.now)
    assert len(channel.to_send()) == 1
    channel.send_failed(OSError("pipe"), drive.now)
    channel.send_failed("again", drive.now)
    drive.session.send_to_group("g", "y", drive.now)
    assert channel.to_send() == []
    assert drive.state is State.CONNECTED
    channel.message(encoded(news(1)), drive.now)
    channel.message(encoded({"type": "system", "event": "disconnected", "message": "enough"}), drive.now)
    channel.closed(drive.now, code=1000)
    message, disconnected, unknown = drive.events()
    assert message.data == "news"
    assert (disconnected.code, disconnected.reason) == (1000, "enough")
    assert unknown.error.outcome == "unknown"


def test_the_end_that_follows_a_failed_send_is_waited_for_a_second() -> None:
    drive, channel = opened()
    channel.send_failed(OSError("pipe"), drive.now)
    drive.advance(0.99)
    assert drive.events() == []
    drive.advance(0.02)
    (recovering,) = drive.events()
    assert (type(recovering), recovering.code, recovering.reason) == (Recovering, 1006, "pipe")
    assert not channel.dial.wanted


def test_a_send_that_failed_on_one_socket_says_nothing_of_the_next() -> None:
    drive, channel = opened()
    drive.session.send_to_group("g", "x", drive.now)
    channel.send_failed("pipe", drive.now)
    channel.closed(drive.now)
    new = Channel(drive.session, drive.dial)
    channel.send_failed("again", drive.now)
    new.opened(drive.now)
    new.message('{"type":"pong"}', drive.now)
    assert [message for message in new.to_send() if '"group":"g"' in str(message)]
    drive.advance(2.0)
    assert drive.state is State.CONNECTED


def test_a_close_that_cannot_be_sent_is_over_after_a_second() -> None:
    drive, channel = opened()
    drive.session.stop(drive.now)
    channel.send_failed("pipe", drive.now)
    drive.advance(1.01)
    assert drive.state is State.STOPPED


def test_a_session_without_an_open_transport_has_no_send_that_could_fail() -> None:
    drive = Drive()
    drive.session.send_failed(drive.now, reason="pipe")
    assert drive.session.deadline == math.inf
    drive.start()
    drive.session.send_failed(drive.now, reason="pipe")
    drive.advance(2.0)
    assert (drive.state, drive.events()) == (State.CONNECTING, [])


def test_before_it_is_open_no_send_can_fail() -> None:
    drive = Drive()
    drive.start()
    drive.session.url_ready(URL, drive.now)
    channel = Channel(drive.session, drive.dial)
    channel.send_failed("pipe", drive.now)
    channel.opened(drive.now)
    drive.advance(2.0)
    assert channel.dial.wanted


def test_before_it_is_open_the_end_is_a_failed_handshake() -> None:
    for call in (
        lambda channel, now: channel.closed(now, code=1006, reason="error"),
        lambda channel, now: channel.failed("refused", now, status=503, retry_after=7.0),
    ):
        drive = Drive()
        drive.start()
        drive.session.url_ready(URL, drive.now)
        channel = Channel(drive.session, drive.dial)
        channel.message("{}", drive.now)  # too early: nothing
        channel.binary(b"", drive.now)
        channel.broken(1002, "?", drive.now)
        channel.heard(drive.now)
        assert channel.to_send() == []
        call(channel, drive.now)
        failed, stopped = drive.events()
        assert failed.error is stopped.error
        assert str(stopped.error).startswith("cannot connect to example.test port 443: ")
    assert stopped.error.status == 503
    assert stopped.error.retry_after == 7.0
    assert str(stopped.error).endswith("refused")


def test_a_replaced_socket_is_closed_so_that_the_connection_can_be_recovered() -> None:
    drive, channel = opened()
    channel.broken(1009, "a message of 99 GB", drive.now)
    assert channel.close == Close(1009, "a message of 99 GB")
    drive.until_dial()
    assert drive.dial.recovery


def test_binary_has_no_place_in_json() -> None:
    drive, channel = opened()
    channel.binary(b"\x00", drive.now)
    assert channel.close is not None
    assert channel.close.code == 1003


def test_signs_of_life_count() -> None:
    drive = Drive(keepalive_timeout=10.0)
    drive.start()
    drive.session.url_ready(URL, drive.now)
    channel = Channel(drive.session, drive.dial)
    channel.opened(drive.now)
    channel.message(encoded(hello()), drive.now)
    for _ in range(5):
        drive.advance(9.0)
        channel.heard(drive.now)
    assert drive.state is State.CONNECTED
    drive.advance(11.0)
    assert drive.state is State.RECOVERING


@pytest.mark.parametrize("make", [Channel, lambda *both: Link(*both, random_bytes=bytes)], ids=["channel", "link"])
def test_what_cannot_be_right_is_refused_in_the_first_line(make: Any) -> None:
    drive, other = Drive(), Drive()
    drive.start()
    other.start()
    other.session.url_ready(URL, other.now)
    not_wanted = "; while session.dial is None, no transport is wanted"
    for session, dial, error, text in (
        (drive.session, None, InvalidType, "dial must be the session's dial, not NoneType" + not_wanted),
        (drive.session, URL, InvalidType, "dial must be the session's dial, not str"),
        (None, other.dial, InvalidType, "session must be a Session, not NoneType"),
        (URL, other.dial, InvalidType, "session must be a Session, not str"),
        (
            *(drive.session, other.dial, InvalidValue),
            "dial belongs to another session: take the dial of the session that is given",
        ),
    ):
        with pytest.raises(error) as refused:
            make(session, dial)
        assert str(refused.value) == text
    assert other.state is State.CONNECTING
    assert drive.events() == other.events() == []


def test_a_channel_may_be_made_before_the_url_is_known() -> None:
    drive = Drive()
    drive.start()
    channel = Channel(drive.session, drive.dial)
    assert repr(channel) == "<Channel to no URL yet, dial 1, not open>"
    with pytest.raises(InvalidValue, match="no URL yet"):
        _ = drive.dial.endpoint
    channel.opened(drive.now)  # which it cannot be
    drive.session.url_ready(URL, drive.now)
    assert drive.dial.endpoint.host == "example.test"
    assert drive.state is State.CONNECTING


def test_reprs_say_where_things_stand_and_no_token() -> None:
    session = Session(random=lambda: 0.5)
    assert repr(session) == "<Session stopped>"
    drive = Drive()
    drive.start()
    assert repr(drive.session) == "<Session connecting, dial 1 to no URL yet not open, deadline 1030.000>"
    drive.session.url_ready(URL, drive.now)
    link = Link(drive.session, drive.dial, random_bytes=bytes)
    assert repr(link) == "<Link to example.test port 443, dial 1, not open>"
    assert "SECRET" not in repr(link) + repr(drive.session) + repr(drive.dial)
    drive.connect("c\n1", token="SECRET")
    drive.session.join_group("g", drive.now)
    drive.says(news(1))
    told = repr(drive.session)
    assert told.startswith("<Session connected, dial 1 to example.test port 443 open, connection ")
    assert ", 1 requests, 1 events, 1 messages to send, deadline 1001.000>" in told
    assert "\n" not in told
    assert "SECRET" not in told
    assert len(drive.session.messages_to_send()) == 1
    assert "to send" not in repr(drive.session)
    drive.advance(drive.options.ack_timeout or 0.0)  # the request is to be repeated, and what came acknowledged
    assert ", 2 messages to send" in repr(drive.session)
    channel = Channel(drive.session, drive.dial)
    channel.opened(drive.now)
    assert repr(channel) == "<Channel to example.test port 443, dial 1, open>"
    drive.lose()
    assert repr(channel) == "<Channel to example.test port 443, dial 1, not wanted>"
    assert repr(link) == "<Link to example.test port 443, dial 1, not wanted>"


def test_a_link_takes_any_bytes_and_text_as_a_reason() -> None:
    results = []
    for form in (bytes, bytearray, memoryview):
        drive = Drive()
        drive.start()
        drive.session.url_ready(URL, drive.now)
        link = Link(drive.session, drive.dial, random_bytes=bytes)
        link.receive_data(form(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"), drive.now)
        results.append(str(drive.events()))
    assert len(set(results)) == 1
    assert "403" in results[0]
    drive = Drive()
    drive.start()
    drive.session.url_ready(URL, drive.now)
    link = Link(drive.session, drive.dial, random_bytes=bytes)
    with pytest.raises(InvalidType, match="data must be bytes, not str"):
        link.receive_data("HTTP/1.1", drive.now)  # type: ignore[arg-type]
    link.failed("the cable is gone", drive.now)
    _failed, stopped = drive.events()
    assert "the cable is gone" in str(stopped.error)


@pytest.mark.parametrize("is_open", [True, False])
def test_a_library_may_know_neither_code_nor_reason_of_the_end(is_open: bool) -> None:
    told = []
    for report in ({}, {"code": None, "reason": None}):
        drive = Drive()
        drive.start()
        drive.session.url_ready(URL, drive.now)
        channel = Channel(drive.session, drive.dial)
        if is_open:
            channel.opened(drive.now)
            channel.message(encoded(hello()), drive.now)
            drive.events()
        for wrong in ({"code": "1006"}, {"reason": b"bye"}):
            with pytest.raises(InvalidType, match=r"code must be a close code|reason must be a str"):
                channel.closed(drive.now, **wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidType, match="reason must be a str, not NoneType"):
            drive.session.transport_broken(1002, None, drive.now)  # type: ignore[arg-type]
        with pytest.raises(InvalidType, match="code must be a close code such as 1006, not NoneType"):
            drive.session.disconnected(drive.now, code=None)  # type: ignore[arg-type]
        assert drive.events() == []
        channel.closed(drive.now, **report)
        told.append(repr(drive.events()))
    assert told[0] == told[1]
    assert "1006" in told[0]


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text today")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "TimeoutError"),
        (OSError("reset"), "reset"),
        (KeyError("port"), "KeyError: 'port'"),
        (Unreadable(), "Unreadable"),
        ("text", "text"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
@pytest.mark.parametrize("make", [Channel, lambda *both: Link(*both, random_bytes=bytes)], ids=["channel", "link"])
def test_a_failure_has_a_reason_before_and_after_the_handshake(make: Any, error: Any, reason: str) -> None:
    for is_open in (False, True):
        drive = Drive()
        drive.start()
        drive.session.url_ready(URL, drive.now)
        transport = make(drive.session, drive.dial)
        if is_open:
            if isinstance(transport, Channel):
                transport.opened(drive.now)
            else:
                transport.receive_data(frames.accept(transport.data_to_send()[0]), drive.now)
            drive.says(hello())
            drive.events()
        transport.failed(error, drive.now)
        event = drive.events()[0]
        told = event.reason if isinstance(event, Recovering) else str(event.error)
        assert told == reason if is_open else told.endswith(f": {reason}")


CALLS = ("opened", "message", "binary", "heard", "broken", "closed", "failed", "to_send", "close")


@given(st.lists(st.tuples(st.sampled_from(CALLS), st.booleans()), max_size=30))
def test_in_any_order_an_old_channel_changes_nothing(calls: list[tuple[str, bool]]) -> None:
    def seen(late: bool) -> tuple[Any, ...]:
        drive, old = opened()
        drive.drop()
        new = Channel(drive.session, drive.dial)
        for name, is_old in calls:
            if is_old and not late:
                continue
            channel = old if is_old else new
            match name:
                case "message":
                    channel.message('{"type":"pong"}', drive.now)
                case "binary":
                    channel.binary(b"x", drive.now)
                case "broken":
                    channel.broken(1002, "?", drive.now)
                case "failed":
                    channel.failed("x", drive.now)
                case "to_send":
                    channel.to_send()
                case "close":
                    assert channel.close is None or channel is old or not channel.dial.wanted
                case _:
                    getattr(channel, name)(drive.now)
        session = drive.session
        return session.state, session.deadline, repr(session.events()), session.messages_to_send(), repr(session.dial)

    assert seen(late=True) == seen(late=False)


@pytest.mark.parametrize(("recovery", "code"), [(False, 1000), (True, 1001)])
def test_a_socket_that_opens_too_late_is_closed_so_that_only_what_can_be_recovered_is_kept(
    recovery: bool, code: int
) -> None:
    drive = Drive()
    if recovery:
        drive.connect()
        drive.drop()
    else:
        drive.start()
        drive.session.url_ready(URL, drive.now)
    channel = Channel(drive.session, drive.dial)
    if recovery:
        drive.session.dial_failed(OSError("no"), drive.now)
    else:
        drive.session.stop(drive.now)
    channel.opened(drive.now)
    assert channel.close == Close(code)


def test_the_repr_of_a_session_counts_repeats_and_shortens_ids() -> None:
    drive = Drive()
    drive.connect("c" * 200)
    assert repr(drive.session).endswith(f", connection {one_line('c' * 200, 100)!r}>")
    drive.session.join_group("g", drive.now)
    drive.session.join_group("h", drive.now)
    drive.sent()
    drive.drop()
    drive.until_dial()
    drive.open()
    drive.says({"type": "pong"})
    assert ", 3 messages to send" in repr(drive.session), "a ping is one of them"
