"""A connection that a library for threads is opening, and that somebody may not want any more."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import suppress
from typing import Any, Self

from limpet import Dial
from limpet.connect._tls_socket import TlsContext, TlsSocket

_LOOK = 0.1
"""Seconds between two looks at whether the connection is still wanted."""


class Opening:
    """Looks after a connection while it is opened: cuts it when the client does not want it any more, or when opening
    fails, which may be before the library begins.
    """

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._sockets: list[Any] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="limpet-opening", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if kind is not None:
            for sock in self._sockets:
                cut_below_tls(sock)
                sock.close()

    def watch(self, sock: Any) -> Any:
        """Look after a socket, and return it."""
        self._sockets.append(sock)
        return sock

    def watched(self, context: ssl.SSLContext) -> TlsContext:
        """Return what stands in for a context, and has the sockets that it is used for looked after."""
        return _WatchedContext(context, self)

    def _look(self) -> None:
        while not self._over.wait(_LOOK):
            if not self._dial.wanted:
                for sock in self._sockets.copy():
                    cut_below_tls(sock)


class _WatchedContext(TlsContext):
    def __init__(self, context: ssl.SSLContext, opening: Opening) -> None:
        super().__init__(context)
        self._opening = opening

    def wrap_socket(self, sock: socket.socket, *, server_hostname: str) -> TlsSocket:
        """Return a socket that speaks TLS over ``sock``."""
        return super().wrap_socket(self._opening.watch(sock), server_hostname=server_hostname)


def cut_below_tls(sock: Any) -> None:
    """Shut down the TCP connection below TLS, whose state the library's other threads may be using."""
    with suppress(OSError):  # closed already
        socket.socket.shutdown(getattr(sock, "ssl_socket", sock), socket.SHUT_RDWR)
