"""The service: its core, its access tokens, and what it refuses."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from random import Random
from typing import Protocol
from urllib.parse import parse_qsl, urlsplit

from limpet import Dial
from limpet_core.service import JSON, ClientGrant, Connection, Limits, ServiceCore, Transport, server_publication
from simulation.answering import Answering, settings
from simulation.clock import Clock
from simulation.ledger import Ledger
from simulation.weather import Weather

ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup.room", "webpubsub.sendToGroup.side")

REFUSALS = ("InternalServerError", "Forbidden")


class Carrier(Protocol):
    """Carries what the service sends."""

    def serve(self, transport: Transport) -> None: ...

    def breaks(self, how: str) -> None: ...


class Service:
    """The service, its crashes, and the ledger of what it did.

    Attributes:
        core: the logic of the service that runs now; another one after a crash.
        ledger: what was executed and sent, by all of them.
        speaking: the connection whose messages the service is taking.
        dark_until: no transport can be opened before.
    """

    def __init__(self, clock: Clock, weather: Weather, core_type: type[ServiceCore]) -> None:
        self.clock, self.weather, self.core_type = clock, weather, core_type
        self.random = clock.draw("service")
        self.ledger = Ledger(clock.log)
        self.speaking = ""
        self.dark_until = 0.0
        self.answering = Answering(clock, self.ledger, self.serve)
        self._fragments: Counter[tuple[str, int]] = Counter()  # how often each was refused or not
        self._ids = itertools.count(1)
        self._tokens = itertools.count(1)
        self._carriers: dict[Transport, Carrier] = {}
        self._leaves: dict[tuple[str, bytes], str] = {}  # by connection and request: refused for good, or "": executed
        self._url_expires: dict[str, float] = {}
        self.open()

    def open(self) -> None:
        """Open the service, or a new one in place of one that crashed and has forgotten everything."""
        self.ledger.crashed()
        small = not self.weather.gentle and self.random.random() < 0.3
        self.core = self.core_type(
            Limits(
                connected_after_recovery=self.weather.connected_after_recovery,
                retained_messages=40 if small else 1000,
            ),
            new_connection_id=lambda: f"c{next(self._ids)}",
            issue_reconnection_token=lambda connection_id: f"{connection_id}/{next(self._tokens)}",
            check_reconnection_token=lambda token, connection_id: token.split("/")[0] == connection_id,
            events=settings(),
            unix_time=lambda: self.clock.now,
        )
        self.answering.core = self.core
        self.core.streams.faults.append(self._refuses_fragment)
        self.core.invocations.faults.append(self._holds_answer_back)
        self._wakes_at = math.inf
        # A member of all groups hears everything at once: what it hears is what was executed.
        self._recorder = self.core.connect("chat", JSON, ClientGrant(None, (), ("room", "side")), self.clock.now)
        self.serve()

    # ---- What clients get

    def new_url(self, lifetime: float) -> str:
        """Return a Client Access URL whose token lives for ``lifetime`` seconds."""
        url = f"ws://service.test/client/hubs/chat?access_token=t{len(self._url_expires)}"
        self._url_expires[url] = self.clock.now + lifetime
        return url

    def admits(self, dial: Dial) -> bool:
        """Return whether the access token is good; a recovery needs none."""
        if dial.recovery or self._url_expires[dial.url or ""] > self.clock.now:
            return True
        self.clock.log("the access token has expired")
        return False

    def enter(self, dial: Dial, carrier: Carrier, *, user: str, random: Random, where: str) -> Transport:
        """Take a client in; ``carrier`` gets what is sent to it."""
        assert dial.url is not None
        if "awps_connection_id" in dial.url:
            query = dict(parse_qsl(urlsplit(dial.url).query))
            connection_id, token = query["awps_connection_id"], query["awps_reconnection_token"]
            expires = not self.weather.gentle and random.random() < 0.04
            if expires and self.clock.fault(where, "the reconnection token has expired"):
                token = "expired/"
            transport = self.core.recover("chat", connection_id, token, self.clock.now)
        else:
            transport = self.core.connect("chat", dial.protocol, ClientGrant(user, ROLES), self.clock.now)
        self._carriers[transport] = carrier
        return transport

    def refusal(self, leave: bytes, random: Random, where: str) -> str:
        """Return the name of the error that answers a leave although it could be executed; "": it is executed."""
        if self.weather.gentle:
            return ""
        known = self._leaves.get((self.speaking, leave))
        if known is None and self.clock.faulty and random.random() < 0.3:
            name = random.choice(REFUSALS)
            if self.clock.fault(where, f"refused with {name}"):
                if name == "Forbidden":  # and stays so; the other may pass
                    self._leaves[self.speaking, leave] = name
                return name
        return self._leaves.setdefault((self.speaking, leave), "")

    def _refuses_fragment(self, connection: Connection, stream_id: str, number: int) -> bool:
        """Return whether a fragment cannot be published at the moment; three times in a row it is too much."""
        again = self._fragments[stream_id, number]
        random = self.clock.draw(f"{stream_id} {number} {again}")
        if again < 2 and random.random() < 0.04:
            self._fragments[stream_id, number] += 1
            return self.clock.fault(f"fragment {number} of {stream_id} again {again}", "streamNack")
        return False

    def _holds_answer_back(self, connection: Connection, invocation_id: str) -> float | None:
        name = f"answer to {invocation_id} of {connection.connection_id}"
        random = self.clock.draw(name)
        if random.random() < 0.1 and self.clock.fault(name, "held back"):
            return random.choice([2.0, 15.0])
        return None

    # ---- Its driver

    def serve(self) -> None:
        """Carry out what the service wants sent."""
        for transport in self.core.transports_with_output():
            if transport is self._recorder:
                for raw in transport.messages_to_send():
                    self.ledger.records(raw, self.speaking)
            elif transport in self._carriers:
                self._carriers[transport].serve(transport)
        for call in self.core.handler_calls(self.clock.now):
            self.answering.takes(self.core, call)
        due = self.core.deadline
        if due < self._wakes_at:
            self._wakes_at = due
            self.clock.at(due, self.wake, self.core, due)

    def wake(self, core: ServiceCore, when: float) -> None:
        """The timer of ``core``, which was set for ``when``."""
        if core is self.core and when == self._wakes_at:
            self._wakes_at = math.inf
            core.wake(self.clock.now)
            assert core.deadline > self.clock.now, "after wake(deadline) the deadline of the service has moved"
            self.serve()

    # ---- What happens to services

    def act(self, random: Random, connection_ids: list[str]) -> None:
        """Do something that services do."""
        what = random.random()
        if what < 0.6:
            for _ in range(random.randint(1, 4)):
                expires = self.clock.now + random.choice([0.5, 300.0])
                number = -next(self.ledger.numbers)
                if expires < self.clock.now + 300.0:
                    self.ledger.expiring.add(number)
                self.publish(number, expires)
        elif what < 0.75 and connection_ids:
            self.clock.log("the application server closes a connection")
            self.core.close_connection(random.choice(connection_ids), "by the application server")
        elif what < 0.85:
            self.clock.log("nothing gets through for a while")
            self.dark_until = self.clock.now + random.choice([5.0, 35.0])
            self._cut(self._carriers)
        elif what < 0.92:
            self.clock.log("the service shuts down")
            self.core.shut_down()
            self.serve()
            self.open()
        else:
            self.clock.log("the service crashes")
            carriers, self._carriers = self._carriers, {}
            self.open()
            self._cut(carriers)
        self.serve()

    def close_connection(self, connection_id: str, reason: str) -> None:
        self.core.close_connection(connection_id, reason)
        self.serve()

    def publish(self, number: int, expires: float = math.inf) -> None:
        self.core.send_to_all("chat", server_publication("json", b"%d" % number, expires=expires))

    def _cut(self, carriers: dict[Transport, Carrier]) -> None:
        for carrier in carriers.values():
            carrier.breaks("cut")
