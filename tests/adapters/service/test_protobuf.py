"""Protobuf clients over real WebSockets: binary frames both ways, under our own server and as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import websockets
from tests.adapters.service.sockets import ROLES, Client, with_service
from tests.adapters.service.test_asgi import KEY, served
from tests.adapters.service.test_rest import Api
from tests.helpers.waiting import LIMIT
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from limpet import JSON, PROTOBUF, RELIABLE_PROTOBUF, GroupMessage, ServerMessage
from limpet.service import Service, ServiceOptions, client_url
from limpet_core.protocol.messages import AckMessage, Incoming, SystemMessage
from limpet_core.protocol.protobuf import codec
from limpet_core.service import ClientGrant, ConnectionString

Scenario = Callable[[str], Awaitable[None]]


class Binary:
    """A WebSocket of a protobuf client."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    @classmethod
    @asynccontextmanager
    async def opened(cls, url: str, offer: str = RELIABLE_PROTOBUF) -> AsyncGenerator[Binary]:
        websocket = await connect(url, subprotocols=[Subprotocol(offer)], compression=None)
        try:
            assert websocket.subprotocol == offer
            binary = cls(websocket)
            assert isinstance(await binary.receive(), SystemMessage)
            yield binary
        finally:
            await websocket.close()

    async def receive(self) -> Incoming:
        data = await asyncio.wait_for(self.websocket.recv(), LIMIT)
        assert isinstance(data, bytes)
        return codec.decode(data)

    async def ask(self, message: bytes) -> Incoming:
        await self.websocket.send(message)
        return await self.receive()

    async def close_code(self) -> int | None:
        with pytest.raises(websockets.ConnectionClosed):
            await asyncio.wait_for(self.websocket.recv(), LIMIT)
        return self.websocket.close_code


async def talk(url: str) -> None:
    other = await Client.open(url, JSON)
    await other.receive()
    async with Binary.opened(url) as client:
        assert await client.ask(codec.encode_join("room", 1)) == AckMessage(1, True)
        for size in (1, 200, 70_000):
            await other.send(type="sendToGroup", group="room", dataType="text", data="x" * size)
            message = await client.receive()
            assert isinstance(message, GroupMessage)
            assert message.data == "x" * size
        await other.send(type="joinGroup", group="room", ackId=1)
        assert (await other.receive())["success"]
        assert await client.ask(codec.encode_send("room", {"a": 1}, None, True, 2, 1000)) == AckMessage(2, True)
        assert (await other.receive())["data"] == {"a": 1}
    for message, code in (("text", 1003), (b"\xff", 1007)):
        async with Binary.opened(url, PROTOBUF) as client:
            await client.websocket.send(message)
            assert await client.close_code() == code
    await other.leave()


def test_our_own_server() -> None:
    async def scenario(service: Service) -> None:
        await talk(service.client_url(user_id="ann", roles=ROLES))

    with_service(scenario)


def test_an_asgi_application() -> None:
    async def run() -> None:
        async with served(ServiceOptions(access_key=KEY)) as endpoint:
            await talk(client_url(ConnectionString(endpoint, KEY), user_id="ann", roles=ROLES))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("content_type", "body", "data", "data_type"),
    [
        ("application/json", b'{"a":1}', {"a": 1}, "json"),
        ("text/plain", b"t", "t", "text"),
        ("application/octet-stream", b"\0", b"\0", "binary"),
    ],
)
def test_messages_of_the_data_plane(content_type: str, body: bytes, data: object, data_type: str) -> None:
    async def run() -> None:
        api = Api()
        async with api.http:
            member = api.core.connect("chat", PROTOBUF, ClientGrant("ben"), 0.0)
            member.messages_to_send()
            answer = await api("POST", "/hubs/chat/:send?api-version=2024-12-01", content=body,
                               headers={"Content-Type": content_type, "X-WebPubSub-Metadata-k": "v"})  # fmt: skip
            assert answer.status_code == 202
            (message,) = member.messages_to_send()
            assert codec.decode(message) == ServerMessage(data=data, data_type=data_type, metadata={"k": "v"})

    asyncio.run(run())


def test_the_option_for_json_as_text_reaches_the_service() -> None:
    assert ServiceOptions(protobuf_json_as_text=True).limits().protobuf_json_as_text
    assert not ServiceOptions().limits().protobuf_json_as_text
