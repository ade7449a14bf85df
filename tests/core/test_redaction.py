"""Secrets are found by what stands before them and by what is known, however they are quoted."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import redact
from limpet_core.redaction import Secrets, hide, redact_url

PART = "S3CR3T"
CHARACTERS = st.characters(exclude_categories=["Cs"])
PIECES = st.text(CHARACTERS, max_size=12)
TOKENS = st.tuples(PIECES, PIECES, PIECES).map(PART.join)
"""Tokens of any characters, of which no part may be seen."""

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJhdWQiOiJ4In0.c2lnbmF0dXJl"


def folded(text: str) -> str:
    return " ".join(text.split())


WAYS: list[Callable[[str], str]] = [
    str,
    repr,
    folded,
    quote,
    quote_plus,
    html.escape,
    json.dumps,
    lambda text: quote(text, safe=""),
    lambda text: repr(text.encode()),
    lambda text: json.dumps(text, ensure_ascii=False),
    lambda text: json.dumps(json.dumps(text)),
    lambda text: json.dumps(quote(text)),
    lambda text: quote(json.dumps(text)),
    lambda text: quote(quote(text)),
    lambda text: html.escape(json.dumps(text)),
]
"""How a service may quote a token."""


@given(TOKENS, st.sampled_from(WAYS), st.text(max_size=10), st.text(max_size=10))
def test_a_known_token_is_hidden_however_it_is_quoted(
    token: str, way: Callable[[str], str], before: str, after: str
) -> None:
    text = f"{before}{way(token)}{after}"
    assert PART not in hide(text, Secrets(token))
    of_url = Secrets()
    of_url.learn_url(f"wss://h/?a=1&access_token={quote(token)}&b=2#c")
    assert PART not in hide(text, of_url)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("accesskey=x", "accesskey=***"),
        ("eyJ12345678", "***"),
        ("eyJ1234567", "eyJ1234567"),
        ("%65yJ123456", "%65yJ123456"),
    ],
)
def test_the_shortest_texts_that_hold_a_secret(text: str, hidden: str) -> None:
    assert redact(text) == hidden


def test_a_known_secret_is_hidden_in_a_text_of_any_length() -> None:
    assert hide("'1234'", Secrets("1234")) == "'***'"


@given(TOKENS)
def test_the_value_of_a_field_is_hidden_to_its_end(token: str) -> None:
    field = {"type": "system", "reconnectionToken": token, "userId": "ann"}
    url = f"wss://h/client?a=1&access_token={quote(token)}&b=2"
    for text in (
        json.dumps(field),
        json.dumps(field, ensure_ascii=False),
        json.dumps({"body": json.dumps(field)}),
        html.escape(json.dumps({"accessToken": token})),
        quote(json.dumps({"awps_reconnection_token": token})),
        f"GET {url} HTTP/1.1",
        f"cannot open {quote(url, safe='')}",
        repr({"url": url}),
    ):
        assert PART not in redact(text), text
    shown = redact(json.dumps(field))
    assert shown.startswith('{"type": "system", "reconnectionToken": "***')


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ('{"reconnectionToken":"a\\"SECRET","b":1}', '{"reconnectionToken":"***","b":1}'),
        ("{'reconnectionToken': 'a SECRET', 'b': 1}", "{'reconnectionToken': '***', 'b': 1}"),
        ('{\\"accessToken\\":\\"a\\\\\\"SECRET\\",\\"b\\":1}', '{\\"accessToken\\":\\"***\\",\\"b\\":1}'),
        ('{"reconnectionToken":"SECRET and no end', '{"reconnectionToken":"***'),
        ('{"reconnection\\u0054oken":"SECRET"}', '{"reconnection\\u0054oken":"***"}'),
        ("&quot;accessToken&quot;:&quot;a&amp;SECRET&quot;,", "&quot;accessToken&quot;:&quot;***&quot;,"),
        ("?Access_Token=SECRET&b=1", "?Access_Token=***&b=1"),
        ("?%61ccess%5Ftoken=SECRET&b=1", "?%61ccess%5Ftoken=***&b=1"),
        ("?access_token%3DSECRET%26b", "?access_token%3D***%26b"),
        ("?access_token=SEC&quot;RET", "?access_token=***"),
        ("?access_token=SEC\"R'ET rest", "?access_token=*** rest"),
        ("'wss://h/?access_token=SEC RET' rest", "'wss://h/?access_token=***' rest"),
        ("'wss://h/?access_token=SEC RET", "'wss://h/?access_token=***"),
        ("<a href='/?access_token=SECRET&b'>", "<a href='/?access_token=***&b'>"),
        ("access-token: SECRET", "access-token: ***"),
        ("Authorization: Bearer SECRET1234 rest", "Authorization: Bearer *** rest"),
        ("Proxy-Authorization: Basic SECRET", "Proxy-Authorization: Basic ***"),
        ("{'authorization': 'SECRET'}", "{'authorization': '***"),
        ("bearer SECRET-SECRET!", "bearer ***"),
        (f"signed {JWT}, it says", "signed ***, it says"),
        (f"cut {JWT[:30]}", "cut ***"),
        ("Endpoint=http://h;AccessKey=SECRET;Version=1.0;", "Endpoint=http://h;AccessKey=***"),
        ("access_token=", "access_token="),
        ("access_token=***", "access_token=***"),
        ("no bearer token was given", "no bearer token was given"),
        ("the access token was refused", "the access token was refused"),
        ("é\ud800👩 access_token=é\ud800👩 é\ud800👩", "é\ud800👩 access_token=*** é\ud800👩"),
    ],
)
def test_secrets_are_hidden_by_what_stands_before_them(text: str, redacted: str) -> None:
    assert redact(text) == redacted
    assert "SEC" not in redacted


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("wss://h/client", "wss://h/client"),
        ("wss://h/?access_token=a\"'SECRET&b=1", "wss://h/?access_token=***&b=1"),
        ("wss://h/?x=1;access_token=a;SECRET&b", "wss://h/?x=1;access_token=***&b"),
        ("wss://h/?AWPS_reconnection%5Ftoken=SECRET", "wss://h/?AWPS_reconnection%5Ftoken=***"),
        ("wss://h/?b&access_token#access_token=SECRET&c", "wss://h/?b&access_token#access_token=***&c"),
        ("wss://h/?access_tokens=a&token=b", "wss://h/?access_tokens=a&token=b"),
    ],
)
def test_the_query_of_a_url_is_read_as_a_server_reads_it(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted


def test_the_tokens_of_the_last_two_urls_and_the_last_two_given_ones_are_known() -> None:
    secrets = Secrets()
    for number in range(3):
        secrets.learn_url(f"wss://h/?access_token=of-url-{number}")
        secrets.learn(f"given-{number}")
        secrets.learn(f"given-{number}")  # the same again pushes out no other
    assert hide("of-url-0 of-url-1 of-url-2", secrets) == "of-url-0 *** ***"
    assert hide("given-0 given-1 given-2", secrets) == "given-0 *** ***"
    secrets.learn("given-1")  # in use again
    secrets.learn("given-3")
    assert hide("given-1 given-2 given-3", secrets) == "*** given-2 ***"


def test_what_is_too_short_to_be_a_secret_does_not_spoil_the_text() -> None:
    assert hide("a cat", Secrets("", "a", "cat")) == "a cat"


@pytest.mark.parametrize(
    ("known", "text", "hidden"),
    [
        ("abcdefgh" * 4, "x " + "abcdefgh" * 2 + " y", "x *** y"),  # a part
        ("abcdefghijklmnopqrstuvwxyz", "x bcdefghijklmn y", "x bcdefghijklmn y"),  # a part too small to tell
        ("0123456789abcdefghij", "x 0123456789abcdefghij0123456789abcdefghij y", "x *** y"),
        ("aaaa", "aaaaaa", "***"),
        ("aaaa", "aaaa bbbb aaaa", "*** bbbb ***"),
        ("ééé", "x\xc3\xa9ééé", "x\xc3\xa9***"),
        ("\U0001f469\U0001f468", '"\\ud83d\\udc69\\ud83d\\udc68"', '"***"'),
        ("\U0001f469\U0001f468", "'\\U0001f469\\U0001f468'", "'***'"),
        ("é" * 10, f"x ĩ{'é' * 9}ñ y", "x *** y"),  # not by half a character
        ("\xff\xfe\xfd", "%ff%fe%fd", "***"),  # no UTF-8
        ("ab\ud800cd", "ab\\ud800cd", "***"),
        ("ab\x41cd", "\\x61b\\x41cd", "***"),
        ("a\fb\bcd", "a\\fb\\bcd", "***"),
        ("a/b\x27c", "a\\/b\\'c", "***"),
        ("abcd", "a\\Uffffffffbcd", "***"),  # no character at all
    ],
)
def test_parts_and_escapes_of_a_known_secret(known: str, text: str, hidden: str) -> None:
    assert hide(text, Secrets(known)) == hidden


def test_nothing_is_shown_from_the_end_on() -> None:
    assert hide("abc access_token=SECRET def", None, 4) == "abc "
    assert hide("abc access_token=SECRET def", None, 2) == "ab"
    assert hide("abc access_token=SECRET def", None, 18) == "abc access_token=***"
    assert hide("ééé access_token=SECRET def", None, 26) == "ééé access_token=*** de"


@given(
    st.lists(st.sampled_from(["eyJ", "EYJ", "Bearer", "bearer ", "x" * 9, " ", "a", "_-", "access_token", "/", "."]))
)
def test_ordinary_text_is_searched_as_any_other_is(pieces: list[str]) -> None:
    """Text without a character that encodes or assigns anything takes a shorter way, which finds the same."""
    text = "".join(pieces)
    for end in (None, 5):
        assert hide(text, None, end) == hide(text, Secrets(), end)
