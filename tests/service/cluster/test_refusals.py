"""Engines that must not be used, that do not let us, or that cannot for a while: what is said and what happens."""

from __future__ import annotations

import asyncio
import logging
import ssl
from contextlib import suppress

import pytest
from tests.helpers.ports import free_port
from tests.service.cluster.fake import fake_server, info
from tests.service.cluster.nodes import Node, opened, run, until
from tests.service.cluster.servers import RedisServer, Servers

from limpet.service.cluster import EngineRefused, EngineUnreachable, LogId, _redis_connection, _redis_links
from limpet.service.cluster._redis_answers import ConnectionLost
from limpet.service.cluster._redis_connection import Connection
from limpet.service.cluster._redis_url import Address, Login
from limpet.service.cluster.redis import RedisLog

SECRET = "hush-this-is-secret"


async def refusal(url: str) -> str:
    with pytest.raises(EngineRefused) as refused:
        await opened(url)
    return str(refused.value)


# ---- Real servers


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-lru", "allkeys-random"])
def test_an_engine_that_evicts_is_refused(servers: Servers, policy: str) -> None:
    server = servers("--maxmemory", "100mb", "--maxmemory-policy", policy)

    async def scenario() -> None:
        text = await refusal(server.url)
        assert f"may evict keys when its memory is full (maxmemory-policy {policy})" in text
        assert "Set maxmemory-policy noeviction" in text
        server("CONFIG", "SET", "maxmemory", "0")
        await opened(server.url)

    run(scenario)


