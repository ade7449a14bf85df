"""The way through an HTTP proxy: its URL, the CONNECT request, and every kind of answer."""

from __future__ import annotations

import base64
import pickle
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import ConnectError, InvalidType, InvalidValue, Proxy, Tunnel, parse_proxy

PROXY = Proxy("proxy.test", 3128)
NAME = "the proxy proxy.test port 3128"
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
REDIRECTED = "HTTP status 302 Found: it redirects to http://elsewhere.test/ (redirects are not followed)"


def tunnel(proxy: Proxy = PROXY, host: str = "example.test", port: int = 443) -> Tunnel:
    """A tunnel whose request is on its way."""
    asked = Tunnel(proxy, host, port)
    assert asked.data_to_send()
    assert asked.data_to_send() == b""
    return asked


def feed(asked: Tunnel, chunks: Iterable[bytes]) -> bytes:
    return b"".join([asked.receive_data(chunk) for chunk in chunks])


def refused(answer: bytes, proxy: Proxy = PROXY) -> ConnectError:
    """The error after an answer, which is the same for the whole answer and byte by byte."""
    errors: list[ConnectError] = []
    for size in (1, len(answer)):
        asked = tunnel(proxy)
        with pytest.raises(ConnectError) as caught:
            feed(asked, (answer[start : start + size] for start in range(0, len(answer), size)))
        assert not asked.open
        assert NAME in str(caught.value)
        errors.append(caught.value)
    assert str(errors[0]) == str(errors[1])
    assert errors[0].status == errors[1].status
    return errors[0]


# ---- The URL


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://proxy.test:3128", Proxy("proxy.test", 3128)),
        ("http://proxy.test:3128/", Proxy("proxy.test", 3128)),
        ("http://proxy.test", Proxy("proxy.test", 80)),
        ("http://proxy.test:", Proxy("proxy.test", 80)),
        ("HTTP://PROXY.test:1", Proxy("proxy.test", 1)),
        ("http://10.1.2.3:8080", Proxy("10.1.2.3", 8080)),
        ("http://[::1]:3128", Proxy("::1", 3128)),
        ("http://[fe80::1%eth0]", Proxy("fe80::1%eth0", 80)),
        ("http://bücher.test:65535", Proxy("xn--bcher-kva.test", 65535)),
        ("http://ann:secret@h:1", Proxy("h", 1, "ann", "secret")),
        ("http://ann@h:1", Proxy("h", 1, "ann", "")),
        ("http://ann:@h:1", Proxy("h", 1, "ann", "")),
        ("http://:secret@h:1", Proxy("h", 1, "", "secret")),
        ("http://@h:1", Proxy("h", 1)),
        ("https://h", Proxy("h", 443, scheme="https")),
        ("HTTPS://ann:secret@[::1]", Proxy("::1", 443, "ann", "secret", "https")),
        ("https://h:8443/", Proxy("h", 8443, scheme="https")),
        ("https://h:80", Proxy("h", 80, scheme="https")),
        ("socks5://h", Proxy("h", 1080, scheme="socks5")),
        ("socks5h://[::1]:1", Proxy("::1", 1, scheme="socks5")),
        ("socks5://a%3Ab:secret@h", Proxy("h", 1080, "a:b", "secret", "socks5")),
        ("http://a%40b:p%3A%2F%3F%23%40%25%20@h:1", Proxy("h", 1, "a@b", "p:/?#@% ")),
        ("http://ann:a:b@c@h:1", Proxy("h", 1, "ann", "a:b@c")),
        ("http://ann:[x]@h:1", Proxy("h", 1, "ann", "[x]")),
        ("http://%C3%A4nn:p%C3%B6@[::1]:1", Proxy("::1", 1, "änn", "pö")),
        ("http://änn:pö℀@h:1", Proxy("h", 1, "änn", "pö℀")),
    ],
)
def test_a_good_url_is_taken_apart(url: str, expected: Proxy) -> None:
    assert parse_proxy(url) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "no scheme"),
        ("proxy.test:3128", "no scheme"),
        ("//proxy.test:3128", "no scheme"),
        ("ann:SECRET@h:1", "no scheme"),
        ("ann:SECRET://@h:1", "no scheme"),
        ("http:/h", "no scheme"),
        ("ftp://ann:SECRET@h:1", "scheme 'ftp'"),
        ("socks4://ann:SECRET@h:1", "scheme 'socks4'"),
        ("http://", "host or a port"),
        ("http:///", "host or a port"),
        ("http://:3128", "host or a port"),
        ("http://ann:SECRET@", "host or a port"),
        ("http://ann:SECRET@:1", "host or a port"),
        ("http://h:x", "host or a port"),
        ("http://h:65536", "host or a port"),
        ("http://h:-1", "host or a port"),
        ("http://h:0", "port 0"),
        ("http://[::1:3128", "host or a port"),
        ("http://::1]:3128", "host or a port"),
        ("http://a b:1", "host or a port"),
        ("http://h\n:1", "host or a port"),
        ("http://a..b:1", "host or a port"),
        ("http://h℀:1", "host or a port"),
        ("http://h@ann:SECRET", "host or a port"),
        ("http://ann:SECRET", "host or a port"),
        ("http://h:1/path", "more than a host"),
        ("http://h:1?SECRET", "more than a host"),
        ("http://h:1#SECRET", "more than a host"),
        ("http://ann:12/SECRET@h:1", "more than a host"),
        ("http://ann:SEC/RET@h:1", "more than a host"),
        ("http://ann:SEC?RET@h:1", "more than a host"),
        ("http://ann:SEC#RET@h:1", "more than a host"),
        ("http://ann:SECRET%FF@h:1", "UTF-8"),
        ("http://ann%FF:SECRET@h:1", "UTF-8"),
        ("http://ann:SECRET\ud800@h:1", "UTF-8"),
        ("http://a%3Ab:SECRET@h:1", "colon"),
    ],
)
def test_a_bad_url_is_refused_without_telling_the_password(url: str, message: str) -> None:
    with pytest.raises(InvalidValue, match=message) as caught:
        parse_proxy(url)
    assert str(caught.value).startswith("proxy ")
    for secret in ("SEC", "RET"):
        assert secret not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("url", [None, b"http://ann:SECRET@h", 80, True, Proxy("h", 1, "ann", "SECRET")])
