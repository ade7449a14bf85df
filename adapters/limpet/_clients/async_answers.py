"""How a request of an async client is made, and its answer waited for, or given up."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

from limpet import Ack, InvocationError, Reply, SendError
from limpet._clients.async_driver import AsyncDriver
from limpet._clients.base import BaseClient
from limpet._clients.waiters import AsyncWaiter, no_room
from limpet_core.protocol.rules import check_timeout

D = TypeVar("D", bound=AsyncDriver[Any])


class AsyncAnswers(BaseClient[D]):
    """The ways of all requests: with an ack, with a reply, and without an answer.

    A request comes as a method of the session with all its arguments but ``now`` and ``user_data``.
    """

    def _ask(self, request: partial[Any]) -> Awaitable[Ack]:
        """Make a request and wait for its answer."""
        if self._instruments is not None:
            return self._instruments.ask(self._answer, request)
        return self._answer(request)

    async def _answer(self, request: Callable[..., int | None]) -> Ack:
        """Make a request with an ack; a caller that gives it up takes it back, if that is still possible."""
        driver = self._driver
        waiter: AsyncWaiter[Ack]
        waiter, now = driver.begin_request()
        ack_id = request(now, user_data=waiter)
        assert ack_id is not None
        driver.expect(waiter, ack_id)
        driver.flush()
        try:
            return await waiter
        except SendError:
            raise  # the answer itself; its ack id may be in use again
        except BaseException as error:
            # Cancelled. A request that was sent cannot be withdrawn any more. A rejoin may have waited for its end.
            if driver.waiting.pop(waiter, None) is not None:  # else its id may belong to another one already
                self._take_back(partial(self._session.withdraw, ack_id, user_data=waiter), error)
            raise

    async def _invoke(self, request: Callable[..., str]) -> Reply[Any]:
        """Make an invocation; a caller that gives it up cancels it."""
        driver = self._driver
        waiter: AsyncWaiter[Reply]
        waiter, now = driver.begin_request()
        key = request(now, user_data=waiter)
        driver.expect(waiter, key)
        driver.flush()
        try:
            return await waiter
        except InvocationError:
            raise  # the answer itself; its id may be in use again
        except BaseException as error:
            if driver.waiting.pop(waiter, None) is not None:
                # Cancelled. Not at the time of now(): a coroutine that is thrown away is closed outside its event loop.
                self._take_back(partial(self._session.cancel_invocation, key, now, user_data=waiter), error)
            raise

    def _take_back(self, call: Callable[[], object], error: BaseException) -> None:
        """Take a request back by ``call``, if that is still possible, since its caller was ended by ``error``."""
        driver = self._driver

        def take_back() -> None:
            if call():
                driver.flush()

        if isinstance(error, GeneratorExit):
            driver.call_soon(take_back)  # a coroutine may be thrown away amid a call of the session, in any thread
        else:
            take_back()

    def _tell(self, request: partial[Any], timeout: float | None, *, publish: bool) -> Awaitable[None]:
        """Make a request without an ack, as soon as the transport and the session's window have room."""
        if self._instruments is not None:
            return self._instruments.ask(partial(self._send, timeout=timeout, publish=publish), request)
        return self._send(request, timeout, publish=publish)

    async def _send(self, request: Callable[..., int | None], timeout: float | None, *, publish: bool) -> None:
        driver = self._driver
        if timeout is not None:
            check_timeout(timeout)
        await driver.checkpoint()
        if not driver.can_send(publish):
            self._session.sender_waits(driver.now())
            driver.flush()  # reading may have been resumed
            limit = math.inf if timeout is None else driver.now() + timeout
            try:
                while not driver.can_send(publish):
                    if driver.now() >= limit:
                        raise no_room(timeout)
                    await driver.until(limit, partial(driver.wait_writable, publish))
            finally:
                self._session.sender_goes_on()
        request(driver.now())
        driver.flush()
