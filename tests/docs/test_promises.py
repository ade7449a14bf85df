"""docs/explanation/promises.md names, for every promise, tests that exist."""

from __future__ import annotations

import pytest
from tests.docs.named_tests import TESTS, missing

PAGE = TESTS.parent / "docs" / "explanation" / "promises.md"


def rows() -> dict[str, str]:
    """The table: the first column to the last."""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and len(cells) == 3 and cells[0] not in ("#", "---"):
            assert cells[0] not in found, f"{cells[0]} is there twice"
            found[cells[0]] = cells[2]
    return found


def test_every_promise_of_the_design_is_in_the_table() -> None:
    assert [name for name in rows() if name.isdigit()] == [str(number) for number in range(1, 14)]


@pytest.mark.parametrize("proof", rows().values(), ids=rows().keys())
def test_every_promise_names_tests_that_exist(proof: str) -> None:
    assert missing(proof) == []
