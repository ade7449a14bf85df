"""Backoff: the delays between attempts. The caller brings the randomness."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from limpet_core.errors import InvalidValue
from limpet_core.protocol.rules import check_integer, check_number


class Backoff(msgspec.Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """The delays before attempt 1, 2, 3, ..., and the number of attempts.

    The delay before attempt n is ``initial * multiplier ** (n - 1)`` seconds, at most ``maximum``. The share
    ``jitter`` of it is random: 0.0 is exact, 1.0 is full jitter (from 0 to the delay), which keeps a fleet of clients
    from reconnecting in step.

    Attributes:
        initial: seconds before the first attempt, >= 0.
        maximum: the longest delay in seconds, >= ``initial``.
        multiplier: growth per attempt, >= 1.
        jitter: share of the delay that is random, 0.0 to 1.0.
        limit: attempts before giving up (int >= 0), or None for no limit.

    Raises:
        InvalidValue, InvalidType: a field cannot be used; the message names the field.
    """

    initial: float = 1.0
    maximum: float = 30.0
    multiplier: float = 2.0
    jitter: float = 1.0
    limit: int | None = None

    def __post_init__(self) -> None:
        check_number("initial", self.initial, minimum=0.0)
        check_number("maximum", self.maximum, minimum=self.initial)
        check_number("multiplier", self.multiplier, minimum=1.0)
        if self.multiplier == math.inf:
            raise InvalidValue("multiplier must be finite")
        check_number("jitter", self.jitter, minimum=0.0, maximum=1.0)
        if self.limit is not None:
            check_integer("limit", self.limit, minimum=0)

    def allows(self, attempt: int) -> bool:
        """Return whether attempt number ``attempt`` (from 1) is within the limit."""
        return self.limit is None or attempt <= self.limit

    def delay(self, attempt: int, random: Callable[[], float]) -> float:
        """Return the seconds to wait before attempt number ``attempt`` (from 1); ``random()`` draws from [0, 1)."""
        try:
            delay = min(self.initial * self.multiplier ** (attempt - 1), self.maximum)
        except OverflowError:
            delay = self.maximum
        return delay * (1.0 - self.jitter * random()) if self.jitter else delay
