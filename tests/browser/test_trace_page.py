"""The trace page in a real browser: what somebody sees and does."""

from __future__ import annotations

import asyncio
import re

import pytest
from azure.messaging.webpubsubservice.aio import WebPubSubServiceClient
from playwright.async_api import Page, expect
from starlette.requests import Request
from starlette.responses import Response
from tests.adapters.service.sockets import Client as RawClient
from tests.adapters.service.webhook import webhook
from tests.browser.browsing import CHROMIUM, SHARED, browsing, button, events, trace_page, try_it
from tests.helpers.needs import needs
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

from limpet import SendError
from limpet.asyncio import Client
from limpet.service import Service, ServiceOptions
from limpet_core.service import JSON

pytestmark = pytest.mark.timeout(180)

ROLES = ("webpubsub.joinLeaveGroup", "webpubsub.sendToGroup")


@pytest.fixture(autouse=True)
def _browser() -> None:
    needs(CHROMIUM)


# --- Seeing -----------------------------------------------------------------------------------------------------


def test_clients_appear_with_what_they_do_and_disappear() -> None:
    async def scenario(service: Service, page: Page) -> None:
        await expect(page.get_by_text("Nobody is connected.")).to_be_visible()
        async with Client(service.client_url("news", user_id="ann", roles=ROLES)) as ann:
            hub = page.locator(".hub")
            await expect(hub.get_by_role("heading", name="news")).to_be_visible()
            await expect(page.locator(".connections strong")).to_have_text("ann")
            await expect(events(page, "opened")).to_contain_text("connected to news")
            await ann.join_group("room")
            await expect(hub.locator(".groups")).to_contain_text("room 1")
            await expect(hub.locator(".users")).to_contain_text("ann 1")
            await ann.send_to_group("room", {"what": "<img src=x onerror=alert(1)>"})
            message = events(page, "message")
            await expect(message).to_contain_text("to group room → 1 receiver")
            await expect(message.locator(".payload")).to_have_text('{"what":"<img src=x onerror=alert(1)>"}')
            await expect(events(page, "ack")).to_have_count(2)
            await expect(page.locator("#total-published")).to_have_text("1")
            await expect(page.locator("#total-delivered")).to_have_text("1")
        await expect(events(page, "closed")).to_contain_text("1000: The client closed the connection.")
        await expect(page.get_by_text("Nobody is connected.")).to_be_visible()
        await expect(page.locator("#total-connections")).to_have_text("0")

    browsing(scenario)


def test_what_was_there_before_is_shown_and_refusals_say_why() -> None:
    async def run() -> None:
        async with (
            Service() as service,
            Client(service.client_url(user_id="ben", groups=["room"])) as ben,
            trace_page(service) as page,
        ):
            await expect(page.locator(".connections strong")).to_have_text("ben")
            await expect(page.locator(".hub .groups")).to_contain_text("room 1")
            with pytest.raises(SendError, match="Forbidden"):
                await ben.join_group("secret")
            await expect(events(page, "refused")).to_contain_text("Forbidden. The client does not have permission")
            await expect(page.locator("#total-refused")).to_have_text("1")

    SHARED.run(run())


def test_invocations_and_the_states_of_groups_are_shown() -> None:
    async def refuse(request: Request) -> Response:
        return Response("no such order", 400)

    async def run() -> None:
        async with webhook() as hook, Service(hook.options()) as service, trace_page(service) as page:
            hook.answers["order"] = refuse
            ann = await RawClient.open(service.client_url(user_id="ann", roles=ROLES, groups=["room"]))
            await ann.receive()
            for number, event in enumerate(("ping", "order")):
                await ann.send(type="invoke", invocationId=str(number), target="event", event=event)
                await ann.receive()
            calls = events(page, "invocation")
            await expect(calls).to_have_count(2)
            await expect(calls.last).to_contain_text(re.compile(r"ping as 0 → reply after [\d.]+ m?s"))
            await expect(calls.last).to_have_attribute("data-status", "done")
            failed = re.compile(r"order as 1 → failed after [\d.]+ m?s: BadRequest\. no such order")
            await expect(calls.first).to_contain_text(failed)
            await expect(calls.first).to_have_attribute("data-status", "failed")
            handled = events(page, "handler").filter(has_text=re.compile(r"order → HTTP 400 after [\d.]+ m?s"))
            await expect(handled.locator(".payload")).to_have_text(re.compile(r"^http://127\.0\.0\.1:\d+/chat/order$"))
            table = page.get_by_role("row").filter(has_text="order")
            await expect(table).to_have_text(re.compile(r"order1([\d.]+ m?s){3}"))
            await ann.send(type="subscribeGroupState", group="room")
            await ann.send(type="setGroupState", group="room", state={"status": "<b>"})
            await expect(events(page, "watches")).to_contain_text("room, which has 0 states")
            await expect(events(page, "present")).to_contain_text("in room → 1 watcher")
            await expect(events(page, "present").locator(".payload")).to_have_text('{"status":"<b>"}')
            await expect(page.locator(".connections .facts")).to_contain_text('present in room {"status":"<b>"}')
            await ann.send(type="setGroupState", group="room")
            await expect(events(page, "absent")).to_contain_text("in room → 1 watcher")
            await ann.leave()

    SHARED.run(run())


