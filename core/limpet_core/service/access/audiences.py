"""The audiences of tokens: URLs that are compared part by part, so that no crafted text passes for another."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from ipaddress import IPv6Address
from typing import Final
from urllib.parse import unquote

import msgspec

_HOST: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|((?=[\w.~-]{1,255}(?::|\Z))[\w~-]+(?:\.[\w~-]+)*\.?))(?::([0-9]{0,5}))?", re.ASCII
)
_URL: Final = re.compile(r"(https?)://([^/?#]*)([^?#]*)(?:\?([^#]*))?", re.ASCII | re.IGNORECASE)
_STANDARD_PORTS: Final = {"http": 80, "https": 443}


def parse_host(text: str) -> tuple[str, int | None] | None:
    """Parse ``host`` or ``host:port``, with an IPv6 address in brackets (RFC 3986 3.2.2).

    Percent-encoding and most punctuation, which RFC 3986 allows in names, are refused: no real host has them. So are
    empty labels and more than 255 characters (RFC 1035 2.3.4). Text with a user name (``user@host``) is no host.

    Returns:
        The host in lower case, an IPv6 address in its short form without brackets, and the port if there is one;
        ``None`` for any other text.
    """
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    address, name, digits = match.groups()
    port = int(digits) if digits else None
    if port is not None and port > 65535:
        return None
    if address is None:
        return str(name).lower(), port
    try:
        return str(IPv6Address(address)), port
    except ValueError:
        return None


class _Parts(msgspec.Struct, frozen=True):
    """An http(s) URL in parts, the names in its path decoded separately; ``query``: whether there is one.

    ``standard``: the port is the default one of the scheme.
    """

    host: str
    port: int | None
    standard: bool
    path: tuple[str, ...]
    query: bool

    def is_at(self, other: _Parts) -> bool:
        """Return whether host and port are the same; http and https are not told apart."""
        return self.host == other.host and (self.port == other.port or (self.standard and other.standard))


# The URLs of a service are the same for each request. What peers say is as long as a head of a request may be.
@functools.lru_cache(maxsize=64)
def _parse_url(text: str) -> _Parts | None:
    match = _URL.fullmatch(text)
    found = None if match is None else parse_host(match[2])
    if match is None or found is None:
        return None
    host, port = found
    standard = port is None or port == _STANDARD_PORTS[match[1].lower()]
    return _Parts(host, port, standard, _segments(match[3]), bool(match[4]))


def _segments(path: str) -> tuple[str, ...]:
    """Return the segments of a path without trailing slashes; an encoded slash is part of a segment."""
    names = path.rstrip("/").split("/")[1:]
    return tuple(_decoded(name) for name in names)


def _decoded(text: str) -> str:
    # Different bytes that are not UTF-8 stay different.
    return unquote(text, errors="surrogateescape").lower()


_ENTRA: Final = _Parts("webpubsub.azure.com", None, True, (), False)


def is_endpoint(text: str) -> bool:
    """Return whether a text is the URL of a service: http or https, host, optional port and path, nothing else."""
    match = _URL.fullmatch(text)
    return match is not None and match[4] is None and parse_host(match[2]) is not None


def audience_matches(claim: object, endpoints: Iterable[str], hub: str) -> bool:
    """Return whether an ``aud`` claim, a string or a list of strings, names ``hub`` at one of the endpoints.

    Case, a trailing slash, and the difference between http and https do not matter (emulator).
    """
    return any(
        audience.path == (*endpoint.path, "client", "hubs", hub.lower()) and not audience.query
        for audience, endpoint in _pairs(claim, endpoints)
    )


def request_audience_matches(claim: object, endpoints: Iterable[str], path: str) -> bool:
    """Return whether an ``aud`` claim names a request to the data plane at one of the endpoints.

    The claim may leave out the query (Azure docs) or have one (pysvc); which one does not matter, so that a token for
    the first page of a list is good for the next ones (emulator). Neither do case, a trailing slash, and which
    characters are percent-encoded. The audience of Microsoft Entra tokens names any request, so that code written for
    such tokens can be tried with a key. A path that is not below ``/api`` is no request.

    Args:
        claim: the claim, a string or a list of strings.
        endpoints: the URLs of the service.
        path: below the endpoint, percent-encoded.
    """
    names = _segments(path)
    if names[:1] != ("api",):
        return False
    return is_entra_audience(claim) or any(
        audience.path == (*endpoint.path, *names) for audience, endpoint in _pairs(claim, endpoints)
    )


def is_entra_audience(claim: object) -> bool:
    """Return whether an ``aud`` claim is that of Microsoft Entra tokens, ``https://webpubsub.azure.com``."""
    return any(audience.is_at(_ENTRA) and not audience.path and not audience.query for audience in _audiences(claim))


def _pairs(claim: object, endpoints: Iterable[str]) -> list[tuple[_Parts, _Parts]]:
    """Return the pairs of an audience and an endpoint at the same host and port."""
    known = [parts for parts in map(_parse_url, endpoints) if parts is not None]
    return [(audience, endpoint) for audience in _audiences(claim) for endpoint in known if audience.is_at(endpoint)]


def _audiences(claim: object) -> list[_Parts]:
    return [parts for parts in map(_parse_url, strings_in(claim)) if parts is not None]


def strings_in(claim: object) -> tuple[str, ...]:
    """Return the strings of a claim; none if it is neither a string nor a list of strings."""
    if isinstance(claim, str):
        return (claim,)
    try:
        return msgspec.convert(claim, tuple[str, ...])
    except msgspec.ValidationError:
        return ()
