"""Who may use what is meant for development only: the people in front of this very machine."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from urllib.parse import quote, urlsplit

from starlette.requests import HTTPConnection
from starlette.types import Scope

__all__ = ["is_allowed", "is_loopback", "origin_of"]


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this very machine's, reachable from nowhere else."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == "localhost"


def is_allowed(request: HTTPConnection, enabled: bool | None) -> bool:
    """Tell whether a request is allowed by an option that is true, false or ``None``: from this machine only."""
    if enabled is not None:
        return enabled
    # The name too: a web page can make its own name point to 127.0.0.1 (DNS rebinding).
    with suppress(ValueError):
        named = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
        return request.client is not None and is_loopback(request.client.host) and is_loopback(named)
    return False


def origin_of(scope: Scope) -> str:
    """Return the URL of an application, with the path it is mounted at, as the peer has it."""
    scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1")
    return f"{scheme}://{host}{quote(scope.get('root_path', ''))}"
