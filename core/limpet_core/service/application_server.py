"""The application server behind the event handlers, as the service's logic sees it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

import msgspec

from limpet_core.protocol.close import Close
from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.connections.connection import Attachment, Connection
from limpet_core.service.connections.observers import Observers
from limpet_core.service.connections.transport import Transport
from limpet_core.service.webhooks.answers import Answer, Outcome
from limpet_core.service.webhooks.calls import Calls
from limpet_core.service.webhooks.cloud_events import (
    Acceptance,
    ClientEvent,
    ConnectRequest,
    Rejection,
    Reply,
    read_connect_answer,
    read_reply,
)
from limpet_core.service.webhooks.handler_context import HandlerContext
from limpet_core.service.webhooks.handlers import EventSettings, HandlerCall
from limpet_core.service.webhooks.listeners import ListenerMessage
from limpet_core.service.wire.raw import RawMode


class PendingConnect:
    """A client that waits for an event handler's decision whether it may connect. Compared by identity.

    Once handed out by :meth:`ServiceCore.decided_connects`, it has either a ``transport`` or a ``rejection``.

    Attributes:
        hub: the lower-case name of the hub.
        offers: the subprotocols that the client offers.
        grant: the rights that the client's token gives.
        raw: the mode of the client if it becomes a raw one.
        context: the state shared with the event handlers; it has the id of the future connection.
        call: the connect event.
        transport: set if the client may connect.
        subprotocol: to answer the handshake with, if the client may connect.
        rejection: set if the client may not connect.
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
    """The call with a client's event has ended.

    Attributes:
        reply: to the client; a text if the event has failed.
        delivered: whether the handler may have got the event.
        final: the handler must not get the event again.
    """

    connection: Connection
    context: HandlerContext
    event: ClientEvent
    reply: Reply | str | None
    delivered: bool
    final: bool


class ConnectedCall(msgspec.Struct, frozen=True, eq=False):
    """The purpose of a call with the connected event."""

    connection: Connection
    context: HandlerContext


class ClientCall(msgspec.Struct, frozen=True, eq=False):
    """The purpose of a call with what a client has sent. Compared by identity."""

    connection: Connection
    context: HandlerContext
    event: ClientEvent


class EventCall(ClientCall, frozen=True, eq=False):
    """The purpose of a call with an event of a client."""


class InvocationCall(ClientCall, frozen=True, eq=False):
    """The purpose of a call with an invocation of a client.

    Attributes:
        attachment: the one that the invocation came through, and that its answer belongs to.
        size: of the message, in bytes.
        delay: seconds for which the answer is held back.
    """

    attachment: Attachment
    invocation_id: str
    size: int
    delay: float


class Invoked(msgspec.Struct, frozen=True):
    """The call with an invocation has ended; ``reply`` and ``delivered`` as for an event."""

    invocation: InvocationCall
    outcome: Outcome
    reply: Reply | str | None
    delivered: bool


Submitted: TypeAlias = Literal["handler", "listeners", "nobody"]
"""Who gets an event: a handler, which answers it, or listeners alone, which do not."""

_Result: TypeAlias = Decided | Handled | Invoked


