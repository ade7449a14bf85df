"""An asyncio event loop under a virtual clock."""

from __future__ import annotations

import asyncio
import math
import selectors
from collections.abc import Callable
from typing import Any

from limpet.testing.virtual.network import VirtualNetwork


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that lets time pass instead of waiting for it."""

    def __init__(self, clock: VirtualNetwork) -> None:
        self._clock = clock
        self._jump = _Jump(clock)
        super().__init__(self._jump)

    def time(self) -> float:
        """The time of the clock."""
        return self._clock.now

    def at_limit(self, limit: float, over: Callable[[], None]) -> None:
        """Call ``over``, once, instead of letting time pass beyond ``limit``."""
        self._jump.limit, self._jump.over = limit, over


class _Jump(selectors.SelectSelector):
    """Waits for nothing: the only file here is the one by which the loop wakes itself."""

    def __init__(self, clock: VirtualNetwork) -> None:
        super().__init__()
        self._clock = clock
        self.limit = math.inf
        self.over: Callable[[], None] = lambda: None

    def select(self, timeout: float | None = None) -> list[Any]:
        """Let time pass, until something is due or ``timeout`` seconds are over."""
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        due = min(self._clock.deadline, self._clock.now + (math.inf if timeout is None else timeout))
        if due == math.inf:
            raise RuntimeError("every task waits, and nothing will ever happen")
        if due > self.limit:
            self._clock.advance_to(self.limit)
            self.limit = math.inf
            self.over()
            return []
        self._clock.advance_to(due)
        return super().select(0)
