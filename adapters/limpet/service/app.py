"""The ASGI application: the client endpoint for any ASGI server, negotiation, health, the trace page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from limpet.service._access import REACHED, WRONG_HOST, Reached, is_allowed, reached_at
from limpet.service._gateway import Admission, Gateway, Handshake, Refusal
from limpet.service.options import ServiceOptions
from limpet.service.rest._request import rest_route
from limpet.service.tokens import mint_client_token
from limpet.service.trace import trace_routes
from limpet_core.service import (
    NO_CLOSE_FRAME,
    Binary,
    PendingConnect,
    ServiceCore,
    Transport,
    client_endpoint,
    is_hub_name,
)
from limpet_core.text import one_line

__all__ = ["ServiceApp", "build_app", "create_app"]

# A client that is to be closed but does not read keeps what is on the way to it in memory no longer than this.
_CLOSE_TIMEOUT = 5.0

_LOGGER = logging.getLogger("limpet.service")

_NEGOTIATED_ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")


def create_app(options: ServiceOptions | None = None, *, endpoint: str | None = None) -> ServiceApp:
    """Return the local service as an ASGI application, for any ASGI server or to mount in another one.

    ``app.mount("/pubsub", create_app(ServiceOptions(access_key=...)))`` is all it takes in Starlette and FastAPI.

    Args:
        options: how the service behaves. Give an access key, or nobody can make tokens.
        endpoint: the http(s) URL under which clients and tokens know the service, with the path it is mounted
            at: tokens for any other are refused, those of server SDKs too. By default whatever address a client or
            server used is right, and tokens made here are for the address at which the server listens.

    An application belongs to one event loop. `Service` runs it in one line, and needs less time per message.
    The access log of a server shows the tokens in the URLs unless it is switched off.

    Running calls of event handlers are given up at the end of its lifespan; a mounted application has none.

    Raises `ValueError` if ``endpoint`` is no such URL, or if there are event handlers but no ``endpoint``.
    """
    gateway = Gateway(options or ServiceOptions(), endpoint)
    if gateway.upstream is not None and endpoint is None:
        raise ValueError("event handlers have to know whose calls they allow: give the URL of the service (endpoint=)")
    return build_app(gateway)


class ServiceApp(Starlette):
    """The local service as an ASGI application; made by `create_app`."""

    def __init__(self, gateway: Gateway, **parts: Any) -> None:
        super().__init__(**parts)
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request without a proper Host header; answer any other."""
        if scope["type"] in ("http", "websocket"):
            reached = reached_at(scope)
            if reached is None:
                refusal = Refusal(400, WRONG_HOST)
                if scope["type"] == "http":
                    await PlainTextResponse(refusal.text + "\n", refusal.status)(scope, receive, send)
                else:
                    await _refuse(refusal, scope, receive, send)
                return
            scope = {**scope, REACHED: reached}
        await super().__call__(scope, receive, send)

    @property
    def core(self) -> ServiceCore:
        """The service's logic, for the application around it: call `flush` after changing something."""
        return self._gateway.core

    def flush(self) -> None:
        """Send what calls to `core` have produced; in the event loop of the application."""
        self._gateway.flush()

    @property
    def connection_string(self) -> str:
        """The connection string, with the access key; `RuntimeError` if the application was given no endpoint."""
        if self._gateway.endpoint is None:
            raise RuntimeError("the service does not know its URL: give endpoint= to create_app")
        return self._gateway.connection_string(self._gateway.endpoint).build()


def build_app(gateway: Gateway) -> ServiceApp:
    """Return the ASGI application around a gateway."""
    endpoint = _ClientEndpoint(gateway)
    negotiate = _Negotiation(gateway)

    async def not_a_websocket(request: Request) -> Response:
        return PlainTextResponse("This is a WebSocket endpoint: connect with a WebSocket client.\n", 400)

    async def negotiated(request: Request) -> Response:
        return negotiate(request)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        yield
        if gateway.upstream is not None:
            await gateway.upstream.close()

    bases = ("/client/hubs/{hub}", "/client/hubs", "/client")
    paths = [path for base in bases for path in (base, f"{base}/")]
    return ServiceApp(
        gateway,
        lifespan=lifespan,
        routes=[
            *(WebSocketRoute(path, endpoint) for path in paths),
            *(Route(path, not_a_websocket) for path in paths),
            Route("/negotiate", negotiated, methods=["GET", "POST"]),
            rest_route(gateway),
            *trace_routes(gateway),
        ],
    )