def test_what_the_application_server_does_is_shown() -> None:
    async def run() -> None:
        async with (
            Service() as service,
            WebPubSubServiceClient.from_connection_string(service.connection_string, hub="chat") as server,
            Client(service.client_url(user_id="ben")) as ben,
            trace_page(service) as page,
        ):
            await server.add_user_to_group("vip", "ben")
            await expect(events(page, "joined")).to_contain_text("vip")
            await expect(events(page, "joined").locator(".who")).to_contain_text("ben")
            await expect(page.locator(".hub .groups")).to_contain_text("vip 1")
            await server.send_to_group("vip", "Welcome.", content_type="text/plain")
            await expect(events(page, "message")).to_contain_text("to group vip → 1 receiver")
            await expect(events(page, "message").locator(".who")).to_have_text("server")
            await server.remove_connection_from_group("vip", ben.connection_id)
            await expect(events(page, "left")).to_contain_text("vip")

    SHARED.run(run())


def test_streams_are_shown_from_their_start_to_their_end() -> None:
    async def scenario(service: Service, page: Page) -> None:
        url = service.client_url(user_id="ann", roles=ROLES)
        async with connect(url, subprotocols=[Subprotocol(JSON)]) as client:
            await client.send('{"type":"sendToGroup","group":"room","stream":{"streamId":"s","idleTimeoutMs":60000}}')
            await expect(events(page, "stream")).to_contain_text(
                "s to group room: 0 fragments, 0 B, 0 acknowledged; runs"
            )
            await expect(page.locator(".connections .facts")).to_contain_text("publishes 1 stream")
            fragment = '{"type":"streamData","streamId":"s","streamSequenceId":%d,"dataType":"text","data":"x"}'
            await client.send(fragment % 1)
            await expect(events(page, "stream")).to_contain_text(
                "s to group room: 1 fragment, 3 B, 1 acknowledged; runs"
            )
            await client.send(fragment % 3)
            await expect(events(page, "again")).to_contain_text("s from fragment 2 on: InvalidSequenceId. Fragment 3")
            await client.send(fragment % 2)
            await client.send('{"type":"streamEnd","streamId":"s","error":{"message":"why"}}')
            await expect(events(page, "stream")).to_contain_text("2 fragments, 6 B; failed: UserError. why")
            await expect(events(page, "stream")).to_have_attribute("data-status", "failed")
            await expect(events(page, "stream").locator(".payload")).to_have_text("xx")
            for absorbed in ("message", "received", "ended"):
                await expect(events(page, absorbed)).to_have_count(0)
            await client.send('{"type":"streamEnd","streamId":"t"}')
            await expect(events(page, "refused")).to_contain_text("stream t: StreamNotFound. There is no open stream")
            await expect(page.locator("#total-refused")).to_have_text("1")

    browsing(scenario)


def test_a_flood_is_cut_to_what_a_page_can_show_and_counted_in_full() -> None:
    async def scenario(service: Service, page: Page) -> None:
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            for start in range(0, 4000, 500):
                await asyncio.gather(*(ann.send_to_group("room", number) for number in range(start, start + 500)))
            await expect(page.locator("#total-published")).to_have_text("4,000")
            await expect(page.locator("#total-acked")).to_have_text("4,000")
            await expect(page.locator(".skipped").first).to_contain_text("more than the page can show")
            assert await page.locator("#events li").count() <= 250

    browsing(scenario)


