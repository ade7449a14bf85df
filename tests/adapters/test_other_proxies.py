"""SOCKS5 proxies and proxies behind TLS, for every client: as they should be, and all that can be wrong with them."""

from __future__ import annotations

import errno
import logging
import os
import ssl
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.harness import closed_port
from tests.helpers.background import running
from tests.helpers.clients import CLIENTS, talk
from tests.helpers.echo import Echo, client_context, server_context
from tests.helpers.http_proxy import StubProxy
from tests.helpers.socks_proxy import SocksProxy

from limpet import ConnectError, InvalidValue, Proxy
from limpet._transports.socks import SocksTunnel

OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
SECRET = "p@ss:SECRET%"
QUOTED = "p%40ss%3ASECRET%25"
clients = pytest.mark.parametrize("client", CLIENTS)


@dataclass
class Place:
    """Services, and a way to start proxies."""

    certificate: trustme.LeafCert
    trust: ssl.SSLContext
    plain: Echo
    secure: Echo
    stack: ExitStack

    def socks(self, *args: Any, **named: Any) -> SocksProxy:
        return self.stack.enter_context(running(SocksProxy(*args, **named).listening))

    def https(
        self, answer: bytes = OK, then: str | int = "close", certificate: trustme.LeafCert | None = None
    ) -> StubProxy:
        tls = server_context(certificate or self.certificate)
        return self.stack.enter_context(running(StubProxy(answer, then, tls=tls).listening))


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Place]:
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    caplog.set_level(logging.DEBUG)
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "service.test")
    with ExitStack() as stack:
        plain = stack.enter_context(running(Echo))
        secure = stack.enter_context(running(lambda: Echo(server_context(certificate))))
        yield Place(certificate, client_context(authority), plain, secure, stack)
    assert "SECRET" not in caplog.text


def fails(client: str, url: str, **settings: Any) -> str:
    """Why the client cannot connect; secrets are nowhere, whatever of the error is shown."""
    with pytest.raises(ConnectError) as caught:
        talk(client, url, **settings)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


# ---- As they should be


@clients
@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("login", [False, True])
def test_by_way_of_a_socks_proxy(place: Place, client: str, secure: bool, login: bool) -> None:
    service, trust = (place.secure, place.trust) if secure else (place.plain, None)
    proxy = place.socks(f"ann:{SECRET}" if login else None)
    url = service.url.replace("127.0.0.1", "service.test")  # which only the proxy knows
    assert talk(client, url, ssl=trust, proxy=proxy.url(f"ann:{QUOTED}")) == ["hello"]
    assert proxy.asked == [("service.test", service.port)]
    assert proxy.open == 0


@clients
@pytest.mark.parametrize("secure", [False, True])
def test_by_way_of_a_proxy_behind_tls(place: Place, client: str, secure: bool) -> None:
    service = place.secure if secure else place.plain
    proxy = place.https(then=service.port)
    url = f"https://ann:{QUOTED}@127.0.0.1:{proxy.port}"
    assert talk(client, service.url, ssl=place.trust, proxy=url, headers={"X-Key": "for the service"}) == ["hello"]
    (request,) = proxy.requests
    assert b"X-Key" not in request
    assert request.startswith(f"CONNECT 127.0.0.1:{service.port} ".encode())
    assert b"Proxy-Authorization: Basic " in request


