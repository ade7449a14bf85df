"""AsyncDriver: the base of all drivers on an event loop, whose callers await."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from typing import Any

from limpet import Ack, Acked, Invoked, LocalProtocolError, Options, State
from limpet._clients.driver import BaseDriver, TransportT
from limpet._clients.waiters import AsyncWaiter, settle_invocation, settle_request
from limpet._transports.route import Route
from limpet_core.nothing import NOTHING

log: logging.Logger = logging.getLogger("limpet")


class AsyncDriver(BaseDriver[TransportT]):
    """Keeps one session going on an event loop.

    Attributes:
        publishes: the waiters of publishes by their ack ids, which are fresh; without an instrument. Each is there
            until its answer is here, or until its caller has given it up. NOTHING before the first: a publish puts a
            dict in its place by itself, in fewer steps than :meth:`expect`.
        waiting: the waiters of all other requests, and of invocations, and their ack ids (int) or invocation ids (str),
            as long. An ack id that the caller has chosen may be in use again before its answer is handed on.
        flushing: a flush is under way already, at the end of this turn of the loop: another one would do nothing.
    """

    __slots__ = ("flushing", "publishes", "waiting")

    _senders: dict[bool, AsyncWaiter[None]]  # one for publishes, one for everything else

    def __init__(self, route: Route, options: Options | None) -> None:
        super().__init__(route, options)
        self.waiting: dict[AsyncWaiter[Any], int | str] = NOTHING  # until the first request
        self.publishes: dict[int, AsyncWaiter[Ack]] = NOTHING
        self.flushing: bool = False

    def expect(self, waiter: AsyncWaiter[Any], key: int | str) -> None:
        """Note the waiter of a request that is no publish with a fresh ack id, or of an invocation."""
        if self.waiting is NOTHING:
            self.waiting = {}
        self.waiting[waiter] = key

    def settle_requests(self, events: Collection[Acked]) -> None:
        for event in events:
            if event.user_data is None:
                settle_request(event, self.publishes.get(event.ack_id))
                # Last: after an interrupt the answer is handed on again, and must find its waiter.
                self.publishes.pop(event.ack_id, None)
            else:
                self.waiting.pop(event.user_data, None)
                settle_request(event, event.user_data)

    def settle_invocation(self, event: Invoked) -> None:
        self.waiting.pop(event.user_data, None)
        settle_invocation(event)

    def consumers_ready(self, ready: bool) -> None:
        """Pause reading at once, resume it soon, in the event loop.

        A stream may be closed in any thread, and collected at any moment, also amid a call of the session.
        """
        if self.session.state is State.STOPPED:
            return  # the next start looks by itself
        if not ready:
            super().consumers_ready(ready)
            return
        try:
            self._call_in_loop(self._match_consumers)
        except RuntimeError:
            log.debug("a stream has outlived its event loop")  # so has the client

    def check(self) -> None:
        """Look at once whether the connection is still there. Raises LocalProtocolError outside the client's loop."""
        if self.session.state is State.STOPPED:
            return
        if not self._in_loop():
            raise LocalProtocolError(
                "check() belongs in the event loop that the client was started in: elsewhere, hand it to that loop, "
                "for example with loop.call_soon_threadsafe(client.check)"
            )
        self.session.check(self.now())
        self.drain()

    def call_soon(self, function: Callable[[], object]) -> None:
        """Call ``function`` in the client's event loop, soon, unless the client is stopped then; from any thread."""

        def call() -> None:
            if self.session.state is not State.STOPPED:
                function()

        if self.session.state is not State.STOPPED:
            with suppress(RuntimeError):  # the loop is over, and so is the client
                self._call_in_loop(call)

    def _match_consumers(self) -> None:
        if self.session.state is not State.STOPPED:
            super().consumers_ready(not self.delivery.held)

    @abstractmethod
    def _in_loop(self) -> bool:
        """Return whether the caller runs in the client's event loop."""

    @abstractmethod
    def _call_in_loop(self, function: Callable[[], object]) -> None:
        """Call ``function`` in the client's event loop, soon; any thread may ask. Raises RuntimeError after its end."""

    @abstractmethod
    def waiter(self) -> AsyncWaiter[Any]:
        """Return a new waiter."""

    @abstractmethod
    def begin_request(self) -> tuple[AsyncWaiter[Any], float]:
        """Return a waiter for a new request, and the session's time."""

    @abstractmethod
    def checkpoint(self) -> Awaitable[None]:
        """Let other tasks run now and then, though the caller never has to wait."""

    @abstractmethod
    async def wait_writable(self, publish: bool) -> None:
        """Wait until :meth:`can_send` may have become true; call it again then."""

    def check_home(self) -> None:
        """Raise LocalProtocolError in another event loop than that in which the client was started."""
        self.now()

    def outside(self) -> LocalProtocolError:
        """Return the error of a request that is made where no event loop runs; raise ClientStopped if that is why."""
        self.session.check_running()
        return LocalProtocolError(
            "client.submit belongs in the event loop that the client was started in: elsewhere, hand the call to that "
            "loop, for example with loop.call_soon_threadsafe(function)"
        )

    @abstractmethod
    async def until(self, deadline: float, wait: Callable[[], Awaitable[object]]) -> None:
        """Await ``wait()``, and cancel it at ``deadline`` (in seconds of the session's time), which raises nothing."""

    def _sender(self, publish: bool) -> AsyncWaiter[None]:
        """Return the waiter of all callers that wait to send a publish, or (False) anything else."""
        if self._senders is NOTHING:
            self._senders = {}
        if publish not in self._senders:
            self._senders[publish] = self.waiter()
        return self._senders[publish]

    def wake_senders(self) -> None:
        for publish in tuple(self._senders):
            if self.can_send(publish):
                self._senders.pop(publish).set_result(None)

    @abstractmethod
    async def stop(self) -> None:
        """Stop the session and wait until it has stopped."""
