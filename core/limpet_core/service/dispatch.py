"""Dispatch of clients' messages: joins, leaves, publishes and events, in order, each answered once."""

from __future__ import annotations

import logging
import math
from typing import Final

from limpet_core.service import closes
from limpet_core.service.application_server import ApplicationServer, Handled
from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.observers import Observers
from limpet_core.service.connections.registry import Registry
from limpet_core.service.group_states import GroupStates
from limpet_core.service.streams import Streams
from limpet_core.service.webhooks.cloud_events import ClientEvent, no_handler, not_delivered
from limpet_core.service.wire import to_client
from limpet_core.service.wire.from_client import ProtocolViolation, UnknownOperation
from limpet_core.service.wire.requests import (
    ClientRequest,
    Event,
    JoinGroup,
    LeaveGroup,
    SendToGroup,
    StartStream,
    StreamMessage,
    SubscribeGroupState,
)

_LOGGER: Final = logging.getLogger("limpet.service")


class Dispatcher:
    """Carries out the requests of clients.

    Events go to the :class:`ApplicationServer`. While an event handler works, the client's later requests are queued,
    so that their order stays.
    """

    def __init__(
        self,
        registry: Registry,
        application: ApplicationServer,
        streams: Streams,
        states: GroupStates,
        observers: Observers,
    ) -> None:
        self._registry = registry
        self._application = application
        self._streams = streams
        self._states = states
        self._observers = observers

    def dispatch(self, connection: Connection, request: ClientRequest, size: int, now: float) -> None:
        """Carry out a request now, or queue it while an event handler works on an earlier event."""
        context, limits = connection.context, self._registry.limits
        if context is None or context.event_running is None:
            self._carry_out(connection, request, now)
        elif len(context.queue) < limits.retained_messages and context.queued_bytes + size <= limits.retained_bytes:
            context.enqueue(request, size)
        else:
            self._registry.end(connection, closes.OVERRUN)

    def dispatch_stream(self, connection: Connection, message: StreamMessage, now: float) -> None:
        """Carry out a message about a stream, ahead of the requests that are queued."""
        if not isinstance(message, StartStream):
            self._streams.receive(connection, message, now)
        elif message.ack_id is None:
            self._streams.start(connection, message, now)
        elif message.ack_id in connection.acks.succeeded:
            self._answer(connection, message.ack_id, _duplicate(message.ack_id))
        else:
            self._answer(connection, message.ack_id, self._streams.start(connection, message, now))

    def refuse(self, connection: Connection, violation: ProtocolViolation) -> None:
        """Refuse a message at once, ahead of the requests that are queued; without a way to answer, close."""
        ack_id, stream_id, reason = violation.ack_id, violation.stream_id, violation.reason
        if ack_id is not None:
            self._answer(connection, ack_id, ("BadRequest", reason))
        if stream_id is not None:
            self._streams.refuse(connection, stream_id, "BadRequest", reason)
        if ack_id is None and stream_id is None:
            binary, raw = connection.codec.binary, connection.raw is not None
            self._registry.end(connection, closes.not_valid(reason, binary=binary, raw=raw))

    def refuse_unknown(self, connection: Connection, unknown: UnknownOperation) -> None:
        """Answer a message that asks for what the service does not know, as far as the message says how.

        The first one of a connection is a warning in the log: perhaps nobody else is told.
        """
        error = ("BadRequest", unknown.reason)
        level = logging.DEBUG if connection.warned_of_unknown else logging.WARNING
        connection.warned_of_unknown = True
        _LOGGER.log(level, "a message of client %s is refused: %s", connection.connection_id, unknown.reason)
        self._answer(connection, unknown.ack_id, error)
        if unknown.invocation_id is not None:
            self._registry.send(connection, to_client.invocation_error(unknown.invocation_id, *error))
        elif unknown.stream_id is not None:
            self._streams.refuse(connection, unknown.stream_id, *error)

    def event_handled(self, handled: Handled, now: float) -> None:
        """Answer an event whose call has ended, and carry out the requests queued behind it."""
        connection, context, ack_id = handled.connection, handled.context, handled.event.ack_id
        reply = handled.reply
        if isinstance(reply, str):
            error = ("InternalServerError", reply) if handled.delivered else not_delivered(reply)
            if ack_id is not None and handled.final:
                connection.acks.remember_failure(ack_id, error)
            self._answer(connection, ack_id, error)
            # Repeats that came while the handler worked get the outcome of this call, and cause no other.
            for _ in range(context.drop_repeats(ack_id) if ack_id is not None else 0):
                self._answer(connection, ack_id, error)
        else:
            if reply is not None and self._registry.is_alive(connection):
                self._registry.deliver((connection,), reply.publication())
            self._answer(connection, ack_id, None)
        if isinstance(reply, str) and not self._registry.is_alive(connection):
            # The client is gone and the handler fails: calls for the rest of the queue could take very long.
            context.clear_queue()
        while context.event_running is None and context.queue:
            self._carry_out(connection, context.dequeue(), now)
        self._application.submit_disconnected(context)

    def _carry_out(self, connection: Connection, request: ClientRequest, now: float) -> None:
        ack_id = request.ack_id
        error: tuple[str, str] | None
        if ack_id is not None and ack_id in connection.acks.succeeded:
            error = _duplicate(ack_id)
            if isinstance(request, SubscribeGroupState):
                # With the answer the client has lost the snapshot.
                self._states.send_snapshot_again(connection, request.group)
        elif isinstance(request, SendToGroup):
            error = self._publish(connection, request, now)
        elif isinstance(request, Event):
            error = None if ack_id is None else connection.acks.failure(ack_id)
            if error is not None:
                self._answer(connection, ack_id, error)
                return
            self._observers.raised(connection, request)
            submitted = self._application.submit_event(connection, ClientEvent.from_message(request))
            if submitted == "handler":
                return  # acknowledged when the handler has answered
            if submitted == "nobody":
                error = no_handler(request.event)
        elif isinstance(request, JoinGroup | LeaveGroup):
            error = self._change_membership(connection, request)
        else:
            error = self._states.carry_out(connection, request)
        self._answer(connection, ack_id, error)

    def _answer(self, connection: Connection, ack_id: int | None, error: tuple[str, str] | None) -> None:
        """Send the outcome of a request to the client; ``error`` is a name and a text."""
        observers = self._observers
        if observers:
            if error is None and observers.is_brief and len(observers) == 1:  # counted here: see Observers
                if ack_id is not None:
                    observers.totals.acked += 1
            else:
                observers.answered(connection, ack_id, error)
        if connection.raw is not None:
            # Raw clients know no acks: a failure closes the connection (emulator).
            if error is not None and self._registry.is_alive(connection):
                close = closes.not_authorized(error[1]) if error[0] == "Forbidden" else closes.RAW_FAILURE
                self._registry.end(connection, close)
            return
        if ack_id is None:
            return
        if error is None:
            connection.acks.remember(ack_id)
            self._registry.send(connection, connection.codec.ack(ack_id))
        else:
            self._registry.send(connection, connection.codec.ack_error(ack_id, *error))

    def _publish(self, connection: Connection, message: SendToGroup, now: float) -> tuple[str, str] | None:
        group = message.group
        if not connection.permissions.send.allows(group):
            return ("Forbidden", f"The client does not have permission to send to group '{group}'.")
        hub = self._registry.hub(connection.hub)
        members = hub.members(group)
        observers = self._observers
        if observers:
            receivers = len(members) - (message.no_echo and connection in members)
            totals = observers.totals
            totals.published += 1
            totals.delivered += receivers
            if not observers.is_brief or len(observers) > 1:  # else it is counted only: see Observers
                observers.published(connection, message, receivers)
        if members:
            ttl = message.ttl_seconds
            publication = to_client.group_publication(
                group,
                connection.user_id,
                message.data_type,
                bytes(message.data),
                bytes(message.metadata),
                now + ttl if ttl else math.inf,
            )
            self._registry.deliver_to_group(hub, group, publication, connection if message.no_echo else None)
        return None

    def _change_membership(self, connection: Connection, message: JoinGroup | LeaveGroup) -> tuple[str, str] | None:
        group = message.group
        joins = isinstance(message, JoinGroup)
        if not connection.permissions.join_leave.allows(group):
            verb = "join" if joins else "leave"
            return ("Forbidden", f"The client does not have permission to {verb} group '{group}'.")
        # Requests queued before the client left are still carried out, but a closed connection is in no group.
        if self._registry.is_alive(connection):
            (self._registry.join if joins else self._registry.leave)(connection, group)
        return None


def _duplicate(ack_id: int) -> tuple[str, str]:
    return ("Duplicate", f"Message with ack-id: {ack_id} has been processed")
