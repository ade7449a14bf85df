"""A message transport on asyncio, run by two tasks, so that the driver never waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Protocol

from limpet._clients.driver import Owner
from limpet._transports.messages import AsyncMessageConnection


class MessageOwner(Owner, Protocol):
    """The driver, which runs coroutines in the background.

    Attributes:
        written: see :class:`limpet.asyncio.driver.Driver`.
    """

    written: bool

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run ``work`` in the background."""
        ...


class MessageHome:
    """Runs tasks for a connection of messages; see :class:`limpet._transports.held.Home`."""

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]], close_timeout: float) -> None:
        self._spawn = spawn
        self._close_timeout = close_timeout

    def signal(self) -> asyncio.Event:
        """Return a new event."""
        return asyncio.Event()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        """Run ``work`` in a task of its own; return a function that cancels it."""
        return self._spawn(work()).cancel

    async def finish(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run ``work`` in a task of its own, at most for ``close_timeout``, and wait for its end."""
        await asyncio.shield(self._spawn(self._limited(work)))

    async def _limited(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._close_timeout):
                await work()


class MessageTasks:
    """An open message transport, a task that reads from it and a task that writes to it."""

    def __init__(self, connection: AsyncMessageConnection, owner: MessageOwner) -> None:
        self.writable: bool = True
        self._connection = connection
        self._owner = owner
        self._output = asyncio.Event()
        self._readable = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._run(self._read)), loop.create_task(self._run(self._write))]

    def write(self) -> None:
        """Wake the writer."""
        self._output.set()

    def read(self, wanted: bool) -> None:
        """Pause or resume reading."""
        if wanted:
            self._readable.set()
        else:
            self._readable.clear()

    def close(self) -> None:
        """Close the transport, in the background."""
        for task in self._tasks:
            task.cancel()
        self._owner.spawn(self._close())

    async def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            self._owner.failed(error)
            raise

    async def _read(self) -> None:
        while self._connection.dial.wanted:
            await self._readable.wait()
            await self._connection.receive()
            self._owner.written = False
            self._owner.drain()

    async def _write(self) -> None:
        while self._connection.dial.wanted:
            self._output.clear()
            self.writable = False
            sent = await self._connection.send()
            self.writable = True
            if not sent and self._connection.dial.wanted:
                await self._output.wait()
            self._owner.drain()

    async def _close(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()
