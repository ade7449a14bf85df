"""HTTP CONNECT: a tunnel through a proxy, for the bytes of a Link."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import unquote

import h11
import msgspec

from limpet_core.client.url import parse_url
from limpet_core.errors import ConnectError, InvalidType, InvalidValue
from limpet_core.redaction import Secrets
from limpet_core.text import one_line


class Proxy(msgspec.Struct, frozen=True):
    """An HTTP proxy.

    Attributes:
        host: the host name or address, without brackets.
        port: the TCP port.
        user: for ``Proxy-Authorization: Basic``; None: no authorization.
        password: for ``user``.
    """

    host: str
    port: int
    user: str | None = None
    password: str = ""

    def __repr__(self) -> str:
        return f"Proxy(host={self.host!r}, port={self.port})"  # never the password

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("host", self.host), ("port", self.port)]


def parse_proxy(url: str) -> Proxy:
    """Parse the URL of a proxy: ``http://[user:password@]host[:port]``; the default port is 80.

    Raises:
        InvalidType: ``url`` is not a str.
        InvalidValue: ``url`` is not the URL of an HTTP proxy. The message never contains the password.
    """
    if not isinstance(url, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers may be untyped
        raise InvalidType(f"proxy must be a str, not {type(url).__name__}")
    scheme, has_scheme, rest = url.partition("://")
    if scheme.lower() != "http" or not has_scheme:
        found = f"the scheme {scheme!r}" if has_scheme and scheme.isalnum() else "no scheme"
        raise InvalidValue(f"proxy must start with http://, but has {found}")
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
    if ":" in user:
        raise InvalidValue("proxy has a user with a colon, which Basic authorization cannot send")
    named = has_credentials and (user or has_password)
    return Proxy(host=endpoint.host, port=endpoint.port, user=user if named else None, password=password)


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
            raise ConnectError(self._refusal(event), status=event.status_code)
        self.open = True
        return self._http.trailing_data[0]

    def lost(self, reason: str) -> ConnectError:
        """Return the error for a connection to the proxy that is lost before the tunnel is open."""
        return ConnectError(f"{self._name()} did not answer: {one_line(reason)}")

    def _name(self) -> str:
        return f"the proxy {self._proxy.host} port {self._proxy.port}"

    def _refusal(self, response: h11.Response) -> str:
        if response.status_code in (401, 407):  # 401 is not for proxies, but tinyproxy means a wrong password
            wanted = "another user or password" if self._proxy.user is not None else "a user and a password"
            status = f"HTTP status {response.status_code}"
            return f"{self._name()} wants {wanted} ({status}): give them in proxy='http://USER:PASSWORD@...'"
        reason = one_line(bytes(response.reason).decode("latin-1"), secrets=self._secrets)
        return (
            f"{self._name()} refused to connect to {self._target}: HTTP status {response.status_code} {reason}".rstrip()
        )
