"""The clients with structured concurrency, trio's and anyio's on both backends: task groups, scopes, errors."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.helpers.buffers import note_releases
from tests.helpers.waiting import LIMIT

import limpet.anyio
import limpet.trio
from limpet import (
    Ack,
    Connected,
    ConnectError,
    Dial,
    Disconnected,
    GroupMessage,
    LocalProtocolError,
    Options,
    SendError,
    Session,
    State,
    Stopped,
)
from limpet._structured.submitted import Submitted
from limpet._structured.tcp import TcpConnection
from limpet._transports.route import Route
from limpet.anyio.client import BACKEND
from limpet.testing import BackgroundService
from limpet.testing.contract.harness import fast

GROUP = "g"
Make = Callable[..., Any]
Scenario = Callable[[Make, BackgroundService], Awaitable[None]]
KINDS = {
    "trio": (limpet.trio.Client, "trio"),
    "anyio-asyncio": (limpet.anyio.Client, "asyncio"),
    "anyio-trio": (limpet.anyio.Client, "trio"),
}


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest) -> Callable[[Scenario], None]:
    kind, backend = KINDS[request.param]

    def run_on(scenario: Scenario) -> None:
        async def main() -> None:
            with anyio.fail_after(2 * LIMIT):
                await scenario(lambda url, options=None, **more: kind(url, options or fast(), **more), service)

        with BackgroundService() as service:
            anyio.run(main, backend=backend)

    return run_on


def test_it_runs_in_a_task_group_until_it_is_stopped(run: Callable[[Scenario], None]) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        client = make(service.url())
        async with anyio.create_task_group() as tasks:
            await tasks.start(client.run)
            assert client.state is State.CONNECTED
            await client.join_group(GROUP)
            await client.stop()
        assert client.state is State.STOPPED

    run(scenario)


def test_cancelling_the_task_group_closes_the_connection(run: Callable[[Scenario], None]) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        client = make(service.url())
        async with anyio.create_task_group() as tasks:
            await tasks.start(client.run)
            await client.join_group(GROUP)
            tasks.cancel_scope.cancel()
        assert client.state is State.STOPPED
        while service.members(GROUP):  # noqa: ASYNC110 - the service was told: it waits for no recovery
            await anyio.sleep(0.005)

    run(scenario)


def test_a_cancellation_hides_no_error_of_the_body(run: Callable[[Scenario], None]) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        client = make(service.url())
        with pytest.raises(ZeroDivisionError):  # noqa: PT012
            with anyio.CancelScope() as scope:
                async with client:
                    scope.cancel()
                    raise ZeroDivisionError
        assert client.state is State.STOPPED
        with anyio.CancelScope() as scope:
            async with client:
                scope.cancel()
                await anyio.sleep(3600)
        assert scope.cancelled_caught
        assert client.state is State.STOPPED

    run(scenario)


def test_errors_come_as_they_are_and_not_in_a_group(run: Callable[[Scenario], None]) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        with pytest.raises(ConnectError):
            async with make(service.url() + "x"):
                raise AssertionError("not started")
        with pytest.raises(ConnectError):
            await make(service.url() + "x").run()
        with pytest.raises(ZeroDivisionError):
            async with make(service.url()):
                raise ZeroDivisionError
        async with make(service.url(roles=())) as client:
            with pytest.raises(SendError):
                await client.join_group(GROUP)
            with pytest.raises(LocalProtocolError):
                await client.run()
        # In a task group of the application's it is this group that makes an exception group of them.
        with pytest.RaisesGroup(ConnectError):
            async with anyio.create_task_group() as tasks:
                await tasks.start(make(service.url() + "x").run)

    run(scenario)


def test_timeouts_around_requests_and_iteration(run: Callable[[Scenario], None]) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        async with make(service.url()) as client:
            await client.join_group(GROUP)
            service.stall("to_client")
            with pytest.raises(TimeoutError), anyio.fail_after(0.05):
                await client.send_to_group(GROUP, 1)
            with anyio.move_on_after(0.05) as scope:
                async for _ in client:
                    raise AssertionError("nothing can have come")
            assert scope.cancelled_caught
            service.resume()
            assert (await anext(aiter(client))).data == 1
            await client.send_to_group(GROUP, 2)

    run(scenario)


def test_an_async_callback_has_the_loops_own_words(run: Callable[[Scenario], None]) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        async with make(service.url()) as client:
            done = anyio.Event()

            @client.on(GroupMessage)  # type: ignore[untyped-decorator]
            async def take(_: GroupMessage) -> None:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(anyio.sleep, 0.01)
                with anyio.move_on_after(0.01):
                    await anyio.sleep_forever()
                done.set()

            await client.join_group(GROUP)
            await client.send_to_group(GROUP, 1)
            await done.wait()

    run(scenario)


@pytest.mark.parametrize("amid", ["a callback", "nothing"])
def test_cancelling_the_task_group_gives_up_async_callbacks_and_no_plain_one(
    run: Callable[[Scenario], None], amid: str
) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        client = make(service.url())
        cancelled: list[int] = []
        plain: list[Any] = []
        ended: list[Any] = []
        began = anyio.Event()

        async def take(event: Any) -> None:
            began.set()
            try:
                if type(event) is GroupMessage and event.data == 0:
                    await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                cancelled.append(event.data)
                raise
            ended.append(event)

        for kind in (GroupMessage, Disconnected, Stopped):
            client.on(kind, take)
            client.on(kind, plain.append)
        async with anyio.create_task_group() as tasks:
            await tasks.start(client.run)
            await client.join_group(GROUP)
            if amid == "a callback":
                service.publish(GROUP, range(3))
                await began.wait()
                await client.send_to_group("other", 0)  # so that the others are here as well
            tasks.cancel_scope.cancel()
        assert ended == []
        heard = [event.data for event in plain[:-2]]
        assert heard == ([0, 1, 2] if amid == "a callback" else [])
        assert cancelled == heard[:1]
        assert [type(event) for event in plain[-2:]] == [Disconnected, Stopped]
        gc.collect()  # Python warns of coroutines that were never awaited
        async with make(service.url()) as other, client:
            await client.join_group(GROUP)
            await other.send_to_group(GROUP, "again")
            while not ended:  # noqa: ASYNC110
                await anyio.sleep(0.002)
        assert [event.data for event in ended if type(event) is GroupMessage] == ["again"]
        assert type(ended[-1]) is Stopped

    run(scenario)


def test_a_callback_whose_inner_task_is_cancelled_has_failed_and_holds_up_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with limpet.anyio.Client(service.url(), fast()) as client:
            seen: list[int] = []

            async def cancelled(message: GroupMessage) -> None:
                task = asyncio.ensure_future(asyncio.sleep(10))
                asyncio.get_running_loop().call_soon(task.cancel)
                await task

            client.on(GroupMessage, cancelled)
            client.on(GroupMessage, lambda message: seen.append(message.data))
            await client.join_group(GROUP)
            service.publish(GROUP, range(3))
            with anyio.fail_after(LIMIT):
                while len(seen) < 3:  # noqa: ASYNC110
                    await anyio.sleep(0.002)
            assert seen == [0, 1, 2]
            assert client.state is State.CONNECTED

    with BackgroundService() as service:
        anyio.run(main)
    assert caplog.text.count("a callback for GroupMessage failed") == 3


class _Deaf:
    """A transport of messages whose ``receive`` does not return when it is closed."""

    def __init__(self) -> None:
        self._greeted = False

    async def send(self, message: str | bytes) -> None:
        """Nobody reads it."""

    async def receive(self) -> str:
        if self._greeted:
            await anyio.sleep_forever()
        self._greeted = True
        return '{"type":"system","event":"connected","connectionId":"c1","userId":"u","reconnectionToken":"t"}'

    async def close(self, code: int, reason: str) -> None:
        """It is closed."""


def test_a_transport_that_goes_on_waiting_when_it_is_closed(run: Callable[[Scenario], None]) -> None:
    async def connect(_: Dial) -> _Deaf:
        return _Deaf()

    async def scenario(make: Make, service: BackgroundService) -> None:
        client = make(service.url(), fast(close_timeout=60.0), connect=connect)
        async with client:
            # Around what must stop by itself: the block's own end is shielded.
            with anyio.fail_after(LIMIT):
                await client.stop()
        assert client.state is State.STOPPED

    run(scenario)


def test_it_starts_again_as_soon_as_it_has_stopped(run: Callable[[Scenario], None]) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        for _ in range(5):
            client = make(service.url())
            async with anyio.create_task_group() as tasks:
                await tasks.start(client.run)
                await client.stop()
                with anyio.fail_after(LIMIT):
                    await tasks.start(client.run)
                await anyio.sleep(0.01)
                assert client.state is State.CONNECTED
                await client.join_group(GROUP)
                await client.stop()

    run(scenario)


def test_a_callback_starts_it_again(run: Callable[[Scenario], None]) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        client = make(service.url())
        stood = anyio.Event()
        async with anyio.create_task_group() as tasks:

            def again(_: Stopped) -> None:
                client.off(Stopped, again)
                client.on(Connected, lambda _: stood.set())
                tasks.start_soon(client.run)

            client.on(Stopped, again)
            await tasks.start(client.run)
            await client.stop()
            with anyio.fail_after(LIMIT):
                await stood.wait()
            await client.join_group(GROUP)
            await client.stop()

    run(scenario)


def test_reading_from_a_full_stream_while_it_starts_again(run: Callable[[Scenario], None]) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        client = make(service.url(), Options(max_buffered_messages=4))
        stream = client.events(GroupMessage)
        async with anyio.create_task_group() as tasks:
            await tasks.start(client.run)
            await client.join_group(GROUP)
            service.publish(GROUP, range(4))
            while not stream._buffer.full:  # noqa: ASYNC110
                await anyio.sleep(0.005)
            await client.stop()
            await anyio.sleep(0.05)
            tasks.start_soon(client.run)
            while client.state is State.STOPPED:
                await anyio.lowlevel.checkpoint()
            assert [(await anext(stream)).data for _ in range(4)] == [0, 1, 2, 3]
            with anyio.fail_after(LIMIT):
                while client.state is not State.CONNECTED:  # noqa: ASYNC110
                    await anyio.sleep(0.005)
            await client.stop()

    run(scenario)


def test_reading_goes_on_behind_a_full_stream_in_a_loop_that_is_not_run_by_anyio() -> None:
    """Such as that of a web framework: sniffio finds the name of the loop in tasks alone, not in callbacks."""

    async def scenario() -> None:
        with BackgroundService() as service:
            async with limpet.anyio.Client(service.url(), fast(max_buffered_messages=4)) as client:
                stream = client.events(GroupMessage)
                await client.join_group(GROUP)
                service.publish(GROUP, range(4))
                while not stream._buffer.full:  # noqa: ASYNC110
                    await anyio.sleep(0.005)
                assert not client._session.reading
                assert [(await anext(stream)).data for _ in range(4)] == [0, 1, 2, 3]
                with anyio.fail_after(LIMIT):
                    while not client._session.reading:  # noqa: ASYNC110
                        await anyio.sleep(0.005)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["events", "batches", "typed"])
def test_a_cancellation_counts_though_an_event_comes_in_each_turn_of_the_loop(kind: str) -> None:
    """On asyncio, anyio cancels no wait whose event is set already: here each is when anyio looks."""

    async def scenario() -> None:
        with BackgroundService() as service:
            async with limpet.anyio.Client(service.url(), fast()) as client:
                stream: Any = client.batches() if kind == "batches" else client.events(GroupMessage)
                if kind == "typed":
                    stream = client.events(GroupMessage, type=int)
                fed, taken = 0, 0

                def feed() -> None:
                    nonlocal fed
                    client._driver.delivery.deliver([GroupMessage(group=GROUP, data=fed, data_type="json")])
                    fed += 1
                    if fed < 100:
                        asyncio.get_running_loop().call_soon(feed)

                with anyio.CancelScope() as scope:
                    asyncio.get_running_loop().call_soon(feed)
                    async for _ in stream:
                        taken += 1
                        if taken == 3:
                            scope.cancel()
                        if taken == 50:
                            break
                assert taken == 3
                stream.close()

    anyio.run(scenario)


def test_a_loop_that_cancels_its_own_scope_ends_soon(run: Callable[[Scenario], None]) -> None:
    """At the eighth event on trio, at the 32nd on anyio, where a look takes longer."""

    async def scenario(make: Make, service: BackgroundService) -> None:
        async with make(service.url()) as client:
            await client.join_group(GROUP)
            service.publish(GROUP, range(200))
            await client.send_to_group(GROUP, 200)
            stream = aiter(client)
            taken = []
            with anyio.CancelScope() as scope:
                async for message in stream:
                    taken.append(message.data)
                    scope.cancel()
            assert scope.cancelled_caught
            assert len(taken) <= client._driver.backend.events_per_look <= 32
            taken += [(await anext(stream)).data for _ in range(201 - len(taken))]
            assert taken == list(range(201))
            stream.close()

    run(scenario)


def test_a_loop_over_a_full_stream_asks_for_its_release_once(
    run: Callable[[Scenario], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To ask at each event would cost as much as the event."""
    asked = note_releases(monkeypatch)

    async def scenario(make: Make, service: BackgroundService) -> None:
        async with make(service.url(), fast(max_buffered_messages=100)) as client:
            stream = client.events(GroupMessage)
            client._driver.delivery.deliver([GroupMessage(group=GROUP, data=number) for number in range(300)])
            assert asked == [100]  # when it was filled
            assert [(await anext(stream)).data for _ in range(300)] == list(range(300))
            assert asked == [100, 50]
            assert not client._driver.delivery.held
            stream.close()

    run(scenario)


