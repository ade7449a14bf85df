"""The tasks of one transport under structured concurrency: one opens it and reads, the other writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any

from limpet import Dial
from limpet._clients.driver import Owner
from limpet._structured.backend import Backend, Nursery
from limpet._structured.tcp import TcpConnection
from limpet._transports.held import Signal
from limpet._transports.messages import AsyncMessageConnection
from limpet._transports.route import Route

CLOSE_TIMEOUT = 1.0
"""Seconds that a close frame may take on a connection that is not wanted any more."""


class TransportTasks:
    """One transport, from the dial to its end.

    Attributes:
        writable: no message waits for the peer.
    """

    def __init__(self, backend: Backend, route: Route, dial: Dial, owner: Owner) -> None:
        self.writable: bool = True
        self._backend = backend
        self._route = route
        self._dial = dial
        self._owner = owner
        self._session = owner.session
        self._scope = backend.scope(math.inf, False)
        self._nursery: Nursery  # of what is held open for the transport
        self._output, self._readable = backend.signal(), backend.signal()
        self._connection: AsyncMessageConnection | TcpConnection
        if route.connect is None:
            self._connection = TcpConnection(backend, route, self._session, dial, owner.drain)
        else:
            self._connection = AsyncMessageConnection(
                self._session, dial, backend.now, route.connect, self, owner.drain
            )

    # ---- For the driver

    def write(self) -> None:
        """Wake the writer."""
        self._output.set()

    def read(self, wanted: bool) -> None:
        """Resume reading; the reader itself pauses."""
        if wanted:
            self._readable.set()

    def cancel(self) -> None:
        """End the tasks: the transport is not wanted any more."""
        self._scope.cancel()

    async def run(self) -> None:
        """Open the transport, read and write, and close it when it is not wanted any more."""
        async with self._backend.nursery() as self._nursery:
            await self._run()
        self._owner.drain()

    async def _run(self) -> None:
        dial, connection = self._dial, self._connection
        with self._scope:
            if dial.url is None:
                answer = await self._route.ask()
                self._route.tell(self._session, dial, answer, self._backend.now())
            try:
                if dial.wanted and dial.url is not None and await connection.open():
                    async with self._backend.nursery() as nursery:
                        nursery.start_soon(self._write)
                        await self._read()
            finally:
                if isinstance(connection, TcpConnection):
                    with self._backend.scope(self._backend.now() + CLOSE_TIMEOUT, True):
                        await connection.close()
                else:
                    await connection.close()

    # ---- For a connection of messages

    def signal(self) -> Signal:
        """Return a new event."""
        return self._backend.signal()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run ``work`` in a task that nothing else cancels; return a function that cancels it."""
        scope = self._backend.scope(math.inf, False)

        async def run() -> None:
            with scope:
                await work()

        self._nursery.start_soon(run)
        return scope.cancel

    async def finish(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``work`` at most for ``close_timeout``, even where the caller is cancelled."""
        with self._backend.scope(self._backend.now() + self._session.options.close_timeout, True):
            await work()

    # ---- The two directions

    async def _read(self) -> None:
        dial, connection, session, drain = self._dial, self._connection, self._session, self._owner.drain
        drain()
        while dial.wanted:
            while not session.reading:
                self._readable = self._backend.signal()
                await self._readable.wait()
            await connection.receive()
            drain()  # which cancels both tasks once the transport is not wanted any more

    async def _write(self) -> None:
        dial, connection, owner = self._dial, self._connection, self._owner
        while dial.wanted:
            self._output = self._backend.signal()
            self.writable = False
            try:
                sent = await connection.send()
            finally:
                self.writable = True
                owner.wake_senders()
            if not dial.wanted:
                owner.drain()  # which cancels the reader, whatever it waits for
            elif not sent:
                await self._output.wait()
