"""Any order of snapshots, updates, recoveries and reconnects ends in the service's truth."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.helpers.driving import URL, Drive, hello, ok, refused
from tests.helpers.profiles import examples

from limpet import Acked, GroupStatesChanged, LocalProtocolError, State

OTHERS = st.sampled_from(["a", "b", "c"])


class StatesService:
    """A service for one group, and the line to one client.

    Requests are executed in the order in which they are sent. Acks and snapshots arrive in order, and so do updates;
    but each of the two may overtake the other.
    """

    def __init__(self) -> None:
        self.truth: dict[str, dict[str, Any]] = {}
        self.clock = 100
        self.connection_id = ""
        self.subscribed = self.joined = False
        self.executed: set[int] = set()
        self.permitted = True  # to join the group, which is enough to subscribe
        self.failing = 0  # how many requests fail from now on
        self.requests: list[dict[str, Any]] = []
        self.answers: list[dict[str, Any]] = []
        self.updates: list[dict[str, Any]] = []

    def put(self, connection_id: str, state: dict[str, str] | None) -> None:
        if state is None and connection_id not in self.truth:
            return
        self.clock += 1
        item: dict[str, Any] = {"connectionId": connection_id, "updatedAt": self.clock}
        if state is None:
            del self.truth[connection_id]
        else:
            item["state"] = state
            self.truth[connection_id] = item
        if self.subscribed:
            self.updates.append({"type": "groupStateUpdate", "group": "g", "items": [item]})

    def execute(self) -> None:
        """Execute the oldest request."""
        request = self.requests.pop(0)
        kind, ack_id = request["type"], request.get("ackId")
        if ack_id is None:
            return
        if ack_id in self.executed:
            self.answers.append(refused(ack_id, "Duplicate"))
        elif self.failing:
            self.failing -= 1
            self.answers.append(refused(ack_id, "InternalServerError"))
        elif not self.joined and (kind == "setGroupState" or (kind.startswith("sub") and not self.permitted)):
            self.answers.append(refused(ack_id, "Forbidden"))
        else:
            self.executed.add(ack_id)
            self.answers.append(ok(ack_id))
            if kind == "setGroupState":
                self.put(self.connection_id, request.get("state"))
            elif kind == "joinGroup":
                self.joined = True
            elif kind == "leaveGroup":
                self.joined = False
                self.subscribed &= self.permitted
                self.put(self.connection_id, None)
            elif kind == "unsubscribeGroupState":
                self.subscribed = False
            else:
                self.subscribed = True
                items = list(self.truth.values())
                self.answers.append({"type": "groupStateSnapshot", "group": "g", "items": items})

    def cut(self) -> None:
        """Lose all that is on its way."""
        self.requests, self.answers, self.updates = [], [], []

    def end(self) -> None:
        """End the connection for good."""
        self.joined = self.subscribed = False
        self.put(self.connection_id, None)
        self.executed = set()
        self.cut()


class StatesConverge(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.drive = Drive(ack_timeout=None, recovery_timeout=1000.0)
        self.service = StatesService()
        self.connections = 0
        self.seen: dict[str, Any] = {}  # out of the events alone
        self.wanted: dict[int, dict[str, str] | None] = {}  # the states that were set, by ack id
        self.settled: dict[int, bool] = {}
        self.drive.start()
        self.stand()

    # ---- The line

    def drain(self) -> None:
        drive = self.drive
        for event in drive.events():
            if isinstance(event, GroupStatesChanged):
                for connection_id in event.removed:
                    del self.seen[connection_id]
                for state in event.changed:
                    assert self.seen.get(state.connection_id) != state
                    self.seen[state.connection_id] = state
            elif isinstance(event, Acked):
                self.settled[event.ack_id] = event.error is None
        if drive.session.dial is not None:
            self.service.requests += drive.sent()

    def stand(self) -> None:
        """Bring the line up, if it is down."""
        drive = self.drive
        if drive.state is State.CONNECTED:
            return
        drive.until_dial()
        dial = drive.dial
        if dial.url is None:
            drive.session.url_ready(URL, drive.now)
        drive.session.connected(drive.now)
        self.drain()
        if dial.recovery:
            drive.says({"type": "pong"})
        else:
            self.connections += 1
            self.service.connection_id = f"own{self.connections}"
            drive.says(hello(self.service.connection_id))
        self.drain()

    @rule(count=st.integers(1, 4))
    def service_reads(self, count: int) -> None:
        for _ in range(min(count, len(self.service.requests))):
            self.service.execute()

    @rule(count=st.integers(1, 4))
    @precondition(lambda self: self.drive.state is State.CONNECTED)
    def answers_arrive(self, count: int) -> None:
        arriving, self.service.answers = self.service.answers[:count], self.service.answers[count:]
        self.drive.says(*arriving)
        self.drain()

    @rule(count=st.integers(1, 4))
    @precondition(lambda self: self.drive.state is State.CONNECTED)
    def updates_arrive(self, count: int) -> None:
        arriving, self.service.updates = self.service.updates[:count], self.service.updates[count:]
        self.drive.says(*arriving)
        self.drain()

    @rule(seconds=st.sampled_from([0.0, 1.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        if self.drive.state is State.CONNECTED:
            self.drive.advance(seconds)
            self.drain()

    @rule(down=st.booleans())
    @precondition(lambda self: self.drive.state is State.CONNECTED)
    def the_line_is_cut(self, down: bool) -> None:
        self.service.cut()
        self.drive.drop()
        self.drain()
        if not down:
            self.stand()

    @rule(down=st.booleans())
    @precondition(lambda self: self.drive.state is State.CONNECTED)
    def the_connection_is_lost(self, down: bool) -> None:
        self.service.end()
        self.drive.lose()
        self.drain()
        if not down:
            self.stand()

    @rule()
    def the_line_comes_back(self) -> None:
        self.stand()

    @rule(count=st.integers(1, 2))
    def the_service_fails(self, count: int) -> None:
        self.service.failing = count

    @initialize(permitted=st.booleans())
    def permission(self, permitted: bool) -> None:
        self.service.permitted = permitted

    # ---- The others, and the application

    @rule(other=OTHERS, value=st.sampled_from(["1", "2", None]))
    def another_sets_its_state(self, other: str, value: str | None) -> None:
        self.service.put(other, None if value is None else {"v": value})

    @rule(value=st.sampled_from(["1", "2", "3", None]))
    def sets(self, value: str | None) -> None:
        session, now = self.drive.session, self.drive.now
        state = None if value is None else {"v": value}
        ack_id = session.clear_group_state("g", now) if state is None else session.set_group_state("g", state, now)
        self.wanted[ack_id] = state
        self.drain()

    @rule(name=st.sampled_from(["subscribe_group_states", "unsubscribe_group_states", "join_group", "leave_group"]))
    def asks(self, name: str) -> None:
        getattr(self.drive.session, name)("g", self.drive.now)
        if name == "leave_group":
            self.wanted.clear()
        self.drain()

    # ---- What must hold

    def states(self) -> dict[str, Any] | None:
        try:
            return dict(self.drive.session.group_states("g"))
        except LocalProtocolError:
            return None

    @invariant()
    def the_events_tell_the_states(self) -> None:
        assert self.seen == (self.states() or {})

    def teardown(self) -> None:
        service, drive = self.service, self.drive
        self.stand()
        while service.requests or service.answers or service.updates or drive.session.deadline <= drive.now + 10.0:
            while service.requests:
                service.execute()
            self.answers_arrive(4)
            self.updates_arrive(4)
            if drive.session.deadline <= drive.now + 10.0:
                drive.advance(max(0.0, drive.session.deadline - drive.now))
            self.drain()
        states = self.states()
        if states is not None:
            assert service.subscribed
            truth = {key: (item["state"], item["updatedAt"]) for key, item in service.truth.items()}
            assert {key: (each.state, each.updated_at) for key, each in states.items()} == truth
        if self.wanted:
            last = max(self.wanted)
            if self.settled[last] and service.joined:
                own = service.truth.get(service.connection_id, {"state": None})
                assert own["state"] == self.wanted[last]
        assert self.seen == (states or {})


TestStatesConverge = StatesConverge.TestCase
TestStatesConverge.settings = settings(max_examples=examples(150), stateful_step_count=40, deadline=None)


def test_requests_as_the_model_reads_them() -> None:
    """The model knows all types that the session sends here."""
    machine = StatesConverge()
    machine.asks("join_group")
    machine.sets("1")
    machine.asks("subscribe_group_states")
    kinds = [json.loads(json.dumps(request))["type"] for request in machine.service.requests]
    assert kinds == ["joinGroup", "setGroupState", "subscribeGroupState"]
    machine.teardown()
    assert machine.seen["own1"].state == {"v": "1"}
