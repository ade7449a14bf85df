"""The soak of a cluster: what its table says, and when it fails. What it does is in tests/service/cluster."""

from __future__ import annotations

from collections import Counter

import pytest
from tests.service.cluster.kill import faults
from tests.service.cluster.kill.verdict import Verdict
from tests.soak.cluster import KINDS, Row, is_clean, table

QUIET = KINDS["a node -9"]
TOLD = KINDS["engine restarted empty"]


@pytest.mark.parametrize(
    ("verdict", "clean", "clean_if_told"),
    [
        (Verdict(acked=5, delivered=10), True, True),
        (Verdict(disconnects=1), False, True),
        (Verdict(lost=1), False, False),
        (Verdict(duplicates=1), False, False),
        (Verdict(disorder=1), False, False),
        (Verdict(invented=1), False, False),
    ],
)
def test_it_fails_for_each_fault(verdict: Verdict, clean: bool, clean_if_told: bool) -> None:
    row = Row(verdicts=[Verdict(acked=1, delivered=1), verdict])
    assert is_clean(QUIET, row) is clean
    assert is_clean(TOLD, row) is clean_if_told


def test_it_fails_for_a_round_that_did_not_end() -> None:
    assert not is_clean(QUIET, Row(broken=["AssertionError"]))


def test_the_table_adds_rounds_up() -> None:
    rounds = [Verdict(acked=600, delivered=1200, lost=1), Verdict(acked=600, delivered=1200, duplicates=2)]
    row = Row(Counter({"kill node": 3}), rounds, recoveries=7, outages=[0.5, 0.1, 2.0])
    cells = "1,200 | 2,400 | 7 | 0.50 s, 2.00 s | 0 | 1 / 2 / 0 |"
    assert table({"a node -9": row}).splitlines()[2:] == [
        f"| a node -9 (3 x kill node) | {cells}",
        f"| **all** | {cells}",
    ]


def test_every_fault_is_in_it() -> None:
    named = {fault for kind in KINDS.values() for fault in kind.faults}
    every = {value for value in vars(faults).values() if getattr(value, "__module__", "") == faults.__name__}
    assert named == {fault for fault in every if callable(fault) and not fault.__name__.startswith("_")}
