"""Every check of a driver, for the examples that are drivers on event loops of others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.helpers import loops
from tests.helpers.browser import Proxy

from limpet.testing.conformance import CHECKS, Candidate, Check, Need, needs_of, run_check

EXAMPLES = ("twisted", "gevent", "tornado", "browser", "qt_like")
LACKS: dict[str, frozenset[Need]] = {"browser": loops.BROWSER_LACKS}


class Candidates:
    """The candidates that were asked for; their loops run until the end: a reactor cannot be started again."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._made: dict[str, Candidate] = {}

    def get(self, name: str) -> Candidate:
        if name not in self._made:
            self._made[name] = self._stack.enter_context(getattr(loops, name)())
        return self._made[name]


@pytest.fixture(scope="session")
def candidates() -> Iterator[Candidates]:
    with ExitStack() as stack:
        yield Candidates(stack)


@pytest.mark.parametrize(
    ("check", "name"),
    [(check, name) for check in CHECKS for name in EXAMPLES if not needs_of(check) & LACKS.get(name, frozenset())],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_conformance(check: Check, name: str, candidates: Candidates) -> None:
    run_check(check, candidates.get(name))
    assert not Proxy.alive, "functions that the page holds for ever"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_is_short(name: str) -> None:
    lines = (Path(loops.EXAMPLES) / f"{name}_client.py").read_text().splitlines()
    assert sum(bool(line.strip()) for line in lines) < 200
