"""Streams on their way to their readers: what waits is bounded, and what is not wanted any more is let go."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest
from tests.adapters.harness import bounded, options, run
from tests.helpers.buffers import take
from tests.helpers.home import Home
from tests.helpers.scripted import Peer, Scripted, group_message
from tests.helpers.waiting import LIMIT, until

import limpet.asyncio
import limpet.sync
from limpet import (
    Disconnected,
    Event,
    GroupMessage,
    LimpetError,
    LocalProtocolError,
    MessagesMissed,
    ServerMessage,
    Stopped,
    StreamChunk,
    StreamError,
    StreamInfo,
)
from limpet._clients.delivery import Delivery
from limpet._clients.incoming_buffers import Fragments, StreamsBuffer
from limpet.testing import BackgroundService
from limpet.testing.contract.harness import fast
from limpet_core.client.incoming_streams import FollowedStream, IncomingStreams

# ---- Without an event loop


class Reader:
    """What a client makes of a stream."""

    def __init__(self, stream: FollowedStream, fragments: Fragments) -> None:
        self.stream_id = stream.stream_id
        self.fragments = fragments

    def take(self, count: int = 1) -> list[Any]:
        return [take(self.fragments).data for _ in range(count)]

    def close(self) -> None:
        self.fragments.close()


class Bench:
    """A delivery with one call of ``streams()``, and whether it reads."""

    def __init__(self, limit: int, group: str | None = None) -> None:
        self.reading: list[bool] = []
        self.delivery = Delivery(limit, Home(self.reading.append))
        self.buffer = StreamsBuffer(self.delivery, group, IncomingStreams(), Reader)
        self.delivery.open(self.buffer)

    def deliver(self, *events: Event) -> None:
        self.delivery.deliver(events)

    def take(self) -> Reader:
        reader = take(self.buffer)
        assert isinstance(reader, Reader)
        return reader


def fragment(stream_id: str, number: int, *, end: bool = False, group: str = "g") -> GroupMessage:
    info = StreamInfo(stream_id=stream_id, sequence_id=number, end=end)
    return GroupMessage(group=group, data=None if end else number, data_type="text", stream=info)


def test_what_waits_is_bounded_for_all_streams_together() -> None:
    bench = Bench(8)
    bench.deliver(fragment("a", 1), fragment("b", 1), fragment("a", 2), fragment("b", 2), fragment("c", 1))
    assert bench.reading == [False]  # three streams and five fragments
    bench.deliver(fragment("a", 3))  # it was read already
    a, b = bench.take(), bench.take()
    assert (a.stream_id, a.take(2)) == ("a", [1, 2])
    assert bench.reading == [False]
    assert b.take() == [1]
    assert bench.reading == [False, True]
    assert a.take() == [3]
    assert not bench.buffer.full


def test_a_reader_who_keeps_up_holds_up_nothing_and_finished_streams_are_forgotten() -> None:
    bench = Bench(4)
    for number in range(50):
        bench.deliver(fragment(f"s{number}", 1))
        reader = bench.take()
        assert reader.take() == [1]
        bench.deliver(fragment(f"s{number}", 2, end=True))
        assert reader.fragments.ended
    assert bench.reading == []
    assert len(bench.buffer._streams) <= 4


def test_readers_that_catch_up_just_when_reading_is_paused_do_not_wait_for_ever() -> None:
    reading: list[bool] = []

    def read(on: bool) -> None:
        reading.append(on)
        if not on:  # as another thread does, which saw that the buffer was not full yet
            reader.fragments.items.clear()

    delivery = Delivery(4, Home(read))
    buffer = StreamsBuffer(delivery, None, IncomingStreams(), Reader)
    delivery.open(buffer)
    delivery.deliver([fragment("a", 1)])
    reader = take(buffer)
    delivery.deliver([fragment("a", number) for number in range(2, 5)])
    assert reading == [False, True]
    assert not buffer.full
    assert delivery.held == 0
    assert reader.fragments.full  # it was marked; its next look puts that right
    reader.fragments.relax()
    assert not reader.fragments.full


def test_a_stream_that_is_dropped_while_reading_is_paused_releases_it_once() -> None:
    bench = Bench(4)
    bench.deliver(*(fragment("a", number) for number in range(1, 5)))
    assert bench.reading == [False]
    reader = bench.take()
    reader.close()
    reader.close()
    assert bench.reading == [False, True]
    assert bench.delivery.held == 0
    bench.deliver(fragment("a", 5), fragment("a", 6, end=True), fragment("a", 1))
    assert not reader.fragments.items
    assert bench.take().take() == [1]


def test_a_stream_that_is_seen_while_reading_is_paused_counts() -> None:
    bench = Bench(4)
    bench.deliver(*(fragment("a", number) for number in range(1, 5)), fragment("b", 1))
    a, b = bench.take(), bench.take()
    assert a.take(4) == [1, 2, 3, 4]
    assert bench.reading == [False, True]
    b.close()
    assert bench.delivery.held == 0


def test_after_the_close_streams_that_were_taken_go_on_and_no_other_begins() -> None:
    bench = Bench(4)
    bench.deliver(fragment("a", 1), fragment("b", 1))
    assert bench.reading == [False]
    reader, waiting = bench.take(), bench.buffer.items[0]
    assert isinstance(waiting, Reader)
    bench.buffer.close()
    assert bench.reading == [False, True]
    assert waiting.fragments.dropped
    assert bench.buffer in bench.delivery.buffers
    bench.deliver(fragment("a", 2), fragment("b", 2), fragment("c", 1), fragment("c", 2, end=True))
    assert not bench.buffer.items
    bench.deliver(fragment("a", 3, end=True))
    assert reader.take(2) == [1, 2]
    assert reader.fragments.ended
    assert not bench.delivery.buffers
    bench.buffer.close()


def test_after_the_close_the_last_stream_that_is_let_go_ends_it() -> None:
    bench = Bench(4)
    bench.deliver(fragment("a", 1))
    reader = bench.take()
    bench.buffer.close()
    assert bench.delivery.buffers
    reader.close()
    assert not bench.delivery.buffers


def test_what_is_missed_may_be_the_end_of_a_stream() -> None:
    """An id that is used again must not be read as one stream, nor twice."""
    bench = Bench(20)
    bench.deliver(fragment("a", 1), fragment("a", 2), MessagesMissed(3, 3), fragment("a", 1), fragment("a", 2))
    first, second = bench.take(), bench.take()
    assert isinstance(first.fragments.error, StreamError)
    assert first.fragments.error.name == "Gap"
    assert first.take(2) == second.take(2) == [1, 2]
    bench.deliver(MessagesMissed(6, 8), fragment("a", 3))
    assert isinstance(second.fragments.error, StreamError)


def test_messages_that_are_no_fragments_of_the_group_are_left_to_others() -> None:
    bench = Bench(4, "g")
    bench.deliver(
        GroupMessage(group="g", data="m"), fragment("a", 1, group="h"), ServerMessage(data=1), fragment("a", 1)
    )
    assert len(bench.delivery.inbox.items) == 3
    assert [reader.stream_id for reader in bench.buffer.items] == ["a"]


@pytest.mark.parametrize("events", [[Disconnected("c1", 1006, "gone"), Stopped()], [Stopped()]], ids=["both", "one"])
def test_a_stop_fails_what_goes_on_even_if_the_loss_of_the_connection_was_not_heard_of(events: list[Event]) -> None:
    bench = Bench(10)
    bench.deliver(fragment("a", 1), fragment("b", 1), fragment("b", 2, end=True), *events)
    a, b = bench.take(), bench.take()
    assert isinstance(a.fragments.error, StreamError)
    assert (a.fragments.error.name, a.fragments.error.acknowledged) == ("Disconnected", 1)
    assert b.fragments.ended
    assert b.fragments.error is None
    assert bench.buffer.ended
    assert a.take() == [1]


def test_who_reads_one_stream_after_the_other_is_told_why_nothing_comes(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(4)
    bench.deliver(fragment("a", 1))
    reader = bench.take()
    reader.take()
    bench.deliver(fragment("b", 1))
    reader.fragments.wake = lambda: None  # it waits for more
    bench.deliver(*(fragment("b", number) for number in range(2, 5)))
    assert bench.reading == [False]
    assert "nothing is received any more" in caplog.text
    assert "4 fragments and streams wait" in caplog.text
    caplog.clear()
    bench.take().take(4)
    bench.deliver(*(fragment("c", number) for number in range(1, 5)))
    assert bench.reading == [False, True, False]
    assert not caplog.text  # once is enough


def test_who_reads_all_streams_and_is_slow_is_told_nothing(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(4)
    bench.deliver(fragment("a", 1), fragment("b", 1))
    a, b = bench.take(), bench.take()
    a.take()
    a.fragments.wake = lambda: None
    bench.deliver(*(fragment("b", number) for number in range(2, 6)))
    assert b.fragments.full
    assert bench.reading[-1] is False
    assert not caplog.text


def test_a_forked_child_has_nothing_of_what_waits() -> None:
    bench = Bench(10)
    bench.deliver(fragment("a", 1), fragment("b", 1))
    reader = bench.take()
    reader.fragments.wake = bench.buffer.wake = lambda: None
    bench.buffer.forget()
    assert not bench.buffer.items
    assert not reader.fragments.items
    assert reader.fragments.wake is bench.buffer.wake is None


# ---- asyncio


def piece(sequence_id: int, number: int, stream_id: str = "s", **info: Any) -> dict[str, Any]:
    """A fragment on the wire."""
    stream = {"streamId": stream_id, "streamSequenceId": number, **info}
    return group_message(sequence_id, "" if info else f"{stream_id}{number}", stream=stream)


def scenario(play: Callable[[limpet.asyncio.Client, Peer], Any], **changes: Any) -> None:
    """Play with a client whose connection is established."""

    async def main() -> None:
        async with Scripted() as service:
            client = limpet.asyncio.Client(service.url, options(**changes))
            starting = asyncio.create_task(client.start())
            peer = await service.establishes()
            await starting
            await bounded(play(client, peer))
            await client.stop()

    run(main)


async def rest(stream: limpet.asyncio.IncomingStream) -> list[Any]:
    """Read to the end; an error comes last."""
    seen: list[Any] = []
    try:
        async for chunk in stream:
            seen.append(chunk.data)  # noqa: PERF401 - it may raise
    except StreamError as error:
        seen.append(error)
    return seen


def test_duplicates_and_gaps_on_the_wire() -> None:
    async def play(client: limpet.asyncio.Client, peer: Peer) -> None:
        streams = client.streams()
        for sequence_id, number in enumerate((1, 2, 1, 2, 3, 5, 4, 6), 1):
            peer.send(**piece(sequence_id, number))
        peer.send(**piece(9, 7, endOfStream=True))
        peer.send(**piece(10, 1, "t", endOfStream=True, error={"name": "UserError", "message": "SECRET\nno"}))
        first = await anext(streams)
        assert repr(first) == "<IncomingStream 's' in the group 'g'>"
        *chunks, gap = await rest(first)
        assert chunks == ["s1", "s2", "s3"]
        assert (gap.name, gap.acknowledged) == ("Gap", 3)
        assert (await rest(first))[0] is gap
        (error,) = await rest(await anext(streams))
        assert (error.name, error.code) == ("UserError", None)
        assert "SECRET" not in f"{error!r}{error.message}"
        assert error.message.endswith("\nno")
        streams.close()

    scenario(play)


def test_a_broken_fragment_costs_its_stream_and_no_other() -> None:
    async def play(client: limpet.asyncio.Client, peer: Peer) -> None:
        streams = client.streams("g")
        peer.send(**piece(1, 1))
        peer.send(**piece(2, 1, "t"))
        peer.send(**(piece(3, 2) | {"stream": {"streamId": 7, "streamSequenceId": []}}))
        peer.send(**piece(4, 3))
        peer.send(**piece(5, 2, "t", endOfStream=True))
        one, two = await anext(streams), await anext(streams)
        assert [getattr(each, "name", each) for each in await rest(one)] == ["s1", "Gap"]
        assert await rest(two) == ["t1"]
        streams.close()

    scenario(play)


def test_a_stream_that_nothing_refers_to_any_more_is_let_go() -> None:
    async def play(client: limpet.asyncio.Client, peer: Peer) -> None:
        streams = client.streams()
        seen: list[Any] = []
        client.on(GroupMessage, seen.append)
        for number in range(1, 9):
            peer.send(**piece(number, number))
        stream = await anext(streams)
        assert client._delivery.held == 1
        chunk = await anext(stream)
        assert chunk == StreamChunk("s1", "text", 1)
        del stream
        gc.collect()
        assert client._delivery.held == 0
        peer.send(**piece(9, 1, "t"))
        peer.send(**piece(10, 2, "t"))
        async with aclosing(await anext(streams)) as other:
            assert (await anext(other)).data == "t1"
        assert await rest(other) == []
        async with other:
            pass
        peer.send(**piece(11, 1, "u"))
        (await anext(streams)).close()
        del streams
        gc.collect()
        assert not client._delivery.buffers

    scenario(play, max_buffered_messages=4)


def test_a_second_reader_of_a_stream_is_told_what_to_do() -> None:
    async def play(client: limpet.asyncio.Client, peer: Peer) -> None:
        streams = client.streams()
        waiting = asyncio.create_task(anext(streams))
        await asyncio.sleep(0)
        with pytest.raises(LocalProtocolError, match=r"client\.streams\(\) once more"):
            await anext(streams)
        peer.send(**piece(1, 1))
        stream = await waiting
        await anext(stream)
        reading = asyncio.create_task(rest(stream))
        await asyncio.sleep(0)
        with pytest.raises(LocalProtocolError, match="a stream has one reader"):
            await anext(stream)
        peer.send(**piece(2, 2, endOfStream=True))
        assert await reading == []
        streams.close()

    scenario(play)


# ---- Threads


def test_threads_read_a_stream_each_and_more_than_one_waits() -> None:
    with BackgroundService() as service, limpet.sync.Client(service.url("ann"), fast()) as client:
        client.join_group("g")
        streams = client.streams("g")
        seen: dict[str, list[Any]] = {}

        def read(stream: limpet.sync.IncomingStream) -> None:
            with stream:
                seen[stream.stream_id] = [chunk.data for chunk in stream]

        writing = [client.open_stream("g") for _ in range(3)]
        threads = []
        for number in range(20):
            for each in writing:
                each.write(number)
            if number < 3:
                stream = streams.next(LIMIT)
                assert (stream.group, stream.from_user_id, stream.from_start) == ("g", "ann", True)
                threads.append(threading.Thread(target=read, args=(stream,)))
                threads[-1].start()
        for each in writing:
            each.end()
        for thread in threads:
            thread.join(LIMIT)
        assert seen == {each.stream_id: list(range(20)) for each in writing}
        streams.close()


def test_a_reader_in_a_thread_has_time_limits_and_errors() -> None:
    with BackgroundService() as service, limpet.sync.Client(service.url(), fast()) as client:
        client.join_group("g")
        streams = client.streams(from_start_only=True)
        with pytest.raises(TimeoutError):
            streams.next(0.01)
        with client.open_stream("g") as writing:
            writing.write(1)
            stream = streams.next(LIMIT)
            assert repr(stream) == f"<IncomingStream {writing.stream_id!r} in the group 'g'>"
            assert stream.next(LIMIT).data == 1
            with pytest.raises(TimeoutError):
                stream.next(0.01)
            writing.abort("no more", "E1")
        with pytest.raises(StreamError, match=r"UserError \(code E1\): no more") as caught:
            stream.next(LIMIT)
        assert caught.value.acknowledged == 1
        with pytest.raises(LimpetError):
            next(stream)


def test_a_stream_that_no_thread_refers_to_is_let_go() -> None:
    with BackgroundService() as service, limpet.sync.Client(service.url(), fast(max_buffered_messages=4)) as client:
        client.join_group("g")
        streams = client.streams()
        with limpet.sync.Client(service.direct_url(), fast()) as writer, writer.open_stream("g") as writing:
            for number in range(20):
                writing.write(number)
            until(lambda: client._delivery.held)
            stream = streams.next(LIMIT)
            del stream  # the iteration has it until the next is asked for
            with pytest.raises(TimeoutError):
                streams.next(0.5)
            until(lambda: not client._delivery.held)
            del streams
            until(lambda: not client._delivery.buffers)


def test_streams_that_are_closed_after_the_stop_leave_nothing() -> None:
    with BackgroundService() as service:
        client = limpet.sync.Client(service.url(), fast())
        streams = client.streams()
        with client:
            client.join_group("g")
            with client.open_stream("g") as writing:
                writing.write(1)
            stream = streams.next(LIMIT)
        assert [chunk.data for chunk in stream] == [1]
        stream.close()
        streams.close()
        assert not client._delivery.buffers
        assert list(streams) == []
