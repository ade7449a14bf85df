"""TLS for a library of threads: a socket that one thread may read while another one writes.

An ``ssl.SSLSocket`` may not be used like that: what OpenSSL does in one thread about a session ticket goes wrong where
another thread sends meanwhile, and then both wait for ever. And a read of it may wait within OpenSSL, out of reach of a
thread that closes the socket.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Any, Final

from limpet._transports.tls import Tls

_READ: Final = 65536
_PIECE: Final = 65536
"""Bytes that are encrypted and sent at a time."""


class TlsSocket:
    """TLS on a connected socket; it has the methods that `websockets` calls. What it lacks is the socket's.

    The handshake is done when it is made, within the time-out of the socket.

    Attributes:
        ssl_socket: the socket below TLS.

    Raises:
        OSError: the handshake failed; ``ssl.SSLError`` is one, and ``TimeoutError``.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self.ssl_socket: socket.socket = sock
        self._tls = Tls(context, host)
        self._state = threading.Lock()  # of TLS
        self._order = threading.Lock()  # of records on the wire; taken first
        self._shake_hands()

    def _shake_hands(self) -> None:
        timeout = self.ssl_socket.gettimeout()
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            records = self._tls.encrypt(list)
            if self._tls.fault is not None:
                with suppress(OSError):  # an alert, for a peer that may have gone
                    self.ssl_socket.sendall(records)
                raise self._tls.fault
            if records:
                self.ssl_socket.sendall(records)
            if self._tls.shaken:
                break
            if end is not None:
                self.ssl_socket.settimeout(max(end - time.monotonic(), 0.001))
            if not (data := self.ssl_socket.recv(_READ)):
                raise ConnectionError("the connection was closed amid the handshake of TLS")
            self._early = self._tls.decrypt(data)
        self.ssl_socket.settimeout(timeout)

    def recv(self, size: int) -> bytes:
        """Return all that has arrived, which may be more than ``size``: ``select`` does not tell of the rest."""
        data, self._early = self._early, b""
        while not data and not self._tls.ended and (records := self.ssl_socket.recv(size)):
            with self._state:
                data = self._tls.decrypt(records)
            if self._order.acquire(blocking=False):  # else the thread that has it sends what is to be answered
                try:
                    self._send()
                finally:
                    self._order.release()
        if not data and self._tls.fault is not None:
            raise self._tls.fault
        return data

    def sendall(self, data: bytes) -> None:
        """Send ``data``."""
        with self._order, memoryview(data) as view:
            for start in range(0, len(view), _PIECE):
                self._send(bytes(view[start : start + _PIECE]))

    def _send(self, data: bytes = b"") -> None:
        with self._state:
            records = self._tls.encrypt(lambda: [data] if data else [])
            fault = self._tls.fault
        if records:
            self.ssl_socket.sendall(records)
        if fault is not None and data:
            raise fault

    def close(self) -> None:
        """Close the socket; a thread that reads or writes it is woken."""
        with suppress(OSError):  # the peer has closed it
            self.ssl_socket.shutdown(socket.SHUT_RDWR)
        self.ssl_socket.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ssl_socket, name)


class TlsContext:
    """Stands in for an ``ssl.SSLContext`` where a library wraps a socket with it."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def wrap_socket(self, sock: socket.socket, *, server_hostname: str) -> TlsSocket:
        """Return a socket that speaks TLS over ``sock``."""
        return TlsSocket(sock, self._context, server_hostname)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
