"""An application server for tests: a web application that does as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.adapters.service.sockets import Client, nothing_runs
from tests.helpers.waiting import LIMIT

from limpet.service import EventHandler, HubOptions, Service, ServiceOptions

ALLOWED = {"WebHook-Allowed-Origin": "*"}
KEYS = ("k" * 32, "s" * 40)

Answer = Callable[[Request], Awaitable[Response]]


class Webhook:
    """Keeps the requests it gets, with their bodies; ``answers`` has what to say to events, by name."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: asyncio.Queue[Request] = asyncio.Queue()
        self.answers: dict[str, Answer] = {}
        self.validation = Response(headers=ALLOWED)
        self.running = 0
        self.most_running = 0
        self._release = asyncio.Event()

    async def __call__(self, request: Request) -> Response:
        if request.method == "OPTIONS":
            return self.validation
        await request.body()
        self.requests.put_nowait(request)
        answer = self.answers.get(request.headers["ce-eventname"])
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        try:
            return Response() if answer is None else await answer(request)
        finally:
            self.running -= 1

    async def next(self, name: str) -> Request:
        """Return the next request, which is of the event with this name."""
        request = await asyncio.wait_for(self.requests.get(), LIMIT)
        assert request.headers["ce-eventname"] == name
        return request

    async def hang(self, request: Request) -> Response:
        """Answer after `release`, or never if the service gives up before."""
        tasks = {asyncio.create_task(self._release.wait()), asyncio.ensure_future(request.receive())}
        _, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        return Response()

    async def idle(self) -> None:
        """Wait until no request is being answered."""
        async with asyncio.timeout(LIMIT):
            while self.running:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    def release(self) -> None:
        self._release.set()

    def options(self, *, url: str | None = None, **handler: object) -> ServiceOptions:
        """Return options of a service whose hub ``chat`` has this as its event handler."""
        target = self.url + "/{hub}/{event}" if url is None else url
        listed = (EventHandler(url=target, **handler),)  # type: ignore[arg-type]
        return ServiceOptions(
            access_key=KEYS[0], secondary_access_key=KEYS[1], hubs={"Chat": HubOptions(event_handlers=listed)}
        )


@contextlib.asynccontextmanager
async def webhook() -> AsyncIterator[Webhook]:
    """Run a webhook on a port of its own."""
    hook = Webhook()
    app = Starlette(routes=[Route("/{path:path}", hook.__call__, methods=["GET", "POST", "OPTIONS"])])
    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    hook.url = f"http://127.0.0.1:{port}"
    try:
        yield hook
    finally:
        hook.release()
        server.should_exit = True
        await task


@contextlib.asynccontextmanager
async def tcp(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Run a server that need not speak HTTP, and give its URL."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=tls)
    try:
        yield f"{'http' if tls is None else 'https'}://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        await server.wait_closed()


QUIET = {"system_events": ()}
ACK_IDS = itertools.count(1000)


@contextlib.asynccontextmanager
async def running(options: ServiceOptions) -> AsyncIterator[Service]:
    async with asyncio.timeout(3 * LIMIT), Service(options) as service:
        yield service


async def open_client(service: Service, *, user: str | None = "ann") -> Client:
    client = await Client.open(service.client_url("chat", user_id=user))
    assert (await client.receive())["event"] == "connected"
    return client


async def ask(
    client: Client, name: str = "order", data: object = "x", data_type: str = "text"
) -> list[dict[str, object]]:
    """Raise an event and return what comes up to its ack."""
    await client.send(type="event", event=name, dataType=data_type, data=data, ackId=next(ACK_IDS))
    received: list[dict[str, object]] = []
    while not received or received[-1]["type"] != "ack":
        received.append(await client.receive())
    return received


def outcome(received: list[dict[str, object]]) -> str:
    (answer,) = received
    error = answer.get("error")
    return "success" if answer["success"] else error["name"]  # type: ignore[index]


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run a scenario, and check that nothing is left behind."""

    async def main() -> None:
        await scenario
        await nothing_runs()

    asyncio.run(main())
