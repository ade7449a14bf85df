"""Attempts of the other WebSocket libraries that are cancelled again and again, as anyio does it."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.adapters.harness import run, soon
from tests.helpers.scripted import RELIABLE

from limpet import Dial
from limpet.testing.contract.checks._hostile import Harm, Hostile

TLS = {"websockets": "ssl", "aiohttp": "ssl", "picows": "ssl_context"}


@pytest.fixture(params=TLS)
def connector(request: pytest.FixtureRequest) -> Callable[..., Any]:
    pytest.importorskip(request.param)
    return import_module(f"limpet.connect.{request.param}").connector  # type: ignore[no-any-return]


def _dial(peer: Hostile) -> Dial:
    return Dial(1, RELIABLE, recovery=False, url=peer.url())


def test_amid_the_handshake_of_tls(connector: Callable[..., Any]) -> None:
    async def scenario() -> None:
        with Hostile(Harm.STILL, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as peer:
            connect = connector(**{TLS[connector.__module__.rpartition(".")[2]]: ssl.create_default_context()})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(connect, _dial(peer))
                await soon(lambda: peer.connected)
                await asyncio.sleep(0.1)
                tasks.cancel_scope.cancel()
            await soon(lambda: not peer.open)

    run(scenario)
    assert not [one for one in threading.enumerate() if one.name == "hostile"]


@pytest.mark.parametrize("harm", [Harm.REFUSES, Harm.NO_FRAMES, Harm.NO_WEBSOCKET])
def test_at_any_turn(connector: Callable[..., Any], harm: Harm) -> None:
    async def scenario() -> None:
        with Hostile(harm, None) as peer:
            for turns in range(0, 60, 2):
                await _cancelled_after(turns, connector(), _dial(peer))
            await soon(lambda: not peer.open)

    run(scenario)


async def _cancelled_after(turns: int, connect: Any, dial: Dial) -> None:
    async def attempt() -> None:
        try:
            transport = await connect(dial)
        except Exception:  # noqa: BLE001 - the peer was quicker
            return
        await transport.close(1000, "")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(attempt)
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
            await asyncio.sleep(0.0002)
        tasks.cancel_scope.cancel()
