"""The anyio client."""

from __future__ import annotations

import anyio
import anyio.lowlevel

from limpet._structured.backend import Backend
from limpet._structured.client import StructuredClient
from limpet._structured.driver import StructuredDriver
from limpet._structured.interrupts import protect
from limpet.anyio._tcp import open_tcp

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
    protect=protect,
)


class _Driver(StructuredDriver):
    backend = BACKEND


class Client(StructuredClient):
    """A Web PubSub client that holds on, for anyio, on asyncio or trio.

    Use it as ``async with Client(url) as client:``, or run it in a task group of yours:
    ``await task_group.start(client.run)``. Otherwise as :class:`limpet.trio.Client`.
    """

    _driver_type = _Driver
