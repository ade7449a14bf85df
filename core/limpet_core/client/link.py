"""Link: one WebSocket connection over bytes, for transports that only move bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.handshake import H11Handshake
from wsproto.utilities import ProtocolError

from limpet_core.client.frames import Masker, cut_texts, measure
from limpet_core.client.session import Session
from limpet_core.client.states import Dial
from limpet_core.client.url import Endpoint, parse_url
from limpet_core.errors import ConnectError, refused
from limpet_core.text import LONGEST_REASON, one_line

_PONGS: Final = 500
"""Pongs that wait for a peer that does not read; then the oldest goes, as RFC 6455 5.5.3 allows."""

_SMALL: Final = 4096
"""Pieces of a frame up to this size are put together: kept one by one, each would take far more than its bytes."""


class Link:
    """One WebSocket connection, from the handshake to the close, between a transport's bytes and a Session.

    It has no policy and no timer: it reports what happens to ``session`` and does what ``dial`` says. Once the
    session no longer wants ``dial``, whatever arrives is dropped.

    Args:
        session: who receives the messages and has the messages to send.
        dial: the session's current :attr:`Session.dial`; its ``url`` must be known.
        random_bytes: returns that many unpredictable bytes, for masks; ``os.urandom`` will do.
        headers: more headers for the handshake, as pairs of name and value.
        fast_lane: read and write ordinary text frames without wsproto. Off, the result is the same.

    Raises:
        InvalidValue: ``dial.url`` is not a WebSocket URL.

    Call :meth:`data_to_send` at once: it holds the handshake.
    """

    def __init__(
        self,
        session: Session,
        dial: Dial,
        *,
        random_bytes: Callable[[int], bytes],
        headers: Iterable[tuple[str, str]] = (),
        fast_lane: bool = True,
    ) -> None:
        self.dial = dial
        self.endpoint: Endpoint = parse_url(dial.url or "")
        self._session = session
        self._limit = session.options.max_message_size
        self._fast_lane = fast_lane
        self._masker = Masker(random_bytes)
        # Not a WSConnection, which would keep the parts of the handshake for as long as the connection stands.
        self._ws: H11Handshake | Connection = H11Handshake(ConnectionType.CLIENT)
        self._out: list[bytes] = []
        self._pongs: list[bytes] = []
        self._open = False
        self._done = False
        self._rejection: RejectConnection | None = None
        self._body = b""
        # Bytes of a frame that is not complete yet, and the size that makes trying again worth while.
        self._held: list[bytes | bytearray] = []
        self._held_size = 0
        self._wanted = 0
        # A message in several frames: wsproto's half-made text, and the size of the frames so far.
        self._fragmented = False
        self._message_size = 0
        self._text = bytearray()
        self._to_wsproto = False
        self._out.append(
            self._ws.send(
                Request(
                    host=self.endpoint.authority,
                    target=self.endpoint.target,
                    subprotocols=[dial.protocol],
                    extra_headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in headers],
                )
            )
        )

    @property
    def close_expected(self) -> bool:
        """Whether nothing more will come of this connection: send what is left, then close the transport."""
        return self._done

    # ---- What happened

    def receive_data(self, data: bytes, now: float) -> None:
        """Bytes arrived; ``b""``: the peer will send no more. Never raises because of the peer.

        Call :meth:`data_to_send` and drain the session next.
        """
        if not data:
            self.transport_lost("the service closed the connection", now)
        elif self._is_stale():
            return
        elif self._open:
            self._session.heard(now)
            self._receive_frames(data, now)
        else:
            self._receive_handshake(data, now)

    def transport_lost(self, reason: str, now: float) -> None:
        """The transport cannot be read any more; ``reason`` says why, for people. Repeats do nothing."""
        if self._is_stale():
            return
        if not self._open:
            if self._rejection is not None:
                self._rejected(now)
            else:
                hint = "" if self.endpoint.secure else "; if that port wants TLS, the URL starts with wss://"
                self.failed(ConnectError(f"the handshake was cut short: {one_line(reason)}{hint}"), now)
            return
        # wsproto looks into incomplete frames too: it may find a fault in what was held back.
        held = b"".join(self._held)
        self._held.clear()
        self._feed(held, now)
        if not self._done:
            self._done = True
            self._session.disconnected(now, reason=reason)

    def failed(self, error: BaseException, now: float) -> None:
        """The transport could not be opened, or broke; ``error`` says why. Repeats do nothing."""
        self._failed(error, now)

    def _failed(self, error: BaseException, now: float, status: int | None = None) -> None:
        if self._open:
            self.transport_lost(str(error), now)
        elif not self._is_stale():
            self._done = True
            self._session.dial_failed(error, now, status=status)

    def _is_stale(self) -> bool:
        if not self.dial.wanted:
            self._done = True
        return self._done

    # ---- What to do about it

    def data_to_send(self) -> list[bytes]:
        """The bytes to write now, in order: handshake, messages, pongs, close.

        To be called after everything that happened to this link or its session, unless the transport can take
        no more at the moment.
        """
        out = [*self._pongs, *self._out]
        if self._open and self.dial.wanted and (messages := self._session.messages_to_send()):
            out.append(b"".join([self._text_frame(message) for message in messages]))
        close = self.dial.close
        if close is not None and self._ws.state is ConnectionState.OPEN:
            out.append(self._ws.send(CloseConnection(code=close.code, reason=close.reason or None)))
        if not out:
            return []
        self._out.clear()
        self._pongs.clear()
        return out

    def _text_frame(self, message: bytes) -> bytes:
        if self._fast_lane and self._masker.suits(message):
            return self._masker.text_frame(message)
        return self._ws.send(TextMessage(data=message.decode()))

    # ---- The handshake

    def _receive_handshake(self, data: bytes, now: float) -> None:
        # Line by line: what follows the head is the first frames, and those are not for wsproto to buffer.
        rest = memoryview(data)
        while len(rest) and not self._open and not self._done:
            line_end = data.find(b"\n", len(data) - len(rest)) + 1 or len(data)
            taken = line_end - (len(data) - len(rest))
            self._feed(bytes(rest[:taken]), now)
            rest = rest[taken:]
        if self._open:
            self._receive_frames(bytes(rest), now)

    def _accepted(self, event: AcceptConnection, now: float) -> None:
        if event.subprotocol is None:
            self.failed(ConnectError(f"the service did not accept the subprotocol {self.dial.protocol}"), now)
            return
        assert isinstance(self._ws, H11Handshake)
        assert self._ws.connection is not None
        self._ws = self._ws.connection
        self._open = True
        self._session.connected(now)

    def _rejected(self, now: float) -> None:
        assert self._rejection is not None
        status = self._rejection.status_code
        self._failed(refused(status, self._body), now, status)

    # ---- Frames

    def _receive_frames(self, data: bytes, now: float) -> None:
        position = 0
        while self._held and not self._to_wsproto:
            # Only the frame that was cut in two is put together: to copy all that came with its end would be the
            # greater part of what a long message costs.
            missing = self._wanted - self._held_size
            piece = data[position : position + missing]
            self._keep(piece)
            self._held_size += len(piece)
            if len(piece) < missing:
                return
            position += missing
            frame = b"".join(self._held)
            self._held.clear()
            self._cut(frame, 0, now)
            if self._done:
                return
        if self._to_wsproto:
            self._feed(data[position:], now)
        else:
            self._cut(data, position, now)

    def _cut(self, data: bytes, position: int, now: float) -> None:
        """Take the frames in ``data`` from ``position`` on; what is not complete is held back."""
        end = len(data)
        texts: list[bytes] = []
        while not self._done:
            if self._fast_lane and not self._fragmented:
                position = cut_texts(data, position, self._limit, texts)
            self._deliver(texts, now)
            if position == end or self._done:
                return
            start, length = measure(data, position, end)
            if start < 0:
                # wsproto names the fault; what comes after it is lost with the connection.
                self._to_wsproto = True
                self._feed(data[position:], now)
                return
            # No control frame may be too long: measure() has refused it.
            if start and not data[position] & 0x08 and length + self._message_size > self._limit:
                self._broken(1009, f"a message above max_message_size ({self._limit} bytes)", now)
                return
            stop = (start or position) + length
            if stop > end:
                self._keep(data[position:])
                self._held_size, self._wanted = end - position, stop - position
                return
            self._count(data[position], length)
            self._feed(data[position:stop], now)
            position = stop

    def _keep(self, data: bytes) -> None:
        if len(data) > _SMALL:
            self._held.append(data)
        elif self._held and isinstance(last := self._held[-1], bytearray) and len(last) < 16 * _SMALL:
            last += data
        else:
            self._held.append(bytearray(data))

    def _count(self, first: int, length: int) -> None:
        """Keep track of messages in several frames; control frames may come between these."""
        if first & 0x08:
            return
        self._fragmented = first < 0x80
        self._message_size = self._message_size + length if self._fragmented else 0

    def _deliver(self, texts: list[bytes], now: float) -> None:
        if texts:
            self._session.receive_messages(texts, now)
            texts.clear()
            self._is_stale()

    # ---- wsproto

    def _feed(self, data: bytes, now: float) -> None:
        try:
            self._ws.receive_data(data)
            for event in self._ws.events():
                self._handle(event, now)
                if self._done:
                    return
        except (ProtocolError, ValueError) as error:
            if self._rejection is not None:  # only its body cannot be read
                self._rejected(now)
            text = one_line(str(error), LONGEST_REASON)  # the session looks for tokens that it knows, and shows less
            self.failed(ConnectError(f"the service's answer to the handshake cannot be used: {text}"), now)

    def _handle(self, event: Event, now: float) -> None:
        if isinstance(event, TextMessage):
            self._text += event.data.encode()
            if event.message_finished:
                text = bytes(self._text)
                self._text.clear()
                self._session.receive_messages([text], now)
        elif isinstance(event, BytesMessage):
            if event.message_finished:
                self._session.receive_binary(now)
        elif isinstance(event, Ping):
            if self._ws.state is ConnectionState.OPEN:  # not after our close
                self._pongs.append(self._ws.send(event.response()))
                if len(self._pongs) > _PONGS:
                    del self._pongs[0]
        elif isinstance(event, CloseConnection):
            self._closed(event, now)
        elif isinstance(event, AcceptConnection):
            self._accepted(event, now)
        elif isinstance(event, RejectConnection):
            self._rejection = event
            if not event.has_body:
                self._rejected(now)
        elif isinstance(event, RejectData):
            self._body += event.data
            if event.body_finished or len(self._body) > 4096:
                self._rejected(now)
        self._is_stale()

    def _closed(self, event: CloseConnection, now: float) -> None:
        code, reason = int(event.code), event.reason or ""
        if self._ws.state is ConnectionState.OPEN or self._ws.state is ConnectionState.LOCAL_CLOSING:
            # No close frame: wsproto found a fault in what the peer sent.
            self._broken(code, reason, now)
            return
        if self._ws.state is ConnectionState.REMOTE_CLOSING:
            self._out.append(self._ws.send(event.response()))
        self._session.disconnected(now, code=code, reason=reason)

    def _broken(self, code: int, reason: str, now: float) -> None:
        self._done = True
        self._session.transport_broken(code, reason, now)
