"""Drives a session with an asyncio event loop: sockets, two timers at most, and no task per message."""

from __future__ import annotations

import asyncio
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Collection, Coroutine, Generator, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from limpet import (
    Acked,
    Connected,
    ConnectError,
    Dial,
    Event,
    InvocationError,
    Invoked,
    LocalProtocolError,
    Options,
    SendError,
    State,
    Stopped,
)
from limpet._clients.async_driver import AsyncDriver
from limpet._clients.waiters import answers
from limpet._transports.dial_asyncio import dial as dial_tcp
from limpet._transports.messages import AsyncMessageConnection, Connect, ConnectManager
from limpet._transports.route import Route
from limpet.asyncio._callbacks import CallbackTask
from limpet.asyncio._messages import MessageHome, MessageTasks
from limpet.asyncio._submitted import Submitted
from limpet.asyncio._tcp import TcpConnection
from limpet.asyncio._waiters import Waiter, settle
from limpet_core.nothing import NOTHING

log: logging.Logger = logging.getLogger("limpet")

_SENDS = 64
"""Messages without an ack that a task sends before other tasks run."""


class _Done:
    """Is over before it is awaited, and costs less than a coroutine."""

    def __await__(self) -> Generator[Any, Any, None]:
        return iter(())  # type: ignore[return-value]


_DONE = _Done()


_PATIENCE = 1.0
"""Seconds beyond ``close_timeout`` that a task which was cancelled then may take to end."""


