"""The thread that calls callbacks."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

from limpet import Session, State
from limpet._clients.callbacks import CallbackQueue

log: logging.Logger = logging.getLogger("limpet")

RETRY = 1.0
"""Seconds until the next attempt to start a thread that could not be started."""


class CallbackThread:
    """Calls callbacks in a thread of its own, from the first event that has one until the client stops.

    Args:
        lock: the driver's, held while the queue is touched.
        now: the session's clock.

    Attributes:
        retry_at: when to call :meth:`wake` again, since the thread could not be started.
    """

    def __init__(self, queue: CallbackQueue, session: Session, lock: threading.RLock, now: Callable[[], float]) -> None:
        self.retry_at: float = math.inf
        self._queue = queue
        self._session = session
        self._now = now
        self._delivered = threading.Condition(lock)
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have the events that wait handed to their callbacks (lock held)."""
        self.retry_at = math.inf
        if self._queue.waiting and self._thread is None:
            thread = threading.Thread(target=self._run, name="limpet-callbacks", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                log.error("callbacks have to wait for their thread, which is tried again in %g s: %s", RETRY, error)
                self.retry_at = self._now() + RETRY
            else:
                self._thread = thread
        self._delivered.notify()

    def after_fork(self, lock: threading.RLock) -> None:
        """Forget the thread, which is the parent's."""
        self._thread = None
        self._delivered = threading.Condition(lock)

    def _run(self) -> None:
        while True:
            with self._delivered:
                while (queued := self._queue.take()) is None:
                    if self._session.state is State.STOPPED:
                        self._thread = None
                        return
                    self._delivered.wait()
            event, callbacks = queued
            for callback in callbacks:
                try:
                    callback(event)
                except BaseException:  # sys.exit() in a callback ends no program, and must not end the callbacks
                    log.exception("a callback for %s failed", type(event).__name__)
