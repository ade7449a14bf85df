"""What the clients of a node have acknowledged, on its way to the log."""

from __future__ import annotations

import math
from typing import Final

from limpet_core.service.cluster import commands
from limpet_core.service.cluster.outgoing import Outgoing
from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.transport import Transport

_DELAY: Final = 0.1
"""Seconds for which acknowledgements are gathered, of all clients of the node."""

_AT_ONCE: Final = 500
"""Messages that wait for one client: above this number, acknowledgements are written without delay."""

_OF_ONE_COMMAND: Final = 4000
"""Acknowledgements in a command, at most: those of all clients of a node may be more than an entry of the log holds."""


class Acknowledgements:
    """Gathers acknowledgements, and writes them into the log together.

    Args:
        outgoing: what the node writes into the log.

    Attributes:
        due: when to call :meth:`flush`, in monotonic seconds of this machine.
    """

    def __init__(self, outgoing: Outgoing) -> None:
        self.due: float = math.inf
        self._outgoing = outgoing
        # The newest sequence id of each client, of those that were not written yet.
        self._waiting: dict[Transport, int] = {}

    def add(self, connection: Connection, transport: Transport, sequence_id: int, now: float) -> None:
        """Take an acknowledgement of a client."""
        transport.acknowledged = self._waiting[transport] = max(sequence_id, transport.acknowledged)
        self.due = min(self.due, now + _DELAY)
        if connection.retained > _AT_ONCE:
            self.due = now

    def flush(self) -> None:
        """Write all of them."""
        self.due = math.inf
        waiting, self._waiting = self._waiting, {}
        acks = [ack for transport, sequence_id in waiting.items() for ack in _ack(transport, sequence_id)]
        for first in range(0, len(acks), _OF_ONE_COMMAND):
            self._outgoing.add(commands.SequenceAcks(acks[first : first + _OF_ONE_COMMAND]))

    def lost(self, transport: Transport, *, is_present: bool) -> None:
        """Handle the end of a transport: write what it has acknowledged, else the client gets these messages again.

        Args:
            transport: the transport.
            is_present: whether its connection has it; else nobody needs to know any more.
        """
        sequence_id = self._waiting.pop(transport, None)
        if sequence_id is not None and is_present:
            self._outgoing.add(commands.SequenceAcks(_ack(transport, sequence_id)))


def _ack(transport: Transport, sequence_id: int) -> list[tuple[str, int, int]]:
    connection = transport.connection
    return [] if connection is None else [(connection.connection_id, transport.number, sequence_id)]
