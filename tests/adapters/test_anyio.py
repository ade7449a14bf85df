"""The anyio client in anyio's own idiom, on both of its backends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from holdfast import ConnectError, GroupMessage, State
from holdfast.anyio import Client
from holdfast.testing import BackgroundService
from holdfast.testing.world import fast

GROUP = "g"
Scenario = Callable[[BackgroundService], Awaitable[None]]


@pytest.fixture(params=["asyncio", "trio"])
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    def run_on(scenario: Scenario) -> None:
        async def main() -> None:
            with anyio.fail_after(20):
                await scenario(service)

        with BackgroundService() as service:
            anyio.run(main, backend=request.param)

    return run_on


def test_it_runs_in_a_task_group_until_it_is_stopped(run: Callable[[Scenario], None]) -> None:
    async def scenario(service: BackgroundService) -> None:
        client = Client(service.url(), fast())
        async with anyio.create_task_group() as tasks:
            await tasks.start(client.run)
            assert client.state is State.CONNECTED
            await client.join_group(GROUP)
            await client.stop()
        assert client.state is State.STOPPED

    run(scenario)


def test_cancelling_the_task_group_closes_the_connection(run: Callable[[Scenario], None]) -> None:
    async def scenario(service: BackgroundService) -> None:
        client = Client(service.url(), fast())
        async with anyio.create_task_group() as tasks:
            await tasks.start(client.run)
            await client.join_group(GROUP)
            tasks.cancel_scope.cancel()
        assert client.state is State.STOPPED
        while service.members(GROUP):  # noqa: ASYNC110 - the service was told: it waits for no recovery
            await anyio.sleep(0.005)

    run(scenario)


def test_errors_come_as_they_are_and_not_in_a_group(run: Callable[[Scenario], None]) -> None:
    async def scenario(service: BackgroundService) -> None:
        with pytest.raises(ConnectError):
            async with Client(service.url() + "x", fast()):
                raise AssertionError("not started")
        with pytest.raises(ConnectError):
            await Client(service.url() + "x", fast()).run()
        with pytest.raises(ZeroDivisionError):
            async with Client(service.url(), fast()):
                raise ZeroDivisionError

    run(scenario)


def test_move_on_after_around_requests_and_iteration(run: Callable[[Scenario], None]) -> None:
    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url(), fast()) as client:
            await client.join_group(GROUP)
            service.stall("to_client")
            with anyio.move_on_after(0.05) as scope:
                await client.send_to_group(GROUP, 1)
            assert scope.cancelled_caught
            with anyio.move_on_after(0.05) as scope:
                async for _ in client:
                    raise AssertionError("nothing can have come")
            assert scope.cancelled_caught
            service.resume()
            assert (await anext(aiter(client))).data == 1
            await client.send_to_group(GROUP, 2)

    run(scenario)


def test_an_async_callback_has_the_loops_own_words(run: Callable[[Scenario], None]) -> None:
    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url(), fast()) as client:
            done = anyio.Event()

            @client.on(GroupMessage)
            async def take(_: GroupMessage) -> None:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(anyio.sleep, 0.01)
                done.set()

            await client.join_group(GROUP)
            await client.send_to_group(GROUP, 1)
            await done.wait()

    run(scenario)
