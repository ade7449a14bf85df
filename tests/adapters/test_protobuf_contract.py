"""The contract over the protobuf subprotocols, for one client of each kind."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from limpet import JSON, PROTOBUF, RELIABLE_PROTOBUF, Options
from limpet.testing.contract import PROFILES, Adapter, Check, marks_of, run_check
from limpet.testing.contract.builtin import builtin, connectors

PROFILE = PROFILES["limpet"].without("invocations", "group states", "senders")
WHOLE = "asyncio"
"""It runs every check. What the others add is the way of a message through their transports."""
KINDS = (WHOLE, "sync", "trio", "asyncio-websockets", "asyncio-aiohttp", "asyncio-picows", "sync-websockets")


def over(adapter: Adapter) -> Adapter:
    """The same client, with protobuf in place of JSON."""

    def make(url: Any, options: Options, **named: Any) -> Any:
        protocol = PROTOBUF if options.protocol == JSON else RELIABLE_PROTOBUF
        return adapter.make(url, msgspec.structs.replace(options, protocol=protocol), **named)

    return replace(adapter, make=make)


def runs(check: Check, name: str) -> bool:
    if name == WHOLE:
        return PROFILE.fits(check)
    fits = PROFILE if name in ("sync", "trio") else PROFILE.without("size limit")
    return fits.fits(check) and check.__module__.endswith(("requests", "recovery")) and "transport" in marks_of(check)


@pytest.mark.parametrize(
    ("check", "adapter"),
    [
        pytest.param(check, over(adapter), id=f"{check.__name__}-{adapter.name}")
        for adapter in [*builtin(), *connectors()]
        if adapter.name in KINDS
        for check in PROFILE.checks
        if runs(check, adapter.name)
    ],
)
def test_contract(check: Check, adapter: Adapter) -> None:
    run_check(check, adapter)
