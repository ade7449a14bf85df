"""The anyio client."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel

from limpet._clients.cancellation import stray
from limpet._structured.backend import Kit
from limpet._structured.client import StructuredClient
from limpet._structured.driver import StructuredDriver
from limpet._structured.interrupts import protect


class _TcpStream:
    """A TCP connection of anyio's."""

    def __init__(self, stream: anyio.abc.SocketStream) -> None:
        self._receive = stream.receive
        self.send = stream.send
        self.aclose = stream.aclose

    async def receive(self, max_bytes: int) -> bytes:
        try:
            return await self._receive(max_bytes)
        except anyio.EndOfStream:
            return b""


async def _dial(host: str, port: int) -> Any:
    return _TcpStream(await anyio.connect_tcp(host, port))


KIT = Kit(
    now=anyio.current_time,
    flag=anyio.Event,
    scope=lambda deadline, shield: anyio.CancelScope(deadline=deadline, shield=shield),
    nursery=anyio.create_task_group,
    dial=_dial,
    broken=(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError),
    checkpoint=anyio.lowlevel.checkpoint,
    checkpoint_if_cancelled=anyio.lowlevel.checkpoint_if_cancelled,
    stray=stray,
    cancelled=anyio.get_cancelled_exc_class,
    protect=protect,
)


class _Driver(StructuredDriver):
    kit = KIT


class Client(StructuredClient):
    """A Web PubSub client that holds on, for anyio.

    Use it as ``async with Client(url) as client:``, or run it in a task group of yours:
    ``await task_group.start(client.run)``. The rest is as in :class:`limpet.asyncio.Client`.

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
