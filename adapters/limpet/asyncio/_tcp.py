"""A TCP connection on asyncio: a protocol, whose methods the event loop calls."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from limpet._clients.driver import Owner
from limpet._transports.pipeline import Pipeline
from limpet._transports.unread import unread
from limpet_core.text import reason_of

_FAIR_SHARE = 256 * 1024
"""Bytes to read before other tasks run: uvloop reads on for as long as its buffer of 250 KiB is filled.

asyncio's own loops read once in a turn, and no more than that: they are not paused, which would take two system calls
and one more turn of the loop each time.
"""


class TcpOwner(Owner, Protocol):
    """The driver, which is told when the connection is open.

    Attributes:
        written: see :class:`limpet.asyncio.driver.Driver`.
    """

    written: bool

    def opened(self, transport: TcpConnection) -> None:
        """Note that the connection is open."""
        ...


class TcpConnection(asyncio.Protocol):
    """A TCP connection and the pipeline over it: no task, and no queue.

    Attributes:
        pipeline: makes messages of bytes.
        writable: the peer takes what is written.
    """

    __slots__ = (
        "__weakref__",
        "_loop",
        "_owner",
        "_reading",
        "_reads_once",
        "_received",
        "_transport",
        "_wants_reading",
        "_yielding",
        "pipeline",
        "writable",
    )

    def __init__(self, owner: TcpOwner, pipeline: Pipeline) -> None:
        self.pipeline: Pipeline = pipeline
        self.writable: bool = True
        self._wants_reading = True
        self._yielding = False
        self._reading = True
        self._received = 0
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._reads_once = isinstance(self._loop, asyncio.BaseEventLoop)  # in a turn

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Report to the owner, which may not want the connection any more."""
        self._transport = cast(asyncio.Transport, transport)
        self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Receive bytes; their messages are delivered within this call."""
        try:
            self._owner.written = False
            self.pipeline.receive_data(data, self._loop.time())
            if not self._reads_once:
                self._take_turns(len(data))
        except BaseException as error:
            self._owner.failed(error)
            raise
        self._owner.drain()

    def _take_turns(self, size: int) -> None:
        self._received += size
        if self._received > _FAIR_SHARE and not self._yielding:
            self._yielding = True
            self._read()
            self._loop.call_soon(self._yielded)

    def _yielded(self) -> None:
        self._received, self._yielding = 0, False
        self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the pipeline how the connection ended."""
        try:
            if exc is None:
                self.pipeline.receive_data(b"", self._loop.time())
            else:
                if rest := unread(self._transport):
                    self.pipeline.receive_data(rest, self._loop.time())
                self.pipeline.transport_lost(reason_of(exc), self._loop.time())
        except BaseException as error:
            self._owner.failed(error)
            raise
        self._owner.drain()

    def pause_writing(self) -> None:
        """Write no more: the peer is too slow."""
        self.writable = False

    def resume_writing(self) -> None:
        """Write on: the peer has caught up."""
        self.writable = True
        self._owner.drain()

    def write(self) -> None:
        """Write the bytes that are to be sent, unless the peer is too slow."""
        if self.writable and (data := self.pipeline.data_to_send()):
            self._transport.write(data)

    def read(self, wanted: bool) -> None:
        """Pause or resume reading."""
        if wanted is not self._wants_reading:
            self._wants_reading = wanted
            self._read()

    def _read(self) -> None:
        reading = self._wants_reading and not self._yielding
        if reading is not self._reading and not self._transport.is_closing():
            self._reading = reading
            if reading:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def close(self) -> None:
        """Send a close frame if the session wants that, and close; never wait for a peer that does not read."""
        if self.writable and (data := self.pipeline.close_notify()):
            self._transport.write(data)
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()
