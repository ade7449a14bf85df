"""Links between the pages lead to files and headings that exist."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.pages import PAGES, ROOT, broken_links


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_has_a_target(page: Path) -> None:
    assert broken_links(page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Other\n\n## A heading: `code`, and more\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#a-heading-code-and-more) [b](other.md#none) [c](none.md) [d](#none)\n# Page\n[e](#page)\n"
    )
    assert broken_links(page) == ["other.md#none", "none.md", "#none"]
