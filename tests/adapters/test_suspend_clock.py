"""The clock that tells of a suspend, where it is and where it is not."""

from __future__ import annotations

import errno
import time

import pytest

from limpet._clients import suspend


def test_it_stands_still_while_the_machine_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for clock in (suspend.boot_time(), None):
        monkeypatch.setattr(suspend, "_BOOT_TIME", clock)
        assert suspend.asleep() == pytest.approx(suspend.asleep(), abs=30.0)


def test_a_clock_that_can_not_be_read_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> float:
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    monkeypatch.setattr(time, "clock_gettime", refuse, raising=False)
    assert suspend.boot_time() is None
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    assert suspend.boot_time() is None