def test_a_url_that_is_no_text(url: object) -> None:
    with pytest.raises(InvalidType, match="proxy must be a str") as caught:
        parse_proxy(url)  # type: ignore[arg-type]
    assert "SECRET" not in str(caught.value)


@given(url=st.text() | st.text(alphabet="htp:/@[]%?#.123ab ").map("http://".__add__))
def test_any_text_is_a_proxy_or_an_invalid_value(url: str) -> None:
    try:
        proxy = parse_proxy(url)
    except InvalidValue:
        return
    assert tunnel(proxy)


def test_the_password_is_in_no_repr() -> None:
    proxy = Proxy("h", 1, "ann", "SECRET")
    for text in (repr(proxy), str(proxy), f"{proxy}", repr([proxy]), repr(proxy.__rich_repr__())):
        assert "SECRET" not in text
        assert "'h'" in text
    assert pickle.loads(pickle.dumps(proxy)) == proxy


# ---- The request


@pytest.mark.parametrize(
    ("host", "port", "target"),
    [
        ("example.test", 443, b"example.test:443"),
        ("10.1.2.3", 80, b"10.1.2.3:80"),
        ("::1", 8443, b"[::1]:8443"),
        ("fe80::1%eth0", 8443, b"[fe80::1%eth0]:8443"),
    ],
)
def test_the_request(host: str, port: int, target: bytes) -> None:
    asked = Tunnel(PROXY, host, port)
    assert asked.data_to_send() == b"CONNECT " + target + b" HTTP/1.1\r\nHost: " + target + b"\r\n\r\n"
    assert asked.data_to_send() == b""
    assert not asked.open


@pytest.mark.parametrize(
    ("user", "password"), [("ann", "secret"), ("ann", ""), ("", "secret"), ("änn", "p:ö"), ("a" * 3000, "b" * 3000)]
)
def test_the_request_with_user_and_password(user: str, password: str) -> None:
    asked = Tunnel(Proxy("h", 1, user, password), "example.test", 443)
    credentials = base64.b64encode(f"{user}:{password}".encode())
    assert asked.data_to_send() == (
        b"CONNECT example.test:443 HTTP/1.1\r\nHost: example.test:443\r\n"
        b"Proxy-Authorization: Basic " + credentials + b"\r\n\r\n"
    )


# ---- The tunnel stands

