"""How many examples hypothesis makes, in a quick run, CI or a long one (see tests/conftest.py)."""

from __future__ import annotations

from hypothesis import settings


def examples(number: int) -> int:
    """``number`` in a quick run, and as many times more as the profile in use has more than the quick one."""
    return number * settings.default.max_examples // 100
