"""Answers find their waiters by fresh ack ids, also where the caller has chosen the same id again meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from tests.adapters.harness import GROUP, bounded, options, run
from tests.helpers.frames import TEXT, frame
from tests.helpers.scripted import Message, Peer, Scripted, group_message
from tests.helpers.waiting import LIMIT

import limpet.anyio
import limpet.asyncio
import limpet.trio
from limpet import Ack, GroupMessage, LocalProtocolError
from limpet.testing import BackgroundService

CLIENTS = [
    (limpet.asyncio.Client, "asyncio"),
    (limpet.anyio.Client, "asyncio"),
    (limpet.anyio.Client, "trio"),
    (limpet.trio.Client, "trio"),
]


def answer(peer: Peer, ack_id: int) -> None:
    """Send a message and an ack, which the client reads at once."""
    messages: list[Message] = [group_message(1, "first"), {"type": "ack", "ackId": ack_id, "success": True}]
    peer.raw(b"".join(frame(TEXT, json.dumps(message)) for message in messages))


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("submitted", [False, True])
def test_an_id_that_is_used_again_before_its_answer_is_handed_on_takes_nobodys_answer(
    submitted: bool, cancelled: bool
) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            client = limpet.asyncio.Client(service.url, options())
            again: list[Any] = []

            @client.on(GroupMessage)
            def repeat(_: GroupMessage) -> None:
                again.append(client.submit.send_to_group(GROUP, "again", ack_id=1))
                if cancelled:
                    again[0].cancel()

            starting = asyncio.create_task(client.start())
            peer = await service.establishes()
            await bounded(starting)
            send = client.submit.send_to_group if submitted else client.send_to_group
            first = asyncio.ensure_future(send(GROUP, "first"))
            assert (await peer.request())["ackId"] == 1
            answer(peer, 1)
            assert await bounded(first) == Ack(1)
            (future,) = again
            if cancelled:
                assert future.cancelled()
            else:
                assert not future.done()
                peer.nack(await peer.request(), "Duplicate")
                assert await bounded(future) == Ack(1, duplicate=True)
            await bounded(client.stop())

    run(scenario)


@pytest.mark.parametrize(("make", "backend"), CLIENTS)
def test_a_publish_that_was_cancelled_leaves_nothing_behind(make: Callable[..., Any], backend: str) -> None:
    async def scenario(url: str) -> None:
        async with make(url, options()) as client:
            service.stall()
            for _ in range(3):
                with anyio.move_on_after(0.01):
                    await client.send_to_group(GROUP, "given up")
                client.submit.send_to_group(GROUP, "given up").cancel()
            assert not client._driver.awaited
            service.resume()
            with anyio.fail_after(LIMIT):
                await client.send_to_group(GROUP, "answered")
                await client.submit.send_to_group(GROUP, "answered")
            assert not client._driver.awaited
            assert not client._driver.waiting

    with BackgroundService() as service:
        anyio.run(scenario, service.url(), backend=backend)


@pytest.mark.parametrize("call", ["send_to_group", "submit"])
def test_a_call_in_another_thread_says_so_also_while_a_flush_is_to_come(call: str) -> None:
    async def main(url: str) -> None:
        async with limpet.asyncio.Client(url, options()) as client:
            send = client.submit.send_to_group if call == "submit" else client.send_to_group
            mine = [client.submit.send_to_group(GROUP, number) for number in range(3)]
            assert client._driver.flushing
            raised: list[BaseException] = []

            async def awaited() -> None:
                try:
                    await send(GROUP, "elsewhere")
                except LocalProtocolError as error:
                    raised.append(error)

            thread = threading.Thread(target=asyncio.run, args=(awaited(),))
            thread.start()
            thread.join(LIMIT)  # this loop does not turn meanwhile
            assert client._driver.flushing
            (error,) = raised
            assert "was started in another event loop" in str(error)
            assert [(await answer).ack_id for answer in mine] == [1, 2, 3]
            assert client.stats.messages_out == 3

    with BackgroundService() as service:
        asyncio.run(asyncio.wait_for(main(service.url()), LIMIT))
