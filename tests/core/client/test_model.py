"""A session against a small model of what must be observable, under any sequence of calls."""

from __future__ import annotations

import math

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simulation.oracle import Ask, SessionOracle
from tests.helpers.driving import URL, encoded, hello, news, ok, refused
from tests.helpers.profiles import examples
from tests.helpers.shared_parts import UNTOUCHED, contents
from tests.helpers.strategies import ODD_TEXTS

from limpet import (
    JSON,
    RELIABLE_JSON,
    Acked,
    Backoff,
    ClientStopped,
    Dial,
    LocalProtocolError,
    Options,
    Recovering,
    Session,
    State,
)

GROUPS = st.sampled_from(["g", "h"])
CODES = st.sampled_from([1000, 1001, 1002, 1005, 1006, 1007, 1008, 1009, 1011, 4000])
RELATIVES = st.sampled_from([1, 1, 1, 1, 0, -1, 2, 5])
ERRORS = st.sampled_from(["Duplicate", "Forbidden", "InternalServerError", "NotFound", "Odd"])


class Model(SessionOracle):
    """The oracle, and what the service answered."""

    answered: dict[int, str]

    def acked(self, event: Acked) -> Ask:
        ask = super().acked(event)
        assert ask is event.user_data
        if event.error is None:
            assert self.answered.get(event.ack_id) == ("Duplicate" if event.duplicate else "ok")
        elif event.error.outcome == "rejected" and event.error.name != "Superseded":
            assert self.answered.get(event.ack_id) == event.error.name
        return ask

    def open(self) -> list[Ask]:
        return list(self.waiting.values())

    def unanswered(self) -> list[Ask]:
        """The requests that the current connection was asked to execute."""
        return [ask for ask in self.open() if ask.times and ask.sent_on == self.connection_id]


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
        self.model = Model(reliable=self.options.reliable)
        self.now = 100.0
        self.connections = 0
        self.current: str | None = None  # the id of the last connected message
        self.transport: Dial | None = None
        self.taking = True
        self.dropped_at = self.patient_until = 0.0

    def is_busy(self) -> bool:
        """Whether a request may be one too many."""
        return bool(self.model.waiting)

    # ---- After each call: drain, and let the model judge

    def drained(self, answered: dict[int, str] | None = None) -> None:
        session, model = self.session, self.model
        model.answered = answered or {}
        for event in session.events():
            model.saw(event)
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
    def leaves_what_all_sessions_share_as_it_is(self) -> None:
        assert contents() == UNTOUCHED

    @invariant()
    def agrees(self) -> None:
        session, model = self.session, self.model
        assert model.running is (session.state is not State.STOPPED)
        assert model.stops == model.starts - model.running
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
            self.model.started()
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
        ask = Ask(kind)
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
            assert self.is_busy(), "one of them has the ack id, or they are too many"
        else:
            assert ack_id is None or kind == "untracked" or ask.ack_id == ack_id
            self.model.asks(ask)
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
        self.answers(error, max(len(self.model.unanswered()) - 1, 0))

    @rule(index=st.integers(0, 5))
    def withdraw(self, index: int) -> None:
        asks = self.model.open()
        if index < len(asks):
            ask = asks[index]
            assert ask.ack_id is not None
            withdrawn = self.session.withdraw(ask.ack_id)
            assert withdrawn is (ask.times == 0)
            if withdrawn:
                self.model.withdrew(ask)
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
        self.session.receive_binary(b"", self.now)
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
        asks = self.model.unanswered()
        ack_id = asks[index].ack_id if index < len(asks) else 2**51
        assert ack_id is not None
        answer = ok(ack_id) if error is None else refused(ack_id, error)
        known = index < len(asks) and self.session.state is State.CONNECTED
        self.says(encoded(answer), answered={ack_id: error or "ok"})
        if known and error != "InternalServerError":
            assert asks[index].outcomes, "an answer settles"

    @rule()
    def answers_what_was_never_sent(self) -> None:
        for ask in [ask for ask in self.model.open() if not ask.times]:
            assert ask.ack_id is not None
            self.taking = False
            self.says(encoded(ok(ask.ack_id)))
            assert not ask.outcomes

    @rule(first=ODD_TEXTS, ack_id=st.integers(-3, 12))
    def says_odd(self, first: str, ack_id: int) -> None:
        self.says(encoded(first), encoded({"type": "system", "event": "disconnected", "message": "bye"}))
        unknown = ack_id not in self.model.waiting
        if unknown:
            self.says(encoded(ok(ack_id)))

    # ---- Time

    @rule(more=st.sampled_from([0.0, 0.0, 0.1, 5.0, 100.0]))
    def wake(self, more: float) -> None:
        if self.session.deadline < math.inf:
            self.now = max(self.now, self.session.deadline) + more
            if more > 2.0:  # what has arrived meanwhile may be read for a second
                self.patient_until = self.now + 1.0
        self.session.wake(self.now)
        assert self.session.deadline > self.now, "after a wake the deadline has moved"
        self.drained()
        if self.session.state is State.RECOVERING:
            assert self.now < max(self.dropped_at + self.options.recovery_timeout, self.patient_until)

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
        assert not self.model.waiting

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
