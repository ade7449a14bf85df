"""Async callbacks under structured concurrency: one task awaits what all of them return."""

from __future__ import annotations

import math

from limpet import Session, State
from limpet._clients.callbacks import CallbackQueue
from limpet._structured.backend import Backend, Nursery


class CallbackTask:
    """The task that awaits what async callbacks return, from the first one until the client stops.

    A second task looks after it, as long as one callback holds up others.
    """

    __slots__ = ("_backend", "_nursery", "_over", "_queue", "_running", "_session", "_wakeup", "_watching")

    def __init__(self, backend: Backend, session: Session, queue: CallbackQueue) -> None:
        self._backend = backend
        self._session = session
        self._queue = queue
        self._nursery: Nursery | None = None
        self._running = self._watching = False
        self._wakeup, self._over = backend.signal(), backend.signal()

    def begin(self, nursery: Nursery) -> None:
        """Use ``nursery`` for the tasks from now on, until :meth:`end`."""
        self._nursery = nursery
        self._running = self._watching = False
        self._over = self._backend.signal()

    def end(self) -> None:
        """Start no task any more: the nursery has ended."""
        self._nursery = None

    def wake(self) -> None:
        """Wake the task, or begin it: the queue is busy, or the client has stopped."""
        self._wakeup.set()
        if self._nursery is None:
            return
        if self._queue.busy and not self._running:
            self._nursery.start_soon(self._run)
            self._running = True
        if self._queue.held_up and not self._watching:
            self._nursery.start_soon(self._watch)
            self._watching = True

    async def _run(self) -> None:
        # Here and below: else a callback would begin that cannot end.
        await self._backend.checkpoint_if_cancelled()
        while self._queue.busy or self._session.state is not State.STOPPED:
            self._wakeup = self._backend.signal()
            if not self._queue.busy:
                await self._wakeup.wait()
                await self._backend.waited()
            await self._queue.run()
        self._over.set()

    async def _watch(self) -> None:
        while (again := self._queue.look(self._backend.now())) < math.inf:
            with self._backend.scope(again, False):
                await self._over.wait()
        self._watching = False
