"""A driver between a session and its lines, one after the other."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from limpet import Dial, State, Stopped
from simulation.application import Application
from simulation.framed import FramedLine
from simulation.inspect import pending
from simulation.line import Line


class Client(Application):
    """Drives its session as adapters do, over lines that break."""

    line_type: ClassVar[type[Line]] = Line
    line: Line | None = None
    lines = 0
    asked_for_url: Dial | None = None
    urls = 0
    wakes_at = math.inf
    refusals = 0  # in a row
    last_fault = ""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.unread: list[tuple[Line, Any]] = []
        self.faults = self.weather.faults  # that are left

    # ---- The driver

    def receives(self, line: Line, item: Any) -> None:
        if line is self.line:
            self.unread.append((line, item))
            if self.session.reading:
                self.read()
            self.drain()

    def wake(self, when: float) -> None:
        """The timer, which was set for ``when``; it is set again after anything else that happens."""
        if when != self.wakes_at:
            return
        self.wakes_at = math.inf
        if self.session.deadline <= when:
            self.session.wake(when)
            assert self.session.deadline > when, "after wake(deadline) the deadline has moved"
        self.drain()
        self.counted(self.session.stats)

    def drain(self) -> None:
        session = self.session
        while True:
            self.saw_all(session.events())
            line = self.line
            if line is None or line.dial is not session.dial:
                self.follow_dial()
                line = self.line
            if line is not None:
                line.push()
            if not self.unread or not session.reading:
                break
            self.read()
        if session.deadline < self.wakes_at:
            self.wakes_at = session.deadline
            self.clock.at(self.wakes_at, self.wake, self.wakes_at)

    def read(self) -> None:
        """Read one item, or all the messages up to the next item that is none."""
        line, item = self.unread.pop(0)
        if line is not self.line:
            return
        if isinstance(item, list):
            while self.unread and self.unread[0][0] is line and isinstance(self.unread[0][1], list):
                item += self.unread.pop(0)[1]
        connected = self.session.state is State.CONNECTED
        line.give(item)
        if connected:
            self.pause()

    def stopped(self, event: Stopped) -> None:
        super().stopped(event)
        self.has_stopped()

    @property
    def busy(self) -> bool:
        """Whether there is something to wait for: a reader, a line, a connection, an answer, a message, an
        ack, the end of a stream, a reply, the news of a state."""
        connection = self.service.core.connection(self.connection_id or "")
        return (
            self.paused
            or self.line is None
            or self.line.dead
            or self.session.state is not State.CONNECTED
            or bool(pending(self.session))
            or bool(self.open_streams)
            or bool(self.open_invocations)
            or self.states_differ
            or connection is None
            or connection.attachment is None
            or (self.reliable and (self.last != connection.sequence_id or connection.retained > 0))
        )

    # ---- The transport that the session wants

    def follow_dial(self) -> None:
        dial, line = self.session.dial, self.line
        if line is not None:
            self.line = None
            line.abandon()
        if dial is None:
            return
        if dial.url is not None:
            self.line = self.connect(dial)
        elif self.asked_for_url is not dial:
            self.asked_for_url = dial
            self.urls += 1
            answer = self.provides(f"{self.name} url {self.urls}")
            if answer is not None:
                seconds, fails = answer
                self.clock.after(seconds, self.url_for, dial, fails)

    def url_for(self, dial: Dial, fails: bool) -> None:
        if self.session.dial is dial:
            if fails:
                self.session.url_failed(OSError("no URL today"), self.clock.now)
            else:
                self.session.url_ready(self.url, self.clock.now, fixed=self.fixed)
            self.drain()

    def connect(self, dial: Dial) -> Line:
        """Open a line, or do not, as chance has it."""
        self.lines += 1
        name, gentle = f"{self.name} line {self.lines}", self.weather.gentle
        random = self.clock.draw(name)
        line_type = FramedLine if self.weather.framed else self.line_type
        line = line_type(name, self.clock, self.service, self, dial, random)
        # A client whose first connection fails is stopped: that is no loss, but it is no gentle run either.
        faulty = self.weather.faults > 0 and (not gentle or bool(self.connection_ids))
        if faulty and self.refusals < 3 and random.random() < 0.25:
            status = random.choice([None, None, 502, 503] if gentle else [None, 401, 404, 502, 503])
            if self.clock.fault(name, f"refused with {status}"):
                return self.refuse(line, status)
        if self.clock.now < self.service.dark_until:
            return self.refuse(line, None)
        self.refusals = 0
        if self.faults and random.random() < 0.7:
            self.plan_fault(line, faulty)
        if faulty and not gentle and random.random() < 0.05 and self.clock.fault(name, "the dial hangs"):
            return line
        line.begin()
        return line

    def refuse(self, line: Line, status: int | None) -> Line:
        self.refusals += 1
        self.clock.after(line.latency, line.refuse, status)
        return line

    def plan_fault(self, line: Line, faulty: bool) -> None:
        clock, random = self.clock, line.random
        how = random.choice(["cut", "cut", "pipe", "silence"])
        if self.last_fault == "silence" or (self.weather.gentle and line.dial.recovery):
            how = "cut"  # silence takes a third of the window to recover
        # On the way down come the open transport and the connected message first.
        direction, count = random.choice([("up", 1), ("up", 1), ("down", 1)])
        if not faulty:  # the first connection of a gentle run: behind the handshake and the first messages
            count = 4
        count += random.choice([0, 0, 1, 2, 5, 10, 30])
        later = random.random() < 0.3
        delay = random.choice([0.0, 0.5, 4.0] if faulty else [8.0])
        what = f"{how} after {count} items {direction}" + (f", at the latest after {delay} s" if later else "")
        if not clock.fault(line.name, what):
            return
        self.last_fault = how
        self.faults -= 1
        line.fault = (how, direction, count)
        if later:
            clock.after(delay, lambda: clock.faulty and line.breaks(how))
