"""Invocations that are given up in the idiom of each event loop, and the client that ends amid them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
import trio
from simulation.inspect import inspect
from tests.adapters.harness import options, run
from tests.helpers.waiting import LIMIT, until

import limpet.anyio
import limpet.sync
import limpet.trio
from limpet import ClientStopped, InvalidType, InvocationError, Invoked, Reply, Session
from limpet.asyncio import Client
from limpet.asyncio.driver import Driver
from limpet.testing import BackgroundService, trace
from limpet.testing.contract.checks.event_handlers import Answer, Call, EventServer
from limpet.testing.contract.harness import soon


class Slow:
    """A service whose handler of "slow" answers when it is told to, and of any other event at once."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.server = EventServer(self.answer)
        self.service = BackgroundService(self.server.options())

    def answer(self, call: Call) -> Answer:
        if call.event == "slow":
            self.go_on.wait(LIMIT)
        return 200, "text/plain", call.event.encode()

    def called(self) -> bool:
        return bool(self.server.calls)

    def cancelled(self) -> None:
        """Wait until the service knows that the invocation was given up, and let the handler answer too late."""
        self.service.log.wait(trace.InvocationCancelled, timeout=LIMIT)
        self.go_on.set()


@contextmanager
def _slow() -> Generator[Slow]:
    slow = Slow()
    with slow.server.running(), slow.service:
        try:
            yield slow
        finally:
            slow.go_on.set()


@pytest.fixture
def slow() -> Generator[Slow]:
    with _slow() as slow:
        yield slow


# ---- asyncio


async def cancel_the_task(invocation: Awaitable[Reply], slow: Slow) -> None:
    task = asyncio.ensure_future(invocation)
    await soon(slow.called)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def leave_a_timeout(invocation: Awaitable[Reply], slow: Slow) -> None:
    async def within(scope: asyncio.Timeout) -> None:
        async with scope:
            ending = asyncio.ensure_future(_once_called(slow, lambda: scope.reschedule(0.0)))
            await invocation
        await ending

    with pytest.raises(TimeoutError):
        await within(asyncio.timeout(None))


async def wait_for_it(invocation: Awaitable[Reply], slow: Slow) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(invocation, 0.3)


async def _once_called(slow: Slow, action: Callable[[], object]) -> None:
    await soon(slow.called)
    action()


@pytest.mark.parametrize("give_up", [cancel_the_task, leave_a_timeout, wait_for_it])
def test_on_asyncio_a_call_that_is_given_up_is_cancelled_at_the_service(slow: Slow, give_up: Any) -> None:
    async def main() -> None:
        async with Client(slow.service.url("ann"), options()) as client:
            await give_up(client.invoke("slow"), slow)
            await asyncio.to_thread(slow.cancelled)
            assert await client.invoke("quick") == Reply("quick", "text")
            assert not inspect(client._session).left

    run(main)


@pytest.mark.parametrize("running", ["", "wake"])  # the latter: by the garbage collector, amid a call of the session
def test_a_coroutine_that_is_closed_gives_its_invocation_up(slow: Slow, running: str) -> None:
    async def main() -> None:
        async with Client(slow.service.url("ann"), options()) as client:
            invocation = client.invoke("slow")
            invocation.send(None)
            await soon(slow.called)
            client._session.running = running
            invocation.close()
            client._session.running = ""
            assert await client.invoke("quick") == Reply("quick", "text")
            await asyncio.to_thread(slow.cancelled)

    run(main)


