"""A client's WebSocket under any ASGI server."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from limpet.service._access import ADDRESS, RequestAddress
from limpet.service._admission import Admission, Handshake, Pending, Refusal
from limpet.service._gateway import Gateway
from limpet_core.service import NO_CLOSE_FRAME, Binary, Transport
from limpet_core.text import one_line

# Seconds after an order to close in which the client may read the messages before it; then they are dropped.
_CLOSE_TIMEOUT = 5.0

_LOGGER = logging.getLogger("limpet.service")


class ClientEndpoint:
    """The client endpoint as an ASGI application."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        decided: asyncio.Future[Admission | Refusal] = asyncio.get_running_loop().create_future()
        pending = self._gateway.admit(_handshake(scope), decided.set_result)
        if pending is not None and not await self._wait(pending, decided, receive):
            with suppress(OSError):
                await send({"type": "websocket.close", "code": 1000, "reason": ""})
            return
        outcome = decided.result()
        if isinstance(outcome, Refusal):
            await refuse(outcome, scope, receive, send)
            return
        code, reason = NO_CLOSE_FRAME, ""
        writer = _Writer(outcome.transport, send, self._gateway)
        try:
            await send({"type": "websocket.accept", "subprotocol": outcome.subprotocol})
            self._gateway.attach(outcome.transport, writer)
            writer.start()
            code, reason = await self._receive(outcome.transport, receive)
        finally:
            self._gateway.detach(outcome.transport, code, reason)
            await writer.stop()

    async def _wait(self, pending: Pending, decided: asyncio.Future[Admission | Refusal], receive: Receive) -> bool:
        """Wait for the decision of an event handler; return False if the client leaves before."""
        disconnected = asyncio.ensure_future(receive())
        stays = False
        try:
            await asyncio.wait((disconnected, decided), return_when=asyncio.FIRST_COMPLETED)
            stays = not disconnected.done()
        finally:
            if not stays:
                self._gateway.forget(pending)
            disconnected.cancel()
            await asyncio.wait((disconnected,))
        return stays

    async def _receive(self, transport: Transport, receive: Receive) -> tuple[int, str]:
        """Handle messages until the WebSocket is closed; return the close code and the reason."""
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return int(message.get("code") or 1005), str(message.get("reason") or "")
            text: str | None = message.get("text")
            data: str | bytes = message["bytes"] if text is None else text
            if self._gateway.congested:
                free = asyncio.Event()
                self._gateway.when_free(free.set)
                await free.wait()
            self._gateway.receive(transport, data)
            self._gateway.flush()


def _handshake(scope: Scope) -> Handshake:
    headers = Headers(scope=scope)
    address: RequestAddress = scope[ADDRESS]
    return Handshake(
        hub=scope["path_params"].get("hub", "" if scope["path"].rstrip("/").lower().endswith("/hubs") else None),
        query=scope["query_string"].decode("latin-1"),
        origin=address.origin,
        authorization=headers.get("authorization", ""),
        subprotocols=list(scope["subprotocols"]),
        headers=headers.items(),
        own_urls=address.own_urls,
    )


class _Writer:
    """Sends to one client through ASGI, in a task of its own: ``send`` may wait for the client."""

    def __init__(self, transport: Transport, send: Send, gateway: Gateway) -> None:
        self._transport = transport
        self._frame_log = gateway.frame_log
        self._now = gateway.now
        self._send = send
        self._flushed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._close_timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            error = None if self._task.cancelled() else self._task.exception()
            if error is not None:
                # Servers raise different errors when the client has gone.
                _LOGGER.debug("sending to a client failed: %s", one_line(repr(error)))

    def flush(self) -> None:
        self._flushed.set()
        if self._transport.close is not None and self._close_timer is None:
            self._close_timer = asyncio.get_running_loop().call_later(_CLOSE_TIMEOUT, self._stop_sending)

    def _stop_sending(self) -> None:
        # ASGI cannot drop a connection: the server's own keepalive has to close it.
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        # By the ASGI specification, OSError means that the client is gone; ``receive`` reports it as well.
        with suppress(OSError):
            while True:
                await self._flushed.wait()
                self._flushed.clear()
                messages = self._transport.messages_to_send(self._now())
                if self._frame_log is not None:
                    self._frame_log.sent(self._transport, messages)
                for message in messages:
                    if isinstance(message, Binary):
                        await self._send({"type": "websocket.send", "bytes": bytes(message)})
                    else:
                        await self._send({"type": "websocket.send", "text": message.decode()})
                close = self._transport.close
                if close is not None:
                    # ASGI cannot drop a connection; for the client, 1001 also means: recover.
                    code = 1001 if close.code == NO_CLOSE_FRAME else close.code
                    await self._send({"type": "websocket.close", "code": code, "reason": close.reason})
                    return


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a handshake with a refusal."""
    if "websocket.http.response" in scope.get("extensions", {}):
        await PlainTextResponse(refusal.text + "\n", refusal.status)(scope, receive, send)
    else:
        # Without the extension, servers answer with 403 and no text.
        await send({"type": "websocket.close", "code": 1000, "reason": ""})
