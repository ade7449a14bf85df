"""The service as a state machine: connections come, speak, drop, recover and end."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Final

from . import downstream
from .connection import ABNORMAL, Close, Connection, Limits, Transport
from .downstream import Publication
from .hub import Hub
from .names import hub_identity
from .observers import Observers
from .tokens import ClientGrant
from .upstream import (
    Event,
    JoinGroup,
    LeaveGroup,
    Ping,
    ProtocolViolation,
    SendToGroup,
    SequenceAck,
    UpstreamMessage,
    decode,
)

__all__ = ["ServiceCore"]

# Closes by the client, or of a broken client, after which there is nothing to recover (emulator).
_TERMINAL_CODES: Final = frozenset({1000, 1002, 1003, 1007, 1009})

_REFUSED: Final = Close(1008, "The connection cannot be recovered. Make a new one.")
_TOO_SLOW: Final = Close(1008, "Too many messages are unacknowledged or unsent. Make a new connection.")
_NOT_RECOVERED: Final = Close(ABNORMAL, "It was not recovered in time.")
_REPLACED: Final = Close(ABNORMAL, "Replaced by a newer transport.")


class ServiceCore:
    """All hubs of one service, without IO, clock or chance.

    **The rule: after any call carry out `transports_with_output`, and call `wake` at `deadline`.**

    Args:
        limits: sizes, counts and times.
        new_connection_id: returns an id that was never used before.
        issue_reconnection_token: returns a token for recovering the connection with the given id.
        check_reconnection_token: tells whether a token (first) entitles to a connection id (second).

    ``observers`` are told everything that happens: append a function to watch (see `TraceEvent`).

    Times are monotonic seconds and never go back. Calls about a transport that was closed or replaced do
    nothing. Nothing a client sends raises.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        new_connection_id: Callable[[], str],
        issue_reconnection_token: Callable[[str], str],
        check_reconnection_token: Callable[[str, str], bool],
    ) -> None:
        self.limits = limits
        self.observers: Observers = Observers()
        self._new_connection_id = new_connection_id
        self._issue_token = issue_reconnection_token
        self._check_token = check_reconnection_token
        self._hubs: dict[str, Hub] = {}
        self._connections: dict[str, Connection] = {}
        # The window is the same for all, so the order of dropping is the order of ending.
        self._detached: OrderedDict[Connection, None] = OrderedDict()
        self._ready: list[Transport] = []
        self._deadline = math.inf

    # --- What is true -----------------------------------------------------------------------------

    @property
    def deadline(self) -> float:
        """When to call `wake`, in monotonic seconds; `math.inf`: nothing is due."""
        return self._deadline

    @property
    def hubs(self) -> Collection[Hub]:
        """All hubs that were ever named. Name no new one while you go through them."""
        return self._hubs.values()

    def hub(self, name: str) -> Hub:
        """Return a hub; hubs spring into existence when they are named (Azure docs)."""
        identity = hub_identity(name)
        hub = self._hubs.get(identity)
        if hub is None:
            hub = self._hubs[identity] = Hub(identity)
        return hub

    def connection(self, connection_id: str) -> Connection | None:
        """Return the living connection, attached or not, with this id."""
        return self._connections.get(connection_id)

    # --- What happened ----------------------------------------------------------------------------

    def connect(self, hub: str, subprotocol: str, grant: ClientGrant, now: float) -> Transport:
        """Open a new connection; its first message says connected (client-spec 1.2)."""
        connection = Connection(hub_identity(hub), self._new_connection_id(), subprotocol, grant, self.limits)
        self._connections[connection.connection_id] = connection
        entered = self.hub(hub)
        entered.add(connection)
        for group in grant.groups:
            entered.join(connection, group)
        transport = connection.transport = Transport(self._ready, self.limits, connection)
        self.observers.opened(connection)
        self._send(connection, self._connected_message(connection))
        return transport

    def recover(self, hub: str, connection_id: str, reconnection_token: str, now: float) -> Transport:
        """Attach a new transport to a connection and send again what was not acknowledged (client-spec 1.4).

        A transport still attached is replaced (emulator). If the token is wrong, the connection unknown, over
        or not reliable, the returned transport has no ``connection`` and an order to close with 1008.
        """
        self.wake(now)
        connection = self._connections.get(connection_id)
        if (
            connection is None
            or not connection.reliable
            or connection.hub != hub_identity(hub)
            or not self._check_token(reconnection_token, connection_id)
        ):
            self.observers.recovery_refused(hub_identity(hub), connection_id)
            refused = Transport(self._ready, self.limits, None)
            refused.end(_REFUSED)
            return refused
        replaced = connection.transport
        if replaced is not None:
            replaced.end(_REPLACED, discard=True)
        self._detached.pop(connection, None)
        connection.deadline = math.inf
        self._update_deadline()
        transport = connection.transport = Transport(self._ready, self.limits, connection)
        if self.limits.connected_after_recovery:
            self._send(connection, self._connected_message(connection))
        messages = connection.unacknowledged(now)
        self.observers.recovered(connection, len(messages), replaced is not None)
        transport.replay(messages)
        return transport

    def receive(self, transport: Transport, data: str | bytes, now: float) -> None:
        """Take one message from a client: text, or JSON in a binary frame (Azure docs)."""
        connection = transport.connection
        if connection is None or connection.transport is not transport:
            return
        try:
            # A lone surrogate cannot come from a WebSocket, but from other callers.
            encoded = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
            if len(encoded) > self.limits.max_message_size:
                raise ProtocolViolation(f"a message has at most {self.limits.max_message_size} bytes", 1009)
            message = decode(encoded)
        except ProtocolViolation as violation:
            self._end(connection, Close.because(violation.code, violation.reason))
        else:
            self._handle(connection, message, now)

    def disconnected(self, transport: Transport, code: int, now: float) -> None:
        """Note the end of a transport, with the close code received or sent, 1006 if there was none.

        A reliable connection is kept for the recovery window unless the code is final (emulator).
        """
        connection = transport.connection
        if connection is None or connection.transport is not transport:
            return
        if not connection.reliable or code in _TERMINAL_CODES:
            self._end(connection, None, why=Close(code))
            return
        self.observers.dropped(connection, code, self.limits.recovery_window)
        connection.transport = None
        connection.deadline = now + self.limits.recovery_window
        self._detached[connection] = None
        self._update_deadline()

    def wake(self, now: float) -> None:
        """End the connections whose recovery window is over."""
        while self._detached and self._deadline <= now:
            self._end(next(iter(self._detached)), None, why=_NOT_RECOVERED)

    # --- What the application server wants --------------------------------------------------------

    def send_to_all(self, hub: str, publication: Publication) -> None:
        """Send a message to all connections of a hub."""
        receivers = self.hub(hub).connections.values()
        self.observers.server_published(hub_identity(hub), "hub", "", publication, len(receivers))
        self._deliver(receivers, publication)

    def send_to_group(self, hub: str, group: str, publication: Publication) -> None:
        """Send a message to the members of a group."""
        receivers = self.hub(hub).members(group)
        self.observers.server_published(hub_identity(hub), "group", group, publication, len(receivers))
        self._deliver(receivers, publication)

    def send_to_user(self, hub: str, user_id: str, publication: Publication) -> None:
        """Send a message to all connections of a user."""
        receivers = self.hub(hub).user(user_id)
        self.observers.server_published(hub_identity(hub), "user", user_id, publication, len(receivers))
        self._deliver(receivers, publication)

    def send_to_connection(self, connection_id: str, publication: Publication) -> None:
        """Send a message to one connection, if it exists."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            self.observers.server_published(connection.hub, "connection", connection_id, publication, 1)
            self._deliver((connection,), publication)

    def close_connection(self, connection_id: str, reason: str) -> None:
        """End a connection, if it exists: disconnected message, then close 1000 (client-spec 1.3)."""
        connection = self._connections.get(connection_id)
        if connection is not None:
            if connection.transport is not None:
                # Best effort: it is left out where there is no room for it.
                connection.transport.send(downstream.disconnected(reason))
            self._end(connection, Close.because(1000, reason))

    def shut_down(self) -> None:
        """End all connections with close 1001; the service may be used again."""
        for connection in list(self._connections.values()):
            self._end(connection, Close(1001, "The service is shutting down."))
        self.observers.shut_down()

    # --- What to do -------------------------------------------------------------------------------

    def transports_with_output(self) -> list[Transport]:
        """Return the transports that got something to send or an order to close since the last call."""
        ready = self._ready
        if not ready:
            return []
        # The transports share the list, so it is emptied in place.
        transports = ready.copy()
        ready.clear()
        for transport in transports:
            transport.ready = False
        return transports

    # --- Requests ---------------------------------------------------------------------------------

    def _handle(self, connection: Connection, message: UpstreamMessage, now: float) -> None:
        if isinstance(message, Ping):
            self._send(connection, downstream.PONG)
            return
        if isinstance(message, SequenceAck):
            connection.acknowledge(message.sequence_id)
            if self.observers:
                self.observers.sequence_acked(connection, message.sequence_id)
            return
        ack_id = message.ack_id
        error: tuple[str, str] | None
        if ack_id is not None and connection.has_succeeded(ack_id):
            error = ("Duplicate", f"Message with ack-id: {ack_id} has been processed")
        elif isinstance(message, SendToGroup):
            error = self._publish(connection, message, now)
        elif isinstance(message, Event):
            self.observers.raised(connection, message)
            error = ("InternalServerError", f"There is no handler for the event '{message.event}'.")
        else:
            error = self._change_membership(connection, message)
        if self.observers:
            self.observers.answered(connection, ack_id, error)
        if ack_id is None:
            return
        if error is None:
            connection.remember(ack_id)
            self._send(connection, downstream.ack(ack_id))
        else:
            self._send(connection, downstream.ack_error(ack_id, *error))

    def _publish(self, connection: Connection, message: SendToGroup, now: float) -> tuple[str, str] | None:
        group = message.group
        if not connection.permissions.send.allows(group):
            return ("Forbidden", f"The client does not have permission to send to group '{group}'.")
        members = self.hub(connection.hub).members(group)
        if self.observers:
            self.observers.published(connection, message, members)
        if members:
            ttl = message.ttl_seconds
            publication = downstream.group_publication(
                group,
                connection.user_id,
                message.data_type,
                bytes(message.data),
                bytes(message.metadata),
                now + ttl if ttl else math.inf,
            )
            self._deliver(members, publication, connection if message.no_echo else None)
        return None

    def _change_membership(self, connection: Connection, message: JoinGroup | LeaveGroup) -> tuple[str, str] | None:
        group = message.group
        joins = isinstance(message, JoinGroup)
        if not connection.permissions.join_leave.allows(group):
            verb = "join" if joins else "leave"
            return ("Forbidden", f"The client does not have permission to {verb} group '{group}'.")
        hub = self.hub(connection.hub)
        if joins:
            hub.join(connection, group)
            self.observers.joined(connection, group)
        else:
            hub.leave(connection, group)
            self.observers.left(connection, group)
        return None

    # --- Delivery and ends ------------------------------------------------------------------------

    def _connected_message(self, connection: Connection) -> bytes:
        token = self._issue_token(connection.connection_id) if connection.reliable else None
        return downstream.connected(connection.connection_id, connection.user_id, token)

    def _deliver(
        self, receivers: Iterable[Connection], publication: Publication, left_out: Connection | None = None
    ) -> None:
        overflowing = [
            connection for connection in receivers if connection is not left_out and not connection.deliver(publication)
        ]
        # Ending a connection changes the very group that is being served: only now.
        for connection in overflowing:
            self._end(connection, _TOO_SLOW, discard=True)

    def _send(self, connection: Connection, message: bytes) -> None:
        transport = connection.transport
        if transport is not None and not transport.send(message):
            self._end(connection, _TOO_SLOW, discard=True)

    def _end(
        self, connection: Connection, close: Close | None, *, discard: bool = False, why: Close | None = None
    ) -> None:
        """End a connection; where there is nothing to ``close``, ``why`` is what the observers are told."""
        del self._connections[connection.connection_id]
        self.hub(connection.hub).remove(connection)
        transport = connection.transport
        connection.transport = None
        if transport is not None and close is not None:
            transport.end(close, discard=discard)
        if connection in self._detached:
            del self._detached[connection]
            self._update_deadline()
        cause = close or why
        if cause is not None:
            self.observers.closed(connection, cause)

    def _update_deadline(self) -> None:
        first = next(iter(self._detached), None)
        self._deadline = math.inf if first is None else first.deadline
