"""The choice of a proxy: the application's setting, or the environment's.

``CONNECT``, the request to an HTTP proxy, is in ``limpet_core/client/http_connect.py``; SOCKS5 is in ``socks.py``.
"""

from __future__ import annotations

import importlib
import ipaddress
import os
import urllib.request
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from limpet import Endpoint, InvalidType, InvalidValue, Proxy, Tunnel, parse_proxy
from limpet._extras import MissingExtra

if TYPE_CHECKING:
    from limpet._transports.socks import SocksTunnel

ProxySetting = str | Literal[False] | None
"""The URL of an HTTP or SOCKS5 proxy; None: the environment's; False: none, whatever the environment says."""


def check_proxy(proxy: object) -> None:
    """Raise InvalidType or InvalidValue unless ``proxy`` is a :data:`ProxySetting`."""
    if isinstance(proxy, str):
        _usable(proxy)
    elif proxy is not None and proxy is not False:
        raise InvalidType(f"proxy must be the URL of a proxy, None or False, not {type(proxy).__name__}")


def choose_proxy(setting: ProxySetting, endpoint: Endpoint) -> Proxy | None:
    """Return the proxy for ``endpoint``: the given one, or that of ``https_proxy``, ``all_proxy`` and ``no_proxy``.

    The environment's proxy is never used for the machine's own loopback addresses.

    Raises:
        InvalidValue: the URL is not that of a proxy that can be used; the message says where it came from.
    """
    if setting is not None:
        return _usable(setting) if setting else None
    if _is_loopback(endpoint.host):
        return None
    proxies = _of_environment()
    url = (proxies.get("https" if endpoint.secure else "http") or proxies.get("all") or "").strip()
    if not url or _is_excepted(endpoint, proxies.get("no", "")):
        return None
    try:
        return _usable(url if "://" in url else f"http://{url}")
    except InvalidValue as error:
        raise InvalidValue(f"the environment has a proxy that cannot be used (proxy=False: none): {error}") from None


def _of_environment() -> dict[str, str]:
    """Return the proxies that the environment names, or the system's settings, by the schemes that they are for.

    Each connection asks, since the environment may change. To read all of it would cost a tenth of a connection.
    """
    of_names = urllib.request.getproxies is getattr(urllib.request, "getproxies_environment", None)
    if of_names and not any(name[-6:].lower() == "_proxy" for name in os.environ):
        return {}
    return urllib.request.getproxies()


def _usable(url: str) -> Proxy:
    proxy = parse_proxy(url)
    if proxy.scheme == "socks5":
        try:
            importlib.import_module("limpet._transports.socks")  # of an extra
        except MissingExtra as error:
            raise InvalidValue(f"proxy is a SOCKS5 proxy: {error}") from None
    return proxy


def tunnel_through(proxy: Proxy, host: str, port: int) -> Tunnel | SocksTunnel:
    """Return a tunnel through ``proxy``, which was chosen here.

    Raises:
        InvalidValue: the proxy cannot be asked for that host.
    """
    if proxy.scheme != "socks5":
        return Tunnel(proxy, host, port)
    from limpet._transports.socks import SocksTunnel

    return SocksTunnel(proxy, host, port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        name = host.removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")


def _is_excepted(endpoint: Endpoint, no_proxy: str) -> bool:
    """Return whether ``no_proxy`` (or the system's equivalent) names the host: exactly, by its domain or network."""
    host = endpoint.host.removesuffix(".")
    if urllib.request.proxy_bypass(f"{host}:{endpoint.port}"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for name in no_proxy.split(","):
        with suppress(ValueError):  # not a network
            if address in ipaddress.ip_network(name.strip().strip("[]"), strict=False):
                return True
    return False
