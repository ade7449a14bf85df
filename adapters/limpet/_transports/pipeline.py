"""A WebSocket connection over bytes: a Link over TLS over a proxy's tunnel, perhaps over TLS. No socket and no loop."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from limpet import ConnectError, Link, Proxy, Tunnel
from limpet._transports.explain import explain
from limpet._transports.proxies import ProxySetting, choose_proxy, tunnel_through
from limpet._transports.tls import Tls, system_trust
from limpet_core.text import CLOSED_BY_PEER

# glibc gives memory back to the system and takes it anew with every large read, until it has freed a block of this
# size once (mallopt(3), M_MMAP_THRESHOLD). Without this line messages of 64 KiB cost more than three times as much, and
# those of 4 KiB nearly twice. Elsewhere it does nothing.
bytes(1 << 20)

if TYPE_CHECKING:
    from limpet._transports.socks import SocksTunnel


class Pipeline:
    """The layers over one TCP connection: TLS with a proxy, the proxy's tunnel, TLS with the service, a Link.

    Args:
        link: the WebSocket connection.
        tls: checks certificates, for ``wss`` URLs and ``https`` proxies; None: the system's trust store.
        proxy: the client's setting, which :meth:`address` evaluates.

    Call :meth:`address` first.
    """

    __slots__ = ("_bare", "_context", "_proxy", "_proxy_tls", "_setting", "_tls", "_tunnel", "link")

    def __init__(self, link: Link, tls: ssl.SSLContext | None, proxy: ProxySetting) -> None:
        self.link: Link = link
        self._context = tls
        self._setting: ProxySetting = proxy
        self._proxy: Proxy | None = None
        self._proxy_tls: Tls | None = None
        self._tunnel: Tunnel | SocksTunnel | None = None
        self._tls: Tls | None = None
        self._bare = False  # all bytes are the link's

    def address(self) -> tuple[str, int]:
        """Return the host and port to connect to.

        Raises:
            ValueError, OSError: the proxy's URL or the TLS settings cannot be used; call :meth:`failed`.
        """
        endpoint = self.link.endpoint
        self._proxy = proxy = choose_proxy(self._setting, endpoint)
        if endpoint.secure:
            self._tls = Tls(self._context or system_trust(), endpoint.host)
        if proxy is None:
            self._look_at_layers()
            return endpoint.host, endpoint.port
        if proxy.scheme == "https":
            self._proxy_tls = Tls(self._context or system_trust(), proxy.host)
        self._tunnel = tunnel_through(proxy, endpoint.host, endpoint.port)
        self.link.dial.waits_for = f"the proxy {proxy.host} port {proxy.port}"
        return proxy.host, proxy.port

    def _look_at_layers(self) -> None:
        """Note whether anything is left between the connection and the link."""
        self._bare = self._proxy_tls is None and self._tunnel is None and self._tls is None

    def receive_data(self, data: bytes, now: float) -> None:
        """Receive bytes; ``b""``: the peer will send no more. Call :meth:`data_to_send` and drain the session next."""
        if data and self._bare:
            self.link.receive_data(data, now)
            return
        if not data:
            self.transport_lost(CLOSED_BY_PEER, now)
            return
        outer = self._proxy_tls
        if outer is not None and not (data := outer.decrypt(data)):
            self._proxy_ended(outer, now)
            return
        if self._tunnel is not None:
            try:
                data = self._tunnel.receive_data(data)
            except ConnectError as error:
                self.link.failed(error, now)
                return
            if self._tunnel.open:
                self._tunnel = None
                self._look_at_layers()
                self.link.dial.waits_for = None
        tls = self._tls
        if self._tunnel is None:
            if tls is not None:
                data = tls.decrypt(data)
            if data:
                self.link.receive_data(data, now)
            if tls is not None and tls.ended:
                if tls.fault is not None:
                    self.failed(tls.fault, now)
                else:
                    self.transport_lost(CLOSED_BY_PEER, now)
        if outer is not None:
            self._proxy_ended(outer, now)

    def _proxy_ended(self, outer: Tls, now: float) -> None:
        """Report the end of the TLS connection with the proxy, if it is over."""
        if outer.fault is not None:
            self.link.failed(explain(outer.fault, self._proxy), now)
        elif outer.ended:
            self.transport_lost(CLOSED_BY_PEER, now)

    def transport_lost(self, reason: str, now: float) -> None:
        """Note that the TCP connection is broken, for ``reason``."""
        if self._proxy_tls is not None and not self._proxy_tls.shaken:
            error = ConnectionError(f"the TLS handshake was cut short: {reason}")
            self.link.failed(explain(error, self._proxy), now)
        elif self._tunnel is not None:
            self.link.failed(self._tunnel.lost(reason), now)
        elif self._tls is not None and not self._tls.shaken:
            self.failed(ConnectionError(f"the TLS handshake was cut short: {reason}"), now)
        else:
            self.link.transport_lost(reason, now)

    def send_failed(self, reason: str, now: float) -> None:
        """Note that nothing more can be written, for ``reason``; what has arrived is still to be read."""
        secured = all(tls is None or tls.shaken for tls in (self._proxy_tls, self._tls))
        if self._tunnel is None and secured:
            self.link.send_failed(reason, now)
        else:
            self.transport_lost(reason, now)

    def failed(self, error: Exception, now: float) -> None:
        """Note that no connection could be made, or that TLS is broken."""
        if self._proxy is not None:
            self.link.dial.through = f"the proxy {self._proxy.host} port {self._proxy.port}"
        self.link.failed(explain(error), now)

    def data_to_send(self) -> bytes:
        """Return the bytes to write now, ``b""`` if there are none. Never raises because of the peer."""
        if self._bare:
            return b"".join(self.link.data_to_send())  # no copy of a single one
        if self._proxy_tls is not None:
            return self._proxy_tls.encrypt(self._inner_data)
        return b"".join(self._inner_data())

    def _inner_data(self) -> list[bytes]:
        """Return the bytes for the TLS connection with the proxy."""
        if self._tunnel is not None:
            data = self._tunnel.data_to_send()
        elif self._tls is not None:
            data = self._tls.encrypt(self.link.data_to_send)
        else:
            return self.link.data_to_send()
        return [data] if data else []

    def close_notify(self) -> bytes:
        """Return the last bytes of a connection that is not wanted any more."""
        data = self.data_to_send()
        last = self._tls.close() if self._tls is not None and self._tunnel is None else b""
        outer = self._proxy_tls
        if outer is None:
            return data + last
        return data + outer.encrypt(lambda: [last] if last else []) + outer.close()
