"""The tasks of one transport under structured concurrency: one opens it and reads, the other writes."""

from __future__ import annotations

import math
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from limpet import Dial
from limpet._clients.driver import Owner
from limpet._structured.backend import Backend, Nursery, Scope
from limpet._structured.tcp import TcpConnection
from limpet._transports.held import Signal
from limpet._transports.messages import AsyncMessageConnection
from limpet._transports.route import Route

CLOSE_TIMEOUT = 1.0
"""Seconds that a close frame may take on a connection that is not wanted any more."""


class TransportOwner(Owner, Protocol):
    """The driver, which is told how the tasks of a transport end."""

    def ended(self, transport: TransportTasks) -> None:
        """Note that the tasks of ``transport`` have ended."""
        ...

    def give_up(self) -> None:
        """Stop the session and all transports: one of them has failed."""
        ...

    def writer_waits(self) -> None:
        """Call :meth:`TransportTasks.retire` after a while, and again as long as it returns True."""
        ...


class TransportTasks:
    """One transport, from the dial to its end.

    Attributes:
        writable: no message waits for the peer.
    """

    __slots__ = (
        "_active",
        "_backend",
        "_connection",
        "_dial",
        "_nursery",
        "_output",
        "_owner",
        "_readable",
        "_retired",
        "_route",
        "_scope",
        "_session",
        "_writing",
        "writable",
    )

    def __init__(self, backend: Backend, route: Route, dial: Dial, owner: TransportOwner) -> None:
        self.writable: bool = True
        self._backend = backend
        self._route = route
        self._dial = dial
        self._owner = owner
        self._session = owner.session
        self._scope: Scope | None = None  # of opening, reading and writing
        self._nursery: Nursery | None = None  # shielded: also of what is held open for the transport
        self._output: Signal | None = None  # for the writer
        self._readable: Signal | None = None  # for the reader, while it pauses
        self._writing = False  # the writer is there
        self._active = self._retired = False  # the writer has sent something of late; it is to end
        self._connection: AsyncMessageConnection | TcpConnection
        if route.connect is None:
            self._connection = TcpConnection(backend, route, self._session, dial, owner.drain)
        else:
            self._connection = AsyncMessageConnection(
                self._session, dial, backend.now, route.connect, self, owner.drain
            )

    # ---- For the driver

    def write(self) -> None:
        """Send now, for a client that does nothing else at the moment; a writer is needed for what has to wait."""
        if self._writing:
            self._wake_writer()
        elif self._nursery is not None and isinstance(self._connection, TcpConnection) and self._connection.send_now():
            self._begin_writer(self._nursery)

    def write_soon(self) -> None:
        """Wake the writer, or begin it if there is something to send: it sends the requests of a turn together."""
        if self._writing:
            self._wake_writer()
        elif self._nursery is not None and isinstance(self._connection, TcpConnection) and self._connection.collect():
            self._begin_writer(self._nursery)

    def _begin_writer(self, nursery: Nursery) -> None:
        """Begin the task that writes: an idle connection has none."""
        self._writing, self._retired = True, False
        nursery.start_soon(self._write)

    def read(self, wanted: bool) -> None:
        """Resume reading; the reader itself pauses."""
        if wanted and self._readable is not None:
            self._readable.set()

    def retire(self) -> bool:
        """End the writer of an idle connection; return False if there is none to be looked after any more."""
        if self._active and self._writing:
            self._active = False
            return True
        if isinstance(self._connection, TcpConnection):
            self._retired = True
            self._wake_writer()
        return False

    def _wake_writer(self) -> None:
        if self._output is not None:
            self._output.set()

    def cancel(self) -> None:
        """End the tasks: the transport is not wanted any more."""
        if self._scope is not None:
            self._scope.cancel()

    def give_up(self) -> None:
        """End the tasks at once, also those that hold something open for the transport."""
        if self._nursery is not None:
            self._nursery.cancel_scope.cancel()

    async def run(self) -> None:
        """Open the transport, read and write, and close it when it is not wanted any more."""
        try:
            try:
                if isinstance(self._connection, TcpConnection):
                    await self._run_tcp(self._connection)
                else:
                    await self._run_messages(self._connection)
            finally:
                self._owner.ended(self)
            self._owner.drain()
        except BaseException:
            self._owner.give_up()
            raise

    async def _run_tcp(self, connection: TcpConnection) -> None:
        try:
            async with self._backend.nursery() as nursery:
                nursery.cancel_scope.shield = True
                self._nursery, self._scope = nursery, nursery.cancel_scope  # a scope of its own would take 0.5 KiB
                if await self._open():
                    await self._read()  # and its drain begins the writer, for the handshake
        finally:
            self._nursery = None
            with self._backend.scope(self._backend.now() + CLOSE_TIMEOUT, True):
                await connection.close()

    async def _run_messages(self, connection: AsyncMessageConnection) -> None:
        async with self._backend.nursery() as held:
            held.cancel_scope.shield = True
            self._nursery = held
            with self._backend.scope(math.inf, False) as self._scope:
                try:
                    if await self._open():
                        async with self._backend.nursery() as nursery:
                            self._writing = True
                            nursery.start_soon(self._write)
                            await self._read()
                finally:
                    await connection.close()

    async def _open(self) -> bool:
        """Open the transport; return whether it is open and wanted."""
        dial = self._dial
        if dial.url is None and dial.wanted:
            answer = await self._route.ask()
            self._route.tell(self._session, dial, answer, self._backend.now())
        return dial.wanted and dial.url is not None and await self._connection.open()

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

        assert self._nursery is not None
        self._nursery.start_soon(run)
        return scope.cancel

    async def finish(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``work`` at most for ``close_timeout``, even where the caller is cancelled."""
        with self._backend.scope(self._backend.now() + self._session.options.close_timeout, True):
            await work()

    # ---- The two directions

    async def _read(self) -> None:
        dial, connection, session, owner = self._dial, self._connection, self._session, self._owner
        owner.drain()
        while dial.wanted:
            while not session.reading:
                self._readable = self._backend.signal()
                await self._readable.wait()
                self._readable = None
            await connection.receive()
            owner.drain()  # which cancels both tasks once the transport is not wanted any more

    async def _write(self) -> None:
        dial, connection, owner = self._dial, self._connection, self._owner
        while dial.wanted:
            self._output = output = self._backend.signal()
            self.writable = False
            try:
                sent = await connection.send()
            finally:
                self.writable = True
                owner.wake_senders()
            if not dial.wanted:
                owner.drain()  # which cancels the reader, whatever it waits for
            elif not sent:
                if self._retired:
                    break  # nothing has come since: there was no wait
                owner.writer_waits()
                await output.wait()
            else:
                self._active = True
        self._writing, self._output = False, None
