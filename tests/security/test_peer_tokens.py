"""Whatever characters a token has and wherever the peer repeats it: it is in no log, error, event or repr."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulation.inspect import inspect
from tests.helpers import frames
from tests.helpers.driving import Drive, hello, refused
from tests.helpers.overheard import Overheard, errors_of, told

from limpet import ConnectError, Link

PART = "S3CR3T"
CHARACTERS = st.characters(exclude_categories=["Cs"])
PIECES = st.text(CHARACTERS, max_size=12)
TOKENS = st.tuples(PIECES, PIECES, PIECES).map(PART.join)
"""Tokens of any characters, of which no part may be seen."""


def escaped(text: str) -> str:
    """JSON in which every character is escaped, as it may be."""
    units = text.encode("utf-16-be")
    return '"' + "".join(f"\\u{units[at]:02x}{units[at + 1]:02X}" for at in range(0, len(units), 2)) + '"'


HELLOS: dict[str, Callable[[str], str]] = {
    "JSON": lambda token: json.dumps(hello(token=token)),
    "no escapes": lambda token: json.dumps(hello(token=token), ensure_ascii=False),
    "all escapes": lambda token: (
        f'{{{escaped("type")}:{escaped("system")},"event":"connected","connectionId":"c1",'
        f"{escaped('reconnectionToken')}:{escaped(token)}}}"
    ),
    "blanks": lambda token: json.dumps(hello(token=token), indent=3),
    "twice": lambda token: json.dumps(hello(token="x"))[:-1] + f',"reconnectionToken":{json.dumps(token)}}}',
    "twice, the other way": lambda token: (
        f'{{"reconnectionToken":{json.dumps(token)},' + json.dumps(hello(token="x"))[1:]
    ),
    "no JSON": lambda token: json.dumps(hello(token=token))[:-1] + ",}",
    "no JSON, escaped": lambda token: (
        f'{{"type":"system","event":"connected",{escaped("reconnectionToken")}:{escaped(token)}'
    ),
    "half": lambda token: json.dumps(hello(token=token)).partition(PART)[0] + PART,
    "another type": lambda token: json.dumps(hello(token=token) | {"type": "other"}),
    "another case": lambda token: json.dumps({"type": "system", "event": "connected", "ReconnectionToken": token}),
    "another type of value": lambda token: json.dumps(hello() | {"reconnectionToken": [token]}),
    "no object": lambda token: json.dumps(["reconnectionToken", {"reconnectionToken": token}]),
    "deep": lambda token: json.dumps(hello() | {"more": {"reconnectionToken": token}}),
}
"""How a service may say the token."""


def shown(drive: Drive, overheard: Overheard) -> str:
    """All that people may see."""
    events = told(drive.events())
    errors = errors_of(events)
    texts = [*map(str, errors), *map(repr, errors), *map(repr, events), *overheard.lines]
    return "\n".join([*texts, repr(drive.session.dial), repr(drive.session)])


@pytest.mark.parametrize("way", HELLOS)
@given(token=TOKENS)
def test_the_token_of_a_connected_message_is_in_no_log(way: str, token: str) -> None:
    message = HELLOS[way](token).encode()
    for stands in (False, True):
        drive = Drive()
        with Overheard() as overheard:
            drive.start()
            drive.open()
            drive.says(*[hello("c0", token=None)] * stands, message)
            drive.drop(1006, "gone")
            seen = shown(drive, overheard)
        assert "< " in seen
        assert PART not in seen


WAYS: list[Callable[[str], str]] = [
    str,
    repr,
    quote,
    html.escape,
    json.dumps,
    lambda token: quote(token, safe=""),
    lambda token: json.dumps(quote(token)),
    lambda token: f"the token {token} is no good",
    lambda token: f"at wss://h/?awps_reconnection_token={quote(token, safe='')}&x",
    lambda token: json.dumps({"accessToken": token, "error": {"reconnectionToken": token}}),
]
"""How a service, or a library, may repeat a token."""


def closes(drive: Drive, text: str) -> None:
    drive.drop(1008, text)


def drops(drive: Drive, text: str) -> None:
    drive.drop(1006, text)
    drive.session.dial_failed(ConnectError(text, status=503), drive.now)
    drive.advance(2)


def says_farewell(drive: Drive, text: str) -> None:
    drive.says({"type": "system", "event": "disconnected", "message": text})
    drive.drop(1000)


def refuses(drive: Drive, text: str) -> None:
    key = drive.session.join_group("g", drive.now)
    drive.session.messages_to_send()
    drive.says(refused(key, "Forbidden", text))
    key = drive.session.join_group("h", drive.now)
    drive.session.messages_to_send()
    drive.says(refused(key, text))


def breaks(drive: Drive, text: str) -> None:
    drive.session.transport_broken(1002, text, drive.now)


def says_nonsense(drive: Drive, text: str) -> None:
    drive.says(text)


def says_what_is_unknown(drive: Drive, text: str) -> None:
    for message in (
        {"type": text},
        {"type": "message", "from": text},
        {"type": "system", "event": text},
        {"type": "message", "from": "group", "group": text},
        {"type": "ack", "ackId": {text: 1}},
        {"type": "message", "from": "server", "dataType": "text", "data": text},
        {"type": "message", "from": "server", "dataType": "json", "data": {"reconnectionToken": text}},
    ):
        drive.says(message)


def can_not_be_dialled(drive: Drive, text: str) -> None:
    drive.drop(1008, "gone")
    drive.until_dial()
    drive.session.url_ready(inspect(drive.session).url, drive.now)
    drive.session.dial_failed(OSError(text), drive.now)
    drive.until_dial()
    drive.session.url_failed(ValueError(text), drive.now)


def is_sent_back(drive: Drive, text: str) -> None:
    drive.session.send_to_group("g", text, drive.now)
    drive.session.messages_to_send()


DOORS = [
    closes,
    drops,
    says_farewell,
    refuses,
    breaks,
    says_nonsense,
    says_what_is_unknown,
    can_not_be_dialled,
    is_sent_back,
]


@pytest.mark.parametrize("door", DOORS)
@given(token=TOKENS, way=st.sampled_from(WAYS), access=st.booleans())
def test_a_token_that_the_peer_repeats_is_nowhere(
    door: Callable[[Drive, str], None], token: str, way: Callable[[str], str], access: bool
) -> None:
    url = f"wss://h/client/hubs/chat?access_token={quote(token, safe='')}" if access else "wss://h/?access_token=SECRET"
    drive = Drive()
    with Overheard() as overheard:
        drive.start()
        drive.open(url)
        drive.says(hello(token="an honest token" if access else token))
        door(drive, way(token))
        seen = shown(drive, overheard)
    assert PART not in seen


@pytest.mark.parametrize("length", [0, 100, 1000, 4000, 8100, 100_000])
@pytest.mark.parametrize("door", DOORS)
def test_a_token_far_behind_is_not_seen_by_half(door: Callable[[Drive, str], None], length: int) -> None:
    token = PART * 30
    for before in (length, length + 70, length + 140):
        drive = Drive()
        with Overheard() as overheard:
            drive.start()
            drive.open(f"wss://h/?access_token={token}")
            drive.says(hello(token="another one"))
            door(drive, "x" * before + " " + token)
            door_again = shown(drive, overheard)
        assert PART not in door_again


def over_link(url: str, *answers: bytes) -> str:
    """What is seen of a session whose service answers the handshake with this."""
    drive = Drive(auto_reconnect=False)
    with Overheard() as overheard:
        drive.start()
        drive.session.url_ready(url, drive.now)
        link = Link(drive.session, drive.dial, random_bytes=bytes)
        handshake = b"".join(link.data_to_send())
        shown_endpoint = repr(link.endpoint) + repr(drive.session.dial)
        for answer in answers or (frames.accept(handshake),):
            link.receive_data(answer, drive.now)
        link.receive_data(b"", drive.now)
        return shown(drive, overheard) + shown_endpoint


@given(token=TOKENS, way=st.sampled_from(WAYS))
def test_a_refusal_that_repeats_the_request(token: str, way: Callable[[str], str]) -> None:
    url = f"ws://h/client?access_token={quote(token, safe='')}&b=1"
    body = way(token).encode()
    head = b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % len(body)
    assert PART not in over_link(url, head + body)
    request = f"<h1>GET {url} HTTP/1.1</h1>".encode()
    assert PART not in over_link(url, b"HTTP/1.1 404 No\r\nContent-Length: %d\r\n\r\n" % len(request) + request)
    assert PART not in over_link(url)


@given(
    st.text(st.characters(exclude_characters=" #&?%", exclude_categories=["Cs", "Cc", "Zs"]), max_size=12)
    .map(lambda text: f"{text}{PART}{text}{PART}")
    .filter(lambda text: not any(character.isspace() for character in text))
)
def test_a_url_with_a_token_that_nobody_has_encoded(token: str) -> None:
    """It may hold quotes, semicolons and what not."""
    url = f"ws://h/client?access_token={token}&b=1"
    seen = over_link(url, b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    assert "status 401" in seen
    assert PART not in seen


@pytest.mark.parametrize(
    "body",
    [
        '?access_token=S3CR3T"x',
        '{"reconnectionToken":"a\\"S3CR3T"}',
        '{"accessToken": "x S3CR3T"}',
        "Authorization: Bearer S3CR3T-S3CR3T",
        "q=access_token%3DS3CR3T%2526x",
        "signed with eyJhbGciOiJIUzI1NiJ9.S3CR3T.S3CR3T",
        "<a href='/?Access_Token=S3CR3T'>",
    ],
)
def test_a_refusal_with_a_token_that_is_not_known(body: str) -> None:
    answer = f"HTTP/1.1 403 No\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    seen = over_link("ws://h/?access_token=another", answer.encode())
    assert "status 403" in seen
    assert PART not in seen


def test_what_is_no_token_is_shown() -> None:
    """The negative: it is not silence that keeps the secrets."""
    drive = Drive()
    with Overheard() as overheard:
        drive.start()
        drive.open("wss://h/client?access_token=S3CR3T&name=value")
        drive.says(hello(token="T0K3N", user="ann"))
        drive.says({"type": "message", "from": "server", "dataType": "json", "data": {"price": 5, "access": "granted"}})
        drive.drop(1008, "moved, says the service of T0K3N to S3CR3T")
        seen = shown(drive, overheard)
    hidden: list[Any] = ["S3CR3T", "T0K3N"]
    assert not [secret for secret in hidden if secret in seen]
    assert '"userId":"ann","reconnectionToken":"***"' in seen
    assert '"data": {"price": 5, "access": "granted"}' in seen
    assert "moved, says the service of *** to ***" in seen
