"""The site that `make docs` builds has every public name and command, and asks no other host for anything."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import walk_packages

import click
import pytest
from playwright.sync_api import Browser, sync_playwright
from tests.browser.browsing import CHROMIUM, FLAGS
from tests.docs.pages import ROOT
from tests.helpers.needs import leave_out, needs

import limpet
from limpet.cli.commands import cli

DOCS = ROOT / "docs"
REFERENCE = "\n".join(page.read_text("utf-8") for page in sorted((DOCS / "reference").glob("*.md")))
ON_A_PAGE = re.findall(r"^\.\. public-names:: ([\w.]+)$", REFERENCE, re.MULTILINE)
PARTS = re.findall(r"^   :part: (\w+)$", REFERENCE, re.MULTILINE)
DIAGRAMS = "https://cdn.jsdelivr.net/npm/mermaid@11.12.0/"
NO_PACKAGES = {"limpet.cli", "limpet.service.trace", "limpet.testing.virtual.service"} | {
    f"limpet.service.cluster.{name}" for name in ("errors", "log", "memory", "view")
}
"""They have an ``__all__``, and are the command line and parts of packages that have their names."""


def names_of(package: str) -> list[str]:
    module = import_module(package)
    own = [name for name, each in vars(module).items() if getattr(each, "__module__", "") == package]
    return list(getattr(module, "__all__", [name for name in own if not name.startswith("_")]))


def test_every_public_package_is_in_the_reference_once() -> None:
    found = walk_packages(limpet.__path__, "limpet.")
    names = [each.name for each in found if "._" not in each.name and ".checks" not in each.name]
    public = {name for name in names if hasattr(import_module(name), "__all__")} - NO_PACKAGES
    assert public <= set(ON_A_PAGE)
    assert len(set(ON_A_PAGE) - {"limpet"}) == len([name for name in ON_A_PAGE if name != "limpet"])
    assert sorted(PARTS) == ["core", "errors", "events", "options", "values"]


@pytest.mark.timeout(600)
def test_the_site(tmp_path: Path) -> None:
    """One build for all that is to be seen: it takes a quarter of a minute."""
    if find_spec("sphinx") is None:
        leave_out("sphinx is not installed (make docs installs it)")
    site = tmp_path / "site"
    options = ["--quiet", "--nitpicky", "--fail-on-warning", "--keep-going", "-b", "html"]
    built = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, "-d", tmp_path / "cache", DOCS, site],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert (built.returncode, built.stderr) == (0, "")
    check_names(site)
    check_command_line(site)
    check_hidden_code(site)
    with browser() as chromium:
        check_pages(site, chromium)
        check_search(site, chromium)


def check_names(site: Path) -> None:
    ids = {name for page in site.rglob("*.html") for name in re.findall(r' id="([\w.]+)"', page.read_text("utf-8"))}
    wanted = {f"{package}.{name}" for package in ON_A_PAGE for name in names_of(package)}
    assert len(wanted) > 120
    assert sorted(wanted - ids) == []


def check_command_line(site: Path) -> None:
    text = (site / "reference" / "command-line.html").read_text("utf-8")
    assert len(cli.commands) > 5
    assert [character for character in "\u2013\u201c\u201d\u2018\u2019" if character in html.unescape(text)] == []
    for name, command in cli.commands.items():
        _, heading, section = text.partition(f'<section id="limpet-{name}">')
        assert heading, f"limpet {name} is not in the reference"
        section = html.unescape(re.sub(r"<[^>]+>", "", section.partition("<section id=")[0]))
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert parameter.opts[0] in section, f"limpet {name} {parameter.opts[0]}"


def check_hidden_code(site: Path) -> None:
    assert "replace(" not in (site / "index.html").read_text("utf-8")


@contextmanager
def browser() -> Iterator[Browser]:
    (chromium,) = needs(CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def check_pages(site: Path, browser: Browser) -> None:
    """Pages fit on a telephone, and ask other hosts for nothing but the code that draws diagrams."""
    page = browser.new_page(viewport={"width": 360, "height": 800})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route("https://**", lambda route: route.abort())
    for path in sorted(site.rglob("*.html")):
        asked.clear()
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path.name
        assert [url for url in asked if not url.startswith(("file:", "data:", DIAGRAMS))] == [], path.name
    page.goto((site / "reference" / "client.html").as_uri())
    scrolled = "each => each.scrollWidth - each.clientWidth"
    assert page.locator(".table-wrapper").first.evaluate(scrolled) <= 0, "its table cannot be read on a telephone"
    page.set_viewport_size({"width": 1280, "height": 800})
    for path in sorted(site.glob("reference/service-*.html")):
        page.goto(path.as_uri())
        tables = page.locator(".table-wrapper:has(th:nth-child(4))")
        assert tables.count() > 0
        # Names of tests that do not break leave the words beside them a few letters each.
        assert max(table.evaluate(scrolled) for table in tables.all()) <= 0, path.name
    page.close()


def check_search(site: Path, browser: Browser) -> None:
    page = browser.new_page()
    page.goto((site / "search.html").as_uri() + "?q=MessagesMissed")
    page.locator("#search-results li a").first.wait_for(timeout=15_000)
    page.close()
