"""Whose cancellation it is, in the tasks of asyncio; the cancel scopes of anyio cancel these as well."""

from __future__ import annotations

import asyncio


def stray(error: BaseException) -> bool:
    """Whether ``error`` is the cancellation of something that the running task awaits, and not of this task."""
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and not task.cancelling()
