"""The limit of open files, on systems that are not this one."""

from __future__ import annotations

import sys

import pytest

from limpet.service import _descriptors

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limit")


class Limits:
    """The limits of a process of macOS: the hard one is unlimited, and the soft one may not be more than ``most``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, most: int) -> None:
        import resource

        self.unlimited = resource.RLIM_INFINITY
        self.soft, self.hard, self._most = soft, hard, most
        monkeypatch.setattr(resource, "getrlimit", lambda _: (self.soft, self.hard))
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, _: int, limits: tuple[int, int]) -> None:
        soft, hard = limits
        assert hard == self.hard
        if soft == self.unlimited or soft > self._most:
            raise ValueError("current limit exceeds maximum limit")
        self.soft = soft


@pytest.mark.parametrize(
    ("soft", "most", "then", "told"),
    [(256, 10_240, 10_240, 0), (20_000, 20_000, 20_000, 0), (256, 5_000, 256, 1), (10_240, 10_240, 10_240, 0)],
)
def test_an_unlimited_hard_limit_may_be_more_than_the_system_allows(
    soft: int, most: int, then: int, told: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import resource

    limits = Limits(monkeypatch, soft, resource.RLIM_INFINITY, most)
    _descriptors.raise_file_limit(None)
    assert limits.soft == then
    assert len(caplog.messages) == told


def test_an_unlimited_soft_limit_is_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    import resource

    limits = Limits(monkeypatch, resource.RLIM_INFINITY, resource.RLIM_INFINITY, 10_240)
    _descriptors.raise_file_limit(100_000)
    assert limits.soft == resource.RLIM_INFINITY
    assert caplog.messages == []
