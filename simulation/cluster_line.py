"""One transport between a client and a node of a cluster."""

from __future__ import annotations

from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from limpet import Acked
from limpet_core.service import NO_CLOSE_FRAME, ClientGrant, Transport
from limpet_core.service.cluster.waiting import Opening
from simulation.answering import EVENT
from simulation.client import Client
from simulation.cluster import Cluster
from simulation.invoking import REPLIES
from simulation.line import Line
from simulation.node import Node
from simulation.oracle import Ask
from simulation.service import ROLES
from simulation.weather import ClusterWeather
from simulation.witness import Asked


class ClusterLine(Line):
    """Carries whole messages to the node that the balancer has chosen."""

    service: Cluster

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.node: Node | None = self.service.balance(self.random)
        self.opening: Opening | None = None
        self.as_bytes = self.random.random() < 0.1

    # ---- The node's end

    def accepted(self) -> None:
        if self.dead or self.half_dead or self.client.line is not self:
            return
        if self.node is None or not self.node.up:
            self.refuse(None)
        else:
            self.clock.log("%s: %s dials %s", self.name, "recovery" if self.dial.recovery else "client", self.node.name)
            self.node.do(self._enters, self.node)

    def _enters(self, node: Node) -> None:
        if not self.service.admits(self.dial):
            self.refuse(401)
            return
        assert self.dial.url is not None
        if self.dial.recovery:
            query = dict(parse_qsl(urlsplit(self.dial.url).query))
            connection_id, token = query["awps_connection_id"], query["awps_reconnection_token"]
            self.opening = node.replica.recover("chat", connection_id, token)
        else:
            grant = ClientGrant(self.client.name, ROLES)
            self.opening = node.replica.connect("chat", self.dial.protocol, grant)
        node.waiting[self.opening] = self

    def entered(self, opening: Opening) -> None:
        """The node has taken the client in, or refuses it."""
        self.transport = opening.transport
        if self.transport is None:
            self.refuse(429)
        else:
            self.carry("down", "open")

    def serve(self, transport: Transport) -> None:
        assert self.node is not None
        for message in transport.messages_to_send(self.node.replica.core.now):
            self.service.ledger.sends(transport, message)
            if not self.disorder.takes(message):
                self.carry_data("down", message)
        if transport.close is not None:
            self.carry("down", transport.close)

    def carry_late(self, message: bytes) -> None:
        connection = None if self.transport is None else self.transport.connection
        up = self.node is not None and self.node.up
        if up and connection is not None and connection.transport is self.transport:
            self.carry_data("down", message)

    def at_service(self, item: Any) -> None:
        if self.node is not None:
            self.node.do(self._takes, self.node, item)

    def _takes(self, node: Node, item: Any) -> None:
        if self.transport is None:
            self._leaves(node)
        elif isinstance(item, list):
            for message in item:
                node.replica.receive(self.transport, message if self.as_bytes else message.decode(), self.clock.now)
        else:
            node.replica.disconnected(self.transport, item.code, item.reason)
            if item.code != NO_CLOSE_FRAME:
                self.carry("down", item)

    def service_notices(self) -> None:
        if self.node is not None:
            self.node.do(self._notices, self.node)

    def _notices(self, node: Node) -> None:
        if self.transport is None:
            self._leaves(node)
        else:
            node.replica.disconnected(self.transport, NO_CLOSE_FRAME)

    def _leaves(self, node: Node) -> None:
        if self.opening is not None:
            node.replica.forget(self.opening)


class ClusterClient(Client):
    """A client whose lines go to a cluster."""

    line_type = ClusterLine
    service: Cluster
    weather: ClusterWeather

    @property
    def busy(self) -> bool:
        # Events that a client has given up are handled all the same, one after the other, and have replies.
        return super().busy or bool(self.service.truth.core.logged_calls.pending)

    def act(self, random: Random) -> None:
        """Do something that applications do, also send an event that has a handler."""
        if random.random() < 0.12:
            self.ask("note", lambda asked: self.session.send_event(
                EVENT, asked.number, self.clock.now, user_data=asked
            ))  # fmt: skip
            self.drain()
        else:
            super().act(random)

    def acked(self, event: Acked) -> Ask:
        asked = super().acked(event)
        assert isinstance(asked, Asked)
        if asked.kind == "note" and (event.error is None or event.error.outcome == "rejected"):
            way = self.ledger.ways.get(asked.number)
            assert way is not None, f"{asked} has an outcome, and the handler was not called"
            assert (event.error is None) is (way in REPLIES), f"{asked} has an outcome that is not that of the handler"
        return asked

    def waits_for_events(self, asked: Asked) -> bool:
        # Three calls that take as long as they may, or two that another node makes again, are too much.
        return any(earlier.kind == "note" and earlier.number < asked.number for earlier in self.asked)

    def begin_stream(self, random: Random) -> None:
        # What is heard of a stream that a fork cuts off is known to nobody.
        if not self.weather.forks:
            super().begin_stream(random)
