"""The registry: all hubs and connections, their transports, delivery, and the ends of connections."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable
from typing import Protocol
from weakref import WeakValueDictionary

from limpet_core.protocol.close import Close
from limpet_core.protocol.names import hub_identity
from limpet_core.service import closes
from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.behaviour import BEHAVIOUR
from limpet_core.service.connections.connection import Attachment, Connection
from limpet_core.service.connections.hub import Hub
from limpet_core.service.connections.limits import Limits
from limpet_core.service.connections.observers import Observers
from limpet_core.service.connections.transport import Transport
from limpet_core.service.wire.to_client import Publication


class ConnectionListener(Protocol):
    """Is called when a connection begins and when it ends."""

    def opened(self, connection: Connection) -> None:
        """Handle a new connection, which has the groups of its grant already."""
        ...

    def closed(self, connection: Connection, close: Close, *, by_client: bool) -> None:
        """Handle the end of a connection, with the close code and reason; ``by_client``: the client left."""
        ...


class Registry:
    """All connections of a service that are not over, attached or detached.

    Attributes:
        limits: sizes, counts and times.
        behaviour: the version of the service's behaviour that is active, see :mod:`limpet_core.service.behaviour`.
        backlogs_from: members of a group from which on its messages are kept once for those that nothing is sent to
            here, at other nodes; ``None``: there is one node.
        outbox_limits: those of the outbox of a transport; ``None``: somebody else watches its size.
        connections: by connection id.
        window_deadline: when the next recovery window ends, in monotonic seconds; ``math.inf``: nothing is detached.
    """

    def __init__(
        self, limits: Limits, application: ConnectionListener, observers: Observers, issue_token: Callable[[str], str]
    ) -> None:
        self.limits: Limits = limits
        self.behaviour: int = BEHAVIOUR
        self.backlogs_from: int | None = None
        self.outbox_limits: Limits | None = limits
        self.connections: dict[str, Connection] = {}
        self.window_deadline: float = math.inf
        self._observers = observers
        self._listeners: list[ConnectionListener] = [observers, application]
        self._on_leave: list[Callable[[Connection, str], None]] = []
        self._issue_token = issue_token
        self._hubs: dict[str, Hub] = {}
        # An application may hold a hub without connections; connections that come later belong to the same object.
        self._named: WeakValueDictionary[str, Hub] = WeakValueDictionary()
        # The window is the same for all, so connections end in the order in which they were detached.
        self._detached: OrderedDict[Connection, None] = OrderedDict()
        self._ready: list[Transport] = []

    def listen(self, listener: ConnectionListener) -> None:
        """Tell one more listener of the beginnings and ends of connections, after the others."""
        self._listeners.append(listener)

    def on_leave(self, function: Callable[[Connection, str], None]) -> None:
        """Call a function when a connection that is not over has left a group."""
        self._on_leave.append(function)

    # ---- What is true

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

    @property
    def detached(self) -> Collection[Connection]:
        """The connections without an attachment, in the order in which they end; to be read before the next change."""
        return self._detached

    def restore(self, hubs: Iterable[Hub], connections: Iterable[Connection], detached: Iterable[Connection]) -> None:
        """Have the connections of a snapshot, which the hubs have already. Nobody is told."""
        self._hubs = {hub.name: hub for hub in hubs}
        self.connections = {connection.connection_id: connection for connection in connections}
        self._detached = OrderedDict.fromkeys(detached)
        self._update_deadline()

    def forget(self) -> None:
        """Drop all connections, without an end that anybody is told of; objects of hubs that others hold are empty."""
        for hub in self._hubs.values():
            hub.restore((), (), {})
        self.restore((), (), ())

    def is_alive(self, connection: Connection) -> bool:
        """Return whether a connection is not over."""
        return self.connections.get(connection.connection_id) is connection

    # ---- Beginnings and ends

    def transport(self, connection: Connection | None) -> Transport:
        """Return a transport for a connection, to be attached; without a connection, to be refused."""
        return Transport(self._ready, self.outbox_limits, connection)

    def open(self, connection: Connection, grant: ClientGrant, attachment: Attachment) -> None:
        """Add a new connection, with its groups and its first attachment."""
        self.connections[connection.connection_id] = connection
        hub = self._hubs[connection.hub] = self.hub(connection.hub)
        hub.add(connection)
        for group in grant.groups:
            hub.join(connection, group)
        connection.attach(attachment)
        for listener in self._listeners:
            listener.opened(connection)
        if connection.raw is None:
            self._send_connected(connection)

    def detach(self, connection: Connection, now: float) -> None:
        """Keep a connection without an attachment for the recovery window."""
        connection.detach()
        connection.deadline = now + self.limits.recovery_window
        self._detached[connection] = None
        self._update_deadline()

    def attach(self, connection: Connection, attachment: Attachment, now: float) -> None:
        """Give a connection another attachment, and send the unacknowledged messages again (client-spec 1.4)."""
        replaced = connection not in self._detached
        self._detached.pop(connection, None)
        connection.deadline = math.inf
        self._update_deadline()
        connection.attach(attachment)
        if self.limits.connected_after_recovery:
            self._send_connected(connection)
        frames = connection.unacknowledged(now)
        self._observers.recovered(connection, len(frames), replaced)
        if isinstance(attachment, Transport):
            attachment.replay(frames, connection.sequence_id)

    def refuse(self, close: Close) -> Transport:
        """Return a transport without a connection, which has the order to close."""
        transport = self.transport(None)
        transport.end(close)
        return transport

    def expire(self, now: float) -> None:
        """End the connections whose recovery window is over."""
        while self._detached and self.window_deadline <= now:
            self.ended(next(iter(self._detached)), closes.EXPIRED)

    def end(self, connection: Connection, close: Close, *, told: str = "", discard: bool = False) -> None:
        """End a connection that is not over, for good.

        Args:
            connection: the connection.
            close: how to close its transport. The reason may be longer than a close frame holds: the client gets the
                beginning.
            told: what the listeners get in place of the reason of ``close``.
            discard: drop the messages queued for the client.
        """
        if connection.transport is not None:
            connection.transport.end(Close.because(close.code, close.reason), discard=discard)
        self._remove(connection, Close(close.code, told or close.reason), by_client=False)

    def ended(self, connection: Connection, close: Close) -> None:
        """Handle that the client, or the network, has ended a connection for good, with this close code and reason."""
        self._remove(connection, close, by_client=True)

    def _remove(self, connection: Connection, close: Close, *, by_client: bool) -> None:
        del self.connections[connection.connection_id]
        hub = self._hubs[connection.hub]
        hub.remove(connection)
        if not hub.connections:
            del self._hubs[connection.hub]
        connection.detach()
        if connection in self._detached:
            del self._detached[connection]
            connection.deadline = math.inf
            self._update_deadline()
        for listener in self._listeners:
            listener.closed(connection, close, by_client=by_client)

    # ---- Groups

    def join(self, connection: Connection, group: str) -> None:
        """Make a connection that is not over a member of a group. Does nothing if it is a member already."""
        if group not in connection.groups:
            self._hubs[connection.hub].join(connection, group)
            self._observers.joined(connection, group)

    def leave(self, connection: Connection, group: str) -> None:
        """End a membership of a connection that is not over. Does nothing if it is no member."""
        if group in connection.groups:
            self._hubs[connection.hub].leave(connection, group)
            self._observers.left(connection, group)
            for function in self._on_leave:
                function(connection, group)

    # ---- Messages

    def deliver_to_group(
        self, hub: Hub, group: str, publication: Publication, left_out: Connection | None = None
    ) -> None:
        """Send a message to all members of a group but ``left_out``, as :meth:`deliver` does."""
        members = hub.members(group)
        receivers: Iterable[Connection] = members
        if self.backlogs_from is not None and len(members) >= self.backlogs_from:
            receivers = hub.share(group, publication, left_out)
        self.deliver(receivers, publication, left_out)

    def deliver(
        self, receivers: Iterable[Connection], publication: Publication, left_out: Connection | None = None
    ) -> None:
        """Send a message to all receivers but ``left_out``; a receiver without room for it ends (client-spec 3.2.2)."""
        overflowing = [
            connection for connection in receivers if connection is not left_out and not connection.deliver(publication)
        ]
        # After the loop, since ending a connection changes the group that is iterated over.
        for connection in overflowing:
            # The end of one may end others: members are told that its streams are over.
            if self.is_alive(connection):
                close = closes.UNACKNOWLEDGED if connection.reliable else closes.TOO_SLOW
                self.end(connection, close, discard=True)

    def send(self, connection: Connection, message: bytes) -> None:
        """Send a message without a sequence id; without room for it the connection ends."""
        transport = connection.transport
        if transport is not None and not transport.send(message):
            self.end(connection, closes.TOO_SLOW, discard=True)

    @property
    def has_output(self) -> bool:
        """Whether :meth:`transports_with_output` has any."""
        return bool(self._ready)

    def transports_with_output(self) -> list[Transport]:
        """Return the transports with new messages or an order to close since the last call."""
        ready = self._ready
        if not ready:
            return []
        # The transports share the list, so clear it in place.
        transports = ready.copy()
        ready.clear()
        for transport in transports:
            transport.ready = False
        return transports

    def _send_connected(self, connection: Connection) -> None:
        if connection.transport is None:
            return  # at another node, which signs the token
        token = self._issue_token(connection.connection_id) if connection.reliable else None
        self.send(connection, connection.codec.connected(connection.connection_id, connection.user_id, token))

    def _update_deadline(self) -> None:
        first = next(iter(self._detached), None)
        self.window_deadline = math.inf if first is None else first.deadline
