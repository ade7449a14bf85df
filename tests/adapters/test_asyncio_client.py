"""What only asyncio has: tasks that are cancelled, loops that end, callbacks of every kind, its own name look-up."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from tests.adapters.harness import GROUP, Log, bounded, left, options, run, soon, url_of
from tests.helpers.eager import start_eagerly
from tests.helpers.scripted import Scripted
from tests.helpers.waiting import LIMIT

from limpet import Connected, ConnectError, Dial, Event, GroupMessage, LocalProtocolError, SendError, State, Stopped
from limpet.asyncio import Client
from limpet.service import Service
from limpet.testing.contract.checks._mute import Mute
from limpet.testing.contract.checks._names import name_that_hangs


def deliver(client: Client, event: Event) -> None:
    """As the driver does."""
    client._delivery.deliver([event])
    client._driver._run_callbacks()


# --- Cancelled, timed out, in another loop


def test_a_stop_that_is_cancelled_goes_on_for_the_others() -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            client = Client(service.url, options(close_timeout=0.1))
            starting = asyncio.create_task(client.start())
            peer = await service.establishes()
            peer.answers_close = False
            await starting
            first, second = asyncio.create_task(client.stop()), asyncio.create_task(client.stop())
            await asyncio.sleep(0.01)
            first.cancel()
            await bounded(second)
            assert client.state is State.STOPPED
            assert first.cancelled()

    run(scenario)


def test_a_start_with_a_timeout_of_the_application() -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            client = Client(service.url, options())
            timeout = asyncio.timeout(None)

            async def start() -> None:
                async with timeout:
                    await client.start()

            starting = asyncio.create_task(start())
            peer = await service.handshake()
            timeout.reschedule(0.0)
            with pytest.raises(TimeoutError):
                await starting
            peer.upgrade()  # too late
            peer.connected()
            await peer.gone()
            assert client.state is State.STOPPED

    run(scenario)


def test_it_starts_again_in_another_event_loop() -> None:
    seen: list[Any] = []
    where: list[str] = []
    client = Client(lambda: where[-1], options())

    async def scenario() -> None:
        async with Service() as service:
            where.append(url_of(service))

            async def slow(event: GroupMessage) -> None:
                await asyncio.sleep(0)
                seen.append(event.data)

            client.on(GroupMessage, slow)
            async with client:
                await client.join_group(GROUP)
                await client.send_to_group(GROUP, "hello")
                await soon(lambda: seen)
            client.off(GroupMessage, slow)

    run(scenario)
    seen.clear()
    run(scenario)
    assert seen == ["hello"]


def test_callbacks_go_on_in_another_event_loop_though_one_was_cut_off() -> None:
    seen: list[Any] = []
    where: list[str] = []
    client = Client(lambda: where[-1], options())
    began = asyncio.Event()

    @client.on(GroupMessage)
    async def slow(event: GroupMessage) -> None:
        began.set()
        if event.data == "first":
            await asyncio.sleep(3600)
        seen.append(event.data)

    async def main(data: str) -> None:
        async with Service() as service:
            where.append(url_of(service))
            async with asyncio.timeout(LIMIT), client:
                await client.join_group(GROUP)
                await client.send_to_group(GROUP, data)
                await soon(lambda: began.is_set() if data == "first" else seen)

    asyncio.run(main("first"))  # which cancels the callback in the end
    asyncio.run(main("second"))
    assert seen == ["second"]


def test_callbacks_go_on_though_their_task_was_cancelled_before_it_began() -> None:
    seen: list[int] = []

    async def scenario() -> None:
        async with Service() as service:
            client = Client(url_of(service), options())

            async def take(message: GroupMessage) -> None:
                seen.append(message.data)

            client.on(GroupMessage, take)
            async with client:
                await client.join_group(GROUP)
                deliver(client, GroupMessage(group=GROUP, data=0))
                assert client._driver.callbacks is not None
                assert client._driver.callbacks.task is not None
                client._driver.callbacks.task.cancel()
                await asyncio.sleep(0)
                gc.collect()  # Python warns of coroutines that were never awaited
                await client.send_to_group(GROUP, 1)
                await soon(lambda: seen)
        assert seen == [1]

    run(scenario)


def test_callbacks_go_on_in_the_very_turn_in_which_their_task_was_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        ended: list[int] = []

        async def take(message: GroupMessage) -> None:
            await asyncio.sleep(0 if message.data else 3600)
            ended.append(message.data)

        async with Service() as service, Client(url_of(service), options()) as client:
            client.on(GroupMessage, take)
            deliver(client, GroupMessage(group=GROUP, data=0))
            await asyncio.sleep(0)
            assert client._driver.callbacks is not None
            assert client._driver.callbacks.task is not None
            client._driver.callbacks.task.cancel()
            while not client._driver.callbacks.task.done():  # noqa: ASYNC110
                await asyncio.sleep(0)
            deliver(client, GroupMessage(group=GROUP, data=1))
            await soon(lambda: ended)
            assert ended == [1]

    run(scenario)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_callbacks_go_on_though_their_loop_was_closed_amid_one() -> None:
    seen: list[Any] = []
    where: list[str] = []
    client = Client(lambda: where[-1], options())
    began = asyncio.Event()

    @client.on(GroupMessage)
    async def slow(message: GroupMessage) -> None:
        began.set()
        if message.data == "first":
            await asyncio.get_running_loop().create_future()
        seen.append(message.data)

    async def main(data: str) -> None:
        async with Service() as service:
            where.append(url_of(service))
            async with asyncio.timeout(LIMIT), client:
                await client.join_group(GROUP)
                await client.send_to_group(GROUP, data)
                await soon(lambda: began.is_set() if data == "first" else seen)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _, context: None)  # it complains of what it leaves behind, as it should
    loop.run_until_complete(main("first"))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    asyncio.run(main("second"))
    assert seen == ["second"]


def test_a_started_client_belongs_to_one_event_loop() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            stream = aiter(client)

            async def elsewhere() -> None:
                for use in (
                    lambda: client.join_group(GROUP),
                    lambda: client.leave_group(GROUP),
                    lambda: client.send_to_group(GROUP, 1),
                    lambda: client.send_to_group(GROUP, 1, ack=False),
                    lambda: client.send_event("e", 1),
                    lambda: client.send_event("e", 1, ack=False),
                    lambda: anext(stream),
                    client.start,
                    client.stop,
                ):
                    with pytest.raises(LocalProtocolError, match="another event loop"):
                        await use()

            await asyncio.to_thread(asyncio.run, elsewhere())
            await client.join_group(GROUP)
            await client.send_to_group(GROUP, "here")
            assert (await anext(stream)).data == "here"

    run(scenario)


async def iterate(client: Client) -> None:
    async with client:
        await client.join_group(GROUP)
        async for _ in client:
            raise AssertionError("nothing can have come")


def test_a_body_with_a_timeout_of_the_application_ends_politely_before_it_is_left() -> None:
    async def scenario() -> None:
        async with Service() as service:
            client = Client(url_of(service), options())
            body = asyncio.create_task(iterate(client))
            await soon(lambda: client.state is State.CONNECTED)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(body, 0.1)
            assert client.state is State.STOPPED
            await soon(lambda: not service.hub("chat").connections)

    run(scenario)


# --- Names


async def assert_start_fails(client: Client, match: str, status: int | None = None) -> ConnectError:
    """Start must fail as a whole: nothing may be left that could connect later."""
    before = len(left())
    log = Log(client)
    with pytest.raises(ConnectError, match=match) as caught:
        await bounded(client.start())
    assert caught.value.status == status
    assert client.state is State.STOPPED
    assert log.names() == ["ConnectionFailed", "Stopped"]
    assert log.events[0].error is log.events[1].error is caught.value
    await soon(lambda: len(left()) <= before)
    await asyncio.sleep(0.05)
    assert client.state is State.STOPPED
    assert "SECRET" not in str(caught.value)
    return caught.value


def test_start_fails_on_a_name_that_can_not_be_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def scenario() -> None:
        await assert_start_fails(
            Client("ws://nowhere.invalid/client/hubs/chat", options()), "nowhere.invalid.*not known"
        )

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    run(scenario)


def test_start_fails_in_time_when_the_name_service_hangs() -> None:
    async def scenario() -> None:
        client = Client("ws://nowhere.invalid/client/hubs/chat", options(connect_timeout=0.1))
        await assert_start_fails(client, "timed out")

    with name_that_hangs("nowhere.invalid"):
        run(scenario)


def test_start_fails_when_the_system_has_no_thread_for_a_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def scenario() -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        client = Client("ws://no-thread.invalid/client/hubs/chat", options())
        await assert_start_fails(client, r"no-thread\.invalid.*can't start new thread")
        await assert_start_fails(client, r"no-thread\.invalid.*can't start new thread")

    run(scenario)


def test_a_start_that_is_cancelled_waits_for_no_answer_of_a_mute_service() -> None:
    async def scenario() -> None:
        with Mute() as server:
            client = Client(server.url, options(connect_timeout=60.0, close_timeout=60.0))
            starting = asyncio.create_task(client.start())
            await soon(lambda: server.opened)
            starting.cancel()
            await bounded(asyncio.wait([starting]))
            assert starting.cancelled()
            assert client.state is State.STOPPED
            await soon(lambda: server.closes)
            assert server.closes == [1000]

    run(scenario)


def test_a_provider_that_hangs_is_given_up_and_cancelled() -> None:
    async def scenario() -> None:
        cancelled: list[bool] = []

        async def provider() -> str:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            return ""

        await assert_start_fails(Client(provider, options(connect_timeout=0.1)), "timed out")
        assert cancelled

    run(scenario)


# --- Callbacks


@pytest.mark.parametrize("kind", ["returned", "task"])
def test_a_plain_callback_may_return_or_begin_a_stop(kind: str) -> None:
    async def scenario() -> None:
        async with Service() as service:
            client = Client(url_of(service), options())
            log = Log(client, Stopped)
            done = asyncio.Event()
            tasks: list[asyncio.Task[None]] = []

            async def stop(_: GroupMessage) -> None:
                await client.stop()
                done.set()

            def begin(_: GroupMessage) -> None:
                tasks.append(asyncio.create_task(stop(_)))

            callbacks: dict[str, Callable[[GroupMessage], object]] = {"returned": lambda _: stop(_), "task": begin}
            client.on(GroupMessage, callbacks[kind])
            await client.start()
            await client.join_group(GROUP)
            await client.send_to_group(GROUP, "stop")
            await bounded(done.wait())
            await log.wait(Stopped)
            assert client.state is State.STOPPED

    run(scenario)


def test_a_callback_may_start_the_client_again() -> None:
    async def scenario() -> None:
        async with Service() as service:
            client = Client(url_of(service), options())
            log = Log(client, Connected)

            async def again(_: Stopped) -> None:
                if len(log.events) < 3:
                    await client.start()
                    await client.stop()

            client.on(Stopped, again)
            await client.start()
            await client.stop()
            await log.wait(Connected, 3)
            await soon(lambda: client.state is State.STOPPED)

    run(scenario)


def test_a_callback_that_is_cancelled_is_logged_and_holds_up_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            seen: list[int] = []

            async def cancelled(message: GroupMessage) -> None:
                await asyncio.sleep(0)
                if message.data == 1:
                    raise asyncio.CancelledError

            client.on(GroupMessage, cancelled)
            client.on(GroupMessage, lambda message: seen.append(message.data))
            await client.join_group(GROUP)
            for number in range(3):
                await client.send_to_group(GROUP, number)
            await soon(lambda: 2 in seen)

    with caplog.at_level(logging.ERROR, "limpet"):
        run(scenario)
    assert caplog.text.count("a callback for GroupMessage failed") == 1


def test_callbacks_when_tasks_begin_at_once() -> None:
    seen: list[object] = []

    async def scenario() -> None:
        asyncio.get_running_loop().set_task_factory(start_eagerly)
        async with Service() as service:
            client = Client(url_of(service), options())

            async def quick(event: Any) -> None:
                seen.append(event.data if type(event) is GroupMessage else type(event))

            async def slow(message: GroupMessage) -> None:
                await asyncio.sleep(0)
                seen.append(-message.data)

            for kind in (Connected, GroupMessage, Stopped):
                client.on(kind, quick)
            client.on(GroupMessage, slow)
            for start in (1, 11):
                seen.clear()
                async with client:
                    await client.join_group(GROUP)
                    for number in range(start, start + 3):
                        await client.send_to_group(GROUP, number)
                await soon(lambda: Stopped in seen)
                messages = [one for number in range(start, start + 3) for one in (number, -number)]
                assert seen == [Connected, *messages, Stopped]

    run(scenario)


def test_a_callback_for_the_stop_alone_when_tasks_begin_at_once() -> None:
    async def scenario() -> None:
        asyncio.get_running_loop().set_task_factory(start_eagerly)
        seen: list[Stopped] = []

        async def quick(event: Stopped) -> None:
            seen.append(event)

        async with Service() as service:
            client = Client(url_of(service), options())
            client.on(Stopped, quick)
            for count in (1, 2, 3):
                async with client:
                    pass
                await soon(lambda count=count: len(seen) == count)

    run(scenario)


def test_the_last_subscription_leaves_what_another_has_joined() -> None:
    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            inside, over = asyncio.Event(), asyncio.Event()

            async def first() -> None:
                async with client.subscribe(GROUP):
                    inside.set()
                    await over.wait()

            async def refused() -> None:
                buffer = client._open((GroupMessage,), GROUP)
                with client._subscriptions.subscribed(buffer) as second, second.joining():
                    over.set()
                    await joined  # it is not the last one, and so does not leave
                    raise SendError(9, "Forbidden", "no", "rejected")

            joined = asyncio.create_task(first())
            await inside.wait()
            with pytest.raises(SendError, match="Forbidden"):
                await refused()
            await soon(lambda: not service.hub("chat").members(GROUP))
            await soon(lambda: client.groups == frozenset())

    run(scenario)


def test_a_start_that_fails_has_closed_its_transport_when_it_raises() -> None:
    closed: list[int] = []

    class Garbage:
        async def send(self, message: str | bytes) -> None:
            """Whatever it is."""

        async def receive(self) -> str:
            return "garbage"

        async def close(self, code: int, reason: str) -> None:
            await asyncio.sleep(0.02)
            closed.append(code)

    async def open_garbage(dial: Dial) -> Garbage:
        return Garbage()

    async def scenario() -> None:
        with pytest.raises(ConnectError, match="not JSON"):
            await Client("ws://host/client/hubs/chat", options(), connect=open_garbage).start()
        assert closed == [1000]

    run(scenario)


def test_a_transport_that_goes_on_waiting_when_it_is_closed_holds_up_no_stop() -> None:
    class Deaf:
        def __init__(self) -> None:
            self.greeted = False

        async def send(self, message: str | bytes) -> None:
            """Nobody reads it."""

        async def receive(self) -> str:
            if self.greeted:
                await asyncio.get_running_loop().create_future()
            self.greeted = True
            return '{"type":"system","event":"connected","connectionId":"c1","userId":"u","reconnectionToken":"t"}'

        async def close(self, code: int, reason: str) -> None:
            """It is closed."""

    async def open_deaf(dial: Dial) -> Deaf:
        return Deaf()

    async def scenario() -> None:
        client = Client(
            "ws://host/client/hubs/chat", options(connect_timeout=60.0, close_timeout=60.0), connect=open_deaf
        )
        await client.start()
        await bounded(client.stop())
        assert client.state is State.STOPPED

    run(scenario)
