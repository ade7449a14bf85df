"""How long tests wait, and how a busy machine changes no verdict."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from typing import Any

LIMIT = 30.0
"""Seconds after which a wait has failed: more than a busy machine needs, so that no verdict depends on its speed."""


def until(true: Callable[[], object]) -> None:
    """Wait until a condition is true; for code that blocks."""
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, f"did not become true within {LIMIT:g} s"
        time.sleep(0.002)


async def turns(count: int = 30) -> None:
    """Let the running event loop take a few turns: enough for all that is on its way within this process."""
    for _ in range(count):
        await asyncio.sleep(0)


async def skip(seconds: float) -> None:
    """Put the clock of the running event loop forward: what is on its way arrives before, what is due happens after."""
    await turns()
    loop: Any = asyncio.get_running_loop()
    time = loop.time
    loop.time = lambda: time() + seconds
    await turns()


def complaints(errors: str) -> str:
    """Return the standard error of a program without the lines in which asyncio tells of slow steps."""
    return re.sub(r"^Executing <.* took [0-9.]+ seconds\n", "", errors, flags=re.MULTILINE)
