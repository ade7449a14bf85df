"""Every behaviour of the contract, for every client and event loop; some over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any

import pytest
import trustme

from limpet.testing.contract.adapters import Adapter, connectors, own
from limpet.testing.contract.run import CHECKS, Check, run_check

OVER_TLS = {
    "it_starts_again_and_callbacks_stay",
    "start_fails_without_an_answer_in_time",
    "stop_in_a_black_hole_is_bounded",
    "every_kind_of_data_arrives_as_it_was_sent",
    "a_connection_is_recovered_and_nobody_notices",
    "many_cuts_lose_nothing_and_repeat_nothing",
    "a_slow_consumer_pauses_reading_and_loses_nothing",
}


NOT_FOR_CONNECTORS = {"a_message_that_is_too_large_is_not_taken_in_and_that_is_told"}
"""The library has a limit of its own."""

NOT_OVER_TLS = {
    # The library tells the event loop's exception handler of a handshake that is cut short, and leaves its timer for
    # it, to end by itself after a minute.
    "asyncio-picows": {"start_fails_without_an_answer_in_time", "many_cuts_lose_nothing_and_repeat_nothing"},
    # Before 3.13, Python forgets to close a socket whose peer has gone between connecting and TLS (SSLSocket._create).
    # And the library reads in one thread while it sends the handshake in another: on a busy machine it sometimes sees
    # no answer. The attempt is given up and recovery goes on, but that connection stays open until open_timeout.
    "sync-websockets": {
        "many_cuts_lose_nothing_and_repeat_nothing",
        "a_connection_is_recovered_and_nobody_notices",
    },
}


def combinations(checks: Iterable[Check], *, tls: bool = False) -> list[Any]:
    """Every check for every client, but for what is the matter of somebody else's library."""
    connected = connectors()
    return [
        pytest.param(check, adapter, id=f"{name(check)}-{name(adapter)}")
        for check in checks
        for adapter in [*own(), *connected]
        if not (name(check) in NOT_FOR_CONNECTORS and adapter in connected)
        and not (tls and name(check) in NOT_OVER_TLS.get(adapter.name, ()))
    ]


def name(value: Any) -> str:
    return str(value.name if isinstance(value, Adapter) else value.__name__)


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize(("check", "adapter"), combinations(CHECKS))
def test_contract(check: Check, adapter: Adapter) -> None:
    run_check(check, adapter)


@pytest.mark.parametrize(
    ("check", "adapter"), combinations([check for check in CHECKS if name(check) in OVER_TLS], tls=True)
)
def test_contract_over_tls(check: Check, adapter: Adapter, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    run_check(check, adapter, tls=tls)


def test_the_names_above_are_names_of_checks() -> None:
    assert {name(check) for check in CHECKS} >= OVER_TLS | NOT_FOR_CONNECTORS
    assert set().union(*NOT_OVER_TLS.values()) <= OVER_TLS
