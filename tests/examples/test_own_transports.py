"""The transports of the examples keep the contract, as the ready-made connectors do."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from limpet.testing.contract import PROFILES, Adapter, Blocking, Check, marks_of, run_check

EXAMPLES = Path(__file__).parents[2] / "examples"


def imported(name: str) -> ModuleType:
    """Import an example, which does nothing by that."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def adapters() -> list[Adapter]:
    own, blocking = imported("own_websocket"), imported("own_websocket_sync")

    def over(module: ModuleType) -> Any:
        return lambda url, options, ssl=None, **named: module.Client(
            url, options, connect=module.open_transport, **named
        )

    return [Adapter("own", over(own)), Adapter("own-sync", over(blocking), subject=Blocking)]


@pytest.mark.parametrize(
    ("check", "adapter"),
    [
        pytest.param(check, adapter, id=f"{check.__name__}-{adapter.name}")
        for check in PROFILES["connected"].without("addresses").checks
        for adapter in adapters()
        if "transport" in marks_of(check)
    ],
)
def test_contract(check: Check, adapter: Adapter) -> None:
    run_check(check, adapter)
