"""A WebSocket library with a task group for each connection, over anyio, and the `connect=` for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import anyio.abc
import anyio.lowlevel
import wsproto
from wsproto import events

from limpet import ConnectError, Dial, parse_url
from limpet.connect import Close, refused

_LONGEST = 32 << 20
Item = str | bytes | Close


class WebSocket:
    """An open connection: a task reads from it, one message ahead of :meth:`receive`."""

    def __init__(self, stream: anyio.abc.ByteStream, protocol: wsproto.WSConnection) -> None:
        self._stream = stream
        self._protocol = protocol
        self._inbox: list[Item] = []
        self._arrived, self._taken, self._answered = anyio.Event(), anyio.Event(), anyio.Event()
        self._lock = anyio.Lock()

    async def read(self) -> None:
        """Read to the end: the work of the connection's own task."""
        parts: list[str | bytes] = []
        while True:
            for event in list(self._protocol.events()):
                if isinstance(event, events.Ping):
                    await self._write(event.response())
                elif isinstance(event, events.TextMessage | events.BytesMessage):
                    parts.append(event.data if isinstance(event.data, str) else bytes(event.data))
                    if event.message_finished:
                        whole = "".join(map(str, parts)) if isinstance(event, events.TextMessage) else b""
                        parts.clear()
                        await self._put(whole)
                elif isinstance(event, events.CloseConnection):
                    self._answered.set()
                    await self._put(Close(int(event.code), event.reason or ""))
                    if self._protocol.state is wsproto.connection.ConnectionState.REMOTE_CLOSING:
                        await self._write(event.response())
                    return
            try:
                self._protocol.receive_data(await self._stream.receive())
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._answered.set()
                await self._put(Close(reason="the connection was lost"))
                return

    async def _put(self, item: Item) -> None:
        self._inbox.append(item)
        self._arrived.set()
        while self._inbox:
            self._taken = anyio.Event()
            await self._taken.wait()

    async def _write(self, event: events.Event) -> None:
        async with self._lock:
            await self._stream.send(self._protocol.send(event))

    # ---- The transport

    async def send(self, message: str | bytes) -> None:
        assert isinstance(message, str)
        await self._write(events.TextMessage(message))

    async def receive(self) -> Item:
        while not self._inbox:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        item = self._inbox.pop()
        self._taken.set()
        return item

    async def close(self, code: int, reason: str) -> None:
        with anyio.move_on_after(0.3):
            try:
                await self._write(events.CloseConnection(code, reason))
                await self._answered.wait()
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, wsproto.utilities.LocalProtocolError):
                return  # it is closed


@asynccontextmanager
async def open_websocket(dial: Dial) -> AsyncGenerator[WebSocket]:
    """Hold a connection open."""
    assert dial.url is not None
    url = parse_url(dial.url)
    stream = await anyio.connect_tcp(url.host, url.port)
    try:
        protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        request = events.Request(host=url.authority, target=url.target, subprotocols=[dial.protocol])
        await stream.send(protocol.send(request))
        await _accepted(dial, stream, protocol)
        websocket = WebSocket(stream, protocol)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(websocket.read)
            yield websocket
            tasks.cancel_scope.cancel()
    finally:
        await anyio.aclose_forcefully(stream)


async def _accepted(dial: Dial, stream: anyio.abc.ByteStream, protocol: wsproto.WSConnection) -> None:
    refusal: events.RejectConnection | None = None
    body = b""
    while True:
        try:
            protocol.receive_data(await stream.receive(4096))
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            raise ConnectError("the connection was lost in the handshake") from None
        except wsproto.utilities.RemoteProtocolError as error:
            raise ConnectError(f"no WebSocket service: {error}") from None
        for event in protocol.events():
            if isinstance(event, events.AcceptConnection):
                if event.subprotocol != dial.protocol:
                    raise ConnectError("the service does not speak the subprotocol")
                return
            if isinstance(event, events.RejectConnection):
                refusal = event
            if isinstance(event, events.RejectData):
                body += bytes(event.data)
            if refusal is not None and (not refusal.has_body or isinstance(event, events.RejectData)):
                headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in refusal.headers]
                raise refused(refusal.status_code, body, headers)
