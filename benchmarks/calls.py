"""How many functions of Limpet one message and one request pass through: a count, the same on every machine.

``python benchmarks/calls.py [asyncio|trio|sync]``: an idle connection over loopback, plain ws, a callback registered.
With ``--list`` it names each call, in order. The calls of the blocking client are those of all its threads, and of
the thread that asks.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import threading
import time
from _thread import start_new_thread
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import trio

import limpet
import limpet.asyncio
import limpet.sync
import limpet.trio
import limpet_core
from limpet import GroupMessage
from limpet.testing import BackgroundService

ROOTS = tuple(str(Path(package.__file__ or "").parent) for package in (limpet, limpet_core))
NOT_THE_CLIENT = tuple(f"{root}/{part}/" for root in ROOTS for part in ("testing", "service"))
ROLES = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"]
TIMES = 5
KINDS = ["asyncio", "trio", "sync"]


class Counter:
    """Counts the calls of functions of the two packages while it is on, in this thread and in those that it starts."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self._on = False
        threading.setprofile(self._note)

    def __enter__(self) -> Counter:
        self.calls, self._on = [], True
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)
        self._on = False

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if not self._on:
            return
        code = frame.f_code
        path = code.co_filename
        if event == "call" and path.startswith(ROOTS) and not path.startswith(NOT_THE_CLIENT):
            self.calls.append(f"{Path(code.co_filename).name}:{code.co_qualname}")


class Awaited:
    """The blocking client with methods to await, which block."""

    def __init__(self, client: limpet.sync.Client) -> None:
        self._client = client
        self.on = client.on

    async def join_group(self, group: str) -> None:
        self._client.join_group(group)

    async def send_to_group(self, group: str, data: str) -> None:
        self._client.send_to_group(group, data)


async def blocking_sleep(seconds: float) -> None:
    time.sleep(seconds)  # noqa: ASYNC251 - nothing else is to run


async def count(
    counter: Counter, client: Any, publish: Callable[[], object], sleep: Callable[[float], Awaitable[object]]
) -> dict[str, list[list[str]]]:
    """The calls of some messages and requests, each with all that comes of it until the loop waits again."""
    heard: list[GroupMessage] = []
    client.on(GroupMessage)(heard.append)
    await client.join_group("group")
    found: dict[str, list[list[str]]] = {"message": [], "request": []}
    for number in range(1, TIMES + 1):
        await sleep(0.05)
        with counter:
            start_new_thread(publish, ())  # not one of threading's, whose calls are counted
            while len(heard) < number:
                await sleep(0.002)
            await sleep(0.02)
        found["message"].append(counter.calls)
    for _ in range(TIMES):
        await sleep(0.05)
        with counter:
            await client.send_to_group("nobody", "hello")
            await sleep(0.02)
        found["request"].append(counter.calls)
    return found


async def run(kind: str, service: BackgroundService) -> dict[str, list[list[str]]]:
    url = service.direct_url(roles=ROLES)
    counter = Counter()  # before the client starts threads

    def publish() -> None:
        service.publish("group", ["hello"])

    if kind == "sync":
        with limpet.sync.Client(url) as blocking:
            return await count(counter, Awaited(blocking), publish, blocking_sleep)
    module, sleep = (limpet.trio, trio.sleep) if kind == "trio" else (limpet.asyncio, asyncio.sleep)
    async with module.Client(url) as client:
        return await count(counter, client, publish, sleep)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loops", nargs="*", choices=[*KINDS, []], default=[])
    parser.add_argument("--list", action="store_true", help="name each call")
    options = parser.parse_args()
    with BackgroundService() as service:
        for kind in options.loops or KINDS:
            found = trio.run(run, kind, service) if kind == "trio" else asyncio.run(run(kind, service))
            for what, calls in found.items():
                shortest = min(calls, key=len)
                middle = statistics.median(map(len, calls))
                files = len({call.split(":")[0] for call in shortest})
                print(f"{kind:8} one {what}: {middle:g} calls (fewest {len(shortest)}), {files} files")
                if options.list:
                    print("".join(f"    {call}\n" for call in shortest), end="")


if __name__ == "__main__":
    main()
