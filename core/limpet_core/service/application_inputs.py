"""What an application server does with the connections of a service: it sends, changes groups, and closes."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

from limpet_core.protocol.close import Close
from limpet_core.protocol.names import hub_identity
from limpet_core.service import closes
from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.hub import Hub
from limpet_core.service.connections.observers import Observers
from limpet_core.service.connections.registry import Registry
from limpet_core.service.odata.filters import Filter, select
from limpet_core.service.wire.to_client import Publication


class ApplicationInputs:
    """The part of :class:`ServiceCore` for application servers: connections, and what is done with them."""

    def __init__(self, registry: Registry, observers: Observers) -> None:
        self.observers: Observers = observers
        self._registry = registry

    # ---- State

    @property
    def hubs(self) -> Collection[Hub]:
        """The hubs that have connections. Do not change the service while you iterate."""
        return self._registry.hubs

    def hub(self, name: str) -> Hub:
        """Return a hub, perhaps without connections (Azure docs)."""
        return self._registry.hub(name)

    def connection(self, connection_id: str) -> Connection | None:
        """Return a connection, attached or detached; ``None`` if there is none with this id."""
        return self._registry.connections.get(connection_id)

    @property
    def connection_count(self) -> int:
        """The number of connections at all hubs, attached or detached."""
        return len(self._registry.connections)

    # ---- Messages

    def send_to_all(
        self, hub: str, publication: Publication, where: Filter | None = None, excluded: Collection[str] = ()
    ) -> None:
        """Send a message to the connections of a hub that match a filter and whose ids are not excluded."""
        self._send(hub, "hub", "", self.hub(hub).connections.values(), publication, where, excluded)

    def send_to_group(
        self,
        hub: str,
        group: str,
        publication: Publication,
        where: Filter | None = None,
        excluded: Collection[str] = (),
    ) -> None:
        """Send a message to members of a group, selected as by :meth:`send_to_all`."""
        self._send(hub, "group", group, self.hub(hub).members(group), publication, where, excluded)

    def send_to_user(
        self,
        hub: str,
        user_id: str,
        publication: Publication,
        where: Filter | None = None,
        excluded: Collection[str] = (),
    ) -> None:
        """Send a message to connections of a user, selected as by :meth:`send_to_all`."""
        self._send(hub, "user", user_id, self.hub(hub).user(user_id), publication, where, excluded)

    def send_to_connection(self, connection_id: str, publication: Publication) -> None:
        """Send a message to a connection, if it exists."""
        connection = self._registry.connections.get(connection_id)
        if connection is not None:
            self._send(connection.hub, "connection", connection_id, (connection,), publication, None, ())

    def _send(
        self,
        hub: str,
        to: Literal["hub", "group", "user", "connection"],
        name: str,
        receivers: Collection[Connection],
        publication: Publication,
        where: Filter | None,
        excluded: Collection[str],
    ) -> None:
        if where is not None or excluded:
            receivers = select(receivers, where, excluded)
        observers = self.observers
        if observers:
            totals = observers.totals
            totals.published += 1
            totals.delivered += len(receivers)
            if not observers.is_brief or len(observers) > 1:  # else it is counted only: see Observers
                observers.server_published(hub_identity(hub), to, name, publication, len(receivers))
        if to == "group" and where is None and not excluded:
            self._registry.deliver_to_group(self.hub(hub), name, publication)
        else:
            self._registry.deliver(receivers, publication)

    # ---- Groups and ends

    def join(self, connection: Connection, group: str) -> None:
        """Make a connection a member of a group, whatever its permissions.

        Does nothing if the connection is a member already (emulator).
        """
        self._registry.join(connection, group)

    def leave(self, connection: Connection, group: str) -> None:
        """End the membership of a connection in a group. Does nothing for other connections (emulator)."""
        self._registry.leave(connection, group)

    def close_connection(self, connection_id: str, reason: str) -> None:
        """End a connection, if it exists, for the application server (client-spec 1.3).

        The disconnected message and the disconnected event have a fixed sentence, with the ``reason`` behind it unless
        it is empty. The close code is 1000, without a reason (emulator).
        """
        connection = self._registry.connections.get(connection_id)
        if connection is not None:
            self._dismiss(connection, Close(1000), closes.by_application(reason))

    def drop(self, connection_id: str, *, for_good: bool = False) -> bool:
        """Cut the transport of a connection without a close frame, as networks do; return whether there was one.

        ``for_good``: end the connection as well, so that its recovery is refused.
        """
        connection = self._registry.connections.get(connection_id)
        if connection is None:
            return False
        transport = connection.transport
        if for_good:
            self._registry.end(connection, closes.DROPPED, discard=True)
        elif transport is not None:
            transport.end(closes.DROPPED, discard=True)
        return transport is not None

    def _dismiss(self, connection: Connection, close: Close, reason: str) -> None:
        if connection.transport is not None and connection.raw is None:
            # Best effort: left out if the transport has no room.
            connection.transport.send(connection.codec.disconnected(reason))
        self._registry.end(connection, close, told=reason)
