"""What a cluster of services costs: CPU of the engine for each publication, and of the nodes for each delivery.

Starts a ``redis-server`` and nodes of its own on loopback; the load is this process. Linux only. It counts CPU time, so
that a busy machine matters little: compare the ratios. In the comparison of nodes so many clients publish, which are
spread over the nodes as the members are, with so many publications on their way together.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import _harness as harness
import hiredis
from service import LIMIT, RELIABLE, Client, closed, opened

KEY = "k" * 32
TEXT = b"x" * 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--members", type=harness.sizes, default="10,1000", help="of the group, for the engine's CPU")
    parser.add_argument("--bursts", type=harness.sizes, default="1,32", help="publications sent at once, or on the way")
    parser.add_argument(
        "--bursts-of-each", type=int, default=40, help="in a measurement of the engine; 0: leave it out"
    )
    parser.add_argument("--us-per-delivery", type=float, default=10.0, help="sets the pace, with the most members")
    parser.add_argument("--idle", type=float, default=5.0, help="seconds to see what an idle cluster costs")
    parser.add_argument("--fan-out", type=int, default=100, help="members for the comparison of nodes; 0: leave it out")
    parser.add_argument(
        "--publishers", type=harness.sizes, default="1,2,32", help="clients that publish, for the comparison of nodes"
    )
    parser.add_argument("--deliveries", type=int, default=200_000, help="of a measurement of the nodes")
    parser.add_argument("--reps", type=int, default=3, help="repetitions, interleaved")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not sys.platform.startswith("linux"):
        sys.exit("skipped: cluster.py reads /proc, which only Linux has")
    if options.serve is not None:
        serve(options.serve)
        return
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with engine() as redis, ExitStack() as stack:
        a, b = (stack.enter_context(node(f"{name} {redis.url}")) for name in "ab")
        if options.bursts_of_each:
            engine_cpu(redis, [a, b], options)
        if options.fan_out:
            alone = stack.enter_context(node(""))
            other = stack.enter_context(engine())
            single = stack.enter_context(node(f"a {other.url}"))
            ways = {
                "alone": (redis, [alone]),
                "a cluster of one": (other, [single]),
                "a cluster of two": (redis, [a, b]),
            }
            compare_nodes(ways, options)


# ---- Measurements


@dataclass
class Carried:
    """What was published and delivered, and the CPU that it took: of the engine, and of each node."""

    published: int
    members: int
    wall: float
    engine: float
    entries: int
    nodes: list[float]

    @property
    def node_us(self) -> float:
        """Microseconds of the busiest node for each delivery of all nodes: with a core for each, it sets the pace."""
        return 1e6 * max(self.nodes) / (self.published * self.members)

    @property
    def all_us(self) -> float:
        """Microseconds of all nodes for each delivery."""
        return 1e6 * sum(self.nodes) / (self.published * self.members)


def engine_cpu(redis: Engine, nodes: list[Program], options: argparse.Namespace) -> None:
    """Publish in bursts, at the same pace to few members and to many.

    A server that is asked more seldom has colder caches and more beats of the nodes for each publication: without the
    same pace that would be compared.
    """
    cases = [(burst, members) for burst in options.bursts for members in options.members]
    found: dict[tuple[int, int], list[Carried]] = {case: [] for case in cases}
    idle: list[float] = []
    for _ in range(options.reps):
        before = redis.cpu()
        time.sleep(options.idle)
        idle.append((redis.cpu() - before) / options.idle)
        for burst, members in cases:
            pace = _SHORTEST + burst * max(options.members) * options.us_per_delivery / 1e6
            found[burst, members].append(asyncio.run(carry(redis, nodes, members, burst, options.bursts_of_each, pace)))
    print(f"\nCPU of the engine for each publication of {len(TEXT)} B, two nodes\n")
    print("| sent at once | pace | members | engine us/publication | spread | entries/publication | bursts in time |")
    print("|---:|---:|---:|---:|---|---:|---:|")
    costs: dict[tuple[int, int], list[float]] = {}
    for (burst, members), runs in found.items():
        each = costs[burst, members] = [1e6 * run.engine / run.published for run in runs]
        pace = _SHORTEST + burst * max(options.members) * options.us_per_delivery / 1e6
        entries = statistics.median(run.entries / run.published for run in runs)
        in_time = statistics.median(min(1.0, pace * run.published / burst / run.wall) for run in runs)
        print(
            f"| {burst} | {1000 * pace:.0f} ms | {members} | {statistics.median(each):.1f} "
            f"| {harness.spread(each, '.1f')} | {entries:.2f} | {in_time:.0%} |"
        )
    print(f"\nOf an idle cluster: {1e3 * statistics.median(idle):.1f} ms of CPU a second")
    few, many = min(options.members), max(options.members)
    for burst in options.bursts:
        pairs = zip(costs[burst, many], costs[burst, few], strict=True)
        ratio = statistics.median(more / less for more, less in pairs)
        print(f"\nratio {many} : {few} members, {burst} at once: {ratio:.2f}", flush=True)


_SHORTEST = 0.03
"""Seconds between the beginnings of bursts, at least."""


def compare_nodes(ways: dict[str, tuple[Engine, list[Program]]], options: argparse.Namespace) -> None:
    """Publish with so many publications on their way: by one service that is alone, and by clusters."""
    members = options.fan_out
    # Each publisher has one on its way at least.
    loads = sorted({(max(window, by), by) for window in options.bursts for by in options.publishers})
    cases = [(load, way) for load in loads for way in ways]
    found: dict[tuple[tuple[int, int], str], list[Carried]] = {case: [] for case in cases}
    for _ in range(options.reps):
        for load, way in cases:
            redis, nodes = ways[way]
            window, publishers = load
            count = max(4 * window, options.deliveries // members)
            found[load, way].append(asyncio.run(carry(redis, nodes, members, window, count, publishers=publishers)))
    print(f"\n{members} members: deliveries for a second of the busiest node's CPU\n")
    print(
        "| on the way | publishers | nodes | deliveries/CPU s, each with a core | spread | CPU us/delivery, all nodes "
        "| entries/publication | ratio |"
    )
    print("|---:|---:|---|---:|---|---:|---:|---:|")
    for (load, way), runs in found.items():
        window, publishers = load
        base = found[load, next(iter(ways))]
        rates = [1e6 / run.node_us for run in runs]
        ratio = statistics.median(one.node_us / run.node_us for one, run in zip(base, runs, strict=True))
        every = statistics.median(run.all_us for run in runs)
        entries = "" if way == "alone" else f"{statistics.median(run.entries / run.published for run in runs):.2f}"
        print(
            f"| {window} | {publishers} | {way} | {statistics.median(rates):,.0f} "
            f"| {harness.spread(rates, ',.0f')} | {every:.1f} | {entries} | {ratio:.2f} |"
        )


async def carry(
    redis: Engine,
    nodes: list[Program],
    members: int,
    window: int,
    count: int,
    pace: float | None = None,
    publishers: int = 1,
) -> Carried:
    """Publish ``count`` times, never more than ``window`` that are not acknowledged.

    With a ``pace``: ``count`` bursts of ``window``, each when it is due and the one before was delivered to all.
    """
    shares = [members // len(nodes) + (place < members % len(nodes)) for place in range(len(nodes))]
    receivers: list[Client] = []
    for node, share in zip(nodes, shares, strict=True):
        if share:
            receivers += await opened(node.member_url, share, RELIABLE)
    senders: list[Client] = []
    for place in range(publishers):
        senders += await opened(nodes[place % len(nodes)].publisher_url, 1, RELIABLE)
    turns = itertools.cycle(senders)
    deadline = time.monotonic() + LIMIT * (2 + count * members // 20_000)

    def published() -> int:
        return sum(sender.published for sender in senders)

    async def until_delivered() -> None:
        total = published()
        while any(each.acks < each.published for each in senders) or any(each.messages < total for each in receivers):
            if time.monotonic() > deadline or any(each.over for each in (*senders, *receivers)):
                raise RuntimeError("the service has ended a connection, or does not answer")
            await asyncio.sleep(0.0005)
            total = published()

    def publish(sender: Client) -> None:
        sender.published += 1
        sender.say(
            b'{"type":"sendToGroup","group":"bench","ackId":%d,"dataType":"text","data":"%b"}'
            % (sender.published, TEXT)
        )

    def burst() -> None:
        for _ in range(window):
            publish(next(turns))

    burst()  # the first ones fill caches
    await until_delivered()
    begun, engine, entries, spent = time.monotonic(), redis.cpu(), redis.entries(), [node.cpu() for node in nodes]
    before = published()
    if pace is None:
        last = before + count
        for sender in senders:
            sender.on_ack = lambda sender=sender: publish(sender) if published() < last else None  # type: ignore[misc]
        burst()
        while published() < last:
            await until_delivered()
    else:
        for number in range(count):
            await asyncio.sleep(max(begun + number * pace - time.monotonic(), 0))
            burst()
            await until_delivered()
    await until_delivered()
    carried = Carried(
        published() - before,
        members,
        time.monotonic() - begun,
        redis.cpu() - engine,
        redis.entries() - entries,
        [node.cpu() - already for node, already in zip(nodes, spent, strict=True)],
    )
    await closed([*senders, *receivers])
    return carried


# ---- Processes


@dataclass
class Program:
    """A process, and what it says of itself."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list[str])

    def cpu(self) -> float:
        """Seconds of CPU time, user and system; more exact than the clock ticks of ``stat``."""
        folder, spent = f"/proc/{self.process.pid}/task", 0
        for thread in os.listdir(folder):
            with open(f"{folder}/{thread}/schedstat") as schedstat:
                spent += int(schedstat.read().split()[0])
        return spent / 1e9

    @property
    def member_url(self) -> str:
        return self.lines[0]

    @property
    def publisher_url(self) -> str:
        return self.lines[1]


