"""Keeps a Session going under structured concurrency: the driver that trio and anyio share.

The two speak nearly the same language; a :class:`Kit` holds the words that differ. Everything of a client lives in one
nursery: a task for the time, a task for each transport, and one for async callbacks from the first of them on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

from limpet import (
    ClientStopped,
    Connected,
    Dial,
    Options,
    State,
    Stopped,
)
from limpet._clients.driver import AsyncDriver
from limpet._structured.backend import Flag, FlagAnswer, Kit, Nursery, Scope, Turn
from limpet._structured.tasks import TransportTasks
from limpet._structured.tcp import ByteChannel
from limpet._transports.messages import MessageChannel
from limpet._transports.route import Route

log: logging.Logger = logging.getLogger("limpet")

_FAREWELL = 1.0
"""Seconds that a close frame may take on a connection that is not wanted any more."""


class StructuredDriver(AsyncDriver[TransportTasks]):
    """Keeps one Session's transport, timer and outputs going; see :meth:`run`."""

    kit: Kit

    def __init__(self, route: Route, options: Options | None) -> None:
        super().__init__(route, options)
        self.turn: Turn = Turn(self.kit, self.session.options.max_pending_requests)
        self._scope: Scope | None = None
        self._nursery: Nursery | None = None  # of the transports
        self._waiters: Nursery | None = None  # of the task for callbacks, as long as it can be started
        self._outer: Nursery | None = None  # around all of a run
        self._escaped: BaseException | None = None  # of a callback that is called when that is gone
        self._machinery: Scope  # around all that must outlive a cancellation
        self._earlier, self._work = self.kit.flag(), self.kit.flag()  # wake the timer, the task for callbacks
        self._over = self.kit.flag()
        self._ended: Flag | None = None  # of the run that has not returned yet
        self._outcome: FlagAnswer[Connected | Stopped] | None = None

    # ---- What the client asks for

    def now(self) -> float:
        """The session's time."""
        return self.kit.now()

    def waiter(self) -> FlagAnswer[Any]:
        """Return a new waiter."""
        return FlagAnswer(self.kit.flag())

    def flush(self) -> None:
        """Wake the writer, which sends all there is when its turn comes."""
        self._called_meanwhile = True
        if self._transport is not None:
            self._transport.write()
            self._transport.read(self.session.reading)  # for the answer, whatever else has to wait
        deadline = self.session.deadline
        if deadline < self._armed:
            self._arm(deadline)

    async def checkpoint(self) -> None:
        """Let other tasks run now and then, though the caller never has to wait."""
        await self.turn.checkpoint()

    async def wait_writable(self, publish: bool) -> None:
        """Wait until :meth:`can_send` may have become true."""
        if publish not in self._senders:
            self._senders[publish] = self.waiter()
        await self._senders[publish]

    def consumers_ready(self, ready: bool) -> None:
        """Pause or resume reading."""
        if self.session.state is not State.STOPPED:  # else the loop may be gone, and the next run looks by itself
            super().consumers_ready(ready)

    async def stop(self) -> None:
        """Stop the session and wait until it has stopped."""
        if self.session.state is State.STOPPED:
            await self.kit.checkpoint()
        else:
            self.session.stop(self.now())
            self.drain()
            await self._over.wait()

    async def run(self, started: Callable[[], None]) -> None:
        """Start the session and keep it going until it has stopped; call ``started`` when it stands first.

        Raises what made the start fail. Cancelled, it closes the connection as ``stop()`` does, and awaits no callbacks
        any more.
        """
        while self._ended is not None and self.session.state is State.STOPPED:
            await self._ended.wait()  # its end would be taken for ours
        self.session.start(self.now())
        self._ended = ended = self.kit.flag()
        try:
            await self._run(started)
        finally:
            self._waiters = self._outer = None
            self._end()
            self.delivery.drop()  # what a cancellation has left
            self._ended = None
            ended.set()
            escaped, self._escaped = self._escaped, None
            if escaped is not None:
                raise escaped

    async def _run(self, started: Callable[[], None]) -> None:
        self.delivery.begin()
        self._outcome, self._over = self.waiter(), self.kit.flag()
        self.consumers_ready(not self.delivery.held)  # which the session was not told while it was stopped
        self._machinery = self.kit.scope(math.inf, True)
        failure: BaseException | None = None
        async with self.kit.nursery() as nursery:
            self._waiters = self._outer = nursery
            nursery.start_soon(self._connect_and_keep_time)
            try:
                event = await self._outcome
                if type(event) is Stopped:
                    # Raised behind the nursery, which would wrap it into a group.
                    failure = event.error or ClientStopped("the client was stopped while it started")
                else:
                    started()
                    await self._over.wait()
            finally:
                with self.kit.scope(self.now() + self.session.options.close_timeout + _FAREWELL, True):
                    await self.stop()
                if self.session.state is not State.STOPPED:
                    self._machinery.cancel()  # a transport that does not let itself be closed
        if failure is not None:
            raise failure

    # ---- After every call to the session

    def _arm(self, deadline: float) -> None:
        self._earlier.set()

    def _run_callbacks(self) -> None:
        """Wake the task for callbacks, which is started for the first of them."""
        self._work.set()
        if self._waiters is not None:
            self._waiters.start_soon(self._await_callbacks)
            self._waiters = None

    def settle(self, event: Connected | Stopped) -> None:
        """The session stands or has stopped: tell those who wait for it."""
        if self._outcome is not None and not self._outcome.done():
            self._outcome.set_result(event)
        if type(event) is Stopped:
            for flag in (self._over, self._earlier, self._work):
                flag.set()

    def raise_later(self, error: BaseException) -> None:
        """Raise ``error``, which came from a callback, out of the run, which ends the client politely."""
        if self._outer is not None:
            self._outer.start_soon(_throw, error)
        elif self._escaped is None:
            self._escaped = error

    # ---- The tasks

    async def _connect_and_keep_time(self) -> None:
        """Transports and timers, which are still needed for a polite end when the client is cancelled."""
        with self._machinery:
            try:
                async with self.kit.nursery() as nursery:
                    self._nursery = nursery
                    self.drain()
                    await self._keep_time()
            finally:
                self._nursery = None
                self._end()

    def _end(self) -> None:
        """Stop the session, unless it has stopped: no task is left that would notice its end."""
        if self.session.state is not State.STOPPED:
            # A loop that ends cancels shielded tasks, too; or an exception has ended the nursery.
            self.session.stop(self.now())
            self.session.disconnected(self.now())  # the answer to its close is not waited for
            self.drain()

    async def _keep_time(self) -> None:
        while self.session.state is not State.STOPPED:
            self._earlier = self.kit.flag()
            self._armed = self.session.deadline
            with self.kit.scope(self._armed, False):
                await self._earlier.wait()
            if self.now() >= self.session.deadline:
                self.session.wake(self.now())
                self.drain()
        self._armed = math.inf

    async def _await_callbacks(self) -> None:
        """Await what async callbacks return, one after the other."""
        await self.kit.checkpoint_if_cancelled()  # to begin what cannot go on would be half a callback
        delivery = self.delivery
        while delivery.busy or self.session.state is not State.STOPPED:
            self._work = self.kit.flag()
            if not delivery.busy:
                await self._work.wait()
            await delivery.run(self.kit.stray)

    def _redial(self) -> None:
        """The session wants another transport than the one it has, or none."""
        if self._nursery is None:
            return  # its task is about to start, and looks at once
        if self._scope is not None:
            self._scope.cancel()
            self._scope = self._transport = None
        self._dial = dial = self.session.dial
        if dial is not None:
            self._scope = scope = self.kit.scope(math.inf, False)
            self._nursery.start_soon(self._serve, dial, scope)

    async def _serve(self, dial: Dial, scope: Scope) -> None:
        """One transport, from the wish for it to its end."""
        channel: MessageChannel | ByteChannel
        if self._route.connect is not None:
            channel = MessageChannel(self.session, dial, self.kit.now, self.kit.stray)
        else:
            channel = ByteChannel(self.kit, self.session, dial)
        with scope:
            if dial.url is None:
                self._route.tell(self.session, dial, await self._route.ask(self.kit.stray), self.now())
            try:
                if dial.wanted and dial.url is not None and await self._open(channel):
                    await self._run_transport(dial, channel)
            finally:
                with self.kit.scope(self.now() + _FAREWELL, True):
                    await channel.close()
        self.drain()

    async def _run_transport(self, dial: Dial, channel: MessageChannel | ByteChannel) -> None:
        transport = TransportTasks(self.kit, self.session, channel, self.drain, self._wake_senders)
        self._transport = transport
        try:
            await transport.run()
        finally:
            if self._transport is transport:
                self._transport = None

    async def _open(self, channel: MessageChannel | ByteChannel) -> bool:
        if isinstance(channel, ByteChannel):
            return await channel.open(self._route)
        assert self._route.connect is not None
        return await channel.open(self._route.connect)


async def _throw(error: BaseException) -> None:
    raise error
