"""The order in which several workers run the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers.order import LONG, QUICK, spread

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", LONG)
def test_the_files_are_there(name: str) -> None:
    assert (ROOT / name).is_file()


def test_each_worker_begins_with_long_files_and_ends_with_quick_ones() -> None:
    items = [*[f"tests/adapters/{n}" for n in range(498 - len(LONG))], *[f"{QUICK}{n}" for n in range(402)], *LONG]
    ordered = spread(items, 3, str)
    assert sorted(ordered) == sorted(items)
    size, long = len(items) // 3, -(-len(LONG) // 3)
    for begin in (0, size, 2 * size):
        part = ordered[begin : begin + size]
        assert part[0] in LONG
        assert part[long] not in LONG
        assert all(name.startswith(QUICK) for name in part[-134:])
        assert not any(name.startswith(QUICK) for name in part[:-134])


@given(st.lists(st.sampled_from([*LONG, f"{QUICK}test_a.py", "tests/test_b.py", "tests/test_c.py"])), st.integers(1, 9))
def test_none_is_lost_and_those_of_a_file_keep_their_order(files: list[str], workers: int) -> None:
    items = list(enumerate(files))
    ordered = spread(items, workers, lambda item: item[1])
    assert sorted(ordered) == items
    for name in set(files):
        assert [item for item in ordered if item[1] == name] == [item for item in items if item[1] == name]
