"""Networks and services that go wrong, and consumers that are too slow."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AsyncExitStack
from typing import Any, Literal

import anyio

from limpet import (
    Ack,
    Backoff,
    Connected,
    ConnectError,
    Disconnected,
    GroupMessage,
    MessagesMissed,
    Recovered,
    Recovering,
    State,
    Stopped,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.checks._not_a_service import NotAService
from limpet.testing.contract.harness import Harness, Log, prompt, raises, soon
from limpet.testing.contract.subject import GROUP, Steps, Stream, Subject

_TROUBLE = (Recovering, Recovered, Disconnected, Connected, MessagesMissed, Stopped)

_LIMIT = 20
_COUNT = 200
_BODY = "x" * 20_000
_ONE_READ = 13 + 20
"""How many of these a client may take in beyond its limit: one read of 256 KiB, and what a WebSocket library holds."""

_GARBAGE = (b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00" * 100, b"HTTP/1.1 101 Switching\r\n\r\n", b"HTTP/1.1 101 Sw", b"")


# ---- No service


@check("transport")
async def something_else_that_answers_is_no_service(harness: Harness) -> None:
    for garbage in _GARBAGE:
        with NotAService(garbage) as server:
            error = await _fails(harness.client(server.url))
        assert error.status is None
        assert "SECRET" not in str(error)


@check("transport", needs=("status",))
async def a_refusal_tells_its_status_and_no_token(harness: Harness) -> None:
    for status in (400, 401, 403, 404, 429, 500, 503):
        with NotAService.refusing(status, "out of tea") as server:
            error = await _fails(harness.client(server.url))
        assert error.status == status
        assert type(error.status) is int
        assert "SECRET" not in str(error)


@check("transport", needs=("url function", "retry after"))
async def a_refusal_that_asks_for_a_delay_has_it_and_a_start_with_a_backoff_goes_on(harness: Harness) -> None:
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    with (
        NotAService.refusing(503, "out of tea", Retry_After="1") as busy,
        NotAService.refusing(429, "too many", Retry_After="Sun, 06 Nov 1994 08:49:38 GMT", Date=date) as throttled,
        NotAService.refusing(503, "back at once") as last,
    ):
        urls = [busy.url, throttled.url, last.url]
        backoff = Backoff(initial=0.01, maximum=0.01)
        client = harness.client(lambda: urls.pop(0) if urls else harness.service.url(), first_connection=backoff)
        async with client:
            await client.join()
        (first,), (second,), (third,) = busy.times, throttled.times, last.times
    assert second - first > 0.99
    assert third - second > 0.99


@check("transport", needs=("status",))
async def a_redirect_tells_its_status_and_is_not_followed(harness: Harness) -> None:
    with NotAService(b"") as elsewhere:
        for status in (301, 302, 303, 307, 308):
            with NotAService.refusing(status, "Moved", Location=elsewhere.url) as server:
                error = await _fails(harness.client(server.url))
            assert error.status == status
        assert not elsewhere.requests


@check("transport", needs=("restart",))
async def a_start_that_is_cut_anywhere_fails_or_connects(harness: Harness) -> None:
    client = harness.client()
    started = 0
    for n_bytes in range(0, 700, 70):
        harness.service.cut_after(n_bytes, reset=bool(n_bytes % 20))
        try:
            with prompt():
                async with client:
                    await client.join()
                    started += 1
        except ConnectError:
            assert client.state is State.STOPPED
    harness.service.heal()
    assert 0 < started < 10
    async with client:
        await client.join()


# ---- Silence


@check("transport")
async def a_black_hole_is_found_and_recovered(harness: Harness) -> None:
    """Also one that swallows only what the service says: that it hears us is of no use."""
    async with harness.client(keepalive_interval=0.05, keepalive_timeout=0.3) as client:
        log, messages = Log(client, *_TROUBLE), Log(client, GroupMessage)
        await client.join()
        directions: tuple[tuple[int, Literal["to_client"] | None], ...] = ((0, None), (6, "to_client"))
        for start, direction in directions:
            log.events.clear()
            harness.service.stall(direction)
            harness.service.publish(GROUP, range(start, start + 5))
            lost = await log.wait(Recovering)
            assert lost.code == 1006
            harness.service.cut()
            harness.service.resume()
            await client.send(start + 5)
            await messages.upto(start + 5)
            assert messages.data == list(range(start + 6))
            assert client.state is State.CONNECTED
            assert {type(event) for event in log.events} == {Recovering, Recovered}


@check("transport")
async def pings_keep_a_quiet_connection(harness: Harness) -> None:
    async with harness.client(keepalive_interval=0.05, keepalive_timeout=0.4) as client:
        log = Log(client, *_TROUBLE)
        for _ in range(10):  # a machine that stands still for 0.4 s may cost a connection, but not each time
            log.events.clear()
            await anyio.sleep(0.6)
            if not log.events:
                break
        assert not log.events
        await client.send("x")


@check("transport")
async def a_slow_line_in_small_pieces_is_none_the_worse(harness: Harness) -> None:
    sizes = (1, 124, 125, 126, 4_000, 65_500, 65_536, 65_600)
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        await client.join()
        for delay, segment in ((0.001, 1_000), (0.0, 999)):
            harness.service.slow_down(delay, segment)
            for size in sizes:
                await client.send("ü" * (size // 2))
        harness.service.slow_down(0.0, 1)
        await client.send("last")
        await log.upto("last")
        assert [len(data) for data in log.data] == [*(size // 2 for size in sizes)] * 2 + [4]


@check("transport", needs=("backpressure",))
async def a_service_that_does_not_read_holds_up_who_sends_without_ack(harness: Harness) -> None:
    count = 250  # more than the sockets take
    async with harness.client() as client, anyio.create_task_group() as tasks:
        log = Log(client, *_TROUBLE)
        sent: list[int] = []

        async def send() -> None:
            for number in range(count):
                await client.send(_BODY * 5, ack=False)
                sent.append(number)

        harness.service.stall("to_service")
        tasks.start_soon(send)
        await soon(lambda: sent)
        before = -1
        while len(sent) > before:
            before = len(sent)
            await anyio.sleep(0.1)
        assert len(sent) < count
        harness.service.resume()
        await soon(lambda: len(sent) == count)
        await client.send("last")
        assert not log.events


@check("transport", needs=("streams", "pause", "backpressure"))
async def a_slow_consumer_that_sends_without_ack_over_a_dead_line_is_told(harness: Harness) -> None:
    """Reading is paused for its sake, and yet the silence must be noticed: it waits for the line itself."""
    slow = _Slow()
    async with (
        harness.client(max_buffered_messages=_LIMIT, keepalive_interval=0.1, keepalive_timeout=0.5) as client,
        anyio.create_task_group() as tasks,
    ):
        log = Log(client, *_TROUBLE)
        tasks.start_soon(slow.read, client.events(GroupMessage))
        await client.join()
        harness.service.publish(GROUP, range(3 * _LIMIT))
        await soon(lambda: len(slow.seen) == 5)
        harness.service.stall()

        sent: list[bool] = []

        async def send() -> None:
            for _ in range(250):  # more than the sockets take
                await client.send(_BODY * 5, "another", ack=False)
            sent.append(True)

        tasks.start_soon(send)
        assert (await log.wait(Recovering)).code == 1006
        harness.service.cut()
        harness.service.resume()
        slow.go = True
        await soon(lambda: len(slow.seen) == 3 * _LIMIT)
        assert slow.seen == list(range(3 * _LIMIT))
        await log.wait(Recovered)
        await soon(lambda: sent, "the end of what is sent")
        await client.stop()


# ---- Too much


@check("transport", needs=("size limit",))
async def a_message_that_is_too_large_is_not_taken_in_and_that_is_told(harness: Harness) -> None:
    async with harness.client(max_message_size=10_000) as client:
        log, messages = Log(client, *_TROUBLE), Log(client, GroupMessage)
        await client.join()
        harness.service.publish(GROUP, [1, _BODY])
        # It comes again after the recovery and is as large as before: the connection is given up.
        lost = await log.wait(Disconnected)
        assert lost.code == 1009
        await log.wait(Connected)
        await soon(lambda: client.connection_id in harness.service.members(GROUP))
        await client.send(2)
        await messages.upto(2)
        assert messages.data == [1, 2]


class _Slow:
    """A consumer that stands still at the sixth message until it may go on, and then takes a hundred times as long for
    each as the service takes to send it.
    """

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.go = False

    def wait(self) -> float:
        """For how many seconds."""
        if len(self.seen) == 5 and not self.go:
            return 0.01
        return 0.0

    def steps(self, message: GroupMessage) -> Steps:
        """As a callback."""
        while seconds := self.wait():
            yield "sleep", seconds
        yield "sleep", 0.005
        self.seen.append(message.data)

    async def read(self, stream: Stream) -> None:
        """As a loop."""
        async for message in stream:
            while seconds := self.wait():  # noqa: ASYNC110 - as the callback does
                await anyio.sleep(seconds)
            await anyio.sleep(0.005)
            self.seen.append(message.data)
        stream.close()


@check("transport", "tls", needs=("streams", "callbacks", "pause"))
async def a_slow_consumer_pauses_reading_and_loses_nothing(harness: Harness) -> None:
    """What it has not taken stays with the service, but for the bounded buffer and one read of the socket."""
    settings: dict[str, Any] = {
        "max_buffered_messages": _LIMIT,
        "keepalive_interval": 0.1,
        "keepalive_timeout": 0.4,
    }
    consumers = [_Slow() for _ in range(3)]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(harness.client(**settings)) for _ in consumers]
        tasks = await stack.enter_async_context(anyio.create_task_group())
        trouble = [Log(client, *_TROUBLE) for client in clients]
        clients[0].on_steps(GroupMessage, consumers[0].steps)
        tasks.start_soon(consumers[1].read, aiter(clients[1]))
        tasks.start_soon(consumers[2].read, clients[2].events(GroupMessage))

        def taken_in() -> Generator[int]:
            for client, consumer in zip(clients, consumers, strict=True):
                assert client.connection_id
                retained = harness.service.retained(client.connection_id)
                assert retained is not None
                yield _COUNT - retained - len(consumer.seen)

        def check_room() -> None:
            for waiting in taken_in():
                assert waiting <= _LIMIT + _ONE_READ, f"{waiting} messages wait in the client"

        for client in clients:
            await client.join()
        # Some at a time: whoever reads them has room for that.
        for start in range(0, _COUNT, 20):
            harness.service.publish(GROUP, (f"{number:04}{_BODY}" for number in range(start, start + 20)))
            await anyio.sleep(0.002)
        await soon(lambda: all(len(consumer.seen) == 5 for consumer in consumers))
        # Reading has stopped at the limit, and goes on at half of it.
        await soon(lambda: all(waiting > _LIMIT // 2 for waiting in taken_in()), "full buffers")
        for log in trouble:
            log.events.clear()
        await anyio.sleep(0.7)  # more than the timeout of the keepalive: a slow consumer is no dead connection
        assert not any(log.events for log in trouble)
        check_room()
        for consumer in consumers:
            consumer.go = True
        while not all(len(consumer.seen) == _COUNT for consumer in consumers):
            check_room()
            await anyio.sleep(0.02)
        for consumer in consumers:
            assert [int(data[:4]) for data in consumer.seen] == list(range(_COUNT))
        for client, log in zip(clients, trouble, strict=True):
            assert {type(event) for event in log.events} <= {Recovering, Recovered}
            await client.send("still there", "another")
        for client in clients:
            await client.stop()


@check("transport", needs=("callbacks", "pause"))
async def past_the_services_cap_the_application_is_told(harness: Harness) -> None:
    slow = _Slow()
    async with harness.client(max_buffered_messages=_LIMIT) as client:
        log = Log(client, *_TROUBLE)
        client.on_steps(GroupMessage, slow.steps)
        await client.join()
        first = client.connection_id
        assert first
        harness.service.publish(GROUP, range(100))
        await soon(lambda: len(slow.seen) == 5)
        harness.service.publish(GROUP, range(100, 1200))  # in one go, which no client could keep up with
        assert harness.service.retained(first) is None
        slow.go = True
        lost = await log.wait(Disconnected)
        assert (lost.connection_id, lost.code) == (first, 1008)
        await log.wait(Connected)
        await soon(lambda: harness.service.members(GROUP) == {client.connection_id})
        await client.send("new")
        await soon(lambda: slow.seen[-1] == "new")
        assert slow.seen[:-1] == list(range(len(slow.seen) - 1))


@check("transport", needs=("streams", "callbacks", "pause"))
async def a_consumer_that_is_behind_can_still_send(harness: Harness) -> None:
    """An answer to each message: its ack comes behind messages that nobody takes until the ack is here."""
    count = 150
    async with (
        harness.client(max_buffered_messages=_LIMIT, ack_timeout=None) as first,
        harness.client(max_buffered_messages=_LIMIT, ack_timeout=None) as second,
        harness.undisturbed() as other,
        anyio.create_task_group() as tasks,
    ):
        log = Log(other, GroupMessage)
        await other.join("called")
        await other.join("looping")

        def answer(message: GroupMessage) -> Steps:
            yield "send_to_group", "called", message.data

        acks: list[Ack] = []

        async def read(stream: Stream) -> None:
            async for message in stream:
                acks.append(await second.send(message.data, "looping"))  # noqa: PERF401 - looked at meanwhile
            stream.close()

        first.on_steps(GroupMessage, answer)
        tasks.start_soon(read, aiter(second))
        for client in (first, second):
            await client.join()
        harness.service.publish(GROUP, range(count))
        await log.wait(GroupMessage, 2 * count)
        for group in ("called", "looping"):
            assert [message.data for message in log.events if message.group == group] == list(range(count))
        await soon(lambda: len(acks) == count)
        await second.stop()


async def _fails(client: Subject) -> ConnectError:
    with prompt(), raises(ConnectError) as caught:
        async with client:
            raise AssertionError("it cannot have started")
    assert client.state is State.STOPPED
    return caught.error
