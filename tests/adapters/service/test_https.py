"""The service over TLS, and the certificate that is made for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from tests.helpers.waiting import LIMIT

from limpet.asyncio import Client
from limpet.service import LocalCertificate, Service, ServiceOptions
from limpet.service.certificates import server_context

ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes of files")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---- The certificate


def test_a_certificate_is_made_once_and_used_again(tmp_path: Path) -> None:
    made = LocalCertificate.of_folder(tmp_path / "a" / "b")
    before = contents(tmp_path)
    assert LocalCertificate.of_folder(tmp_path / "a" / "b", "localhost") == made
    assert contents(tmp_path) == before
    assert set(before) == {"a/b/localhost/authority.pem", "a/b/localhost/server.pem"}
    assert b"PRIVATE" not in before["a/b/localhost/authority.pem"]
    assert before["a/b/localhost/server.pem"].count(b"PRIVATE KEY-----") == 2  # one key, and not the authority's


@posix
def test_nobody_else_can_read_the_key(tmp_path: Path) -> None:
    mask = os.umask(0)
    try:
        made = LocalCertificate.of_folder(tmp_path / "https")
    finally:
        os.umask(mask)
    for path, mode in (
        (tmp_path / "https", 0o700),
        (made.server.parent, 0o700),
        (made.server, 0o600),
        (made.authority, 0o600),
    ):
        assert path.stat().st_mode & 0o777 == mode, path


@posix
@pytest.mark.parametrize(("which", "mode"), [("server", 0o640), ("server", 0o604), ("folder", 0o755)])
def test_a_key_that_others_could_read_is_replaced(
    tmp_path: Path, which: str, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    made = LocalCertificate.of_folder(tmp_path)
    key = made.server.read_bytes()
    (made.server if which == "server" else made.server.parent).chmod(mode)
    assert LocalCertificate.of_folder(tmp_path) == made
    assert made.server.read_bytes() != key
    assert made.server.stat().st_mode & 0o777 == 0o600
    assert made.server.parent.stat().st_mode & 0o777 == 0o700
    assert "could be read by others" in caplog.text


def _expires_in(days: int) -> Any:
    def spoil(made: LocalCertificate) -> None:
        authority = trustme.CA()
        until = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=days)
        leaf = authority.issue_cert("localhost", "127.0.0.1", "::1", not_after=until)
        made.authority.write_bytes(authority.cert_pem.bytes())
        made.server.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())

    return spoil


def _other_authority(made: LocalCertificate) -> None:
    made.authority.write_bytes(trustme.CA().cert_pem.bytes())


def _other_names(made: LocalCertificate) -> None:
    authority = trustme.CA()
    made.authority.write_bytes(authority.cert_pem.bytes())
    made.server.write_bytes(authority.issue_cert("localhost").private_key_and_cert_chain_pem.bytes())


@pytest.mark.parametrize(
    "spoil",
    [
        _expires_in(3),
        _expires_in(-1),
        _other_authority,
        _other_names,
        lambda made: made.server.write_bytes(b"nonsense"),
        lambda made: made.server.write_bytes(made.server.read_bytes()[:300]),
        lambda made: made.authority.write_bytes(b""),
        lambda made: made.authority.unlink(),
        lambda made: made.server.unlink(),
    ],
    ids=["expires soon", "expired", "authority", "names", "nonsense", "cut", "empty", "no authority", "no key"],
)
def test_a_certificate_that_clients_would_refuse_is_made_anew(tmp_path: Path, spoil: Any) -> None:
    made = LocalCertificate.of_folder(tmp_path)
    first = made.server.read_bytes()
    spoil(made)
    spoiled = contents(tmp_path)
    assert LocalCertificate.of_folder(tmp_path) == made
    assert made.server.read_bytes() not in (first, spoiled.get("localhost/server.pem"))
    mended = contents(tmp_path)
    assert set(mended) == {"localhost/authority.pem", "localhost/server.pem"}
    LocalCertificate.of_folder(tmp_path)
    assert contents(tmp_path) == mended


def test_a_certificate_that_expires_in_a_month_is_kept(tmp_path: Path) -> None:
    made = LocalCertificate.of_folder(tmp_path)
    _expires_in(30)(made)
    kept = contents(tmp_path)
    LocalCertificate.of_folder(tmp_path)
    assert contents(tmp_path) == kept


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_certificate_is_judged_by_any_version_of_tls(
    tmp_path: Path, version: ssl.TLSVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system's own settings of OpenSSL may allow one alone."""
    made = LocalCertificate.of_folder(tmp_path)
    kept = contents(tmp_path)
    create = ssl.create_default_context

    def limited(*args: Any, **named: Any) -> ssl.SSLContext:
        context = create(*args, **named)
        context.minimum_version = context.maximum_version = version
        return context

    monkeypatch.setattr(ssl, "create_default_context", limited)
    assert LocalCertificate.of_folder(tmp_path) == made
    assert contents(tmp_path) == kept