def test_a_replica_that_evicts_is_not_read(servers: Servers) -> None:
    primary = servers()
    replica = servers("--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
    replica.follow(primary)

    async def scenario() -> None:
        log = await opened(primary.url)
        assert log.state.reading_from == "primary"
        assert f"{replica.address} may evict keys" in str(log.state.problem)

    run(scenario)


def test_a_password_that_is_missing_or_wrong_is_told_and_never_shown(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    server = servers("--requirepass", "right")
    server.password = "right"

    async def scenario() -> None:
        text = await refusal(server.url)
        assert text.startswith(f"{server.address} answers ")
        assert "wants a password. Write it into the URL" in text
        text = await refusal(f"redis://:{SECRET}@{server.address}")
        assert text.startswith(f"{server.address} answers ")
        assert "user or password are wrong. Correct them in the URL" in text
        assert "no primary" not in text
        assert SECRET not in text
        open_server = servers()
        text = await refusal(f"redis://:{SECRET}@{open_server.address}")
        assert "it has no password, but the URL has one" in text
        node = Node(await opened(f"redis://:right@{server.address}"), "a")
        node.start()
        node.append(10)
        await node.until_read()
        # It is changed while the log is in use.
        server("CONFIG", "SET", "requirepass", "other")
        server("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        node.append()
        await until(lambda: "user or password are wrong" in str(node.log.state.problem))
        server.password = "other"
        server("CONFIG", "SET", "requirepass", "right")
        await node.until_read()
        assert await node.log.newest() == node.raw[-1].id

    run(scenario)
    assert SECRET not in caplog.text
    assert ":right@" not in caplog.text


def test_a_user_with_too_few_rights_is_told_which_ones(servers: Servers) -> None:
    server = servers()
    server("ACL", "SETUSER", "limpet", "on", ">pass", "~{limpet:*", "+info", "+xadd")
    rights = (
        "+info +ping +xadd +xread +xrange +xrevrange +xtrim "
        "+get +set +unlink +expire +persist +watch +unwatch +multi +exec"
    )

    async def scenario() -> None:
        text = await refusal(f"redis://limpet:pass@{server.address}")
        assert f"Its ACL needs the keys {{limpet:*, and {rights}" in text
        server("ACL", "SETUSER", "limpet", *rights.split(), "+select")
        node = Node(await opened(f"redis://limpet:pass@{server.address}/3"), "a")
        node.start()
        node.append(10)
        await node.until_read()
        assert await node.log.save_snapshot(node.raw[4].id, b"five")
        assert await node.log.save_snapshot(node.raw[5].id, b"six")
        assert await node.log.load_snapshot() is not None

    run(scenario)


def test_other_data_under_our_names_is_refused(servers: Servers) -> None:
    server = servers()
    server("SET", "{limpet:0}:log", "x")

    async def scenario() -> None:
        assert "other data are stored under the names that the log needs" in await refusal(server.url)

    run(scenario)


def test_a_database_that_is_not_there_is_refused(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        assert "no database of this number" in await refusal(f"{server.url}/99")

    run(scenario)


def test_a_sentinel_in_place_of_a_server_is_told(servers: Servers) -> None:
    sentinel = servers(sentinel="")

    async def scenario() -> None:
        with pytest.raises(EngineUnreachable, match="is no server that stores data: a sentinel, or no Redis at all"):
            await opened(sentinel.url, wait=0.1)

    run(scenario)


def test_a_server_in_place_of_a_sentinel_is_told(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        text = await refusal(server.url.replace("redis://", "redis+sentinel://") + "/main")
        assert "it is no sentinel. Give the addresses of the sentinels" in text
        assert "too old" not in text

    run(scenario)


def test_nobody_there_and_two_that_claim_to_be_the_primary(servers: Servers) -> None:
    one, other = servers(), servers()

    async def scenario() -> None:
        with pytest.raises(EngineUnreachable, match="no primary answers"):
            await opened(f"redis://127.0.0.1:{free_port()}", wait=0.1)
        text = await refusal(f"{one.url},{other.address}")
        assert f"several servers say that they are the primary ({one.address}, {other.address})" in text

    run(scenario)


def full(server: RedisServer, room: int = 0) -> None:
    """Leave room for so many bytes, or for nothing."""
    used = int(next(line for line in server("INFO", "memory").split() if line.startswith(b"used_memory:"))[12:])
    server("CONFIG", "SET", "maxmemory", used + room if room else used // 2)


def test_a_full_engine_stops_the_log_and_memory_lets_it_go_on(servers: Servers) -> None:
    server = servers("--maxmemory-policy", "noeviction")

    async def scenario() -> None:
        node = Node(await opened(server.url), "a")
        node.start()
        node.append(10)
        await node.until_read()
        full(server, 400_000)
        node.append(50, size=20_000)
        node.append(100, size=10)  # of which some may find room: they count only behind the larger ones
        await until(lambda: "its memory is full (maxmemory)" in str(node.log.state.problem))
        full(server)
        await until(lambda: node.log.state.lag > 1)
        assert node.log.state.unread_entries > 100
        server("CONFIG", "SET", "maxmemory", 0)
        await node.until_read()
        assert node.counted == [f"a:{number}" for number in range(1, node.number + 1)]
        assert "no replica" in str(node.log.state.problem)
        assert node.log.state.unread_entries == 0

    run(scenario)


def test_the_end_of_a_problem_is_told_once(servers: Servers, caplog: pytest.LogCaptureFixture) -> None:
    primary, replica = servers.pair("--maxmemory-policy", "noeviction")

    def told(level: int, text: str) -> int:
        return sum(record.levelno == level and text in record.getMessage() for record in caplog.records)

    async def scenario() -> None:
        node = Node(await opened(primary.url), "a")
        node.start()
        node.append(10)
        await node.until_read()
        for _ in range(3):
            await node.log._links.look()  # as it does every few seconds
        assert told(logging.INFO, f"appends to {primary.address}, reads from {replica.address}") == 1
        full(primary)
        node.append(10, size=20_000)
        await until(lambda: told(logging.WARNING, "its memory is full (maxmemory)"))
        primary("CONFIG", "SET", "maxmemory", 0)
        await node.until_read()
        await until(lambda: told(logging.INFO, "the cluster's log goes on: it appends to"))
        await until(lambda: node.log.state.problem is None)
        assert told(logging.WARNING, "its memory is full (maxmemory)") == 1
        assert told(logging.INFO, "goes on") == 1
        # One that leaves the log working: it is over, too.
        replica.kill()
        await until(lambda: told(logging.WARNING, "has no replica that follows it"))
        assert replica.start()
        await asyncio.to_thread(replica.follow, primary)
        await until(lambda: told(logging.INFO, f"again: it appends to {primary.address}, reads from {replica.address}"))
        node.append(10)
        await node.until_read()

    caplog.set_level(logging.INFO, "limpet.service")
    run(scenario)


def test_a_full_engine_refuses_a_snapshot_and_keeps_the_one_before(servers: Servers) -> None:
    server = servers("--maxmemory-policy", "noeviction")

    async def scenario() -> None:
        node = Node(await opened(server.url), "a")
        node.start()
        node.append(10)
        await node.until_read()
        assert await node.log.save_snapshot(node.raw[2].id, b"before")
        full(server, 24_000_000)  # for some of the chunks
        with pytest.raises(EngineRefused, match="its memory is full"):
            await node.log.save_snapshot(node.raw[5].id, b"x" * 60_000_000)
        server("CONFIG", "SET", "maxmemory", 0)
        snapshot = await node.log.load_snapshot()
        assert snapshot is not None
        assert (snapshot.at, snapshot.data) == (node.raw[2].id, b"before")
        await until(lambda: len(server("KEYS", "*")) == 3)  # log, pointer, the chunk of before: nothing was left behind

    run(scenario)


# ---- What no server here can be made to say


@pytest.mark.parametrize("version", ["6.0.16", "5.0", "", "junk", "6", "6.x"])
def test_a_version_too_old_is_refused(version: str) -> None:
    called = version or "of an unknown version"

    async def scenario() -> None:
        async with fake_server() as fake:
            fake.answers["INFO"] = info(redis_version=version)
            text = await refusal(fake.url)
            assert f"is Redis {called}, which is too old" in text
            assert "Use Redis 6.2 or newer, or Valkey" in text

    run(scenario)


@pytest.mark.parametrize("version", ["6.2.0", "7.2.4", "8.0.1", "10.0.0"])
def test_versions_that_are_new_enough(version: str) -> None:
    async def scenario() -> None:
        async with fake_server() as fake:
            fake.answers["INFO"] = info(redis_version=version)
            await opened(fake.url)

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("MOVED 1234 10.0.0.7:6379", "follows no redirections"),
        ("ASK 1234 10.0.0.7:6379", "follows no redirections"),
        ("CLUSTERDOWN Hash slot not served", "without cluster mode"),
        ("NOPERM this user has no permissions", "may not do that"),
        ("WRONGTYPE Operation against a key", "Use another database"),
        ("ERR unknown command `SENTINEL`, with args beginning with: `MASTER`", "it is no sentinel"),  # Redis 6.2
    ],
)
def test_what_lasts_is_refused_at_the_start(answer: str, text: str) -> None:
    async def scenario() -> None:
        async with fake_server() as fake:
            fake.answers["XREVRANGE"] = f"-{answer}\r\n".encode()
            said = await refusal(fake.url)
            assert text in said
            assert repr(answer) in said

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "its memory is full"),
        ("MISCONF Redis is configured to save RDB snapshots", "cannot write its data to the disk"),
        ("NOREPLICAS Not enough good replicas to write.", "fewer replicas than min-replicas-to-write"),
        ("READONLY You can't write against a read only replica.", "is a replica now, and not the primary"),
        ("LOADING Redis is loading the dataset in memory", "still reading its data from the disk"),
        ("BUSY Redis is busy running a script.", "runs a script of somebody else"),
        ("ERR something new", "does not know this answer"),
    ],
)
def test_what_passes_is_told_and_tried_again_in_order(answer: str, text: str) -> None:
    async def scenario() -> None:
        async with fake_server() as fake:
            log = await opened(fake.url)
            fake.answers["XADD"] = f"-{answer}\r\n".encode()
            for entry in (b"one", b"two", b"three"):
                log.append(entry)
            await until(lambda: text in str(log.state.problem))
            await until(lambda: len([each for each in fake.asked if each[0] == b"XADD"]) > 4)
            log.append(b"four")
            assert [each[-1] for each in fake.asked if each[0] == b"XADD"][:5] == [
                b"one",
                b"two",
                b"three",
                b"one",
                b"one",
            ]
            fake.asked.clear()
            fake.answers["XADD"] = b"$3\r\n5-0\r\n"
            await until(lambda: [each[-1] for each in fake.asked if each[0] == b"XADD"][-4:] == ENTRIES)
            assert text not in str(log.state.problem)

    run(scenario)


ENTRIES = [b"one", b"two", b"three", b"four"]


def test_an_engine_that_quotes_the_password_does_not_get_it_into_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with fake_server() as fake:
            quoted = f"-ERR unknown command 'AUTH', with args beginning with: 'limpet' '{SECRET}'\r\n"
            fake.answers["AUTH"] = quoted.encode()
            text = await refusal(fake.url.replace("//", f"//limpet:{SECRET}@"))
            assert "too old, or the command is renamed" in text
            assert SECRET not in text
            fake.answers["AUTH"] = f"{SECRET}\r\n".encode()
            with pytest.raises(EngineUnreachable, match="does not speak as Redis does") as unreachable:
                await opened(fake.url.replace("//", f"//limpet:{SECRET}@"), wait=0.1)
            assert SECRET not in str(unreachable.value)

    run(scenario)
    assert SECRET not in caplog.text
    assert SECRET not in repr(RedisLog)


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ({"XREVRANGE": b"+OK\r\n"}, "XREVRANGE that is no list"),
        ({"XREVRANGE": b"*1\r\n:5\r\n"}, "a list of entries that is none"),
        ({"XREVRANGE": b"*1\r\n*2\r\n$3\r\nx-0\r\n*0\r\n"}, "a list of entries that is none"),
        ({"XREVRANGE": b"*1\r\n*2\r\n$50\r\n" + b"1" * 50 + b"\r\n*0\r\n"}, "an id that is too long"),
    ],
)
def test_answers_of_the_wrong_form_are_refused(answers: dict[str, bytes], text: str) -> None:
    async def scenario() -> None:
        async with fake_server() as fake:
            fake.answers |= answers
            assert text in await refusal(fake.url)

    run(scenario)


