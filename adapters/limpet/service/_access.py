"""The address at which a request has arrived, and the access to features that are for development."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from starlette.requests import HTTPConnection
from starlette.types import Scope

from limpet_core.service import parse_host

WRONG_HOST: Final = "Send one Host header, with a host and perhaps a port, and a target that is a path."
"""The text of the answer to a request for which :func:`request_address` or :func:`origin_of` returns ``None``."""

ADDRESS: Final = "limpet.address"
"""The key of the :class:`RequestAddress` in the scope of a request."""

_THIS_MACHINE: Final = ("127.0.0.1", "localhost", "::1")

# The names of headers that proxies add (RFC 7239, RFC 9110 7.6.3, and common practice).
_FORWARDING: Final = re.compile(
    r".*forward.*|via|x-via|cdn-loop|(x-)?proxy.*|(x-)?real-.*|x-orig(in(al|ating)?)?-.*|x-host|x-(url-)?scheme|"
    r"front-end-https|(x-)?(ssl|tls|client-cert).*|x-(envoy|arr|amzn?|appengine|azure|nginx|accel|varnish)-?.*|"
    r"(cf|fly|fastly|incap|wl-proxy)-.*|(.*-)?(client|remote|user|source|socket|connecting|peer|cluster)-?(ip(v[46])?|addr(ess)?)"
)


@dataclass(frozen=True)
class RequestAddress:
    """The address at which a request has arrived, as URLs of the application, with the path of its mount.

    Attributes:
        origin: has the host that the peer named: well-formed, but freely chosen by the peer.
        own_urls: have the address at which the server took the connection, first the one to sign tokens for. The peer
            chooses no part of them: a mount path that comes from the peer is left out.
    """

    origin: str
    own_urls: tuple[str, ...]


def request_address(scope: Scope) -> RequestAddress | None:
    """Return the address of a request; ``None`` without exactly one proper Host header or if the target is no path."""
    scheme = "https" if scope["scheme"] in ("https", "wss") else "http"
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == b"host"]
    root: str = scope.get("root_path", "")
    origin = origin_of(scheme, hosts, root)
    # Other forms of a target (RFC 9112 3.2) are for proxies.
    if origin is None or not scope["path"].startswith("/"):
        return None
    host, port = scope.get("server") or ("", None)
    if parse_host(_bracketed(host)) is None:
        # A Unix socket has a path instead, and some servers give no address.
        host, port = "localhost", None
    hosts = [host, *(other for other in _THIS_MACHINE if is_loopback(host) and other != host)]
    # A mount path with parameters comes from the peer.
    suffix = ("" if port is None else f":{port}") + ("" if scope.get("path_params") else _quoted(root))
    # Audiences are compared without the scheme, which may come from a proxy.
    return RequestAddress(origin, tuple(f"http://{_bracketed(host)}{suffix}" for host in hosts))


def origin_of(scheme: str, hosts: Sequence[str], root_path: str) -> str | None:
    """Return the URL of an application as the peer has it; ``None`` without exactly one proper Host header."""
    if len(hosts) != 1 or parse_host(hosts[0]) is None:
        return None
    return f"{scheme}://{hosts[0]}{_quoted(root_path)}"


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _quoted(root_path: str) -> str:
    path = quote(root_path.strip("/"))
    return f"/{path}" if path else ""


@functools.lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Return whether a host name or address can be reached only from this machine."""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host.lower() == "localhost"


def is_allowed(request: HTTPConnection, enabled: bool | None) -> bool:
    """Return whether an option allows a request: always, never, or (``None``) from this machine only.

    A request passed on by a proxy on this machine comes from elsewhere. Signs of a proxy are any header that proxies
    add, and HTTP 1.0, which no browser uses, but nginx does by default.
    """
    if enabled is not None:
        return enabled
    if request.scope.get("http_version") == "1.0" or any(map(_is_forwarding, request.headers)):
        return False
    # The host name, too: a web page can make its own name point to 127.0.0.1 (DNS rebinding).
    named = parse_host(request.headers.get("host", ""))
    return (
        request.client is not None and is_loopback(request.client.host) and named is not None and is_loopback(named[0])
    )


def _is_forwarding(header: str) -> bool:
    return _FORWARDING.fullmatch(header.lower().replace("_", "-")) is not None
