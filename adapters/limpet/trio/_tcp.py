"""TCP connections of trio."""

from __future__ import annotations

import socket
from contextlib import suppress

import trio

from limpet._structured.backend import ByteStream, send_now
from limpet._transports.addresses import DELAY


class _TcpStream:
    """A TCP connection, with the checkpoints of trio's own, which takes a kilobyte more while it waits for bytes."""

    __slots__ = ("_more", "_sock")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._more = False  # the last read was full

    async def receive(self, max_bytes: int) -> bytes:
        sock = self._sock
        if self._more:  # else a look would be in vain, nearly always, and cost as much as a message
            await trio.lowlevel.checkpoint_if_cancelled()
            self._more = False
            with suppress(BlockingIOError):
                data = sock.recv(max_bytes)
                self._more = len(data) == max_bytes
                await trio.lowlevel.cancel_shielded_checkpoint()
                return data
        while True:
            await trio.lowlevel.wait_readable(sock)
            try:
                data = sock.recv(max_bytes)
            except BlockingIOError:
                continue
            self._more = len(data) == max_bytes
            return data

    def send_now(self, data: bytes) -> bytes | None:
        return send_now(self._sock, data)

    async def send(self, data: bytes) -> None:
        sock, rest = self._sock, memoryview(data)
        await trio.lowlevel.checkpoint_if_cancelled()
        while rest:
            try:
                rest = rest[sock.send(rest) :]
            except BlockingIOError:
                await trio.lowlevel.wait_writable(sock)
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def aclose(self) -> None:
        if self._sock.fileno() >= 0:
            trio.lowlevel.notify_closing(self._sock)
            self._sock.close()
        await trio.lowlevel.checkpoint()


async def open_tcp(host: str, port: int) -> ByteStream:
    stream = await trio.open_tcp_stream(host, port, happy_eyeballs_delay=DELAY)
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setblocking(False)
    return _TcpStream(sock)
