"""Event listeners with the official package, to an event hub that speaks AMQP in a process of its own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import queue
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.service.sockets import Client, nothing_runs
from tests.adapters.service.webhook import ask, open_client, outcome
from tests.helpers.needs import needs
from tests.helpers.npm import install_packages
from tests.helpers.waiting import LIMIT
from tests.interop.node import Node

from limpet.service import EventListener, HubOptions, Service, ServiceOptions, _event_hubs, load_options

KEY = "c2VjcmV0LWtleQ=="
HERE = Path(__file__).parent / "event_hub"


class Hub:
    """The event hub, and what it got."""

    def __init__(self) -> None:
        self.node = Node("../event_hub/hub.mjs")
        self.messages: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.node.listen("hub", lambda event, value: self.messages.put(value))
        self.port: int = self.node.call("listen")

    async def next(self) -> dict[str, Any]:
        message = await asyncio.to_thread(self.messages.get, timeout=LIMIT)
        message["body"] = base64.b64decode(message["body"])
        return message


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    needs("node", "npm")
    install_packages(HERE)
    hub = Hub()
    yield hub
    hub.node.stop()


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.WARNING, "limpet.service")
    return caplog


def lines(log: pytest.LogCaptureFixture) -> list[str]:
    """Return what the service itself says: the package writes to loggers of its own."""
    return [record.getMessage() for record in log.records if record.name == "limpet.service"]


def place(port: int) -> str:
    key = f"SharedAccessKeyName=all;SharedAccessKey={KEY}"
    return f"Endpoint=sb://127.0.0.1:{port};{key};UseDevelopmentEmulator=true"


def listening(port: int, **names: Any) -> ServiceOptions:
    listener = EventListener(event_hub="events", connection_string=place(port), **names)
    return ServiceOptions(hubs={"Chat": HubOptions(event_listeners=(listener,))})


@contextlib.asynccontextmanager
async def running(options: ServiceOptions) -> AsyncIterator[Service]:
    async with asyncio.timeout(6 * LIMIT), Service(options) as service:
        yield service


def run(scenario: Coroutine[Any, Any, None]) -> None:
    async def main() -> None:
        await scenario
        await nothing_runs()

    asyncio.run(main())


def test_the_events_of_a_client_arrive_in_order(hub: Hub) -> None:
    async def scenario() -> None:
        async with running(listening(hub.port)) as service:
            client = await open_client(service, user="Zoë")
            assert outcome(await ask(client, "order", {"a": 1}, "json")) == "success"
            await client.leave()
            connected, order, gone = [await hub.next() for _ in range(3)]
        number = connected["partitionKey"]
        assert {message["address"] for message in (connected, order, gone)} == {"events"}
        assert {message["partitionKey"] for message in (connected, order, gone)} == {number}
        assert [message["messageId"] for message in (connected, order, gone)] == [f"{number}/{at}" for at in (1, 2, 3)]
        assert (connected["contentType"], connected["body"]) == ("application/json", b"{}")
        assert (order["contentType"], order["body"]) == ("application/json", b'{"a": 1}')
        assert order["properties"]["cloudEvents:type"] == "azure.webpubsub.user.order"
        assert order["properties"]["cloudEvents:userid"] == "Zoë"
        assert gone["properties"]["cloudEvents:eventname"] == "disconnected"

    run(scenario())


def test_what_waits_is_sent_before_the_service_is_gone(hub: Hub) -> None:
    async def scenario() -> None:
        async with running(listening(hub.port, system_events=())) as service:
            raw = await Client.open(service.client_url("chat"), "custom")
            for number in range(50):
                await raw.websocket.send(bytes([number]))
            await raw.leave()
        assert [(await hub.next())["body"] for _ in range(50)] == [bytes([number]) for number in range(50)]

    run(scenario())


def test_a_refusal_is_told_without_the_key_and_the_event_is_a_success(
    hub: Hub, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_event_hubs, "_RETRIES", 0)

    async def scenario() -> None:
        hub.node.call("refuse", on=True)
        try:
            async with running(listening(hub.port, system_events=())) as service:
                client = await open_client(service)
                assert outcome(await ask(client)) == "success"
                await client.leave()
        finally:
            hub.node.call("refuse", on=False)

    run(scenario())
    (message,) = lines(log)
    assert message.startswith("the event hub events did not get order: ")
    assert message.endswith("; check that it is there, and its connection_string")
    assert KEY not in message


def test_a_hub_that_is_not_there_holds_up_neither_clients_nor_the_end(
    unused_port: int, log: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_event_hubs, "_DRAIN", 0.1)
    monkeypatch.setattr(_event_hubs, "_MAX_WAITING", 2)

    async def scenario() -> None:
        async with running(listening(unused_port)) as service:
            client = await open_client(service)
            for _ in range(5):
                assert outcome(await ask(client)) == "success"
            await client.leave()

    run(scenario())
    assert lines(log).count("the event hub events is too slow: events are left out") == 1
    assert not any(KEY in message for message in log.messages)


@pytest.fixture
def unused_port() -> Iterator[int]:
    import socket

    with socket.socket() as placeholder:
        placeholder.bind(("127.0.0.1", 0))
        yield placeholder.getsockname()[1]


def test_a_listener_comes_with_a_reload(hub: Hub) -> None:
    async def scenario() -> None:
        async with running(ServiceOptions()) as service:
            client = await open_client(service)
            service.reload(listening(hub.port))
            assert outcome(await ask(client)) == "success"
            assert (await hub.next())["body"] == b"x"
            service.reload(ServiceOptions())
            assert outcome(await ask(client)) == "NotFound"
            await client.leave()

    run(scenario())


def test_a_listener_that_goes_with_a_reload_leaves_no_connection(hub: Hub) -> None:
    async def scenario() -> None:
        ended = asyncio.Event()

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65_536):
                writer.write(data)
            writer.close()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            back, forth = await asyncio.open_connection("127.0.0.1", hub.port)
            await asyncio.gather(pass_on(reader, forth), pass_on(back, writer))
            ended.set()

        server = await asyncio.start_server(relay, "127.0.0.1", 0)
        async with server, running(listening(server.sockets[0].getsockname()[1], system_events=())) as service:
            client = await open_client(service)
            assert outcome(await ask(client)) == "success"
            service.reload(listening(1))
            # What waits is sent before.
            assert (await hub.next())["body"] == b"x"
            await asyncio.wait_for(ended.wait(), LIMIT)
            service.reload(ServiceOptions())
            await client.leave()

    run(scenario())


def test_a_listener_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "limpet.toml"
    path.write_text(
        f'[[hubs.Chat.event_listeners]]\nevent_hub = "events"\nconnection_string = "{place(1)}"\n'
        'user_events = ["order"]\nsystem_events = []\n'
    )
    assert load_options(path).hubs == listening(1, user_events=("order",), system_events=()).hubs
    path.write_text(f'[[hubs.chat.event_listeners]]\nevent_hub = "events"\nconnection_string = "Key={KEY}"')
    with pytest.raises(ValueError, match="not the connection string") as caught:
        load_options(path)
    assert KEY not in str(caught.value)
