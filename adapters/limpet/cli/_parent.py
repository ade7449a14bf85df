"""The process that has started this one, and its end."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable

# Seconds between two looks. Systems have faster ways to learn of it, each one another; this one works everywhere.
_PAUSE = 0.25


class Parent:
    """The parent process, as it is now."""

    def __init__(self) -> None:
        self.gone: Callable[[], bool] = _gone_on_windows() if sys.platform == "win32" else _gone_on_unix()

    async def ended(self) -> None:
        """Return when the parent process has ended."""
        while not self.gone():  # noqa: ASYNC110 - there is nothing to wait for
            await asyncio.sleep(_PAUSE)


def _gone_on_unix() -> Callable[[], bool]:
    """An orphan gets another parent at once."""
    parent = os.getppid()
    return lambda: os.getppid() != parent


def _gone_on_windows() -> Callable[[], bool]:
    """An orphan keeps the number of its parent, which another process may get: a handle stays with the first."""
    if sys.platform != "win32":
        raise NotImplementedError
    import ctypes

    synchronize, signalled = 0x00100000, 0
    kernel = ctypes.windll.kernel32
    kernel.OpenProcess.restype = ctypes.c_void_p
    handle = kernel.OpenProcess(synchronize, False, os.getppid())
    if not handle:
        return lambda: True
    return lambda: kernel.WaitForSingleObject(ctypes.c_void_p(handle), 0) == signalled
