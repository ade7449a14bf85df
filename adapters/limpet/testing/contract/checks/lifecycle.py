"""Start, stop, and everything that can go wrong with them."""

from __future__ import annotations

import math
import socket
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import TaskGroup

from limpet import (
    Backoff,
    ClientStopped,
    Connected,
    ConnectError,
    Disconnected,
    GroupMessage,
    InvalidType,
    InvalidValue,
    LocalProtocolError,
    Recovering,
    SendError,
    State,
    Stopped,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.checks._mute import Mute
from limpet.testing.contract.harness import WAIT, Harness, Log, prompt, raises, soon
from limpet.testing.contract.subject import GROUP, Subject


@check("transport")
async def it_starts_knows_who_it_is_and_stops(harness: Harness) -> None:
    client = harness.client(harness.service.url("ann"))
    log = Log(client, Connected, Stopped)
    assert _is_stopped(client)
    async with client:
        assert client.state is State.CONNECTED
        assert client.user_id == "ann"
        assert client.connection_id
        await log.wait(Connected)
        assert log.events == [Connected(client.connection_id, "ann")]
    assert _is_stopped(client)
    await log.wait(Stopped)
    assert log.of(Stopped) == [Stopped(None)]
    with prompt():
        await client.stop()


@check("transport", "tls", needs=("streams", "restart"))
async def it_starts_again_and_callbacks_stay(harness: Harness) -> None:
    client = harness.client()
    log = Log(client, Connected)
    for count in range(1, 4):
        async with client:
            await client.join()
            await client.send(count)
            await log.wait(Connected, count)
            stream = aiter(client)
            assert (await anext(stream)).data == count
            stream.close()
    assert len({event.connection_id for event in log.events}) == 3


@check(needs=("restart",))
async def a_second_start_raises_and_harms_nothing(harness: Harness) -> None:
    async with harness.client() as client:
        with raises(LocalProtocolError):
            await client.__aenter__()
        await client.join()
        assert client.state is State.CONNECTED


@check()
async def wrong_arguments_raise_at_once(harness: Harness) -> None:
    for url in ("http://example.test", "ws://", "example.test", "", "ws://a b/", "ws://h:99999/"):
        with raises(InvalidValue):
            harness.client(url)
    for rubbish in (7, b"ws://example.test", ["ws://example.test"], object()):
        with raises(InvalidType):
            harness.client(rubbish)


@check("transport")
async def start_fails_on_a_port_where_nobody_listens(harness: Harness) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    client = harness.client(f"ws://127.0.0.1:{port}/client/hubs/chat")
    log = Log(client, Stopped)
    error = await _fails(client)
    assert (await log.wait(Stopped)).error is error


@check("transport", needs=("restart",))
async def start_fails_when_connections_are_reset(harness: Harness) -> None:
    client = harness.client()
    harness.service.refuse()
    await _fails(client)
    harness.service.accept()
    async with client:
        await client.join()


@check("transport", needs=("url function", "status"))
async def start_fails_on_a_bad_token_and_says_so(harness: Harness) -> None:
    url = harness.service.url() + "x"
    for where in (url, lambda: url):
        error = await _fails(harness.client(where))
        assert error.status == 401
        assert url.partition("access_token=")[2] not in str(error)


@check(needs=("restart", "url function"))
async def start_fails_with_the_error_of_the_provider(harness: Harness) -> None:
    answers: list[Any] = [ZeroDivisionError("no URL today"), "http://example.test", 7, None, harness.service.url()]

    def provide() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def raises_always() -> str:
        raise ZeroDivisionError("never a URL")

    client = harness.client(provide)
    error = await _fails(client)
    assert isinstance(error.__cause__, ZeroDivisionError)
    patient = harness.client(raises_always, first_connection=Backoff(initial=0.01, maximum=0.01, limit=2))
    error = await _fails(patient)
    assert isinstance(error.__cause__, ZeroDivisionError)
    for _ in range(3):
        await _fails(client)
    async with client:
        assert client.state is State.CONNECTED


@check(needs=("url function",))
async def start_fails_in_time_when_the_provider_hangs(harness: Harness) -> None:
    provider = harness.client().slow_provider(harness.service.url, seconds=0.5)
    await _fails(harness.client(provider, connect_timeout=0.1))


@check("transport", "tls", needs=("restart",))
async def start_fails_without_an_answer_in_time(harness: Harness) -> None:
    client = harness.client(connect_timeout=0.15)
    harness.service.stall()
    await _fails(client)
    harness.service.resume()
    await _starts_at_last(client)


@check("transport", needs=("restart", "cancel", "url function"))
async def a_cancelled_start_leaves_nothing_behind(harness: Harness) -> None:
    """While it asks for the URL, connects, shakes hands, or waits for the service's first message."""
    provider = harness.client().slow_provider(harness.service.url, seconds=0.02)
    client = harness.client(provider, connect_timeout=0.5)
    harness.service.slow_down(0.03)
    for steps in range(10):
        # A start that blocks cannot be cancelled; it ends by itself.
        with prompt(), suppress(ConnectError), anyio.move_on_after(0.02 * steps):
            async with client:
                await anyio.sleep_forever()
        await soon(lambda: client.state is State.STOPPED)  # on asyncio, anyio cancels the end as well, over and over
    harness.service.stall()
    with prompt(), suppress(ConnectError), anyio.move_on_after(0.1):
        async with client:
            raise AssertionError("it cannot have started")
    assert client.state is State.STOPPED
    harness.service.slow_down()
    harness.service.resume()
    await _starts_at_last(client)


async def _starts_at_last(client: Subject) -> None:
    """Start a client whose short ``connect_timeout`` a busy machine may exceed now and then."""
    with anyio.fail_after(WAIT):
        while True:
            with suppress(ConnectError):
                async with client:
                    await client.join()
                    return


@check()
async def what_the_body_raises_passes_unchanged(harness: Harness) -> None:
    client = harness.client()
    with raises(ZeroDivisionError):
        async with client:
            raise ZeroDivisionError
    assert client.state is State.STOPPED


@check("transport", needs=("cancel",))
async def a_cancelled_body_ends_politely(harness: Harness) -> None:
    client = harness.client()
    with anyio.move_on_after(0.1) as scope:
        async with client:
            await client.join()
            await anyio.sleep(10)
    assert scope.cancelled_caught
    await soon(lambda: client.state is State.STOPPED)
    await soon(lambda: not harness.service.members(GROUP), "the end of the connection at the service")


@check()
async def stop_may_be_called_by_many_and_by_one_who_never_started(harness: Harness) -> None:
    client = harness.client()
    await client.stop()
    async with client:
        with prompt():
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(client.stop)
        assert client.state is State.STOPPED
        with raises(LocalProtocolError):
            await client.join()


@check("transport", needs=("restart", "url function"))
async def stop_during_a_start_ends_it(harness: Harness) -> None:
    """While it asks for the URL, connects, shakes hands, or waits for the service's first message."""
    provider = harness.client().slow_provider(harness.service.url, seconds=0.02)
    client = harness.client(provider, close_timeout=0.2)
    outcome: list[object] = []

    async def start() -> None:
        try:
            async with client:
                outcome.append("started")
        except ClientStopped as error:
            outcome.append(error)

    harness.service.slow_down(0.03)
    for steps in range(10):
        if steps == 9:
            harness.service.stall()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(start)
            await soon(lambda: client.state is not State.STOPPED)
            await anyio.sleep(0.02 * steps)
            with prompt():
                await client.stop()
        assert client.state is State.STOPPED
        assert len(outcome) == steps + 1
    # The stalled one; on a busy machine others may have stood by the time that they were stopped.
    assert isinstance(outcome[-1], ClientStopped)


@check("transport", "tls")
async def before_it_is_connected_nobody_waits_for_an_answer_to_the_close(harness: Harness) -> None:
    """A service that opens WebSockets and says nothing holds up neither a stop nor a cancelled start."""
    for cancelled in (False, True):
        closes: list[int] = []
        for _ in range(10):  # a client that was not aware yet that the WebSocket is open may drop it
            with Mute(harness.service_tls) as server:
                client = harness.client(server.url, connect_timeout=60.0, close_timeout=30.0)
                await _end_a_start(client, server, cancelled=cancelled)
                await soon(lambda server=server: server.ended, "the end of the connection")  # type: ignore[misc]
            if closes := server.closes:
                break
        assert closes == [1000]


@check("transport")
async def stop_settles_what_waits_for_an_answer(harness: Harness) -> None:
    failures: list[SendError] = []
    client = harness.client(close_timeout=0.2)
    async with client, harness.undisturbed() as other, anyio.create_task_group() as tasks:
        log = Log(other, GroupMessage)
        await other.join()
        harness.service.stall("to_client")
        _send_later(tasks, client, failures, 5)
        await log.wait(GroupMessage, 5)
        with prompt():
            await client.stop()
        await soon(lambda: len(failures) == 5)
    assert {(error.name, error.outcome) for error in failures} == {("Stopped", "unknown")}


@check()
async def stop_while_it_recovers_is_prompt_and_settles(harness: Harness) -> None:
    await _stop_settles_unsent(harness, Recovering)


@check()
async def stop_while_it_waits_for_the_next_attempt_is_prompt_and_settles(harness: Harness) -> None:
    reconnect = Backoff(initial=3600.0, maximum=3600.0, jitter=0.0)
    await _stop_settles_unsent(harness, Disconnected, recovery_timeout=0.05, reconnect=reconnect)


@check("transport", "tls")
async def stop_in_a_black_hole_is_bounded(harness: Harness) -> None:
    client = harness.client(close_timeout=0.3)
    async with client:
        harness.service.stall()
        with prompt():
            await client.stop()
    assert client.state is State.STOPPED


@check(needs=("streams", "restart"))
async def a_client_that_cannot_go_on_stops_and_says_why(harness: Harness) -> None:
    client = harness.client(auto_reconnect=False)
    log = Log(client, Stopped)
    async with client:
        stream = aiter(client)
        assert client.connection_id
        harness.service.end(client.connection_id, "enough")
        with raises(ConnectError):
            await anext(stream)
        with raises(LocalProtocolError):
            await client.send("x")
        assert isinstance((await log.wait(Stopped)).error, ConnectError)
        stream.close()
    async with client:
        await client.join()


def _is_stopped(client: Subject) -> bool:
    return client.state is State.STOPPED and not (client.connection_id or client.user_id or client.groups)


async def _fails(client: Subject) -> ConnectError:
    with prompt(), raises(ConnectError) as caught:
        async with client:
            raise AssertionError("it cannot have started")
    assert client.state is State.STOPPED
    return caught.error


async def _end_a_start(client: Subject, server: Mute, *, cancelled: bool) -> None:
    """Start, and end that once the WebSocket is open."""
    scope = anyio.CancelScope()
    ended = math.inf

    async def start() -> None:
        with scope, suppress(ClientStopped):
            async with client:
                raise AssertionError("it cannot have started")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(start)
        await soon(lambda: server.opened, "an open WebSocket")
        ended = anyio.current_time()
        if cancelled and client.cancellable:
            scope.cancel()
        else:
            await client.stop()
        await soon(lambda: client.state is State.STOPPED, "the stop")
    took = anyio.current_time() - ended
    assert took < 6.0, f"took {took:.2f} s, though there was nothing to wait for"


async def _stop_settles_unsent(harness: Harness, lost: type[Any], **options: Any) -> None:
    """Stop an outage, after ``lost``, while requests wait. On a busy machine they may be made after the stop: again."""
    for patience in (0.3, 3.0, WAIT):
        outcomes: list[SendError | ClientStopped] = []
        client = harness.client(**options)

        async def send(client: Subject = client, outcomes: list[SendError | ClientStopped] = outcomes) -> None:
            try:
                await client.send("x")
            except (SendError, ClientStopped) as error:
                outcomes.append(error)

        log = Log(client, lost)
        harness.service.accept()
        async with client, anyio.create_task_group() as tasks:
            harness.service.refuse()
            harness.service.cut()
            await log.wait(lost)
            for _ in range(3):
                tasks.start_soon(send)
            await anyio.sleep(patience)
            with prompt():
                await client.stop()
        assert len(outcomes) == 3
        if not any(isinstance(each, ClientStopped) for each in outcomes):
            break
    assert {(getattr(error, "name", ""), getattr(error, "outcome", "")) for error in outcomes} == {
        ("Stopped", "unsent")
    }


def _send_later(tasks: TaskGroup, client: Subject, failures: list[SendError], count: int) -> None:
    """Begin so many sends that will fail."""

    async def send() -> None:
        with raises(SendError) as caught:
            await client.send("x")
        failures.append(caught.error)

    for _ in range(count):
        tasks.start_soon(send)
