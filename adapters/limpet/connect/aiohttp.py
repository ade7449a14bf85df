"""Connects with `aiohttp <https://docs.aiohttp.org>`_: ``pip install 'limpet[aiohttp]'``."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator
from contextlib import AsyncExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import Any, cast

from limpet import ConnectError, Dial
from limpet._extras import extra
from limpet._transports.addresses import DELAY
from limpet._transports.dial_asyncio import find
from limpet.connect import Close, Connect, MessageTransport
from limpet.connect._common import (
    CLOSE_TIMEOUT,
    LONGEST_BODY,
    MAX_MESSAGE_SIZE,
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
from limpet_core.text import LONGEST_REASON, one_line

with extra("aiohttp"):
    from aiohttp import (
        ClientError,
        ClientResponseError,
        ClientSession,
        ClientWebSocketResponse,
        ClientWSTimeout,
        TCPConnector,
        TraceConfig,
        TraceRequestEndParams,
        TraceRequestRedirectParams,
        WSMsgType,
    )
    from aiohttp.abc import AbstractResolver, ResolveResult
    from multidict import CIMultiDict
    from yarl import URL


def connector(session: ClientSession | None = None, **options: Any) -> Connect:
    """A ``connect=`` for the asyncio client, over ``ClientSession.ws_connect``.

    Args:
        session: opens the connections, and stays open; by default each connection gets a session of its own, whose
            name look-ups do not hold up the end of the process. A connection of ``session`` that is given up amid a
            handshake is closed as the session does it: over TLS asyncio waits 30 seconds for a peer that keeps still.
        options: arguments of ``ws_connect``, such as ``ssl``, ``proxy`` or ``headers``. Two defaults differ from the
            library's: messages up to 32 MiB (``max_msg_size``), and a short wait for the answer to a close
            (``timeout``).

    Raises:
        InvalidValue: the client itself sets that option.
    """
    check_options(options, ("url", "protocols", "autoclose", "autoping", "decode_text"))
    headers = CIMultiDict[str](options.pop("headers", None) or ())
    make_timeout: Any = ClientWSTimeout  # type checkers do not see its parameters
    settings: dict[str, Any] = {
        "timeout": make_timeout(ws_close=CLOSE_TIMEOUT),
        "max_msg_size": MAX_MESSAGE_SIZE + 1,  # the library's limit is the first size that is too large
        **options,
    }
    if session is None or "User-Agent" not in session.headers:
        headers.setdefault("User-Agent", USER_AGENT)

    async def open_transport(dial: Dial) -> MessageTransport:
        check_loop("aiohttp")
        sockets: list[socket.socket] = []

        def make_socket(address: tuple[Any, ...]) -> socket.socket:
            sockets.append(made := socket.socket(*address[:3]))
            return made

        async with AsyncExitStack() as resources:
            used = session
            if used is None:
                used = await resources.enter_async_context(_own_session(make_socket))
            ws_connect = cast("Callable[..., Awaitable[ClientWebSocketResponse]]", used.ws_connect)
            try:
                try:
                    with _watch(used) as connections:
                        websocket = await ws_connect(
                            URL(exact_url(dial), encoded=True),
                            protocols=[dial.protocol],
                            headers=CIMultiDict(with_defaults(dial.headers, headers.items())),
                            **settings,
                        )
                except BaseException:
                    for sock in sockets:
                        cut(sock)  # else the library's transport waits for a peer that keeps still
                    raise
            except ClientResponseError as error:  # its text has the URL, and that has the token
                if error.status == 101 or error.__cause__ is not None:  # not HTTP, or not a valid 101
                    text = one_line(error.message, LONGEST_REASON)
                    raise ConnectError(f"the service's answer to the handshake cannot be used: {text}") from None
                raise refused(error.status, None, error.headers.items() if error.headers else ()) from None
            except ClientError as error:
                cause = error.__cause__  # the library's own certificate error lacks what Python's has
                raise failed(cause if isinstance(cause, ssl.SSLError) else error) from None
            transport = _Transport(websocket, connections, resources.pop_all())
        try:
            check_subprotocol(dial, websocket.protocol)
        except BaseException:
            await transport.close(1002, "")
            raise
        return transport

    return open_transport


class _Resolver(AbstractResolver):
    """Looks names up without the event loop's executor, which would hold up the end of the process."""

    async def resolve(self, host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        """Return the addresses of ``host``."""
        flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
        return [
            ResolveResult(hostname=host, host=place[0], port=place[1], family=kind, proto=protocol, flags=flags)
            for kind, _, protocol, _, place in await find(host, port)
            if family in (kind, socket.AF_UNSPEC)
        ]

    async def close(self) -> None:
        """Nothing is open."""


def _own_session(make_socket: Callable[[tuple[Any, ...]], socket.socket]) -> ClientSession:
    connector = TCPConnector(resolver=_Resolver(), happy_eyeballs_delay=DELAY, socket_factory=make_socket)
    return ClientSession(connector=connector)


@contextmanager
def _watch(session: ClientSession) -> Generator[list[asyncio.BaseTransport]]:
    """Observe the TCP connection that ``ws_connect`` opens in this task, or the answer that refuses it."""
    task = asyncio.current_task()
    connections: list[asyncio.BaseTransport] = []

    async def ended(_: ClientSession, context: SimpleNamespace, params: TraceRequestEndParams) -> None:
        response = params.response
        if asyncio.current_task() is not task:
            return  # another task's request in the same session
        if response.status != 101:
            body = b""
            with suppress(TimeoutError, ClientError):  # the status is enough then
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    body = await response.content.read(LONGEST_BODY)
            raise refused(response.status, body, response.headers.items())
        if response.connection is not None and response.connection.transport is not None:
            connections.append(response.connection.transport)

    async def redirected(_: ClientSession, context: SimpleNamespace, params: TraceRequestRedirectParams) -> None:
        if asyncio.current_task() is task:  # a redirect leads to a service that is not trusted
            raise refused(params.response.status, None, params.response.headers.items())

    trace = TraceConfig()
    trace.on_request_end.append(ended)
    trace.on_request_redirect.append(redirected)
    trace.freeze()
    session.trace_configs.append(trace)
    try:
        yield connections
    finally:
        session.trace_configs.remove(trace)


class _Transport:
    """A WebSocket of the library, the TCP connection below it, and the library's session, if opened for it."""

    def __init__(
        self, websocket: ClientWebSocketResponse, connections: list[asyncio.BaseTransport], resources: AsyncExitStack
    ) -> None:
        self._websocket = websocket
        self._connections = connections
        self._resources = resources
        self._closing = False
        self._over = asyncio.Event()

    async def send(self, message: str | bytes) -> None:
        if isinstance(message, str):
            await self._websocket.send_str(message)
        else:
            await self._websocket.send_bytes(message)

    async def receive(self) -> str | bytes | Close:
        message = await self._websocket.receive()
        if message.type is WSMsgType.TEXT or message.type is WSMsgType.BINARY:
            return cast("str | bytes", message.data)
        if message.type is WSMsgType.CLOSE:
            return Close(message.data or 1005, message.extra or "")
        if message.type is WSMsgType.ERROR:
            return Close(reason=str(message.data))
        if self._closing:
            await self._over.wait()  # for the end of the close, which is under way
        # websocket.close_code is of no use: it is 1000 for a connection that was lost.
        return Close(reason="the transport was closed without a close frame")

    async def close(self, code: int, reason: str) -> None:
        self._closing = True
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await self._websocket.close(code=code, message=reason.encode())
        finally:
            for connection in self._connections:
                cast(asyncio.Transport, connection).abort()  # else unsent bytes would keep it open
            self._over.set()
            await self._resources.aclose()
