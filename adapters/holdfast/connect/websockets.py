"""Connects with `websockets <https://websockets.readthedocs.io>`_: ``pip install 'holdfast[websockets]'``."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

from holdfast import Dial
from holdfast._extras import extra
from holdfast.connect import Closed, Connect, MessageTransport
from holdfast.connect._common import (
    FAREWELL,
    MAX_MESSAGE_SIZE,
    USER_AGENT,
    check_options,
    check_subprotocol,
    exact_url,
    failed,
    refused,
)

with extra("websockets"):
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
    from websockets.typing import Subprotocol

# The library shows requests and messages at the debug level, tokens among them.
_SILENT = logging.getLogger("holdfast.connect.websockets")
_SILENT.setLevel(logging.ERROR)


class _Direct(connect):
    """Follows no redirect: a service that sends us elsewhere is not the one we were told to trust."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def connector(**options: Any) -> Connect:
    """A ``connect=`` for the asyncio client, over ``websockets.asyncio.client.connect``.

    Args:
        options: arguments of ``connect``, such as ``ssl``, ``proxy`` or ``additional_headers``. Different from the
            library's own defaults are: no compression, no redirects, no keepalive pings, no timeout for opening (the
            client has its own), messages up to 32 MiB (``max_size``), and a logger that keeps silent about tokens.

    Raises:
        InvalidValue: an option is the client's to choose.
    """
    check_options(options, ("uri", "subprotocols"))
    settings: dict[str, Any] = {
        "compression": None,
        "ping_interval": None,
        "open_timeout": None,
        "close_timeout": FAREWELL,
        "max_size": MAX_MESSAGE_SIZE,
        "user_agent_header": USER_AGENT,
        "logger": _SILENT,
        **options,
    }

    async def open_transport(dial: Dial) -> MessageTransport:
        try:
            connection = await _Direct(exact_url(dial), subprotocols=[Subprotocol(dial.protocol)], **settings)
        except InvalidStatus as error:
            raise refused(error.response.status_code, error.response.body) from None
        except WebSocketException as error:
            raise failed(error) from None
        transport = _Transport(connection)
        try:
            check_subprotocol(dial, connection.subprotocol)
        except BaseException:
            await transport.close(1002, "")
            raise
        return transport

    return open_transport


class _Transport:
    """A connection of the library's."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    async def send(self, message: str) -> None:
        await self._connection.send(message)

    async def receive(self) -> str | bytes | Closed:
        try:
            return await self._connection.recv()
        except ConnectionClosed as error:
            if error.rcvd is not None:
                return Closed(int(error.rcvd.code), error.rcvd.reason)
            return Closed(reason=str(error.__cause__ or error))

    async def close(self, code: int, reason: str) -> None:
        try:
            with suppress(TimeoutError):
                # The library's own close_timeout does not cover a peer that does not even read.
                async with asyncio.timeout(FAREWELL):
                    await self._connection.close(code, reason)
        finally:
            self._connection.transport.abort()
            await self._connection.wait_closed()
