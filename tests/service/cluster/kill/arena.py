"""An engine, nodes, a balancer and clients: what faults are done to, and who says what came of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from tests.helpers.waiting import LIMIT
from tests.service.cluster.kill.balancer import Balancer
from tests.service.cluster.kill.clients import GROUP, MEMBERS, ROLES, Flood, Member, Publisher
from tests.service.cluster.kill.processes import NodeProcess
from tests.service.cluster.kill.verdict import Got, Sent, Verdict, judge, missing
from tests.service.cluster.servers import RedisServer, Servers

from limpet.service import client_url
from limpet.testing.network import ChaosProxy

KEY = "k" * 32
SETTLING = 3 * LIMIT
"""Seconds until every message is acknowledged and delivered: a client tries to recover for 30 s, then starts anew."""

HISTORY = "{limpet:0}:log"


@dataclass(frozen=True)
class Shape:
    """Who takes part.

    Attributes:
        nodes: places of nodes.
        replica: whether the engine has one.
        proxied: whether the nodes reach the engine through proxies, which can cut them off. Without a replica only.
        publishers: clients that publish with acknowledgements.
        floods: clients that publish without.
        members: clients in the group, by their kinds.
        rate: messages a second of each publisher, at most.
        without_the_counter_rule: whether the nodes are broken on purpose.
    """

    nodes: int = 2
    replica: bool = True
    proxied: bool = False
    publishers: int = 2
    floods: int = 1
    members: tuple[str, ...] = ("ours",) * 3
    rate: float = 50.0
    without_the_counter_rule: bool = False


class Arena:
    """All that takes part; see :func:`arena`.

    Attributes:
        nodes: the present process of each place.
        primary, replica: the servers of the engine.
        proxies: the way of each place to the engine.
    """

    def __init__(self, servers: Servers, shape: Shape) -> None:
        self.shape = shape
        self.nodes: list[NodeProcess] = []
        self.publishers: list[Publisher] = []
        self.members: list[Member] = []
        self.proxies: list[ChaosProxy] = []
        self.balancer = Balancer(lambda: self.nodes)
        self.primary: RedisServer
        self.replica: RedisServer | None = None
        self._servers = servers
        self._folder: Path = servers.folder
        self._started = 0
        self._processes: list[NodeProcess] = []

    # ---- Begin and end

    async def open(self, ends: contextlib.AsyncExitStack) -> None:
        """Start everything; ``ends`` learns how each of it ends. The servers end with their fixture."""
        self.primary = await asyncio.to_thread(self._servers)
        if self.shape.replica:
            self.replica = await asyncio.to_thread(self._servers)
            await asyncio.to_thread(self.replica.follow, self.primary)
        if self.shape.proxied:
            for _ in range(self.shape.nodes):
                proxy = ChaosProxy("127.0.0.1", self.primary.port)
                self.proxies.append(await ends.enter_async_context(proxy))
        ends.push_async_callback(self._end_nodes)
        await asyncio.gather(*(self._start(place) for place in range(self.shape.nodes)))
        self.nodes = sorted(self._processes, key=lambda node: node.name)
        await self.until_read_from(self.replica or self.primary)
        await self.balancer.start()
        ends.push_async_callback(self.balancer.stop)
        for number in range(self.shape.publishers):
            self.publishers.append(Publisher(f"p{number}", self._url(f"p{number}"), self.shape.rate))
        for number in range(self.shape.floods):
            self.publishers.append(Flood(f"pf{number}", self._url(f"pf{number}"), self.shape.rate))
        for number, kind in enumerate(self.shape.members):
            name = f"m{number}-{kind}"
            self.members.append(MEMBERS[kind](name, self._url(name), lambda: self.sent))
        for client in (*self.publishers, *self.members):
            ends.push_async_callback(client.close)
        await asyncio.gather(*(client.open() for client in (*self.publishers, *self.members)))
        for publisher in self.publishers:
            publisher.begin()
        await self.until_all_have_got(5)

    async def _end_nodes(self) -> None:
        for node in self._processes:
            await node.end()

    async def _start(self, place: int) -> NodeProcess:
        if self.proxies:
            url = f"redis://127.0.0.1:{self.proxies[place].port}"
        else:
            url = self.primary.url + (f",{self.replica.address}" if self.replica is not None else "")
        self._started += 1
        plan = {"key": KEY, "url": url, "without_the_counter_rule": self.shape.without_the_counter_rule}
        node = await NodeProcess.start(self._folder, "abcdefgh"[place], self._started, **plan)
        self._processes.append(node)
        return node

    def _url(self, user: str) -> str:
        connection = f"Endpoint=http://127.0.0.1:{self.balancer.port};AccessKey={KEY};Version=1.0;"
        if user.startswith("p"):
            return client_url(connection, user_id=user, roles=ROLES)
        return client_url(connection, user_id=user, groups=[GROUP])

    # ---- What is seen

    @property
    def sent(self) -> list[Sent]:
        """The diaries of the publishers."""
        return [publisher.sent for publisher in self.publishers]

    @property
    def diaries(self) -> list[Sent | Got]:
        """All diaries."""
        return [*self.sent, *(member.got for member in self.members)]

    @property
    def acked(self) -> int:
        """The number of acknowledged messages."""
        return sum(len(each.acked) for each in self.sent)

    @property
    def outages(self) -> list[float]:
        """The seconds of each recovery of our clients."""
        return [seconds for each in (*self.publishers, *self.members) for seconds in each.outages]

    async def until(self, condition: Callable[[], object], what: str, limit: float = SETTLING) -> None:
        """Wait until something is so, while everything goes on."""
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, f"{what}: not within {limit:g} s\n{self.said()}"
            await asyncio.sleep(0.02)

    async def until_read_from(self, server: RedisServer) -> None:
        """Wait until all nodes read the log from a server, so that what they read is safe if that is promoted."""
        if self.proxies:
            return
        await self.until(
            lambda: all(node.reads == server.address for node in self.nodes if node.is_alive and not node.is_stopped),
            f"the nodes read from {server.address}",
        )

    async def until_all_have_got(self, more: int) -> None:
        """Wait until each publisher has so many further messages acknowledged: the cluster works."""
        before = {each.name: len(each.acked) for each in self.sent[: self.shape.publishers]}
        await self.until(
            lambda: all(len(each.acked) >= before.get(each.name, -more) + more for each in self.sent),
            "messages are acknowledged",
        )

    async def start_again(self, place: int) -> None:
        """Start a new process at the place of one that has ended."""
        self.nodes[place] = await self._start(place)

    async def settle(self) -> Verdict:
        """Let the publishers send a last message each, wait until all members have all that is due, and judge."""
        async with asyncio.timeout(SETTLING):
            await asyncio.gather(*(publisher.finish() for publisher in self.publishers))
        # Behind the last messages of all publishers nothing can come any more: the log has one order.
        with contextlib.suppress(AssertionError):
            await self.until(self._is_complete, "all is delivered", LIMIT)
        return judge(self.sent, [member.got for member in self.members])

    def _is_complete(self) -> bool:
        got = [member.got for member in self.members]
        return not any(missing(publisher, member) for publisher in self.sent for member in got)

    def said(self) -> str:
        """What the nodes have logged, and why clients lost connections."""
        nodes = [f"---- node {node.run}\n{node.said()[-3000:]}" for node in self._processes]
        lost = [f"{diary.name}: {why}" for diary in self.diaries for why in diary.disconnects]
        return "\n".join([*nodes, *lost])


@contextlib.asynccontextmanager
async def arena(servers: Servers, shape: Shape) -> AsyncIterator[Arena]:
    """Start everything, with messages on their way; end everything."""
    async with contextlib.AsyncExitStack() as ends:
        made = Arena(servers, shape)
        await made.open(ends)
        yield made
