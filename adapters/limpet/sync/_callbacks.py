"""The thread that calls callbacks."""

from __future__ import annotations

import logging
import math
import threading
from typing import Protocol

from limpet import Session, State
from limpet._clients.callbacks import CallbackQueue, Running

log: logging.Logger = logging.getLogger("limpet")

RETRY = 1.0
"""Seconds until the next attempt to start a thread that could not be started."""


class Home(Protocol):
    """The driver."""

    session: Session

    @property
    def lock(self) -> threading.RLock:
        """The lock that is held while the queue is touched; another one in a forked child."""
        ...

    def now(self) -> float:
        """Return the session's time."""
        ...


class CallbackThread:
    """Calls callbacks in a thread of its own, from the first event that has one until the client stops.

    Attributes:
        due: when to call :meth:`tend` at the latest: the thread could not be started, or one callback may hold up
            others.
    """

    __slots__ = (
        "_changed",
        "_home",
        "_look_at",
        "_queue",
        "_retry_at",
        "_thread",
        "due",
    )

    def __init__(self, queue: CallbackQueue, home: Home) -> None:
        self.due: float = math.inf
        self._retry_at = self._look_at = math.inf
        self._queue = queue
        self._home = home
        self._changed: threading.Condition | None = None  # made with a thread that waits for it: it takes 1.2 KiB
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have the events that wait handed to their callbacks (lock held)."""
        self._retry_at = math.inf
        if self._queue.waiting and self._thread is None:
            thread = threading.Thread(target=self._run, name="limpet-callbacks", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                log.error("callbacks have to wait for their thread, which is tried again in %g s: %s", RETRY, error)
                self._retry_at = self._home.now() + RETRY
            else:
                self._thread = thread
        if self._changed is not None:
            self._changed.notify_all()
        if self._look_at == math.inf and self._queue.held_up:
            self._look_at = self._queue.look(self._home.now())
        self.due = min(self._retry_at, self._look_at)

    def tend(self, now: float) -> None:
        """Try again to start the thread, and look whether one callback holds up others, if it is time (lock held)."""
        if now >= self._look_at:
            self._look_at = self._queue.look(now)
            self.due = min(self._retry_at, self._look_at)
        if now >= self._retry_at:
            self.wake()

    def watch(self) -> None:
        """Look from now on in a thread of its own, as long as there is cause: the driver's thread ends (lock held)."""
        if self._queue.held_up:
            try:
                threading.Thread(target=self._watch, name="limpet-watch", daemon=True).start()
            except RuntimeError as error:
                log.debug("no thread looks after the callbacks that are left: %s", error)

    def _watch(self) -> None:
        with self._home.lock:
            while (again := self._queue.look(self._home.now())) < math.inf:
                self._change().wait(again - self._home.now())

    def _change(self) -> threading.Condition:
        """Return the condition: there are events for callbacks, or the thread has ended (lock held)."""
        if self._changed is None:
            self._changed = threading.Condition(self._home.lock)
        return self._changed

    def after_fork(self) -> None:
        """Forget the thread, which is the parent's, and the lock, which has another one in its place."""
        self._thread = self._changed = None

    def _run(self) -> None:
        while True:
            with self._home.lock:
                while (queued := self._queue.take()) is None:
                    if self._home.session.state is State.STOPPED:
                        self._thread = None
                        self._change().notify_all()
                        return
                    self._change().wait()
            event, callbacks = queued
            for at, callback in enumerate(callbacks, 1):
                self._queue.running = Running(callback, event, callbacks[at:])
                try:
                    callback(event)
                except BaseException:  # sys.exit() in a callback ends no program, and must not end the callbacks
                    log.exception("a callback for %s failed", type(event).__name__)
            self._queue.running = None
