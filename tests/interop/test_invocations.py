"""Invocations of the official JavaScript client, answered by servers made with @azure/web-pubsub-express."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.helpers.waiting import LIMIT
from tests.interop.applications import Application
from tests.interop.clients import JavaScriptClient
from tests.interop.conftest import Programs
from tests.interop.node import JavaScriptError
from tests.interop.stage import Stage

from limpet.service import EventHandler, HubOptions, ServiceOptions


@dataclass
class Play:
    """An application server, a service that asks it, and a client."""

    stage: Stage
    application: Application
    client: JavaScriptClient

    def reply(self, event: str, data: Any, data_type: str = "text", **options: Any) -> tuple[str | None, Any]:
        """Invoke an event and wait for type and data of the reply."""
        reply = self.client.invoke(event, data, data_type, **options).result(LIMIT)
        return reply.get("dataType"), reply.get("data")

    def error(self, event: str, **options: Any) -> tuple[str, str]:
        """Invoke an event and wait for name and text of the error."""
        with pytest.raises(JavaScriptError) as caught:
            self.client.invoke(event, "x", **options).result(LIMIT)
        return caught.value.name, str(caught.value)


@pytest.fixture
def play(staged: Callable[..., Stage], programs: Programs) -> Iterator[Callable[..., Play]]:
    applications: list[Application] = []

    def make(*, reliable: bool = True, over_proxy: bool = False, **handler: Any) -> Play:
        application = Application(programs("express.mjs"))
        applications.append(application)
        hubs = {"chat": HubOptions(event_handlers=(EventHandler(url=application.url, **handler),))}
        stage = staged(ServiceOptions(hubs=hubs))
        client = stage.open("js", reliable=reliable, over_proxy=over_proxy)
        assert isinstance(client, JavaScriptClient)
        return Play(stage, application, client)

    yield make
    for application in applications:
        application.close()


@pytest.mark.parametrize("reliable", [True, False])
def test_the_reply_is_the_result(play: Callable[..., Play], reliable: bool) -> None:
    scene = play(reliable=reliable)
    assert scene.reply("echo", "grün \U0001f600") == ("text", "grün \U0001f600")
    assert scene.reply("echo", {"id": [1, None]}, "json") == ("json", {"id": [1, None]})
    assert scene.reply("echo", b"\0\xff", "binary") == ("binary", base64.b64encode(b"\0\xff").decode())
    asked = scene.application.events.wait("echo", 2)[1]
    assert (asked["dataType"], asked["data"], asked["context"]["userId"]) == ("json", {"id": [1, None]}, "ann")
    assert asked["context"]["connectionId"] == scene.client.connection_id
    assert scene.client.events.of("message") == []


def test_an_empty_reply_and_none(play: Callable[..., Play]) -> None:
    scene = play()
    scene.application.behave("order", {"reply": {"data": "", "dataType": "text"}})
    assert scene.reply("order", "x") == (None, None)
    # The client leaves null out.
    assert scene.reply("order", None, "json") == (None, None)
    assert scene.application.events.wait("order", 2)[1]["data"] == ""


def test_failures(play: Callable[..., Play]) -> None:
    scene = play(user_events=("order",), retries=0)
    scene.application.behave("order", {"fail": {"code": 400, "detail": "no such order"}}, {"fail": {"code": 500}})
    name, text = scene.error("order")
    assert name == "BadRequest"
    assert "no such order" in text
    assert scene.error("order")[0] == "InternalServerError"
    assert scene.error("unknown")[0] == "NotFound"
    assert scene.reply("order", "x") == ("text", "x")


@pytest.mark.parametrize("event", ["chat.login", "chat.getRoom", "chat.createRoom"])
def test_what_the_chat_client_asks_for_is_refused_at_once(play: Callable[..., Play], event: str) -> None:
    """Though a handler gets all events: its answer would be taken for that of the chat."""
    scene = play()
    name, text = scene.error(event)
    assert name == "NotImplemented"
    assert "501" in text
    assert event in text
    assert scene.application.events.of(event) == []


def test_answers_come_in_any_order_and_requests_and_events_go_on(play: Callable[..., Play]) -> None:
    scene = play()
    scene.application.behave("slow", {"hold": True})
    slow = scene.client.invoke("slow", "1")
    scene.application.events.wait("slow")
    assert scene.reply("quick", "2") == ("text", "2")
    scene.client.join("room")
    scene.client.event("note", "3")
    assert not slow.done()
    scene.application.release()
    assert slow.result(LIMIT)["data"] == "1"


def test_a_slow_event_holds_up_no_invocation(play: Callable[..., Play]) -> None:
    scene = play()
    scene.application.behave("order", {"hold": True})
    event = scene.client.begin_event("order", "x")
    scene.application.events.wait("order")
    assert scene.reply("quick", "2") == ("text", "2")
    scene.application.release()
    event.result(LIMIT)


def test_to_abort_cancels_the_call_and_the_id_is_free(play: Callable[..., Play]) -> None:
    scene = play()
    scene.application.behave("slow", {"hold": True})
    aborted = scene.client.invoke("slow", "1", invocationId="mine", abortable="a")
    scene.application.events.wait("slow")
    connection = scene.stage.backend.connection(scene.client.connection_id)
    assert connection is not None
    scene.client.abort("a")
    with pytest.raises(JavaScriptError):
        aborted.result(LIMIT)
    scene.stage.backend.until(lambda: not connection.invocations)
    assert scene.reply("quick", "2", invocationId="mine") == ("text", "2")
    scene.application.release()


def test_a_drop_fails_the_invocation_and_the_late_answer_disturbs_nobody(play: Callable[..., Play]) -> None:
    scene = play(over_proxy=True)
    scene.application.behave("slow", {"hold": True})
    lost = scene.client.invoke("slow", "1", invocationId="mine")
    scene.application.events.wait("slow")
    scene.stage.lose(scene.client)
    with pytest.raises(JavaScriptError):
        lost.result(LIMIT)
    scene.stage.backend.resume()
    scene.stage.service().send("user:ann", "are you back?")
    scene.client.messages(1)
    scene.application.behave("slow", {"hold": True})
    again = scene.client.invoke("slow", "2", invocationId="mine")
    scene.application.events.wait("slow", 2)
    scene.application.release()
    assert again.result(LIMIT)["data"] == "2"


def test_the_connection_state_goes_round(play: Callable[..., Play]) -> None:
    scene = play()
    scene.application.behave("set", {"states": {"count": 1}})
    scene.reply("set", "x")
    scene.reply("get", "x")
    assert scene.application.events.wait("get")[0]["context"]["states"] == {"count": 1}
