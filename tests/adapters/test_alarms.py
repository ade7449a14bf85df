"""The alarms that wake the clients of trio and anyio, and the timers behind them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from simulation.inspect import unacknowledged
from tests.adapters.harness import GROUP, options, soon, url_of
from tests.adapters.test_trio import writers

import limpet.anyio.client
import limpet.trio.client
from limpet import GroupMessage, Options
from limpet._structured import driver
from limpet._structured.backend import Alarm, Backend
from limpet.asyncio import Client
from limpet.service import Service
from limpet.testing import BackgroundService
from limpet_core.service import group_publication

KINDS = {
    "trio": (limpet.trio.client.BACKEND, "trio"),
    "anyio-asyncio": (limpet.anyio.client.BACKEND, "asyncio"),
    "anyio-trio": (limpet.anyio.client.BACKEND, "trio"),
}


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[Alarm, Backend], Awaitable[None]]], None]:
    backend, loop = KINDS[request.param]

    def run_on(scenario: Callable[[Alarm, Backend], Awaitable[None]]) -> None:
        async def main() -> None:
            alarm = backend.alarm()
            with anyio.fail_after(10):
                await scenario(alarm, backend)
            alarm.close()

        anyio.run(main, backend=loop)

    return run_on


Run = Callable[[Callable[[Alarm, Backend], Awaitable[None]]], None]


def test_it_waits_until_its_time(run: Run) -> None:
    async def scenario(alarm: Alarm, backend: Backend) -> None:
        for _ in range(2):
            due = backend.now() + 0.05
            await alarm.wait(due)
            assert backend.now() >= due

    run(scenario)


def test_its_time_may_come_nearer_and_its_task_sleeps_on(run: Run) -> None:
    async def scenario(alarm: Alarm, backend: Backend) -> None:
        began, due = backend.now(), backend.now() + 0.2
        over: list[float] = []

        async def wait() -> None:
            await alarm.wait(began + 60.0)
            over.append(backend.now())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await anyio.sleep(0.01)
            for later in (began + 40.0, began + 20.0, due):
                alarm.advance(later)
                await anyio.sleep(0.01)
            assert not over
        assert over[0] >= due

    run(scenario)


def test_a_time_that_is_later_than_the_last_one_is_kept(run: Run) -> None:
    """A timer that is armed already may fire before it: that ends no wait."""

    async def scenario(alarm: Alarm, backend: Backend) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alarm.wait, backend.now() + 0.05)
            await anyio.sleep(0.01)
            alarm.ring()
        due = backend.now() + 0.2
        await alarm.wait(due)
        assert backend.now() >= due

    run(scenario)


def test_it_rings_for_a_wait_without_an_end(run: Run) -> None:
    async def scenario(alarm: Alarm, backend: Backend) -> None:
        alarm.ring()  # nobody waits
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(alarm.wait, math.inf)
            await anyio.sleep(0.01)
            alarm.ring()
            alarm.ring()

    run(scenario)


def test_a_wait_can_be_cancelled_and_is_over_then(run: Run) -> None:
    async def scenario(alarm: Alarm, backend: Backend) -> None:
        with anyio.move_on_after(0.01) as scope:
            await alarm.wait(math.inf)
        assert scope.cancelled_caught
        alarm.advance(backend.now())  # nobody waits
        alarm.ring()
        await alarm.wait(backend.now() + 0.01)

    run(scenario)


class _Timers:
    """All timers of a loop for clients, by the name of what they call."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.made: list[asyncio.TimerHandle] = []
        loop = asyncio.get_running_loop()
        call_at = loop.call_at

        def noted(when: float, callback: Any, *args: Any, **named: Any) -> asyncio.TimerHandle:
            timer = call_at(when, callback, *args, **named)
            if getattr(callback, "__name__", "") == name:
                self.made.append(timer)
            return timer

        monkeypatch.setattr(loop, "call_at", noted)


@pytest.mark.parametrize(
    ("make", "name"), [(Client, "_wake"), (limpet.anyio.Client, "_fired")], ids=["asyncio", "anyio"]
)
def test_the_timer_of_the_keepalive_stays_armed_beside_those_of_acknowledgements(
    make: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop keeps each timer that was cancelled until its time is over: one for each message would be many."""

    async def scenario() -> None:
        async with Service() as service:
            monkeypatch.setattr(driver, "_LINGER", 0.01)  # a writer's time on trio and anyio
            seen: list[Any] = []
            async with make(url_of(service), Options(keepalive_interval=20.0, sequence_ack_interval=0.02)) as client:
                client.on(GroupMessage, lambda message: seen.append(message.data))
                await client.join_group(GROUP)
                await asyncio.sleep(0.2)
                timers = _Timers(monkeypatch, name)
                for number in range(1, 6):
                    service.core.send_to_group("chat", GROUP, group_publication(GROUP, None, "json", b"%d" % number))
                    service.flush()
                    await soon(lambda number=number: seen[-1:] == [number] and not unacknowledged(client._session))
                assert len(timers.made) == 5
                assert not any(timer.cancelled() for timer in timers.made)
            monkeypatch.undo()

    asyncio.run(scenario())


def test_an_acknowledgement_on_trio_needs_no_writer() -> None:
    async def main() -> None:
        with trio.fail_after(10):
            async with limpet.trio.Client(service.url(), options(sequence_ack_interval=0.02)) as client:
                await client.join_group(GROUP)
                while writers():  # noqa: ASYNC110 - nothing tells
                    await trio.sleep(0.01)
                stream = aiter(client)
                service.publish(GROUP, [1])
                assert (await anext(stream)).data == 1
                while unacknowledged(client._session):
                    await trio.sleep(0.001)
                    assert not writers()
                await client.send_to_group(GROUP, 2)
                assert writers() == 1
                stream.close()

    with BackgroundService() as service:
        trio.run(main)
