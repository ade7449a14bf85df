"""Async callbacks on asyncio: one task awaits what all of them return."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from limpet import Session, State
from limpet._clients.cancellation import stray
from limpet._clients.delivery import Delivery


class CallbackTask:
    """The task that awaits what async callbacks return, from the first one until the client stops.

    Args:
        raise_later: called with an exception that is meant to end the program.
    """

    def __init__(self, session: Session, delivery: Delivery, raise_later: Callable[[BaseException], None]) -> None:
        self._session = session
        self._delivery = delivery
        self._raise_later = raise_later
        self.task: asyncio.Task[None] | None = None
        self._work: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Go on: there is something to await, or the client has stopped."""
        if self._delivery.busy and (self.task is None or self.task.done()):
            self.task = asyncio.get_running_loop().create_task(self._run())
            self.task.add_done_callback(self._ended)
        elif self._work is not None and not self._work.done():
            self._work.set_result(None)

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        """Give up a task of another loop than ``loop``: that was closed before the task had ended."""
        if self.task is not None and self.task.get_loop() is not loop:
            self.task = self._work = None
            self._delivery.drop()

    async def _run(self) -> None:
        while True:
            try:
                await self._delivery.run(stray)
                if self._session.state is State.STOPPED:
                    return
                self._work = asyncio.get_running_loop().create_future()
                await self._work
            except (asyncio.CancelledError, GeneratorExit):
                self._delivery.drop()  # the event loop ends; there may be another
                raise
            except BaseException as error:  # noqa: BLE001 - raised elsewhere; the events behind it go on in this loop
                self._delivery.skip_awaited()
                self._raise_later(error)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and task is self.task:
            self._delivery.drop()  # also for a task that had not begun