@pytest.mark.parametrize("client", ["asyncio", "sync"])
@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
def test_the_environment_names_a_socks_proxy(
    place: Place, client: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = place.socks()
    monkeypatch.setenv("all_proxy", proxy.url(scheme=scheme))
    assert talk(client, place.plain.url.replace("127.0.0.1", "service.test")) == ["hello"]
    assert proxy.asked == [("service.test", place.plain.port)]


@pytest.mark.parametrize("bound", [b"\x01\0\0\0\0\0\0", b"\x03\x04host\0\x01", b"\x03\0\0\0", b"\x04" + bytes(18)])
def test_any_bound_address_in_the_answer(place: Place, bound: bytes) -> None:
    assert talk("asyncio", place.plain.url, proxy=place.socks(bound=bound).url()) == ["hello"]


# ---- As they should not be


@clients
def test_a_socks_proxy_that_wants_a_login(place: Place, client: str) -> None:
    proxy = place.socks(f"ann:{SECRET}")
    there = f"cannot connect to 127.0.0.1 port {place.plain.port}: the proxy 127.0.0.1 port {proxy.port}"
    error = fails(client, place.plain.url, proxy=proxy.url())
    assert error == f"{there} wants a user and a password: give them in proxy='socks5://USER:PASSWORD@...'"
    assert fails(client, place.plain.url, proxy=proxy.url("ann:SECRET")) == f"{there} wants another user or password"


@clients
@pytest.mark.parametrize(
    ("reply", "reason"), [(1, "general failure"), (2, "its rules do not allow it"), (5, "connection refused")]
)
def test_a_socks_proxy_that_refuses(place: Place, client: str, reply: int, reason: str) -> None:
    proxy = place.socks(reply=reply)
    error = fails(client, place.plain.url, proxy=proxy.url())
    assert f"port {proxy.port} refused to connect to 127.0.0.1:{place.plain.port}: {reason}" in error


@clients
def test_a_socks_proxy_that_is_none_or_not_there_or_hangs(place: Place, client: str) -> None:
    proxy = place.socks(script=b"HTTP/1.1 400 Bad Request\r\n\r\n")
    error = fails(client, place.plain.url, proxy=proxy.url())
    assert f"the proxy 127.0.0.1 port {proxy.port} gave an answer that cannot be read: it is not SOCKS5" in error
    port = closed_port()
    error = fails(client, place.plain.url, proxy=f"socks5://ann:{QUOTED}@127.0.0.1:{port}")
    assert f"through the proxy 127.0.0.1 port {port}: {os.strerror(errno.ECONNREFUSED)}" in error
    proxy = place.socks(script=b"")
    error = fails(client, place.plain.url, proxy=proxy.url(), connect_timeout=0.2)
    assert f"timed out: the proxy 127.0.0.1 port {proxy.port} did not answer in time" in error


@clients
def test_a_proxy_behind_tls_with_a_wrong_certificate(place: Place, client: str) -> None:
    proxy = place.https(certificate=trustme.CA().issue_cert("127.0.0.1"))
    error = fails(client, place.plain.url, ssl=place.trust, proxy=proxy.url)
    assert f": the proxy 127.0.0.1 port {proxy.port}: the certificate was not accepted" in error
    assert "give the certificate of an authority that you trust as ssl=, or in SSL_CERT_FILE" in error
    assert proxy.requests == []


@clients
def test_a_proxy_behind_tls_that_is_without_or_closes_or_refuses(place: Place, client: str) -> None:
    plain = place.stack.enter_context(running(StubProxy(b"HTTP/1.1 400 No\r\n\r\n").listening))
    error = fails(client, place.plain.url, proxy=plain.url.replace("http:", "https:"), connect_timeout=0.2)
    assert f"the proxy 127.0.0.1 port {plain.port}" in error
    proxy = place.https(b"", "close")
    error = fails(client, place.plain.url, ssl=place.trust, proxy=proxy.url)
    assert f"the proxy 127.0.0.1 port {proxy.port} did not answer: " in error
    proxy = place.https(b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n")
    error = fails(client, place.plain.url, ssl=place.trust, proxy=proxy.url)
    assert f"the proxy 127.0.0.1 port {proxy.port} wants a login by NTLM or Negotiate (HTTP status 407)" in error


@pytest.mark.parametrize("client", CLIENTS)
def test_without_the_extra_a_socks_proxy_is_refused_at_once(client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.delitem(sys.modules, "limpet._transports.socks")
    make, _ = CLIENTS[client]
    with pytest.raises(InvalidValue, match=r"proxy is a SOCKS5 proxy: socksio is not installed; .*limpet\[socks\]"):
        make("ws://127.0.0.1:1/client/hubs/chat", proxy="socks5://127.0.0.1")


# ---- The tunnel alone


def through(answers: bytes, size: int, proxy: Proxy) -> tuple[SocksTunnel, bytes, ConnectError | None]:
    tunnel, got = SocksTunnel(proxy, "service.test", 443), b""
    try:
        for start in range(0, len(answers), size):
            got += tunnel.receive_data(answers[start : start + size])
            tunnel.data_to_send()
    except ConnectError as error:
        return tunnel, got, error
    return tunnel, got, None


LOGIN = Proxy("proxy.test", 1080, "ann", "SECRET", "socks5")
GOOD = b"\x05\x02\x01\x00\x05\x00\x00\x01\x7f\0\0\x01\0\x50"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_what_follows_a_good_answer_came_through_the_tunnel(size: int) -> None:
    tunnel, got, error = through(GOOD + b"\x16\x03\x01", size, LOGIN)
    assert (tunnel.open, got, error) == (True, b"\x16\x03\x01", None)


@pytest.mark.parametrize(
    ("host", "sent"), [("10.1.2.3", b"\x01\x0a\x01\x02\x03"), ("::1", b"\x04" + bytes(15) + b"\1")]
)
def test_addresses_are_sent_as_such(host: str, sent: bytes) -> None:
    tunnel = SocksTunnel(Proxy("h", 1080, scheme="socks5"), host, 443)
    assert tunnel.data_to_send() == b"\x05\x01\x00"
    tunnel.receive_data(b"\x05\x00")
    assert tunnel.data_to_send() == b"\x05\x01\x00" + sent + b"\x01\xbb"


@pytest.mark.parametrize(
    ("proxy", "host", "what"),
    [
        (Proxy("h", 1, "a" * 256, "", "socks5"), "service.test", "user"),
        (Proxy("h", 1, "ann", "SECRET" * 50, "socks5"), "service.test", "password"),
        (Proxy("h", 1, scheme="socks5"), "a." * 200, "host"),
    ],
)
def test_what_is_too_long_for_the_protocol(proxy: Proxy, host: str, what: str) -> None:
    with pytest.raises(InvalidValue, match=f"cannot be given a {what} of more than 255 bytes"):
        SocksTunnel(proxy, host, 443)


def test_a_proxy_that_takes_neither_login() -> None:
    _, _, error = through(b"\x05\xff", 2, LOGIN)
    assert "wants a login of another kind than by user and password" in str(error)


@given(data=st.binary(max_size=60) | st.binary(max_size=20).map(GOOD[:4].__add__))
def test_any_bytes_in_any_chunking_mean_the_same(data: bytes) -> None:
    outcomes = [through(data, size, LOGIN) for size in (1, 3, 100)]
    assert len({(tunnel.open, got, str(error)) for tunnel, got, error in outcomes}) == 1
    for tunnel, got, error in outcomes:
        assert not (tunnel.open and error)
        assert tunnel.open or not got
