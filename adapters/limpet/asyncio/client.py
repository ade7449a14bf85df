"""The asyncio client."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from limpet import ClientStopped, Stopped
from limpet._clients.async_client import AsyncClient
from limpet.asyncio.driver import Driver


class Client(AsyncClient[Driver]):
    """A Web PubSub client that holds on, for asyncio.

    Use it as ``async with Client(url) as client:``, or call :meth:`start` and :meth:`stop`. Messages arrive in
    order and without duplicates over any number of dropped connections: iterate over the client, or register
    callbacks with :meth:`on`. It may be started again once it has stopped, in another event loop as well; as long as it
    is started, it belongs to one.

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

    _driver_type = Driver

    async def start(self) -> None:
        """Connect. Done when the service's first message is here; from then on the client keeps itself connected.

        Raises:
            ConnectError: no connection could be made; the client is stopped again and may be started again.
            LocalProtocolError: it was started already, perhaps in another event loop.
        """
        try:
            event = await self._driver.start()
        except asyncio.CancelledError:
            await self.stop()
            raise
        if type(event) is Stopped:
            await self.stop()  # transports close in the background
            raise event.error or ClientStopped("the client was stopped while it started")

    async def stop(self) -> None:
        """Disconnect, in whatever state; done when the connection is closed, at most ``close_timeout`` later.

        Requests that wait fail with :class:`limpet.SendError`. A client that is stopped already stays so.
        """
        await self._driver.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
