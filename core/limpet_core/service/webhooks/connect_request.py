"""The connect event: what an event handler learns about a client that wants to connect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Final, cast

from limpet_core.service.webhooks.cloud_events import ConnectRequest

# Headers of the cloud's own front end (emulator).
_INTERNAL: Final = "x-asrs-internal-"

_BYTES: Final = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}


def connect_request(
    claims: Mapping[str, object],
    query: Mapping[str, list[str]],
    headers: Iterable[tuple[str, str]],
    subprotocols: list[str],
) -> ConnectRequest:
    """Return the body of the connect event of a client, without the token (emulator)."""
    listed: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower() != "authorization" and not name.lower().startswith(_INTERNAL):
            # HTTP servers give names in any case; handlers look them up in title case.
            listed.setdefault(name.title(), []).append(_text(value))
    return ConnectRequest(
        claims=_with_long_names({_string(name): _strings(value) for name, value in claims.items()}),
        query={name: values for name, values in query.items() if name.lower() != "access_token"},
        headers=listed,
        subprotocols=[_text(offer) for offer in subprotocols if offer],
    )


# The names that .NET gives to claims, and with it the cloud: the official samples look them up.
_LONG_NAMES: Final = {
    "sub": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier",
    "nameid": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier",
    "unique_name": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name",
    "email": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/emailaddress",
    "given_name": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/givenname",
    "family_name": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/surname",
    "role": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
    "roles": "http://schemas.microsoft.com/ws/2008/06/identity/claims/role",
}


def _with_long_names(claims: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return claims with those of known names under their long names as well, for handlers look up either."""
    found = claims.copy()
    for name, values in claims.items():
        long_name = _LONG_NAMES.get(name)
        if long_name is not None:
            found[long_name] = found.get(long_name, []) + values
    return found


def _text(value: str) -> str:
    """Return a header with each byte as one character; some libraries give bytes beyond ASCII as surrogates."""
    return value.translate(_BYTES)


def _strings(claim: object) -> list[str]:
    """Return a claim as a list of strings, the form that handlers expect."""
    if isinstance(claim, list):
        return [_string(item) for item in cast("list[object]", claim)]
    return [_string(claim)]


def _string(value: object) -> str:
    # Text in JSON may have lone surrogates, which cannot be sent.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else json.dumps(value)
