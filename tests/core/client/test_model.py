"""A session against a small model of what must be observable, under any sequence of calls."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.helpers.driving import URL, encoded, hello, news, ok, refused
from tests.helpers.profiles import examples
from tests.helpers.strategies import ODD_TEXTS

from limpet import (
    JSON,
    RELIABLE_JSON,
    Acked,
    Backoff,
    ClientStopped,
    Connected,
    Dial,
    Disconnected,
    GroupMessage,
    LocalProtocolError,
    MessagesMissed,
    Options,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    ServerMessage,
    Session,
    State,
    Stopped,
)

GROUPS = st.sampled_from(["g", "h"])
CODES = st.sampled_from([1000, 1001, 1002, 1005, 1006, 1007, 1008, 1009, 1011, 4000])
RELATIVES = st.sampled_from([1, 1, 1, 1, 0, -1, 2, 5])
ERRORS = st.sampled_from(["Duplicate", "Forbidden", "InternalServerError", "NotFound", "Odd"])


@dataclass(eq=False)
class Ask:
    """A request as the model knows it: what went out, and how often it came back."""

    kind: str
    ack_id: int | None
    sent: int = 0
    sent_on: str | None = None
    payload: bytes | None = None
    settled: int = 0
    withdrawn: bool = False


@dataclass
class Model:
    """What an application may rely on; it learns from events, and says which events may come."""

    reliable: bool
    running: bool = False
    connection_id: str | None = None
    last: int = 0
    recovering: bool = False
    connection_ids: set[str] = field(default_factory=set)
    asks: list[Ask] = field(default_factory=list)
    newest_sent: int = -1

    def open(self) -> list[Ask]:
        return [ask for ask in self.asks if not ask.settled and not ask.withdrawn and ask.ack_id is not None]

    def asked(self, ack_id: int) -> Ask | None:
        return next((ask for ask in self.open() if ask.ack_id == ack_id), None)

    # What the session says

    def sees(self, event: Any, answered: dict[int, str]) -> None:
        assert self.running, f"{event} while stopped"
        if isinstance(event, Connected):
            assert self.connection_id is None
            assert event.connection_id not in self.connection_ids, "Connected once per connection"
            self.connection_ids.add(event.connection_id)
            self.connection_id, self.last, self.recovering = event.connection_id, 0, False
        elif isinstance(event, Recovering):
            assert self.reliable
            assert (event.connection_id, self.recovering) == (self.connection_id, False)
            self.recovering = True
        elif isinstance(event, Recovered):
            assert (event.connection_id, self.recovering) == (self.connection_id, True)
            self.recovering = False
        elif isinstance(event, Disconnected):
            assert event.connection_id == self.connection_id
            self.connection_id, self.recovering = None, False
        elif isinstance(event, Stopped):
            assert self.connection_id is None, "Disconnected comes before Stopped"
            assert not self.open(), "requests are settled before Stopped"
            self.running = False
        elif event == MessagesMissed(0, 0):
            assert self.connection_id is not None, "something without a sequence id was skipped"
        elif isinstance(event, MessagesMissed):
            assert self.reliable
            assert self.last + 1 == event.first <= event.last
            self.last = event.last
        elif isinstance(event, GroupMessage | ServerMessage):
            assert self.connection_id is not None
            assert not self.recovering
            if self.reliable and event.sequence_id is not None:
                assert event.sequence_id == self.last + 1, "at most once, in order, without silent gaps"
                self.last = event.sequence_id
        elif isinstance(event, Acked):
            self.settles(event, answered)
        else:
            assert isinstance(event, RejoinGroupFailed)

    def settles(self, event: Acked, answered: dict[int, str]) -> None:
        ask = event.user_data
        assert isinstance(ask, Ask)
        assert ask in self.asks
        assert ask.ack_id == event.ack_id
        assert not ask.withdrawn
        ask.settled += 1
        assert ask.settled == 1, "settled once"
        if event.error is None:
            assert answered.get(event.ack_id) == ("Duplicate" if event.duplicate else "ok")
        elif event.error.outcome == "rejected":
            assert answered.get(event.ack_id) == event.error.name
        elif event.error.outcome == "unsent":
            assert ask.sent == 0
        else:
            assert ask.sent > 0

    # What the session sends

    def sends(self, raw: bytes) -> None:
        message = json.loads(raw)
        kind = message["type"]
        if kind == "sequenceAck":
            assert self.reliable
            assert 0 < message["sequenceId"] <= self.last, "only what was delivered is acknowledged"
        elif kind != "ping":
            ask = self.asked(message["ackId"]) if "ackId" in message else None
            if ask is None:  # untracked, or a join of the session's own
                assert "ackId" not in message or kind == "joinGroup"
                return
            if ask.kind == "publish" and ask.sent:
                assert ask.sent_on == self.connection_id, "a publish is never repeated on another connection"
            assert ask.payload in (None, raw), "a repeat is the same, with its ack id"
            if not ask.sent:
                place = self.asks.index(ask)
                assert place > self.newest_sent, "sent in the order of the calls"
                self.newest_sent = place
            ask.payload, ask.sent_on, ask.sent = raw, self.connection_id, ask.sent + 1


class SessionAgainstModel(RuleBasedStateMachine):
    protocol = RELIABLE_JSON

    def __init__(self) -> None:
        super().__init__()
        self.options = Options(
            protocol=self.protocol,
            reconnect=Backoff(limit=4),
            retry=Backoff(initial=1.0, maximum=1.0, limit=2),
            connect_timeout=10.0,
            ack_timeout=8.0,
            request_timeout=50.0,
            recovery_timeout=20.0,
            max_pending_requests=8,
            sequence_ack_messages=3,
        )
        self.session = Session(self.options, random=lambda: 0.5)
        self.model = Model(self.options.reliable)
        self.now = 100.0
        self.connections = 0
        self.current: str | None = None  # the id of the last connected message
        self.transport: Dial | None = None
        self.taking = True
        self.dropped_at = 0.0
        self.starts = self.stops = 0

    # ---- After each call: drain, and let the model judge

    def drained(self, answered: dict[int, str] | None = None) -> None:
        session, model = self.session, self.model
        for event in session.events():
            model.sees(event, answered or {})
            self.stops += isinstance(event, Stopped)
            if isinstance(event, Recovering):
                self.dropped_at = self.now
        if session.dial is not self.transport:
            self.transport = None
        if self.taking:
            for raw in session.messages_to_send():
                assert self.transport is not None, "messages go to an open transport"
                model.sends(raw)
        assert session.events() == []

    @invariant()
    def agrees(self) -> None:
        session, model = self.session, self.model
        assert model.running is (session.state is not State.STOPPED)
        assert self.stops == self.starts - model.running
        assert session.connection_id == model.connection_id or session.state is State.STOPPING
        assert (session.state is State.RECOVERING) <= model.recovering
        if session.state is State.CONNECTED:
            assert model.connection_id is not None
            assert not model.recovering
        if session.state in (State.CONNECTING, State.WAITING):
            assert model.connection_id is None
        if session.state is State.STOPPED:
            assert (session.deadline, session.dial, session.groups) == (math.inf, None, frozenset())
            assert session.messages_to_send() == []
            assert model.open() == []
        else:
            assert session.deadline < math.inf, "something is due as long as it runs"
        assert session.reading or session.state is State.CONNECTED

    # ---- The application

    @rule()
    def start(self) -> None:
        if self.model.running:
            with pytest.raises(LocalProtocolError):
                self.session.start(self.now)
        else:
            self.starts += 1
            self.model.running = True
            self.session.start(self.now)
        self.drained()

    @rule()
    def stop(self) -> None:
        self.session.stop(self.now)
        self.drained()
        assert self.session.state in (State.STOPPED, State.STOPPING)
        assert self.model.open() == []

    @rule(
        kind=st.sampled_from(["join", "leave", "publish", "event", "untracked"]),
        group=GROUPS,
        ack_id=st.one_of(st.none(), st.none(), st.integers(1, 12), st.just(2**40)),
    )
    def ask(self, kind: str, group: str, ack_id: int | None) -> None:
        session, now = self.session, self.now
        ask = Ask("publish" if kind == "event" else kind, None)
        try:
            if kind == "join":
                ask.ack_id = session.join_group(group, now, ack_id=ack_id, user_data=ask)
            elif kind == "leave":
                ask.ack_id = session.leave_group(group, now, ack_id=ack_id, user_data=ask)
            elif kind == "event":
                ask.ack_id = session.send_event("e", {"n": 1}, now, ack_id=ack_id, user_data=ask)
            else:
                ack = kind == "publish"
                ask.ack_id = session.send_to_group(
                    group, "x", now, ack=ack, ack_id=ack_id if ack else None, user_data=ask
                )
        except ClientStopped:
            assert session.state in (State.STOPPED, State.STOPPING)
        except LocalProtocolError:
            in_use = ack_id is not None and self.model.asked(ack_id) is not None
            assert in_use or len(self.model.open()) >= 1  # a rejoin may have it, or they are too many
        else:
            assert ask.ack_id is None or self.model.asked(ask.ack_id) is None
            assert ack_id is None or kind == "untracked" or ask.ack_id == ack_id
            self.model.asks.append(ask)
        self.drained()

    @rule(kinds=st.lists(st.sampled_from(["join", "leave", "publish", "event", "untracked"]), min_size=2, max_size=4))
    def ask_much(self, kinds: list[str]) -> None:
        for kind in kinds:
            self.ask(kind, "g", None)

    @rule(error=st.one_of(st.none(), ERRORS), connected=st.booleans())
    def ask_and_be_answered(self, error: str | None, connected: bool) -> None:
        if connected:
            self.go_on()
        self.ask("publish", "g", None)
        sent = [ask for ask in self.model.open() if ask.sent_on == self.model.connection_id and ask.sent]
        self.answers(error, max(len(sent) - 1, 0))

    @rule(index=st.integers(0, 5))
    def withdraw(self, index: int) -> None:
        asks = self.model.open()
        if index < len(asks):
            ask = asks[index]
            assert ask.ack_id is not None
            ask.withdrawn = self.session.withdraw(ask.ack_id)
            assert ask.withdrawn is (ask.sent == 0)
        else:
            assert self.session.withdraw(2**50 + index) is False
        self.drained()

    @rule(resumed=st.booleans())
    def read(self, resumed: bool) -> None:
        (self.session.reading_resumed if resumed else self.session.reading_paused)(self.now)
        self.drained()

    @rule()
    def transport_is_full_or_not(self) -> None:
        self.taking = not self.taking
        self.drained()

    # ---- The transport

    @rule(good=st.sampled_from([True, True, True, False, None]))
    def url(self, good: bool | None) -> None:
        if good:
            self.session.url_ready(URL, self.now)
        elif good is None:
            self.session.url_ready("http://no.websocket", self.now)
        else:
            self.session.url_failed(OSError("no URL"), self.now)
        self.drained()

    @rule()
    def open(self) -> None:
        dial = self.session.dial
        self.session.connected(self.now)
        if dial is not None and dial.url is not None:
            self.transport = dial
        self.drained()

    @rule()
    def go_on(self) -> None:
        """Do what leads to a connection: most sequences of calls alone would never get there."""
        if self.session.state is State.STOPPED:
            self.start()
        if self.session.dial is None and self.session.deadline < math.inf:
            self.wake(0.0)
        self.session.url_ready(URL, self.now)
        self.open()
        if self.session.state is State.CONNECTING:
            self.says_hello(new=True)
        elif self.session.state is State.RECOVERING:
            self.says(encoded({"type": "pong"}))

    @initialize(connected=st.sampled_from([True, True, False]))
    def begin(self, connected: bool) -> None:
        if connected:
            self.go_on()

    @rule(code=st.sampled_from([1008, 1006, 1006]))
    def drop_and_go_on(self, code: int) -> None:
        self.drop(code)
        self.go_on()

    @rule(status=st.sampled_from([None, 401, 503]))
    def refuse(self, status: int | None) -> None:
        self.session.dial_failed(OSError("refused"), self.now, status=status)
        self.drained()

    @rule(code=CODES)
    def drop(self, code: int) -> None:
        self.session.disconnected(self.now, code=code, reason="dropped")
        self.drained()

    @rule(code=st.sampled_from([1002, 1007, 1009]))
    def broken(self, code: int) -> None:
        self.session.transport_broken(code, "broken", self.now)
        self.drained()

    @rule()
    def binary(self) -> None:
        self.session.receive_binary(self.now)
        self.drained()

    # ---- The service

    def says(self, *messages: bytes, answered: dict[int, str] | None = None) -> None:
        self.session.receive_messages(list(messages), self.now)
        self.drained(answered)

    @rule(new=st.booleans(), token=st.sampled_from(["t1", "t2", "t2", None]))
    def says_hello(self, new: bool, token: str | None = "t1") -> None:
        if new or self.current is None:
            self.connections += 1
            self.current = f"c{self.connections}"
        elif self.session.connection_id != self.current:
            return  # a service does not use an id twice
        self.says(encoded(hello(self.current, token=token)))

    @rule(steps=st.lists(RELATIVES, min_size=1, max_size=4), server=st.booleans())
    def says_news(self, steps: list[int], server: bool) -> None:
        messages, sequence_id = [], self.model.last
        for step in steps:
            sequence_id = max(1, sequence_id + step)
            news_id = sequence_id if self.options.reliable else None
            message = news(news_id) | ({"from": "server"} if server else {})
            messages.append(encoded(message))
        self.says(*messages)

    @rule(error=st.one_of(st.none(), ERRORS), index=st.integers(0, 3))
    def answers(self, error: str | None, index: int) -> None:
        asks = [ask for ask in self.model.open() if ask.sent_on == self.model.connection_id and ask.sent]
        ack_id = asks[index].ack_id if index < len(asks) else 2**51
        assert ack_id is not None
        answer = ok(ack_id) if error is None else refused(ack_id, error)
        known = index < len(asks) and self.session.state is State.CONNECTED
        self.says(encoded(answer), answered={ack_id: error or "ok"})
        if known and error != "InternalServerError":
            assert asks[index].settled == 1, "an answer settles"

    @rule()
    def answers_what_was_never_sent(self) -> None:
        for ask in [ask for ask in self.model.open() if not ask.sent]:
            assert ask.ack_id is not None
            self.taking = False
            self.says(encoded(ok(ask.ack_id)))
            assert not ask.settled

    @rule(first=ODD_TEXTS, ack_id=st.integers(-3, 12))
    def says_odd(self, first: str, ack_id: int) -> None:
        self.says(encoded(first), encoded({"type": "system", "event": "disconnected", "message": "bye"}))
        unknown = self.model.asked(ack_id) is None
        if unknown:
            self.says(encoded(ok(ack_id)))

    # ---- Time

    @rule(more=st.sampled_from([0.0, 0.0, 0.1, 5.0, 100.0]))
    def wake(self, more: float) -> None:
        if self.session.deadline < math.inf:
            self.now = max(self.now, self.session.deadline) + more
        self.session.wake(self.now)
        assert self.session.deadline > self.now, "after a wake the deadline has moved"
        self.drained()
        if self.session.state is State.RECOVERING:
            assert self.now < self.dropped_at + self.options.recovery_timeout

    @rule(seconds=st.sampled_from([0.0, 0.3, 2.0]))
    def wake_early(self, seconds: float) -> None:
        before = (self.session.state, self.session.dial, self.session.deadline)
        if self.now + seconds < self.session.deadline:
            self.now += seconds
            self.session.wake(self.now)
            assert (self.session.state, self.session.dial, self.session.deadline) == before
            assert self.session.events() == []

    @precondition(lambda self: self.model.running)
    @rule()
    def settle(self) -> None:
        """Whatever happened, requests are settled within bounded time."""
        end = self.now + 51.0
        while self.session.deadline <= end:
            self.wake(0.0)
        self.now = end
        assert all(ask.settled or ask.withdrawn or ask.ack_id is None for ask in self.model.asks)

    def teardown(self) -> None:
        self.session.stop(self.now)
        self.session.disconnected(self.now)
        self.drained()
        self.agrees()
        assert self.session.state is State.STOPPED


class PlainSessionAgainstModel(SessionAgainstModel):
    protocol = JSON


TestReliable = SessionAgainstModel.TestCase
TestReliable.settings = settings(max_examples=examples(120), stateful_step_count=40)
TestPlain = PlainSessionAgainstModel.TestCase
TestPlain.settings = settings(max_examples=examples(50), stateful_step_count=40)
