"""Connects with `websockets <https://websockets.readthedocs.io>`_: ``pip install 'limpet[websockets]'``."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from limpet import ConnectError, Dial, Options
from limpet._extras import extra
from limpet.connect import BlockingConnect, BlockingTransport, Close, Connect, MessageTransport
from limpet.connect._common import (
    CLOSE_TIMEOUT,
    MAX_MESSAGE_SIZE,
    USER_AGENT,
    check_loop,
    check_options,
    check_subprotocol,
    exact_url,
    failed,
    refused,
)

with extra("websockets"):
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
    from websockets.sync import client as blocking
    from websockets.typing import Subprotocol

# The library shows requests and messages at the debug level, tokens among them.
_SILENT = logging.getLogger("limpet.connect.websockets")
_SILENT.setLevel(logging.ERROR)


class _Direct(connect):
    """Follows no redirect, which would lead to a service that is not trusted."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def connector(**options: Any) -> Connect:
    """A ``connect=`` for the asyncio client, over ``websockets.asyncio.client.connect``.

    Args:
        options: arguments of ``connect``, such as ``ssl``, ``proxy`` or ``additional_headers``. Different from the
            library's defaults are: no compression, no redirects, no keepalive pings, no timeout for opening (the
            client has its own), messages up to 32 MiB (``max_size``), and a logger that hides tokens.

    Raises:
        InvalidValue: the client itself sets that option.
    """
    settings = _settings(options, open_timeout=None)

    async def open_transport(dial: Dial) -> MessageTransport:
        check_loop("websockets")
        try:
            connection = await _Direct(exact_url(dial), subprotocols=[Subprotocol(dial.protocol)], **settings)
        except WebSocketException as error:
            raise _explained(error) from None
        transport = _Transport(connection)
        try:
            check_subprotocol(dial, connection.subprotocol)
        except BaseException:
            await transport.close(1002, "")
            raise
        return transport

    return open_transport


def blocking_connector(**options: Any) -> BlockingConnect:
    """A ``connect=`` for the blocking client, over ``websockets.sync.client.connect``.

    Args:
        options: arguments of ``connect``, such as ``ssl``, ``proxy`` or ``additional_headers``. Different from the
            library's defaults are: no compression, no redirects, no keepalive pings, messages up to 32 MiB
            (``max_size``), and a logger that hides tokens. A connection that is being opened cannot be
            cancelled: when the client does not want it any more, it ends after ``open_timeout`` (30 seconds) at the
            latest.

    Raises:
        InvalidValue: the client itself sets that option.
    """
    settings = _settings(options, open_timeout=Options().connect_timeout)
    settings.setdefault("create_connection", _DirectConnection)
    connect_blocking = cast(
        "Callable[..., blocking.ClientConnection]", blocking.connect
    )  # as long as it is not entered

    def open_transport(dial: Dial) -> BlockingTransport:
        try:
            connection = connect_blocking(exact_url(dial), subprotocols=[Subprotocol(dial.protocol)], **settings)
        except WebSocketException as error:
            raise _explained(error) from None
        transport = _BlockingTransport(connection)
        try:
            check_subprotocol(dial, connection.subprotocol)
        except BaseException:
            transport.close(1002, "")
            raise
        return transport

    return open_transport


def _settings(options: dict[str, Any], open_timeout: float | None) -> dict[str, Any]:
    """Return arguments of ``connect``: the caller's, and defaults for a client of this package."""
    check_options(options, ("uri", "subprotocols"))
    return {
        "compression": None,
        "ping_interval": None,
        "open_timeout": open_timeout,
        "close_timeout": CLOSE_TIMEOUT,
        "max_size": MAX_MESSAGE_SIZE,
        "user_agent_header": USER_AGENT,
        "logger": _SILENT,
        **options,
    }


def _explained(error: WebSocketException) -> ConnectError:
    """Return the reason why the library could not connect, without secrets."""
    if isinstance(error, InvalidStatus):
        return refused(error.response.status_code, error.response.body)
    return failed(error)


def _end(error: ConnectionClosed) -> Close:
    if error.rcvd is not None:
        return Close(int(error.rcvd.code), error.rcvd.reason)
    return Close(reason=str(error.__cause__ or error))


class _Transport:
    """A connection of the library."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, message: str | bytes) -> None:
        await self._connection.send(message)

    async def receive(self) -> str | bytes | Close:
        try:
            return await self._connection.recv()
        except ConnectionClosed as error:
            return _end(error)

    async def close(self, code: int, reason: str) -> None:
        try:
            with suppress(TimeoutError):
                # The library's own close_timeout does not cover a peer that does not even read.
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._connection.close(code, reason)
        finally:
            self._connection.transport.abort()
            await self._connection.wait_closed()


class _DirectConnection(blocking.ClientConnection):
    """Follows no redirect, as :class:`_Direct`: the library never sees one."""

    def handshake(self, *args: Any, **named: Any) -> None:
        """Do the opening handshake."""
        try:
            super().handshake(*args, **named)
        except InvalidStatus as error:
            raise _explained(error) from None


class _BlockingTransport:
    """A connection of the library for threads."""

    def __init__(self, connection: blocking.ClientConnection) -> None:
        # Entering it tells the library that it will be closed.
        self._connection = connection.__enter__()

    def send(self, message: str | bytes) -> None:
        self._connection.send(message)

    def receive(self) -> str | bytes | Close:
        try:
            return self._connection.recv()
        except ConnectionClosed as error:
            return _end(error)

    def close(self, code: int, reason: str) -> None:
        # A send to a peer that does not read keeps the library's lock, which its close needs.
        impatience = threading.Timer(CLOSE_TIMEOUT, self._cut)
        impatience.daemon = True
        try:
            impatience.start()
            self._connection.close(code, reason)
        finally:
            impatience.cancel()
            self._cut()

    def _cut(self) -> None:
        """Shut down the TCP connection below TLS, whose state the library's other threads may be using."""
        sock: Any = self._connection.socket
        with suppress(OSError):  # closed already
            socket.socket.shutdown(getattr(sock, "ssl_socket", sock), socket.SHUT_RDWR)
