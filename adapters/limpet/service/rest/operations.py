"""The operations of the data plane over HTTP, as the official server SDKs call them (openapi).

Each one reads the request and calls :mod:`limpet_core.service.data_plane.operations`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Final, NoReturn
from urllib.parse import urlencode, urlsplit

import msgspec
from starlette.responses import JSONResponse, Response

from limpet.service.rest._call import Call, Operation, WithBody
from limpet.service.tokens import mint_client_token
from limpet_core.service import Connection, ServiceCore
from limpet_core.service.data_plane import operations
from limpet_core.service.data_plane.parameters import (
    API_VERSIONS,
    GroupChange,
    OperationError,
    group_name,
)
from limpet_core.service.odata.filters import select
from limpet_core.service.wire.chat import not_implemented
from limpet_core.text import one_line

_MAX_INT32 = 2**31 - 1


# ---- Sending and closing


def _send_to_all(call: Call) -> WithBody:
    where, read = call.query.filter(), call.reader()

    def proceed(body: bytes) -> Response:
        call.core.send_to_all(call.path("hub"), read(body), where, call.excluded)
        return Response(status_code=202)

    return WithBody(proceed)


def _send_to_group(call: Call) -> WithBody:
    group = call.group
    where, read = call.query.filter(), call.reader(group)

    def proceed(body: bytes) -> Response:
        call.core.send_to_group(call.path("hub"), group, read(body), where, call.excluded)
        return Response(status_code=202)

    return WithBody(proceed)


def _send_to_user(call: Call) -> WithBody:
    user = call.user_id
    where, read = call.query.filter(), call.reader()

    def proceed(body: bytes) -> Response:
        call.core.send_to_user(call.path("hub"), user, read(body), where, call.excluded)
        return Response(status_code=202)

    return WithBody(proceed)


def _send_to_connection(call: Call) -> WithBody:
    target, read = call.connection_id, call.reader()

    def proceed(body: bytes) -> Response:
        publication = read(body)
        for connection in operations.find(call.core, call.path("hub"), target):
            call.core.send_to_connection(connection.connection_id, publication)
        return Response(status_code=202)

    return WithBody(proceed)


def _close(call: Call, connections: Collection[Connection]) -> Response:
    operations.close(call.core, connections, call.query.one("reason"), call.excluded)
    return Response(status_code=204)


# ---- What is there


def _check_connection(call: Call) -> Response:
    operations.check_exists("Connection", call.connection_id, call.connection)
    return Response()


def _check_group(call: Call) -> Response:
    operations.check_exists("Group", call.group, call.members)
    return Response()


def _check_user(call: Call) -> Response:
    operations.check_exists("User", call.user_id, call.user)
    return Response()


# ---- Groups


def _add_connection_to_group(call: Call) -> Response:
    operations.add_connection_to_group(call.core, call.path("hub"), call.connection_id, call.group)
    return Response()


def _add_user_to_group(call: Call) -> Response:
    operations.add_user_to_group(call.core, call.path("hub"), call.user_id, call.group)
    return Response()


def _remove(call: Call, connections: Collection[Connection], *groups: str) -> Response:
    operations.remove_from_groups(call.core, connections, groups or None)
    return Response(status_code=204)


def _change_groups(call: Call, change: Callable[[ServiceCore, list[Connection], Iterable[str]], None]) -> WithBody:
    def proceed(body: bytes) -> Response:
        asked = GroupChange.from_body(call.content_type, body)
        change(call.core, select(call.hub.connections.values(), asked.filter), asked.groups)
        return Response()

    return WithBody(proceed)


def _list_group(call: Call) -> Response:
    query = call.query
    size = query.integer("maxpagesize", 1, operations.MAX_PAGE)
    top = query.integer("top", 1, _MAX_INT32)
    token, key = query.one("continuationToken"), call.gateway.identity.page_key
    page = operations.list_group(call.core, call.path("hub"), call.group, size, top, token, key)
    next_link = None
    if page.next_token is not None:
        parameters = {
            "api-version": API_VERSIONS[-1],
            "maxpagesize": size or operations.MAX_PAGE,
            "continuationToken": page.next_token,
            "top": page.top,
        }
        given = {name: value for name, value in parameters.items() if value is not None}
        next_link = f"{call.url}?{urlencode(given)}"
    members = [{"connectionId": found.connection_id, "userId": found.user_id} for found in page.connections]
    return JSONResponse({"value": members, "nextLink": next_link})


# ---- Permissions and tokens


def _grant(call: Call) -> Response:
    operations.grant(call.core, call.path("hub"), call.permission, call.connection_id, call.target)
    return Response()


def _revoke(call: Call) -> Response:
    operations.revoke(call.core, call.path("hub"), call.permission, call.connection_id, call.target)
    return Response(status_code=204)


def _check_permission(call: Call) -> Response:
    operations.check_permission(call.core, call.path("hub"), call.permission, call.connection_id, call.target)
    return Response()


def _generate_token(call: Call) -> Response:
    query = call.query
    query.check_client_type()
    minutes, user = query.integer("minutesToExpire", 1, _MAX_INT32), query.one("userId") or ""
    token = mint_client_token(
        call.gateway.identity.connection_string(call.endpoint),
        call.path("hub"),
        user_id=user if user.strip() else None,
        roles=query.all("role"),
        groups=[group_name(group) for group in query.all("group")],
        expires_in=60.0 * (minutes or 60),
    )
    return Response(msgspec.json.encode({"token": token}), media_type="application/json")


def _refuse_chat(call: Call) -> NoReturn:
    asked = one_line(f"{call.request.method} {urlsplit(call.url).path}")
    raise OperationError(501, "NotImplemented", not_implemented(asked))


# ---- Paths

_GROUP = "/hubs/{hub}/groups/{group}"
_USER = "/hubs/{hub}/users/{user}"
_CONNECTION = "/hubs/{hub}/connections/{connection}"
_PERMISSION = "/hubs/{hub}/permissions/{permission}/connections/{connection}"

GENERATE_TOKEN: Final = "/hubs/{hub}/:generateToken"

OPERATIONS: Final[dict[str, dict[str, Operation]]] = {
    "/hubs/{hub}/:send": {"POST": _send_to_all},
    f"{_GROUP}/:send": {"POST": _send_to_group},
    f"{_USER}/:send": {"POST": _send_to_user},
    f"{_CONNECTION}/:send": {"POST": _send_to_connection},
    "/hubs/{hub}/:closeConnections": {"POST": lambda call: _close(call, call.hub.connections.values())},
    f"{_GROUP}/:closeConnections": {"POST": lambda call: _close(call, call.members)},
    f"{_USER}/:closeConnections": {"POST": lambda call: _close(call, call.user)},
    _CONNECTION: {
        "HEAD": _check_connection,
        "DELETE": lambda call: _close(call, call.connection),
    },
    _GROUP: {"HEAD": _check_group},
    _USER: {"HEAD": _check_user},
    f"{_GROUP}/connections": {"GET": _list_group},
    f"{_GROUP}/connections/{{connection}}": {
        "PUT": _add_connection_to_group,
        "DELETE": lambda call: _remove(call, call.connection, call.group),
    },
    f"{_CONNECTION}/groups": {"DELETE": lambda call: _remove(call, call.connection)},
    # Each path: what is new in the chat is missing here as well.
    "/hubs/{hub}/chat/{operation:path}": dict.fromkeys(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"), _refuse_chat),
    f"{_USER}/groups/{{group}}": {
        "PUT": _add_user_to_group,
        "DELETE": lambda call: _remove(call, call.user, call.group),
    },
    f"{_USER}/groups": {"DELETE": lambda call: _remove(call, call.user)},
    "/hubs/{hub}/:addToGroups": {"POST": lambda call: _change_groups(call, operations.add_to_groups)},
    "/hubs/{hub}/:removeFromGroups": {"POST": lambda call: _change_groups(call, operations.remove_from_groups)},
    _PERMISSION: {"PUT": _grant, "DELETE": _revoke, "HEAD": _check_permission},
    GENERATE_TOKEN: {"POST": _generate_token},
}
"""The operations, by path below ``/api`` and by method."""
