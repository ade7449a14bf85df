"""What lies between a TCP connection and a Link: nothing, TLS, a proxy's tunnel, or both. No event loop in here."""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import re
import socket
import ssl
import urllib.request
from contextlib import suppress
from typing import Literal, cast

from limpet import ConnectError, Endpoint, InvalidType, InvalidValue, Link, Proxy, Tunnel, parse_proxy

ProxySetting = str | Literal[False] | None
"""The URL of an HTTP proxy; None: what the environment says; False: none, whatever the environment says."""

_RECORD = 16 * 1024
"""The largest TLS record: a bigger buffer would only be allocated in vain, and copying out of a kept one is slower."""

# glibc gives memory back to the system and takes it anew with every large read, until it has freed a block of this
# size once (mallopt(3), M_MMAP_THRESHOLD). That is the greater part of what long messages cost: with asyncio 137 us for
# one of 64 KiB and 8.4 us for one of 4 KiB, against 39 us and 4.5 us with this line. Elsewhere it does nothing.
bytes(1 << 20)


class Wire:
    """One TCP connection's bytes, to and from a Link.

    Args:
        link: speaks WebSocket.
        tls: how to check certificates, for ``wss`` URLs; None: the system's trust store.
        proxy: the client's setting; which proxy it means is for :meth:`address` to find out.

    Call :meth:`address` first.
    """

    def __init__(self, link: Link, tls: ssl.SSLContext | None, proxy: ProxySetting) -> None:
        self.link: Link = link
        self._context = tls
        self._setting: ProxySetting = proxy
        self._proxy: Proxy | None = None
        self._tunnel: Tunnel | None = None
        self._tls: _Tls | None = None

    def address(self) -> tuple[str, int]:
        """Host and port to connect to.

        Raises:
            ValueError, OSError: the proxy's URL or the TLS settings cannot be used; tell it to :meth:`failed`.
        """
        endpoint = self.link.endpoint
        self._proxy = proxy = choose_proxy(self._setting, endpoint)
        if endpoint.secure:
            self._tls = _Tls(self._context or system_trust(), endpoint.host)
        if proxy is None:
            return endpoint.host, endpoint.port
        self._tunnel = Tunnel(proxy, endpoint.host, endpoint.port)
        self.link.dial.waits_for = f"the proxy {proxy.host} port {proxy.port}"
        return proxy.host, proxy.port

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes arrived; ``b""``: the peer will send no more. Call :meth:`data_to_send` and drain the session next."""
        if not data:
            self.transport_lost("the peer closed the connection", now)
            return
        if self._tunnel is not None:
            try:
                data = self._tunnel.receive_data(data)
            except ConnectError as error:
                self.link.failed(error, now)
                return
            if not self._tunnel.open:
                return
            self._tunnel = None
            self.link.dial.waits_for = None
        tls = self._tls
        if tls is not None:
            data = tls.decrypt(data)
        if data:
            self.link.receive_data(data, now)
        if tls is not None and tls.ended:
            if tls.fault is not None:
                self.failed(tls.fault, now)
            else:
                self.transport_lost("the peer closed the connection", now)

    def transport_lost(self, reason: str, now: float) -> None:
        """The TCP connection cannot be read any more; ``reason`` says why."""
        if self._tunnel is not None:
            self.link.failed(self._tunnel.lost(reason), now)
        elif self._tls is not None and not self._tls.shaken:
            self.failed(ConnectionError(f"the TLS handshake was cut short: {reason}"), now)
        else:
            self.link.transport_lost(reason, now)

    def failed(self, error: Exception, now: float) -> None:
        """No connection could be made, or TLS broke."""
        self.link.failed(explain(error, self._proxy), now)

    def data_to_send(self) -> bytes:
        """The bytes to write now, ``b""`` if there are none. Never raises because of the peer."""
        if self._tunnel is not None:
            return self._tunnel.data_to_send()
        if self._tls is None:
            data = self.link.data_to_send()
            return data[0] if len(data) == 1 else b"".join(data)
        return self._tls.encrypt(self.link)

    def close_notify(self) -> bytes:
        """The last bytes of a connection that is not wanted any more."""
        data = self.data_to_send()
        return data + self._tls.close() if self._tls is not None and self._tunnel is None else data


class _Tls:
    """TLS over bytes: every record that is there is decrypted at once, before the event loop gets its turn.

    Attributes:
        shaken: the handshake is done.
        ended: nothing more can be read.
        fault: why, if TLS broke.

    Raises:
        ValueError, OSError: ``context`` cannot be used, or not for ``host``.
    """

    def __init__(self, context: ssl.SSLContext, host: str) -> None:
        self.shaken = False
        self.ended = False
        self.fault: ssl.SSLError | None = None
        self._unsent: list[bytes] = []
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # Certificates and SNI know no dot at the end of a name.
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host.removesuffix("."))
        with suppress(ssl.SSLWantReadError):
            self._object.do_handshake()  # settings that leave no version or cipher show here

    def decrypt(self, data: bytes) -> bytes:
        if self.ended:
            return b""
        self._incoming.write(data)
        pieces: list[bytes] = []
        try:
            if not self.shaken:
                self._object.do_handshake()
                self.shaken = True
            while piece := self._object.read(_RECORD):
                pieces.append(piece)
                if not self._incoming.pending and not self._object.pending():
                    break  # cheaper than to be told so by an exception
            else:
                self.ended = True
        except ssl.SSLWantReadError:
            pass  # the rest of a record is still on its way
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            self.ended = True  # what is left to send tells the peer why
            self.fault = error.with_traceback(None)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def encrypt(self, link: Link) -> bytes:
        if self.shaken and self.fault is None:
            unsent = self._unsent
            unsent += link.data_to_send()
            try:
                while unsent:
                    self._object.write(unsent[0])
                    del unsent[0]
            except ssl.SSLWantReadError:
                pass  # the peer wants new keys: what is left can go when these are agreed
            except ssl.SSLError:
                unsent.clear()  # it is closed already
        return self._outgoing.read()

    def close(self) -> bytes:
        self.ended = True  # the peer's answer is not waited for
        with suppress(ssl.SSLError, ValueError):
            self._object.unwrap()
        return self._outgoing.read()


@functools.cache
def system_trust() -> ssl.SSLContext:
    """Certificates are checked against the system's trust store, host names against certificates."""
    return ssl.create_default_context()