def test_another_address_has_a_certificate_of_its_own(tmp_path: Path) -> None:
    local = LocalCertificate.of_folder(tmp_path)
    other, again = (LocalCertificate.of_folder(tmp_path, "192.0.2.7") for _ in range(2))
    assert other == again != local
    assert LocalCertificate.of_folder(tmp_path, "2001:db8::1").server.parent.name == "2001_db8__1"
    assert LocalCertificate.of_folder(tmp_path, "0.0.0.0").server.exists()


def test_starts_at_the_same_time_agree_on_one_certificate(tmp_path: Path) -> None:
    count = 8
    barrier = threading.Barrier(count)
    found: list[tuple[bytes, bytes]] = []

    def start() -> None:
        barrier.wait(LIMIT)
        made = LocalCertificate.of_folder(tmp_path)
        found.append((made.authority.read_bytes(), made.server.read_bytes()))

    threads = [threading.Thread(target=start) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert len(found) == count
    assert len(set(found)) == 1
    assert set(contents(tmp_path)) == {"localhost/authority.pem", "localhost/server.pem"}


# ---- The service


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificate:
    return LocalCertificate.of_folder(tmp_path_factory.mktemp("https"))


def trusting(certificate: LocalCertificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate.authority))


def test_clients_rest_and_the_trace_page_over_tls(certificate: LocalCertificate) -> None:
    async def main() -> None:
        async with Service(ssl=certificate.ssl_context()) as service:
            assert service.endpoint == f"https://127.0.0.1:{service.port}"
            assert service.trace_url == f"{service.endpoint}/"
            assert f"Endpoint={service.endpoint};" in service.connection_string
            url = service.client_url(user_id="ann", roles=ROLES)
            assert url.startswith(f"wss://127.0.0.1:{service.port}/client/")
            async with Client(url, ssl=certificate.authority) as client:
                await client.join_group("room")
                await client.send_to_group("room", "x" * 500_000)
                async with asyncio.timeout(LIMIT):
                    message = await anext(aiter(client))
                assert len(message.data) == 500_000
            async with httpx.AsyncClient(verify=trusting(certificate)) as browser:
                negotiated = await browser.get(f"{service.endpoint}/negotiate", params={"hub": "chat"})
                assert negotiated.json()["url"].startswith(f"wss://127.0.0.1:{service.port}/")
                page = await browser.get(f"https://localhost:{service.port}/")
                assert page.status_code == 200
            async with Client(negotiated.json()["url"], ssl=trusting(certificate)) as client:
                await client.join_group("room")

    asyncio.run(main())


def test_the_service_stops_although_a_peer_keeps_still_in_its_tls_handshake(certificate: LocalCertificate) -> None:
    """No socket is left: the end of the loop would complain."""

    async def main() -> None:
        service = Service(ssl=certificate.ssl_context())
        await service.start()
        silent = [await asyncio.open_connection("127.0.0.1", service.port) for _ in range(3)]
        silent[0][1].write(b"\x16\x03\x01\x02")  # the beginning of a ClientHello
        async with asyncio.timeout(LIMIT):
            await service.stop()
            for reader, writer in silent:
                with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
                    await reader.readexactly(1)
                writer.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_peers_that_speak_no_tls_are_dropped_in_silence(
    certificate: LocalCertificate, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        impatient = Service(ServiceOptions(request_timeout=0.5), ssl=certificate.ssl_context())
        async with impatient, Service(ssl=certificate.ssl_context()) as service, asyncio.timeout(LIMIT):
            for port, said in (
                (service.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
                (service.port, b"\x00" * 100),
                (impatient.port, b""),
            ):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(said)
                with contextlib.suppress(ConnectionError):
                    assert b"HTTP" not in await reader.read()
                writer.close()
            with pytest.raises(ssl.SSLCertVerificationError):  # no trust in the authority
                await asyncio.open_connection("127.0.0.1", service.port, ssl=ssl.create_default_context())
            async with Client(service.client_url(roles=ROLES), ssl=certificate.authority) as client:
                await client.join_group("room")

    with caplog.at_level(logging.INFO):
        asyncio.run(main())
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_certificate_of_ones_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    leaf = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "chain.pem", tmp_path / "key.pem"
    chain.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)

    async def main() -> None:
        async with (
            Service(ssl=server_context(chain, key)) as service,
            Client(service.client_url(roles=ROLES), ssl=trusted) as client,
        ):
            await client.join_group("room")

    asyncio.run(main())
    with pytest.raises(ssl.SSLError):
        server_context(chain)
