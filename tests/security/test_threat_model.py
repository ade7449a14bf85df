"""docs/explanation/security.md names, for every danger, tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
PAGE = TESTS.parent / "docs" / "explanation" / "security.md"


def names_in(path: str) -> set[str]:
    tree = ast.parse((TESTS / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_exists() -> None:
    named: list[tuple[str, str]] = []
    path = ""
    for file, test in re.findall(r"`([\w/]+\.py)?(?:::(test_\w+))?`", PAGE.read_text(encoding="utf-8")):
        path = file or path
        if file or test:
            named.append((path, test))
    assert len(named) > 30
    missing = [(path, test) for path, test in named if test and test not in names_in(path)]
    missing += [(path, "") for path, _ in named if not (TESTS / path).is_file()]
    assert not missing


def test_the_page_begins_with_the_threat_model() -> None:
    headings = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
    assert headings[:2] == ["# Security", "## Threat model"]
