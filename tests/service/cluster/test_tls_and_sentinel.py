"""TLS, and a failover that real sentinels decide."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from tests.helpers.ports import free_port
from tests.service.cluster.fake import fake_server
from tests.service.cluster.nodes import Node, opened, run, until
from tests.service.cluster.servers import RedisServer, Servers

from limpet.service.cluster import EngineUnreachable


@pytest.fixture
def folder_of_certificates(tmp_path: Path) -> Path:
    folder = tmp_path / "certificates"
    folder.mkdir()
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server = authority.issue_cert("127.0.0.1", "localhost")
    server.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))
    server.private_key_pem.write_to_path(str(folder / "server.key"))
    client = authority.issue_cert("node")
    client.private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    return folder


def test_tls_with_certificates_of_both_sides(servers: Servers, folder_of_certificates: Path) -> None:
    folder, port = folder_of_certificates, free_port()
    files = ["--tls-cert-file", f"{folder}/server.pem", "--tls-key-file", f"{folder}/server.key"]
    servers("--tls-port", str(port), *files, "--tls-ca-cert-file", f"{folder}/ca.pem", "--requirepass", "right")
    url = f"rediss://:right@localhost:{port}/0"

    async def scenario() -> None:
        trusted = f"{url}?ssl_ca_certs={folder}/ca.pem&ssl_certfile={folder}/client.pem"
        node = Node(await opened(trusted), "a")
        node.start()
        node.append(300)
        await node.until_read()
        assert await node.log.save_snapshot(node.raw[100].id, b"x" * 3_000_000)
        snapshot = await node.log.load_snapshot()
        assert snapshot is not None
        assert len(snapshot.data) == 3_000_000
        with pytest.raises(
            EngineUnreachable, match=r"no TLS with localhost:\d+: .*certificate.*check ssl_ca_certs"
        ) as untrusted:
            await opened(url, wait=0.1)
        assert "right" not in str(untrusted.value)
        # Without a certificate of its own, the server ends the connection.
        with pytest.raises(EngineUnreachable, match="no primary answers"):
            await opened(f"{url}?ssl_cert_reqs=none", wait=0.1)
        unchecked = await opened(f"{url}?ssl_cert_reqs=none&ssl_certfile={folder}/client.pem")
        assert await unchecked.newest() == node.raw[-1].id
        with pytest.raises(EngineUnreachable):
            await opened(f"redis://localhost:{port}", wait=0.1, answer_timeout=1.0)

    run(scenario)


def sentinel_config(primary: RedisServer) -> str:
    return (
        f"sentinel monitor limpet-test 127.0.0.1 {primary.port} 1\n"
        "sentinel down-after-milliseconds limpet-test 2000\n"
        "sentinel failover-timeout limpet-test 10000\n"
        "requirepass sentinels\n"
    )


def test_a_failover_by_sentinel_loses_nothing(servers: Servers) -> None:
    primary, replica = servers.pair()
    sentinel = servers(sentinel=sentinel_config(primary))
    sentinel.password = "sentinels"
    url = f"redis+sentinel://127.0.0.1:{free_port()},{sentinel.address}/limpet-test?sentinel_password=sentinels"

    async def scenario() -> None:
        await until(lambda: len(sentinel("SENTINEL", "REPLICAS", "limpet-test")) == 1)
        nodes = [Node(await opened(url), name) for name in "ab"]
        for node in nodes:
            node.start()
            node.append(20)
        for node in nodes:
            await node.until_read(*nodes)
            assert (node.log.state.primary, node.log.state.source) == (primary.address, replica.address)
        for node in nodes:
            node.append(20)
        primary.kill()
        for node in nodes:
            node.append(20)
        for node in nodes:
            await node.until_read(*nodes)
            assert node.log.state.primary == replica.address
        assert nodes[0].counted == nodes[1].counted
        # Sentinel makes the old primary a replica, which is read again.
        primary.start()
        await until(lambda: all(node.log.state.source == primary.address for node in nodes))
        assert all(node.log.state.reading_from == "replica" for node in nodes)
        for node in nodes:
            node.append(20)
        for node in nodes:
            await node.until_read(*nodes)
        assert len(nodes[0].counted) == 160
        with pytest.raises(EngineUnreachable, match="no sentinel names a primary 'other'"):
            await opened(url.replace("limpet-test", "other"), wait=0.1)

    run(scenario)


def words(*values: str | int) -> bytes:
    return b"*%d\r\n" % len(values) + b"".join(
        b"$%d\r\n%s\r\n" % (len(str(each)), str(each).encode()) for each in values
    )


def test_sentinels_decide_and_the_one_that_knows_of_the_latest_failover_is_believed(servers: Servers) -> None:
    """Two servers take themselves for the primary. One of the sentinels was cut off when the other was elected."""
    old, elected = servers(), servers()

    async def scenario() -> None:
        async with fake_server() as behind, fake_server() as ahead:
            for fake, primary, other, epoch in ((behind, old, elected, 3), (ahead, elected, old, 4)):
                fake.answers["SENTINEL GET-MASTER-ADDR-BY-NAME"] = words("127.0.0.1", primary.port)
                fake.answers["SENTINEL MASTER"] = words("ip", "127.0.0.1", "config-epoch", epoch)
                row = words("ip", "127.0.0.1", "port", other.port)
                fake.answers["SENTINEL REPLICAS"] = b"*3\r\n" + row + b":5\r\n" + words("ip", "x", "port", "y")
            hosts = ",".join(fake.url.removeprefix("redis://") for fake in (behind, ahead))
            log = await opened(f"redis+sentinel://{hosts}/mine")
            assert log.state.primary == elected.address
            # What makes no sense is no answer of a sentinel.
            for nonsense in (b"*-1\r\n", words("h"), words("", 5), words("h", 0), words("h", "x"), b":7\r\n"):
                ahead.answers["SENTINEL GET-MASTER-ADDR-BY-NAME"] = nonsense
                log = await opened(f"redis+sentinel://{hosts}/mine")
                assert log.state.primary == old.address

    run(scenario)


def test_what_the_url_says_of_tls() -> None:
    from limpet.service.cluster._redis_url import parse_url

    tls = parse_url("rediss://h").login.tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, True)
    tls = parse_url("rediss://h?ssl_check_hostname=false").login.tls
    assert tls is not None
    assert (tls.verify_mode, tls.check_hostname) == (ssl.CERT_REQUIRED, False)
    sentinel = parse_url("rediss+sentinel://h/n?ssl_cert_reqs=none")
    assert sentinel.login.tls is sentinel.sentinel_login.tls is not None
    with pytest.raises(OSError, match="No such file"):
        parse_url("rediss://h?ssl_ca_certs=/nowhere/ca.pem")
