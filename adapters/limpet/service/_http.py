"""HTTP under uvicorn: without an access log, with a timeout for the arrival of requests, and calm about broken ones."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

_TOO_SLOW: Final = b"The request did not arrive in time.\n"
_ANSWER: Final = (
    b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n"
)


_LOGGER: Final = logging.getLogger("limpet.service.http")


def _is_worth_a_line(record: logging.LogRecord) -> bool:
    """Make debug messages of warnings: any peer can send as many broken requests as it likes."""
    if record.levelno == logging.WARNING:
        record.levelno, record.levelname = logging.DEBUG, logging.getLevelName(logging.DEBUG)
    return _LOGGER.isEnabledFor(record.levelno)


_LOGGER.addFilter(_is_worth_a_line)


class HttpProtocol(H11Protocol):
    """A TCP connection of the service, until a WebSocket takes it over.

    :meth:`bound_to` returns the class for ``uvicorn.Config(http=...)``.
    """

    request_timeout: float | None = None

    @classmethod
    def bound_to(cls, request_timeout: float | None) -> type[HttpProtocol]:
        """Return a subclass with a timeout, in seconds, for the head of each request and for its body."""
        return type("BoundHttpProtocol", (cls,), {"request_timeout": request_timeout})

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # URLs contain tokens.
        self.access_log = False
        self.logger = _LOGGER
        self._expected: tuple[object, ...] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect((self.cycle, h11.IDLE))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_next(begun=True)

    def send_400_response(self, msg: str) -> None:
        """Answer a broken request, unless its answer has begun; the application's answer is not wanted any more."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()
        cycle = cast("RequestResponseCycle | None", self.cycle)  # there is none before the first request
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()

    def on_response_complete(self) -> None:
        """Set the timer for the next request, if a part of it has arrived already."""
        super().on_response_complete()
        self._expect_next(begun=bool(self.conn.trailing_data[0]))

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect(None)
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand over the TCP connection, with the bytes that the client sent behind its handshake."""
        super().handle_websocket_upgrade(event)
        early = self.conn.trailing_data[0]
        if early and not self.transport.is_closing():
            cast(asyncio.Protocol, self.transport.get_protocol()).data_received(early)

    def _expect_next(self, *, begun: bool) -> None:
        """Set the timer for the head or body that arrives next; a part of the same one does not restart the timer."""
        state = self.conn.their_state
        ours = self.transport.get_protocol() is self and not self.transport.is_closing()
        # Between two requests uvicorn has a timeout of its own.
        if ours and (state is h11.SEND_BODY or (state is h11.IDLE and begun)):
            self._expect((self.cycle, state))
        else:
            self._expect(None)

    def _expect(self, expected: tuple[object, ...] | None) -> None:
        if expected == self._expected:
            return
        self._expected = expected
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if expected is not None and self.request_timeout is not None:
            self._timer = self.loop.call_later(self.request_timeout, self._timed_out)

    def _timed_out(self) -> None:
        if self.conn.their_state is h11.SEND_BODY and not self.cycle.response_complete:
            # The reader of the body has the same timeout, and answers.
            self.cycle.keep_alive = False
            return
        if self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self.transport.write(_ANSWER % len(_TOO_SLOW) + _TOO_SLOW)
        self.transport.close()
