"""The example of streamed tokens: a browser page and a Python client read a stream over connections that drop."""

from __future__ import annotations

import pytest
from playwright.async_api import expect
from tests.browser.browsing import CHROMIUM, SHARED
from tests.examples.test_examples import Example, example
from tests.helpers.needs import needs
from tests.helpers.ports import free_port

ANSWER = "You said: hold on. A limpet holds on, whatever the sea does, and so does this stream. "


@pytest.fixture
def port() -> int:
    return free_port()


def test_a_page_and_a_client_read_every_token_once_and_in_order(port: int) -> None:
    needs(CHROMIUM)

    async def browse(program: Example) -> None:
        page = await (await SHARED.browser()).new_page()
        try:
            await page.goto(f"http://127.0.0.1:{port}/")
            await expect(page.locator("#state")).to_have_text("connected")
            await page.get_by_role("button").click()
            await expect(page.locator("#answers p")).to_have_class("done")
            assert await page.locator("#answers p").text_content() == ANSWER
            assert await page.locator("#drops").text_content() == "1"
        finally:
            await page.close()

    with example("stream_tokens.py", str(port)) as program:
        assert program.hear() == "ready"
        SHARED.run(browse(program))
        assert program.hear() == ANSWER.rstrip()
