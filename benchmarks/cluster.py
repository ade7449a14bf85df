"""What a cluster of services costs: CPU of the engine for each publication, and of the nodes for each delivery.

Starts a ``redis-server`` and nodes of its own on loopback; the load is this process. Linux only. It counts CPU time, so
that a busy machine matters little: compare the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import _harness as harness
from service import LIMIT, RELIABLE, Client, closed, opened

KEY = "k" * 32
TEXT = b"x" * 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--members", type=harness.sizes, default="10,1000", help="of the group, for the engine's CPU")
    parser.add_argument("--bursts", type=harness.sizes, default="1,32", help="publications that are sent at once")
    parser.add_argument("--deliveries", type=int, default=64_000, help="in each measurement, and 6 bursts at least")
    parser.add_argument("--fan-out", type=int, default=100, help="members for the comparison of nodes; 0: leave it out")
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
        engine_cpu(redis, [a, b], options)
        if options.fan_out:
            alone = stack.enter_context(node(""))
            other = stack.enter_context(engine())
            single = stack.enter_context(node(f"a {other.url}"))
            compare_nodes(redis, {"alone": [alone], "a cluster of one": [single], "a cluster of two": [a, b]}, options)


# ---- Measurements


@dataclass
class Carried:
    """What was published and delivered, and the CPU that it took: of the engine, and of each node."""

    published: int
    members: int
    engine: float
    entries: int
    nodes: list[float]

    @property
    def engine_us(self) -> float:
        return 1e6 * self.engine / self.published

    @property
    def node_us(self) -> float:
        """Microseconds of the busiest node for each delivery of all nodes: with a core for each, it sets the pace."""
        return 1e6 * max(self.nodes) / (self.published * self.members)

    @property
    def all_us(self) -> float:
        return 1e6 * sum(self.nodes) / (self.published * self.members)


def engine_cpu(redis: Engine, nodes: list[Program], options: argparse.Namespace) -> None:
    cases = [(burst, members) for burst in options.bursts for members in options.members]
    found: dict[tuple[int, int], list[Carried]] = {case: [] for case in cases}
    for _ in range(options.reps):
        for burst, members in cases:
            bursts = max(6, options.deliveries // (burst * members))
            found[burst, members].append(asyncio.run(carry(redis, nodes, members, burst, min(bursts, 400))))
    print(f"\nCPU of the engine for each publication of {len(TEXT)} B, two nodes\n")
    print("| sent at once | members | engine us/publication | spread | entries/publication | node us/delivery |")
    print("|---:|---:|---:|---|---:|---:|")
    for (burst, members), runs in found.items():
        costs = [run.engine_us for run in runs]
        entries = statistics.median(run.entries / run.published for run in runs)
        node_us = statistics.median(run.all_us for run in runs)
        print(
            f"| {burst} | {members} | {statistics.median(costs):.1f} | {harness.spread(costs, '.1f')} "
            f"| {entries:.2f} | {node_us:.1f} |"
        )
    few, many = min(options.members), max(options.members)
    for burst in options.bursts:
        pairs = zip(found[burst, many], found[burst, few], strict=True)
        ratio = statistics.median(more.engine_us / less.engine_us for more, less in pairs)
        print(f"\nratio {many} : {few} members, {burst} at once: {ratio:.2f}", flush=True)


def compare_nodes(redis: Engine, ways: dict[str, list[Program]], options: argparse.Namespace) -> None:
    members, burst = options.fan_out, max(options.bursts)
    bursts = max(6, 4 * options.deliveries // (burst * members))
    found: dict[str, list[Carried]] = {way: [] for way in ways}
    for _ in range(options.reps):
        for way, nodes in ways.items():
            found[way].append(asyncio.run(carry(redis, nodes, members, burst, bursts)))
    print(f"\n{members} members, {burst} publications at once: deliveries for a second of the busiest node's CPU\n")
    print("| nodes | deliveries/CPU s, each with a core | spread | CPU us/delivery, all nodes | ratio |")
    print("|---|---:|---|---:|---:|")
    base = found["alone"]
    for way, runs in found.items():
        rates = [1e6 / run.node_us for run in runs]
        ratio = statistics.median(one.node_us / run.node_us for one, run in zip(base, runs, strict=True))
        every = statistics.median(run.all_us for run in runs)
        print(
            f"| {way} | {statistics.median(rates):,.0f} | {harness.spread(rates, ',.0f')} | {every:.1f} | {ratio:.2f} |"
        )


async def carry(redis: Engine, nodes: list[Program], members: int, burst: int, bursts: int) -> Carried:
    """Publish so many bursts; each begins when the one before was acknowledged and delivered to all."""
    shares = [members // len(nodes) + (place < members % len(nodes)) for place in range(len(nodes))]
    receivers: list[Client] = []
    for node, share in zip(nodes, shares, strict=True):
        if share:
            receivers += await opened(node.member_url, share, RELIABLE)
    (publisher,) = await opened(nodes[0].publisher_url, 1, RELIABLE)
    deadline = time.monotonic() + LIMIT * max(1, burst * bursts * members // 50_000)

    async def until(true: Callable[[], bool]) -> None:
        while not true():
            if time.monotonic() > deadline or publisher.over or any(receiver.over for receiver in receivers):
                raise RuntimeError("the service has ended a connection, or does not answer")
            await asyncio.sleep(0.0005)

    async def publish() -> None:
        messages = [
            b'{"type":"sendToGroup","group":"bench","ackId":%d,"dataType":"text","data":"%b"}' % (ack_id, TEXT)
            for ack_id in range(publisher.published + 1, publisher.published + burst + 1)
        ]
        publisher.published += burst
        for message in messages:
            publisher.say(message)
        await until(lambda: publisher.acks == publisher.published)
        await until(lambda: all(receiver.messages == publisher.published for receiver in receivers))

    await publish()  # the first one fills caches
    engine, entries, spent = redis.cpu(), redis.entries(), [node.cpu() for node in nodes]
    for _ in range(bursts):
        await publish()
    carried = Carried(
        burst * bursts,
        members,
        redis.cpu() - engine,
        redis.entries() - entries,
        [node.cpu() - before for node, before in zip(nodes, spent, strict=True)],
    )
    await closed([publisher, *receivers])
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
        """The number of entries in the log."""
        with socket.create_connection(("127.0.0.1", self.port), LIMIT) as connection:
            connection.sendall(b"XLEN {limpet:0}:log\r\n")
            return int(connection.recv(100).removeprefix(b":"))


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
