"""An application, its session, and the driver between the session and its wires."""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from limpet import Backoff, ClientStopped, Dial, Options, Session, State, TooManyRequests
from simulation.inspect import pending, set_stride
from simulation.oracle import Asked, Oracle
from simulation.wire import Wire

if TYPE_CHECKING:
    from simulation.world import World


class Watched(Session):
    """A session whose messages are looked at when they are handed out, whoever takes them."""

    oracle: Oracle

    def messages_to_send(self) -> list[bytes]:
        messages = self.hands_out(super().messages_to_send())
        for message in messages:
            self.oracle.sends(message)
        return messages

    def hands_out(self, messages: list[bytes]) -> list[bytes]:
        """Return what the driver gets of ``messages``; a faulty session may change them."""
        return messages


class Client(Oracle):
    """Acts as applications do, and drives a session as adapters do."""

    def __init__(self, world: World, name: str) -> None:
        random, gentle = world.draw(name), world.weather.gentle
        # One URL for all connections of a run, or a provider that is asked for each.
        self.fixed = random.random() < 0.3
        self.url = ""
        options = Options(
            protocol=world.weather.protocol,
            resend=world.weather.resend,  # type: ignore[arg-type]
            reconnect=Backoff(maximum=5.0),
            connect_timeout=10.0,
            # Long enough to notice a silence first: 11 s, after 6 s for a slow reader and two latencies.
            ack_timeout=25.0 if gentle else random.choice([3.0, 10.0, 20.0]),
            request_timeout=None if gentle else random.choice([None, None, 7.0, 30.0]),
            max_pending_requests=1000 if gentle else random.choice([1000, 1000, 15]),
            keepalive_interval=5.0,
            keepalive_timeout=11.0,
        )
        session = world.session_type(options, random=random.random)
        super().__init__(world, name, session)
        session.oracle = self
        set_stride(session, random.choice([2, 5, 150]))
        self.wire: Wire | None = None
        self.wires = 0
        self.asked_for_url: Dial | None = None
        self.urls = 0
        self.unread: list[tuple[Wire, Any]] = []
        self.wakes_at = math.inf
        self.paused = False
        self.slow = 0.0
        self.faults = world.weather.faults
        self.refusals = 0
        self.last_fault = ""

    # ---- The application

    def start(self) -> None:
        if self.session.state is State.STOPPED:
            self.starts += 1
            self.stood, self.url = False, ""
            self.session.start(self.world.now)
            self.join("room")
            self.drain()

    def stop(self) -> None:
        if self.session.state not in (State.STOPPED, State.STOPPING):
            self.stopping_since = self.world.now
        self.session.stop(self.world.now)

    def stopped(self) -> None:
        if not self.world.ending:
            self.world.at(self.world.now + 1.0, self.start)

    def join(self, group: str) -> None:
        self.ask("join" if group != "room" else "room", lambda asked: self.session.join_group(
            group, self.world.now, user_data=asked
        ))  # fmt: skip

    def leave(self, random: Random) -> None:
        """Leave a group, now or when the connection has been lost, and perhaps give up waiting for it."""
        if "side" in self.session.groups and not self.world.weather.gentle and random.random() < 0.6:
            self.world.core.close_connection(self.connection_id or "", "to be left")
            self.world.serve()
            self.world.at(self.world.now + random.choice([0.5, 1.0, 2.0, 4.0, 8.0]), self.leave_now, random)
        else:
            self.leave_now(random)

    def leave_now(self, random: Random) -> None:
        asked = self.ask("leave", lambda asked: self.session.leave_group("side", self.world.now, user_data=asked))
        if random.random() < 0.4:
            self.world.at(self.world.now + random.choice([0.0, 0.1, 1.0, 5.0]), self.give_up, asked)
        self.drain()

    def give_up(self, asked: Asked) -> None:
        """The application was cancelled while it waited."""
        if asked.ack_id is not None and not asked.outcomes and not asked.withdrawn:
            asked.withdrawn = self.session.withdraw(asked.ack_id)
            self.world.log("%s: %s withdrawn=%s", self.name, asked.kind, asked.withdrawn)
            self.drain()

    def publish(self, *, group: str = "room", ack: bool = True, no_echo: bool = False) -> None:
        kind = "forbidden" if group == "secret" else f"publish {group}" if ack else "untracked"
        asked = self.ask(kind, lambda asked: self.session.send_to_group(
            group, asked.number, self.world.now, ack=ack, no_echo=no_echo, user_data=asked
        ))  # fmt: skip
        if no_echo:
            self.unechoed.add(asked.number)

    def ask(self, kind: str, make: Callable[[Asked], int | None]) -> Asked:
        asked = Asked(kind, next(self.world.numbers), None, self.world.now)
        try:
            asked.ack_id = make(asked)
        except TooManyRequests:
            self.world.log("%s: too many requests", self.name)
            assert len(pending(self.session)) >= self.options.max_pending_requests
        except ClientStopped:
            assert self.session.state in (State.STOPPED, State.STOPPING)
        else:
            self.asked.append(asked)
        return asked

    def act(self, random: Random) -> None:
        """Do something that applications do."""
        session, now = self.session, self.world.now
        gentle = self.world.weather.gentle
        what = random.random()
        if what < 0.55:
            self.publish(ack=random.random() < 0.85, no_echo=random.random() < 0.1)
        elif what < 0.63:
            for _ in range(random.randint(2, 20)):
                self.publish(ack=random.random() < 0.9)
        elif what < 0.67:
            self.publish(group="secret")
        elif what < 0.70:
            self.ask("event", lambda asked: session.send_event("e", asked.number, now, user_data=asked))
        elif what < 0.78:
            self.join("side")
        elif what < 0.83:
            self.leave(random)
        elif what < 0.87:
            self.publish(group="side")
        elif what < 0.91:
            session.sender_waits(now)
            self.world.at(now + random.choice([0.5, 20.0]), self.sender_goes_on)
        elif what < 0.95:
            self.slow = random.choice([0.5, 3.0, 6.0] if gentle else [3.0, 15.0, 40.0])
        elif what < 0.97:
            self.publish()
            asked = random.choice([Asked("", 0, None), *(asked for asked in self.asked[-3:] if asked.kind != "room")])
            self.give_up(asked)
        elif gentle:
            self.publish()
        elif what < 0.985:
            self.stop()
        self.drain()

    def pause(self) -> None:
        """The consumer is slow: it takes its time over the messages that it was just given."""
        if self.slow and not self.paused:
            self.paused = True
            self.session.reading_paused(self.world.now)
            self.world.at(self.world.now + self.slow, self.resume)
            self.slow = 0.0

    def sender_goes_on(self) -> None:
        self.session.sender_goes_on()
        self.drain()

    def resume(self) -> None:
        self.paused = False
        self.session.reading_resumed(self.world.now)
        self.drain()

    @property
    def busy(self) -> bool:
        """Whether there is something to wait for: a reader, a transport, a connection, an answer, a message, an ack."""
        connection = self.world.core.connection(self.connection_id or "")
        return (
            self.paused
            or self.wire is None
            or self.wire.dead
            or self.session.state is not State.CONNECTED
            or bool(pending(self.session))
            or connection is None
            or connection.transport is None
            or (self.options.reliable and (self.last != connection.sequence_id or connection.retained > 0))
        )

    # ---- The driver: what adapters do

    def receives(self, wire: Wire, item: Any) -> None:
        if wire is self.wire:
            self.unread.append((wire, item))
            if self.session.reading:
                self.read()
            self.drain()

    def wake(self, when: float) -> None:
        """The timer rings, which was set for ``when``; it is set again after anything else that happens."""
        if when != self.wakes_at:
            return
        self.wakes_at = math.inf
        if self.session.deadline <= when:
            self.session.wake(when)
            assert self.session.deadline > when, "after wake(deadline) the deadline has moved"
        self.drain()

    def drain(self) -> None:
        session = self.session
        while True:
            for event in session.events():
                self.saw(event)
            wire = self.wire
            if wire is None or wire.dial is not session.dial:
                self.follow_dial()
                wire = self.wire
            if wire is not None:
                wire.push()
            if not self.unread or not session.reading:
                break
            self.read()
        if session.deadline < self.wakes_at:
            self.wakes_at = session.deadline
            self.world.at(self.wakes_at, self.wake, self.wakes_at)

    def read(self) -> None:
        """Read what has arrived: one thing, or all the messages up to the next that is none."""
        wire, item = self.unread.pop(0)
        if wire is not self.wire:
            return
        if isinstance(item, list):
            while self.unread and self.unread[0][0] is wire and isinstance(self.unread[0][1], list):
                item += self.unread.pop(0)[1]
        connected = self.session.state is State.CONNECTED
        wire.give(item)
        if connected:
            self.pause()

    def follow_dial(self) -> None:
        dial, wire = self.session.dial, self.wire
        if wire is not None:
            self.wire = None
            wire.abandon()
        if dial is None:
            return
        if dial.url is not None:
            self.wire = self.world.connect(self, dial)
        elif self.asked_for_url is not dial:
            self.asked_for_url = dial
            self.urls += 1
            self.ask_for_url(dial, f"{self.name} url {self.urls}")

    def ask_for_url(self, dial: Dial, name: str) -> None:
        random, wild = self.world.draw(name), not self.world.weather.gentle
        if self.fixed:
            self.url = self.url or self.world.new_url(random.choice([20.0, 60.0, math.inf]))
            self.world.at(self.world.now, self.url_for, dial, False)
            return
        if not self.url or random.random() < 0.7 or not self.world.faulty:
            self.url = self.world.new_url(random.choice([5.0, math.inf]))  # else it remembers one that may have expired
        fails = wild and random.random() < 0.05 and self.world.fault(name, "the provider has no URL")
        hangs = wild and random.random() < 0.02 and self.world.fault(name, "the provider does not answer")
        if not hangs:
            self.world.at(self.world.now + random.choice([0.0, 0.2]), self.url_for, dial, fails)

    def url_for(self, dial: Dial, fails: bool) -> None:
        if self.session.dial is dial:
            if fails:
                self.session.url_failed(OSError("no URL today"), self.world.now)
            else:
                self.session.url_ready(self.url, self.world.now, fixed=self.fixed)
            self.drain()
