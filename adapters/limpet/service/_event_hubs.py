"""What event listeners get, sent to Azure Event Hubs or its local emulator."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Final

from limpet._extras import extra
from limpet_core.service import EventListener, ListenerMessage
from limpet_core.text import one_line

with extra("eventhubs"):
    from azure.eventhub import EventData
    from azure.eventhub.aio import EventHubProducerClient

_LOGGER: Final = logging.getLogger("limpet.service")

# Python writes warnings of a logger without any handler to standard error, and those of the package may quote tokens.
logging.getLogger("azure").addHandler(logging.NullHandler())

# Of one event hub: what waits while it is slow or out of reach. Newer messages are left out.
_MAX_WAITING: Final = 1000
_MAX_BYTES: Final = 16 * 1024 * 1024

# Further attempts to send, which the package makes.
_RETRIES: Final = 3

# Seconds: for the authorization, and for what waits when the service stops (emulator).
_AUTHORIZATION: Final = 10.0
_DRAIN: Final = 10.0

_STOPPED: Final = ", which waited for it when the service stopped"
_HINT: Final = "; check that it is there, and its connection_string"


class EventHubs:
    """The event hubs of all listeners. Belongs to one event loop until it is closed; then to another."""

    def __init__(self) -> None:
        self._hubs: dict[tuple[str, str], _EventHub] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def send(self, messages: Iterable[ListenerMessage]) -> None:
        """Send messages, those to one event hub in order. A failure is a line in the log, and no more."""
        for message in messages:
            listener = message.listener
            target = listener.connection_string, listener.event_hub
            if target not in self._hubs:
                self._hubs[target] = _EventHub(listener)
            self._hubs[target].send(message)

    def keep(self, listeners: Iterable[EventListener]) -> None:
        """Close the connections that none of the listeners needs, behind what waits for them."""
        needed = {(listener.connection_string, listener.event_hub) for listener in listeners}
        for target in self._hubs.keys() - needed:
            task = asyncio.create_task(self._hubs.pop(target).close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Send what waits, for ten seconds at most, and close all connections."""
        self.keep(())
        await asyncio.gather(*self._closing)


class _EventHub:
    def __init__(self, listener: EventListener) -> None:
        self._name = listener.event_hub
        self._connection_string = listener.connection_string
        self._producer: Any = None  # the package is typed in part only
        self._waiting: deque[ListenerMessage] = deque()
        self._bytes = 0
        self._full = False
        self._task: asyncio.Task[None] | None = None

    def send(self, message: ListenerMessage) -> None:
        size = len(message.body)
        if len(self._waiting) >= _MAX_WAITING or self._bytes + size > _MAX_BYTES:
            if not self._full:
                _LOGGER.warning("the event hub %s is too slow: events are left out", one_line(self._name))
            self._full = True
            return
        self._full = False
        self._waiting.append(message)
        self._bytes += size
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        while self._waiting:
            message = self._waiting[0]
            event = EventData(message.body)
            event.content_type = message.content_type
            event.message_id = message.message_id
            properties: dict[str | bytes, Any] = dict(message.properties.items())
            event.properties = properties
            try:
                if self._producer is None:
                    self._producer = EventHubProducerClient.from_connection_string(
                        self._connection_string,
                        eventhub_name=self._name,
                        auth_timeout=_AUTHORIZATION,
                        retry_total=_RETRIES,
                    )
                await self._producer.send_event(event, partition_key=message.partition_key)
            except Exception as error:  # noqa: BLE001 - of the network, the namespace, the package
                # Its text may hold parts of the connection string.
                name, kind = message.properties["cloudEvents:eventname"], type(error).__name__
                _LOGGER.warning(
                    f"the event hub %s did not get %s: %s{_HINT}", one_line(self._name), one_line(name), kind
                )
            self._waiting.popleft()
            self._bytes -= len(message.body)

    async def close(self) -> None:
        task = self._task
        if task is not None and not task.done():
            await asyncio.wait([task], timeout=_DRAIN)
            if task.cancel():
                count = len(self._waiting)
                _LOGGER.warning(
                    f"the event hub %s did not get %d events%s{_HINT}", one_line(self._name), count, _STOPPED
                )
                await asyncio.wait([task])
        if self._producer is not None:
            with suppress(Exception):
                await self._producer.close()