GOOD_ANSWERS = [
    OK,
    b"HTTP/1.1 200\r\n\r\n",
    b"HTTP/1.1 200 \r\n\r\n",
    b"HTTP/1.0 200 Connection established\r\n\r\n",
    b"HTTP/1.0 200 OK\nProxy-Agent: x\n\n",
    b"HTTP/1.1 201 Created\r\n\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 299 Whatever\r\nConnection: close\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nProxy-Connection: keep-alive\r\nX: y\r\n\r\n",
    # RFC 9110, 9.3.6: a successful answer to CONNECT has no content, whatever its head says.
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    # Informational answers come first.
    b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    b"HTTP/1.1 102 Processing\r\nX: y\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK,
]


@pytest.mark.parametrize("answer", GOOD_ANSWERS)
@pytest.mark.parametrize("more", [b"", b"\x16\x03\x01", b"HTTP/1.1 407 No\r\n\r\n" * 2, bytes(range(256))])
def test_what_follows_a_good_answer_came_through_the_tunnel(answer: bytes, more: bytes) -> None:
    at_once = tunnel()
    assert at_once.receive_data(answer + more) == more
    assert at_once.open

    apart = tunnel()
    assert apart.receive_data(answer) == b""
    assert apart.open
    assert apart.receive_data(more) == more

    trickling = tunnel()
    assert feed(trickling, (bytes([byte]) for byte in answer[:-1])) == b""
    assert not trickling.open
    assert trickling.receive_data(answer[-1:] + more[:1]) == more[:1]
    assert trickling.open
    assert feed(trickling, (bytes([byte]) for byte in more[1:])) == more[1:]


