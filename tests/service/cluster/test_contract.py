"""What every log does, that in memory and that in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
from tests.service.cluster.nodes import Node, opened, run, until
from tests.service.cluster.servers import running_servers

from limpet.service.cluster import (
    START,
    EntryForgotten,
    EntryTrimmed,
    Log,
    LogEntry,
    LogId,
    MemoryEngine,
    MemoryLog,
    Snapshot,
)

Engine = Callable[..., Awaitable[Log]]
"""Opens another log on the same engine."""


@pytest.fixture(params=["memory", "redis"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "redis":
        with running_servers(tmp_path) as servers:
            url = servers().url

            async def in_redis(**options: Any) -> Log:
                return await opened(url, **options)

            yield in_redis
        return
    cells: dict[str, MemoryEngine] = {}

    async def in_memory(*, cell: str = "0", **options: Any) -> Log:
        return MemoryLog(cells.setdefault(cell, MemoryEngine()), **options)

    yield in_memory


def test_several_nodes_read_the_entries_of_all_in_the_same_order(engine: Engine) -> None:
    async def scenario() -> None:
        nodes = [Node(await engine(), name) for name in "abc"]
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


def test_reading_begins_behind_an_entry(engine: Engine) -> None:
    async def scenario() -> None:
        first, second = Node(await engine(), "a"), Node(await engine(), "b")
        first.append(200)
        first.start()
        await first.until_read()
        second.start(first.raw[149].id)
        await until(lambda: len(second.raw) == 50)
        assert second.raw == first.raw[150:]
        await first.leave()
        await second.leave()

    run(scenario)


def test_the_newest_entry(engine: Engine) -> None:
    async def scenario() -> None:
        node = Node(await engine(), "a")
        assert await node.log.newest() == START
        node.append(5)
        node.start()
        await node.until_read()
        newest = await node.log.newest()
        assert node.raw[-1].id == newest > START
        await node.leave()

    run(scenario)


def test_too_much_that_is_unread_is_told_and_when_it_is_over(engine: Engine) -> None:
    async def scenario() -> None:
        told: list[bool] = []
        node = Node(await engine(max_unread=100, on_congested=told.append), "a")
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
        bytes_ = Node(await engine(cell="other", max_unread_bytes=1000, on_congested=told.append), "a")
        bytes_.append(1, size=1000)
        assert told == [True, False, True]
        await bytes_.leave()

    run(scenario)


def test_a_log_has_one_reader_at_a_time_and_reads_on_with_the_next_one(engine: Engine) -> None:
    async def scenario() -> None:
        log = await engine()
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


def test_a_reader_ends_when_the_log_is_closed(engine: Engine) -> None:
    async def scenario() -> None:
        log = await engine()
        node = Node(log, "a")
        node.start()
        await asyncio.sleep(0.05)
        await log.close()
        assert node.task is not None
        await node.task
        assert node.error is None

    run(scenario)


def test_a_snapshot_trims_the_log_and_a_node_goes_on_behind_it(engine: Engine) -> None:
    async def scenario() -> None:
        node = Node(await engine(), "a")
        node.start()
        node.append(100)
        await node.until_read()
        assert await node.log.load_snapshot() is None
        at = node.raw[49].id
        assert await node.log.save_snapshot(at, b"fifty")
        assert not await node.log.save_snapshot(at, b"again")
        assert not await node.log.save_snapshot(node.raw[48].id, b"older")
        assert await node.log.load_snapshot() == Snapshot(at, b"fifty")
        late = await engine()
        for after in (START, node.raw[20].id):
            async with aclosing(late.read(after)) as pages:
                with pytest.raises(EntryTrimmed, match=f"entry {after} was trimmed.*snapshot of entry {at}"):
                    await anext(pages)
        fresh = Node(late, "b")
        fresh.start(at)
        await until(lambda: len(fresh.raw) == 50)
        assert fresh.raw == node.raw[50:]
        for wrong in (LogId(1, 0), LogId(node.raw[-1].id.milliseconds + 1, 0)):
            reader = await engine()
            async with aclosing(reader.read(wrong)) as pages:
                with pytest.raises(EntryTrimmed if wrong < at else EntryForgotten):
                    await anext(pages)
        with pytest.raises(ValueError, match="the start is none"):
            await node.log.save_snapshot(START, b"")
        await node.leave()
        await fresh.leave()

    run(scenario)


def test_a_snapshot_may_keep_entries_before_it_for_nodes_that_are_behind(engine: Engine) -> None:
    async def scenario() -> None:
        node = Node(await engine(), "a")
        node.start()
        node.append(10)
        await node.until_read()
        at, kept = node.raw[7].id, node.raw[3].id
        assert await node.log.save_snapshot(at, b"seven", kept=kept)
        behind = Node(await engine(), "b")
        behind.start(kept)
        await until(lambda: len(behind.raw) == 6)
        fresh = Node(await engine(), "c")
        fresh.start(at)
        await until(lambda: len(fresh.raw) == 2)
        late = await engine()
        async with aclosing(late.read(node.raw[2].id)) as pages:
            with pytest.raises(EntryTrimmed):
                await anext(pages)
        # Never more than up to the entry of the snapshot itself.
        assert await node.log.save_snapshot(node.raw[8].id, b"eight", kept=node.raw[9].id)
        assert [entry.id for entry in (await first_page(await engine(), node.raw[8].id))] == [node.raw[9].id]
        for each in (node, behind, fresh):
            await each.leave()

    run(scenario)


async def first_page(log: Log, after: LogId) -> list[LogEntry]:
    async with aclosing(log.read(after)) as pages:
        return await anext(pages)


def test_a_snapshot_of_an_entry_that_the_engine_has_lost_is_not_kept(engine: Engine) -> None:
    # With it no node could start any more: each would find that the log has lost the entry of its snapshot.
    async def scenario() -> None:
        node = Node(await engine(), "a")
        node.start()
        node.append(10)
        await node.until_read()
        last = node.raw[-1].id
        lost = LogId(last.milliseconds, last.number + 1)
        with pytest.raises(EntryForgotten, match=f"entry {lost} is no longer in the log"):
            await node.log.save_snapshot(lost, b"lost")
        assert await node.log.load_snapshot() is None
        assert await node.log.save_snapshot(node.raw[4].id, b"four")
        with pytest.raises(EntryForgotten):
            await node.log.save_snapshot(lost, b"lost")
        assert await node.log.load_snapshot() == Snapshot(node.raw[4].id, b"four")
        await node.leave()

    run(scenario)


def test_the_state_of_a_log_that_is_well(engine: Engine) -> None:
    async def scenario() -> None:
        node = Node(await engine(), "a")
        node.start()
        node.append(10)
        assert node.log.state.unread_entries == 10
        assert node.log.state.unread_bytes == sum(len(f"a:{number}:") for number in range(1, 11))
        await node.until_read()
        state = node.log.state
        assert state.reading_from in ("primary", "replica")
        assert state.primary is not None
        assert state.source is not None
        assert (state.unread_entries, state.unread_bytes, state.repeated, state.reconnects) == (0, 0, 0, 0)
        assert not state.congested
        assert 0 <= state.lag < 30
        await node.leave()
        assert node.log.state.unread_entries == 0

    run(scenario)
