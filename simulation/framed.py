"""A transport that carries bytes: WebSocket frames, cut anywhere."""

from __future__ import annotations

from typing import Any

from limpet import Link
from limpet_core.service import NO_CLOSE_FRAME, Close, Transport
from simulation.line import END, Line
from simulation.peer import Peer, accept, close_frame, frame, rejection


class FramedLine(Line):
    """Carries bytes: a Link at the client's end, a Peer at the service's. It breaks at any byte."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.link: Link | None = None  # from the moment the network answers
        self.peer = Peer()
        self.ended = False

    def push(self) -> None:
        if self.link is not None:
            pieces = self.link.data_to_send()
            for data in pieces:
                self.carry_data("up", data)
            if pieces and self.half_dead:
                self.link.send_failed("the pipe is broken", self.clock.now)

    def abandon(self) -> None:
        self.push()
        self.carry("up", END)

    def give(self, item: Any) -> None:
        if self.link is None:
            super().give(item)  # the network never answered
            return
        # TCP knows no frames: they arrive together, or cut anywhere.
        data = b"".join(item) if isinstance(item, list) else b""
        middle = self.random.randrange(2 * len(data)) if data else 0
        if 0 < middle < len(data):
            self.link.receive_data(data[:middle], self.clock.now)
            data = data[middle:]
        self.link.receive_data(data, self.clock.now)

    def refuse(self, status: int | None) -> None:
        if status is None or self.client.session.dial is not self.dial:
            super().refuse(status)
        else:
            self.dead = True
            self.begin()
            assert self.link is not None
            self.link.receive_data(rejection(status), self.clock.now)
            self.client.drain()

    def tear(self, items: list[bytes]) -> None:
        data = b"".join(items)
        items[:] = [data[: self.random.randint(1, len(data))]]

    def begin(self) -> None:
        # The session's end speaks first.
        self.link = Link(self.client.session, self.dial, random_bytes=self.random.randbytes)

    def serve(self, transport: Transport) -> None:
        for message in transport.messages_to_send():
            self.service.ledger.sends(transport, message)
            if not self.disorder.takes(message):
                self.carry_data("down", frame(message))
        if transport.close is not None:
            self.close(transport.close)

    def carry_late(self, message: bytes) -> None:
        super().carry_late(frame(message))

    def close(self, close: Close) -> None:
        if not self.ended:
            self.ended = True
            if close.code != NO_CLOSE_FRAME:
                self.carry_data("down", close_frame(close.code, close.reason))
            self.carry("down", END)

    def at_service(self, item: Any) -> None:
        if self.core is not self.service.core:
            self.breaks("cut")  # the service crashed under the handshake
        if self.ended or self.dead:
            return
        if not isinstance(item, list):
            self.service_notices()
            return
        for message in self.peer.receive(b"".join(item)):
            if self.ended:
                return
            if isinstance(message, Close):
                if self.transport is not None:
                    self.core.disconnected(self.transport, message.code, self.clock.now)
                self.close(message)
            elif self.transport is not None:
                self.speak(self.transport, message)
            elif self.service.admits(self.dial):
                self.carry_data("down", accept(message, self.dial.protocol))
                self.enter()
            else:
                self.carry_data("down", rejection(401))
                self.carry("down", END)
                self.ended = True
            self.service.serve()
