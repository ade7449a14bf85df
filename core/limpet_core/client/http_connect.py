"""HTTP CONNECT: a tunnel through a proxy, for the bytes of a Link."""

from __future__ import annotations

import base64
import re
from typing import Any, Final, Literal
from urllib.parse import unquote

import h11
import msgspec

from limpet_core.client.refusals import by_name, decoded_headers, redirection, retry_after
from limpet_core.client.url import parse_url
from limpet_core.errors import ConnectError, InvalidType, InvalidValue
from limpet_core.redaction import Secrets
from limpet_core.text import one_line

Kind = Literal["http", "https", "socks5"]

_KINDS: Final[dict[str, Kind]] = {"http": "http", "https": "https", "socks5": "socks5", "socks5h": "socks5"}
_PORTS: Final[dict[Kind, int]] = {"http": 80, "https": 443, "socks5": 1080}


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP or SOCKS5 proxy.

    Attributes:
        host: the host name or address, without brackets.
        port: the TCP port.
        user: for ``Proxy-Authorization: Basic``, or for SOCKS5; None: no authorization.
        password: for ``user``.
        scheme: ``http``; ``https``: HTTP over TLS; ``socks5``.
    """

    host: str
    port: int
    user: str | None = None
    password: str = ""
    scheme: Kind = "http"

    def __repr__(self) -> str:
        return f"Proxy(host={self.host!r}, port={self.port}, scheme={self.scheme!r})"  # never the password

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("host", self.host), ("port", self.port), ("scheme", self.scheme)]


def parse_proxy(url: str) -> Proxy:
    """Parse the URL of a proxy: ``http://[user:password@]host[:port]``, or ``https://`` or ``socks5://``.

    The default ports are 80, 443 and 1080. ``socks5h`` is the same as ``socks5``: the proxy looks names up.

    Raises:
        InvalidType: ``url`` is not a str.
        InvalidValue: ``url`` is not the URL of such a proxy. The message never contains the password.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
        raise InvalidType(f"proxy must be a str, not {type(url).__name__}")
    scheme, has_scheme, rest = url.partition("://")
    kind = _KINDS.get(scheme.lower()) if has_scheme else None
    if kind is None:
        found = f"the scheme {scheme!r}" if has_scheme and scheme.isalnum() else "no scheme"
        raise InvalidValue(f"proxy must start with http://, https:// or socks5://, but has {found}")
    # Not by urllib, whose errors may repeat a part of the password.
    place, _, more = rest.partition("/")
    if more or "?" in place or "#" in place:
        raise InvalidValue("proxy has more than a host and a port; percent-encode '/', '?' and '#' in its password")
    credentials, has_credentials, place = place.rpartition("@")
    try:
        endpoint = parse_url(f"ws://{place}")
    except InvalidValue:
        raise InvalidValue("proxy has a host or a port that cannot be one") from None
    if endpoint.port == 0:
        raise InvalidValue("proxy has the port 0")
    user, has_password, password = credentials.partition(":")
    try:
        user, password = unquote(user, errors="strict"), unquote(password, errors="strict")
        f"{user}{password}".encode()
    except UnicodeError:
        raise InvalidValue("proxy has a user or a password that is not UTF-8") from None
    if ":" in user and kind != "socks5":
        raise InvalidValue("proxy has a user with a colon, which Basic authorization cannot send")
    named = has_credentials and (user or has_password)
    has_port = ":" in place.rpartition("]")[2] and not place.endswith(":")
    port = endpoint.port if has_port else _PORTS[kind]
    return Proxy(endpoint.host, port, user if named else None, password, kind)


