"""The check of the kill tests finds each thing that can be wrong."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.service.cluster.kill.verdict import Got, Sent, Verdict, judge

ALL = [("p", 1), ("p", 2), ("p", 3), ("p", 4)]
CLEAN = Verdict(acked=3, delivered=4)


def judged(received: list[tuple[str, int]], **changes: Any) -> Verdict:
    return judge([Sent("p", sent=4, acked={1, 2, 4})], [Got("m", received=received, **changes)])


def test_what_is_acknowledged_has_to_arrive_once_and_in_order() -> None:
    assert judged(ALL) == CLEAN
    assert CLEAN.faults == 0


def test_what_is_not_acknowledged_may_be_missing() -> None:
    assert judged([ALL[0], ALL[1], ALL[3]]) == dataclasses.replace(CLEAN, delivered=3)


@pytest.mark.parametrize(
    ("received", "wrong"),
    [
        (ALL[1:], {"lost": 1}),
        ([], {"lost": 3}),
        ([*ALL, ALL[3]], {"duplicates": 1}),
        ([ALL[0], ALL[0], *ALL[1:]], {"duplicates": 1}),
        ([ALL[1], ALL[0], *ALL[2:]], {"disorder": 1}),
        ([*ALL, ("p", 5)], {"invented": 1}),
        ([*ALL, ("q", 1)], {"invented": 1}),
    ],
)
def test_each_fault_is_counted(received: list[tuple[str, int]], wrong: dict[str, int]) -> None:
    verdict = judged(received)
    assert verdict == dataclasses.replace(CLEAN, delivered=len(received), **wrong)
    assert verdict.faults > 0


def test_the_order_is_that_of_each_publisher() -> None:
    publishers = [Sent("p", sent=2, acked={1, 2}), Sent("q", sent=2, acked={1, 2})]
    mixed = [("q", 1), ("p", 1), ("p", 2), ("q", 2)]
    assert judge(publishers, [Got("m", received=mixed)]).faults == 0


def test_a_member_that_was_told_of_its_loss_is_owed_what_came_later() -> None:
    told = judged(ALL[3:], since={"p": 2}, disconnects=1)
    assert told == dataclasses.replace(CLEAN, delivered=1, disconnects=1)
    assert judged(ALL[:3], since={"p": 2}, disconnects=1).lost == 1