def test_what_came_through_the_tunnel_is_not_looked_at() -> None:
    asked = tunnel()
    asked.receive_data(OK)
    for data in (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", b"\x00" * 100_000, b""):
        assert asked.receive_data(data) == data
    assert asked.open


# ---- The proxy refuses


def test_407_without_a_user() -> None:
    error = refused(b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n\r\n')
    assert error.status == 407
    assert "wants a user and a password (HTTP status 407)" in str(error)
    assert "proxy='http://USER:PASSWORD@" in str(error)


def test_407_with_a_user() -> None:
    error = refused(b"HTTP/1.1 407 No\r\n\r\n", Proxy("proxy.test", 3128, "ann", "SECRET"))
    assert error.status == 407
    assert "wants another user or password" in str(error)
    assert "SECRET" not in repr(error)
    assert base64.b64encode(b"ann:SECRET").decode() not in repr(error)


@pytest.mark.parametrize(
    ("answer", "status", "text"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 3\r\n\r\nno!", 403, "HTTP status 403 Forbidden"),
        (b"HTTP/1.0 502 Bad Gateway\r\n\r\n<html>", 502, "HTTP status 502 Bad Gateway"),
        (b"HTTP/1.1 503\r\n\r\n", 503, "HTTP status 503"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere.test/\r\n\r\n", 302, REDIRECTED),
        (b"HTTP/1.1 400 T\xe4t\r\n\r\n", 400, "HTTP status 400 Tät"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 504 Too Late\r\n\r\n", 504, "HTTP status 504 Too Late"),
        (
            b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
            500,
            "HTTP status 500 Oops",
        ),
    ],
)
def test_other_statuses(answer: bytes, status: int, text: str) -> None:
    error = refused(answer)
    assert error.status == status
    assert str(error) == f"{NAME} refused to connect to example.test:443: {text}"


@pytest.mark.parametrize(
    ("offers", "named"),
    [
        (["NTLM", "Negotiate"], "NTLM or Negotiate"),
        (["Negotiate, NTLM"], "Negotiate or NTLM"),
        (["NTLM TlRMTVNTUAACAA==", 'Digest realm="Basic, Basic", nonce="x"', "NTLM"], "NTLM or Digest"),
        (["Negotiate", 'Basic realm="x"'], None),
        (['basic realm="a \\" b, NTLM"'], None),
        (["", "=, ,"], None),
        (['NTLM, Digest realm="not closed, Basic, x'], "NTLM or Digest"),
        (['NTLM, Digest realm="not closed, Basic \\'], "NTLM or Digest"),
    ],
)
@pytest.mark.parametrize("user", [None, "ann"])
def test_a_proxy_without_basic_is_told_as_that(offers: list[str], named: str | None, user: str | None) -> None:
    head = "".join(f"Proxy-Authenticate: {offer}\r\n" for offer in offers)
    error = refused(f"HTTP/1.1 407 No\r\n{head}\r\n".encode(), Proxy("proxy.test", 3128, user, "SECRET"))
    assert error.status == 407
    assert "SECRET" not in str(error)
    if named is None:
        assert "user" in str(error)
    else:
        assert f"{NAME} wants a login by {named} (HTTP status 407), and Limpet can only do Basic" in str(error)


@pytest.mark.parametrize("last", [b"", b"\\"])
def test_quotes_that_are_never_closed_cost_no_time(last: bytes) -> None:
    asked, start = tunnel(), time.process_time()
    with pytest.raises(ConnectError) as caught:
        asked.receive_data(b"HTTP/1.1 407 No\r\nProxy-Authenticate: %b%b\r\n\r\n" % (b'\\"' * 60_000, last))
    assert caught.value.status == 407
    assert time.process_time() - start < 10.0


@pytest.mark.parametrize(("status", "asked"), [(429, 7.0), (503, 7.0), (502, None)])
def test_a_proxy_that_asks_for_a_delay(status: int, asked: float | None) -> None:
    assert refused(b"HTTP/1.1 %d No\r\nRetry-After: 7\r\n\r\n" % status).retry_after == asked


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno!",
        b"HTTP/1.1 403 No\r\nContent-Length: 3\r\n\r\nno!and more",
        b"HTTP/1.0 403 No\r\n\r\nwithout an end",
        b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n",
    ],
)
def test_what_follows_a_refusal_is_no_data(answer: bytes) -> None:
    asked = tunnel()
    with pytest.raises(ConnectError, match="403"):
        asked.receive_data(answer)
    for data in (b"more", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff" * 100):
        with suppress(ConnectError):
            assert asked.receive_data(data) == b""
        assert not asked.open


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
        b"\r\n\r\n",
        b"\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 Low\r\n\r\n",
        b"HTTP/1.1 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nb\x00d: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: first\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: many\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 1, 2\r\n\r\n",
        b"HTTP/1.1 500 No\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
def test_garbage(answer: bytes) -> None:
    asked = tunnel()
    with pytest.raises(ConnectError, match=f"{NAME} gave an answer that cannot be read: ") as caught:
        asked.receive_data(answer)
    assert caught.value.status is None
    assert not asked.open
    with pytest.raises(ConnectError):
        asked.receive_data(OK)  # it stays refused


def test_a_head_without_an_end_is_not_kept() -> None:
    for data in (
        b"a" * 17_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 17_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 3_000,
    ):
        asked = tunnel()
        with pytest.raises(ConnectError, match="too long"):
            feed(asked, (data[start : start + 100] for start in range(0, len(data), 100)))
        asked = tunnel()
        with pytest.raises(ConnectError, match="too long"):
            asked.receive_data(data)


def test_a_cut_before_the_answer() -> None:
    for begun in (b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 100 Continue\r\n\r\n"):
        asked = tunnel()
        if begun:
            assert asked.receive_data(begun) == b""
        error = asked.lost("connection reset by peer")
        assert str(error) == f"{NAME} did not answer: connection reset by peer"
        assert error.status is None
        with pytest.raises(ConnectError, match=f"{NAME} did not answer: it closed the connection"):
            asked.receive_data(b"")
        assert not asked.open


# ---- Any bytes at all

LINES = st.sampled_from(
    [
        *(
            b"HTTP/1.1 200 OK",
            b"HTTP/1.1 100 Continue",
            b"HTTP/1.0 407 No",
            b"HTTP/1.1 999 ?",
            b"HTTP/1.1 101 Switch",
            b"\t",
        ),
        *(
            b"Content-Length: 7",
            b"Content-Length: -1",
            b"Transfer-Encoding: chunked",
            b"X: \xff",
            b": y",
            b"",
            b"",
            b"0",
        ),
    ]
)
BYTES = (
    st.binary(max_size=200)
    | st.lists(LINES, max_size=12).map(b"\r\n".join)
    | st.lists(LINES | st.binary(max_size=20), max_size=12).map(b"\n".join)
)


@given(data=BYTES, cuts=st.lists(st.integers(0, 300), max_size=20))
def test_any_bytes_in_any_chunking_mean_the_same(data: bytes, cuts: list[int]) -> None:
    """They open the tunnel, or wait for more, or raise ConnectError; where they are cut does not matter."""

    def outcome(chunks: list[bytes]) -> tuple[bool, bytes, bool]:
        asked, through = tunnel(), b""
        try:
            for chunk in chunks:
                through += asked.receive_data(chunk)
        except ConnectError:
            return asked.open, b"", True
        return asked.open, through, False

    marks = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(marks)]
    whole, cut = outcome([data] if data else []), outcome(pieces)
    assert whole == cut
    assert whole[0] or not whole[1]
    assert not (whole[0] and whole[2])
