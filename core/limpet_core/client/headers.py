"""Headers of the application's for the handshake, such as those that a gateway asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, cast

from limpet_core.errors import InvalidType, InvalidValue

Headers = tuple[tuple[str, str], ...]
"""Pairs of name and value, checked."""

HeadersSetting = Mapping[str, str] | Iterable[tuple[str, str]]
"""Headers as an application gives them: a dict, or pairs of name and value."""

_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE: Final = re.compile(r"|[!-~]|[!-~][\t -~]*[!-~]")  # RFC 9110, 5.5, without obs-text
_FRAMING: Final = ("host", "connection", "upgrade", "content-length", "transfer-encoding", "te", "trailer", "expect")
_RESERVED: Final = frozenset((*_FRAMING, "proxy-authorization"))
_SECRET: Final = re.compile(r"auth|cookie|credential|key|pass|secret|session|sign|token", re.IGNORECASE)
_BREAK: Final = re.compile(r"[\s;,=]+")
_LONG: Final = 8


def check_headers(headers: object) -> Headers:
    """Return ``headers``, a :data:`HeadersSetting` or None, as pairs.

    Raises:
        InvalidType: it is none, or a name or value is not a str.
        InvalidValue: a name or value cannot be sent, or the handshake itself sets that header. The message never
            contains the value.
    """
    if headers is None:
        return ()
    given = cast("Mapping[object, object]", headers).items() if isinstance(headers, Mapping) else headers
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidType(f"headers must be a dict or pairs of name and value, not {type(given).__name__}")
    return tuple(_checked(pair) for pair in cast("Iterable[object]", given))


def _checked(pair: object) -> tuple[str, str]:
    if not isinstance(pair, tuple | list) or len(cast("list[object]", pair)) != 2:
        raise InvalidType("headers must be a dict or pairs of name and value")
    name, value = cast("list[object]", pair)
    if not isinstance(name, str) or not isinstance(value, str):
        raise InvalidType("headers must have names and values of type str")
    if not _NAME.fullmatch(name):
        raise InvalidValue(f"headers has a name that cannot be one: {name[:64]!r}")
    if name.lower() in _RESERVED or name.lower().startswith("sec-websocket-"):
        raise InvalidValue(f"headers must not have {name}: the handshake sets it")
    if not _VALUE.fullmatch(value):
        raise InvalidValue(
            f"headers has a value for {name} that cannot be sent: printable ASCII characters without spaces at the "
            "ends can be; encode others, for example with urllib.parse.quote"
        )
    return name, value


def with_defaults(headers: Headers, defaults: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return ``defaults`` as far as ``headers`` has no header of the same name, then ``headers``."""
    named = {name.lower() for name, _ in headers}
    return [*(pair for pair in defaults if pair[0].lower() not in named), *headers]


def secrets_of(headers: Headers) -> list[str]:
    """Return the values of headers whose names speak of credentials, and the long words in them."""
    found: list[str] = []
    for name, value in headers:
        if _SECRET.search(name):
            found += [value, *(word for word in _BREAK.split(value) if len(word) >= _LONG)]  # "Bearer abc", "sid=abc"
    return [value for value in found if value]
