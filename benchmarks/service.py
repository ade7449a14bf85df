"""What the local service carries: deliveries, publications by REST and connections for a second of its CPU time.

The service is a process of its own, as ``limpet serve`` runs it; the load is this process. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

import _harness as harness
import _service_rates as rates

RELIABLE, PLAIN = "json.reliable.webpubsub.azure.v1", "json.webpubsub.azure.v1"
SUBPROTOCOLS = {"reliable": RELIABLE, "plain": PLAIN}
ACKNOWLEDGE_EVERY = 100
LIMIT = 60.0
"""Seconds that any one step may take."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--members", type=int, default=100, help="of the group that is published to")
    parser.add_argument("--sizes", type=harness.sizes, default="32,1024", help="bytes of text")
    parser.add_argument("--windows", type=harness.sizes, default="1,32", help="publications on their way at once")
    parser.add_argument("--seconds", type=float, default=3.0, help="measured in each repetition")
    parser.add_argument("--reps", type=int, default=3, help="repetitions, interleaved; 0: leave that out")
    parser.add_argument("--idle", type=int, default=2000, help="connections that do nothing; 0: leave that out")
    parser.add_argument("--idle-seconds", type=float, default=45.0, help="for which they do nothing")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not sys.platform.startswith("linux"):
        sys.exit("skipped: service.py reads /proc, which only Linux has")
    if options.serve:
        serve()
        return
    # Each connection is a file here as well as there, and a process gets what its parent has.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cores = sorted(os.sched_getaffinity(0))
    with server(cores[0]) as service:
        os.sched_setaffinity(0, cores[1:] or cores)
        if options.idle:
            asyncio.run(idle(service, options.idle, options.idle_seconds))
        if options.reps:
            fan_out(service, options)
            rates.print_table(service.url, service.connection_string, service.cpu, options.seconds, options.reps)


def fan_out(service: Served, options: argparse.Namespace) -> None:
    cases = [(name, size, window) for name in SUBPROTOCOLS for size in options.sizes for window in options.windows]
    found: dict[tuple[str, int, int], list[Carried]] = {case: [] for case in cases}
    for _ in range(options.reps):
        for name, size, window in cases:
            carried = asyncio.run(carry(service, options.members, SUBPROTOCOLS[name], size, window, options.seconds))
            found[name, size, window].append(carried)
    print(f"\nFan-out to {options.members} members of a group, {options.seconds:g} s, service on one core\n")
    print("| subprotocol | text | on the way | deliveries/CPU s | spread | deliveries/s | core in use |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for (name, size, window), runs in found.items():
        rates = [run.deliveries / max(run.cpu, 1e-6) for run in runs]  # a clock may be too coarse for a very short run
        wall = statistics.median([run.deliveries / run.wall for run in runs])
        busy = statistics.median([run.cpu / run.wall for run in runs])
        print(
            f"| {name} | {harness.size_name(size)} | {window} | {statistics.median(rates):,.0f} "
            f"| {harness.spread(rates, ',.0f')} | {wall:,.0f} | {busy:.0%} |",
            flush=True,
        )


@dataclass
class Carried:
    """What was delivered, and what it took."""

    deliveries: int
    cpu: float
    wall: float


async def carry(service: Served, members: int, subprotocol: str, size: int, window: int, seconds: float) -> Carried:
    """Publish for so long, never more than ``window`` publications that are not acknowledged."""
    receivers = await opened(service.member_url, members, subprotocol)
    (publisher,) = await opened(service.publisher_url, 1, subprotocol)
    text = b"x" * size
    clock = time.monotonic
    deadline = clock() + LIMIT

    async def until(true: Callable[[], bool]) -> None:
        while not true():
            if clock() > deadline or publisher.over or any(receiver.over for receiver in receivers):
                raise RuntimeError("the service has ended a connection, or does not answer")
            await asyncio.sleep(0.001)

    def publish() -> None:
        publisher.published += 1
        publisher.say(
            b'{"type":"sendToGroup","group":"bench","ackId":%d,"dataType":"text","data":"%b"}'
            % (publisher.published, text)
        )

    begun, cpu = clock(), service.cpu()
    end = begun + seconds
    publisher.on_ack = lambda: publish() if clock() < end else None
    for _ in range(window):
        publish()
    await asyncio.sleep(seconds)
    await until(lambda: publisher.acks == publisher.published)
    await until(lambda: all(receiver.messages == publisher.published for receiver in receivers))
    carried = Carried(members * publisher.published, service.cpu() - cpu, clock() - begun)
    await closed([publisher, *receivers])
    return carried


async def idle(service: Served, count: int, seconds: float) -> None:
    memory, cpu, begun = service.memory(), service.cpu(), time.monotonic()
    clients = await opened(service.member_url, count, RELIABLE)
    print(f"\n{count} idle connections for {seconds:g} s, with the service's keepalive every 20 s\n")
    print(f"- opened in {time.monotonic() - begun:.1f} s, {1000 * (service.cpu() - cpu) / count:.2f} ms of CPU each")
    print(f"- {(service.memory() - memory) / count / 1024:.1f} KiB of memory each", flush=True)
    cpu = service.cpu()
    await asyncio.sleep(seconds)
    print(f"- {(service.cpu() - cpu) / seconds:.2%} of a core, {sum(client.pings for client in clients)} pings")
    (publisher,) = await opened(service.publisher_url, 1, RELIABLE)
    begun = time.monotonic()
    publisher.say(b'{"type":"sendToGroup","group":"bench","ackId":1,"data":1}')
    while sum(client.messages for client in clients) < count:
        if time.monotonic() > begun + LIMIT or any(client.over for client in clients):
            raise RuntimeError(f"{sum(client.over for client in clients)} of {count} connections were lost")
        await asyncio.sleep(0.001)
    print(f"- all of them still there: one message reached them in {1000 * (time.monotonic() - begun):.0f} ms")
    await closed([publisher, *clients])


# ---- The clients: they count, look at sequence ids, acknowledge and answer pings, and nothing else


class Client(asyncio.Protocol):
    """One client; what arrives is counted and dropped."""

    def __init__(self, url: str, subprotocol: str, ready: asyncio.Event) -> None:
        self.url, self.subprotocol, self.ready = url, subprotocol, ready
        self.messages = self.acks = self.pings = self.published = 0
        self.over = False
        self.on_ack: Callable[[], None] = lambda: None
        self.buffer = b""
        self.upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        parts = urlsplit(self.url)
        key = base64.b64encode(os.urandom(16)).decode()
        transport.write(
            f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Protocol: {self.subprotocol}\r\n\r\n".encode()
        )

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self.ready.set()

    def say(self, message: bytes, first: int = 0x81) -> None:
        # A mask of zeros is as good as any on loopback, and costs nothing.
        size = len(message)
        head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + size.to_bytes(2, "big")
        self.transport.write(head + bytes(4) + message)

    def data_received(self, data: bytes) -> None:
        buffer = self.buffer + data
        if not self.upgraded:
            head, found, rest = buffer.partition(b"\r\n\r\n")
            if found and not head.startswith(b"HTTP/1.1 101"):
                raise RuntimeError(head.decode("latin-1"))
            self.upgraded = bool(found)
            self.buffer = buffer = rest if found else buffer
        at, end = 0, len(buffer)
        while self.upgraded and end - at >= 2:
            first, size, start = buffer[at], buffer[at + 1], at + 2
            if size > 125:
                start += 2
                size = int.from_bytes(buffer[at + 2 : start], "big")
            if start + size > end:
                break
            at = start + size
            self.take(first, buffer, start, at)
        if self.upgraded:
            self.buffer = buffer[at:]

    def take(self, first: int, buffer: bytes, start: int, end: int) -> None:
        if first != 0x81:
            if first == 0x89:
                self.pings += 1
                self.say(buffer[start:end], 0x8A)
        elif buffer.startswith(b'{"type":"ack"', start):
            if not buffer.startswith(b'"success":true}', end - 15):
                raise RuntimeError(buffer[start:end].decode())
            self.acks += 1
            self.on_ack()
        elif buffer.startswith(b'{"type":"system"', start):
            self.ready.set()
        else:
            self.messages += 1
            if self.subprotocol == RELIABLE:
                if not buffer.startswith(b'{"sequenceId":%d,' % self.messages, start):
                    raise RuntimeError(f"not message {self.messages}: {buffer[start:end].decode()}")
                if self.messages % ACKNOWLEDGE_EVERY == 0:
                    self.say(b'{"type":"sequenceAck","sequenceId":%d}' % self.messages)


async def opened(url: str, count: int, subprotocol: str) -> list[Client]:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_fail)
    parts = urlsplit(url)
    clients: list[Client] = []
    for _ in range(count):
        ready = asyncio.Event()
        _, client = await loop.create_connection(
            lambda ready=ready: Client(url, subprotocol, ready), parts.hostname, parts.port
        )
        clients.append(client)
        if len(clients) % 50 == 0 or len(clients) == count:
            async with asyncio.timeout(LIMIT):
                for waiting in clients:
                    await waiting.ready.wait()
    if any(client.over for client in clients):
        raise RuntimeError("the service refused a connection")
    return clients


