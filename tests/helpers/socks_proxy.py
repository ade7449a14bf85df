"""A SOCKS5 proxy (RFC 1928, 1929) on loopback that connects for its clients, or answers as a test says."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.helpers.http_proxy import copy


class SocksProxy:
    """Connects all tunnels to this machine, whatever host they ask for, and to the port they ask for.

    Args:
        credentials: ``USER:PASSWORD`` that it asks for; None: it asks for none.
        reply: the code of its answers; 0: success.
        bound: the address in its answers, as bytes after the type.
        script: answers these bytes at once to everything, and then hangs.

    Attributes:
        asked: hosts and ports, in order.
        open: how many connections of clients are open.
    """

    def __init__(
        self,
        credentials: str | None = None,
        reply: int = 0,
        bound: bytes = b"\x01\0\0\0\0\0\0",
        script: bytes | None = None,
    ) -> None:
        self.asked: list[tuple[str, int]] = []
        self.open = 0
        self._credentials = credentials
        self._reply = reply
        self._bound = bound
        self._script = script

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[SocksProxy]:
        tasks: set[asyncio.Task[None]] = set()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            self.open += 1
            try:
                await self._serve(reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                return  # the client has gone, or the test is over
            finally:
                self.open -= 1
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(accepted, "127.0.0.1", 0)
        self.port = int(server.sockets[0].getsockname()[1])
        try:
            yield self
        finally:
            server.close()
            for task in tuple(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()

    def url(self, credentials: str = "", scheme: str = "socks5") -> str:
        """What goes into ``proxy=``."""
        return f"{scheme}://{credentials}{'@' if credentials else ''}127.0.0.1:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._script is not None:
            writer.write(self._script)
            await reader.read(-1)
            return
        version, count = await reader.readexactly(2)
        assert version == 5
        methods = await reader.readexactly(count)
        method = 0 if self._credentials is None else 2
        if method not in methods:
            writer.write(b"\x05\xff")
            await reader.read(-1)
            return
        await self._say(writer, bytes([5, method]))
        if method == 2 and not await self._login(reader, writer):
            return
        host, port = await self._request(reader)
        self.asked.append((host, port))
        if self._reply:
            await self._say(writer, bytes([5, self._reply, 0]) + self._bound)
            await reader.read(-1)
            return
        service_reader, service_writer = await asyncio.open_connection("127.0.0.1", port)
        await self._say(writer, b"\x05\x00\x00" + self._bound)
        try:
            await asyncio.gather(copy(reader, service_writer), copy(service_reader, writer))
        finally:
            service_writer.close()

    async def _login(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        assert await reader.readexactly(1) == b"\x01"
        user = await reader.readexactly((await reader.readexactly(1))[0])
        password = await reader.readexactly((await reader.readexactly(1))[0])
        good = f"{user.decode()}:{password.decode()}" == self._credentials
        await self._say(writer, b"\x01\x00" if good else b"\x01\x01")
        return good

    async def _request(self, reader: asyncio.StreamReader) -> tuple[str, int]:
        head = await reader.readexactly(4)
        assert head[:3] == b"\x05\x01\x00"
        if head[3] == 3:
            host = (await reader.readexactly((await reader.readexactly(1))[0])).decode()
        else:
            family, size = (socket.AF_INET, 4) if head[3] == 1 else (socket.AF_INET6, 16)
            host = socket.inet_ntop(family, await reader.readexactly(size))
        return host, int.from_bytes(await reader.readexactly(2), "big")

    async def _say(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Write byte by byte: an answer may arrive in any pieces."""
        for byte in data:
            writer.write(bytes([byte]))
            with suppress(OSError):
                await writer.drain()
            await asyncio.sleep(0)
