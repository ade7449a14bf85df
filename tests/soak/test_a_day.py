"""A day of reconnects in virtual time: a Session and the service's logic, and not a byte more at its end."""

from __future__ import annotations

import gc
import itertools
import random
import tracemalloc
import urllib.parse

from tests.service.virtual import JOIN_SEND_ALL, World

from holdfast import Acked, Connected, Dial, GroupMessage, Options, Recovered, Session
from holdfast_core.service import JSON_RELIABLE, ClientGrant, Transport, group_publication

HOUR = 3600.0
NOISE = 24 * 1024


class Day:
    """One session, one service, one clock; the network is perfect but for the drops."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.world = World()
        self.now = self.world.now
        self.session = Session(Options(), random=self.chance.random)
        self.dial: Dial | None = None
        self.transport: Transport | None = None
        self.published = itertools.count()
        self.counts = dict.fromkeys((Connected, Recovered, GroupMessage, Acked), 0)
        self.session.start(self.now)
        self.exchange()
        self.session.join_group("room", self.now)
        self.exchange()

    def exchange(self) -> None:
        """Carry messages both ways until nobody has anything to say."""
        while self.step():
            for event in self.session.events():
                if type(event) in self.counts:
                    self.counts[type(event)] += 1

    def step(self) -> bool:
        session, core = self.session, self.world.core
        if session.dial is not self.dial:
            if self.transport is not None:
                core.disconnected(self.transport, 1006, self.now)
            self.dial, self.transport = session.dial, None
            if self.dial is not None:
                self.open(self.dial)
            return True
        if self.transport is None:
            return bool(session.events())
        said = session.messages_to_send()
        for message in said:
            core.receive(self.transport, message, self.now)
        core.transports_with_output()
        heard = self.transport.messages_to_send()
        session.receive_messages(heard, self.now)
        if self.transport.close is not None and session.dial is self.dial:
            core.disconnected(self.transport, self.transport.close.code, self.now)
            session.disconnected(self.now, code=self.transport.close.code, reason=self.transport.close.reason)
            return True
        return bool(said or heard)

    def open(self, dial: Dial) -> None:
        if dial.url is None:
            self.session.url_ready("ws://h/client/hubs/chat?access_token=t", self.now)
        assert dial.url is not None
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(dial.url).query))
        if dial.recovery:
            ids = query["awps_connection_id"], query["awps_reconnection_token"]
            self.transport = self.world.core.recover("chat", *ids, self.now)
        else:
            grant = ClientGrant("ann", JOIN_SEND_ALL)
            self.transport = self.world.core.connect("chat", JSON_RELIABLE, grant, self.now)
        self.session.connected(self.now)

    def run(self, seconds: float) -> None:
        """Let time pass; about every half minute something happens, every second time a drop."""
        end = self.now + seconds
        next_event = self.now + self.chance.uniform(5, 55)
        while self.now < end:
            self.now = min(self.session.deadline, self.world.core.deadline, next_event, end)
            self.world.core.wake(self.now)
            if self.session.deadline <= self.now:
                self.session.wake(self.now)
            if next_event <= self.now:
                self.happen()
                next_event = self.now + self.chance.uniform(5, 55)
            self.exchange()

    def happen(self) -> None:
        number = b"%d" % next(self.published)
        match self.chance.randrange(4):
            case 0:
                self.session.disconnected(self.now)
            case 1 if self.session.connection_id is not None:
                self.world.core.close_connection(self.session.connection_id, "again")
            case 2:
                self.session.send_to_group("room", number.decode(), self.now)
            case _:
                for _ in range(5):
                    self.world.core.send_to_group("chat", "room", group_publication("room", None, "json", number))


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
    assert len(day.world.core.hub("chat").connections) == 1
