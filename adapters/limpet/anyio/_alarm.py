"""An alarm of timers, for anyio on asyncio."""

from __future__ import annotations

import asyncio
import math


class TimerAlarm:
    """An alarm by timers of the event loop: a cancel scope of anyio's that times out costs as much as five messages.

    A timer that is cancelled stays with the loop until its time. So that of the keepalive stays armed beside that of an
    acknowledgement, and a time that moved back is looked at when its timer fires.
    """

    __slots__ = ("_deadline", "_loop", "_soon", "_timer", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._soon: asyncio.TimerHandle | None = None  # of what is due before that
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
        if deadline == math.inf:
            return
        if self._timer is None:
            self._timer = self._loop.call_at(deadline, self._fired, False)
        elif self._timer.when() > deadline and (self._soon is None or self._soon.when() > deadline):
            if self._soon is not None:
                self._soon.cancel()
            self._soon = self._loop.call_at(deadline, self._fired, True)

    def ring(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def close(self) -> None:
        for timer in (self._timer, self._soon):
            if timer is not None:
                timer.cancel()
        self._timer = self._soon = None

    def _fired(self, soon: bool) -> None:
        if soon:
            self._soon = None
        else:
            self._timer = None
        if self._loop.time() < self._deadline:
            self.advance(self._deadline)
        else:
            self.ring()
