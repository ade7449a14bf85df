"""The Python clients under test: ``python _clients.py NAME JOB URL JSON`` does one job and prints one line of JSON.

A job is ``receive``, ``fairness`` (the same beside a timer), ``many``, ``send``, ``idle``, ``connect`` or ``recover``;
which client can do what is in CLIENTS at the end.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.abc
from _meter import (
    Meter,
    Result,
    Snapshot,
    beside_a_timer,
    idle,
    idle_blocking,
    repeat,
    repeat_blocking,
    repeat_submitted,
    repeat_submitted_blocking,
)

Job = Callable[..., Any]


def report(result: Result) -> None:
    """The last thing a process does: what the end of threads or of a thousand connections costs is not measured."""
    print(json.dumps(result), flush=True)
    os._exit(0)


class Ours:
    """Limpet's async clients: on asyncio, trio or anyio; by callbacks or by iteration, over messages or batches."""

    def __init__(
        self, loop: str = "asyncio", *, iterate: str = "", fast_lane: bool = True, submit: bool = False
    ) -> None:
        self.loop, self.iterate, self.submit = loop, iterate, submit
        if not fast_lane:
            from limpet import Link

            Link._fast_lane = False

    def client(self, url: str, **options: Any) -> Any:
        from limpet import Options

        return importlib.import_module(f"limpet.{self.loop}").Client(url, Options(auto_reconnect=False, **options))

    async def receive(self, url: str) -> Result:
        from limpet import Disconnected, GroupMessage

        meter = Meter(anyio.Event())
        client = self.client(url)
        client.on(Disconnected, lambda event: meter.ended(f"{event.code} {event.reason}"))
        if not self.iterate:
            client.on(GroupMessage, meter.take)
        async with client, anyio.create_task_group() as tasks:
            if self.iterate:
                tasks.start_soon(self._consume, client, meter)
            await client.send_event("go", "")
            await meter.done.wait()  # type: ignore[attr-defined]
            tasks.cancel_scope.cancel()
        return meter.result

    async def _consume(self, client: Any, meter: Meter) -> None:
        take = meter.take
        if self.iterate == "batches":
            async for batch in client.batches():
                for message in batch:
                    take(message)
        else:
            async for message in client:
                take(message)

    async def fairness(self, url: str) -> Result:
        return await beside_a_timer(lambda: self.receive(url))

    async def many(self, url: str, count: int, seconds: float) -> None:
        """So many clients, each with a callback, while the server sends to all of them."""
        from limpet import GroupMessage

        received = 0

        def take(message: GroupMessage) -> None:
            nonlocal received
            received += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(count):
                client = self.client(url)
                client.on(GroupMessage, take)
                await (client.start() if self.loop == "asyncio" else tasks.start(client.run))
                await client.send_event("go", "")
            await anyio.sleep(seconds / 4)
            before = Snapshot(received)
            await anyio.sleep(seconds)
            report(before.until(Snapshot(received)))

    async def send(self, url: str, in_flight: int, seconds: float, data: str) -> Result:
        async with self.client(url) as client:
            if self.submit:
                submit = functools.partial(client.submit.send_to_group, "bench", data)
                return await repeat_submitted(submit, in_flight, seconds)
            return await repeat(functools.partial(client.send_to_group, "bench", data), in_flight, seconds)

    async def stream(self, url: str, in_flight: int, seconds: float, data: str) -> Result:
        async with self.client(url) as client, client.open_stream("bench") as stream:
            return await repeat(lambda: stream.write(data), in_flight, seconds)

    async def idle(self, url: str, count: int, seconds: float) -> None:
        async def opened(tasks: anyio.abc.TaskGroup) -> object:
            client = self.client(url)
            await (client.start() if self.loop == "asyncio" else tasks.start(client.run))
            return client

        if self.loop != "trio":
            await idle(opened, count, seconds, report)
            return
        import trio

        async with trio.open_nursery() as nursery:  # as its users do: a task of anyio's group takes more

            async def opened_on_trio(tasks: anyio.abc.TaskGroup) -> object:
                client = self.client(url)
                await nursery.start(client.run)
                return client

            await idle(opened_on_trio, count, seconds, report)

    async def connect(self, url: str, seconds: float) -> Result:
        async def once() -> None:
            async with self.client(url):
                pass

        return await repeat(once, 20, seconds)

    async def recover(self, url: str, seconds: float) -> Result:
        """The server drops the connection whenever it has been recovered."""
        from limpet import Recovered

        recovered = 0

        def count(event: Recovered) -> None:
            nonlocal recovered
            recovered += 1

        client = self.client(url, recovery_interval=1e-4)
        client.on(Recovered, count)
        async with client:
            await anyio.sleep(seconds / 4)
            before = Snapshot(recovered)
            await anyio.sleep(seconds)
            return before.until(Snapshot(recovered))


