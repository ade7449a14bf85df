"""Event listeners and the official package, without an event hub: what it makes of their settings."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from azure.eventhub.aio import EventHubProducerClient
from tests.adapters.service.sockets import with_service
from tests.adapters.service.webhook import ask, open_client, outcome

from limpet.service import EventListener, HubOptions, Service, ServiceOptions

KEY = "SharedAccessKeyName=name;SharedAccessKey=c2VjcmV0LWtleQ=="
PLACE = f"Endpoint=sb://127.0.0.1;{KEY}"


@pytest.mark.parametrize(
    "text",
    [
        PLACE,
        f"{PLACE};",
        f"Endpoint=sb://[::1]:5671/;{KEY}",
        f"{PLACE};UseDevelopmentEmulator=true",
        f"{PLACE};EntityPath=e",
        f" {PLACE} ",
    ],
)
def test_the_package_takes_what_a_listener_takes(text: str) -> None:
    listener = EventListener(event_hub="events", connection_string=text)
    assert EventHubProducerClient.from_connection_string(listener.connection_string, eventhub_name="events")


@pytest.mark.parametrize(
    "text",
    [
        f"Endpoint=sb://;{KEY}",
        f"Endpoint=sb://[::1;{KEY}",
        f"Endpoint = sb://127.0.0.1;{KEY}",
        f"{PLACE};nonsense",
        f"{PLACE};;UseDevelopmentEmulator=true",
        f"{PLACE};Endpoint=sb://other",
        f"{PLACE};endpoint=sb://other",
    ],
)
def test_a_listener_refuses_what_the_package_refuses(text: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)connection string|URL"):
        EventHubProducerClient.from_connection_string(text, eventhub_name="events")
    with pytest.raises(ValueError, match="not the connection string") as caught:
        EventListener(event_hub="events", connection_string=text)
    assert "c2VjcmV0" not in str(caught.value)


def test_what_the_package_does_not_take_costs_the_event_and_not_the_client(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError(PLACE)

    monkeypatch.setattr(EventHubProducerClient, "from_connection_string", refuse)
    listener = EventListener(event_hub="events", connection_string=PLACE, system_events=())

    async def scenario(service: Service) -> None:
        client = await open_client(service)
        assert outcome(await ask(client)) == "success"
        assert outcome(await ask(client)) == "success"
        await client.leave()

    with caplog.at_level(logging.WARNING, "limpet.service"):
        with_service(scenario, ServiceOptions(hubs={"chat": HubOptions(event_listeners=(listener,))}))
    line = "the event hub events did not get order: ValueError; check that it is there, and its connection_string"
    assert set(caplog.messages) == {line}
