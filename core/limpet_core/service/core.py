"""The logic of the service as a state machine: its inputs, its state and its outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from limpet_core.protocol.close import Close
from limpet_core.protocol.names import hub_identity
from limpet_core.service import closes
from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.application_inputs import ApplicationInputs
from limpet_core.service.application_server import ApplicationServer, Decided, Invoked, PendingConnect
from limpet_core.service.connections.connection import Attachment, Connection
from limpet_core.service.connections.limits import Limits
from limpet_core.service.connections.observers import Observers
from limpet_core.service.connections.registry import Registry
from limpet_core.service.connections.transport import Transport
from limpet_core.service.dispatch import Dispatcher
from limpet_core.service.group_states import GroupStates
from limpet_core.service.invocations import Invocations
from limpet_core.service.streams import Streams
from limpet_core.service.webhooks.answers import Answer, Failure, FailureKind, Headers
from limpet_core.service.webhooks.calls import Calls, HandlerCalls
from limpet_core.service.webhooks.cloud_events import ConnectRequest, Rejection
from limpet_core.service.webhooks.handlers import EventHandler, EventSettings, HandlerCall
from limpet_core.service.webhooks.listeners import EventListener, ListenerMessage
from limpet_core.service.wire.from_client import ProtocolViolation, UnknownOperation
from limpet_core.service.wire.raw import RawMode
from limpet_core.service.wire.requests import (
    CancelInvocation,
    ClientRequest,
    Invoke,
    Ping,
    SendToGroup,
    SequenceAck,
    StreamMessage,
)
from limpet_core.service.wire.subprotocols import choose_subprotocol

_EVENTS: Final = RawMode()


class ServiceCore(ApplicationInputs):
    """All hubs of one service, without IO, clock or randomness.

    **After any call carry out** :meth:`transports_with_output`, :meth:`handler_calls`, :meth:`decided_connects` **and**
    :meth:`listener_messages`, **and call** :meth:`wake` **at** :attr:`deadline`. Without event handlers and listeners
    the first is enough.

    Args:
        limits: sizes, counts and times.
        new_connection_id: returns an id that was never used before.
        issue_reconnection_token: returns a token for the recovery of a connection, given its id.
        check_reconnection_token: returns whether a token (first argument) recovers a connection (its id, second).
        events: the event handlers and the settings of calls to them; ``None``: there are none.
        unix_time: returns the present time in seconds since 1970, for the times of group states.
        calls: who makes the calls of event handlers; ``None``: the program that holds this object.

    Attributes:
        observers: functions that are called with every trace event; append one to watch the service.
        streams: the open streams of clients.
        invocations: the running invocations of clients.

    Times are monotonic seconds and never decrease. Calls about a transport that was closed or replaced do nothing.
    No input of a client makes a method raise.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        new_connection_id: Callable[[], str],
        issue_reconnection_token: Callable[[str], str],
        check_reconnection_token: Callable[[str, str], bool],
        events: EventSettings | None = None,
        unix_time: Callable[[], float] = lambda: 0.0,
        calls: Calls | None = None,
    ) -> None:
        self.limits = limits
        self.events: EventSettings = events or EventSettings()
        self._new_connection_id = new_connection_id
        self._check_token = check_reconnection_token
        observers = Observers()
        self._own_calls = HandlerCalls(self.events)
        self._application = ApplicationServer(self.events, observers, self._own_calls if calls is None else calls)
        self._admission = self._application
        super().__init__(Registry(limits, self._application, observers, issue_reconnection_token), observers)
        self.streams: Streams = Streams(self._registry, self.observers)
        self.invocations: Invocations = Invocations(self._registry, self._application, self.observers)
        self._states = GroupStates(self._registry, self.observers, unix_time)
        self._dispatcher = Dispatcher(self._registry, self._application, self.streams, self._states, self.observers)
        self._decided: list[PendingConnect] = []

    # ---- State

    @property
    def deadline(self) -> float:
        """When to call :meth:`wake`, in monotonic seconds; ``math.inf``: never."""
        return min(
            self._registry.window_deadline,
            self.streams.deadline,
            self._application.calls.deadline,
            self.invocations.deadline,
        )

    @property
    def behaviour(self) -> int:
        """The version of the service's behaviour that is active: in a cluster, the one that its nodes agree on."""
        return self._registry.behaviour

    def group_states(self, hub: str, group: str) -> dict[str, Mapping[str, str]]:
        """Return the states of the members of a group, by connection id; members without a state are left out."""
        return self._states.of(hub, group)

    # ---- Inputs: settings

    def set_handlers(
        self,
        handlers: Mapping[str, tuple[EventHandler, ...]],
        listeners: Mapping[str, tuple[EventListener, ...]] | None = None,
    ) -> None:
        """Replace the event handlers and listeners of all hubs, by lower-case name; connections stay (emulator).

        What clients do from now on goes to the new ones; handlers are asked for their permission before. Calls that
        have begun go on.
        """
        self.events.handlers = handlers
        self.events.listeners = listeners or {}
        self._application.handlers_changed(self._registry.connections.values())

    # ---- Inputs: clients

    def connect(
        self, hub: str, subprotocol: str | None, grant: ClientGrant, now: float, raw: RawMode = _EVENTS
    ) -> Transport:
        """Open a new connection; return its transport, which has the connected message (client-spec 1.2).

        A client without a subprotocol of Web PubSub is a raw one and gets no such message; ``raw`` is its mode.
        """
        identity = hub_identity(hub)
        connection_id = self._new_connection_id()
        context = self._application.new_context(identity, connection_id, grant.user_id)
        connection = Connection(identity, connection_id, subprotocol, grant, raw, self.limits, context)
        transport = self._registry.transport(connection)
        self._registry.open(connection, grant, transport)
        return transport

    def handler_decides(self, hub: str) -> bool:
        """Return whether an event handler decides about new clients: :meth:`ask_to_connect`, not :meth:`connect`."""
        return self._application.decides(hub_identity(hub))

    def ask_to_connect(
        self, hub: str, grant: ClientGrant, request: ConnectRequest, raw: RawMode = _EVENTS
    ) -> PendingConnect:
        """Ask the event handler whether a client may connect. ``grant`` are the rights that its token gives.

        The decision comes with :meth:`decided_connects`, unless :meth:`forget_connect` is called. ``raw`` is the mode
        of the client if it becomes a raw one.
        """
        identity = hub_identity(hub)
        context = self._admission.new_context(identity, self._new_connection_id(), grant.user_id)
        assert context is not None, "only called if handler_decides"
        pending = PendingConnect(identity, request.subprotocols, grant, raw, context)
        self._admission.submit_connect(pending, request)
        return pending

    def forget_connect(self, pending: PendingConnect) -> None:
        """Handle that a client has left before the decision about it."""
        self._admission.cancel_connect(pending)

    def recover(self, hub: str, connection_id: str, reconnection_token: str, now: float) -> Transport:
        """Attach a new transport to a connection and send the unacknowledged messages again (client-spec 1.4).

        A transport that is still attached is replaced (emulator). If the token is wrong, or the connection is unknown,
        over or not reliable, the returned transport has no ``connection`` and the order to close with 1008.
        """
        self.wake(now)
        connection = self._registry.connections.get(connection_id)
        if (
            connection is None
            or not connection.reliable
            or connection.hub != hub_identity(hub)
            or not self._check_token(reconnection_token, connection_id)
        ):
            self.observers.recovery_refused(hub_identity(hub), connection_id)
            return self._registry.refuse(closes.REFUSED)
        transport = self._registry.transport(connection)
        self._replace(connection, transport, now)
        return transport

    def _replace(self, connection: Connection, attachment: Attachment, now: float) -> None:
        if connection.attachment is not None:
            connection.attachment.end(closes.REPLACED, discard=True)
        self._registry.attach(connection, attachment, now)

    def receive(self, attachment: Attachment, data: str | bytes, now: float) -> None:
        """Handle a message from a client: JSON in a text or binary frame, protobuf in a binary frame (Azure docs).

        For a raw client it is any payload. ``str`` is a text frame, ``bytes`` is a binary frame, or of a JSON client a
        text frame as UTF-8.
        """
        connection = attachment.connection
        if connection is None or connection.attachment is not attachment:
            return
        try:
            # Lone surrogates cannot come from a WebSocket, but from other callers.
            encoded = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
            if len(encoded) > self.limits.max_message_size:
                self._registry.end(connection, closes.too_large(self.limits.max_message_size))
                return
            if connection.codec.binary and isinstance(data, str):
                self._registry.end(connection, closes.wrong_frame())
                return
            message = connection.codec.decode(encoded) if connection.raw is None else connection.raw.message(data)
        except UnknownOperation as unknown:
            self._dispatcher.refuse_unknown(connection, unknown)
            return
        except ProtocolViolation as violation:
            self._dispatcher.refuse(connection, violation)
            return
        if isinstance(message, SendToGroup):  # most messages, and most of the others are acknowledgements
            self._dispatch(connection, message, len(encoded), now)
        elif isinstance(message, SequenceAck):
            connection.acknowledge(message.sequence_id)
            observers = self.observers
            if observers:
                if observers.is_brief and len(observers) == 1:  # counted here: see Observers
                    observers.totals.others += 1
                else:
                    observers.sequence_acked(connection, message.sequence_id)
        elif isinstance(message, Ping):
            self._registry.send(connection, connection.codec.pong)
        elif isinstance(message, StreamMessage):
            self._dispatcher.dispatch_stream(connection, message, now)
        elif isinstance(message, Invoke):
            self.invocations.invoke(connection, attachment, message, len(encoded))
            self._act_on_results(now)
        elif isinstance(message, CancelInvocation):
            self.invocations.cancel(connection, attachment, message.invocation_id)
        else:
            self._dispatch(connection, message, len(encoded), now)

    def _dispatch(self, connection: Connection, request: ClientRequest, size: int, now: float) -> None:
        self._dispatcher.dispatch(connection, request, size, now)
        if self._application.calls.has_settled:  # a handler that answers by itself
            self._act_on_results(now)

    def disconnected(self, attachment: Attachment, code: int, now: float, reason: str = "") -> None:
        """Handle the end of a transport: the client closed it with this code and reason, or it was lost (1006).

        A reliable connection is kept for the recovery window, unless the code is 1000 (emulator).
        """
        connection = attachment.connection
        if connection is None or connection.attachment is not attachment:
            return
        if connection.reliable and code != 1000:
            self.observers.dropped(connection, code, self.limits.recovery_window)
            self._registry.detach(connection, now)
        else:
            # The client's own reason, also an empty one, is what the event handler is told (emulator).
            told = reason if reason or code == 1000 else closes.ENDED
            self._registry.ended(connection, Close.because(code, told))

    def transport_broken(self, attachment: Attachment, code: int, now: float) -> None:
        """Handle the end of a transport that the driver closed with this code: the client broke the WebSocket protocol.

        The connection ends and cannot be recovered (emulator).
        """
        connection = attachment.connection
        if connection is not None and connection.attachment is attachment:
            self._registry.ended(connection, Close(code, closes.broken_frame(code)))

    def handler_answered(self, call: HandlerCall, status: int, headers: Headers, body: bytes, now: float) -> None:
        """Handle the answer to a call of an event handler; each character of a header stands for a byte (latin-1)."""
        self._own_calls.ended(call, Answer(status, headers, body), now)
        self._act_on_results(now)

    def handler_failed(self, call: HandlerCall, kind: FailureKind, text: str, now: float) -> None:
        """Handle the end of a call without an answer; ``text`` is for people."""
        self._own_calls.ended(call, Failure(kind, text), now)
        self._act_on_results(now)

    def wake(self, now: float) -> None:
        """End the connections and streams whose time is over, and repeat the calls that are due."""
        self._registry.expire(now)
        self.streams.expire(now)
        self._application.calls.wake(now)
        self.invocations.wake(now)
        self._act_on_results(now)

    # ---- Inputs: the surrounding program

    def close_stream(self, connection_id: str, stream_id: str, name: str, reason: str) -> bool:
        """End a stream with an error, such as ``InternalServerError``; return whether it was open."""
        connection = self._registry.connections.get(connection_id)
        stream = None if connection is None else connection.streams.get(stream_id)
        if connection is None or stream is None:
            return False
        self.streams.close(connection, stream, name, reason)
        return True

    def shut_down(self) -> None:
        """End all connections with a disconnected message and close code 1001, without disconnected events.

        The service may be used again.
        """
        for decided in self._application.shut_down():
            self._decide(decided)
        for connection in self._registry.connections.values():
            connection.context = None
        for connection in list(self._registry.connections.values()):
            # The end of one may end others, whom its streams overflow.
            if self._registry.is_alive(connection):
                self._dismiss(connection, closes.SHUT_DOWN, closes.SHUT_DOWN.reason)
        self.observers.shut_down()

    # ---- Outputs

    def prepare_output(self) -> bool:
        """Finish what :meth:`transports_with_output` would return, and return whether that is anything.

        Call it after each group of inputs where that method comes later, for several of them.
        """
        self._send_news()
        return self._registry.has_output

    def transports_with_output(self) -> list[Transport]:
        """Return the transports with new messages or an order to close since the last call."""
        self._send_news()
        return self._registry.transports_with_output()

    def _send_news(self) -> None:
        """Send what is told once for many inputs: acks of streams, and the changes of group states."""
        self.streams.send_acks()
        self._states.send_changes()

    def handler_calls(self, now: float) -> list[HandlerCall]:
        """Return the calls of event handlers to start, or to give up (``cancelled``), since the last call."""
        calls = self._own_calls
        return calls.take(now) if calls.waiting else []

    def listener_messages(self) -> list[ListenerMessage]:
        """Return what listeners are to get since the last call, in order."""
        waiting = self._application.listener_messages
        if not waiting:
            return []
        # The clients' contexts share the list, so clear it in place.
        messages = waiting.copy()
        waiting.clear()
        return messages

    def decided_connects(self) -> list[PendingConnect]:
        """Return the clients about whom a decision was made since the last call."""
        if not self._decided:
            return []
        decided, self._decided = self._decided, []
        return decided

    # ---- Results of event handlers

    def _act_on_results(self, now: float) -> None:
        calls = self._application.calls
        # To act on one may submit another, which a handler answers by itself.
        while calls.has_settled:
            for result in self._application.results():
                if isinstance(result, Decided):
                    self._decide(result)
                elif isinstance(result, Invoked):
                    self.invocations.ended(result, now)
                else:
                    self._dispatcher.event_handled(result, now)

    def _decide(self, decided: Decided) -> None:
        pending, decision = decided.pending, decided.decision
        self._decided.append(pending)
        if isinstance(decision, Rejection):
            pending.rejection = decision
            return
        name, pending.subprotocol = choose_subprotocol(pending.offers, decision.subprotocol)
        grant, context = decision.grant, pending.context
        connection_id, raw = context.connection_id, pending.raw
        connection = Connection(pending.hub, connection_id, name, grant, raw, self.limits, context)
        pending.transport = self._registry.transport(connection)
        self._registry.open(connection, grant, pending.transport)
