"""The choice of an HTTP proxy: the application's setting, or the environment's.

``CONNECT``, the request to the proxy, is in ``limpet_core/client/http_connect.py``.
"""

from __future__ import annotations

import ipaddress
import urllib.request
from contextlib import suppress
from typing import Literal

from limpet import Endpoint, InvalidType, InvalidValue, Proxy, parse_proxy

ProxySetting = str | Literal[False] | None
"""The URL of an HTTP proxy; None: the environment's; False: none, whatever the environment says."""


def check_proxy(proxy: object) -> None:
    """Raise InvalidType or InvalidValue unless ``proxy`` is a :data:`ProxySetting`."""
    if isinstance(proxy, str):
        parse_proxy(proxy)
    elif proxy is not None and proxy is not False:
        raise InvalidType(f"proxy must be the URL of a proxy, None or False, not {type(proxy).__name__}")


def choose_proxy(setting: ProxySetting, endpoint: Endpoint) -> Proxy | None:
    """Return the proxy for ``endpoint``: the given one, or that of ``https_proxy``, ``all_proxy`` and ``no_proxy``.

    The environment's proxy is never used for the machine's own loopback addresses.

    Raises:
        InvalidValue: the URL is not that of an HTTP proxy; the message says where it came from.
    """
    if setting is not None:
        return parse_proxy(setting) if setting else None
    proxies = urllib.request.getproxies()
    if _is_loopback(endpoint.host) or _is_excepted(endpoint, proxies.get("no", "")):
        return None
    url = (proxies.get("https" if endpoint.secure else "http") or proxies.get("all") or "").strip()
    if not url:
        return None
    try:
        return parse_proxy(url if "://" in url else f"http://{url}")
    except InvalidValue as error:
        raise InvalidValue(f"the environment has a proxy that cannot be used (proxy=False: none): {error}") from None


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
