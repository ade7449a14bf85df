"""The soak in short, over our clients, and its parts."""

from __future__ import annotations

import asyncio
import dataclasses

from benchmarks.soak.__main__ import OURS, table
from benchmarks.soak.arena import Row, judge, soak
from benchmarks.soak.plan import Plan, faults

SHORT = Plan(3.0, seed=2, rate=100.0, pause=(0.02, 0.2), hasty=True)


def test_through_quick_faults_our_clients_lose_double_stall_and_leave_nothing() -> None:
    rows = asyncio.run(soak(OURS, SHORT))
    assert {row.name for row in rows} == set(OURS)
    assert all(row.clean for row in rows), table(rows)


def test_a_seed_says_which_faults_there_are() -> None:
    plan = Plan(75.0, seed=1)
    assert faults(plan) == faults(plan) != faults(dataclasses.replace(plan, seed=2))
    assert len({fault.kind for fault in faults(plan)}) == 9
    assert sum(fault.after + fault.lasts for fault in faults(plan)) <= plan.seconds + plan.pause[1]


def test_what_went_wrong_is_counted() -> None:
    row = Row("it", cuts=1)
    plan = Plan(1.0, seed=1, rate=6.0)
    report = {
        "received": [0, 2, 1, 2, 4],
        "done": [0, 1, 2],
        "failed": {"SendError": 1},
        "stalled": 1,
        "slowest": 2.5,
        "left": {"threads": 2, "open files": -1},
    }
    judge(row, plan, report, executed=[0, 0, 2, 3])
    assert dataclasses.asdict(row) == {
        "name": "it",
        "messages": 12,
        "cuts": 1,
        "lost": 2 + 1,  # 3 and 5 were not delivered, 1 was not executed
        "duplicated": 1,
        "executed_twice": 1,
        "out_of_order": 1,
        "failed": 1,
        "stalled": 1,
        "leaked": 2,
        "slowest": 2.5,
        "broken": "",
        "details": "1 x SendError; left: 2 threads",
    }
    assert not row.clean
    assert Row("it", messages=12, cuts=1).clean
