"""Time that a client did not see: suspends of the machine, processes that stood still, networks that have changed."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

import anyio

from limpet import Backoff, Connected, Disconnected, GroupMessage, Recovered, Recovering, State
from limpet._clients import suspend
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, soon
from limpet.testing.contract.subject import GROUP, Subject

_TROUBLE = (Recovering, Recovered, Disconnected, Connected)


@contextmanager
def _suspended(seconds: float) -> Generator[None]:
    """Let the machine have been suspended for that long, for all of Limpet's own clients."""
    real = suspend.asleep
    suspend.asleep = lambda: real() + seconds
    try:
        yield
    finally:
        suspend.asleep = real


async def _recovers(harness: Harness, client: Subject, log: Log) -> None:
    lost = await log.wait(Recovering)
    assert lost.code == 1006
    harness.service.cut()
    harness.service.resume()
    await log.wait(Recovered)
    await client.send("x")


@check("transport", needs=("check",))
async def a_check_finds_a_black_hole_and_leaves_a_good_line_alone(harness: Harness) -> None:
    async with harness.client(check_timeout=0.5) as client:
        log = Log(client, *_TROUBLE)
        for _ in range(10):  # a machine that stands still for half a second may cost a connection, but not each time
            log.events.clear()
            await client.check()
            await anyio.sleep(0.8)
            if not log.events:
                break
        assert not log.events
        harness.service.stall()
        await client.check()
        await _recovers(harness, client, log)


@check(needs=("url function", "check"))
async def a_check_makes_the_attempt_that_waits(harness: Harness) -> None:
    """And it does nothing on a client that is stopped."""
    backoff = Backoff(initial=3600.0, maximum=3600.0, jitter=0.0)
    urls = ["ws://127.0.0.1:1/client/hubs/chat"]
    client = harness.client(lambda: urls.pop() if urls else harness.service.url(), first_connection=backoff)
    await client.check()
    async with anyio.create_task_group() as tasks:

        async def look() -> None:
            await soon(lambda: client.state is State.WAITING)
            await client.check()

        tasks.start_soon(look)
        async with client:
            await client.join()
    await client.check()
    assert client.state is State.STOPPED


@check("transport", needs=("suspends",))
async def a_suspend_is_noticed_and_a_dead_line_found(harness: Harness) -> None:
    async with harness.client(keepalive_interval=0.1, check_timeout=0.5) as client:
        log = Log(client, *_TROUBLE)
        await client.join()
        harness.service.stall()
        await anyio.sleep(1.0)
        assert not log.events  # pings alone find nothing
        with _suspended(3600.0):
            await _recovers(harness, client, log)


@check("transport")
async def an_event_loop_that_was_held_up_reads_before_it_judges_silence(harness: Harness) -> None:
    """The application blocks for longer than the keepalive time-out; what has arrived meanwhile is a sign of life."""
    async with harness.client(keepalive_interval=0.2, keepalive_timeout=1.0) as client:
        log, messages = Log(client, *_TROUBLE), Log(client, GroupMessage)
        await client.join()
        held: list[bool] = []

        def hold(_: GroupMessage) -> None:
            if not held:
                held.append(True)
                time.sleep(2.5)  # the next ping is more than two seconds late, which is the sign

        client.on(GroupMessage, hold)
        harness.service.publish(GROUP, ["hold"])
        await soon(lambda: held)
        harness.service.publish(GROUP, ["last"])
        await messages.upto("last")
        await anyio.sleep(0.5)
        assert not log.events