def test_an_answer_and_a_cancellation_at_once_leave_nothing_behind(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply has come, and the task is cancelled before it runs: the service is told nothing."""

    async def main() -> None:
        async with Client(slow.service.url("ann"), options()) as client:
            task = asyncio.ensure_future(client.invoke("quick"))
            driver = type(client._driver)
            settle = driver.settle_invocation

            def settle_and_cancel(self: Driver, event: Invoked) -> None:
                settle(self, event)
                task.cancel()

            monkeypatch.setattr(driver, "settle_invocation", settle_and_cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not inspect(client._session).left
            assert client._session.messages_to_send() == []
        assert not slow.service.log.of(trace.InvocationCancelled)

    run(main)


def test_a_client_that_is_interrupted_amid_its_work_fails_invocations(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        client = Client(slow.service.url("ann"), options())
        await client.start()
        first = asyncio.ensure_future(client.invoke("slow"))
        await soon(slow.called)
        monkeypatch.setattr(Session, "stop", lambda *_: None)  # the session has forgotten all
        monkeypatch.setattr(Session, "disconnected", lambda *_, **__: None)
        client._driver.failed(KeyboardInterrupt())
        with pytest.raises(InvocationError, match="may or may not have been executed") as raised:
            await first
        assert (raised.value.name, raised.value.outcome) == ("Stopped", "unknown")
        monkeypatch.undo()
        await client.stop()

    run(main, debug=False)


# ---- trio and anyio


@pytest.mark.parametrize("kind", ["trio", "anyio-asyncio", "anyio-trio"])
def test_with_structured_concurrency_a_call_that_is_given_up_is_cancelled_at_the_service(slow: Slow, kind: str) -> None:
    client_type: Any = limpet.trio.Client if kind == "trio" else limpet.anyio.Client

    async def main() -> None:
        with anyio.fail_after(2 * LIMIT):
            async with client_type(slow.service.url("ann"), options()) as client, anyio.create_task_group() as tasks:
                with anyio.CancelScope() as scope:
                    tasks.start_soon(_once_called, slow, scope.cancel)
                    await client.invoke("slow")
                assert scope.cancelled_caught
                await anyio.to_thread.run_sync(slow.cancelled)
                assert await client.invoke("quick") == Reply("quick", "text")
                assert not inspect(client._session).left

    if kind == "anyio-asyncio":
        run(main)
    else:
        trio.run(main)


# ---- The blocking client


def test_the_timeout_of_the_blocking_client_cancels_at_the_service(slow: Slow) -> None:
    with limpet.sync.Client(slow.service.url("ann"), options()) as client:
        with pytest.raises(InvocationError) as raised:
            client.invoke("slow", timeout=0.3)
        assert (raised.value.name, raised.value.outcome) == ("Timeout", "unknown")
        slow.cancelled()
        assert client.invoke("quick") == Reply("quick", "text")
        assert not inspect(client._session).left


def test_a_fault_in_the_thread_of_the_blocking_client_fails_invocations(
    slow: Slow, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    client = limpet.sync.Client(slow.service.url("ann"), options(close_timeout=0.2))
    client.start()
    errors: list[InvocationError] = []

    def invoke() -> None:
        try:
            client.invoke("slow")
        except InvocationError as error:
            errors.append(error)

    thread = threading.Thread(target=invoke)
    thread.start()
    until(slow.called)
    monkeypatch.setattr(Session, "receive_messages", fail)
    slow.go_on.set()
    thread.join(LIMIT)
    assert [(error.name, error.outcome) for error in errors] == [("Stopped", "unknown")]
    client.stop()
    assert "ZeroDivisionError" in caplog.text


# ---- All


@pytest.mark.parametrize("client_type", [Client, limpet.trio.Client, limpet.anyio.Client, limpet.sync.Client])
def test_the_end_of_an_invocation_is_what_its_call_returns_and_no_event(client_type: Any) -> None:
    client = client_type("ws://example.test/client/hubs/x")
    with pytest.raises(InvalidType, match="Invoked is not handed out: the answer to a call"):
        client.on(Invoked, print)
    with pytest.raises(InvalidType, match="Invoked is not handed out"):
        client.events(Invoked)


def test_a_client_that_is_not_started_takes_no_invocation() -> None:
    async def main() -> None:
        with pytest.raises(ClientStopped):
            await Client("ws://example.test/client/hubs/x").invoke("order")

    run(main)
    with pytest.raises(ClientStopped):
        limpet.sync.Client("ws://example.test/client/hubs/x").invoke("order")
