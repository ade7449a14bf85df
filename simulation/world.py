"""One run: the clock, the service, its clients, and the story that they play."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

from limpet import State
from limpet_core.service import ServiceCore
from simulation.client import Client
from simulation.clock import Clock
from simulation.service import Service
from simulation.weather import AT_LEAST, CALM, SETTLED, Weather
from simulation.witness import Watched


class World:
    """One run.

    Attributes:
        variant: what it was made with beside its seed, its kind and what is left out.
        calm: when the faults stop, in seconds.

    Args:
        seed: with ``weather`` it decides everything that happens.
        without: names of the clock's ``schedule`` that are left out.
        session_type, service_type: to try what a faulty one does.
    """

    calm = CALM

    def __init__(
        self,
        seed: int,
        weather: Weather,
        *,
        without: frozenset[str] = frozenset(),
        session_type: type[Watched] = Watched,
        service_type: type[ServiceCore] = ServiceCore,
    ) -> None:
        self.weather, self.session_type, self.service_type = weather, session_type, service_type
        self.variant: dict[str, Any] = {"session_type": session_type, "service_type": service_type}
        self.clock = clock = Clock(seed, repr(weather), without)
        self.service = self.new_service()
        names = [f"client{number}" for number in range(weather.clients)]
        self.clients = [self.new_client(name) for name in names if clock.happens(name, "an application")]

    def new_service(self) -> Service:
        return Service(self.clock, self.weather, self.service_type)

    def new_client(self, name: str) -> Client:
        return Client(self.clock, self.service, self.weather, name, self.session_type)

    def run(self) -> None:
        """Play the whole story; AssertionError: a promise is broken."""
        self._begin()
        self.clock.run_until(self.calm)
        self._calm_down()
        self._say_the_last_word()
        self._end()

    def _begin(self) -> None:
        for client in self.clients:
            client.start()
            for number in range(1, self.clock.draw(f"{client.name} acts").randint(6, 26)):
                self._plan(f"{client.name} act {number}", client.act)
        if not self.weather.gentle:
            for number in range(1, self.clock.draw("service acts").randint(1, 10)):
                self._plan(f"service act {number}", self._service_acts)

    def _plan(self, name: str, act: Callable[[Random], None]) -> None:
        random = self.clock.draw(name)
        at = self.clock.now + random.random() * (self.calm - self.clock.now)
        if self.clock.happens(name, f"at {at:.1f} s"):
            self.clock.at(at, act, random)

    def _service_acts(self, random: Random) -> None:
        self.service.act(random, [client.connection_id for client in self.clients if client.connection_id])

    def _calm_down(self) -> None:
        clock = self.clock
        clock.faulty = False
        clock.log("calm")
        for client in self.clients:
            client.faults, client.slow = 0, 0.0
            if client.line is not None:
                client.line.fault = None
        clock.run_until(self.calm + AT_LEAST)
        clock.run_while(lambda: any(client.busy for client in self.clients), SETTLED - AT_LEAST)
        for client in self.clients:
            assert client.session.state is State.CONNECTED, f"{client.name} is {client.session.state}"

    def _say_the_last_word(self) -> None:
        """Publish to everybody: that tells of what expired unseen before."""
        self.service.publish(0)
        self.service.serve()
        self.clock.run_while(lambda: any(0 not in client.delivered for client in self.clients), 10)
        for client in self.clients:
            assert 0 in client.delivered, f"{client.name} has not heard the last word"
        # The service may end a stream meanwhile that its client has given up: that is news, too.
        self.clock.run_while(lambda: any(client.busy for client in self.clients), 30)
        for client in self.clients:
            client.check_caught_up()

    def _end(self) -> None:
        for client in self.clients:
            client.ending = True
            client.stop()
            client.drain()
        self.clock.run_until(self.clock.now + 60)  # the service has noticed, and the windows to recover are over
        for client in self.clients:
            client.check()
        core, ledger = self.service.core, self.service.ledger
        assert core.connection_count == 1, "only the recorder is left"
        assert core.deadline == math.inf
        assert all(number in ledger.order for number in ledger.room)
