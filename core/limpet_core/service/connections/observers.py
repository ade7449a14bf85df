"""Telling the observers: from the service's own objects to the events of `limpet_core.service.trace`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

import msgspec

from limpet_core.protocol.close import Close
from limpet_core.service import trace
from limpet_core.service.connections.connection import Connection
from limpet_core.service.wire.from_client import Event, SendToGroup
from limpet_core.service.wire.to_client import Publication

__all__ = ["Observers"]

SHORT: Final = 240
"""Longest payload or foreign text in an event, in characters."""


class Observers(list[trace.Observer]):
    """The functions that are told what happens; usually none.

    Nothing is made for nobody: every method looks first, but for `published`, `answered` and `sequence_acked`. There
    messages pass by the thousand, and the caller asks ``if observers:`` itself, which saves even the call.
    """

    __slots__ = ()

    def tell(self, event: trace.TraceEvent) -> None:
        """Call everybody with an event; any of them may leave meanwhile."""
        for observer in tuple(self):
            observer(event)

    # --- Connections ------------------------------------------------------------------------------

    def opened(self, connection: Connection) -> None:
        """Tell of a new connection, which has its groups already."""
        if self:
            self.tell(trace.ConnectionOpened(*_who(connection), connection.subprotocol or "", tuple(connection.groups)))

    def dropped(self, connection: Connection, code: int, window: float) -> None:
        """Tell of the loss of a transport that can be recovered from."""
        if self:
            self.tell(trace.ConnectionDropped(*_who(connection), code, window))

    def recovered(self, connection: Connection, replayed: int, replaced: bool) -> None:
        """Tell of a recovery."""
        if self:
            self.tell(trace.ConnectionRecovered(*_who(connection), replayed, replaced))

    def recovery_refused(self, hub: str, connection_id: str) -> None:
        """Tell of a recovery that was refused; what the client calls its connection can be anything."""
        if self:
            self.tell(trace.RecoveryRefused(hub, shortened(connection_id)))

    def handshake_refused(self, hub: str | None, status: int, reason: str) -> None:
        """Tell of a client that got no connection; ``hub`` is what it asked for, which can be anything."""
        if self:
            self.tell(trace.HandshakeRefused(shortened(hub or ""), status, shortened(reason)))

    def closed(self, connection: Connection, close: Close) -> None:
        """Tell of the end of a connection."""
        if self:
            self.tell(trace.ConnectionClosed(*_who(connection), close.code, close.reason))

    def shut_down(self) -> None:
        """Tell of the end of the service."""
        if self:
            self.tell(trace.ShutDown())

    # --- Requests and messages --------------------------------------------------------------------

    def joined(self, connection: Connection, group: str) -> None:
        """Tell of a new membership, asked for by the client or the application server."""
        if self:
            self.tell(trace.Joined(*_who(connection), group))

    def left(self, connection: Connection, group: str) -> None:
        """Tell of the end of a membership."""
        if self:
            self.tell(trace.Left(*_who(connection), group))

    def published(self, connection: Connection, message: SendToGroup, members: Collection[Connection]) -> None:
        """Tell of a client's message to a group, before it is delivered."""
        receivers = len(members) - (message.no_echo and connection in members)
        payload = _payload(message.data_type, bytes(message.data))
        self.tell(trace.Published(*_who(connection), "group", message.group, *payload, receivers))

    def server_published(
        self,
        hub: str,
        to: Literal["group", "hub", "user", "connection"],
        name: str,
        publication: Publication,
        receivers: int,
    ) -> None:
        """Tell of a message of the application server, before it is delivered."""
        if self:
            message = _message_decoder.decode(publication.plain)
            payload = _payload(message.data_type, bytes(message.data))
            self.tell(trace.Published(hub, None, None, to, name, *payload, receivers))

    def raised(self, connection: Connection, message: Event) -> None:
        """Tell of a client's event for the application server."""
        if self:
            payload = _payload(message.data_type, bytes(message.data))
            self.tell(trace.EventRaised(*_who(connection), message.event, *payload))

    def answered(self, connection: Connection, ack_id: int | None, error: tuple[str, str] | None) -> None:
        """Tell of the outcome of a request; one that succeeds without an ack id has none."""
        if error is not None:
            name, text = error
            self.tell(trace.Refused(*_who(connection), ack_id, name, shortened(text)))
        elif ack_id is not None:
            self.tell(trace.Acked(*_who(connection), ack_id))

    def sequence_acked(self, connection: Connection, sequence_id: int) -> None:
        """Tell of a sequence ack, after what it acknowledges was let go."""
        self.tell(trace.SequenceAcked(*_who(connection), sequence_id, connection.retained))


def shortened(text: str) -> str:
    """Return at most `SHORT` characters of a text; an ellipsis stands for what was left out."""
    return text if len(text) <= SHORT else text[: SHORT - 1] + "…"


class _Message(msgspec.Struct, rename="camel"):
    data_type: str
    data: msgspec.Raw


_message_decoder = msgspec.json.Decoder(_Message)


def _who(connection: Connection) -> tuple[str, str, str | None]:
    return connection.hub, connection.connection_id, connection.user_id


def _payload(data_type: str, data: bytes) -> tuple[str, str, int]:
    # No character takes more than four bytes: a megabyte is never decoded for the sake of its beginning.
    return data_type, shortened(data[: SHORT * 4 + 4].decode("utf-8", "replace")), len(data)
