"""Client URLs from an application: ``--negotiate``."""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, cast
from urllib.parse import urlsplit

import click

from limpet import ConnectError
from limpet._transports.explain import explain
from limpet_core.text import one_line

# Seconds for an answer, and its longest size in bytes.
_TIMEOUT: Final = 30.0
_LONGEST: Final = 64 * 1024

# A field name (RFC 9110 5.6.2), and a value without control characters.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")

# Answers to GET of an application that expects POST: 405, or 404 of frameworks that route by method.
_OTHER_METHOD: Final = (404, 405)


def negotiated(url: str, headers: Iterable[str]) -> Callable[[], Awaitable[str]]:
    """Return a function that asks the application at ``url`` for a client URL, once for each new connection.

    Args:
        url: http or https. It is asked with GET, and with POST if it does not answer GET.
        headers: each as ``NAME: VALUE``.

    Raises:
        click.UsageError: ``url`` or a header is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise click.UsageError("--negotiate needs the URL of your application: http://... or https://...")
    pairs = [_header(text) for text in headers]
    methods = ["GET", "POST"]

    async def negotiate() -> str:
        for method in tuple(methods):
            status, phrase, content = await _ask(method, url, pairs)
            if status in _OTHER_METHOD and method != methods[-1]:
                continue
            if method in methods and 200 <= status < 300:
                methods[:] = [method]
            return _client_url(_shown(url), status, phrase, content)
        raise AssertionError("the last method returns or raises")

    return negotiate


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    name, value = name.strip(), value.strip()
    if not colon or not _NAME.fullmatch(name):
        raise click.UsageError("--negotiate-header needs 'NAME: VALUE'")
    if not _VALUE.fullmatch(value):  # not shown: it may be a token
        raise click.UsageError(
            f"--negotiate-header: the value of {name} has line breaks or other than ASCII characters"
        )
    return name, value


async def _ask(method: str, url: str, headers: list[tuple[str, str]]) -> tuple[int, str, bytes]:
    """Return status, its phrase, and the content of the answer, up to the limit and a little more."""
    import httpx  # takes a while: only commands that need it pay for it

    content = b""
    try:
        async with (
            asyncio.timeout(_TIMEOUT),
            httpx.AsyncClient(timeout=None) as http,
            # Without compression: a few bytes would become many before their number is known.
            http.stream(method, url, headers=[("Accept-Encoding", "identity"), *headers]) as answer,
        ):
            async for part in answer.aiter_raw():
                content += part
                if len(content) > _LONGEST:
                    break
            return answer.status_code, answer.reason_phrase, content
    except TimeoutError:
        raise ConnectError(f"{_shown(url)} gave no whole answer within {_TIMEOUT:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise ConnectError(f"{_shown(url)} could not be asked for a client URL: {one_line(_reason(error))}") from error


def _reason(error: BaseException) -> str:
    """Return why a request failed. httpx says only that all connections failed: the reason is in a cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError):  # TLS: its words are about ws://
            return str(explain(cause))
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


def _client_url(shown: str, status: int, phrase: str, content: bytes) -> str:
    if not 200 <= status < 300:
        said = one_line(content.decode("utf-8", "replace").strip(), 200)
        raise ConnectError(
            f"{shown} answered with HTTP status {status} {one_line(phrase)}" + (f": {said}" if said else "")
        )
    text = content.decode("utf-8", "replace").strip()
    if len(content) <= _LONGEST:
        url = _url_in(text)
        if url is not None:
            return url
    expected = 'expected {"url": "wss://..."} or the URL itself'
    raise ConnectError(f"{shown} answered without a client URL: {expected}, not {one_line(text, 200) or 'nothing'}")


def _url_in(text: str) -> str | None:
    """Return the URL in an answer: the field ``url`` of a JSON object, a JSON string, or plain text."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        value = text
    if isinstance(value, dict):
        value = cast("dict[str, Any]", value).get("url")
    return value if isinstance(value, str) and value.startswith(("ws://", "wss://")) else None


def _shown(url: str) -> str:
    """Return a URL without what may be secret in it: user, password and query."""
    parts = urlsplit(url)
    return one_line(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
