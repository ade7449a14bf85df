"""How long the machine was suspended, for sessions that look whether their connection outlived it."""

from __future__ import annotations

import time
from typing import Final

# CLOCK_BOOTTIME (Linux) goes on in suspend, the monotonic clock does not. Elsewhere the wall clock has to do: where
# somebody sets it, a session sends a ping too many. On Windows the monotonic clock goes on, too: there a timer that
# fires late tells the session.
_BOOT_TIME: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


def asleep() -> float:
    """Return the seconds for which the machine was suspended, plus a constant."""
    running = time.monotonic()
    return (time.time() if _BOOT_TIME is None else time.clock_gettime(_BOOT_TIME)) - running
