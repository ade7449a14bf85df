"""A service and the official packages around it, which know nothing but its connection string."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tests.interop.backend import Backend, Background
from tests.interop.clients import JavaScriptClient, OfficialClient, PythonAioClient, PythonClient
from tests.interop.node import Node
from tests.interop.own import AsyncioClient, BlockingClient, OwnClient
from tests.interop.services import JavaScriptService, OfficialService, PythonAioService, PythonService

from limpet.service import ServiceOptions

Programs = Callable[[str], Node]
ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")


class Stage:
    """A service, and the clients that a test opens on it.

    A ``kind`` is the package: ``js``, ``python`` or ``python-aio``.
    """

    def __init__(self, background: Background, programs: Programs, options: ServiceOptions | None = None) -> None:
        self.background = background
        self.backend = Backend(background, options)
        self._programs = programs
        self._clients: list[OfficialClient | OwnClient] = []

    def service(
        self, kind: str = "python", hub: str = "chat", *, connection_string: str | None = None
    ) -> OfficialService:
        """The official service client, which also signs tokens."""
        known = connection_string or self.backend.connection_string
        match kind:
            case "js":
                return JavaScriptService(known, self._programs("service.mjs"), hub)
            case "python":
                return PythonService(known, hub)
            case _:
                return PythonAioService(known, self.background, hub)

    def client(
        self,
        kind: str,
        user_id: str | None = "ann",
        *,
        roles: Sequence[str] = ROLES,
        groups: Sequence[str] = (),
        over_proxy: bool = False,
        url: str | None = None,
        **options: Any,
    ) -> OfficialClient:
        """A client that is not started, with a token signed by the service package of its own language."""
        if url is None:
            url = self.service(kind).client_url(user_id, roles=roles, groups=groups)
        if over_proxy:
            url = self.backend.over(self.backend.proxy, url)
        elif kind == "python":
            url = self.backend.over(self.backend.detour, url)
        client: OfficialClient
        match kind:
            case "js":
                client = JavaScriptClient(url, self._programs("client.mjs"), **options)
            case "python":
                client = PythonClient(url, self.background, **options)
            case _:
                client = PythonAioClient(url, self.background, **options)
        return client

    def open(self, kind: str, user_id: str | None = "ann", **options: Any) -> OfficialClient:
        """A client as of `client`, connected."""
        client = self.client(kind, user_id, **options)
        client.start()
        self._clients.append(client)
        return client

    def own(
        self, kind: str, user_id: str | None = "own", *, roles: Sequence[str] = ROLES, groups: Sequence[str] = ()
    ) -> OwnClient:
        """One of Limpet's own clients, connected over the detour; ``kind`` is ``asyncio`` or ``blocking``."""
        url = self.backend.over(self.backend.detour, self.service().client_url(user_id, roles=roles, groups=groups))
        client = AsyncioClient(url, self.background) if kind == "asyncio" else BlockingClient(url)
        self._clients.append(client)
        return client.start()

    def lose(self, client: OfficialClient) -> None:
        """Cut the connection of a client over the proxy; it stays without one until `Backend.resume`."""
        connection_id = client.connection_id
        self.backend.cut()
        self.backend.until(lambda: not self.backend.connected(connection_id))

    def groups(self, connection_id: str) -> list[str]:
        """The groups of a connection, in the order it joined them."""
        connection = self.backend.connection(connection_id)
        return [] if connection is None else list(connection.groups)

    def members(self, group: str, hub: str = "chat") -> int:
        """How many connections are in a group."""
        return len(self.backend.service.hub(hub).members(group))

    def clear(self) -> None:
        """Stop the clients, then the service."""
        self.backend.resume()
        for client in self._clients:
            client.begin_stop()
        self.backend.stop()
