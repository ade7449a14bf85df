"""A callback that waits for what another callback is to get: after ten seconds the log says so.

The contract has the same for every client, with a shorter time.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from tests.adapters.harness import GROUP, ROLES, options, run, soon
from tests.helpers.home import Home
from tests.helpers.waiting import LIMIT, skip, until

import limpet.asyncio
import limpet.sync
import limpet.trio
from limpet import GroupMessage, Stopped
from limpet._clients import callbacks
from limpet._clients.delivery import Delivery
from limpet.service import Service
from limpet.testing import BackgroundService


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_asyncio_after_ten_seconds_and_once(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with Service() as service, limpet.asyncio.Client(service.client_url(roles=ROLES), options()) as client:
            seen: list[int] = []
            go = asyncio.Event()

            @client.on(GroupMessage)
            async def waits(message: GroupMessage) -> None:
                seen.append(message.data)
                if message.data == 3:
                    go.set()
                await go.wait()

            await client.join_group(GROUP)
            for number in range(3):
                await client.send_to_group(GROUP, number)
            await skip(9.9)
            assert warnings(caplog) == []
            await skip(0.2)
            (told,) = warnings(caplog)
            assert f"{__name__}.{waits.__qualname__} for GroupMessage" in told
            assert "for 10 s; behind it wait 2 events. " in told
            await client.send_to_group(GROUP, 3)
            await skip(30.0)
            assert len(warnings(caplog)) == 1
            assert seen == [0]
            go.set()
            await soon(lambda: seen == [0, 1, 2, 3])

    run(scenario)


def test_trio_after_ten_seconds_and_also_where_the_client_ends(caplog: pytest.LogCaptureFixture) -> None:
    clock = trio.testing.MockClock()
    begun, go = trio.Event(), trio.Event()

    async def until(true: Callable[[], object]) -> None:
        for _ in range(10_000):
            if true():
                return
            await trio.to_thread.run_sync(partial(threading.Event().wait, 0.001))  # the clock of the loop stands still
        raise AssertionError

    async def waits(message: GroupMessage) -> None:
        begun.set()
        await go.wait()

    def gets(event: Stopped) -> None:
        go.set()  # in vain: it comes behind the others

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            client = limpet.trio.Client(service.direct_url(roles=ROLES), options())
            client.on(GroupMessage, waits)
            client.on(Stopped, gets)
            await nursery.start(client.run)
            await client.join_group(GROUP)
            await client.send_to_group(GROUP, 1)
            await begun.wait()
            await client.stop()
            await trio.testing.wait_all_tasks_blocked()
            clock.jump(9.9)
            await trio.testing.wait_all_tasks_blocked()
            assert warnings(caplog) == []
            clock.jump(0.2)
            await until(lambda: warnings(caplog))
            (told,) = warnings(caplog)
            assert f"{__name__}.{waits.__qualname__} for GroupMessage" in told
            assert "for 10 s; behind it wait 1 event. " in told
            go.set()

    with BackgroundService() as service:
        trio.run(main, clock=clock)


@pytest.mark.parametrize("stopped", [False, True])
def test_threads_also_where_the_client_has_stopped(
    stopped: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(callbacks, "STALLED_AFTER", 0.5)
    begun, go = threading.Event(), threading.Event()
    ended: list[type] = []

    def waits(event: GroupMessage) -> None:
        begun.set()
        assert go.wait(LIMIT)

    with BackgroundService() as service:
        client = limpet.sync.Client(service.direct_url(roles=ROLES), options())
        client.on(GroupMessage, waits)
        client.on(Stopped, lambda event: ended.append(type(event)))
        with client:
            client.join_group(GROUP)
            client.send_to_group(GROUP, 1)
            assert begun.wait(LIMIT)
            if not stopped:
                client.send_to_group(GROUP, 2)
                until(lambda: warnings(caplog))
                go.set()
        until(lambda: warnings(caplog))
        go.set()
        until(lambda: ended)
    (told,) = warnings(caplog)
    assert f"{__name__}.{waits.__qualname__} for GroupMessage" in told
    assert "for 0.5 s; behind it wait 1 event. " in told
    until(lambda: not [one for one in threading.enumerate() if one.name.startswith("limpet")])


class Called:
    def __call__(self, event: object) -> None: ...

    def method(self, event: object) -> None: ...


class Unbound:
    """A proxy of something that is not there yet."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("nothing is bound")

    def __call__(self, event: object) -> None: ...


@pytest.mark.parametrize(
    ("callback", "name"),
    [
        pytest.param(Unbound(), "Unbound", id="unbound"),
        (Called(), "Called"),
        (Called().method, "Called.method"),
        (partial(Called().method), "Called.method"),
        (partial(partial(print)), "print"),
    ],
)
def test_whatever_is_called_has_a_name(callback: Any, name: str, caplog: pytest.LogCaptureFixture) -> None:
    async def never() -> None:
        raise AssertionError

    result = never()
    queue = Delivery(10, Home()).callbacks
    queue.running = callbacks.Running(callback, GroupMessage(group="g", data=1), (), result)
    assert queue.look(0.0) == float("inf")
    queue.put(GroupMessage(group="g", data=2))
    assert queue.look(0.0) == 2.5
    assert queue.look(9.9) == 10.0
    queue.look(10.0)
    queue.look(20.0)
    result.close()
    (told,) = warnings(caplog)
    assert f".{name} for GroupMessage" in told


def test_events_that_wait_while_nothing_is_called_are_looked_at_now_and_then() -> None:
    """Such as those for a thread that cannot be started: an earlier callback, seen long ago, hurries nobody."""
    queue = Delivery(10, Home()).callbacks
    for now in (0.0, 100.0):
        queue.running = callbacks.Running(print, GroupMessage(group="g", data=1), (print,))
        assert queue.look(now) == now + 2.5
        queue.running = None
        assert queue.look(now + 1.0) == float("inf")
    queue.put(GroupMessage(group="g", data=2))
    assert queue.look(200.0) == 202.5
    queue.running = callbacks.Running(print, GroupMessage(group="g", data=3), ())
    assert queue.look(300.0) == 302.5
    queue.running = None
    for now in (301.0, 400.0):
        assert queue.look(now) == now + 2.5
