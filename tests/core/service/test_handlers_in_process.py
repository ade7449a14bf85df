"""Event handlers that answer by themselves, without a request."""

from __future__ import annotations

import pytest
from tests.core.service.backend import EVENTS_ONLY, Backend, ack, event, failure
from tests.core.service.virtual import ServiceUnderTest

from limpet_core.service import Answer, EventHandler, HandlerCall


class Self(EventHandler, frozen=True):
    """Answers with what it is told."""

    def answer(self, call: HandlerCall) -> Answer | None:
        if call.body == b"ask":
            return None
        return Answer(500 if call.body == b"fail" else 200, (("Content-Type", "text/plain"),), call.body)


SELF = Self(url="http://nowhere.invalid/", system_events=())


def reply(data: str, number: int) -> dict[str, object]:
    return {"type": "message", "from": "server", "dataType": "text", "data": data, "sequenceId": number}


def test_the_answer_is_there_at_once_and_nothing_is_asked() -> None:
    service = ServiceUnderTest(SELF)
    client = service.connect()
    client.hello()
    assert client.ask(event(data="x", ackId=1)) == [reply("x", 1), ack(1)]
    assert client.ask({"type": "invoke", "invocationId": "1", "target": "event", "event": "e", "data": 7}) == [
        {"type": "invokeResponse", "invocationId": "1", "success": True, "dataType": "text", "data": "7"}
    ]
    assert failure(client.ask(event(data="fail", ackId=2))) == (2, "InternalServerError")
    assert service.core.handler_calls(service.now) == []
    assert service.core.deadline == float("inf")


def test_a_queue_of_thousands_is_carried_out_in_order() -> None:
    service = ServiceUnderTest(SELF, retained_messages=5000)
    backend = Backend(service)
    client = service.connect()
    client.hello()
    client.send(event(data="ask"))
    for number in range(3000):
        client.send(event(data=str(number)))
    assert client.received() == []
    backend.answer()
    assert [message["data"] for message in client.received()] == [str(number) for number in range(3000)]


@pytest.mark.parametrize("handler", [SELF, EVENTS_ONLY])
def test_a_client_that_leaves_is_no_trouble(handler: EventHandler) -> None:
    service = ServiceUnderTest(handler)
    client = service.connect()
    client.hello()
    client.send(event(data="x"))
    client.drop(1000)
    service.advance(0)
    assert service.core.connection_count == 0
