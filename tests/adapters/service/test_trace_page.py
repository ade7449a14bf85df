"""The trace page over HTTP: what it serves, to whom, and a feed that nothing can hold up."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from importlib import resources
from typing import Any

import httpx
import msgspec
import pytest
from tests.adapters.service.sockets import ROLES, Client, nothing_runs, refusal, with_service
from tests.core.service.virtual import ServiceUnderTest
from tests.helpers.waiting import LIMIT

from limpet.service import Service, ServiceOptions
from limpet.service._gateway import Gateway
from limpet.service._memory import Memory
from limpet.service.app import build_app
from limpet.service.trace.feed import Feed
from limpet_core.service import (
    RELIABLE_JSON,
    ClientGrant,
    Transport,
    server_publication,
)

STATIC = {
    file.name: file.read_text()
    for file in (resources.files("limpet.service.trace") / "static").iterdir()
    if file.is_file()
}


async def batches(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


def watchers(gateway: Gateway) -> int:
    """The number of pages that watch a service."""
    assert gateway.memory is not None or not gateway.options.trace
    return 0 if gateway.memory is None else len(gateway.memory.listeners)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.005)


# ---- The page and its files


def test_the_page_and_all_its_files_are_served_with_headers_that_keep_it_to_itself() -> None:
    async def scenario(service: Service) -> None:
        async with httpx.AsyncClient(base_url=service.endpoint) as http:
            page = await http.get("/")
            assert page.headers["content-type"] == "text/html; charset=utf-8"
            kinds = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "html": "text/html"}
            for name, text in STATIC.items():
                answer = await http.get(f"/trace/{name}")
                assert (answer.status_code, answer.text) == (200, text)
                assert answer.headers["content-type"].partition(";")[0] == kinds[name.rpartition(".")[2]]
                assert answer.headers["content-security-policy"] == (
                    f"default-src 'self'; connect-src 'self' ws://127.0.0.1:{service.port}; "
                    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
                )
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["cache-control"] == "no-store"
            for name in ("nothing.js", "page.py", "..%2Fpage.py", "%2e%2e/page.py", ""):
                assert (await http.get(f"/trace/{name}")).status_code == 404
            assert (await http.post("/")).status_code == 405
            assert (await http.head("/")).status_code == 200

    with_service(scenario)


def test_every_file_that_a_file_names_is_there_and_none_is_elsewhere() -> None:
    named = set(re.findall(r'(?:src|href)="trace/([^"]+)"', STATIC["index.html"])) - {"state"}
    for name, text in STATIC.items():
        if name.endswith(".js"):
            named |= set(re.findall(r'(?:from|import) "\./([^"]+)"', text))
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), name
        assert "innerHTML" not in text
    assert named | {"index.html"} == set(STATIC)


def test_every_event_has_words() -> None:
    from limpet_core.service import trace

    kinds = {kind.__struct_config__.tag for kind in trace.TraceEvent.__args__}
    words = STATIC["words.js"].partition("const WORDS = {")[2].partition("\n};")[0]
    assert set(re.findall(r"^  (\w+): \[", words, re.MULTILINE)) == kinds


def test_the_state_can_be_had_as_json() -> None:
    async def scenario(service: Service) -> None:
        client = await Client.open(service.client_url("news", user_id="ann", groups=["room"]))
        await client.receive()
        async with httpx.AsyncClient() as http:
            state = (await http.get(f"{service.endpoint}/trace/state")).json()
        (hub,) = state["hubs"]
        assert (hub["name"], hub["groups"], hub["users"]) == ("news", [["room", 1]], [["ann", 1]])
        assert hub["connections"][0]["attached"]
        await client.leave()

    with_service(scenario)


# ---- Who may look

LOCAL = ("127.0.0.1", 50000)
REMOTE = ("203.0.113.9", 50000)


@pytest.mark.parametrize("path", ["/", "/trace/main.js", "/trace/state", "/trace/connections", "/trace/feed"])
@pytest.mark.parametrize(
    ("enabled", "client", "host", "expected"),
    [
        (None, LOCAL, "localhost:8080", 200),
        (None, LOCAL, "evil.example", 403),
        (None, LOCAL, "[", 400),
        (None, REMOTE, "localhost", 403),
        (None, REMOTE, "service.example", 403),
        (True, REMOTE, "service.example", 200),
        (True, REMOTE, "[;default-src *", 400),
        (False, LOCAL, "localhost", 403),
    ],
)
def test_only_this_machine_may_look_unless_the_options_say_otherwise(
    path: str, enabled: bool | None, client: tuple[str, int], host: str, expected: int
) -> None:
    gateway = Gateway(ServiceOptions(trace=enabled), None)
    status, headers = asyncio.run(head_of(gateway, path, client, {"host": host}))
    assert status == expected
    assert headers.get("content-security-policy", "").count("default-src") == (expected != 400)
    assert watchers(gateway) == 0


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"sec-fetch-site": "cross-site"}, False),
        ({"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}, False),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}, True),
        ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}, False),
    ],
)
def test_other_sites_in_the_same_browser_may_link_but_not_look(headers: dict[str, str], allowed: bool) -> None:
    gateway = Gateway(ServiceOptions(), None)
    status, _ = asyncio.run(head_of(gateway, "/", LOCAL, {"host": "localhost", **headers}))
    assert status == (200 if allowed else 403)


def test_a_configured_endpoint_is_where_the_panel_may_connect() -> None:
    gateway = Gateway(ServiceOptions(), "https://service.example/pubsub")
    _, headers = asyncio.run(head_of(gateway, "/", LOCAL, {"host": "localhost"}))
    assert "connect-src 'self' wss://service.example;" in headers["content-security-policy"]


@pytest.mark.parametrize(
    ("trace", "host", "shown"),
    [
        (None, "127.0.0.1", True),
        (None, "0.0.0.0", True),
        (None, "192.0.2.1", False),
        (True, "192.0.2.1", True),
        (False, "127.0.0.1", False),
    ],
)
def test_the_url_of_the_page_is_there_if_somebody_can_see_it(trace: bool | None, host: str, shown: bool) -> None:
    service = Service(ServiceOptions(trace=trace, access_key="k" * 32), host)
    service._port = 8080
    assert (service.trace_url is not None) is shown


# ---- The feed


def test_the_feed_shows_what_is_there_and_then_what_happens_but_no_token() -> None:
    async def scenario(service: Service) -> None:
        ben = await Client.open(service.client_url(user_id="ben", roles=ROLES))
        hello = await ben.receive()
        async with (
            httpx.AsyncClient(base_url=service.endpoint) as http,
            http.stream("GET", "/trace/feed") as response,
        ):
            assert response.headers["content-type"].startswith("text/event-stream")
            feed = batches(response)
            first = await anext(feed)
            assert [noted["event"]["kind"] for noted in first["events"]] == ["opened"]
            assert (first["state"]["hubs"][0]["users"], first["state"]["hubs"][0]["connections"]) == ([["ben", 1]], [])
            url = service.client_url(user_id="ann")
            ann = await Client.open(url)
            await refusal(url.replace("access_token", "nothing"), RELIABLE_JSON)
            await ben.send(type="sendToGroup", group="room", data="hi", ackId=1)
            await ben.receive()
            events: list[dict[str, Any]] = []
            text = ""
            while len(events) < 4:
                batch = await anext(feed)
                events += [noted["event"] for noted in batch.get("events", ())]
                text += json.dumps(batch)
            assert [event["kind"] for event in events] == ["opened", "handshakeRefused", "published", "acked"]
            assert events[1]["status"] == 401
            for secret in (url.partition("access_token=")[2], hello["reconnectionToken"], service.connection_string):
                assert secret not in text
        await ann.leave()
        await ben.leave()
        await until(lambda: watchers(service._gateway) == 0)

    with_service(scenario)


def test_the_feed_ends_with_the_service_and_does_not_keep_it_from_stopping() -> None:
    async def run() -> None:
        service = Service()
        await service.start()
        async with (
            httpx.AsyncClient(base_url=service.endpoint) as http,
            http.stream("GET", "/trace/feed") as response,
        ):
            feed = batches(response)
            await anext(feed)
            await asyncio.wait_for(service.stop(), LIMIT)
            (last,) = [batch async for batch in feed]
            assert last["events"][-1]["event"] == {"kind": "shutDown"}
        assert watchers(service._gateway) == 0
        await nothing_runs()

    asyncio.run(run())


def test_only_so_many_pages_can_watch_and_closed_ones_make_room() -> None:
    async def scenario(service: Service) -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=service.endpoint, limits=limits) as http:
            request = http.build_request("GET", "/trace/feed")
            open_feeds = [await http.send(request, stream=True) for _ in range(16)]
            assert {feed.status_code for feed in open_feeds} == {200}
            assert (await http.get("/trace/feed")).status_code == 503
            assert watchers(service._gateway) == 16
            assert len(service.core.observers) == 1, "however many watch, each event is made once"
            for feed in open_feeds:
                await feed.aclose()
            await until(lambda: watchers(service._gateway) == 0)
            async with http.stream("GET", "/trace/feed") as feed:
                assert feed.status_code == 200

    with_service(scenario)


def seen_by(feed: Feed) -> list[dict[str, Any]]:
    """The events of the next batch."""
    return [json.loads(bytes(noted.event)) for noted in feed.batch().events]


def test_a_batch_holds_the_newest_events_and_counts_the_others_too() -> None:
    service = ServiceUnderTest()
    memory = Memory(service.core)
    service.connect(groups=("room",))
    service.connect(groups=("room",))
    with Feed(service.core, memory, capacity=3) as feed:
        first = feed.batch()
        assert first.state is not None
        assert ([noted.number for noted in first.events], first.skipped) == ([1, 2], 0)
        for number in range(10):
            service.core.send_to_group("chat", "room", server_publication("json", b"%d" % number))
        batch = feed.batch()
        assert [noted.number for noted in batch.events] == [10, 11, 12]
        assert (batch.skipped, batch.totals.published, batch.totals.delivered) == (7, 10, 20)
        assert (batch.state, batch.handlers) == (None, None), "the groups and users are the same"
        quiet = feed.batch()
        assert (quiet.events, quiet.skipped, quiet.totals, quiet.state) == ([], 0, batch.totals, None)
    assert not memory.listeners


def test_what_happened_before_a_page_was_opened_is_remembered_once() -> None:
    service = ServiceUnderTest()
    memory = Memory(service.core, count=5)
    client = service.connect(groups=("room",))
    for number in range(9):
        client.publish(number)
    with Feed(service.core, memory, capacity=1) as feed:
        batch = feed.batch()
        assert [noted.number for noted in batch.events] == [6, 7, 8, 9, 10]
        assert (batch.skipped, batch.totals.published, batch.run) == (5, 9, memory.run)
    client.publish("meanwhile")
    with Feed(service.core, memory, after=f"{memory.run}-10") as feed:
        assert [event["data"] for event in seen_by(feed)] == ['"meanwhile"']
    places = ("-", "--1", "-\u0661", "-1 ", "-" + "1" * 19)
    for wrong in ("", "10", f"{'0' * 16}-10", "x" * 10_000, *(memory.run + place for place in places)):
        with Feed(service.core, memory, after=wrong) as feed:
            assert len(seen_by(feed)) == 5, wrong
    with Feed(service.core, memory, after=f"{memory.run}-{'9' * 18}") as feed:
        assert seen_by(feed) == []
        client.publish("new")
        assert len(seen_by(feed)) == 1


def test_a_service_that_begins_again_is_another_run_for_those_who_watch_it() -> None:
    service = ServiceUnderTest()
    memory = Memory(service.core)
    client = service.connect(groups=("room",))
    client.publish(1)
    with Feed(service.core, memory) as feed:
        first = feed.batch()
        memory.begin()
        client.publish(2)
        again = feed.batch()
        assert (first.run != again.run, again.started >= first.started) == (True, True)
        assert ([noted.number for noted in again.events], again.skipped, again.totals.published) == ([1], 0, 1)


@pytest.mark.parametrize("hostile", ["x" * 1000, "\u0000\u202e\U0001f600" * 300, '"\\' * 1000])
def test_the_memory_is_bounded_by_bytes_and_count_whatever_clients_send(hostile: str) -> None:
    service = ServiceUnderTest()
    memory = Memory(service.core, count=100, size=20_000)
    groups = tuple(f"{number}{hostile}"[:1000] for number in range(20))
    most = 0
    for number in range(100):
        client = service.connect(user=hostile, groups=groups)
        client.send({"type": "sendToGroup", "group": hostile[:1000], "data": hostile, "ackId": number})
        client.send({"type": "event", "event": hostile, "data": hostile})
        client.send({"type": "invoke", "invocationId": hostile[:1000], "target": "event", "event": "order"})
        client.send({"type": "sendToGroup", "group": "room", "stream": {"streamId": f"{number}{hostile}"}})
        service.core.transports_with_output()
        client.received()
        remembered = memory.since(0, 10**9)
        held = sum(len(bytes(noted.event)) for noted in remembered)
        assert (len(remembered) <= 100, held <= memory.size <= 20_000) == (True, True)
        most = max(most, held)
    assert most > 10_000
    assert max(len(bytes(noted.event)) for noted in remembered) < 10_000


def test_after_a_burst_messages_are_counted_and_not_made_until_the_rest_is_over() -> None:
    async def run() -> None:
        service = ServiceUnderTest()
        memory = Memory(service.core, burst=10, rate=1e-9)
        told: list[bool] = []
        memory.listeners.add(told.append)
        client = service.connect(groups=("room",))
        for number in range(50):
            client.publish(number)
        assert len(memory.since(0, 100)) == len(told) == 11
        client.send({"type": "leaveGroup", "group": "room", "ackId": 1})
        assert [json.loads(bytes(noted.event))["kind"] for noted in memory.since(11, 100)] == ["left"]
        assert (memory.newest, service.core.observers.totals.published) == (53, 50), "opened, messages, left, ack"
        await until(lambda: len(told) == 13)
        client.publish("after the rest")
        (last,) = memory.since(memory.newest - 1, 100)
        assert b"after the rest" in bytes(last.event)
        assert service.core.observers.is_brief, "and rests again"
        service.core.shut_down()
        assert not service.core.observers.is_brief
        assert told[-1]

    asyncio.run(run())


def test_a_rest_is_one_also_where_another_observer_wants_each_event() -> None:
    async def run() -> None:
        service = ServiceUnderTest()
        memory = Memory(service.core, burst=10, rate=1e-9)
        others: list[object] = []
        service.core.observers.append(others.append)
        client = service.connect(groups=("room",))
        for number in range(50):
            client.publish(number, ackId=number + 1)
        assert len(others) == memory.newest == 101
        assert len(memory.since(0, 200)) == 11
        service.core.shut_down()

    asyncio.run(run())


def test_without_an_event_loop_that_would_end_it_there_is_no_rest() -> None:
    service = ServiceUnderTest()
    memory = Memory(service.core, burst=10, rate=1e-9)
    client = service.connect(groups=("room",))
    for number in range(50):
        client.publish(number)
    assert len(memory.since(0, 100)) == 51


def test_a_switched_off_page_remembers_nothing_and_costs_nothing() -> None:
    gateway = Gateway(ServiceOptions(trace=False), None)
    assert (gateway.memory, len(gateway.core.observers)) == (None, 0)


def test_connections_can_be_searched_and_come_in_parts() -> None:
    async def scenario(service: Service) -> None:
        for number in range(300):
            grant = ClientGrant(f"user-{number}", (), ("\u202eroom",))
            service.core.connect("chat", RELIABLE_JSON, grant, time.monotonic())
        async with httpx.AsyncClient(base_url=service.endpoint) as http:

            async def asked(**query: object) -> Any:
                answer = await http.get("/trace/connections", params={key: str(value) for key, value in query.items()})
                return answer.json() if answer.status_code == 200 else answer.status_code

            every = await asked()
            assert (every["total"], every["found"], len(every["connections"])) == (300, 300, 100)
            assert len((await asked(limit=10**8))["connections"]) == 200
            part = await asked(search="USER-29", offset=9, limit=2)
            assert (part["found"], [each["userId"] for each in part["connections"]]) == (11, ["user-298", "user-299"])
            assert part["connections"][0]["hub"] == "chat"
            assert (await asked(search="\u202e", limit=0))["found"] == 300
            for wrong in ({"offset": -1}, {"limit": "x"}, {"offset": "1" * 20}, {"search": "x" * 241}):
                assert await asked(**wrong) == 400, wrong

    with_service(scenario)


def test_a_feed_sends_what_is_shown_of_long_names() -> None:
    service = ServiceUnderTest()
    with Feed(service.core, Memory(service.core)) as feed:
        assert len(msgspec.json.encode(feed.batch())) < 1000
        groups = tuple(f"{number:04}" + "x" * 1000 for number in range(1000))
        client = service.connect(user="u" * 100_000, groups=groups)
        client.publish("y" * 100_000, groups[0], ackId=1)
        batch = feed.batch()
        assert len(msgspec.json.encode(batch)) < 100_000
        opened, published, acked = (json.loads(bytes(noted.event)) for noted in batch.events)
        assert opened["groups"] == [f"{name[:239]}…" for name in groups[:6]]
        assert published["name"] == opened["groups"][0]
        assert opened["userId"] == published["userId"] == acked["userId"] == "u" * 239 + "…"
        assert batch.state is not None
        assert batch.state.hubs[0].groups[0] == (opened["groups"][0], 1)
        service.connect(hub="other", user="ann", groups=("room",))
        (opened,) = seen_by(feed)
        assert (opened["hub"], opened["userId"], opened["groups"]) == ("other", "ann", ["room"])


def test_a_feed_sends_no_more_bytes_per_second_than_it_may() -> None:
    """A slow machine sends fewer."""
    rate = 100_000

    async def run() -> None:
        service = ServiceUnderTest()
        for number in range(100):
            service.connect(user=f"{number} " + "x" * 300)
        client = service.connect(groups=("room",))
        sizes: list[int] = []
        with Feed(service.core, Memory(service.core), pause=0, rate=rate) as feed:
            chunks = feed.chunks()
            begin = time.monotonic()
            while len(sizes) < 6:
                for _ in range(40):
                    client.publish("y" * 1000)
                sizes.append(len(await anext(chunks)))
            elapsed = time.monotonic() - begin
            await chunks.aclose()
        assert min(sizes) > 10_000
        assert sum(sizes[:-1]) <= rate * elapsed

    asyncio.run(run())


def test_a_quiet_feed_shows_that_it_is_there() -> None:
    async def run() -> None:
        core = ServiceUnderTest().core
        with Feed(core, Memory(core), heartbeat=0.01) as feed:
            chunks = feed.chunks()
            assert re.match(rb"retry: 1000\n\nid: [0-9a-f]{16}-0\ndata: \{", await anext(chunks))
            assert await anext(chunks) == b": still here\n\n"
            await chunks.aclose()

    asyncio.run(run())


def test_a_page_that_does_not_read_holds_nothing_up_and_learns_what_it_missed() -> None:
    """A slow reader blocks the sending; the service goes on, and what is kept for the page stays small."""

    async def run() -> None:
        gateway = Gateway(ServiceOptions(), None)
        core = gateway.core
        asgi = Asgi("/trace/feed", LOCAL, {"host": "localhost"})
        task = asyncio.create_task(build_app(gateway)(asgi.scope, asgi.receive, asgi.send))
        await until(lambda: len(asgi.chunks) == 1)

        asgi.may_send.clear()
        transport: Transport = core.connect("chat", RELIABLE_JSON, ClientGrant(None, ROLES, ("room",)), 0.0)
        await until(lambda: asgi.blocked)
        for number in range(5000):
            publish = {"type": "sendToGroup", "group": "room", "ackId": number, "data": "x"}
            core.receive(transport, json.dumps(publish), 0.0)
            core.receive(transport, json.dumps({"type": "sequenceAck", "sequenceId": number}), 0.0)
            transport.messages_to_send()
        assert transport.close is None
        assert len(asgi.chunks) == 1

        asgi.may_send.set()
        await until(lambda: len(asgi.chunks) == 3)
        opened, late = (json.loads(chunk.partition(b"data: ")[2]) for chunk in asgi.chunks[1:])
        assert [noted["event"]["kind"] for noted in opened["events"]] == ["opened"]
        assert len(late["events"]) == 200
        assert late["skipped"] == 15000 - 200
        assert late["totals"]["published"] == 5000
        assert late["events"][-1]["number"] < 15001, "the last were too many to remember"

        asgi.gone.set()
        await asyncio.wait_for(task, LIMIT)
        assert watchers(gateway) == 0

    asyncio.run(run())


class Asgi:
    """A request to the application, from a client whose reading can be stopped."""

    def __init__(self, path: str, client: tuple[str, int], headers: dict[str, str]) -> None:
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "client": client,
            "server": ("127.0.0.1", 8080),
        }
        self.status = 0
        self.headers: dict[str, str] = {}
        self.chunks: list[bytes] = []
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.gone = asyncio.Event()
        self.started = asyncio.Event()
        self.blocked = False

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.blocked = not self.may_send.is_set()
        await self.may_send.wait()
        self.blocked = False
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            self.started.set()
        elif message.get("body"):
            self.chunks.append(message["body"])


async def head_of(
    gateway: Gateway, path: str, client: tuple[str, int], headers: dict[str, str]
) -> tuple[int, dict[str, str]]:
    """Return the status and the headers of an answer, and go away."""
    asgi = Asgi(path, client, headers)
    task = asyncio.create_task(build_app(gateway)(asgi.scope, asgi.receive, asgi.send))
    await asyncio.wait_for(asgi.started.wait(), LIMIT)
    asgi.gone.set()
    await asyncio.wait_for(task, LIMIT)
    return asgi.status, asgi.headers
