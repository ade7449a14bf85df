"""Functions of a test answer events and invocations, over sockets and in memory; answers that are late or lost."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest

from limpet import Acked, Backoff, InvocationError, Options, SendError, ServerMessage
from limpet.asyncio import Client as AsyncioClient
from limpet.service import Answer, EventHandler, HubOptions, ServiceOptions
from limpet.sync import Client
from limpet.testing import AnsweredCall, BackgroundService, VirtualService, trace
from limpet_core.service import RELIABLE_JSON, ClientGrant

QUICK = Options(recovery_interval=0.02, reconnect=Backoff(initial=0.01, maximum=0.05))


@pytest.fixture
def service() -> Iterator[BackgroundService]:
    with BackgroundService() as service:
        yield service


# ---- Over sockets


def test_replies_of_every_type_and_what_the_function_is_told(service: BackgroundService) -> None:
    calls: list[AnsweredCall] = []

    def echo(call: AnsweredCall) -> Any:
        calls.append(call)
        return call.data

    service.answer("Echo", echo)
    with Client(service.url("ann")) as client:
        for data in ("grün", b"\0\xff", {"a": [1, None]}):
            reply = client.invoke("echo", data, metadata={"trace": "7"})
            assert reply.data == data
        assert client.invoke("echo").data_type is None
        client.send_event("ECHO", "x")
        first, last = calls[0], calls[-1]
        assert first == AnsweredCall(
            event="echo",
            connection_id=client.connection_id or "",
            user_id="ann",
            data="grün",
            data_type="text",
            metadata={"trace": "7"},
            invoked=True,
        )
        assert (last.event, last.data, last.invoked) == ("ECHO", "x", False)


def test_refusals_failures_and_what_nobody_answers(
    service: BackgroundService, caplog: pytest.LogCaptureFixture
) -> None:
    service.answer("refuse", lambda call: Answer(403, (("Content-Type", "text/plain"),), b"not you"))
    service.answer("fail", lambda call: 1 / 0)
    with Client(service.url(), QUICK) as client:
        with pytest.raises(InvocationError, match="not you") as refused:
            client.invoke("refuse", 1)
        assert (refused.value.name, refused.value.outcome) == ("BadRequest", "rejected")
        with caplog.at_level(logging.ERROR, "limpet.testing"), pytest.raises(InvocationError) as failed:
            client.invoke("fail", 1)
        assert failed.value.name == "InternalServerError"
        assert "ZeroDivisionError" in caplog.text
        with pytest.raises(InvocationError) as missing:
            client.invoke("unknown", 1)
        assert missing.value.name == "NotFound"
        with pytest.raises(SendError):
            client.send_event("unknown", 1)
        service.answer("unknown", lambda call: None)
        client.send_event("unknown", 1)


def test_a_function_may_stand_in_for_the_chat(service: BackgroundService) -> None:
    service.answer("Chat.Login", lambda call: {"userId": call.user_id})
    with Client(service.url("ann"), QUICK) as client:
        assert client.invoke("chat.login", "").data == {"userId": "ann"}
        with pytest.raises(InvocationError, match="501") as missing:
            client.invoke("chat.getRoom", {"id": "one"})
        assert missing.value.name == "NotImplemented"


@pytest.mark.parametrize("kind", [BackgroundService, VirtualService])
def test_an_event_has_a_name(kind: type[BackgroundService | VirtualService]) -> None:
    service = kind()
    if isinstance(service, BackgroundService):
        service.start()
    try:
        for name in ("", "1", "a b", "*", "order*"):
            with pytest.raises(ValueError, match="not the name of an event"):
                service.answer(name, lambda call: None)
    finally:
        if isinstance(service, BackgroundService):
            service.stop()


def test_the_handlers_of_the_service_get_the_other_events() -> None:
    handler = EventHandler(url="http://127.0.0.1:9/", system_events=(), retries=0)
    with BackgroundService(ServiceOptions(hubs={"chat": HubOptions(event_handlers=(handler,))})) as service:
        service.answer("mine", lambda call: "mine")
        with Client(service.url()) as client:
            assert client.invoke("mine").data == "mine"
            with pytest.raises(InvocationError, match="could not be delivered"):
                client.invoke("other")


def test_a_lost_answer_is_an_unknown_outcome_and_the_function_is_called_once(service: BackgroundService) -> None:
    called = threading.Semaphore(0)
    service.answer("order", lambda call: called.release())
    with Client(service.url(), QUICK) as client:
        service.lose_invocation()
        with pytest.raises(InvocationError) as lost:
            client.invoke("order")
        assert lost.value.outcome == "unknown"
        service.log.wait(trace.ConnectionRecovered)
        client.invoke("order")
    assert [called.acquire(blocking=False) for _ in range(3)] == [True, True, False]


def test_an_answer_that_never_comes_is_given_up(service: BackgroundService) -> None:
    service.answer("order", lambda call: "done")
    with Client(service.url()) as client:
        service.delay_invocation(math.inf)
        with pytest.raises(InvocationError) as late:
            client.invoke("order", timeout=0.2)
        assert late.value.name == "Timeout"
        service.log.wait(trace.InvocationCancelled)
        assert client.invoke("order").data == "done"


# Most of these are no answers by their types, which nothing checks where a test is not type-checked.
UNUSABLE: dict[str, Callable[[Any], Any]] = {
    "a status that is a text": lambda call: Answer("422", (), b""),  # type: ignore[arg-type]
    "a status that HTTP has not": lambda call: Answer(1000, (), b""),
    "no headers": lambda call: Answer(200, None, b""),  # type: ignore[arg-type]
    "three parts": lambda call: Answer(422, (("a", "b", "c"),), b""),  # type: ignore[arg-type]
    "headers of bytes": lambda call: Answer(422, ((b"a", b"b"),), b""),  # type: ignore[arg-type]
    "a body of text": lambda call: Answer(422, (), "no"),  # type: ignore[arg-type]
    "nan": lambda call: math.nan,
    "an object": lambda call: object(),
    "half a pair": lambda call: "\ud800",
    "pytest.fail": lambda call: pytest.fail("within the function"),
    "pytest.skip": lambda call: pytest.skip("within the function"),
    "sys.exit": lambda call: sys.exit(3),
}


@pytest.mark.parametrize("invoked", [True, False], ids=["invocation", "event"])
@pytest.mark.parametrize("what", UNUSABLE)
def test_what_is_no_answer_is_status_500_and_the_connection_stays(
    service: BackgroundService, caplog: pytest.LogCaptureFixture, what: str, *, invoked: bool
) -> None:
    service.answer("order", UNUSABLE[what])
    with Client(service.url(), QUICK) as client:
        with pytest.raises((InvocationError, SendError)) as failed:
            client.invoke("order") if invoked else client.send_event("order", "x")
        assert failed.value.name == "InternalServerError"
        assert "the function that answers order has failed" in caplog.text
        service.answer("order", lambda call: "done")
        assert client.invoke("order").data == "done"
        assert len(service.log.of(trace.ConnectionOpened)) == 1


class _AsyncCall:
    async def __call__(self, call: AnsweredCall) -> str:
        return "late"


async def _late(call: AnsweredCall, word: str = "late") -> str:
    return word


async def _later(call: AnsweredCall) -> AsyncGenerator[str]:
    yield "later"


@pytest.mark.parametrize("kind", [BackgroundService, VirtualService])
@pytest.mark.parametrize(
    ("function", "text"),
    [
        (_late, "a plain function answers"),
        (functools.partial(_late, word="part"), "a plain function answers"),
        (_later, "a plain function answers"),
        (_AsyncCall(), "a plain function answers"),
        (_AsyncCall().__call__, "a plain function answers"),
        ({"confirmed": 1}, r"not \{'confirmed': 1\}"),
        ("thanks", "not 'thanks'"),
        (None, "not None"),
    ],
    ids=["async", "partial", "generator", "object", "method", "dict", "str", "None"],
)
def test_what_cannot_answer_is_refused_at_once(
    kind: type[BackgroundService | VirtualService], function: Any, text: str
) -> None:
    service = kind()
    if isinstance(service, BackgroundService):
        service.start()
    try:
        with pytest.raises(TypeError, match=text):
            service.answer("order", function)
        service.answer("order", str)
    finally:
        if isinstance(service, BackgroundService):
            service.stop()


def test_a_function_that_returns_a_coroutine_is_told(
    service: BackgroundService, caplog: pytest.LogCaptureFixture
) -> None:
    service.answer("order", lambda call: _late(call))
    with Client(service.url(), QUICK) as client, pytest.raises(InvocationError):
        client.invoke("order")
    assert "a plain function answers" in caplog.text


def test_headers_may_be_a_mapping_and_the_body_any_bytes(service: BackgroundService) -> None:
    headers: Any = {"Content-Type": "text/plain"}
    body: Any = bytearray(b"done")
    service.answer("order", lambda call: Answer(200, headers, body))
    service.answer("refuse", lambda call: Answer(422, {"content-type": "text/plain"}, b"not so"))  # type: ignore[arg-type]
    with Client(service.url(), QUICK) as client:
        reply = client.invoke("order")
        assert reply.data == "done"
        with pytest.raises(InvocationError, match="not so"):
            client.invoke("refuse")


@pytest.mark.parametrize(("data", "seen"), [(b"1e400", math.inf), (b"9" * 5000, math.inf), (b'"\\ud800"', "\ufffd")])
def test_a_function_gets_any_json(data: bytes, seen: object) -> None:
    service, calls = VirtualService(), list[AnsweredCall]()
    service.answer("note", calls.append)
    transport = service.core.connect("chat", RELIABLE_JSON, ClientGrant(), service.now)
    message = b'{"type":"event","event":"note","ackId":1,"dataType":"json","data":%b}' % data
    service.core.receive(transport, message, service.now)
    assert [call.data for call in calls] == [seen]
    assert b'"success":true' in bytes(transport.messages_to_send(service.now)[-1])


# ---- In memory


def test_in_memory_an_answer_takes_as_long_as_it_is_told_to() -> None:
    service = VirtualService()
    service.answer("order", lambda call: {"got": call.data})

    async def main() -> tuple[Any, float]:
        async with AsyncioClient(service.url("ann"), connect=service.connect) as client:
            service.delay_invocation(3600.0)
            before = service.now
            reply = await client.invoke("order", 7, timeout=7200.0)
            return reply.data, service.now - before

    assert service.run(main()) == ({"got": 7}, 3600.0)


def test_in_memory_events_that_wait_in_a_queue_are_answered_too() -> None:
    service = VirtualService()
    service.answer("note", lambda call: call.data)
    client = service.client("ann")
    client.start()
    for number in range(50):
        client.session.send_event("note", number, now=service.now)
    service.settle()
    assert [message.data for message in client.events_of(ServerMessage)] == list(range(50))
    assert len(client.events_of(Acked)) == 50


def test_in_memory_a_lost_answer_cuts_the_line() -> None:
    service = VirtualService()
    service.answer("order", lambda call: None)

    async def main() -> str:
        async with AsyncioClient(service.url("ann"), connect=service.connect) as client:
            service.lose_invocation(client.connection_id)
            with pytest.raises(InvocationError) as lost:
                await client.invoke("order")
            await client.invoke("order")
            return lost.value.outcome

    assert service.run(main()) == "unknown"
    assert len(service.log.of(trace.ConnectionRecovered)) == 1


def test_in_memory_states_are_told_and_restored() -> None:
    service = VirtualService()

    async def main() -> None:
        ann = AsyncioClient(service.url("ann"), connect=service.connect)
        bob = AsyncioClient(service.url("bob"), connect=service.connect)
        async with ann, bob, bob.watch_group_states("room") as states:
            await ann.join_group("room")
            await ann.set_group_state("room", {"a": "1"})
            first = ann.connection_id or ""
            assert service.group_states("room") == {first: {"a": "1"}}
            service.drop(first, for_good=True)
            await asyncio.sleep(60)
            assert ann.connection_id != first
            assert service.group_states("room") == {ann.connection_id: {"a": "1"}}
            assert list(states) == [ann.connection_id]
            service.cut()
            await ann.clear_group_state("room")
            await asyncio.sleep(60)
            assert service.group_states("room") == {}
            assert list(states) == []

    service.run(main())
