"""Who is connected: hubs, connections and their transports, how messages reach them and how they end."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Final, Protocol
from weakref import WeakValueDictionary

from limpet_core.protocol.close import NO_CLOSE_FRAME, Close
from limpet_core.protocol.names import hub_identity
from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.connections.connection import Connection, Limits, Transport
from limpet_core.service.connections.hub import Hub
from limpet_core.service.connections.observers import Observers
from limpet_core.service.webhooks.handler_context import HandlerContext
from limpet_core.service.wire import to_client
from limpet_core.service.wire.to_client import Publication

__all__ = ["Registry"]

_TOO_SLOW: Final = Close(1008, "Too many messages are unacknowledged or unsent. Make a new connection.")


class ConnectionListener(Protocol):
    """Is told of connections that have a context at event handlers, when they begin and end: the application server."""

    def came(self, context: HandlerContext, subprotocol: str) -> None:
        """Tell of a new connection."""
        ...

    def went(self, context: HandlerContext, reason: str, *, finish: bool) -> None:
        """Tell of the end of a connection, after all that it has sent before is done (``finish``) or dropped."""
        ...


class Registry:
    """All living connections of a service.

    The listener and the observers are told of connections that begin and end. ``window_deadline`` is when the
    recovery window of a connection is over, in monotonic seconds, `math.inf` if none is detached.
    """

    def __init__(
        self, limits: Limits, listener: ConnectionListener, observers: Observers, issue_token: Callable[[str], str]
    ) -> None:
        self.limits: Limits = limits
        self.connections: dict[str, Connection] = {}
        self.window_deadline: float = math.inf
        self._listener = listener
        self._observers = observers
        self._issue_token = issue_token
        self._hubs: dict[str, Hub] = {}
        # Whoever asks for a hub may keep it until clients come; one that nobody keeps is gone.
        self._named: WeakValueDictionary[str, Hub] = WeakValueDictionary()
        # The window is the same for all, so the order of dropping is the order of ending.
        self._detached: OrderedDict[Connection, None] = OrderedDict()
        self._ready: list[Transport] = []

    # --- What is true -----------------------------------------------------------------------------

    @property
    def hubs(self) -> Collection[Hub]:
        """The hubs that have connections."""
        return self._hubs.values()

    def hub(self, name: str) -> Hub:
        """Return a hub; it is empty before the first connection (Azure docs)."""
        identity = hub_identity(name)
        hub = self._hubs.get(identity) or self._named.get(identity)
        if hub is None:
            hub = self._named[identity] = Hub(identity)
        return hub

    def is_alive(self, connection: Connection) -> bool:
        """Tell whether a connection is not over."""
        return self.connections.get(connection.connection_id) is connection

    # --- Beginnings and ends ----------------------------------------------------------------------

    def open(self, connection: Connection, grant: ClientGrant) -> Transport:
        """Enter a new connection, with its groups and its first transport."""
        self.connections[connection.connection_id] = connection
        hub = self._hubs[connection.hub] = self.hub(connection.hub)
        hub.add(connection)
        for group in grant.groups:
            hub.join(connection, group)
        transport = connection.transport = Transport(self._ready, self.limits, connection)
        self._observers.opened(connection)
        if connection.raw is None:
            self.send(connection, self._connected_message(connection))
        if connection.context is not None:
            self._listener.came(connection.context, connection.subprotocol or "")
        return transport

    def detach(self, connection: Connection, now: float) -> None:
        """Keep a connection without a transport for the recovery window."""
        connection.transport = None
        connection.deadline = now + self.limits.recovery_window
        self._detached[connection] = None
        self._update_deadline()

    def attach(self, connection: Connection, now: float) -> Transport:
        """Give a connection a new transport, and send again what was not acknowledged (client-spec 1.4)."""
        replaced = connection not in self._detached
        self._detached.pop(connection, None)
        connection.deadline = math.inf
        self._update_deadline()
        transport = connection.transport = Transport(self._ready, self.limits, connection)
        if self.limits.connected_after_recovery:
            self.send(connection, self._connected_message(connection))
        messages = connection.unacknowledged(now)
        self._observers.recovered(connection, len(messages), replaced)
        transport.replay(messages)
        return transport

    def refuse(self, close: Close) -> Transport:
        """Return a transport of no connection, with an order to close."""
        transport = Transport(self._ready, self.limits, None)
        transport.end(close)
        return transport

    def expire(self, now: float) -> None:
        """End the connections whose recovery window is over."""
        while self._detached and self.window_deadline <= now:
            self.end(next(iter(self._detached)), None, "The client did not come back in time.")

    def end(
        self,
        connection: Connection,
        close: Close | None,
        reason: str = "",
        *,
        code: int = NO_CLOSE_FRAME,
        discard: bool = False,
    ) -> None:
        """End a connection for good.

        Args:
            connection: a living one.
            close: how the service closes the transport; ``None`` if it was the client that left.
            reason: why the client left.
            code: the close code with which it left, if it did.
            discard: drop what is queued for the client.
        """
        del self.connections[connection.connection_id]
        hub = self._hubs[connection.hub]
        hub.remove(connection)
        if not hub.connections:
            del self._hubs[connection.hub]
        transport = connection.transport
        connection.transport = None
        if transport is not None and close is not None:
            transport.end(close, discard=discard)
        if connection in self._detached:
            del self._detached[connection]
            self._update_deadline()
        self._observers.closed(connection, close or Close(code, reason))
        context = connection.context
        if context is None:
            return
        if close is None:
            # What the client has sent before it left still counts.
            self._listener.went(context, reason, finish=True)
        else:
            self._listener.went(context, close.reason, finish=False)

    # --- Groups -----------------------------------------------------------------------------------

    def join(self, connection: Connection, group: str) -> None:
        """Make a living connection a member of a group; it is no error if it is one already."""
        if group not in connection.groups:
            self._hubs[connection.hub].join(connection, group)
            self._observers.joined(connection, group)

    def leave(self, connection: Connection, group: str) -> None:
        """End a membership of a living connection; it is no error if there is none."""
        if group in connection.groups:
            self._hubs[connection.hub].leave(connection, group)
            self._observers.left(connection, group)

    # --- Messages ---------------------------------------------------------------------------------

    def deliver(
        self, receivers: Iterable[Connection], publication: Publication, left_out: Connection | None = None
    ) -> None:
        """Send a message to all receivers but one; those with no room for it end (client-spec 3.2.2)."""
        overflowing = [
            connection for connection in receivers if connection is not left_out and not connection.deliver(publication)
        ]
        # Ending a connection changes the very group that is being served: only now.
        for connection in overflowing:
            self.end(connection, _TOO_SLOW, discard=True)

    def send(self, connection: Connection, message: bytes) -> None:
        """Send a message without a sequence id; if there is no room for it, the connection ends."""
        transport = connection.transport
        if transport is not None and not transport.send(message):
            self.end(connection, _TOO_SLOW, discard=True)

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

    def _connected_message(self, connection: Connection) -> bytes:
        token = self._issue_token(connection.connection_id) if connection.reliable else None
        return to_client.connected(connection.connection_id, connection.user_id, token)

    def _update_deadline(self) -> None:
        first = next(iter(self._detached), None)
        self.window_deadline = math.inf if first is None else first.deadline
