"""TCP connections of anyio."""

from __future__ import annotations

import anyio
import anyio.abc

from limpet._structured.backend import ByteStream


class _TcpStream:
    """A TCP connection of anyio's."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._receive = stream.receive
        self.send = stream.send
        self.aclose = stream.aclose

    async def receive(self, max_bytes: int) -> bytes:
        try:
            return await self._receive(max_bytes)
        except anyio.EndOfStream:
            return b""


async def open_tcp(host: str, port: int) -> ByteStream:
    return _TcpStream(await anyio.connect_tcp(host, port))
