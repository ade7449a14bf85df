"""Signals that ask a program to end: SIGTERM (of a service manager), SIGHUP (its terminal is gone)."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final

ENDING: Final = tuple(
    signal.Signals[name] for name in ("SIGTERM", "SIGHUP") if name in signal.Signals.__members__
)  # Windows has no SIGHUP

# Seconds after a signal in which others are part of the same request.
_ONE_REQUEST = 1.0


@contextmanager
def told_to_end(loop: asyncio.AbstractEventLoop, tell: Callable[[int], object]) -> Generator[None]:
    """Call ``tell`` within the block with the number of the first SIGTERM or SIGHUP that comes, and wake ``loop``.

    Another one ends the program at once if it comes a second or more later, so that no goodbye can hold it up for ever.
    Earlier ones are the same request: a terminal that is closed sends SIGHUP, and so does its shell; others send
    SIGTERM to a process and to its group. A signal that is ignored (as ``nohup`` has it) stays ignored, and one that
    the application has a handler for stays with that. In another thread than the main one nothing happens: Python has
    signals there only.

    Args:
        loop: of the main thread.
        tell: called between any two steps of the main thread; asyncio's ``call_soon_threadsafe`` may be called there.
    """
    taken: list[signal.Signals] = []
    told_at: list[float] = []
    woken: list[signal.Signals] = []

    def restore() -> None:
        while taken:
            signal.signal(taken.pop(), signal.SIG_DFL)

    def handle(number: int, _: FrameType | None) -> None:
        if not told_at:
            told_at.append(time.monotonic())
            tell(number)
        elif time.monotonic() - told_at[0] >= _ONE_REQUEST:
            restore()
            signal.raise_signal(number)

    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            if signal.getsignal(number) is signal.SIG_DFL:
                with suppress(NotImplementedError):  # Windows
                    # A signal that comes just before the loop waits would be noticed when something else wakes it.
                    loop.add_signal_handler(number, _woken)
                    woken.append(number)
                signal.signal(number, handle)
                taken.append(number)
    try:
        yield
    finally:
        for number in woken:
            loop.remove_signal_handler(number)
        restore()


def _woken() -> None:
    """Do nothing: :func:`told_to_end` has its own handler, which also interrupts what does not return to the loop."""
