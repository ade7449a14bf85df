"""Invocations and group states over sockets, and their faults for tests."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable

import pytest
from starlette.requests import Request
from starlette.responses import Response
from tests.adapters.service.sockets import Client
from tests.adapters.service.webhook import Webhook, run, running, webhook

from limpet.service import Service
from limpet.testing import BackgroundService, VirtualService, trace


def invoke(invocation_id: str, event: str = "echo", **more: object) -> dict[str, object]:
    return {"type": "invoke", "invocationId": invocation_id, "target": "event", "event": event, **more}


async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type=request.headers["content-type"])


async def opened(url: str) -> Client:
    client = await Client.open(url)
    await client.receive()
    return client


def with_webhook(scenario: Callable[[Service, Webhook], Awaitable[None]]) -> None:
    async def main() -> None:
        async with webhook() as hook, running(hook.options(system_events=())) as service:
            await scenario(service, hook)

    run(main())


def test_a_reply_and_metadata() -> None:
    async def scenario(service: Service, hook: Webhook) -> None:
        hook.answers["echo"] = echo
        client = await opened(service.client_url(user_id="ann"))
        await client.send(**invoke("a", dataType="json", data={"b": [1]}, metadata={"Trace": "7"}))
        assert await client.receive() == {
            "type": "invokeResponse",
            "invocationId": "a",
            "success": True,
            "dataType": "json",
            "data": {"b": [1]},
        }
        request = await hook.next("echo")
        assert request.headers["x-webpubsub-metadata-trace"] == "7"
        assert request.headers["ce-type"] == "azure.webpubsub.user.echo"
        await client.leave()

    with_webhook(scenario)


def test_to_cancel_closes_the_request_and_events_go_on_beside_many_slow_invocations() -> None:
    async def scenario(service: Service, hook: Webhook) -> None:
        hook.answers |= {"slow": hook.hang, "echo": echo}
        client = await opened(service.client_url(user_id="ann"))
        for number in range(150):
            await client.send(**invoke(str(number), "slow"))
        for _ in range(100):
            await hook.next("slow")
        await client.send(type="event", event="note", dataType="text", data="x", ackId=1)
        assert (await client.receive())["ackId"] == 1
        for number in range(150):
            await client.send(type="cancelInvocation", invocationId=str(number))
        await hook.idle()
        await client.send(**invoke("0", dataType="text", data="y"))
        assert (await client.receive())["data"] == "y"
        await client.leave()

    with_webhook(scenario)


def playing(scenario: Callable[[BackgroundService], Awaitable[None]]) -> None:
    """Run a scenario with a test service in a thread of its own, whose events are answered."""

    async def run() -> None:
        async with webhook() as hook:
            hook.answers["echo"] = echo
            service = BackgroundService(hook.options(system_events=()))
            await asyncio.to_thread(service.start)
            try:
                await scenario(service)
            finally:
                await asyncio.to_thread(service.stop)

    asyncio.run(run())


def test_an_invocation_that_is_answered_late() -> None:
    async def scenario(service: BackgroundService) -> None:
        client = await opened(service.url("ann"))
        service.delay_invocation(0.3)
        start = time.monotonic()
        await client.send(**invoke("a"))
        await client.send(**invoke("b"))
        assert (await client.receive())["invocationId"] == "b"
        assert (await client.receive())["invocationId"] == "a"
        assert time.monotonic() - start >= 0.3
        await client.leave()

    playing(scenario)


def test_an_invocation_that_is_never_answered_or_whose_answer_is_lost() -> None:
    async def scenario(service: BackgroundService) -> None:
        client = await opened(service.url("ann"))
        service.delay_invocation(math.inf)
        service.heal()  # takes it back
        await client.send(**invoke("a"))
        assert (await client.receive())["invocationId"] == "a"
        service.delay_invocation(math.inf)
        await client.send(**invoke("a"))
        await client.send(**invoke("b"))
        assert (await client.receive())["invocationId"] == "b"
        service.lose_invocation("somebody else")
        service.lose_invocation()
        await client.send(**invoke("c"))
        assert await client.close_code() == 1006
        answered = [event.invocation_id for event in service.log.of(trace.InvocationAnswered)]
        assert answered == ["a", "b", "c"]
        assert len(service.log.of(trace.ConnectionDropped)) == 1

    playing(scenario)


def test_only_an_invocation_of_one_client_is_held_back() -> None:
    async def scenario(service: BackgroundService) -> None:
        ann, bob = await opened(service.url("ann")), await opened(service.url("bob"))
        bobs = service.log.of(trace.ConnectionOpened)[1].connection_id
        service.delay_invocation(math.inf, bobs)
        for client in (bob, ann):
            await client.send(**invoke("a"))
        assert (await ann.receive())["invocationId"] == "a"
        await bob.send(**invoke("b"))
        assert (await bob.receive())["invocationId"] == "b"
        for client in (bob, ann):
            await client.leave()

    playing(scenario)


@pytest.mark.parametrize("kind", [BackgroundService, VirtualService])
def test_a_delay_is_no_negative_number(kind: type[BackgroundService | VirtualService]) -> None:
    service = kind()
    if isinstance(service, BackgroundService):
        service.start()
    try:
        for seconds in (-1.0, math.nan):
            with pytest.raises(ValueError, match="at least 0"):
                service.delay_invocation(seconds)
    finally:
        if isinstance(service, BackgroundService):
            service.stop()


def test_group_states_carry_the_time_of_the_calendar() -> None:
    async def scenario(service: BackgroundService) -> None:
        client = await opened(service.url("ann", groups=["room"]))
        before = time.time() * 1000
        await client.send(type="setGroupState", group="room", state={"a": "1"}, ackId=1)
        await client.receive()
        assert service.group_states("room") == {service.members("room").pop(): {"a": "1"}}
        await client.send(type="subscribeGroupState", group="room")
        (item,) = (await client.receive())["items"]
        assert before - 1 <= item["updatedAt"] <= time.time() * 1000 + 1
        await client.leave()

    playing(scenario)
