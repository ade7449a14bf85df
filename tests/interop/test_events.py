"""Events reach application servers made with @azure/web-pubsub-express."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tests.helpers.waiting import LIMIT
from tests.interop.applications import Application
from tests.interop.clients import KINDS, Refused
from tests.interop.conftest import Programs
from tests.interop.events import Message
from tests.interop.raw import JSON, RELIABLE, socket
from tests.interop.stage import Stage

from limpet.service import EventHandler, HubOptions, ServiceOptions

KEYS = ("primary-" + "1" * 40, "secondary-" + "2" * 40)
each_kind = pytest.mark.parametrize("kind", KINDS)


@dataclass
class Play:
    """An application server, and a service that asks it about the hub chat."""

    stage: Stage
    application: Application


@pytest.fixture
def play(staged: Callable[..., Stage], programs: Programs) -> Iterator[Callable[..., Play]]:
    """Make a `Play`, with options of the application, and with options of the handler in ``handler``."""
    applications: list[Application] = []

    def make(handler: dict[str, Any] | None = None, service: dict[str, Any] | None = None, **options: Any) -> Play:
        application = Application(programs("express.mjs"), **options)
        applications.append(application)
        hubs = {"chat": HubOptions(event_handlers=(EventHandler(url=application.url, **(handler or {})),))}
        keys = {"access_key": KEYS[0], "secondary_access_key": KEYS[1]}
        return Play(staged(ServiceOptions(hubs=hubs, **keys, **(service or {}))), application)

    yield make
    for application in applications:
        application.close()


@each_kind
def test_headers_and_signature(play: Callable[..., Play], kind: str) -> None:
    scene = play()
    client = scene.stage.open(kind, "ann")
    client.event("Order.New", "hi", "text")
    headers = scene.application.headers("Order.New")
    identity = client.connection_id
    signatures = [hmac.new(key.encode(), identity.encode(), hashlib.sha256).hexdigest() for key in KEYS]
    expected = {
        "ce-specversion": "1.0",
        "ce-awpsversion": "1.0",
        "ce-type": "azure.webpubsub.user.Order.New",
        "ce-source": f"/hubs/chat/client/{identity}",
        "ce-hub": "chat",
        "ce-connectionid": identity,
        "ce-eventname": "Order.New",
        "ce-userid": "ann",
        "ce-subprotocol": RELIABLE,
        "ce-signature": ",".join(f"sha256={signature}" for signature in signatures),
    }
    assert {name: headers[name] for name in expected} == expected
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", headers["ce-time"])
    assert headers["webhook-request-origin"] in scene.stage.backend.service.endpoint
    assert "ce-connectionstate" not in headers
    assert scene.application.headers("connect")["ce-id"] == "0"
    assert int(headers["ce-id"]) > 0


def test_validation_asks_with_options(play: Callable[..., Play]) -> None:
    scene = play()
    scene.stage.open("python")
    first = scene.application.events.wait("request")[0]
    assert first["method"] == "OPTIONS"
    assert first["headers"]["webhook-request-origin"]
    assert first["headers"]["ce-awpsversion"] == "1.0"


def test_validation_falls_back_to_get(play: Callable[..., Play]) -> None:
    scene = play(validation="get")
    scene.stage.open("python")
    methods = [request["method"] for request in scene.application.events.wait("request", 3)]
    assert methods[:3] == ["OPTIONS", "GET", "POST"]


def test_the_application_may_name_the_services_it_serves(play: Callable[..., Play]) -> None:
    refused, served = play(), play()
    refused.application.allow("http://elsewhere.example")
    with pytest.raises(ConnectionError, match="500"):
        refused.stage.client("js").start()
    assert not refused.application.events.of("connect")
    served.application.allow("http://elsewhere.example", served.stage.backend.service.endpoint)
    served.stage.open("js")


@each_kind
def test_connect_tells_the_application_about_the_client(play: Callable[..., Play], kind: str) -> None:
    scene = play()
    url = scene.stage.service(kind).client_url("ann", roles=["webpubsub.sendToGroup"], groups=["room"])
    client = scene.stage.client(kind, url=f"{url}&color=red&color=blue")
    client.start()
    [asked] = scene.application.events.wait("connect")
    assert asked["claims"]["sub"] == ["ann"]
    assert asked["claims"]["role"] == ["webpubsub.sendToGroup"]
    assert asked["queries"] == {"color": ["red", "blue"]}
    assert asked["subprotocols"] == [RELIABLE]
    assert asked["context"]["connectionId"] == client.connection_id
    client.stop()


@each_kind
def test_connect_overrides_the_token(play: Callable[..., Play], kind: str) -> None:
    scene = play()
    roles = ["webpubsub.joinLeaveGroup.room"]
    scene.application.behave("connect", {"accept": {"userId": "eve", "groups": ["given"], "roles": roles}})
    client = scene.stage.open(kind, "ann", groups=["token"])
    assert client.events.wait("connected")[0]["userId"] == "eve"
    assert scene.stage.groups(client.connection_id) == ["given"]
    client.join("room")
    with pytest.raises(Refused, match="Forbidden"):
        client.join("other")


def test_connect_without_an_opinion_keeps_the_token(play: Callable[..., Play]) -> None:
    scene = play()
    scene.application.behave("connect", {"accept": {}}, {"accept": {"groups": []}})
    for _ in range(2):
        client = scene.stage.open("js", "ann", groups=["token"])
        assert client.events.wait("connected")[0]["userId"] == "ann"
        assert scene.stage.groups(client.connection_id) == ["token"]


def test_connect_chooses_the_subprotocol(play: Callable[..., Play]) -> None:
    scene = play()
    scene.application.behave("connect", {"accept": {"subprotocol": JSON}})
    with socket(scene.stage.service().client_url(), JSON) as client:
        assert client.receive()["event"] == "connected"
        assert client.websocket.subprotocol == JSON


@pytest.mark.parametrize("code", [400, 401, 403, 500])
@each_kind
def test_connect_refuses(play: Callable[..., Play], kind: str, code: int) -> None:
    scene = play({"retry_delays": ()})
    scene.application.behave("connect", {"fail": {"code": code, "detail": "no"}})
    with pytest.raises(ConnectionError, match=str(code)):
        scene.stage.client(kind).start()
    scene.stage.open(kind)
    assert len(scene.application.events.of("connected")) <= 1
    assert not scene.application.events.of("disconnected")


@each_kind
def test_states_make_the_round_trip(play: Callable[..., Play], kind: str) -> None:
    scene = play()
    scene.application.behave("connect", {"states": {"count": 1, "name": "\u00e9"}})
    scene.application.behave("step", {"states": {"count": 2}})
    client = scene.stage.open(kind)
    client.event("step", "one")
    client.event("step", "two")
    states = [asked["context"]["states"] for asked in scene.application.events.wait("step", 2)]
    assert states == [{"count": 1, "name": "\u00e9"}, {"count": 2, "name": "\u00e9"}]


PAYLOADS: list[tuple[str, Any]] = [
    ("text", "snow \u2603"),
    ("json", {"a": [1, None, False]}),
    ("json", "a string"),
    ("json", 0),
    ("binary", bytes(range(256))),
]


@each_kind
def test_data_there_and_back(play: Callable[..., Play], kind: str) -> None:
    scene = play()
    client = scene.stage.open(kind)
    for count, (data_type, data) in enumerate(PAYLOADS, 1):
        client.event("echo", data, data_type)
        asked = scene.application.events.wait("echo", count)[-1]
        told = base64.b64encode(data).decode() if data_type == "binary" else data
        assert (asked["dataType"], asked["data"]) == (data_type, told)
        assert client.messages(count)[-1] == Message(None, data_type, data, None, count)


def test_the_reply_comes_before_the_answer(play: Callable[..., Play]) -> None:
    scene = play()
    with socket(scene.stage.service().client_url()) as client:
        client.receive()
        client.send(type="event", event="echo", dataType="text", data="hi", ackId=1)
        assert client.receive()["data"] == "hi"
        assert client.receive() == {"type": "ack", "ackId": 1, "success": True}


@each_kind
def test_an_empty_reply_is_no_message_and_replies_may_be_of_another_type(play: Callable[..., Play], kind: str) -> None:
    scene = play()
    scene.application.behave(
        "ask", {"reply": {"data": "", "dataType": "text"}}, {"reply": {"data": {"n": 1}, "dataType": "json"}}
    )
    client = scene.stage.open(kind)
    client.event("ask", "one")
    client.event("ask", "two")
    assert client.messages(1) == [Message(None, "json", {"n": 1}, None, 1)]


@each_kind
def test_refused_events_and_events_for_nobody(play: Callable[..., Play], kind: str) -> None:
    scene = play({"user_events": ("ask",)})
    scene.application.behave("ask", {"fail": {"code": 400, "detail": "no"}})
    client = scene.stage.open(kind)
    with pytest.raises(Refused, match="InternalServerError"):
        client.event("ask", "one", ack_id=7)
    with pytest.raises(Refused, match="NotFound"):
        client.event("other", "nobody gets it")
    assert client.event("ask", "again", ack_id=7) in (False, None), "it may be repeated"
    assert client.event("ask", "again", ack_id=7) in (True, None), "but not twice"
    assert [asked["data"] for asked in scene.application.events.wait("ask", 2)] == ["one", "again"]
    assert [message.data for message in client.messages(1)] == ["again"]


def test_events_are_sent_again_after_5xx_but_not_after_4xx(play: Callable[..., Play]) -> None:
    scene = play({"retry_delays": (0.01, 0.01, 0.01)})
    busy, wrong = {"fail": {"code": 503, "detail": ""}}, {"fail": {"code": 404, "detail": ""}}
    scene.application.behave("busy", busy, busy, busy)
    scene.application.behave("down", busy, busy, busy, busy)
    scene.application.behave("wrong", wrong)
    client = scene.stage.open("js")
    client.event("busy", "")
    for event in ("down", "wrong"):
        with pytest.raises(Refused, match="InternalServerError"):
            client.event(event, "")
    expected = {"busy": 4, "down": 4, "wrong": 1}
    counts = {event: len(scene.application.events.wait(event, count)) for event, count in expected.items()}
    assert counts == expected


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "js"])
def test_connected_and_disconnected_are_told_once(play: Callable[..., Play], kind: str) -> None:
    scene = play()
    client = scene.stage.open(kind, "ann", over_proxy=True)
    [connected] = scene.application.events.wait("connected")
    assert connected["context"]["userId"] == "ann"
    scene.stage.lose(client)
    scene.stage.backend.resume()
    scene.stage.service(kind).send("user:ann", "are you back?")
    client.messages(1)
    client.event("echo", "")
    assert not scene.application.events.of("disconnected"), "it was recovered"
    client.stop()
    [disconnected] = scene.application.events.wait("disconnected")
    assert disconnected["context"]["connectionId"] == client.connection_id
    assert len(scene.application.events.wait("connected")) == len(scene.application.events.wait("connect")) == 1


def test_after_a_drop_disconnected_is_told_when_the_window_is_over(play: Callable[..., Play]) -> None:
    scene = play(service={"recovery_window": 0.5})
    client = scene.stage.open("js", "ann", over_proxy=True)
    scene.stage.lose(client)
    assert not scene.application.events.of("disconnected")
    scene.application.events.wait("disconnected")
    assert scene.stage.backend.connection(client.connection_id) is None


@each_kind
def test_disconnected_has_the_reason_of_the_server(play: Callable[..., Play], kind: str) -> None:
    scene = play()
    scene.stage.open(kind, "ann")
    scene.stage.service(kind).close("user:ann", "Time to go")
    assert scene.application.events.wait("disconnected")[0]["reason"] == (
        "Application server closed the connection. Reason: Time to go"
    )


def test_a_ping_is_answered_while_an_event_is_handled(play: Callable[..., Play]) -> None:
    scene = play()
    scene.application.behave("slow", {"hold": True})
    with socket(scene.stage.service().client_url()) as client:
        client.receive()
        client.send(type="event", event="slow", dataType="text", data="hi", ackId=1)
        scene.application.events.wait("slow")
        client.send(type="ping")
        assert client.receive() == {"type": "pong"}
        scene.application.release()
        assert client.receive()["data"] == "hi"
        assert client.receive()["type"] == "ack"


@each_kind
def test_events_of_one_client_are_handled_in_order(play: Callable[..., Play], kind: str) -> None:
    scene = play()
    scene.application.behave("step", {"hold": True})
    with socket(scene.stage.service(kind).client_url()) as client:
        client.receive()
        for number in range(3):
            client.send(type="event", event="step", dataType="json", data=number, ackId=number + 1)
        scene.application.events.wait("step")
        other = scene.stage.open(kind, "bob")
        other.event("echo", "is not held up by it")
        assert len(scene.application.events.wait("step")) == 1
        scene.application.release()
        assert [asked["data"] for asked in scene.application.events.wait("step", 3)] == [0, 1, 2]


def test_events_of_raw_clients(play: Callable[..., Play]) -> None:
    scene = play()
    scene.application.behave("message", {}, {}, {"fail": {"code": 400, "detail": "no"}})
    with socket(scene.stage.service().client_url(), None) as client:
        for data in ("hi", b"\0\1"):
            client.websocket.send(data)
            assert client.websocket.recv(LIMIT) == data
        client.websocket.send("refused")
        assert client.ended()[0] == 1011
    assert [asked["dataType"] for asked in scene.application.events.wait("message", 3)] == ["text", "binary", "text"]
