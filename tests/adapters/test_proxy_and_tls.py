"""The way to the service, for every client: proxies and TLS as they should be, and all that can be wrong with them.

What is wrong is told with host and cause and without secrets, soon, and nothing is left behind: see ``talk``.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import ssl
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme
from tests.adapters.harness import closed_port
from tests.helpers.background import running
from tests.helpers.clients import CLIENTS, talk
from tests.helpers.echo import Echo, client_context, refusing, server_context
from tests.helpers.http_proxy import RealProxy, StubProxy, real_proxy
from tests.helpers.scripted import Message, Peer
from tests.helpers.waiting import until

from limpet import ConnectError, InvalidValue

SECRET = "p@ss:SECRET%"
QUOTED = "p%40ss%3ASECRET%25"
OK = b"HTTP/1.1 200 Connection established\r\n\r\n"
clients = pytest.mark.parametrize("client", CLIENTS)


@dataclass
class Servers:
    """Services and a proxy that run as long as the tests of this module."""

    authority: trustme.CA
    certificate: trustme.LeafCert
    trust: ssl.SSLContext
    plain: Echo
    secure: Echo
    proxy: RealProxy
    stack: ExitStack

    def echo(self, tls: ssl.SSLContext) -> Echo:
        """One more service."""
        return self.stack.enter_context(running(lambda: Echo(tls)))

    def stub(self, answer: bytes = b"", then: str | int = "close") -> StubProxy:
        """One more proxy."""
        return self.stack.enter_context(running(StubProxy(answer, then).listening))


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "service.test")
    with ExitStack() as stack:
        plain = stack.enter_context(running(Echo))
        secure = stack.enter_context(running(lambda: Echo(server_context(certificate))))
        proxy = stack.enter_context(real_proxy(tmp_path_factory.mktemp("proxy"), f"ann:{SECRET}"))
        yield Servers(authority, certificate, client_context(authority), plain, secure, proxy, stack)


@pytest.fixture
def servers(
    everything: Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Servers]:
    for name in os.environ:
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    caplog.set_level(logging.DEBUG)
    with ExitStack() as stack:
        yield replace(everything, stack=stack)
    assert "SECRET" not in caplog.text


def through(url: str, host: str) -> str:
    """The same URL with another name for the host."""
    return url.replace("127.0.0.1", host)


def fails(client: str, url: str, **settings: Any) -> str:
    """Why the client cannot connect; secrets are nowhere, whatever of the error is shown."""
    with pytest.raises(ConnectError) as caught:
        talk(client, url, **settings)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
    cause: BaseException | None = caught.value
    while cause is not None:
        assert "SECRET" not in repr(cause)
        cause = cause.__cause__
    return str(caught.value)


def port_of(url: str) -> str:
    return url.split(":")[2].split("/")[0]


# ---- TLS as it should be


@clients
@pytest.mark.parametrize("kind", ["context", "path", "text"])
def test_a_certificate_authority_of_ones_own(servers: Servers, client: str, kind: str, tmp_path: Path) -> None:
    servers.authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trust = {"context": servers.trust, "path": tmp_path / "ca.pem", "text": str(tmp_path / "ca.pem")}[kind]
    assert talk(client, servers.secure.url, ssl=trust) == ["hello"]


@clients
def test_a_client_certificate(servers: Servers, client: str) -> None:
    server = server_context(servers.authority.issue_cert("127.0.0.1"))
    server.verify_mode = ssl.CERT_REQUIRED
    servers.authority.configure_trust(server)
    service = servers.echo(server)
    trust = client_context(servers.authority)
    servers.authority.issue_cert("ann@clients.test").configure_cert(trust)
    assert talk(client, service.url, ssl=trust) == ["hello"]
    assert service.certificates[0]["subjectAltName"] == (("email", "ann@clients.test"),)
    # Without one:
    with refusing(server) as port:
        error = fails(client, service.url.replace(str(service.port), str(port)), ssl=servers.trust)
    assert f"cannot connect to 127.0.0.1 port {port}: TLS failed: TLSV13_ALERT_CERTIFICATE_REQUIRED" in error


@clients
@pytest.mark.parametrize("host", ["service.test", "service.test."])
def test_the_name_is_asked_for_and_checked(servers: Servers, client: str, host: str) -> None:
    proxy = servers.stub(OK, servers.secure.port)  # which knows where service.test is, as the client does not
    servers.secure.names.clear()
    assert talk(client, through(servers.secure.url, host), ssl=servers.trust, proxy=proxy.url) == ["hello"]
    assert servers.secure.names == ["service.test"]
    error = fails(client, through(servers.secure.url, "other.test"), ssl=servers.trust, proxy=proxy.url)
    assert f"other.test port {servers.secure.port} through the proxy 127.0.0.1 port {proxy.port}: " in error
    assert "certificate is not valid for 'other.test'" in error


# ---- TLS as it should not be


@clients
@pytest.mark.parametrize(
    ("names", "expires", "cause"),
    [
        (("elsewhere.test",), None, "certificate is not valid for '127.0.0.1'"),
        (("127.0.0.1",), datetime(2020, 1, 1, tzinfo=UTC), "certificate has expired"),
    ],
    ids=["wrong host", "expired"],
)
def test_a_wrong_certificate(
    servers: Servers, client: str, names: tuple[str, ...], expires: datetime | None, cause: str
) -> None:
    service = servers.echo(server_context(servers.authority.issue_cert(*names, not_after=expires)))
    error = fails(client, service.url, ssl=servers.trust)
    assert f"cannot connect to 127.0.0.1 port {service.port}: the certificate was not accepted" in error
    assert cause in error
    assert "SSL_CERT_FILE" not in error  # another authority would not help


@clients
def test_an_unknown_authority(servers: Servers, client: str) -> None:
    for trust in (client_context(trustme.CA()), None):  # None: the system's trust store, which knows neither
        error = fails(client, servers.secure.url, ssl=trust)
        assert f"cannot connect to 127.0.0.1 port {servers.secure.port}: the certificate was not accepted" in error
        assert "unable to get local issuer certificate" in error
        assert "give the certificate of an authority that you trust as ssl=, or in SSL_CERT_FILE" in error


@clients
def test_no_version_in_common(servers: Servers, client: str) -> None:
    server = server_context(servers.authority.issue_cert("127.0.0.1"))
    server.maximum_version = ssl.TLSVersion.TLSv1_2
    trust = client_context(servers.authority)
    trust.minimum_version = ssl.TLSVersion.TLSv1_3
    with refusing(server) as port:
        error = fails(client, f"wss://127.0.0.1:{port}/client/hubs/chat?access_token=SECRET", ssl=trust)
    assert f"cannot connect to 127.0.0.1 port {port}: TLS failed: TLSV1_ALERT_PROTOCOL_VERSION" in error


@clients
def test_tls_where_there_is_none(servers: Servers, client: str) -> None:
    error = fails(client, servers.plain.url.replace("ws:", "wss:"), ssl=servers.trust)
    assert f"cannot connect to 127.0.0.1 port {servers.plain.port}: TLS failed: " in error
    assert "the URL starts with ws://" in error


@clients
def test_no_tls_where_there_is_some(servers: Servers, client: str) -> None:
    error = fails(client, servers.secure.url.replace("wss:", "ws:"))
    assert f"cannot connect to 127.0.0.1 port {servers.secure.port}: " in error
    assert "the URL starts with wss://" in error


@asynccontextmanager
async def mute(hangs: bool) -> Any:
    """A port that takes connections and says nothing: it hangs, or closes at the first byte."""

    async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1 if hangs else 1)
        writer.close()

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    yield int(server.sockets[0].getsockname()[1])
    server.close()
    await server.wait_closed()


@clients
@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_service_that_closes_at_once_or_never(servers: Servers, client: str, scheme: str) -> None:
    port = servers.stack.enter_context(running(lambda: mute(False)))
    error = fails(client, f"{scheme}://127.0.0.1:{port}/client/hubs/chat?access_token=SECRET")
    assert f"cannot connect to 127.0.0.1 port {port}: the " in error
    assert "handshake was cut short: " in error
    port = servers.stack.enter_context(running(lambda: mute(True)))
    error = fails(client, f"{scheme}://127.0.0.1:{port}/client/hubs/chat?access_token=SECRET", connect_timeout=0.1)
    assert error == f"the connection timed out: 127.0.0.1 port {port} did not answer in time"


@clients
def test_nobody_listens(servers: Servers, client: str) -> None:
    port = closed_port()
    for host in ("127.0.0.1", "localhost"):
        error = fails(client, f"ws://{host}:{port}/client/hubs/chat?access_token=SECRET")
        assert error == f"cannot connect to {host} port {port}: {os.strerror(errno.ECONNREFUSED)}"


# ---- Proxies as they should be


@clients
@pytest.mark.parametrize("secure", [False, True])
def test_by_way_of_a_proxy(servers: Servers, client: str, secure: bool) -> None:
    service = servers.secure if secure else servers.plain
    trust = servers.trust if secure else None
    proxy = servers.proxy.url(f"ann:{QUOTED}")
    tunnel = f"CONNECT 127.0.0.1:{service.port}"
    before = servers.proxy.log().count(tunnel)
    assert talk(client, service.url, ssl=trust, proxy=proxy) == ["hello"]
    until(lambda: servers.proxy.log().count(tunnel) > before)


@clients
def test_the_environment_names_the_proxy(servers: Servers, client: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # 0.0.0.0 is this machine, too, but not one of its loopback addresses, which need no proxy.
    proxy = servers.stub(OK, servers.plain.port)
    url = through(servers.plain.url, "0.0.0.0")
    monkeypatch.setenv("http_proxy", proxy.url)
    assert talk(client, url) == ["hello"]
    assert len(proxy.requests) == 1
    assert proxy.requests[0].startswith(f"CONNECT 0.0.0.0:{servers.plain.port} ".encode())
    # Exceptions from it:
    assert talk(client, url, proxy=False) == ["hello"]
    assert talk(client, servers.plain.url) == ["hello"]
    monkeypatch.setenv("no_proxy", "example.test, 0.0.0.0")
    assert talk(client, url) == ["hello"]
    assert len(proxy.requests) == 1


class Dropping(Echo):
    """Resets the connection of the first publication."""

    dropped = False

    def _obey(self, peer: Peer, message: Message) -> None:
        if message["type"] == "sendToGroup" and not self.dropped:
            self.dropped = True
            peer.reset()
        else:
            super()._obey(peer, message)


@clients
def test_a_recovery_takes_the_same_way(servers: Servers, client: str) -> None:
    service = servers.stack.enter_context(running(lambda: Dropping(server_context(servers.certificate))))
    proxy = servers.stub(OK, service.port)
    assert talk(client, service.url, ssl=servers.trust, proxy=proxy.url) == ["hello"]
    assert service.dropped
    assert len(proxy.requests) == 2


# ---- Proxies as they should not be


@clients
def test_a_proxy_that_wants_a_password(servers: Servers, client: str) -> None:
    proxy = f"the proxy 127.0.0.1 port {servers.proxy.port}"
    error = fails(client, servers.secure.url, ssl=servers.trust, proxy=servers.proxy.url())
    assert f"port {servers.secure.port}: {proxy} wants a user and a password (HTTP status 407)" in error
    error = fails(client, servers.secure.url, ssl=servers.trust, proxy=servers.proxy.url("ann:SECRET"))
    assert f"port {servers.secure.port}: {proxy} wants another user or password (HTTP status 407)" in error


@clients
def test_a_proxy_that_can_not_reach_the_service(servers: Servers, client: str) -> None:
    url = f"ws://127.0.0.1:{closed_port()}/client/hubs/chat?access_token=SECRET"
    error = fails(client, url, proxy=servers.proxy.url(f"ann:{QUOTED}"))
    assert f"the proxy 127.0.0.1 port {servers.proxy.port} refused to connect to 127.0.0.1:{port_of(url)}" in error
    assert "HTTP status 502 Bad Gateway" in error


@clients
@pytest.mark.parametrize(
    ("answer", "then", "cause"),
    [
        (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "hang", "PROXY refused .*HTTP status 403 Forbidden"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", "close", "PROXY refused .*HTTP status 502 Bad Gateway"),
        (b"HTTP/1.0 401 Unauthorized\r\n\r\n", "close", r"PROXY wants another user or password \(HTTP status 401\)"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "close", "PROXY gave an answer that cannot be read"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "hang", "PROXY gave an answer that cannot be read"),
        (b"", "close", "PROXY did not answer: "),
        (b"HTTP/1.1 200 OK\r\nX: ", "close", "PROXY did not answer: "),
        (OK, "close", "through PROXY: the TLS handshake was cut short"),
        (OK + b"HTTP/1.1 400 Bad Request\r\n\r\n", "close", "through PROXY: TLS failed: WRONG_VERSION_NUMBER"),
    ],
    ids=["403", "502", "401", "TLS", "SSH", "closes", "closes halfway", "closes the tunnel", "no TLS behind it"],
)
def test_a_proxy_that_gives_a_bad_answer(servers: Servers, client: str, answer: bytes, then: str, cause: str) -> None:
    proxy = servers.stub(answer, then)
    url = f"http://ann:{QUOTED}@127.0.0.1:{proxy.port}"
    error = fails(client, servers.secure.url, ssl=servers.trust, proxy=url)
    assert f"cannot connect to 127.0.0.1 port {servers.secure.port}" in error
    assert re.search(cause.replace("PROXY", f"the proxy 127.0.0.1 port {proxy.port}"), error)
    assert len(proxy.requests) == 1


@clients
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\n"])
def test_a_proxy_that_hangs(servers: Servers, client: str, answer: bytes) -> None:
    proxy = servers.stub(answer, "hang")
    error = fails(client, servers.secure.url, ssl=servers.trust, proxy=proxy.url, connect_timeout=0.1)
    there = f"127.0.0.1 port {servers.secure.port}"
    assert error == (
        f"the connection to {there} timed out: the proxy 127.0.0.1 port {proxy.port} did not answer in time"
    )


@clients
def test_a_proxy_that_is_not_there(servers: Servers, client: str) -> None:
    port = closed_port()
    error = fails(client, servers.plain.url, proxy=f"http://ann:{QUOTED}@127.0.0.1:{port}")
    there = f"cannot connect to 127.0.0.1 port {servers.plain.port}"
    way = f"through the proxy 127.0.0.1 port {port}"
    assert error == f"{there} {way}: {os.strerror(errno.ECONNREFUSED)}"


@clients
@pytest.mark.parametrize("scheme", ["ftp", "socks4"])
def test_a_proxy_of_another_kind(servers: Servers, client: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"{scheme}://ann:SECRET@127.0.0.1:3128"
    with pytest.raises(InvalidValue, match=f"proxy must start with http://, .* but has the scheme '{scheme}'"):
        talk(client, servers.plain.url, proxy=url)
    monkeypatch.setenv("all_proxy", url)
    error = fails(client, "ws://service.test/client/hubs/chat")
    assert "cannot connect to service.test port 80: the environment has a proxy that cannot be used" in error
    assert scheme in error


@clients
def test_settings_that_can_not_be_used_are_refused_at_once(client: str, servers: Servers, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    for trust in (tmp_path / "missing.pem", str(tmp_path / "empty.pem"), tmp_path):
        with pytest.raises(InvalidValue, match=r"ssl: the CA file .* cannot be used"):
            talk(client, servers.secure.url, ssl=trust)
    with pytest.raises(InvalidValue, match="a context for servers"):
        talk(client, servers.secure.url, ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
