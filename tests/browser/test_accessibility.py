"""The trace page under an accessibility checker: axe-core, in light and dark, wide and narrow, with its dialog open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Page, expect
from tests.browser.browsing import CHROMIUM, browsing, button, events, try_it
from tests.helpers.needs import needs
from tests.helpers.npm import install_packages

from limpet.asyncio import Client
from limpet.service import Service

pytestmark = pytest.mark.timeout(300)

HERE = Path(__file__).parent
ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")


@pytest.fixture(scope="module")
def axe() -> str:
    needs(CHROMIUM)
    install_packages(HERE)
    return (HERE / "node_modules" / "axe-core" / "axe.min.js").read_text()


async def violations(page: Page, axe: str) -> list[str]:
    """What axe finds, by all of its rules but the experimental ones."""
    await page.evaluate(axe)
    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found: dict[str, Any] = await page.evaluate("(tags) => axe.run({ runOnly: tags })", tags)
    assert len(found["passes"]) > 15, "the checker has looked at something"
    return [f"{each['id']}: {node['html']}" for each in found["violations"] for node in each["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1360])
def test_a_checker_finds_nothing_empty_full_or_with_the_dialog(scheme: str, width: int, axe: str) -> None:
    async def scenario(service: Service, page: Page) -> None:
        assert await violations(page, axe) == []
        received = await try_it(page)
        service.core.observers.totals.add_call("order", 0.01, failed=True)
        clients = [Client(service.client_url(user_id=f"user {number}", roles=ROLES)) for number in range(8)]
        for client in clients:
            await client.start()
        await clients[0].send_to_group("room", b"\x00\x01\x02" * 400)
        await clients[0].send_to_group("room", "x" * 3000)
        service.drop(clients[1].connection_id or "")
        await expect(events(page, "message")).to_have_count(2)
        await expect(received).to_have_count(2)
        await expect(page.locator("#handlers-card")).to_be_visible()
        await expect(page.locator(".fresh")).to_have_count(0)
        await button(page, "Acks").click()
        await button(page, "Pause").click()
        assert await violations(page, axe) == []
        await events(page, "message").last.locator(".open").click()
        await expect(page.get_by_role("dialog")).to_be_visible()
        assert await violations(page, axe) == []
        for client in clients:
            await client.stop()

    browsing(scenario, viewport={"width": width, "height": 800}, color_scheme=scheme)