class ApplicationServer:
    """Turns the events of clients and connections into calls, and the ends of calls into results.

    :class:`ServiceCore` acts on the results.
    """

    def __init__(self, settings: EventSettings, observers: Observers, calls: Calls) -> None:
        self.settings: EventSettings = settings
        self._observers = observers
        self.calls: Calls = calls
        self.listener_messages: list[ListenerMessage] = []
        self._undecided: dict[PendingConnect, None] = {}

    def new_context(self, hub: str, connection_id: str, user_id: str | None) -> HandlerContext | None:
        """Return the context of a new client; ``None`` if its hub has neither handlers nor listeners."""
        if hub not in self.settings.handlers and hub not in self.settings.listeners:
            return None
        return HandlerContext(hub, connection_id, user_id, self.settings, self.listener_messages)

    def handlers_changed(self, connections: Iterable[Connection]) -> None:
        """Handle that the settings have other handlers: connections whose hub has got the first ones have them, too."""
        self.calls.forget_permissions()
        for connection in connections:
            if connection.context is None:
                context = self.new_context(connection.hub, connection.connection_id, connection.user_id)
                if context is not None:
                    context.subprotocol = connection.subprotocol or ""
                connection.context = context

    # ---- The connect event

    def decides(self, hub: str) -> bool:
        """Return whether a handler decides about the clients of a hub."""
        return any(handler.gets_system_event("connect") for handler in self.settings.handlers.get(hub, ()))

    def submit_connect(self, pending: PendingConnect, request: ConnectRequest) -> None:
        call = pending.call = pending.context.connect(request, pending)
        assert call is not None, "only called if decides()"
        self._undecided[pending] = None
        self.calls.submit(call)

    def cancel_connect(self, pending: PendingConnect) -> None:
        """Give up the connect event of a client that has left. Repeats do nothing."""
        if pending.call is not None and pending in self._undecided:
            del self._undecided[pending]
            self.calls.cancel(pending.call)

    # ---- Connections: the registry announces their beginnings and ends

    def opened(self, connection: Connection) -> None:
        context = connection.context
        if context is None:
            return
        context.subprotocol = connection.subprotocol or ""
        call = context.connected(ConnectedCall(connection, context))
        if call is not None:
            context.connected_running = True
            self.calls.submit(call)

    def closed(self, connection: Connection, close: Close, *, by_client: bool) -> None:
        """Submit the disconnected event: after the queued messages if the client closed, else without them."""
        context = connection.context
        if context is None:
            return
        context.close_reason = close.reason
        if not by_client:
            context.clear_queue()
        self.submit_disconnected(context)

    def submit_disconnected(self, context: HandlerContext) -> None:
        """Submit the disconnected event once the connection is over and all before it is done. Repeats do nothing."""
        reason = context.close_reason
        if reason is None or context.event_running is not None or context.queue or context.connected_running:
            return
        context.close_reason = None
        call = context.disconnected(reason)
        if call is not None:
            self.calls.submit(call)

    def decisions(self) -> list[Decided]:
        """Return the decisions since the last call, where there are no other calls."""
        return [result for result in self.results() if isinstance(result, Decided)]

    def shut_down(self) -> list[Decided]:
        """Give up all calls; return the rejections of the clients that still wait for a decision."""
        self.calls.cancel_all()
        rejection = Rejection(503, "The service is shutting down.")
        decided = [Decided(pending, rejection) for pending in self._undecided]
        self._undecided.clear()
        return decided

    # ---- Events of clients

    def submit_event(self, connection: Connection, event: ClientEvent) -> Submitted:
        """Submit an event of a client, and return who gets it."""
        context = connection.context
        if context is None:
            return "nobody"
        event_id = context.take_id()
        heard = context.tell_listeners(event, event_id)
        call = context.user_event(event, EventCall(connection, context, event), event_id)
        if call is None:
            return "listeners" if heard else "nobody"
        context.event_running = call
        self.calls.submit(call)
        return "handler"

    def names_event(self, hub: str, name: str) -> bool:
        """Return whether a handler of a hub gets a client event by its name, and not as one of all events."""
        return any(
            handler.gets_user_event(name)
            and (name.lower() in map(str.lower, handler.user_events) or {"*", "**"}.isdisjoint(handler.user_events))
            for handler in self.settings.handlers.get(hub, ())
        )

    def submit_invocation(self, invocation: InvocationCall) -> HandlerCall | None:
        """Submit an invocation, whatever else is running; return the call, ``None`` if there is no handler for it.

        The call has the connection state of this moment, and its answer sets it: the answer that comes last counts.
        """
        context = invocation.context
        call = context.user_event(invocation.event, invocation, context.take_id())
        if call is not None:
            call.is_invocation = True
            self.calls.submit(call)
        return call

    # ---- Results

    def results(self) -> list[_Result]:
        """Return the decisions, handled events and ended invocations since the last call."""
        results: list[_Result] = []
        for call, outcome in self.calls.settled():
            self._observers.handler_called(call, outcome)
            purpose = call.purpose
            if isinstance(purpose, PendingConnect):
                results.append(self._decided(purpose, call, outcome))
            elif isinstance(purpose, EventCall):
                purpose.context.event_running = None
                reply = self._reply(purpose.context, call, outcome)
                connection, context, event = purpose.connection, purpose.context, purpose.event
                final = call.delivered and call.handler.resend == "safe"
                results.append(Handled(connection, context, event, reply, call.delivered, final))
            elif isinstance(purpose, ConnectedCall):
                self._store(purpose.context, call, outcome, with_state=False)
                purpose.context.connected_running = False
                self.submit_disconnected(purpose.context)
            elif isinstance(purpose, InvocationCall):
                reply = self._reply(purpose.context, call, outcome)
                results.append(Invoked(purpose, outcome, reply, call.delivered))
        return results

    def _decided(self, pending: PendingConnect, call: HandlerCall, outcome: Outcome) -> Decided:
        del self._undecided[pending]
        self._store(pending.context, call, outcome, with_state=True)
        decision = read_connect_answer(outcome, pending.grant, pending.offers)
        if isinstance(decision, Acceptance):
            pending.context.user_id = decision.grant.user_id
        return Decided(pending, decision)

    def _reply(self, context: HandlerContext, call: HandlerCall, outcome: Outcome) -> Reply | str | None:
        """Read the reply to a client; an answer that fails the event sets no state and no cookies (emulator)."""
        reply = read_reply(outcome)
        if not isinstance(reply, str):
            self._store(context, call, outcome, with_state=True)
        return reply

    def _store(self, context: HandlerContext, call: HandlerCall, outcome: Outcome, *, with_state: bool) -> None:
        if isinstance(outcome, Answer) and outcome.ok:
            context.store_cookies(call, outcome)
            if with_state:
                context.store_state(outcome)
