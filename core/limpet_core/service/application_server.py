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
from limpet_core.service.webhooks.handler_context import Conversation, EventSettings
from limpet_core.service.webhooks.handlers import Answer, HandlerCall
from limpet_core.service.wire.raw import RawMode

__all__ = ["Application", "Decided", "Handled", "PendingConnect"]


class PendingConnect:
    """A client that waits while a handler is asked whether it may connect. Compared by identity.

    Once handed out by `ServiceCore.decided_connects`, it has either a ``transport``, and the ``subprotocol`` to
    answer the handshake with, or a ``rejection``.
    """

    __slots__ = ("call", "conversation", "grant", "hub", "offers", "raw", "rejection", "subprotocol", "transport")

    def __init__(
        self, hub: str, offers: Sequence[str], grant: ClientGrant, raw: RawMode, conversation: Conversation
    ) -> None:
        self.hub: str = hub
        self.offers: tuple[str, ...] = tuple(offers)
        self.grant: ClientGrant = grant
        self.raw: RawMode = raw
        self.conversation: Conversation = conversation
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
    conversation: Conversation
    event: ClientEvent
    outcome: Outcome
    delivered: bool
    final: bool


class _Welcome(msgspec.Struct, frozen=True):
    """The purpose of a call that tells of a connection that came."""

    conversation: Conversation


class _Errand(msgspec.Struct, frozen=True):
    """The purpose of a call with an event of a client."""

    connection: Connection
    conversation: Conversation
    event: ClientEvent


_Happened: TypeAlias = Decided | Handled


class Application:
    """Asks the event handlers and tells them; `ServiceCore` acts on what they say."""

    def __init__(self, settings: EventSettings) -> None:
        self.settings: EventSettings = settings
        self.calls: HandlerCalls = HandlerCalls(settings)
        self._asking: dict[PendingConnect, None] = {}

    def conversation(self, hub: str, connection_id: str, user_id: str | None) -> Conversation | None:
        """Begin the conversation about a client; ``None`` if its hub has no handlers."""
        if hub not in self.settings.handlers:
            return None
        return Conversation(hub, connection_id, user_id, self.settings)

    # --- Coming and going -------------------------------------------------------------------------

    def decides(self, hub: str) -> bool:
        """Tell whether a handler decides about the clients of a hub."""
        return any(handler.gets_system_event("connect") for handler in self.settings.handlers.get(hub, ()))

    def ask(self, pending: PendingConnect, request: ConnectRequest) -> None:
        """Ask whether a client may connect."""
        call = pending.call = pending.conversation.connect(request, pending)
        assert call is not None, "only asked if `decides`"
        self._asking[pending] = None
        self.calls.submit(call)

    def forget(self, pending: PendingConnect) -> None:
        """Note that the client is gone before there was a decision."""
        if pending.call is not None and pending in self._asking:
            del self._asking[pending]
            self.calls.cancel(pending.call)

    def came(self, conversation: Conversation, subprotocol: str) -> None:
        """Tell of a new connection."""
        conversation.subprotocol = subprotocol
        call = conversation.connected(_Welcome(conversation))
        if call is not None:
            conversation.telling = True
            self.calls.submit(call)

    def went(self, conversation: Conversation, reason: str, *, finish: bool) -> None:
        """Tell of the end of a connection, after all that it has sent before is done (``finish``) or dropped."""
        conversation.ended = reason
        if not finish:
            conversation.forget_waiting()
        self.say_goodbye(conversation)

    def say_goodbye(self, conversation: Conversation) -> None:
        """Tell that the connection is over, if it is and nothing is left to do for it. Repeats do nothing."""
        reason = conversation.ended
        if reason is None or conversation.pending is not None or conversation.waiting or conversation.telling:
            return
        conversation.ended = None
        call = conversation.disconnected(reason, None)
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
        conversation = connection.conversation
        if conversation is None:
            return False
        call = conversation.user_event(event, _Errand(connection, conversation, event))
        if call is None:
            return False
        conversation.pending = call
        self.calls.submit(call)
        return True

    def happened(self) -> list[_Happened]:
        """Return what handlers have decided and done since the last time."""
        happened: list[_Happened] = []
        for call, outcome in self.calls.settled():
            purpose = call.purpose
            if isinstance(purpose, PendingConnect):
                del self._asking[purpose]
                self._keep(purpose.conversation, call, outcome, with_state=True)
                decision = read_connect_answer(outcome, purpose.grant, purpose.offers)
                if isinstance(decision, Acceptance):
                    purpose.conversation.user_id = decision.grant.user_id
                happened.append(Decided(purpose, decision))
            elif isinstance(purpose, _Errand):
                purpose.conversation.pending = None
                self._keep(purpose.conversation, call, outcome, with_state=True)
                connection, conversation, event = purpose.connection, purpose.conversation, purpose.event
                final = call.delivered and call.handler.resend == "safe"
                happened.append(Handled(connection, conversation, event, outcome, call.delivered, final))
            elif isinstance(purpose, _Welcome):
                self._keep(purpose.conversation, call, outcome, with_state=False)
                purpose.conversation.telling = False
                self.say_goodbye(purpose.conversation)
        return happened

    def _keep(self, conversation: Conversation, call: HandlerCall, outcome: Outcome, *, with_state: bool) -> None:
        if isinstance(outcome, Answer) and outcome.ok:
            conversation.keep_cookies(call, outcome)
            if with_state:
                conversation.keep_state(outcome)
