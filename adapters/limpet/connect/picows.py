"""Connects with `picows <https://picows.readthedocs.io>`_: ``pip install 'limpet[picows]'``."""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

from limpet import ConnectError, Dial
from limpet._extras import extra
from limpet._transports.addresses import Address
from limpet._transports.dial_asyncio import dial as dial_tcp
from limpet.connect import Close, Connect, MessageTransport
from limpet.connect._common import (
    CLOSE_TIMEOUT,
    MAX_MESSAGE_SIZE,
    NOTHING,
    USER_AGENT,
    check_loop,
    check_options,
    check_subprotocol,
    cut,
    exact_url,
    failed,
    refused,
    with_defaults,
)

with extra("picows"):
    from picows import (
        WSCloseCode,
        WSError,
        WSFrame,
        WSHandshakeError,
        WSListener,
        WSMsgType,
        WSParsedURL,
        WSTransport,
        ws_connect,  # pyright: ignore[reportUnknownVariableType] - its **kwargs have no type
    )

SocketFactory = Callable[[WSParsedURL], "socket.socket | Awaitable[socket.socket | None] | None"]

# What the library says of a faulty peer is the reason of the end, and a send that has to wait is no news.
_SILENT = "limpet"
logging.getLogger(f"picows.{_SILENT}").setLevel(NOTHING)

_FULL_MESSAGES = 256
_FULL_BYTES = 1 << 20
"""Messages and bytes that wait to be received when reading is paused; it is resumed when none is left."""


def connector(*, socket_factory: SocketFactory | None = None, **options: Any) -> Connect:
    """A ``connect=`` for the asyncio client, over ``picows.ws_connect``.

    Args:
        socket_factory: makes the TCP connections, as in ``ws_connect``.
        options: arguments of ``ws_connect``, such as ``ssl_context``, ``proxy`` or ``extra_headers``. Different from
            the library's own defaults are: no timeout for opening (the client has its own), messages up to 32 MiB
            (``max_frame_size``), no redirects, which the library logs with their tokens, and a logger that says nothing
            (``logger_name``).

    Raises:
        InvalidValue: the client itself sets that option.
    """
    check_options(options, ("ws_listener_factory", "url", "disconnect_on_exception", "enable_auto_pong"))
    extra: Any = options.pop("extra_headers", None) or ()
    headers = list[tuple[str, str]](extra.items() if hasattr(extra, "items") else extra)
    if not any(name.lower() == "user-agent" for name, _ in headers):
        headers.append(("User-Agent", USER_AGENT))
    settings: dict[str, Any] = {
        "websocket_handshake_timeout": None,
        "max_frame_size": MAX_MESSAGE_SIZE,
        "max_redirects": 0,
        "logger_name": _SILENT,
        **options,
    }
    if "use_aiofastnet" in inspect.signature(cast("Callable[..., Any]", ws_connect)).parameters:
        # Its transports may close a socket that was reset while the loop still watches it: the next one with the same
        # number cannot be used then.
        settings.setdefault("use_aiofastnet", False)
    limit: int = settings["max_frame_size"]

    async def open_transport(dial: Dial) -> MessageTransport:
        check_loop("picows")
        sockets: list[socket.socket] = []

        async def make_socket(url: WSParsedURL) -> socket.socket | None:
            made = _connect_tcp(url) if socket_factory is None else socket_factory(url)
            sock = await made if inspect.isawaitable(made) else made
            if sock is not None:
                sockets.append(sock)
            return sock

        # In a task that is not cancelled: the library would leave the connection open, and its end untold.
        opening = asyncio.ensure_future(
            ws_connect(
                lambda: _Transport(limit),
                exact_url(dial),
                extra_headers=[("Sec-WebSocket-Protocol", dial.protocol), *with_defaults(dial.headers, headers)],
                socket_factory=make_socket,
                **settings,
            )
        )
        try:
            try:
                websocket, listener = await asyncio.shield(opening)
            except BaseException:
                await _give_up(opening, sockets)
                raise
        except (OSError, TypeError):
            # Reset, or refused for an argument, before the library had made a transport of it: it does not close it.
            for sock in sockets:
                sock.close()
            raise
        except WSHandshakeError as error:
            if error.response is not None and error.response.status != 101:
                raise refused(error.response.status, error.raw_body, error.response.headers.items()) from None
            raise failed(error) from None
        except WSError as error:
            raise failed(error) from None
        if not isinstance(listener, _Transport):  # None, against the library's types
            raise ConnectError("the handshake was cut short: the service closed the connection")
        try:
            check_subprotocol(dial, websocket.response.headers.get("Sec-WebSocket-Protocol"))
        except BaseException:
            await listener.close(1002, "")
            raise
        return listener

    return open_transport


async def _give_up(opening: asyncio.Future[tuple[WSTransport, Any]], sockets: list[socket.socket]) -> None:
    """Cut the connection of an attempt that failed, or is not wanted any more, and wait for the library to notice.

    What is to be done then does not depend on this task: anyio cancels it again at every turn of the loop.
    """
    for sock in sockets:
        cut(sock)  # else the library's transport waits for a peer that keeps still
    if not sockets:
        opening.cancel()  # there is no connection yet
    impatience = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT, opening.cancel)
    opening.add_done_callback(lambda _: impatience.cancel())
    opening.add_done_callback(_drop)
    await asyncio.wait([opening], timeout=2 * CLOSE_TIMEOUT)


