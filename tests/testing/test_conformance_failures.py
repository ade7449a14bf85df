"""What the checks of drivers say when they fail, without pytest's help."""

from __future__ import annotations

import re
import runpy
import socket
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.helpers.shims import blocking

from limpet import GroupMessage, InvalidType, InvalidValue
from limpet.asyncio import Client
from limpet.testing import Misuse, Watched, contract
from limpet.testing.conformance import (
    CHECKS,
    Bench,
    Candidate,
    Check,
    NotConforming,
    bench,
    needs_of,
    run_check,
    run_conformance,
)

CHECKS_OF_MINE = """
from limpet import State


def it_is_connected_before_its_start(bench):
    '''A driver connects
    all by itself.'''
    driver = bench.driver()
    states = [driver.state]
    assert [
        str(len(states)),
        states[0],
        states[5:6],
    ] == [State.CONNECTED]


def it_has_a_thousand_events(bench):
    driver = bench.connected()
    assert driver.events[1_000] is None and any(event.nothing for event in driver.events)


async def its_group_is_joined(harness):
    client = harness.client()
    assert client.state is State.CONNECTED


def it_has_ended(bench):
    driver = bench.connected()
    driver.do("join_group", 5)
"""


def failing(check: Check) -> str:
    lines: list[str] = []
    with pytest.raises(NotConforming) as failed:
        run_conformance(blocking(), [check], report=lines.append)
    line, total = lines
    assert total == "0 checks passed, 1 failed"
    assert line.removeprefix("FAILED ") in str(failed.value)
    assert "fails 1 check:" in str(failed.value)
    return line


@pytest.fixture
def mine(tmp_path: Path) -> dict[str, Any]:
    """Checks in a file of their own, whose asserts are as Python has them, and not as pytest writes them anew."""
    path = tmp_path / "mine.py"
    path.write_text(CHECKS_OF_MINE)
    return runpy.run_path(str(path))


def test_a_bare_assert_tells_its_line_its_values_and_the_events(mine: dict[str, Any]) -> None:
    lines = failing(mine["it_is_connected_before_its_start"]).splitlines()
    assert lines[0] == "FAILED it_is_connected_before_its_start: AssertionError"
    assert lines[1] == "    The check: A driver connects all by itself."
    assert lines[2].startswith("    mine.py, line 10: assert [str(len(states)), states[0], states[5:6]] == [State.CON")
    assert lines[3:6] == [
        "    where states[0] is <State.STOPPED: 'stopped'>",
        "    where states[5:6] is []",
        "    where State.CONNECTED is <State.CONNECTED: 'connected'>",
    ]
    assert re.fullmatch(r"    Driver 1, <.*>, gave \[\]", lines[-1])


def test_what_cannot_be_evaluated_is_said_and_events_are_told(mine: dict[str, Any]) -> None:
    lines = failing(mine["it_has_a_thousand_events"]).splitlines()
    assert lines[0].endswith("IndexError: list index out of range")
    assert lines[1].startswith("    mine.py, line 19: assert driver.events[1000] is None and any(")
    assert "gave [Connected(" in lines[2]


def test_the_contract_of_clients_tells_so_too(mine: dict[str, Any]) -> None:
    check, client = mine["its_group_is_joined"], contract.Adapter("asyncio", lambda url, options, ssl: Client(url))
    with pytest.raises(AssertionError) as failed:
        contract.run_check(check, client)
    assert failed.value.__notes__[0] == "mine.py, line 24: assert client.state is State.CONNECTED"
    assert "where client.state is <State.STOPPED: 'stopped'>" in failed.value.__notes__


def test_any_other_error_tells_its_line(mine: dict[str, Any]) -> None:
    lines = failing(mine["it_has_ended"]).splitlines()
    assert lines[0].startswith("FAILED it_has_ended: InvalidType: ")
    assert lines[1] == "    mine.py, line 29: driver.do('join_group', 5)"


