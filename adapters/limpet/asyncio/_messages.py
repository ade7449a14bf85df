"""A message transport on asyncio, run by two tasks, so that the driver never waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from limpet._transports.messages import AsyncMessageConnection


class MessageTasks:
    """An open message transport, a task that reads from it and a task that writes to it.

    Args:
        connection: an open one.
        drain: called after every call to the session.
        spawn: runs a coroutine in the background.
        failed: called with the exception that ended a task, if that was not cancelled.
    """

    def __init__(
        self,
        connection: AsyncMessageConnection,
        drain: Callable[[], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.writable: bool = True
        self._connection = connection
        self._drain = drain
        self._spawn = spawn
        self._failed = failed
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
        self._spawn(self._close())

    async def _run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            await work()
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:
            self._failed(error)
            raise

    async def _read(self) -> None:
        while self._connection.dial.wanted:
            await self._readable.wait()
            await self._connection.receive()
            self._drain()

    async def _write(self) -> None:
        while self._connection.dial.wanted:
            self._output.clear()
            self.writable = False
            sent = await self._connection.send()
            self.writable = True
            if not sent and self._connection.dial.wanted:
                await self._output.wait()
            self._drain()

    async def _close(self) -> None:
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._connection.close()
