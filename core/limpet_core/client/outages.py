"""Outages: what events, counters and the log say of the times without an open connection."""

from __future__ import annotations

from typing import Final

from limpet_core.client.connection import Connection
from limpet_core.client.events import Connected, ConnectionFailed, Event, Recovered
from limpet_core.client.log_lines import LogLines
from limpet_core.client.options import Options
from limpet_core.client.stats import Counters
from limpet_core.errors import ConnectError, LimpetError
from limpet_core.text import one_line

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


class Outages:
    """Tells of one outage after the other.

    Args:
        options: the client's.
        counters: are counted on.
        events: takes what is to be told to the application.
        lines: takes what is to be logged.
    """

    __slots__ = ("_counters", "_events", "_log", "_options", "_outage")

    def __init__(self, options: Options, counters: Counters, events: list[Event], lines: LogLines) -> None:
        self._options = options
        self._counters = counters
        self._events = events
        self._log = lines
        self._outage: Outage | None = None

    @property
    def under_way(self) -> bool:
        """Whether no transport works, between start and stop."""
        return self._outage is not None

    def begin(self, now: float, lost_id: str | None = None, why: str | None = None) -> None:
        """Begin an outage: at the start, or because the transport of the connection ``lost_id`` was lost."""
        self._outage = Outage(now, lost_id)
        if why is not None:
            self._counters.last_error = why

    def attempt_failed(self, error: ConnectError, at: float | None, now: float) -> None:
        """Tell of a failed attempt; ``at``: the time of the next one, None: none follows."""
        outage = self._outage
        assert outage is not None, "bug: an attempt without an outage"
        notable = outage.attempt_failed(now)
        self._counters.failed_attempts += 1
        self._counters.last_error = str(error)
        self._events.append(ConnectionFailed(error, outage.failed, None if at is None else at - now))
        if at is None:  # start() raises it, or Stopped has it
            self._log.debug("attempt %d failed: %s; no other follows", outage.failed, error)
            return
        wait = f"in {at - now:.1f} s" if at > now else "at once"
        if not notable:
            self._log.debug("attempt %d failed: %s; the next is %s", outage.failed, error, wait)
        elif outage.lost_id is None and outage.failed == 1:
            backoff = self._options.first_connection
            assert backoff is not None  # else no other attempt would follow
            at_most = "" if backoff.limit is None else f", for {backoff.limit} attempts at most"
            until = f"until a connection is made{at_most} (the next attempt is {wait})"
            self._log.warning("%s; the start goes on %s", error, until)
        else:
            text = "attempt %d failed: %s; no connection for %s; the next attempt is %s"
            self._log.warning(text, outage.failed, error, outage.length(now), wait)

    def end(self, connection: Connection, now: float, *, recovered: bool) -> None:
        """End the outage, and tell of its end: a new connection, or a recovered one."""
        outage, counters = self._outage, self._counters
        assert outage is not None, "bug: a connection without an outage"
        self._outage = None
        took, number, here = outage.length(now), outage.failed + 1, one_line(connection.id)
        if recovered:
            counters.recoveries += 1
            self._events.append(Recovered(connection.id))
            self._log.info("recovered %s after %s, at attempt %d", here, took, number)
            return
        counters.connected_since = now
        self._events.append(Connected(connection.id, connection.user_id))
        if outage.lost_id is None:
            self._log.info("connected: %s, after %s, at attempt %d", here, took, number)
        else:
            counters.reconnects += 1
            before = one_line(outage.lost_id)
            self._log.info("reconnected: %s replaces %s, after %s, at attempt %d", here, before, took, number)

    def connection_gone(self) -> None:
        """Note that there is no connection any more, not even one that is recovered."""
        self._counters.connected_since = None

    def stop(self, error: LimpetError | None) -> None:
        """Note that the client has stopped, and why if that is an error: no attempt follows."""
        self._outage = None
        self.connection_gone()
        if error is not None:
            self._counters.last_error = str(error)
