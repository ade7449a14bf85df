"""Refused handshakes: what the answer of the service or of a proxy says about the reason and the next attempt."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from email.utils import mktime_tz, parsedate_tz
from typing import Any, Final, cast

import msgspec

from limpet_core.errors import ConnectError
from limpet_core.redaction import redact_url
from limpet_core.text import LONGEST_REASON, one_line

LONGEST_BODY: Final = 4096
"""Bytes to read of the body of a refusal."""

_HINTS: Final = {
    401: "the access token was refused",
    403: "access is forbidden",
    404: "there is no such endpoint",
}

_REDIRECTS: Final = (301, 302, 303, 307, 308)
_RETRY_LATER: Final = (429, 503)

_SECONDS: Final = re.compile(r"[0-9]+")
_LONGEST_DELAY: Final = 1e15
"""Seconds: more than any client waits, and a number for sums with others."""
_LONGEST_DATE: Final = 64
_CREDENTIALS: Final = re.compile(r"(?<=//)[^/?#]*@")

_REASONS: Final = ("detail", "message", "error_description", "title", "error", "code")
"""Fields of a JSON body that hold the reason, in this order: of RFC 9457, of Azure (``error.message``), of OAuth."""


def refused(status: int, body: bytes | bytearray | None, headers: Iterable[tuple[str, str]] = ()) -> ConnectError:
    """Return the error for a handshake that the service answered with ``status``, ``headers`` and ``body``.

    The error has a ``retry_after`` where the answer asks for a delay. A redirect is named and not followed. The reason
    is the body's where that is text or JSON; an HTML page is for browsers.
    """
    named = by_name(headers)
    text = f"the service refused the connection with HTTP status {status}"
    if status in _HINTS:
        text += f" ({_HINTS[status]})"
    # More than is shown in the end: the session must find the tokens that it knows before the text is cut.
    reason = one_line(_reason(bytes(body or b""), named.get("content-type", "")), LONGEST_REASON)
    if reason := redirection(status, named) or reason:
        text += f": {reason}"
    return ConnectError(text, status=status, retry_after=retry_after(status, named))


def decoded_headers(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Return the headers of an answer as text."""
    return [(bytes(name).decode("latin-1"), bytes(value).decode("latin-1")) for name, value in headers]


def by_name(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the first header of each name, in lower case."""
    named: dict[str, str] = {}
    for name, value in headers:
        named.setdefault(name.lower(), value)
    return named


def redirection(status: int, headers: dict[str, str]) -> str:
    """Return where an answer redirects to, for people and without secrets; empty if it does not."""
    location = headers.get("location")
    if status not in _REDIRECTS or location is None:
        return ""
    shown = one_line(redact_url(_CREDENTIALS.sub("***@", location[:LONGEST_BODY])), LONGEST_REASON)
    return f"it redirects to {shown} (redirects are not followed)"


def retry_after(status: int, headers: dict[str, str]) -> float | None:
    """Return the seconds that an answer asks to wait for (RFC 9110, 10.2.3); None: it does not say.

    A date counts from the answer's own ``Date``: the clocks of both ends may differ.

    Args:
        status: the HTTP status; 429 and 503 ask for a delay.
        headers: by names in lower case.
    """
    value = headers.get("retry-after", "").strip()
    if status not in _RETRY_LATER or not value:
        return None
    if _SECONDS.fullmatch(value):
        return min(float(value), _LONGEST_DELAY)
    at, sent = _time(value), _time(headers.get("date", ""))
    return None if at is None or sent is None else min(max(0.0, at - sent), _LONGEST_DELAY)


def _time(date: str) -> float | None:
    if len(date) > _LONGEST_DATE:
        return None
    try:
        parsed = parsedate_tz(date)
        # The form of asctime(), which RFC 9110 allows, has no time zone: HTTP's dates are in GMT.
        return None if parsed is None else float(mktime_tz((*parsed[:9], parsed[9] or 0)))
    except (ValueError, TypeError, LookupError, OverflowError):  # the parser trusts its text
        return None


def seconds_to_wait(value: object) -> float:
    """Return ``value``, the ``retry_after`` of an error, as seconds; 0 for anything but a number of seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf:
        return float(min(value, _LONGEST_DELAY))  # a huge int is no float
    return 0.0


def _reason(body: bytes, kind: str) -> str:
    text = " ".join(body.decode("utf-8", "replace").split())
    if text[:1] in ("{", "[", '"'):
        return _from_json(body) or text
    return "" if "html" in kind.lower() or text[:1] == "<" else text


def _from_json(body: bytes) -> str | None:
    try:
        found: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    for _ in range(3):  # "error" of Azure's is an object
        if isinstance(found, dict):
            fields = cast("dict[str, Any]", found)
            found = next((fields[name] for name in _REASONS if fields.get(name)), None)
    return " ".join(found.split()) if isinstance(found, str) else None
