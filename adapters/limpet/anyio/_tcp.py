"""TCP connections of anyio."""

from __future__ import annotations

import asyncio
import errno
import os

import anyio
import anyio.abc

from limpet._structured.backend import ByteStream
from limpet._transports.addresses import DELAY


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
    if not on_asyncio():
        return _TcpStream(await anyio.connect_tcp(host, port, happy_eyeballs_delay=DELAY))
    # anyio's look-ups on asyncio hold up the end of the process.
    from limpet._transports.dial_asyncio import dial

    sock = await dial(host, port)
    try:
        return _TcpStream(await anyio.abc.SocketStream.from_socket(sock))
    except BaseException as error:
        sock.close()
        if isinstance(error, ValueError):  # it has been reset meanwhile, and has no peer any more
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET)) from error
        raise


def on_asyncio() -> bool:
    """Return whether the running event loop is asyncio's."""
    try:
        return asyncio.current_task() is not None  # None: trio as a guest of an asyncio loop
    except RuntimeError:
        return False
