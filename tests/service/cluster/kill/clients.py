"""Publishers and members of one group, whose diaries are judged: our client and the official ones."""

from __future__ import annotations

import abc
import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from azure.messaging.webpubsubclient.aio import WebPubSubClient
from azure.messaging.webpubsubclient.models import CallbackType
from tests.helpers.waiting import LIMIT
from tests.interop.node import Node, install
from tests.service.cluster.kill.verdict import Got, Sent

from limpet import Backoff, Connected, Disconnected, GroupMessage, LimpetError, Options, Recovered, Recovering
from limpet.asyncio import Client

GROUP = "group"
ROLES = (f"webpubsub.sendToGroup.{GROUP}",)

_PATIENT = Options(
    reconnect=Backoff(initial=0.1, maximum=1.0), first_connection=Backoff(initial=0.1, maximum=1.0), max_retry_after=1.0
)
"""As the defaults, but new connections are tried at least every second."""
_WINDOW = 32
"""Messages of a publisher that may be unacknowledged."""


class Publisher:
    """Publishes numbers, so many a second at most, and notes which were acknowledged.

    Attributes:
        sent: its diary.
        outages: for each recovery, the seconds since the connection was lost.
    """

    def __init__(self, name: str, url: str, rate: float) -> None:
        self.sent = Sent(name)
        self.outages: list[float] = []
        self._rate = rate
        self._client = Client(url, _PATIENT)
        self._client.on(Disconnected, self._disconnected)
        time_outages(self._client, self.outages)
        self._waiting: set[asyncio.Future[Any]] = set()
        self._publishing: asyncio.Task[None] | None = None

    def _disconnected(self, _: Disconnected) -> None:
        self.sent.disconnects += 1

    @property
    def waiting(self) -> int:
        """The number of messages without an answer."""
        return len(self._waiting)

    async def open(self) -> None:
        await self._client.start()

    def begin(self) -> None:
        """Publish until :meth:`finish`."""
        self._publishing = asyncio.create_task(self._publish())

    async def _publish(self) -> None:
        begin = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(max(begin + number / self._rate - time.monotonic(), 0))
            while len(self._waiting) >= _WINDOW:
                await asyncio.wait(self._waiting, return_when=asyncio.FIRST_COMPLETED)
            self.send()

    def send(self) -> asyncio.Future[Any]:
        """Publish one message."""
        self.sent.sent = number = self.sent.sent + 1
        future = self._client.submit.send_to_group(GROUP, f"{self.sent.name}:{number}")
        self._waiting.add(future)

        def answered(_: asyncio.Future[Any]) -> None:
            self._waiting.discard(future)
            if not future.cancelled() and future.exception() is None:
                self.sent.acked.add(number)

        future.add_done_callback(answered)
        return future

    async def pause(self) -> None:
        """Publish no more, and wait for the answers."""
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.wait([self._publishing])
            self._publishing = None
        if self._waiting:
            await asyncio.wait(self._waiting)

    async def finish(self) -> None:
        """Publish a last message, behind which nothing is on its way any more."""
        await self.pause()
        while True:
            with suppress(LimpetError):  # with its connection it may be lost for good: then the next one is the last
                await self.send()
                return

    async def close(self) -> None:
        if self._publishing is not None:
            self._publishing.cancel()
            await asyncio.wait([self._publishing])
        await self._client.stop()


class Flood(Publisher):
    """Publishes without acknowledgements: each message arrives at most once, and in order."""

    async def _publish(self) -> None:
        begin = time.monotonic()
        for number in itertools.count():
            await asyncio.sleep(max(begin + number / self._rate - time.monotonic(), 0))
            await self._toss()

    async def _toss(self) -> None:
        self.sent.sent += 1
        await self._client.send_to_group(GROUP, f"{self.sent.name}:{self.sent.sent}", ack=False)

    async def finish(self) -> None:
        """Publish no more. What is on its way may be lost."""
        await self.pause()