def test_the_page_waits_for_a_service_that_is_away_and_goes_on() -> None:
    async def scenario(service: Service, page: Page) -> None:
        await service.stop()
        await expect(page.locator("#live")).to_contain_text("The service is away.")
        await expect(events(page, "stopped")).to_be_visible()
        again = Service(port=service.port)
        await again.start()
        try:
            await expect(page.locator("#live")).to_have_text("Live")
            await expect(page.locator(".started")).to_have_count(2)
            await expect(page.locator("#events > li").first).to_contain_text("The service was started again: ")
            async with Client(again.client_url(user_id="ann")):
                await expect(page.locator(".connections strong")).to_have_text("ann")
        finally:
            await again.stop()

    browsing(scenario, may_fail="net::ERR")


# --- Trying -----------------------------------------------------------------------------------------------------


def test_the_panel_connects_joins_sends_leaves_and_disconnects() -> None:
    async def scenario(service: Service, page: Page) -> None:
        await try_it(page)
        await expect(page.locator(".connections strong")).to_have_text("me")
        await page.get_by_label("Message to the group").fill("Ahoy <b>there</b>")
        await button(page, "Send").click()
        await expect(page.locator("#try-status")).to_have_text("Sent to room.")
        await expect(page.locator("#try-received li")).to_have_text("room · me Ahoy <b>there</b>")
        await expect(events(page, "message").locator(".payload")).to_have_text('"Ahoy <b>there</b>"')
        await expect(events(page, "received")).to_contain_text("everything up to 1; 0 messages to go")
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            await ann.send_to_group("room", {"n": 1})
            await expect(page.locator("#try-received li").first).to_have_text('room · ann {"n":1}')
        await button(page, "Leave").click()
        await expect(events(page, "left")).to_contain_text("room")
        await button(page, "Disconnect").click()
        await expect(page.locator("#try-status")).to_have_text("Not connected.")
        await expect(button(page, "Send")).to_be_disabled()
        await expect(events(page, "closed").first).to_contain_text("1000: The client closed the connection.")

    browsing(scenario)


def test_a_dropped_connection_is_seen_to_recover_without_loss() -> None:
    async def scenario(service: Service, page: Page) -> None:
        await try_it(page)
        (connection_id,) = service.hub().connections
        assert service.drop(connection_id)
        await expect(events(page, "dropped")).to_contain_text("30 s to recover")
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            await ann.send_to_group("room", "while you were out")
        await expect(page.locator("#try-status")).to_have_text("Recovered: nothing was lost.")
        await expect(events(page, "recovered")).to_contain_text("is back")
        await expect(page.locator("#try-received li")).to_have_text("room · ann while you were out")
        await expect(page.locator("#total-recovered")).to_have_text("1")

        await button(page, "Lose the connection").click()
        await expect(events(page, "dropped")).to_have_count(2)
        await expect(page.locator("#total-recovered")).to_have_text("2")
        await expect(page.locator("#try-status")).to_have_text("Recovered: nothing was lost.")

    browsing(scenario)


def test_a_connection_that_recovers_shows_as_such_meanwhile() -> None:
    async def scenario(service: Service, page: Page) -> None:
        await try_it(page)
        row = page.locator(".connections li")
        await expect(row).to_have_attribute("data-state", "attached")
        await button(page, "Lose the connection").click()
        await expect(row).to_have_attribute("data-state", "detached")
        await expect(row).to_have_attribute("data-state", "attached")

    browsing(scenario)


def test_the_panel_says_why_it_cannot_connect() -> None:
    async def scenario(service: Service, page: Page) -> None:
        await button(page, "Connect").click()
        await expect(page.locator("#try-status")).to_contain_text("Negotiation is for clients on the same machine")
        await expect(button(page, "Connect")).to_be_enabled()

    browsing(scenario, ServiceOptions(negotiate=False), may_fail="403")


# --- Filter and pause -------------------------------------------------------------------------------------------


