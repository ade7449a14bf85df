"""The operations of the data plane over HTTP, as the official server SDKs call them (openapi).

Each one reads the request. What it changes is a value of :mod:`limpet_core.service.data_plane.writes`, to be carried
out; what it only reads, :mod:`limpet_core.service.data_plane.operations` knows.
"""

from __future__ import annotations

from typing import Final, Literal, NoReturn
from urllib.parse import urlencode, urlsplit

import msgspec
from starlette.responses import JSONResponse, Response

from limpet.service.rest._call import AfterBody, AfterWrite, Call, Operation
from limpet.service.tokens import mint_client_token
from limpet_core.service.data_plane import operations
from limpet_core.service.data_plane.parameters import (
    API_VERSIONS,
    GroupChange,
    OperationError,
    group_name,
)
from limpet_core.service.data_plane.writes import (
    AddToGroup,
    ChangeGroups,
    ChangePermission,
    Close,
    RemoveFromGroups,
    Send,
    Target,
)
from limpet_core.service.wire.chat import not_implemented
from limpet_core.text import one_line

_MAX_INT32 = 2**31 - 1


# ---- Sending and closing


def _send(call: Call, to: Target, name: str) -> AfterBody:
    where = call.query.filter() if to != "connection" else None
    read = call.reader()

    def proceed(body: bytes) -> AfterWrite:
        text = None if where is None else where.text
        excluded = call.excluded if to != "connection" else ()
        return AfterWrite(202, Send(call.path("hub"), to, name, read(body), text, excluded))

    return AfterBody(proceed)


def _close(call: Call, to: Target, name: str) -> AfterWrite:
    return AfterWrite(204, Close(call.path("hub"), to, name, call.query.one("reason"), call.excluded))


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


def _add(call: Call, to: Literal["user", "connection"], name: str) -> AfterWrite:
    return AfterWrite(200, AddToGroup(call.path("hub"), to, name, call.group))


def _remove(call: Call, to: Literal["user", "connection"], name: str, *groups: str) -> AfterWrite:
    return AfterWrite(204, RemoveFromGroups(call.path("hub"), to, name, groups))


def _change_groups(call: Call, *, add: bool) -> AfterBody:
    def proceed(body: bytes) -> AfterWrite:
        asked = GroupChange.from_body(call.content_type, body)
        where = None if asked.filter is None else asked.filter.text
        return AfterWrite(200, ChangeGroups(call.path("hub"), add, asked.groups, where))

    return AfterBody(proceed)


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


def _change_permission(call: Call, *, grant: bool) -> AfterWrite:
    permission, connection_id = call.permission, call.connection_id
    change = ChangePermission(call.path("hub"), grant, permission, connection_id, call.target)
    return AfterWrite(200 if grant else 204, change)


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
    "/hubs/{hub}/:send": {"POST": lambda call: _send(call, "hub", "")},
    f"{_GROUP}/:send": {"POST": lambda call: _send(call, "group", call.group)},
    f"{_USER}/:send": {"POST": lambda call: _send(call, "user", call.user_id)},
    f"{_CONNECTION}/:send": {"POST": lambda call: _send(call, "connection", call.connection_id)},
    "/hubs/{hub}/:closeConnections": {"POST": lambda call: _close(call, "hub", "")},
    f"{_GROUP}/:closeConnections": {"POST": lambda call: _close(call, "group", call.group)},
    f"{_USER}/:closeConnections": {"POST": lambda call: _close(call, "user", call.user_id)},
    _CONNECTION: {
        "HEAD": _check_connection,
        "DELETE": lambda call: _close(call, "connection", call.connection_id),
    },
    _GROUP: {"HEAD": _check_group},
    _USER: {"HEAD": _check_user},
    f"{_GROUP}/connections": {"GET": _list_group},
    f"{_GROUP}/connections/{{connection}}": {
        "PUT": lambda call: _add(call, "connection", call.connection_id),
        "DELETE": lambda call: _remove(call, "connection", call.connection_id, call.group),
    },
    f"{_CONNECTION}/groups": {"DELETE": lambda call: _remove(call, "connection", call.connection_id)},
    # Each path: what is new in the chat is missing here as well.
    "/hubs/{hub}/chat/{operation:path}": dict.fromkeys(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"), _refuse_chat),
    f"{_USER}/groups/{{group}}": {
        "PUT": lambda call: _add(call, "user", call.user_id),
        "DELETE": lambda call: _remove(call, "user", call.user_id, call.group),
    },
    f"{_USER}/groups": {"DELETE": lambda call: _remove(call, "user", call.user_id)},
    "/hubs/{hub}/:addToGroups": {"POST": lambda call: _change_groups(call, add=True)},
    "/hubs/{hub}/:removeFromGroups": {"POST": lambda call: _change_groups(call, add=False)},
    _PERMISSION: {
        "PUT": lambda call: _change_permission(call, grant=True),
        "DELETE": lambda call: _change_permission(call, grant=False),
        "HEAD": _check_permission,
    },
    GENERATE_TOKEN: {"POST": _generate_token},
}
"""The operations, by path below ``/api`` and by method."""
