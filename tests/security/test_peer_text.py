"""Text of the peer in logs, errors and events: one short line wherever it comes in, and no token in it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from simulation.inspect import put_back
from tests.helpers import frames
from tests.helpers.driving import Drive, hello, ok, refused
from tests.helpers.overheard import BODIES, CLOSE_REASONS, POISON, Overheard, assert_fit

from limpet import (
    ConnectError,
    Disconnected,
    Link,
    RejoinGroupFailed,
    SendError,
    State,
    Stopped,
    Tunnel,
    parse_proxy,
    parse_url,
)


@pytest.fixture(params=POISON)
def poison(request: pytest.FixtureRequest) -> str:
    return POISON[request.param]


# ---- The session, whatever carries its messages


def close_of_a_connection_to_recover(drive: Drive, text: str) -> None:
    drive.connect()
    drive.drop(1006, text)


def close_of_a_connection_for_good(drive: Drive, text: str) -> None:
    drive.connect()
    drive.drop(1008, text)


def close_before_it_stands(drive: Drive, text: str) -> None:
    drive.start()
    drive.open()
    drive.drop(1008, text)


def close_of_the_last_attempt(drive: Drive, text: str) -> None:
    drive.connect()
    drive.drop(1008, text)
    for _ in range(4):
        if drive.state is not State.STOPPED:
            drive.until_dial()
            drive.session.url_failed(OSError(text), drive.now)


def farewell(drive: Drive, text: str) -> None:
    drive.connect()
    drive.says({"type": "system", "event": "disconnected", "message": text})
    drive.drop(1000)


def broken_transport(drive: Drive, text: str) -> None:
    drive.connect()
    drive.session.transport_broken(1002, text, drive.now)
    assert drive.session.dial is not None


def failed_dial(drive: Drive, text: str) -> None:
    drive.start()
    drive.session.url_ready("wss://h/?access_token=SECRET", drive.now)
    drive.session.dial_failed(OSError(text), drive.now)


def failed_dial_with_an_error_of_ours(drive: Drive, text: str) -> None:
    drive.start()
    drive.session.url_ready("wss://h/?access_token=SECRET", drive.now)
    drive.session.dial_failed(ConnectError(text), drive.now, status=500)


def no_url(drive: Drive, text: str) -> None:
    drive.start()
    drive.session.url_failed(ValueError(text), drive.now)


def no_url_for_want_of_a_key(drive: Drive, text: str) -> None:
    drive.start()
    drive.session.url_failed(KeyError(text), drive.now)


def explanation(drive: Drive, text: str) -> None:
    drive.connect()
    key = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(refused(key, "Forbidden", text))


def name_of_an_error(drive: Drive, text: str) -> None:
    drive.connect()
    key = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(refused(key, text, "no"))


def refused_rejoin(drive: Drive, text: str) -> None:
    drive.connect()
    key = drive.session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(key))
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    (rejoin,) = drive.sent()
    drive.says(refused(rejoin["ackId"], text, text))
    events = drive.events()
    assert any(isinstance(event, RejoinGroupFailed) for event in events)
    put_back(drive.session, events)


def no_json(drive: Drive, text: str) -> None:
    drive.connect()
    drive.says(text)


def no_json_first(drive: Drive, text: str) -> None:
    drive.start()
    drive.open()
    drive.says(text)


def json_cut_short(drive: Drive, text: str) -> None:
    drive.connect()
    drive.says('{"type":"message","data":"' + text)


def saying(make: Callable[[str], Any]) -> Callable[[Drive, str], None]:
    def door(drive: Drive, text: str) -> None:
        drive.connect()
        drive.says(make(text))

    return door


def connection_id(drive: Drive, text: str) -> None:
    drive.connect(text[:500])
    drive.drop(1006, text)


SESSION: dict[str, Callable[[Drive, str], None]] = {
    "close, to recover": close_of_a_connection_to_recover,
    "close, for good": close_of_a_connection_for_good,
    "close, before it stands": close_before_it_stands,
    "close, the last attempt": close_of_the_last_attempt,
    "disconnected message": farewell,
    "broken transport": broken_transport,
    "failed dial": failed_dial,
    "failed dial, ConnectError": failed_dial_with_an_error_of_ours,
    "no URL": no_url,
    "no URL, KeyError": no_url_for_want_of_a_key,
    "ack, message": explanation,
    "ack, name": name_of_an_error,
    "ack of a rejoin": refused_rejoin,
    "no JSON": no_json,
    "no JSON, first": no_json_first,
    "JSON cut short": json_cut_short,
    "connection id": connection_id,
    "unknown type": saying(lambda text: {"type": text}),
    "unknown from": saying(lambda text: {"type": "message", "from": text, "sequenceId": 1}),
    "unknown event": saying(lambda text: {"type": "system", "event": text}),
    "unknown data type": saying(lambda text: {"type": "message", "from": "server", "dataType": text, "data": 1}),
    "a field of the wrong type": saying(lambda text: {"type": "message", "from": "group", "group": {text: text}}),
    "a key": saying(lambda text: {"type": "message", "from": "server", "data": 1, "metadata": {text: 5}}),
    "no ack id": saying(lambda text: {"type": "ack", "ackId": text, "success": text}),
    "a message": saying(lambda text: {"type": "message", "from": "server", "dataType": "text", "data": text}),
    "a message, not escaped": saying(
        lambda text: json.dumps(
            {"type": "message", "from": "server", "dataType": "text", "data": text}, ensure_ascii=False
        )
    ),
}


@pytest.mark.parametrize("door", SESSION)
def test_text_of_the_service_is_one_short_line(door: str, poison: str) -> None:
    drive = Drive(auto_reconnect=True)
    with Overheard() as overheard:
        SESSION[door](drive, poison)
        drive.advance(1.0)
        events = drive.events()
    assert_fit(overheard.lines, events)
    assert overheard.lines
    if drive.session.dial is not None and drive.dial.close is not None:
        assert_fit([drive.dial.close.reason])


@pytest.mark.parametrize("door", ["close, for good", "failed dial", "ack, message", "disconnected message"])
def test_what_can_be_read_of_it_is_shown(door: str, poison: str) -> None:
    drive = Drive()
    with Overheard() as overheard:
        SESSION[door](drive, poison)
        events = drive.events()
    errors = [getattr(event, "error", None) for event in events]
    shown = [*overheard.lines, *map(str, events), *map(str, errors)]
    assert any("forged" in text for text in shown)
    if len(poison) > 1000:
        assert any(f"({len(poison)} characters)" in text for text in shown)


def test_a_reason_is_kept_as_it_is_but_not_megabytes_of_it() -> None:
    drive = Drive()
    drive.connect()
    drive.drop(1008, POISON["line breaks"])
    assert drive.events(Disconnected)[0].reason == POISON["line breaks"]
    drive.connect()
    drive.drop(1008, POISON["2 MB"])
    (event,) = drive.events(Disconnected)
    assert event.reason.startswith("forged xxx")
    assert len(event.reason) == 1000


def test_a_send_error_has_its_parts_as_they_are_and_a_text_that_is_safe(poison: str) -> None:
    error = SendError(1, poison, poison, "rejected")
    assert_fit([], errors=[error])
    assert error.name[:6] == error.message[:6] == poison[:6]
    assert len(error.message) <= 1000


def test_what_is_told_to_the_service_about_its_fault_can_be_sent() -> None:
    drive = Drive()
    drive.connect()
    dial = drive.dial
    drive.session.transport_broken(1002, "half of a pair: \ud83d", drive.now)
    assert dial.close is not None
    assert dial.close.reason == "half of a pair: \\ud83d"


def test_a_host_that_python_refuses_is_not_quoted_with_the_password() -> None:
    with pytest.raises(ValueError, match="host has characters that mean others") as caught:
        parse_url("wss://ann:SECRET@h\u2100/")
    assert "SECRET" not in str(caught.value)


# ---- Over bytes


def over_link(*answers: Callable[[bytes], bytes]) -> list[Any]:
    """The events of a session whose service gives these answers to the handshake."""
    drive = Drive(auto_reconnect=False)
    drive.start()
    drive.session.url_ready("ws://h/?access_token=SECRET", drive.now)
    link = Link(drive.session, drive.dial, random_bytes=bytes)
    handshake = b"".join(link.data_to_send())
    for answer in answers:
        link.receive_data(answer(handshake), drive.now)
    link.receive_data(b"", drive.now)
    drive.advance(100)
    return drive.events()


@pytest.mark.parametrize("name", POISON)
@pytest.mark.parametrize("code", [1000, 1001, 1008, 4000])
def test_a_close_frame_over_a_link(name: str, code: int) -> None:
    with Overheard() as overheard:
        events = over_link(
            frames.accept,
            lambda _: frames.text(json.dumps(hello())) + frames.close(code, CLOSE_REASONS[name]),
        )
    assert_fit(overheard.lines, events)
    assert any(getattr(event, "reason", "")[:6] == "forged" for event in events)


@pytest.mark.parametrize("name", POISON)
@pytest.mark.parametrize("head", [b"Content-Length: %d\r\n\r\n", b"X: %d\r\n\r\n"])
def test_the_body_of_a_refusal_over_a_link(name: str, head: bytes) -> None:
    body = BODIES[name]
    with Overheard() as overheard:
        events = over_link(lambda _: b"HTTP/1.1 503 " + body[:20] + b"\r\n" + head % len(body) + body)
        events += over_link(lambda _: b"HTTP/1.1 503 No\r\n" + head % len(body) + body)
    assert_fit(overheard.lines, events)
    assert any("forged" in str(event.error) for event in events if isinstance(event, Stopped))


@pytest.mark.parametrize("name", POISON)
@pytest.mark.parametrize(
    "head", [b"%b", b"HTTP/1.1 101 %b\r\n\r\n", b"HTTP/1.1 101 Ok\r\n%b: x\r\n\r\n", b"HTTP/1.1 %b\r\n\r\n"]
)
def test_what_is_no_answer_to_a_handshake(name: str, head: bytes) -> None:
    with Overheard() as overheard:
        events = over_link(lambda _: head % BODIES[name])
    assert any(isinstance(event, Stopped) and event.error for event in events)
    assert_fit(overheard.lines, events)


# ---- Proxies


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 \x9b31m\x85 forged\r\n\r\n",
        b"HTTP/1.1 502 " + b"x" * 16_000 + b"\r\n\r\n",
        b"HTTP/1.1 502 " + b"\x9b" * 16_000 + b"\r\n\r\n",
        b"\x1b[2J forged\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\x1b[2J: " + b"y" * 16_000 + b"\r\n\r\n",
        b"x" * 20_000,
    ],
)
def test_what_a_proxy_says(answer: bytes) -> None:
    tunnel = Tunnel(parse_proxy("http://ann:PASSWORD@p:1"), "h", 443)
    with pytest.raises(ConnectError) as caught:
        tunnel.receive_data(answer)
    assert caught.value.__cause__ is None
    assert_fit([], errors=[caught.value, tunnel.lost(answer.decode("latin-1"))])


@pytest.mark.parametrize("echo", [b"PASSWORD", b"Proxy-Authorization: Basic YW5uOlBBU1NXT1JE", b"YW5uOlBBU1NXT1JE"])
def test_a_proxy_that_quotes_the_password(echo: bytes) -> None:
    for answer in (b"HTTP/1.1 403 no " + echo + b"\r\n\r\n", echo + b" is no HTTP\r\n\r\n"):
        tunnel = Tunnel(parse_proxy("http://ann:PASSWORD@p:1"), "h", 443)
        with pytest.raises(ConnectError) as caught:
            tunnel.receive_data(answer)
        assert "PASSWORD" not in str(caught.value)
        assert "YW5uOlBBU1NXT1JE" not in str(caught.value)
