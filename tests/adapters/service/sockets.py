"""A client for tests over real sockets."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

import websockets
from tests.helpers.waiting import LIMIT
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from limpet.service import Service, ServiceOptions
from limpet_core.service import RELIABLE_JSON

ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")
T = TypeVar("T")


def with_service(scenario: Callable[[Service], Awaitable[T]], options: ServiceOptions | None = None) -> T:
    """Run a scenario against a service of its own, and check that nothing is left behind."""

    async def run() -> T:
        async with Service(options) as service:
            result = await asyncio.wait_for(scenario(service), 3 * LIMIT)
        await nothing_runs()
        return result

    return asyncio.run(run())


async def nothing_runs() -> None:
    """Fail unless this is the only task, the others being given time to end: the collection of garbage starts some."""
    end = time.monotonic() + LIMIT
    while True:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        if not left:
            return
        assert time.monotonic() < end, f"left behind: {left}"
        await asyncio.sleep(0.005)


class Client:
    """A WebSocket that speaks JSON."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    @classmethod
    async def open(cls, url: str, *offers: str) -> Client:
        subprotocols = [Subprotocol(offer) for offer in offers or (RELIABLE_JSON,)]
        return cls(await connect(url, subprotocols=subprotocols, compression=None, max_size=None))

    async def send(self, **message: object) -> None:
        await self.websocket.send(json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        data = await asyncio.wait_for(self.websocket.recv(), LIMIT)
        assert isinstance(data, str)
        message: dict[str, Any] = json.loads(data)
        return message

    async def close_code(self) -> int:
        """Return the code of the close frame of the service, 1006 without one."""
        try:
            while True:
                await asyncio.wait_for(self.websocket.recv(), LIMIT)
        except websockets.ConnectionClosed:
            code = self.websocket.close_code
            assert code is not None
            return code

    async def leave(self) -> None:
        await self.websocket.close()


def recovery_url(service: Service, hello: dict[str, Any], hub: str = "chat") -> str:
    query = urlencode(
        {
            "access_token": "expired",
            "awps_connection_id": hello["connectionId"],
            "awps_reconnection_token": hello["reconnectionToken"],
        }
    )
    return f"ws://127.0.0.1:{service.port}/client/hubs/{hub}?{query}"


async def refusal(url: str, *offers: str, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Return the status and the text of the answer to a handshake that has to fail."""
    subprotocols = [Subprotocol(offer) for offer in offers] or None
    try:
        websocket = await connect(url, subprotocols=subprotocols, additional_headers=headers)
    except websockets.InvalidStatus as error:
        return error.response.status_code, bytes(error.response.body or b"").decode()
    await websocket.close()
    raise AssertionError("the handshake succeeded")
