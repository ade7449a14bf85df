"""The operations of the data plane that change or send something, as values: they can be carried out elsewhere, later.

Names and payloads are checked when a value is made (:mod:`limpet_core.service.data_plane.parameters`).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import lru_cache
from typing import Annotated, Literal, TypeAlias

import msgspec

from limpet_core.service.connections.connection import Connection
from limpet_core.service.core import ServiceCore
from limpet_core.service.data_plane import operations
from limpet_core.service.odata.filters import Filter, select
from limpet_core.service.wire.to_client import Publication, group_publication, server_publication

Target: TypeAlias = Literal["hub", "group", "user", "connection"]
"""Who is meant: all connections of a hub, the members of a group, the connections of a user, or one connection."""


class Message(msgspec.Struct, frozen=True, array_like=True):
    """A message of the application server; ``data`` and ``metadata`` (empty: none) are JSON.

    Attributes:
        time_to_live: seconds after which an undelivered copy is dropped; 0: never.
    """

    data_type: str
    data: bytes
    metadata: bytes = b""
    time_to_live: Annotated[int, msgspec.Meta(ge=0)] = 0

    def publication(self, group: str | None, now: float) -> Publication:
        """Return the message to send: to ``group``, or as one of the server."""
        expires = now + self.time_to_live if self.time_to_live else math.inf
        if group is None:
            return server_publication(self.data_type, self.data, self.metadata, expires)
        return group_publication(group, None, self.data_type, self.data, self.metadata, expires)


class _Write(msgspec.Struct, frozen=True, array_like=True):
    hub: str


class Send(_Write, frozen=True, array_like=True, tag=1):
    """Send a message; ``name`` is that of the group, the user id or the connection id."""

    to: Target
    name: str
    message: Message
    where: str | None = None
    excluded: tuple[str, ...] = ()

    def carry_out(self, core: ServiceCore, now: float) -> None:
        publication = self.message.publication(self.name if self.to == "group" else None, now)
        where = None if self.where is None else _filter(self.where)
        if self.to == "hub":
            core.send_to_all(self.hub, publication, where, frozenset(self.excluded))
        elif self.to == "group":
            core.send_to_group(self.hub, self.name, publication, where, frozenset(self.excluded))
        elif self.to == "user":
            core.send_to_user(self.hub, self.name, publication, where, frozenset(self.excluded))
        elif operations.find(core, self.hub, self.name):
            core.send_to_connection(self.name, publication)


class Close(_Write, frozen=True, array_like=True, tag=2):
    """End connections; each gets the reason."""

    to: Target
    name: str
    reason: str | None = None
    excluded: tuple[str, ...] = ()

    def carry_out(self, core: ServiceCore, now: float) -> None:
        operations.close(core, _connections(core, self.hub, self.to, self.name), self.reason, frozenset(self.excluded))


class AddToGroup(_Write, frozen=True, array_like=True, tag=3):
    """Make a connection, or the present connections of a user, members of a group."""

    to: Literal["user", "connection"]
    name: str
    group: str

    def carry_out(self, core: ServiceCore, now: float) -> None:
        add = operations.add_user_to_group if self.to == "user" else operations.add_connection_to_group
        add(core, self.hub, self.name, self.group)


class RemoveFromGroups(_Write, frozen=True, array_like=True, tag=4):
    """End the memberships of a connection, or of a user; without ``groups`` all of them."""

    to: Literal["user", "connection"]
    name: str
    groups: tuple[str, ...] = ()

    def carry_out(self, core: ServiceCore, now: float) -> None:
        operations.remove_from_groups(core, _connections(core, self.hub, self.to, self.name), self.groups or None)


class ChangeGroups(_Write, frozen=True, array_like=True, tag=5):
    """Add the connections that match a filter to groups, or remove them."""

    add: bool
    groups: tuple[str, ...]
    where: str | None = None

    def carry_out(self, core: ServiceCore, now: float) -> None:
        change = operations.add_to_groups if self.add else operations.remove_from_groups
        where = None if self.where is None else _filter(self.where)
        change(core, select(core.hub(self.hub).connections.values(), where), self.groups)


class ChangePermission(_Write, frozen=True, array_like=True, tag=6):
    """Grant a connection a permission for a group, or revoke it."""

    grant: bool
    permission: str
    connection_id: str
    group: str

    def carry_out(self, core: ServiceCore, now: float) -> None:
        change = operations.grant if self.grant else operations.revoke
        change(core, self.hub, self.permission, self.connection_id, self.group)


Write: TypeAlias = Send | Close | AddToGroup | RemoveFromGroups | ChangeGroups | ChangePermission
"""Any of these operations: call ``carry_out(core, now)``, which raises OperationError for one that is refused."""


@lru_cache(maxsize=256)
def _filter(text: str) -> Filter:
    return Filter(text)


def _connections(core: ServiceCore, hub: str, to: Target, name: str) -> Collection[Connection]:
    if to == "hub":
        return core.hub(hub).connections.values()
    if to == "group":
        return core.hub(hub).members(name)
    return core.hub(hub).user(name) if to == "user" else operations.find(core, hub, name)
