"""A real browser with a page of the service, watched for errors and for requests to anywhere else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from playwright.async_api import Locator, Page, async_playwright, expect
from tests.helpers.needs import needs

from limpet.service import Service, ServiceOptions

__all__ = ["CHROMIUM", "FLAGS", "browsing", "button", "events", "trace_page"]

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")

# What the browser does for itself (updates, lists of sites) must not look like requests of the page.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

expect.set_options(timeout=15_000)


@contextlib.asynccontextmanager
async def trace_page(service: Service, *, may_fail: str = "", **context: Any) -> AsyncIterator[Page]:
    """Open the trace page in a browser with an empty profile, and wait until it is live.

    Afterwards nothing may have gone wrong in the page, save for console messages that contain ``may_fail``, and
    every request must have gone to the service.
    """
    (chromium,) = needs(CHROMIUM)
    faults: list[str] = []
    requested: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        try:
            page = await browser.new_page(**{"viewport": {"width": 1360, "height": 900}, **context})
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("request", lambda request: requested.append(request.url))
            page.on("websocket", lambda websocket: requested.append(websocket.url))
            page.on(
                "console",
                lambda message: faults.append(message.text) if message.type in ("error", "warning") else None,
            )
            await page.goto(f"{service.endpoint}/")
            await expect(page.locator("#live")).to_have_text("Live")
            yield page
        finally:
            await browser.close()
    assert [fault for fault in faults if not may_fail or may_fail not in fault] == []
    own = (f"{service.endpoint}/", f"{service.endpoint.replace('http', 'ws', 1)}/")
    assert [url for url in requested if not url.startswith(own)] == []


def browsing(
    scenario: Callable[[Service, Page], Awaitable[None]],
    options: ServiceOptions | None = None,
    *,
    before: Callable[[Service], Awaitable[None]] | None = None,
    **page: Any,
) -> None:
    """Run a scenario with a service and its trace page; ``before`` happens before the page is opened."""

    async def run() -> None:
        async with Service(options) as service:
            if before is not None:
                await before(service)
            async with trace_page(service, **page) as opened:
                await scenario(service, opened)

    asyncio.run(run())


def events(page: Page, label: str) -> Locator:
    """The rows of the log with this label."""
    return page.locator(f'.event[data-label="{label}"]')


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)
