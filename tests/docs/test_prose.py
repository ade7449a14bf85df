"""The prose of pages, docstrings and errors is free of a few phrases that hide the noun a reader searches for."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, without_code

SOURCES = [path for package in ("core", "adapters") for path in sorted((ROOT / package).rglob("*.py"))]

# A phrase, and the better one.
PHRASES = {
    r"\bcan not\b(?! only)": "cannot",
    r"\bwhoever\b": "the noun: the client, the task, the caller",
    r"\bthat which\b": "the noun",
    r"\bwhat somebody\b": "the noun",
    r"\bof one's own\b": "its own, your own",
}


def found(text: str) -> list[str]:
    """Return the phrases in the text with some words around them."""
    text = " ".join(text.split())
    return [
        f"{text[max(match.start() - 30, 0) : match.end() + 30]!r}: better {better}"
        for phrase, better in PHRASES.items()
        for match in re.finditer(phrase, text, re.IGNORECASE)
    ]


def texts(source: str) -> str:
    """Return the strings of a module: its docstrings and the texts of its errors."""
    strings = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return "\n.\n".join(text for text in strings if isinstance(text, str))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages(page: Path) -> None:
    assert found(re.sub("`[^`]*`", "", without_code(page.read_text("utf-8")))) == []


def test_docstrings_and_errors() -> None:
    assert len(SOURCES) > 100
    told = {path.relative_to(ROOT): found(texts(path.read_text("utf-8"))) for path in SOURCES}
    assert {path: phrases for path, phrases in told.items() if phrases} == {}


def test_the_phrases_are_found_and_no_others() -> None:
    bad = """
def call(x):
    'Wake whoever waits, in a room of one\\'s own.'
    raise ValueError(f'{x} can not be used')
"""
    assert len(found(texts(bad))) == 3
    assert found("This can not only be read but cannot be mistaken.") == []
