"""The timers of a session, and the earliest of their deadlines."""

from __future__ import annotations

import enum
import math
from typing import Final


class Timer(enum.IntEnum):
    """A timer of a session; the value is its slot."""

    CONNECT = 0
    """The current attempt to connect or recover takes too long."""
    WINDOW = 1
    """The connection cannot be recovered any more."""
    ATTEMPT = 2
    """The next attempt to connect or recover begins."""
    PING = 3
    """A ping is due."""
    SILENCE = 4
    """The peer has been silent for too long."""
    SEQUENCE_ACK = 5
    """The acknowledgement of received messages is due."""
    REQUESTS = 6
    """A request is to be repeated or given up."""
    CLOSE = 7
    """The peer has not answered our close."""
    CHECK = 8
    """The peer has not been heard since a check."""
    STREAMS = 9
    """A stream is to be repeated, kept alive or given up."""
    INVOCATIONS = 10
    """An invocation runs out of time."""
    START = 11
    """The start takes longer than its caller will wait."""
    SEND_FAILED = 12
    """A send has failed, and the end of the transport has not been read since."""


SEQUENCE_ACK: Final = int(Timer.SEQUENCE_ACK)
REQUESTS: Final = int(Timer.REQUESTS)
"""As plain numbers, which are found in a list in fewer steps: each message and each request looks."""


class Timers:
    """The deadlines of all timers, in seconds; ``inf``: the timer is not armed.

    Attributes:
        deadline: the earliest deadline.
        slots: the deadlines, for a look without a call; to change one, call :meth:`set` or :meth:`stop`.
    """

    __slots__ = ("deadline", "slots")

    def __init__(self) -> None:
        self.slots: Final = [math.inf] * len(Timer)
        self.deadline: float = math.inf

    def __getitem__(self, timer: int) -> float:
        return self.slots[timer]

    def set(self, timer: int, deadline: float) -> None:
        self.slots[timer] = deadline
        self.deadline = min(self.slots)

    def stop(self, *timers: int) -> None:
        for timer in timers:
            self.slots[timer] = math.inf
        self.deadline = min(self.slots)

    def expired(self, now: float) -> list[int]:
        """Return the timers that are due, in the order of their deadlines."""
        due = [timer for timer, deadline in enumerate(self.slots) if deadline <= now]
        if len(due) > 1:
            due.sort(key=self.slots.__getitem__)
        return due
