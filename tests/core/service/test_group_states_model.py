"""Group states against a model: whoever watches a group knows its states, after any sequence of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from tests.core.service.virtual import Client, ServiceUnderTest
from tests.helpers.profiles import examples

from limpet_core.service.connections.connection import Connection
from limpet_core.service.data_plane import operations
from limpet_core.service.group_states import GroupStates

GROUPS = ("red", "blue")

groups = st.sampled_from(GROUPS)
states = st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2", ""]), max_size=2)
some = st.integers(0, 9)


@dataclass(eq=False)
class Member:
    name: str
    joins: bool
    client: Client | None
    hello: dict[str, Any]
    groups: set[str] = field(default_factory=set)
    states: dict[str, dict[str, str]] = field(default_factory=dict)
    watched: set[str] = field(default_factory=set)
    # What the client knows of each group since the snapshot on its transport: times and states, by connection.
    known: dict[str, dict[str, tuple[int, dict[str, str] | None]]] = field(default_factory=dict)


class StatesAgainstModel(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.service = ServiceUnderTest(recovery_window=30.0)
        self.members: list[Member] = []
        self.ack_ids = count(1)

    @initialize()
    def two_are_there(self) -> None:
        self.connect({"red"}, True)
        self.connect({"red", "blue"}, False)

    # ---- Coming and going

    @precondition(lambda self: len(self.members) < 5)
    @rule(into=st.sets(groups), joins=st.booleans())
    def connect(self, into: set[str], joins: bool) -> None:
        roles = ("webpubsub.joinLeaveGroup",) if joins else ()
        client = self.service.connect(groups=tuple(sorted(into)), roles=roles)
        hello = client.hello()
        self.members.append(Member(hello["connectionId"], joins, client, hello, set(into)))

    @precondition(lambda self: self.members)
    @rule(who=some, code=st.sampled_from([1006, 1006, 1000]))
    def drop(self, who: int, code: int) -> None:
        member = self.members[who % len(self.members)]
        if member.client is None:
            return
        member.client.drop(code)
        member.client = None
        member.known.clear()
        if code == 1000:
            self.members.remove(member)

    @rule()
    def recover_all(self) -> None:
        for member in self.members:
            if member.client is None:
                member.client = self.service.recover(member.hello)
                (hello,) = member.client.received()
                assert hello["event"] == "connected"

    @rule(seconds=st.sampled_from([0.0005, 1.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.service.advance(seconds)
        if seconds == 30.0:
            self.members = [member for member in self.members if member.client is not None]

    @precondition(lambda self: self.members)
    @rule(who=some)
    def be_closed(self, who: int) -> None:
        member = self.members.pop(who % len(self.members))
        self.service.core.close_connection(member.name, "enough")

    @precondition(lambda self: self.members)
    @rule(who=some, group=groups, inside=st.booleans())
    def be_moved(self, who: int, group: str, inside: bool) -> None:
        member = self.members[who % len(self.members)]
        connection = self.service.core.connection(member.name)
        assert connection is not None
        if inside:
            operations.add_to_groups(self.service.core, [connection], [group])
            member.groups.add(group)
        else:
            operations.remove_from_groups(self.service.core, [connection], [group])
            self.leaves(member, group)

    def leaves(self, member: Member, group: str) -> None:
        member.groups.discard(group)
        member.states.pop(group, None)

    # ---- What clients say

    def ask(self, who: int, kind: str, group: str, **more: object) -> tuple[Member, bool] | None:
        """Return the member and whether its request was carried out; ``None`` if it is away."""
        member = self.members[who % len(self.members)]
        if member.client is None:
            return None
        (answer,) = member.client.ask({"type": kind, "group": group, "ackId": next(self.ack_ids), **more})
        assert answer["type"] == "ack"
        return member, answer["success"]

    @precondition(lambda self: self.members)
    @rule(who=some, group=groups, joins=st.booleans())
    def join_or_leave(self, who: int, group: str, joins: bool) -> None:
        asked = self.ask(who, "joinGroup" if joins else "leaveGroup", group)
        if asked is not None:
            member, done = asked
            assert done is member.joins
            if done and joins:
                member.groups.add(group)
            elif done:
                self.leaves(member, group)

    @precondition(lambda self: self.members)
    @rule(who=some, group=groups, state=states)
    def set_state(self, who: int, group: str, state: dict[str, str]) -> None:
        asked = self.ask(who, "setGroupState", group, state=state)
        if asked is not None:
            member, done = asked
            assert done is (group in member.groups)
            if done:
                member.states[group] = state

    @precondition(lambda self: self.members)
    @rule(who=some, group=groups)
    def clear_state(self, who: int, group: str) -> None:
        asked = self.ask(who, "setGroupState", group)
        if asked is not None:
            assert asked[1]
            asked[0].states.pop(group, None)

    @precondition(lambda self: self.members)
    @rule(who=some, group=groups)
    def watch(self, who: int, group: str) -> None:
        asked = self.ask(who, "subscribeGroupState", group)
        if asked is not None:
            member, done = asked
            assert done is (member.joins or group in member.groups)
            if done:
                member.watched.add(group)
                member.known[group] = {}

    @precondition(lambda self: self.members)
    @rule(who=some, group=groups)
    def unwatch(self, who: int, group: str) -> None:
        asked = self.ask(who, "unsubscribeGroupState", group)
        if asked is not None:
            assert asked[1]
            asked[0].watched.discard(group)
            asked[0].known.pop(group, None)

    # ---- What is compared

    def hear(self, member: Member, client: Client) -> None:
        for message in client.received():
            if message.get("event") == "disconnected":
                continue
            group = message["group"]
            assert group in member.watched
            if message["type"] == "groupStateSnapshot":
                member.known[group] = {}
            known = member.known.get(group)
            assert message["items"] or message["type"] == "groupStateSnapshot"
            for item in message["items"]:
                name, at = item["connectionId"], item["updatedAt"]
                if known is not None and at > known.get(name, (0, None))[0]:
                    known[name] = at, item.get("state")

    @invariant()
    def who_watches_knows(self) -> None:
        self.service.core.transports_with_output()
        for member in self.members:
            if member.client is not None:
                self.hear(member, member.client)
        for group in GROUPS:
            there = {member.name: member.states[group] for member in self.members if group in member.states}
            assert self.service.core.group_states("chat", group) == there
            for member in self.members:
                if group in member.known and (member.joins or group in member.groups):
                    known = {name: state for name, (_, state) in member.known[group].items() if state is not None}
                    assert known == there
                elif not member.joins and group not in member.groups:
                    # The first change that it may not see ends the subscription; until then it may be there again.
                    member.known.pop(group, None)

    @invariant()
    def nothing_is_left_over(self) -> None:
        for member in self.members:
            connection = self.service.core.connection(member.name)
            assert connection is not None
            assert connection.group_states == member.states
            assert set(connection.watched_groups) <= member.watched


TestStatesAgainstModel = StatesAgainstModel.TestCase
TestStatesAgainstModel.settings = settings(max_examples=examples(60), stateful_step_count=40)


# ---- The model bites


def without_time(right: Callable[..., bytes]) -> Callable[..., bytes]:
    def item(self: GroupStates, connection: Connection, state: dict[str, str] | None) -> bytes:
        connection.state_time = 0
        return right(self, connection, state)

    return item


FAULTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "who leaves keeps its state": ("left", lambda right: lambda *_: None),
    "the dead keep their states": ("closed", lambda right: lambda *_, **__: None),
    "nobody is told": ("send_changes", lambda right: lambda self: None),
    "a change is forgotten": ("_note", lambda right: lambda *_: None),
    "there is no snapshot": ("send_snapshot_again", lambda right: lambda *_: None),
    "times do not increase": ("_item", without_time),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_model_notices(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, make = FAULTS[fault]
    monkeypatch.setattr(GroupStates, name, make(getattr(GroupStates, name)))
    quick = settings(max_examples=500, stateful_step_count=40, database=None, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(StatesAgainstModel, settings=quick)
