"""The two tasks of an open transport under structured concurrency: one reads, one writes."""

from __future__ import annotations

from collections.abc import Callable

from limpet import Session
from limpet._structured.backend import Kit
from limpet._structured.tcp import ByteChannel
from limpet._transports.messages import MessageChannel


class TransportTasks:
    """An open transport with a task that reads from it and a task that writes to it.

    Args:
        drain: called after every call to the session.
        wake_senders: called whenever the transport has become writable.

    Attributes:
        writable: no message waits for the peer.
    """

    def __init__(
        self,
        kit: Kit,
        session: Session,
        channel: MessageChannel | ByteChannel,
        drain: Callable[[], None],
        wake_senders: Callable[[], None],
    ) -> None:
        self.writable: bool = True
        self._kit = kit
        self._session = session
        self._channel = channel
        self._drain = drain
        self._wake_senders = wake_senders
        self._output, self._readable = kit.flag(), kit.flag()

    def write(self) -> None:
        """Wake the writer."""
        self._output.set()

    def read(self, wanted: bool) -> None:
        """Resume reading; the reader itself pauses."""
        if wanted:
            self._readable.set()

    async def run(self) -> None:
        """Read and write until the transport is not wanted any more."""
        async with self._kit.nursery() as nursery:
            nursery.start_soon(self._write)
            await self._read()

    async def _read(self) -> None:
        self._drain()
        dial = self._channel.dial
        while dial.wanted:
            while not self._session.reading:
                self._readable = self._kit.flag()
                await self._readable.wait()
            await self._channel.receive()
            self._drain()  # which cancels both tasks once the transport is not wanted any more

    async def _write(self) -> None:
        dial = self._channel.dial
        while dial.wanted:
            self._output = self._kit.flag()
            self.writable = False
            try:
                sent = await self._channel.send()
            finally:
                self.writable = True
                self._wake_senders()
            if not dial.wanted:
                self._drain()  # which cancels the reader, whatever it waits for
            elif not sent:
                await self._output.wait()
