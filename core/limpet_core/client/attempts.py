"""How often, and when, to connect and to recover."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from limpet_core.client.options import Options
from limpet_core.errors import ConnectError
from limpet_core.redaction import Secrets
from limpet_core.text import one_line

_CAUSE: Final = 500
"""Characters of a cause in the text of an error; it may quote others."""

_EARLY_ATTEMPTS: Final = 10
"""Attempts to recover that may come early in a row, see :meth:`Attempts.next_recovery`."""

_EARLY_PRICE: Final = 0.25
"""The price of an early attempt: so many ``recovery_interval`` on a connection that made progress."""


class Attempts:
    """Counts attempts and paces them.

    Attributes:
        number: the number of the current attempt, from 1, since a connection last stood.
    """

    __slots__ = (
        "_connected_at",
        "_early_left",
        "_options",
        "_random",
        "_recovery_at",
        "_stands_since",
        "_steps",
        "number",
    )

    number: int

    def __init__(self, options: Options, random: Callable[[], float]) -> None:
        self._options = options
        self._random = random
        self.reset()

    def reset(self) -> None:
        """Count anew: the application called ``start()``."""
        self.number = 0
        self._steps = 0
        self._connected_at = self._stands_since = math.inf
        self._recovery_at = -math.inf
        self._early_left = float(_EARLY_ATTEMPTS)

    def began(self) -> int:
        """An attempt to make a new connection begins; return its number."""
        self.number += 1
        return self.number

    def recovery_began(self, now: float) -> int:
        """An attempt to recover begins; return its number."""
        if now < self._recovery_at:
            self._early_left -= 1.0
        # Jitter upwards, by up to a quarter: clients cut off together do not come back in step.
        self._recovery_at = now + self._options.recovery_interval * (1.0 + 0.25 * self._random())
        return self.began()

    def established(self, now: float, *, after_recovery: bool) -> None:
        """A new connection stands: attempts count from 1 again.

        Args:
            after_recovery: the service gave it in answer to an attempt to recover another one. No backoff came before
                it, so the time of that attempt still counts.
        """
        self.number = 0
        self._connected_at = self._stands_since = now
        if not after_recovery:
            self._recovery_at = -math.inf

    def recovered(self, now: float) -> None:
        """It was recovered: attempts count from 1 again."""
        self.number = 0
        self._stands_since = now

    def next_recovery(self, now: float, *, progress: bool) -> float:
        """When to try to recover: at once, but not sooner than an interval after the try before.

        A bad line that drops again and again must not cost an interval each time: what the service keeps meanwhile
        would become too much. So after progress the next attempt comes early, at once, as long as the budget lasts;
        time on connections that made progress fills it again. Without progress nothing comes early.

        Args:
            progress: a connection dropped that had brought a new message or an answer since it last stood.
        """
        interval = self._options.recovery_interval
        if not progress or interval == 0.0:
            return max(now, self._recovery_at)
        self._early_left = min(
            self._early_left + (now - self._stands_since) / (interval * _EARLY_PRICE), float(_EARLY_ATTEMPTS)
        )
        return now if self._early_left >= 1.0 else max(now, self._recovery_at)

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


def connect_error(failed: str, cause: BaseException, secrets: Secrets, status: int | None = None) -> ConnectError:
    """Return a ConnectError that says what failed and why; it keeps the cause unless the cause says no more."""
    text = one_line(f"KeyError: {cause}" if isinstance(cause, KeyError) else str(cause), _CAUSE, secrets)
    error = ConnectError(f"{failed}: {text or type(cause).__name__}", status=status)
    error.__cause__ = cause.__cause__ if isinstance(cause, ConnectError) else cause
    return error
