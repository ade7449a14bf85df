"""What only trio has: checkpoints, and a clock for tests."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from tests.helpers.waiting import LIMIT

from limpet import ConnectError, GroupMessage, SendError, Session
from limpet._structured import backend, driver
from limpet.anyio import Client as AnyioClient
from limpet.testing import BackgroundService
from limpet.testing.contract.harness import fast
from limpet.trio import Client, EventStream

GROUP = "g"


def run(scenario: Callable[[BackgroundService], Awaitable[None]]) -> None:
    """With strict exception groups, which are trio's default."""

    async def main() -> None:
        with trio.fail_after(2 * LIMIT):
            await scenario(service)

    with BackgroundService() as service:
        trio.run(main, strict_exception_groups=True)


def test_every_method_that_asks_the_service_is_a_checkpoint() -> None:
    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url(), fast()) as client:
            with trio.testing.assert_checkpoints():
                await client.join_group(GROUP)
            with trio.testing.assert_checkpoints():
                await client.send_to_group(GROUP, 1)
            with trio.testing.assert_checkpoints():
                await client.leave_group(GROUP)
            with trio.testing.assert_checkpoints(), pytest.raises(SendError):
                await client.send_event("order", 1)
            for _ in range(2):
                with trio.testing.assert_checkpoints():
                    await client.stop()

    run(scenario)


@pytest.mark.parametrize("method", ["send_to_group", "send_event"])
def test_without_ack_it_is_a_checkpoint_for_cancellation_every_time_and_yields_in_time(method: str) -> None:
    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url(), fast()) as client:
            send = getattr(client, method)
            with trio.CancelScope() as scope:
                scope.cancel()
                await send("x", 1, ack=False)
            assert scope.cancelled_caught
            turns = 0

            async def others() -> None:
                nonlocal turns
                while True:
                    await trio.lowlevel.checkpoint()
                    turns += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(others)
                for _ in range(1000):
                    await send("x", 1, ack=False)
                assert turns >= 5
                nursery.cancel_scope.cancel()

    run(scenario)


def test_iteration_looks_for_a_cancellation_at_each_eighth_event() -> None:
    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url(), fast()) as client:
            await client.join_group(GROUP)
            service.publish(GROUP, range(200))
            await client.send_to_group(GROUP, 200)
            stream = aiter(client)
            with trio.CancelScope() as scope:
                scope.cancel()
                taken = []
                async for message in stream:
                    taken.append(message.data)  # noqa: PERF401 - it is cancelled in the middle
            assert scope.cancelled_caught
            assert len(taken) < 8
            rest = [(await anext(stream)).data for _ in range(201 - len(taken))]
            assert taken + rest == list(range(201))
            stream.close()

    run(scenario)


