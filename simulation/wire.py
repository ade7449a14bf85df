"""One transport between a client and the service: latency, order, and how it breaks."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage

from holdfast import Dial, Link
from holdfast_core.service import ABNORMAL, Transport

if TYPE_CHECKING:
    from simulation.client import Client
    from simulation.world import World


@dataclass(frozen=True)
class Close:
    """On the wire: a close frame; in place of ABNORMAL the end of the stream."""

    code: int
    reason: str = ""


class Wire:
    """Two directions that keep their order, until it breaks. This one carries whole messages.

    ``fault``: how, in which direction and after how many items it breaks.
    """

    def __init__(self, world: World, client: Client, dial: Dial, random: Random) -> None:
        self.world, self.client, self.dial, self.random = world, client, dial, random
        self.core = world.core
        self.transport: Transport | None = None
        self.latency = random.choice([0.0, 0.01, 0.05, 0.3, 0.9])
        self.arrivals = {"up": world.now, "down": world.now}
        self.passed = {"up": 0, "down": 0}
        self.fault: tuple[str, str, int] | None = None
        self.dead = False
        self.opened = False
        self.hung_up = False

    # ---- The client's end

    def push(self) -> None:
        """Send what the session wants sent."""
        for message in self.client.session.messages_to_send():
            self.carry("up", message)
        self.hang_up()

    def hang_up(self) -> None:
        if self.dial.hang_up is not None and not self.hung_up:
            self.hung_up = True
            self.carry("up", Close(self.dial.hang_up.code, self.dial.hang_up.reason))

    def abandon(self) -> None:
        """The session wants this one no more."""
        self.hang_up()
        if not self.hung_up:
            self.carry("up", Close(ABNORMAL))

    def give(self, items: list[Any]) -> None:
        """Tell the session what arrived: one thing, or several messages."""
        session, now, first = self.client.session, self.world.now, items[0]
        if first == "open":
            self.opened = True
            session.connected(now)
        elif isinstance(first, Close):
            self.dead = True
            if self.opened:
                session.disconnected(now, code=first.code, reason=first.reason)
            else:
                session.dial_failed(OSError("the handshake was cut short"), now)
        else:
            session.receive_messages(items, now)

    def refuse(self, status: int | None) -> None:
        self.dead = True
        if self.client.session.dial is self.dial:
            self.client.session.dial_failed(OSError("refused"), self.world.now, status=status)
            self.client.drain()

    # ---- On the way

    def carry(self, direction: str, item: Any) -> None:
        jitter = self.random.random() * self.latency
        arrival = max(self.arrivals[direction], self.world.now + self.latency + jitter)
        self.arrivals[direction] = arrival
        receive = self.at_service if direction == "up" else self.at_client
        self.world.at(arrival, lambda: self.arrived(direction, receive, item))

    def arrived(self, direction: str, receive: Callable[[Any], None], item: Any) -> None:
        if self.dead:
            return
        self.passed[direction] += 1
        breaks = self.fault is not None and self.fault[1:] == (direction, self.passed[direction])
        receive(self.torn(item) if breaks else item)
        if breaks and self.fault is not None:
            self.breaks(self.fault[0])

    def torn(self, item: Any) -> Any:
        """What arrives of the last item before the wire breaks."""
        return item

    def breaks(self, how: str) -> None:
        """Nothing arrives any more. Cut: both ends notice soon. Silence: the client never, the service late."""
        if self.dead:
            return
        self.dead = True
        world, random = self.world, self.random
        world.log("%s: %s of attempt %s after %s", self.client.name, how, self.dial.attempt, dict(self.passed))
        if how == "cut":
            world.at(world.now + random.choice([0.0, 0.1, 1.0]), lambda: self.at_client(self.end_of_stream()))
        world.at(world.now + random.choice([0.0, 0.1, 2.0, 8.0, 20.0]), self.service_notices)

    def end_of_stream(self) -> Any:
        return Close(ABNORMAL)

    def at_client(self, item: Any) -> None:
        self.client.receives(self, item)

    # ---- The service's end

    def begin(self) -> None:
        """The network lets this one through."""
        self.world.at(self.world.now + self.latency, self.accepted)

    def accepted(self) -> None:
        if self.dead or self.client.wire is not self:
            return
        if self.core is not self.world.core:
            self.breaks("cut")  # the service crashed under the handshake
            return
        self.world.enter(self)
        self.carry("down", "open")
        self.world.serve()

    def serve(self, transport: Transport) -> None:
        """Send what the service wants sent."""
        for message in transport.messages_to_send():
            self.world.ledger.sends(transport, message)
            self.carry("down", message)
        if transport.close is not None:
            self.carry("down", Close(transport.close.code, transport.close.reason))

    def at_service(self, item: Any) -> None:
        if self.core is not self.world.core or self.transport is None:
            return
        if isinstance(item, Close):
            self.core.disconnected(self.transport, item.code, self.world.now)
            if item.code != ABNORMAL:
                self.carry("down", item)
        else:
            self.core.receive(self.transport, item, self.world.now)
        self.world.serve()

    def service_notices(self) -> None:
        if self.transport is not None and self.core is self.world.core:
            self.core.disconnected(self.transport, ABNORMAL, self.world.now)
            self.world.serve()


class FramedWire(Wire):
    """Carries bytes: a Link at the client's end, wsproto at the service's. It breaks at any byte."""

    def __init__(self, world: World, client: Client, dial: Dial, random: Random) -> None:
        super().__init__(world, client, dial, random)
        self.link = Link(client.session, dial, random_bytes=random.randbytes)
        self.server = WSConnection(ConnectionType.SERVER)
        self.parts: list[str] = []
        self.ended = False

    def push(self) -> None:
        for data in self.link.data_to_send():
            self.carry("up", data)

    def abandon(self) -> None:
        self.push()
        self.carry("up", b"")

    def give(self, items: list[Any]) -> None:
        now = self.world.now
        for data in items:
            self.link.receive_data(data, now)

    def refuse(self, status: int | None) -> None:
        self.dead = True
        if status is None:
            self.link.failed(OSError("refused"), self.world.now)
        else:
            self.link.receive_data(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status, self.world.now)
        self.client.drain()

    def torn(self, item: bytes) -> bytes:
        return item[: self.random.randint(1, len(item))] if item else item

    def end_of_stream(self) -> bytes:
        return b""

    def begin(self) -> None:
        pass  # the session's end speaks first

    def serve(self, transport: Transport) -> None:
        frames = []
        for message in transport.messages_to_send():
            self.world.ledger.sends(transport, message)
            frames.append(text_frame(message))
        if frames:
            self.in_pieces(b"".join(frames))
        if transport.close is not None:
            self.close(transport.close.code, transport.close.reason)

    def in_pieces(self, data: bytes) -> None:
        """TCP knows no frames: they arrive together, or cut anywhere."""
        middle = self.random.randrange(len(data) * 2)
        for piece in (data[:middle], data[middle:]):
            if piece:
                self.carry("down", piece)

    def close(self, code: int, reason: str) -> None:
        if not self.ended and code != ABNORMAL and self.server.state is ConnectionState.OPEN:
            self.carry("down", self.server.send(CloseConnection(code, reason)))
        self.carry("down", b"")
        self.ended = True

    def at_service(self, item: bytes) -> None:
        if self.core is not self.world.core:
            self.breaks("cut")  # the service crashed under the handshake
        if self.ended or self.dead:
            return
        if not item:
            self.service_notices()
            return
        self.server.receive_data(item)
        for event in self.server.events():
            self.server_event(event)
        self.world.serve()

    def server_event(self, event: object) -> None:
        if isinstance(event, Request):
            self.carry("down", self.server.send(AcceptConnection(subprotocol=self.dial.protocol)))
            self.world.enter(self)
        elif isinstance(event, TextMessage) and self.transport is not None:
            self.parts.append(event.data)
            if event.message_finished:
                self.core.receive(self.transport, "".join(self.parts).encode(), self.world.now)
                self.parts.clear()
                self.world.serve()  # what many of them cause does not wait for the last
        elif isinstance(event, CloseConnection):
            if self.transport is not None:
                self.core.disconnected(self.transport, int(event.code), self.world.now)
            if self.server.state is ConnectionState.REMOTE_CLOSING:
                self.carry("down", self.server.send(event.response()))
            self.carry("down", b"")
            self.ended = True


def text_frame(message: bytes) -> bytes:
    """An unmasked text frame (RFC 6455 5.2)."""
    size = len(message)
    if size < 126:
        return b"\x81%c" % size + message
    return b"\x81\x7e" + struct.pack("!H", size) + message
