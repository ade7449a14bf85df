"""Join, leave, send: what is asked for is done once, and what became of it is told."""

from __future__ import annotations

import enum
import math
from typing import Any

import anyio

from limpet import (
    Ack,
    ClientStopped,
    Disconnected,
    GroupMessage,
    LocalProtocolError,
    MessagesMissed,
    Recovering,
    SendError,
    State,
)
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, prompt, raises, soon
from limpet.testing.contract.subject import GROUP

_DATA: tuple[tuple[Any, str | None, Any, str], ...] = (
    ("text", None, "text", "text"),
    ("", None, "", "text"),
    ("grün \U0001f600 \x00", None, "grün \U0001f600 \x00", "text"),
    (b"\x00\xff", None, b"\x00\xff", "binary"),
    (bytearray(b"abc"), None, b"abc", "binary"),
    (memoryview(b"abc"), None, b"abc", "binary"),
    (b"", None, b"", "binary"),
    ({"a": [1, 2.5, None, True]}, None, {"a": [1, 2.5, None, True]}, "json"),
    ([], None, [], "json"),
    (0, None, 0, "json"),
    (False, None, False, "json"),
    ("text", "json", "text", "json"),
    ("x" * 300_000, None, "x" * 300_000, "text"),
)
"""What is sent, with which ``data_type``, and what arrives."""


@check("transport", "tls")
async def every_kind_of_data_arrives_as_it_was_sent(harness: Harness) -> None:
    async with harness.client(harness.service.url("ann")) as client:
        log = Log(client, GroupMessage)
        await client.join()
        for data, data_type, _, _ in _DATA:
            await client.send(data, data_type=data_type)
        await log.wait(GroupMessage, len(_DATA))
        assert [(message.data, message.data_type) for message in log.events] == [tuple(row[2:]) for row in _DATA]
        assert (log.events[0].group, log.events[0].sequence_id) == (GROUP, 1)


class _Name(str):
    """A name of the application's own type."""

    __slots__ = ()

    def __str__(self) -> str:
        return "another"


class _Names(enum.StrEnum):
    GROUP = GROUP


@check()
async def names_and_data_may_be_of_subclasses_of_str(harness: Harness) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        for name in (_Name(GROUP), _Names.GROUP):
            await client.join(name)
            assert client.groups == {GROUP}
            await client.send(_Name("text"), name)
            await client.send({_Name("key"): [_Name("value")]}, name, ack=False)
            assert await client.call("send_event", _Name("order"), _Name("text"), ack=False) is None
            await client.send("end", GROUP)
            await log.upto("end")
            assert log.data == ["text", {"key": ["value"]}, "end"]
            log.events.clear()
            await client.leave(name)
            assert client.groups == frozenset()


@check(needs=("senders",))
async def a_message_says_who_sent_it(harness: Harness) -> None:
    async with harness.client(harness.service.url("ann")) as client:
        log = Log(client, GroupMessage)
        await client.join()
        await client.send("x")
        await log.upto("x")
        assert log.events[0].from_user_id == "ann"


@check()
async def join_leave_and_no_echo_do_what_they_say(harness: Harness) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        assert not (await client.join()).duplicate
        assert client.groups == {GROUP}
        assert harness.service.members(GROUP) == {client.connection_id}
        await client.send(1)
        await client.send(2, no_echo=True)
        await client.send(3, "another")
        await client.leave()
        assert client.groups == frozenset()
        assert not harness.service.members(GROUP)
        await client.send(4)
        await client.join()
        await client.send(5)
        await log.upto(5)
        assert log.data == [1, 5]


@check("transport")
async def without_ack_nothing_is_waited_for_and_order_is_kept(harness: Harness) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        await client.join()
        for number in range(200):
            if number % 3:
                assert await client.send(number, ack=False) is None
            else:
                assert isinstance(await client.send(number), Ack)
        assert await client.call("send_event", "order", {"id": 7}, ack=False) is None
        await client.send("last")
        await log.upto("last")
        assert log.data == [*range(200), "last"]


@check("transport")
async def what_is_sent_right_before_a_stop_is_sent(harness: Harness) -> None:
    async with harness.undisturbed() as other:
        log = Log(other, GroupMessage)
        await other.join()
        async with harness.client() as client:
            for number in range(50):
                await client.send(number, ack=False)
        await log.upto(49)
        assert log.data == list(range(50))


@check()
async def an_ack_id_that_comes_again_is_a_duplicate(harness: Harness) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        await client.join()
        assert await client.send("once", ack_id=77) == Ack(77, duplicate=False)
        assert await client.send("once", ack_id=77) == Ack(77, duplicate=True)
        assert (await client.send("last")).ack_id > 77
        await log.upto("last")
        assert log.data == ["once", "last"]
        assert await client.join("another", ack_id=1000) == Ack(1000)
        assert await client.leave("another", ack_id=1001) == Ack(1001)