def test_a_primary_whose_answers_are_of_the_wrong_form_is_connected_to_again() -> None:
    # It may be an answer to another question: then all that follow it are, too.
    async def scenario() -> None:
        async with fake_server() as fake:
            log = await opened(fake.url)
            before = log._links.appender.connection
            fake.answers["XREVRANGE"] = b"+OK\r\n"
            with pytest.raises(EngineRefused, match="XREVRANGE that is no list"):
                await log.newest()
            fake.answers["XREVRANGE"] = b"*0\r\n"
            await until(lambda: log._links.appender.connection not in (None, before))
            assert await log.newest() == LogId(0, 0)

    run(scenario)


def page(*entries: tuple[str, bytes]) -> bytes:
    rows = b"".join(
        b"*2\r\n$%d\r\n%s\r\n*2\r\n$1\r\ne\r\n$%d\r\n%s\r\n" % (len(name), name.encode(), len(data), data)
        for name, data in entries
    )
    return b"*1\r\n*2\r\n$3\r\nlog\r\n*%d\r\n%s" % (len(entries), rows)


@pytest.mark.parametrize(
    "answer",
    [
        page(("5-1", b"a:2:"), ("5-0", b"a:1:")),
        page(("0-0", b"a:1:")),
        b"+OK\r\n",
        b"*1\r\n*1\r\n*0\r\n",
        b"*2\r\n*2\r\n$1\r\na\r\n*0\r\n*2\r\n$1\r\nb\r\n*0\r\n",
        b"*1\r\n*2\r\n$3\r\nlog\r\n*1\r\n*2\r\n$3\r\n5-0\r\n:7\r\n",
    ],
)
def test_a_page_of_the_wrong_form_is_not_delivered_and_read_again(answer: bytes) -> None:
    async def scenario() -> None:
        async with fake_server() as fake:
            node = Node(await opened(fake.url), "a")
            fake.answers["XREAD"] = answer
            node.start()
            await until(lambda: len([each for each in fake.asked if each[0] == b"XREAD"]) > 1)
            await until(lambda: "the log cannot be read" in str(node.log._links._read_problem))
            assert node.raw == []
            fake.answers["XREAD"] = page(("5-0", b"a:1:"))
            await until(lambda: len(node.raw) == 1)

    run(scenario)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"*2000000\r\n", "a list that is too long"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak as Redis does"),
    ],
)
def test_a_server_that_does_not_speak_the_protocol_is_left(answer: bytes, text: str) -> None:
    async def scenario() -> None:
        async with fake_server() as fake:
            fake.answers["INFO"] = answer
            with pytest.raises(EngineUnreachable, match=text):
                await opened(fake.url, wait=0.1, answer_timeout=1.0)

    run(scenario)


