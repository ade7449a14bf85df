"""Client Access URLs."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import Endpoint, InvalidType, InvalidValue, LocalProtocolError, parse_url, recovery_url, redact


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("wss://h/client/hubs/chat?access_token=t", Endpoint("h", 443, True, "h", "/client/hubs/chat?access_token=t")),
        ("ws://h:8080/client/?hub=a", Endpoint("h", 8080, False, "h:8080", "/client/?hub=a")),
        ("ws://h", Endpoint("h", 80, False, "h", "/")),
        ("wss://h?a=b", Endpoint("h", 443, True, "h", "/?a=b")),
        ("wss://h:443/", Endpoint("h", 443, True, "h:443", "/")),
        ("WSS://EXAMPLE.test/X", Endpoint("example.test", 443, True, "example.test", "/X")),
        ("ws://127.0.0.1:80/x", Endpoint("127.0.0.1", 80, False, "127.0.0.1:80", "/x")),
        ("wss://a_b-c.test./x", Endpoint("a_b-c.test.", 443, True, "a_b-c.test.", "/x")),
        ("wss://[::1]:8443/x", Endpoint("::1", 8443, True, "[::1]:8443", "/x")),
        ("wss://bücher.test/", Endpoint("xn--bcher-kva.test", 443, True, "xn--bcher-kva.test", "/")),
        ("wss://h/ä?b=ö", Endpoint("h", 443, True, "h", "/%C3%A4?b=%C3%B6")),
        ("wss://h/x?a=&b=1&b=2&c&=&a=%20+", Endpoint("h", 443, True, "h", "/x?a=&b=1&b=2&c&=&a=%20+")),
        ("wss://h/a%2Fb?x=%2F%zz", Endpoint("h", 443, True, "h", "/a%2Fb?x=%2F%zz")),
        ("wss://h/x?a=b#fragment", Endpoint("h", 443, True, "h", "/x?a=b")),
    ],
)
def test_a_good_url_is_taken_apart(url: str, expected: Endpoint) -> None:
    assert parse_url(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "no scheme"),
        ("h/client", "no scheme; a client URL comes from your server"),
        ("//h/client", "no scheme"),
        ("https://h/?access_token=SECRET", "scheme 'https'"),
        ("wss:///client", "no host"),
        ("wss://:80/", "no host"),
        ("wss://user:SECRET@h/", "user name or password"),
        ("wss://SECRET@h/", "user name or password"),
        ("wss://h:0x50/?access_token=SECRET", "cannot be read"),
        ("wss://h:65536/?access_token=SECRET", "cannot be read"),
        ("wss://[::1/?access_token=SECRET", "cannot be read"),
        ("wss://h/ ?access_token=SECRET", "space"),
        ("wss://h/?access_token=SECRET\n", "strip it"),
        ("Endpoint=http://127.0.0.1:8080;AccessKey=SECRET;Version=1.0;", "is a connection string"),
        ("wss://h/?access_token=SECRET\r\nX: y", "control character"),
        ("\twss://h/", "strip it"),
        ("wss://h/\x7f", "control character"),
        ("wss://a..b/?access_token=SECRET", "host"),
        ("wss://" + "a" * 64 + "/", "host"),
        ("wss://h\u00b8/?access_token=SECRET", "host"),
        ("wss://h\\x/?access_token=SECRET", "host"),
        ("wss://h/\ud800?access_token=SECRET", "UTF-8"),
        ("wss://h/?access_token=SECRET\udfff", "UTF-8"),
    ],
)
def test_a_bad_url_is_refused_with_a_reason_and_without_the_token(url: str, message: str) -> None:
    with pytest.raises(InvalidValue, match=message) as caught:
        parse_url(url)
    assert "url" in str(caught.value)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("url", [None, b"wss://h/", 5, ["wss://h/"]])
def test_a_url_of_another_type_is_refused(url: Any) -> None:
    with pytest.raises(InvalidType, match="url must be a str"):
        parse_url(url)


@given(st.text() | st.text().map(lambda text: "wss://" + text) | st.text().map(lambda text: "wss://h/" + text))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        endpoint = parse_url(text)
    except LocalProtocolError:
        return
    assert endpoint.target.isascii()
    assert endpoint.authority.isascii()
    assert not any(char in endpoint.target + endpoint.authority for char in " \r\n\0")


@pytest.mark.parametrize(
    "url",
    [
        "wss://h/client/hubs/chat?access_token=t",
        "wss://h/client/hubs/chat?a=&b=1&b=2&c&&d=%20+%2B",
        "wss://h/client/hubs/chat",
        "wss://h/client/hubs/chat?",
        "wss://h",
    ],
)
def test_a_recovery_url_keeps_the_original_to_the_letter(url: str) -> None:
    recovering = recovery_url(url, "c 1", "t/+&=")
    assert recovering.startswith(url)
    added = dict(parse_qsl(urlsplit(recovering).query, keep_blank_values=True))
    assert added["awps_connection_id"] == "c 1"
    assert added["awps_reconnection_token"] == "t/+&="
    before = parse_qsl(urlsplit(url).query, keep_blank_values=True)
    after = parse_qsl(urlsplit(recovering).query, keep_blank_values=True)
    assert after == [*before, ("awps_connection_id", "c 1"), ("awps_reconnection_token", "t/+&=")]


def test_a_recovery_url_loses_only_the_fragment() -> None:
    assert recovery_url("wss://h/x?a=1#frag", "c", "t") == (
        "wss://h/x?a=1&awps_connection_id=c&awps_reconnection_token=t"
    )


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_id_and_token_arrive_whole_in_a_recovery_url(connection_id: str, token: str) -> None:
    url = recovery_url("wss://h/x?a=1", connection_id, token)
    assert parse_qsl(urlsplit(url).query, keep_blank_values=True)[1:] == [
        ("awps_connection_id", connection_id),
        ("awps_reconnection_token", token),
    ]
    parse_url(url)


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("wss://h/?access_token=SECRET", "wss://h/?access_token=***"),
        ("wss://h/?access_token=SECRET&b=1#f", "wss://h/?access_token=***&b=1#f"),
        ("GET /?a=1&awps_reconnection_token=SECRET HTTP/1.1", "GET /?a=1&awps_reconnection_token=*** HTTP/1.1"),
        ("url='wss://h/?access_token=SECRET'", "url='wss://h/?access_token=***'"),
        ("access_token=SECRET then access_token=SECRET", "access_token=*** then access_token=***"),
        (
            '{"type":"system","event":"connected","reconnectionToken":"SECRET","connectionId":"c"}',
            '{"type":"system","event":"connected","reconnectionToken":"***","connectionId":"c"}',
        ),
        ('{"reconnectionToken" : "SECRET"}', '{"reconnectionToken" : "***"}'),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_tokens_are_hidden_in_what_is_shown(text: str, redacted: str) -> None:
    assert redact(text) == redacted


def test_the_repr_of_an_endpoint_hides_its_token() -> None:
    shown = repr(parse_url("wss://h/x?access_token=SECRET&a=1"))
    assert "SECRET" not in shown
    assert "a=1" in shown
