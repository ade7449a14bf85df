"""A bare WebSocket, for what no official client shows: single messages, close codes, clients without a subprotocol."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import websockets
from tests.helpers.waiting import LIMIT
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

JSON, RELIABLE = "json.webpubsub.azure.v1", "json.reliable.webpubsub.azure.v1"


class Socket:
    """A WebSocket that speaks JSON, or whatever it is told to."""

    def __init__(self, websocket: ClientConnection) -> None:
        self.websocket = websocket

    def send(self, **message: Any) -> None:
        self.websocket.send(json.dumps(message))

    def receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.websocket.recv(LIMIT))
        return message

    def ended(self) -> tuple[int, str]:
        """The close code and reason of the service, after whatever else it has sent."""
        try:
            while True:
                self.websocket.recv(LIMIT)
        except websockets.ConnectionClosed as closed:
            close = closed.rcvd
        assert close is not None
        return close.code, close.reason


@contextmanager
def socket(url: str, subprotocol: str | None = RELIABLE) -> Iterator[Socket]:
    """Connect to a URL that an official package has signed."""
    offers = None if subprotocol is None else [Subprotocol(subprotocol)]
    with connect(url, subprotocols=offers, compression=None, max_size=None) as websocket:
        yield Socket(websocket)


def recovery_url(url: str, hello: dict[str, Any]) -> str:
    """The URL that recovers the connection which said ``hello``."""
    identity = {"awps_connection_id": hello["connectionId"], "awps_reconnection_token": hello["reconnectionToken"]}
    return urlsplit(url)._replace(query=urlencode(identity)).geturl()
