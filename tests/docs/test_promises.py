"""docs/explanation/promises.md names, for every promise, tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
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


def names_in(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    # A state machine of hypothesis is a test by an assignment: `TestModel = Model.TestCase`.
    machines = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Attribute) and node.value.attr == "TestCase"
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return functions | machines


def test_every_promise_of_the_design_is_in_the_table() -> None:
    assert [name for name in rows() if name.isdigit()] == [str(number) for number in range(1, 14)]


@pytest.mark.parametrize(("promise", "proof"), rows().items(), ids=rows().keys())
def test_every_promise_names_tests_that_exist(promise: str, proof: str) -> None:
    named = re.findall(r"`([^`]+)`", proof)
    assert named, f"promise {promise} names no test"
    for name in named:
        path, _, test = name.partition("::")
        assert test.startswith(("test_", "Test")), name
        assert (TESTS / path).is_file(), name
        assert test in names_in(TESTS / path), name