class OursSync:
    """Limpet's blocking client: callbacks come in a thread of its own, iteration is in this one."""

    def __init__(self, *, iterate: bool = False, submit: bool = False) -> None:
        self.iterate, self.submit = iterate, submit

    def client(self, url: str) -> Any:
        from limpet import Options
        from limpet.sync import Client

        return Client(url, Options(auto_reconnect=False))

    def idle(self, url: str, count: int, seconds: float) -> Result:
        def opened() -> object:
            client = self.client(url)
            client.start()
            return client

        return idle_blocking(opened, count, seconds)

    def receive(self, url: str) -> Result:
        from limpet import Disconnected, GroupMessage

        meter = Meter(threading.Event())
        client = self.client(url)
        client.on(Disconnected, lambda event: meter.ended(f"{event.code} {event.reason}"))
        if not self.iterate:
            client.on(GroupMessage, meter.take)
        with client:
            client.send_event("go", "")
            if not self.iterate:
                meter.done.wait()  # type: ignore[attr-defined]
            else:
                for message in client:
                    meter.take(message)
                    if meter.done.is_set():
                        break
        return meter.result

    def send(self, url: str, in_flight: int, seconds: float, data: str) -> Result:
        with self.client(url) as client:
            if self.submit:
                submit = client.submit
                return repeat_submitted_blocking(
                    functools.partial(submit.send_to_group, "bench", data), in_flight, seconds
                )
            assert in_flight == 1, "one thread, one request"
            return repeat_blocking(functools.partial(client.send_to_group, "bench", data), seconds)


class OfficialAio:
    """azure-messaging-webpubsubclient, aio."""

    def client(self, url: str) -> Any:
        from azure.messaging.webpubsubclient.aio import WebPubSubClient

        return WebPubSubClient(url, reconnect_retry_total=0)

    async def receive(self, url: str) -> Result:
        from azure.messaging.webpubsubclient.models import CallbackType, WebPubSubDataType

        meter = Meter(anyio.Event())
        client = self.client(url)

        async def on_disconnected(event: Any) -> None:
            meter.ended(client._last_close_event.close_reason if client._last_close_event else "")

        await client.subscribe(CallbackType.GROUP_MESSAGE, meter.take_async)
        await client.subscribe(CallbackType.DISCONNECTED, on_disconnected)
        async with client:
            await client.send_event("go", "", WebPubSubDataType.TEXT)
            await meter.done.wait()  # type: ignore[attr-defined]
        return meter.result

    async def fairness(self, url: str) -> Result:
        return await beside_a_timer(lambda: self.receive(url))

    async def send(self, url: str, in_flight: int, seconds: float, data: str) -> Result:
        from azure.messaging.webpubsubclient.models import WebPubSubDataType

        async with self.client(url) as client:
            return await repeat(
                functools.partial(client.send_to_group, "bench", data, WebPubSubDataType.TEXT), in_flight, seconds
            )

    async def idle(self, url: str, count: int, seconds: float) -> None:
        async def opened(tasks: anyio.abc.TaskGroup) -> object:
            client = self.client(url)
            await client.open()
            return client

        await idle(opened, count, seconds, report)

    async def connect(self, url: str, seconds: float) -> Result:
        async def once() -> None:
            async with self.client(url):
                pass

        return await repeat(once, 20, seconds)


