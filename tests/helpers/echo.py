"""A service that accepts every client and sends every publication back; for tests of TLS and proxies."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import trustme
from tests.helpers.scripted import Message, Peer, Scripted, group_message
from tests.helpers.waiting import LIMIT


class Echo(Scripted):
    """The service, and the server names (SNI) and certificates that clients have sent."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._obey, tls=tls)
        self._executed: set[tuple[str, int]] = set()
        self.names: list[str | None] = []
        self.certificates: list[Any] = []
        if tls is not None:
            tls.sni_callback = lambda _, name, __: self.names.append(name)

    def asked(self, peer: Peer) -> None:
        assert peer._transport is not None
        self.certificates.append(peer._transport.get_extra_info("peercert"))
        peer.upgrade()
        if "awps_connection_id" in peer.query:
            (peer.connection_id,) = peer.query["awps_connection_id"]
        else:
            peer.connected(f"c{len(self.peers)}")

    def _obey(self, peer: Peer, message: Message) -> None:
        request = peer.connection_id, message["ackId"]
        if request in self._executed:
            peer.nack(message, "Duplicate")
            return
        self._executed.add(request)
        if message["type"] == "sendToGroup":
            peer.send(**group_message(None, message["data"], message["group"]))
        peer.ack(message)


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Return the TLS context of a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """Return the TLS context of a client that trusts one authority only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context


@contextmanager
def refusing(tls: ssl.SSLContext) -> Iterator[int]:
    """Listen on a port where every TLS handshake fails with an alert (servers of asyncio send none)."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(LIMIT)

        def serve() -> None:
            with suppress(OSError):
                while True:
                    sock, _ = server.accept()
                    sock.settimeout(LIMIT)
                    with sock, tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) as secure:
                        with suppress(ssl.SSLError):
                            secure.do_handshake()
                        # Everything is read before the close: a reset would overtake the alert.
                        plain = socket.socket(fileno=secure.detach())
                        with plain:
                            plain.shutdown(socket.SHUT_WR)
                            while plain.recv(4096):
                                pass

        thread = threading.Thread(target=serve, name="refusing server of a test", daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        thread.join(LIMIT)
