"""A TCP balancer: each connection goes to the next node that is alive, and ends with that node's."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence

from tests.service.cluster.kill.processes import NodeProcess

_RECOVERY = b"awps_reconnection_token="


class Balancer:
    """Round robin over ``nodes()``; a node that does not take the connection is passed over.

    Attributes:
        recoveries: handshakes that were to recover a connection.
    """

    def __init__(self, nodes: Callable[[], Sequence[NodeProcess]]) -> None:
        self.port = 0
        self.recoveries = 0
        self._nodes = nodes
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._carrying: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)  # sockets are closed in the next turn

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._carrying.add(task)
        task.add_done_callback(self._carrying.discard)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        there = await self._connect()
        if there is not None:
            self._writers.add(there[1])
            with contextlib.suppress(OSError):
                first = await reader.read(65536)
                self.recoveries += _RECOVERY in first
                there[1].write(first)
                await asyncio.gather(_copy(reader, there[1]), _copy(there[0], writer))
            there[1].transport.abort()
            self._writers.discard(there[1])
        writer.transport.abort()
        self._writers.discard(writer)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        nodes = [node for node in self._nodes() if node.is_alive and not node.is_stopped]
        self._turn += 1
        for place in range(len(nodes)):
            node = nodes[(self._turn + place) % len(nodes)]
            with contextlib.suppress(OSError):
                return await asyncio.open_connection("127.0.0.1", node.port)
        return None


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    """Pass on what comes. The end of one direction is that of the other: as raised by `ConnectionError`."""
    while data := await source.read(65536):
        target.write(data)
        await target.drain()
    target.transport.close()
    raise ConnectionResetError
