"""How the async clients end a transport of `connect=`: its `close` is not interrupted, and has a time limit."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from tests.helpers.waiting import LIMIT

import limpet.anyio
import limpet.asyncio
import limpet.trio
from limpet import ConnectError, Dial, Disconnected, ServerMessage, State, Stopped
from limpet.connect import Close
from limpet.testing.contract.harness import fast, soon

URL = "ws://service/client/hubs/chat"
KINDS: dict[str, tuple[Any, str]] = {
    "asyncio": (limpet.asyncio.Client, "asyncio"),
    "anyio-asyncio": (limpet.anyio.Client, "asyncio"),
    "anyio-trio": (limpet.anyio.Client, "trio"),
    "trio": (limpet.trio.Client, "trio"),
}
Run = Callable[[Callable[[Callable[..., Any]], Awaitable[None]]], None]


@pytest.fixture(params=KINDS)
def run(request: pytest.FixtureRequest) -> Run:
    kind, backend = KINDS[request.param]

    def run_on(scenario: Callable[[Callable[..., Any]], Awaitable[None]]) -> None:
        async def main() -> None:
            with anyio.fail_after(4 * LIMIT):
                await scenario(lambda connect, **options: kind(URL, fast(**options), connect=connect))

        anyio.run(main, backend=backend)

    return run_on


class Transport:
    """A service in memory behind it answers; `close` takes its time."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.closing = anyio.Event()
        self._said: list[Any] = []
        self._news = anyio.Event()
        self.say({"type": "system", "event": "connected", "connectionId": "c", "userId": "u", "reconnectionToken": "t"})

    def say(self, message: object) -> None:
        self._said.append(json.dumps(message) if isinstance(message, dict) else message)
        self._news.set()

    async def send(self, message: str | bytes) -> None:
        await anyio.lowlevel.checkpoint()

    async def receive(self) -> Any:
        while not self._said:
            self._news = anyio.Event()
            await self._news.wait()
        return self._said.pop(0)

    async def close(self, code: int, reason: str) -> None:
        self.steps.append(f"close {code}")
        self.closing.set()
        self.say(Close(code))  # the peer's answer, which the client hears while this goes on
        try:
            for _ in range(5):
                await anyio.sleep(0.05)
            self.steps.append("closed")
        except BaseException:
            self.steps.append("interrupted")
            raise


class Hanging(Transport):
    async def close(self, code: int, reason: str) -> None:
        self.steps.append(f"close {code}")
        self.closing.set()
        try:
            await anyio.sleep_forever()
        except BaseException:
            self.steps.append("interrupted")
            raise


def test_a_close_goes_on_when_the_peer_answers_it(run: Run) -> None:
    transport: list[Transport] = []

    async def connect(_: Dial) -> Transport:
        transport.append(Transport())
        return transport[-1]

    async def scenario(make: Callable[..., Any]) -> None:
        client = make(connect, close_timeout=LIMIT)
        async with client:
            await client.stop()
        assert client.state is State.STOPPED
        assert transport[0].steps == ["close 1000", "closed"]

    run(scenario)


class Talking(Transport):
    """It says something while it is being closed, before the peer's answer."""

    async def close(self, code: int, reason: str) -> None:
        for number in range(1, 4):
            self.say({"type": "message", "from": "server", "dataType": "json", "data": number, "sequenceId": number})
            await anyio.sleep(0.02)
        await super().close(code, reason)


