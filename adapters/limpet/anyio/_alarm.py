"""An alarm of timers, for anyio on asyncio."""

from __future__ import annotations

import asyncio
import math


class TimerAlarm:
    """An alarm by timers of the event loop: a cancel scope of anyio's that times out costs as much as five messages.

    A timer that is cancelled stays with the loop until its time. So that of the keepalive stays armed beside that of an
    acknowledgement, and a time that moved back is looked at when its timer fires.
    """

    __slots__ = ("_deadline", "_later", "_later_at", "_loop", "_soon", "_soon_at", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._soon: asyncio.TimerHandle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._soon_at = self._later_at = math.inf
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
        if deadline >= self._soon_at:
            return  # it is armed again then
        if self._later is not None:
            self._later.cancel()
        self._later, self._later_at = self._soon, self._soon_at
        self._soon, self._soon_at = self._loop.call_at(deadline, self._fired, deadline), deadline

    def ring(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        for timer in (self._soon, self._later):
            if timer is not None:
                timer.cancel()
        self._soon = self._later = None
        self._soon_at = self._later_at = math.inf

    def _fired(self, at: float) -> None:
        if at == self._soon_at:
            self._soon, self._soon_at = self._later, self._later_at
            self._later, self._later_at = None, math.inf
        elif at == self._later_at:  # uvloop may call it somewhat early
            self._later, self._later_at = None, math.inf
        if self._loop.time() < self._deadline:
            self.advance(self._deadline)
        else:
            self.ring()
