"""The official service clients under one interface: tokens, and what the REST API of the data plane does."""

from __future__ import annotations

import abc
import base64
import inspect
from collections.abc import Sequence
from typing import Any

from azure.core.exceptions import HttpResponseError
from azure.messaging.webpubsubservice import WebPubSubServiceClient as SyncService
from azure.messaging.webpubsubservice.aio import WebPubSubServiceClient as AioService
from tests.interop.backend import Background
from tests.interop.node import JavaScriptError, Node


class RestError(Exception):
    """The service refused a request with ``status``."""

    def __init__(self, status: int | None, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class OfficialService(abc.ABC):
    """One service client of an official package, for one hub. Requests raise `RestError`."""

    def __init__(self, connection_string: str, hub: str = "chat") -> None:
        self.connection_string = connection_string
        self.hub = hub

    @abc.abstractmethod
    def client_url(
        self,
        user_id: str | None = None,
        *,
        roles: Sequence[str] = (),
        groups: Sequence[str] = (),
        minutes: int | None = None,
    ) -> str:
        """Sign a token for a client, without asking the service."""

    # ---- Messages. A target is "all", "group:name", "user:id" or "connection:id".

    @abc.abstractmethod
    def send(self, target: str, data: Any, data_type: str = "text", **options: Any) -> None:
        """Send a message; options are ``excluded`` (connection ids), ``filter`` and ``ttl`` (seconds)."""

    @abc.abstractmethod
    def close(self, target: str, reason: str | None = None, **options: Any) -> None:
        """Close connections; the option is ``excluded``."""

    @abc.abstractmethod
    def exists(self, target: str) -> bool: ...

    # ---- Groups. A member is "user:id" or "connection:id".

    @abc.abstractmethod
    def add(self, member: str, group: str) -> None: ...

    @abc.abstractmethod
    def remove(self, member: str, group: str | None = None) -> None:
        """Remove from a group, None: from all groups."""

    @abc.abstractmethod
    def pages(self, group: str, *, page_size: int | None = None, top: int | None = None) -> list[list[tuple[str, Any]]]:
        """Connection ids and user ids of a group's members, page by page."""

    # ---- Permissions: "joinLeaveGroup" and "sendToGroup"

    @abc.abstractmethod
    def grant(self, connection_id: str, permission: str, group: str) -> None: ...

    @abc.abstractmethod
    def revoke(self, connection_id: str, permission: str, group: str) -> None: ...

    @abc.abstractmethod
    def may(self, connection_id: str, permission: str, group: str) -> bool: ...


# ---- @azure/web-pubsub

_JS_OPTIONS = {"excluded": "excludedConnections", "ttl": "messageTtlSeconds"}


class JavaScriptService(OfficialService):
    """The JavaScript service client, in a Node process."""

    def __init__(self, connection_string: str, node: Node, hub: str = "chat") -> None:
        super().__init__(connection_string, hub)
        self._node = node

    def _call(self, method: str, *parameters: Any, group: str | None = None, **rest: Any) -> Any:
        target = {"connectionString": self.connection_string, "hub": self.hub, "group": group}
        try:
            return self._node.call("call", **target, method=method, parameters=parameters, **rest)
        except JavaScriptError as error:
            raise RestError(error.status, str(error)) from error

    def client_url(
        self,
        user_id: str | None = None,
        *,
        roles: Sequence[str] = (),
        groups: Sequence[str] = (),
        minutes: int | None = None,
    ) -> str:
        options = {"userId": user_id, "roles": list(roles), "groups": list(groups), "expirationTimeInMinutes": minutes}
        given = {name: value for name, value in options.items() if value is not None}
        url: str = self._call("getClientAccessToken", options=given)["url"]
        return url

    def send(self, target: str, data: Any, data_type: str = "text", **options: Any) -> None:
        encoded = base64.b64encode(data).decode() if data_type == "binary" else data
        message = {"data": encoded, "dataType": data_type}
        renamed = {_JS_OPTIONS.get(name, name): value for name, value in options.items()}
        kind, name = _target(target)
        if kind == "group":
            self._call("sendToAll", group=name, message=message, options=renamed)
        else:
            self._call(f"sendTo{kind.title()}", *([name] if name else []), message=message, options=renamed)

    def close(self, target: str, reason: str | None = None, **options: Any) -> None:
        kind, name = _target(target)
        given = {} if reason is None else {"reason": reason}
        match kind:
            case "group":
                self._call("closeAllConnections", group=name, options=given)
            case "all":
                self._call("closeAllConnections", options=given)
            case "user":
                self._call("closeUserConnections", name, options=given)
            case _:
                self._call("closeConnection", name, options=given)

    def exists(self, target: str) -> bool:
        kind, name = _target(target)
        found: bool = self._call(f"{kind}Exists", name)
        return found

    def add(self, member: str, group: str) -> None:
        kind, name = _target(member)
        self._call(f"add{kind.title()}", name, group=group)

    def remove(self, member: str, group: str | None = None) -> None:
        kind, name = _target(member)
        if group is None:
            self._call(f"remove{kind.title()}FromAllGroups", name)
        else:
            self._call(f"remove{kind.title()}", name, group=group)

    def add_matching(self, groups: list[str], odata: str) -> None:
        """Add the connections that a filter selects to groups; the Python package cannot do it."""
        self._call("addConnectionsToGroups", groups, odata)

    def remove_matching(self, groups: list[str], odata: str) -> None:
        """Remove the connections that a filter selects from groups."""
        self._call("removeConnectionsFromGroups", groups, odata)

    def odata(self, strings: list[str], values: list[Any]) -> str:
        """What the package makes of a template literal."""
        text: str = self._node.call("odata", strings=strings, values=values)
        return text

    def pages(self, group: str, *, page_size: int | None = None, top: int | None = None) -> list[list[tuple[str, Any]]]:
        wanted = {"maxPageSize": page_size, "top": top}
        given = {name: value for name, value in wanted.items() if value is not None}
        pages = self._call("listConnections", group=group, options=given)
        return [[(member["connectionId"], member.get("userId")) for member in page] for page in pages]

    def grant(self, connection_id: str, permission: str, group: str) -> None:
        self._call("grantPermission", connection_id, permission, options={"targetName": group})

    def revoke(self, connection_id: str, permission: str, group: str) -> None:
        self._call("revokePermission", connection_id, permission, options={"targetName": group})

    def may(self, connection_id: str, permission: str, group: str) -> bool:
        allowed: bool = self._call("hasPermission", connection_id, permission, options={"targetName": group})
        return allowed


# ---- azure-messaging-webpubsubservice

_CONTENT_TYPES = {"text": "text/plain", "json": "application/json", "binary": "application/octet-stream"}


class PythonService(OfficialService):
    """The blocking service client."""

    def __init__(self, connection_string: str, hub: str = "chat") -> None:
        super().__init__(connection_string, hub)
        self._client: Any = SyncService.from_connection_string(connection_string, hub=hub)

    def _call(self, method: str, *parameters: Any, **options: Any) -> Any:
        try:
            return getattr(self._client, method)(*parameters, **options)
        except HttpResponseError as error:
            raise RestError(error.status_code, str(error)) from error

    def client_url(
        self,
        user_id: str | None = None,
        *,
        roles: Sequence[str] = (),
        groups: Sequence[str] = (),
        minutes: int | None = None,
    ) -> str:
        options: dict[str, Any] = {} if minutes is None else {"minutes_to_expire": minutes}
        token = self._call(
            "get_client_access_token", user_id=user_id, roles=list(roles), groups=list(groups), **options
        )
        url: str = token["url"]
        return url

    def send(self, target: str, data: Any, data_type: str = "text", **options: Any) -> None:
        kind, name = _target(target)
        if "ttl" in options:  # for which the package has no argument
            options["params"] = {"messageTtlSeconds": options.pop("ttl")}
        self._call(
            f"send_to_{kind}",
            *([name] if name else []),
            message=data,
            content_type=_CONTENT_TYPES[data_type],
            **options,
        )

    def close(self, target: str, reason: str | None = None, **options: Any) -> None:
        kind, name = _target(target)
        operation = {"all": "close_all_connections", "connection": "close_connection"}.get(
            kind, f"close_{kind}_connections"
        )
        self._call(operation, *([name] if name else []), reason=reason, **options)

    def exists(self, target: str) -> bool:
        kind, name = _target(target)
        found: bool = self._call(f"{kind}_exists", name)
        return found

    def add(self, member: str, group: str) -> None:
        kind, name = _target(member)
        self._call(f"add_{kind}_to_group", group, name)

    def remove(self, member: str, group: str | None = None) -> None:
        kind, name = _target(member)
        if group is None:
            self._call(f"remove_{kind}_from_all_groups", name)
        else:
            self._call(f"remove_{kind}_from_group", group, name)

    def pages(self, group: str, *, page_size: int | None = None, top: int | None = None) -> list[list[tuple[str, Any]]]:
        options = {} if page_size is None else {"maxpagesize": page_size}
        paged = self._call("list_connections", group=group, top=top, **options)
        return [[(member.connection_id, member.user_id) for member in page] for page in self._by_page(paged)]

    def _by_page(self, paged: Any) -> list[Any]:
        try:
            return list(paged.by_page())
        except HttpResponseError as error:
            raise RestError(error.status_code, str(error)) from error

    def grant(self, connection_id: str, permission: str, group: str) -> None:
        self._call("grant_permission", permission, connection_id, target_name=group)

    def revoke(self, connection_id: str, permission: str, group: str) -> None:
        self._call("revoke_permission", permission, connection_id, target_name=group)

    def may(self, connection_id: str, permission: str, group: str) -> bool:
        allowed: bool = self._call("has_permission", permission, connection_id, target_name=group)
        return allowed


class PythonAioService(PythonService):
    """The asyncio service client, in the thread of the service."""

    def __init__(self, connection_string: str, background: Background, hub: str = "chat") -> None:
        OfficialService.__init__(self, connection_string, hub)
        self._background = background
        self._client = None

    def _call(self, method: str, *parameters: Any, **options: Any) -> Any:
        async def call() -> Any:
            async with AioService.from_connection_string(self.connection_string, hub=self.hub) as client:
                result = getattr(client, method)(*parameters, **options)
                if inspect.isawaitable(result):
                    return await result
                if hasattr(result, "by_page"):
                    return [[member async for member in page] async for page in result.by_page()]
                return result

        try:
            return self._background.run(call())
        except HttpResponseError as error:
            raise RestError(error.status_code, str(error)) from error

    def send(self, target: str, data: Any, data_type: str = "text", **options: Any) -> None:
        # Of a str it announces as many bytes as it has characters, and the end is lost.
        super().send(target, data.encode() if data_type == "text" else data, data_type, **options)

    def _by_page(self, paged: Any) -> list[Any]:
        pages: list[Any] = paged
        return pages


def _target(target: str) -> tuple[str, str]:
    kind, _, name = target.partition(":")
    return kind, name
