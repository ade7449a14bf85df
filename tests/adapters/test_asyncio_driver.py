"""What the driver does with the transport that its loop gives it."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest
import uvloop
from simulation.inspect import inspect, queued
from tests.adapters.harness import GROUP, options, soon, url_of
from tests.helpers.buffers import note_releases
from tests.helpers.eager import start_eagerly
from tests.helpers.waiting import LIMIT

from limpet import ConnectError, GroupMessage, LocalProtocolError, Options
from limpet.asyncio import Client
from limpet.asyncio._tcp import TcpConnection
from limpet.service import Service
from limpet.testing import BackgroundService
from limpet_core.service import group_publication

MESSAGE = "x" * 1000
COUNT = 900


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_flood_leaves_others_their_turn(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than so many bytes are taken in one turn of the loop, whatever the loop would give.

    asyncio's loop gives no more; to pause it would be in vain, and costs much.
    """
    pauses: list[TcpConnection] = []
    go_on = TcpConnection._yielded

    def counted(tcp: TcpConnection) -> None:
        pauses.append(tcp)
        go_on(tcp)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        turns = [0]
        flooding = True

        def next_turn() -> None:
            turns.append(0)
            if flooding:
                loop.call_soon(next_turn)

        def take(message: GroupMessage) -> None:
            turns[-1] += len(message.data)

        async with Service() as service, Client(url_of(service), options()) as client:
            client.on(GroupMessage, take)
            await client.join_group(GROUP)
            publication = group_publication(GROUP, None, "text", b'"%b"' % MESSAGE.encode())
            for _ in range(COUNT):
                service.core.send_to_group("chat", GROUP, publication)
            service.flush()
            # Let it all arrive before the client reads: a whole megabyte is there then, in one go.
            connection: Any = client._driver._transport
            connection.read(False)
            await asyncio.sleep(0.2)
            next_turn()
            connection.read(True)
            monkeypatch.setattr(TcpConnection, "_yielded", counted)
            await soon(lambda: sum(turns) == COUNT * len(MESSAGE))
            flooding = False
        assert max(turns) <= 2 * 256 * 1024
        assert sum(map(bool, turns)) >= 3
        assert bool(pauses) is (run is uvloop.run)

    run(scenario())


def test_a_request_that_is_made_amid_a_callback_is_sent_at_once() -> None:
    """As a task does that begins at once: the drain goes round again for it, though no other event comes."""

    async def scenario() -> None:
        asked: list[Any] = []
        tasks: list[asyncio.Task[None]] = []

        async with Service() as service, Client(url_of(service), options(sequence_ack_interval=60.0)) as client:

            async def reply() -> None:
                asked.append(await client.join_group("another"))

            def ask(message: GroupMessage) -> None:
                asyncio.get_running_loop().set_task_factory(start_eagerly)
                tasks.append(asyncio.create_task(reply()))
                asyncio.get_running_loop().set_task_factory(None)

            client.on(GroupMessage, ask)
            await client.join_group(GROUP)
            await asyncio.sleep(0.05)  # nothing else is on its way, and no flush of this turn of the loop
            service.core.send_to_group("chat", GROUP, group_publication(GROUP, None, "text", b'"hi"'))
            service.flush()
            await soon(lambda: len(tasks) == 1)
            assert client._session.messages_to_send() == []  # it is not left for a timer
            await soon(lambda: len(asked) == 1)
            assert client.groups == {GROUP, "another"}

    asyncio.run(scenario())


