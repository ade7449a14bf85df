"""The client on asyncio without sockets, for icount.py: from the bytes that a read brings to the callback, and back."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from _layers import ACK, HALF, ROUNDS
from _workloads import BATCH, CONNECTED, Workload, frame, message
from simulation.inspect import see_up_to

import limpet.asyncio.driver
from limpet import GroupMessage
from limpet.asyncio import Client
from limpet.asyncio._tcp import TcpConnection

URL = "ws://127.0.0.1:1/client/hubs/bench?access_token=x"
_KEY = re.compile(rb"sec-websocket-key: (\S+)", re.IGNORECASE)
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class _Wire(asyncio.Transport):
    """A TCP connection that answers the handshake and takes everything else."""

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: TcpConnection) -> None:
        super().__init__()
        self.loop, self.protocol = loop, protocol
        self.upgraded = False

    def write(self, data: Any) -> None:
        if not self.upgraded:
            found = _KEY.search(data)
            assert found is not None
            accept = base64.b64encode(hashlib.sha1(found[1] + _GUID).digest())
            head = (
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: json.reliable.webpubsub.azure.v1\r\n\r\n" % accept
            )
            self.upgraded = True
            self.loop.call_soon(self.protocol.data_received, head + frame(CONNECTED))

    def is_closing(self) -> bool:
        return False

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


class _World:
    """A client that is connected, and the event loop that it runs in."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.client = Client(URL)
        self.wires: list[_Wire] = []
        self.loop.create_connection = self._connect
        limpet.asyncio.driver.dial_tcp = self._dial
        self.run(self.client.start())
        self.receive = self.wires[0].protocol.data_received
        self.answered = 0

    async def _dial(self, host: str, port: int) -> None: ...

    async def _connect(self, make: Callable[[], TcpConnection], sock: object) -> None:
        protocol = make()
        self.wires.append(_Wire(self.loop, protocol))
        protocol.connection_made(self.wires[0])

    def run(self, work: Coroutine[Any, Any, object]) -> None:
        self.loop.run_until_complete(work)

    def acknowledge(self, reads: list[bytes]) -> None:
        """Answer more requests, in one read; ``reads`` has the answers to all that will ever be made."""
        self.answered += 1
        self.receive(reads[self.answered - 1])


def receiving(name: str, size: int, *, at_once: bool) -> Workload:
    """A thousand messages to a callback: in one read, or each in a read of its own."""
    world = _World()
    seen = 0

    def take(message: GroupMessage) -> None:
        nonlocal seen
        seen += 1

    world.client.on(GroupMessage, take)
    frames = [frame(message(number, size)) for number in range(1, BATCH + 1)]
    reads = [b"".join(frames)] if at_once else frames

    def run() -> None:
        see_up_to(world.client._session, 0)
        receive = world.receive
        for read in reads:
            receive(read)

    return Workload(name, run, BATCH)


def alone_and_acknowledged(name: str, size: int) -> Workload:
    """A thousand messages, each in a read of its own, and its acknowledgement a second later, by its timer."""
    world = _World()
    now = world.loop.time()
    world.loop.time = lambda: now
    seen = 0

    def take(message: GroupMessage) -> None:
        nonlocal seen
        seen += 1

    world.client.on(GroupMessage, take)
    reads = [frame(message(number, size)) for number in range(1, BATCH + 1)]

    def run() -> None:
        nonlocal now
        see_up_to(world.client._session, 0)
        receive, turn = world.receive, world.loop._run_once
        for read in reads:
            receive(read)
            now += 1.0
            turn()

    return Workload(name, run, BATCH)


def sending(name: str, *, by: str) -> Workload:
    """A thousand requests, all at once or one after the other, and their answers."""
    world = _World()
    client, submit = world.client, world.client.submit
    count = 1 if by == "turn" else HALF
    acks = [frame(ACK % key) for key in range(1, ROUNDS * BATCH + 1)]
    reads = [b"".join(acks[at : at + count]) for at in range(0, len(acks), count)]

    async def answered() -> None:
        await asyncio.sleep(0)  # now the first half is written
        world.acknowledge(reads)
        world.acknowledge(reads)

    async def submitted() -> None:
        answers = [submit.send_to_group("bench", "hello") for _ in range(BATCH)]
        await answered()
        for answer in answers:
            await answer

    async def gathered() -> None:
        await asyncio.gather(*(client.send_to_group("bench", "hello") for _ in range(BATCH)), answered())

    async def in_turn() -> None:
        for _ in range(BATCH):
            world.loop.call_soon(world.acknowledge, reads)
            await client.send_to_group("bench", "hello")

    work = {"submit": submitted, "gather": gathered, "turn": in_turn}[by]
    return Workload(name, lambda: world.run(work()), BATCH)


Layer = Callable[[str], Workload]
CLIENT: list[tuple[str, Layer]] = [
    ("asyncio: receive 32 B", lambda name: receiving(name, 32, at_once=True)),
    ("asyncio: receive 4 KiB", lambda name: receiving(name, 4096, at_once=True)),
    ("asyncio: one message a read, 32 B", lambda name: receiving(name, 32, at_once=False)),
    ("asyncio: one message a read, and its ack a second later, 32 B", lambda name: alone_and_acknowledged(name, 32)),
    ("asyncio: client.submit, 1,000 in flight", lambda name: sending(name, by="submit")),
    ("asyncio: send, 1,000 in flight", lambda name: sending(name, by="gather")),
    ("asyncio: send one after another", lambda name: sending(name, by="turn")),
]


def client_layers() -> dict[str, Callable[[], Workload]]:
    """The rows by their names, each to be set up when it is run."""
    return {name: partial(layer, name) for name, layer in CLIENT}