class OfficialSync:
    """azure-messaging-webpubsubclient, blocking."""

    def client(self, url: str) -> Any:
        from azure.messaging.webpubsubclient import WebPubSubClient

        return WebPubSubClient(url, reconnect_retry_total=0)

    def receive(self, url: str) -> Result:
        from azure.messaging.webpubsubclient.models import CallbackType, WebPubSubDataType

        meter = Meter(threading.Event())
        client = self.client(url)
        client.subscribe(CallbackType.GROUP_MESSAGE, meter.take)
        client.subscribe(CallbackType.DISCONNECTED, lambda event: meter.ended("disconnected"))
        client.open()
        # Without waiting for the ack: it may come before the client waits for it, and then the call takes 30 s.
        client.send_event("go", "", WebPubSubDataType.TEXT, ack=False)
        meter.done.wait()  # type: ignore[attr-defined]
        return meter.result

    def send(self, url: str, in_flight: int, seconds: float, data: str) -> Result:
        from azure.messaging.webpubsubclient.models import WebPubSubDataType

        assert in_flight == 1, "one thread, one request"
        client = self.client(url)
        client.open()
        return repeat_blocking(functools.partial(client.send_to_group, "bench", data, WebPubSubDataType.TEXT), seconds)


class Recipe:
    """A WebSocket library, msgspec and a callback, see ``_recipes.py``."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def receive(self, url: str) -> Result:
        import _recipes

        receive: Callable[[str], Awaitable[Result]] = getattr(_recipes, f"receive_{self.name}")
        return await receive(url)


CLIENTS: dict[str, tuple[Callable[[], Any], str]] = {
    "ours": (Ours, "asyncio"),
    "ours-for": (lambda: Ours(iterate="messages"), "asyncio"),
    "ours-batches": (lambda: Ours(iterate="batches"), "asyncio"),
    "ours-wsproto": (lambda: Ours(fast_lane=False), "asyncio"),
    "ours-submit": (lambda: Ours(submit=True), "asyncio"),
    "ours-uvloop": (Ours, "uvloop"),
    "ours-uvloop-submit": (lambda: Ours(submit=True), "uvloop"),
    "ours-uvloop-for": (lambda: Ours(iterate="messages"), "uvloop"),
    "ours-trio": (lambda: Ours("trio"), "trio"),
    "ours-trio-submit": (lambda: Ours("trio", submit=True), "trio"),
    "ours-trio-for": (lambda: Ours("trio", iterate="messages"), "trio"),
    "ours-trio-batches": (lambda: Ours("trio", iterate="batches"), "trio"),
    "ours-anyio": (lambda: Ours("anyio"), "asyncio"),
    "ours-anyio-submit": (lambda: Ours("anyio", submit=True), "asyncio"),
    "ours-anyio-for": (lambda: Ours("anyio", iterate="messages"), "asyncio"),
    "ours-anyio-batches": (lambda: Ours("anyio", iterate="batches"), "asyncio"),
    "ours-anyio-trio": (lambda: Ours("anyio"), "trio"),
    "ours-anyio-trio-for": (lambda: Ours("anyio", iterate="messages"), "trio"),
    "ours-sync": (OursSync, "threads"),
    "ours-sync-submit": (lambda: OursSync(submit=True), "threads"),
    "ours-sync-for": (lambda: OursSync(iterate=True), "threads"),
    "aio": (OfficialAio, "asyncio"),
    "sync": (OfficialSync, "threads"),
    "wsproto": (lambda: Recipe("wsproto"), "asyncio"),
    "picows": (lambda: Recipe("picows"), "asyncio"),
}
"""The client, and what it runs on."""


def main() -> None:
    name, job, url, arguments = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
    make, backend = CLIENTS[name]
    work = functools.partial(getattr(make(), job), url, **arguments)
    if backend == "threads":
        report(work())
    if backend == "trio":
        report(anyio.run(work, backend="trio"))
    report(anyio.run(work, backend="asyncio", backend_options={"use_uvloop": backend == "uvloop"}))


if __name__ == "__main__":
    main()
