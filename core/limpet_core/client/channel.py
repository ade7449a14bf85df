"""Channel: one WebSocket connection, for transports that carry whole messages."""

from __future__ import annotations

from typing import Final

from limpet_core.client.session import Session, attach
from limpet_core.client.states import Dial
from limpet_core.errors import ConnectError
from limpet_core.protocol.close import NO_CLOSE_FRAME, Close, check_close, describe_close
from limpet_core.text import reason_of

_GONE: Final = Close(1001)
"""The close of a transport that the session replaced by another. The service keeps the connection (1000 ends it)."""


class Channel:
    """One WebSocket connection, from the handshake to the close, between a WebSocket library and a Session.

    The library makes the handshake, the frames and the pongs; a :class:`Link` is for transports of bytes. A channel
    belongs to one ``dial``: once the session no longer wants that, every call does nothing. So the callbacks of an old
    socket may come late, twice, and in any order.

    After each call, drain: send :meth:`to_send`, close as :attr:`close` says, and drain the session.

    Args:
        session: receives the messages and has the messages to send.
        dial: the session's current :attr:`Session.dial`.

    Attributes:
        dial: as given. When its ``url`` is known, open a WebSocket there that offers the one subprotocol
            ``dial.protocol`` and has the headers ``dial.headers``.

    Raises:
        InvalidType: ``session`` is no :class:`Session`, or ``dial`` no :class:`Dial`.
        InvalidValue: ``dial`` belongs to another session.
    """

    __slots__ = ("_open", "_session", "dial")

    def __init__(self, session: Session, dial: Dial) -> None:
        attach(session, dial)
        self.dial: Dial = dial
        self._session = session
        self._open = False

    def __repr__(self) -> str:
        state = "not wanted" if not self.dial.wanted else "open" if self._open else "not open"
        return f"<Channel to {self.dial.place}, dial {self.dial.attempt}, {state}>"

    # ---- Events of the transport

    def opened(self, now: float) -> None:
        """Report that the WebSocket is open and the service chose ``dial.protocol``. Next: :meth:`to_send`."""
        if self.dial.wanted and not self._open:
            self._session.connected(now)
            self._open = True  # not where that raises: amid another call, or at no time

    def message(self, message: str | bytes, now: float) -> None:
        """Report a whole text message, as str or as UTF-8."""
        if self._open and self.dial.wanted:
            self._session.receive_message(message, now)

    def binary(self, message: bytes, now: float) -> None:
        """Report a whole binary message."""
        if self._open and self.dial.wanted:
            self._session.receive_binary(message, now)

    def heard(self, now: float) -> None:
        """Report a sign of life that is no whole message: a ping, a pong, a part of a message.

        Without these calls a message that takes longer than ``keepalive_timeout`` counts as silence.
        """
        if self._open and self.dial.wanted:
            self._session.heard(now)

    def broken(self, code: int, reason: str, now: float) -> None:
        """Report that the peer broke the rules of WebSocket, where the library leaves the close to its user.

        Args:
            code: the close code to send: 1002, 1007 or 1009. :attr:`close` has it next.
            reason: the fault, for people.
            now: the time.
        """
        if self._open and self.dial.wanted:
            self._session.transport_broken(code, reason, now)

    def closed(self, now: float, *, code: int | None = NO_CLOSE_FRAME, reason: str | None = "") -> None:
        """Report that the WebSocket is closed, by either side. Before :meth:`opened` it is a failed handshake.

        Args:
            now: the time.
            code: the peer's close code, unchanged: after 1008 a connection cannot be recovered (client-spec 1.4);
                1006 without a close frame, as is None; 1005 for a close frame without a code.
            reason: the peer's reason, or the text of an error; None: none.

        Raises:
            InvalidType: ``code`` is no int, or ``reason`` no str.
        """
        if not self.dial.wanted:
            return
        code, reason = NO_CLOSE_FRAME if code is None else code, reason or ""
        check_close(code, reason)
        if self._open:
            self._session.disconnected(now, code=code, reason=reason)
        else:
            text = f"the WebSocket was closed before it was open: {describe_close(code, reason)}"
            self._session.dial_failed(ConnectError(text, code=code), now)

    def failed(
        self,
        error: BaseException | str,
        now: float,
        *,
        status: int | None = None,
        retry_after: float | None = None,
    ) -> None:
        """Report that the WebSocket could not be opened, or that a receive failed; for a send: :meth:`send_failed`.

        Args:
            error: why; its text is shown to people, without the tokens that the session knows.
            now: the time.
            status: the HTTP status of a refused handshake, if it is known. After 401, 403 and 404 there is no further
                attempt with a fixed URL.
            retry_after: the seconds that the refusal asks to wait for, if it does.
        """
        if not self.dial.wanted:
            return
        if self._open:
            self._session.disconnected(now, reason=reason_of(error))
        else:
            error = ConnectError(error) if isinstance(error, str) else error
            self._session.dial_failed(error, now, status=status, retry_after=retry_after)

    def send_failed(self, error: BaseException | str, now: float) -> None:
        """Report that a send failed: :meth:`to_send` returns no more messages. Repeats do nothing.

        The last messages and the close of the service may have arrived already: receive on, and report them and the
        end. After a second without an end the session gives the WebSocket up.

        Args:
            error: why; its text is shown to people, without the tokens that the session knows.
            now: the time.
        """
        if self._open and self.dial.wanted:
            self._session.send_failed(now, reason=reason_of(error))

    # ---- For the transport

    def to_send(self) -> list[str | bytes]:
        """Return the messages to send now, in order: str in text frames, bytes in binary ones.

        Call it when the transport can take them: from here on they count as sent.
        """
        if not (self._open and self.dial.wanted):
            return []
        messages = self._session.messages_to_send()
        return [*messages] if self._session.options.binary else [message.decode() for message in messages]

    @property
    def close(self) -> Close | None:
        """How to close the WebSocket now, after :meth:`to_send`; None: keep it open.

        Close it once with this code and reason, and report :meth:`closed` when that is done. Until then the value stays
        as it is, and there are no more messages to send. If the session no longer wants
        the dial, drop the WebSocket, and wait for nobody. In a browser, where a page can close with 1000 and with 3000
        to 4999 only, close without a code instead of any other: a close without a code keeps the connection for a
        recovery, as 1001 does.
        """
        if self.dial.close is not None or self.dial.wanted:
            return self.dial.close
        return _GONE