def test_a_cancellation_counts_though_an_answer_comes_in_each_turn_of_the_loop() -> None:
    async def scenario() -> None:
        with BackgroundService() as service:
            async with limpet.anyio.Client(service.url(), fast()) as client:
                answers: list[Submitted] = []
                for _ in range(100):
                    answer, _now = client._driver.begin_submitted()
                    answer.driver, answer.key, answer.observed = client._driver, 0, None
                    answers.append(answer)
                coming, taken = iter(answers), 0

                def feed() -> None:
                    if (answer := next(coming, None)) is not None:
                        answer.set_result(Ack(1))
                        asyncio.get_running_loop().call_soon(feed)

                with anyio.CancelScope() as scope:
                    asyncio.get_running_loop().call_soon(feed)
                    for answer in answers:
                        assert await answer == Ack(1)
                        taken += 1
                        if taken == 3:
                            scope.cancel()
                assert taken == 3
                assert await answers[3] == Ack(1), "the cancellation has taken nothing"

    anyio.run(scenario)


def test_no_async_callback_begins_after_the_cancellation_though_an_event_comes_in_each_turn_of_the_loop() -> None:
    async def scenario() -> None:
        with BackgroundService() as service:
            client = limpet.anyio.Client(service.url(), fast())
            called: list[Any] = []
            plain: list[Any] = []

            async def call(event: Any) -> None:
                called.append(event)
                if len(called) == 3:
                    tasks.cancel_scope.cancel()

            for kind in (GroupMessage, Disconnected, Stopped):
                client.on(kind, call)
                client.on(kind, lambda event: plain.append(event))

            def feed() -> None:
                if client.state is not State.STOPPED:
                    client._driver.delivery.deliver([GroupMessage(group=GROUP, data="x", data_type="json")])
                    client._driver._run_callbacks()
                    asyncio.get_running_loop().call_soon(feed)

            async with anyio.create_task_group() as tasks:
                await tasks.start(client.run)
                asyncio.get_running_loop().call_soon(feed)
            assert len(called) == 3
            assert len(plain) > 3
            assert [type(event) for event in plain[-2:]] == [Disconnected, Stopped]

    anyio.run(scenario)


