"""Link: one WebSocket connection, for transports that carry bytes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import ClassVar, Final

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

from limpet_core.client.ack_runs import AckRun
from limpet_core.client.frames import FrameBuffer, text_frame
from limpet_core.client.headers import with_defaults
from limpet_core.client.masking import Masker
from limpet_core.client.refusals import LONGEST_BODY, decoded_headers, refused
from limpet_core.client.session import Session, attach
from limpet_core.client.states import Dial
from limpet_core.client.url import Endpoint
from limpet_core.errors import ConnectError, InvalidType
from limpet_core.text import CLOSED_BY_SERVICE, LONGEST_REASON, one_line, reason_of

_HEAD_END: Final = re.compile(rb"\n\r?\n")

_PONGS: Final = 500
"""Pongs that are kept for a peer that does not read; beyond them the oldest is dropped (RFC 6455 5.5.3 allows it)."""


class Link:
    """One WebSocket connection, from the handshake to the close, between a transport's bytes and a Session.

    A link has no policy and no timer: it reports events of the connection to ``session`` and closes it as ``dial``
    says. Once the session no longer wants ``dial``, the link drops all that arrives.

    Args:
        session: receives the messages and has the messages to send.
        dial: the session's current :attr:`Session.dial`; its ``url`` must be known.
        random_bytes: returns that many unpredictable bytes, for masks, such as ``os.urandom``.
        headers: more headers for the handshake, as pairs of name and value; those of ``dial.headers`` come before
            headers of the same name.

    Attributes:
        dial: as given.

    Raises:
        InvalidType: ``session`` is no :class:`Session`, or ``dial`` no :class:`Dial`.
        InvalidValue: ``dial.url`` is None or no WebSocket URL, or ``dial`` belongs to another session.

    Call :meth:`data_to_send` as soon as the transport is open: it returns the handshake.
    """

    # Whether ordinary frames are read and written without wsproto. Tests turn it off: the result must be the same.
    _fast_lane: ClassVar[bool] = True

    __slots__ = (
        "__weakref__",
        "_binary",
        "_body",
        "_buffer",
        "_endpoint",
        "_frames",
        "_handshake",
        "_masker",
        "_message",
        "_open",
        "_out",
        "_pongs",
        "_rejection",
        "_session",
        "dial",
    )

    def __init__(
        self,
        session: Session,
        dial: Dial,
        *,
        random_bytes: Callable[[int], bytes],
        headers: Iterable[tuple[str, str]] = (),
    ) -> None:
        attach(session, dial)
        # Only as long as a transport is opened: then nobody asks for it any more.
        self._endpoint: Endpoint | None = dial.endpoint
        self.dial: Dial = dial
        self._session = session
        self._binary = session.options.binary
        self._buffer = FrameBuffer(session.options.max_message_size, fast_lane=self._fast_lane, binary=self._binary)
        self._masker = Masker(random_bytes, binary=self._binary)
        # Not a WSConnection, which would keep the parts of the handshake for as long as the connection lives. And a
        # Connection only as long as a frame needs it: it takes 1.7 KiB.
        self._handshake: H11Handshake | None = H11Handshake(ConnectionType.CLIENT)
        self._frames: Connection | None = None
        self._out: list[bytes] | None = None
        self._pongs: list[bytes] | None = None
        self._open = False
        self._rejection: RejectConnection | None = None
        self._body = b""
        self._message: bytearray | None = None  # one that comes from wsproto in parts
        sent = with_defaults(dial.headers, headers)
        self._out = [
            self._handshake.send(
                Request(
                    host=self._endpoint.authority,
                    target=self._endpoint.target,
                    subprotocols=[dial.protocol],
                    extra_headers=[(name.encode("ascii"), value.encode("latin-1")) for name, value in sent],
                )
            )
        ]

    def __repr__(self) -> str:
        state = "not wanted" if not self.dial.wanted else "open" if self._open else "not open"
        return f"<Link to {self.dial.place}, dial {self.dial.attempt}, {state}>"

    @property
    def endpoint(self) -> Endpoint:
        """Host, port and security of ``dial.url``, for the transport to connect to."""
        return self.dial.endpoint if self._endpoint is None else self._endpoint

    @property
    def close_expected(self) -> bool:
        """Whether the connection is over: send the bytes that are left, then close the transport."""
        return not self.dial.wanted

    # ---- Events of the transport

    def receive_data(self, data: bytes | bytearray | memoryview, now: float) -> None:
        """Receive bytes from the transport; ``b""`` is the end of the stream. Never raises because of the peer.

        Call :meth:`data_to_send` and drain the session next.

        Raises:
            InvalidType: ``data`` is no bytes-like object.
        """
        if not isinstance(data, bytes):
            if not isinstance(data, bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidType(f"data must be bytes, not {type(data).__name__}")
            data = bytes(data)
        if not data:
            self.transport_lost(CLOSED_BY_SERVICE, now)
        elif not self.dial.wanted:
            return
        elif self._open:
            session = self._session
            if session.running or now.__class__ is not float or now - now:
                session.check_call("heard", now)  # raises at no time and amid another call: nothing is consumed yet
            found = self._buffer.feed(data)
            if not found:  # part of a frame; messages show by themselves that the peer lives
                session.heard(now)
            for item in found:
                if isinstance(item, list):
                    session.receive_messages(item, now)
                elif isinstance(item, AckRun):
                    session.receive_acks(item, now)
                elif isinstance(item, bytes):
                    session.heard(now)
                    self._feed(item, now)
                elif isinstance(item, memoryview):
                    if not session.receive_long_text(item, now):
                        self._feed(text_frame(item), now)  # wsproto names the byte that is not UTF-8
                else:
                    session.transport_broken(item.code, item.reason, now)
                if not self.dial.wanted:
                    return
            frames = self._frames
            if frames is not None and self._buffer.at_rest and frames.state is ConnectionState.OPEN:
                self._frames = None  # like a new one
        else:
            self._session.check_call("connected", now)
            self._receive_handshake(data, now)

    def transport_lost(self, reason: str, now: float) -> None:
        """Report that the transport cannot be read any more; ``reason`` is for people. Repeats do nothing."""
        if not self.dial.wanted:
            return
        if not self._open:
            if self._rejection is not None:
                self._rejected(now)
            else:
                hint = "" if self.endpoint.secure else "; if that port wants TLS, the URL starts with wss://"
                self.failed(ConnectError(f"the handshake was cut short: {one_line(reason)}{hint}"), now)
            return
        self._session.check_call("disconnected", now)
        # wsproto may find a fault in an incomplete frame.
        self._feed(self._buffer.incomplete(), now)
        if self.dial.wanted:
            self._session.disconnected(now, reason=reason)

    def failed(self, error: BaseException | str, now: float) -> None:
        """Report that the transport could not be opened, or broke with ``error``. Repeats do nothing."""
        if self._open:
            self.transport_lost(reason_of(error), now)
        elif self.dial.wanted:
            self._session.dial_failed(ConnectError(error) if isinstance(error, str) else error, now)

    def send_failed(self, error: BaseException | str, now: float) -> None:
        """Report that the transport takes no more bytes; ``error`` is for people. Repeats do nothing.

        The last messages and the close of the service may have arrived already: read on, and report the end. A second
        later the session gives the transport up. Before the handshake is done, this is :meth:`transport_lost`.
        """
        if not self._open:
            self.transport_lost(reason_of(error), now)
        elif self.dial.wanted:
            self._session.send_failed(now, reason=reason_of(error))

    # ---- Bytes for the transport

    def data_to_send(self) -> list[bytes]:
        """Return the bytes to write now, in order: handshake, messages, pongs, close.

        Call this after every event of this link or its session, unless the transport can take no more at the moment.
        """
        dial = self.dial
        out: list[bytes] = []
        if self._pongs is not None or self._out is not None:
            out = [*(self._pongs or ()), *(self._out or ())]
        if self._open and dial.wanted and (messages := self._session.messages_to_send()):
            if self._fast_lane:
                out.append(self._masker.frames(messages, self._frame))
            else:
                out.append(b"".join(map(self._frame, messages)))
        close = dial.close
        if close is not None and self._open and self._ws.state is ConnectionState.OPEN:
            out.append(self._ws.send(CloseConnection(code=close.code, reason=close.reason or None)))
        if out:
            self._out = self._pongs = None
        return out

    def _frame(self, message: bytes) -> bytes:
        return self._ws.send(BytesMessage(data=message) if self._binary else TextMessage(data=message.decode()))

    # ---- The handshake

    def _receive_handshake(self, data: bytes, now: float) -> None:
        # Not more than the head: the bytes after it are the first frames, which wsproto must not buffer.
        rest = memoryview(data)
        # Almost always it is whole. Else line by line: an empty line may have begun in bytes that came before.
        if self._rejection is None and data[0] not in b"\r\n" and (found := _HEAD_END.search(data)):
            self._feed(data[: found.end()], now)
            rest = rest[found.end() :]
        while len(rest) and not self._open and self.dial.wanted:
            # Behind a refusal comes nothing but its body.
            line_end = len(data) if self._rejection else data.find(b"\n", len(data) - len(rest)) + 1 or len(data)
            taken = line_end - (len(data) - len(rest))
            self._feed(bytes(rest[:taken]), now)
            rest = rest[taken:]
        if self._open and len(rest):
            self.receive_data(bytes(rest), now)

    def _accepted(self, event: AcceptConnection, now: float) -> None:
        if event.subprotocol is None:
            self.failed(ConnectError(f"the service did not accept the subprotocol {self.dial.protocol}"), now)
            return
        self._handshake = self._endpoint = None
        self._open = True
        self._session.connected(now)

    def _rejected(self, now: float) -> None:
        assert self._rejection is not None
        self._session.dial_failed(self._refusal(), now, status=self._rejection.status_code)

    def _refusal(self) -> ConnectError:
        assert self._rejection is not None
        return refused(self._rejection.status_code, self._body, decoded_headers(self._rejection.headers))

    # ---- wsproto

    @property
    def _ws(self) -> H11Handshake | Connection:
        if self._handshake is not None:
            return self._handshake
        if self._frames is None:
            self._frames = Connection(ConnectionType.CLIENT)
        return self._frames

    def _feed(self, data: bytes, now: float) -> None:
        try:
            self._ws.receive_data(data)
            for event in self._ws.events():
                self._handle(event, now)
                if not self.dial.wanted:
                    return
        except (ProtocolError, ValueError) as error:
            if self._rejection is not None:  # only its body cannot be read
                self._rejected(now)
            text = one_line(str(error), LONGEST_REASON)  # the session searches this for known tokens, and shows less
            self.failed(ConnectError(f"the service's answer to the handshake cannot be used: {text}"), now)

    def _handle(self, event: Event, now: float) -> None:
        if isinstance(event, BytesMessage if self._binary else TextMessage):
            if self._message is None:
                self._message = bytearray()
            self._message += event.data.encode() if isinstance(event, TextMessage) else event.data
            if event.message_finished:
                message, self._message = bytes(self._message), None
                self._session.receive_messages([message], now)
        elif isinstance(event, TextMessage | BytesMessage):
            if event.message_finished:  # a frame of the other kind: what is in it does not matter
                (self._session.receive_message if self._binary else self._session.receive_binary)(b"", now)
        elif isinstance(event, Ping):
            if self._ws.state is ConnectionState.OPEN:  # not after our close
                if self._pongs is None:
                    self._pongs = []
                self._pongs.append(self._ws.send(event.response()))
                if len(self._pongs) > _PONGS:
                    del self._pongs[0]
        elif isinstance(event, CloseConnection):
            self._fault_or_close(event, now)
        elif isinstance(event, AcceptConnection):
            self._accepted(event, now)
        elif isinstance(event, RejectConnection):
            self._rejection = event
            if event.has_body:
                self._session.dial_refused(self._refusal(), now)
            else:
                self._rejected(now)
        elif isinstance(event, RejectData):
            self._body += event.data[: LONGEST_BODY + 1 - len(self._body)]
            if event.body_finished or len(self._body) > LONGEST_BODY:
                self._rejected(now)

    def _fault_or_close(self, event: CloseConnection, now: float) -> None:
        code, reason = int(event.code), event.reason or ""
        if self._ws.state is ConnectionState.OPEN or self._ws.state is ConnectionState.LOCAL_CLOSING:
            # The peer sent no close frame: wsproto found a fault in its frames.
            self._session.transport_broken(code, reason, now)
            return
        if self._ws.state is ConnectionState.REMOTE_CLOSING:
            self._out = [*(self._out or ()), self._ws.send(event.response())]
        self._session.disconnected(now, code=code, reason=reason)
