"""Streams: each fragment reaches the group once and in order, over any recovery, or the writer is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from limpet import (
    Backoff,
    ClientStopped,
    GroupMessage,
    InvalidType,
    InvalidValue,
    LocalProtocolError,
    Recovered,
    State,
    StreamError,
    StreamFault,
    TooManyRequests,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, prompt, raises, soon
from limpet.testing.contract.subject import GROUP, Subject

_WRITE: Any = ("write streams",)


class _Reader:
    """A member of the group, which is not disturbed."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.log = Log(subject, GroupMessage)

    def data(self, stream_id: str) -> list[Any]:
        return [message.data for message in self.of(stream_id) if not message.stream.end]

    def of(self, stream_id: str) -> list[Any]:
        """The messages of one stream, whose numbers are as they should be."""
        messages = [message for message in self.log.events if message.stream and message.stream.stream_id == stream_id]
        assert [message.stream.sequence_id for message in messages] == list(range(1, len(messages) + 1))
        return messages

    async def end(self, stream_id: str) -> StreamFault | None:
        """Wait for the end of a stream, and return its error."""
        await soon(lambda: any(message.stream.end for message in self.of(stream_id)), "the end of the stream")
        messages = self.of(stream_id)
        assert [message.stream.end for message in messages] == [False] * (len(messages) - 1) + [True]
        error: StreamFault | None = messages[-1].stream.error
        return error


