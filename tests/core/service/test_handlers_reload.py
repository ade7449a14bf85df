"""Event handlers that are replaced while clients are connected, in virtual time."""

from __future__ import annotations

import math

from tests.core.service.backend import EVENTS_ONLY, Backend, ack, event, failure
from tests.core.service.virtual import ServiceUnderTest

from limpet_core.service import EventHandler

OLD = EVENTS_ONLY
NEW = EventHandler(url="http://new.example/{event}", system_events=("disconnected",))


def test_a_client_that_is_connected_talks_to_the_new_handler() -> None:
    service = ServiceUnderTest(OLD)
    backend = Backend(service)
    client = service.connect(user="ann")
    client.hello()
    client.send(event(ackId=1))
    backend.answer()
    service.core.set_handlers({"chat": (NEW,)})
    client.send(event(ackId=2))
    call = backend.call()
    assert (call.url, dict(call.headers)["ce-id"]) == ("http://new.example/order", "3")
    backend.answer()
    assert client.received() == [ack(1), ack(2)]
    client.drop(1000)
    assert backend.call().url == "http://new.example/disconnected"


def test_a_hub_that_gets_its_first_handlers_has_them_for_clients_that_are_connected() -> None:
    service = ServiceUnderTest()
    backend = Backend(service)
    client = service.connect(user="ann")
    client.hello()
    assert failure(client.ask(event(ackId=1))) == (1, "NotFound")
    service.core.set_handlers({"chat": (NEW,)})
    client.send(event(ackId=2))
    headers = dict(backend.call().headers)
    assert (headers["ce-userId"], headers["ce-subprotocol"]) == ("ann", "json.reliable.webpubsub.azure.v1")
    backend.answer()
    assert client.received() == [ack(2)]


def test_clients_of_a_hub_that_has_none_stay_without() -> None:
    service = ServiceUnderTest()
    backend = Backend(service)
    plain, raw = service.connect(hub="news"), service.connect(subprotocol=None)
    plain.hello()
    service.core.set_handlers({"chat": (NEW,)})
    assert failure(plain.ask(event(ackId=1))) == (1, "NotFound")
    raw.drop(1000)
    assert "ce-subprotocol" not in dict(backend.call().headers)


def test_a_call_that_has_begun_goes_on_when_all_handlers_are_taken_away() -> None:
    service = ServiceUnderTest(OLD)
    backend = Backend(service)
    client = service.connect()
    client.hello()
    client.send(event(ackId=1))
    client.send(event(ackId=2))
    backend.fail("broken")
    service.core.set_handlers({})
    assert service.core.deadline < math.inf
    service.advance(1)
    assert backend.call().url.startswith(OLD.url.partition("{")[0])
    backend.answer()
    answers = client.received()
    assert answers[0] == ack(1)
    assert failure(answers[1:]) == (2, "NotFound")
    client.drop(1000)
    assert backend.idle()


def test_a_handler_that_has_refused_is_asked_again_at_once() -> None:
    service = ServiceUnderTest(OLD)
    backend = Backend(service, validates=False)
    client = service.connect()
    client.hello()
    client.send(event(ackId=1))
    backend.answer(status=403)
    assert backend.idle()
    service.advance(0)
    assert failure(client.received()) == (1, "NotFound")
    service.core.set_handlers({"chat": (OLD,)})
    client.send(event(ackId=2))
    backend.answer(headers=[("WebHook-Allowed-Origin", "*")])
    backend.answer()
    assert client.received() == [ack(2)]


def test_a_question_that_is_asked_already_is_answered_across_a_change() -> None:
    service = ServiceUnderTest(OLD)
    backend = Backend(service, validates=False)
    client = service.connect()
    client.hello()
    client.send(event(ackId=1))
    assert backend.call().method == "OPTIONS"
    service.core.set_handlers({"chat": (NEW,)})
    backend.answer(headers=[("WebHook-Allowed-Origin", "*")])
    backend.answer()
    assert client.received() == [ack(1)]
