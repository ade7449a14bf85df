"""Run one check against one adapter, and look at what is left behind: tasks, threads, timers, sockets, errors."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import ssl
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import anyio

from limpet.testing.contract.check import Check
from limpet.testing.contract.harness import Harness
from limpet.testing.contract.subject import Adapter
from limpet.testing.service import BackgroundService

LEFT_BEHIND = 30.0
"""Seconds that tasks, timers, threads and sockets may take to go away."""


def run_check(
    check: Check,
    adapter: Adapter,
    *,
    tls: tuple[ssl.SSLContext, ssl.SSLContext] | None = None,
    limit: float = 45.0,
) -> None:
    """Run one check against one adapter; raises AssertionError, or what went wrong.

    Args:
        check: one of :data:`CHECKS`, or of your own.
        adapter: a client and its event loop.
        tls: what the service and what the client uses, for ``wss`` URLs.
        limit: the seconds it may take at most.
    """
    threads, sockets = set(threading.enumerate()), _open_sockets()
    with _unseen_errors() as unseen:
        with BackgroundService(tls=tls[0] if tls else None) as service:
            harness = Harness(service, adapter, tls)
            anyio.run(
                _play,
                check,
                harness,
                limit,
                unseen,
                adapter.backend,
                backend=adapter.backend,
                backend_options=adapter.backend_options,
            )
        gc.collect()
    assert not unseen, unseen

    def ours() -> list[threading.Thread]:
        return [thread for thread in set(threading.enumerate()) - threads if thread.name.startswith("limpet")]

    _until(lambda: not ours(), lambda: f"threads left behind: {ours()}")
    _until(
        lambda: len(_open_sockets()) <= len(sockets), lambda: f"sockets left open: {_open_sockets()}, before: {sockets}"
    )


async def _play(check: Check, harness: Harness, limit: float, unseen: list[object], backend: str) -> None:
    if backend == "asyncio":
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unseen.append(context))
    before = _busy(backend)
    with anyio.fail_after(limit):
        await check(harness)
    end = time.monotonic() + LEFT_BEHIND
    while left := [one for one in _busy(backend) if one not in before]:
        if time.monotonic() > end:
            raise AssertionError(f"left behind: {left}")
        await anyio.sleep(0.01)


def _busy(backend: str) -> list[object]:
    """What the event loop still has to do, apart from the caller."""
    if backend == "trio":
        import trio

        statistics = trio.lowlevel.current_statistics()
        busy: list[object] = [f"task {number}" for number in range(statistics.tasks_living)]
        return busy if statistics.seconds_to_next_deadline == math.inf else [*busy, "a timer"]
    loop: Any = asyncio.get_running_loop()
    tasks: list[object] = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    return tasks + [timer for timer in getattr(loop, "_scheduled", ()) if not timer.cancelled()]


def _open_sockets() -> list[str]:
    """The sockets of this process that are open, where the system tells."""
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return []
    found: list[str] = []
    for name in names:
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the one that listed them
        if link.startswith("socket:"):  # event loops keep others for the next of them
            found.append(link)
    return found


def _until(true: Callable[[], bool], why: Callable[[], str]) -> None:
    end = time.monotonic() + LEFT_BEHIND
    while not true():
        if time.monotonic() > end:
            raise AssertionError(why())
        time.sleep(0.002)


@contextmanager
def _unseen_errors() -> Generator[list[object]]:
    """Collect errors that nobody sees: in threads, in destructors, and sockets that were not closed."""
    unseen: list[object] = []
    hooks = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = lambda fault: unseen.append((fault.err_msg, repr(fault.exc_value), repr(fault.object)))
    threading.excepthook = lambda fault: unseen.append((fault.thread, repr(fault.exc_value)))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            yield unseen
    finally:
        sys.unraisablehook, threading.excepthook = hooks
