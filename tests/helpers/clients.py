"""The clients of all event loops behind one function, for tests that are not async."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from collections.abc import Callable
from itertools import islice
from typing import Any

import anyio
import trio
from tests.helpers.waiting import LIMIT, until

import limpet.anyio
import limpet.asyncio
import limpet.sync
import limpet.trio
from limpet import Options


async def _talk(client: Any, count: int) -> list[Any]:
    heard: list[Any] = []
    async with client:
        await client.join_group("g")
        await client.send_to_group("g", "hello")
        async for message in client:
            heard.append(message.data)
            if len(heard) == count:
                break
    return heard


def _block(client: Any, count: int) -> list[Any]:
    with client:
        client.join_group("g")
        client.send_to_group("g", "hello")
        return [message.data for message in islice(client, count)]


CLIENTS: dict[str, tuple[Callable[..., Any], Callable[[Any, int], list[Any]]]] = {
    "asyncio": (limpet.asyncio.Client, lambda client, count: asyncio.run(_talk(client, count), debug=True)),
    "trio": (limpet.trio.Client, lambda client, count: trio.run(_talk, client, count)),
    "anyio-asyncio": (limpet.anyio.Client, lambda client, count: anyio.run(_talk, client, count)),
    "anyio-trio": (limpet.anyio.Client, lambda client, count: anyio.run(_talk, client, count, backend="trio")),
    "sync": (limpet.sync.Client, _block),
}


def talk(name: str, url: str, *, count: int = 1, connect_timeout: float = LIMIT, **settings: Any) -> list[Any]:
    """Connect, join a group, publish ``hello`` to it, take ``count`` messages, stop: nothing may be left behind."""
    make, run = CLIENTS[name]
    before = _held()
    try:
        return run(make(url, Options(connect_timeout=connect_timeout, close_timeout=2.0), **settings), count)
    finally:
        gc.collect()  # a socket that was forgotten warns here, and pytest makes an error of it
        until(lambda: _held() <= before)  # the service's end of the connection is in this process as well


def _held() -> set[str]:
    """The sockets of this process and Limpet's threads."""
    threads = {thread.name for thread in threading.enumerate() if thread.name.startswith("limpet")}
    return threads | _sockets()


def _sockets() -> set[str]:
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        return set()  # not Linux: what pytest makes of ResourceWarnings must do
    sockets: set[str] = set()
    for number in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{number}")
        except FileNotFoundError:
            continue  # that was the folder itself
        if target.startswith("socket:"):
            sockets.add(target)
    return sockets
