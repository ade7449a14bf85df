"""A service over real sockets whose every frame a test decides.

    async with Scripted() as service:
        client = Client(service.url, OPTIONS)
        starting = asyncio.create_task(client.start())
        peer = await service.establishes("c1")     # accepted, upgraded, connected message sent
        await starting
        ...
        request = await peer.request()              # the next join, leave, send or event
        peer.ack(request)

A peer answers pings and close frames by itself unless ``pongs`` or ``answers_close`` is False. Every wait is bounded.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from tests.helpers.frames import TEXT, frame
from tests.helpers.waiting import LIMIT
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import AcceptConnection, CloseConnection, Ping, RejectConnection, RejectData, Request, TextMessage

RELIABLE = "json.reliable.webpubsub.azure.v1"
Message = dict[str, Any]


def group_message(sequence_id: int | None, data: Any, group: str = "g", **fields: Any) -> Message:
    """Return a message published to a group; without a sequence id as on the plain subprotocol."""
    kind = "text" if isinstance(data, str) else "json"
    message = {"type": "message", "from": "group", "group": group, "dataType": kind, "data": data, **fields}
    return message if sequence_id is None else {"sequenceId": sequence_id, **message}


class Peer(asyncio.Protocol):
    """The service's end of one TCP connection.

    Attributes:
        query: of the handshake's URL; a recovery has ``awps_connection_id``.
        received: every message of the client, in order.
        sequence_acks: their ids, in order.
        pings: how many arrived, of the messages and of the WebSocket's.
        close_code: what the client closed with; 1006: without a close frame; None: it has not.
        pongs: whether pings are answered.
        answers_close: whether a close frame is answered, and the connection closed then.
        on_request: called with each request instead of :meth:`request`.
    """

    def __init__(self, service: Scripted) -> None:
        self.service = service
        self.query: dict[str, list[str]] = {}
        self.received: list[Message] = []
        self.sequence_acks: list[int] = []
        self.pings = 0
        self.close_code: int | None = None
        self.pongs = True
        self.answers_close = True
        self.on_request: Callable[[Message], None] | None = service.on_request and self._serve
        self.connection_id = ""
        self._requests: asyncio.Queue[Message] = asyncio.Queue()
        self._ws = WSConnection(ConnectionType.SERVER)
        self._text = ""
        self._news = asyncio.Event()
        self._lost = asyncio.Event()
        self._transport: asyncio.Transport | None = None

    # ---- From asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.service.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._ws.receive_data(data)
        except Exception:  # noqa: BLE001 - no HTTP: a client that wants TLS
            self.raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            self.fin()
            return
        for event in self._ws.events():
            if isinstance(event, Request):
                self.query = parse_qs(urlsplit(event.target).query)
                self.service.asked(self)
            elif isinstance(event, Ping):
                self.pings += 1
                if self.pongs:
                    self.raw(self._ws.send(event.response()))
            elif isinstance(event, CloseConnection):
                self.close_code = int(event.code)
                if self._ws.state is ConnectionState.REMOTE_CLOSING and self.answers_close:
                    self.raw(self._ws.send(event.response()))
                    self.fin()
                elif self._ws.state is ConnectionState.CLOSED:
                    self.fin()
            elif isinstance(event, TextMessage):
                self._text += event.data
                if event.message_finished:
                    text, self._text = self._text, ""
                    self._message(json.loads(text))
        self._news.set()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.close_code is None:
            self.close_code = 1006
        self._lost.set()
        self._news.set()
        self.service.closed(self)

    def _message(self, message: Message) -> None:
        self.received.append(message)
        kind = message["type"]
        if kind == "ping":
            self.pings += 1
            if self.pongs:
                self.send(type="pong")
        elif kind == "sequenceAck":
            self.sequence_acks.append(message["sequenceId"])
        elif self.on_request is not None:
            self.on_request(message)
        else:
            self._requests.put_nowait(message)

    def _serve(self, message: Message) -> None:
        assert self.service.on_request is not None
        self.service.on_request(self, message)

    # ---- The handshake

    def upgrade(self, subprotocol: str | None = RELIABLE) -> None:
        """Answer the handshake with 101."""
        self.raw(self._ws.send(AcceptConnection(subprotocol=subprotocol)))

    def refuse(self, status: int, body: str = "") -> None:
        """Answer the handshake with an HTTP status."""
        headers = [(b"content-length", b"%d" % len(body))]
        self.raw(self._ws.send(RejectConnection(status_code=status, headers=headers, has_body=True)))
        self.raw(self._ws.send(RejectData(data=body.encode())))
        self.fin()

    def connected(self, connection_id: str = "c1", **fields: Any) -> None:
        """Send the connected message."""
        self.connection_id = connection_id
        hello = {"userId": "ann", "connectionId": connection_id, "reconnectionToken": f"token-of-{connection_id}"}
        self.send(**{"type": "system", "event": "connected", **hello, **fields})

    # ---- What the service says

    def send(self, **message: Any) -> None:
        """Send a message as it is."""
        self.raw(frame(TEXT, json.dumps(message)))

    def deliver(self, *sequence_ids: int, group: str = "g") -> None:
        """Send group messages whose data is their sequence id."""
        self.raw(b"".join(frame(TEXT, json.dumps(group_message(number, number, group))) for number in sequence_ids))

    def ack(self, request: Message) -> None:
        """Answer a request: it was executed."""
        self.send(type="ack", ackId=request["ackId"], success=True)

    def nack(self, request: Message, name: str, message: str = "no") -> None:
        """Answer a request: it was not executed, or is a Duplicate."""
        self.send(type="ack", ackId=request["ackId"], success=False, error={"name": name, "message": message})

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    async def trickle(self, data: bytes) -> None:
        """Send bytes one by one, each in a segment of its own."""
        for index in range(len(data)):
            self.raw(data[index : index + 1])
            await asyncio.sleep(0)

    def close(self, code: int, reason: str = "") -> None:
        """Send a close frame."""
        self.raw(self._ws.send(CloseConnection(code=code, reason=reason)))

    def fin(self) -> None:
        """Close the TCP connection."""
        if self._transport is not None:
            self._transport.close()

    def reset(self) -> None:
        """Close the TCP connection with RST."""
        if self._transport is not None and not self._transport.is_closing():
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()

    def stop_reading(self) -> None:
        """Read nothing any more; with ``pongs`` off and nothing sent, the peer is a black hole."""
        assert self._transport is not None
        self._transport.pause_reading()

    # ---- What the test waits for

    async def request(self) -> Message:
        """Return the next join, leave, send or event."""
        async with asyncio.timeout(LIMIT):
            return await self._requests.get()

    def no_request(self) -> bool:
        """Return whether every request so far has been taken."""
        return self._requests.empty()

    async def until(self, true: Callable[[Peer], object]) -> None:
        """Wait until a condition of this peer is true; it is checked after everything that arrives."""
        async with asyncio.timeout(LIMIT):
            while not true(self):
                self._news.clear()
                await self._news.wait()

    async def gone(self) -> int:
        """Wait until the TCP connection is closed, and return the close code of the client."""
        async with asyncio.timeout(LIMIT):
            await self._lost.wait()
        assert self.close_code is not None
        return self.close_code


class Scripted:
    """Listens; every connection is a :class:`Peer` for the test to play.

    Args:
        on_request: ``on_request(peer, message)`` answers the requests of all peers that say nothing else.
        tls: for ``wss``.

    Attributes:
        peers: all TCP connections so far, in order.
        reset_next: so many of the next TCP connections are reset at once.
    """

    def __init__(
        self, on_request: Callable[[Peer, Message], None] | None = None, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.on_request = on_request
        self.peers: list[Peer] = []
        self.reset_next = 0
        self.port = 0
        self._tls = tls
        self._handshakes: asyncio.Queue[Peer] = asyncio.Queue()
        self._open: set[Peer] = set()
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The URL for clients, with a token."""
        scheme = "wss" if self._tls else "ws"
        return f"{scheme}://127.0.0.1:{self.port}/client/hubs/chat?access_token=SECRET"

    async def handshake(self) -> Peer:
        """Return the next connection whose handshake has arrived, without an answer to it."""
        async with asyncio.timeout(LIMIT):
            return await self._handshakes.get()

    async def establishes(self, connection_id: str = "c1", subprotocol: str = RELIABLE) -> Peer:
        """Accept the next connection as a new one, and send its connected message."""
        peer = await self.handshake()
        assert "awps_connection_id" not in peer.query, "the client recovers instead of making a new connection"
        peer.upgrade(subprotocol)
        peer.connected(connection_id)
        return peer

    async def recovers(self, connection_id: str = "c1") -> Peer:
        """Accept the next connection as a recovery."""
        peer = await self.handshake()
        assert peer.query.get("awps_connection_id") == [connection_id], "the client does not recover"
        assert peer.query["awps_reconnection_token"] == [f"token-of-{connection_id}"]
        peer.connection_id = connection_id
        peer.upgrade()
        return peer

    def opened(self, peer: Peer) -> None:
        """Note a new TCP connection."""
        self.peers.append(peer)
        self._open.add(peer)
        if self.reset_next:
            self.reset_next -= 1
            peer.reset()

    def asked(self, peer: Peer) -> None:
        """Note a handshake that has arrived."""
        self._handshakes.put_nowait(peer)

    def closed(self, peer: Peer) -> None:
        """Note the end of a TCP connection."""
        self._open.discard(peer)

    async def __aenter__(self) -> Scripted:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Peer(self), "127.0.0.1", self.port, ssl=self._tls)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for peer in tuple(self._open):
            peer.reset()
        for peer in tuple(self._open):
            await peer.gone()
        await self._server.wait_closed()
