"""Streams that are read: each as it was written, without gaps and duplicates, or the reader is told."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel

from limpet import (
    Connected,
    GroupMessage,
    InvalidType,
    InvalidValue,
    LocalProtocolError,
    Recovered,
    State,
    StreamChunk,
    StreamError,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, prompt, raises, soon
from limpet.testing.contract.subject import GROUP, Stream, Streams, Subject
from limpet_core.service import StreamPlace, group_publication

_READ: Any = ("read streams", "write streams")
_LIMIT = 4


@dataclass
class _Read:
    """What a reader got of a stream."""

    stream_id: str
    from_start: bool
    data: list[Any] = field(default_factory=list[Any])
    over: bool = False
    error: StreamError | None = None


async def _read(stream: Stream, seen: list[_Read]) -> None:
    """Read a stream to its end."""
    read = _Read(stream.stream.stream_id, stream.stream.from_start)
    seen.append(read)
    try:
        async for chunk in stream:
            assert type(chunk) is StreamChunk
            fragment: StreamChunk = chunk
            read.data.append(fragment.data)
    except StreamError as error:
        read.error = error
    read.over = True


async def _read_all(streams: Streams, seen: list[_Read]) -> None:
    """Read all streams, each in a task of its own, until the client stops."""
    async with anyio.create_task_group() as tasks:
        async for stream in streams:
            tasks.start_soon(_read, stream, seen)
    streams.close()


async def _written(writer: Subject, *data: Any, group: str = GROUP) -> str:
    """Write a whole stream, and return its id."""
    async with writer.writing(group) as stream:
        for each in data:
            await stream.write(each)
    return stream.stream_id


def _say(harness: Harness, *places: StreamPlace, expires: float = math.inf) -> None:
    """Have the service publish fragments that no client writes, with their numbers as data."""
    messages = [
        group_publication(GROUP, None, "json", b'""' if place.end_of_stream else number, stream=place, expires=expires)
        for place in places
        for number in [b"%d" % place.stream_sequence_id]
    ]

    def say(service: Any, _: Any) -> None:
        for message in messages:
            service.core.send_to_group("chat", GROUP, message)

    harness.service.call(say)


# ---- What is read


@check("transport", "tls", needs=_READ)
async def a_stream_is_read_as_it_was_written(harness: Harness) -> None:
    sent: list[Any] = ["text", "", b"\x00\xff", {"a": [1, None]}, 0, "x" * 300_000]
    async with harness.client(harness.service.url("ann")) as client:
        await client.join()
        streams = client.streams(GROUP)
        for _ in range(2):
            written = await _written(client, *sent)
            stream = await anext(streams)
            own = stream.stream
            assert (own.group, own.stream_id, own.from_start) == (GROUP, written, True)
            chunks = [chunk async for chunk in stream]
            assert [chunk.data for chunk in chunks] == sent
            assert [chunk.sequence_id for chunk in chunks] == list(range(1, len(sent) + 1))
            assert [chunk.data_type for chunk in chunks[:4]] == ["text", "text", "binary", "json"]
            assert [chunk async for chunk in stream] == []
            stream.close()
        await _written(client)
        empty = await anext(streams)
        assert [chunk async for chunk in empty] == []
        empty.close()
        streams.close()


@check("transport", needs=_READ)
async def streams_at_once_over_cuts_are_read_without_gap_or_duplicate(harness: Harness) -> None:
    count = 100
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        life = Log(client, Recovered)
        seen: list[_Read] = []
        await client.join()
        tasks.start_soon(_read_all, client.streams(), seen)
        ids: list[str] = []

        async def write() -> None:
            async with writer.writing() as stream:
                ids.append(stream.stream_id)
                for number in range(count):
                    await stream.write(number)
                    await anyio.sleep(0.002)

        with harness.service.disturbed(seed=1):
            async with anyio.create_task_group() as writers:
                for _ in range(3):
                    writers.start_soon(write)
            with anyio.move_on_after(3.0):  # on a slow machine nothing gets through for as long as there are cuts
                await soon(lambda: life.events)
        await soon(lambda: len(seen) == 3 and all(read.over for read in seen), "the ends of three streams")
        await soon(lambda: life.events)
        assert sorted(read.stream_id for read in seen) == sorted(ids)
        for read in seen:
            assert (read.from_start, read.error, read.data) == (True, None, list(range(count)))
        await client.stop()


@check(needs=_READ)
async def a_stream_that_was_under_way_says_so_or_is_left_out(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer:
        stream = await writer.open_stream()
        await stream.write(1)
        await stream.flush()
        everything, whole = client.streams(), client.streams(from_start_only=True)
        await client.join()
        await stream.write(2)
        await stream.end()
        seen: list[_Read] = []
        await _read(await anext(everything), seen)
        later = await _written(writer, "later")
        await _read(await anext(everything), seen)
        await _read(await anext(whole), seen)
        assert [(read.stream_id, read.from_start, read.data, read.error) for read in seen] == [
            (stream.stream_id, False, [2], None),
            (later, True, ["later"], None),
            (later, True, ["later"], None),
        ]
        everything.close()
        whole.close()


@check(needs=(*_READ, "senders"))
async def a_stream_says_who_writes_it(harness: Harness) -> None:
    async with harness.client() as client, harness.client(harness.service.url("eve")) as writer:
        await client.join()
        streams = client.streams()
        await _written(writer, 1)
        stream = await anext(streams)
        assert stream.stream.from_user_id == "eve"
        stream.close()
        streams.close()


@check(needs=_READ)
async def streams_of_one_group_or_of_all_are_read_and_none_is_joined(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer:
        await client.join("a")
        await client.join("b")
        log = Log(client, GroupMessage)
        one, every = client.streams("b"), client.streams()
        client.streams("c").close()
        assert client.groups == {"a", "b"}
        for group in ("a", "c", "b"):
            await _written(writer, group, group=group)
        seen: list[_Read] = []
        await _read(await anext(one), seen)
        await _read(await anext(every), seen)
        await _read(await anext(every), seen)
        assert [read.data for read in seen] == [["b"], ["a"], ["b"]]
        await soon(lambda: log.data == ["a", "", "b", ""], "messages, which are seen by all who look at them")
        one.close()
        every.close()


@check(needs=("read streams", "write streams", "streams"))
async def a_stream_that_is_read_does_not_wait_for_those_who_read_messages(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        streams = client.streams()
        await _written(client, 1, 2)
        await client.send("a message")
        message = await anext(aiter(client))
        assert message.data == "a message"
        seen: list[_Read] = []
        await _read(await anext(streams), seen)
        assert seen[0].data == [1, 2]
        streams.close()


# ---- What fails a stream


@check(needs=_READ)
async def whatever_ends_a_stream_but_its_publishers_end_is_told(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        await client.join()
        seen: list[_Read] = []
        tasks.start_soon(_read_all, client.streams(), seen)
        aborted = await writer.open_stream()
        await aborted.write(1)
        await aborted.abort("no more", "E42")
        idle = await writer.open_stream()
        await idle.write(1)
        await idle.write(2)
        await idle.flush()
        harness.service.close_stream(idle.stream_id, "IdleTimeout")
        lost = await writer.open_stream()
        await lost.write(1)
        await lost.flush()
        assert writer.connection_id is not None
        harness.service.drop(writer.connection_id, for_good=True)
        await soon(lambda: len(seen) == 3 and all(read.over for read in seen), "three ends")
        errors = {read.stream_id: read.error for read in seen}
        told = [errors[stream.stream_id] for stream in (aborted, idle, lost)]
        assert [error and (error.name, error.code, error.acknowledged) for error in told] == [
            ("UserError", "E42", 1),
            ("IdleTimeout", None, 2),
            ("Cancelled", None, 1),
        ]
        await client.stop()


@check(needs=_READ)
async def a_gap_fails_its_stream_and_no_other(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        await client.join()
        await client.join("other")
        seen: list[_Read] = []
        tasks.start_soon(_read_all, client.streams(), seen)
        async with writer.writing() as stream, writer.writing("other") as other:
            await stream.write(1)
            await other.write(1)
            await stream.flush()
            await client.leave()  # so one is missed
            await stream.write("missed")
            await stream.flush()
            await client.join()
            await stream.write(3)
            await stream.write(4)
            await other.write(2)
        await soon(lambda: len(seen) == 2 and all(read.over for read in seen), "two ends")
        by_id = {read.stream_id: read for read in seen}
        failed, whole = by_id[stream.stream_id], by_id[other.stream_id]
        assert (failed.data, failed.error and (failed.error.name, failed.error.acknowledged)) == ([1], ("Gap", 1))
        assert (whole.data, whole.error) == ([1, 2], None)
        await _written(writer, "next")
        await soon(lambda: len(seen) == 3 and seen[2].over)
        assert seen[2].data == ["next"]
        await client.stop()


@check(needs=_READ)
async def a_stream_whose_end_was_missed_is_not_merged_with_the_next_of_its_id(harness: Harness) -> None:
    """The service drops the end, as it drops what is too old."""
    async with harness.client() as client, anyio.create_task_group() as tasks:
        await client.join()
        seen: list[_Read] = []
        tasks.start_soon(_read_all, client.streams(), seen)
        _say(harness, StreamPlace("s", 1), StreamPlace("s", 2))
        await soon(lambda: seen and len(seen[0].data) == 2)
        harness.service.refuse()
        harness.service.cut()
        await soon(lambda: client.state is State.RECOVERING)
        _say(harness, StreamPlace("s", 3, True), expires=0.0)
        _say(harness, *(StreamPlace("s", number) for number in (1, 2, 3)), StreamPlace("s", 4, True))
        harness.service.accept()
        await soon(lambda: len(seen) == 2 and all(read.over for read in seen), "two ends")
        cut, whole = seen
        assert (cut.data, cut.error and cut.error.name) == ([1, 2], "Gap")
        assert (whole.from_start, whole.data, whole.error) == (True, [1, 2, 3], None)
        await client.stop()


@check(needs=_READ)
async def a_lost_connection_fails_what_is_read_and_the_rest_comes_as_another_stream(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        life = Log(client, Connected)
        await client.join()
        seen: list[_Read] = []
        tasks.start_soon(_read_all, client.streams(), seen)
        stream = await writer.open_stream()
        await stream.write(1)
        await soon(lambda: seen and seen[0].data)
        assert client.connection_id is not None
        harness.service.drop(client.connection_id, for_good=True)
        await soon(lambda: seen[0].over)
        error = seen[0].error
        assert error is not None
        assert (error.name, error.acknowledged) == ("Disconnected", 1)
        await life.wait(Connected)
        await soon(lambda: len(harness.service.members(GROUP)) == 1)
        await stream.write(2)
        await stream.end()
        await soon(lambda: len(seen) == 2 and seen[1].over)
        assert (seen[1].stream_id, seen[1].from_start, seen[1].data) == (stream.stream_id, False, [2])
        await client.stop()


@check(needs=("read streams", "write streams", "restart"))
async def a_stop_fails_what_is_read_and_ends_the_iteration_until_the_next_start(harness: Harness) -> None:
    client = harness.client()
    streams = client.streams()
    seen: list[_Read] = []
    async with harness.undisturbed() as writer:
        stream = await writer.open_stream()
        async with client, anyio.create_task_group() as tasks:
            await client.join()
            tasks.start_soon(_read_all, streams, seen)
            await stream.write(1)
            await soon(lambda: seen and seen[0].data)
            with prompt():
                await client.stop()
        error = seen[0].error
        assert error is not None
        assert (error.name, error.acknowledged) == ("Disconnected", 1)
        await stream.end()
        again = client.streams()
        async with client:
            await client.join()
            written = await _written(writer, "again")
            await _read(await anext(again), seen)
            assert (seen[1].stream_id, seen[1].data) == (written, ["again"])
        assert [each async for each in again] == []
        again.close()


# ---- Slow readers, and those who have enough


@check("transport", needs=("read streams", "write streams", "pause"))
async def a_stream_that_nobody_reads_holds_up_its_client_until_it_is_closed(harness: Harness) -> None:
    count, size = 150, 40_000
    async with harness.client(max_buffered_messages=_LIMIT) as client, harness.undisturbed() as writer:
        log = Log(client, GroupMessage)
        await client.join()
        streams = client.streams()
        await _written(writer, *("x" * size for _ in range(count)))
        stream = await anext(streams)
        arrived = -1
        while arrived != len(log.events):
            arrived = len(log.events)
            await anyio.sleep(0.1)
        assert arrived <= count - 20, "it reads on, though nobody takes the fragments"
        assert len((await anext(stream)).data) == size
        stream.close()
        assert [chunk async for chunk in stream] == []
        await soon(lambda: len(log.events) == count + 1, "the rest")
        streams.close()


@check(needs=("read streams", "write streams", "pause"))
async def streams_that_nobody_takes_hold_up_nothing_after_the_iteration_is_closed(harness: Harness) -> None:
    async with harness.client(max_buffered_messages=_LIMIT) as client, harness.undisturbed() as writer:
        log = Log(client, GroupMessage)
        await client.join()
        streams = client.streams()
        for number in range(3 * _LIMIT):
            await _written(writer, number)
        await anyio.to_thread.run_sync(streams.close)
        streams.close()
        assert [each async for each in streams] == []
        await _written(writer, "later")
        await soon(lambda: "later" in log.data)


@check(needs=_READ)
async def a_stream_that_was_taken_goes_on_after_the_iteration(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        log = Log(client, GroupMessage)
        await client.join()
        seen: list[_Read] = []
        streams = client.streams()
        async with writer.writing() as first, writer.writing() as second:
            await first.write(1)
            tasks.start_soon(_read, await anext(streams), seen)
            await second.write("dropped")
            await soon(lambda: len(log.events) == 2)
            streams.close()
            third = await _written(writer, "not wanted")
            await first.write(2)
        await soon(lambda: seen and seen[0].over)
        assert (seen[0].stream_id, seen[0].data, seen[0].error) == (first.stream_id, [1, 2], None)
        assert third not in [read.stream_id for read in seen]


@check(needs=_READ)
async def a_closed_stream_is_let_go_and_others_go_on(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        await client.join()
        streams = client.streams()
        seen: list[_Read] = []
        async with writer.writing() as one, writer.writing() as two:
            await one.write(1)
            closed = await anext(streams)
            await two.write(1)
            tasks.start_soon(_read, await anext(streams), seen)
            taken: list[object] = []
            ended: list[bool] = []

            async def wait() -> None:
                async for chunk in closed:
                    taken.append(chunk.data)  # noqa: PERF401 - it is looked at meanwhile
                ended.append(True)

            tasks.start_soon(wait)
            await soon(lambda: taken)
            await anyio.sleep(0.02)
            closed.close()
            closed.close()
            await soon(lambda: ended)
            assert taken == [1]
            await one.write(2)
            await two.write(2)
        await soon(lambda: seen and seen[0].over)
        assert (seen[0].data, seen[0].error) == ([1, 2], None)
        later = await _written(writer, "later")
        assert (await anext(streams)).stream.stream_id == later
        streams.close()


@check(needs=("read streams", "write streams", "cancel"))
async def a_cancelled_reader_loses_no_fragment(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer:
        await client.join()
        streams = client.streams()
        seen: list[int] = []

        async def read(stream: Stream) -> None:
            async for chunk in stream:
                seen.append(chunk.data)  # noqa: PERF401 - it is cancelled in the middle

        async with writer.writing() as stream:
            await stream.write(0)
            reading = await anext(streams)
            for number in range(1, 20):
                with anyio.CancelScope() as scope:
                    async with anyio.create_task_group() as reader:
                        reader.start_soon(read, reading)
                        await anyio.lowlevel.checkpoint()
                        await stream.write(number)
                        for _ in range(number % 5):
                            await anyio.sleep(0.0002)
                        scope.cancel()
        await read(reading)
        assert seen == list(range(20))
        streams.close()


# ---- Misuse


@check(needs=_READ)
async def misuse_of_streams_to_read_is_told(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        wrong: Any
        for wrong in ("", " ", "x" * 1025):
            with raises(InvalidValue):
                client.streams(wrong)
        for wrong in (1, b"g"):
            with raises(InvalidType):
                client.streams(wrong)
        with raises(InvalidType):
            client.streams(from_start_only=1)
        streams = client.streams()
        writing = await client.open_stream()
        await writing.write(1)
        stream = await anext(streams)
        assert (await anext(stream)).data == 1
        outcome: list[object] = []

        async def read() -> None:
            try:
                outcome.append((await anext(stream)).data)
            except LocalProtocolError as error:
                outcome.append(error)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read)
            tasks.start_soon(read)
            await soon(lambda: outcome)
            await writing.write(2)
        assert isinstance(outcome[0], LocalProtocolError)
        assert outcome[1:] == [2]
        await writing.end()
        streams.close()
