"""Transports in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from limpet import Close
from limpet_core.service import NO_CLOSE_FRAME, Transport

if TYPE_CHECKING:
    from limpet.testing.virtual.service import VirtualService

Direction = Literal["to_client", "to_service"]


class Line:
    """One transport, with what is on its way in both directions.

    Attributes:
        transport: the service's end.
        arrived: what has arrived at the client; :class:`Close` is the last.
        over: nothing more will arrive at either end.
        on_arrival: called when something has arrived at the client.
    """

    def __init__(self, service: VirtualService, transport: Transport) -> None:
        self.transport: Transport = transport
        self.arrived: deque[bytes | Close] = deque()
        self.over: bool = False
        self.on_arrival: Callable[[], None] = lambda: None
        self._service = service
        self._on_the_way: deque[str | bytes | Close] = deque()

    def send(self, message: str | bytes) -> None:
        """Send a message to the service. Raises ConnectionError after the end."""
        if self.over:
            raise ConnectionError("the connection was cut")
        self._on_the_way.append(message)

    def close(self, code: int) -> None:
        """Close with a code, or abort with 1006."""
        if not self.over:
            self._on_the_way.append(Close(code))

    def break_off(self) -> None:
        """Cut it: both ends notice, and what is on its way is lost."""
        self._on_the_way.clear()
        self._end(Close(NO_CLOSE_FRAME, "cut"))

    def push(self) -> bool:
        """Give the service what the client has sent; tell whether there was anything."""
        core, now = self._service.core, self._service.now
        busy = bool(self._on_the_way)
        while self._on_the_way:
            item = self._on_the_way.popleft()
            if isinstance(item, Close):
                self._end(item)
            else:
                core.receive(self.transport, item, now)
        return busy

    def pull(self) -> bool:
        """Take what the service has for the client; tell whether there was anything."""
        if self.over:
            return False
        self.arrived.extend(self.transport.messages_to_send(self._service.now))
        close = self.transport.close
        if close is not None:
            self._end(Close(close.code, close.reason))
        self.on_arrival()
        return True

    def _end(self, closed: Close) -> None:
        self.over = True
        self.arrived.append(closed)
        self._service.core.disconnected(self.transport, closed.code, self._service.now)
        self.on_arrival()


class MemoryTransport:
    """The client's end of a line for ``connect=``, on asyncio."""

    def __init__(self, service: VirtualService, line: Line) -> None:
        self._service = service
        self._line = line
        self._arrival = asyncio.Event()
        line.on_arrival = self._arrival.set

    async def send(self, message: str | bytes) -> None:
        """Send a message. Raises ConnectionError after the end."""
        self._line.send(message)
        self._service.settle()

    async def receive(self) -> str | Close:
        """Wait for the next message, or the end."""
        while not self._line.arrived:
            self._arrival.clear()
            await self._arrival.wait()
        item = self._line.arrived.popleft()
        return item if isinstance(item, Close) else item.decode()

    async def close(self, code: int, reason: str) -> None:
        """Close with a code."""
        self._line.close(code)
        self._service.settle()
