"""A listener that opens WebSockets and then says nothing."""

from __future__ import annotations

import socketserver
import ssl
import threading
from types import TracebackType
from typing import Self

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Pong, Request


class Mute:
    """Opens each WebSocket, sends one ping, and then only reads: ``with Mute(tls) as server:``.

    Args:
        tls: the context of the listener; None: no TLS.

    Attributes:
        opened: how many WebSockets are open in the view of the client, too: it has answered the ping. (A library may do
            that before its caller knows.)
        ended: how many have ended since.
        closes: the codes of the close frames that it has received.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.opened: int = 0
        self.ended: int = 0
        self.closes: list[int] = []
        self._secure = tls is not None
        mute = self

        class Handler(socketserver.BaseRequestHandler):
            def setup(self) -> None:
                self.request.settimeout(30.0)
                if tls is not None:
                    self.request = tls.wrap_socket(self.request, server_side=True)

            def handle(self) -> None:
                peer = WSConnection(ConnectionType.SERVER)
                while data := self.request.recv(65536):
                    peer.receive_data(data)
                    for event in peer.events():
                        if isinstance(event, Request):
                            answer = peer.send(AcceptConnection(subprotocol=event.subprotocols[0]))
                            self.request.sendall(answer + peer.send(Ping()))
                        elif isinstance(event, Pong):
                            mute.opened += 1
                        elif isinstance(event, CloseConnection):
                            mute.closes.append(int(event.code))

            def finish(self) -> None:
                self.request.close()
                mute.ended += 1

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that has gone first is no fault."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, name="limpet-mute", daemon=True
        )

    @property
    def url(self) -> str:
        """The URL for a client."""
        scheme = "wss" if self._secure else "ws"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}/client/hubs/chat?access_token=SECRET"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
