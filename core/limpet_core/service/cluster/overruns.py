"""The ends of connections that a node asks for: its clients do not take what waits, or say what cannot be."""

from __future__ import annotations

from typing import Literal

from limpet_core.service.cluster import commands
from limpet_core.service.cluster.outgoing import Outgoing
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.transport import Transport


class Overruns:
    """Looks at the transports of a node that were handed out, and writes into the log which connections are to end.

    Args:
        core: the logic of the service.
        outgoing: what the node writes into the log.
    """

    def __init__(self, core: ReplicatedCore, outgoing: Outgoing) -> None:
        self._core = core
        self._outgoing = outgoing
        self._handed_out: list[Transport] = []
        # Those whose end is on its way to the log.
        self._ending: set[Transport] = set()

    def is_ending(self, transport: Transport) -> bool:
        """Return whether the end of the connection is on its way: what the client says does not count any more."""
        return transport in self._ending

    def report(self, connection: Connection, transport: Transport, why: Literal["full", "ahead", "too large"]) -> None:
        """Write that a connection is to end; see :class:`~limpet_core.service.cluster.commands.Overrun`."""
        self._ending.add(transport)
        self._outgoing.add(commands.Overrun(connection.connection_id, transport.number, why))

    def handed_out(self, transports: list[Transport]) -> None:
        """Handle that the driver has got these transports, and may write what waits for their clients."""
        self._handed_out += transports

    def look(self) -> None:
        """Report the clients for which too much waits, after their transports had the chance to write it."""
        if not self._handed_out:
            return
        looked_at, self._handed_out = self._handed_out, []
        limits = self._core.node_limits
        for transport in looked_at:
            if transport.has_little(limits):
                continue  # nearly always
            connection = transport.connection
            if connection is None or connection.transport is not transport or transport in self._ending:
                continue
            if self._core.is_overrun(connection, transport):
                self.report(connection, transport, "full")

    def forget(self) -> None:
        """Forget the transports without a connection: its end has come back, or they were lost or replaced before."""
        self._ending = {
            transport
            for transport in self._ending
            if transport.connection is not None and transport.connection.transport is transport
        }
