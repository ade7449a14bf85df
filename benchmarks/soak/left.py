"""What a client has left behind: tasks, threads and open files more than before it was there."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

_OPEN_FILES = Path("/proc/self/fd")


def things(tasks: int = 0) -> dict[str, int]:
    """What there is now; ``tasks`` is for the event loop's own to count. Open files are known on Linux only."""
    return {"tasks": tasks, "threads": threading.active_count(), "open files": open_files()}


def open_files() -> int:
    """Sockets, pipes and the like. No devices: libuv keeps one open from its first refused connection on."""
    if not _OPEN_FILES.is_dir():
        return 0
    count = 0
    for name in os.listdir(_OPEN_FILES):
        try:
            count += not stat.S_ISCHR(os.fstat(int(name)).st_mode)
        except OSError:
            continue  # the listing itself, closed by now
    return count


def more(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    """What there is more of ``now``."""
    return {what: count - before[what] for what, count in now.items()}
