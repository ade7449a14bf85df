"""TCP connections of anyio."""

from __future__ import annotations

import asyncio
from typing import cast

import anyio
import anyio.abc
import anyio.lowlevel

from limpet._structured.backend import ByteStream, send_now
from limpet._transports.addresses import DELAY
from limpet._transports.unread import unread

_UNREAD = 256 * 1024
"""Bytes that may wait for :meth:`_AsyncioStream.receive` before reading is paused: as many as asyncio reads at once."""

_PIECES = 1024
"""Reads that may wait likewise: a peer decides how small they are, and each takes 40 bytes more than it brings."""


class _TcpStream:
    """A TCP connection of anyio's."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._sock = stream.extra(anyio.abc.SocketAttribute.raw_socket)
        self._receive = stream.receive
        self.send = stream.send
        self.aclose = stream.aclose

    async def receive(self, max_bytes: int) -> bytes:
        try:
            return await self._receive(max_bytes)
        except anyio.EndOfStream:
            return b""

    def send_now(self, data: bytes) -> bytes | None:
        return send_now(self._sock, data)


class _AsyncioStream(asyncio.Protocol):
    """A TCP connection on asyncio, with the checkpoints of anyio's own.

    That one has two events and a deque, which take 2.5 KiB, and tells the system to pause and resume with each read.
    This one does so when more than the largest read waits: on asyncio's own loop the reader takes each read of a flood
    before the next one. It goes on when less waits: once for two reads of that size.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport
        self._unread: list[bytes] = []
        self._size = 0  # of these
        self._paused = False  # reading
        self._ended = False  # nothing more will come
        self._error: Exception | None = None
        self._lost = False
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._full = False  # the peer is too slow

    # ---- For the client

    async def receive(self, max_bytes: int) -> bytes:
        if self._unread or self._ended:
            await anyio.lowlevel.checkpoint()
        else:
            self._reader = self._loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        if not self._unread:
            if self._error is not None:
                raise self._error
            return b""
        if len(self._unread) == 1 or self._size > max_bytes:
            data = self._unread.pop(0)
        else:
            data = b"".join(self._unread)
            self._unread.clear()
        self._size -= len(data)
        if self._paused and self._size < _UNREAD and not self._lost:
            self._paused = False
            self._transport.resume_reading()
        return data

    async def send(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint_if_cancelled()
        self._check_open()
        self._transport.write(data)
        if not self._full:
            await anyio.lowlevel.cancel_shielded_checkpoint()
            return
        self._writer = self._loop.create_future()
        try:
            await self._writer
        finally:
            self._writer = None
        self._check_open()

    def send_now(self, data: bytes) -> bytes | None:
        self._check_open()
        if self._full:
            return data
        self._transport.write(data)
        return b"" if self._full else None

    async def aclose(self) -> None:
        self._transport.abort()
        await anyio.lowlevel.checkpoint()

    def _check_open(self) -> None:
        if self._lost:
            raise self._error or ConnectionError("the connection is closed")

    # ---- For asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(0)  # what send() has returned for is the system's, and not lost

    def data_received(self, data: bytes) -> None:
        self._unread.append(data)
        self._size += len(data)
        if (self._size > _UNREAD or len(self._unread) >= _PIECES) and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> bool:
        self._ended = True
        _wake(self._reader)
        return True  # what waits to be sent is sent on

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        _wake(self._writer)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and (rest := unread(self._transport)):
            self._unread.append(rest)
            self._size += len(rest)
        self._ended = self._lost = True
        self._error = exc
        _wake(self._reader)
        _wake(self._writer)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


async def open_tcp(host: str, port: int) -> ByteStream:
    if not on_asyncio():
        return _TcpStream(await anyio.connect_tcp(host, port, happy_eyeballs_delay=DELAY))
    # anyio's look-ups on asyncio hold up the end of the process.
    from limpet._transports.dial_asyncio import dial

    sock = await dial(host, port)
    try:
        _, stream = await asyncio.get_running_loop().create_connection(_AsyncioStream, sock=sock)
    except BaseException:
        sock.close()
        raise
    return stream


def on_asyncio() -> bool:
    """Return whether the running event loop is asyncio's."""
    try:
        return asyncio.current_task() is not None  # None: trio as a guest of an asyncio loop
    except RuntimeError:
        return False
