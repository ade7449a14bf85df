"""Async callbacks on asyncio: one task awaits what all of them return."""

from __future__ import annotations

import asyncio
import math

from limpet import Session, State
from limpet._clients.callbacks import CallbackQueue


class CallbackTask:
    """The task that awaits what async callbacks return, from the first one until the client stops.

    Attributes:
        task: the task; None before the first async callback.
    """

    def __init__(self, session: Session, queue: CallbackQueue) -> None:
        self.task: asyncio.Task[None] | None = None
        self._session = session
        self._queue = queue
        self._wakeup: asyncio.Future[None] | None = None
        self._watch: asyncio.TimerHandle | None = None  # as long as one callback may hold up others

    def wake(self) -> None:
        """Wake the task, or begin it: the queue is busy, or the client has stopped."""
        if self._queue.busy and (self.task is None or self.task.done()):
            self.task = asyncio.get_running_loop().create_task(self._run())
            self.task.add_done_callback(self._ended)
        elif self._wakeup is not None and not self._wakeup.done():
            self._wakeup.set_result(None)
        if self._watch is None and self._queue.held_up:
            self._look()

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        again = self._queue.look(loop.time())
        self._watch = loop.call_at(again, self._look) if again < math.inf else None

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up a task of another loop than ``loop``, which was closed before the task had ended."""
        if self.task is not None and self.task.get_loop() is not loop:
            self.task = self._wakeup = self._watch = None
            self._queue.drop()

    async def _run(self) -> None:
        while True:
            try:
                await self._queue.run()
                if self._session.state is State.STOPPED:
                    return
                self._wakeup = asyncio.get_running_loop().create_future()
                await self._wakeup
            except (asyncio.CancelledError, GeneratorExit):
                self._queue.drop()  # the event loop ends; there may be another
                raise
            except BaseException as error:  # noqa: BLE001 - raised elsewhere; the queued events go on in this loop
                self._queue.resume()
                self._queue.raise_later(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if self._watch is not None and task is self.task:
            self._watch.cancel()
            self._watch = None
        if task.cancelled() and task is self.task:
            self._queue.drop()  # also for a task that had not begun
