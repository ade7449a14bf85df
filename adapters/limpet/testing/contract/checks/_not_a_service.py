"""A listener that is no service."""

from __future__ import annotations

import socketserver
import threading
import time
from types import TracebackType
from typing import Self


class NotAService:
    """Answers everything with the same bytes and hangs up: ``with NotAService(b"SSH-2.0\\r\\n") as server:``.

    Args:
        answer: the bytes; sent when the head of an HTTP request has arrived.
        hangs_up: False: the client has to.

    Attributes:
        requests: the heads that have arrived.
        times: when they did, in seconds of ``time.monotonic()``.
    """

    def __init__(self, answer: bytes, *, hangs_up: bool = True) -> None:
        self.requests: list[bytes] = []
        self.times: list[float] = []
        requests, times = self.requests, self.times

        class Handler(socketserver.StreamRequestHandler):
            timeout = 5.0

            def handle(self) -> None:
                head = b""
                while (line := self.rfile.readline()) not in (b"\r\n", b""):
                    head += line
                if head:
                    times.append(time.monotonic())
                    requests.append(head)
                self.wfile.write(answer)
                if not hangs_up:
                    self.connection.settimeout(60.0)
                    while self.rfile.read(1):
                        pass

        class Server(socketserver.ThreadingTCPServer):
            def handle_error(self, request: object, client_address: object) -> None:
                """A client that has gone first is no fault."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, name="limpet-not-a-service", daemon=True
        )

    @classmethod
    def refusing(cls, status: int, text: str, **headers: str) -> Self:
        """Return a listener that answers with an HTTP status, and headers whose names have ``_`` for ``-``."""
        head = f"HTTP/1.1 {status} No\r\nContent-Type: text/plain\r\nContent-Length: {len(text)}\r\n"
        head += "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
        return cls(f"{head}Connection: close\r\n\r\n{text}".encode())

    @property
    def url(self) -> str:
        """The URL for a client."""
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
