"""The application server behind the event handlers, as the service's logic sees it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import msgspec

from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.connections.connection import Connection, Transport
from limpet_core.service.webhooks.calls import HandlerCalls, Outcome
from limpet_core.service.webhooks.cloud_events import (
    Acceptance,
    ClientEvent,
    ConnectRequest,
    Rejection,
    read_connect_answer,
)
from limpet_core.service.webhooks.handler_context import EventSettings, HandlerContext
from limpet_core.service.webhooks.handlers import Answer, HandlerCall
from limpet_core.service.wire.raw import RawMode

__all__ = ["ApplicationServer", "Decided", "Handled", "PendingConnect"]


class PendingConnect:
    """A client that waits while a handler is asked whether it may connect. Compared by identity.

    Once handed out by `ServiceCore.decided_connects`, it has either a ``transport``, and the ``subprotocol`` to
    answer the handshake with, or a ``rejection``.
    """

    __slots__ = ("call", "context", "grant", "hub", "offers", "raw", "rejection", "subprotocol", "transport")

    def __init__(
        self, hub: str, offers: Sequence[str], grant: ClientGrant, raw: RawMode, context: HandlerContext
    ) -> None:
        self.hub: str = hub
        self.offers: tuple[str, ...] = tuple(offers)
        self.grant: ClientGrant = grant
        self.raw: RawMode = raw
        self.context: HandlerContext = context
        self.call: HandlerCall | None = None
        self.transport: Transport | None = None
        self.subprotocol: str | None = None
        self.rejection: Rejection | None = None


class Decided(msgspec.Struct, frozen=True):
    """A handler has decided whether a client may connect."""

    pending: PendingConnect
    decision: Acceptance | Rejection


class Handled(msgspec.Struct, frozen=True):
    """The call of a handler for a client's event is over; ``delivered`` says whether the handler may have got it.

    ``final``: the handler must not get the event again.
    """

    connection: Connection
    context: HandlerContext
    event: ClientEvent
    outcome: Outcome
    delivered: bool
    final: bool


class ConnectedCall(msgspec.Struct, frozen=True):
    """The purpose of a call that tells of a connection that came."""

    context: HandlerContext


class EventCall(msgspec.Struct, frozen=True):
    """The purpose of a call with an event of a client."""

    connection: Connection
    context: HandlerContext
    event: ClientEvent


_Happened: TypeAlias = Decided | Handled


class ApplicationServer:
    """Asks the event handlers and tells them; `ServiceCore` acts on what they say."""

    def __init__(self, settings: EventSettings) -> None:
        self.settings: EventSettings = settings
        self.calls: HandlerCalls = HandlerCalls(settings)
        self._asking: dict[PendingConnect, None] = {}

    def context(self, hub: str, connection_id: str, user_id: str | None) -> HandlerContext | None:
        """Begin the context about a client; ``None`` if its hub has no handlers."""
        if hub not in self.settings.handlers:
            return None
        return HandlerContext(hub, connection_id, user_id, self.settings)

    # --- Coming and going -------------------------------------------------------------------------

    def decides(self, hub: str) -> bool:
        """Tell whether a handler decides about the clients of a hub."""
        return any(handler.gets_system_event("connect") for handler in self.settings.handlers.get(hub, ()))

    def ask(self, pending: PendingConnect, request: ConnectRequest) -> None:
        """Ask whether a client may connect."""
        call = pending.call = pending.context.connect(request, pending)
        assert call is not None, "only asked if `decides`"
        self._asking[pending] = None
        self.calls.submit(call)

    def forget(self, pending: PendingConnect) -> None:
        """Note that the client is gone before there was a decision."""
        if pending.call is not None and pending in self._asking:
            del self._asking[pending]
            self.calls.cancel(pending.call)

    def came(self, context: HandlerContext, subprotocol: str) -> None:
        """Tell of a new connection."""
        context.subprotocol = subprotocol
        call = context.connected(ConnectedCall(context))
        if call is not None:
            context.telling = True
            self.calls.submit(call)

    def went(self, context: HandlerContext, reason: str, *, finish: bool) -> None:
        """Tell of the end of a connection, after all that it has sent before is done (``finish``) or dropped."""
        context.ended = reason
        if not finish:
            context.forget_waiting()
        self.say_goodbye(context)

    def say_goodbye(self, context: HandlerContext) -> None:
        """Tell that the connection is over, if it is and nothing is left to do for it. Repeats do nothing."""
        reason = context.ended
        if reason is None or context.pending is not None or context.waiting or context.telling:
            return
        context.ended = None
        call = context.disconnected(reason, None)
        if call is not None:
            self.calls.submit(call)

    def shut_down(self) -> list[Decided]:
        """Give everything up; return the rejections of those who are still waiting."""
        self.calls.cancel_all()
        rejection = Rejection(503, "The service is shutting down.")
        decided = [Decided(pending, rejection) for pending in self._asking]
        self._asking.clear()
        return decided

    # --- Events -----------------------------------------------------------------------------------

    def hand_over(self, connection: Connection, event: ClientEvent) -> bool:
        """Give an event of a client to its handler; false if there is none."""
        context = connection.context
        if context is None:
            return False
        call = context.user_event(event, EventCall(connection, context, event))
        if call is None:
            return False
        context.pending = call
        self.calls.submit(call)
        return True

    def happened(self) -> list[_Happened]:
        """Return what handlers have decided and done since the last time."""
        happened: list[_Happened] = []
        for call, outcome in self.calls.settled():
            purpose = call.purpose
            if isinstance(purpose, PendingConnect):
                del self._asking[purpose]
                self._keep(purpose.context, call, outcome, with_state=True)
                decision = read_connect_answer(outcome, purpose.grant, purpose.offers)
                if isinstance(decision, Acceptance):
                    purpose.context.user_id = decision.grant.user_id
                happened.append(Decided(purpose, decision))
            elif isinstance(purpose, EventCall):
                purpose.context.pending = None
                self._keep(purpose.context, call, outcome, with_state=True)
                connection, context, event = purpose.connection, purpose.context, purpose.event
                final = call.delivered and call.handler.resend == "safe"
                happened.append(Handled(connection, context, event, outcome, call.delivered, final))
            elif isinstance(purpose, ConnectedCall):
                self._keep(purpose.context, call, outcome, with_state=False)
                purpose.context.telling = False
                self.say_goodbye(purpose.context)
        return happened

    def _keep(self, context: HandlerContext, call: HandlerCall, outcome: Outcome, *, with_state: bool) -> None:
        if isinstance(outcome, Answer) and outcome.ok:
            context.keep_cookies(call, outcome)
            if with_state:
                context.keep_state(outcome)
