"""The connect event: what an event handler learns about a client that wants to connect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import cast

from limpet_core.service import ConnectRequest

_BYTES = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}


def connect_request(
    claims: Mapping[str, object],
    query: Mapping[str, list[str]],
    headers: Iterable[tuple[str, str]],
    subprotocols: list[str],
) -> ConnectRequest:
    """Return the body of the connect event of a client, without the token (emulator)."""
    listed: dict[str, list[str]] = {}
    for name, value in headers:
        if name.lower() != "authorization":
            # HTTP servers give names in any case; handlers look them up in title case.
            listed.setdefault(name.title(), []).append(_text(value))
    return ConnectRequest(
        claims={_string(name): _strings(value) for name, value in claims.items()},
        query={name: values for name, values in query.items() if name != "access_token"},
        headers=listed,
        subprotocols=[_text(offer) for offer in subprotocols if offer],
    )


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
