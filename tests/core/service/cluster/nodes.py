"""A cluster in one process: replicas over one list, which is the log, and clients that are lists, too."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from limpet_core.protocol.names import RELIABLE_JSON
from limpet_core.service import (
    ClientGrant,
    ConnectRequest,
    EventHandler,
    EventListener,
    EventSettings,
    HandlerCall,
    Limits,
    ListenerMessage,
    RawMode,
    Transport,
)
from limpet_core.service.behaviour import BEHAVIOUR, OLDEST_BEHAVIOUR
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.cluster.snapshot import digest
from limpet_core.service.cluster.waiting import Opening

ALL = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")


class Node:
    """One run of one node. ``read`` is how many entries of the log it has applied."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        limits: Limits,
        settings: bytes,
        behaviours: tuple[int, int] = (OLDEST_BEHAVIOUR, BEHAVIOUR),
    ) -> None:
        self.cluster = cluster
        self.name = name
        numbers = itertools.count(1)
        core = ReplicatedCore(
            name,
            limits,
            new_connection_id=lambda: f"{name}-{next(numbers)}",
            issue_reconnection_token=lambda connection_id: f"token of {connection_id}",
            check_reconnection_token=lambda token, connection_id: token == f"token of {connection_id}",
            events=EventSettings(handlers=cluster.handlers, listeners=cluster.listeners),
            utc_time=lambda seconds: f"{seconds:.0f}",
        )
        # Nodes agree, whether they keep messages to a group once or for each member.
        core.registry.backlogs_from = None if name == "b" else 1
        self.replica = Replica(name, core, settings=settings, name=name, behaviours=behaviours)
        self.read = 0
        self.is_down = False
        self.calls: list[HandlerCall] = []
        self.told: list[ListenerMessage] = []

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

    def answers(self, call: HandlerCall, status: int = 204, body: bytes = b"", **headers: str) -> None:
        """Answer a call of an event handler."""
        named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        self.replica.handler_answered(call, status, named, body, self.cluster.now)

    def carry_out(self) -> None:
        for opening in self.replica.openings():
            opened = self.cluster.waiting.pop(opening)
            opened.connection_id = opening.connection_id
            opened.transport, opened.rejection = opening.transport, opening.rejection
            if opening.transport is not None:
                self.cluster.clients[opening.transport] = opened
        for transport in self.replica.transports_with_output():
            client = self.cluster.clients.get(transport)
            if client is not None and client.reads:
                client.got += [json.loads(message) for message in transport.messages_to_send(self.replica.core.now)]
                client.close = transport.close
        self.calls += self.replica.handler_calls(self.cluster.now)
        self.cluster.answered += self.replica.answers()
        self.told += self.replica.listener_messages()


@dataclass(eq=False)
class Client:
    """A client: all that it got, and its present transport. Text frames come as UTF-8, or with ``as_text`` as text."""

    node: Node
    connection_id: str = ""
    transport: Transport | None = None
    rejection: Any = None
    got: list[dict[str, Any]] = field(default_factory=list)
    close: Any = None
    reads: bool = True
    as_text: bool = False

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
        text = json.dumps(message)
        self.node.replica.receive(self.transport, text if self.as_text else text.encode(), self.node.cluster.now)

    def is_lost(self) -> None:
        """Lose the WebSocket, as its node notices."""
        assert self.transport is not None
        self.node.replica.disconnected(self.transport, 1006)


class Cluster:
    """Nodes and their log. Nothing is read before :meth:`run`."""

    def __init__(
        self,
        *names: str,
        limits: Limits | None = None,
        handlers: Iterable[EventHandler] = (),
        listeners: Iterable[EventListener] = (),
    ) -> None:
        self.now = 1000.0
        self.log_ahead = 0.0
        self.log: list[tuple[float, bytes]] = []
        self.clients: dict[Transport, Client] = {}
        self.waiting: dict[Opening, Client] = {}
        self.answered: list[Any] = []
        self.handlers = {"h": tuple(handlers)} if handlers else {}
        self.listeners = {"h": tuple(listeners)} if listeners else {}
        self._limits = limits or Limits()
        self.nodes: dict[str, Node] = {}
        for name in names:
            self.start(name)
        self.run()

    def start(
        self, name: str, settings: bytes = b"same", behaviours: tuple[int, int] = (OLDEST_BEHAVIOUR, BEHAVIOUR)
    ) -> Node:
        """Start a node, which reads the log from its beginning."""
        node = self.nodes[name] = Node(self, name, self._limits, settings, behaviours)
        return node

    def kill(self, name: str) -> None:
        """End a node at once: its clients notice by themselves, the others after a while."""
        self.nodes[name].is_down = True

    def write(self, entry: bytes) -> None:
        self.log.append((self.now + self.log_ahead, entry))

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
                    node.carry_out()
                if len(self.log) == before:
                    break
            if self.now >= end:
                return
            self.now += 0.25

    @property
    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if not node.is_down and not node.replica.fenced]

    def connect(
        self,
        name: str,
        user: str | None = "ann",
        groups: tuple[str, ...] = (),
        *,
        subprotocol: str | None = RELIABLE_JSON,
        raw: RawMode | None = None,
        most: int | None = None,
        reads: bool = True,
    ) -> Client:
        node = self.nodes[name]
        grant = ClientGrant(user, ALL, groups)
        opening = node.replica.connect("h", subprotocol, grant, raw or RawMode(), spelled=subprotocol, most=most)
        client = self.waiting[opening] = Client(node, reads=reads)
        self.run()
        return client

    def ask(self, name: str, *, most: int | None = None) -> tuple[Client, Opening]:
        """Connect a client about whom an event handler decides."""
        node = self.nodes[name]
        request = ConnectRequest(subprotocols=[RELIABLE_JSON])
        opening = node.replica.ask_to_connect("h", ClientGrant("ann", ALL), request, most=most)
        client = self.waiting[opening] = Client(node)
        node.carry_out()
        return client, opening

    def recover(self, client: Client, name: str) -> Client:
        """Bring a client back at a node; return it as it is there."""
        node = self.nodes[name]
        opening = node.replica.recover("h", client.connection_id, f"token of {client.connection_id}")
        back = self.waiting[opening] = Client(node, client.connection_id)
        self.run()
        return back

    def digests(self) -> set[bytes]:
        return {digest(node.replica.shared) for node in self.up}
