"""What a node of a cluster of two does for each delivery of both, without sockets and engine: for icount.py.

Half of the members are at the node, and half at the other one. Compare with ``service, reliable``: with a core for each
node, the ratio is what two nodes carry against one service.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, cast

from _service_workloads import ACKNOWLEDGED, MEMBERS, PUBLICATIONS, Client
from _workloads import Workload

from limpet.service import ClusterOptions, ServiceOptions, client_url
from limpet.service._cluster_gateway import ClusterGateway
from limpet.service.cluster import LogEntry, LogId
from limpet_core.protocol.names import RELIABLE_JSON
from limpet_core.service import RawMode
from limpet_core.service.cluster.commands import Hello, Open, Received, SequenceAcks
from limpet_core.service.cluster.outgoing import Outgoing

_SAID = b'{"type":"sendToGroup","group":"bench","ackId":%d,"dataType":"text","data":"%b"}'
_PUBLISHER = MEMBERS


class _Node:
    """A node whose log is a list, and the entries that the other node writes."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        options = ServiceOptions(access_key="k" * 32, keepalive_interval=None, request_timeout=None)
        self.gateway = ClusterGateway(options, "http://localhost:1", ClusterOptions(url="redis://nowhere", name="a"))
        self.other = Outgoing("b")
        self._node = cast(Any, self.gateway)._node
        self._node.log = self
        self._node.appends = True
        self._written: list[bytes] = []
        self._read = 0
        self.gateway.flush()
        self.settle()
        self.other.add(Hello(self.gateway.replica.shared.settings, 1, 1, "b"))

    def append(self, entry: bytes) -> None:
        """Take an entry, as a log does."""
        self._written.append(entry)

    def settle(self) -> None:
        """Read what both nodes have written."""
        self._written += self.other.take(monotonic())
        while self._written:
            written, self._written = self._written, []
            first, self._read = self._read, self._read + len(written)
            self._node.apply(
                [LogEntry(LogId(number, 0), number, data) for number, data in enumerate(written, first + 1)]
            )

    def pass_time(self) -> None:
        """Write what clients have acknowledged."""
        self.gateway.replica.wake(monotonic() + 0.5)
        self.gateway.flush()
        self.settle()


def node(name: str, size: int, *, publishes: bool) -> Workload:
    """Publications of one client, which is at this node or at the other one."""
    run: Callable[[], object] | None = None

    def run_it() -> None:
        nonlocal run
        run = run or _fan_out(size, publishes=publishes)
        run()

    return Workload(name, run_it, MEMBERS * PUBLICATIONS)


def _fan_out(size: int, *, publishes: bool) -> Callable[[], object]:
    made: list[_Node] = []

    async def begin() -> None:
        made.append(_Node())

    loop = asyncio.new_event_loop()
    loop.run_until_complete(begin())
    (node,) = made
    connection = node.gateway.identity.connection_string("http://localhost:1")
    roles = ["webpubsub.sendToGroup.bench"]
    published = 0

    async def connect() -> tuple[list[Client], Client]:
        url = client_url(connection, "bench", groups=["bench"])
        members = [Client(node.gateway, loop, url, RELIABLE_JSON, node.settle) for _ in range(MEMBERS // 2)]
        for number in range(MEMBERS // 2, MEMBERS):
            node.other.add(Open(f"b{number}", number, "bench", RELIABLE_JSON, None, (), ("bench",), RawMode()))
        far = Open(f"b{_PUBLISHER}", _PUBLISHER, "bench", RELIABLE_JSON, None, tuple(roles), (), RawMode())
        node.other.add(far)
        node.settle()
        return members, Client(
            node.gateway, loop, client_url(connection, "bench", roles=roles), RELIABLE_JSON, node.settle
        )

    members, publisher = loop.run_until_complete(connect())

    async def round() -> None:
        nonlocal published
        first, published = published + 1, published + PUBLICATIONS
        said = [_SAID % (number, b"x" * size) for number in range(first, published + 1)]
        if publishes:
            publisher.say(*said)
        else:
            for each in said:
                node.other.add(Received(f"b{_PUBLISHER}", _PUBLISHER, each, False))
        await asyncio.sleep(0)  # the end of the turn
        node.settle()
        for member in members:
            assert len(member.wire.last) > PUBLICATIONS * size
            if published % ACKNOWLEDGED == 0:
                member.say(b'{"type":"sequenceAck","sequenceId":%d}' % published)
        if published % ACKNOWLEDGED == 0:
            far = range(MEMBERS // 2, MEMBERS)
            node.other.add(SequenceAcks([(f"b{number}", number, published) for number in far]))
            node.pass_time()

    return lambda: loop.run_until_complete(round())


def cluster_workloads() -> list[Workload]:
    return [
        node("node of two that is published at, reliable 32 B", 32, publishes=True),
        node("node of two beside it, reliable 32 B", 32, publishes=False),
    ]
