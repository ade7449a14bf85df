"""Streams that fail while they are read: the reader is told, and other streams go on."""

from __future__ import annotations

import anyio

from limpet import (
    Connected,
    State,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.checks._reading import READ, Read, read, read_all, say_fragments, write_stream
from limpet.testing.contract.harness import Harness, Log, prompt, soon
from limpet.testing.contract.subject import GROUP
from limpet_core.service import StreamPlace


@check(needs=READ)
async def whatever_ends_a_stream_but_its_publishers_end_is_told(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        await client.join()
        seen: list[Read] = []
        tasks.start_soon(read_all, client.streams(), seen)
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


@check(needs=READ)
async def a_gap_fails_its_stream_and_no_other(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        await client.join()
        await client.join("other")
        seen: list[Read] = []
        tasks.start_soon(read_all, client.streams(), seen)
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
        await write_stream(writer, "next")
        await soon(lambda: len(seen) == 3 and seen[2].over)
        assert seen[2].data == ["next"]
        await client.stop()


@check(needs=READ)
async def a_stream_whose_end_was_missed_is_not_merged_with_the_next_of_its_id(harness: Harness) -> None:
    """The service drops the end, as it drops what is too old."""
    async with harness.client() as client, anyio.create_task_group() as tasks:
        await client.join()
        seen: list[Read] = []
        tasks.start_soon(read_all, client.streams(), seen)
        say_fragments(harness, StreamPlace("s", 1), StreamPlace("s", 2))
        await soon(lambda: seen and len(seen[0].data) == 2)
        harness.service.refuse()
        harness.service.cut()
        await soon(lambda: client.state is State.RECOVERING)
        say_fragments(harness, StreamPlace("s", 3, True), expires=0.0)
        say_fragments(harness, *(StreamPlace("s", number) for number in (1, 2, 3)), StreamPlace("s", 4, True))
        harness.service.accept()
        await soon(lambda: len(seen) == 2 and all(read.over for read in seen), "two ends")
        cut, whole = seen
        assert (cut.data, cut.error and cut.error.name) == ([1, 2], "Gap")
        assert (whole.from_start, whole.data, whole.error) == (True, [1, 2, 3], None)
        await client.stop()


@check(needs=READ)
async def a_lost_connection_fails_what_is_read_and_the_rest_comes_as_another_stream(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as writer, anyio.create_task_group() as tasks:
        life = Log(client, Connected)
        await client.join()
        seen: list[Read] = []
        tasks.start_soon(read_all, client.streams(), seen)
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
    seen: list[Read] = []
    async with harness.undisturbed() as writer:
        stream = await writer.open_stream()
        async with client, anyio.create_task_group() as tasks:
            await client.join()
            tasks.start_soon(read_all, streams, seen)
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
            written = await write_stream(writer, "again")
            await read(await anext(again), seen)
            assert (seen[1].stream_id, seen[1].data) == (written, ["again"])
        assert [each async for each in again] == []
        again.close()
