"""Every behaviour of the contract, for every client and event loop; some over TLS."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trustme

from holdfast.testing.adapters import Adapter, own
from holdfast.testing.contract import CHECKS, Check, run_check

OVER_TLS = {
    "it_starts_again_and_callbacks_stay",
    "start_fails_without_an_answer_in_time",
    "stop_in_a_black_hole_is_bounded",
    "every_kind_of_data_arrives_as_it_was_sent",
    "a_connection_is_recovered_and_nobody_notices",
    "many_cuts_lose_nothing_and_repeat_nothing",
    "a_slow_consumer_pauses_reading_and_loses_nothing",
}


def name(value: Any) -> str:
    return str(value.name if isinstance(value, Adapter) else value.__name__)


@pytest.fixture(scope="module")
def tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    authority.configure_trust(client)
    return server, client


@pytest.mark.parametrize("adapter", own(), ids=name)
@pytest.mark.parametrize("check", CHECKS, ids=name)
def test_contract(check: Check, adapter: Adapter) -> None:
    run_check(check, adapter)


@pytest.mark.parametrize("adapter", own(), ids=name)
@pytest.mark.parametrize("check", [check for check in CHECKS if name(check) in OVER_TLS], ids=name)
def test_contract_over_tls(check: Check, adapter: Adapter, tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    run_check(check, adapter, tls=tls)


def test_the_names_above_are_names_of_checks() -> None:
    assert {name(check) for check in CHECKS} >= OVER_TLS
