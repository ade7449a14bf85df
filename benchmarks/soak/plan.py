"""What happens in a soak, and when: numbered messages both ways, and faults drawn from a seed. No IO in here."""

from __future__ import annotations

import dataclasses
import random
from typing import Literal

GROUP_UP = "up"
"""The client under test publishes here; the service notes what it executes."""

GROUP_DOWN = "down"
"""The client under test has joined this group; the service publishes here."""

Kind = Literal["reset", "end", "cut to client", "cut to service", "refuse", "stall", "half", "slow", "pieces"]
_KINDS: tuple[Kind, ...] = (
    "reset",
    "end",
    "cut to client",
    "cut to client",
    "cut to service",
    "cut to service",
    "refuse",
    "stall",
    "half",
    "slow",
    "pieces",
)


@dataclasses.dataclass(frozen=True)
class Plan:
    """One soak; the same for every client.

    Attributes:
        seconds: how long faults happen and messages are published.
        rate: messages a second, each way.
        grace: seconds after the last fault in which all calls must be answered and all messages be there.
        pause: the shortest and the longest time between two faults, in seconds.
        hasty: for short soaks: our clients recover without the pauses that suit a real network.
    """

    seconds: float
    seed: int
    rate: float = 50.0
    grace: float = 20.0
    pause: tuple[float, float] = (0.1, 1.2)
    hasty: bool = False

    @property
    def messages(self) -> int:
        """How many are published each way, numbered from 0."""
        return int(self.seconds * self.rate)


@dataclasses.dataclass(frozen=True)
class Fault:
    """What the network does ``after`` so many seconds.

    Attributes:
        lasts: seconds, where the kind of fault has a length.
        size: bytes that still pass before a cut, or the size of the pieces.
    """

    after: float
    kind: Kind
    lasts: float
    size: int


def faults(plan: Plan) -> list[Fault]:
    """The faults of ``plan`` in order. The connection can be recovered after each: none lasts long enough to end it."""
    chance = random.Random(plan.seed)
    shortest, longest = plan.pause
    result: list[Fault] = []
    left = plan.seconds
    while (after := chance.uniform(shortest, longest)) < left:
        fault = Fault(after, chance.choice(_KINDS), chance.uniform(shortest, longest), int(600 * chance.random() ** 2))
        result.append(fault)
        left -= after + fault.lasts
    return result
