"""Iteration and subscriptions: every message once, in order, and nothing lost between two readers."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel

from limpet import (
    Connected,
    ConnectError,
    GroupMessage,
    InvalidValue,
    LocalProtocolError,
    Recovered,
    SendError,
    Stopped,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, logged, prompt, raises, soon
from limpet.testing.contract.subject import GROUP, Stream

_LIMIT = 20


async def _take(stream: Stream, count: int) -> list[Any]:
    """Return the data of the next ``count`` messages."""
    return [(await anext(stream)).data for _ in range(count)]


async def _rest(stream: Stream) -> list[Any]:
    """Return the events up to the end of the stream."""
    return [event async for event in stream]


# ---- Iteration


@check(needs=("streams",))
async def iteration_gives_what_came_before_it_and_a_break_loses_nothing(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        harness.service.publish(GROUP, range(30))
        await client.send(30)
        seen: list[int] = []
        while len(seen) < 31:
            stream = aiter(client)
            seen += await _take(stream, min(7, 31 - len(seen)))
            stream.close()
        assert seen == list(range(31))


@check(needs=("streams", "cancel"))
async def a_cancelled_iteration_loses_nothing(harness: Harness) -> None:
    async with harness.client() as client, anyio.create_task_group() as tasks:
        await client.join()
        seen: list[int] = []

        async def read() -> None:
            async for message in client:
                seen.append(message.data)  # noqa: PERF401 - it is cancelled in the middle

        for number in range(25):
            with anyio.CancelScope() as scope:
                async with anyio.create_task_group() as reader:
                    reader.start_soon(read)
                    await anyio.lowlevel.checkpoint()
                    harness.service.publish(GROUP, [number])
                    for _ in range(number % 7):
                        await anyio.sleep(0.0002)
                    scope.cancel()
        tasks.start_soon(read)
        await soon(lambda: len(seen) == 25)
        assert seen == list(range(25))
        await client.stop()


@check(needs=("streams", "batches"))
async def batches_have_every_message_once_and_end_at_the_stop(harness: Harness) -> None:
    client = harness.client()
    seen: list[Any] = []
    sizes: list[int] = []

    async def read() -> None:
        stream = client.batches()
        async for batch in stream:
            seen.extend(message.data for message in batch)
            sizes.append(len(batch))
        stream.close()

    async with client:
        await client.join()
        harness.service.publish(GROUP, range(30))
        await client.send(30)
        first = aiter(client)
        assert await _take(first, 2) == [0, 1]
        first.close()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            await soon(lambda: len(seen) == 29)
            await client.send(31)  # which wakes a task that waits for it
            await soon(lambda: len(seen) == 30)
            await client.send(32)
            with prompt():
                await client.stop()
    assert seen == list(range(2, 33))
    assert all(sizes)


@check(needs=("streams", "batches", "pause"))
async def a_batch_of_all_that_waits_lets_the_client_read_on(harness: Harness) -> None:
    async with harness.client(max_buffered_messages=_LIMIT) as client:
        await client.join()
        stream = client.batches()
        harness.service.publish(GROUP, range(5 * _LIMIT))
        seen: list[Any] = []
        while len(seen) < 5 * _LIMIT:
            seen += [message.data for message in await anext(stream)]
        stream.close()
    assert seen == list(range(5 * _LIMIT))


@check(needs=("streams",))
async def streams_of_events_give_what_was_asked_for_and_end_at_the_stop(harness: Harness) -> None:
    client = harness.client()
    everything = client.events(Connected, GroupMessage, Recovered, Stopped)
    messages = client.events(GroupMessage)
    async with client:
        await client.join()
        await client.send(1)
        harness.service.cut()
        await client.send(2)
        both: list[list[Any]] = []

        async def read(stream: Stream) -> None:
            both.append(await _rest(stream))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, aiter(client))  # which has nothing: the streams took it all
            await client.send(3)
            await anyio.sleep(0.02)
            with prompt():
                await client.stop()
    assert [message.data for message in both[0]] == [3]
    assert [message.data for message in await _rest(messages)] == [1, 2, 3]
    assert [type(event).__name__ for event in await _rest(everything)] == [
        "Connected",
        "GroupMessage",
        "Recovered",
        "GroupMessage",
        "GroupMessage",
        "Stopped",
    ]
    for stream in (messages, everything):
        stream.close()


@check(needs=("streams",))
async def streams_raise_when_the_client_cannot_go_on(harness: Harness) -> None:
    async with harness.client(auto_reconnect=False) as client, anyio.create_task_group() as tasks:
        errors: list[ConnectError] = []

        async def read(stream: Stream) -> None:
            seen: list[Any] = []
            with raises(ConnectError) as caught:
                async for message in stream:
                    seen.append(message.data)  # noqa: PERF401 - it raises in the end
            assert seen == [1, 2]
            errors.append(caught.error)
            stream.close()

        await client.join()
        for stream in (aiter(client), client.events(GroupMessage)):
            tasks.start_soon(read, stream)
        await anyio.sleep(0.01)
        harness.service.publish(GROUP, [1, 2])
        assert client.connection_id
        harness.service.end(client.connection_id)
        await soon(lambda: len(errors) == 2)


@check(needs=("streams",))
async def an_iteration_may_begin_before_the_start(harness: Harness) -> None:
    client = harness.client()
    seen: list[Any] = []

    async def read(stream: Stream) -> None:
        seen.extend([event.data for event in await _rest(stream)])
        stream.close()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read, aiter(client))
        await anyio.sleep(0.02)
        async with client:
            await client.join()
            await client.send(1)
    assert seen == [1]


@check(needs=("streams",))
async def two_readers_of_one_stream_are_told(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        stream = client.events(GroupMessage)
        await _one_is_told(harness, stream, stream)
        await _one_is_told(harness, aiter(client), aiter(client))  # which share what arrives for nobody else


async def _one_is_told(harness: Harness, *streams: Stream) -> None:
    """Read from both at once: one gets what is published, the other what to do instead."""
    outcome: list[object] = []

    async def read(stream: Stream) -> None:
        try:
            outcome.append((await anext(stream)).data)
        except LocalProtocolError as error:
            outcome.append(error)

    async with anyio.create_task_group() as tasks:
        for stream in streams:
            tasks.start_soon(read, stream)
        await soon(lambda: outcome)
        harness.service.publish(GROUP, [1])
    assert isinstance(outcome[0], LocalProtocolError)
    assert outcome[1:] == [1]
    for stream in streams:
        stream.close()


@check(needs=("streams",))
async def a_closed_stream_ends_and_what_waits_in_it_is_dropped(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        ended: list[list[Any]] = []

        async def read(stream: Stream) -> None:
            ended.append(await _rest(stream))

        async with anyio.create_task_group() as tasks:
            stream = client.events(GroupMessage)
            tasks.start_soon(read, stream)
            await anyio.sleep(0.01)
            stream.close()
        assert ended == [[]]
        stream = client.events(GroupMessage)
        for number in range(5):
            await client.send(number)
        assert await _take(stream, 1) == [0]
        stream.close()
        stream.close()
        assert await _rest(stream) == []


@check(needs=("streams", "pause"))
async def a_full_stream_that_another_thread_closes_holds_up_nothing(harness: Harness) -> None:
    async with harness.client(max_buffered_messages=4) as client:
        await client.join()
        stream = client.events(GroupMessage)
        for number in range(8):
            await client.send(number)
        await anyio.to_thread.run_sync(stream.close)
        later = client.events(GroupMessage)
        await client.send("later", ack=False)
        assert await _take(later, 1) == ["later"]
        later.close()


@check(needs=("streams", "restart", "pause"))
async def a_stream_that_was_full_at_the_stop_holds_up_no_later_start(harness: Harness) -> None:
    client = harness.client(max_buffered_messages=4)
    async with client:
        await client.join()
        stream = client.events(GroupMessage)
        for number in range(8):
            await client.send(number)
    await anyio.to_thread.run_sync(stream.close)
    async with client:
        await client.join()
        later = client.events(GroupMessage)
        await client.send("later", ack=False)
        assert await _take(later, 1) == ["later"]
        later.close()


@check(needs=("streams", "pause", "log"))
async def without_a_reader_requests_go_on_and_the_newest_messages_are_kept(harness: Harness) -> None:
    with logged() as warnings:
        async with harness.client(max_buffered_messages=_LIMIT) as client:
            await client.join()
            for number in range(100):
                await client.send(number)
            stream = aiter(client)
            first = (await anext(stream)).data
            assert 100 - _LIMIT <= first <= 101 - _LIMIT
            assert await _take(stream, 99 - first) == list(range(first + 1, 100))
            stream.close()
    assert len(warnings) == 1


# ---- Subscriptions


@check(needs=("streams",))
async def subscribe_joins_iterates_and_leaves(harness: Harness) -> None:
    async with harness.client() as client:
        async with client.subscribe("a") as a, client.subscribe("b") as b:
            assert client.groups == {"a", "b"}
            for number in range(5):
                await client.send(number, "a")
                await client.send(-number, "b")
            assert await _take(a, 5) == list(range(5))
            assert await _take(b, 5) == [0, -1, -2, -3, -4]
            async with client.subscribe("a") as again:
                await client.send("both", "a")
                assert await _take(again, 1) == await _take(a, 1) == ["both"]
            assert client.groups == {"a", "b"}
        await soon(lambda: client.groups == frozenset())
        await soon(lambda: not harness.service.members("a") | harness.service.members("b"))


@check(needs=("streams",))
async def subscribe_that_is_refused_raises(harness: Harness) -> None:
    async with harness.client(harness.service.url(roles=())) as client:
        with raises(SendError) as caught:
            async with client.subscribe():
                raise AssertionError("not joined")
        assert caught.error.name == "Forbidden"
        with raises(InvalidValue):
            async with client.subscribe(""):
                raise AssertionError("not joined")


@check(needs=("streams", "restart"))
async def subscribe_ends_when_the_client_stops_and_passes_on_what_is_raised(harness: Harness) -> None:
    async with harness.client() as client, client.subscribe() as messages:
        await client.send(1)
        await client.stop()
        assert [message.data for message in await _rest(messages)] == [1]
    async with client:
        with raises(ZeroDivisionError):
            async with client.subscribe():
                raise ZeroDivisionError
        await soon(lambda: client.groups == frozenset())


@check(needs=("streams", "cancel"))
async def a_cancelled_subscription_does_not_stay_in_the_group(harness: Harness) -> None:
    async with harness.client() as client:
        with anyio.move_on_after(0.1):
            async with client.subscribe() as messages:
                await _rest(messages)
        await soon(lambda: not harness.service.members(GROUP))
        await soon(lambda: client.groups == frozenset())


@check(needs=("streams", "cancel"))
async def a_subscription_cancelled_while_it_joins_does_not_stay_in_the_group(harness: Harness) -> None:
    async with harness.client() as client, anyio.create_task_group() as tasks:
        harness.service.stall("to_client")
        with anyio.CancelScope() as scope:

            async def cancel() -> None:
                await soon(lambda: harness.service.members(GROUP))
                scope.cancel()  # a call that blocks ends with the answer
                await anyio.sleep(0.1)
                harness.service.resume()

            tasks.start_soon(cancel)
            async with client.subscribe() as messages:
                await _rest(messages)
        await soon(lambda: not harness.service.members(GROUP))
        await soon(lambda: client.groups == frozenset())
