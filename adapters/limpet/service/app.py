"""The ASGI application: the client endpoint, the data plane, negotiation, metrics, the trace page."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from limpet.service._access import ADDRESS, WRONG_HOST, RequestAddress, is_allowed, request_address
from limpet.service._admission import Refusal, refuse_path
from limpet.service._asgi import ClientEndpoint, refuse
from limpet.service._gateway import Gateway
from limpet.service._metrics_page import metrics_route
from limpet.service.options import ServiceOptions
from limpet.service.rest._request import rest_route
from limpet.service.tokens import mint_client_token
from limpet.service.trace import trace_routes
from limpet_core.service import ServiceCore, client_endpoint, is_hub_name

_NEGOTIATED_ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")


def create_app(options: ServiceOptions | None = None, *, endpoint: str | None = None) -> ServiceApp:
    """Return the local service as an ASGI application, for any ASGI server or to mount in another application.

    ``app.mount("/pubsub", create_app(ServiceOptions(access_key=...)))`` mounts it in Starlette and FastAPI.

    An application belongs to one event loop. :class:`Service` runs one in one line, and needs less time per message.
    The access log of a server shows the tokens in URLs unless it is switched off. Running calls of event handlers are
    given up at the end of the lifespan; a mounted application has no lifespan.

    Args:
        options: how the service behaves. Give an access key: without one no application server can sign tokens.
        endpoint: the http(s) URL of the service for clients and tokens, with the path at which it is mounted. Tokens
            for any other URL are refused, also those of server SDKs. By default any address that a client or server
            used is right, and tokens signed here are for the address at which the server listens.

    Raises:
        ValueError: if ``endpoint`` is not such a URL, or if there are event handlers but no ``endpoint``.
    """
    gateway = Gateway(options or ServiceOptions(), endpoint)
    if gateway.webhooks is not None and endpoint is None:
        raise ValueError("event handlers have to know whose calls they allow: give the URL of the service (endpoint=)")
    return build_app(gateway)


class ServiceApp(Starlette):
    """The local service as an ASGI application; made by :func:`create_app`."""

    def __init__(self, gateway: Gateway, **parts: Any) -> None:
        super().__init__(**parts)
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request without a proper Host header; answer any other."""
        if scope["type"] in ("http", "websocket"):
            address = request_address(scope)
            if address is None:
                refusal = Refusal(400, WRONG_HOST)
                if scope["type"] == "http":
                    await PlainTextResponse(refusal.text + "\n", refusal.status)(scope, receive, send)
                else:
                    await refuse(refusal, scope, receive, send)
                return
            scope = {**scope, ADDRESS: address}
        await super().__call__(scope, receive, send)

    @property
    def core(self) -> ServiceCore:
        """The service's logic, for the surrounding application: call :meth:`flush` after changing its state."""
        return self._gateway.core

    def flush(self) -> None:
        """Send the output of calls to :attr:`core`; call in the event loop of the application."""
        self._gateway.flush()

    @property
    def connection_string(self) -> str:
        """The connection string, with the access key; :exc:`RuntimeError` without an endpoint."""
        identity = self._gateway.identity
        if identity.endpoint is None:
            raise RuntimeError("the service does not know its URL: give endpoint= to create_app")
        return identity.connection_string(identity.endpoint).build()


def build_app(gateway: Gateway) -> ServiceApp:
    """Return the ASGI application of a gateway."""
    endpoint = ClientEndpoint(gateway)

    async def not_a_websocket(request: Request) -> Response:
        return PlainTextResponse("This is a WebSocket endpoint: connect with a WebSocket client.\n", 400)

    async def negotiate(request: Request) -> Response:
        return _negotiate(gateway, request)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        yield
        await gateway.close()

    async def not_found(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = refuse_path(scope["path"].removeprefix(scope["root_path"]))
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            await refuse(refusal, scope, receive, send)
        else:
            await PlainTextResponse(f"{refusal.text}\n", refusal.status)(scope, receive, send)

    bases = ("/client/hubs/{hub}", "/client/hubs", "/client")
    paths = [path for base in bases for path in (base, f"{base}/")]
    clients: list[WebSocketRoute | Route] = [
        *(WebSocketRoute(path, endpoint) for path in paths),
        *(Route(path, not_a_websocket) for path in paths),
    ]
    for route in clients:
        # The words in a path have no case (emulator).
        route.path_regex = re.compile(route.path_regex.pattern, re.IGNORECASE)
    app = ServiceApp(
        gateway,
        lifespan=lifespan,
        routes=[
            *clients,
            Route("/negotiate", negotiate, methods=["GET", "POST"]),
            rest_route(gateway),
            metrics_route(gateway),
            *trace_routes(gateway),
        ],
    )
    app.router.default = not_found
    return app


def _negotiate(gateway: Gateway, request: Request) -> Response:
    """Answer ``/negotiate?hub=chat&userId=me`` with a client URL: a convenience for development."""
    if not is_allowed(request, gateway.options.negotiate):
        return PlainTextResponse(
            "Negotiation is for clients on the same machine unless it is enabled in the options.\n", 403
        )
    hub = request.query_params.get("hub") or "chat"
    if not is_hub_name(hub):
        return PlainTextResponse("Invalid hub name.\n", 400)
    address: RequestAddress = request.scope[ADDRESS]
    identity = gateway.identity
    token = mint_client_token(
        identity.connection_string(identity.signing_endpoint(address.own_urls)),
        hub,
        user_id=request.query_params.get("userId"),
        roles=_NEGOTIATED_ROLES,
    )
    # The Host header is right for the URL, which must work where the client is, but it is never signed.
    url = f"{client_endpoint(identity.endpoint or address.origin, hub)}?access_token={token}"
    return JSONResponse({"url": url}, headers={"Cache-Control": "no-store"})
