"""One WebSocket under uvicorn, without the detour over ASGI messages.

There is no task and no queue per connection: messages of a client go straight into the service's logic, and the output
for a client goes straight to its TCP connection at the end of the event loop's turn, many messages in one write.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from http import HTTPStatus
from typing import Any, ClassVar, cast

import uvicorn
from uvicorn.server import ServerState
from websockets.exceptions import InvalidMessage
from websockets.frames import Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import OPEN

from limpet.service._access import WRONG_HOST, origin_of
from limpet.service._admission import Admission, Handshake, Pending, Refusal, hub_of_path, refuse_path
from limpet.service._gateway import Gateway
from limpet.service._server_protocol import CONT, DATA_OPCODES, TEXT, LimpetServerProtocol
from limpet_core.service import NO_CLOSE_FRAME, Transport
from limpet_core.service.wire.frames import message_of

# Seconds in which the client may read what is before a close frame, and answer the close frame.
_CLOSE_TIMEOUT = 5.0

# Frames of one client handled before it is the other clients' turn: receivers need a chance to acknowledge.
_FRAMES_PER_TURN = 64

# Bytes that a client may send before its handshake is answered; the WebSocket protocol has it wait.
_MAX_EARLY = 1 << 16

# Bytes in the write buffer of the TCP connection above which messages stay in the outbox, where they are counted.
_HIGH_WATER = 1 << 20

# Bytes in the write buffer above which a client is dropped: the answers to a flood of pings are counted nowhere else.
_MAX_BUFFERED = 64 << 20

# The library behind this logger shows headers and messages at the debug level, tokens among them.
_SILENT = logging.getLogger("limpet.service.websocket")
_SILENT.setLevel(logging.ERROR)

_NOT_A_HANDSHAKE = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class WebSocketProtocol(asyncio.Protocol):
    """Takes a TCP connection over from uvicorn's HTTP protocol when a client asks for a WebSocket.

    :meth:`bound_to` returns the class for ``uvicorn.Config(ws=...)``.
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
        self._protocol = LimpetServerProtocol(max_size=self.gateway.options.max_message_size, logger=_SILENT)
        self.transport: asyncio.Transport | None = None
        self._target: str | None = None
        self._client: Transport | None = None
        self._response: Response | None = None
        self._pending: Pending | None = None
        self._early = b""
        self._frames: deque[Frame] = deque()
        self._fragments = bytearray()
        self._mixed = False  # text and binary frames differ
        self._text = False
        self._turn_scheduled = False
        self._writing_paused = False
        self._takes_messages = False  # neither side has ended it
        self._received_since_ping = True
        self._handshake_timer: asyncio.TimerHandle | None = None
        self._ping_timer: asyncio.TimerHandle | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    # ---- Called by uvicorn and asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, not an assertion: the transports of other event loops need not be subclasses.
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER)
        # uvicorn does this only after the handshake: after an error in the handshake, connection_lost would not come.
        self.transport.set_protocol(self)
        self._open_connections.add(self)
        seconds = self.gateway.options.request_timeout
        if seconds is not None:
            self._handshake_timer = self._loop.call_later(seconds, self.abort)

    def data_received(self, data: bytes) -> None:
        """Handle bytes of the client, the handshake first."""
        self._received_since_ping = True
        if self._pending is not None:
            self._early += data
            if len(self._early) > _MAX_EARLY:
                self.abort()
            return
        if self._target is None:
            self._target, data = _split_target(data)
        if self._client is not None and self._client.close is not None:
            self.flush()  # the service's close frame, if it waits for the end of the turn, goes before the client's
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
        if not self._turn_scheduled:
            self._handle_frames()

    def eof_received(self) -> None:
        """Handle the end of the client's bytes; asyncio then closes the TCP connection."""
        self.flush()
        self._takes_messages = False  # over TLS, the connection is seen to close only later
        if self._pending is None:
            self._protocol.receive_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        self._open_connections.discard(self)
        self.transport = None
        if self._pending is not None:
            self.gateway.forget(self._pending)
            self._pending = None
        for timer in (self._handshake_timer, self._ping_timer, self._close_timer):
            if timer is not None:
                timer.cancel()
        # Frames that arrived before the end count, also if this client's turn had not come yet.
        while self._frames:
            self._handle_turn()
        self._detach(NO_CLOSE_FRAME)
        self.gateway.flush()

    def pause_writing(self) -> None:
        """Leave messages in the outbox: the client is slow."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        self._writing_paused = False
        self.flush()

    def shutdown(self) -> None:
        """Close the TCP connection when the server stops."""
        self._write_gathered()
        if self.transport is not None:
            self.transport.close()

    # ---- Called by the gateway

    def flush(self) -> None:
        """Send the output for this client, then carry out the order to close."""
        client = self._client
        if client is None or self.transport is None:
            return
        close = client.close
        if close is None:
            if not self._writing_paused:
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
        self._write_gathered()
        if self.transport is not None:
            self.transport.abort()

    # ---- Opening

    def _open(self, request: Request) -> None:
        if self._handshake_timer is not None:
            # The handshake is complete: the answer depends on the service, or on an event handler with its own limit.
            self._handshake_timer.cancel()
        target = self._target or ""
        headers = request.headers
        origin = origin_of("http", headers.get_all("Host"), self._root_path)
        if origin is None or not target.startswith("/"):
            self._refuse(Refusal(400, WRONG_HOST))
            return
        response = self._protocol.accept(request)
        if response.status_code != 101:
            self._protocol.send_response(response)
            self._close_soon()
            return
        path, _, query = target.partition("?")
        below = path.removeprefix(self._root_path)
        found = hub_of_path(below)
        if found is None:
            self._refuse(refuse_path(below))
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
            self._respond,
        )

    def _respond(self, outcome: Admission | Refusal) -> None:
        """Answer the handshake, at once or when an event handler has decided."""
        waited = self._pending is not None
        self._pending = None
        if isinstance(outcome, Refusal):
            self._refuse(outcome)
            return
        response = self._response
        assert response is not None, "set before the gateway decides"
        if outcome.subprotocol is not None:
            response.headers["Sec-WebSocket-Protocol"] = outcome.subprotocol
        self._protocol.send_response(response)
        self._write_protocol_output()
        self._client = outcome.transport
        self._mixed = outcome.mixed
        self.gateway.attach(outcome.transport, self)
        self._schedule_ping()
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

    # ---- Receiving

    def _handle_frames(self) -> None:
        """Handle the received frames, in turns with the other clients."""
        congested = self.gateway.congested
        if not congested:
            self._handle_turn()
        if self._frames:
            if not self._turn_scheduled and self.transport is not None:
                self.transport.pause_reading()
            self._turn_scheduled = True
            if congested:
                self.gateway.when_free(self._handle_frames)
            else:
                self._loop.call_soon(self._handle_frames)
            return
        if self._turn_scheduled:
            self._turn_scheduled = False
            if self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()
        exception = self._protocol.parser_exc
        if exception is not None and self._protocol.close_sent is not None:
            self._detach(int(self._protocol.close_sent.code), broken=True)
            self._close_soon()

    def _handle_turn(self) -> None:
        waiting = self._frames
        frames = [waiting.popleft() for _ in range(min(len(waiting), _FRAMES_PER_TURN))]
        size = len(self._fragments)
        for frame in frames:
            size += len(frame.data)
        self.gateway.gathering.add(len(frames), size)
        for frame in frames:
            if frame.opcode in DATA_OPCODES:
                self._handle_data(frame)
            elif frame.opcode is Opcode.CLOSE:
                closed = self._protocol.close_rcvd
                if closed is None:
                    self._detach(1005)
                else:
                    self._detach(int(closed.code), closed.reason)
                self._close_soon()
        self.gateway.flush_soon()

    def _handle_data(self, frame: Frame) -> None:
        if frame.opcode is not CONT:
            self._text = frame.opcode is TEXT
        message = bytes(frame.data)
        if self._fragments or not frame.fin:
            self._fragments += message
            if not frame.fin:
                return
            message = bytes(self._fragments)
            self._fragments.clear()
        if self._client is not None:
            # JSON may come in either kind of frame. Invalid UTF-8 becomes lone surrogates, which the
            # service's logic refuses.
            is_text = self._mixed and self._text
            self.gateway.receive(self._client, message.decode("utf-8", "surrogateescape") if is_text else message)

    def _detach(self, code: int, reason: str = "", *, broken: bool = False) -> None:
        if self._client is not None:
            self.gateway.detach(self._client, code, reason, broken=broken)

    # ---- Sending

    def _write_messages(self, client: Transport) -> None:
        if self.transport is None or not self._takes_messages or self.transport.is_closing():
            return
        frames = client.frames_to_send(self.gateway.now() if client.expiring else 0.0)
        if frames:
            if self.gateway.frame_log is not None:
                self.gateway.frame_log.sent(client, map(message_of, frames))
            self.transport.write(b"".join(frames))

    def _write_gathered(self) -> None:
        """Write the messages that wait for the end of the turn, before something else is written."""
        client = self._client
        if client is not None and client.ready and not self._writing_paused:
            self._write_messages(client)

    def _write_protocol_output(self) -> None:
        output = self._protocol.data_to_send()
        if not output or self.transport is None:
            return
        self._write_gathered()
        self._takes_messages = self._protocol.state is OPEN
        if self.transport.is_closing():
            return
        self.transport.write(b"".join(output))
        if self.transport.get_write_buffer_size() > _MAX_BUFFERED:
            self.abort()  # the client asks for answers and does not read them
            return
        # An empty chunk means the end. Half-closing lets the close frame arrive even if the client is still sending:
        # closing would reset the connection.
        if b"" in output:
            if not self.transport.can_write_eof():
                self.transport.close()
                return
            try:
                self.transport.write_eof()
            except OSError:  # the client has reset the connection, and the event loop has not yet told us
                self.abort()

    def _close_soon(self) -> None:
        """Send the remaining output, then give the client a moment to close the TCP connection."""
        self._write_protocol_output()
        if self._close_timer is None and self.transport is not None:
            self._close_timer = self._loop.call_later(_CLOSE_TIMEOUT, self.abort)

    # ---- Keepalive

    def _schedule_ping(self) -> None:
        interval = self.gateway.options.keepalive_interval
        if interval is not None:
            self._ping_timer = self._loop.call_later(interval, self._ping)

    def _ping(self) -> None:
        # While the service does not read, it cannot hear the client.
        if not self._received_since_ping and not self._turn_scheduled:
            self.abort()
            return
        self._received_since_ping = False
        if self._protocol.state is OPEN:
            self._protocol.send_ping(b"")
            self._write_protocol_output()
        self._schedule_ping()


def _split_target(data: bytes) -> tuple[str, bytes]:
    """Return the target of the request line, and the request with ``/`` in its place.

    uvicorn passes the request line on in one piece. With a token of many roles the target would be too long for the
    WebSocket library, which does not need it.
    """
    line, _, rest = data.partition(b"\r\n")
    method, _, line = line.partition(b" ")
    target, _, version = line.rpartition(b" ")
    return target.decode("latin-1"), b"%b / %b\r\n%b" % (method, version, rest)