class Tunnel:
    """A tunnel through a proxy, from the CONNECT request to the proxy's answer.

    Args:
        proxy: the proxy.
        host: the destination's host name or address, without brackets.
        port: the destination's TCP port.

    Attributes:
        open: whether the proxy has opened the tunnel: from then on :meth:`receive_data` returns the bytes that came
            through it.

    Call :meth:`data_to_send` at once: it returns the request.
    """

    def __init__(self, proxy: Proxy, host: str, port: int) -> None:
        self.open: bool = False
        self._proxy = proxy
        self._http = h11.Connection(h11.CLIENT)
        # The proxy's answer may quote the request.
        self._secrets = Secrets(proxy.password)
        self._target = authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        headers = [("Host", authority)]
        if proxy.user is not None:
            credentials = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode("ascii")
            headers.append(("Proxy-Authorization", f"Basic {credentials}"))
            self._secrets.learn(credentials)
        self._out = self._http.send(h11.Request(method="CONNECT", target=authority, headers=headers)) or b""
        self._out += self._http.send(h11.EndOfMessage()) or b""

    def data_to_send(self) -> bytes:
        """Return the request, once."""
        out, self._out = self._out, b""
        return out

    def receive_data(self, data: bytes) -> bytes:
        """Receive bytes from the proxy (``b""`` is the end of the stream); return those that came through the tunnel.

        Raises:
            ConnectError: the proxy refused, or its answer cannot be read; ``status`` is the HTTP status.
        """
        if self.open:
            return data
        if not data:
            raise self.lost("it closed the connection")
        try:
            self._http.receive_data(data)
            event = self._http.next_event()
            while isinstance(event, h11.InformationalResponse):
                event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            text = one_line(str(error), secrets=self._secrets)
            raise ConnectError(f"{self._name()} gave an answer that cannot be read: {text}") from None
        if not isinstance(event, h11.Response):
            return b""
        if not 200 <= event.status_code < 300:
            headers = by_name(decoded_headers(event.headers))
            delay = retry_after(event.status_code, headers)
            raise ConnectError(self._refusal(event, headers), status=event.status_code, retry_after=delay)
        self.open = True
        return self._http.trailing_data[0]

    def lost(self, reason: str) -> ConnectError:
        """Return the error for a connection to the proxy that is lost before the tunnel is open."""
        return ConnectError(f"{self._name()} did not answer: {one_line(reason)}")

    def _name(self) -> str:
        return f"the proxy {self._proxy.host} port {self._proxy.port}"

    def _refusal(self, response: h11.Response, headers: dict[str, str]) -> str:
        if response.status_code in (401, 407):  # 401 is not for proxies, but tinyproxy means a wrong password
            schemes = _schemes(response)
            if schemes and "basic" not in map(str.lower, schemes):
                return (
                    f"{self._name()} wants a login by {one_line(' or '.join(schemes))} (HTTP status "
                    f"{response.status_code}), and Limpet can only do Basic: ask for a proxy with Basic, or let a "
                    "forwarder on this machine (Px, Cntlm) do the login"
                )
            wanted = "another user or password" if self._proxy.user is not None else "a user and a password"
            status = f"HTTP status {response.status_code}"
            return f"{self._name()} wants {wanted} ({status}): give them in proxy='{self._proxy.scheme}://USER:PASSWORD@...'"
        reason = one_line(bytes(response.reason).decode("latin-1"), secrets=self._secrets)
        status = f"HTTP status {response.status_code} {reason}".rstrip()
        text = f"{self._name()} refused to connect to {self._target}: {status}"
        redirect = one_line(redirection(response.status_code, headers), secrets=self._secrets)
        return f"{text}: {redirect}" if redirect else text


# It always matches, to the end if need be: a search that failed would begin again at each quote.
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)')
_SCHEME: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9_-]{0,30})(?:\s|\Z)")


def _schemes(response: h11.Response) -> list[str]:
    """Return the ways to log in that the proxy offers (RFC 9110, 11.3), each once."""
    values = [value for name, value in decoded_headers(response.headers) if name.lower() == "proxy-authenticate"]
    challenges = [one for value in values for one in _QUOTED.sub('""', value).split(",")]
    return list(dict.fromkeys(found[1] for found in map(_SCHEME.match, challenges) if found is not None))[:5]
