"""Async callbacks under structured concurrency: one task awaits what all of them return."""

from __future__ import annotations

from limpet import Session, State
from limpet._clients.callbacks import CallbackQueue
from limpet._structured.backend import Backend, Nursery


class CallbackTask:
    """The task that awaits what async callbacks return, from the first one until the client stops.

    Attributes:
        nursery: for the task, as long as it can be started and is not.
    """

    def __init__(self, backend: Backend, session: Session, queue: CallbackQueue) -> None:
        self.nursery: Nursery | None = None
        self._backend = backend
        self._session = session
        self._queue = queue
        self._wakeup = backend.signal()

    def wake(self) -> None:
        """Wake the task, or begin it: the queue is busy, or the client has stopped."""
        self._wakeup.set()
        if self._queue.busy and self.nursery is not None:
            self.nursery.start_soon(self._run)
            self.nursery = None

    async def _run(self) -> None:
        await self._backend.checkpoint_if_cancelled()  # else a callback would begin that cannot end
        while self._queue.busy or self._session.state is not State.STOPPED:
            self._wakeup = self._backend.signal()
            if not self._queue.busy:
                await self._wakeup.wait()
            await self._queue.run()
