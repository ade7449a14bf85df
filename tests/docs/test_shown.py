"""The functions that the pages show do what the pages say; `test_code.py` runs the code of all pages as it stands."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.helpers.waiting import LIMIT

import limpet
from limpet import Disconnected, Event, GroupMessage, MessagesMissed, Options, SendError
from limpet.asyncio import Client
from limpet.testing import BackgroundService, trace
from limpet.testing.contract import needs

DOCS = Path(__file__).parents[2] / "docs"
SHOWN = ["explanation/lost-connections", "howto/failed-calls", "howto/tokens", "howto/slow-consumers"]


@pytest.fixture(scope="module")
def code() -> dict[str, Any]:
    names: dict[str, Any] = {}
    for page in SHOWN:
        for block in re.findall(r"```python\n(.*?)```", (DOCS / f"{page}.md").read_text("utf-8"), re.DOTALL):
            exec(compile(block, page, "exec"), names)
    return names


def test_every_event_is_in_the_table_of_events_and_no_other() -> None:
    table = (DOCS / "reference" / "events.md").read_text("utf-8")
    rows = re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| \S.* \| \S.* \|$", table, re.MULTILINE)
    assert sorted(re.findall(r"\w+", " ".join(rows))) == sorted(kind.__name__ for kind in get_args(Event))


def test_every_error_is_in_the_page_of_errors() -> None:
    text = (DOCS / "reference" / "errors.md").read_text("utf-8")
    tree = re.findall(r"^ {4,}(\w+)", text.partition("The classes")[2].partition("\n## ")[0], re.MULTILINE)
    errors = [
        name for name in limpet.__all__ if isinstance(one := getattr(limpet, name), type) and issubclass(one, Exception)
    ]
    assert sorted(tree) == sorted(errors)
    table = text.partition("\nThe classes")[0]
    assert [name for name in errors if f"`{name}`" not in table] == ["LimpetError", "NoSuchStream"]


def test_every_name_of_a_client_is_in_the_table_of_names() -> None:
    table = (DOCS / "reference" / "client.md").read_text("utf-8").partition("\n## ")[0]
    names = [name for name in dir(Client) if not name.startswith("_")]
    keywords = {name for method in names if callable(getattr(Client, method)) for name in keywords_of(method)}
    of_a_client = signature(Client).parameters.values()
    keywords |= {each.name for each in of_a_client if each.kind is Parameter.KEYWORD_ONLY}
    assert len(names) > 20
    assert {"timeout", "type", "instrument"} <= keywords
    assert [name for name in names if not re.search(rf"`{name}\b", table)] == []
    assert sorted(name for name in keywords if f"{name}=" not in table) == []


def test_every_need_of_a_check_is_in_the_table_of_needs() -> None:
    text = (DOCS / "howto" / "test-an-adapter.md").read_text("utf-8")
    table = text.partition("| need | without it a client |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([a-z ]+)` \|", table, re.MULTILINE)) == needs.ALL


def keywords_of(method: str) -> list[str]:
    return [
        each.name
        for each in signature(getattr(Client, method)).parameters.values()
        if each.kind is Parameter.KEYWORD_ONLY
    ]


def test_every_event_of_the_service_is_in_the_howto_with_its_fields() -> None:
    text = (DOCS / "howto" / "test-your-application.md").read_text("utf-8")
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
            assert service.members("g") == {client.connection_id}  # what is published from here on arrives
            story.append("reload")

        client = Client(service.url)
        following = asyncio.create_task(code["follow"](client, "g", reload, lambda message: story.append(message.data)))
        await asyncio.sleep(0)
        async with client:
            await until(lambda: story == ["reload"])
            await client.send_to_group("g", "one")
            service.cut()
            await client.send_to_group("g", "two")
            assert client.connection_id is not None
            service.end(client.connection_id)
            await until(lambda: story.count("reload") == 2)
            await client.send_to_group("g", "three")
        await following
        assert story == ["reload", "one", "two", "reload", "three"]

    play(scenario)


def test_follow_reloads_when_messages_are_missing(code: dict[str, Any]) -> None:
    reloads: list[None] = []

    class Told:
        """A client that has missed something."""

        async def join_group(self, group: str) -> None:
            assert (group, reloads) == ("g", [])

        def events(self, *types: type[Any]) -> Any:
            assert MessagesMissed in types

            async def given() -> Any:
                yield MessagesMissed(1, 2)
                yield GroupMessage(group="g", data="x", data_type="text")

            return given()

    async def reload() -> None:
        reloads.append(None)

    shown: list[str] = []
    asyncio.run(code["follow"](Told(), "g", reload, lambda message: shown.append(message.data)))
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


def test_try_to_send_gives_up_in_an_outage(code: dict[str, Any]) -> None:
    async def scenario(service: BackgroundService) -> None:
        async with Client(service.url()) as client:
            assert await code["try_to_send"](client, "there", LIMIT)
            service.refuse()
            service.cut()
            await until(lambda: client.state.name == "RECOVERING")
            assert not await code["try_to_send"](client, "there", 0.1)

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
