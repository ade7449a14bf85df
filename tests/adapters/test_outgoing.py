"""Streams that a client writes: cancellation, interrupts and rare moments, besides what the contract checks."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.adapters.harness import options, run
from tests.adapters.test_sync_interrupts import interrupted_everywhere
from tests.helpers.home import Home
from tests.helpers.waiting import LIMIT, until

import limpet.sync
from limpet import (
    ClientStopped,
    GroupMessage,
    InvalidType,
    LocalProtocolError,
    Stopped,
    StreamClosed,
    StreamError,
    StreamOpened,
    StreamProgress,
)
from limpet._clients.delivery import Delivery
from limpet._clients.stream_record import StreamRecord
from limpet.asyncio import Client
from limpet.testing import BackgroundService


@pytest.fixture
def service() -> Generator[BackgroundService]:
    with BackgroundService() as service:
        yield service


async def soon(true: Callable[[], object]) -> None:
    while not true():  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(0.01)


def streams_of(service: BackgroundService) -> list[str]:
    """The ids of the streams that are open at the service."""

    def open_streams(real: Any, _: Any) -> list[str]:
        return [name for hub in real.core.hubs for each in hub.connections.values() for name in each.streams]

    return service.call(open_streams)


# ---- asyncio


@pytest.mark.parametrize("how", ["cancelled", "dropped", "dropped amid a call of the session"])
def test_a_start_that_is_given_up_leaves_no_stream_behind(service: BackgroundService, how: str) -> None:
    async def scenario() -> None:
        async with Client(service.url(), options()) as client:
            service.stall("to_client")
            opening = client.open_stream("g")._open()
            if how == "cancelled":
                task = asyncio.create_task(opening)
                await soon(lambda: streams_of(service))
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                opening.send(None)  # as far as it goes without an event loop
                client._session.running = "wake" if "amid" in how else ""  # the collector of garbage knows no patience
                opening.close()
                client._session.running = ""
            service.resume()
            await client.send_to_group("g", "x")
            await soon(lambda: not (streams_of(service) or client._delivery.outgoing))

    run(scenario)


def test_a_stream_that_was_not_opened_says_how(service: BackgroundService) -> None:
    async def scenario() -> None:
        async with Client(service.url(), options()) as client:
            stream = client.open_stream("g")
            for call in (lambda: stream.write("x"), stream.flush, stream.end, lambda: stream.abort("no")):
                with pytest.raises(LocalProtocolError, match=r"^the stream is not open: `async with"):
                    await call()
            assert repr(stream) == "<OutgoingStream '': not open yet, 0 of 0 acknowledged>"
            async with await stream as same:
                assert same is stream
                await stream.write("x")
                await stream.flush()
                assert repr(stream).endswith(": open, 1 of 1 acknowledged>")
            assert repr(stream).endswith(": closed, 1 of 1 acknowledged>")

    run(scenario)


@pytest.mark.parametrize("how", ["end", "abort", "write"])
def test_a_stream_that_is_over_before_its_writer_has_heard_of_it(service: BackgroundService, how: str) -> None:
    async def scenario() -> None:
        async with Client(service.url(), options()) as client:
            stream = await client.open_stream("g")
            closed = f'{{"type":"streamClosed","streamId":"{stream.stream_id}","error":{{"name":"IdleTimeout"}}}}'
            client._session.receive_message(closed, client._driver.now())
            asyncio.get_running_loop().call_soon(client._driver.drain)
            with pytest.raises(StreamError) as caught:
                await (stream.end() if how == "end" else stream.abort("x") if how == "abort" else stream.write("x"))
            assert caught.value.name == "IdleTimeout"

    run(scenario)


def test_a_stream_of_a_stopped_client_only_raises(service: BackgroundService) -> None:
    async def scenario() -> None:
        async with Client(service.url(), options()) as client:
            stream = await client.open_stream("g")
            await stream.write("x")
        with pytest.raises(StreamError, match=r"^Stopped: "):
            await stream.end()
        await stream.abort("too late")
        with pytest.raises(ClientStopped):
            await client.open_stream("g")

    run(scenario)


def test_a_dropped_block_does_not_wait(service: BackgroundService) -> None:
    """As when the event loop is gone: the coroutine is closed amid its block."""

    async def scenario() -> None:
        async with Client(service.url(), options()) as client:

            async def write() -> None:
                async with client.open_stream("g"):
                    await asyncio.Event().wait()

            task = asyncio.create_task(write())
            await soon(lambda: streams_of(service))
            await asyncio.sleep(0.05)
            coroutine = task.get_coro()
            assert coroutine is not None
            coroutine.close()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await client.send_to_group("g", "x")
            await soon(lambda: not streams_of(service))

    run(scenario)


def test_an_end_that_the_session_refuses_is_told_and_can_be_repeated(service: BackgroundService) -> None:
    async def scenario() -> None:
        async with Client(service.url(), options()) as client:
            stream = await client.open_stream("g")
            for call in (stream.end, lambda: stream.abort("no")):
                client._session.running = "wake"
                with pytest.raises(LocalProtocolError, match=r"was called while Session\.wake runs"):
                    await call()
                client._session.running = ""
            assert repr(stream).endswith(": open, 0 of 0 acknowledged>")
            await stream.end()
            assert not streams_of(service)

    run(scenario)


def test_a_writer_that_is_cancelled_while_it_ends_its_stream_does_not_abort_it(service: BackgroundService) -> None:
    heard: list[Any] = []

    async def scenario() -> None:
        async with Client(service.url(), options()) as client:
            client.on(GroupMessage, heard.append)
            await client.join_group("g")

            async def write() -> None:
                async with client.open_stream("g") as stream:
                    service.stall("to_client")
                    await stream.write("x")
                    await stream.end()

            task = asyncio.create_task(write())
            [record] = await soon_some(client)
            await soon(lambda: record.ending)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            service.resume()
            await soon(lambda: len(heard) == 2)

    run(scenario)
    assert (heard[1].stream.end, heard[1].stream.error) == (True, None)


async def soon_some(client: Client) -> list[StreamRecord]:
    await soon(lambda: client._delivery.outgoing)
    return list(client._delivery.outgoing)


def test_an_exception_without_room_for_its_text_ends_its_stream_all_the_same(service: BackgroundService) -> None:
    few = options(max_request_size=150)

    async def scenario() -> None:
        async with Client(service.url(), few) as client:
            with pytest.raises(ZeroDivisionError):
                async with client.open_stream("g"):
                    raise ZeroDivisionError("x" * 200)
            await soon(lambda: not streams_of(service))

    run(scenario)
    with limpet.sync.Client(service.url(), few) as client:
        with pytest.raises(ZeroDivisionError):  # noqa: SIM117
            with client.open_stream("g"):
                raise ZeroDivisionError("x" * 200)
        until(lambda: not streams_of(service))


def test_a_stream_that_nobody_refers_to_any_more_is_aborted(service: BackgroundService) -> None:
    async def scenario() -> None:
        async with Client(service.url(), options()) as client:
            stream: Any = await client.open_stream("g")
            assert streams_of(service)
            del stream
            gc.collect()
            await soon(lambda: not streams_of(service))
            stream = await client.open_stream("g")
        del stream

    run(scenario)
    with limpet.sync.Client(service.url(), options()) as client:
        stream: Any = client.open_stream("g")
        assert streams_of(service)
        del stream
        gc.collect()
        until(lambda: client.send_to_group("g", "x") and not streams_of(service))
        stream = client.open_stream("g")
    del stream


# ---- Events


@pytest.mark.parametrize("kind", [StreamOpened, StreamProgress, StreamClosed])
def test_the_events_of_streams_are_for_their_methods(service: BackgroundService, kind: type[Any]) -> None:
    with pytest.raises(InvalidType, match=rf"^{kind.__name__} is not handed out"):
        Client(service.url()).on(kind, print)


def test_a_stop_fails_a_stream_whose_end_was_lost() -> None:
    delivery = Delivery(10, Home())
    record = StreamRecord()
    delivery.write(record)
    delivery.deliver([StreamOpened("s", record), StreamProgress("s", 3, record), Stopped()])
    assert not delivery.outgoing
    assert (record.opened, record.closed) == (True, True)
    with pytest.raises(StreamError) as caught:
        record.check_writable()
    assert (caught.value.name, caught.value.acknowledged) == ("Stopped", 3)


# ---- Blocking


@pytest.mark.parametrize("what", ["open", "write", "flush", "end", "abort"])
def test_a_time_out_says_what_has_not_happened(service: BackgroundService, what: str) -> None:
    with limpet.sync.Client(service.url(), options(max_stream_unacked=1)) as client:
        stream = client.open_stream("g")
        service.stall("to_client")
        stream.write("x")
        calls: dict[str, Callable[[], object]] = {
            "open": lambda: client.open_stream("g", timeout=0.05),
            "write": lambda: stream.write("y", timeout=0.05),
            "flush": lambda: stream.flush(timeout=0.05),
            "end": lambda: stream.end(timeout=0.05),
            "abort": lambda: stream.abort("no", timeout=0.05),
        }
        with pytest.raises(TimeoutError, match=r" within timeout \(0\.05 s\)$"):
            calls[what]()
        service.resume()
        if what == "open":
            until(lambda: streams_of(service) == [stream.stream_id])
        stream.end()
        assert stream.closed
        assert stream.acknowledged == 1
        assert not client._delivery.outgoing or what == "open"


def test_a_block_ends_within_the_time_out_of_its_stream(service: BackgroundService) -> None:
    heard: list[Any] = []
    with limpet.sync.Client(service.url(), options()) as client:
        client.on(GroupMessage, heard.append)
        client.join_group("g")
        stream = client.open_stream("g", timeout=5.0)

        def block() -> None:
            with stream:
                service.stall("to_client")
                stream.write("x")

        with pytest.raises(TimeoutError, match=r"the service has not closed the stream within timeout \(5 s\)$"):
            block()
        service.resume()
        until(lambda: stream.closed and len(heard) == 2)
        assert (heard[1].stream.end, heard[1].stream.error) == (True, None)


def test_a_stream_is_ended_by_one_call_of_the_session(service: BackgroundService) -> None:
    calls: list[float] = []
    with limpet.sync.Client(service.url(), options()) as client:
        stream = client.open_stream("g")

        def end(now: float) -> None:
            calls.append(now)
            client._session.end_stream(stream.stream_id, now)

        service.stall("to_client")
        for number in range(20):
            stream.write(number)
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(stream._finish, "Ended", end, None)
            until(lambda: calls)
            service.resume()
            done.result(LIMIT)
        assert stream.acknowledged == 20
    assert len(calls) == 1


def test_writes_that_are_interrupted_at_any_step_are_written_once_or_not_at_all(service: BackgroundService) -> None:
    with (
        limpet.sync.Client(service.url(), options()) as client,
        limpet.sync.Client(service.url(), options()) as listener,
    ):
        heard: list[Any] = []
        listener.on(GroupMessage, lambda message: heard.append(message.data))
        listener.join_group("g")
        stream = client.open_stream("g")
        tried, sure = -1, list[int]()

        def write() -> None:
            nonlocal tried
            tried += 1
            stream.write(tried)

        def check(returned: bool) -> None:
            if returned:
                sure.append(tried)

        assert interrupted_everywhere(write, check) > 10
        assert interrupted_everywhere(stream.flush, lambda _: None) > 10
        assert not stream._record.waiters
        stream.end()
        until(lambda: heard[-1:] == [""])  # the end
        numbers = heard[:-1]
        assert numbers == sorted(set(numbers))
        assert set(sure) <= set(numbers)


def test_blocks_that_are_interrupted_at_any_step_leave_no_stream_behind(service: BackgroundService) -> None:
    with limpet.sync.Client(service.url(), options()) as client:

        def block() -> None:
            with client.open_stream("g") as stream:
                stream.write(1)

        def check(_: bool) -> None:
            client.send_to_group("g", "x")  # what was posted before is done by now

        assert interrupted_everywhere(block, check, stride=3) > 10
        until(lambda: client.send_to_group("g", "x") and not streams_of(service))


def test_many_threads_write_one_stream(service: BackgroundService) -> None:
    with limpet.sync.Client(service.url(), options(max_stream_unacked=4)) as client:
        with client.open_stream("g") as stream, ThreadPoolExecutor(8) as pool:
            for done in [pool.submit(stream.write, number) for number in range(400)]:
                done.result(LIMIT)
        assert stream.acknowledged == 400
        with pytest.raises(StreamError, match=r"^Ended: "):
            stream.write("late")
    with pytest.raises(StreamError, match=r"^Ended: "):
        stream.write("late")
