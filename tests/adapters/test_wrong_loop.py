"""A client in an event loop that it is not made for, and other slips of the first hour."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

import holdfast.asyncio
import holdfast.sync
import holdfast.trio
from holdfast import GroupMessage, InvalidType, LocalProtocolError, State

URL = "ws://host/client/hubs/chat"


@pytest.mark.parametrize(
    ("make", "backend", "instead"),
    [
        (holdfast.asyncio.Client, "trio", "holdfast.trio.Client"),
        (holdfast.trio.Client, "asyncio", "holdfast.asyncio.Client"),
    ],
)
def test_it_says_which_client_is_made_for_this_loop(make: Callable[..., Any], backend: str, instead: str) -> None:
    client = make(URL)

    async def enter() -> None:
        async with client:
            raise AssertionError("it can not have started")

    async def start() -> None:
        await (client.start if hasattr(client, "start") else client.run)()

    for scenario in (enter, start):
        with pytest.raises(LocalProtocolError, match=f"does not run in this event loop.*{instead}"):
            anyio.run(scenario, backend=backend)
        assert client.state is State.STOPPED


@pytest.mark.parametrize("make", [holdfast.asyncio.Client, holdfast.trio.Client, holdfast.sync.Client])
def test_what_a_function_has_returned_is_no_callback(make: Callable[..., Any]) -> None:
    with pytest.raises(InvalidType, match="callback must be callable, not NoneType"):
        make(URL).on(GroupMessage, print("", end=""))
