"""The service in each way it can be run, and requests that no HTTP library would send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jwt
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount
from tests.helpers.waiting import LIMIT

from limpet.service import Service, ServiceOptions, create_app
from limpet.service._gateway import Gateway
from limpet_core.service import ServiceCore

KEY = "k" * 32
ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")

STYLES = ["service", "application", "application with an endpoint", "mounted", "mounted with an endpoint"]

Headers = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Place:
    """A running service: its port, the path it is mounted at, whether it was given its endpoint."""

    port: int
    prefix: str
    configured: bool
    core: ServiceCore
    gateway: Gateway

    def watchers(self) -> int:
        """The number of open trace pages."""
        assert self.gateway.memory is not None
        return len(self.gateway.memory.listeners)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        return f"http://{self.host}{self.prefix}"

    def client_token(self, hub: str = "chat", *, endpoint: str | None = None, **claims: Any) -> str:
        return signed(f"{endpoint or self.endpoint}/client/hubs/{hub}", **claims)

    def client_url(self, token: str, host: str = "127.0.0.1") -> str:
        return f"ws://{host}:{self.port}{self.prefix}/client/hubs/chat?access_token={token}"

    async def ask(
        self, method: str, target: str, headers: Headers, *, body: bytes = b"", version: str = "1.1"
    ) -> Answer:
        """Send a request whose target is below the service's own path, on a connection of its own."""
        return await exchange(self.port, request(method, self.prefix + target, headers, body, version))


@dataclass(frozen=True)
class Answer:
    """The answer to a request, or as much of it as there is."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def signed(audience: object, key: str = KEY, **claims: Any) -> str:
    return jwt.encode({"aud": audience, "exp": int(time.time()) + 600, **claims}, key, "HS256")


def audience_of(token: str) -> object:
    """Return the audience of a token that is signed with our key."""
    return jwt.decode(token, KEY, ["HS256"], options={"verify_aud": False})["aud"]


def bearer(token: str) -> tuple[str, str]:
    return ("Authorization", f"Bearer {token}")


HANDSHAKE: Headers = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="),
]


def request(method: str, target: str, headers: Headers, body: bytes = b"", version: str = "1.1") -> bytes:
    lines = [f"{method} {target} HTTP/{version}", *(f"{name}: {value}" for name, value in headers)]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("utf-8") + body


async def exchange(port: int, data: bytes) -> Answer:
    """Send bytes and read one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(LIMIT):
            writer.write(data)
            return await read_answer(reader, without_body=data.startswith(b"HEAD "))
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def read_answer(reader: asyncio.StreamReader, *, without_body: bool = False) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    length = 0 if without_body else int(headers.get("content-length", 0))
    return Answer(int(head[0].split(" ")[1]), headers, await reader.readexactly(length))


@contextlib.asynccontextmanager
async def served(style: str, options: ServiceOptions | None = None, **server_options: Any) -> AsyncIterator[Place]:
    """Run the service in one of the `STYLES`."""
    options = options or ServiceOptions(access_key=KEY)
    if style == "service":
        async with Service(options) as service:
            yield Place(service.port, "", False, service.core, service._gateway)
        return
    listener = await asyncio.get_running_loop().create_server(asyncio.Protocol, "127.0.0.1", 0)
    port: int = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    prefix = "/pub%20sub" if style.startswith("mounted") else ""
    configured = style.endswith("endpoint")
    app = create_app(options, endpoint=f"http://127.0.0.1:{port}{prefix}" if configured else None)
    outer = Starlette(routes=[Mount("/pub sub", app)]) if prefix else app
    config = uvicorn.Config(
        outer,
        port=port,
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        timeout_graceful_shutdown=1,
        **server_options,
    )
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    try:
        async with asyncio.timeout(LIMIT):
            while not server.started:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        yield Place(port, prefix, configured, app.core, app._gateway)
    finally:
        server.should_exit = True
        await task


def with_place(
    scenario: Callable[[Place], Awaitable[None]],
    style: str,
    options: ServiceOptions | None = None,
    **server_options: Any,
) -> None:
    """Run a scenario against a service in one of the `STYLES`; nothing that is sent may raise in its event loop."""
    unseen: list[dict[str, Any]] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context))
        async with asyncio.timeout(60), served(style, options, **server_options) as place:
            await scenario(place)

    asyncio.run(run())
    assert not unseen
