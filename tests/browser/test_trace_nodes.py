"""The trace page of a node of a cluster: who else is there, and where clients are."""

from __future__ import annotations

from typing import Any

import pytest
from playwright.async_api import Page, expect
from tests.browser.browsing import CHROMIUM, SHARED, browsing, trace_page
from tests.browser.test_accessibility import axe, violations
from tests.helpers.needs import needs
from tests.helpers.nodes import Nodes, open_client

from limpet.service import Service

__all__ = ["axe"]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(autouse=True)
def _browser() -> None:
    needs(CHROMIUM)


def test_the_nodes_and_the_place_of_each_client_are_shown() -> None:
    async def run() -> None:
        nodes = Nodes()
        async with nodes.up("north", "south") as (north, south), trace_page(north) as page:
            listed = page.locator("#nodes li")
            await expect(listed).to_have_text(["north this one", "south there"])
            await expect(page.locator("#cluster-log")).to_contain_text("Reads the log from the replica, ")
            await expect(page.locator("#cluster-problem")).to_be_hidden()
            ann, _ = await open_client(north)
            bob, _ = await open_client(south, "bob")
            row = page.locator(".connections li")
            await expect(row.filter(has_text="ann").locator(".facts")).to_contain_text("on north")
            await expect(row.filter(has_text="bob").locator(".facts")).to_contain_text("on south")
            await bob.leave()
            await ann.leave()
            await south.stop()
            await expect(listed).to_have_text(["north this one"])  # also without an event of a client

    SHARED.run(run())


def test_a_node_that_is_cut_off_says_so() -> None:
    async def run() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,), trace_page(a) as page:
            nodes.logs["a"].cut()
            await expect(page.locator("#cluster-problem")).to_contain_text("does not reach the log of its cluster")
            await expect(page.locator("#nodes li")).to_contain_text("silent for ")
            nodes.logs["a"].mend()
            await expect(page.locator("#cluster-problem")).to_be_hidden()
            await expect(page.locator("#nodes li")).to_have_text("a this one")

    SHARED.run(run())


def test_a_service_that_is_alone_shows_no_nodes() -> None:
    async def scenario(service: Service, page: Page) -> None:
        ann, _ = await open_client(service)
        await expect(page.locator(".connections .facts")).to_have_text("")
        await expect(page.locator("#nodes-card")).to_be_hidden()
        await ann.leave()

    browsing(scenario)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1360])
def test_a_checker_finds_nothing_in_it(scheme: str, width: int, axe: str) -> None:
    async def run() -> None:
        nodes = Nodes()
        view: dict[str, Any] = {"viewport": {"width": width, "height": 800}, "color_scheme": scheme}
        long = "a-node-with-a-rather-long-name." * 3
        async with nodes.up(long, "south") as (north, _), trace_page(north, **view) as page:
            await expect(page.locator("#nodes li")).to_have_count(2)
            assert await violations(page, axe) == []
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            nodes.logs[long].cut()
            await expect(page.locator("#cluster-problem")).to_be_visible()
            assert await violations(page, axe) == []
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            nodes.logs[long].mend()

    SHARED.run(run())
