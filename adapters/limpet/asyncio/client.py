"""The asyncio client."""

from __future__ import annotations

import asyncio
from functools import partial
from types import TracebackType
from typing import Self

from limpet import Ack, ClientStopped, State, Stopped
from limpet._clients.async_client import AsyncClient
from limpet._clients.submit import AsyncSubmit, Submit
from limpet.asyncio._submitted import Observed
from limpet.asyncio.driver import Driver


class Client(AsyncClient[Driver]):
    """A Web PubSub client that recovers dropped connections, for asyncio.

    Use it as ``async with Client(url) as client:``, or call :meth:`start` and :meth:`stop`. Messages arrive in order
    and without duplicates over any number of dropped connections: iterate over the client, or register callbacks with
    :meth:`on`. A client that has stopped may be started again, in another event loop as well; while it is started, it
    belongs to one loop.
    """

    _driver_type = Driver

    @property
    def submit(self) -> Submit[asyncio.Future[Ack]]:
        """Requests that are made at once, each with an ``asyncio.Future`` for its answer: for thousands on their way.

        ``future = client.submit.send_to_group("group1", "hello")``, and later ``ack = await future``, or
        ``await asyncio.gather(*futures)``. No task waits for each answer, which makes it the fastest way to send much.
        See :class:`Submit`. To cancel a future takes its request back, if it was not sent; a request that was sent goes
        on. An error that nobody looks at is logged: the first one, the tenth, the hundredth.
        """
        driver, instruments = self._driver, self._instruments
        begin = driver.begin_submitted if instruments is None else partial(driver.begin_submitted, Observed)
        return AsyncSubmit(driver, instruments, begin)

    async def start(self, *, timeout: float | None = None) -> None:
        """Connect; return when the service's first message has arrived. The client keeps itself connected from then on.

        Args:
            timeout: seconds, 0 or more, in which a connection must be there; None: as long as the options say.

        Raises:
            ConnectError: no connection could be made, or the URL function raised an exception, which is the
                ``__cause__``; the client is stopped, and may be started again. By default the first failed attempt
                raises; see :attr:`Options.first_connection <limpet.Options>`.
            ConnectTimeout: there was no connection in time; a ConnectError and a TimeoutError.
            LocalProtocolError: the client was started already, perhaps in another event loop.
        """
        try:
            event = await self._driver.start(timeout)
        except asyncio.CancelledError:
            await self.stop()
            raise
        if type(event) is Stopped:
            if self.state is State.STOPPED:  # else a callback has started the client again
                await self.stop()  # transports close in the background
            raise event.error or ClientStopped("the client was stopped while it started")

    async def stop(self) -> None:
        """Disconnect, in any state; return when the connection is closed, at most ``close_timeout`` later.

        Requests that wait fail with :class:`limpet.SendError`. For a stopped client this does nothing.
        """
        await self._driver.stop()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
