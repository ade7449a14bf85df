"""The application's headers for the handshake: what is sent, what is refused, and what no log shows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.driving import URL, Drive

from limpet import Backoff, ConnectError, InvalidType, InvalidValue, Link, Session, Stopped
from limpet_core.client.headers import check_headers


def handshake(headers: Any, defaults: Any = ()) -> list[str]:
    """The lines of the request, but the first one and the WebSocket's own."""
    session = Session(random=lambda: 0.5, headers=headers)
    session.start(0.0)
    session.url_ready(URL, 0.0)
    assert session.dial is not None
    (request,) = Link(session, session.dial, random_bytes=bytes, headers=defaults).data_to_send()
    own = ("host", "upgrade", "connection", "sec-websocket")
    return [line for line in request.decode().split("\r\n")[1:-2] if not line.lower().startswith(own)]


@pytest.mark.parametrize("form", [dict, list, tuple, iter])
def test_headers_are_sent_as_they_are(form: Any) -> None:
    pairs = [("X-Gateway", "a b\tc"), ("Authorization", "Bearer abc"), ("x-empty", "")]
    assert handshake(form(pairs)) == ["X-Gateway: a b\tc", "Authorization: Bearer abc", "x-empty: "]


def test_a_header_may_be_given_twice_and_replaces_the_adapters_own() -> None:
    defaults = [("User-Agent", "limpet/1"), ("X-Own", "1")]
    given = [("user-agent", "mine"), ("Cookie", "a=1"), ("Cookie", "b=2")]
    assert handshake(given, defaults) == ["X-Own: 1", "user-agent: mine", "Cookie: a=1", "Cookie: b=2"]
    assert handshake(None, defaults) == ["User-Agent: limpet/1", "X-Own: 1"]


def test_recoveries_and_later_connections_send_them_too() -> None:
    drive = Drive()
    drive.session = Session(drive.options, random=lambda: 0.5, headers={"X-Key": "SECRET-1234"})
    dials = [drive.connect()]
    drive.drop()
    dials.append(drive.dial)
    drive.recover()
    drive.lose()
    drive.until_dial()
    dials.append(drive.dial)
    assert [dial.headers for dial in dials] == [(("X-Key", "SECRET-1234"),)] * 3
    assert "SECRET" not in repr(dials)
    assert "X-Key" in repr(dials)


@pytest.mark.parametrize(
    ("headers", "kind", "message"),
    [
        (5, InvalidType, "headers must be a dict or pairs of name and value, not int"),
        ("X: SECRET", InvalidType, "not str"),
        (b"X: SECRET", InvalidType, "not bytes"),
        (["X: SECRET"], InvalidType, "pairs of name and value"),
        ([("X", "SECRET", "y")], InvalidType, "pairs of name and value"),
        ({"X": b"SECRET"}, InvalidType, "type str"),
        ({1: "SECRET"}, InvalidType, "type str"),
        ({"": "SECRET"}, InvalidValue, "a name that cannot be one"),
        ({"X Y": "SECRET"}, InvalidValue, "a name that cannot be one: 'X Y'"),
        ({"X:": "SECRET"}, InvalidValue, "a name that cannot be one"),
        ({"X\r\n": "SECRET"}, InvalidValue, "a name that cannot be one"),
        ({"X\n": "SECRET"}, InvalidValue, "a name that cannot be one"),
        ({"Ä": "SECRET"}, InvalidValue, "a name that cannot be one"),
        ({"X": "SECRET\r\nY: z"}, InvalidValue, "a value for X that cannot be sent"),
        ({"X": "SECRET\n"}, InvalidValue, "a value for X that cannot be sent"),
        ({"X": "SECRET\x00"}, InvalidValue, "a value for X that cannot be sent"),
        ({"X": " SECRET"}, InvalidValue, "a value for X that cannot be sent"),
        ({"X": "SECRET "}, InvalidValue, "a value for X that cannot be sent"),
        ({"X": "SECRETé"}, InvalidValue, "a value for X that cannot be sent"),
        *(
            ({name: "SECRET"}, InvalidValue, f"headers must not have {name}: the handshake sets it")
            for name in ("Host", "CONNECTION", "Upgrade", "Sec-WebSocket-Key", "sec-websocket-protocol", "Te")
        ),
        *(
            ({name: "SECRET"}, InvalidValue, f"headers must not have {name}: the handshake sets it")
            for name in ("Content-Length", "Transfer-Encoding", "Trailer", "Expect", "Proxy-Authorization")
        ),
    ],
)
def test_headers_that_cannot_be_sent_are_refused_without_their_value(
    headers: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message) as caught:
        Session(random=lambda: 0.5, headers=headers)
    assert "SECRET" not in repr(caught.value)


@given(name=st.text(max_size=5), value=st.text(max_size=8))
def test_a_header_is_sent_in_one_line_or_refused(name: str, value: str) -> None:
    try:
        check_headers([(name, value)])
    except InvalidValue:
        return
    assert handshake([(name, value)]) == [f"{name}: {value}"]


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("Authorization", "Bearer QWERTY-123", "QWERTY-123"),
        ("Ocp-Apim-Subscription-Key", "QWERTY-123", "QWERTY-123"),
        ("Cookie", "sid=QWERTY-123", "QWERTY-123"),
        ("X-Token", "QWERTY-123", "QWERTY-123"),
    ],
)
def test_a_credential_that_the_peer_sends_back_is_hidden(name: str, value: str, secret: str) -> None:
    drive = Drive(reconnect=Backoff(limit=1))
    drive.session = Session(drive.options, random=lambda: 0.5, headers=[(name, value), ("X-Region", "north")])
    for number in range(3):  # later tokens do not displace it
        drive.connect(f"c{number}", token=f"token number {number}")
        drive.lose()
    drive.until_dial()
    drive.session.url_ready(URL, drive.now)
    drive.session.dial_failed(ConnectError(f"no {secret} and {value} in the north"), drive.now)
    (stopped,) = drive.events(Stopped)
    assert "QWERTY" not in str(stopped.error)
    assert "in the north" in str(stopped.error)
