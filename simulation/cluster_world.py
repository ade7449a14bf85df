"""One run of a cluster: its nodes, its clients, the application server, and what happens to them."""

from __future__ import annotations

import math
from typing import Any, Final

from simulation.answering import PATIENCE
from simulation.client import Client
from simulation.cluster import Cluster, Parts
from simulation.cluster_faults import MILD, SEVERE, Faults
from simulation.cluster_line import ClusterClient
from simulation.rest import Rest
from simulation.service import Service
from simulation.weather import ClusterWeather
from simulation.world import World

BEGIN: Final = 1.0
"""When clients come: the nodes are members of the cluster by then, in seconds."""
STABLE: Final = 6.0
"""When faults begin in runs in which nothing may be lost: all clients have their connection by then."""
CALM: Final = 18.0


class ClusterWorld(World):
    """One run; see :class:`World`.

    Args:
        parts: what the cluster is made of.
    """

    weather: ClusterWeather
    service: Cluster
    calm = CALM

    def __init__(self, seed: int, weather: ClusterWeather, *, parts: Parts | None = None, **more: Any) -> None:
        self.parts = parts or Parts()
        super().__init__(seed, weather, **more)
        self.variant["parts"] = self.parts
        self.rest, self.faults = Rest(self.service), Faults(self.service)

    def new_service(self) -> Service:
        return Cluster(self.clock, self.weather, self.service_type, self.parts)

    def new_client(self, name: str) -> Client:
        return ClusterClient(self.clock, self.service, self.weather, name, self.session_type)

    def _begin(self) -> None:
        self.clock.run_until(BEGIN)
        for client in self.clients:
            client.start()
            for number in range(1, self.clock.draw(f"{client.name} acts").randint(4, 14)):
                self._plan(f"{client.name} act {number}", client.act)
        for number in range(1, self.clock.draw("application server").randint(1, 8)):
            self._plan(f"application server act {number}", lambda random: self.rest.act(random, self.connection_ids))
        forks = self.weather.forks
        for number in range(1, self.clock.draw("cluster faults").randint(1, 3 if forks else 6)):
            name = f"cluster fault {number}"
            random = self.clock.draw(name)
            how = random.choice(MILD if forks else MILD + SEVERE)
            begin, end = (BEGIN, CALM / 3) if forks else (STABLE if self.weather.gentle else BEGIN, CALM)
            at = random.uniform(begin, end)
            if self.clock.happens(name, f"{how} at {at:.1f} s"):
                self.clock.at(at, self.faults.happen, how, random)
        if self.weather.rollout:
            for slot in range(self.weather.nodes):
                at = self.clock.draw(f"upgrade {slot}").uniform(STABLE, CALM - STABLE)
                if self.clock.happens(f"upgrade {slot}", f"at {at:.1f} s"):
                    self.clock.at(at, self.service.upgrade, slot)
            random = self.clock.draw("old node")
            at, slot = random.uniform(CALM - 5.0, CALM - 1.0), random.randrange(self.weather.nodes)
            if random.random() < 0.5 and self.clock.happens("old node", f"node {slot} at {at:.1f} s"):
                self.clock.at(at, self.service.go_back, slot)
        if forks and self.clock.happens("fork", "the engine forgets what was read"):
            random = self.clock.draw("fork")
            self.clock.at(random.uniform(CALM / 2, CALM), self.faults.forks, random)

    @property
    def connection_ids(self) -> list[str]:
        return [client.connection_id for client in self.clients if client.connection_id]

    def _end(self) -> None:
        for client in self.clients:
            if client.connection_id is not None:
                assert client.connection_id not in self.service.ledger.doomed, "a fork ends all connections"
            client.ending = True
            client.stop()
            client.drain()
        core = self.service.core
        self.clock.run_while(lambda: any(client.running for client in self.clients), 60)
        self.clock.run_while(lambda: core.connection_count > 1 or core.deadline != math.inf, 120)
        calls = self.service.truth.core.logged_calls
        self.clock.run_while(lambda: bool(calls.pending), 2 * PATIENCE)
        assert not calls.pending, "each call of the event handler has an outcome"
        for client in self.clients:
            client.check()
            self._check_server_messages(client)
        self.rest.check()
        # A server whose clock was ahead was lost: the time of the log stands still for as long.
        self.clock.run_while(lambda: bool(self.service.unsettled), 60)
        assert not self.service.unsettled, self.service.unsettled
        assert core.connection_count == 1, "only the recorder is left"
        assert core.deadline == math.inf
        ledger = self.service.ledger
        assert all(number in ledger.order for number in ledger.room - ledger.forgotten)

    def _check_server_messages(self, client: Client) -> None:
        if self.weather.gentle:
            since = client.room_since or 0
            sent = {number for number, at in self.service.truth.server_messages.items() if at > since}
            missing = sent - client.delivered - self.service.ledger.expiring
            assert not missing, f"{sorted(missing)} of the application server never arrived at {client.name}"
