"""The trio client."""

from __future__ import annotations

import trio

from limpet._structured.backend import Backend
from limpet._structured.client import StructuredClient
from limpet._structured.driver import StructuredDriver
from limpet._structured.interrupts import protect
from limpet.trio._tcp import open_tcp

BACKEND = Backend(
    now=trio.current_time,
    signal=trio.Event,
    scope=lambda deadline, shield: trio.CancelScope(deadline=deadline, shield=shield),
    nursery=trio.open_nursery,
    open_tcp=open_tcp,
    broken=(OSError, trio.BrokenResourceError, trio.ClosedResourceError),
    checkpoint=trio.lowlevel.checkpoint,
    checkpoint_if_cancelled=trio.lowlevel.checkpoint_if_cancelled,
    cancelled=lambda: trio.Cancelled,
    protect=protect,
)


class _Driver(StructuredDriver):
    backend = BACKEND


class Client(StructuredClient):
    """A Web PubSub client that holds on, for trio.

    Use it as ``async with Client(url) as client:``, or run it in a nursery of yours:
    ``await nursery.start(client.run)``. The rest is as in :class:`limpet.asyncio.Client`.

    Args:
        url: the Client Access URL, or a function (plain or async) that returns one. A function is asked for every
            new connection, never for a recovery; with a fixed URL the client can go on only as long as its token
            is valid.
        options: see :class:`limpet.Options`.
        ssl: an ``ssl.SSLContext``, or the path of a file with the CA certificates to trust; None: the system's trust
            store. With a context of your own you can show a client certificate.
        proxy: ``http://[user:password@]host[:port]``; None: what the environment says; False: none.
        connect: opens the transport instead, see :data:`limpet.connect.Connect`; ``ssl`` and ``proxy`` are its
            matter then.

    Raises:
        InvalidType, InvalidValue: an argument cannot be used; the message names it.
    """

    _driver_type = _Driver
