"""Connects with `websockets <https://websockets.readthedocs.io>`_: ``pip install 'limpet[websockets]'``."""

from __future__ import annotations

import asyncio
import inspect
import logging
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from limpet import ConnectError, Dial, InvalidValue, Options
from limpet._extras import extra
from limpet._transports import dial_asyncio, dial_blocking
from limpet._transports.explain import explain
from limpet._transports.tls import system_trust
from limpet.connect import BlockingConnect, BlockingTransport, Close, Connect, MessageTransport
from limpet.connect._common import (
    CLOSE_TIMEOUT,
    MAX_MESSAGE_SIZE,
    NOTHING,
    USER_AGENT,
    check_loop,
    check_options,
    check_subprotocol,
    exact_url,
    failed,
    refused,
    with_defaults,
)
from limpet.connect._opening import Opening, cut_below_tls

with extra("websockets"):
    from websockets.asyncio.client import ClientConnection, connect
    from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
    from websockets.proxy import get_proxy
    from websockets.sync import client as blocking
    from websockets.typing import Subprotocol
    from websockets.uri import parse_uri

# The library shows requests and messages at the debug level, tokens among them, and a peer's faults as errors.
_SILENT = logging.getLogger("limpet.connect.websockets")
_SILENT.setLevel(NOTHING)


_PLACES = frozenset({"sock", "host", "port", "family", "proto", "flags", "local_addr", "unix", "path"}) | frozenset(
    {"happy_eyeballs_delay", "interleave", "all_errors", "address", "timeout", "source_address"}
)
"""Arguments of ``loop.create_connection`` and ``socket.create_connection``: where and how to connect."""


class _Direct(connect):
    """Follows no redirect, which would lead to a service that is not trusted."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


def connector(**options: Any) -> Connect:
    """A ``connect=`` for the asyncio client, over ``websockets.asyncio.client.connect``.

    Args:
        options: arguments of ``connect``, such as ``ssl``, ``proxy`` or ``additional_headers``. Different from the
            library's defaults are: no compression, no redirects, no keepalive pings, no timeout for opening (the
            client has its own), messages up to 32 MiB (``max_size``), and a logger that hides tokens. Without a proxy
            and without arguments for ``create_connection`` such as ``host``, the TCP connection is made here: an
            address of a name that does not answer costs 250 ms.

    Raises:
        InvalidValue: the client itself sets that option.
    """
    settings = _settings(options, open_timeout=None)

    async def open_transport(dial: Dial) -> MessageTransport:
        check_loop("websockets")
        url, place = exact_url(dial), dict[str, Any]()
        if (direct := _direct(url, settings)) is not None:
            place["sock"] = await dial_asyncio.dial(*direct)
        try:
            connection = await _Direct(
                url, subprotocols=[Subprotocol(dial.protocol)], **_with_headers(settings, dial), **place
            )
        except (TypeError, ValueError):  # of arguments: the library has not begun
            if "sock" in place:
                place["sock"].close()
            raise
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
            (``max_size``), and a logger that hides tokens. The TCP connection is made as by :func:`connector`. A
            connection that is being opened ends when the client does not want it any more.

    Raises:
        InvalidValue: the client itself sets that option.
    """
    # The library does not look at arguments for a connection that it does not make itself.
    known = {*inspect.signature(blocking.connect).parameters, *_PLACES, "ssl_context"}
    if unknown := sorted(options.keys() - known):
        raise InvalidValue(f"connect of websockets has no argument {unknown[0]}")
    settings = _settings(options, open_timeout=Options().connect_timeout)
    make: Callable[..., blocking.ClientConnection] = settings.pop("create_connection", _DirectConnection)
    connect_blocking = cast(
        "Callable[..., blocking.ClientConnection]", blocking.connect
    )  # as long as it is not entered

    def open_transport(dial: Dial) -> BlockingTransport:
        url = exact_url(dial)
        named = dict(_with_headers(settings, dial))
        with Opening(dial) as opening:

            def create(sock: Any, *args: Any, **more: Any) -> blocking.ClientConnection:
                return make(opening.watch(sock), *args, **more)

            if url.startswith("wss:"):
                context = named.pop("ssl_context", None) or named.get("ssl")  # the library's older name, and its name
                named["ssl"] = opening.watched(context or system_trust())
            if (direct := _direct(url, settings)) is not None:
                named["sock"] = opening.watch(_dial_blocking(*direct, lambda: dial.wanted))
            try:
                connection = connect_blocking(
                    url,
                    subprotocols=[Subprotocol(dial.protocol)],
                    create_connection=create,
                    **named,
                )
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


def _direct(url: str, settings: dict[str, Any]) -> tuple[str, int] | None:
    """Return the host and port to connect to; None: the library connects, to a proxy or as its arguments say.

    The library tries one address of a name after the other. Its look-ups hold up the end of an asyncio program.
    """
    if not settings.keys().isdisjoint(_PLACES):
        return None
    endpoint, proxy = parse_uri(url), settings.get("proxy", True)
    if proxy is True:
        proxy = get_proxy(endpoint)
    return (endpoint.host, endpoint.port) if proxy is None else None


def _dial_blocking(host: str, port: int, wanted: Callable[[], bool]) -> socket.socket:
    try:
        sock = dial_blocking.dial(host, port, wanted)
    except ExceptionGroup as error:
        raise explain(error) from None
    sock.setblocking(True)
    return sock


def _with_headers(settings: dict[str, Any], dial: Dial) -> dict[str, Any]:
    """Return ``settings`` with the headers of the client, which replace those of the same name."""
    if not dial.headers:
        return settings
    own: Any = settings.get("additional_headers") or ()
    headers = with_defaults(dial.headers, own.items() if hasattr(own, "items") else own)
    settings = {**settings, "additional_headers": headers}
    if any(name.lower() == "user-agent" for name, _ in headers):
        settings["user_agent_header"] = None
    return settings


def _explained(error: WebSocketException) -> ConnectError:
    """Return the reason why the library could not connect, without secrets."""
    if isinstance(error, InvalidStatus):
        return refused(error.response.status_code, error.response.body, error.response.headers.raw_items())
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
        impatience = threading.Timer(CLOSE_TIMEOUT, cut_below_tls, (self._connection.socket,))
        impatience.daemon = True
        try:
            impatience.start()
            self._connection.close(code, reason)
        finally:
            impatience.cancel()
            cut_below_tls(self._connection.socket)
