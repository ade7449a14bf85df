"""A real browser with a page of the service, watched for errors and for requests to anywhere else."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

from playwright.async_api import Browser, Locator, Page, async_playwright, expect
from tests.helpers.needs import needs

from limpet.service import Service, ServiceOptions

__all__ = ["CHROMIUM", "FLAGS", "SHARED", "browsing", "button", "events", "trace_page"]

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


class Shared:
    """The event loop and the browser of all tests of this folder: their starts were half of the time of a test."""

    def __init__(self) -> None:
        self._runner: asyncio.Runner | None = None
        self._opened = contextlib.AsyncExitStack()
        self._browser: Browser | None = None

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        if self._runner is None:
            self._runner = asyncio.Runner()
        self._runner.run(scenario)

    async def browser(self) -> Browser:
        """Return the browser, which is started anew if a test has ended it. A page of it has an empty profile."""
        if self._browser is None or not self._browser.is_connected():
            (chromium,) = needs(CHROMIUM)
            playwright = await self._opened.enter_async_context(async_playwright())
            self._browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
            self._opened.push_async_callback(self._browser.close)
        return self._browser

    def close(self) -> None:
        runner, self._runner, self._browser = self._runner, None, None
        if runner is not None:
            runner.run(self._opened.aclose())
            runner.close()


SHARED = Shared()


@contextlib.asynccontextmanager
async def trace_page(service: Service, *, may_fail: str = "", **context: Any) -> AsyncIterator[Page]:
    """Open the trace page in the browser, with an empty profile, and wait until it is live.

    Afterwards nothing may have gone wrong in the page, save for console messages that contain ``may_fail``, and
    every request must have gone to the service.
    """
    faults: list[str] = []
    requested: list[str] = []
    browser = await SHARED.browser()
    page = await browser.new_page(**{"viewport": {"width": 1360, "height": 900}, **context})
    try:
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
        await page.close()
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

    SHARED.run(run())


def events(page: Page, label: str) -> Locator:
    """The rows of the log with this label."""
    return page.locator(f'.event[data-label="{label}"]')


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


async def try_it(page: Page) -> Locator:
    """Connect with the panel, join the group it proposes, and return what the panel receives."""
    # By the keyboard: a row that comes just then moves the buttons, and a click would miss.
    await button(page, "Connect").press("Enter")
    await expect(page.locator("#try-status")).to_have_text("Connected as me.")
    await button(page, "Join").press("Enter")
    await expect(page.locator("#try-status")).to_have_text("Joined room.")
    return page.locator("#try-received li")
