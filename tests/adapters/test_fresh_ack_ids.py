"""Answers find their waiters by fresh ack ids, also where the caller has chosen the same id again meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import pytest
import trio
from tests.adapters.harness import GROUP, bounded, options, run
from tests.helpers.frames import TEXT, frame
from tests.helpers.scripted import Message, Peer, Scripted, group_message
from tests.helpers.waiting import LIMIT

import limpet.anyio
import limpet.asyncio
import limpet.trio
from limpet import Ack, GroupMessage, LocalProtocolError, SendError
from limpet._clients import async_driver
from limpet.asyncio import _submitted, _waiters
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


@pytest.mark.parametrize("ack_id", [None, 1])
@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("submitted", [False, True])
def test_an_id_that_is_used_again_before_its_answer_is_handed_on_takes_nobodys_answer(
    submitted: bool, cancelled: bool, ack_id: int | None
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
            first = asyncio.ensure_future(send(GROUP, "first", ack_id=ack_id))
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


@pytest.mark.parametrize("ack_id", [None, 1])
@pytest.mark.parametrize("submitted", [False, True])
def test_one_that_is_cancelled_before_its_answer_is_handed_on_takes_no_later_request_back(
    submitted: bool, ack_id: int | None
) -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            client = limpet.asyncio.Client(service.url, options())
            first: asyncio.Future[Ack]
            again: list[asyncio.Future[Ack]] = []

            @client.on(GroupMessage)
            def repeat(_: GroupMessage) -> None:
                again.append(client.submit.send_to_group(GROUP, "again", ack_id=1))
                first.cancel()

            starting = asyncio.create_task(client.start())
            peer = await service.establishes()
            await bounded(starting)
            send = client.submit.send_to_group if submitted else client.send_to_group
            first = asyncio.ensure_future(send(GROUP, "first", ack_id=ack_id))
            await peer.request()
            answer(peer, 1)
            peer.nack(await peer.request(), "Duplicate")
            assert await bounded(again[0]) == Ack(1, duplicate=True)
            assert first.cancelled()
            await bounded(client.stop())

    run(scenario)


@pytest.mark.parametrize("many", [1, 5])
def test_an_interrupt_while_an_answer_is_handed_on_leaves_nobody_waiting(many: int) -> None:
    interrupts = [KeyboardInterrupt()]

    def interrupted(method: Callable[..., Any], *arguments: Any) -> None:
        if interrupts:
            raise interrupts.pop()
        method(*arguments)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # asyncio's view of the interrupt
    with BackgroundService() as service:
        client = limpet.asyncio.Client(service.url(), options())
        loop.run_until_complete(client.start())
        tasks = [loop.create_task(client.send_to_group(GROUP, number)) for number in range(many)]
        target = (_waiters, "set_result") if many > 1 else (async_driver, "settle_request")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*target, partial(interrupted, getattr(*target)))
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(asyncio.wait(tasks))
        assert not interrupts
        done, waiting = loop.run_until_complete(asyncio.wait(tasks, timeout=LIMIT))
        assert not waiting
        assert all(isinstance(task.exception(), SendError) or task.result() for task in done)
        assert not client._driver.publishes
        loop.run_until_complete(client.stop())
    loop.close()


@pytest.mark.parametrize("many", [1, 5])
def test_an_interrupt_behind_a_refusal_leaves_no_future_without_it(many: int, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupts: list[BaseException] = []
    ended = _submitted.ended

    def interrupted(answer: Any, error: BaseException | None) -> None:
        ended(answer, error)
        if interrupts:
            raise interrupts.pop()

    monkeypatch.setattr(_submitted, "ended", interrupted)
    futures: list[asyncio.Future[Ack]] = []

    async def main() -> None:
        async with Scripted() as service:
            client = limpet.asyncio.Client(service.url, options())
            starting = asyncio.create_task(client.start())
            peer = await service.establishes()
            await bounded(starting)
            futures.extend(client.submit.send_to_group(GROUP, number) for number in range(many))
            refused = [(await peer.request())["ackId"] for _ in range(many)]
            interrupts.append(KeyboardInterrupt())
            error = {"name": "Forbidden", "message": "no"}
            answers = [{"type": "ack", "ackId": ack_id, "success": False, "error": error} for ack_id in refused]
            peer.raw(b"".join(frame(TEXT, json.dumps(each)) for each in answers))
            await bounded(asyncio.wait(futures))
            await bounded(client.stop())

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # asyncio's view of the interrupt
    task = loop.create_task(main())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(task)
    assert not interrupts
    loop.run_until_complete(task)
    for future in futures:
        assert isinstance(future.exception(), SendError)
    loop.close()


@pytest.mark.parametrize(("make", "backend"), CLIENTS)
def test_a_publish_that_was_cancelled_leaves_nothing_behind(make: Callable[..., Any], backend: str) -> None:
    async def scenario(url: str) -> None:
        async with make(url, options()) as client:
            service.stall()
            for _ in range(3):
                with anyio.move_on_after(0.01):
                    await client.send_to_group(GROUP, "given up")
                client.submit.send_to_group(GROUP, "given up").cancel()
            assert not client._driver.publishes
            service.resume()
            with anyio.fail_after(LIMIT):
                await client.send_to_group(GROUP, "answered")
                await client.submit.send_to_group(GROUP, "answered")
            assert not client._driver.publishes
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


def stops(loop: asyncio.AbstractEventLoop) -> None:
    loop.stop()


def is_interrupted(loop: asyncio.AbstractEventLoop) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("leave", [stops, is_interrupted])
def test_a_call_outside_a_loop_that_was_left_before_the_flush_says_so(
    leave: Callable[[asyncio.AbstractEventLoop], None],
) -> None:
    loop = asyncio.new_event_loop()
    with BackgroundService() as service:
        client = limpet.asyncio.Client(service.url(), options())
        loop.run_until_complete(client.start())
        mine: list[asyncio.Future[Ack]] = []

        def last() -> None:
            mine.extend(client.submit.send_to_group(GROUP, number) for number in range(3))
            leave(loop)

        loop.call_soon(last)
        with suppress(KeyboardInterrupt):
            loop.run_forever()
        assert client._driver.flushing

        async def elsewhere(*, submit: bool) -> None:
            await (client.submit.send_to_group if submit else client.send_to_group)(GROUP, "elsewhere")

        with pytest.raises(LocalProtocolError, match=r"^client.submit belongs in the event loop"):
            client.submit.send_to_group(GROUP, "nowhere")
        for submit in (True, False):
            with pytest.raises(LocalProtocolError, match="was started in another event loop"):
                asyncio.run(elsewhere(submit=submit))
        with pytest.raises(LocalProtocolError, match=r"^client.submit belongs in the event loop"):
            trio.run(partial(elsewhere, submit=True))
        answers = loop.run_until_complete(asyncio.wait_for(asyncio.gather(*mine), LIMIT))
        assert [ack.ack_id for ack in answers] == [1, 2, 3]
        loop.run_until_complete(client.stop())
    loop.close()


def test_a_thread_in_which_the_client_ran_before_is_another_one_now() -> None:
    def before() -> None:
        async def main() -> None:
            async with client:
                await asyncio.gather(*[client.send_to_group(GROUP, number) for number in range(3)])

        asyncio.run(main())

    async def elsewhere() -> None:
        await client.submit.send_to_group(GROUP, "elsewhere")

    async def main() -> None:
        async with client:
            for number in range(3):
                await client.send_to_group(GROUP, number, ack=False)
            assert client._driver.flushing
            with pytest.raises(LocalProtocolError, match="was started in another event loop"):
                thread.submit(asyncio.run, elsewhere()).result(LIMIT)

    with BackgroundService() as service, ThreadPoolExecutor(1) as thread:
        client = limpet.asyncio.Client(service.url(), options())
        thread.submit(before).result(LIMIT)
        asyncio.run(asyncio.wait_for(main(), LIMIT))


def test_a_flush_that_a_closed_loop_owes_holds_up_no_later_start() -> None:
    async def main() -> None:
        client._driver.flushing = client._driver.written = True  # as an interrupt amid a turn of that loop leaves it
        await client.start()
        assert not client._driver.flushing
        assert await asyncio.gather(*[client.send_to_group(GROUP, number) for number in range(3)])
        await client.stop()

    with BackgroundService() as service:
        client = limpet.asyncio.Client(service.url(), options())
        asyncio.run(asyncio.wait_for(main(), LIMIT))
