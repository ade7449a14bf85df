"""Keeps a Session going under structured concurrency: the driver that trio and anyio share.

The two speak nearly the same language; a :class:`Kit` holds the words that differ. Everything of a client lives in one
nursery: a task for the time, a task for each transport, and one for async callbacks from the first of them on.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from typing import Any

from limpet import (
    ClientStopped,
    Connected,
    Dial,
    Event,
    Options,
    Session,
    State,
    Stopped,
)
from limpet._clients.delivery import Delivery
from limpet._structured.backend import Flag, FlagAnswer, Kit, Nursery, Scope, Turn
from limpet._structured.tcp import ByteChannel
from limpet._transports.messages import MessageChannel
from limpet._transports.route import Route

log: logging.Logger = logging.getLogger("limpet")

_FAREWELL = 1.0
"""Seconds that a close frame may take on a connection that is not wanted any more."""


class StructuredDriver:
    """Keeps one Session's transport, timer and outputs going; see :meth:`run`."""

    def __init__(
        self,
        kit: Kit,
        route: Route,
        options: Options | None,
        deliver: Callable[[list[Event]], None],
    ) -> None:
        self.session: Session = Session(options, random=random.random)
        self._delivery: Delivery | None = None  # which the client makes, of this driver
        self.turn: Turn = Turn(kit, self.session.options.max_pending_requests)
        self._kit = kit
        self._route = route
        self._deliver = deliver
        self._pumping = False
        self._dial: Dial | None = None
        self._scope: Scope | None = None
        self._nursery: Nursery | None = None  # of the transports
        self._waiters: Nursery | None = None  # of the task for callbacks, as long as it can be started
        self._outer: Nursery | None = None  # around all of a run
        self._escaped: BaseException | None = None  # of a callback that is called when that is gone
        self._machinery: Scope  # around all that must outlive a cancellation
        self._armed = math.inf
        # Raised by pump() for those who wait: the timer, the writer, the callbacks, the reader, and calls.
        self._earlier, self._output, self._work, self._readable = kit.flag(), kit.flag(), kit.flag(), kit.flag()
        self._senders: dict[bool, Flag] = {}  # that wait, whether they publish
        self._writing: MessageChannel | ByteChannel | None = None
        self._over = kit.flag()
        self._ended: Flag | None = None  # of the run that has not returned yet
        self._outcome: FlagAnswer[Connected | Stopped] | None = None

    # ---- What the client asks for

    def now(self) -> float:
        """The session's time."""
        return self._kit.now()

    def answer(self) -> FlagAnswer[Any]:
        """A new thing to wait for."""
        return FlagAnswer(self._kit.flag())

    def flush(self) -> None:
        """Something was added to the session: wake the writer, which sends all there is when its turn comes."""
        self._output.set()
        if self.session.reading:
            self._readable.set()  # for the answer, whatever else has to wait
        self._rearm()

    async def give_turn(self) -> None:
        """Leave the loop its turn now and then: the caller may be one who never has to wait."""
        await self.turn.checkpoint()

    def takes(self, publish: bool) -> bool:
        """Whether another message without an ack, perhaps a publish, can go out."""
        return self._writing is None and (not publish or self.session.publishing)

    async def taking(self, publish: bool) -> None:
        """Wait until that may be so."""
        await self._senders.setdefault(publish, self._kit.flag()).wait()

    def _wake_senders(self) -> None:
        for publish in tuple(self._senders):
            if self.takes(publish):
                self._senders.pop(publish).set()

    def consumers_ready(self, ready: bool) -> None:
        """Consumers have caught up, or are too far behind."""
        if self.session.state is not State.STOPPED:  # else the loop may be gone, and the next run looks by itself
            self._tell_ready(ready)
            self.pump()

    def _tell_ready(self, ready: bool) -> None:
        if ready:
            self.session.reading_resumed(self.now())
        else:
            self.session.reading_paused(self.now())

    async def stop(self) -> None:
        """Stop the session and wait until it has stopped."""
        if self.session.state is State.STOPPED:
            await self._kit.checkpoint()
        else:
            self.session.stop(self.now())
            self.pump()
            await self._over.wait()

    async def run(self, delivery: Delivery, started: Callable[[], None]) -> None:
        """Start the session and keep it going until it has stopped; call ``started`` when it stands first.

        Raises what made the start fail. Cancelled, it closes the connection as ``stop()`` does, and awaits no callbacks
        any more.
        """
        while self._ended is not None and self.session.state is State.STOPPED:
            await self._ended.wait()  # its end would be taken for ours
        self.session.start(self.now())
        self._ended = ended = self._kit.flag()
        try:
            await self._run(delivery, started)
        finally:
            self._waiters = self._outer = None
            self._end()
            delivery.drop()  # what a cancellation has left
            self._ended = None
            ended.set()
            escaped, self._escaped = self._escaped, None
            if escaped is not None:
                raise escaped

    async def _run(self, delivery: Delivery, started: Callable[[], None]) -> None:
        self._delivery = delivery
        delivery.begin()
        self._tell_ready(not delivery.held)
        self._outcome, self._over = self.answer(), self._kit.flag()
        self._machinery = self._kit.scope(math.inf, True)
        failure: BaseException | None = None
        async with self._kit.nursery() as nursery:
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
                with self._kit.scope(self.now() + self.session.options.close_timeout + _FAREWELL, True):
                    await self.stop()
                if self.session.state is not State.STOPPED:
                    self._machinery.cancel()  # a transport that does not let itself be closed
        if failure is not None:
            raise failure

    # ---- After every call to the session

    def pump(self) -> None:
        """Do what the session wants done: the one rule, drain before you wait."""
        if self._pumping:
            return  # a callback got us here: the pump below us goes on
        self._pumping = True
        try:
            while events := self.session.events():
                self._deliver(events)
        finally:
            self._pumping = False
        if self.session.dial is not self._dial:
            self._redial()
        self._output.set()
        if self.session.reading:
            self._readable.set()
        if self._senders:
            self._wake_senders()
        if self._delivery is not None and self._delivery.busy:
            self._work.set()
        self._rearm()

    def _rearm(self) -> None:
        if self.session.deadline < self._armed:
            self._earlier.set()

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
                async with self._kit.nursery() as nursery:
                    self._nursery = nursery
                    self.pump()
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
            self.pump()

    async def _keep_time(self) -> None:
        while self.session.state is not State.STOPPED:
            self._earlier = self._kit.flag()
            self._armed = self.session.deadline
            with self._kit.scope(self._armed, False):
                await self._earlier.wait()
            if self.now() >= self.session.deadline:
                self.session.wake(self.now())
                self.pump()
        self._armed = math.inf

    def await_callbacks(self) -> None:
        """A callback has returned something to await: there is a task for that from now on."""
        if self._waiters is not None and self._delivery is not None:
            self._waiters.start_soon(self._run_callbacks, self._delivery)
            self._waiters = None

    async def _run_callbacks(self, delivery: Delivery) -> None:
        """Await what async callbacks return, one after the other."""
        await self._kit.checkpoint_if_cancelled()  # to begin what cannot go on would be half a callback
        while delivery.busy or self.session.state is not State.STOPPED:
            self._work = self._kit.flag()
            if not delivery.busy:
                await self._work.wait()
            await delivery.run(self._kit.stray)

    def _redial(self) -> None:
        """The session wants another transport than the one it has, or none."""
        if self._nursery is None:
            return  # its task is about to start, and looks at once
        if self._scope is not None:
            self._scope.cancel()
            self._scope = None
        self._dial = dial = self.session.dial
        if dial is not None:
            self._scope = scope = self._kit.scope(math.inf, False)
            self._nursery.start_soon(self._serve, dial, scope)

    async def _serve(self, dial: Dial, scope: Scope) -> None:
        """One transport, from the wish for it to its end."""
        channel: MessageChannel | ByteChannel
        if self._route.connect is not None:
            channel = MessageChannel(self.session, dial, self._kit.now, self._kit.stray)
        else:
            channel = ByteChannel(self._kit, self.session, dial)
        with scope:
            if dial.url is None:
                self._route.tell(self.session, dial, await self._route.ask(self._kit.stray), self.now())
            try:
                if channel.wanted() and dial.url is not None and await self._open(channel):
                    async with self._kit.nursery() as nursery:
                        nursery.start_soon(self._write, channel)
                        await self._read(channel)
            finally:
                with self._kit.scope(self.now() + _FAREWELL, True):
                    await channel.close()
        self.pump()

    async def _open(self, channel: MessageChannel | ByteChannel) -> bool:
        if isinstance(channel, ByteChannel):
            return await channel.open(self._route)
        assert self._route.connect is not None
        return await channel.open(self._route.connect)

    async def _read(self, channel: MessageChannel | ByteChannel) -> None:
        self.pump()
        while channel.wanted():
            while not self.session.reading:
                self._readable = self._kit.flag()
                await self._readable.wait()
            await channel.receive()
            self.pump()  # a transport that is not wanted any more is cancelled here, with its writer

    async def _write(self, channel: MessageChannel | ByteChannel) -> None:
        while channel.wanted():
            self._output = self._kit.flag()
            self._writing = channel
            try:
                sent = await channel.send()
            finally:
                if self._writing is channel:  # else it is another one's turn already
                    self._writing = None
                    self._wake_senders()
            if not channel.wanted():
                self.pump()  # which cancels the reader, whatever it waits for
            elif not sent:
                await self._output.wait()


async def _throw(error: BaseException) -> None:
    raise error