def _drop(opening: asyncio.Future[tuple[WSTransport, Any]]) -> None:
    if not opening.cancelled() and opening.exception() is None:  # done at the last moment
        websocket, listener = opening.result()
        if isinstance(listener, _Transport):
            listener.see_the_end()
        websocket.disconnect(graceful=False)


class _Socket(socket.socket):
    """A connected socket that still has a peer after a reset: else the library would connect it once more, and leave it
    open when that fails.
    """

    peer: Any = None

    def getpeername(self) -> Any:
        """Return the address that it was connected to."""
        return self.peer


def _make_socket(address: Address) -> _Socket:
    family, kind, protocol, _, peer = address
    sock = _Socket(family, kind, protocol)
    sock.peer = peer
    return sock


async def _connect_tcp(url: WSParsedURL) -> socket.socket:
    """Connect to the first address that answers. Unlike the library's, the socket can be closed amid a handshake."""
    return await dial_tcp(url.host, url.port, make=_make_socket)


class _Transport(WSListener):
    """A connection of the library: frames come by callback, and messages are awaited."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._messages: deque[str | bytes] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False
        self._closing = False
        self._end: Close | None = None
        self._ending: asyncio.Future[Any] | None = None
        # A message in several frames
        self._kind: WSMsgType | None = None
        self._parts: list[bytes] = []
        self._size = 0

    # ---- For the library

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._closing or self._end is not None:
            if frame.msg_type == WSMsgType.CLOSE:
                transport.disconnect()  # the answer to this side's close
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._fail(WSCloseCode.PROTOCOL_ERROR, "a frame with reserved bits")
        elif frame.msg_type == WSMsgType.CLOSE:
            self._answer_close(frame.get_payload_as_bytes())
        elif frame.msg_type != WSMsgType.PONG:
            self._take(frame)
            if not self._paused and (len(self._messages) >= _FULL_MESSAGES or self._bytes >= _FULL_BYTES):
                self._paused = True
                transport.underlying_transport.pause_reading()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        reason = "the transport was closed without a close frame"
        handshake: Any = transport.close_handshake  # may be None, against its type
        if handshake is not None and handshake.sent is not None:
            reason = handshake.sent.reason or reason  # the library has closed because of a fault
        self._finish(Close(reason=reason))
        self._writable.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    # ---- Frames

    def _take(self, frame: WSFrame) -> None:
        continued = frame.msg_type == WSMsgType.CONTINUATION
        if continued is not (self._kind is not None):
            self._fail(WSCloseCode.PROTOCOL_ERROR, "a frame out of order")
            return
        self._size += frame.payload_size
        if self._size > self._limit:
            self._fail(WSCloseCode.MESSAGE_TOO_BIG, f"a message above max_frame_size ({self._limit} bytes)")
            return
        if not continued:
            self._kind = frame.msg_type
        self._parts.append(frame.get_payload_as_bytes())
        if frame.fin:
            data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            try:
                self._messages.append(data.decode() if self._kind == WSMsgType.TEXT else data)
            except UnicodeDecodeError:
                self._fail(WSCloseCode.INVALID_TEXT, "a text message that is not UTF-8")
                return
            self._bytes += len(data)
            self._kind, self._size = None, 0
            self._parts.clear()
            self._news.set()

    def _answer_close(self, payload: bytes) -> None:
        code = int.from_bytes(payload[:2], "big") if payload else 1005
        self._finish(Close(code, payload[2:].decode("utf-8", "replace")))
        self._transport.send_close(cast(WSCloseCode, code) if payload else WSCloseCode.OK)
        self._transport.disconnect()

    def _fail(self, code: WSCloseCode, reason: str) -> None:
        self._finish(Close(reason=f"the service sent {reason}"))
        self._transport.send_close(code, reason)

    def _finish(self, end: Close) -> None:
        if self._end is None:
            self._end = end
            self._news.set()

    # ---- For the client

    async def send(self, message: str | bytes) -> None:
        await self._writable.wait()
        if self._end is not None:
            raise ConnectionError("the connection is closed")
        self._transport.send(WSMsgType.TEXT if isinstance(message, str) else WSMsgType.BINARY, message)

    async def receive(self) -> str | bytes | Close:
        while not self._messages:
            if self._end is not None:
                return self._end
            self._news.clear()
            await self._news.wait()
        message = self._messages.popleft()
        if not self._messages:
            self._bytes = 0
            self._read_on()
        return message

    def _read_on(self) -> None:
        if self._paused:
            self._paused = False
            if not self._transport.is_disconnected:
                self._transport.underlying_transport.resume_reading()

    async def close(self, code: int, reason: str) -> None:
        transport, ending = self._transport, self.see_the_end()
        self._closing = True
        transport.send_close(cast(WSCloseCode, code), reason)
        self._read_on()  # else the answer would not be read
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await asyncio.shield(ending)
        finally:
            transport.disconnect(graceful=False)
        await asyncio.shield(ending)

    def see_the_end(self) -> asyncio.Future[Any]:
        """Return the coming end. The library raises the reason, which receive() returns, and asyncio logs it unseen."""
        if self._ending is None:
            self._ending = asyncio.gather(self._transport.wait_disconnected(), return_exceptions=True)
        return self._ending
