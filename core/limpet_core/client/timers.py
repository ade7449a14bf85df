"""Fixed timer slots with the earliest deadline at hand."""

from __future__ import annotations

import enum
import math
from typing import Final


class Timer(enum.IntEnum):
    """What a session waits for; the value is the slot."""

    CONNECT = 0
    """The current attempt to connect or recover must have shown life."""
    WINDOW = 1
    """The connection can be recovered until then."""
    ATTEMPT = 2
    """Start the next attempt to connect or recover."""
    PING = 3
    """Send a ping."""
    SILENCE = 4
    """The peer must have been heard."""
    SEQUENCE_ACK = 5
    """Acknowledge received messages."""
    REQUESTS = 6
    """A request must be repeated or given up."""
    CLOSE = 7
    """The peer must have answered our close."""


SEQUENCE_ACK: Final = Timer.SEQUENCE_ACK
REQUESTS: Final = Timer.REQUESTS


class Timers:
    """A deadline per :class:`Timer`; ``inf`` where nothing is due."""

    __slots__ = ("_slots", "deadline")

    def __init__(self) -> None:
        self._slots: Final = [math.inf] * len(Timer)
        self.deadline: float = math.inf

    def __getitem__(self, timer: Timer) -> float:
        return self._slots[timer]

    def set(self, timer: Timer, deadline: float) -> None:
        """Arm ``timer`` for ``deadline`` (seconds), whatever it was armed for before."""
        self._slots[timer] = deadline
        self.deadline = min(self._slots)

    def stop(self, *timers: Timer) -> None:
        """Disarm ``timers``."""
        for timer in timers:
            self._slots[timer] = math.inf
        self.deadline = min(self._slots)

    def expired(self, now: float) -> list[Timer]:
        """The timers that are due, in the order of their deadlines."""
        due = [timer for timer in Timer if self._slots[timer] <= now]
        due.sort(key=self._slots.__getitem__)
        return due
