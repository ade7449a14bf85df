"""Event handlers in virtual time: attempts, permission and the end of the service."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.service.backend import (
    EVENTS_ONLY,
    EVERYTHING,
    URL,
    Backend,
    ack,
    event,
    failure,
    knock,
    talking,
)
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service import (
    EventHandler,
    HandlerCall,
    HandlerCalled,
    TraceEvent,
)

# ---- Attempts


@pytest.mark.parametrize("trouble", [408, 500, 503, "unreachable", "broken"])
def test_trouble_is_tried_again_after_1_3_and_5_seconds(trouble: Any) -> None:
    service, backend, client = talking()

    def attempt() -> HandlerCall:
        return backend.answer(status=trouble) if isinstance(trouble, int) else backend.fail(trouble)

    client.send(event(ackId=1))
    first = attempt()
    for wait in (1, 3, 5):
        service.advance(wait - 0.01)
        assert backend.idle()
        assert client.received() == []
        service.advance(0.01)
        assert attempt() is first
    assert failure(client.received()) == (1, "NotFound" if trouble == "unreachable" else "InternalServerError")
    service.advance(1000)
    assert backend.idle()


def test_another_attempt_may_succeed() -> None:
    service, backend, client = talking()
    client.send(event(ackId=1))
    backend.answer(status=500)
    service.advance(1)
    backend.answer()
    assert client.received() == [ack(1)]


@pytest.mark.parametrize("hopeless", [400, 404, 429, 302, "timeout", "too large"])
def test_what_is_hopeless_is_not_tried_again(hopeless: Any) -> None:
    service, backend, client = talking()
    client.send(event(ackId=1))
    _ = backend.answer(status=hopeless) if isinstance(hopeless, int) else backend.fail(hopeless)
    assert failure(client.received()) == (1, "InternalServerError")
    service.advance(1000)
    assert backend.idle()


def test_all_attempts_share_one_time_limit() -> None:
    service, backend, client = talking(EventHandler(url=URL, system_events=(), timeout=4.0))
    client.send(event(ackId=1))
    start = service.now
    assert backend.call().deadline == start + 4
    backend.answer(status=500)
    service.advance(1)
    assert backend.answer(status=500).deadline == start + 4
    # The next attempt would begin when it is too late.
    assert failure(client.received()) == (1, "InternalServerError")


def test_retries_can_be_switched_off() -> None:
    choices: list[dict[str, Any]] = [{"retry_delays": ()}, {"retries": 0}, {"retries": 0, "retry_delays": ()}]
    for none in choices:
        _, backend, client = talking(EventHandler(url=URL, system_events=(), **none))
        client.send(event(ackId=1))
        backend.fail("broken")
        assert failure(client.received()) == (1, "InternalServerError")
        assert backend.idle()


def test_the_number_of_retries_can_be_chosen_and_the_last_delay_is_repeated() -> None:
    service, backend, client = talking(EventHandler(url=URL, system_events=(), retries=3, retry_delays=(1, 2)))
    client.send(event(ackId=1))
    backend.answer(status=500)
    for wait in (1, 2, 2):
        service.advance(wait - 0.01)
        assert backend.idle()
        service.advance(0.01)
        backend.answer(status=500)
    assert failure(client.received()) == (1, "InternalServerError")
    service, backend, client = talking(EventHandler(url=URL, system_events=(), retries=1))
    client.send(event(ackId=1))
    backend.fail()
    service.advance(1)
    backend.fail()
    assert failure(client.received()) == (1, "NotFound")


@pytest.mark.parametrize("trouble", [408, 500, "broken"])
def test_a_handler_that_must_not_get_an_event_twice_is_tried_again_only_while_it_has_got_nothing(trouble: Any) -> None:
    service, backend, client = talking(EventHandler(url=URL, system_events=(), resend="safe"))
    client.send(event(ackId=1))
    backend.fail("unreachable")
    service.advance(1)
    _ = backend.answer(status=trouble) if isinstance(trouble, int) else backend.fail(trouble)
    assert failure(client.received()) == (1, "InternalServerError")
    service.advance(1000)
    assert backend.idle()


def test_a_handler_that_must_not_get_an_event_twice_gets_none_again_after_a_recovery() -> None:
    service = ServiceUnderTest(EventHandler(url=URL, system_events=(), resend="safe"), remembered_acks=2)
    backend, client = Backend(service), service.connect()
    hello = client.hello()
    client.send(event(ackId=1))
    call = backend.call()
    client.drop()
    backend.answer(call, status=500)
    client = service.recover(hello)
    client.received()
    client.send(event(ackId=1))
    assert failure(client.received()) == (1, "InternalServerError")
    assert backend.idle(), "it has got it"
    # What it certainly has not got is another matter.
    client.send(event(ackId=2))
    for wait in (1, 3, 5, 0):
        backend.fail("unreachable")
        service.advance(wait)
    assert failure(client.received()) == (2, "NotFound")
    client.send(event(ackId=2))
    backend.answer()
    assert client.received() == [ack(2)]
    # As many are remembered as of those that went well.
    for ack_id in (3, 4):
        client.send(event(ackId=ack_id))
        backend.answer(status=500)
        assert failure(client.received()) == (ack_id, "InternalServerError")
    client.send(event(ackId=4))
    assert failure(client.received()) == (4, "InternalServerError")
    client.send(event(ackId=1))
    assert not backend.idle()


# ---- What the client is told


def told(client: Client) -> tuple[str, str]:
    (answer,) = client.received()
    return answer["error"]["name"], answer["error"]["message"]


@pytest.mark.parametrize(
    ("trouble", "name", "text"),
    [
        (
            "unreachable",
            "NotFound",
            "The event could not be delivered: it is unreachable. No event handler was called.",
        ),
        (
            "not allowed",
            "NotFound",
            "The event could not be delivered: it is not allowed. No event handler was called.",
        ),
        ("broken", "InternalServerError", "The event handler failed: it is broken."),
        ("timeout", "InternalServerError", "The event handler failed: it is timeout."),
        ("too large", "InternalServerError", "The event handler failed: it is too large."),
        (400, "InternalServerError", "The event handler answered with status 400."),
        (500, "InternalServerError", "The event handler answered with status 500."),
    ],
)
def test_the_client_is_told_whether_a_handler_may_have_been_called(trouble: Any, name: str, text: str) -> None:
    _, backend, client = talking(EventHandler(url=URL, system_events=(), retries=0))
    client.send(event(ackId=1))
    _ = backend.answer(status=trouble) if isinstance(trouble, int) else backend.fail(trouble)
    assert told(client) == (name, text)


def test_an_attempt_that_may_have_been_handled_counts_however_the_last_one_ends() -> None:
    service, backend, client = talking(EventHandler(url=URL, system_events=(), retries=1))
    client.send(event(ackId=1))
    backend.answer(status=500)
    service.advance(1)
    backend.fail("unreachable")
    assert told(client) == ("InternalServerError", "The event could not be delivered: it is unreachable.")


@pytest.mark.parametrize("way", ["on the same connection", "after a recovery"])
def test_an_event_that_is_asked_again_while_its_handler_works_is_handled_once_well_or_not(way: str) -> None:
    for good in (True, False):
        service = ServiceUnderTest(EventHandler(url=URL, system_events=(), retries=0))
        backend, client = Backend(service), service.connect()
        hello = client.hello()
        client.send(event(ackId=1))
        call = backend.call()
        client.send({"type": "joinGroup", "group": "room", "ackId": 2})
        if way == "after a recovery":
            client.drop()
            client = service.recover(hello)
            client.received()
        client.send(event(ackId=1))
        client.send(event(ackId=1))
        backend.answer(call, status=200 if good else 500)
        answers: dict[int, list[str]] = {1: [], 2: []}
        for message in client.received():
            answers[message["ackId"]].append("ok" if message["success"] else message["error"]["name"])
        assert answers == {1: ["ok", *["Duplicate"] * 2] if good else ["InternalServerError"] * 3, 2: ["ok"]}
        service.advance(1000)
        assert backend.idle(), "handled once"


# ---- Permission


def asked(handler: EventHandler = EVENTS_ONLY) -> tuple[ServiceUnderTest, Backend, Client]:
    """A service to which the test gives permission, with one event that waits for it."""
    service = ServiceUnderTest(handler)
    backend, client = Backend(service, validates=False), service.connect()
    client.hello()
    client.send(event(ackId=1))
    return service, backend, client


def test_a_handler_is_asked_for_permission_first() -> None:
    service, backend, client = asked()
    question = backend.call()
    assert (question.method, question.url) == ("OPTIONS", "http://app.example/api/chat/validate?code=secret")
    assert question.headers == (("WebHook-Request-Origin", "service.example:8080"), ("ce-awpsversion", "1.0"))
    assert question.body == b""
    assert question.deadline == service.now + 10
    other = service.connect()
    other.send(event("other"))
    assert backend.call() is question, "one question is enough"
    backend.answer(
        headers=[("webhook-allowed-origin", "a.example"), ("WebHook-Allowed-Origin", "SERVICE.example:8080")]
    )
    assert [call.event for call in backend.calls()] == ["order", "other"]
    for call in backend.calls():
        backend.answer(call)
    assert client.received() == [ack(1)]


@pytest.mark.parametrize("allowed", ["*", "Service.Example:8080"])
def test_permission_is_for_all_or_for_this_service(allowed: str) -> None:
    _, backend, _ = asked()
    backend.answer(status=204, headers=[("WebHook-Allowed-Origin", allowed)])
    assert backend.call().method == "POST"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"headers": [("WebHook-Allowed-Origin", "")]},
        {"headers": [("WebHook-Allowed-Origin", "service.example")]},
        {"headers": [("WebHook-Allowed-Origin", "*.example")]},
        {"headers": [("WebHook-Allowed-Origin", "a.example, service.example:8080")]},
        {"status": 405, "headers": [("WebHook-Allowed-Origin", "*")]},
        {"status": 302, "headers": [("WebHook-Allowed-Origin", "*"), ("Location", "/")]},
        {"status": 429, "headers": [("WebHook-Allowed-Origin", "*")]},
    ],
)
def test_without_permission_nothing_is_sent(answer: dict[str, Any]) -> None:
    service, backend, client = asked()
    backend.answer(**answer)
    assert backend.idle()
    service.advance(0)
    assert failure(client.received()) == (1, "NotFound")


def test_get_will_do_where_there_is_no_options() -> None:
    service, backend, _ = asked()
    question = backend.answer(status=404)
    repeated = backend.call()
    assert (repeated.method, repeated.url, repeated.headers) == ("GET", question.url, question.headers)
    assert repeated.deadline == service.now + 10
    backend.answer(headers=[("WebHook-Allowed-Origin", "*")])
    assert backend.call().method == "POST"


def test_a_refusal_holds_for_1_second_then_2_and_up_to_a_minute() -> None:
    service, backend, client = asked()
    backend.fail("timeout")
    assert backend.idle()
    service.advance(0)
    assert failure(client.received())[1] == "NotFound"
    for pause in (1, 2, 4, 8, 16, 32, 60, 60):
        service.advance(pause - 0.01)
        client.send(event(ackId=1))
        assert backend.idle(), "fails at once without a call"
        service.advance(0)
        assert failure(client.received())[1] == "NotFound"
        service.advance(0.01)
        client.send(event(ackId=1))
        backend.answer(status=400)
        assert backend.idle()
        service.advance(0)
        assert failure(client.received())[1] == "NotFound"
    service.advance(60)
    client.send(event(ackId=1))
    backend.answer(headers=[("WebHook-Allowed-Origin", "*")])
    backend.answer()
    assert client.received() == [ack(1)]


def test_what_a_refusal_says() -> None:
    """The URL, without its secrets; how old the answer is, and when the handler is asked again."""
    service, backend, client = asked()

    def told() -> str:
        assert backend.idle()
        service.advance(0)
        return str(client.received()[-1]["error"]["message"])

    address = "http://app.example/api/chat/validate"
    backend.answer(status=405)
    refused = f"{address} answered the validation request (OPTIONS) with status 405"
    assert f"{refused} (asked just now; the first event after 1 s asks again)" in told()
    for _ in range(4):
        service.advance(60)
        client.send(event(ackId=2))
        backend.answer(status=405)
        told()
    service.advance(6)
    client.send(event(ackId=3))
    assert backend.idle()
    text = told()
    assert f"{refused} (asked 6 s ago; the first event after 10 s asks again)" in text
    assert "secret" not in text
    service.advance(60)
    client.send(event(ackId=4))
    backend.answer(status=404)
    backend.answer()
    assert f"the answer of {address} to the validation request (GET) must have the header WebHook-Allowed" in told()
    service.advance(60)
    client.send(event(ackId=5))
    backend.fail("timeout")
    assert f"{address} could not be validated with an OPTIONS request:" in told()


def test_permission_is_renewed_after_a_minute_without_holding_up_events() -> None:
    service, backend, client = asked()
    backend.answer(headers=[("WebHook-Allowed-Origin", "*")])
    backend.answer()
    service.advance(59)
    client.send(event())
    assert backend.answer().method == "POST"
    service.advance(1)
    client.send(event())
    question, call = sorted(backend.calls(), key=lambda call: call.method)
    assert (question.method, call.method) == ("OPTIONS", "POST")
    backend.answer(call)
    backend.answer(question)
    client.send(event(ackId=9))
    assert backend.idle(), "the new answer holds"
    service.advance(1)
    client.send(event())
    assert backend.call().method == "OPTIONS"


def test_waiting_for_permission_counts() -> None:
    service, backend, client = asked(EventHandler(url=URL, system_events=(), timeout=3.0))
    seen: list[TraceEvent] = []
    service.core.observers.append(seen.append)
    assert backend.call().deadline == service.now + 3
    service.advance(3)
    backend.answer(headers=[("WebHook-Allowed-Origin", "*")])
    assert backend.idle()
    service.advance(0)
    (told,) = [each for each in seen if isinstance(each, HandlerCalled)]
    assert (told.attempts, told.duration) == (0, 0.0), "the handler was not called: that took it no time"
    assert failure(client.received()) == (1, "NotFound")


# ---- The end


def test_shutting_down_gives_everything_up() -> None:
    service = ServiceUnderTest(EVERYTHING)
    backend = Backend(service)
    knock(service)
    backend.answer()
    transport = backend.decided().transport
    assert transport is not None
    client = Client(service, transport)
    client.hello()
    client.send(event())
    client.send(event())
    knock(service)
    calls = backend.calls()
    assert [call.event for call in calls] == ["connected", "order", "connect"]
    service.core.shut_down()
    assert backend.idle()
    assert backend.cancelled == calls
    rejection = backend.decided().rejection
    assert rejection is not None
    assert rejection.status == 503
    assert client.close_code == 1001
    for call in calls:
        service.core.handler_answered(call, 200, (), b"", service.now)
    service.advance(1000)
    assert backend.idle()
    # It may be used again.
    knock(service)
    backend.answer()
    assert backend.decided().transport is not None


def test_a_repeat_that_is_due_after_the_shutdown_is_not_made() -> None:
    service, backend, client = talking()
    client.send(event())
    backend.fail()
    service.core.shut_down()
    service.advance(1000)
    assert backend.idle()


def test_no_secret_is_in_a_repr_or_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    handler = EventHandler(url="http://me:pass@app.example/x?code=secret", system_events=())
    assert repr(handler).startswith("EventHandler(url='http://app.example/x', user_events=('*',)")
    assert "secret" not in repr(handler)
    _, backend, client = talking(handler)
    client.send(event())
    call = backend.fail("timeout")
    assert repr(call) == "<HandlerCall order POST http://app.example/x>"
    assert "http://app.example/x" in caplog.text
    assert "secret" not in caplog.text
    assert "pass" not in caplog.text


def test_a_call_that_waits_for_permission_at_the_shutdown_is_not_made() -> None:
    service, backend, client = asked()
    question = backend.call()
    service.core.shut_down()
    assert backend.idle()
    assert backend.cancelled == [question]
    backend.answer(question, headers=[("WebHook-Allowed-Origin", "*")])
    service.advance(1000)
    assert backend.idle()
    assert [message["event"] for message in client.received()] == ["disconnected"]
