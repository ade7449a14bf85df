"""Streams that are read: each as it was written, without gaps and duplicates, or the reader is told."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel

from limpet import (
    GroupMessage,
    InvalidType,
    InvalidValue,
    LocalProtocolError,
    Recovered,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.checks._reading import LIMIT, READ, Read, read, read_all, write_stream
from limpet.testing.contract.harness import Harness, Log, raises, soon
from limpet.testing.contract.subject import GROUP, Stream

# ---- What is read


@check("transport", "tls", needs=READ)
async def a_stream_is_read_as_it_was_written(harness: Harness) -> None:
    sent: list[Any] = ["text", "", b"\x00\xff", {"a": [1, None]}, 0, "x" * 300_000]
    async with harness.client(harness.service.url("ann")) as client:
        await client.join()
        streams = client.streams(GROUP)
        for _ in range(2):
            written = await write_stream(client, *sent)
            stream = await anext(streams)
            own = stream.stream
            assert (own.group, own.stream_id, own.from_start) == (GROUP, written, True)
            chunks = [chunk async for chunk in stream]
            assert [chunk.data for chunk in chunks] == sent
            assert [chunk.sequence_id for chunk in chunks] == list(range(1, len(sent) + 1))
            assert [chunk.data_type for chunk in chunks[:4]] == ["text", "text", "binary", "json"]
            assert [chunk async for chunk in stream] == []
            stream.close()
        await write_stream(client)
        empty = await anext(streams)
        assert [chunk async for chunk in empty] == []
        empty.close()
        streams.close()


@check("transport", needs=READ)
async def streams_at_once_over_cuts_are_read_without_gap_or_duplicate(harness: Harness) -> None:
    count = 100
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        life = Log(client, Recovered)
        seen: list[Read] = []
        await client.join()
        tasks.start_soon(read_all, client.streams(), seen)
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


@check(needs=READ)
async def a_stream_that_was_under_way_says_so_or_is_left_out(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer:
        stream = await writer.open_stream()
        await stream.write(1)
        await stream.flush()
        everything, whole = client.streams(), client.streams(from_start_only=True)
        await client.join()
        await stream.write(2)
        await stream.end()
        seen: list[Read] = []
        await read(await anext(everything), seen)
        later = await write_stream(writer, "later")
        await read(await anext(everything), seen)
        await read(await anext(whole), seen)
        assert [(read.stream_id, read.from_start, read.data, read.error) for read in seen] == [
            (stream.stream_id, False, [2], None),
            (later, True, ["later"], None),
            (later, True, ["later"], None),
        ]
        everything.close()
        whole.close()


@check(needs=(*READ, "senders"))
async def a_stream_says_who_writes_it(harness: Harness) -> None:
    async with harness.client() as client, harness.client(harness.service.url("eve")) as writer:
        await client.join()
        streams = client.streams()
        await write_stream(writer, 1)
        stream = await anext(streams)
        assert stream.stream.from_user_id == "eve"
        stream.close()
        streams.close()


@check(needs=READ)
async def streams_of_one_group_or_of_all_are_read_and_none_is_joined(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer:
        await client.join("a")
        await client.join("b")
        log = Log(client, GroupMessage)
        one, every = client.streams("b"), client.streams()
        client.streams("c").close()
        assert client.groups == {"a", "b"}
        for group in ("a", "c", "b"):
            await write_stream(writer, group, group=group)
        seen: list[Read] = []
        await read(await anext(one), seen)
        await read(await anext(every), seen)
        await read(await anext(every), seen)
        assert [read.data for read in seen] == [["b"], ["a"], ["b"]]
        await soon(lambda: log.data == ["a", "", "b", ""], "messages, which are seen by all who look at them")
        one.close()
        every.close()


@check(needs=("read streams", "write streams", "streams"))
async def a_stream_that_is_read_does_not_wait_for_those_who_read_messages(harness: Harness) -> None:
    async with harness.client() as client:
        await client.join()
        streams = client.streams()
        await write_stream(client, 1, 2)
        await client.send("a message")
        message = await anext(aiter(client))
        assert message.data == "a message"
        seen: list[Read] = []
        await read(await anext(streams), seen)
        assert seen[0].data == [1, 2]
        streams.close()


# ---- Slow readers, and those who have enough


@check("transport", needs=("read streams", "write streams", "pause"))
async def a_stream_that_nobody_reads_holds_up_its_client_until_it_is_closed(harness: Harness) -> None:
    count, size = 150, 40_000
    async with harness.client(max_buffered_messages=LIMIT) as client, harness.undisturbed() as writer:
        log = Log(client, GroupMessage)
        await client.join()
        streams = client.streams()
        await write_stream(writer, *("x" * size for _ in range(count)))
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
    async with harness.client(max_buffered_messages=LIMIT) as client, harness.undisturbed() as writer:
        log = Log(client, GroupMessage)
        await client.join()
        streams = client.streams()
        for number in range(3 * LIMIT):
            await write_stream(writer, number)
        await anyio.to_thread.run_sync(streams.close)
        streams.close()
        assert [each async for each in streams] == []
        await write_stream(writer, "later")
        await soon(lambda: "later" in log.data)


@check(needs=READ)
async def a_stream_that_was_taken_goes_on_after_the_iteration(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        log = Log(client, GroupMessage)
        await client.join()
        seen: list[Read] = []
        streams = client.streams()
        async with writer.writing() as first, writer.writing() as second:
            await first.write(1)
            tasks.start_soon(read, await anext(streams), seen)
            await second.write("dropped")
            await soon(lambda: len(log.events) == 2)
            streams.close()
            third = await write_stream(writer, "not wanted")
            await first.write(2)
        await soon(lambda: seen and seen[0].over)
        assert (seen[0].stream_id, seen[0].data, seen[0].error) == (first.stream_id, [1, 2], None)
        assert third not in [read.stream_id for read in seen]


@check(needs=READ)
async def a_closed_stream_is_let_go_and_others_go_on(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        await client.join()
        streams = client.streams()
        seen: list[Read] = []
        async with writer.writing() as one, writer.writing() as two:
            await one.write(1)
            closed = await anext(streams)
            await two.write(1)
            tasks.start_soon(read, await anext(streams), seen)
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
        later = await write_stream(writer, "later")
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


@check(needs=READ)
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
