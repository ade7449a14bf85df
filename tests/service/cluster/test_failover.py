"""Servers that die, stand still, are cut off and come back: nothing read is lost, everything unread is repeated."""

from __future__ import annotations

import asyncio
import os

import pytest
from tests.helpers.ports import free_port
from tests.helpers.waiting import LIMIT
from tests.service.cluster.nodes import Node, opened, run, until
from tests.service.cluster.servers import RedisServer, Servers

from limpet.service.cluster import _redis_links

QUICK = 1.0
"""Seconds of ``answer_timeout`` where a server is to be found silent."""


FAILOVERS = int(os.environ.get("LIMPET_FAILOVERS", "3"))


def ids_of(server: RedisServer) -> list[str]:
    return [identity.decode() for identity, _ in server("XRANGE", "{limpet:0}:log", "-", "+")]


async def until_all_is_read(nodes: list[Node], server: RedisServer) -> None:
    """Wait until the nodes have read all that is stored: repeated entries may follow the last one that counts."""
    await until(lambda: all(len(node.raw) == len(ids_of(server)) for node in nodes))
    assert [str(entry.id) for entry in nodes[0].raw] == ids_of(server)


def cut_off(replica: RedisServer) -> None:
    """Let a replica follow a server that is not there, so that it gets nothing more."""
    assert replica("REPLICAOF", "127.0.0.1", free_port()) == b"OK"


async def writing(nodes: list[Node], stop: asyncio.Event) -> None:
    """Append from all nodes until told to stop, as fast as what is unread allows."""
    while not stop.is_set():
        for node in nodes:
            if not node.log.congested:
                node.append(5, size=200)
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("discovered", [False, True], ids=["both in the URL", "the replica is named by the primary"])
def test_a_primary_that_is_killed_under_load_loses_nothing_that_was_read(servers: Servers, discovered: bool) -> None:
    primary, replica = servers.pair()
    url = primary.url if discovered else f"{primary.url},{replica.address}"

    async def scenario() -> None:
        nodes = [Node(await opened(url), name) for name in "ab"]
        for node in nodes:
            node.start()
        stop = asyncio.Event()
        writer = asyncio.create_task(writing(nodes, stop))
        await until(lambda: len(nodes[0].raw) > 500)
        assert nodes[0].log.state.reading_from == "replica"
        primary.kill()
        read = list(nodes[0].raw)
        await until(lambda: all(node.log.state.primary is None for node in nodes))
        replica.promote()
        await until(lambda: all(node.log.state.primary == replica.address for node in nodes))
        stop.set()
        await writer
        for node in nodes:
            await node.until_read(*nodes)
            assert node.log.state.reading_from == "primary"
        await until_all_is_read(nodes, replica)
        assert nodes[0].raw[: len(read)] == read
        assert nodes[0].raw == nodes[1].raw
        assert nodes[0].counted == nodes[1].counted
        assert len(nodes[0].counted) == nodes[0].number + nodes[1].number
        for node in nodes:
            await node.leave()

    run(scenario)


def test_failovers_again_and_again_under_load(servers: Servers) -> None:
    """The server that died comes back as the replica, and is the next to be promoted."""
    primary, replica = servers.pair()
    url = f"{primary.url},{replica.address}"

    async def scenario() -> None:
        nonlocal primary, replica
        nodes = [Node(await opened(url), name) for name in "abc"]
        for node in nodes:
            node.start()
        stop = asyncio.Event()
        writer = asyncio.create_task(writing(nodes, stop))
        for _ in range(FAILOVERS):
            await until(lambda: all(node.log.state.reading_from == "replica" for node in nodes))
            read = len(nodes[0].raw)
            await until(lambda read=read: len(nodes[0].raw) > read + 300)  # type: ignore[misc]
            primary.kill()
            replica.promote()
            primary, replica = replica, primary
            promoted = primary.address
            await until(lambda name=promoted: all(node.log.state.primary == name for node in nodes))  # type: ignore[misc]
            await asyncio.to_thread(replica.start)
            await asyncio.to_thread(replica.follow, primary)
        stop.set()
        await writer
        for node in nodes:
            await node.until_read(*nodes)
        await until_all_is_read(nodes, primary)
        assert nodes[0].raw == nodes[1].raw == nodes[2].raw
        assert nodes[0].counted == nodes[1].counted == nodes[2].counted
        assert len(nodes[0].counted) == sum(node.number for node in nodes)
        for node in nodes:
            await node.leave()

    run(scenario, limit=LIMIT * FAILOVERS)


