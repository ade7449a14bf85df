"""Who may use what is meant for development only: the people in front of this very machine."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

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


def origin_of(connection: HTTPConnection) -> str:
    """Return where a client believes the service to be, such as ``http://localhost:8080``."""
    scope = connection.scope
    scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
    return f"{scheme}://{connection.headers.get('host', '')}{scope.get('root_path', '')}"
