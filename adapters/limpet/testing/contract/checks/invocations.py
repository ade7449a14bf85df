"""Invocations: the event handler is called once at most, and each call gets its own reply, or an error that says what
is known.
"""

from __future__ import annotations

import threading
from typing import Any

import anyio

from limpet import (
    ClientStopped,
    GroupMessage,
    InvalidValue,
    InvocationError,
    InvocationTimeout,
    LocalProtocolError,
    Reply,
    State,
    TooManyRequests,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.checks.event_handlers import Answer, Call, handled
from limpet.testing.contract.harness import Harness, Log, raises, soon
from limpet.testing.contract.subject import GROUP, SECONDS, Subject
from limpet_core.service import trace

_NOTHING: Answer = (204, "", b"")


async def _outcome(client: Subject, event: str, data: Any = None, **named: Any) -> tuple[str, str]:
    """Invoke, and return the name and the outcome of the error."""
    with raises(InvocationError) as caught:
        await client.call("invoke", event, data, **named)
    assert caught.error.message
    assert isinstance(caught.error, InvocationTimeout) == (caught.error.name == "Timeout")
    assert isinstance(caught.error, TimeoutError) == (caught.error.name == "Timeout")
    return caught.error.name, caught.error.outcome


@check(needs=("invocations",))
async def an_invocation_returns_the_reply_of_its_event_handler(harness: Harness) -> None:
    def answer(call: Call) -> Answer:
        if call.event == "text":
            return 200, "text/plain", "grün".encode()
        if call.event == "json":
            return 200, "application/json", b'{"id":[1,null]}'
        if call.event == "binary":
            return 200, "application/octet-stream", b"\x00\xff"
        return _NOTHING

    sent: tuple[tuple[str, Any, bytes, Reply], ...] = (
        ("nothing", "x", b"x", Reply()),
        ("text", "grün", "grün".encode(), Reply("grün", "text")),
        ("json", {"id": 7}, b'{"id":7}', Reply({"id": [1, None]}, "json")),
        ("binary", b"\x00\x01", b"\x00\x01", Reply(b"\x00\xff", "binary")),
    )
    with handled(harness, answer) as (service, server):
        async with harness.client(service.url("ann")) as client:
            for event, data, _, reply in sent:
                assert await client.call("invoke", event, data, timeout=60.0) == reply
            assert await client.call("invoke", "nothing") == Reply()
    assert [(call.event, call.user_id, call.data) for call in server.calls[:4]] == [
        (event, "ann", data) for event, _, data, _ in sent
    ]


@check(needs=("invocations",))
async def an_invocation_that_fails_says_whether_the_handler_was_called(harness: Harness) -> None:
    def answer(call: Call) -> Answer:
        return (400, "text/plain", b"no such order") if call.event == "refused" else (500, "text/plain", b"oops")

    async with harness.client() as client:
        assert await _outcome(client, "order") == ("NotFound", "rejected")
        assert client.state is State.CONNECTED
    with handled(harness, answer) as (service, _):
        async with harness.client(service.url("ann")) as client:
            assert await _outcome(client, "refused") == ("BadRequest", "rejected")
            assert await _outcome(client, "failed") == ("InternalServerError", "unknown")
            assert client.state is State.CONNECTED


@check(needs=("invocations",))
async def replies_come_in_any_order_and_each_to_its_own_invocation(harness: Harness) -> None:
    go_on = {b"%d" % number: threading.Event() for number in range(5)}

    def answer(call: Call) -> Answer:
        go_on[call.data].wait(10)
        return 200, "text/plain", call.data

    try:
        with handled(harness, answer) as (service, server):
            async with harness.client(service.url("ann")) as client, anyio.create_task_group() as tasks:
                replies: list[tuple[int, Any]] = []

                async def invoke(number: int) -> None:
                    replies.append((number, (await client.call("invoke", "order", str(number))).data))

                for number in range(5):
                    tasks.start_soon(invoke, number)
                await soon(lambda: len(server.calls) == 5)
                for done, number in enumerate((3, 1, 4, 0, 2), 1):
                    go_on[b"%d" % number].set()
                    await soon(lambda count=done: len(replies) == count)  # type: ignore[misc]
                assert replies == [(number, str(number)) for number in (3, 1, 4, 0, 2)]
    finally:
        for event in go_on.values():
            event.set()


@check(needs=("invocations",))
async def a_drop_ends_an_invocation_that_was_sent_and_it_is_not_sent_again(harness: Harness) -> None:
    go_on = threading.Event()

    def answer(call: Call) -> Answer:
        if call.event == "slow":
            go_on.wait(10)
        return 200, "text/plain", call.event.encode()

    try:
        with handled(harness, answer) as (service, server):
            async with harness.client(service.url("ann")) as client, anyio.create_task_group() as tasks:
                outcomes: list[tuple[str, str]] = []

                async def invoke() -> None:
                    outcomes.append(await _outcome(client, "slow"))

                tasks.start_soon(invoke)
                await soon(lambda: server.calls)
                service.cut()
                await soon(lambda: outcomes)
                assert outcomes == [("ConnectionLost", "unknown")]
                go_on.set()
                assert await client.call("invoke", "behind") == Reply("behind", "text")
            assert [call.event for call in server.calls] == ["slow", "behind"]
    finally:
        go_on.set()


@check(needs=("invocations",))
async def an_invocation_waits_for_the_connection(harness: Harness) -> None:
    with handled(harness, lambda call: (200, "text/plain", call.data)) as (service, server):
        async with harness.client(service.url("ann")) as client, anyio.create_task_group() as tasks:
            service.refuse()
            service.cut()
            await soon(lambda: client.state is State.RECOVERING)
            replies: list[Reply] = []

            async def invoke() -> None:
                replies.append(await client.call("invoke", "order", "x"))

            tasks.start_soon(invoke)
            for seconds in (0, 0.1):
                assert await _outcome(client, "late", timeout=seconds) == ("Timeout", "unsent")
            assert not replies
            service.accept()
            await soon(lambda: replies)
            assert replies == [Reply("x", "text")]
        assert [call.event for call in server.calls] == ["order"]


@check(needs=("invocations",))
async def out_of_time_an_invocation_is_cancelled_and_its_late_reply_harms_nothing(harness: Harness) -> None:
    go_on = threading.Event()

    def answer(call: Call) -> Answer:
        if call.event == "slow":
            go_on.wait(10)
        return 200, "text/plain", call.event.encode()

    try:
        with handled(harness, answer) as (service, server):
            async with harness.client(service.url("ann")) as client:
                outcome = "unsent"
                for seconds in SECONDS:
                    if outcome == "unsent":  # where the machine is busy
                        name, outcome = await _outcome(client, "slow", timeout=seconds)
                        assert name == "Timeout"
                assert outcome == "unknown"
                await soon(lambda: service.log.of(trace.InvocationCancelled), "the cancellation at the service")
                go_on.set()
                assert await client.call("invoke", "quick") == Reply("quick", "text")
            # The cancellation may overtake the call of the handler.
            assert [call.event for call in server.calls] in (["slow", "quick"], ["quick"])
    finally:
        go_on.set()


@check(needs=("invocations", "cancel"))
async def a_call_that_is_given_up_is_cancelled_at_the_service(harness: Harness) -> None:
    """Each caller gives up in the way of its event loop; the service forgets the invocation."""
    go_on = threading.Event()

    def answer(call: Call) -> Answer:
        if call.event == "slow":
            go_on.wait(10)
        return 200, "text/plain", call.event.encode()

    try:
        with handled(harness, answer) as (service, server):
            async with harness.client(service.url("ann")) as client:
                assert await client.invocation_given_up("slow", lambda: server.calls)
                await soon(lambda: service.log.of(trace.InvocationCancelled), "the cancellation at the service")
                go_on.set()
                assert await client.call("invoke", "quick") == Reply("quick", "text")
    finally:
        go_on.set()


@check(needs=("invocations",))
async def a_stop_ends_invocations_that_wait(harness: Harness) -> None:
    go_on = threading.Event()

    def answer(call: Call) -> Answer:
        go_on.wait(10)
        return _NOTHING

    try:
        with handled(harness, answer) as (service, server):
            async with harness.client(service.url("ann")) as client, anyio.create_task_group() as tasks:
                outcomes: list[tuple[str, str]] = []

                async def invoke() -> None:
                    outcomes.append(await _outcome(client, "slow"))

                tasks.start_soon(invoke)
                await soon(lambda: server.calls)
                await client.stop()
                await soon(lambda: outcomes)
                assert outcomes == [("Stopped", "unknown")]
                go_on.set()
    finally:
        go_on.set()


@check(needs=("invocations",))
async def a_wrong_invocation_raises_at_once_and_harms_nothing(harness: Harness) -> None:
    client = harness.client(max_pending_requests=1)
    with raises(ClientStopped):
        await client.call("invoke", "order", "x")
    async with client, anyio.create_task_group() as tasks:
        for wrong in ({"timeout": -1.0}, {"invocation_id": ""}, {"metadata": {"a b": "c"}}):
            with raises(InvalidValue):
                await client.call("invoke", "order", "x", **wrong)
        with raises(InvalidValue):
            await client.call("invoke", "9", "x")
        harness.service.refuse()
        harness.service.cut()
        await soon(lambda: client.state is State.RECOVERING)

        async def wait() -> None:
            assert await _outcome(client, "order", invocation_id="mine") == ("NotFound", "rejected")

        tasks.start_soon(wait)
        await anyio.sleep(0.2)
        with raises(TooManyRequests):
            await client.call("invoke", "order")
        harness.service.accept()
    assert issubclass(InvalidValue, LocalProtocolError)


@check(needs=("invocations",))
async def metadata_accompanies_messages_and_limits_are_named(harness: Harness) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        await client.join()
        await client.send("a", metadata={"trace-id": "abc"}, ttl=0.5)
        await client.send("b", metadata={"x": ""}, ack=False)
        await client.send("c", ttl=300)
        await log.upto("c")
        assert [message.metadata for message in log.events] == [{"trace-id": "abc"}, {"x": ""}, None]
        wrong: tuple[dict[str, Any], ...] = (
            {"metadata": {"a b": "c"}},
            {"metadata": {"a": "x" * 1025}},
            {"metadata": {f"k{number}": "x" * 1024 for number in range(8)}},
            {"ttl": 301},
            {"ttl": -1},
        )
        for named in wrong:
            for ack in (True, False):
                with raises(InvalidValue):
                    await client.call("send_to_group", GROUP, "x", ack=ack, **named)
        with raises(InvalidValue):
            await client.call("send_event", "order", "x", metadata={"": "x"})
        assert client.state is State.CONNECTED
