"""What can happen to nodes and engine. Each fault ends with a cluster that works again."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

from tests.helpers.waiting import LIMIT
from tests.service.cluster.kill.arena import HISTORY, Arena
from tests.service.cluster.kill.node import EXPELLED
from tests.service.cluster.kill.processes import NodeProcess
from tests.service.cluster.servers import RedisServer

from limpet.service.cluster._redis_links import CUT_OFF

STANDSTILL: Final = 6.5
"""Seconds for which a node stands still: its cluster gives it up after four."""
OUTAGE: Final = 4.0
"""Seconds without room in the engine: nodes send their clients away after four."""
SOON: Final = 2.5
"""Seconds in which nodes give up one that they take for dead."""


async def kill_node(arena: Arena, chance: random.Random) -> None:
    """Kill one node, go on without it, then start another one."""
    place = chance.randrange(len(arena.nodes))
    await arena.nodes[place].kill()
    await arena.until_all_have_got(10)
    await arena.start_again(place)


async def kill_all_nodes(arena: Arena, chance: random.Random) -> None:
    """Kill all nodes at once; the engine lives."""
    await asyncio.gather(*(node.kill() for node in arena.nodes))
    await asyncio.gather(*(arena.start_again(place) for place in range(len(arena.nodes))))


async def kill_primary(arena: Arena, chance: random.Random) -> None:
    """Kill the primary and promote its replica; then a new replica follows."""
    heir, old = arena.replica, arena.primary
    assert heir is not None
    await _until_safe_with(arena, heir)
    await _replace(arena, old, heir)


async def kill_primary_that_is_ahead(arena: Arena, chance: random.Random) -> None:
    """Let the primary take messages that the replica never gets, then kill it and promote the replica."""
    heir, old = arena.replica, arena.primary
    assert heir is not None
    while True:
        await _until_safe_with(arena, heir)
        assert heir("REPLICAOF", "127.0.0.1", 1) == b"OK"  # where nobody is
        began, known = time.monotonic(), old("XINFO", "STREAM", HISTORY)
        newest = known[known.index(b"last-generated-id") + 1]
        # Not its length, which a snapshot makes shorter.
        await arena.until(partial(_has_entries_behind, old, newest.decode()), "the primary is ahead")
        # Nodes read from a primary whose replica is away for long, and have to tell their clients if it is lost then.
        if time.monotonic() - began < CUT_OFF / 2:
            break
        assert heir("REPLICAOF", "127.0.0.1", old.port) == b"OK"
    await _replace(arena, old, heir)


async def _until_safe_with(arena: Arena, heir: RedisServer) -> None:
    """Wait until the heir has all that nodes have read, also from a primary that was alone."""
    await arena.until_read_from(heir)
    await arena.until_all_have_got(2)


async def _replace(arena: Arena, old: RedisServer, heir: RedisServer) -> None:
    old.kill()
    heir.promote()
    arena.primary, arena.replica = heir, old
    await arena.until_all_have_got(10)
    await _follow_from_start(old, heir)
    await arena.until_read_from(old)


async def _follow_from_start(server: RedisServer, primary: RedisServer) -> None:
    """Start a server again, as a replica from its first moment on: empty as it is, nobody may take it for a primary."""
    server.options = ("--replicaof", "127.0.0.1", str(primary.port))
    assert await asyncio.to_thread(server.start), server.log()


async def stop_node(arena: Arena, chance: random.Random) -> None:
    """Let a node stand still for so long that the others give it up: it has to end by itself."""
    place = chance.randrange(len(arena.nodes))
    node = arena.nodes[place]
    node.stand_still()
    await asyncio.sleep(STANDSTILL)
    # Slower machines need longer until the others have said so.
    await arena.until(lambda: _is_out(arena, node), "the node is out of the cluster", 2 * LIMIT)
    node.go_on()
    code = await node.ended()
    assert code == EXPELLED, f"exit code {code}: {node.said()}"
    await arena.start_again(place)


def _is_out(arena: Arena, node: NodeProcess) -> bool:
    others = [each for each in arena.nodes if each is not node]
    return any(f"node {node.run} is out of the cluster" in each.said() for each in others)


async def fill_engine(arena: Arena, chance: random.Random) -> None:
    """Leave no room in the engine for a while: nothing is acknowledged, and later everything goes on."""
    arena.primary("CONFIG", "SET", "maxmemory-policy", "noeviction")
    arena.primary("CONFIG", "SET", "maxmemory", 1)
    # What the log has already may be acknowledged yet.
    length, acked = -1, -1
    while (length, acked) != (arena.primary("XLEN", HISTORY), arena.acked):
        length, acked = arena.primary("XLEN", HISTORY), arena.acked
        await asyncio.sleep(1.0)
    await asyncio.sleep(OUTAGE)
    assert arena.primary("XLEN", HISTORY) == length, "the full engine has taken an entry"
    assert arena.acked == acked, "something was acknowledged that is in no log"
    arena.primary("CONFIG", "SET", "maxmemory", 0)
    await arena.until_all_have_got(10)
    await asyncio.sleep(SOON)
    assert not any(_is_out(arena, node) for node in arena.nodes), arena.said()


async def cut_off_node(arena: Arena, chance: random.Random) -> None:
    """Let nothing pass between a node and the engine: its clients go to another node."""
    place = chance.randrange(len(arena.nodes))
    node, proxy = arena.nodes[place], arena.proxies[place]
    proxy.stall()
    await arena.until(lambda: _is_out(arena, node), "the node is out of the cluster", 2 * LIMIT)
    await arena.until_all_have_got(10)
    assert node.is_alive
    proxy.resume()
    code = await node.ended()
    assert code == EXPELLED, f"exit code {code}: {node.said()}"
    await arena.start_again(place)


async def empty_engine(arena: Arena, chance: random.Random) -> None:
    """Restart the engine without its data: all connections end, and are told so."""
    assert arena.replica is None
    arena.primary.kill()
    assert await asyncio.to_thread(arena.primary.start)
    for node in arena.nodes:
        assert await node.ended() == EXPELLED, node.said()
    await asyncio.gather(*(arena.start_again(place) for place in range(len(arena.nodes))))
    await arena.until_all_have_got(10)


async def repeat_entries(arena: Arena, chance: random.Random) -> None:
    """Break the connections to the primary while it has entries that nobody has read: they come into the log again."""
    replica, primary = arena.replica, arena.primary
    assert replica is not None
    await arena.until_read_from(replica)
    replica.stand_still()
    assert replica.process is not None
    # The signal takes a moment: what the replica still gets in it is read, and never repeated.
    await asyncio.to_thread(os.waitid, os.P_PID, replica.process.pid, os.WSTOPPED | os.WNOWAIT)
    begin = _entries(primary, "-")[-1][0]

    def waiting() -> list[bytes]:
        return [data for _, data in _entries(primary, "(" + begin.decode())]

    await arena.until(lambda: len(waiting()) > 10, "entries wait for the replica")
    unread = waiting()
    assert primary("CLIENT", "KILL", "TYPE", "normal") > 0

    def are_repeated() -> bool:
        if all(node.reads == primary.address for node in arena.nodes):
            return True  # after ten seconds they take the replica for lost
        times = Counter(waiting())
        return all(times[data] > 1 for data in unread)

    # A node that is late must not read the first copy before it has written the second one.
    await arena.until(are_repeated, "entries are repeated")
    replica.go_on()
    await arena.until_all_have_got(10)


def _has_entries_behind(server: RedisServer, newest: str) -> bool:
    return len(_entries(server, f"({newest}")) > 5


def _entries(server: RedisServer, after: str) -> list[tuple[bytes, bytes]]:
    return [(identity, fields[1]) for identity, fields in server("XRANGE", HISTORY, after, "+")]


Fault = Callable[[Arena, random.Random], Awaitable[None]]
"""What is done to an arena; chance chooses the node."""
