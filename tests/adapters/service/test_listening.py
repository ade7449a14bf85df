"""Listening: no connection is lost or left open when it ends, and each address counts that the machine has."""

from __future__ import annotations

import asyncio
import errno
import gc
import socket
import warnings
from contextlib import ExitStack
from typing import Any

import pytest

from limpet.service import _listening
from limpet.service._listening import Listener

_CLIENTS = 60


class Connections(asyncio.Protocol):
    """Collects the transports of all connections."""

    def __init__(self, made: list[asyncio.BaseTransport]) -> None:
        self._made = made

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._made.append(transport)


@pytest.mark.parametrize("turns", range(6))
def test_a_close_amid_a_rush_of_clients_leaves_no_socket_open(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_listening, "_ACCEPTS_PER_TURN", 4)
    made: list[asyncio.BaseTransport] = []

    async def rush() -> None:
        listener = Listener(lambda: Connections(made))
        port = await listener.open("127.0.0.1", 0)
        with ExitStack() as clients:
            for _ in range(_CLIENTS):
                clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            for _ in range(turns):
                await asyncio.sleep(0)
            await listener.close()
            for transport in made:
                transport.close()
            await asyncio.sleep(0)
            gc.collect()

    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(rush())
        gc.collect()
    assert [str(warning.message) for warning in left_open] == []
    assert made or not turns  # nothing is accepted before the first


@pytest.mark.parametrize("number", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_an_address_of_a_family_that_the_machine_lacks_is_left_out(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as that of ``localhost`` where IPv6 is switched off."""
    real, found = socket.create_server, socket.getaddrinfo

    def create_server(address: Any, *, family: int, **named: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(number, "it is switched off")
        return real(address, family=family, **named)

    def look_up(host: str, port: int, *args: Any, **named: Any) -> list[Any]:
        if host != "name.test":
            return found(host, port, *args, **named)
        addresses = [(socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.1")]
        return [(family, socket.SOCK_STREAM, 6, "", (address, port)) for family, address in addresses]

    async def listen(host: str) -> None:
        listener = Listener(asyncio.Protocol)
        port = await listener.open(host, 0)
        with socket.create_connection(("127.0.0.1", port)):
            await listener.close()

    monkeypatch.setattr(socket, "create_server", create_server)
    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    asyncio.run(listen("name.test"))
    with pytest.raises(OSError, match="it is switched off"):
        asyncio.run(listen("::1"))
