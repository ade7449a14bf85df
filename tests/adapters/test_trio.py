"""The trio client in trio's own idiom: nurseries, checkpoints, cancel scopes, exceptions as they were raised."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from holdfast import ConnectError, GroupMessage, LocalProtocolError, SendError, State, Stopped
from holdfast.testing import BackgroundService
from holdfast.testing.world import fast
from holdfast.trio import Client

GROUP = "g"


def run(scenario: Callable[[BackgroundService], Awaitable[None]]) -> None:
    """With strict exception groups, which are trio's default."""

    async def main() -> None:
        with trio.fail_after(20):
            await scenario(service)

    with BackgroundService() as service:
        trio.run(main, strict_exception_groups=True)


def test_it_runs_in_a_nursery_until_it_is_stopped() -> None:
    async def scenario(service: BackgroundService) -> None:
        client = Client(service.url(), fast())
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            assert client.state is State.CONNECTED
            await client.join_group(GROUP)
            await client.stop()
        assert client.state is State.STOPPED

    run(scenario)


def test_cancelling_the_nursery_closes_the_connection() -> None:
    async def scenario(service: BackgroundService) -> None:
        client = Client(service.url(), fast())
        async with trio.open_nursery() as nursery:
            await nursery.start(client.run)
            await client.join_group(GROUP)
            nursery.cancel_scope.cancel()
        assert client.state is State.STOPPED
        with trio.fail_after(5):
            while service.members(GROUP):  # noqa: ASYNC110 - the service was told: it waits for no recovery
                await trio.sleep(0.005)

    run(scenario)


def test_errors_come_as_they_are_and_not_in_a_group() -> None:
    async def scenario(service: BackgroundService) -> None:
        with pytest.raises(ConnectError):
            async with Client(service.url() + "x", fast()):
                raise AssertionError("not started")
        with pytest.raises(ConnectError):
            await Client(service.url() + "x", fast()).run()
        with pytest.raises(ZeroDivisionError):
            async with Client(service.url(), fast()):
                raise ZeroDivisionError
        async with Client(service.url(roles=()), fast()) as client:
            with pytest.raises(SendError):
                await client.join_group(GROUP)
            with pytest.raises(LocalProtocolError):
                await client.run()
        # In a nursery of the application's it is this nursery that makes a group of them.
        with pytest.RaisesGroup(ConnectError):
            async with trio.open_nursery() as nursery:
                await nursery.start(Client(service.url() + "x", fast()).run)

    run(scenario)


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

    run(scenario)


def test_iteration_is_a_checkpoint_for_cancellation_at_every_event_and_yields_in_time() -> None:
    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url(), fast()) as client:
            await client.join_group(GROUP)
            service.publish(GROUP, range(200))
            await client.send_to_group(GROUP, 200)
            stream = aiter(client)
            with trio.CancelScope() as scope:
                scope.cancel()
                await anext(stream)
            assert scope.cancelled_caught
            turns = 0

            async def others() -> None:
                nonlocal turns
                while True:
                    await trio.lowlevel.checkpoint()
                    turns += 1

            async with trio.open_nursery() as nursery:
                nursery.start_soon(others)
                assert [(await anext(stream)).data for _ in range(201)] == list(range(201))
                assert turns
                nursery.cancel_scope.cancel()
            stream.close()

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


def test_an_async_callback_has_the_loops_own_words() -> None:
    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url(), fast()) as client:
            done = trio.Event()

            @client.on(GroupMessage)
            async def take(_: GroupMessage) -> None:
                with trio.move_on_after(0.01):
                    await trio.sleep_forever()
                done.set()

            await client.join_group(GROUP)
            await client.send_to_group(GROUP, 1)
            await done.wait()

    run(scenario)


def test_a_keyboard_interrupt_ends_it_cleanly() -> None:
    stopped: list[Stopped] = []

    async def scenario(service: BackgroundService) -> None:
        client = Client(service.url(), fast())
        client.on(Stopped, stopped.append)
        async with client:
            signal.raise_signal(signal.SIGINT)
            await trio.sleep(5)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            run(scenario)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stopped == [Stopped(None)]


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
