"""The output of a turn of the event loop leaves together: what the sockets of clients see of it."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import struct
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest
from tests.adapters.service.sockets import with_service
from tests.helpers.waiting import LIMIT

from limpet.service import LocalCertificate, Service, ServiceOptions
from limpet_core.service import JSON, RELIABLE_JSON

PUBLISHERS = 32
CLOSED, PONG, TEXT = 0x88, 0x8A, 0x81


class Wire:
    """A WebSocket of a client without an event loop of its own: the test decides when it sends and reads."""

    opened: ClassVar[list[Wire]] = []

    def __init__(self) -> None:
        self.socket = socket.socket()
        Wire.opened.append(self)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.is_over = False

    @classmethod
    async def open(cls, service: Service, subprotocol: str = RELIABLE_JSON, **grant: Any) -> Wire:
        wire = cls()
        loop = asyncio.get_running_loop()
        await loop.sock_connect(wire.socket, ("127.0.0.1", service.port))
        wire.socket.send(handshake(service.client_url(**grant), subprotocol))
        end = time.monotonic() + LIMIT
        while b"\r\n\r\n" not in wire.buffer or not wire.frames():
            assert time.monotonic() < end
            wire.read()
            await asyncio.sleep(0.001)
        wire.buffer = b""
        return wire

    def say(self, *messages: dict[str, Any]) -> None:
        """Send messages, so that they have arrived when this returns."""
        self.send(b"".join(_masked(0x81, json.dumps(message).encode()) for message in messages))

    def send(self, data: bytes) -> None:
        assert self.socket.send(data) == len(data)

    def read(self) -> None:
        """Take what has arrived."""
        while not self.is_over:
            try:
                data = self.socket.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data = b""
            self.buffer += data
            self.is_over = not data

    def frames(self) -> list[tuple[int, bytes]]:
        """Return the frames that were taken, each with its first byte."""
        found: list[tuple[int, bytes]] = []
        buffer = self.buffer.partition(b"\r\n\r\n")[2] if self.buffer.startswith(b"HTTP/") else self.buffer
        while len(buffer) >= 2:
            size, start = buffer[1], 2
            if size == 126:
                size, start = int.from_bytes(buffer[2:4], "big"), 4
            elif size == 127:
                size, start = int.from_bytes(buffer[2:10], "big"), 10
            if len(buffer) < start + size:
                break
            found.append((buffer[0], buffer[start : start + size]))
            buffer = buffer[start + size :]
        return found

    def texts(self) -> list[str]:
        """Return the data of the messages that were taken."""
        messages = [json.loads(data) for first, data in self.frames() if first == TEXT]
        return [message["data"] for message in messages if message["type"] == "message"]

    async def until(self, count: int) -> list[tuple[int, bytes]]:
        """Return the first frames, as soon as there are so many."""
        end = time.monotonic() + LIMIT
        while len(self.frames()) < count:
            self.read()
            assert time.monotonic() < end, self.frames()
            await asyncio.sleep(0.001)
        return self.frames()

    async def until_over(self) -> None:
        end = time.monotonic() + LIMIT
        while not self.is_over:
            self.read()
            assert time.monotonic() < end, self.frames()
            await asyncio.sleep(0.001)

    def segments(self) -> int:
        """Return how many segments with data the socket has received: one for each write, or for several."""
        info = self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 160)  # pyright: ignore
        (count,) = struct.unpack_from("=I", info, 152)
        assert isinstance(count, int)
        return count


@pytest.fixture(autouse=True)
def _no_socket_is_left() -> Iterator[None]:
    yield
    while Wire.opened:
        Wire.opened.pop().socket.close()


def handshake(url: str, subprotocol: str) -> bytes:
    parts = urlsplit(url)
    return (
        f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    ).encode()


def _masked(first: int, data: bytes) -> bytes:
    size = len(data)
    head = bytes((first, 0x80 | size)) if size < 126 else bytes((first, 0xFE)) + size.to_bytes(2, "big")
    if size > 65535:
        head = bytes((first, 0xFF)) + size.to_bytes(8, "big")
    return head + bytes(4) + data


def arrive() -> None:
    """Let the system carry what was sent, while the event loop stands still: the service finds it all in one turn."""
    time.sleep(0.02)


async def publishers(service: Service, count: int, group: str = "g") -> list[Wire]:
    return [await Wire.open(service, roles=[f"webpubsub.sendToGroup.{group}"]) for _ in range(count)]


def publish_in_one_turn(wires: Iterable[Wire], text: str = "") -> None:
    for number, wire in enumerate(wires):
        wire.say({"type": "sendToGroup", "group": "g", "ackId": 1, "dataType": "text", "data": f"{number}{text}"})
    arrive()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP_INFO of Linux counts segments")
@pytest.mark.parametrize("subprotocol", [JSON, RELIABLE_JSON])
def test_what_many_clients_publish_in_one_turn_goes_to_a_member_in_one_write(subprotocol: str) -> None:
    async def scenario(service: Service) -> None:
        member = await Wire.open(service, subprotocol, groups=["g"])
        senders = await publishers(service, PUBLISHERS)
        before = member.segments()
        publish_in_one_turn(senders)
        await member.until(PUBLISHERS)
        assert member.segments() - before <= PUBLISHERS / 8, "one, unless the event loop saw the clients in two turns"
        assert sorted(map(int, member.texts())) == list(range(PUBLISHERS))
        for sender in senders:
            ((_, ack),) = await sender.until(1)
            assert json.loads(ack) == {"type": "ack", "ackId": 1, "success": True}

    with_service(scenario)


def test_a_publication_alone_is_written_in_the_turn_after_it_was_read() -> None:
    async def scenario(service: Service) -> None:
        member = await Wire.open(service, groups=["g"])
        (sender,) = await publishers(service, 1)
        publish_in_one_turn([sender])
        for _ in range(3):  # this task comes first in each turn: in one the service reads, in the next one it writes
            await asyncio.sleep(0)
        arrive()
        member.read()
        sender.read()
        assert member.texts() == ["0"]
        assert len(sender.frames()) == 1

    with_service(scenario)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        pytest.param(ServiceOptions(retained_messages=20), "", id="messages"),
        pytest.param(ServiceOptions(retained_bytes=100_000), "x" * 5000, id="bytes"),
    ],
)
def test_what_waits_for_the_end_of_a_turn_overruns_no_limit(options: ServiceOptions, text: str) -> None:
    """A client that reads is not slow, however many publish to it in one turn."""

    async def scenario(service: Service) -> None:
        member = await Wire.open(service, JSON, groups=["g"])
        publish_in_one_turn(await publishers(service, 30), text)
        frames = await member.until(30)
        assert {first for first, _ in frames} == {TEXT}

    with_service(scenario, options)


@pytest.mark.parametrize("end", ["close", "eof", "ping"])
def test_messages_of_a_turn_go_before_what_the_member_does_in_it(end: str) -> None:
    """A close frame, an end of the bytes or a ping that the service reads behind a publication is answered behind."""

    async def scenario(service: Service) -> None:
        (sender,) = await publishers(service, 1)
        member = await Wire.open(service, JSON, groups=["g"])
        await in_this_order(service, sender, member, end)
        if end == "ping":
            frames = await member.until(2)
        else:
            await member.until_over()
            frames = member.frames()
        assert member.texts() == ["0"]
        assert [first for first, _ in frames] == {"close": [TEXT, CLOSED], "eof": [TEXT], "ping": [TEXT, PONG]}[end]

    with_service(scenario)


async def in_this_order(service: Service, sender: Wire, member: Wire, end: str) -> None:
    """Have the service read a publication, and what the member does, in one turn: in this order."""
    publish_in_one_turn([sender])
    if end == "close":
        member.send(_masked(CLOSED, (1000).to_bytes(2, "big")))
    elif end == "ping":
        member.send(_masked(0x89, b""))
    else:
        member.socket.shutdown(socket.SHUT_WR)
    arrive()


@pytest.mark.parametrize("end", ["eof", "reset"])
def test_nothing_is_written_to_a_client_that_has_ended_its_connection(
    end: str, caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio logs a warning for such writes: anybody could fill the log."""

    async def scenario(service: Service) -> None:
        senders = await publishers(service, 8)
        member = await Wire.open(service, JSON, groups=["g"])
        if end == "reset":
            member.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            member.socket.close()
        else:
            member.socket.shutdown(socket.SHUT_WR)
        for sender in senders:  # each with as many as make a write, all read in one turn
            sender.say(*[{"type": "sendToGroup", "group": "g", "dataType": "text", "data": "x"}] * 60)
        arrive()
        for _ in range(3):
            await asyncio.sleep(0)

    with_service(scenario)
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_nothing_is_written_over_tls_to_a_client_that_has_ended_its_connection(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE

    async def opened(service: Service, **grant: Any) -> asyncio.StreamWriter:
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port, ssl=trusting)
        writer.write(handshake(service.client_url(**grant), JSON))
        await reader.readuntil(b"\r\n\r\n")
        return writer

    async def scenario() -> None:
        async with Service(ssl=LocalCertificate.of_folder(tmp_path).ssl_context()) as service:
            senders = [await opened(service, roles=["webpubsub.sendToGroup.g"]) for _ in range(8)]
            member = await opened(service, groups=["g"])
            below = member.get_extra_info("socket")
            with socket.socket(fileno=os.dup(below.fileno())) as same:
                same.shutdown(socket.SHUT_WR)  # without the goodbye of TLS
            message = b'{"type":"sendToGroup","group":"g","dataType":"text","data":"x"}'
            for sender in senders:
                sender.write(_masked(TEXT, message) * 60)
            arrive()
            for _ in range(3):
                await asyncio.sleep(0)
            for writer in (member, *senders):
                writer.transport.abort()

    asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records if record.name == "asyncio"] == []


