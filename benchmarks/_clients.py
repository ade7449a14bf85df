"""The Python clients under test: ``python _clients.py NAME JOB URL [JSON]`` does one job and prints one line of JSON.

The work done for each message is the same for all clients: count it, add up the size of its data, look at its group.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol


class Flag(Protocol):
    """An event of asyncio, anyio or threading."""

    def set(self) -> object: ...
    def is_set(self) -> bool: ...


class Meter:
    """What a client received between the messages to the groups ``start`` and ``end``, and what that cost."""

    def __init__(self, done: Flag) -> None:
        self.done = done
        self.count = self.size = 0
        self.cause = ""
        self.mark = (0, 0.0, 0.0)
        self.result: dict[str, Any] = {"messages": 0, "wall": 0.0, "cpu": 0.0}

    def marked(self, group: str) -> None:
        now = (self.count, time.perf_counter(), time.process_time())
        if group == "start":
            self.mark = now
        elif group == "end":
            self.finish(now)

    def finish(self, now: tuple[int, float, float]) -> None:
        count, wall, cpu = (b - a for a, b in zip(self.mark, now, strict=True))
        self.result = {"messages": count, "wall": wall, "cpu": cpu}
        self.done.set()

    def ended(self, cause: str) -> None:
        """The connection was lost before the end."""
        if not self.done.is_set():
            self.finish((self.count, time.perf_counter(), time.process_time()))
            self.result["lost"] = cause


class Timer:
    """A timer that should fire every 10 ms: how late it is while messages flood in."""

    def __init__(self, sleep: Callable[[float], Awaitable[object]]) -> None:
        self.sleep = sleep
        self.late: list[float] = []

    async def run(self) -> None:
        while True:
            due = time.perf_counter() + 0.01
            await self.sleep(0.01)
            self.late.append(time.perf_counter() - due)

    def result(self) -> dict[str, float]:
        late = sorted(self.late)[1:]
        return {"late_median": late[len(late) // 2], "late_99": late[len(late) * 99 // 100], "late_worst": late[-1]}


async def beside_a_timer(receive: Callable[[str], Awaitable[dict[str, Any]]], url: str) -> dict[str, Any]:
    import anyio

    timer = Timer(anyio.sleep)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(timer.run)
        result = await receive(url)
        tasks.cancel_scope.cancel()
    return result | timer.result()


# ---- Ours


def ours(url: str, loop: str = "asyncio") -> Any:
    from holdfast import Options

    return importlib.import_module(f"holdfast.{loop}").Client(url, Options(auto_reconnect=False))


async def receive_ours(url: str, iterate: bool = False) -> dict[str, Any]:
    from holdfast import Disconnected, GroupMessage

    done = asyncio.Event()
    meter = Meter(done)

    def on_message(message: GroupMessage) -> None:
        meter.count += 1
        meter.size += len(message.data)
        if message.group != "bench":
            meter.marked(message.group)

    async def consume() -> None:
        async for message in client:
            meter.count += 1
            meter.size += len(message.data)
            if message.group != "bench":
                meter.marked(message.group)

    client = ours(url)
    client.on(Disconnected, lambda event: meter.ended(f"{event.code} {event.reason}"))
    if not iterate:
        client.on(GroupMessage, on_message)
    async with client:
        consumer = asyncio.create_task(consume()) if iterate else None
        await client.send_event("go", "")
        await done.wait()
        if consumer is not None:
            consumer.cancel()
    return meter.result


async def send_ours(url: str, in_flight: int, seconds: float, data: str) -> dict[str, Any]:
    async with ours(url) as client:
        return await send(lambda: client.send_to_group("bench", data), in_flight, seconds)


async def idle_ours(url: str, count: int, seconds: float) -> dict[str, Any]:
    async def opened() -> Any:
        client = ours(url)
        await client.start()
        return client

    return await idle(opened, count, seconds)


async def receive_structured(url: str, loop: str) -> dict[str, Any]:
    """The same for trio and anyio, which have no names for tasks and events in common with asyncio."""
    import anyio

    from holdfast import Disconnected, GroupMessage

    done = anyio.Event()
    meter = Meter(done)

    def on_message(message: GroupMessage) -> None:
        meter.count += 1
        meter.size += len(message.data)
        if message.group != "bench":
            meter.marked(message.group)

    client = ours(url, loop)
    client.on(Disconnected, lambda event: meter.ended(f"{event.code} {event.reason}"))
    client.on(GroupMessage, on_message)
    async with client:
        await client.send_event("go", "")
        await done.wait()
    return meter.result


def receive_sync(url: str) -> dict[str, Any]:
    from holdfast import Disconnected, GroupMessage

    done = threading.Event()
    meter = Meter(done)

    def on_message(message: GroupMessage) -> None:
        meter.count += 1
        meter.size += len(message.data)
        if message.group != "bench":
            meter.marked(message.group)

    client = ours(url, "sync")
    client.on(Disconnected, lambda event: meter.ended(f"{event.code} {event.reason}"))
    client.on(GroupMessage, on_message)
    with client:
        client.send_event("go", "")
        done.wait()
    return meter.result


# ---- The official clients


def receive_official_sync(url: str) -> dict[str, Any]:
    from azure.messaging.webpubsubclient import WebPubSubClient
    from azure.messaging.webpubsubclient.models import CallbackType, WebPubSubDataType

    done = threading.Event()
    meter = Meter(done)

    def on_message(message: Any) -> None:
        meter.count += 1
        meter.size += len(message.data)
        if message.group != "bench":
            meter.marked(message.group)

    client: Any = WebPubSubClient(url, reconnect_retry_total=0)
    client.subscribe(CallbackType.GROUP_MESSAGE, on_message)
    client.subscribe(CallbackType.DISCONNECTED, lambda event: meter.ended("disconnected"))
    with client:
        client.send_event("go", "", WebPubSubDataType.TEXT)
        done.wait()
    return meter.result


def official(url: str) -> Any:
    from azure.messaging.webpubsubclient.aio import WebPubSubClient

    return WebPubSubClient(url, reconnect_retry_total=0)


async def receive_aio(url: str) -> dict[str, Any]:
    from azure.messaging.webpubsubclient.models import CallbackType, WebPubSubDataType

    done = asyncio.Event()
    meter = Meter(done)

    async def on_message(message: Any) -> None:
        meter.count += 1
        meter.size += len(message.data)
        if message.group != "bench":
            meter.marked(message.group)

    async def on_disconnected(event: Any) -> None:
        meter.ended(client._last_close_event.close_reason if client._last_close_event else "")

    client = official(url)
    await client.subscribe(CallbackType.GROUP_MESSAGE, on_message)
    await client.subscribe(CallbackType.DISCONNECTED, on_disconnected)
    async with client:
        await client.send_event("go", "", WebPubSubDataType.TEXT)
        await done.wait()
    return meter.result


async def send_aio(url: str, in_flight: int, seconds: float, data: str) -> dict[str, Any]:
    from azure.messaging.webpubsubclient.models import WebPubSubDataType

    async with official(url) as client:
        return await send(lambda: client.send_to_group("bench", data, WebPubSubDataType.TEXT), in_flight, seconds)


async def idle_aio(url: str, count: int, seconds: float) -> dict[str, Any]:
    async def opened() -> Any:
        client = official(url)
        await client.open()
        return client

    return await idle(opened, count, seconds)


# ---- The same for both


async def send(request: Callable[[], Awaitable[object]], in_flight: int, seconds: float) -> dict[str, Any]:
    """So many tasks, each sending again as soon as it is answered; a quarter of the time to warm up."""
    answered, going = 0, True

    async def worker() -> None:
        nonlocal answered
        while going:
            await request()
            answered += 1

    workers = [asyncio.create_task(worker()) for _ in range(in_flight)]
    await asyncio.sleep(seconds / 4)
    before = answered, time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    after = answered, time.perf_counter(), time.process_time()
    going = False
    await asyncio.gather(*workers)
    messages, wall, cpu = (b - a for a, b in zip(before, after, strict=True))
    return {"messages": messages, "wall": wall, "cpu": cpu}


def private_memory() -> int:
    """The memory that is this process's own, in bytes (USS)."""
    with open("/proc/self/smaps_rollup") as lines:
        return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