def test_a_full_stream_is_dropped_when_the_loop_is_gone(run: Callable[[Scenario], None]) -> None:
    kept = []

    async def scenario(make: Make, service: BackgroundService) -> None:
        async with make(service.url(), Options(max_buffered_messages=4)) as client:
            stream = client.events(GroupMessage)
            kept.append(stream)
            await client.join_group(GROUP)
            service.publish(GROUP, range(4))
            while not stream._buffer.full:  # noqa: ASYNC110
                await anyio.sleep(0.005)

    run(scenario)
    kept.pop().close()


def test_what_was_taken_while_it_was_stopped_does_not_hold_up_the_next_run(run: Callable[[Scenario], None]) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        client = make(service.url(), Options(max_buffered_messages=4))
        stream = client.events(GroupMessage)
        async with client:
            await client.join_group(GROUP)
            service.publish(GROUP, range(4))
            while not stream._buffer.full:  # noqa: ASYNC110
                await anyio.sleep(0.005)
        for _ in range(4):
            await anext(stream)
        async with client:
            await client.join_group(GROUP)
            service.publish(GROUP, [4])
            with anyio.fail_after(LIMIT):
                assert (await anext(stream)).data == 4

    run(scenario)


def test_iteration_over_a_stopped_client_can_be_cancelled(run: Callable[[Scenario], None]) -> None:
    async def scenario(make: Make, service: BackgroundService) -> None:
        async with make(service.url()) as client:
            pass
        with anyio.CancelScope() as scope:
            scope.cancel()
            async for _ in client:
                raise AssertionError("it is stopped")
            raise AssertionError("not cancelled")
        assert scope.cancelled_caught

    run(scenario)


