"""Requests to the ASGI application without a server, for what a server could say about where it listens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

from starlette.types import ASGIApp
from tests.helpers.waiting import LIMIT

from limpet_core.service import JSON


def scope_of(kind: str, path: str, server: tuple[str, int | None] | None, host: str, **more: Any) -> dict[str, Any]:
    return {
        "type": kind,
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http" if kind == "http" else "ws",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", host.encode("latin-1"))],
        "client": ("127.0.0.1", 50000),
        "server": server,
        "subprotocols": [JSON],
        **more,
    }


async def answer_to(app: ASGIApp, path: str, server: tuple[str, int | None] | None, host: str) -> Any:
    """Return what the application answers to a GET, which is JSON."""
    body = bytearray()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        body.extend(message.get("body", b""))

    await app(scope_of("http", path, server, host), receive, send)
    return json.loads(bytes(body))


async def opens(
    app: ASGIApp,
    token: str,
    server: tuple[str, int | None] | None,
    host: str,
    path: str = "/client/hubs/chat",
) -> bool:
    """Tell whether a client with this token is let in."""
    incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    incoming.put_nowait({"type": "websocket.connect"})
    incoming.put_nowait({"type": "websocket.disconnect", "code": 1000})
    sent: list[str] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message["type"])

    query = f"access_token={token}".encode()
    scope = scope_of("websocket", path, server, host, query_string=query)
    await asyncio.wait_for(app(scope, incoming.get, send), LIMIT)
    return sent[0] == "websocket.accept"
