"""Callbacks, iteration, subscriptions: everything that happened, once, in order."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.lowlevel

from holdfast import (
    Connected,
    ConnectError,
    GroupMessage,
    InvalidType,
    InvalidValue,
    LocalProtocolError,
    Recovered,
    SendError,
    State,
    Stopped,
)
from holdfast.testing.world import GROUP, Log, Steps, Stream, World, prompt, raises, soon

_LIMIT = 20


async def _take(stream: Stream, count: int) -> list[Any]:
    """The data of so many messages."""
    return [(await anext(stream)).data for _ in range(count)]


async def _rest(stream: Stream) -> list[Any]:
    """What comes up to the end."""
    return [event async for event in stream]


# --- Callbacks


async def callbacks_run_in_order_one_at_a_time(world: World) -> None:
    calls: list[tuple[str, int]] = []
    running: list[int] = []

    def plain(message: GroupMessage) -> None:
        assert not running
        calls.append(("plain", message.data))

    def waiting(message: GroupMessage) -> Steps:
        assert not running
        running.append(message.data)
        yield "sleep", 0.001 * (message.data % 3)
        calls.append(("waiting", message.data))
        running.clear()

    async with world.client() as client:
        client.on_steps(GroupMessage, waiting)
        client.on(GroupMessage, plain)
        await client.join()
        world.service.publish(GROUP, range(20))
        for number in range(20, 30):
            await client.send(number)
        await soon(lambda: len(calls) == 60)
        assert calls == [(name, number) for number in range(30) for name in ("waiting", "plain")]


async def a_callback_that_raises_is_logged_and_holds_up_nothing(world: World) -> None:
    seen: list[int] = []

    def bad(message: GroupMessage) -> None:
        raise ZeroDivisionError("bad")

    def worse(message: GroupMessage) -> Steps:
        yield "sleep", 0
        raise ZeroDivisionError("worse")

    with _logged() as errors:
        async with world.client() as client:
            client.on(GroupMessage, bad)
            client.on_steps(GroupMessage, worse)
            client.on(GroupMessage, bad)
            client.on(GroupMessage, lambda message: seen.append(message.data))
            await client.join()
            world.service.publish(GROUP, range(5))
            await soon(lambda: 4 in seen)
    assert seen == list(range(5))
    assert errors == ["bad", "worse", "bad"] * 5


async def a_callback_may_call_the_client(world: World) -> None:
    log: list[Any] = []

    def answer(message: GroupMessage) -> Steps:
        if message.group == GROUP:
            ack = yield "send_to_group", "answers", message.data
            assert ack.ack_id
        else:
            log.append(message.data)

    async with world.client() as client:
        client.on_steps(GroupMessage, answer)
        await client.join()
        await client.join("answers")
        world.service.publish(GROUP, range(20))
        await soon(lambda: len(log) == 20)
        assert log == list(range(20))


async def a_callback_may_register_others_and_itself_no_more(world: World) -> None:
    log: list[tuple[str, int]] = []

    def later(message: GroupMessage) -> None:
        log.append(("later", message.data))

    def once(message: GroupMessage) -> None:
        log.append(("once", message.data))
        client.client.off(GroupMessage, once)
        client.client.on(GroupMessage, later)

    async with world.client() as client:
        client.on(GroupMessage, once)
        await client.join()
        await client.send(1)
        await soon(lambda: log)
        await client.send(2)
        await client.send(3)
        await soon(lambda: ("later", 3) in log)
        assert log == [("once", 1), ("later", 2), ("later", 3)]
        client.client.off(GroupMessage, later)
        with raises(LocalProtocolError):
            client.client.off(GroupMessage, later)
        await client.send(4)
        assert await _take(aiter(client), 1) == [4]  # nobody else takes it now
        assert len(log) == 3


async def a_callback_may_stop_the_client(world: World) -> None:
    done: list[bool] = []

    def stop(_: GroupMessage) -> Steps:
        yield ("stop",)
        done.append(True)

    client = world.client()
    log = Log(client, Stopped)
    client.on_steps(GroupMessage, stop)
    async with client:
        await client.join()
        await client.send("stop", ack=False)
        with prompt():
            await soon(lambda: done)
        assert client.state is State.STOPPED
    await log.wait(Stopped)
    assert log.events == [Stopped(None)]


async def wrong_callbacks_and_types_raise(world: World) -> None:
    client = world.client().client
    for wrong in (int, "GroupMessage", None):
        with raises(InvalidType):
            client.on(wrong, print)
        with raises(InvalidType):
            client.on(wrong)
        with raises(InvalidType):
            client.events(wrong)
    with raises(InvalidType):
        client.on(GroupMessage, "no function")
    with raises(InvalidType):
        client.events()


# --- Iteration


async def iteration_gives_what_came_before_it_and_a_break_loses_nothing(world: World) -> None:
    async with world.client() as client:
        await client.join()
        world.service.publish(GROUP, range(30))
        await client.send(30)
        seen: list[int] = []
        while len(seen) < 31:
            stream = aiter(client)
            seen += await _take(stream, min(7, 31 - len(seen)))
            stream.close()
        assert seen == list(range(31))


async def a_cancelled_iteration_loses_nothing(world: World) -> None:
    async with world.client() as client, anyio.create_task_group() as tasks:
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
                    world.service.publish(GROUP, [number])
                    for _ in range(number % 7):
                        await anyio.sleep(0.0002)
                    scope.cancel()
        tasks.start_soon(read)
        await soon(lambda: len(seen) == 25)
        assert seen == list(range(25))
        await client.stop()


async def streams_of_events_give_what_was_asked_for_and_end_at_the_stop(world: World) -> None:
    client = world.client()
    everything = client.events(Connected, GroupMessage, Recovered, Stopped)
    messages = client.events(GroupMessage)
    async with client:
        await client.join()
        await client.send(1)
        world.service.cut()
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


async def streams_raise_when_the_client_can_not_go_on(world: World) -> None:
    async with world.client(auto_reconnect=False) as client, anyio.create_task_group() as tasks:
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
        world.service.publish(GROUP, [1, 2])
        assert client.connection_id
        world.service.end(client.connection_id)
        await soon(lambda: len(errors) == 2)


async def two_readers_of_one_stream_are_told(world: World) -> None:
    async with world.client() as client:
        await client.join()
        outcome: list[object] = []

        async def read(stream: Stream) -> None:
            try:
                outcome.append((await anext(stream)).data)
            except LocalProtocolError as error:
                outcome.append(error)

        stream = client.events(GroupMessage)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, stream)
            tasks.start_soon(read, stream)
            await soon(lambda: outcome)
            world.service.publish(GROUP, [1])
        assert isinstance(outcome[0], LocalProtocolError)
        assert outcome[1:] == [1]
        stream.close()


async def a_closed_stream_ends_and_what_waits_in_it_is_dropped(world: World) -> None:
    async with world.client() as client:
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


async def without_a_reader_requests_go_on_and_the_newest_messages_are_kept(world: World) -> None:
    with _logged():
        async with world.client(max_buffered_messages=_LIMIT) as client:
            await client.join()
            for number in range(100):
                await client.send(number)
            stream = aiter(client)
            first = (await anext(stream)).data
            assert 100 - _LIMIT <= first <= 101 - _LIMIT
            assert await _take(stream, 99 - first) == list(range(first + 1, 100))
            stream.close()


# --- Subscriptions


async def subscribe_joins_iterates_and_leaves(world: World) -> None:
    async with world.client() as client:
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
        await soon(lambda: not world.service.members("a") | world.service.members("b"))


async def subscribe_that_is_refused_raises(world: World) -> None:
    async with world.client(world.service.url(roles=())) as client:
        with raises(SendError) as caught:
            async with client.subscribe():
                raise AssertionError("not joined")
        assert caught.error.name == "Forbidden"
        with raises(InvalidValue):
            async with client.subscribe(""):
                raise AssertionError("not joined")


async def subscribe_ends_when_the_client_stops_and_passes_on_what_is_raised(world: World) -> None:
    async with world.client() as client, client.subscribe() as messages:
        await client.send(1)
        await client.stop()
        assert [message.data for message in await _rest(messages)] == [1]
    async with client:
        with raises(ZeroDivisionError):
            async with client.subscribe():
                raise ZeroDivisionError
        await soon(lambda: client.groups == frozenset())


async def a_cancelled_subscription_does_not_stay_in_the_group(world: World) -> None:
    async with world.client() as client:
        with anyio.move_on_after(0.1):
            async with client.subscribe() as messages:
                await _rest(messages)
        await soon(lambda: not world.service.members(GROUP))
        await soon(lambda: client.groups == frozenset())


class _Errors(logging.Handler):
    """Remembers the texts of the exceptions that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] is not None:
            self.texts.append(str(record.exc_info[1]))


@contextmanager
def _logged() -> Generator[list[str]]:
    """The texts of exceptions that are logged meanwhile, whichever the logger."""
    handler = _Errors()
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield handler.texts
    finally:
        root.removeHandler(handler)


CHECKS = (
    callbacks_run_in_order_one_at_a_time,
    a_callback_that_raises_is_logged_and_holds_up_nothing,
    a_callback_may_call_the_client,
    a_callback_may_register_others_and_itself_no_more,
    a_callback_may_stop_the_client,
    wrong_callbacks_and_types_raise,
    iteration_gives_what_came_before_it_and_a_break_loses_nothing,
    a_cancelled_iteration_loses_nothing,
    streams_of_events_give_what_was_asked_for_and_end_at_the_stop,
    streams_raise_when_the_client_can_not_go_on,
    two_readers_of_one_stream_are_told,
    a_closed_stream_ends_and_what_waits_in_it_is_dropped,
    without_a_reader_requests_go_on_and_the_newest_messages_are_kept,
    subscribe_joins_iterates_and_leaves,
    subscribe_that_is_refused_raises,
    subscribe_ends_when_the_client_stops_and_passes_on_what_is_raised,
    a_cancelled_subscription_does_not_stay_in_the_group,
)
