"""Every behaviour of the contract, for every client and event loop; some over TLS."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trustme

from limpet.testing.contract import CHECKS, PROFILES, Adapter, Check, marks_of, run_check
from limpet.testing.contract.builtin import builtin, connectors

OVER_TLS = {check.__name__ for check in CHECKS if "tls" in marks_of(check)}

NOT_OVER_TLS: dict[str, set[str]] = {}


ONE_CONNECTOR = "asyncio-websockets"
"""It runs every check. The other connectors, and uvloop, differ from it, or from asyncio, by their transport alone."""


def runs(check: Check, adapter: Adapter, *, tls: bool = False) -> bool:
    """Whether a check is worth a run with an adapter, and no matter of somebody else's library."""
    marks, connects = marks_of(check), adapter in CONNECTED
    if tls:
        return "tls" in marks and check.__name__ not in NOT_OVER_TLS.get(adapter.name, ())
    if not PROFILES["connected" if connects else "limpet"].fits(check):
        return False
    transport_alone = adapter.name == "asyncio-uvloop" or (connects and adapter.name != ONE_CONNECTOR)
    return "transport" in marks or not transport_alone


CONNECTED = connectors()


def combinations(*, tls: bool = False) -> list[Any]:
    return [
        pytest.param(check, adapter, id=f"{check.__name__}-{adapter.name}")
        for check in CHECKS
        for adapter in [*builtin(), *CONNECTED]
        if runs(check, adapter, tls=tls)
    ]


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize(("check", "adapter"), combinations())
def test_contract(check: Check, adapter: Adapter) -> None:
    run_check(check, adapter)


@pytest.mark.parametrize(("check", "adapter"), combinations(tls=True))
def test_contract_over_tls(check: Check, adapter: Adapter, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    run_check(check, adapter, tls=tls)


def test_every_check_has_a_name_of_its_own_and_the_names_above_are_names_of_checks() -> None:
    names = [check.__name__ for check in CHECKS]
    assert len(set(names)) == len(names)
    assert set().union(*NOT_OVER_TLS.values()) <= OVER_TLS
    assert {adapter.name for adapter in CONNECTED} >= {ONE_CONNECTOR, *NOT_OVER_TLS}
