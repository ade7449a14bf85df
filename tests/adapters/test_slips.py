"""Slips with streams and blocks: each has a clear error on each client."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from tests.helpers.waiting import LIMIT

import limpet.anyio
import limpet.asyncio
import limpet.sync
import limpet.trio
from limpet import GroupMessage, LocalProtocolError, Recovered
from limpet.testing import BackgroundService

URL = "ws://host/client/hubs/chat"

ASYNC = [limpet.asyncio.Client, limpet.trio.Client, limpet.anyio.Client]

BLOCKS: dict[str, Callable[[Any], Any]] = {
    "subscribe": lambda client: client.subscribe("g"),
    "watch_group_states": lambda client: client.watch_group_states("g"),
    "open_stream": lambda client: client.open_stream("g"),
    "streams": lambda client: client.streams(),
    "events": lambda client: client.events(GroupMessage),
}


@pytest.mark.parametrize("make", ASYNC)
@pytest.mark.parametrize("block", BLOCKS)
def test_with_on_what_is_async_names_async_with(make: Callable[..., Any], block: str) -> None:
    with pytest.raises(TypeError, match=r"use `async with`, not `with`$"), BLOCKS[block](make(URL)):
        pass


@pytest.mark.parametrize("make", ASYNC)
def test_for_on_what_is_async_names_async_for(make: Callable[..., Any]) -> None:
    client = make(URL)
    for stream in (client, client.streams(), client.events(GroupMessage)):
        with pytest.raises(TypeError, match=r"use `async for`, not `for`$"):
            iter(stream)


@pytest.mark.parametrize("block", ["subscribe", "watch_group_states", "streams", "events"])
def test_async_with_on_what_blocks_names_with(block: str) -> None:
    async def scenario() -> None:
        async with BLOCKS[block](limpet.sync.Client(URL)):
            pass

    with pytest.raises(TypeError, match=r"use `with`, not `async with`$"):
        asyncio.run(scenario())


def test_async_for_on_what_blocks_names_for() -> None:
    client = limpet.sync.Client(URL)
    for stream in (client, client.streams(), client.events(GroupMessage)):
        with pytest.raises(TypeError, match=r"use `for`, not `async for`$"):
            aiter(stream)  # type: ignore[call-overload]


CALLS: dict[str, Callable[[Any], Any]] = {
    "join_group": lambda client: client.join_group("g"),
    "send_to_group": lambda client: client.send_to_group("g", "x"),
    "send without ack": lambda client: client.send_to_group("g", "x", ack=False),
    "open_stream": lambda client: _open(client),
    "invoke": lambda client: client.invoke("e"),
    "streams": lambda client: anext(client.streams()),
    "messages": lambda client: anext(aiter(client)),
}


async def _open(client: Any) -> None:
    await client.open_stream("g")


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("make", "backend"),
    [
        (limpet.asyncio.Client, "asyncio"),
        (limpet.anyio.Client, "asyncio"),
        (limpet.anyio.Client, "trio"),
        (limpet.trio.Client, "trio"),
    ],
)
def test_a_call_from_another_event_loop_says_so_and_does_nothing(
    make: Callable[..., Any], backend: str, call: str
) -> None:
    with BackgroundService() as service:

        async def scenario() -> None:
            async with make(service.url()) as client:
                raised: list[BaseException] = []

                async def elsewhere() -> None:
                    try:
                        with anyio.fail_after(LIMIT):
                            await CALLS[call](client)
                    except Exception as error:  # noqa: BLE001 - looked at below
                        raised.append(error)

                def run() -> None:
                    anyio.run(elsewhere, backend=backend)

                thread = threading.Thread(target=run)
                thread.start()
                await anyio.to_thread.run_sync(thread.join)
                (error,) = raised
                assert isinstance(error, LocalProtocolError)
                assert "was started in another event loop" in str(error)
                assert client.groups == frozenset()
                await client.join_group("g", timeout=LIMIT)  # it is as healthy as before

        anyio.run(scenario, backend=backend)


@pytest.mark.parametrize("make", [*ASYNC, limpet.sync.Client])
def test_streams_tell_what_they_are_of(make: Callable[..., Any]) -> None:
    client = make(URL)
    shown = [
        (client.events(GroupMessage, Recovered), "EventStream of GroupMessage and Recovered: 0 waiting>"),
        (client.events(GroupMessage, type=int), "TypedEventStream of GroupMessage: 0 waiting>"),
        (client.streams("g"), "of streams of the group 'g': 0 waiting, 0 under way>"),
        (client.streams(), "of streams: 0 waiting, 0 under way>"),
    ]
    for stream, text in shown:
        assert text in repr(stream)
    closed = client.events(Recovered)
    closed.close()
    assert repr(closed).endswith("EventStream of Recovered: 0 waiting, closed>")
    assert "stopped" in repr(client)
