"""Connection strings, token audiences, what a client token entitles to; signatures are for the adapter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote, urlsplit

import msgspec

from .names import is_group_name, is_hub_name, is_text

__all__ = [
    "ClientGrant",
    "ConnectionString",
    "InvalidClaims",
    "audience_matches",
    "client_audience",
    "client_claims",
    "client_endpoint",
    "request_audience_matches",
]

_VERSION: Final = "1.0"

_ANY_OPERATION: Final = "https://webpubsub.azure.com"


class InvalidClaims(ValueError):
    """A token is signed correctly but asks for something that does not exist; the message says what."""


class ConnectionString(msgspec.Struct, frozen=True):
    """Where a service is and the key to it: ``Endpoint=https://host;AccessKey=...;Version=1.0;``.

    ``endpoint`` is an http(s) URL without a trailing slash. The key does not show in the repr.
    """

    endpoint: str
    access_key: str

    @classmethod
    def parse(cls, text: str) -> ConnectionString:
        """Read a connection string; names are case-insensitive and ``Port`` is optional (pysvc).

        Raises `ValueError` that says what is missing, never showing the key.
        """
        parts: dict[str, str] = {}
        if text.strip().lower().startswith(("ws://", "wss://", "http://", "https://")):
            raise ValueError("that is a URL; a connection string looks like Endpoint=https://...;AccessKey=...")
        for part in text.strip().split(";"):
            if not part.strip():
                continue
            # A key may itself contain "=": only the first one separates.
            name, separator, value = part.partition("=")
            if not separator:
                raise ValueError("a connection string is made of Name=value parts, divided by semicolons")
            parts[name.strip().lower()] = value.strip()
        endpoint = parts.get("endpoint", "").rstrip("/")
        access_key = parts.get("accesskey", "")
        if not endpoint:
            raise ValueError("the connection string has no Endpoint")
        if not access_key:
            raise ValueError("the connection string has no AccessKey")
        url = urlsplit(endpoint)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("the Endpoint of a connection string is an http or https URL")
        port = parts.get("port", "")
        if port:
            if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError("the Port of a connection string is a number between 1 and 65535")
            host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
            endpoint = f"{url.scheme}://{host}:{port}{url.path}"
        return cls(endpoint, access_key)

    def build(self) -> str:
        """Write the connection string, in the form all official server SDKs read."""
        return f"Endpoint={self.endpoint};AccessKey={self.access_key};Version={_VERSION};"

    def __repr__(self) -> str:
        return f"ConnectionString(endpoint={self.endpoint!r}, access_key=...)"


def client_audience(endpoint: str, hub: str) -> str:
    """Return the ``aud`` claim of tokens for the clients of a hub: an http(s) URL (pysvc)."""
    return f"{endpoint.rstrip('/')}/client/hubs/{hub}"


def client_endpoint(endpoint: str, hub: str) -> str:
    """Return the WebSocket URL of a hub, without a token: ``ws`` for an http endpoint, ``wss`` for https.

    Raises `ValueError` for an illegal hub name.
    """
    if not is_hub_name(hub):
        raise ValueError(f"not a hub name: {hub!r}; a letter, then at most 127 letters, digits or _`,.[]")
    scheme, _, rest = client_audience(endpoint, hub).partition("://")
    return f"{'wss' if scheme.lower() == 'https' else 'ws'}://{rest}"


def audience_matches(claim: object, endpoints: tuple[str, ...], hub: str) -> bool:
    """Tell whether an ``aud`` claim, a string or a list of them, names ``hub`` at one of the endpoints.

    Case does not matter, nor whether it says http or https, nor a trailing slash (emulator).
    """
    expected = {_normal(client_audience(endpoint, hub)) for endpoint in endpoints}
    return any(_normal(audience) in expected for audience in _strings(claim))


def _normal(audience: str) -> str:
    scheme, separator, rest = audience.lower().partition("://")
    if not separator or scheme not in ("http", "https"):
        return audience
    return rest.rstrip("/")


def request_audience_matches(claim: object, urls: Iterable[str]) -> bool:
    """Tell whether an ``aud`` claim names a request to the data plane by one of the URLs it goes by.

    A claim may leave the query out (Azure docs) or have it (pysvc). Case does not matter, nor whether a character
    is percent-encoded, nor a trailing slash (emulator). The audience of Microsoft Entra tokens names any request,
    so that code written for such tokens can be tried with a key.
    """
    expected = {_normal(_ANY_OPERATION)}
    for url in urls:
        expected |= {_normal(unquote(url)), _normal(unquote(url.partition("?")[0]))}
    return any(_normal(unquote(audience)) in expected for audience in _strings(claim))


class ClientGrant(msgspec.Struct, frozen=True):
    """What a new connection starts with: its user (``None``: anonymous), its roles, the groups it is in."""

    user_id: str | None = None
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @classmethod
    def from_claims(cls, claims: Mapping[str, object]) -> ClientGrant:
        """Read the claims of a verified client token (Azure docs).

        Raises `InvalidClaims` for an illegal group name or claims of a wrong type, to be answered
        with HTTP 400.
        """
        user_id = claims.get("sub")
        if user_id is not None and not isinstance(user_id, str):
            raise InvalidClaims("the claim sub must be a string")
        if user_id is not None and not is_text(user_id):
            raise InvalidClaims("the claim sub holds half of a surrogate pair")
        groups = _claim_strings(claims, "webpubsub.group")
        for group in groups:
            if not is_group_name(group):
                raise InvalidClaims("the claim webpubsub.group holds an invalid group name")
        return cls(user_id or None, _claim_strings(claims, "role"), groups)


def client_claims(grant: ClientGrant) -> dict[str, object]:
    """Return the claims that entitle to ``grant``, the reverse of `ClientGrant.from_claims`."""
    claims: dict[str, object] = {}
    if grant.user_id:
        claims["sub"] = grant.user_id
    if grant.roles:
        claims["role"] = list(grant.roles)
    if grant.groups:
        claims["webpubsub.group"] = list(grant.groups)
    return claims


def _claim_strings(claims: Mapping[str, object], name: str) -> tuple[str, ...]:
    value = claims.get(name)
    if value is None:
        return ()
    strings = _strings(value)
    if not strings and value != []:
        raise InvalidClaims(f"the claim {name} must be a string or a list of strings")
    return strings


def _strings(claim: object) -> tuple[str, ...]:
    """Return a claim as strings; nothing if it is anything but a string or a list of strings."""
    if isinstance(claim, str):
        return (claim,)
    try:
        return msgspec.convert(claim, tuple[str, ...])
    except msgspec.ValidationError:
        return ()