async def closed(clients: list[Client]) -> None:
    for client in clients:
        client.say((1000).to_bytes(2, "big"), 0x88)
    async with asyncio.timeout(LIMIT):
        while not all(client.over for client in clients):  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def _fail(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """A fault in a callback ends the benchmark: its figures would mean nothing."""
    loop.default_exception_handler(context)
    os._exit(1)


# ---- The service's process


class Served:
    """The service in its process: where to connect, and what it has used so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        lines = (line.strip() for line in process.stdout)
        self.member_url, self.publisher_url = next(lines), next(lines)
        self.url, self.connection_string = next(lines), next(lines)
        self._folder = f"/proc/{process.pid}"

    def cpu(self) -> float:
        """Seconds of CPU time, user and system; more exact than the clock ticks of ``stat``."""
        spent = 0
        for thread in os.listdir(f"{self._folder}/task"):
            with open(f"{self._folder}/task/{thread}/schedstat") as schedstat:
                spent += int(schedstat.read().split()[0])
        return spent / 1e9

    def memory(self) -> int:
        """Bytes of memory of its own."""
        with open(f"{self._folder}/smaps_rollup") as rollup:
            return 1024 * sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))


@contextmanager
def server(core: int) -> Iterator[Served]:
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as process:
        try:
            os.sched_setaffinity(process.pid, {core})
            yield Served(process)
        finally:
            process.terminate()


def serve() -> None:
    from limpet.service import Service
    from limpet.service import serve as serve_until_terminated

    def tell(service: Service) -> None:
        print(service.client_url("bench", groups=["bench"], expires_in=86400.0))
        print(service.client_url("bench", roles=["webpubsub.sendToGroup.bench"], expires_in=86400.0))
        print(service.client_url("bench", expires_in=86400.0))
        print(service.connection_string, flush=True)

    serve_until_terminated(port=0, on_start=tell)


if __name__ == "__main__":
    main()
