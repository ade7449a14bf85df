"""Sessions and the service joined by a bad network, under one virtual clock and one seed.

``python -m tests.helpers.network SEED [wild|gentle] [json]`` runs one seed again and prints what happened.

What is checked while it runs, and at its end, is in :class:`Client`, :class:`Ledger` and :meth:`World.check`.
"""

from __future__ import annotations

import heapq
import itertools
import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

from holdfast import (
    JSON,
    RELIABLE_JSON,
    Acked,
    Backoff,
    Connected,
    Dial,
    Disconnected,
    GroupMessage,
    LocalProtocolError,
    MessagesMissed,
    Options,
    ServerMessage,
    Session,
    State,
    Stopped,
)
from holdfast_core.service import ABNORMAL, ClientGrant, Limits, ServiceCore, Transport, server_publication
from holdfast_core.service import JSON as SERVICE_JSON

URL = "ws://service.test/client/hubs/chat"
ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup.room", "webpubsub.sendToGroup.side")
CALM = 45.0
"""When the faults stop."""
SETTLED = 160.0
"""That long after that everything is settled: 40 s of darkness, 30 s to recover, 4 x 20 s for a request, 5 s of
backoff."""


@dataclass(frozen=True)
class Weather:
    """What kind of run it is.

    Attributes:
        gentle: faults, but never so many that the recovery window is exceeded: nothing may be lost then.
        faults: the most transports of each client that break.
    """

    gentle: bool = True
    protocol: str = RELIABLE_JSON
    resend: str = "safe"
    connected_after_recovery: bool = True
    clients: int = 3
    faults: int = 6


@dataclass(eq=False)
class Asked:
    """A request of the application: ``number`` is unique and travels as the data of a publication."""

    kind: str
    number: int
    ack_id: int | None
    outcomes: list[Acked] = field(default_factory=list)
    withdrawn: bool = False


@dataclass(frozen=True)
class Close:
    """On the wire: a close frame; in place of ABNORMAL the end of the stream."""

    code: int
    reason: str = ""


class Ledger:
    """The truth about the service: what it executed, and what it sent to whom."""

    def __init__(self) -> None:
        self.executed: list[int] = []
        self.sent: dict[str, dict[int, Any]] = {}  # connection id -> sequence id -> data
        self.ack_ids: dict[int, int | None] = {}  # of each publication seen on the wire

    def sends(self, connection_id: str, message: dict[str, Any]) -> None:
        if message["type"] == "message" and "sequenceId" in message:
            sent = self.sent.setdefault(connection_id, {})
            known = sent.setdefault(message["sequenceId"], message["data"])
            assert known == message["data"], "a sequence id stands for one message"


class Wire:
    """One transport: two directions that keep their order, until it breaks.

    ``fault``: how, in which direction and after how many messages it breaks.
    """

    def __init__(self, world: World, client: Client, dial: Dial) -> None:
        self.world, self.client, self.dial = world, client, dial
        self.core = world.core
        self.transport: Transport | None = None
        self.latency = world.random.choice([0.0, 0.01, 0.05, 0.3, 0.9])
        self.arrivals = {"up": world.now, "down": world.now}
        self.passed = {"up": 0, "down": 0}
        self.fault: tuple[str, str, int] | None = None
        self.dead = False
        self.opened = False
        self.hung_up = False

    def carry(self, direction: str, item: Any) -> None:
        jitter = self.world.random.random() * self.latency
        arrival = max(self.arrivals[direction], self.world.now + self.latency + jitter)
        self.arrivals[direction] = arrival
        receive = self.at_service if direction == "up" else self.client.receives
        self.world.at(arrival, lambda: self.arrived(direction, receive, item))

    def arrived(self, direction: str, receive: Callable[[Wire, Any], None], item: Any) -> None:
        if self.dead:
            return
        receive(self, item)
        self.passed[direction] += 1
        if self.fault is not None and self.fault[1:] == (direction, self.passed[direction]):
            self.breaks(self.fault[0])

    def at_service(self, _: Wire, item: Any) -> None:
        if self.core is not self.world.core or self.transport is None:
            return
        if isinstance(item, Close):
            self.core.disconnected(self.transport, item.code, self.world.now)
            if item.code != ABNORMAL:
                self.carry("down", item)
        else:
            self.core.receive(self.transport, item, self.world.now)
        self.world.serve()

    def breaks(self, how: str) -> None:
        """Nothing arrives any more. Cut: both ends notice soon. Silence: the client never, the service late."""
        if self.dead:
            return
        self.dead = True
        world, random = self.world, self.world.random
        world.log(f"{self.client.name}: {how} of attempt {self.dial.attempt} after {self.passed}")
        if how == "cut":
            world.at(world.now + random.choice([0.0, 0.1, 1.0]), lambda: self.client.receives(self, Close(ABNORMAL)))
        world.at(world.now + random.choice([0.0, 0.1, 2.0, 8.0, 20.0]), lambda: self.service_notices())

    def service_notices(self) -> None:
        if self.transport is not None and self.core is self.world.core:
            self.core.disconnected(self.transport, ABNORMAL, self.world.now)
            self.world.serve()


