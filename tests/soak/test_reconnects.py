"""Hundreds of reconnects leave nothing behind: no memory, no task, no thread, no open file."""

from __future__ import annotations

import pytest
from benchmarks.soak.__main__ import OURS
from benchmarks.soak.reconnects import NOISE, grown, leaks

COUNT = 200  # `make soak` has 1000 of each


@pytest.mark.parametrize("name", OURS)
def test_reconnects_leave_nothing_behind(name: str) -> None:
    growth = grown(name, COUNT)
    assert not leaks(name, growth, COUNT), growth


def test_a_leak_is_seen() -> None:
    nothing = {"bytes": 0, "tasks": 0, "threads": 0, "open files": 0}
    assert not leaks("ours", nothing | {"bytes": NOISE}, 1000)
    assert leaks("ours", nothing | {"bytes": NOISE + 100 * 1000}, 1000)
    assert leaks("ours", nothing | {"tasks": 1}, 1000)
    assert leaks("ours", nothing | {"threads": 1}, 1000)
    assert leaks("ours", nothing | {"open files": 1}, 1000)
