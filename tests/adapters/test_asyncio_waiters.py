"""Tasks whose answers come in one read: each is woken, in order, whatever another one of them does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextvars import ContextVar, copy_context
from unittest.mock import patch

import pytest
from tests.helpers.waiting import LIMIT

from limpet import SendError
from limpet.asyncio import Client, _waiters
from limpet.asyncio._waiters import Waiter, set_result, wake
from limpet.testing import BackgroundService

NAME: ContextVar[str] = ContextVar("NAME")


def waiter() -> Waiter:
    made = Waiter(loop=asyncio.get_running_loop())
    made.callback = None
    return made


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(LIMIT):
            await main()

    asyncio.run(limited())


async def started(waiters: list[Waiter], log: list[object]) -> list[asyncio.Task[None]]:
    """Tasks that wait, each in a context of its own, and write down what they got."""

    async def wait(number: int) -> None:
        NAME.set(f"task {number}")
        try:
            log.append((NAME.get(), await waiters[number]))
        except SendError as error:
            log.append((NAME.get(), error.name))

    tasks = [asyncio.create_task(wait(number)) for number in range(len(waiters))]
    await asyncio.sleep(0)
    return tasks


def settle(waiters: list[Waiter]) -> None:
    woken: list[Waiter] = []
    asyncio.get_running_loop().call_soon(wake, asyncio.get_running_loop(), iter(woken))
    for number, each in enumerate(waiters):
        if not each.done():
            woken.append(each)
            set_result(each, number)


def test_tasks_are_woken_in_order_and_in_their_own_contexts() -> None:
    async def main() -> None:
        log: list[object] = []
        waiters = [waiter() for _ in range(5)]
        tasks = await started(waiters, log)
        settle(waiters)
        assert log == []
        await asyncio.wait(tasks)
        assert log == [(f"task {number}", number) for number in range(5)]

    run(main)


def test_a_task_that_is_cancelled_before_or_after_its_answer_holds_up_no_other() -> None:
    async def main() -> None:
        log: list[object] = []
        waiters = [waiter() for _ in range(5)]
        tasks = await started(waiters, log)
        tasks[0].cancel()
        settle(waiters)
        tasks[2].cancel()
        await asyncio.wait(tasks)
        assert [task.cancelled() for task in tasks] == [True, False, True, False, False]
        assert log == [("task 1", 1), ("task 3", 3), ("task 4", 4)]

    run(main)


def test_an_error_and_a_single_result_wake_their_tasks() -> None:
    async def main() -> None:
        log: list[object] = []
        waiters = [waiter() for _ in range(2)]
        tasks = await started(waiters, log)
        waiters[0].set_exception(SendError(1, "Forbidden", "no", "rejected"))
        waiters[1].set_result(7)
        await asyncio.wait(tasks)
        assert log == [("task 0", "Forbidden"), ("task 1", 7)]

    run(main)


def test_an_interrupt_in_one_task_leaves_no_other_one_waiting() -> None:
    loop = asyncio.new_event_loop()
    log: list[int] = []
    waiters = [Waiter(loop=loop) for _ in range(4)]
    for each in waiters:
        each.callback = None

    async def wait(number: int) -> None:
        log.append(await waiters[number])
        if number == 1:
            raise KeyboardInterrupt

    async def answered() -> None:
        await asyncio.sleep(0)
        settle(waiters)
        await asyncio.sleep(10 * LIMIT)

    tasks = [loop.create_task(wait(number)) for number in range(4)]
    main = loop.create_task(answered())
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main)
    assert log == [0, 1]
    loop.run_until_complete(asyncio.wait([tasks[2], tasks[3]], timeout=LIMIT))
    assert log == [0, 1, 2, 3]
    main.cancel()
    with pytest.raises(asyncio.CancelledError):
        loop.run_until_complete(main)
    with pytest.raises(KeyboardInterrupt):
        tasks[1].result()
    loop.close()


def test_other_callbacks_are_called_as_those_of_any_future() -> None:
    async def main() -> None:
        called: list[str] = []
        one = waiter()
        one.add_done_callback(lambda _: called.append("without a context"))

        def first(_: object) -> None:
            called.append("first")

        def second(_: object) -> None:
            called.append("second")

        context = copy_context()
        one.add_done_callback(first, context=context)
        one.add_done_callback(second, context=context)
        assert one.remove_done_callback(first) == 1
        assert one.remove_done_callback(first) == 0
        one.add_done_callback(first, context=context)
        one.set_result(None)
        one.add_done_callback(second, context=context)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert sorted(called) == ["first", "second", "second", "without a context"]

    run(main)


def test_the_tasks_of_a_client_that_sends_much_are_woken_together() -> None:
    woken: list[int] = []

    def counted(loop: asyncio.AbstractEventLoop, waiters: Iterator[Waiter]) -> None:
        together = list(waiters)
        woken.append(len(together))
        wake(loop, iter(together))

    async def main() -> None:
        with patch.object(_waiters, "wake", counted):
            async with Client(service.url()) as client:
                acks = await asyncio.gather(*[client.send_to_group("g", number) for number in range(300)])
                assert [ack.ack_id for ack in acks] == list(range(1, 301))
                assert not client._driver.publishes

    with BackgroundService() as service:
        run(main)
    assert max(woken) > 10
    assert sum(woken) > 200
