"""The anyio client."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from contextvars import copy_context
from functools import partial

import anyio
import anyio.lowlevel

from limpet._structured.backend import Backend, ScopeAlarm
from limpet._structured.client import StructuredClient
from limpet._structured.driver import StructuredDriver
from limpet._structured.interrupts import protect
from limpet._transports.held import Signal
from limpet.anyio._alarm import TimerAlarm
from limpet.anyio._tcp import on_asyncio, open_tcp


def _call_soon() -> Callable[[Callable[[], object]], object]:
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        # In a context of ours: without a task anyio looks there for the name of the event loop. Its own run() has set
        # it, that of asyncio has not. Without sniffio, which comes with trio for example, anyio asks asyncio alone.
        context = copy_context()
        if (sniffio := sys.modules.get("sniffio")) is not None:
            context.run(sniffio.current_async_library_cvar.set, "asyncio")
        return partial(asyncio.get_running_loop().call_soon_threadsafe, context=context)
    import trio

    return trio.lowlevel.current_trio_token().run_sync_soon


class _Event:
    """An event on asyncio. That of asyncio has a deque, which takes 0.7 KiB, and anyio's is one in another object."""

    __slots__ = ("_set", "_waiters")

    def __init__(self) -> None:
        self._set = False
        self._waiters: list[asyncio.Future[None]] = []

    def set(self) -> None:
        self._set = True
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        if self._set:
            await anyio.lowlevel.checkpoint()
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)


def _event() -> Signal:
    return _Event() if on_asyncio() else anyio.Event()


def _scope(deadline: float, shield: bool) -> anyio.CancelScope:
    return anyio.CancelScope(deadline=deadline, shield=shield)


BACKEND = Backend(
    now=anyio.current_time,
    event=_event,
    scope=_scope,
    alarm=lambda: TimerAlarm() if on_asyncio() else ScopeAlarm(_scope, anyio.sleep_forever),
    nursery=anyio.create_task_group,
    open_tcp=open_tcp,
    broken=(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError),
    checkpoint=anyio.lowlevel.checkpoint,
    checkpoint_if_cancelled=anyio.lowlevel.checkpoint_if_cancelled,
    cancelled=anyio.get_cancelled_exc_class,
    call_soon=_call_soon,
    protect=protect,
    cancels_waits=False,
    events_per_look=32,
)


class _Driver(StructuredDriver):
    __slots__ = ()

    backend = BACKEND


class Client(StructuredClient):
    """A Web PubSub client that recovers dropped connections, for anyio, on asyncio or trio.

    Use it as ``async with Client(url) as client:``, or run it in a task group of yours:
    ``await task_group.start(client.run)``. Otherwise as :class:`limpet.trio.Client`.
    """

    _driver_type = _Driver
