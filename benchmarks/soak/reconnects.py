"""What reconnects leave behind: ``python -m benchmarks.soak.reconnects NAME COUNT`` prints it as JSON.

Client and service run in one process, the service in a thread of its own: a leak of either is seen.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import json
import sys
import threading
import time
import tracemalloc
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
from benchmarks.soak.left import more, things
from benchmarks.soak.subjects import ASYNC

from limpet import Backoff, Connected, Options, Recovered
from limpet.service import Service, ServiceOptions

WARM_UP = 60
"""Reconnects before the first look: caches fill, tables reach their size."""

NOISE = 48 * 1024
"""Bytes that are no leak: objects that the interpreter keeps for the next time."""

NOISE_OF_TRIO = 256 * 1024
"""The same on trio, which keeps up to a thousand deadlines that no longer count."""

NOISE_EACH = 50
"""Bytes for each reconnect that are no leak."""

_NEW_EVERY = 4  # each fourth time the connection is ended for good and a new one made
_PATIENCE = 10.0
_OPTIONS = Options(recovery_interval=0.0, reconnect=Backoff(initial=0.0, maximum=0.0), connect_timeout=5.0)
_ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")

Drop = Callable[[str, bool], None]
"""Cuts a connection, so that it is recovered or, with True, made anew."""


def grown(name: str, count: int) -> dict[str, int]:
    """How much there is more after ``count`` reconnects of one client than after the warm-up."""
    with _service() as (url, drop):
        if name == "ours-sync":
            return _blocking(name, url, drop, count)
        backend = ASYNC[name][2]
        run = functools.partial(_async, name, url, drop, count)
        options = {"use_uvloop": True} if backend == "uvloop" else {}
        return anyio.run(run, backend="trio" if backend == "trio" else "asyncio", backend_options=options)


def leaks(name: str, growth: dict[str, int], count: int) -> bool:
    """Return whether that is more than noise."""
    noise = NOISE_OF_TRIO if "trio" in name else NOISE
    much = growth["bytes"] > noise + count * NOISE_EACH
    return much or any(growth[what] > 0 for what in growth if what != "bytes")


@contextmanager
def _service() -> Iterator[tuple[str, Drop]]:
    """A service in a thread of its own: its client's URL, and how to drop a connection."""
    ready = threading.Event()
    told: list[Any] = []

    async def serve() -> None:
        stop = asyncio.Event()
        async with Service(ServiceOptions(keepalive_interval=None, trace=False)) as service:
            told.extend((service, asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    service, loop, stop = told

    def cut(connection_id: str, for_good: bool) -> None:
        if for_good:
            service.core.close_connection(connection_id, "a new one, please")
            service.flush()
        else:
            service.drop(connection_id)

    try:
        yield (
            service.client_url(roles=_ROLES),
            lambda connection_id, for_good: loop.call_soon_threadsafe(cut, connection_id, for_good),
        )
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


class Look:
    """Counts twice, and tells the difference."""

    def __init__(self) -> None:
        self.first: dict[str, int] = {}
        tracemalloc.start()

    def take(self, tasks: int) -> dict[str, int]:
        urllib.parse.clear_cache()
        gc.collect()
        now = {"bytes": tracemalloc.get_traced_memory()[0], **things(tasks)}
        if not self.first:
            self.first = now
        return more(now, self.first)


async def _async(name: str, url: str, drop: Drop, count: int) -> dict[str, int]:
    news = [anyio.Event()]
    client: Any = importlib.import_module(f"limpet.{ASYNC[name][1]}").Client(url, _OPTIONS)
    for event in (Recovered, Connected):
        client.on(event, lambda _: news[0].set())
    look = Look()
    try:
        async with client:
            await client.join_group("g")
            with anyio.fail_after(_PATIENCE):
                await news[0].wait()  # the start, which may be told later than it returns
            for number in range(WARM_UP + count):
                news[0] = anyio.Event()
                drop(client.connection_id, number % _NEW_EVERY == 0)
                with anyio.fail_after(_PATIENCE):
                    await news[0].wait()
                    await client.send_to_group("g", "still there", no_echo=True)
                if number == WARM_UP - 1:
                    await anyio.sleep(0.1)
                    look.take(len(anyio.get_running_tasks()))
            growth: dict[str, int] = {}
            for _ in range(50):  # the last sockets take some turns to close, here and in the service
                await anyio.sleep(0.02)
                growth = look.take(len(anyio.get_running_tasks()))
                if not leaks(name, growth, count):
                    break
    finally:
        tracemalloc.stop()
    return growth


def _blocking(name: str, url: str, drop: Drop, count: int) -> dict[str, int]:
    from limpet.sync import Client

    news = threading.Event()
    client = Client(url, _OPTIONS)
    for event in (Recovered, Connected):
        client.on(event, lambda _: news.set())
    look = Look()
    try:
        with client:
            client.join_group("g")
            if not news.wait(_PATIENCE):  # the start, which may be told later than it returns
                raise TimeoutError("the start is not told")
            for number in range(WARM_UP + count):
                news.clear()
                assert client.connection_id is not None
                drop(client.connection_id, number % _NEW_EVERY == 0)
                if not news.wait(_PATIENCE):
                    raise TimeoutError(f"no connection after the {number + 1}. drop")
                client.send_to_group("g", "still there", no_echo=True)
                if number == WARM_UP - 1:
                    time.sleep(0.1)
                    look.take(0)
            growth: dict[str, int] = {}
            for _ in range(50):
                time.sleep(0.02)
                growth = look.take(0)
                if not leaks(name, growth, count):
                    break
    finally:
        tracemalloc.stop()
    return growth


if __name__ == "__main__":
    print(json.dumps(grown(sys.argv[1], int(sys.argv[2]))))
