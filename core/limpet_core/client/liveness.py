"""Liveness: whether the peer is still there, and patience after time in which nobody listened to it."""

from __future__ import annotations

import math
from typing import Final

from limpet_core.client.control import Control
from limpet_core.client.log_lines import LogLines
from limpet_core.client.options import Options
from limpet_core.client.states import Dial
from limpet_core.client.timers import Timer, Timers

LATE: Final = 2.0
"""Seconds that a timer may be late, or the machine suspended, without consequence."""

_GRACE: Final = 1.0
"""Seconds after a late timer in which to read what has arrived meanwhile, before the peer is judged."""

JUDGING: Final = frozenset(
    {
        Timer.CONNECT,
        Timer.START,
        Timer.WINDOW,
        Timer.REQUESTS,
        Timer.CLOSE,
        Timer.STREAMS,
        Timer.INVOCATIONS,
        Timer.SEND_FAILED,
    }
)
"""The timers of what is done because the peer has not sent something in time."""

_NEVER: Final = -math.inf  # one object for all sessions


class Liveness:
    """Pings and checks the peer of an established connection.

    Attributes:
        heard: when the peer was last heard, in seconds.
        patient_until: no deadline of the peer's is judged before, in seconds.
    """

    __slots__ = (
        "_asleep",
        "_checked",
        "_control",
        "_log",
        "_options",
        "_patience_for",
        "_timers",
        "heard",
        "patient_until",
    )

    def __init__(self, options: Options, control: Control, timers: Timers, lines: LogLines) -> None:
        self._options = options
        self._control = control
        self._timers = timers
        self._log = lines
        self.heard: float = 0.0
        self._checked = _NEVER  # when a check began
        # Time that the process did not see
        self._asleep: float | None = None  # how long the machine was suspended
        self.patient_until: float = _NEVER
        self._patience_for: tuple[float, Dial] | None = None  # what was last heard, when patience was last had

    # ---- Keepalive

    def begin(self, now: float) -> None:
        """Keep the transport alive, and watch for its silence, from now on."""
        if self._options.keepalive_interval:
            self._timers.set(Timer.PING, now + self._options.keepalive_interval)
        if self._options.keepalive_timeout:
            self._timers.set(Timer.SILENCE, now + self._options.keepalive_timeout)

    def ping(self, now: float) -> None:
        """Send a ping, and the next one after ``keepalive_interval``."""
        assert self._options.keepalive_interval
        self._control.ping()
        self._timers.set(Timer.PING, now + self._options.keepalive_interval)

    def judge_silence(self, now: float, *, stalled: bool) -> str | None:
        """Return why the transport is lost; None: it is not, so look again later.

        ``stalled``: nothing is read, so silence means nothing.
        """
        timeout = self._options.keepalive_timeout
        assert timeout
        heard = now if stalled else self.heard
        if self.unanswered:
            self._timers.set(Timer.SILENCE, self._timers[Timer.CHECK])  # before the check, nothing may have been read
        elif heard + timeout > now:
            self._timers.set(Timer.SILENCE, heard + timeout)
        else:
            return f"nothing was heard for {timeout:g} s"
        return None

    # ---- Checks

    @property
    def unanswered(self) -> bool:
        """Whether the peer was not heard since a check, which is not over."""
        return self._timers[Timer.CHECK] < math.inf and self.heard < self._checked

    def check(self, now: float, *, anew: bool) -> None:
        """Ping the peer, and wait ``check_timeout`` for a sign of life.

        Args:
            now: the time.
            anew: give the peer the whole time, even if it has not answered an earlier check yet.
        """
        self._control.ping()
        if anew or not self.unanswered:
            self._checked = now
            # A clock that stands still for a millisecond: only bytes read after the check are an answer to it.
            self.heard = min(self.heard, math.nextafter(now, -math.inf))
            self._timers.set(Timer.CHECK, now + self._options.check_timeout)

    def judge_check(self) -> str | None:
        """Return why the transport is lost at the end of a check; None: it is not."""
        if self.heard < self._checked:
            return f"nothing was heard within {self._options.check_timeout:g} s of a check"
        return None

    # ---- Time that the process did not see

    def was_suspended(self, seconds: float) -> bool:
        """Return whether the machine was suspended since the last call; ``seconds`` grow with each suspend."""
        before, self._asleep = self._asleep, seconds
        if before is not None and seconds - before > LATE:
            self._log.debug("the machine was suspended for %.0f s", seconds - before)
            return True
        return False

    def was_patient(self, dial: Dial | None) -> bool:
        """Return whether patience was had in this silence already.

        Else a process that always stands still would never notice a dead peer.
        """
        return self._patience_for == (self.heard, dial)

    def have_patience(self, dial: Dial, now: float) -> None:
        """Judge nothing for a second: what the peer has sent meanwhile on the transport of ``dial`` may be unread."""
        self._patience_for = self.heard, dial
        self.patient_until = now + _GRACE
