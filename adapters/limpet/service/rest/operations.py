"""The operations of the data plane over HTTP, as the official server SDKs call them (openapi).

Each one reads the request and calls :mod:`limpet_core.service.data_plane.operations`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from time import monotonic
from typing import Final, TypeAlias
from urllib.parse import urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from limpet.service._gateway import Gateway
from limpet.service.tokens import mint_client_token
from limpet_core.service import (
    Connection,
    Hub,
    InvalidMetadata,
    Publication,
    ServiceCore,
    group_publication,
    metadata_from_headers,
    server_publication,
)
from limpet_core.service.data_plane import operations
from limpet_core.service.data_plane.parameters import GroupChange, Query, bad_request, group_name, payload
from limpet_core.service.odata.filters import select

_MAX_INT32 = 2**31 - 1


class Call:
    """An authorized request to the data plane.

    Attributes:
        url: the URL that the application server used, without the query.
        endpoint: the URL for which tokens of clients are signed.
        body: of the request.
        query: the parameters in the query.
    """

    def __init__(self, gateway: Gateway, request: Request, url: str, endpoint: str, body: bytes) -> None:
        self.gateway: Gateway = gateway
        self.core: ServiceCore = gateway.core
        self.request: Request = request
        self.url: str = url
        self.endpoint: str = endpoint
        self.body: bytes = body
        self.query: Query = Query(request.query_params.multi_items())
        gateway.note_api_version(self.query.one("api-version"), self.query.api_version())

    @property
    def hub(self) -> Hub:
        """The hub in the path."""
        return self.core.hub(self.path("hub"))

    @property
    def group(self) -> str:
        """The name of the group in the path."""
        return group_name(self.path("group"))

    @property
    def target(self) -> str:
        """The name of the group of a permission."""
        return group_name(self.query.one("targetName"))

    @property
    def members(self) -> Collection[Connection]:
        """The members of the group in the path."""
        return self.hub.members(self.group)

    @property
    def user(self) -> Collection[Connection]:
        """The connections of the user in the path."""
        return self.hub.user(self.path("user"))

    @property
    def connection(self) -> Collection[Connection]:
        """The connection in the path, as a collection of at most one connection."""
        return operations.find(self.core, self.path("hub"), self.path("connection"))

    @property
    def excluded(self) -> Collection[str]:
        """The ids of the connections to leave out."""
        return set(self.query.all("excluded"))

    def path(self, name: str) -> str:
        """Return a parameter in the path."""
        return str(self.request.path_params[name])

    def publication(self, group: str | None = None) -> Publication:
        """Return the message in the body: a server message, or a group message if there is a ``group``."""
        data_type, data = payload(self.request.headers.get("content-type"), self.body)
        try:
            metadata = metadata_from_headers(self.request.headers.items())
        except InvalidMetadata as error:
            raise bad_request(f"Metadata in the headers: {error}.") from None
        seconds = self.query.time_to_live()
        expires = monotonic() + seconds if seconds else math.inf
        if group is None:
            return server_publication(data_type, data, metadata, expires)
        return group_publication(group, None, data_type, data, metadata, expires)


Operation: TypeAlias = Callable[[Call], Response]


# ---- Sending and closing


def _send_to_all(call: Call) -> Response:
    call.core.send_to_all(call.path("hub"), call.publication(), call.query.filter(), call.excluded)
    return Response(status_code=202)


def _send_to_group(call: Call) -> Response:
    group = call.group
    call.core.send_to_group(call.path("hub"), group, call.publication(group), call.query.filter(), call.excluded)
    return Response(status_code=202)


def _send_to_user(call: Call) -> Response:
    user_id = call.path("user")
    call.core.send_to_user(call.path("hub"), user_id, call.publication(), call.query.filter(), call.excluded)
    return Response(status_code=202)


def _send_to_connection(call: Call) -> Response:
    publication = call.publication()
    for connection in call.connection:
        call.core.send_to_connection(connection.connection_id, publication)
    return Response(status_code=202)


def _close(call: Call, connections: Collection[Connection]) -> Response:
    operations.close(call.core, connections, call.query.one("reason"), call.excluded)
    return Response(status_code=204)


def _exists(connections: Collection[Connection]) -> Response:
    return Response(status_code=200 if connections else 404)


# ---- Groups


def _add_connection_to_group(call: Call) -> Response:
    operations.add_connection_to_group(call.core, call.path("hub"), call.path("connection"), call.group)
    return Response()


def _add_user_to_group(call: Call) -> Response:
    operations.add_user_to_group(call.core, call.path("hub"), call.path("user"), call.group)
    return Response()


def _remove(call: Call, connections: Collection[Connection], *groups: str) -> Response:
    operations.remove_from_groups(call.core, connections, groups or None)
    return Response(status_code=204)


def _add_to_groups(call: Call) -> Response:
    change = GroupChange.from_body(call.body)
    chosen = select(call.hub.connections.values(), change.filter)
    operations.add_to_groups(call.core, chosen, change.groups)
    return Response()


def _remove_from_groups(call: Call) -> Response:
    change = GroupChange.from_body(call.body)
    chosen = select(call.hub.connections.values(), change.filter)
    operations.remove_from_groups(call.core, chosen, change.groups)
    return Response()


def _list_group(call: Call) -> Response:
    query = call.query
    size = query.integer("maxpagesize", 1, operations.MAX_PAGE)
    top = query.integer("top", 1, _MAX_INT32)
    page = operations.list_group(
        call.core, call.path("hub"), call.group, size, top, query.one("continuationToken") or None
    )
    answer: dict[str, object] = {"value": [_member(connection) for connection in page.connections]}
    if page.next_token is not None:
        parameters = {
            "maxpagesize": size,
            "top": page.top,
            "api-version": query.one("api-version"),
            "continuationToken": page.next_token,
        }
        given = {name: value for name, value in parameters.items() if value is not None}
        answer["nextLink"] = f"{call.url}?{urlencode(given)}"
    return JSONResponse(answer)


def _member(connection: Connection) -> dict[str, str]:
    member = {"connectionId": connection.connection_id}
    return member if connection.user_id is None else {**member, "userId": connection.user_id}


# ---- Permissions and tokens


def _grant(call: Call) -> Response:
    operations.grant(call.core, call.path("hub"), call.path("permission"), call.path("connection"), call.target)
    return Response()


def _revoke(call: Call) -> Response:
    operations.revoke(call.core, call.path("hub"), call.path("permission"), call.path("connection"), call.target)
    return Response(status_code=204)


def _has_permission(call: Call) -> Response:
    has_it = operations.has_permission(
        call.core, call.path("hub"), call.path("permission"), call.path("connection"), call.target
    )
    return Response(status_code=200 if has_it else 404)


def _generate_token(call: Call) -> Response:
    query = call.query
    if (query.one("clientType") or "default").lower() != "default":
        raise bad_request("The service knows no clients but those of the type Default.")
    minutes = query.integer("minutesToExpire", 1, _MAX_INT32)
    token = mint_client_token(
        call.gateway.identity.connection_string(call.endpoint),
        call.path("hub"),
        user_id=query.one("userId") or None,
        roles=query.all("role"),
        groups=[group_name(group) for group in query.all("group")],
        expires_in=60.0 * (minutes or 60),
    )
    return Response(msgspec.json.encode({"token": token}), media_type="application/json")


# ---- Paths

_GROUP = "/hubs/{hub}/groups/{group}"
_USER = "/hubs/{hub}/users/{user}"
_CONNECTION = "/hubs/{hub}/connections/{connection}"
_PERMISSION = "/hubs/{hub}/permissions/{permission}/connections/{connection}"

OPERATIONS: Final[dict[str, dict[str, Operation]]] = {
    "/hubs/{hub}/:send": {"POST": _send_to_all},
    f"{_GROUP}/:send": {"POST": _send_to_group},
    f"{_USER}/:send": {"POST": _send_to_user},
    f"{_CONNECTION}/:send": {"POST": _send_to_connection},
    "/hubs/{hub}/:closeConnections": {"POST": lambda call: _close(call, call.hub.connections.values())},
    f"{_GROUP}/:closeConnections": {"POST": lambda call: _close(call, call.members)},
    f"{_USER}/:closeConnections": {"POST": lambda call: _close(call, call.user)},
    _CONNECTION: {
        "HEAD": lambda call: _exists(call.connection),
        "DELETE": lambda call: _close(call, call.connection),
    },
    _GROUP: {"HEAD": lambda call: _exists(call.members)},
    _USER: {"HEAD": lambda call: _exists(call.user)},
    f"{_GROUP}/connections": {"GET": _list_group},
    f"{_GROUP}/connections/{{connection}}": {
        "PUT": _add_connection_to_group,
        "DELETE": lambda call: _remove(call, call.connection, call.group),
    },
    f"{_CONNECTION}/groups": {"DELETE": lambda call: _remove(call, call.connection)},
    f"{_USER}/groups/{{group}}": {
        "PUT": _add_user_to_group,
        "DELETE": lambda call: _remove(call, call.user, call.group),
    },
    f"{_USER}/groups": {"DELETE": lambda call: _remove(call, call.user)},
    "/hubs/{hub}/:addToGroups": {"POST": _add_to_groups},
    "/hubs/{hub}/:removeFromGroups": {"POST": _remove_from_groups},
    _PERMISSION: {"PUT": _grant, "DELETE": _revoke, "HEAD": _has_permission},
    "/hubs/{hub}/:generateToken": {"POST": _generate_token},
}
"""The operations, by path below ``/api`` and by method."""