def test_entries_that_the_replica_never_got_are_repeated_in_order(servers: Servers) -> None:
    primary, replica = servers.pair()

    async def scenario() -> None:
        node = Node(await opened(f"{primary.url},{replica.address}"), "a")
        node.start()
        node.append(10)
        await node.until_read()
        cut_off(replica)
        node.append(20)
        await until(lambda: primary("XLEN", "{limpet:0}:log") == 30)
        assert len(node.raw) == 10
        primary.kill()
        await until(lambda: node.log.state.primary is None)
        node.append(5)
        replica.promote()
        await node.until_read()
        assert node.counted == [f"a:{number}" for number in range(1, 36)]
        assert node.log.state.repeated == 20
        await node.leave()

    run(scenario)


def test_a_primary_that_stands_still_is_left_for_the_promoted_replica(servers: Servers) -> None:
    primary, replica = servers.pair()

    async def scenario() -> None:
        node = Node(await opened(f"{primary.url},{replica.address}", answer_timeout=QUICK), "a")
        node.start()
        node.append(10)
        await node.until_read()
        primary.stand_still()
        node.append(10)
        replica.promote()
        await until(lambda: node.log.state.primary == replica.address)
        await node.until_read()
        assert node.log.state.repeated >= 10
        # It comes back and still takes itself for the primary: its heir stays in use.
        primary.go_on()
        node.append(10)
        await node.until_read()
        await asyncio.sleep(6)  # longer than the pause between looks at the servers
        assert node.log.state.primary == replica.address
        node.append(10)
        await node.until_read()
        assert len(node.counted) == 40
        await node.leave()

    run(scenario)


def test_an_old_primary_that_comes_back_is_not_taken_while_the_new_one_stands_still(servers: Servers) -> None:
    old, primary = servers.pair()

    async def scenario() -> None:
        node = Node(await opened(f"{old.url},{primary.address}", answer_timeout=QUICK), "a")
        node.start()
        node.append(10)
        await node.until_read()
        old.kill()
        primary.promote()
        node.append(10)
        await node.until_read()
        old.start()  # as a machine does that was started again, and has its old settings
        await until(lambda: f"{primary.address} is used on" in str(node.log.state.problem))
        primary.stand_still()
        node.append(10)
        await until(lambda: "does not follow from it; waiting" in str(node.log.state.problem))
        primary.go_on()
        await node.until_read()
        assert node.error is None
        assert len(node.counted) == 30
        assert node.log.state.primary == primary.address
        await node.leave()

    run(scenario)


def test_a_primary_that_stands_still_for_a_while_goes_on(servers: Servers) -> None:
    primary, replica = servers.pair()

    async def scenario() -> None:
        node = Node(await opened(f"{primary.url},{replica.address}", answer_timeout=QUICK), "a")
        node.start()
        node.append(10)
        await node.until_read()
        primary.stand_still()
        node.append(10)
        await until(lambda: node.log.state.problem is not None)
        assert "does not answer" in str(node.log.state.problem)
        assert node.log.state.lag >= QUICK
        primary.go_on()
        await node.until_read()
        node.append(10)
        await node.until_read()
        assert len(node.counted) == 30
        await node.leave()

    run(scenario)


def test_a_primary_cut_off_from_its_replica_is_left_though_it_answers(servers: Servers) -> None:
    primary, replica = servers.pair()

    async def scenario() -> None:
        nodes = [Node(await opened(f"{primary.url},{replica.address}", answer_timeout=QUICK), name) for name in "ab"]
        for node in nodes:
            node.start()
            node.append(10)
        for node in nodes:
            await node.until_read(*nodes)
        replica.promote()  # the old primary knows nothing of it, and takes entries
        for node in nodes:
            node.append(10)
        for node in nodes:
            await node.until_read(*nodes)
            assert node.log.state.primary == replica.address
        assert nodes[0].counted == nodes[1].counted
        await until_all_is_read(nodes, replica)
        for node in nodes:
            await node.leave()

    run(scenario)


