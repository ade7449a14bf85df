"""The trio client."""

from __future__ import annotations

import trio

from limpet._structured.backend import Backend, ScopeAlarm
from limpet._structured.client import StructuredClient
from limpet._structured.driver import StructuredDriver
from limpet._structured.interrupts import protect
from limpet.trio._tcp import open_tcp


def _scope(deadline: float, shield: bool) -> trio.CancelScope:
    return trio.CancelScope(deadline=deadline, shield=shield)


BACKEND = Backend(
    now=trio.current_time,
    event=trio.Event,
    scope=_scope,
    alarm=lambda: ScopeAlarm(_scope, trio.sleep_forever),
    nursery=trio.open_nursery,
    open_tcp=open_tcp,
    broken=(OSError, trio.BrokenResourceError, trio.ClosedResourceError),
    checkpoint=trio.lowlevel.checkpoint,
    checkpoint_if_cancelled=trio.lowlevel.checkpoint_if_cancelled,
    cancelled=lambda: trio.Cancelled,
    call_soon=lambda: trio.lowlevel.current_trio_token().run_sync_soon,
    protect=protect,
    cancels_waits=True,
    events_per_look=8,
)


class _Driver(StructuredDriver):
    __slots__ = ()

    backend = BACKEND


class Client(StructuredClient):
    """A Web PubSub client that recovers dropped connections, for trio.

    Use it as ``async with Client(url) as client:``, or run it in a nursery of yours:
    ``await nursery.start(client.run)``. Messages arrive in order and without duplicates over any number of dropped
    connections: iterate over the client, or register callbacks with :meth:`on`. A client that has stopped may be
    started again.
    """

    _driver_type = _Driver
