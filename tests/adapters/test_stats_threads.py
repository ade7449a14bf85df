"""``client.stats`` may be read in any thread, at any time: nothing raises, and no counter goes back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

import anyio
import pytest

import limpet.asyncio
import limpet.trio
from limpet import Stats
from limpet.sync import Client
from limpet.testing import BackgroundService
from limpet.testing.contract.harness import fast

COUNTERS = ("messages_in", "bytes_in", "messages_out", "bytes_out", "recoveries", "reconnects", "failed_attempts")


@contextmanager
def read(stats: Callable[[], Stats]) -> Generator[None]:
    """Read all the time in two threads, and judge."""
    over = threading.Event()
    errors: list[BaseException] = []
    reads = [0, 0]

    def reader(number: int) -> None:
        try:
            before = stats()
            while not over.wait(0.0005):
                now = stats()
                for name in COUNTERS:
                    assert getattr(before, name) <= getattr(now, name), name
                before = now
                reads[number] += 1
        except BaseException as error:  # noqa: BLE001 - it is raised by the test
            errors.append(error)

    threads = [threading.Thread(target=reader, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert not errors, errors
    assert min(reads) > 0


def test_of_the_blocking_client() -> None:
    with BackgroundService() as service:
        client = Client(service.url(), fast())
        with read(lambda: client.stats):
            for _ in range(3):
                with client:
                    client.join_group("g")
                    for number in range(40):
                        client.send_to_group("g", number)
                        if number % 10 == 0:
                            service.cut()
                    assert client.connection_id
                    service.end(client.connection_id)
        assert client.stats.messages_out >= 120
        assert client.stats.recoveries > 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_of_an_async_client(backend: str) -> None:
    async def main(client: limpet.asyncio.Client | limpet.trio.Client, service: BackgroundService) -> None:
        for _ in range(3):
            async with client:
                await client.join_group("g")
                for number in range(40):
                    await client.send_to_group("g", number)
                    if number % 10 == 0:
                        service.cut()

    with BackgroundService() as service:
        kind = limpet.asyncio.Client if backend == "asyncio" else limpet.trio.Client
        client = kind(service.url(), fast())
        with read(lambda: client.stats):
            anyio.run(main, client, service, backend=backend)
        assert client.stats.messages_out >= 120
        assert client.stats.recoveries > 0
