"""What became of a request that was given up, refused, timed out or lost with its connection."""

from __future__ import annotations

import anyio

from limpet import (
    Ack,
    Connected,
    GroupMessage,
    SendError,
    State,
    TooManyRequests,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, prompt, raises, soon
from limpet.testing.contract.subject import GROUP, Subject


@check(needs=("cancel",))
async def a_request_that_is_given_up_leaves_the_client_healthy(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        log = Log(other, GroupMessage)
        await other.join()
        harness.service.stall("to_client")
        for number in range(3):
            assert await client.gives_up(0.05, "send_to_group", GROUP, number)
        await log.upto(2)
        harness.service.resume()
        for number in range(3, 6):
            await client.send(number)
        await log.upto(5)
        assert log.data == list(range(6))
        assert client.state is State.CONNECTED


@check(needs=("cancel",))
async def a_request_given_up_before_it_was_sent_is_withdrawn(harness: Harness) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        await client.join()
        harness.service.refuse()
        harness.service.cut()
        await soon(lambda: client.state is State.RECOVERING)
        assert await client.gives_up(0.05, "send_to_group", GROUP, "withdrawn")
        harness.service.accept()
        await client.send("sent")
        await log.upto("sent")
        assert log.data == ["sent"]


@check()
async def over_the_limit_there_are_too_many_requests(harness: Harness) -> None:
    async with (
        harness.client(max_pending_requests=2) as client,
        harness.undisturbed() as other,
        anyio.create_task_group() as tasks,
    ):
        log = Log(other, GroupMessage)
        await other.join()
        acks: list[Ack] = []

        async def send(number: int) -> None:
            acks.append(await client.send(number))

        harness.service.stall("to_client")
        tasks.start_soon(send, 1)
        tasks.start_soon(send, 2)
        await log.wait(GroupMessage, 2)
        with prompt(), raises(TooManyRequests):
            await client.send(3)
        harness.service.resume()
        await soon(lambda: len(acks) == 2)
        await client.send(4)


@check()
async def a_request_without_an_answer_is_unknown_and_may_be_repeated(harness: Harness) -> None:
    async with harness.client(ack_timeout=0.3) as client, harness.undisturbed() as other:
        log = Log(other, GroupMessage)
        await other.join()
        harness.service.stall("to_client")
        with raises(SendError) as caught:
            await client.send("x")
        assert (caught.error.name, caught.error.outcome) == ("Timeout", "unknown")
        harness.service.cut()
        harness.service.resume()
        again = await client.send("x", ack_id=caught.error.ack_id)
        assert again == Ack(caught.error.ack_id, duplicate=True)
        await client.send("last")
        await log.upto("last")
        assert log.data == ["x", "last"]


@check()
async def a_request_timeout_holds_during_an_outage(harness: Harness) -> None:
    failures: dict[str, SendError] = {}
    async with (
        harness.client(request_timeout=1.5) as client,  # decides nothing: a request is written when it is made
        harness.undisturbed() as other,
        anyio.create_task_group() as tasks,
    ):
        log = Log(other, GroupMessage)
        await other.join()

        async def send(data: str) -> None:
            with raises(SendError) as caught:
                await client.send(data)
            failures[data] = caught.error

        harness.service.stall("to_client")
        tasks.start_soon(send, "sent")
        await log.upto("sent")
        harness.service.refuse()
        harness.service.cut()
        await soon(lambda: client.state is State.RECOVERING)
        tasks.start_soon(send, "unsent")
        await soon(lambda: len(failures) == 2)
    for data, outcome in (("sent", "unknown"), ("unsent", "unsent")):
        assert (failures[data].name, failures[data].outcome) == ("Timeout", outcome)


async def _lost_with_its_connection(harness: Harness, client: Subject, data: str) -> Ack | SendError:
    """Send ``data``; it is executed, but its connection ends before the answer arrives."""
    outcome: list[Ack | SendError] = []

    async def send() -> None:
        try:
            outcome.append(await client.send(data))
        except SendError as error:
            outcome.append(error)

    async with harness.undisturbed() as other, anyio.create_task_group() as tasks:
        log = Log(other, GroupMessage)
        connections = Log(client, Connected)
        await other.join()
        harness.service.stall("to_client")
        tasks.start_soon(send)
        await log.upto(data)
        assert client.connection_id
        harness.service.end(client.connection_id)
        harness.service.cut()
        harness.service.resume()
        await connections.wait(Connected)
        await soon(lambda: outcome)
        await client.send("last")
        await log.upto("last")
        assert log.data == ([data, "last"] if isinstance(outcome[0], SendError) else [data, data, "last"])
    return outcome[0]


@check()
async def what_is_lost_with_its_connection_is_unknown_and_not_sent_twice(harness: Harness) -> None:
    async with harness.client() as client:
        outcome = await _lost_with_its_connection(harness, client, "x")
        assert isinstance(outcome, SendError)
        assert (outcome.name, outcome.outcome) == ("ConnectionLost", "unknown")


@check()
async def with_resend_always_it_is_sent_again(harness: Harness) -> None:
    async with harness.client(resend="always") as client:
        assert isinstance(await _lost_with_its_connection(harness, client, "x"), Ack)