@pytest.mark.parametrize("host", ["redis-1..svc", ".svc", "x" * 64])
def test_a_replica_whose_name_is_no_name_is_left_out(host: str) -> None:
    # As of a replica-announce-ip with a placeholder that was left empty.
    async def scenario() -> None:
        async with fake_server() as fake:
            fake.answers["INFO"] = info(slave0=f"ip={host},port=6379,state=online,offset=1,lag=0")
            log = await opened(fake.url)
            assert log.state.primary == fake.url.removeprefix("redis://")
            assert f"no connection to {host}:6379" in str(log.state.problem)
            with pytest.raises(EngineUnreachable, match=f"no connection to {host}:6379"):
                await opened(f"redis://{host}", wait=0.1)

    run(scenario)


@pytest.mark.parametrize(
    ("question", "answer", "text"),
    [
        ("GET", b"-NOPERM no permissions\r\n", "this user may not do that"),
        ("GET", b"-NOAUTH Authentication required.\r\n", "it wants a password"),
        ("GET", b"-MOVED 1 127.0.0.1:1\r\n", "does not hold this key"),
    ],
)
def test_an_engine_that_does_not_say_whether_an_entry_is_lost_is_asked_again(
    question: str, answer: bytes, text: str
) -> None:
    async def scenario() -> None:
        async with fake_server() as fake:
            node = Node(await opened(fake.url), "a")
            fake.answers["XREAD"] = page(("6-0", b"a:1:"))
            before = fake.answers[question]
            fake.answers[question] = answer
            node.start(LogId(5, 0))  # which the server that is read does not have
            await until(lambda: text in str(node.log._links._read_problem))
            await asyncio.sleep(0.3)
            assert node.error is None
            assert len(fake.asked) < 500, "it is asked again and again at once"
            fake.answers[question] = before
            fake.answers["XRANGE"] = b"*1\r\n*2\r\n$3\r\n5-0\r\n*2\r\n$1\r\ne\r\n$1\r\nx\r\n"
            await until(lambda: node.raw)
            assert node.error is None

    run(scenario)


