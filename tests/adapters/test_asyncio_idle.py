"""What an idle client takes on asyncio."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.adapters.harness import GROUP, options, url_of

import limpet
import limpet_core.client
from limpet import Acked, GroupMessage
from limpet._clients.open_buffers import NO_BUFFERS
from limpet.asyncio import Client
from limpet.service import Service
from limpet_core.nothing import NOTHING

COUNT = 50
PARTS = [
    tracemalloc.Filter(True, str(folder / "*"))
    for folder in (
        *(Path(limpet.__file__).parent / part for part in ("asyncio", "_clients", "_transports")),
        Path(limpet_core.client.__file__).parent,
    )
]


def test_an_idle_client_takes_4050_bytes_at_most() -> None:
    """It took 4,360. These are the library's own objects; what a process takes, benchmarks/idle.py measures."""

    async def scenario() -> float:
        async with Service() as service, AsyncExitStack() as stack:

            async def more(count: int) -> None:
                for _ in range(count):
                    await stack.enter_async_context(Client(url_of(service), options(keepalive_interval=20.0)))
                gc.collect()

            await more(5)  # what all clients share
            tracemalloc.start()
            try:
                before = tracemalloc.take_snapshot().filter_traces(PARTS)
                await more(COUNT)
                after = tracemalloc.take_snapshot().filter_traces(PARTS)
            finally:
                tracemalloc.stop()
            return sum(each.size_diff for each in after.compare_to(before, "filename")) / COUNT

    assert asyncio.run(scenario()) < 4050


def test_waiters_take_room_from_the_first_request_on() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            driver: Any = client._driver
            assert driver.waiting is driver.publishes is NOTHING
            assert driver.delivery.buffers is NO_BUFFERS
            # The answer for a caller who was interrupted before his waiter was noted.
            waiter, _ = driver.begin_request()
            driver.settle_requests([Acked(1, user_data=waiter)])
            assert waiter.done()
            driver.settle_requests([Acked(2), Acked(3)])
            await client.join_group(GROUP)
            assert (driver.waiting, driver.publishes) == ({}, {})
            assert driver.waiting is not NOTHING
            assert driver.publishes is NOTHING
            await client.send_to_group(GROUP, "x")
            assert driver.publishes is not NOTHING
            client.events(GroupMessage).close()
            assert driver.delivery.buffers is not NO_BUFFERS
            assert not NO_BUFFERS

    asyncio.run(scenario())
