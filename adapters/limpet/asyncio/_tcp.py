"""A TCP connection as asyncio wants it: a protocol whose methods the event loop calls."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from limpet._transports.pipeline import Pipeline

_FAIR_SHARE = 256 * 1024
"""Bytes to take before others get their turn: uvloop would go on for 2 MiB, some 50 ms of small messages."""


class Owner(Protocol):
    """The driver that keeps the session."""

    def opened(self, transport: TcpConnection) -> None:
        """The connection stands."""
        ...

    def drain(self) -> None:
        """To be called after every call to the session."""
        ...

    def failed(self, error: BaseException) -> None:
        """``error`` came out of the midst of a call to the session."""
        ...


class TcpConnection(asyncio.Protocol):
    """One TCP connection: bytes from the loop to the Link, no task and no queue."""

    def __init__(self, owner: Owner, pipeline: Pipeline) -> None:
        self.pipeline: Pipeline = pipeline
        self.writable: bool = True
        self._wanted = True
        self._resting = False
        self._reading = True
        self._taken = 0
        self._owner = owner
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Report to the owner, which may not want it any more."""
        self._transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes to messages to callbacks, all in this call."""
        self._taken += len(data)
        if self._taken > _FAIR_SHARE and not self._resting:
            self._resting = True
            self._read()
            self._loop.call_soon(self._rested)
        try:
            self.pipeline.receive_data(data, self._loop.time())
        except BaseException as error:
            self._owner.failed(error)
            raise
        self._owner.drain()

    def _rested(self) -> None:
        self._taken, self._resting = 0, False
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end."""
        try:
            if exc is None:
                self.pipeline.receive_data(b"", self._loop.time())
            else:
                self.pipeline.transport_lost(str(exc) or type(exc).__name__, self._loop.time())
        except BaseException as error:
            self._owner.failed(error)
            raise
        self._owner.drain()

    def pause_writing(self) -> None:
        """The peer is too slow to take what we write."""
        self.writable = False

    def resume_writing(self) -> None:
        """It has caught up."""
        self.writable = True
        self._owner.drain()

    def write(self) -> None:
        """Write what there is to send, unless the peer is too slow to take it now."""
        if self.writable and (data := self.pipeline.data_to_send()):
            self._transport.write(data)

    def read(self, wanted: bool) -> None:
        """Pause or resume reading."""
        if wanted is not self._wanted:
            self._wanted = wanted
            self._read()

    def _read(self) -> None:
        reading = self._wanted and not self._resting
        if reading is not self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def close(self) -> None:
        """Say goodbye if the session wants that, and close; never waits for a peer that does not read."""
        if self.writable and (data := self.pipeline.close_notify()):
            self._transport.write(data)
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
