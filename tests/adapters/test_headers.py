"""The application's headers reach the service, over every client and connector, and only the service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.helpers.clients import CLIENTS, talk

import limpet.connect.aiohttp
import limpet.connect.picows
import limpet.connect.websockets
from limpet import ConnectError, InvalidValue
from limpet._version import __version__
from limpet.testing.contract.checks._not_a_service import NotAService

CONNECTORS: dict[str, tuple[str, Callable[[], Any]]] = {
    "websockets": ("asyncio", lambda: limpet.connect.websockets.connector(additional_headers={"X-Own": "1"})),
    "aiohttp": ("asyncio", lambda: limpet.connect.aiohttp.connector(headers={"X-Own": "1"})),
    "picows": ("asyncio", lambda: limpet.connect.picows.connector(extra_headers={"X-Own": "1"})),
    "sync-websockets": (
        "sync",
        lambda: limpet.connect.websockets.blocking_connector(additional_headers={"X-Own": "1"}),
    ),
}
WAYS = [*((name, name, None) for name in CLIENTS), *((name, *way) for name, way in CONNECTORS.items())]
ways = pytest.mark.parametrize(("client", "make"), [way[1:] for way in WAYS], ids=[way[0] for way in WAYS])


def request(client: str, make: Callable[[], Any] | None, **settings: Any) -> dict[str, list[str]]:
    """The headers of a handshake, by names in lower case."""
    if make is not None:
        settings["connect"] = make()
    with NotAService.refusing(403, "no") as server:
        with pytest.raises(ConnectError):
            talk(client, server.url, **settings)
        (head,) = server.requests
    headers: dict[str, list[str]] = {}
    for line in head.decode().splitlines()[1:]:
        name, _, value = line.partition(":")
        headers.setdefault(name.lower(), []).append(value.strip())
    return headers


@ways
def test_headers_are_sent(client: str, make: Callable[[], Any] | None) -> None:
    sent = request(client, make, headers={"X-Gateway": "a b", "Authorization": "Bearer abc"})
    assert sent["x-gateway"] == ["a b"]
    assert sent["authorization"] == ["Bearer abc"]
    assert sent["user-agent"] == [f"limpet/{__version__}"]
    assert make is None or sent["x-own"] == ["1"]


@ways
def test_headers_replace_those_of_the_same_name(client: str, make: Callable[[], Any] | None) -> None:
    sent = request(client, make, headers=[("user-agent", "mine/1"), ("X-OWN", "2")])
    assert sent["user-agent"] == ["mine/1"]
    assert sent["x-own"] == ["2"]


@pytest.mark.parametrize("client", CLIENTS)
def test_headers_that_cannot_be_sent_are_refused_at_once(client: str) -> None:
    make, _ = CLIENTS[client]
    with pytest.raises(InvalidValue, match="a value for X that cannot be sent"):
        make("ws://127.0.0.1:1/client/hubs/chat", headers={"X": "a\r\nHost: b"})
