"""Tests that pages name, as ``path::name`` below ``tests/``."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]


@functools.cache
def names_in(path: Path) -> frozenset[str]:
    """Return the names of the functions in a file, and of its tests that are assignments."""
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
    return frozenset(functions | machines)


def missing(cell: str) -> list[str]:
    """Return what is wrong with the tests that a cell of a table names in backticks."""
    named = re.findall(r"`([^`]+)`", cell)
    wrong = [] if named else ["no test is named"]
    for name in named:
        path, *_, test = name.split("::")
        if not test.startswith(("test_", "Test")):
            wrong.append(f"{name}: not a test")
        elif not (TESTS / path).is_file():
            wrong.append(f"{name}: no such file")
        elif test not in names_in(TESTS / path):
            wrong.append(f"{name}: no such test in the file")
    return wrong
