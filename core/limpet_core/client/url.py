"""Client Access URLs: parsed, checked, and extended for a recovery."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

import msgspec

from limpet_core.errors import InvalidType, InvalidValue
from limpet_core.redaction import redact_url

_CONTROLS: Final = re.compile(r"[\x00-\x20\x7f]")
_HOST: Final = re.compile(r"[A-Za-z0-9._~:%-]+")


class Endpoint(msgspec.Struct, frozen=True):
    """The parts of a URL: for the transport to connect to, and for the request of the handshake.

    Attributes:
        host: the host name or address, without brackets.
        port: the TCP port.
        secure: whether TLS is used (``wss``).
        authority: the value of the ``Host`` header.
        target: path and query, as in the request line.
    """

    host: str
    port: int
    secure: bool
    authority: str
    target: str

    def __repr__(self) -> str:
        shown = msgspec.structs.replace(self, target=redact_url(self.target))
        return msgspec.Struct.__repr__(shown)


def parse_url(url: str) -> Endpoint:
    """Parse a Client Access URL.

    Args:
        url: ``wss://host[:port]/client/hubs/{hub}?access_token=...`` (or ``ws://``; client-spec 1.1).

    Raises:
        InvalidType: ``url`` is not a str.
        InvalidValue: ``url`` is not a WebSocket URL. The message never repeats the query, which holds the token.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
        raise InvalidType(f"url must be a str, not {type(url).__name__}")
    parts, port = _split(url)
    host = parts.hostname
    if not host:
        raise InvalidValue("url has no host")
    if parts.username is not None or parts.password is not None:
        raise InvalidValue("url must not hold a user name or password; use its access_token parameter")
    if _CONTROLS.search(url):
        raise InvalidValue("url holds a space or a control character; percent-encode it")
    try:
        url.encode()
    except UnicodeEncodeError:
        raise InvalidValue("url holds characters that cannot be encoded as UTF-8") from None
    host = _ascii(host)
    secure = parts.scheme == "wss"
    bracketed = f"[{host}]" if ":" in host else host
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=-._~")
    if parts.query:
        # Nothing is normalized: repeated and empty parameters stay as they are.
        target += "?" + quote(parts.query, safe="/?%:@!$&'()*+,;=-._~[]`")
    return Endpoint(
        host=host,
        port=port if port is not None else (443 if secure else 80),
        secure=secure,
        authority=bracketed if port is None else f"{bracketed}:{port}",
        target=target,
    )


def _split(url: str) -> tuple[SplitResult, int | None]:
    """Return the parts of ``url`` and its port, if it has one."""
    if url.lower().startswith("endpoint="):
        raise InvalidValue("url is a connection string: `limpet url -c ...` makes a client URL of it")
    if url != url.strip():
        raise InvalidValue("url has a space or a line break at one of its ends; strip it")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        # Python's message about a host that is changed by normalization quotes the password before it, too.
        reason = "its host has characters that mean others" if "netloc" in str(error) else error
        raise InvalidValue(f"url cannot be read: {reason}") from None
    if parts.scheme not in ("ws", "wss"):
        found = f"the scheme {parts.scheme!r}" if parts.scheme else "no scheme"
        hint = "a client URL comes from your server, or from `limpet url`"
        raise InvalidValue(f"url must start with wss:// or ws://, but has {found}; {hint}")
    return parts, port


def _ascii(host: str) -> str:
    """Return ``host`` as in the handshake: international names in IDNA."""
    try:
        ascii_host = host if ":" in host else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise InvalidValue(f"url has a host that cannot be encoded: {error}") from None
    # IDNA may turn a character into a different one, even into a space.
    if not _HOST.fullmatch(ascii_host):
        raise InvalidValue(f"url has a host that cannot be one: {host!r}")
    return ascii_host


def place(url: str) -> str:
    """Return the host and the port of a valid URL, for people."""
    endpoint = parse_url(url)
    return f"{endpoint.host} port {endpoint.port}"


def recovery_url(url: str, connection_id: str, reconnection_token: str) -> str:
    """Return the URL that recovers a connection: ``url`` with two parameters added (client-spec 1.4).

    The rest of the URL stays as it is, with repeated and empty parameters. The access token stays, too: the service
    ignores it during a recovery.
    """
    url = url.split("#", 1)[0]
    joint = "&" if "?" in url else "?"
    return (
        f"{url}{joint}awps_connection_id={quote(connection_id, safe='')}"
        f"&awps_reconnection_token={quote(reconnection_token, safe='')}"
    )
