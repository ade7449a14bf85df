"""Event listeners in virtual time: what they get, and what it means for the client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.core.service.backend import EVENTS_ONLY, Backend, ack, event, failure
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import JSON, EventListener, ListenerMessage

KEY = "c2VjcmV0"
PLACE = f"Endpoint=sb://localhost;SharedAccessKeyName=name;SharedAccessKey={KEY};UseDevelopmentEmulator=true"
EVERYTHING = EventListener(event_hub="events", connection_string=PLACE)


def listened(*listeners: EventListener, handler: bool = False) -> ServiceUnderTest:
    service = ServiceUnderTest(*((EVENTS_ONLY,) if handler else ()))
    service.core.set_handlers(service.core.events.handlers, {"chat": listeners or (EVERYTHING,)})
    return service


def told(service: ServiceUnderTest) -> list[str]:
    """Return the types of what listeners get since the last call."""
    return [message.properties["cloudEvents:type"] for message in service.core.listener_messages()]


def talking(service: ServiceUnderTest, **options: Any) -> Client:
    client = service.connect(user="ann", **options)
    if client.transport.connection is not None and client.transport.connection.raw is None:
        client.hello()
    return client


def test_what_a_listener_gets_of_an_event() -> None:
    service = listened()
    client = talking(service, subprotocol=JSON)
    connection = client.transport.connection
    assert connection is not None
    (connected,) = service.core.listener_messages()
    assert (connected.body, connected.content_type) == (b"{}", "application/json")
    metadata = {"Trace": "first", "trace": " last, ", "Empty": ""}
    assert client.ask(event(data="é", ackId=1, metadata=metadata)) == [ack(1)]
    number = connection.connection_id
    assert service.core.listener_messages() == [
        ListenerMessage(
            EVERYTHING,
            "é".encode(),
            "text/plain",
            f"{number}/2",
            number,
            {
                "cloudEvents:specversion": "1.0",
                "cloudEvents:awpsversion": "1.0",
                "cloudEvents:type": "azure.webpubsub.user.order",
                "cloudEvents:source": f"/hubs/chat/client/{number}",
                "cloudEvents:id": "2",
                "cloudEvents:time": "2026-01-31T12:00:00Z",
                "cloudEvents:hub": "chat",
                "cloudEvents:eventname": "order",
                "cloudEvents:connectionid": number,
                "cloudEvents:userid": "ann",
                "cloudEvents:subprotocol": JSON,
                "x-webpubsub-metadata-trace": " last, ",
                "x-webpubsub-metadata-empty": "",
            },
        )
    ]
    assert client.ask(event(data="é", ackId=1))[0]["error"]["name"] == "Duplicate"
    assert service.core.listener_messages() == []
    client.drop(1000)
    (gone,) = service.core.listener_messages()
    assert set(json.loads(gone.body)) == {"reason"}
    assert gone.message_id == f"{number}/3"


@pytest.mark.parametrize(
    ("names", "heard"),
    [
        ({}, ["sys.connected", "user.order", "sys.disconnected"]),
        ({"user_events": ("pay", "ORDER"), "system_events": ("Connected",)}, ["sys.connected", "user.order"]),
        ({"user_events": ("ord", "orders"), "system_events": ()}, []),
        ({"user_events": (), "system_events": ("disconnected",)}, ["sys.disconnected"]),
    ],
)
def test_which_events_a_listener_hears_of(names: dict[str, Any], heard: list[str]) -> None:
    service = listened(EventListener(event_hub="events", connection_string=PLACE, **names))
    client = talking(service)
    answer = client.ask(event(ackId=1))
    assert answer == [ack(1)] if "user.order" in heard else failure(answer) == (1, "NotFound")
    client.drop(1000)
    assert told(service) == [f"azure.webpubsub.{name}" for name in heard]


def test_all_listeners_that_hear_get_it_and_a_handler_gets_it_with_the_same_id() -> None:
    service = listened(EVERYTHING, EVERYTHING, handler=True)
    backend, client = Backend(service), talking(service)
    assert len(told(service)) == 2
    client.send(event(ackId=1))
    assert [message.message_id[-2:] for message in service.core.listener_messages()] == ["/2", "/2"]
    assert dict(backend.call().headers)["ce-id"] == "2"
    backend.answer(status=400)
    assert failure(client.received()) == (1, "InternalServerError")


def test_a_state_that_a_handler_has_set_is_told() -> None:
    service = listened(handler=True)
    backend, client = Backend(service), talking(service)
    client.send(event())
    backend.answer(headers=[("ce-connectionState", "busy")])
    client.send(event())
    last = service.core.listener_messages()[-1]
    assert last.properties["cloudEvents:connectionstate"] == "busy"
    backend.answer(headers=[("ce-connectionState", "")])
    client.send(event())
    assert "cloudEvents:connectionstate" not in service.core.listener_messages()[-1].properties


def test_a_raw_client_stays_when_a_listener_alone_hears_it() -> None:
    service = listened()
    client = talking(service, subprotocol=None)
    client.send_raw(b"\x00\xff")
    assert client.close_code is None
    _, message = service.core.listener_messages()
    assert (message.body, message.content_type) == (b"\x00\xff", "application/octet-stream")
    assert "cloudEvents:subprotocol" not in message.properties


def test_listeners_decide_about_nobody_and_answer_no_invocation() -> None:
    service = listened()
    assert not service.core.handler_decides("chat")
    client = talking(service)
    service.core.listener_messages()
    answer = client.ask({"type": "invoke", "invocationId": "1", "target": "event", "event": "e", "data": 7})
    assert answer[0]["error"]["name"] == "NotFound"
    assert service.core.listener_messages() == []


def test_a_client_that_is_connected_has_new_listeners_and_loses_old_ones() -> None:
    service = ServiceUnderTest()
    client = talking(service)
    service.core.set_handlers({}, {"chat": (EVERYTHING,)})
    assert client.ask(event(ackId=1)) == [ack(1)]
    service.core.set_handlers({})
    assert failure(client.ask(event(ackId=2))) == (2, "NotFound")
    assert told(service) == ["azure.webpubsub.user.order"]


@pytest.mark.parametrize(
    ("wrong", "error", "text"),
    [
        ({"event_hub": " "}, ValueError, "name of an event hub"),
        ({"connection_string": ""}, ValueError, "not the connection string"),
        ({"connection_string": f"SharedAccessKeyName=n;SharedAccessKey={KEY}"}, ValueError, "not the connection"),
        ({"connection_string": PLACE.replace("sb://", "http://")}, ValueError, "not the connection string"),
        ({"connection_string": PLACE.replace("KeyName=name", "KeyName=")}, ValueError, "not the connection string"),
        *(
            ({"connection_string": text}, ValueError, "not the connection string")
            for text in (
                PLACE.replace("sb://", "sb:// "),
                PLACE.replace("sb://", "sb://[::1"),
                PLACE.replace("localhost", "localhost:65536"),
                PLACE.replace("Endpoint=", "Endpoint = "),
                PLACE.replace("Endpoint=sb://", "Endpoint=sb://a;endpoint=sb://"),
                f"Endpoint=sb://;SharedAccessKeyName=n;SharedAccessKey={KEY}",
                f"{PLACE};;EntityPath=",
                f"{PLACE};UseDevelopmentEmulator",
                f"{PLACE};{PLACE}",
            )
        ),
        ({"user_events": "order"}, TypeError, "user_events is a list"),
        ({"user_events": ("",)}, ValueError, "not the name of an event"),
        ({"system_events": "connected"}, TypeError, "system_events is a list"),
        ({"system_events": ("connect",)}, ValueError, "listeners hear of connected and disconnected, not of 'connect'"),
    ],
)
def test_settings_that_cannot_be_used(wrong: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text) as caught:
        EventListener(**{"event_hub": "events", "connection_string": PLACE, **wrong})
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        f" {PLACE};\n",
        PLACE.replace("Endpoint", "ENDPOINT"),
        f"{PLACE};EntityPath=other;;",
        f"Endpoint=sb://[::1]:5672/;SharedAccessKeyName=n;SharedAccessKey={KEY}==",
    ],
)
def test_connection_strings_that_can_be_used(text: str) -> None:
    assert EventListener(event_hub="events", connection_string=text).connection_string == text


def test_the_repr_has_no_key() -> None:
    assert KEY not in repr(EVERYTHING)
    assert KEY not in repr(ListenerMessage(EVERYTHING, b"", "", "", "", {}))
