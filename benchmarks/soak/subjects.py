"""The Python clients under test, each with the same few verbs; with the options they have by default."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from limpet import Backoff, GroupMessage, Options

Notice = Callable[[str], None]
"""Is told the data of every message received."""

HASTY = Options(recovery_interval=0.05, connect_timeout=5.0, reconnect=Backoff(initial=0.05, maximum=1.0))


class Ours:
    """An async client of Limpet."""

    def __init__(self, url: str, notice: Notice, *, loop: str, hasty: bool) -> None:
        self.client: Any = importlib.import_module(f"limpet.{loop}").Client(url, HASTY if hasty else None)
        self.client.on(GroupMessage, lambda message: notice(message.data))

    async def __aenter__(self) -> None:
        await self.client.__aenter__()

    async def __aexit__(self, *problem: Any) -> None:
        await self.client.__aexit__(*problem)

    async def join(self, group: str) -> None:
        await self.client.join_group(group)

    async def send(self, group: str, text: str) -> None:
        await self.client.send_to_group(group, text)


class Official:
    """The official async client."""

    def __init__(self, url: str, notice: Notice, **_: object) -> None:
        from azure.messaging.webpubsubclient.aio import WebPubSubClient

        self.client: Any = WebPubSubClient(url)
        self.notice = notice

    async def on_message(self, message: Any) -> None:
        self.notice(message.data)

    async def __aenter__(self) -> None:
        from azure.messaging.webpubsubclient.models import CallbackType

        await self.client.subscribe(CallbackType.GROUP_MESSAGE, self.on_message)
        await self.client.open()

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()

    async def join(self, group: str) -> None:
        await self.client.join_group(group)

    async def send(self, group: str, text: str) -> None:
        from azure.messaging.webpubsubclient.models import WebPubSubDataType

        await self.client.send_to_group(group, text, WebPubSubDataType.TEXT)


class OursBlocking:
    """The blocking client of Limpet."""

    def __init__(self, url: str, notice: Notice, *, hasty: bool, **_: object) -> None:
        from limpet.sync import Client

        self.client: Any = Client(url, HASTY if hasty else None)
        self.client.on(GroupMessage, lambda message: notice(message.data))

    def start(self) -> None:
        self.client.start()

    def join(self, group: str) -> None:
        self.client.join_group(group)

    def send(self, group: str, text: str) -> None:
        self.client.send_to_group(group, text)

    def stop(self) -> None:
        self.client.stop()


class OfficialBlocking:
    """The official blocking client."""

    def __init__(self, url: str, notice: Notice, **_: object) -> None:
        from azure.messaging.webpubsubclient import WebPubSubClient
        from azure.messaging.webpubsubclient.models import CallbackType

        self.client: Any = WebPubSubClient(url)
        self.client.subscribe(CallbackType.GROUP_MESSAGE, lambda message: notice(message.data))

    def start(self) -> None:
        self.client.open()

    def join(self, group: str) -> None:
        self.client.join_group(group)

    def send(self, group: str, text: str) -> None:
        from azure.messaging.webpubsubclient.models import WebPubSubDataType

        self.client.send_to_group(group, text, WebPubSubDataType.TEXT)

    def stop(self) -> None:
        self.client.close()


ASYNC: dict[str, tuple[Any, str, str]] = {
    "ours": (Ours, "asyncio", "asyncio"),
    "ours-uvloop": (Ours, "asyncio", "uvloop"),
    "ours-trio": (Ours, "trio", "trio"),
    "ours-anyio": (Ours, "anyio", "asyncio"),
    "ours-anyio-trio": (Ours, "anyio", "trio"),
    "aio": (Official, "", "asyncio"),
}
"""Client, which of ours, and the event loop it runs on."""

BLOCKING: dict[str, Any] = {"ours-sync": OursBlocking, "sync": OfficialBlocking}
