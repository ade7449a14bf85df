"""A cluster in a run: nodes that come and go, the log between them, and a balancer in front of them."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from limpet_core.service import EventHandler, EventSettings, HandlerCall, Limits, ServiceCore
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.cluster.shared_state import SharedState
from limpet_core.service.cluster.snapshot import digest
from limpet_core.service.data_plane.parameters import OperationError
from limpet_core.service.data_plane.writes import Close, Message, Send
from simulation.answering import EVENT, PATIENCE
from simulation.clock import Clock
from simulation.node import Handlers, Node
from simulation.planted import Planted
from simulation.releases import NEXT, NextCore, NextReplica
from simulation.service import Service
from simulation.sim_log import EPOCH, Link, Logged, SimLog
from simulation.truth import Truth
from simulation.weather import ClusterWeather

_TOO_OLD = re.compile(r"(the log needs|cannot behave like) version|the cluster is of another release")

_COMPARE_EVERY = 8  # entries

FAULTY_UNTIL = 14.0
"""When a planted fault goes away, in seconds: clients have a connection before all is calm."""


@dataclass(frozen=True)
class Parts:
    """What a cluster is made of; tests put in faulty ones."""

    log: type[SimLog] = SimLog
    link: type[Link] = Link
    replica: type[Replica] = Replica
    core: type[ReplicatedCore] = ReplicatedCore
    shared: type[SharedState] = SharedState
    next_replica: type[NextReplica] = NextReplica
    next_core: type[NextCore] = NextCore


def settings() -> EventSettings:
    """Return the settings of a cluster that calls the application server, once for each event and invocation."""
    handler = EventHandler(
        url="http://application.test/",
        user_events=(EVENT,),
        system_events=("connected", "disconnected"),
        timeout=PATIENCE,
        retries=0,
    )
    return EventSettings(handlers={"chat": (handler,)}, origin="service.test")


class Cluster(Service):
    """The nodes and their log; to clients and oracles it is one service.

    Attributes:
        log: the log.
        nodes: the newest run of each node, by the number of the node.
        truth: has read all that is readable; ``core`` is its logic.
        called_again: how many calls of the event handler a node has made for one that had died.
        upgraded: the numbers of the nodes whose next run is of the next release.
        snapshots: how many entries each is behind, and what it is.
    """

    def __init__(self, clock: Clock, weather: ClusterWeather, core_type: type[ServiceCore], parts: Parts) -> None:
        self.parts, self.cluster_weather = parts, weather
        self.log = parts.log(clock, clock.draw("log"))
        self.nodes: dict[int, Node] = {}
        self.called_again = 0
        self.upgraded: set[int] = set()
        self.snapshots: list[tuple[int, bytes]] = []
        self._runs: defaultdict[int, itertools.count[int]] = defaultdict(lambda: itertools.count(1))
        self._digests: dict[int, bytes] = {}
        self._callers: dict[tuple[str | None, str, str], list[str]] = {}
        super().__init__(clock, weather, core_type)

    def open(self) -> None:
        small = not self.weather.gentle and self.random.random() < 0.3
        self.limits = Limits(
            connected_after_recovery=self.weather.connected_after_recovery,
            retained_messages=self.random.choice([12, 40]) if small else 1000,
            # The delays of a node that is dead, and of the next one, come on top of those of the network.
            recovery_window=90.0 if self.weather.gentle else 30.0,
        )
        self.truth = self._new_truth()
        self.core = self.truth.core
        self.log.on_read.append(self._readable)
        self.log.on_failover.append(self._failed_over)
        for slot in range(self.cluster_weather.nodes):
            self.start(slot)

    # ---- Nodes

    def start(self, slot: int) -> None:
        """Start the next run of a node: it reads the log, from the beginning or from a snapshot on."""
        name = f"n{slot}.{next(self._runs[slot])}"
        random, replica = self.clock.draw(name), self._new_replica(name, of_next=slot in self.upgraded)
        begins_with = self.snapshots[-1] if self.snapshots and random.random() < 0.8 else None
        release = "of the next release " if slot in self.upgraded else ""
        self.clock.log("%s %sstarts behind entry %s", name, release, begins_with[0] if begins_with else 0)
        self._plant(replica.core)
        node = self.nodes[slot] = Node(self, name, replica, random, self.parts.link)
        if begins_with is not None:
            node.restore(*begins_with)
        node.handlers = Handlers(self.clock, self.ledger, node.carry_out)
        node.handlers.core, node.handlers.node = node.replica, node  # type: ignore[assignment]
        node.carry_out()
        node.link.more()

    def _new_truth(self, silent: Sequence[Logged] = (), before: Truth | None = None) -> Truth:
        replica = self._new_replica("truth", of_next=self.cluster_weather.rollout)
        planted = self._plant(replica.core)
        return Truth(replica, self.ledger, silent, before, planted=planted)

    def _plant(self, core: ReplicatedCore) -> Planted | None:
        return Planted(core, EPOCH + FAULTY_UNTIL) if self.cluster_weather.faulty else None

    def _new_replica(self, name: str, *, of_next: bool = False) -> Replica:
        connections, tokens = itertools.count(1), itertools.count(1)
        core = (self.parts.next_core if of_next else self.parts.core)(
            name,
            self.limits,
            new_connection_id=lambda: f"{name}c{next(connections)}",
            issue_reconnection_token=lambda connection_id: f"{connection_id}/{name}/{next(tokens)}",
            check_reconnection_token=lambda token, connection_id: token.split("/")[0] == connection_id,
            events=settings(),
            utc_time=lambda seconds: f"{seconds:.3f}",
        )
        # Nodes agree, whether they keep messages to a group once or for each member.
        core.registry.backlogs_from = self.clock.draw(f"backlogs of {name}").choice([None, 1, 1, 3])
        replica_type = self.parts.next_replica if of_next else self.parts.replica
        replica = replica_type(name, core, settings=b"all the same", name=name)
        replica.shared = self.parts.shared(name, core, replica, b"all the same")
        return replica

    def ended(self, node: Node, reason: str) -> None:
        """Handle that a node is no more; another run starts soon."""
        self.clock.log("%s ends: %s", node.name, reason)
        slot = int(node.name[1 : node.name.index(".")])
        if _TOO_OLD.search(reason) and slot not in self.upgraded:
            self.upgraded.add(slot)  # by whoever reads why it ended
            node.disturbed = True
        assert node.disturbed, f"{node.name} had no reason to end: {reason}"
        assert not node.replica.fenced.startswith(("its state differs", "the log has an entry")), reason
        assert node.handlers is not None
        node.handlers.core = None
        self.clock.after(self.clock.draw(f"after {node.name}").choice([0.2, 1.0, 3.0]), self.start, slot)

    def upgrade(self, slot: int) -> None:
        """Have a node leave, and come back as one of the next release."""
        if slot not in self.upgraded:
            self.upgraded.add(slot)
            self._restart(slot)

    def _restart(self, slot: int) -> None:
        node = self.nodes[slot]
        self.clock.log("%s is to be of the %s release", node.name, "next" if slot in self.upgraded else "old")
        node.disturbed = True
        node.do(node.replica.leave)

    def go_back(self, slot: int) -> None:
        """Have a node come back as one of the old release, by mistake: it is refused, or holds up the others."""
        self.upgraded.discard(slot)
        self._restart(slot)
        self.clock.after(2.0, self.upgrade, slot)

    @property
    def live(self) -> list[Node]:
        """The nodes that serve clients, as far as a balancer knows: those that stand still among them."""
        return [node for node in self.nodes.values() if node.up and node.replica.is_member]

    def balance(self, random: Random) -> Node | None:
        """Choose a node."""
        live = self.live
        return random.choice(live) if live else None

    def calls(self, node: Node, call: HandlerCall) -> None:
        """Check that an event is handed to the application server again only if the one before has died."""
        about = call.about[1], call.event, dict(call.headers)["ce-id"]
        callers = self._callers.setdefault(about, [])
        for other in callers:
            assert node.replica.members.is_gone(other), f"{about} was called by {other}, which is there"
        self.called_again += bool(callers)
        callers.append(node.name)
        self.clock.log("%s calls the event handler: %s", node.name, about)

    # ---- The log

    def _readable(self) -> None:
        truth, log = self.truth, self.log
        while len(truth.marks) < log.readable:
            truth.reads(log.entries[len(truth.marks)])
        for node in self.nodes.values():
            if node.up:
                node.link.more()

    def applied(self, node: Node) -> None:
        """Compare the state of a node with that of the others at the same place of the log."""
        shared = node.replica.shared
        if node.replica.fenced:
            return  # it may have come here to an entry that its release does not read
        assert shared.failures == self.truth.failures[node.read_count - 1], "a command fails at all nodes or at none"
        if node.read_count % _COMPARE_EVERY == 0:
            value = digest(shared)
            assert self._digests.setdefault(node.read_count, value) == value, f"{node.name} has another state"

    @property
    def unsettled(self) -> str:
        """What is still to come when all is calm: an answer, or a behaviour that all nodes have; empty: nothing."""
        for node in self.nodes.values():
            if node.up and node.waits:
                return f"{node.name} has not answered all who wait for it"
        have_next = len(self.upgraded) == len(self.nodes)
        return "what all nodes have is not active" if have_next and self.truth.core.behaviour < NEXT else ""

    def save(self, node: Node) -> None:
        """Keep a snapshot of the state of a node."""
        if not node.replica.fenced and node.link.connected:
            self.snapshots.append((node.read_count, node.replica.snapshot()))

    def _failed_over(self, kept: int) -> None:
        random = self.clock.draw(f"failover {self.log.server}")
        if kept < len(self.truth.marks):
            self._forget(kept)
        for node in self.nodes.values():
            node.disturbed = True
            if node.up:
                node.link.cut(executed=False, seconds=random.choice([0.05, 0.3, 1.5]))

    def _forget(self, kept: int) -> None:
        """Begin again behind the entries that are left: nobody knows of what was executed since, but clients."""
        ledger, before = self.ledger, self.truth
        mark = before.marks[kept]
        ledger.forgets({number for number, at in before.server_messages.items() if at >= mark}, mark)
        self._digests = {count: value for count, value in self._digests.items() if count <= kept}
        self._callers.clear()
        # A snapshot is in the engine, too, and was written after the entries in it.
        self.snapshots = [(count, data) for count, data in self.snapshots if count <= kept]
        self.truth = self._new_truth(self.log.entries, before)
        self.core = self.truth.core
        ledger.doomed |= {each.connection_id for hub in self.core.hubs for each in hub.connections.values()}

    # ---- The data plane

    def serve(self) -> None:
        """Nothing waits: each node carries out what it has."""

    def close_connection(self, connection_id: str, reason: str) -> None:
        node = self.balance(self.random)
        if node is not None:
            node.do(node.ask, Close("chat", "connection", connection_id, reason), _answered)

    def publish(self, number: int, expires: float = 0.0) -> None:
        node = next((node for node in self.live if not node.still), None)
        assert node is not None, "there are nodes"
        node.do(node.ask, Send("chat", "hub", "", Message("json", b"%d" % number)), _answered)


def _answered(error: OperationError | None) -> None:
    """Take the outcome of an operation that nobody waits for."""
