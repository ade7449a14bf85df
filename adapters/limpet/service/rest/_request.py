"""Requests to the data plane: path, token and body on the way to an operation, and the answers of errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, unquote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from limpet.service._access import ADDRESS, RequestAddress, is_allowed
from limpet.service._gateway import Gateway
from limpet.service.rest._call import AfterBody, AfterWrite, Call, Operation
from limpet.service.rest._health import health as answer_health
from limpet.service.rest.operations import GENERATE_TOKEN, OPERATIONS
from limpet.service.tokens import InvalidToken
from limpet_core.service.data_plane.parameters import API_VERSIONS, OperationError, Query, bad_request, hub_name
from limpet_core.text import one_line

MAX_BODY = 1024 * 1024
"""The maximum size of a request's body, in bytes (emulator)."""

_BELOW = "limpet.below"
"""The key of the path below ``/api`` in the scope of a request, as the peer has escaped it."""

_SUPPORTED = (b"api-supported-versions", ", ".join(API_VERSIONS).encode())


def rest_route(gateway: Gateway) -> BaseRoute:
    """Return the route of all paths below ``/api``."""

    async def health(request: Request) -> Response:
        Query(request.query_params.multi_items()).api_version()
        return answer_health(gateway, request)

    routes = [Route("/health", health, methods=["GET", "HEAD"])]
    for path, operations in OPERATIONS.items():
        endpoint = _endpoint(gateway, operations, makes_tokens=path == GENERATE_TOKEN)
        routes.append(Route(path, endpoint, methods=list(operations)))
    for route in routes:
        # The words in a path have no case (emulator).
        route.path_regex = re.compile(route.path_regex.pattern, re.IGNORECASE)
    api = Starlette(routes=routes, exception_handlers={OperationError: _failed, HTTPException: _no_operation})
    api.router.redirect_slashes = False
    mount = Mount("/api", app=_Paths(api))
    # Names may contain line breaks.
    mount.path_regex = re.compile(mount.path_regex.pattern, re.DOTALL | re.IGNORECASE)
    return mount


def _endpoint(
    gateway: Gateway, operations: dict[str, Operation], *, makes_tokens: bool
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        _authorize(gateway, request, makes_tokens=makes_tokens)
        operation = operations.get(request.method)
        if operation is None:
            # Starlette passes on HEAD where GET is allowed.
            raise HTTPException(405)
        hub_name(request.path_params["hub"])
        address: RequestAddress = request.scope[ADDRESS]
        base = (gateway.identity.endpoint or address.origin).rstrip("/")
        try:
            url = f"{base}/api{request.scope[_BELOW]}"
            if request.method in ("GET", "HEAD"):
                await gateway.catch_up()
            answer = operation(Call(gateway, request, url, gateway.identity.signing_endpoint(address.own_urls)))
            if isinstance(answer, AfterBody):
                answer = answer.proceed(await _read_body(request, gateway.options.request_timeout))
            if isinstance(answer, AfterWrite):
                await gateway.carry_out(answer.write)
                return Response(status_code=answer.status)
            return answer
        finally:
            gateway.flush()

    return endpoint


def _authorize(gateway: Gateway, request: Request, *, makes_tokens: bool) -> None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise _unauthorized("Sign the request: Authorization: Bearer <token>, with the URL as its audience.")
    address: RequestAddress = request.scope[ADDRESS]
    endpoints = gateway.identity.accepted_endpoints(address.origin, address.own_urls)
    # Whoever reaches the service could make such a token: it counts on the own machine alone.
    entra = gateway.options.unvalidated_entra_tokens and is_allowed(request, None)
    path = f"/api{request.scope[_BELOW]}"
    try:
        tokens = gateway.identity.tokens
        tokens.check_request(token.strip(), endpoints, path, makes_tokens=makes_tokens, unvalidated_entra=entra)
    except InvalidToken as error:
        endpoint = gateway.identity.endpoint
        known = "" if endpoint is None else f" The URL of this service is {endpoint}."
        raise _unauthorized(f"The token is not valid: {error}.{known}") from None


async def _read_body(request: Request, seconds: float | None) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            return await _receive_body(request)
    except TimeoutError:
        raise OperationError(408, "Error.RequestTimeout", f"The body did not arrive within {seconds:g} s.") from None


async def _receive_body(request: Request) -> bytes:
    wrong_length = bad_request(f"Invalid Content-Length header. It is needed, and at most {MAX_BODY} bytes.")
    length = request.headers.get("content-length", "")
    # What comes in chunks has no length, whatever it says (RFC 9112 6.3).
    if "transfer-encoding" in request.headers:
        raise wrong_length
    if not (length.isascii() and length.isdigit() and len(length) <= 10 and int(length) <= MAX_BODY):
        raise wrong_length
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            # Not every server holds a peer to its word.
            if len(body) > MAX_BODY:
                raise wrong_length
    except ClientDisconnect:
        raise bad_request("The body did not arrive.") from None  # nobody reads it
    return bytes(body)


# ---- Paths


class _Paths:
    """Decodes the path again, since a slash in a name does not separate names.

    As in the cloud, percent-encoding is removed once, but ``%2F`` stays encoded, and a slash at the end does not matter
    (emulator). Behind ``groups`` it does: there it is all that is left of a group without a name, and not all groups.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        root: str = scope["root_path"]
        path: str = scope["path"]
        raw = scope.get("raw_path") or quote(path, safe="/:").encode()
        # The root path is known only decoded; its number of slashes is the same in both forms.
        parts = raw.decode("latin-1").split("/")
        below = "/" + "/".join(parts[root.count("/") + 1 :])
        known = below if below.endswith("/groups/") else below.removesuffix("/")
        path = root + unquote(re.sub("%2f", lambda found: "%25" + found.group()[1:], known, flags=re.IGNORECASE))

        async def send_with_versions(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], _SUPPORTED]
            await send(message)

        await self._app({**scope, "path": path, _BELOW: below}, receive, send_with_versions)


# ---- Errors

# The handlers are coroutines: Starlette calls others in a thread, and to start the first one takes files.


def _unauthorized(message: str) -> OperationError:
    return OperationError(401, "Error.Unauthorized", message)


async def _failed(request: Request, error: Exception) -> Response:
    assert isinstance(error, OperationError)
    return _answer(request, error)


def _answer(request: Request, error: OperationError) -> Response:
    headers = {"x-ms-error-code": error.code}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status == 408 and request.scope.get("http_version", "1.1").startswith("1"):
        headers["Connection"] = "close"
    if request.method == "HEAD":
        return Response(status_code=error.status, headers=headers)
    return JSONResponse({"code": error.code, "message": error.message, "target": error.target}, error.status, headers)


async def _no_operation(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = f"Error.{HTTPStatus(error.status_code).phrase.title().replace(' ', '')}"
    asked = one_line(f"{request.method} /api{request.scope[_BELOW]}")
    allowed = (error.headers or {}).get("Allow")
    hint = f" This path has {allowed}." if allowed else ""
    message = f"This service knows no operation {asked}.{hint}"
    response = _answer(request, OperationError(error.status_code, code, message))
    response.headers.update(error.headers or {})
    return response
