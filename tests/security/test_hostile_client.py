"""A hostile client cannot make the service keep more than its limits allow."""

from __future__ import annotations

import asyncio

import pytest
from tests.adapters.service.sockets import Client, with_service

from limpet.service import Service, _websocket

PING = b"\x89\xfd\x00\x00\x00\x00" + b"x" * 125


def test_a_client_that_pings_and_never_reads_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_websocket, "_MAX_BUFFERED", 1 << 20)

    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url())
        hello = await client.receive()
        transport = client.websocket.transport
        transport.pause_reading()
        for _ in range(2000):
            transport.write(PING * 200)
            await asyncio.sleep(0)
            connection = service.core.connection(hello["connectionId"])
            if connection is None or connection.transport is None:
                break
        else:
            raise AssertionError("it is still there")
        transport.abort()
        await client.websocket.wait_closed()

    with_service(scenario)