class _Slow:
    """A TCP connection that takes the first bytes of a piece and then no more."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.closed = False

    async def receive(self, max_bytes: int) -> bytes:
        raise AssertionError("nobody reads")

    async def send(self, data: bytes) -> None:
        self.taken.append(data)
        await anyio.sleep_forever()

    async def aclose(self) -> None:
        self.closed = True


class _Broken(_Slow):
    """A connection that takes a part at once, and has been reset when it is to take the rest."""

    def send_now(self, data: bytes) -> bytes:
        return b""

    async def send(self, data: bytes) -> None:
        self.taken.append(data)
        raise ConnectionResetError


class _Pipeline:
    """Something to send, and a goodbye."""

    def address(self) -> tuple[str, int]:
        return "localhost", 80

    def data_to_send(self) -> bytes:
        return b"a long frame"

    def close_notify(self) -> bytes:
        return b"goodbye"


class _SlowRoute(Route):
    def pipeline(self, session: Session, dial: Dial) -> Any:
        return _Pipeline()


def test_no_goodbye_in_the_midst_of_a_frame() -> None:
    async def main() -> None:
        session = Session(random=lambda: 0.5)
        session.start(0.0)
        session.url_ready("ws://localhost/client/hubs/h", 0.0)
        assert session.dial is not None
        stream = _Slow()

        async def dial(host: str, port: int) -> _Slow:
            return stream

        route = _SlowRoute("ws://localhost/client/hubs/h", None, False, None)
        connection = TcpConnection(dataclasses.replace(BACKEND, open_tcp=dial), route, session, session.dial, print)
        assert await connection.open()
        with anyio.move_on_after(0.01):
            await connection.send()
        with anyio.move_on_after(0.01):
            await connection.close()
        assert stream.closed
        assert stream.taken == [b"a long frame"]

    anyio.run(main)


def test_the_rest_of_what_was_sent_at_once_fails_once() -> None:
    """Its writer waits then, and does not go round and round."""

    class Once(_Pipeline):
        failures = 0

        def __init__(self) -> None:
            self.frames = [b"a long frame"]

        def data_to_send(self) -> bytes:
            return self.frames.pop() if self.frames else b""

        def send_failed(self, reason: str, now: float) -> None:
            self.failures += 1

    pipeline = Once()

    class OnceRoute(Route):
        def pipeline(self, session: Session, dial: Dial) -> Any:
            return pipeline

    async def main() -> None:
        session = Session(random=lambda: 0.5)
        session.start(0.0)
        session.url_ready("ws://localhost/client/hubs/h", 0.0)
        assert session.dial is not None
        stream = _Broken()

        async def dial(host: str, port: int) -> _Broken:
            return stream

        route = OnceRoute("ws://localhost/client/hubs/h", None, False, None)
        drained = []
        connection = TcpConnection(
            dataclasses.replace(BACKEND, open_tcp=dial), route, session, session.dial, lambda: drained.append(1)
        )
        assert await connection.open()
        assert connection.send_now()
        assert await connection.send()
        assert not await connection.send()
        assert (stream.taken, pipeline.failures, drained) == ([b""], 1, [1])
        await connection.close()
        assert stream.taken == [b""]  # no goodbye in the midst of a frame
        assert not connection.send_now()

    anyio.run(main)
