"""Raw clients: those without a subprotocol, over sockets."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.adapters.service.sockets import Client, refusal, with_service
from tests.helpers.waiting import LIMIT
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from limpet.service import Service
from limpet_core.service import (
    JSON,
    server_publication,
)

SEND = ("webpubsub.sendToGroup.room",)


async def open_raw(service: Service, query: str = "", offers: tuple[str, ...] = (), **grant: Any) -> ClientConnection:
    subprotocols = [Subprotocol(offer) for offer in offers] or None
    return await connect(service.client_url(**grant) + query, subprotocols=subprotocols)


async def receive(websocket: ClientConnection) -> str | bytes:
    return await asyncio.wait_for(websocket.recv(), LIMIT)


@pytest.mark.parametrize("offers", [(), ("custom", "other")])
def test_text_and_binary_frames_of_every_length_pass(offers: tuple[str, ...]) -> None:
    async def scenario(service: Service) -> None:
        raw = await open_raw(service, "&webpubsub_mode=sendToGroup&group=room", offers, roles=SEND, groups=["room"])
        assert raw.subprotocol is None
        member = await Client.open(service.client_url(groups=["room"]), JSON)
        await member.receive()
        for length in (0, 1, 125, 126, 65_535, 65_536, 500_000):
            for frame in ("é" * (length // 2), b"\xff" * length):
                await raw.send(frame)
                assert await receive(raw) == frame
                data_type = "text" if isinstance(frame, str) else "binary"
                assert (await member.receive())["dataType"] == data_type
        await raw.send(["fragments ", "of ", "text"])
        assert await receive(raw) == "fragments of text"
        await member.receive()
        await raw.send([b"\x00", b"\xfe"])
        assert await receive(raw) == b"\x00\xfe"
        service.core.send_to_all("chat", server_publication("json", json.dumps({"a": 1}).encode()))
        service.flush()
        assert await receive(raw) == '{"a": 1}'
        await raw.close()
        await member.leave()

    with_service(scenario)


def test_an_event_that_nobody_handles_closes_with_1011() -> None:
    async def scenario(service: Service) -> None:
        raw = await open_raw(service)
        await raw.send("hello?")
        await asyncio.wait_for(raw.wait_closed(), LIMIT)
        assert raw.close_code == 1011
        assert not service.hub().connections

    with_service(scenario)


def test_text_that_is_not_utf8_closes_with_1007() -> None:
    async def scenario(service: Service) -> None:
        raw = await open_raw(service, "&webpubsub_mode=sendToGroup&group=room", roles=SEND)
        await raw.send(b"\xff\xfe", text=True)
        await asyncio.wait_for(raw.wait_closed(), LIMIT)
        assert raw.close_code == 1007

    with_service(scenario)


@pytest.mark.parametrize(
    "query",
    [
        "webpubsub_mode=all",
        "WEBPUBSUB_MODE=all",
        "webpubsub_mode=sendToGroup",
        "webpubsub_mode=sendToGroup&group=room&noEcho=2",
    ],
)
@pytest.mark.parametrize("offers", [(), (JSON,)])
def test_a_wrong_query_is_answered_before_the_upgrade(query: str, offers: tuple[str, ...]) -> None:
    async def scenario(service: Service) -> None:
        status, text = await refusal(f"{service.client_url()}&{query}", *offers)
        assert status == 400
        assert text.startswith("Wrong query: ")

    with_service(scenario)
