"""The log in memory: the delays and faults that a test can set."""

from __future__ import annotations

import asyncio

import pytest
from tests.helpers.waiting import skip, turns
from tests.service.cluster.nodes import Node, run, until

from limpet.service.cluster import EngineUnreachable, EntryForgotten, LogId, MemoryEngine, MemoryLog


def pair(engine: MemoryEngine) -> list[Node]:
    nodes = [Node(MemoryLog(engine), name) for name in "ab"]
    for node in nodes:
        node.start()
    return nodes


def test_delays_keep_the_order_of_each_node() -> None:
    async def scenario() -> None:
        engine = MemoryEngine()
        one, other = pair(engine)
        assert isinstance(one.log, MemoryLog)
        one.log.append_delay = 5.0
        one.append(3)
        other.append(1)
        one.log.append_delay = 0.0
        one.append(2)  # do not overtake the three before
        await turns()
        assert [entry.data for entry in engine.entries] == [b"b:1:"]
        await skip(5)
        await one.until_read(one, other)
        assert one.counted == ["b:1", "a:1", "a:2", "a:3", "a:4", "a:5"]
        one.log.read_delay = 5.0
        one.append(1)
        await other.until_read(one, other)
        assert one.last["a"] == 5
        await skip(5)
        await one.until_read(one, other)
        assert one.raw == other.raw
        for node in (one, other):
            await node.leave()

    run(scenario)


def test_another_event_loop() -> None:
    """Its timers that are due at once do not tell when."""
    uvloop = pytest.importorskip("uvloop")

    async def scenario() -> None:
        one, other = pair(MemoryEngine())
        one.append(3)
        other.append(1)
        await one.until_read(one, other)
        assert one.raw == other.raw
        for node in (one, other):
            await node.leave()

    run(scenario, uvloop.new_event_loop)


def test_log_time_follows_the_clock_and_never_goes_back() -> None:
    async def scenario() -> None:
        times = [1000, 2000, 1500, 2500]
        engine = MemoryEngine(clock=lambda: times[0])
        node = Node(MemoryLog(engine), "a")
        node.start()
        for _ in range(4):
            node.append(1)
            await node.until_read()
            times.pop(0)
        assert [entry.id for entry in node.raw] == [LogId(1000, 0), LogId(2000, 0), LogId(2000, 1), LogId(2500, 0)]
        assert [entry.time for entry in node.raw] == [1000, 2000, 2000, 2500]
        await node.leave()

    run(scenario)


def test_a_node_that_is_cut_off_repeats_what_it_has_not_read() -> None:
    async def scenario() -> None:
        engine = MemoryEngine()
        one, other = pair(engine)
        one.append(2)
        await other.until_read(one)
        assert isinstance(one.log, MemoryLog)
        one.log.append_delay = 5.0
        one.append(2)
        await turns()
        one.log.cut()
        one.log.append_delay = 0.0
        one.append(2)
        other.append(2)
        await other.until_read(other)
        assert (one.log.state.reading_from, one.log.state.unread_entries) == ("nothing", 4)
        assert "does not answer" in str(one.log.state.problem)
        for question in (one.log.newest(), one.log.load_snapshot()):
            with pytest.raises(EngineUnreachable):
                await question
        with pytest.raises(EngineUnreachable):
            await one.log.save_snapshot(LogId(1, 1), b"")
        one.log.repeat()  # to nowhere
        one.log.mend()
        for node in (one, other):
            await node.until_read(one, other)
        assert one.counted == other.counted
        assert (one.log.state.repeated, one.log.state.reconnects) == (4, 1)
        for node in (one, other):
            await node.leave()

    run(scenario)


def test_an_engine_that_stands_still_goes_on_with_all_in_order() -> None:
    async def scenario() -> None:
        engine = MemoryEngine()
        one, other = pair(engine)
        engine.stop()
        one.append(3)
        await turns()
        assert isinstance(one.log, MemoryLog)
        one.log.append_delay = 5.0
        one.append(1)
        await turns()
        assert engine.entries == []
        engine.go_on()
        await other.until_read(Node(one.log, "c"))
        await until(lambda: other.last.get("a") == 3)
        await skip(5)
        await other.until_read(one)
        for node in (one, other):
            await node.leave()

    run(scenario)


def test_an_engine_that_forgets_what_nobody_read_gets_it_again() -> None:
    async def scenario() -> None:
        engine = MemoryEngine()
        one = Node(MemoryLog(engine), "a")
        one.append(5)
        await turns()
        assert len(engine.entries) == 5
        engine.forget(3)
        one.start()
        await one.until_read()
        assert one.counted == [f"a:{number}" for number in range(1, 6)]
        assert one.log.state.repeated == 5
        await one.leave()

    run(scenario)


@pytest.mark.parametrize("all_of_it", [False, True])
def test_an_engine_that_forgets_what_was_read_tells_the_readers(all_of_it: bool) -> None:
    async def scenario() -> None:
        engine = MemoryEngine()
        nodes = pair(engine)
        nodes[0].append(5)
        for node in nodes:
            await node.until_read(nodes[0])
        if all_of_it:
            engine.restart_empty()
        else:
            engine.forget(1)
        for node in nodes:
            assert node.task is not None
            async with asyncio.timeout(30):
                await node.task
            assert type(node.error) is EntryForgotten
            await node.leave()

    run(scenario)
