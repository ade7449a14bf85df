"""The operations of the data plane (openapi) on a :class:`ServiceCore`.

Detached connections count like attached ones. Sending and closing is never an error, also without receivers.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from limpet_core.protocol.names import hub_identity
from limpet_core.service.access.permissions import GroupRules, Permissions
from limpet_core.service.connections.connection import Connection
from limpet_core.service.core import ServiceCore
from limpet_core.service.data_plane.parameters import OperationError, bad_request
from limpet_core.service.odata.filters import select
from limpet_core.text import one_line

__all__ = [
    "MAX_PAGE",
    "Page",
    "add_connection_to_group",
    "add_to_groups",
    "add_user_to_group",
    "check_exists",
    "check_permission",
    "close",
    "find",
    "grant",
    "has_permission",
    "list_group",
    "remove_from_groups",
    "revoke",
]

MAX_PAGE: Final = 200
_MAX_TOKEN: Final = 2048
_SIGNATURE: Final = 32  # bytes

_Thing: TypeAlias = Literal["Connection", "Group", "User"]


def find(core: ServiceCore, hub: str, connection_id: str) -> list[Connection]:
    """Return a list of the connection of a hub with this id; empty if there is none."""
    connection = core.hub(hub).connections.get(connection_id)
    return [] if connection is None else [connection]


def check_exists(what: _Thing, name: str, connections: Collection[Connection]) -> None:
    """Check that the thing with this name has ``connections``: without any it is not there.

    Raises:
        OperationError: 404 if it is not.
    """
    if not connections:
        raise _not_found(f"Warning.{what}.NotExisted", what, name)


def close(
    core: ServiceCore, connections: Iterable[Connection], reason: str | None = None, excluded: Collection[str] = ()
) -> None:
    """End the connections that are not excluded; each gets the reason."""
    for connection in select(connections, None, excluded):
        core.close_connection(connection.connection_id, reason or "")


# ---- Groups


def add_connection_to_group(core: ServiceCore, hub: str, connection_id: str, group: str) -> None:
    """Make a connection a member of a group.

    Raises:
        OperationError: 404 if there is no such connection.
    """
    add_to_groups(core, [_existing(core, hub, connection_id, "Error.Connection.NotExisted")], (group,))


def add_user_to_group(core: ServiceCore, hub: str, user_id: str, group: str) -> None:
    """Make the present connections of a user members of a group.

    Raises:
        OperationError: 404 if there are none.
    """
    connections = list(core.hub(hub).user(user_id))
    if not connections:
        raise _not_found("Warning.User.NotExisted", "User", user_id, "A user is there with at least one connection.")
    add_to_groups(core, connections, (group,))


def add_to_groups(core: ServiceCore, connections: Iterable[Connection], groups: Iterable[str]) -> None:
    """Make connections members of groups, whatever their permissions."""
    for connection in connections:
        for group in groups:
            core.join(connection, group)


def remove_from_groups(
    core: ServiceCore, connections: Iterable[Connection], groups: Iterable[str] | None = None
) -> None:
    """End the memberships of connections, by default all of them."""
    for connection in list(connections):
        for group in list(connection.groups) if groups is None else groups:
            core.leave(connection, group)


@dataclass(frozen=True)
class Page:
    """A part of the members of a group, by connection id; ``next_token`` and ``top`` select the next part."""

    connections: list[Connection]
    next_token: str | None = None
    top: int | None = None


def list_group(
    core: ServiceCore, hub: str, group: str, page_size: int | None, top: int | None, token: str | None, key: bytes
) -> Page:
    """Return a page of the members of a group, from ``token`` on, at most ``top`` of them (emulator).

    Tokens are signed with ``key``, a secret of the service.

    Raises:
        OperationError: 400 for a token that was not made with this key for this group of this hub.
    """
    members = sorted(core.hub(hub).members(group), key=_connection_id)
    tokens = _PageTokens(key, hub, group)
    first = 0 if token is None else bisect_right(members, tokens.read(token), key=_connection_id)
    size = min(page_size or MAX_PAGE, MAX_PAGE if top is None else top)
    page = members[first : first + size]
    left = None if top is None else top - len(page)
    if left == 0 or first + size >= len(members):
        return Page(page)
    return Page(page, tokens.make(page[-1].connection_id), left)


def _connection_id(connection: Connection) -> str:
    return connection.connection_id


class _PageTokens:
    """Continuation tokens for the members of one group: the last connection id of a page, and a signature."""

    def __init__(self, key: bytes, hub: str, group: str) -> None:
        self._key = key
        # With its length, since a name may contain anything.
        self._scope = f"{hub_identity(hub)} {len(group)} {group}"

    def make(self, connection_id: str) -> str:
        signature = hmac.digest(self._key, (self._scope + connection_id).encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(signature + connection_id.encode()).decode()

    def read(self, token: str) -> str:
        """Return the connection id.

        Raises:
            OperationError: 400 for any other text than :meth:`make` returns.
        """
        try:
            if len(token) > _MAX_TOKEN:
                raise ValueError("too long")
            connection_id = base64.urlsafe_b64decode(token)[_SIGNATURE:].decode()
            # The text is compared, not the bytes, since some bytes have several texts.
            if not hmac.compare_digest(token.encode(), self.make(connection_id).encode()):
                raise ValueError("not signed")
        except ValueError:
            rule = (
                "It is that in the nextLink of a page of this group, from this run of the service: begin again without."
            )
            raise bad_request(f"Invalid continuationToken. {rule}", "continuationToken") from None
        return connection_id


# ---- Permissions

_PERMISSIONS: Final[dict[str, Callable[[Permissions], GroupRules]]] = {
    "sendtogroup": lambda permissions: permissions.send,
    "joinleavegroup": lambda permissions: permissions.join_leave,
}
_NUMBERED: Final = {"1": "sendtogroup", "2": "joinleavegroup"}


def grant(core: ServiceCore, hub: str, name: str, connection_id: str, group: str) -> None:
    """Grant a connection the permission ``name`` for a group: ``sendToGroup`` or ``joinLeaveGroup``, in any case.

    Raises:
        OperationError: 400 if there is no such permission, 404 if there is no such connection, 409 for the 1001st
            group.
    """
    get_rules = _rules(name)
    connection = _existing(core, hub, connection_id, "Info.Connection.NotExisted")
    _change(get_rules(connection.permissions).grant, group)


def revoke(core: ServiceCore, hub: str, name: str, connection_id: str, group: str) -> None:
    """Revoke a permission of a connection, if it exists, for a group; memberships stay (emulator).

    Raises:
        OperationError: 400 if there is no such permission, 409 for the 1001st group.
    """
    get_rules = _rules(name)
    for connection in find(core, hub, connection_id):
        _change(get_rules(connection.permissions).revoke, group)


def has_permission(core: ServiceCore, hub: str, name: str, connection_id: str, group: str) -> bool:
    """Return whether there is such a connection and it has a permission for a group.

    Raises:
        OperationError: 400 if there is no such permission.
    """
    get_rules = _rules(name)
    return any(get_rules(connection.permissions).allows(group) for connection in find(core, hub, connection_id))


def check_permission(core: ServiceCore, hub: str, name: str, connection_id: str, group: str) -> None:
    """Check what :func:`has_permission` returns.

    Raises:
        OperationError: 400 if there is no such permission, 404 if the connection is not there or does not have it.
    """
    if not has_permission(core, hub, name, connection_id, group):
        message = f"Connection `{one_line(connection_id)}` is not there, or does not have the permission."
        raise OperationError(404, "Info.Connection.NotExisted", message, "Connection")


def permission_name(text: str) -> str:
    """Return the name of a permission, which may have a number and any case.

    Raises:
        OperationError: 400 if there is no such permission.
    """
    lowered = text.lower()
    name = _NUMBERED.get(lowered, lowered)
    if name not in _PERMISSIONS:
        raise bad_request("Invalid permission. It is sendToGroup or joinLeaveGroup.", "permission")
    return name


def _rules(name: str) -> Callable[[Permissions], GroupRules]:
    return _PERMISSIONS[permission_name(name)]


def _change(change: Callable[[str], None], group: str) -> None:
    try:
        change(group)
    except ValueError as error:
        message = f"The permission cannot change: {error}."
        raise OperationError(409, "Error.Connection.Conflict", message, "Connection") from None


# ---- What is not there


def _existing(core: ServiceCore, hub: str, connection_id: str, code: str) -> Connection:
    connections = find(core, hub, connection_id)
    if not connections:
        raise _not_found(code, "Connection", connection_id)
    return connections[0]


def _not_found(code: str, what: _Thing, name: str, hint: str = "") -> OperationError:
    message = f"{what} `{one_line(name)}` is not found. {hint}".rstrip()
    return OperationError(404, code, message, what)