@check()
async def a_refusal_is_an_error_with_a_name(harness: Harness) -> None:
    async with harness.client(harness.service.url(roles=())) as client:
        for call in (client.join, client.leave, lambda: client.send("x")):
            with raises(SendError) as caught:
                await call()
            assert (caught.error.name, caught.error.outcome) == ("Forbidden", "rejected")
            assert caught.error.message
        with raises(SendError) as caught:
            await client.call("send_event", "order", {"id": 7})
        assert (caught.error.name, caught.error.outcome) == ("NotFound", "rejected")
        assert client.state is State.CONNECTED
        assert client.groups == frozenset()


@check()
async def misuse_raises_at_once_and_harms_nothing(harness: Harness) -> None:
    client = harness.client()
    for stopped in (client.join, client.leave, lambda: client.send("x"), lambda: client.send("x", ack=False)):
        with raises(ClientStopped):
            await stopped()
    async with client:
        for wrong in (
            lambda: client.join(""),
            lambda: client.join("x" * 1025),
            lambda: client.leave(" "),
            lambda: client.send(object()),
            lambda: client.send(None),
            lambda: client.send(7, data_type="text"),
            lambda: client.send("x", data_type="strange"),
            lambda: client.send("x", ack_id=0),
            lambda: client.send("x", ack_id="1"),
            lambda: client.send("x" * (1 << 20)),
            lambda: client.send(object(), ack=False),
            lambda: client.send({"price": math.nan}),
            lambda: client.send([None, (1.5, math.inf)], ack=False),
            lambda: client.call("send_event", "e", {"price": -math.inf}),
            lambda: client.call("send_event", "7", "x"),
        ):
            with raises(LocalProtocolError):
                await wrong()
        with prompt():
            await client.join()
        assert harness.service.connections == 1


@check("transport")
async def many_requests_at_once_are_told_apart_and_harm_nothing(harness: Harness) -> None:
    """The service ends a connection with 1000 unacknowledged messages: what comes back must be acknowledged in time."""
    count = 1500
    async with harness.client() as client, anyio.create_task_group() as tasks:
        log = Log(client, GroupMessage)
        lost = Log(client, Disconnected)
        await client.join()
        acks: list[Ack] = []

        async def send(number: int) -> None:
            acks.append(await client.send(number))

        for number in range(count):
            tasks.start_soon(send, number)
        await log.wait(GroupMessage, count)
        await soon(lambda: len(acks) == count)
        assert sorted(log.data) == list(range(count))
        assert len({ack.ack_id for ack in acks}) == count
        assert not any(ack.duplicate for ack in acks)
        assert not lost.events


@check("transport")
async def without_ack_as_many_as_one_likes_go_out_without_a_pause(harness: Harness) -> None:
    """All of them come back, and the service must hear in time that they have, over a line that takes its time."""
    count = 4000
    async with harness.client() as client:
        log, trouble = Log(client, GroupMessage), Log(client, Recovering, Disconnected, MessagesMissed)
        await client.join()
        connection_id = client.connection_id
        harness.service.slow_down(0.02)
        await client.repeat(count, "send_to_group", GROUP, ack=False)
        await log.wait(GroupMessage, count)
        assert log.data == list(range(count))
        assert not trouble.events
        assert client.connection_id == connection_id


@check(needs=("restart",))
async def who_is_too_far_ahead_goes_on_after_a_loss_or_a_stop(harness: Harness) -> None:
    client = harness.client(close_timeout=0.2)
    log = Log(client, GroupMessage)
    async with client, anyio.create_task_group() as tasks:
        outcome: list[str] = []

        async def send() -> None:
            try:
                await client.repeat(1000, "send_to_group", "another", ack=False)
                outcome.append("sent")
            except ClientStopped:
                outcome.append("stopped")

        harness.service.stall("to_client")
        tasks.start_soon(send)
        await anyio.sleep(0.2)
        assert not outcome
        assert client.connection_id
        harness.service.end(client.connection_id)
        harness.service.cut()
        harness.service.resume()
        await soon(lambda: outcome == ["sent"])
        harness.service.stall("to_client")
        tasks.start_soon(send)
        await anyio.sleep(0.2)
        assert outcome == ["sent"]
        await client.stop()
        await soon(lambda: outcome == ["sent", "stopped"])
    harness.service.resume()
    async with client:
        await client.join()
        await client.repeat(1000, "send_to_group", GROUP, ack=False)
        await log.upto(999)
        assert log.data == list(range(1000))


@check("transport")
async def who_sends_without_a_pause_receives_all_the_same(harness: Harness) -> None:
    for method, to in (("send_event", "order"), ("send_to_group", "another")):
        async with harness.client() as client:
            log = Log(client, GroupMessage)
            await client.join()
            harness.service.publish(GROUP, [1])
            await client.repeat(1_000_000, method, to, ack=False, until=lambda log=log: log.events)  # type: ignore[misc]
            assert log.data == [1]
