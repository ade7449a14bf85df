"""A transport of bytes in a loop with structured concurrency; those of messages are in ``_channels``."""

from __future__ import annotations

from contextlib import suppress

from limpet import Dial, Session
from limpet._structured.backend import ByteStream, Kit
from limpet._transports.pipeline import Wire
from limpet._transports.route import Route

_CHUNK = 256 * 1024
"""Bytes to read at a time, as asyncio does: anyio copies what is left of a larger piece."""


class ByteChannel:
    """One TCP connection and the session it serves."""

    def __init__(self, kit: Kit, session: Session, dial: Dial) -> None:
        self._kit = kit
        self._session = session
        self.dial: Dial = dial
        self._stream: ByteStream | None = None
        self._halfway = False  # a piece was begun and not sent to its end
        self._wire: Wire | None = None

    async def open(self, route: Route) -> bool:
        """Open the transport; return whether it is open and wanted."""
        self._wire = route.wire(self._session, self.dial)
        try:
            self._stream = await self._kit.dial(*self._wire.address())
        except (OSError, ValueError) as error:
            self._wire.failed(error, self._kit.now())
            return False
        return self.dial.wanted

    async def receive(self) -> None:
        """Receive some bytes, or the end."""
        assert self._stream is not None
        assert self._wire is not None
        try:
            data = await self._stream.receive(_CHUNK)
        except self._kit.broken as error:
            self._wire.transport_lost(str(error) or type(error).__name__, self._kit.now())
        else:
            self._wire.receive_data(data, self._kit.now())

    async def send(self) -> bool:
        """Send what there is to send; return whether there was anything."""
        assert self._stream is not None
        assert self._wire is not None
        if data := self._wire.data_to_send():
            self._halfway = True
            try:
                await self._stream.send(data)
                self._halfway = False
            except self._kit.broken as error:
                self._wire.transport_lost(str(error) or type(error).__name__, self._kit.now())
        return bool(data)

    async def close(self) -> None:
        """Say goodbye if the session wishes that, and close."""
        if self._stream is None or self._wire is None:
            return
        with suppress(*self._kit.broken):  # it may be gone already
            try:
                # In the midst of a frame, a close frame would be a part of its payload.
                if not self._halfway and (data := self._wire.close_notify()):
                    await self._stream.send(data)
            finally:
                await self._stream.aclose()
