"""The states of groups: the own ones, and subscriptions of those of others."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from tests.helpers.driving import OWN, PING, Drive, ack_ids, hello, ok, refused

from limpet import (
    Acked,
    Backoff,
    Disconnected,
    GroupState,
    GroupStatesChanged,
    InvalidType,
    InvalidValue,
    LocalProtocolError,
)
from limpet_core.client.group_states import GroupStates
from limpet_core.client.log_lines import LogLines
from limpet_core.client.request import JOIN as JOIN_REQUEST
from limpet_core.client.request import SET_STATE, Request
from limpet_core.redaction import Secrets

JOIN = {"type": "joinGroup", "group": "g"}
SUBSCRIBE = {"type": "subscribeGroupState", "group": "g"}
UNSUBSCRIBE = {"type": "unsubscribeGroupState", "group": "g"}


def set_to(state: dict[str, str] | None) -> dict[str, Any]:
    return {"type": "setGroupState", "group": "g"} | ({} if state is None else {"state": state})


def item(connection_id: str, at: float, **state: str) -> dict[str, Any]:
    return {"connectionId": connection_id, "state": state, "updatedAt": at}


def gone(connection_id: str, at: float) -> dict[str, Any]:
    return {"connectionId": connection_id, "updatedAt": at}


def snapshot(*items: Any, group: Any = "g") -> dict[str, Any]:
    return {"type": "groupStateSnapshot", "group": group, "items": items}


def update(*items: Any, group: Any = "g") -> dict[str, Any]:
    return {"type": "groupStateUpdate", "group": group, "items": items}


class States(Drive):
    """A session, with short words for states of the group g."""

    def set(self, state: dict[str, str] | None = None) -> int:
        if state is None:
            return self.session.clear_group_state("g", self.now)
        return self.session.set_group_state("g", state, self.now)

    def subscribe(self) -> int:
        return self.session.subscribe_group_states("g", self.now)

    def unsubscribe(self) -> int:
        return self.session.unsubscribe_group_states("g", self.now)

    def wake(self) -> None:
        """Do what is due at once."""
        self.advance(0.0)

    def asked(self) -> list[dict[str, Any]]:
        """What is sent now, without ack ids."""
        self.wake()
        return [{key: value for key, value in said.items() if key != "ackId"} for said in self.sent()]

    def answer_all(self) -> list[dict[str, Any]]:
        """Send what is to be sent, and have it executed; return it without ack ids."""
        asked: list[dict[str, Any]] = []
        while True:
            self.wake()
            sent = self.sent()
            if not sent:
                return asked
            asked += [{key: value for key, value in said.items() if key != "ackId"} for said in sent]
            self.says(*[ok(ack_id) for ack_id in ack_ids(sent)])

    @property
    def seen(self) -> dict[str, Mapping[str, str] | None]:
        return {key: each.state for key, each in self.session.group_states("g").items()}

    def changes(self) -> list[tuple[set[str], set[str]]]:
        """The changes since the last call: ids that changed, ids that were removed."""
        found = self.events(GroupStatesChanged)
        return [({state.connection_id for state in each.changed}, set(each.removed)) for each in found]


def connected(**options: Any) -> States:
    drive = States(**options)
    drive.connect()
    return drive


def subscribed(*items: Any, **options: Any) -> States:
    """A client that has subscribed the states of g, and was sent a snapshot."""
    drive = connected(**options)
    drive.subscribe()
    drive.answer_all()
    drive.says(snapshot(*items))
    drive.events()
    return drive


def joined(drive: States) -> States:
    drive.session.join_group("g", drive.now)
    drive.answer_all()
    drive.events()
    return drive


def anew(drive: States, connection_id: str = "c2") -> None:
    """Lose the connection for good, and make another one."""
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello(connection_id))


# ---- Requests


def test_the_requests_as_they_are_sent() -> None:
    drive = connected()
    drive.set({"a": "b"})
    drive.subscribe()
    sent = drive.sent()
    assert sent == [{**set_to({"a": "b"}), "ackId": 1}, {**SUBSCRIBE, "ackId": 2}]
    drive.set()
    drive.unsubscribe()
    drive.says(ok(1), ok(2))
    drive.wake()
    assert drive.sent() == [{**set_to(None), "ackId": 3}, {**UNSUBSCRIBE, "ackId": 4}]
    drive.says(refused(3, "Forbidden"))
    assert drive.answers() == {1: "done", 2: "done", 3: "Forbidden/rejected"}


def test_an_empty_state_is_a_state() -> None:
    drive = connected()
    drive.set({})
    assert drive.asked() == [set_to({})]


def test_the_state_is_copied() -> None:
    drive = joined(connected())
    state = {"a": "1"}
    drive.set(state)
    state["a"] = "2"
    assert drive.answer_all() == [set_to({"a": "1"})]
    anew(drive)
    assert drive.answer_all() == [JOIN, set_to({"a": "1"})]


BAD: list[tuple[Any, type[Exception], str]] = [
    (None, InvalidType, "state must be a dict of str to str, not NoneType"),
    ([("a", "b")], InvalidType, "state must be a dict of str to str, not list"),
    ({1: "a"}, InvalidType, "state must have names of type str, not int"),
    ({"a": 1}, InvalidType, "state['a'] must be a str, not int"),
    ({"a": None}, InvalidType, "state['a'] must be a str, not NoneType"),
    ({"\ud800": "a"}, InvalidValue, "a name in state cannot be encoded as UTF-8"),
    ({"a": "\ud800"}, InvalidValue, "state['a'] cannot be encoded as UTF-8"),
    (
        {"a": "x" * 8192},
        InvalidValue,
        "state must have at most 8192 bytes of UTF-8 in names and values together, not 8193",
    ),
    ({"\xe9" * 4096: "x"}, InvalidValue, "not 8193"),
]


@pytest.mark.parametrize(("state", "error", "text"), BAD)
def test_a_state_that_cannot_be_one(state: Any, error: type[Exception], text: str) -> None:
    drive = connected()
    with pytest.raises(error) as raised:
        drive.session.set_group_state("g", state, drive.now)
    assert text in str(raised.value)
    assert drive.sent() == []


def test_the_largest_state() -> None:
    drive = connected()
    drive.set({"ab": "x" * 8190})
    assert len(drive.sent()) == 1


@pytest.mark.parametrize("name", ["set_group_state", "clear_group_state", "subscribe_group_states", "group_states"])
def test_a_group_that_cannot_be_one(name: str) -> None:
    drive = connected()
    arguments = {"set_group_state": ({}, drive.now), "group_states": ()}.get(name, (drive.now,))
    for group, error in ((" ", InvalidValue), (3, InvalidType)):
        with pytest.raises(error, match="group"):
            getattr(drive.session, name)(group, *arguments)
    assert drive.sent() == []


# ---- The last call wins


def test_a_later_state_waits_for_the_earlier_one() -> None:
    drive = connected()
    drive.set({"n": "1"})
    drive.set({"n": "2"})
    drive.session.set_group_state("h", {}, drive.now)
    assert [said.get("state") for said in drive.asked()] == [{"n": "1"}, {}]
    drive.says(refused(1, "InternalServerError"))
    assert drive.asked() == []
    drive.advance(1.0)
    assert drive.asked() == [set_to({"n": "1"})]
    drive.says(ok(1))
    assert drive.asked() == [set_to({"n": "2"})]


def test_the_last_state_wins_through_a_recovery() -> None:
    """The service failed to execute the first one, and the answer was lost."""
    drive = connected()
    drive.set({"n": "1"})
    drive.set({"n": "2"})
    assert drive.asked() == [set_to({"n": "1"})]
    drive.drop()
    assert ack_ids(drive.recover()) == [1]
    drive.says(ok(1))
    assert drive.asked() == [set_to({"n": "2"})]


def test_an_earlier_state_that_gets_no_answer_is_given_up_before_the_later_is_sent() -> None:
    drive = connected(ack_timeout=1.0)
    drive.set({"n": "1"})
    drive.set({"n": "2"})
    sent: list[Any] = []
    while len(sent) < 5:
        sent += drive.asked()
        drive.advance(1.0)
    assert sent == [set_to({"n": "1"})] * 4 + [set_to({"n": "2"})]
    assert drive.answers()[1] == "Timeout/unknown"


def test_a_request_that_waits_for_another_one_times_out_unsent() -> None:
    drive = connected(request_timeout=5.0)
    drive.set({"n": "1"})
    drive.asked()
    drive.advance(1.0)
    drive.set({"n": "2"})
    drive.advance(4.0)
    assert drive.answers() == {1: "Timeout/unknown"}
    assert drive.asked() == [set_to({"n": "2"})]


def test_a_waiting_request_that_is_withdrawn_holds_up_nothing() -> None:
    drive = connected()
    first, second, _third = drive.set({"n": "1"}), drive.set({"n": "2"}), drive.set({"n": "3"})
    drive.asked()
    assert drive.session.withdraw(second)
    assert not drive.session.withdraw(first)
    drive.says(ok(first))
    assert drive.asked() == [set_to({"n": "3"})]


def test_the_last_of_subscribe_and_unsubscribe_wins() -> None:
    drive = connected()
    drive.subscribe()
    drive.unsubscribe()
    drive.subscribe()
    for expected in (SUBSCRIBE, UNSUBSCRIBE, SUBSCRIBE):
        sent = drive.sent()
        assert [said["type"] for said in sent] == [expected["type"]]
        drive.says(ok(sent[0]["ackId"]))
        drive.wake()
    drive.says(snapshot(item("a", 1)))
    assert set(drive.seen) == {"a"}


# ---- Subscriptions


def test_a_snapshot_and_updates_are_told_in_order_with_everything_else() -> None:
    drive = connected()
    subscribe = drive.subscribe()
    drive.sent()
    drive.says(
        ok(subscribe),
        snapshot(item("a", 1, x="1"), {**item("b", 2), "userId": "bob"}),
        {"type": "message", "from": "server", "dataType": "text", "data": "x", "sequenceId": 1},
        update(item("a", 3, x="2"), gone("b", 3)),
    )
    events = drive.events()
    a1 = GroupState(connection_id="a", state={"x": "1"}, updated_at=1)
    b = GroupState(connection_id="b", user_id="bob", state={}, updated_at=2)
    a2 = GroupState(connection_id="a", state={"x": "2"}, updated_at=3)
    assert type(events[0]) is Acked
    assert events[1] == GroupStatesChanged("g", (a1, b), ())
    assert events[3] == GroupStatesChanged("g", (a2,), ("b",))
    assert drive.session.group_states("g") == {"a": a2}


def test_the_states_of_a_moment_do_not_change() -> None:
    drive = subscribed(item("a", 1))
    before = drive.session.group_states("g")
    drive.says(update(gone("a", 2), item("b", 3)))
    assert set(before) == {"a"}
    assert set(drive.seen) == {"b"}
    with pytest.raises(TypeError):
        before["a"] = before["a"]  # type: ignore[index]


def test_the_first_snapshot_is_told_even_if_nobody_is_there() -> None:
    drive = connected()
    drive.subscribe()
    drive.answer_all()
    drive.says(snapshot())
    assert drive.changes() == [(set(), set())]
    drive.says(snapshot())
    assert drive.changes() == []
    drive.subscribe()
    drive.answer_all()
    drive.says(snapshot())
    assert drive.changes() == [(set(), set())]


def test_what_changes_nothing_is_not_told() -> None:
    drive = subscribed(item("a", 5))
    drive.says(
        update(item("a", 5, x="1")), update(item("a", 4, x="2")), update(gone("a", 5)), update(), snapshot(item("a", 2))
    )
    assert drive.changes() == []
    assert drive.seen == {"a": {}}


def test_without_a_subscription_nothing_is_kept_and_nothing_can_be_read() -> None:
    drive = connected()
    drive.says(snapshot(item("a", 1)), update(item("b", 1)))
    assert drive.changes() == []
    with pytest.raises(LocalProtocolError, match="the group 'g' are not subscribed: subscribe_group_states"):
        drive.session.group_states("g")


def test_states_that_come_before_the_answer_are_kept() -> None:
    drive = connected()
    subscribe = drive.subscribe()
    drive.sent()
    drive.says(update(item("b", 2)), snapshot(item("a", 1)), ok(subscribe))
    assert set(drive.seen) == {"a", "b"}


def unsubscribes(drive: States) -> None:
    drive.unsubscribe()
    assert drive.answer_all() == [UNSUBSCRIBE]


def leaves(drive: States) -> None:
    drive.session.leave_group("g", drive.now)
    drive.answer_all()


def stops(drive: States) -> None:
    drive.session.stop(drive.now)
    drive.drop(1000)


@pytest.mark.parametrize("end", [unsubscribes, stops])
def test_the_end_of_a_subscription(end: Callable[[States], None]) -> None:
    drive = subscribed(item("a", 1))
    end(drive)
    assert drive.changes() == [(set(), {"a"})]
    drive.says(update(item("b", 1)))
    assert drive.changes() == []
    with pytest.raises(LocalProtocolError):
        drive.session.group_states("g")


def left(drive: States) -> None:
    """Leave the group, and renew the subscription, without an answer to that."""
    drive.session.leave_group("g", drive.now)
    drive.says(ok(ack_ids(drive.sent())[0]))
    drive.wake()
    assert drive.sent() == [{**SUBSCRIBE, "ackId": OWN}]
    assert set(drive.seen) == {"a"}


def test_a_leave_ends_the_subscription_unless_the_client_may_join_the_group() -> None:
    drive = subscribed(item("a", 1))
    left(drive)
    drive.says(refused(OWN, "Forbidden"))
    (change,) = drive.events(GroupStatesChanged)
    assert (change.removed, change.error is not None) == (("a",), True)
    drive.subscribe()
    drive.answer_all()
    assert drive.seen == {}
    drive = subscribed(item("a", 1))
    left(drive)
    drive.says(ok(OWN), snapshot(item("b", 1)))
    assert drive.changes() == [({"b"}, {"a"})]


def test_a_subscription_that_is_asked_for_again_outlives_one_that_ends() -> None:
    drive = subscribed(item("a", 1))
    left(drive)
    drive.subscribe()
    drive.says(refused(OWN, "Forbidden"))
    assert drive.seen == {}
    drive.answer_all()
    drive.says(snapshot(item("b", 1)))
    assert set(drive.seen) == {"b"}


def refuses(drive: States) -> None:
    drive.says(refused(ack_ids(drive.sent())[0], "Forbidden"))


def withdraws(drive: States) -> None:
    assert drive.session.withdraw(1)


@pytest.mark.parametrize("fail", [refuses, withdraws])
def test_a_subscription_that_fails_leaves_nothing(fail: Callable[[States], None]) -> None:
    drive = connected()
    drive.subscribe()
    drive.says(snapshot(item("a", 1)))
    fail(drive)
    assert drive.changes() == [({"a"}, set()), (set(), {"a"})]
    with pytest.raises(LocalProtocolError):
        drive.session.group_states("g")


@pytest.mark.parametrize("ask", [States.subscribe, States.unsubscribe])
def test_a_further_request_that_fails_leaves_the_subscription(ask: Callable[[States], int]) -> None:
    drive = subscribed(item("a", 1))
    ack_id = ask(drive)
    drive.sent()
    drive.says(refused(ack_id, "Forbidden"))
    assert set(drive.seen) == {"a"}


def test_unsubscribing_what_is_not_subscribed() -> None:
    drive = connected()
    ack_id = drive.unsubscribe()
    drive.answer_all()
    assert drive.answers() == {ack_id: "done"}


# ---- Recovery


def test_a_recovery_asks_for_fresh_snapshots() -> None:
    drive = subscribed(item("a", 1), item("b", 1))
    drive.says(update(item("c", 2)))
    drive.drop()
    assert set(drive.seen) == {"a", "b", "c"}
    assert drive.recover()[-1] == {**SUBSCRIBE, "ackId": OWN}
    drive.says(ok(OWN))
    drive.events()
    drive.says(update(item("d", 3)), snapshot(item("b", 5)))
    assert drive.changes() == [({"d"}, set()), ({"b"}, {"a", "c"})]


def test_a_recovery_amid_a_renewal_asks_under_another_ack_id() -> None:
    drive = subscribed(item("a", 1))
    drive.drop()
    drive.recover()
    drive.drop()
    assert ack_ids(drive.recover()) == [OWN + 1]
    drive.says(ok(OWN), ok(OWN + 1))
    drive.advance(100.0)
    assert drive.asked() == []


def test_a_subscription_whose_snapshot_was_lost_is_renewed() -> None:
    drive = connected()
    subscribe = drive.subscribe()
    drive.sent()
    drive.drop()
    assert ack_ids(drive.recover()) == [subscribe]
    drive.says(refused(subscribe, "Duplicate"))
    assert drive.answers() == {subscribe: "duplicate"}
    drive.wake()
    assert drive.sent() == [{**SUBSCRIBE, "ackId": OWN}]


def test_a_renewal_is_needless_where_another_subscribe_succeeds() -> None:
    drive = subscribed()
    drive.drop()
    drive.subscribe()
    drive.recover()
    assert drive.answer_all() == []
    drive = subscribed()
    subscribe = drive.subscribe()
    drive.drop()
    assert ack_ids(drive.recover()) == [subscribe]
    drive.says(ok(subscribe))
    assert drive.asked() == []


def test_a_renewal_is_needless_after_an_unsubscribe() -> None:
    drive = subscribed()
    drive.unsubscribe()
    drive.drop()
    assert [said["type"] for said in drive.recover()] == ["ping", "unsubscribeGroupState"]
    drive.says(ok(2))
    assert drive.asked() == []


def test_the_own_state_is_not_set_again_after_a_recovery() -> None:
    drive = joined(connected())
    drive.set({"a": "b"})
    drive.answer_all()
    drive.drop()
    assert [said["type"] for said in drive.recover()] == ["ping"]
    assert drive.answer_all() == []


# ---- Reconnect


def test_a_reconnect_subscribes_and_sets_the_own_state_again() -> None:
    drive = joined(subscribed(item("c1", 1, me="1"), item("a", 1)))
    drive.set({"me": "1"})
    drive.answer_all()
    drive.events()
    anew(drive)
    events = drive.events()
    assert [type(event) for event in events[:2]] == [Disconnected, GroupStatesChanged]
    assert events[1] == GroupStatesChanged("g", (), ("c1",))
    assert set(drive.seen) == {"a"}, "the others are kept until the snapshot comes"
    assert drive.answer_all() == [JOIN, set_to({"me": "1"}), SUBSCRIBE]
    drive.says(snapshot(item("c1", 9), item("b", 0), item("c2", 10, me="1")))
    assert drive.changes() == [({"b", "c2"}, {"a"})]


def test_the_own_states_of_former_connections_never_come_back() -> None:
    drive = subscribed(item("c1", 1))
    for number in range(2, 30):
        drive.drop(1008)
        drive.connect(f"c{number}")
    drive.says(*[snapshot(*[item(f"c{each}", 99) for each in range(14, 30)])])
    assert set(drive.seen) == {"c29"}
    drive.says(update(item("c28", 100), item("c1", 100)))
    assert set(drive.seen) == {"c29", "c1"}, "only the last of them are remembered"


def test_an_id_that_comes_again_is_that_of_no_former_connection() -> None:
    drive = subscribed()
    for connection_id in ("c2", "c1"):
        drive.drop(1008)
        drive.connect(connection_id)
    drive.says(snapshot(item("c1", 1), item("c2", 1)))
    assert set(drive.seen) == {"c1"}


def test_a_leave_lets_go_at_once_of_what_waited_for_the_rejoin() -> None:
    drive = joined(connected())
    anew(drive)
    later = drive.set({"a": "b"})
    leave = drive.session.leave_group("g", drive.now)
    drive.wake()
    assert ack_ids(drive.sent()) == [leave, later]


def test_after_a_reconnect_the_clock_of_the_service_may_be_another() -> None:
    drive = subscribed(item("a", 1000, x="old"), item("b", 1000), item("c", 1000))
    drive.says(update(gone("d", 1000)))
    anew(drive)
    drive.answer_all()
    drive.says(update(item("b", 1, x="new"), gone("c", 2)))
    drive.says(snapshot(item("a", 1, x="new"), item("b", 0, x="stale"), item("c", 1), item("d", 1)))
    assert drive.seen == {"a": {"x": "new"}, "b": {"x": "new"}, "d": {}}


def test_the_own_state_is_set_again_only_when_the_group_is_joined() -> None:
    drive = joined(connected())
    drive.set({"a": "b"})
    drive.answer_all()
    anew(drive)
    set_later = drive.set({"a": "c"})
    assert drive.asked() == [JOIN]
    drive.says(refused(OWN, "InternalServerError"))
    assert drive.asked() == []
    drive.advance(1.0)
    assert drive.asked() == [JOIN]
    drive.says(ok(OWN))
    assert drive.answer_all() == [set_to({"a": "c"})]
    assert drive.answers()[set_later] == "done"


def test_a_later_state_that_is_refused_leaves_the_one_before() -> None:
    drive = joined(connected())
    drive.set({"a": "b"})
    drive.answer_all()
    drive.lose()
    later = drive.set({"a": "c"})
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    sent = drive.sent()
    drive.says(ok(sent[0]["ackId"]))
    drive.wake()
    assert ack_ids(drive.sent()) == [later]
    drive.says(refused(later, "BadRequest"))
    assert drive.answer_all() == [set_to({"a": "b"})]


LATER: list[tuple[dict[str, str] | None, list[Any]]] = [({"a": "c"}, [set_to({"a": "c"})]), (None, [])]


@pytest.mark.parametrize(("state", "expected"), LATER)
def test_the_last_call_wins_though_its_outcome_is_unknown(state: dict[str, str] | None, expected: list[Any]) -> None:
    drive = joined(connected(request_timeout=5.0, ack_timeout=None))
    drive.set({"a": "b"})
    drive.answer_all()
    later = drive.set(state)
    drive.asked()
    drive.advance(5.0)
    assert drive.answers()[later] == "Timeout/unknown"
    anew(drive)
    assert drive.answer_all() == [JOIN, *expected]


@pytest.mark.parametrize(("state", "expected"), LATER)
def test_an_unknown_outcome_on_a_new_connection_leaves_the_last_call(
    state: dict[str, str] | None, expected: list[Any]
) -> None:
    drive = joined(connected(ack_timeout=1.0, retry=Backoff(limit=0)))
    drive.set({"a": "b"})
    drive.answer_all()
    later = drive.set(state)
    drive.asked()
    anew(drive)
    drive.says(ok(ack_ids(drive.sent())[0]))
    assert drive.asked() == [set_to(state)]
    drive.advance(1.0)
    assert drive.answers()[later] == "Timeout/unknown"
    assert drive.answer_all() == expected


@pytest.mark.parametrize(("restore", "expected"), [(True, [set_to({"a": "b"})]), (False, [])])
def test_an_unknown_outcome_amid_a_reconnect_obeys_the_option(restore: bool, expected: list[Any]) -> None:
    drive = connected(request_timeout=5.0, ack_timeout=None, auto_restore_group_states=restore)
    state = drive.set({"a": "b"})
    drive.sent()
    drive.lose()
    drive.advance(5.0)
    assert drive.answers()[state] == "Timeout/unknown"
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert drive.answer_all() == expected


def test_a_state_set_while_the_old_one_is_set_again_comes_after_it() -> None:
    drive = connected()
    drive.set({"a": "b"})
    drive.answer_all()
    anew(drive)
    sent = drive.sent()
    assert sent == [{**set_to({"a": "b"}), "ackId": OWN}]
    drive.set({"a": "c"})
    assert drive.asked() == []
    drive.says(ok(OWN))
    assert drive.asked() == [set_to({"a": "c"})]


def cleared(drive: States) -> None:
    drive.set()
    drive.answer_all()


@pytest.mark.parametrize("end", [cleared, leaves])
def test_no_state_is_set_again_that_is_gone(end: Callable[[States], None]) -> None:
    drive = joined(connected())
    drive.set({"a": "b"})
    drive.answer_all()
    end(drive)
    anew(drive)
    assert [said["type"] for said in drive.answer_all() if said != JOIN] == []


@pytest.mark.parametrize(
    ("option", "expected"), [("auto_restore_group_states", [JOIN, SUBSCRIBE]), ("auto_rejoin_groups", [SUBSCRIBE])]
)
def test_options_against_it(option: str, expected: list[Any]) -> None:
    drive = joined(subscribed(**{option: False}))
    drive.set({"a": "b"})
    drive.answer_all()
    anew(drive)
    assert drive.answer_all() == expected


def test_the_state_of_a_group_that_is_being_left_waits_for_the_end_of_the_leave() -> None:
    drive = joined(connected())
    drive.set({"a": "b"})
    drive.answer_all()
    drive.lose()
    leave = drive.session.leave_group("g", drive.now)
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    assert [said["type"] for said in drive.asked()] == ["leaveGroup"]
    drive.says(refused(leave, "Forbidden"))
    assert drive.answer_all() == [JOIN, set_to({"a": "b"})]


def test_a_connection_lost_amid_the_renewals_begins_them_anew() -> None:
    drive = joined(subscribed())
    drive.set({"a": "b"})
    drive.answer_all()
    anew(drive, "c2")
    drive.says(ok(ack_ids(drive.sent())[0]))
    assert drive.asked() == [set_to({"a": "b"}), SUBSCRIBE]
    anew(drive, "c3")
    assert drive.answer_all() == [JOIN, set_to({"a": "b"}), SUBSCRIBE]
    anew(drive, "c4")
    anew(drive, "c5")
    assert drive.answer_all() == [JOIN, set_to({"a": "b"}), SUBSCRIBE]


def test_what_waits_for_its_answer_is_asked_again_on_a_new_connection() -> None:
    drive = connected()
    drive.set({"a": "b"})
    drive.subscribe()
    drive.sent()
    anew(drive)
    assert drive.answer_all() == [set_to({"a": "b"}), SUBSCRIBE]
    assert list(drive.answers().values()) == ["done", "done"]


def warnings_of(drive: States, caplog: pytest.LogCaptureFixture) -> list[str]:
    drive.session.events()
    return [record.getMessage() for record in caplog.records if record.name == "limpet"]


def test_a_renewal_that_is_refused_ends_the_subscription(caplog: pytest.LogCaptureFixture) -> None:
    drive = subscribed(item("a", 1))
    drive.drop()
    drive.recover()
    drive.says(refused(OWN, "Forbidden", "not any more"))
    (change,) = drive.events(GroupStatesChanged)
    assert (change.changed, change.removed) == ((), ("a",))
    assert "Forbidden: not any more" in str(change.error)
    with pytest.raises(LocalProtocolError):
        drive.session.group_states("g")
    assert "the states of the group 'g' could not be had anew: Forbidden" in warnings_of(drive, caplog)[-1]
    drive.drop()
    assert [said["type"] for said in drive.recover()] == ["ping"]


def test_a_refused_renewal_is_told_even_if_nobody_was_there() -> None:
    drive = subscribed()
    drive.drop()
    drive.recover()
    drive.says(refused(OWN, "Forbidden"))
    (change,) = drive.events(GroupStatesChanged)
    assert change.error is not None


def test_a_renewal_without_an_answer_is_made_again_until_it_has_one(caplog: pytest.LogCaptureFixture) -> None:
    drive = subscribed(item("a", 1), ack_timeout=1.0)
    drive.drop()
    sent = ack_ids(drive.recover())
    for _ in range(8):
        drive.advance(1.0)
        sent += ack_ids(drive.sent())
    assert sent == [OWN] * 4 + [OWN + 1] * 4 + [OWN + 2], "a repeat of an old one might bring no snapshot"
    assert set(drive.seen) == {"a"}
    assert "could not be had anew: Timeout" in warnings_of(drive, caplog)[-1]
    drive.says(ok(OWN + 2), snapshot(item("b", 2)))
    assert set(drive.seen) == {"b"}
    drive.advance(100.0)
    assert drive.asked() == []


def test_a_renewal_that_fails_at_the_service_is_made_again_unless_it_was_certainly_refused() -> None:
    drive = subscribed(item("a", 1), ack_timeout=1.0, retry=Backoff(limit=1))
    drive.drop()
    drive.recover()
    drive.advance(1.0)
    assert ack_ids(drive.sent()) == [OWN]
    drive.says(refused(OWN, "InternalServerError"))
    drive.wake()
    assert drive.sent() == [{**SUBSCRIBE, "ackId": OWN + 1}]


def test_an_unsubscribe_overtakes_a_renewal_without_an_answer() -> None:
    drive = subscribed(item("a", 1), ack_timeout=1.0, retry=Backoff(limit=0))
    drive.drop()
    drive.recover()
    drive.unsubscribe()
    drive.advance(1.0)
    assert drive.answer_all() == [UNSUBSCRIBE]


def test_an_own_state_that_is_refused_on_a_new_connection_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    drive = connected()
    drive.set({"a": "b"})
    drive.answer_all()
    anew(drive)
    drive.sent()
    drive.says(refused(OWN, "Forbidden"))
    assert "the own state in the group 'g' could not be set again: Forbidden" in warnings_of(drive, caplog)[-1]
    anew(drive)
    assert drive.asked() == []


def test_an_own_state_without_an_answer_is_set_again_until_it_has_one() -> None:
    drive = connected(ack_timeout=1.0)
    drive.set({"a": "b"})
    drive.answer_all()
    anew(drive)
    sent = ack_ids(drive.sent())
    for _ in range(4):
        drive.advance(1.0)
        sent += ack_ids(drive.sent())
    assert sent == [OWN] * 4 + [OWN + 1]
    anew(drive)
    assert drive.answer_all() == [set_to({"a": "b"})]
    drive.advance(100.0)
    assert drive.asked() == []


def test_a_stop_forgets_everything() -> None:
    drive = subscribed(item("a", 1))
    drive.set({"a": "b"})
    drive.answer_all()
    drive.drop()
    stops(drive)
    drive.connect()
    assert drive.answer_all() == []


def test_a_stop_amid_the_renewals_sends_nothing_more() -> None:
    drive = joined(subscribed())
    drive.set({"a": "b"})
    drive.answer_all()
    anew(drive)
    drive.session.stop(drive.now)
    drive.session.withdraw(1)
    drive.advance(1.0)
    assert [said["type"] for said in drive.sent()] == []


# ---- What the peer may say


MALFORMED = [
    {"connectionId": "b", "state": {"x": 1}, "updatedAt": 1},
    {"connectionId": "b", "state": {"x": None}, "updatedAt": 1},
    {"connectionId": "b", "state": "x", "updatedAt": 1},
    {"state": {}, "updatedAt": 1},
    {"connectionId": "", "state": {}, "updatedAt": 1},
    {"connectionId": 7, "state": {}, "updatedAt": 1},
    {"connectionId": "b", "state": {}},
    {"connectionId": "b", "state": {}, "updatedAt": "1"},
    {"connectionId": "b", "state": {}, "updatedAt": True},
    {"connectionId": "b", "state": {}, "updatedAt": None},
    {"connectionId": "b", "state": {}, "updatedAt": -1},
    {"connectionId": "b", "state": {}, "updatedAt": 1e300},
    {"connectionId": "b", "state": {}, "updatedAt": 10**30},
    {"connectionId": "b", "userId": 1, "state": {}, "updatedAt": 1},
    None,
    7,
    [],
]


@pytest.mark.parametrize("said", [snapshot, update])
@pytest.mark.parametrize("bad", MALFORMED, ids=json.dumps)
def test_a_malformed_state_hides_no_other(
    bad: Any, said: Callable[..., dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "limpet")
    drive = subscribed()
    drive.says(said(item("a", 1), bad, item("c", 1.5)))
    assert set(drive.seen) == {"a", "c"}
    assert "1 states of the group 'g' cannot be read" in warnings_of(drive, caplog)[-1]


NOT_NUMBERS = ["1e999", "NaN", "Infinity", "-Infinity"]


@pytest.mark.parametrize("number", NOT_NUMBERS)
def test_a_time_that_is_no_number(number: str) -> None:
    drive = subscribed()
    drive.says(json.dumps(update(item("b", 1))).replace('"updatedAt": 1', f'"updatedAt": {number}'))
    assert drive.seen == {}


WHOLE = [
    {"type": "groupStateUpdate", "group": 7, "items": []},
    {"type": "groupStateUpdate", "items": []},
    {"type": "groupStateUpdate", "group": "g"},
    {"type": "groupStateSnapshot", "group": "g", "items": {}},
    {"type": "groupStateSnapshot", "group": "g", "items": None},
]


@pytest.mark.parametrize("message", WHOLE, ids=json.dumps)
def test_a_malformed_message_of_states_is_ignored(message: dict[str, Any]) -> None:
    drive = subscribed(item("a", 1))
    for _ in range(3):
        drive.says(message)
        drive.says(update(item("b", 1)))
    assert set(drive.seen) == {"a", "b"}
    assert drive.session.dial is not None
    assert drive.session.dial.wanted


def test_more_states_than_are_remembered(caplog: pytest.LogCaptureFixture) -> None:
    drive = subscribed(*[item(f"a{number}", 1) for number in range(10_001)])
    assert len(drive.seen) == 10_000
    drive.says(update(item("b", 1)), snapshot(*[item(f"a{number}", 2, x="1") for number in range(10_000)]))
    assert len(drive.seen) == 10_000
    assert drive.seen["a7"] == {"x": "1"}
    assert warnings_of(drive, caplog) == ["the group 'g' has too many states: some are ignored"]
    drive.says(snapshot(*[item(f"b{number}", 1) for number in range(10_000)]))
    assert "b9999" in drive.seen, "what goes makes room first"


def test_names_of_groups_are_shown_without_secrets(caplog: pytest.LogCaptureFixture) -> None:
    drive = connected()
    drive.session.subscribe_group_states("a\nSECRET", drive.now)
    drive.answer_all()
    drive.drop()
    drive.recover()
    drive.says(refused(OWN, "Forbidden"))
    (line,) = warnings_of(drive, caplog)
    assert "\n" not in line
    assert "SECRET" not in line


def test_an_answer_costs_the_same_however_many_groups_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = 0
    holds = GroupStates.holds

    def counted(states: GroupStates, request: Request) -> bool:
        nonlocal looks
        looks += 1
        return holds(states, request)

    monkeypatch.setattr(GroupStates, "holds", counted)
    drive = connected()
    for value in ("1", "2"):
        for group in range(200):
            drive.session.set_group_state(f"g{group}", {"a": value}, drive.now)
    answered = 0
    while waiting := drive.sent():
        for message in waiting:
            drive.says(ok(message["ackId"]))
            drive.advance(0.0)
            answered += 1
    assert answered == 400
    assert looks < 4 * answered


def test_an_answer_costs_the_same_however_many_groups_are_to_be_renewed() -> None:
    states = GroupStates(Secrets(), [], LogLines())
    requests = [Request(key, SET_STATE, b"", None, 0.0, group=f"g{key}", state={"a": "1"}) for key in range(200)]
    for request in requests:
        states.add(request)
        states.remove(request)
        states.settle(request, None, duplicate=False)
    states.connected(restore=True)
    asked: list[str] = []

    def blocked(group: str) -> bool:
        asked.append(group)
        return True

    def take() -> int:
        asked.clear()
        assert not states.take_restores(blocked)
        assert not states.take_renewals(blocked)
        return len(asked)

    assert take() == 200
    assert take() == 0
    states.remove(Request(1000, JOIN_REQUEST, b"", None, 0.0, group="g7"))
    assert take() == 1
    assert states.take_restores(lambda group: False) == []
    states.remove(Request(1000, JOIN_REQUEST, b"", None, 0.0, group="g7"))
    assert states.take_restores(lambda group: False) == [("g7", {"a": "1"})]


def test_a_state_waits_for_all_rejoins_of_its_group() -> None:
    states = GroupStates(Secrets(), [], LogLines())
    states.rejoins("g")
    states.rejoins("g")
    request = Request(1, SET_STATE, b"", None, 0.0, group="g", state={"a": "1"})
    states.add(request)
    states.rejoin_ended("g")
    assert states.holds(request)
    assert states.next_requests() == []
    states.rejoin_ended("g")
    assert states.next_requests() == [request]


# ---- Small changes that these alone notice


def member(drive: States, state: dict[str, str] | None = None, *, subscribed: bool = False) -> None:
    """Have the client join g, set a state and subscribe, all executed."""
    drive.connect()
    drive.session.join_group("g", drive.now)
    drive.answer_all()
    if state is not None:
        drive.set(state)
    if subscribed:
        drive.subscribe()
    drive.answer_all()
    drive.events()


def test_a_subscription_that_waits_for_a_rejoin_is_asked_when_that_has_ended() -> None:
    drive = States()
    member(drive)
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    drive.wake()
    [rejoin] = drive.sent()
    drive.subscribe()
    assert drive.asked() == []
    drive.says(ok(rejoin["ackId"]))
    assert drive.asked() == [SUBSCRIBE]


def test_a_subscription_is_not_renewed_while_its_group_is_being_left() -> None:
    drive = States()
    member(drive, subscribed=True)
    drive.session.leave_group("g", drive.now)
    leave = drive.sent()
    drive.drop()
    assert [each["type"] for each in drive.recover() if each != PING] == ["leaveGroup"]
    assert drive.asked() == []
    drive.says(ok(leave[0]["ackId"]))
    assert drive.asked() == [SUBSCRIBE]


def test_a_state_is_not_set_again_in_a_group_that_was_left_meanwhile() -> None:
    drive = States()
    member(drive, {"a": "1"})
    drive.session.leave_group("g", drive.now)
    drive.sent()
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    drive.wake()
    assert [each["type"] for each in drive.answer_all()] == ["leaveGroup"]


def test_a_state_that_cannot_be_set_again_in_a_group_that_was_left_is_forgotten_once() -> None:
    drive = States()
    member(drive, {"a": "1"})
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    drive.wake()
    [rejoin] = drive.sent()
    drive.says(ok(rejoin["ackId"]))
    drive.wake()
    [restore] = drive.sent()
    drive.session.leave_group("g", drive.now)
    [leave] = drive.sent()
    drive.says(ok(leave["ackId"]), refused(restore["ackId"], "Forbidden"))
    assert drive.asked() == []


def test_the_log_says_what_could_not_be_had_again(caplog: pytest.LogCaptureFixture) -> None:
    drive = States(retry=Backoff(limit=0))
    member(drive, {"a": "1"}, subscribed=True)
    drive.lose()
    drive.until_dial()
    drive.open()
    drive.says(hello("c2"))
    drive.wake()
    [rejoin] = drive.sent()
    drive.says(ok(rejoin["ackId"]))
    drive.wake()
    drive.events()
    caplog.clear()
    with caplog.at_level(logging.WARNING, "limpet"):
        drive.says(*[refused(ack_id, "Forbidden", "no") for ack_id in ack_ids(drive.sent())])
        drive.events()
    began = [
        "the own state in the group 'g' could not be set again: ",
        "the states of the group 'g' could not be had anew: ",
    ]
    assert sorted(next((text for text in began if line.startswith(text)), line) for line in caplog.messages) == began


def test_the_log_says_how_many_states_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    drive = States()
    member(drive, subscribed=True)
    with caplog.at_level(logging.DEBUG, "limpet"):
        drive.says(snapshot({"connectionId": 7}, item("c9", 1, a="1")))
        drive.events()
    assert "1 states of the group 'g' cannot be read" in caplog.messages


def test_a_subscription_that_a_later_rejoin_holds_keeps_its_repeats_while_other_requests_run_out() -> None:
    drive = Drive(ack_timeout=10.0)
    drive.connect()
    session = drive.session
    joined = session.join_group("g", drive.now)
    drive.sent()
    drive.says(ok(joined))
    drive.lose()
    drive.until_dial()
    drive.connect("c2")
    left = session.leave_group("g", drive.now)  # in place of the rejoin
    subscribed = session.subscribe_group_states("g", drive.now)
    assert ack_ids(drive.sent()) == [left, subscribed]
    drive.advance(5.0)
    drive.says(refused(left, "Forbidden"))  # so the group is joined again
    drive.advance(0.0)
    [rejoin] = ack_ids(drive.sent())
    drive.advance(5.0)
    drive.events()
    for _ in range(5):
        other = session.send_to_group("h", "x", drive.now, timeout=0.5)
        drive.advance(0.5)
        assert list(drive.answers()) == [other]
    drive.says(ok(rejoin))
    drive.advance(10.0)
    assert subscribed in ack_ids(drive.sent())
    drive.says(ok(subscribed))
    assert drive.answers() == {subscribed: "done"}