@check("transport", "tls", needs=_WRITE)
async def a_stream_arrives_from_its_first_fragment_to_its_end(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        reader = _Reader(other)
        await other.join()
        sent: list[Any] = ["text", "", b"\x00\xff", {"a": [1, None]}, 0, "x" * 300_000]
        async with client.writing() as stream:
            assert not stream.closed
            for data in sent:
                await stream.write(data)
            await stream.write("text", data_type="json")
            await stream.flush()
            assert stream.acknowledged == len(sent) + 1
        assert stream.closed
        assert await reader.end(stream.stream_id) is None
        assert reader.data(stream.stream_id) == [*sent, "text"]
        assert [message.data_type for message in reader.log.events[:4]] == ["text", "text", "binary", "json"]


@check(needs=_WRITE)
async def a_stream_can_be_opened_without_a_block_and_has_options(harness: Harness) -> None:
    async with harness.client() as client:
        reader = _Reader(client)
        await client.join()
        stream = await client.open_stream(stream_id="mine", no_echo=True, idle_timeout=60)
        assert (stream.stream_id, stream.acknowledged, stream.closed) == ("mine", 0, False)
        await stream.write("not for me")
        await stream.end()
        await stream.end()
        assert (stream.acknowledged, stream.closed) == (1, True)
        again = await client.open_stream(stream_id="mine")
        await again.write("for me")
        await again.end()
        await reader.end("mine")
        assert reader.data("mine") == ["for me"]
        empty = await client.open_stream()
        await empty.flush()
        await empty.end()
        assert await reader.end(empty.stream_id) is None


@check(needs=_WRITE)
async def no_more_streams_may_be_open_than_the_option_says(harness: Harness) -> None:
    async with harness.client(max_streams=2) as client:
        first = await client.open_stream()
        async with client.writing():
            with raises(TooManyRequests):
                await client.open_stream()
            await first.end()
            await (await client.open_stream()).end()


@check("transport", needs=_WRITE)
async def streams_over_cuts_lose_nothing_and_repeat_nothing(harness: Harness) -> None:
    """Several streams at once, on a network that breaks again and again."""
    count = 150
    async with harness.client() as client, harness.undisturbed() as other:
        reader = _Reader(other)
        life = Log(client, Recovered)
        await other.join()
        ids: list[str] = []

        async def write() -> None:
            async with client.writing() as stream:
                ids.append(stream.stream_id)
                for number in range(count):
                    await stream.write(number)
                    await anyio.sleep(0.002)

        with harness.service.disturbed(seed=1):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(write)
        for stream_id in ids:
            assert await reader.end(stream_id) is None
            assert reader.data(stream_id) == list(range(count))
        assert len(ids) == 3
        assert life.events


@check(needs=_WRITE)
async def an_acknowledgement_that_is_lost_doubles_nothing(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        reader = _Reader(other)
        life = Log(client, Recovered)
        await other.join()
        async with client.writing() as stream:
            for number in range(10):
                harness.service.lose_stream_ack()
                await stream.write(number)
                await stream.flush()
        assert await reader.end(stream.stream_id) is None
        assert reader.data(stream.stream_id) == list(range(10))
        assert len(life.events) >= 10


@check(needs=_WRITE)
async def a_refused_fragment_is_sent_again_and_the_end_waits_for_it(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        reader = _Reader(other)
        await other.join()
        async with client.writing() as stream:
            harness.service.nack_stream(times=2)
            for number in range(20):
                await stream.write(number)
            await stream.flush()
            harness.service.nack_stream()
            await stream.write(20)
        assert await reader.end(stream.stream_id) is None
        assert reader.data(stream.stream_id) == list(range(21))


@check(needs=_WRITE)
async def a_service_that_always_refuses_is_given_up(harness: Harness) -> None:
    async with harness.client(retry=Backoff(initial=0.01, jitter=0.0, limit=2)) as client:
        with prompt():
            with raises(StreamError) as caught:
                async with client.writing() as stream:
                    await stream.write("taken")
                    await stream.flush()
                    harness.service.nack_stream(times=1000)
                    await stream.write("refused")
            assert (caught.error.name, caught.error.acknowledged) == ("TransientError", 1)
        assert client.state is State.CONNECTED


@check(needs=_WRITE)
async def who_may_not_publish_may_not_open_a_stream(harness: Harness) -> None:
    async with harness.client(harness.service.url(roles=())) as client:
        for _ in range(2):
            with raises(StreamError) as caught:
                await client.open_stream()
            assert (caught.error.name, caught.error.acknowledged) == ("Forbidden", 0)
            with raises(StreamError):
                async with client.writing():
                    raise AssertionError("the block must not begin")
        assert client.state is State.CONNECTED


@check(needs=_WRITE)
async def what_closes_a_stream_reaches_its_writer(harness: Harness) -> None:
    async with harness.client() as client:
        stream = await client.open_stream()
        await stream.write("certain")
        await stream.flush()
        harness.service.close_stream(stream.stream_id, "IdleTimeout")
        await soon(lambda: stream.closed)
        calls: tuple[Callable[[], Awaitable[None]], ...] = (lambda: stream.write("lost"), stream.flush, stream.end)
        for call in calls:
            with raises(StreamError) as caught:
                await call()
            assert (caught.error.name, caught.error.acknowledged) == ("IdleTimeout", 1)
        await stream.abort("too late")


@check(needs=_WRITE)
async def a_lost_connection_fails_its_streams(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        reader = _Reader(other)
        await other.join()
        stream = await client.open_stream()
        await stream.write("certain")
        await stream.flush()
        assert client.connection_id is not None
        harness.service.drop(client.connection_id, for_good=True)
        await soon(lambda: stream.closed)
        with raises(StreamError) as caught:
            await stream.write("lost")
        assert (caught.error.name, caught.error.acknowledged) == ("ConnectionLost", 1)
        error = await reader.end(stream.stream_id)
        assert error is not None
        assert error.name == "Cancelled"
        await (await client.open_stream()).end()


@check(needs=_WRITE)
async def a_stop_fails_the_streams_and_those_who_wait_for_them(harness: Harness) -> None:
    client = harness.client(max_stream_unacked=1)
    with raises(ClientStopped):
        await client.open_stream()
    errors: list[StreamError] = []
    async with client:
        stream = await client.open_stream()
        harness.service.stall()
        await stream.write("on its way")

        async def wait(call: Callable[[], Awaitable[Any]]) -> None:
            try:
                await call()
            except StreamError as error:
                errors.append(error)

        async with anyio.create_task_group() as tasks:
            calls: tuple[Callable[[], Awaitable[Any]], ...]
            calls = (lambda: stream.write("waits"), stream.flush, stream.end, client.open_stream)
            for call in calls:
                tasks.start_soon(wait, call)
                await anyio.sleep(0.02)
            await client.stop()
    harness.service.resume()
    assert [error.name for error in errors] == ["Stopped"] * 4
    assert stream.closed
    with raises(StreamError):
        await stream.write("late")


@check("transport", needs=_WRITE)
async def a_writer_waits_for_a_service_that_is_behind(harness: Harness) -> None:
    async with harness.client(max_stream_unacked=8) as client, harness.undisturbed() as other:
        reader = _Reader(other)
        await other.join()
        written: list[int] = []

        async def write() -> None:
            async with client.writing() as stream:
                harness.service.stall()
                for number in range(100):
                    await stream.write(number)
                    written.append(number)
            assert await reader.end(stream.stream_id) is None
            assert reader.data(stream.stream_id) == list(range(100))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await soon(lambda: len(written) == 8)
            await anyio.sleep(0.1)
            assert len(written) == 8
            harness.service.resume()


@check(needs=("write streams", "cancel"))
async def a_write_that_is_given_up_while_it_waits_writes_nothing(harness: Harness) -> None:
    async with harness.client(max_stream_unacked=1) as client, harness.undisturbed() as other:
        reader = _Reader(other)
        await other.join()
        stream = await client.open_stream()
        harness.service.stall()
        await stream.write(1)
        assert await client.write_gives_up(stream, 0.1, "given up")
        harness.service.resume()
        await stream.write(2)
        await stream.end()
        assert await reader.end(stream.stream_id) is None
        assert reader.data(stream.stream_id) == [1, 2]


# ---- The end


@check(needs=_WRITE)
async def an_abort_tells_the_readers_why(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        reader = _Reader(other)
        await other.join()
        async with client.writing() as stream:
            await stream.write(1)
            await stream.abort("no more", "E42")
            assert stream.closed
        assert await reader.end(stream.stream_id) == StreamFault("UserError", "no more", "E42")
        assert reader.data(stream.stream_id) == [1]
        await stream.abort("again")
        with raises(StreamError) as caught:
            await stream.write(2)
        assert caught.error.name == "Aborted"
        with raises(StreamError) as caught:
            ended = await client.open_stream()
            await ended.end()
            await ended.write(1)
        assert caught.error.name == "Ended"


@check(needs=_WRITE)
async def an_exception_aborts_with_its_text_and_goes_on(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        reader = _Reader(other)
        await other.join()
        with raises(ZeroDivisionError):
            async with client.writing() as stream:
                await stream.write(1)
                raise ZeroDivisionError("by nothing")
        assert await reader.end(stream.stream_id) == StreamFault("UserError", "by nothing")
        with raises(ZeroDivisionError):
            async with client.writing() as stream:
                harness.service.close_stream(stream.stream_id)
                raise ZeroDivisionError


@check(needs=_WRITE)
async def an_exception_does_not_wait_for_the_network(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        reader = _Reader(other)
        await other.join()
        with prompt(), raises(ZeroDivisionError):
            async with client.writing() as stream:
                harness.service.stall()
                await stream.write(1)
                raise ZeroDivisionError("by nothing")
        assert not stream.closed
        harness.service.resume()
        assert await reader.end(stream.stream_id) == StreamFault("UserError", "by nothing")
        assert reader.data(stream.stream_id) == [1]


@check(needs=_WRITE)
async def a_cancelled_writer_aborts_and_hangs_nowhere(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        reader = _Reader(other)
        await other.join()
        names: list[str] = []

        async def write() -> None:
            async with client.writing() as stream:
                names.append(stream.stream_id)
                await stream.write(1)
                await stream.flush()
                await anyio.sleep_forever()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write)
            await soon(lambda: reader.log.events)
            with prompt():
                tasks.cancel_scope.cancel()
        error = await reader.end(names[0])
        assert error is not None
        assert error.name == "UserError"
        await client.send("the client goes on")


# ---- Misuse


@check(needs=_WRITE)
async def misuse_of_a_stream_raises_at_once_and_harms_nothing(harness: Harness) -> None:
    async with harness.client(max_request_size=2000) as client, harness.undisturbed() as other:
        reader = _Reader(other)
        await other.join()
        wrong: dict[str, Any]
        for wrong in ({"group": ""}, {"stream_id": ""}, {"idle_timeout": 0}, {"idle_timeout": -1}):
            with raises(InvalidValue):
                await client.open_stream(**({"group": GROUP} | wrong))
        for wrong in ({"group": 1}, {"stream_id": 1}, {"idle_timeout": "1"}, {"idle_timeout": None}):
            with raises(InvalidType):
                await client.open_stream(**({"group": GROUP} | wrong))
        stream = await client.open_stream(stream_id="once")
        with raises(LocalProtocolError):
            await client.open_stream(stream_id="once")
        for data in (None, object(), "x" * 2000):
            with raises(LocalProtocolError):
                await stream.write(data)
        with raises(InvalidType):
            await stream.abort(1)  # type: ignore[arg-type]
        await stream.write("right")
        await stream.end()
        assert await reader.end("once") is None
        assert reader.data("once") == ["right"]
