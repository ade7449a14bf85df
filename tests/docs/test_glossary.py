"""The glossary: words in order, two or three sentences and a link for each."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT

GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"


def entries() -> dict[str, str]:
    """Return the words with their explanations."""
    _, *parts = re.split(r"^## ", GLOSSARY.read_text("utf-8"), flags=re.MULTILINE)
    found = {}
    for part in parts:
        word, _, explanation = part.partition("\n")
        assert word not in found, f"{word} is there twice"
        found[word] = " ".join(explanation.split())
    return found


def test_the_words_are_in_order() -> None:
    words = list(entries())
    assert len(words) >= 30
    assert words == sorted(words, key=str.lower)


def test_every_word_has_a_short_explanation_and_a_link() -> None:
    for word, text in entries().items():
        explanation, see, link = text.rpartition(" See ")
        assert see, f"{word} ends without a link"
        assert re.search(r"\[[^]]+\]\([^)]+\)", link), word
        assert 1 <= len(re.findall(r"[.:](?= |$)", explanation)) <= 4, word
        assert len(explanation) <= 320, word


def test_the_glossary_is_linked_from_where_readers_begin() -> None:
    for page in ("README.md", "docs/explanation/design.md", "docs/reference/client.md"):
        assert "glossary.md)" in (ROOT / page).read_text("utf-8"), page
