"""Connection strings, and the audience and claims of client tokens. The adapter signs and verifies tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import msgspec

from limpet_core.protocol.names import is_group_name, is_hub_name, is_text
from limpet_core.service.access.audiences import is_endpoint, strings_in

_VERSION: Final = "1.0"

# The claims that name the user, the first one that is there: the cloud reads "nameid" as the long name (emulator).
_USER_CLAIMS: Final = ("sub", "nameid", "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier")


# All that are there count. The cloud reads "roles", too, as the long name (emulator).
_ROLE_CLAIMS: Final = ("role", "roles", "http://schemas.microsoft.com/ws/2008/06/identity/claims/role")


class InvalidClaims(ValueError):
    """A correctly signed token has unusable claims; the message says which."""


class ConnectionString(msgspec.Struct, frozen=True):
    """The URL and the access key of a service: ``Endpoint=https://host;AccessKey=...;Version=1.0;``.

    Attributes:
        endpoint: an http(s) URL without a trailing slash.
        access_key: left out of the repr.
    """

    endpoint: str
    access_key: str

    @classmethod
    def parse(cls, text: str) -> ConnectionString:
        """Parse a connection string; names are case-insensitive and ``Port`` is optional (pysvc).

        Raises:
            ValueError: if a part is missing or invalid; the message never has the key.
        """
        parts: dict[str, str] = {}
        if text.strip().lower().startswith(("ws://", "wss://", "http://", "https://")):
            raise ValueError("that is a URL; a connection string looks like Endpoint=https://...;AccessKey=...")
        for part in text.strip().split(";"):
            if not part.strip():
                continue
            # A key may contain "=": only the first one separates.
            name, separator, value = part.partition("=")
            if not separator:
                raise ValueError("not a connection string: expected Endpoint=...;AccessKey=...;Version=1.0;")
            parts[name.strip().lower()] = value.strip()
        endpoint = parts.get("endpoint", "").rstrip("/")
        access_key = parts.get("accesskey", "")
        if not endpoint:
            raise ValueError("the connection string has no Endpoint")
        if not access_key:
            raise ValueError("the connection string has no AccessKey")
        if not is_endpoint(endpoint):
            raise ValueError(
                "the Endpoint of a connection string is an http or https URL: host, port and path, nothing else"
            )
        url = urlsplit(endpoint)
        port = parts.get("port", "")
        if port:
            if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError("the Port of a connection string is a number between 1 and 65535")
            hostname = url.hostname or ""
            host = f"[{hostname}]" if ":" in hostname else hostname
            endpoint = f"{url.scheme}://{host}:{port}{url.path}"
        return cls(endpoint, access_key)

    def build(self) -> str:
        """Return the text of the connection string, in the form that all official server SDKs read."""
        return f"Endpoint={self.endpoint};AccessKey={self.access_key};Version={_VERSION};"

    def __repr__(self) -> str:
        return f"ConnectionString(endpoint={self.endpoint!r}, access_key=...)"


def client_audience(endpoint: str, hub: str) -> str:
    """Return the ``aud`` claim of client tokens for a hub: an http(s) URL (pysvc)."""
    return f"{endpoint.rstrip('/')}/client/hubs/{hub}"


def client_endpoint(endpoint: str, hub: str) -> str:
    """Return the WebSocket URL of a hub, without a token: ``ws`` for an http endpoint, ``wss`` for https.

    Raises:
        ValueError: for an illegal hub name.
    """
    if not is_hub_name(hub):
        raise ValueError(f"not a hub name: {hub!r}; a letter, then at most 127 letters, digits or _`,.[]")
    scheme, _, rest = client_audience(endpoint, hub).partition("://")
    return f"{'wss' if scheme.lower() == 'https' else 'ws'}://{rest}"


class ClientGrant(msgspec.Struct, frozen=True):
    """The rights of a new connection.

    Attributes:
        user_id: ``None``: anonymous. An empty one stays empty (emulator).
        roles: such as ``webpubsub.joinLeaveGroup``.
        groups: joined at once.
    """

    user_id: str | None = None
    roles: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    @classmethod
    def from_claims(cls, claims: Mapping[str, object]) -> ClientGrant:
        """Read the claims of a verified client token (Azure docs).

        Without ``sub``, ``nameid`` is the user id; ``roles`` count like ``role`` (emulator).

        Raises:
            InvalidClaims: for an illegal group name or a claim of a wrong type. Answer with HTTP 400.
        """
        claim = next((name for name in _USER_CLAIMS if claims.get(name) is not None), "sub")
        user_id = claims.get(claim)
        if user_id is not None and not isinstance(user_id, str):
            raise InvalidClaims(f"the claim {claim} must be a string")
        if user_id is not None and not is_text(user_id):
            raise InvalidClaims(f"the claim {claim} holds half of a surrogate pair")
        groups = _claim_strings(claims, "webpubsub.group")
        for group in groups:
            if not is_group_name(group):
                raise InvalidClaims("the claim webpubsub.group holds an invalid group name")
        roles = dict.fromkeys(role for name in _ROLE_CLAIMS for role in _claim_strings(claims, name))
        return cls(user_id, tuple(roles), groups)


def client_claims(grant: ClientGrant) -> dict[str, object]:
    """Return the claims for a grant, the reverse of :meth:`ClientGrant.from_claims`."""
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
    strings = strings_in(value)
    if not strings and value != []:
        raise InvalidClaims(f"the claim {name} must be a string or a list of strings")
    return strings
