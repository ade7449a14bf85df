"""Against one real server: the order, the entries, questions about the log, and input that is too much."""

from __future__ import annotations

import asyncio
import types
from contextlib import aclosing

import pytest
from tests.service.cluster.nodes import Node, opened, run, until
from tests.service.cluster.servers import Servers

from limpet.service.cluster import MAX_ENTRY, START, LogId


def test_several_nodes_read_the_entries_of_all_in_the_same_order(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        nodes = [Node(await opened(server.url), name) for name in "abc"]
        for node in nodes:
            node.start()
        for _ in range(40):
            for node in nodes:
                node.append(3)
            await asyncio.sleep(0)
        for node in nodes:
            await node.until_read(*nodes)
        assert nodes[0].counted == nodes[1].counted == nodes[2].counted
        assert len(nodes[0].raw) == 360
        assert nodes[0].raw == nodes[1].raw == nodes[2].raw
        for node in nodes:
            await node.leave()

    run(scenario)


def test_the_entries_of_one_turn_travel_in_one_write(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        node = Node(await opened(server.url), "a")
        connection = node.log._links.appender.connection  # type: ignore[attr-defined]
        writes: list[bytes] = []
        write = connection._transport.write
        overheard = types.SimpleNamespace(write=lambda data: (writes.append(data), write(data)))
        real, connection._transport = connection._transport, overheard
        node.append(50)
        assert writes == []
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(writes) == 1
        connection._transport = real
        node.start()
        await node.until_read()
        await node.leave()

    run(scenario)


def test_reading_begins_behind_an_entry(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        first, second = Node(await opened(server.url), "a"), Node(await opened(server.url), "b")
        first.append(200)
        first.start()
        await first.until_read()
        second.start(first.raw[149].id)
        await until(lambda: len(second.raw) == 50)
        assert second.raw == first.raw[150:]
        await first.leave()
        await second.leave()

    run(scenario)


def test_the_newest_entry_and_those_that_are_there(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        node = Node(await opened(server.url), "a")
        assert await node.log.newest() == START
        assert await node.log.contains(START)
        node.append(5)
        newest = await node.log.newest()
        assert newest > START
        node.start()
        await node.until_read()
        assert node.raw[-1].id == newest
        assert await node.log.contains(newest)
        assert not await node.log.contains(LogId(newest.milliseconds, newest.number + 1))
        assert not await node.log.contains(LogId(1, 1))
        await node.leave()

    run(scenario)


def test_large_entries_arrive_whole(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        node = Node(await opened(server.url), "a")
        node.append(100, size=MAX_ENTRY - 20)
        node.start()
        await node.until_read()
        assert all(len(entry.data) > MAX_ENTRY - 20 for entry in node.raw)
        for wrong in (b"", b"x" * (MAX_ENTRY + 1)):
            with pytest.raises(ValueError, match="an entry has 1 to"):
                node.log.append(wrong)
        await node.leave()

    run(scenario)


def test_what_others_write_into_the_log_is_left_out(servers: Servers, caplog: pytest.LogCaptureFixture) -> None:
    server = servers()
    key = "{limpet:0}:log"

    async def scenario() -> None:
        node = Node(await opened(server.url), "a")
        node.start()
        server("XADD", key, "*", "other", "1")
        node.append()
        await node.until_read()
        server("XADD", key, "*", "e", "b:1:", "more", "1")
        server("XADD", key, "*", "other", "2")
        await until(lambda: "left out" in caplog.text)
        node.append()
        await node.until_read()
        assert node.counted == ["a:1", "a:2"]
        await node.leave()

    run(scenario)


def test_too_much_that_is_unread_is_told_and_when_it_is_over(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        told: list[bool] = []
        node = Node(await opened(server.url, max_unread=100, on_congested=told.append), "a")
        node.append(100)
        assert not node.log.congested
        assert node.log.state.unread_entries == 100
        node.append(1)
        assert node.log.congested
        assert told == [True]
        node.start()
        await node.until_read()
        assert told == [True, False]
        assert not node.log.congested
        assert (node.log.state.unread_entries, node.log.state.unread_bytes) == (0, 0)
        await node.leave()
        bytes_ = Node(await opened(server.url, cell="other", max_unread_bytes=1000, on_congested=told.append), "a")
        bytes_.append(1, size=1000)
        assert told == [True, False, True]
        await bytes_.leave()

    run(scenario)


def test_a_log_has_one_reader_at_a_time_and_reads_on_with_the_next_one(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        log = await opened(server.url)
        log.append(b"a:1:")
        async with aclosing(log.read()) as pages:
            (entry,) = await anext(pages)
            with pytest.raises(RuntimeError, match="has a reader already"):
                await anext(log.read())
        node = Node(log, "a")
        node.number, node.last["a"] = 1, 1
        node.start(entry.id)
        await asyncio.sleep(0.05)
        assert node.task is not None
        node.task.cancel()  # while it waits for the server
        await asyncio.wait([node.task])
        node.start(entry.id)
        node.append()
        await node.until_read()
        await node.leave()
        with pytest.raises(RuntimeError, match="closed"):
            log.append(b"x")
        with pytest.raises(RuntimeError, match="closed"):
            await anext(log.read())

    run(scenario)


def test_a_reader_ends_when_the_log_is_closed(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        log = await opened(server.url)
        node = Node(log, "a")
        node.start()
        await asyncio.sleep(0.05)
        await log.close()
        assert node.task is not None
        await node.task
        assert node.error is None

    run(scenario)


def test_cells_of_one_engine_have_logs_of_their_own(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        one = Node(await opened(server.url, cell="1"), "a")
        two = Node(await opened(server.url, cell="2"), "b")
        for node in (one, two):
            node.start()
            node.append(10)
            await node.until_read()
        assert len(one.raw) == len(two.raw) == 10
        assert sorted(server("KEYS", "*")) == [b"{limpet:1}:log", b"{limpet:2}:log"]
        await one.leave()
        await two.leave()

    run(scenario)
    with pytest.raises(ValueError, match="a cell has"):
        asyncio.run(opened(server.url, cell="a}b"))
