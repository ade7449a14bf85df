"""What people write by hand: a WebSocket library, msgspec and a callback, and nothing else.

They receive what our clients receive, and that is all they do: no recovery, no order or duplicates checked, nothing
acknowledged, no requests, no limits. The service would end such a connection after 1000 messages.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec
from _meter import Meter, Result
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, CloseConnection, Ping, Request, TextMessage

PROTOCOL = "json.reliable.webpubsub.azure.v1"
GO = '{"type":"event","event":"go","dataType":"text","data":""}'


class GroupMessage(msgspec.Struct, tag="message", rename="camel"):
    group: str
    data: Any
    data_type: str
    sequence_id: int
    origin: Literal["group"] = msgspec.field(name="from")
    from_user_id: str | None = None


class SystemMessage(msgspec.Struct, tag="system"):
    event: str


class AckMessage(msgspec.Struct, tag="ack", rename="camel"):
    ack_id: int


decode = msgspec.json.Decoder(GroupMessage | SystemMessage | AckMessage).decode


class WsprotoRecipe(asyncio.Protocol):
    """WSConnection, as its documentation shows it."""

    def __init__(self, url: str, callback: Callable[[GroupMessage], None]) -> None:
        self.url = urlsplit(url)
        self.callback = callback
        self.ws = WSConnection(ConnectionType.CLIENT)
        self.parts: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport
        target = f"{self.url.path}?{self.url.query}"
        transport.write(self.ws.send(Request(host=self.url.netloc, target=target, subprotocols=[PROTOCOL])))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.ws.receive_data(data)
        for event in self.ws.events():
            if isinstance(event, TextMessage):
                self.parts.append(event.data)
                if event.message_finished:
                    message = decode("".join(self.parts))
                    self.parts.clear()
                    if type(message) is GroupMessage:
                        self.callback(message)
            elif isinstance(event, Ping):
                self.transport.write(self.ws.send(event.response()))
            elif isinstance(event, AcceptConnection):
                self.transport.write(self.ws.send(TextMessage(GO)))
            elif isinstance(event, CloseConnection):
                self.transport.close()


async def receive_wsproto(url: str) -> Result:
    done = asyncio.Event()
    meter = Meter(done)
    parts = urlsplit(url)
    context = ssl.create_default_context() if parts.scheme == "wss" else None
    loop = asyncio.get_running_loop()
    await loop.create_connection(lambda: WsprotoRecipe(url, meter.take), parts.hostname, parts.port, ssl=context)
    await done.wait()
    return meter.result


async def receive_picows(url: str) -> Result:
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

    done = asyncio.Event()
    meter = Meter(done)

    class Listener(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            transport.send(WSMsgType.TEXT, GO.encode())

        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            if frame.msg_type == WSMsgType.TEXT:
                message = decode(frame.get_payload_as_memoryview())
                if type(message) is GroupMessage:
                    meter.take(message)
            elif frame.msg_type == WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())

    headers = [("Sec-WebSocket-Protocol", PROTOCOL)]
    await ws_connect(Listener, url, extra_headers=headers, max_frame_size=1 << 24)
    await done.wait()
    return meter.result