class Client:
    """A driver of one Session, and the oracle of what it may tell its application."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.options = Options(
            protocol=world.weather.protocol,
            resend=world.weather.resend,  # type: ignore[arg-type]
            reconnect=Backoff(maximum=5.0),
            connect_timeout=10.0,
            ack_timeout=15.0 if world.weather.gentle else world.random.choice([3.0, 10.0, 20.0]),
            keepalive_interval=4.0,
            keepalive_timeout=9.0,
        )
        self.session = Session(self.options, random=world.random.random)
        self.wire: Wire | None = None
        self.asked_for_url: Dial | None = None
        self.unread: list[tuple[Wire, Any]] = []
        self.paused = False
        self.slow = 0.0
        self.faults = world.weather.faults
        self.refusals = 0
        self.last_fault = ""
        # What the application saw
        self.asked: list[Asked] = []
        self.delivered: set[Any] = set()
        self.in_order: list[Any] = []
        self.connection_ids: set[str] = set()
        self.connection_id: str | None = None
        self.last = 0  # the sequence id up to which everything was delivered or told as missed
        self.disconnections = 0
        self.starts = self.stops = 0
        self.room_since: int | None = None  # how much was executed when the join was acknowledged

    # ---- The application

    def start(self) -> None:
        if self.session.state is State.STOPPED:
            self.starts += 1
            self.session.start(self.world.now)
            self.join("room")
            self.drain()

    def join(self, group: str) -> None:
        self.ask("join" if group != "room" else "room", lambda asked: self.session.join_group(
            group, self.world.now, user_data=asked
        ))  # fmt: skip

    def publish(self, *, group: str = "room", ack: bool = True, no_echo: bool = False) -> None:
        kind = "forbidden" if group == "secret" else f"publish {group}" if ack else "untracked"
        self.ask(kind, lambda asked: self.session.send_to_group(
            group, asked.number, self.world.now, ack=ack, no_echo=no_echo, user_data=asked
        ))  # fmt: skip

    def ask(self, kind: str, make: Callable[[Asked], int | None]) -> None:
        asked = Asked(kind, next(self.world.numbers), None)
        try:
            asked.ack_id = make(asked)
        except LocalProtocolError:
            assert self.session.state in (State.STOPPED, State.STOPPING)
        else:
            self.asked.append(asked)

    def act(self) -> None:
        """Do something that applications do."""
        random, session, now = self.world.random, self.session, self.world.now
        gentle = self.world.weather.gentle
        what = random.random()
        if what < 0.55:
            self.publish(ack=random.random() < 0.85, no_echo=False)
        elif what < 0.63:
            for _ in range(random.randint(2, 20)):
                self.publish(ack=random.random() < 0.9)
        elif what < 0.67:
            self.publish(group="secret")
        elif what < 0.70:
            self.ask("event", lambda asked: session.send_event("e", asked.number, now, user_data=asked))
        elif what < 0.78:
            self.join("side")
        elif what < 0.83:
            self.ask("leave", lambda asked: session.leave_group("side", now, user_data=asked))
        elif what < 0.87:
            self.publish(group="side")
        elif what < 0.93:
            self.slow = random.choice([0.5, 3.0, 6.0] if gentle else [3.0, 15.0, 40.0])
        elif gentle:
            self.publish()
        elif what < 0.96 and self.asked:
            asked = self.asked[-1]
            if asked.ack_id is not None and not asked.outcomes and not asked.withdrawn:
                asked.withdrawn = session.withdraw(asked.ack_id)
                self.world.log(f"{self.name}: withdrawn={asked.withdrawn}")
        elif what < 0.98:
            session.stop(now)
        self.drain()

    def pause(self) -> None:
        """The consumer is slow: it takes its time over the messages that it was just given."""
        if self.slow and not self.paused:
            self.paused = True
            self.session.reading_paused(self.world.now)
            self.world.at(self.world.now + self.slow, self.resume)
            self.slow = 0.0

    def resume(self) -> None:
        self.paused = False
        self.session.reading_resumed(self.world.now)
        self.drain()

    # ---- The driver: what adapters do

    def receives(self, wire: Wire, item: Any) -> None:
        if wire is self.wire:
            self.unread.append((wire, item))
            self.drain()

    def wake(self) -> None:
        self.session.wake(self.world.now)
        assert self.session.deadline > self.world.now, "after wake(deadline) the deadline has moved"
        self.drain()

    def drain(self) -> None:
        again = True
        while again:
            for event in self.session.events():
                self.saw(event)
            self.follow_dial()
            self.send()
            again = self.read()

    def read(self) -> bool:
        """Read what has arrived: one item, or all the messages up to the next that is none."""
        if not self.unread or not self.session.reading:
            return False
        wire, item = self.unread.pop(0)
        if wire is not self.wire:
            return True
        if item == "open":
            wire.opened = True
            self.session.connected(self.world.now)
        elif isinstance(item, Close):
            wire.dead = True
            if wire.opened:
                self.session.disconnected(self.world.now, code=item.code, reason=item.reason)
            else:
                self.session.dial_failed(OSError("the handshake was cut short"), self.world.now)
        else:
            batch = [item]
            while self.unread and self.unread[0][0] is wire and isinstance(self.unread[0][1], bytes):
                batch.append(self.unread.pop(0)[1])
            self.session.receive_messages(batch, self.world.now)
            self.pause()
        return True

    def send(self) -> None:
        wire = self.wire
        if wire is None:
            return
        for message in self.session.messages_to_send():
            self.world.ledger_of_client(self, message)
            wire.carry("up", message)
        self.hang_up(wire)

    def hang_up(self, wire: Wire) -> None:
        if wire.dial.hang_up is not None and not wire.hung_up:
            wire.hung_up = True
            wire.carry("up", Close(wire.dial.hang_up.code, wire.dial.hang_up.reason))

    def follow_dial(self) -> None:
        dial, wire = self.session.dial, self.wire
        if wire is not None and wire.dial is not dial:
            self.hang_up(wire)
            if not wire.hung_up:
                wire.carry("up", Close(ABNORMAL))
            wire = self.wire = None
        if dial is None or wire is not None:
            return
        if dial.url is None:
            if self.asked_for_url is not dial:
                self.asked_for_url = dial
                self.world.at(self.world.now + self.world.random.choice([0.0, 0.2]), lambda: self.url_for(dial))
        else:
            self.wire = self.world.connect(self, dial)

    def url_for(self, dial: Dial) -> None:
        if self.session.dial is dial:
            if self.world.chance(0.05) and not self.world.weather.gentle:
                self.session.url_failed(OSError("no URL today"), self.world.now)
            else:
                self.session.url_ready(URL, self.world.now)
            self.drain()

    # ---- The oracle

    def saw(self, event: Any) -> None:
        self.world.log(f"{self.name}: {event}")
        if isinstance(event, Connected):
            assert event.connection_id not in self.connection_ids, "Connected once per connection id"
            assert self.connection_id is None, "Disconnected comes before the next Connected"
            self.connection_ids.add(event.connection_id)
            self.connection_id, self.last = event.connection_id, 0
        elif isinstance(event, Disconnected):
            assert event.connection_id == self.connection_id
            self.connection_id = None
            self.disconnections += 1
        elif isinstance(event, Stopped):
            self.stops += 1
            assert self.stops == self.starts, "Stopped exactly once per start"
            assert self.connection_id is None
            if not self.world.ending:
                self.world.at(self.world.now + 1.0, self.start)
        elif isinstance(event, MessagesMissed):
            assert self.last < event.first <= event.last, "a gap is told once"
            assert event.first == self.last + 1, "a gap is told whole"
            assert self.world.may_miss, "nothing may be missed here"
            self.last = event.last
        elif isinstance(event, GroupMessage | ServerMessage):
            self.message(event)
        elif isinstance(event, Acked):
            self.acked(event)

    def message(self, event: GroupMessage | ServerMessage) -> None:
        assert self.connection_id is not None, "messages come between Connected and Disconnected"
        if self.options.resend == "safe":
            assert event.data not in self.delivered, f"publication {event.data} was delivered twice"
        self.delivered.add(event.data)
        self.in_order.append(event.data)
        if self.options.reliable:
            assert event.sequence_id == self.last + 1, f"after {self.last} came {event.sequence_id} without a word"
            assert self.world.ledger.sent[self.connection_id][event.sequence_id] == event.data
            self.last = event.sequence_id

    def acked(self, event: Acked) -> None:
        asked = event.user_data
        assert isinstance(asked, Asked)
        assert asked.ack_id == event.ack_id or asked.ack_id is None  # None: settled before the call returned
        assert not asked.withdrawn
        asked.outcomes.append(event)
        if asked.kind == "room" and event.error is None and self.room_since is None:
            self.room_since = len(self.world.ledger.executed)
        if asked.kind == "forbidden":
            assert event.error is not None, "the service forbids it"

    def check(self) -> None:
        """At the end, when all is settled."""
        executed = self.world.ledger.executed
        weather = self.world.weather
        assert self.starts == self.stops
        assert self.session.state is State.STOPPED
        assert (self.session.deadline, self.session.dial) == (float("inf"), None)
        assert self.session.messages_to_send() == []
        for asked in self.asked:
            times = executed.count(asked.number) if asked.kind != "join" else 0
            if weather.resend == "safe":
                assert times <= 1, f"{asked} was executed {times} times"
            expected = 0 if asked.withdrawn or asked.kind == "untracked" else 1
            assert len(asked.outcomes) == expected, f"{asked} must be settled {expected} times"
            if asked.withdrawn:
                assert times == 0, f"{asked} was withdrawn, and executed"
            for outcome in asked.outcomes:
                if asked.kind.startswith("publish"):
                    known = {None: 1, "rejected": 0, "unsent": 0}
                    promised = known.get(outcome.error.outcome if outcome.error else None, min(times, 1))
                    assert min(times, 1) == promised, f"{asked} was executed {times} times"
                if weather.gentle:
                    refused = {"forbidden": "Forbidden", "event": "InternalServerError"}.get(asked.kind)
                    name = outcome.error.name if outcome.error else None
                    assert name == refused, f"{asked} was not acknowledged"
            if weather.gentle and asked.kind.startswith("publish"):
                assert times == 1, f"{asked} was lost"
        firsts = list(dict.fromkeys(executed))
        mine = {asked.number for asked in self.asked}
        order = [number for number in firsts if number in mine]
        assert order == sorted(order), "executed in the order of the calls"
        if weather.resend == "safe":
            places = [self.world.order[data] for data in self.in_order if data in self.world.order]
            assert places == sorted(places), "delivered in the order of execution"
        if weather.gentle:
            assert self.disconnections == 1, "only the last stop ends the connection"
            assert self.room_since is not None
            missing = set(executed[self.room_since :]) & self.world.room - self.delivered
            assert not missing, f"{sorted(missing)} never arrived"


class World:
    """The service, its clients, the network between them, and time."""

    def __init__(self, seed: int, weather: Weather) -> None:
        self.random = Random(f"{seed}/{weather}")
        self.weather = weather
        self.now = 0.0
        self.trace: list[str] = []
        self.numbers = itertools.count(1)
        self.ledger = Ledger()
        self.order: dict[int, int] = {}  # publication -> its place among the executed ones
        self.room: set[int] = set()
        self.faulty = True
        self.ending = False
        self.may_miss = False
        self.dark_until = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()
        self._ids = itertools.count(1)
        self.wires: dict[Transport, Wire] = {}
        self.open_service()
        self.clients = [Client(self, f"client{number}") for number in range(weather.clients)]

    def open_service(self) -> None:
        """Open the service, or a new one in place of one that crashed and has forgotten everything."""
        small = not self.weather.gentle and self.random.random() < 0.3
        self.core = ServiceCore(
            Limits(
                connected_after_recovery=self.weather.connected_after_recovery,
                retained_messages=40 if small else 1000,
            ),
            new_connection_id=lambda: f"c{next(self._ids)}",
            issue_reconnection_token=lambda connection_id: f"{connection_id}/{next(self._serial)}",
            check_reconnection_token=lambda token, connection_id: token.split("/")[0] == connection_id,
        )
        # It hears everything at once: what it hears is what was executed.
        self.recorder = self.core.connect("chat", SERVICE_JSON, ClientGrant(None, (), ("room", "side")), self.now)
        self.serve()

    # ---- Time

    def at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._serial), what))

    def run_until(self, end: float) -> None:
        while True:
            due = min(client.session.deadline for client in self.clients)
            due = min(due, self.core.deadline, self._heap[0][0] if self._heap else math.inf)
            if due > end:
                break
            self.now = max(self.now, due)
            if self._heap and self._heap[0][0] <= self.now:
                heapq.heappop(self._heap)[2]()
            elif self.core.deadline <= self.now:
                self.core.wake(self.now)
                self.serve()
            else:
                next(client for client in self.clients if client.session.deadline <= self.now).wake()
        self.now = end

    def chance(self, probability: float) -> bool:
        return self.faulty and self.random.random() < probability

    def log(self, text: str) -> None:
        self.trace.append(f"{self.now:9.3f} {text}")

    # ---- The network

    def connect(self, client: Client, dial: Dial) -> Wire:
        wire = Wire(self, client, dial)
        random, now = self.random, self.now
        # A client whose first connection fails is stopped: that is no loss, but it is no gentle run either.
        faulty = self.weather.faults > 0 and (not self.weather.gentle or bool(client.connection_ids))
        if self.now < self.dark_until or (faulty and client.refusals < 3 and self.chance(0.25)):
            client.refusals += 1
            self.at(now + wire.latency, lambda: self.refuse(wire))
            return wire
        client.refusals = 0
        if client.faults and self.chance(0.7):
            kinds = ["cut", "cut", "silence"] if client.last_fault != "silence" else ["cut"]
            client.last_fault = random.choice(kinds)
            client.faults -= 1
            # On the way down come the open transport and the connected message first.
            direction, count = random.choice([("up", 1), ("up", 1), ("down", 1 if faulty else 3)])
            wire.fault = (client.last_fault, direction, count + random.choice([0, 0, 1, 2, 5, 10, 30]))
            if random.random() < 0.3:
                how = client.last_fault
                self.at(now + random.choice([0.0, 0.5, 4.0] if faulty else [8.0]), lambda: wire.breaks(how))
        self.at(now + wire.latency, lambda: self.accept(wire))
        return wire

    def refuse(self, wire: Wire) -> None:
        wire.dead = True
        if wire.client.session.dial is wire.dial:
            status = self.random.choice([None, 502, 503])
            wire.client.session.dial_failed(OSError("refused"), self.now, status=status)
            wire.client.drain()

    def accept(self, wire: Wire) -> None:
        if wire.dead or wire.client.wire is not wire or wire.core is not self.core:
            if not wire.dead and wire.client.wire is wire:  # the service crashed under the handshake
                wire.breaks("cut")
            return
        assert wire.dial.url is not None
        query = parse_qs(urlsplit(wire.dial.url).query)
        if "awps_connection_id" in query:
            connection_id, token = query["awps_connection_id"][0], query["awps_reconnection_token"][0]
            wire.transport = self.core.recover("chat", connection_id, token, self.now)
        else:
            grant = ClientGrant(wire.client.name, ROLES)
            wire.transport = self.core.connect("chat", wire.dial.protocol, grant, self.now)
        self.wires[wire.transport] = wire
        wire.carry("down", "open")
        self.serve()

    def serve(self) -> None:
        """Carry out what the service wants sent."""
        for transport in self.core.transports_with_output():
            messages = transport.messages_to_send()
            if transport is self.recorder:
                self.record(messages)
                continue
            wire = self.wires[transport]
            for message in messages:
                if transport.connection is not None:
                    self.ledger.sends(transport.connection.connection_id, json.loads(message))
                wire.carry("down", message)
            if transport.close is not None:
                wire.carry("down", Close(transport.close.code, transport.close.reason))

    def record(self, messages: list[bytes]) -> None:
        for raw in messages:
            message = json.loads(raw)
            if message["type"] == "message" and message["from"] == "group":
                number = message["data"]
                self.ledger.executed.append(number)
                self.order.setdefault(number, len(self.order))
                if message["group"] == "room":
                    self.room.add(number)
                self.log(f"executed {number} for {message['fromUserId']}")

    def ledger_of_client(self, client: Client, raw: bytes) -> None:
        """Look at what a client sends."""
        message = json.loads(raw)
        if message["type"] == "sequenceAck":
            assert message["sequenceId"] <= client.last, "it acknowledges what it has not delivered"
        elif message["type"] == "sendToGroup":
            known = self.ledger.ack_ids.setdefault(message["data"], message.get("ackId"))
            assert known == message.get("ackId"), "a repeat has the same ack id"

    # ---- The story

    def act_of_service(self) -> None:
        """Do something that services do."""
        what = self.random.random()
        if what < 0.6:
            for _ in range(self.random.randint(1, 4)):
                expires = self.now + self.random.choice([0.5, 300.0])
                self.core.send_to_all("chat", server_publication("json", b"%d" % -next(self.numbers), expires=expires))
        elif what < 0.75 and (ids := [client.connection_id for client in self.clients if client.connection_id]):
            self.log("the application server closes a connection")
            self.core.close_connection(self.random.choice(ids), "by the application server")
        elif what < 0.85:
            self.log("nothing gets through for a while")
            self.dark_until = self.now + self.random.choice([5.0, 40.0])
            for wire in self.wires.values():
                wire.breaks("cut")
        elif what < 0.92:
            self.log("the service shuts down")
            self.core.shut_down()
            self.serve()
            self.open_service()
        else:
            self.log("the service crashes")
            wires, self.wires = self.wires, {}
            self.open_service()
            for wire in wires.values():
                wire.breaks("cut")
        self.serve()

    def run(self) -> World:
        self.may_miss = not self.weather.gentle
        for client in self.clients:
            client.start()
            for _ in range(self.random.randint(5, 25)):
                self.at(self.random.random() * CALM, client.act)
        if not self.weather.gentle:
            for _ in range(self.random.randrange(10)):
                self.at(self.random.random() * CALM, self.act_of_service)
        self.run_until(CALM)
        self.faulty = False
        self.log("calm")
        for client in self.clients:
            for wire in self.wires.values():
                wire.fault = None
            client.faults, client.slow = 0, 0.0
        self.run_until(CALM + SETTLED)
        for client in self.clients:
            assert client.session.state is State.CONNECTED, f"{client.name} is {client.session.state}"
        # A last word to everybody tells of whatever expired unseen before it.
        self.core.send_to_all("chat", server_publication("json", b"0"))
        self.serve()
        self.run_until(self.now + 10)
        for client in self.clients:
            assert 0 in client.delivered
            self.check_caught_up(client)
            open_requests = [
                asked for asked in client.asked if asked.ack_id and not asked.outcomes and not asked.withdrawn
            ]
            assert not open_requests, f"{open_requests} are not settled"
        self.ending = True
        for client in self.clients:
            client.session.stop(self.now)
            client.drain()
        self.run_until(self.now + 20)
        for client in self.clients:
            client.check()
        assert all(number in self.order for number in self.room)
        return self

    def check_caught_up(self, client: Client) -> None:
        connection = self.core.connection(client.connection_id or "")
        assert connection is not None, f"{client.name} believes in a connection that is none"
        if client.options.reliable:
            assert client.last == connection.sequence_id, "delivered or told: everything"
            assert connection.retained == 0, "acknowledged: everything"


def run(seed: int, weather: Weather) -> World:
    """Run one seed; on failure the message says how to replay it, and what happened last."""
    world = World(seed, weather)
    try:
        return world.run()
    except Exception as error:
        last = "\n".join(world.trace[-40:])
        raise AssertionError(f"seed {seed} with {weather}: {error}\n{last}") from error


def main() -> None:
    arguments = sys.argv[1:]
    weather = Weather(
        gentle="wild" not in arguments,
        protocol=JSON if "json" in arguments else RELIABLE_JSON,
        resend="always" if "always" in arguments else "safe",
        connected_after_recovery="silent" not in arguments,
        faults=0 if "calm" in arguments else 6,
    )
    world = World(int(arguments[0]), weather)
    try:
        world.run()
    finally:
        sys.stdout.write("\n".join([*world.trace, str(weather), ""]))


if __name__ == "__main__":
    main()
