"""The log of all messages of the service, which `limpet serve --verbose` shows."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest
from tests.adapters.service.sockets import ROLES, Client, with_service
from tests.adapters.service.test_asgi import KEY, served
from tests.adapters.service.test_raw import open_raw, receive

from limpet import RELIABLE_PROTOBUF, Options
from limpet.asyncio import Client as LimpetClient
from limpet.service import Service, ServiceOptions, client_url
from limpet_core.service import JSON, ConnectionString

FRAMES = "limpet.service.frames"


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the lines, without the connection ids at their beginning."""
    lines = [record.getMessage() for record in caplog.records if record.name == FRAMES]
    assert all(re.fullmatch(r"[\w-]{24} [<>] .*", line) for line in lines)
    return [line[25:] for line in lines]


async def talk(url: str) -> None:
    client = await Client.open(url)
    assert (await client.receive())["event"] == "connected"
    await client.send(type="sendToGroup", group="room", dataType="text", data="a\u202eb", ackId=1)
    assert (await client.receive())["success"]
    await client.websocket.close()


EXPECTED = [
    r'> {"type":"system","event":"connected","userId":"ann","connectionId":"[\w-]+","reconnectionToken":"\*\*\*"}',
    r'< {"type": ?"sendToGroup", ?"group": ?"room", ?"dataType": ?"text", ?"data": ?"a\\\\?u202eb", ?"ackId": ?1}',
    r'> {"type":"ack","ackId":1,"success":true}',
]


def test_each_message_is_a_line_without_tokens(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, FRAMES)

    async def scenario(service: Service) -> None:
        await talk(service.client_url(user_id="ann", roles=ROLES))

    with_service(scenario)
    lines = told(caplog)
    assert len(lines) == len(EXPECTED)
    for line, expected in zip(lines, EXPECTED, strict=True):
        assert re.fullmatch(expected, line), line


def test_the_application_under_another_server_writes_the_same(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, FRAMES)

    async def run() -> None:
        async with served(ServiceOptions(access_key=KEY)) as endpoint:
            await talk(client_url(ConnectionString(endpoint, KEY), user_id="ann", roles=ROLES))

    asyncio.run(run())
    for line, expected in zip(told(caplog), EXPECTED, strict=True):
        assert re.fullmatch(expected, line), line


def test_protobuf_and_raw_clients(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, FRAMES)

    async def scenario(service: Service) -> None:
        raw = await open_raw(service, "&webpubsub_mode=sendToGroup&group=room", roles=ROLES, groups=["room"])
        url = service.client_url(user_id="ann", roles=ROLES)
        async with LimpetClient(url, Options(protocol=RELIABLE_PROTOBUF)) as client:
            await client.send_to_group("room", "hello")
            assert await receive(raw) == "hello"
            await raw.send(b"\xff\x00")
            assert await receive(raw) == b"\xff\x00"  # its own
            await client.send_to_group("room", b"\xff")
            assert await receive(raw) == b"\xff"

    with_service(scenario)
    lines = told(caplog)
    assert "> hello" in lines
    assert "> 1 bytes" in lines
    assert "< 2 bytes" in lines
    assert any(line.startswith("< send_to_group_message") and "hello" in line for line in lines)
    token = next(line for line in lines if "connection_id=" in line)
    assert "reconnection_token='***'" in token


def test_without_the_level_there_is_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, FRAMES)

    async def scenario(service: Service) -> None:
        assert service._gateway.frame_log is None
        await Client.open(service.client_url(), JSON)

    with_service(scenario)
    assert told(caplog) == []
