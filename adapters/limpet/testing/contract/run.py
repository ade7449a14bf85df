"""Run one check against one adapter, and look at what is left behind: tasks, threads, timers, sockets, errors."""

from __future__ import annotations

import asyncio
import gc
import ssl
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager

import anyio

from limpet.testing.contract import leftovers
from limpet.testing.contract.check import Check, needs_of
from limpet.testing.contract.harness import Harness
from limpet.testing.contract.needs import Allowed
from limpet.testing.contract.subject import Adapter
from limpet.testing.failed_line import failed_at
from limpet.testing.open_sockets import open_sockets
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

    The notes of the error have the line of the check that failed, and the values in it.

    Args:
        check: one of :data:`CHECKS`, or of your own.
        adapter: a client and its event loop.
        tls: what the service and what the client uses, for ``wss`` URLs.
        limit: the seconds it may take at most.
    """
    threads, sockets = leftovers.threads(), open_sockets()
    with _unseen_errors() as unseen:
        with BackgroundService(tls=tls[0] if tls else None) as service:
            harness = Harness(service, adapter, tls, Allowed(needs_of(check)))
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
    _gone("threads", lambda: _more(leftovers.threads(), threads))
    # A socket that was open before may have been replaced by another.
    _gone("sockets", lambda: _more(open_sockets(), sockets) if len(open_sockets()) > len(sockets) else [])


async def _play(check: Check, harness: Harness, limit: float, unseen: list[object], backend: str) -> None:
    if backend == "asyncio":
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: unseen.append(context))
    before = leftovers.tasks(backend)
    with anyio.fail_after(limit):
        try:
            await check(harness)
        except Exception as error:
            for note in failed_at(error, check):
                error.add_note(note)
            raise
    end = time.monotonic() + LEFT_BEHIND
    while left := _more(leftovers.tasks(backend), before):
        if time.monotonic() > end:
            raise AssertionError(f"tasks and timers left behind: {'; '.join(left)}")
        await anyio.sleep(0.01)


def _more(now: dict[object, str], before: dict[object, str]) -> list[str]:
    """Describe what is there now and was not before."""
    return [what for one, what in now.items() if one not in before]


def _gone(kind: str, left: Callable[[], list[str]]) -> None:
    end = time.monotonic() + LEFT_BEHIND
    while found := left():
        if time.monotonic() > end:
            raise AssertionError(f"{kind} left behind: {'; '.join(found)}")
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
