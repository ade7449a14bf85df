"""The client's end of a line, for whole clients of :mod:`limpet.asyncio`."""

from __future__ import annotations

import asyncio

from limpet import Close
from limpet.testing.virtual.network import Line, VirtualNetwork
from limpet_core.service import Binary


class MemoryTransport:
    """The client's end of a line for ``connect=``, on asyncio."""

    def __init__(self, network: VirtualNetwork, line: Line) -> None:
        self._network = network
        self._line = line
        self._arrival = asyncio.Event()
        line.on_arrival = self._arrival.set

    async def send(self, message: str | bytes) -> None:
        """Send a message. Raises ConnectionError after the end."""
        self._line.send(message)
        self._network.settle()

    async def receive(self) -> str | bytes | Close:
        """Wait for the next message, or the end."""
        while not self._line.arrived:
            self._arrival.clear()
            await self._arrival.wait()
        item = self._line.arrived.popleft()
        return item if isinstance(item, Close | Binary) else item.decode()

    async def close(self, code: int, reason: str) -> None:
        """Close with a code."""
        self._line.close(code, reason)
        self._network.settle()
