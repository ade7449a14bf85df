"""An alarm of timers, for anyio on asyncio."""

from __future__ import annotations

import asyncio
import math


class TimerAlarm:
    """An alarm by timers of the event loop: a cancel scope of anyio's that times out costs as much as five messages.

    A timer that is cancelled stays with the loop until its time. So that of the keepalive stays armed beside that of an
    acknowledgement, and a time that moved back is looked at when its timer fires.
    """

    __slots__ = ("_deadline", "_loop", "_soon", "_soon_at", "_timer", "_timer_at", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.TimerHandle | None = None  # of what is due before that
        self._timer_at = self._soon_at = math.inf
        self._waiter: asyncio.Future[None] | None = None
        self._deadline = math.inf

    async def wait(self, deadline: float) -> None:
        self._waiter = self._loop.create_future()
        try:
            self.advance(deadline)
            await self._waiter
        finally:
            self._waiter = None

    def advance(self, deadline: float) -> None:
        self._deadline = deadline
        if deadline >= min(self._timer_at, self._soon_at):
            return
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._fired, False)
            self._timer_at = deadline
        else:
            if self._soon is not None:
                self._soon.cancel()
            self._soon = self._loop.call_at(deadline, self._fired, True)
            self._soon_at = deadline

    def ring(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        for timer in (self._timer, self._soon):
            if timer is not None:
                timer.cancel()
        self._timer = self._soon = None
        self._timer_at = self._soon_at = math.inf

    def _fired(self, soon: bool) -> None:
        if soon:
            self._soon, self._soon_at = None, math.inf
        else:
            self._timer, self._timer_at = None, math.inf
        if self._loop.time() < self._deadline:
            self.advance(self._deadline)
        else:
            self.ring()
