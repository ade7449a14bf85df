"""The thread of a driver, from its start to its end, any number of times."""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from limpet import ClientStopped, ConnectError
from limpet.sync._calls import Call
from limpet.sync._mailbox import Mailbox
from limpet.sync._unacked import UnackedQueue

log: logging.Logger = logging.getLogger("limpet")

_EXIT_TIMEOUT = 1.0
"""Seconds that the end of the process may wait for messages that were accepted."""

_running: set[Worker] = set()


@atexit.register
def _finish() -> None:
    for worker in _running.copy():
        worker.finish()


class Job(Protocol):
    """The work of the thread between a start and the end of all that the start has begun.

    Attributes:
        alive: whether a start has begun something that is not over yet.
        unacked: completes calls when their messages are written.
    """

    alive: bool
    unacked: UnackedQueue

    def prepare(self) -> None:
        """Start the threads that a start needs besides the worker's."""
        ...

    def serve(self) -> None:
        """Keep the session going until it has stopped."""
        ...

    def fail(self, error: BaseException) -> None:
        """Stop the session, since :meth:`serve` has raised ``error``."""
        ...

    def end(self) -> None:
        """Wait for transports to close, and release what the start has acquired."""
        ...


class Worker:
    """A thread that does the work of a mailbox, as long as its job is alive or there is work.

    Attributes:
        lock: held by all threads of the client while they work; never by one of the application's.
        mailbox: the work.
        thread: the thread, if it is there.
        fault: the exception that has ended another thread of the client.
        waiting_for_end: calls that get True when the thread ends, or False when the job was started again.
    """

    __slots__ = (
        "__weakref__",
        "_ended",
        "_job",
        "_process",
        "fault",
        "lock",
        "mailbox",
        "thread",
        "waiting_for_end",
    )

    def __init__(self, job: Job) -> None:
        self.lock: threading.RLock = threading.RLock()
        self.mailbox: Mailbox = Mailbox()
        self.thread: threading.Thread | None = None
        self.waiting_for_end: tuple[Call, ...] = ()
        self._job = job
        self._process = 0
        self._ended: threading.Thread | None = None  # kept: Python's bookkeeping of a dropped one can be interrupted
        self.fault: BaseException | None = None

    # ---- For any thread

    @property
    def running(self) -> bool:
        """Whether the thread is there."""
        return self.thread is not None

    @property
    def inherited(self) -> bool:
        """Whether the thread is that of the parent of this forked process."""
        return self.thread is not None and self._process != os.getpid()

    def inside(self) -> bool:
        """Return whether the calling thread is one of the client's, amid its work."""
        return self.lock._is_owned()  # type: ignore[attr-defined, no-any-return]

    def submit(self, call: Call, work: Callable[[Call], None]) -> None:
        """Have the thread do ``work(call)``, which gives ``call`` its result; without a thread it is refused."""
        self.mailbox.post(partial(_do_once, call, work))
        if self.thread is None and call.claim():  # it has ended, and looks into the mailbox no more
            call.set_exception(ClientStopped("the client is stopped"))

    def finish(self) -> None:
        """Wait at the end of the process until the messages that were accepted are written."""
        if self.running and not self.inherited:
            call = Call()
            self.submit(call, self._job.unacked.complete_when_written)
            call.wait(_EXIT_TIMEOUT)

    def spawn(self, name: str, work: Callable[..., None], *args: object) -> None:
        """Start a thread of the client that nothing waits for; a fault in it ends the job.

        Raises:
            RuntimeError: the system has no threads left.
        """

        def run() -> None:
            try:
                work(*args)
            except BaseException as error:
                with self.lock:
                    if self.thread is None:
                        raise
                    self.fault = error
                    self.mailbox.wake()

        threading.Thread(target=run, name=name, daemon=True).start()

    def after_fork(self) -> None:
        """In a forked child: replace the lock and the mailbox's contents, which threads of the parent have left."""
        self.lock = threading.RLock()
        self.mailbox.after_fork()

    # ---- The thread

    def boot(self, call: Call, begin: Callable[[Call], None]) -> None:
        """Start the thread if there is none, and have ``begin(call)`` done; for a thread that nothing interrupts.

        It is done here where the thread is new: what its stack was once used for stays in memory as long as the thread.
        For the same reason the other thread comes first: it gets a stack that is left from an earlier one.
        """
        with self.lock:
            new = self.thread is None
            if new:
                try:
                    self._process = os.getpid()
                    self._job.prepare()
                    self.thread = threading.Thread(target=self._run, name="limpet", daemon=True)
                    self.thread.start()
                    _running.add(self)
                except BaseException as error:  # noqa: BLE001 - raised in the thread that starts
                    self.thread = None
                    if call.claim():
                        call.set_exception(cannot_start(error))
                    self.mailbox.do_all()  # of threads that saw a thread for a moment
                    self._job.unacked.complete_written()
                    return
            self.mailbox.post(partial(_do_once, call, begin))
            if new:
                self.mailbox.do_all()

    def _run(self) -> None:
        ended: tuple[Call, ...] = ()
        while self._wait_for_start(ended):
            try:
                self._job.serve()
            except BaseException as error:  # noqa: BLE001 - it is told, and the end is for whoever waits
                _tell_fault("the client stops: its own thread has failed, which is a fault of Limpet's")
                try:
                    self._job.fail(error)
                except BaseException:  # noqa: BLE001 - as above
                    _tell_fault("not even the end goes as it should")
            finally:
                self._job.end()
                ended, self.waiting_for_end = self.waiting_for_end, ()

    def _wait_for_start(self, ended: tuple[Call, ...]) -> bool:
        """Do posted work until the job is alive; return False if the thread is to end.

        Args:
            ended: calls that have waited for the end of the job before. A stop of the next one, which may come with its
                start, goes on waiting.
        """
        with self.lock:
            while True:
                self.mailbox.do_all()
                self._job.unacked.complete_written()
                alive = self._job.alive
                if not alive and (self.mailbox or not self._leave()):
                    continue
                for call in ended:
                    call.set_result(not alive)
                return alive

    def _leave(self) -> bool:
        """Let the thread go; return False if it has to stay for work that came at the last moment."""
        thread = self.thread
        _running.discard(self)
        self._ended = thread
        self.thread = None  # before the last look: threads that come later see that there is none
        if self.mailbox:
            self.thread = thread
            _running.add(self)
            return False
        return True


def _tell_fault(text: str) -> None:
    """Log the exception that is handled. A handler of the log may be what has failed: threads wait for the end."""
    with suppress(Exception):
        log.exception(text)


def cannot_start(error: BaseException) -> ConnectError:
    return ConnectError(f"the client cannot start: {error}")


def do(call: Call, work: Callable[[Call], None]) -> None:
    """Do ``work(call)``; the call gets an exception of it."""
    try:
        work(call)
    except BaseException as error:  # noqa: BLE001 - raised in the thread of the call
        call.set_exception(error)


def _do_once(call: Call, work: Callable[[Call], None]) -> None:
    if call.claim():
        do(call, work)
