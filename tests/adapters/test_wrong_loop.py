"""A client in an event loop that it is not made for, and other slips of the first hour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import Any

import anyio
import pytest
from tests.helpers.waiting import LIMIT

import limpet.anyio
import limpet.asyncio
import limpet.sync
import limpet.trio
from limpet import Backoff, ClientStopped, ConnectError, GroupMessage, InvalidType, LocalProtocolError, Options, State

URL = "ws://host/client/hubs/chat"


@pytest.mark.parametrize(
    ("make", "backend", "instead"),
    [
        (limpet.asyncio.Client, "trio", "limpet.trio.Client"),
        (limpet.trio.Client, "asyncio", "limpet.asyncio.Client"),
    ],
)
def test_it_says_which_client_is_made_for_this_loop(make: Callable[..., Any], backend: str, instead: str) -> None:
    client = make(URL)

    async def enter() -> None:
        async with client:
            raise AssertionError("it cannot have started")

    async def start() -> None:
        await (client.start if hasattr(client, "start") else client.run)()

    for scenario in (enter, start):
        with pytest.raises(LocalProtocolError, match=f"does not run in this event loop.*{instead}"):
            anyio.run(scenario, backend=backend)
        assert client.state is State.STOPPED


@pytest.mark.parametrize("make", [limpet.asyncio.Client, limpet.trio.Client, limpet.anyio.Client, limpet.sync.Client])
def test_a_check_of_a_stopped_client_does_nothing_anywhere(make: Callable[..., Any]) -> None:
    client = make(URL)
    client.check()
    assert client.state is State.STOPPED


def test_checks_of_a_stopped_client_are_not_kept_for_its_next_start() -> None:
    client = limpet.sync.Client(URL)
    for _ in range(3):
        client.check()
    assert len(client._driver.worker.mailbox) == 0


@pytest.mark.parametrize(
    ("make", "backend"),
    [
        (limpet.asyncio.Client, "asyncio"),
        (limpet.anyio.Client, "asyncio"),
        (limpet.anyio.Client, "trio"),
        (limpet.trio.Client, "trio"),
    ],
)
def test_a_check_in_another_thread_says_where_it_belongs(make: Callable[..., Any], backend: str) -> None:
    async def scenario() -> None:
        async with anyio.create_task_group() as tasks:
            client = make(lambda: URL, Options(first_connection=Backoff(initial=3600.0, maximum=3600.0)), connect=fails)
            tasks.start_soon(client.start if hasattr(client, "start") else client.run)
            with anyio.fail_after(LIMIT):
                while client.state is not State.WAITING:  # noqa: ASYNC110 - a condition without an event
                    await anyio.sleep(0.01)
            with pytest.raises(LocalProtocolError, match="belongs in the event loop"):
                await anyio.to_thread.run_sync(client.check)
            client.check()
            tasks.cancel_scope.cancel()
        await client.stop()

    async def fails(_: object) -> Any:
        raise OSError("no")

    anyio.run(scenario, backend=backend)


@pytest.mark.parametrize("library", ["websockets", "aiohttp", "picows"])
def test_a_transport_for_asyncio_says_so_on_trio(library: str) -> None:
    connector = import_module(f"limpet.connect.{library}").connector

    async def scenario() -> None:
        async with limpet.trio.Client(URL, connect=connector()):
            raise AssertionError("it cannot have started")

    with pytest.raises(ConnectError, match=f"limpet.connect.{library} is for asyncio"):
        anyio.run(scenario, backend="trio")


@pytest.mark.parametrize(
    ("make", "name"), [(limpet.asyncio.Client, "connector"), (limpet.sync.Client, "blocking_connector")]
)
def test_what_makes_a_connect_must_be_called(make: Callable[..., Any], name: str) -> None:
    not_called = getattr(import_module("limpet.connect.websockets"), name)
    with pytest.raises(InvalidType, match=rf"call it, connect={name}\(\)"):
        make(URL, connect=not_called)


def test_whoever_iterates_before_the_first_start_is_warned(caplog: pytest.LogCaptureFixture) -> None:
    client = limpet.sync.Client(URL)
    with pytest.raises(TimeoutError, match=r"^no event within 0\.01 s$"):
        iter(client).next(timeout=0.01)
    assert "nothing arrives before the client is started" in caplog.text


@pytest.mark.parametrize("make", [limpet.asyncio.Client, limpet.trio.Client, limpet.sync.Client])
def test_what_a_function_has_returned_is_no_callback(make: Callable[..., Any]) -> None:
    with pytest.raises(InvalidType, match="callback must be callable, not NoneType"):
        make(URL).on(GroupMessage, print("", end=""))


@pytest.mark.parametrize("make", [limpet.asyncio.Client, limpet.trio.Client, limpet.anyio.Client])
def test_with_on_an_async_client_names_async_with(make: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"^this client is async: use `async with`, not `with`$"), make(URL):
        pass


def test_async_with_on_the_blocking_client_names_with() -> None:
    async def scenario() -> None:
        async with limpet.sync.Client(URL):  # type: ignore[attr-defined]
            pass

    with pytest.raises(TypeError, match=r"^this client blocks: use `with`, not `async with`$"):
        asyncio.run(scenario())


@pytest.mark.parametrize("make", [limpet.asyncio.Client, limpet.trio.Client, limpet.anyio.Client])
@pytest.mark.parametrize("block", ["subscribe", "watch_group_states"])
def test_iteration_over_a_block_names_async_with(make: Callable[..., Any], block: str) -> None:
    opened = getattr(make(URL), block)("g")
    with pytest.raises(TypeError, match=r"^use `async with \.\.\. as messages`, and in this block `async for` over"):
        aiter(opened)


def test_iteration_over_a_block_of_the_blocking_client_names_with() -> None:
    with pytest.raises(TypeError, match=r"^use `with \.\.\. as messages`, and in this block `for` over messages$"):
        iter(limpet.sync.Client(URL).subscribe("g"))  # type: ignore[call-overload]


def test_a_request_before_the_start_names_the_way_to_start_this_client() -> None:
    with pytest.raises(ClientStopped, match=r"^the client is stopped; `async with client:` starts it$"):
        asyncio.run(limpet.asyncio.Client(URL).join_group("g"))
    with pytest.raises(ClientStopped, match=r"^the client is stopped; `with client:` starts it$"):
        limpet.sync.Client(URL).join_group("g")