class _Negotiation:
    """Answers ``/negotiate?hub=chat&userId=me`` with a client URL: a convenience for development."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def __call__(self, request: Request) -> Response:
        if not is_allowed(request, self._gateway.options.negotiate):
            return PlainTextResponse(
                "Negotiation is for clients on the same machine unless it is enabled in the options.\n", 403
            )
        hub = request.query_params.get("hub") or "chat"
        if not is_hub_name(hub):
            return PlainTextResponse("Invalid hub name.\n", 400)
        reached: Reached = request.scope[REACHED]
        token = mint_client_token(
            self._gateway.connection_string(self._gateway.signed_endpoint(reached.own_urls)),
            hub,
            user_id=request.query_params.get("userId"),
            roles=_NEGOTIATED_ROLES,
        )
        # The Host header is right for the URL, which has to work where the client is, but is never signed.
        url = f"{client_endpoint(self._gateway.endpoint or reached.origin, hub)}?access_token={token}"
        return JSONResponse({"url": url}, headers={"Cache-Control": "no-store"})


class _ClientEndpoint:
    """A client's WebSocket as an ASGI application."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        headers = Headers(scope=scope)
        reached: Reached = scope[REACHED]
        decided: asyncio.Future[Admission | Refusal] = asyncio.get_running_loop().create_future()
        pending = self._gateway.admit(
            Handshake(
                hub=scope["path_params"].get("hub", "" if scope["path"].rstrip("/").endswith("/hubs") else None),
                query=scope["query_string"].decode("latin-1"),
                origin=reached.origin,
                authorization=headers.get("authorization", ""),
                subprotocols=list(scope["subprotocols"]),
                headers=headers.items(),
                own_urls=reached.own_urls,
            ),
            decided.set_result,
        )
        if pending is not None and not await self._wait(pending, decided, receive):
            with suppress(OSError):
                await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        outcome = decided.result()
        if isinstance(outcome, Refusal):
            await _refuse(outcome, scope, receive, send)
            return
        code = NO_CLOSE_FRAME
        writer = _AsgiWriter(outcome.transport, send)
        try:
            await send({"type": "websocket.accept", "subprotocol": outcome.subprotocol})
            self._gateway.attach(outcome.transport, writer)
            writer.start()
            code = await self._receive(outcome.transport, receive)
        finally:
            self._gateway.detach(outcome.transport, code)
            await writer.stop()

    async def _wait(
        self, pending: PendingConnect, decided: asyncio.Future[Admission | Refusal], receive: Receive
    ) -> bool:
        """Wait for an event handler to decide; false if the client leaves before."""
        gone = asyncio.ensure_future(receive())
        stays = False
        try:
            await asyncio.wait((gone, decided), return_when=asyncio.FIRST_COMPLETED)
            stays = not gone.done()
        finally:
            if not stays:
                self._gateway.forget(pending)
            gone.cancel()
            await asyncio.wait((gone,))
        return stays

    async def _receive(self, transport: Transport, receive: Receive) -> int:
        """Handle messages until the WebSocket is closed; return the close code."""
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return int(message.get("code") or 1005)
            text: str | None = message.get("text")
            data: str | bytes = message["bytes"] if text is None else text
            self._gateway.receive(transport, data)
            self._gateway.flush()


class _AsgiWriter:
    """Sends to one client through ASGI, in a task of its own: sending may wait for the client."""

    def __init__(self, transport: Transport, send: Send) -> None:
        self._transport = transport
        self._send = send
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._cut: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._cut is not None:
            self._cut.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            error = None if self._task.cancelled() else self._task.exception()
            if error is not None:
                # Servers differ in what they raise when the client has gone.
                _LOGGER.debug("sending to a client failed: %s", one_line(repr(error)))

    def flush(self) -> None:
        self._wanted.set()
        if self._transport.close is not None and self._cut is None:
            self._cut = asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT, self._give_up)

    def _give_up(self) -> None:
        # Closing is then left to the server's own keepalive: ASGI cannot drop a connection.
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        # By the ASGI specification OSError says that the client is gone; the reader learns it as well.
        with suppress(OSError):
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                for message in self._transport.messages_to_send(monotonic()):
                    if isinstance(message, Binary):
                        await self._send({"type": "websocket.send", "bytes": bytes(message)})
                    else:
                        await self._send({"type": "websocket.send", "text": message.decode()})
                close = self._transport.close
                if close is not None:
                    # ASGI cannot drop a connection; to the client 1001 means the same: recover.
                    code = 1001 if close.code == NO_CLOSE_FRAME else close.code
                    await self._send({"type": "websocket.close", "code": code, "reason": close.reason})
                    return


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    if "websocket.http.response" in scope.get("extensions", {}):
        await PlainTextResponse(refusal.text + "\n", refusal.status)(scope, receive, send)
    else:
        # Without the extension a server can answer with nothing but 403.
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
