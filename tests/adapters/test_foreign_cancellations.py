"""What the application gave us awaits something that somebody else has cancelled: its failure, and not our end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import trio
from tests.helpers.waiting import LIMIT

import limpet.anyio
import limpet.asyncio
import limpet.trio
from limpet import Backoff, ConnectError, Dial, Options, Recovering

URL = "ws://host/client/hubs/chat"
HELLO = '{"type":"system","event":"connected","connectionId":"c1","userId":"u","reconnectionToken":"t"}'


async def cancelled() -> Any:
    """Await a task that has been cancelled."""
    task = asyncio.create_task(asyncio.sleep(3600))
    task.cancel()
    await task


class Transport:
    """Says hello, and then what ``end`` does in the method of that name."""

    def __init__(self, end: str) -> None:
        self._end = end
        self._greeted = False

    async def send(self, message: str | bytes) -> None:
        if self._end == "send":
            await cancelled()

    async def receive(self) -> str:
        if self._greeted:
            await (cancelled() if self._end == "receive" else asyncio.get_running_loop().create_future())
        self._greeted = True
        return HELLO

    async def close(self, code: int, reason: str) -> None:
        """It is closed."""


@pytest.mark.parametrize("make", [limpet.asyncio.Client, limpet.anyio.Client])
@pytest.mark.parametrize("where", ["url", "connect"])
def test_an_attempt_fails_at_once(make: Callable[..., Any], where: str) -> None:
    async def connect(dial: Dial) -> Transport:
        return await cancelled()

    async def scenario() -> None:
        client = make(cancelled) if where == "url" else make(URL, connect=connect)
        with pytest.raises(ConnectError, match="CancelledError"):
            async with asyncio.timeout(LIMIT), client:
                raise AssertionError("it cannot have started")

    asyncio.run(scenario())


@pytest.mark.parametrize("make", [limpet.asyncio.Client, limpet.anyio.Client])
@pytest.mark.parametrize("method", ["receive", "send"])
def test_a_transport_is_over_at_once(make: Callable[..., Any], method: str) -> None:
    async def connect(dial: Dial) -> Transport:
        if dial.recovery:
            raise OSError("once is enough")
        return Transport(method)

    async def scenario() -> None:
        options = Options(keepalive_interval=None, keepalive_timeout=None, close_timeout=0.5)
        client = make(URL, options, connect=connect)
        lost: asyncio.Future[Recovering] = asyncio.get_running_loop().create_future()
        client.on(Recovering, lost.set_result)
        async with asyncio.timeout(LIMIT), client:
            await client.send_to_group("g", "x", ack=False)
            assert (await lost).reason == "CancelledError"

    asyncio.run(scenario())


@pytest.mark.parametrize("make", [limpet.trio.Client, limpet.anyio.Client])
def test_on_trio_a_cancellation_of_asyncio_is_a_failure(make: Callable[..., Any]) -> None:
    async def provide() -> str:
        raise asyncio.CancelledError

    async def main() -> None:
        with pytest.raises(ConnectError, match="CancelledError"):
            async with make(provide, Options(reconnect=Backoff(limit=0))):
                raise AssertionError("it cannot have started")

    trio.run(main)
