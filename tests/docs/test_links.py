"""Links between the pages lead to files and headings that exist."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.docs.pages import PAGES, ROOT, broken_links, without_code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_has_a_target(page: Path) -> None:
    assert broken_links(page) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_another_host_can_be_followed(page: Path) -> None:
    """Their form alone: the tests have no network."""
    assert [url for url in urls(page.read_text("utf-8")) if not well_formed(url)] == []


def urls(text: str) -> list[tuple[str, str]]:
    return re.findall(r"\]\((https?:[^)\s]*)\)|<(https?:[^>\s]*)>", without_code(text))


def well_formed(found: tuple[str, str]) -> bool:
    url = urlsplit("".join(found))
    local = url.hostname in ("127.0.0.1", "localhost")
    return bool(url.hostname) and (local or (url.scheme == "https" and "." in url.hostname and "@" not in url.netloc))


def test_urls_that_cannot_be_followed_are_found() -> None:
    found = urls(
        "[a](https://example.com/x) <http://127.0.0.1:8080/> [b](http://example.com) <https://nowhere> [c](https://)"
    )
    assert [well_formed(url) for url in found] == [True, True, False, False, False]


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Other\n\n## A heading: `code`, and more\n")
    page = tmp_path / "page.md"
    page.write_text(
        "[a](other.md#a-heading-code-and-more) [b](other.md#none) [c](none.md) [d](#none)\n# Page\n[e](#page)\n"
    )
    assert broken_links(page) == ["other.md#none", "none.md", "#none"]


@pytest.mark.parametrize("folder", ["howto", "explanation", "tutorial"])
def test_every_page_of_a_folder_is_in_a_group_of_its_index_and_in_that_order_at_the_side(folder: str) -> None:
    text = (ROOT / "docs" / folder / "index.md").read_text("utf-8")
    linked = re.findall(r"\]\(([\w-]+)\.md\)", without_code(text))
    pages = {page.stem for page in (ROOT / "docs" / folder).glob("*.md")} - {"index"}
    assert pages - set(linked) == set()
    at_the_side = re.findall(r"^([\w-]+)$", text.partition("```{toctree}")[2], re.MULTILINE)
    assert linked == (at_the_side or sorted(pages))
