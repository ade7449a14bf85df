"""What a node waits for: clients whose connection is not in the log yet, and operations that were not carried out."""

from __future__ import annotations

from limpet_core.service.application_server import PendingConnect
from limpet_core.service.cluster import commands
from limpet_core.service.cluster.outgoing import Outgoing
from limpet_core.service.connections.transport import Transport
from limpet_core.service.data_plane.parameters import OperationError
from limpet_core.service.data_plane.writes import Write
from limpet_core.service.webhooks.cloud_events import Rejection


class Opening:
    """A client that waits for its connection. Compared by identity.

    Once handed out by :meth:`Replica.openings`, it has either a ``transport`` or a ``rejection``.

    Attributes:
        number: that of its attachment.
        hub: as the client has it.
        connection_id: of the connection; empty while an event handler decides.
        subprotocol: to answer the handshake with.
        pending: what the event handler decides about; ``None``: nobody was asked.
        most: connections of the whole service, at most; ``None``: any number.
        is_recovery: whether the client comes back to a connection.
        is_wanted: whether the client still waits.
        transport: set if the client may connect; without a ``connection`` if its recovery is refused.
        rejection: set if the client may not connect.
    """

    __slots__ = (
        "connection_id",
        "hub",
        "is_recovery",
        "is_wanted",
        "most",
        "number",
        "pending",
        "rejection",
        "subprotocol",
        "transport",
    )

    def __init__(self, number: int, hub: str, subprotocol: str | None = None) -> None:
        self.number: int = number
        self.hub: str = hub
        self.connection_id: str = ""
        self.subprotocol: str | None = subprotocol
        self.pending: PendingConnect | None = None
        self.most: int | None = None
        self.is_recovery: bool = False
        self.is_wanted: bool = True
        self.transport: Transport | None = None
        self.rejection: Rejection | None = None


class Asked:
    """An operation of the data plane that waits to be carried out. Compared by identity.

    Once handed out by :meth:`Replica.answers`, it was carried out, or has an ``error``.
    """

    __slots__ = ("error", "number")

    def __init__(self, number: int) -> None:
        self.number: int = number
        self.error: OperationError | None = None


class Operations:
    """The operations of the data plane that a node has written into the log, until they were carried out."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._next_number = 1
        self._waiting: dict[int, Asked] = {}
        self._done: list[Asked] = []

    def ask(self, write: Write) -> Asked:
        """Write an operation."""
        asked = self._waiting[self._next_number] = Asked(self._next_number)
        self._next_number += 1
        self._outgoing.add(commands.Ask(asked.number, write))
        return asked

    def answered(self, number: int, error: OperationError | None) -> None:
        """Handle that an operation was carried out, or refused."""
        asked = self._waiting.pop(number, None)
        if asked is not None:
            asked.error = error
            self._done.append(asked)

    def take(self) -> list[Asked]:
        """Return the operations that were carried out or refused since the last call."""
        done, self._done = self._done, []
        return done
