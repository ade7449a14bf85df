"""The chat of Web PubSub, which this service does not have: who invokes one of its operations is told at once."""

from __future__ import annotations

import pytest
from tests.core.service.backend import EVENTS_ONLY, URL, talking
from tests.core.service.test_invocations import error, goes_on, invoke, success
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import EventHandler
from limpet_core.service.wire.chat import INVOCATIONS


def refused(client: Client, name: str) -> None:
    client.send(invoke(name=name, dataType="text", data=""))
    kind, text = error(client)
    assert kind == "NotImplemented"
    assert text.startswith(f"501: The event {name} belongs to the chat of Web PubSub")
    assert "user events of a handler" in text
    goes_on(client)


@pytest.mark.parametrize("name", [*sorted(INVOCATIONS), "chat.queryMessageHistory"])
def test_an_operation_of_the_chat_is_no_event_of_a_handler_that_gets_all(name: str) -> None:
    _, backend, client = talking(EVENTS_ONLY)
    refused(client, name)
    assert backend.idle()


def test_it_is_none_without_a_handler() -> None:
    client = ServiceUnderTest().connect(user="ann")
    client.hello()
    refused(client, "chat.login")


@pytest.mark.parametrize("events", [("Chat.Login",), ("*", "chat.login"), ("order", "chat.login")])
def test_a_handler_that_names_it_stands_in_for_the_chat(events: tuple[str, ...]) -> None:
    _, backend, client = talking(EventHandler(url=URL, system_events=(), user_events=events))
    client.send(invoke(name="chat.login", dataType="text", data=""))
    backend.answer(body={"userId": "ann"})
    assert client.received() == [success(dataType="json", data={"userId": "ann"})]
    refused(client, "chat.getRoom")


@pytest.mark.parametrize("name", ["chat.logins", "chat", "login", "chat.send"])
def test_another_event_is_one_of_the_application(name: str) -> None:
    _, backend, client = talking(EVENTS_ONLY)
    client.send(invoke(name=name))
    backend.answer(body={"done": True})
    assert client.received() == [success(dataType="json", data={"done": True})]


def test_as_an_event_it_is_one_of_the_application() -> None:
    _, backend, client = talking(EVENTS_ONLY)
    client.send({"type": "event", "event": "chat.login", "dataType": "text", "data": ""})
    assert backend.call().event == "chat.login"