def test_the_log_can_be_filtered_by_text_by_kind_and_by_what_is_picked() -> None:
    async def scenario(service: Service, page: Page) -> None:
        async with (
            Client(service.client_url(user_id="ann", roles=ROLES)) as ann,
            Client(service.client_url(user_id="ben", roles=ROLES)) as ben,
        ):
            await ann.send_to_group("red", "from ann")
            await ben.send_to_group("blue", "from ben")
            rows = page.locator(".event")
            await expect(rows).to_have_count(6)

            await page.get_by_label("Show only what contains").fill("BLUE")
            await expect(rows).to_have_count(1)
            await expect(rows).to_contain_text("to group blue")
            await expect(page.locator("#shown")).to_have_text("The filter hides 5 events.")
            await ben.send_to_group("blue", "more")
            await ann.send_to_group("red", "more")
            await expect(page.locator("#total-published")).to_have_text("4")
            await expect(rows).to_have_count(2)

            await page.get_by_label("Show only what contains").fill("")
            await expect(rows).to_have_count(10)
            await button(page, "Acks").click()
            await expect(button(page, "Acks")).to_have_attribute("aria-pressed", "false")
            await expect(rows).to_have_count(6)
            await button(page, "Acks").click()

            await page.locator(".connections").get_by_role("button").filter(has_text="ann").click()
            await expect(rows).to_have_count(5)
            for row in await rows.all():
                await expect(row).to_contain_text("ann")

    browsing(scenario)


def test_the_log_can_be_paused_resumed_and_cleared() -> None:
    async def scenario(service: Service, page: Page) -> None:
        async with Client(service.client_url(user_id="ann", roles=ROLES)) as ann:
            rows = page.locator(".event")
            await expect(rows).to_have_count(1)
            await expect(page.locator(".started")).to_have_count(1)
            await button(page, "Pause").click()
            await ann.send_to_group("room", "meanwhile")
            await expect(page.locator("#shown")).to_have_text("Paused: 2 events waiting.")
            await expect(page.locator("#total-published")).to_have_text("1")
            await expect(rows).to_have_count(1)
            await button(page, "Resume").click()
            await expect(rows).to_have_count(3)
            await expect(rows.first).to_contain_text("request 1 is done")
            await button(page, "Clear").click()
            await expect(rows).to_have_count(0)
            await expect(page.locator("#shown")).to_have_text("Waiting for something to happen.")

    browsing(scenario)


# --- For everybody ----------------------------------------------------------------------------------------------


def test_everything_has_a_name_and_can_be_done_with_the_keyboard() -> None:
    async def scenario(service: Service, page: Page) -> None:
        user = page.get_by_label("User", exact=True)
        await user.fill("keys")
        await user.press("Enter")
        await expect(page.locator("#try-status")).to_have_text("Connected as keys.")
        for name in ("Group", "Message to the group"):
            await page.get_by_label(name, exact=True).press("Enter")
        await expect(page.locator("#try-status")).to_have_text("Sent to room.")
        await button(page, "Pause").focus()
        await page.keyboard.press("Space")
        await expect(button(page, "Resume")).to_have_attribute("aria-pressed", "true")

        for role in ("button", "textbox", "searchbox", "list", "log", "group"):
            for element in await page.get_by_role(role).all():
                snapshot = await element.aria_snapshot()
                head = snapshot.partition("\n")[0]
                assert role == "list" or '"' in head, head

    browsing(scenario)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_works_on_a_phone_in_light_and_dark(scheme: str) -> None:
    async def scenario(service: Service, page: Page) -> None:
        url = service.client_url("a" * 60, user_id="somebody with a very long name " * 5, roles=ROLES)
        async with Client(url) as client:
            await client.send_to_group("group-with-a-very-long-name-" * 20, "x" * 500)
            await expect(events(page, "message")).to_be_visible()
            await try_it(page)
            assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
            assert await page.evaluate(CONTRAST) >= 4.5

    phone = {"viewport": {"width": 360, "height": 740}, "color_scheme": scheme, "has_touch": True}
    browsing(scenario, **phone)


# The smallest contrast of any text to its background (WCAG 2.2, 1.4.3).
CONTRAST = """
(() => {
  const light = ([r, g, b]) => {
    const part = (value) => { const v = value / 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  };
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const [r, g, b, a = 1] = numbers(getComputedStyle(at).backgroundColor);
      if (a === 1) return [r, g, b];
    }
    return [255, 255, 255];
  };
  let smallest = Infinity;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || element.closest("[disabled], noscript, .hidden")) continue;
    const [a, b] = [light(numbers(getComputedStyle(element).color)), light(ground(element))];
    smallest = Math.min(smallest, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05));
  }
  return smallest;
})()
"""