def test_messages_of_a_turn_go_before_a_drop_by_the_application() -> None:
    async def scenario(service: Service) -> None:
        (sender,) = await publishers(service, 1)
        member = await Wire.open(service, JSON, groups=["g"])
        (connection,) = service.hub("chat").members("g")
        publish_in_one_turn([sender])
        for _ in range(2):  # the service has read, and not written: this task comes first in each turn
            await asyncio.sleep(0)
        service.drop(connection.connection_id)
        await member.until_over()
        assert member.texts() == ["0"]

    with_service(scenario)


def test_a_close_by_the_service_goes_before_the_answer_to_a_later_close_of_the_client() -> None:
    async def scenario(service: Service) -> None:
        (sender,) = await publishers(service, 1)
        member = await Wire.open(service, JSON, groups=["g"])
        # One message too large for the room of the member: the service ends that connection, as too slow.
        sender.say({"type": "sendToGroup", "group": "g", "dataType": "text", "data": "x" * 3000})
        arrive()
        member.send(_masked(CLOSED, (1000).to_bytes(2, "big")))
        arrive()
        await member.until_over()
        assert [(first, int.from_bytes(data[:2], "big")) for first, data in member.frames()] == [(CLOSED, 1008)]

    with_service(scenario, ServiceOptions(retained_bytes=2000))
