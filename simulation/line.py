"""One transport between a client and the service: latency, order, and how it breaks."""

from __future__ import annotations

from random import Random
from typing import Any, Protocol

from limpet import Dial, Session
from limpet_core.service import NO_CLOSE_FRAME, Close, Transport
from simulation.clock import Clock
from simulation.disorder import Disorder
from simulation.oracle import sent
from simulation.service import Service

END = Close(NO_CLOSE_FRAME)
"""On a line: the end of the stream; any other Close is a close frame."""


class Driver(Protocol):
    """Drives a session over lines, one at a time.

    Attributes:
        line: the line in use.
    """

    name: str
    line: Line | None

    @property
    def session(self) -> Session: ...

    def receives(self, line: Line, item: Any) -> None: ...

    def drain(self) -> None: ...


def refusal_of(request: bytes, name: str) -> bytes:
    """The answer of a service that does not execute ``request``."""
    return b'{"type":"ack","ackId":%d,"success":false,"error":{"name":"%b","message":"not now"}}' % (
        sent(request).ack_id or 0,
        name.encode(),
    )


class Line:
    """Two directions that keep their order, until it breaks. This one carries whole messages.

    What is on the way is a list of messages, "open" or a Close. ``fault``: how, in which direction and after how many
    of these it breaks.
    """

    def __init__(self, name: str, clock: Clock, service: Service, client: Driver, dial: Dial, random: Random) -> None:
        self.name, self.clock, self.service, self.client = name, clock, service, client
        self.dial, self.random = dial, random
        self.core = service.core
        self.transport: Transport | None = None
        self.latency = random.choice([0.0, 0.01, 0.05, 0.3, 0.9])
        self.arrivals = {"up": clock.now, "down": clock.now}
        self.passed = {"up": 0, "down": 0}
        self.last: dict[str, tuple[float, list[bytes]] | None] = {"up": None, "down": None}
        self.fault: tuple[str, str, int] | None = None
        self.dead = self.half_dead = False
        self.opened = False
        self.close_sent = False
        self.disorder = Disorder(clock, name, self.carry_late)

    # ---- The client's end

    def push(self) -> None:
        """Send what the session wants sent."""
        messages = self.client.session.messages_to_send()
        for message in messages:
            self.carry_data("up", message)
        if messages and self.half_dead:
            self.client.session.send_failed(self.clock.now, reason="the pipe is broken")
        if self.dial.close is not None:
            self.send_close()

    def send_close(self) -> None:
        if self.dial.close is not None and not self.close_sent:
            self.close_sent = True
            self.carry("up", Close(self.dial.close.code, self.dial.close.reason))

    def abandon(self) -> None:
        """The session wants this one no more."""
        self.send_close()
        if not self.close_sent:
            self.carry("up", END)

    def give(self, item: Any) -> None:
        """Tell the session what arrived."""
        session, now = self.client.session, self.clock.now
        if isinstance(item, list):
            session.receive_messages(item, now)
        elif item == "open":
            self.opened = True
            session.connected(now)
        else:
            self.dead = True
            if self.opened:
                session.disconnected(now, code=item.code, reason=item.reason)
            else:
                session.dial_failed(OSError("the handshake was cut short"), now)

    def refuse(self, status: int | None) -> None:
        self.dead = True
        if self.client.session.dial is self.dial:
            self.client.session.dial_failed(
                OSError(f"HTTP status {status}" if status else "refused"), self.clock.now, status=status
            )
            self.client.drain()

    # ---- On the way

    def carry_data(self, direction: str, data: bytes) -> None:
        """What is sent at the same time may arrive at the same time."""
        last = self.last[direction]
        if last is not None and last[0] == self.clock.now and self.random.random() < 0.7:
            last[1].append(data)
        else:
            items = [data]
            self.carry(direction, items)
            self.last[direction] = (self.clock.now, items)

    def carry(self, direction: str, item: Any) -> None:
        latency = self.latency * (1.0 + self.random.random())
        arrival = max(self.arrivals[direction], self.clock.now + latency)
        self.arrivals[direction] = arrival
        self.last[direction] = None
        self.clock.at(arrival, self.arrived, direction, item)

    def arrived(self, direction: str, item: Any) -> None:
        last = self.last[direction]
        if last is not None and last[1] is item:
            self.last[direction] = None
        if self.dead or (self.half_dead and direction == "up"):
            return
        self.passed[direction] += 1
        breaks = self.fault is not None and self.fault[1:] == (direction, self.passed[direction])
        tears = direction == "up" or not (self.fault and self.fault[0] == "pipe")  # else what follows would arrive
        if breaks and tears and isinstance(item, list):
            self.tear(item)
        if direction == "up":
            self.at_service(item)
        else:
            self.at_client(item)
        if breaks and self.fault is not None:
            self.breaks(self.fault[0])

    def tear(self, items: list[bytes]) -> None:
        """Leave of these what arrives before the line breaks."""
        del items[self.random.randint(1, len(items)) :]

    def breaks(self, how: str) -> None:
        """Nothing arrives any more. Cut: both ends notice soon. Silence: the client never, the service late.

        Pipe: the client's next send fails, and what is on the way to the client still arrives, mostly with the end.
        """
        if self.dead or self.half_dead:
            return
        self.dead, self.half_dead = how != "pipe", how == "pipe"
        random, after = self.random, self.clock.after
        self.clock.log("%s: %s of attempt %s after %s", self.client.name, how, self.dial.attempt, dict(self.passed))
        if how == "cut":
            after(random.choice([0.0, 0.1, 1.0]), self.at_client, END)
        elif how == "pipe" and random.random() < 0.7:
            self.carry("down", END)
        after(random.choice([0.0, 0.1, 2.0, 8.0, 20.0]), self.service_notices)

    def at_client(self, item: Any) -> None:
        self.client.receives(self, item)

    # ---- The service's end

    def begin(self) -> None:
        """The network lets this one through."""
        self.clock.after(self.latency, self.accepted)

    def accepted(self) -> None:
        if self.dead or self.half_dead or self.client.line is not self:
            return
        if self.core is not self.service.core:
            self.breaks("cut")  # the service crashed under the handshake
            return
        if not self.service.admits(self.dial):
            self.refuse(401)
            return
        self.enter()
        self.carry("down", "open")
        self.service.serve()

    def enter(self) -> None:
        """The service takes the client in."""
        self.transport = self.service.enter(self.dial, self, user=self.client.name, random=self.random, where=self.name)

    def serve(self, transport: Transport) -> None:
        """Send what the service wants sent."""
        for message in transport.messages_to_send():
            self.service.ledger.sends(transport, message)
            if not self.disorder.takes(message):
                self.carry_data("down", message)
        if transport.close is not None:
            self.carry("down", transport.close)

    def carry_late(self, message: bytes) -> None:
        """Send what the service has sent before, if the transport is still in use."""
        transport = self.transport
        connection = None if transport is None else transport.connection
        if connection is not None and connection.transport is transport and self.core is self.service.core:
            self.carry_data("down", message)

    def at_service(self, item: Any) -> None:
        if self.core is not self.service.core or self.transport is None:
            return
        if isinstance(item, list):
            for message in item:
                self.speak(self.transport, message)
            return
        self.core.disconnected(self.transport, item.code, self.clock.now)
        if item.code != NO_CLOSE_FRAME:
            self.carry("down", item)
        self.service.serve()

    def speak(self, transport: Transport, message: bytes) -> None:
        """The service takes a message; what many of them cause does not wait for the last."""
        if transport.connection is not None:
            self.service.speaking = transport.connection.connection_id
            if message.startswith(b'{"type":"leaveGroup"'):
                where = f"{self.name} item {self.passed['up']}"
                if refusal := self.service.refusal(message, self.random, where):
                    self.carry_data("down", refusal_of(message, refusal))
                    return
        self.core.receive(transport, message, self.clock.now)
        self.service.serve()

    def service_notices(self) -> None:
        if self.transport is not None and self.core is self.service.core:
            self.core.disconnected(self.transport, NO_CLOSE_FRAME, self.clock.now)
            self.service.serve()