class Member(abc.ABC):
    """Gets all messages; ``got`` is its diary. ``sent`` is asked at each new connection what was sent before."""

    def __init__(self, name: str, url: str, sent: Callable[[], Sequence[Sent]]) -> None:
        self._got = Got(name)
        self._url = url
        self._sent = sent
        self.outages: list[float] = []

    @property
    def got(self) -> Got:
        """What it got so far."""
        return self._got

    def connected(self) -> None:
        self._got.since = {each.name: each.sent for each in self._sent()}

    def disconnected(self) -> None:
        self._got.disconnects += 1

    @abc.abstractmethod
    async def open(self) -> None: ...

    @abc.abstractmethod
    async def close(self) -> None: ...


class OurMember(Member):
    """Our client."""

    def __init__(self, name: str, url: str, sent: Callable[[], Sequence[Sent]]) -> None:
        super().__init__(name, url, sent)
        self._client = Client(self._url, _PATIENT)
        self._client.on(GroupMessage, lambda message: self._got.received.append(parsed(message.data)))
        self._client.on(Connected, lambda _: self.connected())
        self._client.on(Disconnected, lambda _: self.disconnected())
        time_outages(self._client, self.outages)

    async def open(self) -> None:
        await self._client.start()

    async def close(self) -> None:
        await self._client.stop()


class _Sequenced(Member):
    """A client whose callbacks need not come in the order of the messages: their sequence ids tell it.

    The numbers begin anew with each connection, so the messages of each are sorted apart.
    """

    def __init__(self, name: str, url: str, sent: Callable[[], Sequence[Sent]]) -> None:
        super().__init__(name, url, sent)
        self._of_connections: dict[str, list[tuple[int, str]]] = {}
        self._connection = ""

    @property
    def got(self) -> Got:
        ordered = [message for each in self._of_connections.values() for message in sorted(each, key=lambda m: m[0])]
        self._got.received = [parsed(text) for _, text in ordered]
        return self._got

    def began(self, connection_id: str) -> None:
        """Handle a connected message, which the service also sends after a recovery."""
        if connection_id != self._connection:
            if self._connection:
                self.disconnected()
            self._connection = connection_id
            self._of_connections.setdefault(connection_id, [])
            self.connected()

    def take(self, sequence_id: int, text: str) -> None:
        self._of_connections[self._connection].append((sequence_id, text))


class OfficialMember(_Sequenced):
    """The official Python client, for asyncio."""

    _client: WebPubSubClient | None = None

    async def open(self) -> None:
        self._client = client = WebPubSubClient(self._url, reconnect_retry_total=1_000_000)

        async def began(event: Any) -> None:
            self.began(event.connection_id)

        async def take(event: Any) -> None:
            self.take(event.sequence_id, event.data)

        await client.subscribe(CallbackType.CONNECTED, began)
        await client.subscribe(CallbackType.GROUP_MESSAGE, take)
        await client.open()

    async def close(self) -> None:
        if self._client is not None:
            async with asyncio.timeout(LIMIT):
                await self._client.close()


class JavaScriptMember(_Sequenced):
    """The official JavaScript client."""

    _node: Node | None = None

    async def open(self) -> None:
        await asyncio.to_thread(install)
        self._node = node = await asyncio.to_thread(Node, "client.mjs")
        loop = asyncio.get_running_loop()
        node.listen("member", lambda event, value: loop.call_soon_threadsafe(self._happened, event, value))
        await asyncio.to_thread(node.call, "start", client="member", url=self._url, reliable=True)

    def _happened(self, event: str, value: dict[str, Any]) -> None:
        if event == "connected":
            self.began(value["connectionId"])
        elif event == "message":
            self.take(value["sequenceId"], value["data"])

    async def close(self) -> None:
        if self._node is not None:
            await asyncio.to_thread(self._node.stop)


MEMBERS: dict[str, type[Member]] = {"ours": OurMember, "aio": OfficialMember, "js": JavaScriptMember}


def parsed(text: Any) -> tuple[str, int]:
    """Return the publisher and the number of a message."""
    name, _, number = text.partition(":")
    return name, int(number)


def time_outages(client: Client, outages: list[float]) -> None:
    """Add the seconds of each recovery."""
    lost = 0.0

    def began(_: Recovering) -> None:
        nonlocal lost
        lost = time.monotonic()

    client.on(Recovering, began)
    client.on(Recovered, lambda _: outages.append(time.monotonic() - lost))