def test_what_arrives_while_a_transport_is_closed_ends_no_client(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    transport: list[Talking] = []

    async def connect(_: Dial) -> Talking:
        transport.append(Talking())
        return transport[-1]

    async def scenario(make: Callable[..., Any]) -> None:
        client = make(connect, close_timeout=LIMIT)
        stopped: list[Stopped] = []
        client.on(Stopped, stopped.append)
        async with client:
            await client.stop()
        assert stopped == [Stopped()]
        assert transport[0].steps == ["close 1000", "closed"]

    run(scenario)
    assert not caplog.records


class Broken(Transport):
    """Its service has said its last words and closed, when the first send fails."""

    async def send(self, message: str | bytes) -> None:
        if not self.steps:
            self.steps.append("send failed")
            self.say({"type": "message", "from": "server", "dataType": "json", "data": "last", "sequenceId": 1})
            self.say({"type": "system", "event": "disconnected", "message": "enough"})
            self.say(Close(1000))
        raise ConnectionError("gone")


def test_what_arrived_before_a_send_failed_is_received(run: Run) -> None:
    transports: list[Transport] = []

    async def connect(_: Dial) -> Transport:
        transports.append(Transport() if transports else Broken())
        return transports[-1]

    async def scenario(make: Callable[..., Any]) -> None:
        client = make(connect)
        events: list[Any] = []
        client.on(ServerMessage, events.append)
        client.on(Disconnected, events.append)
        async with client:
            await client.send_event("hello", "x", ack=False)
            await soon(lambda: len(events) == 2)
        message, disconnected = events[:2]
        assert message.data == "last"
        assert (disconnected.code, disconnected.reason) == (1000, "enough")

    run(scenario)


def test_a_close_goes_on_when_the_client_is_cancelled(run: Run) -> None:
    transport: list[Transport] = []

    async def connect(_: Dial) -> Transport:
        transport.append(Transport())
        return transport[-1]

    async def scenario(make: Callable[..., Any]) -> None:
        client = make(connect, close_timeout=LIMIT)
        with anyio.CancelScope() as scope:
            async with client, anyio.create_task_group() as tasks:
                tasks.start_soon(client.stop)
                await transport[0].closing.wait()
                scope.cancel()
                await anyio.sleep_forever()
        await soon(lambda: len(transport[0].steps) == 2)
        assert transport[0].steps == ["close 1000", "closed"]

    run(scenario)


def test_a_close_of_a_transport_that_is_replaced_has_the_same_time(run: Run) -> None:
    """Longer than the second that a close frame over TCP may take: the client goes on meanwhile."""
    first: list[Transport] = []

    class Slow(Transport):
        async def close(self, code: int, reason: str) -> None:
            self.steps.append(f"close {code}")
            await anyio.sleep(1.5)
            self.steps.append("closed")

    async def connect(_: Dial) -> Transport:
        transport = Transport() if first else Slow()
        first.append(transport)
        return transport

    async def scenario(make: Callable[..., Any]) -> None:
        client = make(connect, close_timeout=LIMIT)
        async with client:
            lost = client.events(Disconnected)
            first[0].say(Close(1008))
            assert (await anext(lost)).code == 1008
            lost.close()
            await soon(lambda: client.state is State.CONNECTED)
            await soon(lambda: len(first[0].steps) == 2)
        assert first[0].steps == ["close 1001", "closed"]

    run(scenario)


def test_a_close_that_hangs_is_cancelled_after_close_timeout(run: Run) -> None:
    transport: list[Transport] = []

    async def connect(_: Dial) -> Transport:
        transport.append(Hanging())
        return transport[-1]

    async def scenario(make: Callable[..., Any]) -> None:
        client = make(connect, close_timeout=0.3)
        stopped: list[Stopped] = []
        client.on(Stopped, stopped.append)
        async with client:
            with anyio.fail_after(LIMIT):
                await client.stop()
        assert stopped == [Stopped(None)]
        assert transport[0].steps == ["close 1000", "interrupted"]

    run(scenario)


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class SpeechlessOSError(OSError):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("error", [Speechless(), SpeechlessOSError()], ids=lambda error: type(error).__name__)
def test_an_error_without_a_text_is_told_by_its_type(error: Exception, run: Run) -> None:
    async def connect(_: Dial) -> Transport:
        raise error

    async def scenario(make: Callable[..., Any]) -> None:
        with pytest.raises(ConnectError, match=type(error).__name__):
            async with make(connect, connect_timeout=LIMIT):
                raise AssertionError("connected")

    run(scenario)


def test_a_close_that_fails_without_a_text_is_over(run: Run) -> None:
    class Failing(Transport):
        async def close(self, code: int, reason: str) -> None:
            self.steps.append(f"close {code}")
            raise Speechless

    transports: list[Transport] = []

    async def connect(_: Dial) -> Transport:
        transports.append(Failing())
        return transports[-1]

    async def scenario(make: Callable[..., Any]) -> None:
        async with make(connect, close_timeout=LIMIT) as client:
            await soon(lambda: client.state is State.CONNECTED)
        assert client.state is State.STOPPED
        assert transports[0].steps == ["close 1000"]

    run(scenario)
