"""The service, its clients, the network between them, and time."""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit
from zlib import crc32

from limpet import Dial, State
from limpet_core.service import JSON, ClientGrant, Limits, ServiceCore, Transport, server_publication
from simulation.client import Client, Watched
from simulation.framed import FramedWire
from simulation.oracle import Ledger, seen
from simulation.weather import AT_LEAST, CALM, SETTLED, Weather
from simulation.wire import Wire

ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup.room", "webpubsub.sendToGroup.side")

REFUSALS = ("InternalServerError", "Forbidden")


class World:
    """One run.

    Args:
        seed: with ``weather`` it decides everything that happens.
        without: names of ``schedule`` that are left out.
        session_type, service_type: to try what a faulty one does.
    """

    def __init__(
        self,
        seed: int,
        weather: Weather,
        *,
        without: frozenset[str] = frozenset(),
        session_type: type[Watched] = Watched,
        service_type: type[ServiceCore] = ServiceCore,
    ) -> None:
        self.seed, self.weather, self.without = seed, weather, without
        self._salt = crc32(repr(weather).encode())
        self.session_type, self.service_type = session_type, service_type
        self.random = self.draw("service")
        self.now = 0.0
        self.schedule: list[tuple[float, str, str]] = []
        self._log: list[tuple[float, str, tuple[object, ...]]] = []
        self.numbers = itertools.count(1)
        self.ledger = Ledger(self.log)
        self.order: dict[int, int] = {}  # publication -> its place among the executed ones
        self.leaves: dict[tuple[str, bytes], str] = {}  # by connection and request: refused for good, or "": executed
        self.speaking = ""  # the connection whose messages the service is taking
        self.url_expires: dict[str, float] = {}
        self.room: set[int] = set()
        self.faulty = True
        self.ending = False
        self.dark_until = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = itertools.count()
        self._ids = itertools.count(1)
        self.wires: dict[Transport, Wire] = {}
        self.open_service()
        names = [f"client{number}" for number in range(weather.clients)]
        self.clients = [Client(self, name) for name in names if self.happens(name, "an application")]

    def open_service(self) -> None:
        """Open the service, or a new one in place of one that crashed and has forgotten everything."""
        small = not self.weather.gentle and self.random.random() < 0.3
        self.core = self.service_type(
            Limits(
                connected_after_recovery=self.weather.connected_after_recovery,
                retained_messages=40 if small else 1000,
            ),
            new_connection_id=lambda: f"c{next(self._ids)}",
            issue_reconnection_token=lambda connection_id: f"{connection_id}/{next(self._serial)}",
            check_reconnection_token=lambda token, connection_id: token.split("/")[0] == connection_id,
        )
        self._service_wake = math.inf
        # It hears everything at once: what it hears is what was executed.
        self.recorder = self.core.connect("chat", JSON, ClientGrant(None, (), ("room", "side")), self.now)
        self.serve()

    # ---- Time

    def at(self, when: float, what: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._heap, (when, next(self._serial), what, arguments))

    def run_until(self, end: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, what, arguments = heapq.heappop(heap)
            what(*arguments)
        self.now = end

    def run_while(self, busy: Callable[[], bool], limit: float) -> None:
        """Go on until ``busy`` is over, which is asked every few seconds; at most for ``limit`` seconds."""
        end = self.now + limit
        while self.now < end and busy():
            self.run_until(min(end, self.now + 3.0))

    def wake_service(self, core: ServiceCore, when: float) -> None:
        if core is self.core and when == self._service_wake:
            self._service_wake = math.inf
            core.wake(self.now)
            assert core.deadline > self.now, "after wake(deadline) the deadline of the service has moved"
            self.serve()

    def log(self, text: str, *arguments: object) -> None:
        self._log.append((self.now, text, arguments))

    @property
    def trace(self) -> list[str]:
        """What happened, for people."""
        return [f"{now:9.3f} {text % arguments}" for now, text, arguments in self._log]

    # ---- Chance

    def draw(self, name: str) -> Random:
        """The chance of one thing alone: leaving out another does not change it."""
        return Random(crc32(name.encode(), self._salt) + (self.seed << 32))

    def happens(self, name: str, what: str) -> bool:
        """Note something that can be left out when a failure is reduced; False: it is left out."""
        if name in self.without:
            return False
        self.schedule.append((self.now, name, what))
        return True

    def fault(self, name: str, what: str) -> bool:
        return self.faulty and self.happens(f"{name} {what.split()[0]}", what)

    # ---- The network

    def connect(self, client: Client, dial: Dial) -> Wire:
        client.wires += 1
        name = f"{client.name} wire {client.wires}"
        random = self.draw(name)
        wire = (FramedWire if self.weather.framed else Wire)(self, client, dial, random)
        gentle = self.weather.gentle
        # A client whose first connection fails is stopped: that is no loss, but it is no gentle run either.
        faulty = self.weather.faults > 0 and (not gentle or bool(client.connection_ids))
        if faulty and client.refusals < 3 and random.random() < 0.25:
            status = random.choice([None, None, 502, 503] if gentle else [None, 401, 404, 502, 503])
            if self.fault(name, f"refused with {status}"):
                return self.refuse(wire, status)
        if self.now < self.dark_until:
            return self.refuse(wire, None)
        client.refusals = 0
        if client.faults and random.random() < 0.7:
            self.plan_fault(wire, name, faulty)
        if faulty and not gentle and random.random() < 0.05 and self.fault(name, "the dial hangs"):
            return wire
        wire.begin()
        return wire

    def refuse(self, wire: Wire, status: int | None) -> Wire:
        wire.client.refusals += 1
        self.at(self.now + wire.latency, wire.refuse, status)
        return wire

    def plan_fault(self, wire: Wire, name: str, faulty: bool) -> None:
        client, random = wire.client, wire.random
        how = random.choice(["cut", "cut", "silence"])
        if client.last_fault == "silence" or (self.weather.gentle and wire.dial.recovery):
            how = "cut"  # silence takes a third of the window to recover
        # On the way down come the open transport and the connected message first.
        direction, count = random.choice([("up", 1), ("up", 1), ("down", 1)])
        if not faulty:  # the first connection of a gentle run: behind the handshake and the first messages
            count = 4
        count += random.choice([0, 0, 1, 2, 5, 10, 30])
        later = random.random() < 0.3
        delay = random.choice([0.0, 0.5, 4.0] if faulty else [8.0])
        what = f"{how} after {count} items {direction}" + (f", at the latest after {delay} s" if later else "")
        if not self.fault(name, what):
            return
        client.last_fault = how
        client.faults -= 1
        wire.fault = (how, direction, count)
        if later:
            self.at(self.now + delay, lambda: self.faulty and wire.breaks(how))

    def new_url(self, lifetime: float) -> str:
        """A Client Access URL whose token lives so long, in seconds."""
        url = f"ws://service.test/client/hubs/chat?access_token=t{len(self.url_expires)}"
        self.url_expires[url] = self.now + lifetime
        return url

    def admits(self, dial: Dial) -> bool:
        """Whether the access token is good; a recovery needs none."""
        if dial.recovery or self.url_expires[dial.url or ""] > self.now:
            return True
        self.log("the access token has expired")
        return False

    def enter(self, wire: Wire) -> None:
        """The service takes a client in."""
        assert wire.dial.url is not None
        if "awps_connection_id" in wire.dial.url:
            query = dict(parse_qsl(urlsplit(wire.dial.url).query))
            connection_id, token = query["awps_connection_id"], query["awps_reconnection_token"]
            if not self.weather.gentle and wire.random.random() < 0.04:
                name = f"{wire.client.name} wire {wire.client.wires}"
                if self.fault(name, "the reconnection token has expired"):
                    token = "expired/"
            wire.transport = self.core.recover("chat", connection_id, token, self.now)
        else:
            grant = ClientGrant(wire.client.name, ROLES)
            wire.transport = self.core.connect("chat", wire.dial.protocol, grant, self.now)
        self.wires[wire.transport] = wire

    def refusal(self, wire: Wire, leave: bytes) -> str:
        """The name of the error that the service answers a leave with, though that could be executed; mostly none."""
        if self.weather.gentle:
            return ""
        known = self.leaves.get((self.speaking, leave))
        if known is None and self.faulty and wire.random.random() < 0.3:
            name = wire.random.choice(REFUSALS)
            where = f"{wire.client.name} wire {wire.client.wires} item {wire.passed['up']}"
            if self.fault(where, f"refused with {name}"):
                if name == "Forbidden":  # and stays so; the other may pass
                    self.leaves[self.speaking, leave] = name
                return name
        return self.leaves.setdefault((self.speaking, leave), "")

    def serve(self) -> None:
        """Carry out what the service wants sent."""
        for transport in self.core.transports_with_output():
            if transport is self.recorder:
                self.record(transport.messages_to_send())
            elif transport in self.wires:
                self.wires[transport].serve(transport)
        due = self.core.deadline
        if due < self._service_wake:
            self._service_wake = due
            self.at(due, self.wake_service, self.core, due)

    def record(self, messages: list[bytes]) -> None:
        for raw in messages:
            message = seen(raw)
            if message.origin == "group":
                self.ledger.executes(message.data, self.speaking)
                self.order.setdefault(message.data, len(self.order))
                if message.group == "room":
                    self.room.add(message.data)
                self.log("executed %s for %s", message.data, message.user)

    # ---- The story

    def act_of_service(self, random: Random) -> None:
        """Do something that services do."""
        what = random.random()
        if what < 0.6:
            for _ in range(random.randint(1, 4)):
                expires = self.now + random.choice([0.5, 300.0])
                number = -next(self.numbers)
                if expires < self.now + 300.0:
                    self.ledger.expiring.add(number)
                self.core.send_to_all("chat", server_publication("json", b"%d" % number, expires=expires))
        elif what < 0.75 and (ids := [client.connection_id for client in self.clients if client.connection_id]):
            self.log("the application server closes a connection")
            self.core.close_connection(random.choice(ids), "by the application server")
        elif what < 0.85:
            self.log("nothing gets through for a while")
            self.dark_until = self.now + random.choice([5.0, 35.0])
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

    def run(self) -> None:
        """Play the whole story; AssertionError: a promise is broken."""
        for client in self.clients:
            client.start()
            for number in range(1, self.draw(f"{client.name} acts").randint(6, 26)):
                self.plan(f"{client.name} act {number}", client.act)
        if not self.weather.gentle:
            for number in range(1, self.draw("service acts").randint(1, 10)):
                self.plan(f"service act {number}", self.act_of_service)
        self.run_until(CALM)
        self.faulty = False
        self.log("calm")
        for client in self.clients:
            client.faults, client.slow = 0, 0.0
            if client.wire is not None:
                client.wire.fault = None
        self.run_until(CALM + AT_LEAST)
        self.run_while(lambda: any(client.busy for client in self.clients), SETTLED - AT_LEAST)
        for client in self.clients:
            assert client.session.state is State.CONNECTED, f"{client.name} is {client.session.state}"
        # A last word to everybody tells of whatever expired unseen before it.
        self.core.send_to_all("chat", server_publication("json", b"0"))
        self.serve()
        self.run_while(lambda: any(client.busy or 0 not in client.delivered for client in self.clients), 10)
        for client in self.clients:
            assert 0 in client.delivered, f"{client.name} has not heard the last word"
            client.check_caught_up()
        self.ending = True
        for client in self.clients:
            client.stop()
            client.drain()
        self.run_until(self.now + 60)  # the service has noticed, and the windows to recover are over
        for client in self.clients:
            client.check()
        assert self.core.connection_count == 1, "only the recorder is left"
        assert self.core.deadline == math.inf
        assert all(number in self.order for number in self.room)

    def plan(self, name: str, act: Callable[[Random], None]) -> None:
        random = self.draw(name)
        at = random.random() * CALM
        if self.happens(name, f"at {at:.1f} s"):
            self.at(at, act, random)