@dataclass
class Engine(Program):
    """A server of Redis."""

    port: int = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def entries(self) -> int:
        """The number of entries that the log ever had: snapshots trim it."""
        with socket.create_connection(("127.0.0.1", self.port), LIMIT) as connection:
            connection.sendall(hiredis.pack_command(("XINFO", "STREAM", "{limpet:0}:log")))
            reader = hiredis.Reader()
            while (answer := reader.gets()) is False:
                reader.feed(connection.recv(65536))
        facts = dict(zip(answer[::2], answer[1::2], strict=True))
        return int(facts[b"entries-added"])


@contextmanager
def engine() -> Iterator[Engine]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", "", "--appendonly", "no"]
        process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL, text=True)
        try:
            end = time.monotonic() + LIMIT
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.02)
            yield Engine(process, port=port)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def node(place: str) -> Iterator[Program]:
    """Start a node: its name and the URL of its engine; without these, a service that is alone."""
    command = [sys.executable, __file__, "--serve", place]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Program(process, json.loads(process.stdout.readline()))
        finally:
            process.kill()


def serve(place: str) -> None:
    from limpet.service import ClusterOptions, Service, ServiceOptions
    from limpet.service import serve as serve_until_terminated

    def tell(service: Service) -> None:
        urls = [
            service.client_url("bench", groups=["bench"], expires_in=86400.0),
            service.client_url("bench", roles=["webpubsub.sendToGroup.bench"], expires_in=86400.0),
        ]
        print(json.dumps(urls), flush=True)

    name, _, url = place.partition(" ")
    cluster = ClusterOptions(url=url, name=name) if place else None
    serve_until_terminated(ServiceOptions(access_key=KEY), port=0, on_start=tell, cluster=cluster)


if __name__ == "__main__":
    main()
