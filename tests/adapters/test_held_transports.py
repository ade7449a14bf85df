"""`connect=` that returns an async context manager: one task enters it, holds it open, and leaves it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from types import TracebackType
from typing import Any

import anyio
import anyio.abc
import anyio.lowlevel
import pytest
from tests.adapters.test_transport_ends import KINDS, Run, Transport
from tests.adapters.test_transport_ends import run as run
from tests.helpers.waiting import LIMIT

from limpet import ConnectError, Dial, Disconnected, Recovering, State
from limpet._transports.held import Held
from limpet.connect import Close
from limpet.testing.contract.harness import raises, soon

Scenario = Callable[[Callable[..., Any]], Awaitable[None]]


class Library:
    """Opens transports, each with a task group of its own.

    Attributes:
        transports: all so far.
        steps: what has happened to the task groups.
        tasks: the task group of the last.
    """

    def __init__(self, kind: type[Transport] = Transport) -> None:
        self.kind = kind
        self.transports: list[Transport] = []
        self.steps: list[str] = []
        self.tasks: Any = None

    @asynccontextmanager
    async def connect(self, dial: Dial) -> AsyncGenerator[Transport]:
        try:
            async with anyio.create_task_group() as tasks:
                self.tasks = tasks
                tasks.start_soon(anyio.sleep_forever)
                transport = self.kind()
                self.transports.append(transport)
                self.steps.append("entered")
                yield transport
                self.steps += [*transport.steps, "left"]
                tasks.cancel_scope.cancel()
        finally:
            self.steps.append("ended")


def test_it_is_left_when_its_transport_is_closed(run: Run) -> None:
    library = Library()
    expected = ["entered", "close 1000", "closed", "left", "ended"]

    async def scenario(make: Callable[..., Any]) -> None:
        client = make(library.connect, close_timeout=LIMIT)
        for count in (1, 2):
            async with client:
                assert client.state is State.CONNECTED
            assert library.steps == expected * count
        with anyio.CancelScope() as scope:
            async with client:
                scope.cancel()
                await anyio.sleep_forever()
        await soon(lambda: library.steps == expected * 3)

    run(scenario)


def test_each_connection_has_its_own(run: Run) -> None:
    library = Library()

    async def scenario(make: Callable[..., Any]) -> None:
        async with make(library.connect, close_timeout=LIMIT) as client:
            lost = client.events(Disconnected)
            library.transports[0].say(Close(1008))
            assert (await anext(lost)).code == 1008
            lost.close()
            await soon(lambda: client.state is State.CONNECTED)
            await soon(lambda: library.steps.count("ended") == 1)
            assert client.state is State.CONNECTED
        assert library.steps.count("left") == len(library.transports) == 2

    run(scenario)


def test_a_task_of_it_that_fails_costs_the_connection_and_no_more(run: Run) -> None:
    library = Library()

    async def fail() -> None:
        raise ZeroDivisionError("out of tea")

    async def scenario(make: Callable[..., Any]) -> None:
        async with make(library.connect, close_timeout=LIMIT) as client:
            events = client.events(Recovering)
            library.tasks.start_soon(fail)
            lost = await anext(events)
            events.close()
            assert (lost.code, lost.reason) == (1006, "out of tea")
            await soon(lambda: len(library.transports) == 2)
        assert library.transports[0].steps == ["close 1001", "closed"]
        assert library.steps.count("ended") == 2

    run(scenario)


class Manager:
    """A context manager that is entered and left as it is told."""

    def __init__(self, enter: Callable[[], Awaitable[Any]], leave: Callable[[], Awaitable[Any]]) -> None:
        self.enter = enter
        self.leave = leave
        self.left: list[str] = []

    async def __aenter__(self) -> Any:
        return await self.enter()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.leave()
        except BaseException:
            self.left.append("interrupted")
            raise
        self.left.append("left")


async def nothing() -> None:
    """Do nothing."""


def test_what_it_raises_when_it_is_entered_is_the_reason(run: Run) -> None:
    async def refuse() -> None:
        raise ConnectError("out of tea", status=401)

    async def scenario(make: Callable[..., Any]) -> None:
        manager = Manager(refuse, nothing)
        with raises(ConnectError) as caught:
            async with make(lambda _: manager):
                raise AssertionError("connected")
        assert caught.error.status == 401
        assert manager.left == []

    run(scenario)


def test_it_is_cancelled_when_it_takes_too_long_to_enter(run: Run) -> None:
    ends: list[str] = []

    async def hang() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("cancelled")

    async def scenario(make: Callable[..., Any]) -> None:
        manager = Manager(hang, nothing)
        with raises(ConnectError):
            async with make(lambda _: manager, connect_timeout=0.1):
                raise AssertionError("connected")
        await soon(lambda: ends == ["cancelled"])
        assert manager.left == []

    run(scenario)


class Home:
    """Runs tasks for a held context manager, as a driver does."""

    def __init__(self, tasks: anyio.abc.TaskGroup) -> None:
        self._tasks = tasks

    def signal(self) -> anyio.Event:
        return anyio.Event()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], object]:
        scope = anyio.CancelScope()

        async def run() -> None:
            with scope:
                await work()

        self._tasks.start_soon(run)
        return scope.cancel

    async def finish(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        with anyio.move_on_after(LIMIT, shield=True):
            await work()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_one_that_is_entered_in_the_moment_of_the_cancellation_is_left_in_peace(backend: str) -> None:
    """Like a library that has just finished its handshake: the peer is owed a close."""

    async def leave() -> None:
        for _ in range(3):
            await anyio.sleep(0.01)

    async def main() -> None:
        async def enter() -> Transport:
            await anyio.lowlevel.checkpoint()
            scope.cancel()
            return Transport()

        manager, lost = Manager(enter, leave), list[BaseException]()
        async with anyio.create_task_group() as tasks:
            with anyio.CancelScope() as scope:
                await Held(manager, Home(tasks), lost.append).enter()
            assert scope.cancelled_caught
            assert manager.left == ["left"]
        assert lost == []

    anyio.run(main, backend=backend)


def test_one_that_swallows_the_cancellation_of_its_entry_is_left(run: Run) -> None:
    async def swallow() -> Transport:
        with anyio.CancelScope(shield=True), suppress(asyncio.CancelledError):  # that of asyncio knows no shield
            await anyio.sleep(0.3)
        return Transport()

    async def scenario(make: Callable[..., Any]) -> None:
        manager = Manager(swallow, nothing)
        with raises(ConnectError):
            async with make(lambda _: manager, connect_timeout=0.1, close_timeout=LIMIT):
                raise AssertionError("connected")
        await soon(lambda: manager.left == ["left"])

    run(scenario)


def test_it_is_cancelled_when_it_takes_too_long_to_leave(run: Run) -> None:
    async def enter() -> Transport:
        return Transport()

    async def scenario(make: Callable[..., Any]) -> None:
        manager = Manager(enter, anyio.sleep_forever)
        async with make(lambda _: manager, close_timeout=0.5):
            pass
        await soon(lambda: manager.left == ["interrupted"])

    run(scenario)


def test_what_it_gives_must_be_a_transport(run: Run) -> None:
    async def scenario(make: Callable[..., Any]) -> None:
        manager = Manager(nothing, nothing)
        with pytest.raises(ConnectError, match="MessageTransport, not NoneType"):
            async with make(lambda _: manager):
                raise AssertionError("connected")
        await soon(lambda: manager.left == ["left"])

    run(scenario)


def test_one_that_ends_by_itself_has_lost_the_connection(run: Run) -> None:
    class Suppressing:
        """Ends the block within it, and says nothing."""

        async def __aenter__(self) -> Transport:
            self.scope = anyio.CancelScope().__enter__()
            scopes.append(self.scope)
            return Transport()

        async def __aexit__(
            self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
        ) -> bool | None:
            return self.scope.__exit__(kind, error, trace)

    scopes: list[anyio.CancelScope] = []

    def connect(_: Dial) -> AbstractAsyncContextManager[Transport]:
        return Suppressing()

    async def scenario(make: Callable[..., Any]) -> None:
        async with make(connect, close_timeout=LIMIT) as client:
            events = client.events(Recovering)
            scopes[0].cancel()
            assert (await anext(events)).code == 1006
            events.close()
            await soon(lambda: len(scopes) == 2)

    run(scenario)


def test_every_async_client_is_here() -> None:
    assert {name.partition("-")[0] for name in KINDS} == {"asyncio", "anyio", "trio"}
