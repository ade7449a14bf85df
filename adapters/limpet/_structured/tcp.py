"""A TCP connection under structured concurrency."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from limpet import Dial, Session
from limpet._structured.backend import Backend, ByteStream
from limpet._transports.pipeline import Pipeline
from limpet._transports.route import Route
from limpet_core.text import reason_of

_CHUNK = 256 * 1024
"""Bytes to read at a time, as asyncio does: anyio copies what is left of a larger piece."""


class TcpConnection:
    """A TCP connection and the pipeline that makes messages of its bytes."""

    __slots__ = (
        "_backend",
        "_collected",
        "_dial",
        "_drain",
        "_halfway",
        "_pipeline",
        "_rest",
        "_route",
        "_session",
        "_stream",
    )

    def __init__(
        self, backend: Backend, route: Route, session: Session, dial: Dial, drain: Callable[[], object]
    ) -> None:
        self._backend = backend
        self._route = route
        self._session = session
        self._dial = dial
        self._drain = drain
        self._stream: ByteStream | None = None
        self._halfway = False  # a frame may have been sent in part
        self._collected = b""  # what :meth:`send` is to send first
        self._rest = False  # that is the rest of what the system did not take at once
        self._pipeline: Pipeline | None = None

    async def open(self) -> bool:
        """Connect; return whether the connection is open and wanted."""
        self._pipeline = self._route.pipeline(self._session, self._dial)
        try:
            self._stream = await self._backend.open_tcp(*self._pipeline.address())
        except Exception as error:  # noqa: BLE001 - a look-up or socket of the application's may raise anything
            self._pipeline.failed(error, self._backend.now())
            return False
        return self._dial.wanted

    async def receive(self) -> None:
        """Receive some bytes, or the end."""
        assert self._stream is not None
        assert self._pipeline is not None
        try:
            data = await self._stream.receive(_CHUNK)
        except self._backend.broken as error:
            self._pipeline.transport_lost(reason_of(error), self._backend.now())
        else:
            self._pipeline.receive_data(data, self._backend.now())

    def collect(self) -> bool:
        """Collect the bytes that are to be sent; return whether :meth:`send` has to be called for them."""
        if self._stream is not None and self._pipeline is not None:
            self._collected += self._pipeline.data_to_send()
        return bool(self._collected)

    def send_now(self) -> bool:
        """Send what the system takes at once, while nothing is sent; return whether :meth:`send` has to be called."""
        stream, pipeline = self._stream, self._pipeline
        if stream is None or pipeline is None or not (data := pipeline.data_to_send()):
            return False
        try:
            rest = stream.send_now(data)
        except self._backend.broken as error:
            pipeline.send_failed(reason_of(error), self._backend.now())
            return False
        if rest is None:
            return False
        self._collected = rest
        self._rest = True
        self._halfway = len(rest) < len(data)
        return True

    async def send(self) -> bool:
        """Send the bytes that are to be sent; return whether there were any."""
        assert self._stream is not None
        assert self._pipeline is not None
        data = self._collected + self._pipeline.data_to_send()
        sending = bool(data) or self._rest
        if sending:
            self._collected, self._rest = b"", False
            self._halfway = True
            try:
                await self._stream.send(data)
                self._halfway = False
            except self._backend.broken as error:
                self._pipeline.send_failed(reason_of(error), self._backend.now())
                self._drain()  # the session's deadline is another now
        return sending

    async def close(self) -> None:
        """Send a close frame if the session wants that, and close."""
        if self._stream is None or self._pipeline is None:
            return
        with suppress(*self._backend.broken):  # it may be gone already
            try:
                # Inside a frame, a close frame would be a part of its payload.
                if not self._halfway and (data := self._collected + self._pipeline.close_notify()):
                    await self._stream.send(data)
            finally:
                await self._stream.aclose()