def test_an_answer_to_nothing_ends_the_connection() -> None:
    async def scenario() -> None:
        async with fake_server() as fake:
            log = await opened(fake.url)
            before = log._links.appender.connection
            fake.answers["XREVRANGE"] = b"*0\r\n*0\r\n"
            await log.newest()
            await until(lambda: log._links.appender.connection is not before)
            assert before is not None
            assert before.lost

    run(scenario)


def test_a_connection_that_is_dead_is_found_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_links, "_ALL_WELL", 0.2)

    async def scenario() -> None:
        async with fake_server() as fake:
            log = await opened(fake.url, answer_timeout=1.0)
            before = log._links.appender.connection
            fake.answers["PING"] = None  # as if nothing arrived there any more
            await until(lambda: log._links.appender.connection not in (before, None))

    run(scenario)


def test_an_answer_without_end_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_connection, "_MAX_ANSWER", 8_000_000)

    async def scenario() -> None:
        async with fake_server() as fake:
            log = await opened(fake.url)
            fake.answers["XREVRANGE"] = b"$999999999\r\n" + b"x" * 9_000_000
            question = asyncio.create_task(log.newest())
            await until(lambda: log._links.appender.connection is None)
            fake.answers["XREVRANGE"] = b"*0\r\n"
            await question

    run(scenario)


def test_a_server_that_is_silent_over_tls_may_speak_none() -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                await reader.read()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            ended.set()

        silent = await asyncio.start_server(held, "127.0.0.1", 0)
        async with silent:
            address = Address(*silent.sockets[0].getsockname()[:2])
            with pytest.raises(ConnectionLost, match=r"does not answer for 0\.1 s over TLS: .* write redis://"):
                await Connection.open(address, Login(tls=ssl.create_default_context()), 0.1)
            await ended.wait()

    run(scenario)