def test_a_connection_has_one_timer_from_the_dial_to_the_keepalive(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop keeps a timer that was cancelled until its time is over."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = []
        call_at = loop.call_at

        def noted(when: float, callback: Any, *args: Any, **named: Any) -> asyncio.TimerHandle:
            timer = call_at(when, callback, *args, **named)
            if getattr(callback, "__name__", "") == "_wake":
                timers.append(timer)
            return timer

        async with Service() as service:
            url = url_of(service)
            monkeypatch.setattr(loop, "call_at", noted)
            client = Client(url, Options(connect_timeout=30.0, keepalive_interval=20.0))
            await client.start()
            began = loop.time()
            assert [timer.cancelled() for timer in timers] == [False]
            assert timers[0].when() <= began + 20.0
            monkeypatch.undo()
            await client.stop()

    asyncio.run(scenario())


def test_a_timer_that_fires_before_anything_is_due_is_armed_again() -> None:
    """The one for an attempt to connect is set for the keepalive, which is sooner here."""

    async def scenario() -> None:
        never = asyncio.Event()

        async def url() -> str:
            await never.wait()
            raise AssertionError

        client = Client(url, Options(connect_timeout=0.3, keepalive_interval=0.05, keepalive_timeout=0.1))
        with pytest.raises(ConnectError, match="there was no URL in time"):
            await client.start()

    asyncio.run(scenario())


def test_the_first_request_after_an_answer_is_written_at_once_and_the_others_of_its_turn_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So one request after the other needs no further turn of the loop, and a thousand need one more write."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        written: list[int] = []
        scheduled: list[Any] = []
        write, call_soon = TcpConnection.write, loop.call_soon

        def noted(callback: Any, *args: Any, **named: Any) -> asyncio.Handle:
            if getattr(callback, "__name__", "") == "_flushed":
                scheduled.append(callback)
            return call_soon(callback, *args, **named)

        async with Service() as service, Client(url_of(service), options()) as client:

            def note(connection: TcpConnection) -> None:
                if waiting := queued(client._session):
                    written.append(waiting)
                write(connection)

            monkeypatch.setattr(TcpConnection, "write", note)
            monkeypatch.setattr(loop, "call_soon", noted)
            for _ in range(3):
                await client.send_to_group("nobody", "hello")
            assert (written, scheduled) == ([1, 1, 1], [])
            written.clear()
            await asyncio.gather(*(client.send_to_group("nobody", "hello") for _ in range(10)))
            assert (written, len(scheduled)) == ([1, 9], 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("request_timeout", [None, 60.0])
def test_the_requests_of_a_turn_have_one_time_and_those_that_end_by_time_their_own(
    request_timeout: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn in which the application computes for long takes nothing from the time of a later request."""

    async def main(url: str) -> None:
        async with Client(url, options(request_timeout=request_timeout)) as client:
            loop, send = asyncio.get_running_loop(), client.submit.send_to_group
            answers = [send("g", number) for number in range(2)]  # the first is written at once
            began = loop.time()
            with monkeypatch.context() as patches:
                patches.setattr(loop, "time", lambda: began + 50.0)
                answers.append(send("g", 2))
                answers.append(send("g", 3, timeout=20.0))
                answers.append(client.submit.join_group("g"))
            times = [request.submitted for request in inspect(client._session).pending]
            assert [time > began for time in times] == [False, False, request_timeout is not None, True, True]
            assert [(await answer).ack_id for answer in answers] == [1, 2, 3, 4, 5]
            await asyncio.sleep(0)
            answers = [send("g", number) for number in range(2)]
            assert all(request.submitted >= began for request in inspect(client._session).pending)
            await asyncio.gather(*answers)

    with BackgroundService() as service:
        asyncio.run(asyncio.wait_for(main(service.url()), LIMIT))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_that_is_forked_amid_a_turn_of_the_loop_is_refused() -> None:
    """The loop seems to run in the child too, and in the same thread."""

    def refused(client: Client) -> int:
        count = 0
        for call in (
            lambda: client.submit.send_to_group("nobody", "hello"),
            lambda: asyncio.run(asyncio.wait_for(client.send_to_group("nobody", "hello"), 1)),
        ):
            try:
                call()
            except LocalProtocolError:
                count += 1
        return count

    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            answers = [client.submit.send_to_group("nobody", "hello") for _ in range(3)]
            assert client._driver.flushing
            child = os.fork()
            if child == 0:
                count = 0
                try:
                    count = refused(client)
                finally:
                    os._exit(count)
            _, status = await asyncio.to_thread(os.waitpid, child, 0)
            assert os.waitstatus_to_exitcode(status) == 2
            await asyncio.gather(*answers)

    asyncio.run(scenario())


def test_a_loop_over_a_full_stream_asks_for_its_release_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """To ask at each event would cost as much as the event."""
    asked = note_releases(monkeypatch)

    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options(max_buffered_messages=100)) as client:
            stream = client.events(GroupMessage)
            client._driver.delivery.deliver([GroupMessage(group=GROUP, data=number) for number in range(300)])
            assert asked == [100]  # when it was filled
            assert [(await anext(stream)).data for _ in range(300)] == list(range(300))
            assert asked == [100, 50]
            assert not client._driver.delivery.held
            stream.close()

    asyncio.run(scenario())