class Driver(AsyncDriver[TcpConnection | MessageTasks]):
    """Keeps one session going on an asyncio event loop.

    Attributes:
        callbacks: the task for async callbacks; None before the first of these.
        written: whether a request was written since the loop has turned, as far as that is known: transports that
            receive something set it to False.
    """

    __slots__ = (
        "_background",
        "_connecting",
        "_fault",
        "_home",
        "_loop",
        "_max_sends",
        "_sends",
        "_soon",
        "_starting",
        "_stopping",
        "_timer",
        "_timer_at",
        "_turn_began",
        "callbacks",
        "written",
    )

    def __init__(self, route: Route, options: Options | None) -> None:
        super().__init__(route, options)
        self.callbacks: CallbackTask | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._background: dict[asyncio.Task[None], None] = NOTHING
        self._timer: asyncio.TimerHandle | None = None  # of an attempt to connect or of the keepalive
        self._soon: asyncio.TimerHandle | None = None  # of what is due before that, such as an acknowledgement
        self._timer_at = math.inf  # when `_timer` fires
        self._fault: BaseException | None = None
        self.flushing: bool = False
        self.written: bool = False
        self._sends = 0
        self._max_sends = min(_SENDS, self.session.options.max_pending_requests)
        self._starting: asyncio.Future[Connected | Stopped] | None = None
        self._stopping: asyncio.Future[Stopped] | None = None
        self._home: asyncio.AbstractEventLoop | None = None
        self._turn_began: float | None = None  # while a flush is under way; None also where requests end by time

    # ---- For the client

    def now(self) -> float:
        """Return the session's time."""
        loop = asyncio.get_running_loop()
        return (loop if loop is self._home else self._may_run(loop)).time()

    def waiter(self) -> asyncio.Future[Any]:
        """Return a new waiter."""
        loop = asyncio.get_running_loop()
        return (loop if loop is self._home else self._may_run(loop)).create_future()

    def begin_request(self) -> tuple[Waiter, float]:
        """Return a waiter for a new request, and the session's time."""
        loop = asyncio.get_running_loop()
        if loop is not self._home:
            self._may_run(loop)
        waiter = Waiter(loop=loop)
        waiter.callback = None
        return waiter, loop.time()

    def begin_submitted(self, kind: type[Submitted] = Submitted) -> tuple[Submitted, float]:
        """Return a future of a kind for a new request of ``client.submit``, and the time of its turn."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise self.outside() from None
        if loop is not self._home:
            self._may_run(loop)
        # Those of one turn leave together at its end: the clock is read once for them.
        return kind(loop=loop), loop.time() if self._turn_began is None else self._turn_began

    def settle_requests(self, events: Collection[Acked]) -> None:
        """Give the ends of requests to their waiters; many are woken together."""
        if len(events) < 2:
            super().settle_requests(events)
        else:
            settle(self._loop, events, self.waiting, self.publishes)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        """Return the running loop. Raises LocalProtocolError if that is not asyncio's."""
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            raise LocalProtocolError(
                "limpet.asyncio.Client does not run in this event loop: trio has limpet.trio.Client"
            ) from None

    def _may_run(self, loop: asyncio.AbstractEventLoop) -> asyncio.AbstractEventLoop:
        """Return ``loop``, which is not that of the last start; raises while the client is started."""
        if self.session.state is not State.STOPPED:
            raise LocalProtocolError(
                "the client was started in another event loop: use it there, and stop it there before that loop ends"
            )
        return loop

    async def start(self, timeout: float | None) -> Connected | Stopped:
        """Start the session; return the first Connected or Stopped."""
        loop = self._running_loop()
        if self.session.state is State.STOPPED and self.callbacks is not None:
            self.callbacks.forget(loop)
        self.start_session(self.now(), timeout)
        self._home = self._loop = loop
        self.flushing = self.written = False  # a loop may have been left before its flush
        self._turn_began = None
        starting: asyncio.Future[Connected | Stopped] = self._loop.create_future()
        self._starting = starting
        self.drain()
        return await starting

    async def stop(self) -> None:
        """Stop the session and wait until it has stopped."""
        if self.session.state is not State.STOPPED:
            now = self.now()
            if self._stopping is None:
                self._stopping = self._loop.create_future()
            stopping = self._stopping
            self.session.stop(now)
            self.drain()
            await asyncio.shield(stopping)  # other callers may wait for it
        if self._background:
            # Each ends by itself after close_timeout.
            await asyncio.wait(self._background, timeout=self.session.options.close_timeout + _PATIENCE)

    def flush(self) -> None:
        """Write the requests that were added to the session.

        The first message since something was received is written at once, which is best for one request after the
        other; what follows is written together at the end of its turn of the loop, which is best for a thousand at a
        time.
        """
        if self.flushing:
            return
        if self.written:
            self.flush_soon()
        else:
            self._sends = 0  # the loop has turned
            self.drain()
            self.written = True

    def flush_soon(self) -> None:
        """Write what was added to the session in this turn of the loop, together, at its end: no answer is awaited."""
        if not self.flushing:
            # First: an interrupt between the two lines would leave the flag set and nothing scheduled.
            self._loop.call_soon(self._flushed)
            if self.session.options.request_timeout is None:
                self._turn_began = self._loop.time()
            self.flushing = True

    def _flushed(self) -> None:
        self.flushing = self.written = False
        self._turn_began = None
        self._sends = 0
        self.drain()

    def checkpoint(self) -> Awaitable[None]:
        """Let other tasks run now and then, though the caller never has to wait."""
        self._sends += 1
        return asyncio.sleep(0) if self._sends > self._max_sends else _DONE

    async def wait_writable(self, publish: bool) -> None:
        """Wait until :meth:`can_send` may have become true."""
        await asyncio.shield(self._sender(publish))  # other callers may wait for it

    async def until(self, deadline: float, wait: Callable[[], Awaitable[object]]) -> None:
        """Await ``wait()``, and cancel it at ``deadline``."""
        limit = asyncio.timeout_at(None if deadline == math.inf else deadline)
        try:
            async with limit:
                await wait()
        except TimeoutError:
            if not limit.expired():
                raise

    def _in_loop(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _call_in_loop(self, function: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(function)

    # ---- Hooks of the drain

    def _arm(self, deadline: float) -> None:
        # To arm a timer costs as much as a message: a deadline that moved back is left to fire early. A loop also keeps
        # a timer that was cancelled until its time. So the timer of an attempt to connect is one that will do for the
        # keepalive, and it stays beside a second one for an acknowledgement: neither is cancelled and armed again for
        # each of these, and an idle client has one.
        if self._timer is None:
            keepalive = self.session.options.keepalive_interval
            deadline = min(deadline, self._loop.time() + keepalive) if keepalive else deadline
            self._timer = self._loop.call_at(deadline, self._wake, False)
            self._timer_at = deadline
        else:
            if self._soon is not None:
                self._soon.cancel()
            self._soon = self._loop.call_at(deadline, self._wake, True)
        self._armed = deadline

    def _run_callbacks(self) -> None:
        if self.callbacks is None:
            self.callbacks = CallbackTask(self.session, self.delivery.callbacks)
        self.callbacks.wake()

    def raise_later(self, error: BaseException) -> None:
        """Raise ``error``, which a callback raised, out of the event loop, once this turn's work is done."""
        self._loop.call_soon(_throw, error)

    def failed(self, error: BaseException) -> None:
        """Stop with an error: ``error``, such as Ctrl-C, interrupted the client's own work.

        It is not known how much of that work was done; so no call waits for ever. Repeats do nothing.
        """
        # The session may have stopped, and those who wait for that not know it yet.
        awaited = self._starting is not None or self._stopping is not None
        if self._fault is None and (awaited or self.session.state is not State.STOPPED):
            self._fault = error
            self._loop.call_soon(self._give_up)

    def _give_up(self) -> None:
        error = self._fault
        failure = ConnectError(f"the client was interrupted amid its work: {type(error).__name__}")
        failure.__cause__ = error
        with suppress(Exception):  # of a handler, which may be what has failed
            log.error("the client stops: %s", failure)
        now = self._loop.time()
        self._draining = True  # drain() only once the session has stopped
        try:
            self.session.stop(now)
            self.session.disconnected(now)  # the answer to its close is not waited for
        finally:
            self._draining, self._fault = False, None
            # Calls that wait for an answer must get it, whatever other events were lost.
            events = [*answers(self._delivering), *self.last_events()]
            self._delivering = ()
            events = [event for event in events if type(event) is not Stopped]
            for waiter in self._waiters(events):
                if type(waiter) is Waiter:
                    waiter.wake_again()
            self.delivery.deliver([*events, Stopped(failure)])
            if self.delivery.callbacks.busy:
                self._run_callbacks()
            self._abandon(failure)
            self.drain()

    def _waiters(self, events: Iterable[Event]) -> list[object]:
        """Return the waiters of answers."""
        return [
            self.publishes.get(event.ack_id) if type(event) is Acked and event.user_data is None else event.user_data
            for event in events
            if type(event) is Acked or type(event) is Invoked
        ]

    def _abandon(self, failure: ConnectError) -> None:
        """Fail the calls that still wait for an answer: the session may have forgotten them."""
        why = f"the client has stopped: {failure}"
        publishes = ((waiter, key) for key, waiter in self.publishes.items())
        for waiter, key in (*self.waiting.items(), *publishes):
            if not waiter.done():
                error = InvocationError if isinstance(key, str) else partial(SendError, key)
                waiter.set_exception(error("Stopped", why, "unknown"))
        self.waiting.clear()
        self.publishes.clear()

    def settle(self, event: Connected | Stopped) -> None:
        """Wake the callers of :meth:`start` or :meth:`stop`."""
        if self._starting is not None and not self._starting.done():
            self._starting.set_result(event)
        self._starting = None
        if type(event) is Stopped:
            if self._stopping is not None:
                self._stopping.set_result(event)
                self._stopping = None
            for timer in (self._timer, self._soon):
                if timer is not None:
                    timer.cancel()
            self._timer = self._soon = None
            self._armed = self._timer_at = math.inf
            if self.callbacks is not None:
                self.callbacks.wake()

    def _wake(self, soon: bool) -> None:
        """Wake the session, for one of the two timers."""
        try:
            if soon:
                self._soon, self._armed = None, self._timer_at
            else:
                self._timer, self._timer_at = None, math.inf
                if self._soon is None:
                    self._armed = math.inf
            self._wake_session(self._loop.time())
        except BaseException as error:
            self.failed(error)
            raise
        self.drain()

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a coroutine in the background."""
        task: asyncio.Task[None] = self._loop.create_task(work)
        if self._background is NOTHING:
            self._background = {}
        self._background[task] = None
        task.add_done_callback(self._background.pop)
        return task

    # ---- Transports

    def _redial(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            self._connecting = None
        if self._transport is not None:
            self._transport.close()
            self._transport = None
        self._dial = dial = self.session.dial
        if dial is not None:
            self._connecting = self._loop.create_task(self._open(dial))

    async def _open(self, dial: Dial) -> None:
        if dial.url is None:
            self._route.tell(self.session, dial, await self._route.ask(), self._loop.time())
        if dial.wanted and dial.url is not None:
            if self._route.connect is None:
                await self._open_tcp(dial)
            else:
                await self._open_messages(dial, self._route.connect)
        if self._dial is dial:
            self._connecting = None
            self.drain()

    async def _open_tcp(self, dial: Dial) -> None:
        pipeline = self._route.pipeline(self.session, dial)
        sock: socket.socket | None = None
        try:
            sock = await dial_tcp(*pipeline.address())
            await self._loop.create_connection(lambda: TcpConnection(self, pipeline), sock=sock)
        except Exception as error:  # noqa: BLE001 - a look-up or socket of the application's may raise anything
            if sock is not None:
                sock.close()  # it has been reset before there was a transport
            pipeline.failed(error, self._loop.time())

    async def _open_messages(self, dial: Dial, connect: Connect | ConnectManager) -> None:
        home = MessageHome(self.spawn, self.session.options.close_timeout)
        connection = AsyncMessageConnection(self.session, dial, self._loop.time, connect, home, self.drain)
        try:
            if await connection.open():
                self._transport = MessageTasks(connection, self)
        finally:
            if not connection.dial.wanted:
                self.spawn(connection.close())

    def opened(self, transport: TcpConnection) -> None:
        """Use an open transport, unless it is not wanted any more."""
        if not transport.pipeline.link.dial.wanted:
            transport.close()
            return
        self._transport = transport
        self.drain()


def _throw(error: BaseException) -> None:
    """Raise out of the event loop: most loops let only KeyboardInterrupt and SystemExit through, and report others."""
    raise error
