"""The cache of one group's states: any order of snapshots, updates and cuts ends in the service's truth."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limpet import GroupState, GroupStatesChanged
from limpet_core.client import state_cache
from limpet_core.client.state_cache import StateCache

STEPS = ["set", "clear", "renew", "answer", "update", "update", "cut", "lose", "wait"]


class World:
    """A service, a cache, and two lanes between them: each keeps its order, and may overtake the other."""

    def __init__(self) -> None:
        self.cache = StateCache("g")
        self.truth: dict[str, GroupState] = {}
        self.clock = 0
        self.now = 0.0
        self.snapshots: list[list[GroupState]] = []
        self.updates: list[GroupState] = []
        self.seen: dict[str, GroupState] = {}  # out of the changes alone
        self.renew()

    def take(self, change: GroupStatesChanged | None) -> None:
        if change is not None:
            for connection_id in change.removed:
                del self.seen[connection_id]
            self.seen |= {state.connection_id: state for state in change.changed}
        assert self.seen == self.cache.states

    def put(self, connection_id: str, state: dict[str, str] | None) -> None:
        if state is None and connection_id not in self.truth:
            return
        self.clock += 1
        item = GroupState(connection_id=connection_id, state=state, updated_at=self.clock)
        if state is None:
            del self.truth[connection_id]
        else:
            self.truth[connection_id] = item
        self.updates.append(item)

    def renew(self) -> None:
        self.snapshots.append(list(self.truth.values()))

    def step(self, name: str, who: str) -> None:
        cache = self.cache
        if name == "set":
            self.put(who, {"n": f"{self.clock}"})
        elif name == "clear":
            self.put(who, None)
        elif name == "renew":
            self.renew()
        elif name == "answer":
            if self.snapshots:
                self.take(cache.snapshot(self.snapshots.pop(0), self.now))
        elif name == "update":
            if self.updates:
                self.take(cache.update([self.updates.pop(0)], self.now))
        elif name == "wait":
            self.now += 1.0
        else:
            self.updates, self.snapshots = [], []
            if name == "cut":
                cache.transport_lost()
            else:
                self.take(cache.connection_lost("own"))
                self.clock = 0  # another service may answer now, whose clock is behind
                self.truth = {each: GroupState(connection_id=each, state={}, updated_at=0) for each in self.truth}
            self.renew()

    def run(self, steps: list[tuple[str, str]]) -> None:
        """Take steps, then let everything arrive; the cache must hold the truth."""
        for name, who in steps:
            self.step(name, who)
        while self.snapshots or self.updates:
            self.step("answer", "")
            self.step("update", "")
        assert self.cache.states == self.truth


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from("ab"))))
def test_any_order_ends_in_the_truth(steps: list[tuple[str, str]]) -> None:
    World().run(steps)


def seeds_that_fail(seeds: int) -> int:
    failed = 0
    for seed in range(seeds):
        chance = random.Random(seed)
        steps = [(chance.choice(STEPS), chance.choice("ab")) for _ in range(30)]
        try:
            World().run(steps)
        except AssertionError:
            failed += 1
    return failed


def test_many_orders_end_in_the_truth() -> None:
    assert seeds_that_fail(1000) == 0


def without_protection(patch: pytest.MonkeyPatch) -> None:
    """A snapshot removes what it does not have, even if it came by an update that overtook the snapshot."""

    def snapshot(self: StateCache, items: Any, now: float) -> Any:
        self.transport_lost()
        return whole(self, items, now)

    whole = StateCache.snapshot
    patch.setattr(StateCache, "snapshot", snapshot)


def with_protection_for_ever(patch: pytest.MonkeyPatch) -> None:
    """What came by an update stays, even if the update that removed it was lost with the transport."""
    patch.setattr(StateCache, "transport_lost", lambda self: None)


def without_tombstones(patch: pytest.MonkeyPatch) -> None:
    """A snapshot that an update has overtaken brings a removed state back."""
    patch.setattr(state_cache, "MAX_TOMBSTONES", 0)


def without_comparison(patch: pytest.MonkeyPatch) -> None:
    """A snapshot that an update has overtaken brings an older state back."""
    patch.setattr(StateCache, "_newer", lambda *_: True)


def with_the_old_clock(patch: pytest.MonkeyPatch) -> None:
    """The times of the connection before count on the next one."""
    patch.setattr(StateCache, "connection_lost", lambda self, _: self.transport_lost())


FAULTS = [without_protection, with_protection_for_ever, without_tombstones, without_comparison, with_the_old_clock]


@pytest.mark.parametrize("fault", FAULTS)
def test_each_rule_is_needed(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    assert seeds_that_fail(1000) > 0


# ---- What is forgotten


def state(connection_id: str, at: float) -> GroupState:
    return GroupState(connection_id=connection_id, state={}, updated_at=at)


def removal(connection_id: str, at: float) -> GroupState:
    return GroupState(connection_id=connection_id, updated_at=at)


def test_200_tombstones_are_kept_and_the_oldest_is_dropped_first() -> None:
    cache = StateCache("g")
    cache.update([removal(f"a{number}", 5) for number in range(201)], 0.0)
    cache.snapshot([state(f"a{number}", 4) for number in range(201)], 0.0)
    assert list(cache.states) == ["a0"]


@pytest.mark.parametrize(("later", "expected"), [(300.0, set()), (300.5, {"a"})])
def test_a_tombstone_is_forgotten_after_five_minutes(later: float, expected: set[str]) -> None:
    cache = StateCache("g")
    cache.update([removal("a", 5)], 10.0)
    cache.snapshot([state("a", 4)], 10.0 + later)
    assert set(cache.states) == expected


@pytest.mark.parametrize(("later", "expected"), [(300.0, {"a"}), (300.5, set())])
def test_an_update_is_protected_for_five_minutes(later: float, expected: set[str]) -> None:
    cache = StateCache("g")
    cache.update([state("a", 5)], 10.0)
    cache.snapshot([], 10.0 + later)
    assert set(cache.states) == expected


def test_of_two_records_in_one_message_the_newer_counts() -> None:
    cache = StateCache("g")
    change = cache.update([state("a", 1), removal("a", 3), state("b", 2), removal("a", 2), state("b", 1)], 0.0)
    assert change == GroupStatesChanged("g", (state("b", 2),), ())


def test_what_is_cleared_is_new_again() -> None:
    cache = StateCache("g")
    state = GroupState(connection_id="c", state={"a": "1"}, updated_at=1)
    cache.snapshot([state], 0.0)
    cache.connection_lost("other")
    change = cache.clear()
    assert change == GroupStatesChanged("g", (), ("c",))
    cache.snapshot([GroupState(connection_id="c", state={"a": "2"}, updated_at=5)], 0.0)
    assert cache.update([GroupState(connection_id="c", state={"a": "old"}, updated_at=4)], 0.0) is None


def at(updated_at: float, value: str | None = "x", connection_id: str = "c") -> GroupState:
    state = None if value is None else {"a": value}
    return GroupState(connection_id=connection_id, state=state, updated_at=updated_at)


def test_the_first_snapshot_is_told_though_it_is_empty_and_no_other_is() -> None:
    cache = StateCache("g")
    assert cache.snapshot([], 0.0) == GroupStatesChanged("g", (), ())
    assert cache.snapshot([], 0.0) is None


def test_before_the_first_snapshot_an_update_is_not_older_than_it() -> None:
    cache = StateCache("g")
    cache.update([at(5)], 0.0)
    cache.transport_lost()
    cache.snapshot([at(4, "old")], 0.0)
    assert cache.states == {"c": at(5)}


def test_what_a_snapshot_says_is_gone_stays_gone_for_its_time() -> None:
    cache = StateCache("g")
    cache.snapshot([at(5, None)], 0.0)
    cache.snapshot([], 1.0)
    assert cache.update([at(5)], 1.0) is None, "no newer than its end"
    assert cache.update([at(6)], 1.0) == GroupStatesChanged("g", (at(6),), ())


def test_a_state_that_ended_and_came_back_by_a_snapshot_goes_by_a_snapshot() -> None:
    cache = StateCache("g")
    cache.snapshot([], 0.0)
    cache.update([at(1)], 0.0)
    cache.update([at(2, None)], 0.0)
    cache.snapshot([at(3)], 0.0)
    assert cache.snapshot([], 0.0) == GroupStatesChanged("g", (), ("c",))


def test_states_beyond_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_cache, "MAX_STATES", 1)
    cache = StateCache("g")
    cache.snapshot([at(1), at(1, connection_id="d"), at(1, connection_id="e")], 0.0)
    assert (list(cache.states), cache.ignored) == (["c"], 2)


def test_the_same_state_on_the_next_connection_is_no_change() -> None:
    cache = StateCache("g")
    cache.snapshot([at(5)], 0.0)
    assert cache.connection_lost("other") is None
    assert cache.snapshot([at(5)], 0.0) is None
    assert cache.clear() == GroupStatesChanged("g", (), ("c",))


def test_after_a_clear_nothing_is_of_a_connection_before() -> None:
    cache = StateCache("g")
    cache.snapshot([at(1)], 0.0)
    cache.connection_lost("other")
    cache.clear()
    cache.update([at(5)], 0.0)
    cache.transport_lost()
    cache.snapshot([at(4, "old")], 0.0)
    assert cache.states == {"c": at(5)}
