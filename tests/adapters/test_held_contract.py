"""The contract over a WebSocket library with a task group, which `connect=` holds open."""

from __future__ import annotations

from typing import Any

import pytest
from tests.helpers.nursery import open_websocket

import limpet.anyio
import limpet.trio
from limpet.testing.contract import PROFILES, Adapter, Check, marks_of, run_check


def over(client: Any) -> Any:
    return lambda url, options, ssl=None, **named: client(url, options, connect=open_websocket, **named)


ADAPTERS = [
    Adapter("trio", over(limpet.trio.Client), backend="trio"),
    Adapter("anyio-asyncio", over(limpet.anyio.Client)),
]


@pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda adapter: adapter.name)
@pytest.mark.parametrize(
    "check",
    # The names of hosts are the library's concern.
    [each for each in PROFILES["connected"].without("addresses").checks if "transport" in marks_of(each)],
    ids=lambda check: check.__name__,
)
def test_contract(check: Check, adapter: Adapter) -> None:
    run_check(check, adapter)
