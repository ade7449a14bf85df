"""The anyio client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial

import anyio
import anyio.lowlevel

from limpet._structured.backend import Backend
from limpet._structured.client import StructuredClient
from limpet._structured.driver import StructuredDriver
from limpet._structured.interrupts import protect
from limpet.anyio._tcp import open_tcp


def _call_soon() -> Callable[[Callable[[], object]], object]:
    if anyio.get_cancelled_exc_class() is asyncio.CancelledError:
        # In a context of ours: anyio looks there for the name of the event loop.
        return partial(asyncio.get_running_loop().call_soon_threadsafe, context=copy_context())
    import trio

    return trio.lowlevel.current_trio_token().run_sync_soon


BACKEND = Backend(
    now=anyio.current_time,
    signal=anyio.Event,
    scope=lambda deadline, shield: anyio.CancelScope(deadline=deadline, shield=shield),
    nursery=anyio.create_task_group,
    open_tcp=open_tcp,
    broken=(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError),
    checkpoint=anyio.lowlevel.checkpoint,
    checkpoint_if_cancelled=anyio.lowlevel.checkpoint_if_cancelled,
    cancelled=anyio.get_cancelled_exc_class,
    call_soon=_call_soon,
    protect=protect,
)


class _Driver(StructuredDriver):
    backend = BACKEND


class Client(StructuredClient):
    """A Web PubSub client that recovers dropped connections, for anyio, on asyncio or trio.

    Use it as ``async with Client(url) as client:``, or run it in a task group of yours:
    ``await task_group.start(client.run)``. Otherwise as :class:`limpet.trio.Client`.
    """

    _driver_type = _Driver
