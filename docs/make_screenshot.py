"""Take docs/images/trace.png, the trace page at work: ``python docs/make_screenshot.py [light|dark]``.

Needs chromium, and Playwright for Python from the dependency group "test".
"""

from __future__ import annotations

import asyncio
import shutil
import sys
from pathlib import Path

from playwright.async_api import Page, async_playwright

from limpet import Options, SendError
from limpet.asyncio import Client
from limpet.service import Service

TARGET = Path(__file__).parent / "images" / "trace.png"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync"]
ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")


async def scene(service: Service, page: Page) -> None:
    """Let something worth a picture happen: orders, a stream, bytes, a refusal, a drop and a recovery."""
    await page.get_by_role("button", name="Connect", exact=True).click()
    await page.get_by_text("Connected as me.").wait_for()
    await page.get_by_role("button", name="Join", exact=True).click()
    quick = Options(sequence_ack_interval=0.4)
    ann_url = service.client_url(user_id="ann", roles=ROLES, groups=["orders"])
    ben_url = service.client_url(user_id="ben", groups=["orders", "room"])
    async with Client(ann_url, quick) as ann, Client(ben_url, quick) as ben:
        await ann.send_to_group("orders", {"id": 17, "item": "rope", "metres": 170})
        await ben.set_group_state("orders", {"status": "reading"})
        try:
            await ben.join_group("captains")
        except SendError:
            pass
        else:
            raise AssertionError("ben has no such role")
        assert ann.connection_id is not None
        service.drop(ann.connection_id)
        await page.locator('.event[data-label="recovered"]').wait_for()
        await ann.send_to_group("room", "Back again, and nothing is missing.")
        async with ann.open_stream("orders") as stream:
            for word in ["Rope", "is", "on", "its", "way,", "and", "two", "anchors", "with", "it."]:
                await stream.write(f"{word} ")
        await ann.send_to_group("orders", bytes(range(64)))
        await asyncio.sleep(1.0)
        await page.get_by_label("Message to the group").fill("Ahoy!")
        await page.get_by_role("button", name="Send", exact=True).click()
        # The last rows stop glowing, and the focus ring goes.
        await asyncio.sleep(2.0)
        await page.evaluate("document.activeElement.blur()")
        await page.mouse.move(0, 0)
        await page.screenshot(path=TARGET)


async def main(scheme: str) -> None:
    """Run a service and a browser, and take the picture."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("chromium is needed to take a screenshot; install it and try again")
    async with Service(port=8080) as service, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = await browser.new_page(
            viewport={"width": 1280, "height": 960},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        await page.goto(f"{service.endpoint}/")
        await page.get_by_text("Live", exact=True).wait_for()
        await scene(service, page)
        await browser.close()


if __name__ == "__main__":
    asyncio.run(main(*(sys.argv[1:2] or ["light"])))
