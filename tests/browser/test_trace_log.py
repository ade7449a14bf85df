"""The log of the trace page: what it remembers, shows of bytes, gives away as JSON lines, and costs."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import CDPSession, Page, expect
from tests.browser.browsing import CHROMIUM, browsing, button, events
from tests.helpers.needs import needs
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from limpet.asyncio import Client
from limpet.service import Service
from limpet_core.service import JSON, RELIABLE_JSON, ClientGrant, server_publication

pytestmark = pytest.mark.timeout(300)

ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")


@pytest.fixture(autouse=True)
def _browser() -> None:
    needs(CHROMIUM)


# --- Memory -----------------------------------------------------------------------------------------------------


def test_what_happened_before_the_page_was_opened_is_there() -> None:
    async def before(service: Service) -> None:
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            for number in range(3):
                await ann.send_to_group("room", {"number": number})

    async def scenario(service: Service, page: Page) -> None:
        await expect(events(page, "message")).to_have_count(3)
        await expect(events(page, "message").first.locator(".payload")).to_have_text('{"number":2}')
        await expect(events(page, "closed")).to_have_count(1)
        await expect(page.locator("#total-published")).to_have_text("3")
        await expect(page.locator("#total-acked")).to_have_text("3")
        await expect(page.locator("#events > li").last).to_contain_text("The service was started: ")
        # Rates are of what happens now.
        await expect(page.locator("#rate-published")).to_have_text("")

    browsing(scenario, before=before)


def test_a_feed_that_was_lost_goes_on_where_it_was() -> None:
    async def scenario(service: Service, page: Page) -> None:
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            await ann.send_to_group("room", "before")
            await expect(events(page, "ack")).to_have_count(1)
            await page.context.set_offline(True)
            memory = service._gateway.memory
            assert memory is not None
            for told in list(memory.listeners):
                told(True)
            await expect(page.locator("#live")).to_contain_text("The service is away.")
            await ann.send_to_group("room", "meanwhile")
            await page.context.set_offline(False)
            await expect(page.locator("#live")).to_have_text("Live")
            await expect(events(page, "message")).to_have_count(2)
            await expect(events(page, "ack")).to_have_count(2)
            await expect(page.locator(".started")).to_have_count(1)

    browsing(scenario, may_fail="net::ERR")


# --- Bytes ------------------------------------------------------------------------------------------------------


def test_bytes_look_like_bytes_and_protobuf_is_read_as_far_as_possible() -> None:
    name = b"type.example/Order"
    inner = b"\x08\x11\x12\x04rope\x1a\x02\x08\x05\x25\x00\x00\xc0\x3f\x2a\x02\xff\xfe"
    message = b"\n" + bytes([len(name)]) + name + b"\x12" + bytes([len(inner)]) + inner
    sent: list[tuple[str, bytes, str, str]] = [
        ("binary", bytes([0, 1, 0xAB, 0xFF]), "00 01 ab ff", "binary, 4 B"),
        ("binary", b"", "", "binary, 0 B"),
        ("binary", bytes(2048), " ".join(["00"] * 177) + " …", "binary, 2.0 KiB"),
        (
            "protobuf",
            message,
            'type.example/Order {1: 17, 2: "rope", 3: {1: 5}, 4: 1.5, 5: <ff fe>}',
            f"protobuf, {len(message)} B",
        ),
        ("protobuf", b"\xff\xff", "ff ff", "protobuf, 2 B"),
        ("protobuf", b"\n\x01x\x12\x01\xff", "x ff", "protobuf, 6 B"),
    ]

    async def scenario(service: Service, page: Page) -> None:
        rows = events(page, "message")
        for number, (data_type, data, text, kind) in enumerate(sent, 1):
            quoted = b'"' + base64.b64encode(data) + b'"'
            service.core.send_to_all("chat", server_publication(data_type, quoted))  # type: ignore[arg-type]
            await expect(rows).to_have_count(number)
            await expect(rows.first.locator(".payload .words")).to_have_text(text)
            await expect(rows.first.locator(".kind")).to_have_text(kind)
        await rows.filter(has_text="00 01 ab ff").locator(".open").click()
        await expect(page.get_by_role("region", name="Its bytes")).to_contain_text("0000  00 01 ab ff")

    browsing(scenario)


# --- Copy and export --------------------------------------------------------------------------------------------


def test_what_the_filter_shows_can_be_copied_and_saved_as_json_lines(tmp_path: Path) -> None:
    async def scenario(service: Service, page: Page) -> None:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        async with Client(service.client_url(user_id="ann\u202e", roles=ROLES)) as ann:
            await ann.send_to_group("room", {"a": "\u200bx"})
            await ann.send_to_group("other", "y")
            await expect(events(page, "ack")).to_have_count(2)
            async with page.expect_download() as waiting:
                await button(page, "Export").click()
            download = await waiting.value
            assert download.suggested_filename.endswith(".jsonl")
            await download.save_as(tmp_path / "trace.jsonl")
            text = (tmp_path / "trace.jsonl").read_text()
            assert text.isprintable() or set(text) - {"\n"} <= set(map(chr, range(0x20, 0x7F)))
            lines = [json.loads(line) for line in text.splitlines()]
            assert [line["kind"] for line in lines] == ["opened", "published", "acked", "published", "acked"]
            assert [line["number"] for line in lines] == [1, 2, 3, 4, 5]
            assert (lines[0]["userId"], lines[1]["data"]) == ("ann\u202e", '{"a":"\u200bx"}')
            await page.get_by_label("Show only what contains").fill("to group room")
            await button(page, "Copy").click()
            await expect(button(page, "Copied")).to_be_visible()
            (line,) = (await page.evaluate("navigator.clipboard.readText()")).splitlines()
            assert json.loads(line) == lines[1]

    browsing(scenario)


def test_a_stream_is_one_row_and_is_saved_with_its_fragments() -> None:
    async def scenario(service: Service, page: Page) -> None:
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        url = service.client_url(user_id="ann", roles=ROLES)
        async with connect(url, subprotocols=[Subprotocol(JSON)]) as ann:
            await ann.send('{"type":"sendToGroup","group":"room","stream":{"streamId":"s"}}')
            for number in range(1, 101):
                fragment = {"streamId": "s", "streamSequenceId": number, "dataType": "text", "data": f"{number} "}
                await ann.send(json.dumps({"type": "streamData", **fragment}))
            await ann.send('{"type":"streamEnd","streamId":"s"}')
            row = events(page, "stream")
            await expect(row).to_contain_text("100 fragments")
            await expect(row).to_contain_text("; ended")
            await expect(row.locator(".payload")).to_contain_text("98 99 100")
            await expect(page.locator(".event")).to_have_count(2)
            await row.locator(".open").click()
            await page.get_by_role("dialog").get_by_role("button", name="Copy").click()
            await expect(page.get_by_role("dialog").get_by_role("button", name="Copied")).to_be_visible()
            lines = [json.loads(line) for line in (await page.evaluate("navigator.clipboard.readText()")).splitlines()]
            kinds = [line["kind"] for line in lines]
            assert (kinds[0], kinds[-1], kinds.count("published")) == ("streamStarted", "streamEnded", 100)

    browsing(scenario)


# --- The keyboard -----------------------------------------------------------------------------------------------


def test_the_log_is_one_stop_of_the_tab_key_and_its_dialog_gives_the_focus_back() -> None:
    async def scenario(service: Service, page: Page) -> None:
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            for number in range(5):
                await ann.send_to_group("room", number)
            rows = page.locator(".event")
            await expect(rows).to_have_count(11)
            await button(page, "Refusals").focus()
            await page.keyboard.press("Tab")
            focused = page.locator(":focus")
            at = "element => [...element.closest('ol').children].indexOf(element.closest('li'))"
            # The tab key reaches the row, and in it what can be picked.
            first = await focused.evaluate(at)
            await page.keyboard.press("End")
            assert await focused.evaluate(at) == 10
            await page.keyboard.press("Home")
            await page.keyboard.press("ArrowDown")
            await page.keyboard.press("ArrowDown")
            await page.keyboard.press("ArrowUp")
            assert (first >= 0, await focused.evaluate(at)) == (True, 1)
            # A row that comes above takes nothing away.
            element = await focused.element_handle()
            await ann.send_to_group("room", "new")
            await expect(rows).to_have_count(13)
            assert await page.evaluate("element => element === document.activeElement", element)
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("dialog")).to_be_visible()
            await page.keyboard.press("Escape")
            await expect(page.get_by_role("dialog")).to_be_hidden()
            assert await page.evaluate("element => element === document.activeElement", element)
            await page.keyboard.press("Tab")
            await expect(focused).to_have_class("pick")
            await page.keyboard.press("Tab")
            assert not await page.locator("#events").evaluate("list => list.contains(document.activeElement)")

    browsing(scenario)


def test_on_a_narrow_screen_the_log_comes_first_and_a_name_is_read_whole() -> None:
    async def scenario(service: Service, page: Page) -> None:
        name = "accounting-department-of-the-harbour-office"
        async with Client(service.client_url(user_id=name, roles=ROLES)) as client:
            await client.send_to_group("room", 1)
            await expect(events(page, "message")).to_be_visible()
            log, others = page.locator(".log"), page.locator(".side")
            tops = [await each.evaluate("element => element.getBoundingClientRect().top") for each in (log, others)]
            assert tops[0] < tops[1]
            for box in (events(page, "message").locator(".who .name"), page.locator(".connections .name").first):
                assert await box.inner_text() == name
                fits = "box => box.scrollWidth <= box.clientWidth && box.scrollHeight <= box.clientHeight"
                assert await box.evaluate(fits)

    browsing(scenario, viewport={"width": 360, "height": 740})


# --- Costs ------------------------------------------------------------------------------------------------------


async def metrics(cdp: CDPSession) -> dict[str, float]:
    return {metric["name"]: metric["value"] for metric in (await cdp.send("Performance.getMetrics"))["metrics"]}


def test_an_idle_page_does_nothing_and_no_page_is_animated() -> None:
    async def scenario(service: Service, page: Page) -> None:
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            await ann.send_to_group("room", "hello")
            await expect(events(page, "message")).to_have_count(1)
            assert await page.evaluate("document.getAnimations().length") == 0
            await expect(page.locator(".fresh")).to_have_count(0)
            await ann.stop()
            await expect(page.get_by_text("Nobody is connected.")).to_be_visible()
            await page.evaluate(COUNT_TIMERS)
            cdp = await page.context.new_cdp_session(page)
            await cdp.send("Performance.enable")
            # Whatever still runs after the last event ends by itself.
            for _ in range(20):
                before = await metrics(cdp)
                timers = await page.evaluate("window.timersRun")
                await asyncio.sleep(3)
                after = await metrics(cdp)
                work = {name: after[name] - before[name] for name in ("LayoutCount", "RecalcStyleCount")}
                if not any(work.values()) and await page.evaluate("window.timersRun") == timers:
                    break
            else:
                raise AssertionError(f"the page never rests: {work}")

    browsing(scenario)


COUNT_TIMERS = """
() => {
  window.timersRun = 0;
  for (const name of ["setTimeout", "setInterval", "requestAnimationFrame"]) {
    const real = window[name].bind(window);
    window[name] = (run, ...rest) => real((...given) => { window.timersRun++; run(...given); }, ...rest);
  }
}
"""

OBSERVE = """
() => {
  window.nodesAdded = 0;
  const count = (node) => 1 + [...node.childNodes].reduce((sum, child) => sum + count(child), 0);
  new MutationObserver((records) => {
    for (const record of records) for (const node of record.addedNodes) window.nodesAdded += count(node);
  }).observe(document.body, { childList: true, subtree: true });
}
"""


def test_five_thousand_connections_are_searched_and_cost_no_more_than_fifty() -> None:
    def fill(service: Service, numbers: range) -> None:
        for number in numbers:
            grant = ClientGrant(f"user-{number}", (), ("everybody",))
            service.core.connect("chat", RELIABLE_JSON, grant, time.monotonic())

    async def nodes(page: Page) -> int:
        return int(await page.evaluate("document.querySelectorAll('*').length"))

    async def added_by_events(service: Service, page: Page) -> int:
        """The nodes that are added for 20 messages in 20 batches."""
        await page.evaluate("window.nodesAdded = 0")
        published = service.core.observers.totals.published
        for number in range(1, 21):
            service.core.send_to_user("chat", "nobody", server_publication("json", b"%d" % number))
            await expect(page.locator("#total-published")).to_have_text(f"{published + number:,}")
        return int(await page.evaluate("window.nodesAdded"))

    async def before(service: Service) -> None:
        fill(service, range(50))

    async def scenario(service: Service, page: Page) -> None:
        await page.evaluate(OBSERVE)
        rows = page.locator(".connections > li")
        await expect(rows.first).to_contain_text("user-0")
        await button(page, "Connections").click()
        few, few_nodes = await added_by_events(service, page), await nodes(page)
        fill(service, range(50, 5000))
        await expect(page.locator("#total-connections")).to_have_text("5,000")
        await expect(page.locator(".hub .summary")).to_have_text("5,000 connections · 1 group · 5,000 users")
        await expect(rows.first).to_have_attribute("aria-setsize", "5000")
        many, many_nodes = await added_by_events(service, page), await nodes(page)
        assert many <= few + 50, "an event costs what it costs, however many are connected"
        assert many_nodes < few_nodes + 1500
        assert await rows.count() < 60

        search = page.get_by_label("Search connections")
        await search.fill("USER-4321")
        await expect(rows).to_have_count(1)
        await expect(rows).to_contain_text("user-4321")
        await expect(page.locator("#connections-found")).to_have_text("1 of 5,000 connections")
        await search.fill("")
        await expect(rows.first).to_contain_text("user-0")
        await rows.first.get_by_role("button").focus()
        await page.keyboard.press("End")
        await expect(page.locator(":focus")).to_contain_text("user-4999")
        await page.keyboard.press("ArrowUp")
        await expect(page.locator(":focus")).to_contain_text("user-4998")
        assert await rows.count() < 60
        await page.keyboard.press("Enter")
        await expect(page.get_by_label("Show only what contains")).not_to_have_value("")

    browsing(scenario, before=before)


def test_a_page_that_nobody_sees_shows_what_it_missed_when_it_is_seen_again() -> None:
    async def scenario(service: Service, page: Page) -> None:
        hide: Any = """(hidden) => {
          Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
          document.dispatchEvent(new Event("visibilitychange"));
        }"""
        await page.evaluate(hide, True)
        memory = service._gateway.memory
        assert memory is not None
        received = page.locator("#total-published")
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            for number in range(70):
                await ann.send_to_group("room", number)
                await asyncio.sleep(0.21)
            await expect(received).to_have_text("0")
            await page.evaluate(hide, False)
            await expect(received).to_have_text("70")
            rows = page.locator(".event")
            await expect(rows.first).to_contain_text("request 70 is done")
            await expect(page.locator(".skipped")).to_have_count(1)

    browsing(scenario)
