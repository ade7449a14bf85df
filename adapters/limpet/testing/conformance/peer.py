"""A peer that is no service: it answers as a check wants it to."""

from __future__ import annotations

import socket
import socketserver
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Event, Request, TextMessage

CONNECTED: Final = (
    '{"type":"system","event":"connected","connectionId":"peer-1","userId":"ann","reconnectionToken":"SECRET"}'
)


class Conversation:
    """A WebSocket from the side of the peer, open already.

    Attributes:
        closes: the codes of the close frames that have arrived.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.closes: list[int] = []
        self._sock = sock
        self._peer = WSConnection(ConnectionType.SERVER)
        (request,) = self._next()
        assert isinstance(request, Request)
        self.send(AcceptConnection(subprotocol=request.subprotocols[0]))
        self.send(TextMessage(CONNECTED))

    def send(self, *events: Event) -> None:
        """Send frames."""
        self._sock.sendall(b"".join(self._peer.send(event) for event in events))

    def text(self, text: str) -> None:
        """Send a text message."""
        self.send(TextMessage(text))

    def binary(self, data: bytes) -> None:
        """Send a binary message."""
        self.send(BytesMessage(data))

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self._sock.sendall(data)

    def close(self, code: int, reason: str) -> None:
        """Send a close frame, and end the connection when it is answered, as servers do."""
        self.send(CloseConnection(code, reason))
        self.end()

    def end(self) -> None:
        """Read until a close frame has come, and end the connection."""
        while not self.closes and (events := self._next()):
            self.closes += [int(event.code) for event in events if isinstance(event, CloseConnection)]

    def listen(self) -> None:
        """Read until the client has closed the connection, and answer nothing."""
        while events := self._next():
            self.closes += [int(event.code) for event in events if isinstance(event, CloseConnection)]

    def _next(self) -> list[Event]:
        """Return the next events; none: the connection is over."""
        while data := self._sock.recv(65536):
            self._peer.receive_data(data)
            if events := list(self._peer.events()):
                return events
        return []


class Peer:
    """Opens WebSockets, says ``connected`` and does what ``script`` does: ``with Peer(script) as peer:``.

    Attributes:
        conversations: those that were opened.
    """

    def __init__(self, script: Callable[[Conversation], object]) -> None:
        def answer(sock: socket.socket) -> None:
            conversation = Conversation(sock)
            self.conversations.append(conversation)
            script(conversation)

        self.conversations: list[Conversation] = []
        self._listener = Listener(answer)

    @property
    def url(self) -> str:
        """The URL for a driver."""
        return self._listener.url

    @property
    def closes(self) -> list[int]:
        """The codes of all close frames that have arrived."""
        return [code for conversation in self.conversations for code in conversation.closes]

    def __enter__(self) -> Self:
        self._listener.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.__exit__(kind, error, trace)


class Listener:
    """Answers each TCP connection in a thread of its own: ``with Listener(answer) as listener:``.

    Attributes:
        times: when connections came, in seconds of ``time.monotonic()``.
    """

    def __init__(self, answer: Callable[[socket.socket], object]) -> None:
        self.times: list[float] = []
        times = self.times

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                times.append(time.monotonic())
                self.request.settimeout(60.0)
                answer(self.request)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that has gone first is no fault."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, name="limpet-peer", daemon=True
        )

    @classmethod
    def saying(cls, answer: bytes) -> Self:
        """Return a listener that answers the head of each request with the same bytes, and hangs up."""

        def say(sock: socket.socket) -> None:
            head = b""
            while b"\r\n\r\n" not in head and (data := sock.recv(65536)):
                head += data
            sock.sendall(answer)

        return cls(say)

    @classmethod
    def refusing(cls, status: int, *headers: str) -> Self:
        """Return a listener that answers with an HTTP status."""
        lines = [f"HTTP/1.1 {status} No", *headers, "Content-Length: 0", "Connection: close", "", ""]
        return cls.saying("\r\n".join(lines).encode())

    @property
    def url(self) -> str:
        """The URL for a driver."""
        return f"ws://127.0.0.1:{self._server.server_address[1]}/client/hubs/chat?access_token=SECRET"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
