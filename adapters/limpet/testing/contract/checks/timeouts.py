"""Timeouts of calls: each ends in time, and says whether what it asked for can still be done."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio

from limpet import (
    Backoff,
    GroupMessage,
    InvalidType,
    InvalidValue,
    InvocationTimeout,
    SendTimeout,
    State,
    StreamTimeout,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, prompt, raises, soon
from limpet.testing.contract.subject import GROUP, Subject

_SHORT = 0.05
"""Seconds that are too few for what a check lets wait."""

_LONG = 10.0
"""Seconds that are enough for anything."""

_REQUESTS: tuple[tuple[Any, ...], ...] = (
    ("join_group", "other"),
    ("leave_group", GROUP),
    ("send_to_group", GROUP, "too late"),
    ("send_event", "order", {"id": 7}),
)

_STATES: tuple[tuple[Any, ...], ...] = (
    ("set_group_state", GROUP, {"a": "b"}),
    ("clear_group_state", GROUP),
    ("subscribe_group_states", GROUP),
    ("unsubscribe_group_states", GROUP),
)


async def _cut_off(harness: Harness, client: Subject) -> None:
    harness.service.refuse()
    harness.service.cut()
    await soon(lambda: client.state is State.RECOVERING)


async def _run_out(client: Subject, calls: tuple[tuple[Any, ...], ...], outcome: str) -> None:
    for method, *arguments in calls:
        with prompt(), raises(SendTimeout) as caught:
            await client.call(method, *arguments, timeout=_SHORT)
        assert isinstance(caught.error, TimeoutError)
        assert (caught.error.name, caught.error.outcome) == ("Timeout", outcome), method
        assert caught.error.ack_id > 0


async def _unsent(harness: Harness, calls: tuple[tuple[Any, ...], ...]) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        await client.join()
        await _cut_off(harness, client)
        await _run_out(client, calls, "unsent")
        harness.service.accept()
        await client.send("in time", timeout=_LONG)
        await log.upto("in time")
        assert log.data == ["in time"]
        assert client.groups == {GROUP}
        assert harness.service.members("other") == set()


@check(needs=("timeouts",))
async def a_request_that_was_not_sent_in_time_is_never_sent(harness: Harness) -> None:
    await _unsent(harness, _REQUESTS)


@check(needs=("timeouts", "group states"))
async def a_request_about_states_that_was_not_sent_in_time_is_never_sent(harness: Harness) -> None:
    await _unsent(harness, _STATES)


@check(needs=("timeouts",))
async def a_request_without_an_answer_in_time_has_an_unknown_outcome(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        log = Log(other, GroupMessage)
        await other.join()
        await client.join()
        harness.service.stall("to_client")
        await _run_out(client, _REQUESTS, "unknown")
        await log.upto("too late")  # executed all the same
        harness.service.resume()
        await client.send("in time", timeout=_LONG)
        await log.upto("in time")
        assert log.data == ["too late", "in time"]


@check(needs=("timeouts",))
async def the_timeout_of_a_call_comes_before_that_of_the_options(harness: Harness) -> None:
    async with harness.client(request_timeout=_SHORT) as client:
        log = Log(client, GroupMessage)
        await client.join(timeout=_LONG)
        await _cut_off(harness, client)
        with prompt(), raises(SendTimeout):
            await client.send("too late")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: client.send("in time", timeout=_LONG))
            await anyio.sleep(4 * _SHORT)
            harness.service.accept()
        await log.upto("in time")
        assert log.data == ["in time"]


@check(needs=("timeouts", "backpressure"))
async def a_message_without_an_ack_waits_for_room_no_longer_than_its_timeout(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        harness.service.stall("to_service")
        with prompt(12.0), raises(SendTimeout) as caught:
            for _ in range(100_000):
                await client.send("x" * 10_000, ack=False, timeout=_SHORT)
        assert (caught.error.outcome, caught.error.ack_id) == ("unsent", 0)
        harness.service.resume()
        await client.send("goes on", timeout=_LONG)


@check(needs=("timeouts", "invocations"))
async def an_invocation_that_was_not_sent_in_time_is_unsent(harness: Harness) -> None:
    async with harness.client(request_timeout=_SHORT) as client:
        await client.join(timeout=_LONG)
        await _cut_off(harness, client)
        for named in ({}, {"timeout": _SHORT}):
            with prompt(), raises(InvocationTimeout) as caught:
                await client.call("invoke", "order", 1, **named)
            assert caught.error.outcome == "unsent"


@check(needs=("timeouts", "streams"))
async def a_subscription_that_cannot_join_in_time_says_so(harness: Harness) -> None:
    async with harness.client() as client:
        await _cut_off(harness, client)
        with prompt(), raises(SendTimeout) as caught:
            async with client.subscribe(timeout=_SHORT):
                raise AssertionError("it cannot have joined")
        assert caught.error.outcome == "unsent"
        harness.service.accept()
        async with client.subscribe(timeout=_LONG) as messages:
            await client.send("x")
            assert (await messages.__anext__()).data == "x"


@check(needs=("timeouts", "streams", "group states"))
async def a_watch_that_cannot_subscribe_in_time_says_so(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        await _cut_off(harness, client)
        with prompt(), raises(SendTimeout):
            async with client.watch(timeout=_SHORT):
                raise AssertionError("it cannot have subscribed")
        harness.service.accept()
        async with client.watch(timeout=_LONG):
            pass


# ---- Streams


@check(needs=("timeouts", "write streams"))
async def a_stream_that_could_not_be_started_in_time_is_never_started(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        log = Log(other, GroupMessage)
        await other.join()
        await _cut_off(harness, client)
        with prompt(), raises(StreamTimeout) as caught:
            await client.open_stream(timeout=_SHORT)
        assert (caught.error.name, caught.error.outcome) == ("Timeout", "unsent")
        harness.service.accept()
        await client.send("in time", timeout=_LONG)
        await log.upto("in time")
        assert log.data == ["in time"]


@check(needs=("timeouts", "write streams"))
async def each_call_of_a_stream_ends_in_time_and_the_stream_goes_on(harness: Harness) -> None:
    async with harness.client(max_stream_unacked=1) as client, harness.undisturbed() as other:
        log = Log(other, GroupMessage)
        await other.join()
        stream = await client.open_stream(timeout=_LONG)
        harness.service.stall("to_client")
        await stream.write(1, timeout=_LONG)
        with prompt(), raises(StreamTimeout) as caught:
            await stream.write("never", timeout=_SHORT)
        assert caught.error.outcome == "unsent"
        with prompt(), raises(StreamTimeout) as caught:
            await stream.flush(timeout=_SHORT)
        assert caught.error.outcome == "unknown"
        harness.service.resume()
        await stream.write(2, timeout=_LONG)
        await stream.flush(timeout=_LONG)
        harness.service.stall("to_client")
        with prompt(), raises(StreamTimeout) as caught:
            await stream.end(timeout=_SHORT)
        assert (caught.error.outcome, caught.error.acknowledged) == ("unknown", 2)
        harness.service.resume()
        await stream.end(timeout=_LONG)
        assert stream.closed
        await soon(lambda: log.events[-1:] and log.events[-1].stream.end)
        assert [message.data for message in log.events if not message.stream.end] == [1, 2]


@check(needs=("timeouts", "write streams"))
async def a_block_ends_within_the_timeout_of_its_stream(harness: Harness) -> None:
    async with harness.client() as client:
        with prompt(), raises(StreamTimeout):
            async with client.writing(timeout=1.0) as stream:
                harness.service.stall("to_client")
                await stream.write(1)
        with prompt(), raises(StreamTimeout):
            await stream.abort("no", timeout=_SHORT)


# ---- Wrong timeouts, and starts


@check(needs=("timeouts", "write streams", "invocations"))
async def a_timeout_that_is_no_number_of_seconds_is_refused_and_nothing_is_sent(harness: Harness) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        await client.join()
        stream = await client.open_stream()
        for wrong, error in ((-1, InvalidValue), (float("nan"), InvalidValue), ("5", InvalidType), (True, InvalidType)):
            for method, *arguments in (*_REQUESTS, ("invoke", "order"), ("open_stream", GROUP)):
                with raises(error) as caught:
                    await client.call(method, *arguments, timeout=wrong)
                assert str(caught.error).startswith("timeout must be"), method
            with raises(error):
                await client.send("x", ack=False, timeout=wrong)
            for call in (partial(stream.write, "x"), stream.flush, stream.end):
                with raises(error):
                    await call(timeout=wrong)
        await stream.end()
        await client.send("only this")
        await log.upto("only this")
        assert [message.data for message in log.events if message.stream is None] == ["only this"]


@check(needs=("timeouts", "restart"))
async def a_start_gives_up_after_its_timeout_and_can_be_made_again(harness: Harness) -> None:
    client = harness.client(first_connection=Backoff(initial=_LONG, maximum=_LONG, jitter=0.0))
    harness.service.refuse()
    error = await client.start_within(0.5)
    assert isinstance(error, TimeoutError)
    assert client.state is State.STOPPED
    harness.service.accept()
    async with client:
        await client.send("x", timeout=_LONG)
