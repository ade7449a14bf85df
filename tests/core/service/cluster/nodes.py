"""A cluster in one process: replicas over one list, which is the log, and clients that are lists, too."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from limpet_core.protocol.names import RELIABLE_JSON
from limpet_core.service import ClientGrant, EventHandler, EventSettings, HandlerCall, Limits, Transport
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.cluster.snapshot import digest
from limpet_core.service.cluster.waiting import Opening

ALL = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")


class Node:
    """One run of one node. ``read`` is how many entries of the log it has applied."""

    def __init__(self, cluster: Cluster, name: str, limits: Limits, handlers: Iterable[EventHandler]) -> None:
        self.cluster = cluster
        self.name = name
        numbers = itertools.count(1)
        core = ReplicatedCore(
            name,
            limits,
            new_connection_id=lambda: f"{name}-{next(numbers)}",
            issue_reconnection_token=lambda connection_id: f"token of {connection_id}",
            check_reconnection_token=lambda token, connection_id: token == f"token of {connection_id}",
            events=EventSettings(handlers={"h": tuple(handlers)} if handlers else {}),
            utc_time=lambda seconds: f"{seconds:.0f}",
        )
        self.replica = Replica(name, core, settings=b"same", name=name)
        self.read = 0
        self.is_down = False
        self.calls: list[HandlerCall] = []

    def append(self) -> None:
        for entry in self.replica.entries_to_append(self.cluster.now):
            self.cluster.write(entry)

    def catch_up(self) -> None:
        """Read the log to its end, and carry out what comes of it."""
        while self.read < len(self.cluster.log):
            time, entry = self.cluster.log[self.read]
            self.read += 1
            self.replica.apply(str(self.read), time, entry)
            self.carry_out()

    def carry_out(self) -> None:
        for opening in self.replica.openings():
            client = self.cluster.waiting.pop(opening)
            client.transport, client.rejection = opening.transport, opening.rejection
            if opening.transport is not None:
                self.cluster.clients[opening.transport] = client
        for transport in self.replica.transports_with_output():
            client = self.cluster.clients[transport]
            if client.reads:
                client.got += [json.loads(message) for message in transport.messages_to_send(self.replica.core.now)]
                client.close = transport.close
        self.calls += self.replica.handler_calls(self.cluster.now)
        self.cluster.answered += self.replica.answers()


@dataclass(eq=False)
class Client:
    """A client: all that it got, and its present transport."""

    node: Node
    connection_id: str = ""
    transport: Transport | None = None
    rejection: Any = None
    got: list[dict[str, Any]] = field(default_factory=list)
    close: Any = None
    reads: bool = True

    @property
    def messages(self) -> list[tuple[int, Any]]:
        """The sequence ids and the data of the messages."""
        return [(message["sequenceId"], message["data"]) for message in self.got if message["type"] == "message"]

    @property
    def acks(self) -> list[tuple[int, str | None]]:
        """The ack ids, each with the name of its error."""
        return [(each["ackId"], each.get("error", {}).get("name")) for each in self.got if each["type"] == "ack"]

    def says(self, **message: Any) -> None:
        """Send a message, which nobody has read before the cluster runs."""
        assert self.transport is not None
        self.node.replica.receive(self.transport, json.dumps(message), self.node.cluster.now)

    def is_lost(self) -> None:
        """Lose the WebSocket, as its node notices."""
        assert self.transport is not None
        self.node.replica.disconnected(self.transport, 1006)


class Cluster:
    """Nodes and their log. Nothing is read before :meth:`run`."""

    def __init__(self, *names: str, limits: Limits | None = None, handlers: Iterable[EventHandler] = ()) -> None:
        self.now = 1000.0
        self.log: list[tuple[float, bytes]] = []
        self.clients: dict[Transport, Client] = {}
        self.waiting: dict[Opening, Client] = {}
        self.answered: list[Any] = []
        self._limits = limits or Limits()
        self._handlers = tuple(handlers)
        self.nodes: dict[str, Node] = {}
        for name in names:
            self.start(name)
        self.run()

    def start(self, name: str) -> Node:
        node = self.nodes[name] = Node(self, name, self._limits, self._handlers)
        return node

    def write(self, entry: bytes) -> None:
        self.log.append((self.now, entry))

    def run(self, seconds: float = 0.0) -> None:
        """Let time pass, in steps of a quarter of a second, and have all nodes that are up read all there is."""
        end = self.now + seconds
        while True:
            for node in self.up:
                if node.replica.deadline <= self.now:
                    node.replica.wake(self.now)
            while True:
                before = len(self.log)
                for node in self.up:
                    node.append()
                for node in self.up:
                    node.catch_up()
                if len(self.log) == before:
                    break
            if self.now >= end:
                return
            self.now += 0.25

    @property
    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if not node.is_down and not node.replica.fenced]

    def connect(
        self, name: str, user: str = "ann", groups: tuple[str, ...] = (), subprotocol: str | None = RELIABLE_JSON
    ) -> Client:
        node = self.nodes[name]
        opening = node.replica.connect("h", subprotocol, ClientGrant(user, ALL, groups))
        client = self.waiting[opening] = Client(node)
        self.run()
        client.connection_id = opening.connection_id
        return client

    def recover(self, client: Client, name: str) -> Client:
        """Bring a client back at a node; return it as it is there."""
        node = self.nodes[name]
        opening = node.replica.recover("h", client.connection_id, f"token of {client.connection_id}")
        back = self.waiting[opening] = Client(node, client.connection_id)
        self.run()
        return back

    def digests(self) -> set[bytes]:
        return {digest(node.replica.shared) for node in self.up}