@pytest.mark.parametrize(("busy", "slices"), [(0.0, 0), (0.00002, 3), (0.001, 25)])
def test_iteration_lets_others_run_once_in_a_millisecond_and_looks_at_each_eighth_event(
    busy: float, slices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``busy``: the seconds that the application needs for each event."""
    now = 0.0
    monkeypatch.setattr(backend, "monotonic", lambda: now)

    async def scenario(service: BackgroundService) -> None:
        nonlocal now
        async with Client(service.url(), fast()) as client:
            await client.join_group(GROUP)
            stream = client.events(GroupMessage)
            service.publish(GROUP, range(200))
            await client.send_to_group(GROUP, 200)
            yields = 0
            yield_now = client._driver.fairness.yield_now

            async def counted() -> None:
                nonlocal yields
                yields += 1
                await yield_now()

            monkeypatch.setattr(backend.Fairness, "yield_now", lambda _: counted())
            client._driver.fairness._others_ran()
            for number in range(200):
                assert (await anext(stream)).data == number
                now += busy
            assert yields == slices
            stream.close()

    run(scenario)


def test_each_batch_is_a_checkpoint_and_a_cancellation_takes_nothing() -> None:
    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url(), fast()) as client:
            await client.join_group(GROUP)
            stream = client.batches()
            for first in (0, 10):
                service.publish(GROUP, range(first, first + 9))
                await client.send_to_group(GROUP, first + 9)
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await anext(stream)
                assert scope.cancelled_caught
                with trio.testing.assert_checkpoints():
                    assert [message.data for message in await anext(stream)] == list(range(first, first + 10))
            stream.close()

    run(scenario)


@pytest.mark.parametrize("batches", [False, True])
def test_a_stream_that_another_task_closes_at_a_checkpoint_ends(batches: bool) -> None:
    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url(), fast()) as client:
            await client.join_group(GROUP)
            service.publish(GROUP, range(200))
            await client.send_to_group(GROUP, 200)
            stream: EventStream[Any] = client.batches() if batches else client.events(GroupMessage)
            if not batches:
                service.publish(GROUP, range(200))
                await client.send_to_group(GROUP, 200)
            async with trio.open_nursery() as nursery:

                async def close() -> None:
                    stream.close()

                nursery.start_soon(close)
                async for _ in stream:
                    pass

    run(scenario)


def writers() -> int:
    """How many tasks write now: they end a while after their last message."""
    tasks, found = [trio.lowlevel.current_root_task()], 0
    while tasks:
        task = tasks.pop()
        assert task is not None
        found += task.name.endswith("TransportTasks._write")
        tasks += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
    return found


def test_an_idle_connection_has_no_writer_and_writes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(service: BackgroundService) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(driver, "_LINGER", 3600.0)
            async with Client(service.url(), fast()) as client:
                await client.send_to_group(GROUP, 1)
                assert writers() == 1
        async with Client(service.url(), fast()) as client:
            for _ in range(2):
                await client.send_to_group(GROUP, 1)
                while writers():  # noqa: ASYNC110 - nothing tells
                    await trio.sleep(0.01)

    run(scenario)


def test_the_task_for_callbacks_comes_with_the_first_async_one() -> None:
    async def scenario(service: BackgroundService) -> None:
        def tasks() -> int:
            return trio.lowlevel.current_statistics().tasks_living - writers()

        async with Client(service.url(), fast()) as client:
            seen: list[int] = []

            async def take(message: GroupMessage) -> None:
                await trio.lowlevel.checkpoint()
                seen.append(message.data)

            client.on(GroupMessage, lambda _: None)
            await client.join_group(GROUP)
            await client.send_to_group(GROUP, 0)
            before = tasks()
            client.on(GroupMessage, take)
            for number in range(1, 4):
                await client.send_to_group(GROUP, number)
                while len(seen) < number:  # noqa: ASYNC110
                    await trio.sleep(0.002)
                assert tasks() == before + 1

    run(scenario)


def test_a_timeout_around_a_request() -> None:
    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url(), fast()) as client:
            service.stall("to_client")
            with pytest.raises(trio.TooSlowError), trio.fail_after(0.05):
                await client.join_group(GROUP)
            service.resume()
            await client.join_group(GROUP)

    run(scenario)


@pytest.mark.parametrize("make", [Client, AnyioClient])
def test_ctrl_c_does_not_come_amid_a_check(monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any]) -> None:
    protected: list[bool] = []
    check = Session.check

    def checked(session: Session, now: float) -> None:
        protected.append(trio.lowlevel.currently_ki_protected())
        check(session, now)

    monkeypatch.setattr(Session, "check", checked)

    async def scenario(service: BackgroundService) -> None:
        async with make(service.url(), fast()) as client:
            client.check()

    run(scenario)
    assert protected == [True]


def test_waits_cost_no_real_time() -> None:
    """All times are the loop's: with trio's own clock for tests, a minute without a service takes no time."""

    async def main() -> None:
        async def never() -> str:
            await trio.sleep_forever()
            return ""

        client = Client(never, fast(connect_timeout=60.0))
        start = trio.current_time()
        with pytest.raises(ConnectError, match="timed out"):
            await client.run()
        assert trio.current_time() - start == pytest.approx(60.0)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_run_does_not_keep_the_nursery_in_which_it_began() -> None:
    """It would take a kilobyte; ``nursery.start`` makes it, and lets it go when the client is connected."""

    def nurseries() -> int:
        gc.collect()
        return sum(type(each) is trio.Nursery for each in gc.get_objects())

    async def scenario(service: BackgroundService) -> None:
        async with trio.open_nursery() as nursery:
            before = nurseries()
            client = Client(service.url(), fast())
            await nursery.start(client.run)
            while writers():  # noqa: ASYNC110 - nothing tells
                await trio.sleep(0.01)
            assert nurseries() == before + 2  # of the run, and of its transport
            await client.stop()

    run(scenario)
