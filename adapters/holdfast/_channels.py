"""Transports of messages: what ``connect=`` returns, and how it meets a Session. No event loop in here."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from holdfast import Dial, InvalidType, Session

log: logging.Logger = logging.getLogger("holdfast")


class Closed(msgspec.Struct, frozen=True):
    """The end of a transport of messages.

    Attributes:
        code: the peer's close code; 1006 where there was none.
        reason: the close reason, or the text of the error.
    """

    code: int = 1006
    reason: str = ""


class MessageTransport(Protocol):
    """A WebSocket connection, opened by somebody else, that sends and receives whole messages.

    ``receive`` and ``send`` are called at the same time, each by one task; both are cancelled when the transport
    is of no use any more, and ``close`` is called then. ``close`` may also be called while ``receive`` waits, which
    need not return then.
    """

    async def send(self, message: str) -> None:
        """Send a text message. Any exception means that the transport is broken."""
        ...

    async def receive(self) -> str | bytes | Closed:
        """The next message: str for text, bytes for binary; :class:`Closed` or any exception at the end."""
        ...

    async def close(self, code: int, reason: str) -> None:
        """Close with that code; must be quick, and may be called when the transport is broken already."""
        ...


Connect = Callable[[Dial], Awaitable[MessageTransport]]
"""Opens a transport to ``dial.url`` that offers the subprotocol ``dial.protocol``; raises what went wrong.

An exception with an attribute ``status`` tells the HTTP status of a refused handshake.
"""


class MessageChannel:
    """One transport of messages and the session it serves; the adapters run its two loops."""

    def __init__(self, session: Session, dial: Dial, now: Callable[[], float]) -> None:
        self._session = session
        self._dial = dial
        self._now = now
        self._transport: MessageTransport | None = None

    def wanted(self) -> bool:
        """Whether the session still wants this transport."""
        return self._session.dial is self._dial

    async def open(self, connect: Connect) -> bool:
        """Open the transport; return whether it is open and wanted."""
        try:
            self._transport = await connect(self._dial)
        except Exception as error:  # noqa: BLE001 - whatever somebody's connect raises, there is no transport
            if self.wanted():
                status = getattr(error, "status", None)
                self._session.dial_failed(error, self._now(), status=status if isinstance(status, int) else None)
            return False
        if self.wanted():
            self._session.connected(self._now())
        return self.wanted()

    async def receive(self) -> None:
        """Receive one message, or the end."""
        assert self._transport is not None
        try:
            message = await self._transport.receive()
        except Exception as error:  # noqa: BLE001 - whatever it raises, it is at an end
            message = Closed(reason=str(error) or type(error).__name__)
        if not self.wanted():
            return
        if isinstance(message, str):
            self._session.receive_message(message, self._now())
        elif isinstance(message, Closed):
            self._session.disconnected(self._now(), code=message.code, reason=message.reason)
        else:
            self._session.receive_binary(self._now())

    async def send(self) -> bool:
        """Send what there is to send; return whether there was anything."""
        assert self._transport is not None
        messages = self._session.messages_to_send()
        try:
            for message in messages:
                await self._transport.send(message.decode())
        except Exception as error:  # noqa: BLE001 - as above
            if self.wanted():
                self._session.disconnected(self._now(), reason=str(error) or type(error).__name__)
        hang_up = self._dial.hang_up
        if hang_up is not None and self.wanted():
            await self._close(hang_up.code, hang_up.reason)
            if self.wanted():
                self._session.disconnected(self._now(), code=hang_up.code)
        return bool(messages)

    async def close(self) -> None:
        """Close the transport that is not wanted any more, with the code that the session wishes."""
        hang_up = self._dial.hang_up
        # 1001: the service keeps the connection for a recovery; 1000 would end it.
        await self._close(*((hang_up.code, hang_up.reason) if hang_up is not None else (1001, "")))

    async def _close(self, code: int, reason: str) -> None:
        transport, self._transport = self._transport, None
        if transport is not None:
            try:
                await transport.close(code, reason)
            except Exception as error:  # noqa: BLE001 - it is gone, one way or the other
                log.debug("closing a transport failed: %s", error)


def check_connect(connect: object) -> None:
    """Raise InvalidType unless ``connect`` is None or a function."""
    if connect is not None and not callable(connect):
        raise InvalidType(f"connect must be an async function that opens a transport, not {type(connect).__name__}")
