"""Virtual time, the log, and chance: everything that happens in a run is drawn and planned here."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from random import Random
from typing import Any
from zlib import crc32


class Clock:
    """The time of one run, what happens in it and when.

    Args:
        seed: with ``salt`` it decides everything that happens.
        salt: makes the same seed another one, for another kind of run.
        without: names of the ``schedule`` that are left out.

    Attributes:
        now: the time, in seconds.
        faulty: whether the network and the service may fail now.
        schedule: the faults and acts that were drawn: time, name and description.
    """

    def __init__(self, seed: int, salt: str, without: frozenset[str] = frozenset()) -> None:
        self.without = without
        self.now = 0.0
        self.faulty = True
        self.schedule: list[tuple[float, str, str]] = []
        self._seed, self._salt = seed << 32, crc32(salt.encode())
        self._log: list[tuple[float, str, tuple[object, ...]]] = []
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._serial = itertools.count()

    # ---- Time

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        heapq.heappush(self._heap, (when, next(self._serial), call, arguments))

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        self.at(self.now + seconds, call, *arguments)

    def run_until(self, end: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end:
            self.now, _, call, arguments = heapq.heappop(heap)
            call(*arguments)
        self.now = end

    def run_while(self, busy: Callable[[], bool], limit: float) -> None:
        """Go on while ``busy()``, which is asked every few seconds; at most for ``limit`` seconds."""
        end = self.now + limit
        while self.now < end and busy():
            self.run_until(min(end, self.now + 3.0))

    # ---- The log

    def log(self, text: str, *arguments: object) -> None:
        self._log.append((self.now, text, arguments))

    @property
    def trace(self) -> list[str]:
        """The log as lines of text."""
        return [f"{now:9.3f} {text % arguments}" for now, text, arguments in self._log]

    # ---- Chance

    def draw(self, name: str) -> Random:
        """Return the randomness of one name: to leave out another name does not change it."""
        return Random(crc32(name.encode(), self._salt) + self._seed)

    def happens(self, name: str, what: str) -> bool:
        """Note an event that can be left out when a failure is reduced; False: it is left out."""
        if name in self.without:
            return False
        self.schedule.append((self.now, name, what))
        return True

    def fault(self, name: str, what: str) -> bool:
        return self.faulty and self.happens(f"{name} {what.split()[0]}", what)
