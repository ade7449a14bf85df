"""A day of reconnects in virtual time: a Session and the service's logic, and not a byte more at its end."""

from __future__ import annotations

import gc
import itertools
import random
import tracemalloc
import urllib.parse

from limpet import Acked, Connected, GroupMessage, Options, Recovered
from limpet.testing import VirtualService

HOUR = 3600.0
NOISE = 24 * 1024


class Day:
    """One session, one service, one clock; the network is perfect but for the drops."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.service = VirtualService()
        self.client = self.service.client(options=Options(), random=self.chance.random)
        self.published = itertools.count()
        self.counts = dict.fromkeys((Connected, Recovered, GroupMessage, Acked), 0)
        self.client.start()
        self.client.join_group("room")

    def run(self, seconds: float) -> None:
        """Let time pass; about every half minute something happens, every second time a drop."""
        end = self.service.now + seconds
        while self.service.now < end:
            self.service.advance(self.chance.uniform(5, 55))
            self.happen()
            for event in self.client.events:
                if type(event) in self.counts:
                    self.counts[type(event)] += 1
            for seen in (self.client.events, self.client.sent, self.service.log):
                seen.clear()

    def happen(self) -> None:
        number = next(self.published)
        match self.chance.randrange(4):
            case 0:
                self.service.cut()
            case 1 if self.client.connection_id is not None:
                self.service.end(self.client.connection_id, "again")
            case 2:
                self.client.send_to_group("room", str(number))
            case _:
                self.service.publish("room", [number] * 5)


def memory() -> int:
    urllib.parse.clear_cache()
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_a_day_of_reconnects_leaves_nothing_behind() -> None:
    day = Day(seed=1)
    tracemalloc.start()
    try:
        day.run(2 * HOUR)
        before = memory()
        day.run(24 * HOUR)
        growth = memory() - before
    finally:
        tracemalloc.stop()
    assert growth < NOISE, growth
    assert day.counts[Recovered] > 500
    assert day.counts[Connected] > 500
    assert day.counts[GroupMessage] > 2000
    assert day.counts[Acked] > 500
    day.service.advance(60)
    assert day.service.core.connection_count == 1
