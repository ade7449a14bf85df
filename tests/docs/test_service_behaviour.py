"""docs/reference/service-*.md: every row names tests that exist, and every difference has a reason."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.docs.named_tests import missing
from tests.docs.pages import ROOT, without_code

from limpet.service.rest.operations import OPERATIONS

REFERENCE = ROOT / "docs" / "reference"
PAGES = sorted(REFERENCE.glob("service-*.md"))
HEAD = ["behaviour", "Limpet", "emulator", "test"]
TABLE = re.compile(r"(?:^\|.*$\n?)+", re.MULTILINE)
REASON = re.compile(r"\bbecause\b|\breason:", re.IGNORECASE)


class Row(NamedTuple):
    """A row of a table: the test column last."""

    behaviour: str
    limpet: str
    emulator: str
    test: str


def cells(line: str) -> list[str]:
    """Return the cells of a line; a bar within a cell is written as ``\\|``."""
    return [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def rows(text: str) -> list[Row]:
    """Return the rows of all tables of a page. Raises `ValueError` for a table of another shape."""
    found: list[Row] = []
    for table in TABLE.finditer(without_code(text)):
        head, _, *lines = table[0].splitlines()
        if cells(head) != HEAD:
            raise ValueError(f"the head of a table is not {HEAD}: {head}")
        for line in lines:
            if len(row := cells(line)) != len(HEAD):
                raise ValueError(f"{len(row)} cells instead of {len(HEAD)}: {line}")
            found.append(Row(*row))
    return found


def wrong(text: str) -> list[str]:
    """Return what is wrong with the tables of a page."""
    found: list[str] = []
    seen: set[str] = set()
    for row in rows(text):
        if row.behaviour in seen:
            found.append(f"{row.behaviour}: there twice")
        seen.add(row.behaviour)
        found += [f"{row.behaviour}: an empty cell" for cell in row if not cell]
        if row.emulator != "=" and not REASON.search(row.limpet + " " + row.emulator):
            found.append(f"{row.behaviour}: a difference without a reason (`because`)")
        found += [f"{row.behaviour}: {fault}" for fault in missing(row.test)]
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_row_names_tests_and_every_difference_has_a_reason(page: Path) -> None:
    assert wrong(page.read_text("utf-8")) == []


# ---- What the pages have to have

SOURCES = [
    path for package in ("core/limpet_core", "adapters/limpet") for path in (ROOT / package / "service").rglob("*.py")
]
ALL = "\n".join(page.read_text("utf-8") for page in PAGES)


def in_sources(pattern: str) -> set[tuple[str, ...]]:
    """Return the groups of a pattern wherever it is in the service."""
    texts = [path.read_text("utf-8") for path in SOURCES]
    return {match.groups() for text in texts for match in re.finditer(pattern, text)}


def test_every_operation_has_a_row() -> None:
    named = {(method, path) for path, methods in OPERATIONS.items() for method in methods if "/chat/" not in path}
    assert len(named) > 20
    missing = {
        (method, path)
        for method, path in named
        # Operations that differ in their last part may share a row.
        if f"`{method} {path}`" not in ALL and f"`{path[path.rindex('/') + 1 :]}`" not in ALL
    }
    assert missing == set()


@pytest.mark.parametrize(
    ("pattern", "least"),
    [
        (r'OperationError\(\s*(\d+), "([\w.]+)"', 5),
        (r'"((?:Error|Info|Warning)\.[\w.]+)"', 8),
        (r'(?:Close|_with_hint)\(\s*(1\d{3}), f?"([^".{]+)', 9),  # the first sentence: a hint may follow
        (r"(?:Refusal|Rejection)\(\s*(\d{3}),", 5),
        (r'"((?:ce|x-ms|webhook|api|www)-[A-Za-z-]+)"', 10),
    ],
    ids=["errors", "codes", "closes", "handshakes", "headers"],
)
def test_every_status_close_and_header_is_in_a_row(pattern: str, least: int) -> None:
    found = in_sources(pattern)
    assert len(found) >= least
    assert {each for each in found if not all(part.lower() in ALL.lower() for part in each)} == set()


# ---- The check itself

HERE = "`docs/test_service_behaviour.py::test_a_table_that_is_wrong_is_noticed`"


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (f"| a | 200 | = | {HERE} |", ""),
        (f"| a | 200 | 404, because it is older | {HERE} |", ""),
        (rf"| a `x\|y` | 200 | = | {HERE}, {HERE} |", ""),
        (f"| a | 200 | 404 | {HERE} |", "without a reason"),
        (f"| a | 200 | | {HERE} |", "an empty cell"),
        (f"| a | 200 | = | {HERE} |\n| a | 201 | = | {HERE} |", "there twice"),
        ("| a | 200 | = | |", "no test is named"),
        ("| a | 200 | = | none |", "no test is named"),
        ("| a | 200 | = | `docs/test_nothing.py::test_a` |", "no such file"),
        ("| a | 200 | = | `docs/test_service_behaviour.py::test_a` |", "no such test"),
        ("| a | 200 | = | `docs/test_service_behaviour.py::rows` |", "not a test"),
    ],
)
def test_a_table_that_is_wrong_is_noticed(row: str, fault: str) -> None:
    found = wrong(f"| {' | '.join(HEAD)} |\n|---|---|---|---|\n{row}\n")
    assert bool(found) == bool(fault), found
    assert fault in "\n".join(found)


@pytest.mark.parametrize("table", ["| a | b |\n|---|---|\n", f"| {' | '.join(HEAD)} |\n|---|---|---|---|\n| a | b |\n"])
def test_a_table_of_another_shape_is_noticed(table: str) -> None:
    with pytest.raises(ValueError, match=r"head of a table|cells instead"):
        rows(table)
