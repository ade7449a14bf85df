"""The clients of all event loops, used in one and the same way by tests that are not async."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import trio

import holdfast.anyio
import holdfast.asyncio
import holdfast.sync
import holdfast.trio
from holdfast import Options


async def _talk(make: Callable[..., Any], url: str, options: Options, settings: dict[str, Any]) -> str:
    async with make(url, options, **settings) as client:
        await client.join_group("g")
        await client.send_to_group("g", "hello")
        async for message in client:
            return str(message.data)
    raise AssertionError("the messages are at an end")


def _on_asyncio(url: str, options: Options, settings: dict[str, Any]) -> str:
    return asyncio.run(_talk(holdfast.asyncio.Client, url, options, settings), debug=True)


def _on_trio(url: str, options: Options, settings: dict[str, Any]) -> str:
    return trio.run(_talk, holdfast.trio.Client, url, options, settings)


def _on_anyio_asyncio(url: str, options: Options, settings: dict[str, Any]) -> str:
    return anyio.run(_talk, holdfast.anyio.Client, url, options, settings, backend="asyncio")


def _on_anyio_trio(url: str, options: Options, settings: dict[str, Any]) -> str:
    return anyio.run(_talk, holdfast.anyio.Client, url, options, settings, backend="trio")


def _sync(url: str, options: Options, settings: dict[str, Any]) -> str:
    with holdfast.sync.Client(url, options, **settings) as client:
        client.join_group("g")
        client.send_to_group("g", "hello")
        return str(next(iter(client)).data)


CLIENTS: dict[str, Callable[[str, Options, dict[str, Any]], str]] = {
    "asyncio": _on_asyncio,
    "trio": _on_trio,
    "anyio-asyncio": _on_anyio_asyncio,
    "anyio-trio": _on_anyio_trio,
    "sync": _sync,
}


def talk(name: str, url: str, *, connect_timeout: float = 10.0, **settings: Any) -> str:
    """Connect, join a group, publish to it, take what comes, and stop: nothing of it may be left behind."""
    before = _held()
    try:
        return CLIENTS[name](url, Options(connect_timeout=connect_timeout, close_timeout=2.0), settings)
    finally:
        end = time.monotonic() + 5
        while (left := _held() - before) and time.monotonic() < end:
            time.sleep(0.005)  # the threads of anyio and trio that looked up a name stay for a while
        assert not left, left


def _held() -> set[str]:
    """The sockets of this process that lead to somebody, and Holdfast's threads."""
    gc.collect()  # a socket that was forgotten warns here, and pytest makes an error of it
    threads = {thread.name for thread in threading.enumerate() if thread.name.startswith("holdfast")}
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
