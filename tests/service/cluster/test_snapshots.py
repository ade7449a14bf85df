"""Snapshots, the trimmed log, and an engine that has forgotten entries."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from tests.service.cluster.nodes import Node, opened, run, until
from tests.service.cluster.servers import RedisServer, Servers

from limpet.service.cluster import (
    MAX_SNAPSHOT,
    START,
    EngineRefused,
    EntryForgotten,
    EntryTrimmed,
    LogId,
    Snapshot,
    SnapshotBroken,
    _redis_read,
    _redis_snapshots,
    redis,
)
from limpet.service.cluster.redis import RedisLog

LOG, POINTER = "{limpet:0}:log", "{limpet:0}:snap"


async def written(server: RedisServer, count: int = 20) -> Node:
    """Return a node that has appended and read so many entries."""
    node = Node(await opened(server.url), "a")
    node.start()
    node.append(count)
    await node.until_read()
    return node


def chunks(server: RedisServer) -> list[bytes]:
    return sorted(key for key in server("KEYS", "*") if key.startswith(f"{POINTER}:".encode()))


@pytest.mark.parametrize("size", [0, 1, 1024 * 1024, 1024 * 1024 + 1, 11_000_000])
def test_a_snapshot_comes_back_whole_and_the_log_is_trimmed_before_it(servers: Servers, size: int) -> None:
    server = servers()

    async def scenario() -> None:
        node = await written(server)
        assert await node.log.load_snapshot() is None
        at = node.raw[14].id
        data = bytes(range(251)) * (size // 251) + b"!" * (size % 251)
        assert await node.log.save_snapshot(at, data)
        assert await node.log.load_snapshot() == Snapshot(at, data)
        assert server("XLEN", LOG) == 6
        assert all(server("TTL", name) == -1 for name in chunks(server))
        fresh = Node(await opened(server.url), "b")
        fresh.start(at)
        await until(lambda: len(fresh.raw) == 5)
        assert fresh.raw == node.raw[15:]

    run(scenario)


def test_a_snapshot_replaces_an_older_one_and_never_a_newer_one(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        node = await written(server)
        assert await node.log.save_snapshot(node.raw[5].id, b"5")
        assert await node.log.save_snapshot(node.raw[9].id, b"9")
        old = [name for name in chunks(server) if str(node.raw[5].id).encode() in name]
        assert 0 < server("TTL", old[0]) <= 600  # for nodes that are loading it
        assert not await node.log.save_snapshot(node.raw[9].id, b"again")
        assert not await node.log.save_snapshot(node.raw[7].id, b"7")
        assert await node.log.load_snapshot() == Snapshot(node.raw[9].id, b"9")
        assert len(chunks(server)) == 2
        with pytest.raises(ValueError, match="the start is none"):
            await node.log.save_snapshot(START, b"")
        with pytest.raises(ValueError, match="at most"):
            await node.log.save_snapshot(node.raw[10].id, _Huge())

    run(scenario)


class _Huge(bytes):
    def __len__(self) -> int:
        return MAX_SNAPSHOT + 1


def test_nodes_that_save_at_the_same_time_leave_the_newest_one(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        node = await written(server)
        logs = [await opened(server.url) for _ in range(6)]
        ids = [node.raw[place].id for place in (3, 11, 7, 15, 5, 13)]
        await asyncio.gather(*(log.save_snapshot(at, str(at).encode()) for log, at in zip(logs, ids, strict=True)))
        assert await node.log.load_snapshot() == Snapshot(node.raw[15].id, str(node.raw[15].id).encode())
        assert server("XRANGE", LOG, "-", "+", "COUNT", 1)[0][0] == str(node.raw[15].id).encode()
        lasting = [name for name in chunks(server) if server("TTL", name) == -1]
        assert len(lasting) == 1

    run(scenario)


def test_a_newer_snapshot_that_comes_between_the_look_and_the_pointer_stays(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers()
    looks: list[bool] = []
    is_newer = _redis_snapshots.StoredSnapshots._is_newer

    async def scenario() -> None:
        node = await written(server)
        newer = f"{node.raw[15].id} tag 1 1 00000000"

        def look(raw: object, at: LogId) -> bool:
            looks.append(is_newer(raw, at))
            if len(looks) == 2:  # behind the chunks
                server("SET", POINTER, newer)
            return looks[-1]

        monkeypatch.setattr(_redis_snapshots.StoredSnapshots, "_is_newer", staticmethod(look))
        assert not await node.log.save_snapshot(node.raw[9].id, b"9")
        assert looks == [True, True, False]
        assert server("GET", POINTER) == newer.encode()
        assert server("XLEN", LOG) == 20
        assert chunks(server) == []

    run(scenario)


def test_a_node_that_dies_between_the_chunks_and_the_pointer_changes_nothing(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers()

    async def scenario() -> None:
        node = await written(server)
        assert await node.log.save_snapshot(node.raw[2].id, b"before")

        async def die(*_: object) -> bool:
            raise asyncio.CancelledError

        with monkeypatch.context() as patched:
            patched.setattr(_redis_snapshots.StoredSnapshots, "_point", die)
            with pytest.raises(asyncio.CancelledError):
                await node.log.save_snapshot(node.raw[9].id, b"x" * 3_000_000)
        left = [name for name in chunks(server) if str(node.raw[9].id).encode() in name]
        assert len(left) == 3
        assert all(0 < server("TTL", name) <= 3600 for name in left)  # they vanish by themselves
        assert server("XLEN", LOG) == 18
        assert await node.log.load_snapshot() == Snapshot(node.raw[2].id, b"before")
        assert await node.log.save_snapshot(node.raw[9].id, b"after")
        assert await node.log.load_snapshot() == Snapshot(node.raw[9].id, b"after")

    run(scenario)


@pytest.mark.parametrize("damage", ["missing", "changed", "longer"])
def test_a_damaged_snapshot_is_told(servers: Servers, damage: str) -> None:
    server = servers()

    async def scenario() -> None:
        node = await written(server)
        assert await node.log.save_snapshot(node.raw[2].id, b"x" * 3_000_000)
        name = chunks(server)[1]
        if damage == "missing":
            server("DEL", name)
        elif damage == "changed":
            server("SETRANGE", name, 5, "y")
        else:
            server("APPEND", name, "y")
        with pytest.raises(SnapshotBroken, match="missing or damaged"):
            await node.log.load_snapshot()

    run(scenario)


@pytest.mark.parametrize(
    "value",
    ["junk", "", "5-0 tag 1 99999999999 00000000", "5-0 tag 7 5 00000000", "5-0 tag 1 -1 00000000", "x-0 tag 1 1 0"],
)
def test_a_name_of_a_snapshot_that_is_none_is_told_and_can_be_replaced(servers: Servers, value: str) -> None:
    server = servers()

    async def scenario() -> None:
        node = await written(server)
        server("SET", POINTER, value)
        with pytest.raises(SnapshotBroken, match="not one that Limpet wrote"):
            await node.log.load_snapshot()
        assert await node.log.save_snapshot(node.raw[5].id, b"5")
        assert await node.log.load_snapshot() == Snapshot(node.raw[5].id, b"5")

    run(scenario)


def test_a_snapshot_that_is_replaced_while_it_is_loaded_is_not_missed(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers()
    load = _redis_snapshots.StoredSnapshots._load

    async def scenario() -> None:
        node = await written(server)
        other = await opened(server.url)
        assert await node.log.save_snapshot(node.raw[2].id, b"first")

        replaced: list[bool] = []

        async def late(self: object, *arguments: object) -> bytes | None:
            if not replaced:
                replaced.append(True)
                assert await other.save_snapshot(node.raw[4].id, b"second")
                server("DEL", chunks(server)[0])
            return await load(self, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(_redis_snapshots.StoredSnapshots, "_load", late)
        assert await node.log.load_snapshot() == Snapshot(node.raw[4].id, b"second")

    run(scenario)


# ---- Entries that are gone


async def fails_to_read(log: RedisLog, after: LogId) -> Exception:
    async with aclosing(log.read(after)) as pages:
        with pytest.raises((EntryForgotten, EntryTrimmed)) as failed:
            await anext(pages)
    return failed.value


@pytest.mark.parametrize("denied", ["XTRIM", "PERSIST", "EXPIRE", "EXEC"])
def test_chunks_of_a_snapshot_that_cannot_be_finished_are_removed(servers: Servers, denied: str) -> None:
    server = servers()

    async def scenario() -> None:
        node = await written(server)
        assert await node.log.save_snapshot(node.raw[2].id, b"before")
        server("ACL", "SETUSER", "limpet", "on", ">pass", "~*", "+@all", f"-{denied.lower()}")
        log = await opened(f"redis://limpet:pass@{server.address}")
        for _ in range(3):
            with pytest.raises(EngineRefused, match=r"this user may not do that|does not know this answer"):
                await log.save_snapshot(node.raw[5].id, b"x" * 3_000_000)
        assert len(chunks(server)) == 1
        assert await node.log.load_snapshot() == Snapshot(node.raw[2].id, b"before")

    run(scenario)


def test_chunks_of_a_snapshot_to_which_the_engine_points_stay_although_it_refuses_the_rest(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        node = await written(server)
        server("ACL", "SETUSER", "limpet", "on", ">pass", "~*", "+@all", "-multi")
        log = await opened(f"redis://limpet:pass@{server.address}")
        with pytest.raises(EngineRefused):
            await log.save_snapshot(node.raw[5].id, b"x")
        assert await node.log.load_snapshot() == Snapshot(node.raw[5].id, b"x")

    run(scenario)


def test_a_node_whose_entry_was_trimmed_is_told_to_load_the_snapshot(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        node = await written(server)
        assert await node.log.save_snapshot(node.raw[9].id, b"9")
        log = await opened(server.url)
        for after in (START, node.raw[4].id):
            error = await fails_to_read(log, after)
            assert type(error) is EntryTrimmed
            assert f"a snapshot of entry {node.raw[9].id}" in str(error)

    run(scenario)


def test_a_slow_reader_never_skips_what_was_trimmed_meanwhile(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        node = await written(server, 200)
        log = await opened(server.url)
        async with aclosing(log.read()) as pages:
            first = await anext(pages)
            assert len(first) < 150
            assert await node.log.save_snapshot(node.raw[180].id, b"180")
            with pytest.raises(EntryTrimmed):
                await anext(pages)

    run(scenario)


def test_an_engine_that_restarts_empty_has_forgotten(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        nodes = [await written(server, 5)]
        nodes.append(Node(await opened(server.url), "b"))
        nodes[1].start()
        await until(lambda: len(nodes[1].raw) == 5)
        last = nodes[0].raw[-1].id
        server.kill()
        server.start()
        nodes[1].append(3)
        for node in nodes:
            assert node.task is not None
            await node.task
            assert type(node.error) is EntryForgotten
            assert f"entry {last} is no longer in the log" in str(node.error)
            assert len(node.raw) == 5
        # A node that starts now may use the log.
        fresh = Node(await opened(server.url), "c")
        fresh.start()
        fresh.append()
        await fresh.until_read()

    run(scenario)


def test_an_engine_that_is_emptied_in_use_has_forgotten(servers: Servers) -> None:
    primary, replica = servers.pair()

    async def scenario() -> None:
        node = await written(primary)
        assert node.log.state.reading_from == "replica"
        primary("FLUSHALL")
        node.append(5)
        assert node.task is not None
        await node.task
        assert type(node.error) is EntryForgotten
        assert len(node.raw) == 20
        assert replica("XLEN", LOG) == 5

    run(scenario)


def test_a_promoted_replica_that_was_behind_what_was_read_has_forgotten(servers: Servers) -> None:
    """Nobody read from this replica: its promotion loses what the nodes have read from the primary."""
    primary, replica = servers(), servers()

    async def scenario() -> None:
        node = await written(primary, 5)
        assert node.log.state.reading_from == "primary"
        replica("XADD", LOG, "1-0", "e", "z:1:")
        primary.kill()
        node.log._links._survey._learn(*(await opened(replica.url))._links._survey._known)
        assert node.task is not None
        await node.task
        assert type(node.error) is EntryForgotten

    run(scenario)


def test_an_entry_of_the_same_id_and_other_bytes_is_not_the_one_that_was_read(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        node = await written(server, 3)
        last = node.raw[-1].id
        server("DEL", LOG)
        server("XADD", LOG, str(last), "e", "other:1:")
        node.append()
        assert node.task is not None
        await node.task
        assert type(node.error) is EntryForgotten

    run(scenario)


def test_a_replica_that_is_behind_is_waited_for(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The replica has not got the entry yet that was read from another server, and the primary has it."""
    server = servers()
    late: list[LogId] = []
    read_page = redis.read_page

    async def behind(*arguments: Any) -> _redis_read.Page:
        page = await read_page(*arguments)
        if len(late) < 5:
            late.append(arguments[3])
            page.proven = False
        return page

    async def scenario() -> None:
        node = await written(server, 5)
        monkeypatch.setattr(redis, "read_page", behind)
        node.append(5)
        await node.until_read()
        await until(lambda: len(late) == 5)
        assert len(set(late)) == 1  # nothing was read while it was behind
        assert len(node.raw) == 10

    run(scenario)
