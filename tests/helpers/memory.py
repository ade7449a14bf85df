"""Blocking transports of messages, with a service in memory behind them, for ``connect=`` of the blocking client."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable
from typing import Any

from limpet import Dial
from limpet.connect import BlockingTransport, Close


class Transport:
    """One connection to a service in memory, which accepts it and acknowledges every request."""

    def __init__(self, dial: Dial, number: int, hang: Callable[[], None]) -> None:
        self.hang = hang
        self.sent: list[dict[str, Any]] = []
        self.closed: list[int] = []
        self.received = 0
        self._incoming: queue.SimpleQueue[object] = queue.SimpleQueue()
        connected = {"type": "system", "event": "connected", "connectionId": f"c{number}", "reconnectionToken": "t"}
        if not dial.recovery:
            self.say(connected | {"userId": "ann"})

    def say(self, message: object) -> None:
        self._incoming.put(json.dumps(message) if isinstance(message, dict) else message)

    def send(self, message: str | bytes) -> None:
        sent = json.loads(message)
        self.sent.append(sent)
        if "ackId" in sent:
            self.say({"type": "ack", "ackId": sent["ackId"], "success": True})
        elif sent["type"] == "ping":
            self.say({"type": "pong"})

    def receive(self) -> Any:
        item = self._incoming.get()
        self.received += 1
        if isinstance(item, BaseException):
            raise item
        return item

    def close(self, code: int, reason: str) -> None:
        self.closed.append(code)
        self.say(Close(1000))


class MemoryConnector:
    """Makes a transport in memory for each connection; calls that hang do so until :meth:`leave`.

    Attributes:
        transports: all transports so far, in order.
        dials: the dials that they were made for.
        kinds: the classes of the next transports.
    """

    def __init__(self) -> None:
        self.transports: list[Transport] = []
        self.dials: list[Dial] = []
        self.kinds: list[type[Transport]] = []
        self._over = threading.Event()

    def connect(self, dial: Dial) -> BlockingTransport:
        assert dial.protocol == "json.reliable.webpubsub.azure.v1"
        self.dials.append(dial)
        kind = self.kinds.pop(0) if self.kinds else Transport
        transport = kind(dial, len(self.dials), self.hang)
        self.transports.append(transport)
        return transport

    def hang(self) -> None:
        self._over.wait()

    def leave(self) -> None:
        self._over.set()
