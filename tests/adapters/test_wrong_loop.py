"""A client in an event loop that it is not made for, and other slips of the first hour."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import Any

import anyio
import pytest

import limpet.anyio
import limpet.asyncio
import limpet.sync
import limpet.trio
from limpet import ClientStopped, ConnectError, GroupMessage, InvalidType, LocalProtocolError, State

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
    with pytest.raises(TypeError, match=r"^this client is async: use `async with client:`$"), make(URL):
        pass


def test_async_with_on_the_blocking_client_names_with() -> None:
    async def scenario() -> None:
        async with limpet.sync.Client(URL):  # type: ignore[attr-defined]
            pass

    with pytest.raises(TypeError, match=r"^this client blocks: use `with client:`$"):
        asyncio.run(scenario())


def test_a_request_before_the_start_names_the_way_to_start_this_client() -> None:
    with pytest.raises(ClientStopped, match=r"^the client is stopped; `async with client:` starts it$"):
        asyncio.run(limpet.asyncio.Client(URL).join_group("g"))
    with pytest.raises(ClientStopped, match=r"^the client is stopped; `with client:` starts it$"):
        limpet.sync.Client(URL).join_group("g")
