"""What may happen to the nodes of a cluster and to its engine."""

from __future__ import annotations

from random import Random
from typing import Final

from simulation.cluster import Cluster
from simulation.node import Node

MILD: Final = ("snapshot", "answer lost", "cut", "lag", "engine slow", "failover")
SEVERE: Final = ("kill", "kill", "kill all", "still", "leave")

_SKEWS: Final = (0.0, -2.0, 1.0, 20.0)  # seconds by which the clock of the next primary is ahead


class Faults:
    """Breaks a cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.clock, self.log = cluster, cluster.clock, cluster.log

    def happen(self, how: str, random: Random) -> None:
        nodes = [node for node in self.cluster.nodes.values() if node.up]
        node = random.choice(nodes) if nodes else None
        self.clock.log("fault: %s, %s", how, node.name if node is not None else "no node is left")
        if how == "failover":
            self.fails_over(random)
        elif how == "engine slow":
            self.log.slow_until = self.clock.now + random.choice([1.0, 5.0])
            for each in nodes:
                each.disturbed = True
        elif how == "kill all":
            for each in nodes:
                self._kill(each, random)
        elif node is None:
            return
        elif how == "kill":
            self._kill(node, random)
        elif how == "still":
            self._stands_still(node, random)
        elif how == "leave":
            node.disturbed = True
            node.do(node.replica.leave)
        elif how == "snapshot":
            node.do(self.cluster.save, node)
        elif how == "lag":
            node.disturbed = True
            node.link.lags_until = self.clock.now + random.choice([2.0, 6.0])
        elif how == "answer lost":
            self._cut(node, random, executed=True, seconds=random.choice([0.0, 0.3]))
        else:
            self._cut(node, random, executed=random.random() < 0.5, seconds=random.choice([0.3, 2.0, 4.3, 6.0]))

    def _kill(self, node: Node, random: Random) -> None:
        node.disturbed = True
        node.link.cut(executed=random.random() < 0.5, seconds=0.0)
        node.ends("killed")

    def _stands_still(self, node: Node, random: Random) -> None:
        if not node.still:
            node.disturbed = True
            node.stand_still()
            longest = 9.0 if self.cluster.weather.gentle else 40.0
            self.clock.after(random.choice([0.5, 3.0, 4.5, 6.0, longest]), node.go_on, random)

    def _cut(self, node: Node, random: Random, *, executed: bool, seconds: float) -> None:
        node.disturbed |= seconds > 1.0
        if node.link.connected:
            node.link.cut(executed=executed, seconds=seconds)

    def fails_over(self, random: Random) -> None:
        """Stop the replication for a while, and then lose the primary."""
        lost = random.choice([0.0, 0.3, 1.5])
        self.log.stands_until = max(self.log.stands_until, self.clock.now + lost + 1.0)
        self.clock.after(lost, self._primary_dies, random)

    def _primary_dies(self, random: Random) -> None:
        self.log.stands_until = 0.0
        self.log.fail_over(self.log.readable, random.choice(_SKEWS))

    def forks(self, random: Random) -> None:
        """Lose the primary, and have the replica forget what some node has read."""
        read = max((node.read_count for node in self.cluster.nodes.values() if node.up), default=0)
        kept = max(0, min(self.log.readable, read - random.choice([1, 2, 10])))
        if random.random() < 0.5:
            # Clients look for another node while nobody has noticed yet.
            for node in self.cluster.nodes.values():
                for carrier in list(node.carriers.values()):
                    carrier.breaks("cut")
        self.log.fail_over(kept, random.choice(_SKEWS))
