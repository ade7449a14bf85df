"""TCP connections of trio."""

from __future__ import annotations

import trio

from limpet._structured.backend import ByteStream
from limpet._transports.addresses import DELAY


class _TcpStream:
    """A TCP connection of trio's."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.receive = stream.receive_some
        self.send = stream.send_all
        self.aclose = stream.aclose


async def open_tcp(host: str, port: int) -> ByteStream:
    return _TcpStream(await trio.open_tcp_stream(host, port, happy_eyeballs_delay=DELAY))
