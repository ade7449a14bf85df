"""The asyncio client."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from limpet import ClientStopped, Event, Options, State, Stopped
from limpet._clients.async_client import AsyncClient
from limpet._clients.cancellation import stray
from limpet._transports.route import Route
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

    def _drive(self, route: Route, options: Options | None) -> Driver:
        self._dispatcher: asyncio.Task[None] | None = None
        self._work: asyncio.Future[None] | None = None
        return Driver(route, options, self._deliver, self._abandon)

    async def start(self) -> None:
        """Connect. Done when the service's first message is here; from then on the client keeps itself connected.

        Raises:
            ConnectError: no connection could be made; the client is stopped again and may be started again.
            LocalProtocolError: it was started already, perhaps in another event loop.
        """
        loop = self._driver.running_loop()
        if self.state is State.STOPPED and self._dispatcher is not None and self._dispatcher.get_loop() is not loop:
            self._dispatcher = self._work = None  # its loop was closed before it had come to an end
            self._delivery.drop()
        self._delivery.begin()
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

    def _deliver(self, events: list[Event]) -> None:
        super()._deliver(events)
        busy = self._delivery.busy
        if busy and (self._dispatcher is None or self._dispatcher.done()):
            self._dispatcher = asyncio.get_running_loop().create_task(self._run_callbacks())
            self._dispatcher.add_done_callback(self._dispatched)
        elif self._work is not None and not self._work.done() and (busy or self.state is State.STOPPED):
            self._work.set_result(None)

    async def _run_callbacks(self) -> None:
        """Await what async callbacks return: one task for all of them, from the first until the client stops."""
        while True:
            try:
                await self._delivery.run(stray)
                if self.state is State.STOPPED:
                    return
                self._work = asyncio.get_running_loop().create_future()
                await self._work
            except (asyncio.CancelledError, GeneratorExit):
                self._delivery.drop()  # the event loop ends; there may be another
                raise
            except BaseException as error:  # noqa: BLE001 - not ours; what waits behind it goes on in this loop
                self._delivery.skip_awaited()
                self._driver.raise_later(error)

    def _dispatched(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() and task is self._dispatcher:
            self._delivery.drop()  # also for a task that had not begun
