"""Attempts to connect and to recover: their numbers and times."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from limpet_core.client.options import Options
from limpet_core.client.refusals import seconds_to_wait
from limpet_core.errors import ConnectError
from limpet_core.redaction import Secrets
from limpet_core.text import one_line, reason_of

_CAUSE: Final = 500
"""Characters of a cause in the text of an error; it may quote others."""

_EARLY_ATTEMPTS: Final = 10.0
"""The budget for early attempts to recover, see :meth:`Attempts.next_recovery`."""

_EARLY_PRICE: Final = 0.25
"""The price of an early attempt, in units of ``recovery_interval`` on a connection that made progress."""


_NEVER: Final = -math.inf  # one object for all sessions


class Attempts:
    """Counts attempts and schedules them.

    Attributes:
        number: the number of the current attempt, from 1 since a connection was last established.
    """

    __slots__ = (
        "_began_at",
        "_connected_at",
        "_early_left",
        "_not_before",
        "_options",
        "_random",
        "_recovery_at",
        "_steps",
        "_up_since",
        "number",
    )

    number: int

    def __init__(self, options: Options, random: Callable[[], float]) -> None:
        self._options = options
        self._random = random
        self.reset()

    def reset(self) -> None:
        """Forget all attempts: the application called ``start()``."""
        self.number = 0
        self._steps = 0
        self._connected_at = self._up_since = math.inf
        self._began_at = _NEVER
        self._recovery_at = self._not_before = _NEVER
        self._early_left = _EARLY_ATTEMPTS

    def began(self, now: float) -> int:
        """Note the begin of an attempt to make a new connection, and return its number."""
        self.number += 1
        self._began_at = now
        return self.number

    def recovery_began(self, now: float) -> int:
        """Note the begin of an attempt to recover, and return its number."""
        if now < self._recovery_at:
            self._early_left -= 1.0
        # Jitter upwards, by up to a quarter: clients that lost their connections together do not recover in step.
        self._recovery_at = now + self._options.recovery_interval * (1.0 + 0.25 * self._random())
        return self.began(now)

    def put_off(self, seconds: float, now: float) -> None:
        """Make no attempt for that long, at most ``max_retry_after``: the service or a proxy asked for it."""
        self._not_before = max(self._not_before, now + min(seconds, self._options.max_retry_after))

    def soonest(self, now: float) -> float:
        """Return the time of an attempt that does not wait for its delay: a ``recovery_interval`` after the last."""
        return max(now, self._not_before, self._began_at + self._options.recovery_interval)

    def established(self, now: float, *, after_recovery: bool) -> None:
        """Note that a new connection is established: attempts count from 1 again.

        Args:
            after_recovery: the service made the connection in answer to an attempt to recover another one. There was
                no backoff before that attempt, so the time of the attempt still counts.
        """
        self.number = 0
        if self._connected_at == math.inf:  # the first of this start, whose delays were others
            self._steps = 0
        self._connected_at = self._up_since = now
        if not after_recovery:
            self._recovery_at = _NEVER

    def recovered(self, now: float) -> None:
        """Note that the connection is recovered: attempts count from 1 again."""
        self.number = 0
        self._up_since = now

    def next_recovery(self, now: float, *, progress: bool) -> float:
        """Return the time of the next attempt to recover: now, but an interval after the previous attempt at least.

        It is never before the delay that a refusal asked for is over.

        A connection that drops again and again must not cost an interval each time: the service would have to retain
        too many messages meanwhile. So after progress the attempt is early, which means now, as long as there is
        budget for it. Time on connections that made progress refills the budget. Without progress no attempt is early.

        Args:
            progress: the connection that dropped had brought a new message or an answer since it was established or
                recovered.
        """
        interval = self._options.recovery_interval
        if not progress or interval == 0.0:
            return max(now, self._recovery_at, self._not_before)
        self._early_left = min(self._early_left + (now - self._up_since) / (interval * _EARLY_PRICE), _EARLY_ATTEMPTS)
        # The delay that a refusal asked for is over: a transport was open after it.
        return now if self._early_left >= 1.0 else max(now, self._recovery_at)

    def lost(self, now: float) -> None:
        """Note that the connection is lost for good: the attempts to recover it do not count any more."""
        self.number = 0
        if now - self._connected_at >= self._options.reconnect.maximum:
            self._steps = 0  # after a stable connection only: one that drops at once gets no short delays again

    def next_connection(self, now: float, *, first: bool) -> float | None:
        """Return the time of the next attempt to make a new connection; None: no attempts are left.

        Args:
            first: no connection was established since the start.
        """
        backoff = self._options.first_connection if first else self._options.reconnect
        if backoff is None or not backoff.allows(self.number + 1):
            return None
        self._steps += 1
        # The backoff comes on top: clients that were refused together do not return in step.
        return max(now, self._not_before) + backoff.delay(self._steps, self._random)


def connect_error(
    failed: str,
    cause: BaseException,
    secrets: Secrets,
    *,
    status: int | None = None,
    retry_after: float | None = None,
) -> ConnectError:
    """Return a ConnectError whose text is ``failed`` and the text of ``cause``, without tokens.

    Its ``__cause__`` is ``cause``; if ``cause`` is a ConnectError, the cause of that one.

    Args:
        failed: what failed.
        cause: why.
        secrets: hidden in the text.
        status: the HTTP status.
        retry_after: seconds to wait; None: those of ``cause``, if that is a ConnectError.
    """
    if retry_after is None and isinstance(cause, ConnectError):
        retry_after = cause.retry_after
    text = f"{failed}: {one_line(reason_of(cause), _CAUSE, secrets)}"
    error = ConnectError(text, status=status, retry_after=seconds_to_wait(retry_after) or None)
    error.__cause__ = cause.__cause__ if isinstance(cause, ConnectError) else cause
    return error
