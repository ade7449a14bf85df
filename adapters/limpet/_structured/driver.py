"""Drives a session under structured concurrency: the driver that trio and anyio share.

The tasks of a client, and the cancellation that reaches each::

    run()                        of the application's task, which keeps time; cancelled, it cancels all but transports
    `- nursery of the run
       |- TransportTasks.run()   opens and reads, behind a shield, so that the client can close politely; cancelled when
       |  |                      the session does not want the transport any more
       |  |- its writer          cancelled together with it
       |  `- Held._run()         holds a context manager of connect open; ends when the transport is closed
       `- CallbackTask           awaits async callbacks, and a task that looks after it; cancelled at once

A cancelled run stops the session, for which it shields itself and keeps time on, and waits until the transports are
closed. It gives them up after ``close_timeout`` and one second more.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from threading import get_ident
from typing import Any, ClassVar

from limpet import ClientStopped, Connected, LocalProtocolError, Options, State, Stopped
from limpet._clients.async_driver import AsyncDriver
from limpet._structured.backend import Alarm, Backend, Fairness, Nursery, SignalWaiter
from limpet._structured.callbacks import CallbackTask
from limpet._structured.submitted import Submitted
from limpet._structured.tasks import CLOSE_TIMEOUT, TransportTasks
from limpet._transports.held import Signal
from limpet._transports.route import Route

_LINGER = 0.25
"""Seconds after which a writer that has nothing to do ends: its task takes 3 KiB, and to begin one takes longer than to
wake one."""


class StructuredDriver(AsyncDriver[TransportTasks]):
    """Keeps one session going in a nursery; see :meth:`run`.

    Attributes:
        backend: trio or anyio.
        fairness: checkpoints for callers that never have to wait.
    """

    __slots__ = (
        "_alarm",
        "_call_soon",
        "_callbacks",
        "_ended",
        "_escaped",
        "_first",
        "_nursery",
        "_over",
        "_retire_at",
        "_started",
        "_thread",
        "_transports",
        "fairness",
    )

    backend: ClassVar[Backend]

    def __init__(self, route: Route, options: Options | None) -> None:
        super().__init__(route, options)
        self.fairness: Fairness = Fairness(self.backend, self.session.options.max_pending_requests)
        self._callbacks: CallbackTask | None = None  # made with the first async callback
        self._started: Callable[[], None] | None = None  # to be called when the run is connected; not kept any longer
        self._nursery: Nursery | None = None  # of the run
        self._transports: list[TransportTasks] = []  # those whose tasks have not ended
        self._escaped: BaseException | None = None  # of a callback that was called outside the run's nursery
        self._alarm: Alarm  # of the run
        self._over = self.backend.signal()  # the session has stopped
        self._ended: Signal | None = None  # of the run that has not returned yet
        self._first: Connected | Stopped | None = None  # of the run
        self._retire_at = math.inf  # when to look whether the writer has nothing to do
        self._thread = 0  # of the run
        self._call_soon: Callable[[Callable[[], object]], object]

    # ---- For the client

    def now(self) -> float:
        """Return the session's time."""
        return self.backend.now()

    def check_home(self) -> None:
        """Raise LocalProtocolError in another event loop than that in which the client was started."""
        if get_ident() != self._thread and self.session.state is not State.STOPPED:
            raise LocalProtocolError(
                "the client was started in another event loop: use it there, and stop it there before that loop ends"
            )

    def waiter(self) -> SignalWaiter[Any]:
        """Return a new waiter."""
        self.check_home()
        return SignalWaiter(self.backend.event)

    def begin_request(self) -> tuple[SignalWaiter[Any], float]:
        """Return a waiter for a new request, and the session's time."""
        self.check_home()
        return SignalWaiter(self.backend.event), self.backend.now()

    def begin_submitted(self) -> tuple[Submitted, float]:
        """Return a future for a new request of ``client.submit``, and the session's time."""
        self.check_home()
        try:
            now = self.backend.now()
        except RuntimeError:
            raise self.outside() from None
        return Submitted(self.backend), now

    def flush(self) -> None:
        """Wake the writer, which sends all there is when it runs."""
        self._called_meanwhile = True
        if self._transport is not None:
            self._transport.write_soon()
            self._transport.read(self.session.reading)  # the answer must be read, though consumers are behind
        deadline = self.session.deadline
        if deadline < self._armed:
            self._arm(deadline)

    async def checkpoint(self) -> None:
        """Let other tasks run now and then, though the caller never has to wait."""
        self.check_home()
        await self.fairness.checkpoint()

    async def wait_writable(self, publish: bool) -> None:
        """Wait until :meth:`can_send` may have become true."""
        await self._sender(publish)

    async def until(self, deadline: float, wait: Callable[[], Awaitable[object]]) -> None:
        """Await ``wait()``, and cancel it at ``deadline``."""
        with self.backend.scope(deadline, False):
            await wait()

    def _in_loop(self) -> bool:
        if get_ident() != self._thread:
            return False
        try:
            self.backend.now()
        except RuntimeError:
            return False
        return True

    def _call_in_loop(self, function: Callable[[], object]) -> None:
        self._call_soon(function)

    async def stop(self) -> None:
        """Stop the session and wait until it has stopped."""
        if self.session.state is State.STOPPED:
            await self.backend.checkpoint()
        else:
            self.session.stop(self.now())
            self.drain()
            await self._over.wait()

    async def run(self, started: Callable[[], None], timeout: float | None = None) -> None:
        """Start the session and keep it going until it has stopped; call ``started`` when it is connected.

        Raises the error of a start that failed, or took more than ``timeout`` seconds. Cancelled, it closes the
        connection as :meth:`stop` does, and awaits no callbacks any more.
        """
        while self._ended is not None and self.session.state is State.STOPPED:
            await self._ended.wait()  # its end would be taken for the end of this run
        self._thread, self._call_soon = get_ident(), self.backend.call_soon()
        self.start_session(self.now(), timeout)
        self._alarm = self.backend.alarm()
        self._ended = ended = self.backend.signal()
        self._started = started
        del started
        try:
            await self._run()
        finally:
            self._started = None
            if self._callbacks is not None:
                self._callbacks.end()
            self._nursery = None
            self._end()
            self.delivery.callbacks.drop()  # the events that a cancellation has left
            self._ended = None
            ended.set()
            escaped, self._escaped = self._escaped, None
            if escaped is not None:
                raise escaped

    async def _run(self) -> None:
        self._first, self._over = None, self.backend.signal()
        async with self.backend.nursery() as nursery:
            if self._callbacks is not None:
                self._callbacks.begin(nursery)
            self._nursery = nursery
            try:
                self.drain()
                await self._keep_time()
            except BaseException as error:
                if not isinstance(error, self.backend.cancelled()):
                    self.give_up()
                raise
            finally:
                if self.session.state is not State.STOPPED:
                    await self._stop_politely()
        self._check_start()  # outside the nursery, which would wrap the error into a group

    def _check_start(self) -> None:
        """Raise the error of a start that failed."""
        if type(first := self._first) is Stopped:
            raise first.error or ClientStopped("the client was stopped while it started")

    async def _stop_politely(self) -> None:
        """Stop the session, whatever cancels the caller."""
        self._started = None
        with self.backend.scope(self.now() + self.session.options.close_timeout + CLOSE_TIMEOUT, True):
            self.session.stop(self.now())
            self.drain()
            await self._keep_time()
        if self.session.state is not State.STOPPED:
            self.give_up()  # a transport that cannot be closed

    def settle(self, event: Connected | Stopped) -> None:
        """Wake the run: the session is connected, or has stopped."""
        if self._first is None:
            self._first = event
        self._alarm.ring()
        if type(event) is Stopped:
            self._over.set()
            if self._callbacks is not None:
                self._callbacks.wake()

    def raise_later(self, error: BaseException) -> None:
        """Raise ``error``, which a callback raised, out of the run, which ends the client politely."""
        if self._nursery is not None:
            self._nursery.start_soon(_throw, error)
        elif self._escaped is None:
            self._escaped = error

    def give_up(self) -> None:
        """Stop the session at once, and end the tasks of all transports: one has failed, or cannot be closed."""
        try:
            self._end()
        finally:
            for transport in self._transports:
                transport.give_up()

    def writer_waits(self) -> None:
        """End the writer after a while, if it still waits then."""
        if self._retire_at == math.inf:
            self._retire_at = self.now() + _LINGER
            if self._retire_at < self._armed:
                self._arm(self._retire_at)

    def ended(self, transport: TransportTasks) -> None:
        """Forget a transport whose tasks have ended."""
        self._transports.remove(transport)

    def _end(self) -> None:
        """Stop the session, unless it has stopped: no task is left that would notice its end."""
        if self.session.state is not State.STOPPED:
            # A loop that ends cancels shielded tasks, too; or an exception has ended the nursery.
            self.session.stop(self.now())
            self.session.disconnected(self.now())  # the answer to its close is not waited for
            self.drain()

    async def _keep_time(self) -> None:
        """Wake the session when it is time, until it has stopped; tell the caller of the run once it is connected."""
        try:
            await self._wake_in_time()
        finally:
            self._alarm.close()
            self._armed = self._retire_at = math.inf
        if type(self._first) is Connected:  # and has stopped at once
            self._tell_started()

    async def _wake_in_time(self) -> None:
        while self.session.state is not State.STOPPED:
            self._armed = min(self.session.deadline, self._retire_at)
            if self._first is not None:
                self._tell_started()
            await self._alarm.wait(self._armed)
            now = self.now()
            if now >= self._retire_at:
                again = self._transport is not None and self._transport.retire()
                self._retire_at = now + _LINGER if again else math.inf
            if now >= self.session.deadline:
                self._wake_session(now)
                self.drain()

    def _tell_started(self) -> None:
        started, self._started = self._started, None
        if started is not None:
            started()

    # ---- Hooks of the drain

    def _redial(self) -> None:
        if self._nursery is None:
            return  # the run is about to begin, and drains at once
        if self._transport is not None:
            self._transport.cancel()
            self._transport = None
        self._dial = dial = self.session.dial
        if dial is not None:
            self._transport = transport = TransportTasks(self.backend, self._route, dial, self)
            self._nursery.start_soon(transport.run)
            self._transports.append(transport)

    def _run_callbacks(self) -> None:
        if self._callbacks is None:
            self._callbacks = CallbackTask(self.backend, self.session, self.delivery.callbacks)
            if self._nursery is not None:
                self._callbacks.begin(self._nursery)
        self._callbacks.wake()

    def _arm(self, deadline: float) -> None:
        self._armed = deadline
        self._alarm.advance(deadline)


async def _throw(error: BaseException) -> None:
    raise error
