"""A listener that does harm during the handshakes of TLS and WebSocket, or keeps still."""

from __future__ import annotations

import base64
import enum
import hashlib
import re
import socket
import ssl
import struct
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, Self

_LIMIT: Final = 60.0
"""Seconds after which a connection is ended, if nothing else ends it."""

_KEY: Final = re.compile(rb"sec-websocket-key: *([^\r\n]+)", re.IGNORECASE)
_PROTOCOL: Final = re.compile(rb"sec-websocket-protocol: *([^\r\n]+)", re.IGNORECASE)
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, 1.3

_RESET: Final = struct.pack("ii", 1, 0)


class Harm(enum.Enum):
    """What a peer does. Those that do not hang up keep still then, until the client has gone."""

    STILL = "keeps still from the start"
    GARBAGE = "answers in another protocol"
    RESET = "resets the connection when the client has said something"
    UNCERTIFIED = "has no certificate"
    STILL_BEHIND_TLS = "keeps still behind the handshake of TLS"
    HANGS_UP_BEHIND_TLS = "hangs up behind the handshake of TLS"
    GARBAGE_BEHIND_TLS = "answers in another protocol behind the handshake of TLS"
    HALF_AN_ANSWER = "keeps still amid its answer to the handshake of the WebSocket"
    REFUSES = "refuses the handshake of the WebSocket, but does not hang up"
    NO_FRAMES = "accepts the handshake of the WebSocket, but answers in another protocol then"
    NO_WEBSOCKET = "accepts the handshake of the WebSocket with the wrong key"


_ANSWERS: Final = {
    Harm.GARBAGE_BEHIND_TLS: b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    Harm.HALF_AN_ANSWER: b"HTTP/1.1 101 Sw",
    Harm.REFUSES: b"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno",
}


class Hostile:
    """A listener that does one kind of harm to all who connect: ``with Hostile(Harm.STILL, None) as peer:``.

    Args:
        harm: what it does.
        tls: the context for ``wss``, or None for ``ws``.

    Attributes:
        connected: connections that were ever accepted.
        open: connections that the client has not ended yet.
    """

    def __init__(self, harm: Harm, tls: ssl.SSLContext | None) -> None:
        self.connected = self.open = 0
        self._harm = harm
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if harm is Harm.UNCERTIFIED and tls is not None else tls
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._sockets: set[socket.socket] = set()
        self._threads = [threading.Thread(target=self._accept, name="hostile", daemon=True)]

    def url(self, host: str = "127.0.0.1") -> str:
        """Return the URL for a client."""
        scheme = "ws" if self._tls is None else "wss"
        return f"{scheme}://{host}:{self._listener.getsockname()[1]}/client/hubs/chat?access_token=SECRET"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            for sock in (self._listener, *self._sockets):
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._handle, args=(sock,), name="hostile", daemon=True)
            with self._lock:
                self.connected += 1
                self.open += 1
                self._sockets.add(sock)
                self._threads.append(thread)
            thread.start()

    def _handle(self, sock: socket.socket) -> None:
        sock.settimeout(_LIMIT)
        try:
            with suppress(OSError):  # the client may end it at any time; ssl.SSLError is one, too
                self._harm_it(sock)
        finally:
            with self._lock:
                self.open -= 1
                self._sockets.discard(sock)
            sock.close()

    def _harm_it(self, sock: socket.socket) -> None:
        harm = self._harm
        if harm is Harm.STILL:
            _read_on(sock)
        elif harm is Harm.GARBAGE:
            sock.recv(65536)
            sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
            _read_on(sock)
        elif harm is Harm.RESET:
            sock.recv(65536)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        else:
            self._behind_tls(sock)

    def _behind_tls(self, sock: socket.socket) -> None:
        stream: Any = sock
        if self._tls is not None:
            stream = _Tls(sock, self._tls)
        if self._harm is Harm.HANGS_UP_BEHIND_TLS:
            return
        if self._harm not in (Harm.STILL_BEHIND_TLS, Harm.UNCERTIFIED):
            head = stream.recv(65536)
            if not head:
                return  # the client has gone
            if self._harm is Harm.NO_FRAMES:
                stream.sendall(_upgrade(head, _GUID) + b"\xff" * 100)
            elif self._harm is Harm.NO_WEBSOCKET:
                stream.sendall(_upgrade(head, b"another"))
            else:
                stream.sendall(_ANSWERS[self._harm])
        _read_on(sock)


class _Tls:
    """TLS on a socket that stays at hand below it."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._do(self._object.do_handshake)

    def recv(self, size: int) -> bytes:
        return self._do(lambda: self._object.read(size))  # type: ignore[no-any-return]

    def sendall(self, data: bytes) -> None:
        self._do(lambda: self._object.write(data))

    def _do(self, step: Any) -> Any:
        while True:
            wants = False
            try:
                return step()
            except ssl.SSLWantReadError:
                wants = True
            finally:
                self._sock.sendall(self._outgoing.read())
                if wants:
                    data = self._sock.recv(65536)
                    if data:
                        self._incoming.write(data)
                    else:
                        self._incoming.write_eof()


def _upgrade(head: bytes, guid: bytes) -> bytes:
    key, protocol = _KEY.search(head), _PROTOCOL.search(head)
    assert key is not None
    assert protocol is not None
    accept = base64.b64encode(hashlib.sha1(key[1] + guid).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: %b\r\nSec-WebSocket-Protocol: %b\r\n\r\n" % (accept, protocol[1])
    )


def _read_on(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass
