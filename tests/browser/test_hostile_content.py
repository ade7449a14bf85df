"""The trace page in a real browser, under names and messages that want to be something else."""

from __future__ import annotations

import base64
import json

import pytest
from playwright.async_api import CDPSession, Locator, Page, expect
from tests.adapters.service.sockets import Client as RawClient
from tests.browser.browsing import CHROMIUM, browsing, events, try_it
from tests.helpers.needs import needs

from limpet.asyncio import Client
from limpet.service import Service
from limpet_core.service import EventHandler, Failure, HandlerCall, server_publication

pytestmark = pytest.mark.timeout(180)

ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")

LONG = 50_000

HOSTILE = {
    # What is sent, and what is seen of it.
    "room → 9,999 receivers": "room → 9,999 receivers",
    "a\u202eb\u2066c": "a\\u{202e}b\\u{2066}c",
    "ro\u200bo\u200dm\ufeff": "ro\\u{200b}o\\u{200d}m\\u{feff}",
    "\u3164\u2800\u00a0x": "\\u{3164}\\u{2800}\\u{a0}x",
    "a\nb\tc": "a\\nb\\tc",
    "\U000e0041x\ufe0f": "\\u{e0041}x\\u{fe0f}",
    "x  y ": "x  y ",
    "\u0301a\u0301\u0301\u0301\u0301\u0301": "\\u{301}a\u0301\u0301\u0301\u0301\\u{301}",
    "\\u{200b}": "\\u{200b}",
    "\u05d0\u05d1 \u0627\u0628 1": "\u05d0\u05d1 \u0627\u0628 1",
}


@pytest.fixture(autouse=True)
def _browser() -> None:
    needs(CHROMIUM)


async def texts(elements: Locator) -> list[str | None]:
    return await elements.evaluate_all("elements => elements.map((element) => element.textContent)")


# --- Long messages ----------------------------------------------------------------------------------------------


async def layout_time(cdp: CDPSession) -> float:
    """The seconds that the page has spent in layout."""
    metrics = (await cdp.send("Performance.getMetrics"))["metrics"]
    return float(next(metric["value"] for metric in metrics if metric["name"] == "LayoutDuration"))


def test_a_message_without_a_space_costs_little_more_to_lay_out_than_a_short_one() -> None:
    """Whole, the second kind takes seconds, thousands of times as long."""

    async def scenario(service: Service, page: Page) -> None:
        received = await try_it(page)
        cdp = await page.context.new_cdp_session(page)
        await cdp.send("Performance.enable")
        sent = 0

        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:

            async def quickest(text: str) -> float:
                nonlocal sent
                times: list[float] = []
                for _ in range(3):
                    before = await layout_time(cdp)
                    await ann.send_to_group("room", text)
                    sent += 1
                    await expect(received).to_have_count(sent, timeout=60_000)
                    await page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")
                    times.append(await layout_time(cdp) - before)
                return min(times)

            short = await quickest("hello")
            for kind in ("\u0301", "x", "\u200b", "\u202e\u05d0", "W\U0001f600"):
                text = (kind * LONG)[:LONG]
                assert await quickest(text) < 200 * short, ascii(kind)
                # What is laid out are escapes of a thousand characters, at most.
                assert len(await received.first.text_content() or "") < 12_000, ascii(kind)

    browsing(scenario)


def test_a_long_message_says_how_much_was_cut_and_can_be_copied_whole() -> None:
    async def scenario(service: Service, page: Page) -> None:
        received = await try_it(page)
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            await ann.send_to_group("room", "x" * 1000)
            await expect(received.first.locator(".words")).to_have_text("x" * 1000)
            await expect(received.first.get_by_role("button")).to_have_count(0)
            # A character beyond the basic plane is not cut into halves, and counts once.
            text = "y" * 999 + "\U0001f600" * 100
            await ann.send_to_group("room", text)
            await expect(received).to_have_count(2)
            await expect(received.first.locator(".words")).to_have_text("y" * 999 + "… 100 more characters")
            copy = received.first.get_by_role("button", name="Copy all")
            await copy.click()
            await expect(received.first.get_by_role("button", name="Copied")).to_be_visible()
            assert await page.evaluate("navigator.clipboard.readText()") == text

    browsing(scenario)


# --- Names ------------------------------------------------------------------------------------------------------


def test_a_name_is_seen_whole_in_a_box_of_its_own() -> None:
    """Group, user and data, in the log, the panel and the lists: the rest of a sentence is the page's own."""

    async def scenario(service: Service, page: Page) -> None:
        received = await try_it(page)
        (panel,) = service.hub().connections
        rows = events(page, "message")
        for number, (hostile, seen) in enumerate(HOSTILE.items(), 1):
            service.core.join(service.hub().connections[panel], hostile)
            async with Client(service.client_url(user_id=hostile, roles=ROLES)) as client:
                await client.send_to_group(hostile, hostile)
                await expect(rows).to_have_count(number)
                row = rows.first
                assert await texts(row.locator(".name")) == [seen, seen], ascii(hostile)
                own = (
                    "element => [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data)"
                )
                assert await row.locator(".text").evaluate(own) == ["to ", "group ", " → 1 receiver"]
                await expect(received).to_have_count(number)
                assert await texts(received.first.locator(".name")) == [seen, seen]
                # Blanks are blanks in a text, and no disguise.
                words = seen.replace("\\u{a0}", "\u00a0")
                assert await texts(received.first.locator(".words")) == [words]
                await expect(page.locator(".users .name").last).to_have_text(seen, use_inner_text=False)
            groups = await texts(page.locator(".groups .name"))
            assert seen in groups
        directions = "[...document.querySelectorAll('.name, .words')].map((box) => getComputedStyle(box).unicodeBidi)"
        assert set(await page.evaluate(directions)) == {"isolate"}

    browsing(scenario)


def test_escapes_look_different_from_the_same_text() -> None:
    async def scenario(service: Service, page: Page) -> None:
        async with (
            Client(service.client_url(user_id="a\u200b")),
            Client(service.client_url(user_id="a\\u{200b}")),
        ):
            names = page.locator(".connections .name")
            await expect(names).to_have_text(["a\\u{200b}", "a\\u{200b}"])
            assert [await names.nth(at).locator(".escaped").count() for at in (0, 1)] == [1, 0]

    browsing(scenario)


def test_an_emoji_in_a_message_stays_one() -> None:
    async def scenario(service: Service, page: Page) -> None:
        received = await try_it(page)
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            text = "👨\u200d👩\u200d👧 👩🏽\u200d🚀 ❤\ufe0f 🏳\ufe0f\u200d🌈 1\ufe0f\u20e3"
            await ann.send_to_group("room", text)
            await expect(received).to_have_count(1)
            assert await texts(received.locator(".words")) == [text]

    browsing(scenario)


def test_who_has_no_name_is_shown_different_from_who_is_called_so() -> None:
    async def scenario(service: Service, page: Page) -> None:
        received = await try_it(page)
        async with (
            Client(service.client_url(user_id="anonymous", roles=ROLES)) as named,
            Client(service.client_url(roles=ROLES)) as anonymous,
        ):
            for client in (named, anonymous):
                await client.send_to_group("room", "hello")
            service.core.send_to_group("chat", "room", server_publication("text", b'"hello"'))
            service.flush()
            await expect(received).to_have_count(3)
            kinds = [".name", ".nobody"]
            for place in (page.locator(".connections strong"), events(page, "ack").locator("strong")):
                for kind in kinds:
                    await expect(place.locator(kind).filter(has_text="anonymous")).to_have_count(1)
            for kind in kinds:
                await expect(received.locator(kind).filter(has_text="anonymous")).to_have_count(1)
            await expect(received.locator(".nobody").filter(has_text="server")).to_have_count(1)
        user = page.get_by_label("User", exact=True)
        await page.get_by_role("button", name="Disconnect").click()
        for text, kind in (("anonymous", ".name"), ("", ".nobody")):
            await user.fill(text)
            await page.get_by_role("button", name="Connect", exact=True).click()
            await expect(page.locator("#try-status")).to_have_text("Connected as anonymous.")
            await expect(page.locator(f"#try-status {kind}")).to_have_text("anonymous")
            await page.get_by_role("button", name="Disconnect").click()
            await expect(page.locator("#try-status")).to_have_text("Not connected.")

    browsing(scenario)


def test_what_is_picked_is_found_whatever_its_name() -> None:
    async def scenario(service: Service, page: Page) -> None:
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            for name in ("plain", "a\nb\u200b", "\u202ex", "y" * 1000):
                await ann.join_group(name)
                await ann.send_to_group(name, "hello")
            await expect(page.locator(".groups .chip")).to_have_count(4)
            for chip in await page.locator(".groups .chip").all():
                await chip.click()
                await expect(events(page, "joined")).to_have_count(1)
                await expect(events(page, "message")).to_have_count(1)

    browsing(scenario)


def test_a_name_cannot_imitate_the_end_of_a_list() -> None:
    async def scenario(service: Service, page: Page) -> None:
        names = ["\0more", "and 5 more", *(f"group {number}" for number in range(103))]
        async with Client(service.client_url(user_id="ann", groups=names)):
            more = page.locator(".groups li.quiet")
            await expect(more).to_have_text("and 5 more")
            await expect(page.locator(".groups .chip")).to_have_count(100)
            await expect(page.locator(".groups .name").nth(1)).to_have_text("and 5 more")

    browsing(scenario)


def test_reasons_and_errors_of_others_stay_in_their_box() -> None:
    async def scenario(service: Service, page: Page) -> None:
        await try_it(page)
        (connection_id,) = service.hub().connections
        reason = "bye\u202e\u200b. 1000: all is well"
        service.core.close_connection(connection_id, reason)
        service.flush()
        seen = "Application server closed the connection. Reason: bye\\u{202e}\\u{200b}. 1000: all is well"
        await expect(page.locator("#try-status .words")).to_have_text(seen)
        await expect(events(page, "closed").locator(".words")).to_have_text(seen)

    browsing(scenario)


# --- Sizes ------------------------------------------------------------------------------------------------------

WIDE = [
    "\u0e33" * 1000,  # one grapheme cluster of which each part takes room
    "a" + "\u0301" * 1000,
    "\u0301" * 1000,
    "\ufdfd" * 100,
    "W" * 1000,
    "\U00012031" * 100,
    # Marks that few fonts have: boxes, between which no line is broken.
    "a" + "\u1ab0" * 300,
    "a" + "\u0e47" * 300,
    "a" + "\u20dd" * 300,
    "a" + "\U0001e8d0" * 300,
    "\u200b" * 1000,
]


# The largest width and height of all names, and what becomes of what does not fit.
BOXES = """
() => {
  const elements = [...document.querySelectorAll(".name")];
  const boxes = elements.map((element) => element.getBoundingClientRect());
  const overflow = new Set(elements.map((element) => getComputedStyle(element).overflowX));
  return [Math.max(...boxes.map((box) => box.width)), Math.max(...boxes.map((box) => box.height)), [...overflow]];
}
"""


@pytest.mark.parametrize("width", [360, 1360])
def test_no_name_makes_the_page_wide_or_leaves_its_row(width: int) -> None:
    async def scenario(service: Service, page: Page) -> None:
        received = await try_it(page)
        (panel,) = service.hub().connections
        for number, hostile in enumerate(WIDE, 1):
            service.core.join(service.hub().connections[panel], hostile)
            async with Client(service.client_url(user_id=hostile, roles=ROLES)) as client:
                await client.send_to_group(hostile, hostile * 20)
                await expect(received).to_have_count(number)
                await expect(events(page, "message")).to_have_count(number)
                await expect(page.locator(".users .name")).to_have_count(2)
                assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), ascii(hostile[:2])
                widest, tallest, overflow = await page.evaluate(BOXES)
                assert (widest <= width, tallest < 60, overflow) == (True, True, ["hidden"]), ascii(hostile[:2])

    browsing(scenario, viewport={"width": width, "height": 900})


# --- Streams, invocations, states, bytes and details --------------------------------------------------------------

MARKUP = "<img src=x onerror=alert(1)>\u202e\u200b"
SEEN = "<img src=x onerror=alert(1)>\\u{202e}\\u{200b}"


def test_what_a_client_chooses_stays_in_its_box_wherever_it_is_shown() -> None:
    """Ids of streams and invocations, their data and replies, states, and the message in protobuf."""

    async def scenario(service: Service, page: Page) -> None:
        client = await RawClient.open(service.client_url(user_id=MARKUP, roles=ROLES, groups=[MARKUP]))
        await client.receive()
        await client.send(type="sendToGroup", group=MARKUP, stream={"streamId": MARKUP})
        fragment = {"streamId": MARKUP, "streamSequenceId": 1, "dataType": "text", "data": MARKUP}
        await client.send(type="streamData", **fragment)
        await client.send(type="streamEnd", streamId=MARKUP, error={"message": MARKUP})
        row = events(page, "stream")
        await expect(row).to_contain_text("failed: UserError.")
        assert await texts(row.locator(".text .name")) == [SEEN, SEEN]
        assert await texts(row.locator(".words")) == [SEEN, SEEN], "its end and its data"

        await client.send(
            type="invoke", invocationId=MARKUP, target="event", event="order", dataType="text", data=MARKUP
        )
        row = events(page, "invocation")
        await expect(row).to_contain_text("failed after")
        assert await texts(row.locator(".text .name")) == ["order", SEEN]
        assert await texts(row.locator(".payload .words")) == [json.dumps(MARKUP)], "as it was sent"

        await client.send(type="setGroupState", group=MARKUP, state={MARKUP[:60]: MARKUP})
        facts = page.locator(".connections .facts")
        await expect(facts.locator(".name")).to_have_text(SEEN)
        await expect(facts.locator(".words")).to_contain_text(SEEN[:20])
        assert "\u202e" not in (await facts.text_content() or "") + (await facts.get_attribute("title") or "")

        text = MARKUP.encode()
        inner = b"\x0a" + bytes([len(text)]) + text
        message = b"\x0a" + bytes([len(text)]) + text + b"\x12" + bytes([len(inner)]) + inner
        quoted = b'"' + base64.b64encode(message) + b'"'
        service.core.send_to_all("chat", server_publication("protobuf", quoted))
        row = events(page, "message")
        await expect(row.locator(".payload .words")).to_have_text(f'{SEEN} {{1: "{SEEN}"}}')

        await page.locator(".connections .pick").click()
        for label in ("stream", "invocation", "present"):
            await events(page, label).locator(".open").click()
            shown = page.get_by_role("dialog").locator("pre").first
            assert "\\u202e\\u200b" in (await shown.text_content() or "")
            assert "\u202e" not in (await page.get_by_role("dialog").text_content() or "")
            await page.keyboard.press("Escape")
        assert await page.locator("img[src=x]").count() == 0
        await client.leave()

    browsing(scenario)


def test_an_event_handler_is_shown_by_the_names_that_clients_gave_it() -> None:
    async def scenario(service: Service, page: Page) -> None:
        handler = EventHandler(url="http://user:secret@app.example/{event}?code=secret")
        who = ("chat", "c" * 30, MARKUP)
        event = MARKUP + "x" * 1000
        call = HandlerCall("POST", handler.url_for("chat", "e"), (), b"", handler=handler, event=event, about=who)
        call.attempts = 1
        observers = service.core.observers
        observers.handler_called(call, Failure("broken", MARKUP))
        row = events(page, "handler")
        await expect(row.locator(".text .words")).to_have_text(SEEN)
        for names in (row.locator(".text .name"), page.locator("#handlers .name")):
            await expect(names).to_contain_text(SEEN)
        assert "secret" not in await page.content()
        for number in range(100):
            observers.totals.add_call(f"{number}{MARKUP}", 1.0, failed=False)
        observers.handler_called(call, Failure("broken", ""))
        await expect(page.locator("#handlers tr")).to_have_count(21)
        await expect(page.locator("#handlers tr").last).to_contain_text("other events")
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    browsing(scenario)


@pytest.mark.parametrize(
    "data", [b"", b"\x0a", b"\x0a\xff\xff\xff\xff\x7f", b"\x0a\x02x" + b"\x12\x80" * 40, bytes(178)]
)
def test_broken_protobuf_is_shown_as_bytes_and_deep_one_costs_no_more(data: bytes) -> None:
    async def scenario(service: Service, page: Page) -> None:
        deep = b""
        for _ in range(80):
            deep = b"\x12" + bytes([len(deep)]) + deep if len(deep) < 128 else deep
        for number, content in enumerate((data, b"\x0a\x01x" + deep, data + b"\xff" * 10_000), 1):
            quoted = b'"' + base64.b64encode(content) + b'"'
            service.core.send_to_all("chat", server_publication("protobuf", quoted))
            rows = events(page, "message")
            await expect(rows).to_have_count(number)
            assert len(await rows.first.text_content() or "") < 1200

    browsing(scenario)
