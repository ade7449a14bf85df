"""What the local service does for each delivery, without sockets: for icount.py and micro.py."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from _workloads import Workload

from limpet.service import ServiceOptions, client_url
from limpet.service._gateway import Gateway
from limpet.service._websocket import WebSocketProtocol
from limpet_core.protocol.names import JSON, RELIABLE_JSON

MEMBERS = 100
PUBLICATIONS = 32
"""In one read of the publisher's, so in one write to each member."""
ACKNOWLEDGED = 128
"""Messages after which a reliable member acknowledges: once in the rounds that icount.py counts."""


class _Wire:
    """A TCP connection that takes everything."""

    def __init__(self) -> None:
        self.last = b""

    def write(self, data: bytes) -> None:
        self.last = data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int) -> None: ...

    def set_protocol(self, protocol: object) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Client:
    """A client of the service, seen from its end of the TCP connection."""

    def __init__(
        self,
        gateway: Gateway,
        loop: asyncio.AbstractEventLoop,
        url: str,
        subprotocol: str,
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        config = cast(Any, type("Config", (), {"root_path": ""}))
        state = cast(Any, type("State", (), {"connections": set()}))
        self.wire = _Wire()
        self.end = WebSocketProtocol.bound_to(gateway)(config, state, {}, loop)
        self.end.connection_made(cast(asyncio.BaseTransport, self.wire))
        _, _, target = url.partition("localhost:1")
        self.end.data_received(
            f"GET {target} HTTP/1.1\r\nHost: localhost:1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
            f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n".encode()
        )
        settle()
        assert b'"connected"' in self.wire.last, self.wire.last

    def say(self, *messages: bytes) -> None:
        """Send text messages in one piece."""
        self.end.data_received(b"".join(map(_masked, messages)))


def _masked(message: bytes) -> bytes:
    size = len(message)
    head = bytes((0x81, 0x80 | size)) if size < 126 else b"\x81\xfe" + size.to_bytes(2, "big")
    return head + bytes(4) + message


def fanning_out(name: str, subprotocol: str, size: int) -> Workload:
    """Publications of one client to a group: bytes of the publisher to bytes for each member, with acks of both."""
    run: Callable[[], object] | None = None

    def run_it() -> None:
        nonlocal run
        run = run or _fan_out(subprotocol, size)  # the connections take a while: only for those that are run
        run()

    return Workload(name, run_it, MEMBERS * PUBLICATIONS)


def _fan_out(subprotocol: str, size: int) -> Callable[[], object]:
    loop = asyncio.new_event_loop()
    gateway = Gateway(ServiceOptions(keepalive_interval=None, request_timeout=None), "http://localhost:1")
    connection = gateway.identity.connection_string("http://localhost:1")
    url = client_url(connection, "bench", groups=["bench"])
    members = [Client(gateway, loop, url, subprotocol) for _ in range(MEMBERS)]
    publisher_url = client_url(connection, "bench", roles=["webpubsub.sendToGroup.bench"])
    publisher = Client(gateway, loop, publisher_url, subprotocol)
    said = b'{"type":"sendToGroup","group":"bench","ackId":%d,"dataType":"text","data":"%b"}'
    published = 0

    async def round() -> None:
        nonlocal published
        first, published = published + 1, published + PUBLICATIONS
        publisher.say(*(said % (number, b"x" * size) for number in range(first, published + 1)))
        await asyncio.sleep(0)  # the end of the turn
        for member in members:
            assert len(member.wire.last) > PUBLICATIONS * size
            if subprotocol == RELIABLE_JSON and published % ACKNOWLEDGED == 0:
                member.say(b'{"type":"sequenceAck","sequenceId":%d}' % published)

    return lambda: loop.run_until_complete(round())


def service_workloads() -> list[Workload]:
    return [
        fanning_out("service, plain 32 B", JSON, 32),
        fanning_out("service, plain 1 KiB", JSON, 1024),
        fanning_out("service, reliable 32 B", RELIABLE_JSON, 32),
        fanning_out("service, reliable 1 KiB", RELIABLE_JSON, 1024),
    ]