@pytest.mark.parametrize("need", ["puase", "", "Pause"])
def test_a_need_that_does_not_exist_is_refused(need: Any) -> None:
    with pytest.raises(InvalidValue, match=f"lacks has '{need}'; the needs are backpressure, close codes, pause, "):
        Candidate("mine", blocking().make, lacks=frozenset({need}))


def test_a_candidate_of_wrong_types_is_refused() -> None:
    make: Any = blocking().make
    wrong: Any = "pause"
    with pytest.raises(InvalidType, match="lacks must be a set of needs"):
        Candidate("mine", make, lacks=wrong)
    with pytest.raises(InvalidType, match="make must be a function, not str"):
        Candidate("mine", wrong)
    with pytest.raises(InvalidType, match="call must be a function, not str"):
        Candidate("mine", make, wrong)


def test_a_misuse_is_a_failure_also_if_the_loop_has_caught_it() -> None:
    def swallows(bench: Bench) -> None:
        with suppress(Misuse):
            Watched(random=lambda: 0.5).sender_goes_on()

    with pytest.raises(AssertionError, match="the strict session has found: sender_goes_on without sender_waits"):
        run_check(swallows, blocking())
    Watched(random=lambda: 0.5).start(1.0)
    run_check(lambda bench: None, blocking())  # the next check knows nothing of it


def test_a_failure_tells_of_the_misuses_before_it() -> None:
    def swallows(bench: Bench) -> None:
        session = Watched(random=lambda: 0.5)
        for _ in range(3):
            with suppress(Misuse):
                session.sender_goes_on()
        raise LookupError("something else")

    text = failing(swallows)
    assert "LookupError: something else" in text
    assert text.count("sender_goes_on without sender_waits") == 1


def test_a_run_ends_with_the_number_of_checks() -> None:
    lines: list[str] = []
    run_conformance(blocking(), [lambda bench: None], report=lines.append)
    assert lines == ["ok     <lambda>", "1 check passed"]


def test_a_socket_that_is_left_open_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "WAIT", 0.5)
    with socket.socket() as left:

        def leaves(bench: Bench) -> None:
            left.bind(("127.0.0.1", 0))
            kept.append(socket.create_server(("127.0.0.1", 0)))

        kept: list[socket.socket] = []
        with pytest.raises(AssertionError, match="sockets that are left open: socket ") as failed:
            run_check(leaves, blocking())
        assert str(kept[0].getsockname()) in str(failed.value)
        kept[0].close()


def test_a_request_that_returns_no_ack_id_is_told() -> None:
    def joins(bench: Bench) -> None:
        driver = bench.driver()
        driver.connect()
        driver.driver.join_group = str
        driver.join()

    assert "join_group returned 'group1': return the ack id that the session returns" in failing(joins)


def test_a_check_with_needs_names_them() -> None:
    [check] = [each for each in CHECKS if each.__name__ == "requests_are_answered_during_a_pause"]
    assert needs_of(check) == {"pause"}

    class NoPause:
        def __init__(self, *arguments: Any) -> None:
            self._driver = blocking().make(*arguments)

        def __getattr__(self, name: str) -> Any:
            if name in ("pause", "resume"):
                raise AttributeError(name)
            return getattr(self._driver, name)

    lines: list[str] = []
    with pytest.raises(NotConforming):
        run_conformance(Candidate("mine", NoPause), [check], report=lines.append)  # type: ignore[arg-type]
    assert "The check is for drivers that have 'pause'" in lines[0]


def test_a_large_message_does_not_drown_the_failure() -> None:
    def sends(bench: Bench) -> None:
        driver = bench.connected()
        driver.driver.send_to_group("group1", "x" * 500_000)
        driver.wait(GroupMessage)
        raise LookupError("after the message")

    text = failing(sends)
    assert "GroupMessage(" in text
    assert len(text) < 5_000
