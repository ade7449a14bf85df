"""The trio client."""

from __future__ import annotations

from typing import Any

import trio

from limpet._structured.backend import Kit
from limpet._structured.client import StructuredClient
from limpet._structured.driver import StructuredDriver
from limpet._structured.interrupts import protect


class _TcpStream:
    """A TCP connection of trio's."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.receive = stream.receive_some
        self.send = stream.send_all
        self.aclose = stream.aclose


async def _dial(host: str, port: int) -> Any:
    return _TcpStream(await trio.open_tcp_stream(host, port))


KIT = Kit(
    now=trio.current_time,
    flag=trio.Event,
    scope=lambda deadline, shield: trio.CancelScope(deadline=deadline, shield=shield),
    nursery=trio.open_nursery,
    dial=_dial,
    broken=(OSError, trio.BrokenResourceError, trio.ClosedResourceError),
    checkpoint=trio.lowlevel.checkpoint,
    checkpoint_if_cancelled=trio.lowlevel.checkpoint_if_cancelled,
    stray=lambda _: False,  # nothing but a scope of one's own can cancel
    cancelled=lambda: trio.Cancelled,
    protect=protect,
)


class _Driver(StructuredDriver):
    kit = KIT


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
