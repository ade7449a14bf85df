"""The code in the guide does what the guide says."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.helpers.waiting import LIMIT

from limpet import Disconnected, Event, GroupMessage, MessagesMissed, Options, SendError
from limpet.asyncio import Client
from limpet.testing import BackgroundService, trace

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"


@pytest.fixture(scope="module")
def code() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL):
        exec(compile(block, str(GUIDE), "exec"), names)
    return names


def test_every_event_is_in_the_table_of_events_and_no_other() -> None:
    table = GUIDE.read_text("utf-8").partition("## All events")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| \S.* \| \S.* \|$", table, re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(rows))) == sorted(kind.__name__ for kind in get_args(Event))


def test_every_event_of_the_service_is_in_the_howto_with_its_fields() -> None:
    text = (GUIDE.parent / "howto" / "test-your-application.md").read_text("utf-8")
    table = text.partition("| event | when | has |")[2].partition("\n\n")[0]
    rows = {
        kind: re.findall(r"`(\w+)`", has) for kind, has in re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", table, re.M)
    }
    for kind in get_args(trace.TraceEvent):
        fields = [name for name in kind.__struct_fields__ if name not in ("hub", "connection_id", "user_id")]
        assert rows.pop(kind.__name__) == fields
    assert not rows


def play(scenario: Callable[[BackgroundService], Awaitable[None]]) -> None:
    async def bounded(service: BackgroundService) -> None:
        async with asyncio.timeout(2 * LIMIT):
            await scenario(service)

    with BackgroundService() as service:
        asyncio.run(bounded(service))


async def until(true: Callable[[], object]) -> None:
    while not true():  # noqa: ASYNC110 - it has no event to wait for
        await asyncio.sleep(0.005)


def test_follow_reloads_at_the_start_and_on_a_new_connection_but_not_after_a_recovery(code: dict[str, Any]) -> None:
    async def scenario(service: BackgroundService) -> None:
        story: list[str] = []

        async def reload() -> None:
            story.append("reload")

        client = Client(service.url)
        following = asyncio.create_task(code["follow"](client, reload, lambda message: story.append(message.data)))
        await asyncio.sleep(0)
        async with client:
            await client.join_group("g")
            await client.send_to_group("g", "one")
            service.cut()
            await client.send_to_group("g", "two")
            assert client.connection_id is not None
            service.end(client.connection_id)
            await until(lambda: story.count("reload") == 2)
            await client.join_group("g")  # it is again already, perhaps not yet
            await client.send_to_group("g", "three")
        await following
        assert story == ["reload", "one", "two", "reload", "three"]

    play(scenario)


def test_follow_reloads_when_messages_are_missing(code: dict[str, Any]) -> None:
    reloads: list[None] = []

    class Told:
        """A client that has missed something."""

        def events(self, *types: type[Any]) -> Any:
            assert MessagesMissed in types

            async def given() -> Any:
                yield MessagesMissed(1, 2)
                yield GroupMessage(group="g", data="x", data_type="text")

            return given()

    async def reload() -> None:
        reloads.append(None)

    shown: list[str] = []
    asyncio.run(code["follow"](Told(), reload, lambda message: shown.append(message.data)))
    assert (len(reloads), shown) == (1, ["x"])


class Unsure:
    """A client whose calls end as they are told to."""

    def __init__(self, *errors: SendError | None) -> None:
        self.errors = list(errors)
        self.sent: list[Any] = []

    async def send_to_group(self, group: str, message: Any) -> None:
        self.sent.append(message)
        if (error := self.errors.pop(0)) is not None:
            raise error


def test_publish_repeats_what_is_not_known_under_the_same_id(code: dict[str, Any]) -> None:
    client = Unsure(SendError(1, "ConnectionLost", "", "unknown"), SendError(2, "Timeout", "", "unsent"), None)
    asyncio.run(code["publish"](client, "g", "hello"))
    assert [message["text"] for message in client.sent] == ["hello"] * 3
    assert len({message["id"] for message in client.sent}) == 1


@pytest.mark.parametrize(("name", "outcome"), [("Forbidden", "rejected"), ("Stopped", "unknown")])
def test_publish_does_not_repeat_what_is_over(code: dict[str, Any], name: str, outcome: Any) -> None:
    client = Unsure(SendError(1, name, "", outcome))
    with pytest.raises(SendError, match=name):
        asyncio.run(code["publish"](client, "g", "hello"))


def test_try_to_send_gives_up_in_an_outage(code: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    timeout = asyncio.timeout
    limits = [LIMIT, 0.1]
    monkeypatch.setitem(code, "asyncio", type("asyncio", (), {"timeout": lambda _: timeout(limits.pop(0))}))

    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url()) as client:
            assert await code["try_to_send"](client, "there")
            service.refuse()
            service.cut()
            await until(lambda: client.state.name == "RECOVERING")
            assert not await code["try_to_send"](client, "there")

    play(scenario)


def test_make_client_asks_for_a_url_for_each_connection(code: dict[str, Any]) -> None:
    async def scenario(service: BackgroundService) -> None:
        asked: list[bytes] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            body = json.dumps({"url": service.url()}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            writer.close()
            await writer.wait_closed()

        async with await asyncio.start_server(answer, "127.0.0.1", 0) as application:
            port = application.sockets[0].getsockname()[1]
            client = code["make_client"](f"http://127.0.0.1:{port}/negotiate")
            lost = client.events(Disconnected)
            async with client:
                first = client.connection_id
                service.end(first)
                await anext(lost)
                await until(lambda: client.connection_id not in (None, first))
            assert len(asked) == 2

    play(scenario)


def test_work_handles_everything_several_at_a_time(code: dict[str, Any]) -> None:
    async def scenario(service: BackgroundService) -> None:
        handled: set[int] = set()
        at_once = most = 0

        async def handle(message: GroupMessage) -> None:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0.001)
            at_once -= 1
            handled.add(message.data)

        client = Client(service.url(), Options(max_buffered_messages=10))
        async with client:
            working = asyncio.create_task(code["work"](client, handle))
            await client.join_group("g")
            for number in range(200):
                await client.send_to_group("g", number)
            await until(lambda: len(handled) == 200)
        await working
        assert 1 < most <= 10

    play(scenario)
