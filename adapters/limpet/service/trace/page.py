"""The routes of the trace page: the page, its files, its feed."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from functools import cache
from importlib import resources

import msgspec
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from limpet.service._access import ADDRESS, RequestAddress, is_allowed
from limpet.service._gateway import Gateway
from limpet.service.trace.feed import Feed
from limpet_core.service import list_connections, snapshot

# Each open page costs the service a little.
_MAX_FEEDS = 16

# Connections in one answer, and characters of a search.
_MAX_LISTED = 200
_MAX_SEARCH = 240

_MEDIA_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}

_ORIGIN = re.compile(r"http(s?://[\w.\-:\[\]]+)", re.ASCII)

_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)

_Endpoint = Callable[[Request], Awaitable[Response]]


def trace_routes(gateway: Gateway) -> list[Route]:
    """Return the routes ``/`` and ``/trace/...`` of the trace page of a gateway."""
    _files()  # while the process has file descriptors
    pages = _Pages(gateway)
    return [
        Route("/", pages.guarded(pages.index), methods=["GET"]),
        Route("/trace/feed", pages.guarded(pages.feed), methods=["GET"]),
        Route("/trace/connections", pages.guarded(pages.connections), methods=["GET"]),
        Route("/trace/state", pages.guarded(pages.state), methods=["GET"]),
        Route("/trace/{name}", pages.guarded(pages.file), methods=["GET"]),
    ]


class _Pages:
    """The endpoints of the trace page of one service."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._feeds: set[Feed] = set()

    def guarded(self, endpoint: _Endpoint) -> _Endpoint:
        """Wrap an endpoint: refuse requests without access, and make answers useless to other sites."""

        async def answer(request: Request) -> Response:
            if not is_allowed(request, self._gateway.options.trace):
                response: Response = PlainTextResponse(
                    "The trace page is for browsers on the same machine unless it is enabled in the options.\n", 403
                )
            elif request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not _is_visit(
                request
            ):
                response = PlainTextResponse("The trace page is not for other sites.\n", 403)
            else:
                response = await endpoint(request)
            response.headers.update(
                {
                    "Cache-Control": "no-store",
                    "Content-Security-Policy": self._policy(request),
                    "Cross-Origin-Resource-Policy": "same-origin",
                    "Referrer-Policy": "no-referrer",
                    "X-Content-Type-Options": "nosniff",
                }
            )
            return response

        return answer

    async def index(self, request: Request) -> Response:
        """Answer with the page."""
        return _file_response("index.html")

    async def file(self, request: Request) -> Response:
        """Answer with a file of the page."""
        name: str = request.path_params["name"]
        return _file_response(name) if name in _files() else PlainTextResponse("There is no such file.\n", 404)

    async def state(self, request: Request) -> Response:
        """Answer with the present state as JSON, for scripts."""
        state = snapshot(self._gateway.core.hubs)
        return Response(msgspec.json.format(msgspec.json.encode(state)) + b"\n", media_type="application/json")

    async def connections(self, request: Request) -> Response:
        """Answer ``?search=...&offset=...&limit=...`` with these connections as JSON."""
        asked = request.query_params
        search = asked.get("search", "")
        offset, limit = (asked.get(name, default) for name, default in (("offset", "0"), ("limit", "100")))
        if not (_NUMBER.fullmatch(offset) and _NUMBER.fullmatch(limit)) or len(search) > _MAX_SEARCH:
            return PlainTextResponse("offset and limit are numbers, and a search is short.\n", 400)
        found = list_connections(self._gateway.core.hubs, search, int(offset), min(int(limit), _MAX_LISTED))
        return Response(msgspec.json.encode(found), media_type="application/json")

    async def feed(self, request: Request) -> Response:
        """Answer with the live feed, from where the page has left an earlier one."""
        memory = self._gateway.memory
        if memory is None:
            return PlainTextResponse("The trace page is switched off.\n", 404)
        if len(self._feeds) >= _MAX_FEEDS:
            return PlainTextResponse(f"{_MAX_FEEDS} trace pages are open: close one first.\n", 503)
        after = request.headers.get("last-event-id", "")
        feed = Feed(self._gateway.core, memory, after=after, cluster=self._gateway.cluster_view)
        return _FeedResponse(feed, self._feeds)

    def _policy(self, request: Request) -> str:
        """Return the Content-Security-Policy: nothing from other sites, except the WebSocket of the try-it panel.

        Not every browser applies 'self' to WebSockets, and a configured endpoint can be another host.
        """
        connect = "connect-src 'self'"
        address: RequestAddress = request.scope[ADDRESS]
        # The host comes from the request: only a host may get into the header.
        origin = _ORIGIN.match(self._gateway.identity.endpoint or address.origin)
        if origin is not None:
            connect += f" ws{origin[1]}"
        return f"default-src 'self'; {connect}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class _FeedResponse(StreamingResponse):
    """A feed that watches the service only while the response is sent."""

    def __init__(self, feed: Feed, feeds: set[Feed]) -> None:
        super().__init__(feed.chunks(), media_type="text/event-stream")
        self._feed = feed
        self._feeds = feeds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._feeds.add(self._feed)
        try:
            with self._feed:
                await super().__call__(scope, receive, send)
        finally:
            self._feeds.discard(self._feed)


def _is_visit(request: Request) -> bool:
    """Return whether the request is a visit of the page, perhaps over a link of another site."""
    return request.headers.get("sec-fetch-mode") == "navigate" and request.headers.get("sec-fetch-dest") == "document"


@cache
def _files() -> dict[str, bytes]:
    """Read the files of the page, once; no other file can be requested."""
    static = resources.files("limpet.service.trace") / "static"
    return {entry.name: entry.read_bytes() for entry in static.iterdir() if entry.is_file()}


def _file_response(name: str) -> Response:
    return Response(_files()[name], media_type=_MEDIA_TYPES[name.rpartition(".")[2]])
