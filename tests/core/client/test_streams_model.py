"""Streams against a small model of the service: each fragment arrives once and in order, or the writer is told."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.helpers.driving import Drive, hello
from tests.helpers.profiles import examples

from limpet import Backoff, State, StreamClosed, StreamOpened, StreamProgress


@dataclass
class Written:
    """What the writer of a stream knows."""

    fragments: int = 0
    opened: bool = False
    acknowledged: int = 0
    ended: str | None = None
    """``end``, or the message of an abort."""
    closed: StreamClosed | None = None


@dataclass
class Arrived:
    """What the service has made of a stream."""

    group: str
    fragments: list[int] = field(default_factory=list)
    end: str | None = None
    """``end``, the message of an abort, or ``Cancelled``."""

    @property
    def next(self) -> int:
        return len(self.fragments) + 1


class Service:
    """One connection after the other; acknowledges when it is told to, and refuses what it is told to."""

    def __init__(self) -> None:
        self.streams: dict[str, Arrived] = {}
        self.owed: list[str] = []  # streams that an acknowledgement is due for
        self.refusals = 0  # so many fragments are refused for the moment

    def reads(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        """Read a message and return the answers that do not wait."""
        kind = message["type"]
        if kind == "ping":
            return [{"type": "pong"}]
        if kind == "sendToGroup":
            return self.starts(message["stream"]["streamId"], message["group"])
        name = message["streamId"]
        stream = self.streams.get(name)
        if stream is None or stream.end is not None:
            return [{"type": "streamClosed", "streamId": name, "error": {"name": "StreamNotFound", "message": ""}}]
        if kind == "streamEnd":
            stream.end = message.get("error", {"message": "end"})["message"]
            return [{"type": "streamClosed", "streamId": name}]
        number = message.get("streamSequenceId")
        if number is None:
            return []
        if number == stream.next and not self.refusals:
            assert message["data"] == f"{name}-{number}"
            stream.fragments.append(number)
        elif number >= stream.next:
            transient = number == stream.next
            self.refusals -= transient
            why = "TransientError" if transient else "InvalidSequenceId"
            return [self.says("streamNack", name) | {"name": why, "message": ""}]
        self.owes(name)
        return []

    def starts(self, name: str, group: str) -> list[dict[str, Any]]:
        assert name not in self.streams or self.streams[name].end is None, "ids are used once in this test"
        self.streams.setdefault(name, Arrived(group))
        return [self.says("streamAck", name)]

    def owes(self, name: str) -> None:
        if name not in self.owed:
            self.owed.append(name)

    def acknowledges(self) -> list[dict[str, Any]]:
        owed, self.owed = self.owed, []
        return [self.says("streamAck", name) for name in owed if self.streams[name].end is None]

    def says(self, kind: str, name: str) -> dict[str, Any]:
        return {"type": kind, "streamId": name, "expectedSequenceId": self.streams[name].next}

    def connection_ends(self) -> None:
        for stream in self.streams.values():
            stream.end = stream.end or "Cancelled"
        self.owed.clear()


class StreamsAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        retry = Backoff(initial=1.0, multiplier=1.0, jitter=0.0, limit=None)
        self.drive = Drive(max_stream_unacked=5, retry=retry, ack_timeout=10.0, recovery_timeout=60.0)
        self.service = Service()
        self.written: dict[str, Written] = {}
        self.connections = 0
        self.up: list[dict[str, Any]] = []  # on the way to the service
        self.down: list[dict[str, Any]] = []  # on the way to the client

    # ---- The network

    @initialize(connected=st.sampled_from([True, True, True, False]), streams=st.integers(0, 2))
    def begin(self, connected: bool, streams: int) -> None:
        self.drive.start()
        if connected:
            self.go_on()
        for _ in range(streams):
            self.opens()
        if connected:
            self.to_service(9)
            self.to_client(9)

    def collect(self) -> None:
        """Take what the client has to send, and what it has to tell."""
        told = re.search(r"(\d+) messages to send", repr(self.drive.session))
        sent = self.drive.sent()
        if self.drive.state is State.CONNECTED:
            assert int(told[1] if told else 0) == len(sent)
        self.up += sent
        for event in self.drive.events():
            if isinstance(event, StreamOpened):
                written = self.written[event.stream_id]
                assert not written.opened
                written.opened = True
            elif isinstance(event, StreamProgress):
                written = self.written[event.stream_id]
                assert written.opened
                assert event.acknowledged > written.acknowledged
                written.acknowledged = event.acknowledged
            elif isinstance(event, StreamClosed):
                self.check_end(event)
        for name, stream in self.service.streams.items():
            assert stream.fragments == list(range(1, len(stream.fragments) + 1))
            assert len(stream.fragments) <= self.written[name].fragments
            assert self.written[name].acknowledged <= len(stream.fragments)

    def check_end(self, event: StreamClosed) -> None:
        written = self.written[event.stream_id]
        assert written.closed is None
        written.closed = event
        arrived = self.service.streams.get(event.stream_id)
        count = 0 if arrived is None else len(arrived.fragments)
        assert written.acknowledged <= event.acknowledged <= count
        if event.error is None:
            assert event.acknowledged == count == written.fragments
            assert written.ended is not None
            assert arrived is None or arrived.end == written.ended
        else:
            assert event.error.name in ("ConnectionLost", "StreamNotFound", "Incomplete", "Aborted")
            assert event.error.acknowledged == event.acknowledged

    @rule(count=st.integers(1, 4))
    def to_service(self, count: int) -> None:
        for _ in range(min(count, len(self.up))):
            self.down += self.service.reads(self.up.pop(0))

    @rule(count=st.integers(1, 4), refuse=st.sampled_from([0, 0, 1, 3]))
    def flow(self, count: int, refuse: int) -> None:
        """A bit of everything that happens all the time."""
        self.go_on()
        if not self.names():
            self.opens()
        self.writes(0, count)
        self.service.refusals = refuse
        self.to_service(9)
        self.to_client(9)

    @rule(count=st.integers(1, 4))
    def to_client(self, count: int) -> None:
        if self.drive.state is State.CONNECTED:
            self.drive.says(*self.down[:count])
            del self.down[:count]
            self.collect()

    @property
    def connected(self) -> bool:
        return self.drive.state in (State.CONNECTED, State.RECOVERING)

    @rule()
    def service_acknowledges(self) -> None:
        if self.drive.state is State.CONNECTED:
            self.down += self.service.acknowledges()

    @rule(names=st.lists(st.integers(0, 3), max_size=3))
    def service_acknowledges_twice(self, names: list[int]) -> None:
        open_ones = [name for name, stream in self.service.streams.items() if stream.end is None]
        if self.drive.state is State.CONNECTED:
            self.down += [self.service.says("streamAck", open_ones[index]) for index in names if index < len(open_ones)]

    @rule()
    def acknowledgements_are_lost(self) -> None:
        self.down = [message for message in self.down if message["type"] != "streamAck"]

    @precondition(lambda self: self.connected)
    @rule(arrives=st.integers(0, 6), forever=st.sampled_from([False, False, False, True]))
    def drop(self, arrives: int, forever: bool) -> None:
        """The transport breaks; some of what was on the way arrives, and no answer."""
        for message in self.up[:arrives]:
            self.service.reads(message)
        self.up.clear()
        self.down.clear()
        self.service.owed.clear()
        if self.drive.state is State.RECOVERING:
            self.drive.until_dial()
            self.drive.open()
        if forever:
            self.service.connection_ends()
        self.drive.drop(1008 if forever else 1006)
        self.collect()

    @precondition(lambda self: self.drive.state is not State.CONNECTED)
    @rule()
    def go_on(self) -> None:
        """Connect, or recover."""
        if self.drive.state is State.CONNECTED:
            return
        if self.drive.session.dial is None:
            self.drive.until_dial()
        self.drive.open()
        self.up += self.drive.sent()
        if self.drive.state is State.CONNECTING:
            self.connections += 1
            self.service.connection_ends()
            self.drive.says(hello(f"c{self.connections}"))
        else:
            self.drive.says({"type": "pong"})
        self.collect()

    @rule(seconds=st.sampled_from([0.5, 2.0, 11.0]))
    def time_passes(self, seconds: float) -> None:
        if self.drive.state is State.CONNECTED:
            self.drive.advance(seconds)
            self.collect()

    @rule(count=st.integers(1, 4), refuse=st.sampled_from([0, 0, 1]))
    def ends_without_an_acknowledgement(self, count: int, refuse: int) -> None:
        self.flow(count, 0)
        self.writes(0, count)
        self.ends(0, abort=False)
        self.service.refusals = refuse
        self.to_service(9)
        self.time_passes(2.0)
        self.to_service(9)

    # ---- The writer

    def names(self) -> list[str]:
        return [name for name, written in self.written.items() if written.closed is None]

    @rule()
    def opens(self) -> None:
        if len(self.names()) < 3:
            name = f"s{len(self.written)}"
            self.written[name] = Written()
            self.drive.session.open_stream("g", self.drive.now, stream_id=name)
            self.collect()

    @precondition(lambda self: self.written)
    @rule(index=st.sampled_from([0, 0, 1]), count=st.integers(1, 5))
    def writes(self, index: int, count: int) -> None:
        if index < len(self.names()):
            name = self.names()[index]
            written = self.written[name]
            for _ in range(count):
                if self.drive.session.stream_has_room(name):
                    written.fragments += 1
                    data = f"{name}-{written.fragments}"
                    assert self.drive.session.write_stream(name, data, self.drive.now) == written.fragments
            self.collect()

    @precondition(lambda self: self.written)
    @rule(index=st.sampled_from([0, 0, 1]), abort=st.booleans())
    def ends(self, index: int, abort: bool) -> None:
        if index < len(self.names()):
            name = self.names()[index]
            written = self.written[name]
            if written.ended is None:
                written.ended = "why" if abort else "end"
                if abort:
                    self.drive.session.abort_stream(name, "why", self.drive.now)
                else:
                    self.drive.session.end_stream(name, self.drive.now)
                self.collect()

    def settles(self) -> None:
        """Whatever happened: on a good network all that was written arrives, and ends come to their end."""
        self.service.refusals = 0
        for _ in range(12):
            self.go_on()
            while self.up or self.down or self.service.owed:
                self.to_service(100)
                self.service_acknowledges()
                self.to_client(100)
            self.time_passes(11.0)
        for name in self.names():
            written = self.written[name]
            assert written.opened
            assert written.ended is None
            assert written.acknowledged == written.fragments

    def teardown(self) -> None:
        if self.written:
            self.settles()


TestStreams = StreamsAgainstModel.TestCase
TestStreams.settings = settings(max_examples=examples(100), stateful_step_count=25)
