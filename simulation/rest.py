"""The application server in front of a cluster: it writes at one node and reads at another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from limpet_core.service.data_plane.parameters import OperationError
from limpet_core.service.data_plane.writes import AddToGroup, Close, Message, RemoveFromGroups, Send, Write
from simulation.cluster import Cluster
from simulation.node import Node
from simulation.witness import SERVERS_GROUPS


class Rest:
    """Makes requests one after the other, each of which may never be answered.

    Attributes:
        answered: the messages that were sent, by the numbers, as the application server was told.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.clock = cluster, cluster.clock
        self.answered: set[int] = set()
        self.reads = 0
        self._groups = 0

    def act(self, random: Random, connection_ids: list[str]) -> None:
        """Do something that application servers do."""
        what = random.random()
        if what < 0.5 or not connection_ids:
            for _ in range(random.choice([1, 1, 4])):
                self._send(random)
        elif what < 0.6 and not self.cluster.weather.gentle:
            self.clock.log("the application server closes a connection")
            self._at_some(random, lambda node: node.ask(
                Close("chat", "connection", random.choice(connection_ids), "by the application server"), _done
            ))  # fmt: skip
        else:
            self._groups += 1
            Membership(self, random, random.choice(connection_ids), f"{SERVERS_GROUPS}{self._groups}").add()

    def _send(self, random: Random) -> None:
        number = -next(self.cluster.ledger.numbers)
        lives = random.choice([1, 0, 0])
        if lives:
            self.cluster.ledger.expiring.add(number)
        write = Send("chat", "hub", "", Message("json", b"%d" % number, time_to_live=lives))
        self.write(random, write, partial(self._told, number))

    def write(self, random: Random, write: Write, answered: Callable[[OperationError | None], None]) -> None:
        self._at_some(random, lambda node: node.ask(write, answered))

    def read(self, random: Random, reads: Callable[[Node], None]) -> None:
        """Read at some node: all that was answered before the call is seen."""
        self._at_some(random, lambda node: node.when_caught_up(lambda: self._counted(reads, node)))

    def _counted(self, reads: Callable[[Node], None], node: Node) -> None:
        self.reads += 1
        reads(node)

    def _told(self, number: int, error: OperationError | None) -> None:
        if error is None:
            self.answered.add(number)
        else:
            assert error.status == 500
            self.clock.log("%s of the application server cannot be carried out", number)

    def _at_some(self, random: Random, request: Callable[[Node], None]) -> None:
        node = self.cluster.balance(random)
        if node is not None:
            node.do(request, node)

    def check(self) -> None:
        """Check at the end that what was answered was done."""
        done = self.cluster.truth.server_messages.keys() | self.cluster.ledger.forgotten
        assert self.answered <= done, f"{sorted(self.answered - done)} were answered and never sent"


class Membership:
    """A connection is added to a group, and perhaps removed from it; after each answer somebody looks."""

    def __init__(self, rest: Rest, random: Random, connection_id: str, group: str) -> None:
        self.rest, self.random, self.connection_id, self.group = rest, random, connection_id, group

    def add(self) -> None:
        write = AddToGroup("chat", "connection", self.connection_id, self.group)
        self.rest.write(self.random, write, lambda error: self._looks(error, member=True))

    def _remove(self) -> None:
        write = RemoveFromGroups("chat", "connection", self.connection_id, (self.group,))
        self.rest.write(self.random, write, lambda error: self._looks(error, member=False))

    def _looks(self, error: OperationError | None, *, member: bool) -> None:
        if error is None:
            after = self.random.choice([0.0, 0.0, 0.1])
            self.rest.clock.after(after, self.rest.read, self.random, lambda node: self._sees(node, member))

    def _sees(self, node: Node, member: bool) -> None:
        connection = node.replica.core.connection(self.connection_id)
        if self.connection_id in self.rest.cluster.ledger.doomed:
            return
        if connection is None:
            assert self.rest.cluster.core.connection(self.connection_id) is None, f"{self.connection_id} is there"
            return
        assert (self.group in connection.groups) is member, f"{node.name} sees what was answered before"
        if member and self.random.random() < 0.5:
            self._remove()


def _done(error: OperationError | None) -> None:
    """Take an outcome that does not matter."""
