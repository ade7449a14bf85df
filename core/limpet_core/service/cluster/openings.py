"""The clients of a node whose connection is not in the log yet."""

from __future__ import annotations

from typing import Final

from limpet_core.protocol.names import is_text
from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.application_server import PendingConnect
from limpet_core.service.cluster import commands
from limpet_core.service.cluster.commands import MAX_DATA
from limpet_core.service.cluster.outgoing import Outgoing
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.cluster.waiting import Opening
from limpet_core.service.connections.connection import Attachment
from limpet_core.service.connections.transport import Transport
from limpet_core.service.webhooks.cloud_events import ConnectRequest, Rejection
from limpet_core.service.wire.raw import RawMode
from limpet_core.service.wire.subprotocols import choose_subprotocol

_FAILED: Final = Rejection(500, "The service has failed to open the connection. Try again later.")


class Openings:
    """Asks for connections in the log, at first the event handlers, and keeps what became of it: :meth:`take`.

    Args:
        core: the logic of the service.
        outgoing: what the node writes into the log.
    """

    def __init__(self, core: ReplicatedCore, outgoing: Outgoing) -> None:
        self._core = core
        self._outgoing = outgoing
        self._next_number = 1
        # By the number of the attachment: those that wait for the log.
        self._waiting: dict[int, Opening] = {}
        self._deciding: dict[PendingConnect, Opening] = {}
        self._done: list[Opening] = []

    def take(self) -> list[Opening]:
        """Return the clients whose connection has begun, or was refused, since the last call."""
        done, self._done = self._done, []
        return done

    # ---- What clients want

    def connect(
        self,
        hub: str,
        subprotocol: str | None,
        grant: ClientGrant,
        raw: RawMode,
        *,
        spelled: str | None,
        most: int | None,
    ) -> Opening:
        """Ask for a new connection."""
        opening = self._opening(hub, spelled)
        opening.connection_id = self._core.new_connection_id()
        opening.most = most
        self._open(opening, subprotocol, grant, raw, None)
        return opening

    def ask_to_connect(
        self, hub: str, grant: ClientGrant, request: ConnectRequest, raw: RawMode, *, most: int | None
    ) -> Opening:
        """Ask the event handler, and for a new connection if that agrees: see :meth:`decide`."""
        opening = self._opening(hub, None)
        opening.most = most
        opening.pending = self._core.ask_to_connect(hub, grant, request, raw)
        self._deciding[opening.pending] = opening
        self.decide()
        return opening

    def recover(self, hub: str, connection_id: str, reconnection_token: str, *, spelled: str | None) -> Opening:
        """Ask for a connection that is there."""
        opening = self._opening(hub, spelled)
        opening.is_recovery = True
        opening.connection_id = connection_id
        if self._core.may_recover(hub, connection_id, reconnection_token):
            self._waiting[opening.number] = opening
            self._outgoing.add(commands.Recover(connection_id, opening.number, hub))
        else:
            self._core.observers.recovery_refused(hub, connection_id)
            self._refuse_recovery(opening)
        return opening

    def forget(self, opening: Opening) -> None:
        """Handle that a client has left before it was let in; the log may let it in all the same."""
        opening.is_wanted = False
        if opening.pending is not None and self._deciding.pop(opening.pending, None) is not None:
            self._core.forget_connect(opening.pending)

    def decide(self) -> None:
        """Go on with the clients about whom an event handler has decided; call it after each end of an attempt."""
        for pending, decision in self._core.decisions():
            opening = self._deciding.pop(pending)
            if isinstance(decision, Rejection):
                self._reject(opening, decision)
                continue
            name, opening.subprotocol = choose_subprotocol(pending.offers, decision.subprotocol)
            opening.connection_id = pending.context.connection_id
            handed = commands.Handed(*pending.context.handed_over())
            self._open(opening, name, decision.grant, pending.raw, handed)

    # ---- What the log says

    def expects(self, number: int) -> bool:
        """Return whether a client waits for the attachment with this number."""
        return number in self._waiting

    def attached(self, number: int, attachment: Attachment | None) -> Opening:
        """Handle that a client has its attachment, or gets none (``None``); return the client."""
        opening = self._waiting.pop(number)
        if isinstance(attachment, Transport):
            opening.transport = attachment
            self._done.append(opening)
        elif opening.is_recovery:
            self._refuse_recovery(opening)
        else:
            text = f"All {opening.most} connections of this service are taken. Try again later."
            self._reject(opening, Rejection(429, text))
        return opening

    def failed(self, number: int) -> None:
        """Handle that a client gets no attachment, by a fault of ours."""
        opening = self._waiting.pop(number)
        if opening.is_recovery:
            self._refuse_recovery(opening)
        else:
            self._reject(opening, _FAILED)

    def _opening(self, hub: str, subprotocol: str | None) -> Opening:
        opening = Opening(self._next_number, hub, subprotocol)
        self._next_number += 1
        return opening

    def _open(
        self,
        opening: Opening,
        subprotocol: str | None,
        grant: ClientGrant,
        raw: RawMode,
        handed: commands.Handed | None,
    ) -> None:
        # A role that is no text names no group, so it gives no rights, and the log cannot hold it.
        who = (grant.user_id, tuple(filter(is_text, grant.roles)), grant.groups)
        command = commands.Open(
            opening.connection_id, opening.number, opening.hub, subprotocol, *who, raw, handed, opening.most
        )
        if handed is not None and len(bytes(commands.encode(command))) > MAX_DATA:
            text = f"The event handler's answer to the connect event has more than {MAX_DATA} bytes."
            self._reject(opening, Rejection(500, text))
            return
        self._waiting[opening.number] = opening
        self._outgoing.add(command)

    def _reject(self, opening: Opening, rejection: Rejection) -> None:
        opening.rejection = rejection
        self._done.append(opening)

    def _refuse_recovery(self, opening: Opening) -> None:
        opening.transport = self._core.refused_transport()
        self._done.append(opening)
