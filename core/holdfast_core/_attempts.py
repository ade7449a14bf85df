"""How often, and when, to connect and to recover."""

from __future__ import annotations

import math
from collections.abc import Callable

from holdfast_core.options import Options


class Attempts:
    """Counts attempts and paces them.

    Attributes:
        number: the number of the current attempt, from 1, since a connection last stood.
    """

    __slots__ = ("_connected_at", "_options", "_random", "_recovery_at", "_steps", "number")

    def __init__(self, options: Options, random: Callable[[], float]) -> None:
        self._options = options
        self._random = random
        self.reset()

    def reset(self) -> None:
        """Count anew: the application called ``start()``."""
        self.number = 0
        self._steps = 0
        self._connected_at = math.inf
        self._recovery_at = -math.inf

    def began(self) -> int:
        """An attempt to make a new connection begins; return its number."""
        self.number += 1
        return self.number

    def recovery_began(self, now: float) -> int:
        """An attempt to recover begins; return its number."""
        # Jitter upwards, by up to a quarter: clients cut off together do not come back in step.
        self._recovery_at = now + self._options.recovery_interval * (1.0 + 0.25 * self._random())
        return self.began()

    def stands(self, now: float) -> None:
        """A new connection stands: attempts count from 1 again."""
        self.number = 0
        self._connected_at = now
        self._recovery_at = -math.inf

    def recovered(self) -> None:
        """It was recovered: attempts count from 1 again."""
        self.number = 0

    def next_recovery(self, now: float) -> float:
        """When to try to recover: at once, but never sooner than an interval after the try before."""
        return max(now, self._recovery_at)

    def lost(self, now: float) -> None:
        """The connection that stood is gone for good; the attempts to recover it do not count any more."""
        self.number = 0
        if now - self._connected_at >= self._options.reconnect.maximum:
            self._steps = 0  # it was stable; one that drops at once does not get short delays again

    def next_connection(self, now: float) -> float | None:
        """When to try to make a new connection; None: the attempts allowed are used up."""
        backoff = self._options.reconnect
        if not backoff.allows(self.number + 1):
            return None
        self._steps += 1
        return now + backoff.delay(self._steps, self._random)
