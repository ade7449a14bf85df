"""One WebSocket under uvicorn, without the detour over ASGI messages.

There is no task and no queue per connection: what a client sends goes straight into the service's logic, and
what the logic has for any client goes straight to its TCP connection, many messages in one write.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator
from http import HTTPStatus
from time import monotonic
from typing import Any, ClassVar, cast

import uvicorn
from uvicorn.server import ServerState
from websockets.exceptions import InvalidMessage
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from limpet.service._access import WRONG_HOST, origin_of
from limpet.service._gateway import Admission, Gateway, Handshake, Refusal, hub_of_path
from limpet_core.service import NO_CLOSE_FRAME, Binary, PendingConnect, Transport

__all__ = ["WebSocketProtocol"]

# The client's answer to a close frame, and the delivery of what is before it, may take this long, in seconds.
_CLOSE_TIMEOUT = 5.0

# Messages of one client handled before it is the others' turn: receivers have to get a chance to acknowledge.
_TURN = 64

# Bytes a client may send before its handshake is answered; the WebSocket protocol has it wait.
_MAX_EARLY = 1 << 16

# Bytes waiting in the TCP connection before messages wait in the outbox instead, where they are counted.
_HIGH_WATER = 1 << 20

# The library behind this logger shows headers and messages at the debug level, tokens among them.
_SILENT = logging.getLogger("limpet.service.websocket")
_SILENT.setLevel(logging.ERROR)

# First bytes of an unfragmented frame (RFC 6455 5.2).
_TEXT = 0x81
_BINARY = 0x82
# Bytes waiting there beyond which a client is dropped: the answers to a flood of pings are counted nowhere else.
_MOST_WAITING = 64 << 20

_NOT_A_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"

_SHORT = [bytes((_TEXT, length)) for length in range(126)]


class WebSocketProtocol(asyncio.Protocol):
    """Takes a TCP connection over from uvicorn's HTTP protocol when a client asks for a WebSocket.

    `bound_to` gives the class to hand to ``uvicorn.Config(ws=...)``.
    """

    gateway: ClassVar[Gateway]

    @classmethod
    def bound_to(cls, gateway: Gateway) -> type[WebSocketProtocol]:
        """Return a subclass whose WebSockets are clients of ``gateway``."""
        return type("BoundWebSocketProtocol", (cls,), {"gateway": gateway})

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._loop = _loop or asyncio.get_running_loop()
        self._root_path = config.root_path
        self._open_connections: set[Any] = server_state.connections
        self._protocol = ServerProtocol(max_size=self.gateway.options.max_message_size, logger=_SILENT)
        self.transport: asyncio.Transport | None = None
        self._target: str | None = None
        self._client: Transport | None = None
        self._response: Response | None = None
        self._pending: PendingConnect | None = None
        self._early = b""
        self._frames: deque[Frame] = deque()
        self._fragments = bytearray()
        self._raw = False
        self._text = False
        self._handling = False
        self._paused = False
        self._heard = True
        self._opening: asyncio.TimerHandle | None = None
        self._keepalive: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    # --- From uvicorn and asyncio -------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take over the TCP connection."""
        # Not an assertion: the transports of other event loops need not be subclasses.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)
        # uvicorn does so only after the handshake: were there a fault in that, nobody would tell us of the end.
        self.transport.set_protocol(self)
        self._open_connections.add(self)
        seconds = self.gateway.options.request_timeout
        if seconds is not None:
            self._opening = self._loop.call_later(seconds, self.abort)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client, the opening handshake first."""
        self._heard = True
        if self._pending is not None:
            self._early += data
            if len(self._early) > _MAX_EARLY:
                self.abort()
            return
        if self._target is None:
            data = self._take_target(data)
        protocol = self._protocol
        protocol.receive_data(data)
        for event in protocol.events_received():
            if isinstance(event, Request):
                self._open(event)
            elif isinstance(event, Frame):
                self._frames.append(event)
        if protocol.handshake_exc is not None and self._close_timer is None:
            if isinstance(protocol.handshake_exc, InvalidMessage) and self.transport is not None:
                # The library ends without an answer.
                self.transport.write(_NOT_A_HANDSHAKE)
            self._close_soon()
        self._write_protocol_output()
        if not self._handling:
            self._handle_frames()

    def eof_received(self) -> None:
        """Note that the client will not send more; asyncio then closes the TCP connection."""
        if self._pending is None:
            self._protocol.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the TCP connection is gone."""
        self._open_connections.discard(self)
        self.transport = None
        if self._pending is not None:
            self.gateway.forget(self._pending)
            self._pending = None
        for timer in (self._opening, self._keepalive, self._close_timer):
            if timer is not None:
                timer.cancel()
        # What arrived in time still counts, also if the turn of this client had not come yet.
        while self._frames:
            self._handle_turn()
        self._detach(NO_CLOSE_FRAME)
        self.gateway.flush()

    def pause_writing(self) -> None:
        """Leave messages in the outbox from now on: the client is slow."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on sending."""
        self._paused = False
        self.flush()

    def shutdown(self) -> None:
        """Close the TCP connection when the server stops."""
        if self.transport is not None:
            self.transport.close()

    # --- From the gateway ---------------------------------------------------------------------------

    def flush(self) -> None:
        """Send what the service has for this client, then carry out its order to close."""
        client = self._client
        if client is None or self.transport is None:
            return
        close = client.close
        if close is None:
            if not self._paused:
                self._write_messages(client)
        elif close.code == NO_CLOSE_FRAME:
            self.abort()
        elif self._protocol.state is OPEN:
            self._write_messages(client)
            self._protocol.send_close(close.code, close.reason)
            self._write_protocol_output()
            self._close_soon()

    def abort(self) -> None:
        """Drop the client without a close frame."""
        if self.transport is not None:
            self.transport.abort()

    # --- Opening ------------------------------------------------------------------------------------

    def _take_target(self, data: bytes) -> bytes:
        """Keep the path and query of the handshake, which uvicorn passes on in one piece, to ourselves.

        A token with many roles would be too long for the WebSocket library, and is none of its business.
        """
        line, _, rest = data.partition(b"\r\n")
        method, _, line = line.partition(b" ")
        target, _, version = line.rpartition(b" ")
        self._target = target.decode("latin-1")
        return b"%b / %b\r\n%b" % (method, version, rest)

    def _open(self, request: Request) -> None:
        if self._opening is not None:
            # From now on the answer is up to us, or to an event handler, which has a limit of its own.
            self._opening.cancel()
        protocol = self._protocol
        headers = request.headers
        origin = origin_of("http", headers.get_all("Host"), self._root_path)
        if origin is None or not (self._target or "").startswith("/"):
            self._refuse(Refusal(400, WRONG_HOST))
            return
        response = protocol.accept(request)
        if response.status_code != 101:
            protocol.send_response(response)
            self._close_soon()
            return
        path, _, query = (self._target or "").partition("?")
        found = hub_of_path(path.removeprefix(self._root_path))
        if found is None:
            self._refuse(Refusal(404, "Connect to /client/hubs/{hub}."))
            return
        offered = ",".join(headers.get_all("Sec-WebSocket-Protocol")).split(",")
        self._response = response
        self._pending = self.gateway.admit(
            Handshake(
                hub=found[0],
                query=query,
                origin=origin,
                authorization=",".join(headers.get_all("Authorization")),
                subprotocols=[offer.strip() for offer in offered],
                headers=headers.raw_items(),
            ),
            self._decided,
        )

    def _decided(self, outcome: Admission | Refusal) -> None:
        """Answer the handshake, at once or when an event handler has decided."""
        waited = self._pending is not None
        self._pending = None
        if isinstance(outcome, Refusal):
            self._refuse(outcome)
            return
        response = self._response
        assert response is not None, "set before anybody is asked"
        if outcome.subprotocol is not None:
            response.headers["Sec-WebSocket-Protocol"] = outcome.subprotocol
        self._protocol.send_response(response)
        self._write_protocol_output()
        self._client = outcome.transport
        self._raw = outcome.raw
        self.gateway.attach(outcome.transport, self)
        self._schedule_keepalive()
        if waited and self._early:
            early, self._early = self._early, b""
            self.data_received(early)

    def _refuse(self, refusal: Refusal) -> None:
        response = self._protocol.reject(HTTPStatus.BAD_REQUEST, refusal.text + "\n")
        # An event handler may have chosen a status without a name.
        response.status_code = refusal.status
        response.reason_phrase = next((known.phrase for known in HTTPStatus if known == refusal.status), "Refused")
        self._protocol.send_response(response)
        self._close_soon()

    # --- Receiving ----------------------------------------------------------------------------------

    def _handle_frames(self) -> None:
        """Handle what has arrived, in turns with the other clients."""
        self._handle_turn()
        if self._frames:
            if not self._handling and self.transport is not None:
                self.transport.pause_reading()
            self._handling = True
            self._loop.call_soon(self._handle_frames)
            return
        if self._handling:
            self._handling = False
            if self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()
        exception = self._protocol.parser_exc
        if exception is not None and self._protocol.close_sent is not None:
            self._detach(int(self._protocol.close_sent.code), broken=True)
            self._close_soon()

    def _handle_turn(self) -> None:
        client = self._client
        for frame in self._next_frames():
            if frame.opcode is Opcode.CLOSE:
                closed = self._protocol.close_rcvd
                self._detach(1005 if closed is None else int(closed.code))
                self._close_soon()
            elif frame.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                if frame.opcode is not Opcode.CONT:
                    self._text = frame.opcode is Opcode.TEXT
                self._fragments += frame.data
                if frame.fin:
                    message = bytes(self._fragments)
                    self._fragments.clear()
                    if client is not None:
                        # Only of raw clients it matters which kind of frame it was. What is not valid UTF-8
                        # becomes lone surrogates, which the service's logic refuses.
                        is_text = self._raw and self._text
                        self.gateway.receive(client, message.decode("utf-8", "surrogateescape") if is_text else message)
        self.gateway.flush()

    def _next_frames(self) -> Iterator[Frame]:
        for _ in range(min(len(self._frames), _TURN)):
            yield self._frames.popleft()

    def _detach(self, code: int, *, broken: bool = False) -> None:
        if self._client is not None:
            self.gateway.detach(self._client, code, broken=broken)

    # --- Sending ------------------------------------------------------------------------------------

    def _write_messages(self, client: Transport) -> None:
        """Write whole frames, unmasked as RFC 6455 5.1 has it for a server."""
        if self.transport is None or self._protocol.state is not OPEN:
            return
        messages = client.messages_to_send(monotonic())
        if not messages:
            return
        parts: list[bytes] = []
        for message in messages:
            length = len(message)
            if length < 126:
                parts.append(_SHORT[length])
            elif length < 65536:
                parts.append(b"\x81\x7e" + length.to_bytes(2, "big"))
            else:
                parts.append(b"\x81\x7f" + length.to_bytes(8, "big"))
            if self._raw and isinstance(message, Binary):
                parts[-1] = bytes((_BINARY,)) + parts[-1][1:]
            parts.append(message)
        self.transport.write(b"".join(parts))

    def _write_protocol_output(self) -> None:
        output = self._protocol.data_to_send()
        if not output or self.transport is None or self.transport.is_closing():
            return
        self.transport.write(b"".join(output))
        if self.transport.get_write_buffer_size() > _MOST_WAITING:
            self.abort()  # it makes us answer and does not read
            return
        # An empty chunk stands for the end. Half-closing lets the close frame arrive even if the client is
        # still sending: closing would reset the connection.
        if b"" in output:
            if not self.transport.can_write_eof():
                self.transport.close()
                return
            try:
                self.transport.write_eof()
            except OSError:  # the client has reset the connection, and the event loop has not yet told us
                self.abort()

    def _close_soon(self) -> None:
        """Send what is left, then give the client a moment to close the TCP connection."""
        self._write_protocol_output()
        if self._close_timer is None and self.transport is not None:
            self._close_timer = self._loop.call_later(_CLOSE_TIMEOUT, self.abort)

    # --- Keepalive ----------------------------------------------------------------------------------

    def _schedule_keepalive(self) -> None:
        interval = self.gateway.options.keepalive_interval
        if interval is not None:
            self._keepalive = self._loop.call_later(interval, self._keep_alive)

    def _keep_alive(self) -> None:
        if not self._heard:
            self.abort()
            return
        self._heard = False
        if self._protocol.state is OPEN:
            self._protocol.send_ping(b"")
            self._write_protocol_output()
        self._schedule_keepalive()
