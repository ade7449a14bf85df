"""Failures of the application's code that is awaited, and cancellations that are none of ours."""

from __future__ import annotations

import asyncio


def is_failure(error: BaseException) -> bool:
    """Whether ``error``, raised by code of the application that was awaited, is a failure of that code.

    Anything else ends the current task: its own cancellation, ``KeyboardInterrupt``, ``SystemExit``.
    """
    return isinstance(error, Exception) or is_foreign_cancellation(error)


def is_foreign_cancellation(error: BaseException) -> bool:
    """Whether ``error`` is a CancelledError that was not aimed at the current task.

    Something that the task awaits was cancelled by somebody else. The code that awaited it has failed; the task goes
    on. anyio's cancel scopes cancel tasks of asyncio as well. On trio there is no task that it could be aimed at.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop of asyncio runs here
        return True
    return task is not None and not task.cancelling()
