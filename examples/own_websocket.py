"""A client over another WebSocket library: `connect=` opens the transport; all promises hold.

python examples/own_websocket.py URL
"""

import asyncio
import sys
from contextlib import suppress

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from limpet import ConnectError, Dial
from limpet.asyncio import Client
from limpet.connect import Close, refused


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
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):  # a peer that does not answer is not waited for
                    await self.connection.close(code, reason)
        finally:
            self.connection.transport.abort()
            await self.connection.wait_closed()


class _Direct(connect):
    """Follows no redirect: only the service may see the access token."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def open_transport(dial: Dial) -> Transport:
    assert dial.url is not None
    try:
        connection = await _Direct(
            dial.url,
            subprotocols=[Subprotocol(dial.protocol)],
            max_size=32 << 20,  # the service's messages may be longer than the library's 1 MiB
            compression=None,
            ping_interval=None,  # the client sends pings itself
            open_timeout=None,  # and knows how long an attempt may take
        )
    except InvalidStatus as error:
        answer = error.response
        raise refused(answer.status_code, answer.body, answer.headers.raw_items()) from None
    transport = Transport(connection)
    if connection.subprotocol != dial.protocol:
        await transport.close(1002, "")
        raise ConnectError("the service does not speak the subprotocol")
    return transport


async def main(url: str) -> None:
    async with Client(url, connect=open_transport) as client, client.subscribe("lobby") as messages:
        await client.send_to_group("lobby", "hello from another WebSocket library")
        async for message in messages:
            print(message.data)
            break


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    asyncio.run(main(sys.argv[1]))
