"""Invocations of Limpet's own clients and of the official JavaScript client at the same Express server.

What is known of the JavaScript client (1.1.0), and where the tests steer clear of it: it drops JSON ``null`` on the way
out, and it waits for ever for a reply whose data type it does not know.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from tests.helpers.waiting import LIMIT
from tests.interop.applications import Application
from tests.interop.clients import JavaScriptClient
from tests.interop.node import JavaScriptError
from tests.interop.own import OWN_KINDS, OwnClient
from tests.interop.stage import ROLES, Programs, Stage

from limpet import InvocationError, Reply
from limpet.service import EventHandler, HubOptions, ServiceOptions


@dataclass
class Pair:
    """An Express server, and two clients whose user has the same name."""

    stage: Stage
    application: Application
    own: OwnClient
    js: JavaScriptClient

    def ask(self, event: str, data: Any, data_type: str = "text") -> Reply:
        """Let both invoke an event: the server is asked the same and the reply is the same, which is returned."""
        before = len(self.application.events.of(event))
        reply: Reply = self.own.do(self.own.client.invoke, event, data, data_type=data_type)
        theirs = self.js.invoke(event, data, data_type).result(LIMIT)
        assert (theirs.get("dataType"), decoded(theirs)) == (reply.data_type, reply.data)
        asked = self.application.events.wait(event, before + 2)[before:]
        assert asked[0]["data"] == asked[1]["data"]
        assert asked[0]["dataType"] == asked[1]["dataType"]
        contexts = [{**each["context"], "connectionId": None, "signature": None} for each in asked]
        assert contexts[0] == contexts[1]
        ids = [each["context"]["connectionId"] for each in asked]
        assert ids == [self.own.connection_id, self.js.connection_id]
        first, second = (self.headers(its) for its in ids)
        assert first == second
        return reply

    def headers(self, connection_id: str) -> dict[str, str]:
        """The headers of the newest request about a connection, without what differs from request to request."""
        requests = [request["headers"] for request in self.application.events.of("request")]
        newest = [headers for headers in requests if headers.get("ce-connectionid") == connection_id][-1]
        return {name: value for name, value in newest.items() if name not in VARYING}

    def errors(self, event: str) -> tuple[InvocationError, JavaScriptError]:
        """Let both invoke an event that fails."""
        with pytest.raises(InvocationError) as mine:
            self.own.do(self.own.client.invoke, event, "x")
        with pytest.raises(JavaScriptError) as theirs:
            self.js.invoke(event, "x").result(LIMIT)
        return mine.value, theirs.value


VARYING = ("ce-connectionid", "ce-id", "ce-signature", "ce-source", "ce-time", "x-ms-client-request-id")


def decoded(reply: dict[str, Any]) -> Any:
    return base64.b64decode(reply["data"]) if reply.get("dataType") == "binary" else reply.get("data")


@pytest.fixture(params=OWN_KINDS)
def play(
    request: pytest.FixtureRequest, staged: Callable[..., Stage], programs: Programs
) -> Iterator[Callable[..., Pair]]:
    applications: list[Application] = []

    def make(**handler: Any) -> Pair:
        application = Application(programs("express.mjs"))
        applications.append(application)
        hubs = {"chat": HubOptions(event_handlers=(EventHandler(url=application.url, **handler),))}
        stage = staged(ServiceOptions(hubs=hubs))
        own = stage.own(request.param, "ann")
        js = stage.open("js", url=stage.service().client_url("ann", roles=ROLES), over_proxy=True)
        assert isinstance(js, JavaScriptClient)
        return Pair(stage, application, own, js)

    yield make
    for application in applications:
        application.close()


def test_the_same_question_has_the_same_reply(play: Callable[..., Pair]) -> None:
    scene = play()
    for data_type, data in (
        ("text", "grün \U0001f600"),
        ("text", "x" * 70_000),
        ("json", {"id": [1, None, True, 0.5]}),
        ("json", "text"),
        ("json", 0),
        ("binary", b"\0\xff"),
    ):
        assert scene.ask("echo", data, data_type) == Reply(data, data_type)
    assert scene.own.events.of("fragment") == scene.js.events.of("message") == []


def test_replies_of_another_type_and_none(play: Callable[..., Pair]) -> None:
    scene = play()
    for reply, expected in (
        ({"data": {"ok": True}, "dataType": "json"}, Reply({"ok": True}, "json")),
        ({"data": "fine", "dataType": "text"}, Reply("fine", "text")),
        ({"data": "", "dataType": "text"}, Reply(None, None)),
    ):
        scene.application.behave("order", {"reply": reply}, {"reply": reply})
        assert scene.ask("order", "x") == expected


def test_failures_have_the_same_names_and_texts(play: Callable[..., Pair]) -> None:
    scene = play(user_events=("order",), retries=0)
    for code, name, outcome in (
        (400, "BadRequest", "rejected"),
        (401, "BadRequest", "rejected"),
        (500, "InternalServerError", "unknown"),
    ):
        failure = {"fail": {"code": code, "detail": "no such order"}}
        scene.application.behave("order", failure, failure)
        mine, theirs = scene.errors("order")
        assert mine.name == theirs.name == name
        assert mine.message in str(theirs)
        assert mine.outcome == outcome
    mine, theirs = scene.errors("unknown")
    assert mine.name == theirs.name == "NotFound"
    assert mine.outcome == "rejected"
    assert scene.ask("order", "x") == Reply("x", "text")


def test_the_same_id_at_two_clients_is_two_invocations(play: Callable[..., Pair]) -> None:
    """One is cancelled, and the other has its reply; ids belong to a connection."""
    scene = play()
    own, js = scene.own, scene.js
    scene.application.behave("slow", {"hold": True}, {"hold": True}, {"hold": True})
    theirs = js.invoke("slow", "theirs", invocationId="same")
    mine = own.begin(own.client.invoke, "slow", "mine", invocation_id="same")
    aborted = js.invoke("slow", "aborted", invocationId="other", abortable="a")
    scene.application.events.wait("slow", 3)
    js.abort("a")
    with pytest.raises(JavaScriptError):
        aborted.result(LIMIT)
    assert own.do(own.client.invoke, "quick", "1", invocation_id="other") == Reply("1", "text")
    assert not theirs.done()
    assert not mine.done()
    scene.application.release()
    assert mine.result(LIMIT) == Reply("mine", "text")
    assert theirs.result(LIMIT)["data"] == "theirs"


def test_many_at_once_are_answered_each_with_its_own(play: Callable[..., Pair]) -> None:
    scene = play()
    own, js = scene.own, scene.js
    mine = [own.begin(own.client.invoke, "echo", number) for number in range(30)]
    theirs = [js.invoke("echo", number, "json") for number in range(30)]
    assert [future.result(LIMIT) for future in mine] == [Reply(number, "json") for number in range(30)]
    assert [future.result(LIMIT)["data"] for future in theirs] == list(range(30))


def test_a_call_that_is_given_up_is_cancelled_and_its_late_reply_disturbs_nobody(play: Callable[..., Pair]) -> None:
    scene = play()
    own = scene.own
    connection = scene.stage.backend.connection(own.connection_id)
    assert connection is not None
    scene.application.behave("slow", {"hold": True})
    with pytest.raises(InvocationError) as caught:
        own.do(own.client.invoke, "slow", "1", timeout=0.5, invocation_id="mine")
    assert (caught.value.name, caught.value.outcome) == ("Timeout", "unknown")
    scene.stage.backend.until(lambda: not connection.invocations)
    scene.application.release()
    assert own.do(own.client.invoke, "quick", "2", invocation_id="mine") == Reply("2", "text")


def test_a_drop_fails_the_invocations_of_both_and_the_next_ones_succeed(play: Callable[..., Pair]) -> None:
    scene = play()
    own, js, backend = scene.own, scene.js, scene.stage.backend
    scene.application.behave("slow", {"hold": True}, {"hold": True})
    mine, theirs = own.begin(own.client.invoke, "slow", "1"), js.invoke("slow", "1")
    scene.application.events.wait("slow", 2)
    for its in (own.connection_id, js.connection_id):
        backend.drop(its)
    with pytest.raises(InvocationError) as caught:
        mine.result(LIMIT)
    assert (caught.value.name, caught.value.outcome) == ("ConnectionLost", "unknown")
    with pytest.raises(JavaScriptError):
        theirs.result(LIMIT)
    scene.application.release()
    for its in (own.connection_id, js.connection_id):
        backend.until(partial(backend.connected, its))
    scene.stage.service().send("user:ann", "are you back?")
    js.messages(1)
    assert scene.ask("order", "2") == Reply("2", "text")
    assert len(scene.application.events.of("slow")) == 2, "nothing is sent again"


def test_the_state_of_a_connection_goes_round(play: Callable[..., Pair]) -> None:
    scene = play()
    scene.application.behave("set", {"states": {"count": [1]}}, {"states": {"count": [1]}})
    scene.ask("set", "x")
    scene.ask("get", "x")
    assert [asked["context"]["states"] for asked in scene.application.events.of("get")] == [{"count": [1]}] * 2
