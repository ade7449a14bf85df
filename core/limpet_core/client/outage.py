"""Outage: a time without an open connection, and what the log says of it."""

from __future__ import annotations

from typing import Final

_WARN_AFTER: Final = (60.0, 300.0, 900.0)
"""Seconds of an outage after which the next failed attempt is a warning again; then every :data:`_WARN_EVERY`."""

_WARN_EVERY: Final = 3600.0


class Outage:
    """A time without an open connection: from ``start()`` or the loss of a transport to the next one that works.

    Attributes:
        lost_id: the id of the connection whose transport was lost; None: there was no connection since ``start()``.
        failed: how many attempts have failed.
    """

    __slots__ = ("_began_at", "_warn_at", "failed", "lost_id")

    def __init__(self, now: float, lost_id: str | None = None) -> None:
        self.lost_id: str | None = lost_id
        self.failed: int = 0
        self._began_at = now
        self._warn_at = now  # the time from which on a failed attempt is worth a warning

    def attempt_failed(self, now: float) -> bool:
        """Count a failed attempt; return whether it is worth a warning.

        The first one is, and then ever fewer, so that an outage of hours is known to go on and does not fill the log.
        """
        self.failed += 1
        if now < self._warn_at:
            return False
        lasted = now - self._began_at
        later = [seconds for seconds in _WARN_AFTER if seconds > lasted]
        self._warn_at = self._began_at + (later[0] if later else (lasted // _WARN_EVERY + 1) * _WARN_EVERY)
        return True

    def length(self, now: float) -> str:
        """Return how long the outage has lasted, for people."""
        seconds = max(now - self._began_at, 0.0)
        if seconds < 60:
            return f"{seconds:.1f} s"
        minutes, rest = divmod(int(seconds), 60)
        return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
