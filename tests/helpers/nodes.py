"""Nodes of a cluster over real sockets, with a log in memory, and their clients."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import jwt
from tests.adapters.service.sockets import ROLES, Client
from tests.helpers.waiting import LIMIT

from limpet.service import ClusterOptions, Service, ServiceOptions
from limpet.service.cluster import MemoryEngine, MemoryLog

KEY = "k" * 32


class Nodes:
    """Nodes that share an engine in memory, each with its log."""

    def __init__(self, options: ServiceOptions | None = None, **log: Any) -> None:
        self.engine = MemoryEngine()
        self.logs: dict[str, MemoryLog] = {}
        self.options = options or ServiceOptions(access_key=KEY)
        self._log = log

    def service(self, name: str, options: ServiceOptions | None = None, port: int = 0) -> Service:
        async def open_log(on_congested: Callable[[bool], None]) -> MemoryLog:
            log = self.logs[name] = MemoryLog(self.engine, on_congested=on_congested, **self._log)
            return log

        cluster = ClusterOptions(open_log=open_log, name=name)
        return Service(options or self.options, port=port, cluster=cluster)

    @contextlib.asynccontextmanager
    async def up(self, *names: str) -> AsyncIterator[list[Service]]:
        async with asyncio.timeout(3 * LIMIT), contextlib.AsyncExitStack() as stack:
            yield [await stack.enter_async_context(self.service(name)) for name in names]


async def open_client(service: Service, user: str = "ann", *offers: str) -> tuple[Client, dict[str, Any]]:
    client = await Client.open(service.client_url(user_id=user, roles=ROLES), *offers)
    return client, await client.receive()


async def eventually(condition: Callable[[], object]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def joined(client: Client, group: str = "g") -> None:
    await client.send(type="joinGroup", group=group, ackId=1)
    assert (await client.receive())["success"]


def names(service: Service) -> list[str]:
    view = service.cluster
    assert view is not None
    return [node.name for node in view.nodes]


class Rest:
    """Calls of the data plane of one node."""

    def __init__(self, service: Service) -> None:
        self._base = f"{service.endpoint}/api/hubs/chat"

    async def __call__(self, method: str, path: str, **request: Any) -> httpx.Response:
        url = f"{self._base}{path}"
        claims = {"aud": url.partition("?")[0], "exp": int(time.time()) + 60}
        headers = request.pop("headers", {}) | {"Authorization": f"Bearer {jwt.encode(claims, KEY, 'HS256')}"}
        async with httpx.AsyncClient(headers=headers, timeout=3 * LIMIT) as http:
            return await http.request(method, url, **request)
