"""Exceptions of the application's awaitables: failures, or cancellations of the current task."""

from __future__ import annotations

import asyncio


def is_failure(error: BaseException) -> bool:
    """Return whether ``error``, raised by code of the application that was awaited, is a failure of that code.

    Anything else ends the current task: its own cancellation, ``KeyboardInterrupt``, ``SystemExit``.
    """
    return isinstance(error, Exception) or is_foreign_cancellation(error)


def is_foreign_cancellation(error: BaseException) -> bool:
    """Return whether ``error`` is a CancelledError that was not aimed at the current task.

    An awaitable inside was cancelled elsewhere: the code that awaited it has failed, and the task goes on. The cancel
    scopes of anyio cancel tasks of asyncio as well. On trio there is no task that it could be aimed at.
    """
    if not isinstance(error, asyncio.CancelledError):
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop of asyncio runs here
        return True
    return task is not None and not task.cancelling()
