"""A reader who pastes every block of the tutorial has a kitchen that works, and sees what the pages show.

LIMPET_PICTURE=docs/images/kitchen.png takes the picture of the page.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect
from tests.browser.browsing import CHROMIUM, FLAGS
from tests.docs.walk_tutorial import PAGES, Walk, blocks, files
from tests.helpers.needs import needs

FILES = {
    "1-start.md": ["settings.sh"],
    "2-application-server.md": ["app.py", "app.py"],
    "3-worker.md": ["worker.py"],
    "4-page.md": ["index.html", "app.py"],
    "5-when-things-break.md": [],
    "6-test.md": ["conftest.py", "test_kitchen.py"],
}
"""What a reader writes on each page."""
EXAMPLE = Path(__file__).parents[2] / "examples" / "tutorial"


def test_the_pages_are_a_chain() -> None:
    for page, following in itertools.pairwise(PAGES):
        assert f"]({following.name})" in page.read_text("utf-8").splitlines()[-1]


def test_what_a_reader_writes() -> None:
    assert {page.name: [block.file for block in blocks(page) if block.file] for page in PAGES} == FILES


def test_the_pages_have_every_file_of_the_example_in_full() -> None:
    made = {name: "\n\n".join(parts) for name, parts in files().items()}
    assert made == {path.name: path.read_text("utf-8") for path in EXAMPLE.iterdir() if path.is_file()}


@pytest.mark.timeout(600)
def test_every_block_can_be_pasted_and_shows_what_the_page_says(tmp_path: Path) -> None:
    assert sum(block.language == "text" for page in PAGES for block in blocks(page)) >= 10
    with Walk(tmp_path, None, lambda step, seconds: print(f"{seconds:6.1f} s  {step}")) as walk:
        for page in PAGES:
            walk.page(page)
            if page.name == "4-page.md":
                asyncio.run(guests(walk.adapted("http://127.0.0.1:8000/")))


async def guests(url: str) -> None:
    """Do what the page about the page says, with two windows."""
    (chromium,) = needs(CHROMIUM)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            ann, ben = await window(browser, f"{url}?guest=ann"), await window(browser, f"{url}?guest=ben")
            await ann.get_by_label("Dish").fill("cake")
            await ann.get_by_role("button", name="Order").click()
            for each in (ann, ben):
                await expect(each.locator("#tickets")).to_have_text("cake for ann is ready")
                await expect(each.locator("#people li")).to_have_count(3)
                await expect(each.locator("#people")).to_contain_text("cook: waiting")
            if picture := os.environ.get("LIMPET_PICTURE"):
                await ann.screenshot(path=picture)
            await ben.close()
            await expect(ann.locator("#people li")).to_have_count(2)
        finally:
            await browser.close()


async def window(browser: Browser, url: str) -> Page:
    page = await browser.new_page(viewport={"width": 760, "height": 460})
    await page.goto(url)
    await expect(page.locator("#state")).to_contain_text("connected as")
    return page
