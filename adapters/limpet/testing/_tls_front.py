"""TLS in front of a service that has none."""

from __future__ import annotations

import asyncio
from typing import cast


class TlsFront(asyncio.Protocol):
    """One end of a TLS connection: what comes in is passed on to the service, and the other way round."""

    def __init__(self, port: int, other: TlsFront | None = None) -> None:
        self._port = port
        self._other = other
        self._transport: asyncio.Transport | None = None
        self._waiting: list[bytes] = []
        self._dialling: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._other is None:
            self._dialling = asyncio.get_running_loop().create_task(self._dial())
        elif self._other._transport is None or self._other._transport.is_closing():
            self._transport.abort()
        else:
            self._other._other = self
            self._transport.writelines(self._other._waiting)

    async def _dial(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(
                lambda: TlsFront(self._port, self), "127.0.0.1", self._port
            )
        except OSError:
            if self._transport is not None:
                self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._other is None or self._other._transport is None:
            self._waiting.append(data)
        else:
            self._other._transport.write(data)

    def pause_writing(self) -> None:
        if self._other is not None and self._other._transport is not None:
            self._other._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._other is not None and self._other._transport is not None:
            self._other._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._other is not None and self._other._transport is not None:
            if exc is None:
                self._other._transport.close()
            else:
                self._other._transport.abort()
