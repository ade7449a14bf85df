"""Every check of a driver, for the drivers of Limpet's own clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from tests.helpers.shims import blocking, in_a_loop

from limpet.testing.conformance import CHECKS, Candidate, Check, run_check

LOOPS = {"asyncio": ("asyncio", "asyncio"), "trio": ("trio", "trio"), "anyio": ("anyio", "asyncio")}


@pytest.fixture(scope="module", params=[*LOOPS, "sync"])
def candidate(request: pytest.FixtureRequest) -> Iterator[Candidate]:
    with ExitStack() as stack:
        loop = LOOPS.get(request.param)
        yield blocking() if loop is None else stack.enter_context(in_a_loop(*loop))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conformance(check: Check, candidate: Candidate) -> None:
    run_check(check, candidate)


def test_every_check_has_a_name_of_its_own_and_there_are_a_few_dozen() -> None:
    assert len({check.__name__ for check in CHECKS}) == len(CHECKS) > 50