def check_proxy(proxy: object) -> None:
    """Raise InvalidType or InvalidValue unless ``proxy`` is a :data:`ProxySetting`."""
    if isinstance(proxy, str):
        parse_proxy(proxy)
    elif proxy is not None and proxy is not False:
        raise InvalidType(f"proxy must be the URL of a proxy, None or False, not {type(proxy).__name__}")


def choose_proxy(setting: ProxySetting, endpoint: Endpoint) -> Proxy | None:
    """The proxy for ``endpoint``: the given one, or what ``https_proxy``, ``all_proxy`` and ``no_proxy`` say.

    The environment's proxy is never asked for the machine's own loopback addresses.

    Raises:
        InvalidValue: it is the URL of something else; the message says where it came from.
    """
    if setting is not None:
        return parse_proxy(setting) if setting else None
    proxies = urllib.request.getproxies()
    if _is_loopback(endpoint.host) or _is_excepted(endpoint, proxies.get("no", "")):
        return None
    url = (proxies.get("https" if endpoint.secure else "http") or proxies.get("all") or "").strip()
    if not url:
        return None
    try:
        return parse_proxy(url if "://" in url else f"http://{url}")
    except InvalidValue as error:
        raise InvalidValue(f"the environment has a proxy that cannot be used (proxy=False: none): {error}") from None


def explain(error: BaseException, proxy: Proxy | None = None) -> ConnectError:
    """``error`` with what people need to know: which way we went, and why that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"the certificate was not accepted (certificate verify failed: {error.verify_message})"
    elif isinstance(error, ssl.SSLError):
        reason = f"TLS failed: {error.reason or error}"
        if error.reason == "WRONG_VERSION_NUMBER":
            reason += "; the answer is not TLS (without TLS, the URL starts with ws://)"
    else:
        reason = "; ".join(_reasons(error))
    way = f"by way of the proxy {proxy.host} port {proxy.port}: " if proxy else ""
    explained = ConnectError(way + reason)
    explained.__cause__ = error
    return explained


def _reasons(error: BaseException) -> list[str]:
    """What was wrong with each address that was tried: trio and anyio say only that all have failed."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        # The same for both addresses of a name need not be told twice.
        return list(dict.fromkeys(reason for one in group.exceptions for reason in _reasons(one)))
    if isinstance(error, OSError) and error.errno is None and error.__cause__ is not None:
        return _reasons(error.__cause__)
    text = str(error)
    if isinstance(error, OSError) and text.startswith("Multiple exceptions: "):
        # Before Python 3.12 asyncio puts what each address said into one text.
        return list(dict.fromkeys(os.strerror(int(number)) for number in re.findall(r"\[Errno (\d+)\]", text)))
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        # Every event loop has its own words for the same, and repeats the address in them.
        known = error.errno in errno.errorcode and not isinstance(error, socket.gaierror)
        return [os.strerror(error.errno) if known else error.strerror or text]
    return [text or type(error).__name__]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        name = host.removesuffix(".")
        return name == "localhost" or name.endswith(".localhost")


def _is_excepted(endpoint: Endpoint, no_proxy: str) -> bool:
    """Whether ``no_proxy`` (or what the system has in its place) names the host: exactly, by its domain or network."""
    host = endpoint.host.removesuffix(".")
    if urllib.request.proxy_bypass(f"{host}:{endpoint.port}"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    for name in no_proxy.split(","):
        with suppress(ValueError):  # it is no network
            if address in ipaddress.ip_network(name.strip().strip("[]"), strict=False):
                return True
    return False
