"""Invocations under any sequence of calls, answers, drops and timeouts: each settles once, and none is sent twice."""

from __future__ import annotations

import json
import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simulation.inspect import inspect
from tests.helpers.driving import URL, encoded, hello, ok
from tests.helpers.profiles import examples

from limpet import JSON, RELIABLE_JSON, Acked, Backoff, Invoked, LocalProtocolError, Options, Session, State

ERRORS = st.sampled_from(["NotFound", "BadRequest", "InternalServerError", "Timeout", "Odd"])
REJECTED = {"NotFound", "BadRequest"}
IDS = st.sampled_from([None, "1", "2", "7", "x"])


class Call:
    """What the application knows of one invocation."""

    def __init__(self, key: str, due: float) -> None:
        self.key = key
        self.due = due
        self.sent = 0
        self.cancellations = 0
        self.answer: str | None = None  # of the service, while the call was open and sent
        self.ended: list[str] = []


class InvocationsAgainstModel(RuleBasedStateMachine):
    protocol = RELIABLE_JSON

    def __init__(self) -> None:
        super().__init__()
        self.options = Options(
            protocol=self.protocol,
            reconnect=Backoff(initial=1.0, jitter=0.0),
            recovery_timeout=20.0,
            keepalive_interval=None,
            keepalive_timeout=None,
            max_pending_requests=6,
        )
        self.session = Session(self.options, random=lambda: 0.5)
        self.now = 100.0
        self.connections = 0
        self.calls: list[Call] = []
        self.open_: dict[str, Call] = {}  # by id
        self.on_transport: dict[str, Call] = {}  # the service works on these
        self.requests: set[int] = set()

    @initialize()
    def begin(self) -> None:
        self.session.start(self.now)
        self.open(connected=True)

    # ---- The application

    @rule(key=IDS, timeout=st.sampled_from([None, None, 0.5, 2.0, 30.0]), at_once=st.booleans())
    def invoke(self, key: str | None, timeout: float | None, at_once: bool) -> None:
        call = Call("", math.inf if timeout is None else self.now + timeout)
        full = len(self.open_) + len(self.requests) >= self.options.max_pending_requests
        stopped = self.session.state in (State.STOPPED, State.STOPPING)
        taken = key in self.open_
        try:
            call.key = self.session.invoke("e", {}, self.now, timeout=timeout, invocation_id=key, user_data=call)
        except LocalProtocolError:
            assert full or stopped or taken
            return
        assert not full
        assert not stopped
        assert not taken
        assert call.key not in self.open_
        assert key is None or call.key == key
        self.calls.append(call)
        self.open_[call.key] = call
        if at_once:
            self.take()

    @rule(at=st.integers(0, 7), at_once=st.booleans())
    def cancel(self, at: int, at_once: bool) -> None:
        key = list(self.open_)[at % len(self.open_)] if self.open_ else "nobody"
        outcome = self.session.cancel_invocation(key, self.now)
        if key not in self.open_:
            assert outcome is None
            return
        call = self.open_.pop(key)
        assert outcome == ("unknown" if call.sent else "unsent")
        call.ended.append("cancelled")
        if at_once:
            self.take()

    @rule()
    def send(self) -> None:
        if len(self.open_) + len(self.requests) < 6 and self.session.state not in (State.STOPPED, State.STOPPING):
            ack_id = self.session.send_to_group("g", "x", self.now)
            assert ack_id is not None
            self.requests.add(ack_id)

    @rule(stop=st.integers(0, 5))
    def start_or_stop(self, stop: int) -> None:
        if self.session.state is State.STOPPED:
            self.session.start(self.now)
            self.open(connected=True)
        elif not stop:
            self.session.stop(self.now)

    # ---- The transport

    @rule()
    def take(self) -> None:
        for message in map(json.loads, self.session.messages_to_send()):
            if message["type"] == "invoke":
                call = self.open_[message["invocationId"]]  # it is not sent after its end
                assert self.session.state is State.CONNECTED
                call.sent += 1
                assert call.sent == 1, "an invocation was sent twice"
                assert message["invocationId"] not in self.on_transport, "the service would refuse a pending id"
                self.on_transport[message["invocationId"]] = call
            elif message["type"] == "cancelInvocation":
                call = self.on_transport.pop(message["invocationId"])  # only what it was told of, and once
                call.cancellations += 1
                assert call.cancellations == 1
                assert self.open_.get(call.key) is not call
        if self.session.state is State.CONNECTED:  # a stop cancels nothing: the connection ends
            for key, call in self.on_transport.items():
                assert self.open_.get(key) is call, "the service was not told that it was given up"

    @precondition(lambda self: self.session.dial is not None)
    @rule(connected=st.sampled_from([True, True, False]))
    def open(self, connected: bool) -> None:
        if self.session.dial is not None and self.session.dial.url is None:
            self.session.url_ready(URL, self.now)
        self.session.connected(self.now)
        self.take()
        if connected:
            self.hello(same=self.session.state is State.RECOVERING)

    @rule(same=st.booleans())
    def hello(self, same: bool) -> None:
        if self.transport_is_open and self.session.state is not State.CONNECTED:
            self.connections += not same
            self.says(hello(f"c{self.connections}"))

    @rule()
    def pong(self) -> None:
        if self.session.state is State.RECOVERING:
            self.says({"type": "pong"})

    @rule(code=st.sampled_from([0, 0, 0, 1006, 1006, 1008]))
    def drop(self, code: int) -> None:
        if self.transport_is_open and code:
            self.session.disconnected(self.now, code=code)
            self.on_transport.clear()

    @property
    def transport_is_open(self) -> bool:
        return self.session.dial is not None and inspect(self.session).open

    # ---- The service

    def says(self, *messages: dict[str, Any]) -> None:
        self.session.receive_messages([encoded(message) for message in messages], self.now)

    @rule(at=st.integers(0, 7), error=st.none() | ERRORS, late=st.sampled_from([False, False, True]))
    def answer(self, at: int, error: str | None, late: bool) -> None:
        """Answer an invocation; ``late``: the service answers though it was told to cancel, or to none at all."""
        if not self.transport_is_open or self.session.state is not State.CONNECTED:
            return
        keys = [*self.open_, *(call.key for call in self.calls)] if late else list(self.on_transport)
        key = keys[at % len(keys)] if keys else "nobody"
        call = self.open_.get(key)
        if call is not None and call.sent and not call.answer:
            call.answer = error or "reply"
            self.on_transport.pop(key, None)
        message = {"type": "invokeResponse", "invocationId": key, "success": error is None}
        self.says(message | ({"error": {"name": error, "message": "no"}} if error else {}))

    @rule()
    def ack(self) -> None:
        if self.transport_is_open and self.requests:
            self.says(ok(min(self.requests)))

    # ---- Time

    @rule(seconds=st.sampled_from([0.0, 0.1, 0.5, 1.0, 5.0, 31.0]))
    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while self.session.deadline <= end:
            self.now = max(self.now, self.session.deadline)
            dial = self.session.dial
            before = self.session.deadline
            self.session.wake(self.now)
            assert self.session.deadline > before, "after wake(deadline) the deadline has moved"
            if self.session.dial is not dial:
                self.on_transport.clear()
            self.look()
        self.now = end

    # ---- What must hold

    @invariant()
    def look(self) -> None:
        for event in self.session.events():
            if isinstance(event, Invoked):
                self.settled(event)
            elif isinstance(event, Acked):
                self.requests.discard(event.ack_id)
        for call in self.calls:
            assert len(call.ended) + (self.open_.get(call.key) is call) == 1, "settled exactly once"
            if call.due < self.now:
                assert call.ended, "it is out of time"
        if not self.transport_is_open:
            self.on_transport.clear()
            assert not any(call.sent for call in self.open_.values()), "a drop settles what was sent"
        if self.session.state is State.STOPPED:
            assert not self.open_
            assert not inspect(self.session).left

    def settled(self, event: Invoked) -> None:
        call = event.user_data
        assert isinstance(call, Call)
        assert self.open_.pop(event.invocation_id, None) is call
        assert (event.reply is None) is (event.error is not None)
        call.ended.append("settled")
        if event.error is None:
            assert call.answer == "reply"
        elif event.error.name == call.answer and (call.answer != "Timeout" or call.due > self.now):
            assert event.error.outcome == ("rejected" if call.answer in REJECTED else "unknown")
        else:
            assert event.error.name in ("ConnectionLost", "Stopped", "Timeout")
            assert event.error.outcome == ("unknown" if call.sent else "unsent")
            if event.error.name == "Timeout":
                assert call.due <= self.now
            if event.error.name == "ConnectionLost":
                assert call.sent, "what was not sent waits for the next connection"

    def teardown(self) -> None:
        self.session.stop(self.now)
        self.session.disconnected(self.now)
        self.look()
        assert not self.open_


class PlainInvocationsAgainstModel(InvocationsAgainstModel):
    protocol = JSON


TestReliable = InvocationsAgainstModel.TestCase
TestReliable.settings = settings(max_examples=examples(200), stateful_step_count=40)
TestPlain = PlainInvocationsAgainstModel.TestCase
TestPlain.settings = settings(max_examples=examples(50), stateful_step_count=40)
