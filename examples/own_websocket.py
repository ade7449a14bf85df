"""A client over another WebSocket library: `connect=` opens the transport; all promises hold.

python examples/own_websocket.py URL
"""

import asyncio
import sys

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from limpet import ConnectError, Dial
from limpet.asyncio import Client
from limpet.connect import Close


class Transport:
    """A transport of messages: the three methods that the client needs."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: str | bytes) -> None:
        await self.connection.send(message)

    async def receive(self) -> str | bytes | Close:
        try:
            return await self.connection.recv()
        except ConnectionClosed as error:
            return Close(error.rcvd.code, error.rcvd.reason) if error.rcvd else Close(reason=str(error))

    async def close(self, code: int, reason: str) -> None:
        await self.connection.close(code, reason)


async def open_transport(dial: Dial) -> Transport:
    assert dial.url is not None
    try:
        connection = await connect(
            dial.url,
            subprotocols=[Subprotocol(dial.protocol)],
            max_size=32 << 20,  # the service's messages may be longer than the library's 1 MiB
            ping_interval=None,  # the client sends pings itself
            close_timeout=0.5,
        )
    except InvalidStatus as error:
        status = error.response.status_code
        raise ConnectError(f"the service refused the connection with HTTP status {status}", status=status) from None
    if connection.subprotocol != dial.protocol:
        await connection.close(1002)
        raise ConnectError("the service does not speak the subprotocol")
    return Transport(connection)


async def main(url: str) -> None:
    async with Client(url, connect=open_transport) as client, client.subscribe("lobby") as messages:
        await client.send_to_group("lobby", "hello from another WebSocket library")
        async for message in messages:
            print(message.data)
            break


if len(sys.argv) != 2:
    sys.exit(__doc__)
asyncio.run(main(sys.argv[1]))