def test_the_primary_is_not_read_in_place_of_a_replica_that_may_be_promoted_soon(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both live, and nothing connects them: what the primary stores now is lost if the replica is promoted."""
    primary, replica = servers.pair()
    monkeypatch.setattr(_redis_links, "CUT_OFF", 3.0)

    async def scenario() -> None:
        node = Node(await opened(f"{primary.url},{replica.address}", answer_timeout=QUICK), "a")
        node.start()
        node.append(10)
        await node.until_read()
        cut_off(replica)
        node.append(10)
        await until(lambda: "waiting" in str(node.log.state.problem))
        assert len(node.raw) == 10
        assert node.log.state.reading_from != "primary"
        await node.until_read()  # nobody promoted it
        assert node.log.state.reading_from == "primary"
        await node.leave()

    run(scenario)


def test_a_primary_that_became_a_replica_is_left(servers: Servers) -> None:
    primary, replica = servers.pair()

    async def scenario() -> None:
        node = Node(await opened(f"{primary.url},{replica.address}"), "a")
        node.start()
        node.append(10)
        await node.until_read()
        replica.promote()
        primary.follow(replica)
        node.append(10)
        await node.until_read()
        await until(lambda: node.log.state.reading_from == "replica" and node.log.state.source == primary.address)
        node.append(10)
        await node.until_read()
        assert node.counted == [f"a:{number}" for number in range(1, 31)]
        await node.leave()

    run(scenario)


def test_a_replica_that_dies_and_comes_back(servers: Servers, caplog: pytest.LogCaptureFixture) -> None:
    primary, replica = servers.pair()

    async def scenario() -> None:
        node = Node(await opened(f"{primary.url},{replica.address}"), "a")
        node.start()
        node.append(10)
        await node.until_read()
        replica.kill()
        node.append(10)
        await node.until_read()
        assert node.log.state.reading_from == "primary"
        assert "no replica that follows it" in str(node.log.state.problem)
        assert "no replica that follows it" in caplog.text
        replica.start()
        replica.follow(primary)
        await until(lambda: node.log.state.reading_from == "replica")
        assert node.log.state.problem is None
        assert node.log.state.reconnects >= 2
        node.append(10)
        await node.until_read()
        assert len(node.raw) == 30
        await node.leave()

    run(scenario)


def test_strict_reads_nothing_without_a_replica(servers: Servers) -> None:
    primary, replica = servers.pair()

    async def scenario() -> None:
        node = Node(await opened(f"{primary.url},{replica.address}", strict=True), "a")
        node.start()
        node.append(10)
        await node.until_read()
        replica.kill()
        await until(lambda: node.log.state.reading_from == "nothing" and node.log.state.problem is not None)
        assert "--strict" in str(node.log.state.problem)
        node.append(10)
        await until(lambda: primary("XLEN", "{limpet:0}:log") == 20)
        await asyncio.sleep(1)
        assert len(node.raw) == 10
        replica.start()
        replica.follow(primary)
        await node.until_read()
        assert len(node.counted) == 20
        # It is promoted while it is read: from then on it is the primary, which must not be read.
        replica.promote()
        await until(lambda: node.log.state.reading_from == "nothing" and node.log.state.primary == replica.address)
        node.append(1)
        await asyncio.sleep(1)
        assert len(node.counted) == 20
        primary.follow(replica)
        await node.until_read()
        await node.leave()

    run(scenario)


def test_connections_that_are_cut_are_made_again(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        nodes = [Node(await opened(server.url), name) for name in "ab"]
        for node in nodes:
            node.start()
        for _ in range(5):
            for node in nodes:
                node.append(50)
            server("CLIENT", "KILL", "TYPE", "normal")
            for node in nodes:
                node.append(50)
                await node.until_read(*nodes)
        assert nodes[0].counted == nodes[1].counted
        assert len(nodes[0].counted) == 1000
        assert all(node.log.state.reconnects > 0 for node in nodes)
        for node in nodes:
            await node.leave()

    run(scenario)


def test_a_server_that_lost_an_entry_without_losing_the_connection_is_noticed(servers: Servers) -> None:
    """The entry was taken, and is not in the log that is read: it is repeated when a later one is read."""
    server = servers()

    async def scenario() -> None:
        first, second = Node(await opened(server.url), "a"), Node(await opened(server.url), "b")
        first.append(5)
        newest = await first.log.newest()
        server("XDEL", "{limpet:0}:log", str(newest))
        first.start()
        second.append(1)
        await first.until_read(first, second)
        assert first.counted[-1] == "a:5"
        await first.leave()
        await second.leave()

    run(scenario)