async def idle(opened: Callable[[], Awaitable[Any]], count: int, seconds: float) -> dict[str, Any]:
    """Open connections, then do nothing for a while."""
    clients = [await opened() for _ in range(10)]  # imports, caches, first arenas
    gc.collect()
    memory = private_memory()
    clients += [await opened() for _ in range(count)]
    await asyncio.sleep(0.5)
    gc.collect()
    memory = private_memory() - memory
    usage, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    await asyncio.sleep(seconds)
    after = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "memory": memory / count,
        "wall": time.perf_counter() - began,
        "cpu": after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime,
        "wakeups": after.ru_nvcsw - usage.ru_nvcsw - 1,  # the last one ended the sleep
    }


BLOCKING: dict[str, dict[str, Callable[[str], dict[str, Any]]]] = {
    "ours-sync": {"receive": receive_sync},
    "sync": {"receive": receive_official_sync},
}
STRUCTURED = {
    "ours-trio": ("trio", "trio"),
    "ours-anyio": ("anyio", "asyncio"),
    "ours-anyio-trio": ("anyio", "trio"),
}
"""Client and event loop."""


def main() -> None:
    name, job, url, arguments = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    if name in BLOCKING:
        print(json.dumps(BLOCKING[name][job](url, **arguments)), flush=True)
        os._exit(0)  # threads of the official client may go on
    if name in STRUCTURED:
        import anyio

        loop, backend = STRUCTURED[name]
        receive: Any = functools.partial(receive_structured, loop=loop)
        if job == "fairness":
            receive = functools.partial(beside_a_timer, receive)
        print(json.dumps(anyio.run(receive, url, backend=backend)), flush=True)
        return
    work: Any
    if job == "fairness":
        work = functools.partial(beside_a_timer, receive_aio if name == "aio" else receive_ours)
    elif name == "aio":
        work = {"receive": receive_aio, "send": send_aio, "idle": idle_aio}[job]
    else:
        work = {"receive": receive_ours, "send": send_ours, "idle": idle_ours}[job]
        if name == "ours-for" and job == "receive":
            arguments["iterate"] = True
        if name == "ours-wsproto":
            from holdfast import _route

            _route.Link = functools.partial(_route.Link, fast_lane=False)  # type: ignore[assignment, misc]
    run: Any = asyncio.run
    if name == "ours-uvloop":
        import uvloop

        run = uvloop.run
    print(json.dumps(run(work(url, **arguments))), flush=True)
    if job == "idle":
        os._exit(0)  # hundreds of connections: their orderly end is not what is measured


if __name__ == "__main__":
    main()
