"""How long the machine was suspended, for sessions that look whether their connection outlived it."""

from __future__ import annotations

import time
from typing import Final


# CLOCK_BOOTTIME (Linux) goes on in suspend, the monotonic clock does not. Elsewhere the wall clock has to do: where
# somebody sets it, a session sends a ping too many. On Windows the monotonic clock goes on, too: there a timer that
# fires late tells the session.
def boot_time() -> int | None:
    """Return the clock that goes on in suspend; None: there is none, or a sandbox does not let it be read."""
    clock: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    try:
        if clock is not None:
            time.clock_gettime(clock)
    except OSError:
        return None
    return clock


_BOOT_TIME: Final[int | None] = boot_time()


def asleep() -> float:
    """Return the seconds for which the machine was suspended, plus a constant."""
    running = time.monotonic()
    return (time.time() if _BOOT_TIME is None else time.clock_gettime(_BOOT_TIME)) - running
