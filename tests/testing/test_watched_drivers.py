"""The drivers of the shipped clients use their session as the strict one demands."""

from __future__ import annotations

import selectors
import threading
from typing import Any

import pytest
import trio

import limpet._clients.driver
from limpet.testing import Misuse, Watched
from limpet.testing.contract import CHECKS, Adapter, Check, run_check
from limpet.testing.contract.builtin import builtin, connectors

DRIVERS = [
    adapter
    for adapter in [*builtin(), *connectors()]
    if adapter.name in ("asyncio", "trio", "sync", "asyncio-websockets")
]
# Those in which most happens.
MANY = {
    *(
        "many_cuts_lose_nothing_and_repeat_nothing",
        "stop_in_a_black_hole_is_bounded",
        "a_black_hole_is_found_and_recovered",
    ),
    *("a_start_that_is_cut_anywhere_fails_or_connects", "a_slow_consumer_pauses_reading_and_loses_nothing"),
    *(
        "a_refusal_that_asks_for_a_delay_has_it_and_a_start_with_a_backoff_goes_on",
        "a_check_makes_the_attempt_that_waits",
    ),
    *("a_request_timeout_holds_during_an_outage", "a_cancelled_start_leaves_nothing_behind"),
}

assert {each.__name__ for each in CHECKS} >= MANY

BUSY = 20.0
"""Seconds between two calls after which a driver has certainly waited, on however slow a machine."""


class Waits(trio.abc.Instrument):
    """Looks at the sessions of this thread before its event loop waits."""

    def __init__(self) -> None:
        self.sessions: list[tuple[int, Watched]] = []

    def before_io_wait(self, timeout: float) -> None:
        if timeout != 0:
            for thread, session in self.sessions:
                if thread == threading.get_ident():
                    session.check_drained(writable=False)


@pytest.fixture
def misuses(adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> list[Misuse]:
    """Watch every session that is made, and each wait of its loop; return the misuses that are found.

    Not the waits of the blocking client, which has several threads: one may wait while another is in a call.
    """
    found: list[Misuse] = []
    waits = Waits()
    select = selectors.EpollSelector.select

    class Noting(Watched):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, patience=BUSY, **kwargs)
            self.misuses = found
            if trio.lowlevel.in_trio_run():
                trio.lowlevel.add_instrument(waits)
            waits.sessions.append((threading.get_ident(), self))

    def checked(self: selectors.EpollSelector, timeout: float | None = None) -> Any:
        waits.before_io_wait(1.0 if timeout is None else timeout)
        return select(self, timeout)

    if not adapter.name.startswith("sync"):
        monkeypatch.setattr(selectors.EpollSelector, "select", checked)
    monkeypatch.setattr(limpet._clients.driver, "Session", Noting)
    return found


@pytest.mark.parametrize("adapter", DRIVERS, ids=lambda adapter: adapter.name)
@pytest.mark.parametrize("check", [check for check in CHECKS if check.__name__ in MANY], ids=lambda each: each.__name__)
def test_drivers_under_the_strict_session(check: Check, adapter: Adapter, misuses: list[Misuse]) -> None:
    run_check(check, adapter)
    assert misuses == []
