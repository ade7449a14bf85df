"""What a check has left behind, by name: tasks, timers, threads and sockets."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import traceback
from typing import Any

_OTHERS = ("asyncio_", "AnyIO worker", "Trio thread", "pytest", "execnet")
"""How the names of threads begin that event loops and test runners keep for the next."""


def tasks(backend: str) -> dict[object, str]:
    """Return the tasks and timers of the running event loop, but for the caller's task, each with its description."""
    return _trio_tasks() if backend == "trio" else _asyncio_tasks()


def _asyncio_tasks() -> dict[object, str]:
    loop: Any = asyncio.get_running_loop()
    found: dict[object, str] = {
        task: repr(task) for task in asyncio.all_tasks() if task is not asyncio.current_task() and not task.done()
    }
    found |= {timer: repr(timer) for timer in getattr(loop, "_scheduled", ()) if not timer.cancelled()}
    return found


def _trio_tasks() -> dict[object, str]:
    import trio

    found: dict[object, str] = {}
    caller = trio.lowlevel.current_task()
    roots = [trio.lowlevel.current_root_task()]
    while roots:
        task = roots.pop()
        if task is None:
            continue
        roots += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        if task is not caller:
            found[task] = _described(task)
    if trio.lowlevel.current_statistics().seconds_to_next_deadline != math.inf:
        found["a timer"] = "a timer"
    return found


def _described(task: Any) -> str:
    """Name a task of trio, and the last step of it that is not trio's own."""
    steps = [(frame, line) for frame, line in task.iter_await_frames() if not _is_trios(frame)]
    where = f" in {steps[-1][0].f_code.co_name}, line {steps[-1][1]}" if steps else ""
    return f"task {task.name}{where}"


def _is_trios(frame: Any) -> bool:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in ("trio", "anyio", "outcome")


def threads() -> dict[object, str]:
    """Return the threads of this process, but for those that event loops keep, each with where it is."""
    # The documented way to see what other threads do.
    frames = sys._current_frames()  # pyright: ignore[reportPrivateUsage]
    found: dict[object, str] = {}
    for thread in threading.enumerate():
        if not thread.name.startswith(_OTHERS) and thread is not threading.current_thread():
            frame = frames.get(thread.ident or 0)
            where: list[traceback.FrameSummary] = []
            if frame is not None:
                where = traceback.extract_stack(frame, limit=3)
            found[thread] = f"thread {thread.name} in " + " > ".join(
                f"{step.name}, line {step.lineno}" for step in where
            )
    return found
