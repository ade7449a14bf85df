"""Async servers for tests that are not async: each runs in a thread and an event loop of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import TypeVar

from tests.helpers.waiting import LIMIT

T = TypeVar("T")


@contextmanager
def running(make: Callable[[], AbstractAsyncContextManager[T]]) -> Iterator[T]:
    """Enter ``make()`` in the background; leave it, and its thread, in the end. Errors on either way are raised."""
    entered: Future[tuple[T, asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    left: Future[None] = Future()

    async def serve() -> None:
        over = asyncio.Event()
        async with make() as server:
            entered.set_result((server, asyncio.get_running_loop(), over))
            await over.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # noqa: BLE001 - raised in the test
            (left if entered.done() else entered).set_exception(error)
        else:
            left.set_result(None)

    thread = threading.Thread(target=run, name="server of a test", daemon=True)
    thread.start()
    server, loop, over = entered.result(LIMIT)
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(over.set)
        left.result(LIMIT)
        thread.join(LIMIT)
