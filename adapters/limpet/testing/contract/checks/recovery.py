"""Connections that drop: recovered under the same id, or made anew, and in either case nothing is hidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from limpet import (
    JSON,
    Ack,
    Backoff,
    Connected,
    ConnectError,
    Disconnected,
    GroupMessage,
    InvalidType,
    MessagesMissed,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    SendError,
    State,
    Stopped,
)
from limpet.testing.contract.world import GROUP, Log, World, prompt, raises, soon
from limpet_core.service import group_publication

_LIFE = (Connected, Recovering, Recovered, Disconnected, MessagesMissed, RejoinGroupFailed, Stopped)


def _names(log: Log) -> list[str]:
    return [type(event).__name__ for event in log.events]


# --- Recovered


async def a_connection_is_recovered_and_nobody_notices(world: World) -> None:
    client = world.client()
    life, messages = Log(client, *_LIFE), Log(client, GroupMessage)
    async with client:
        await client.join()
        connection_id = client.connection_id
        for number in range(0, 20, 2):
            assert world.service.cut(reset=bool(number % 4)) == 1
            world.service.publish(GROUP, [number])
            await client.send(number + 1)
            assert client.connection_id == connection_id
            await life.wait(Recovered, number // 2 + 1)
        await messages.upto(19)
        assert messages.data == list(range(20))
        assert client.groups == {GROUP}
        assert world.service.members(GROUP) == {connection_id}
        assert client.state is State.CONNECTED
    await life.wait(Stopped)
    assert _names(life) == ["Connected", *["Recovering", "Recovered"] * 10, "Disconnected", "Stopped"]
    assert {event.connection_id for event in life.events[:-1]} == {connection_id}
    assert {event.code for event in life.of(Recovering)} == {1006}
    assert life.of(Disconnected)[0].code == 1000


async def many_cuts_lose_nothing_and_repeat_nothing(world: World) -> None:
    """Numbers that an undisturbed client publishes arrive once and in order; what the client sends is done once."""
    count = 400
    async with world.client(connect_timeout=1.0) as client, world.undisturbed() as other:
        received, executed = Log(client, GroupMessage), Log(other, GroupMessage)
        life = Log(client, *_LIFE)
        await client.join("down")
        await other.join("up")

        async def publish() -> None:
            for number in range(count):
                await other.send(number, "down")
                if number % 4 == 0:
                    await anyio.sleep(0.005)

        with world.service.disturbed(seed=1):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publish)
                for number in range(60):
                    await client.send(number, "up")
                    await anyio.sleep(0.003)
        await received.upto(count - 1)
        await executed.upto(59)
        assert received.data == list(range(count))
        assert executed.data == list(range(60))
        assert set(_names(life)) == {"Recovering", "Recovered"}
        assert world.service.cuts > 5


async def a_cut_may_fall_anywhere(world: World) -> None:
    """In the handshake, in the middle of a frame, between two: with FIN or RST, in either direction."""
    sizes = range(0, 700, 33)
    async with world.client() as client:
        log = Log(client, GroupMessage)
        await client.join()
        for number in sizes:
            world.service.cut_after(number, "to_client", reset=bool(number % 2))
            await client.send(number)
            world.service.cut_after(number, "to_service", reset=bool(number % 2))
            await client.send(-number)
        world.service.heal()
        await client.send("last")
        await log.upto("last")
        assert log.data == [*(signed for number in sizes for signed in (number, -number)), "last"]
        assert world.service.cuts > 10


async def what_was_executed_before_a_cut_is_not_executed_again(world: World) -> None:
    async with world.client() as client, world.undisturbed() as other, anyio.create_task_group() as tasks:
        log = Log(other, GroupMessage)
        await other.join()
        acks: list[Ack] = []

        async def send(number: int) -> None:
            acks.append(await client.send(number, ack_id=number))

        world.service.stall("to_client")
        for number in range(1, 6):
            tasks.start_soon(send, number)
        await log.wait(GroupMessage, 5)
        world.service.cut()
        world.service.resume()
        await soon(lambda: len(acks) == 5)
        await client.send("last")
        await log.upto("last")
        assert sorted(acks, key=lambda ack: ack.ack_id) == [Ack(number, duplicate=True) for number in range(1, 6)]
        assert len(log.data) == 6


async def many_without_an_answer_are_not_executed_again(world: World) -> None:
    """The service remembers the ack ids of the last 1000 requests: no more may be unanswered at a time."""
    count = 1200
    async with world.client() as client, world.undisturbed() as other, anyio.create_task_group() as tasks:
        log = Log(other, GroupMessage)
        await other.join()
        world.service.stall("to_client")
        for number in range(count):
            tasks.start_soon(client.send, number)
        await log.wait(GroupMessage, 200)
        await anyio.sleep(0.1)
        world.service.cut()
        world.service.resume()
        await log.wait(GroupMessage, count)
        await client.send("last")
        await log.upto("last")
        assert sorted(log.data[:-1]) == list(range(count))


async def without_ack_cuts_lose_some_but_repeat_and_disorder_none(world: World) -> None:
    count = 300
    async with world.client(connect_timeout=1.0) as client, world.undisturbed() as other:
        log = Log(other, GroupMessage)
        await other.join()
        with world.service.disturbed(seed=3):
            for number in range(count):
                await client.send(number, ack=False)
                await anyio.sleep(0.001)
        await client.send(count)
        await log.upto(count)
        assert log.data == sorted(set(log.data))
        assert world.service.cuts > 3


async def requests_made_during_an_outage_wait_for_its_end(world: World) -> None:
    async with world.client() as client, world.undisturbed() as other, anyio.create_task_group() as tasks:
        log, life = Log(other, GroupMessage), Log(client, *_LIFE)
        await other.join()
        done: list[object] = []

        async def ask(request: Callable[[], Any]) -> None:
            done.append(await request())

        world.service.refuse()
        world.service.cut()
        await life.wait(Recovering)
        await client.send("quiet", ack=False)
        tasks.start_soon(ask, lambda: client.send("asked"))
        tasks.start_soon(ask, lambda: client.join("late"))
        await anyio.sleep(0.1)
        assert not done
        world.service.accept()
        await soon(lambda: len(done) == 2)
        await log.wait(GroupMessage, 2)
        assert sorted(log.data) == ["asked", "quiet"]
        assert client.groups == {"late"}
        assert _names(life) == ["Recovering", "Recovered"]


async def messages_the_service_has_dropped_are_told(world: World) -> None:
    async with world.client() as client:
        log = Log(client, GroupMessage, MessagesMissed)
        await client.join()
        world.service.refuse()
        world.service.cut()
        await soon(lambda: client.state is State.RECOVERING)
        world.service.publish(GROUP, [1])
        too_old = group_publication(GROUP, None, "json", b"2", expires=0.0)
        world.service.call(lambda service, _: service.core.send_to_group("chat", GROUP, too_old))
        world.service.publish(GROUP, [3])
        world.service.accept()
        await soon(lambda: len(log.events) == 3)
        assert log.events[1] == MessagesMissed(2, 2)
        assert [log.events[0].data, log.events[2].data] == [1, 3]


# --- Made anew


async def after_the_service_ended_it_there_is_a_new_connection_in_the_same_groups(world: World) -> None:
    client = world.client()
    life, messages = Log(client, *_LIFE), Log(client, GroupMessage)
    async with client:
        await client.join()
        await client.join("another")
        first = client.connection_id
        assert first
        world.service.end(first, "enough")
        await life.wait(Connected, 2)
        assert client.connection_id not in (None, first)
        await soon(lambda: world.service.members(GROUP) == world.service.members("another") == {client.connection_id})
        assert client.groups == {GROUP, "another"}
        await client.send(1)
        await messages.upto(1)
    await life.wait(Stopped)
    assert _names(life) == ["Connected", "Disconnected", "Connected", "Disconnected", "Stopped"]
    assert (life.events[1].connection_id, life.events[1].code) == (first, 1000)
    assert "enough" in life.events[1].reason


async def a_group_that_can_not_be_joined_again_is_told(world: World) -> None:
    urls = [world.service.url(), world.service.url(roles=("webpubsub.sendToGroup",))]
    async with world.client(lambda: urls.pop(0)) as client:
        log = Log(client, RejoinGroupFailed)
        await client.join()
        assert client.connection_id
        world.service.end(client.connection_id)
        failed = await log.wait(RejoinGroupFailed)
        assert (failed.group, failed.error.name, failed.error.outcome) == (GROUP, "Forbidden", "rejected")
        assert client.groups == frozenset()
        assert client.state is State.CONNECTED


async def groups_are_not_joined_again_where_that_is_not_wanted(world: World) -> None:
    async with world.client(auto_rejoin_groups=False) as client:
        log = Log(client, Connected)
        await client.join()
        assert client.connection_id
        world.service.end(client.connection_id)
        await log.wait(Connected)
        await client.send("x")
        assert client.groups == frozenset()
        assert not world.service.members(GROUP)


async def what_can_not_be_recovered_in_time_is_given_up(world: World) -> None:
    async with world.client(recovery_timeout=0.1) as client, anyio.create_task_group() as tasks:
        life = Log(client, *_LIFE)
        acks: list[Ack] = []

        async def send() -> None:
            acks.append(await client.send("waits"))

        await client.join()
        first = client.connection_id
        world.service.refuse()
        world.service.cut()
        await life.wait(Disconnected)
        assert client.state in (State.WAITING, State.CONNECTING)
        tasks.start_soon(send)
        await anyio.sleep(0.05)
        assert not acks
        world.service.accept()
        await soon(lambda: acks)
        assert _names(life) == ["Recovering", "Disconnected", "Connected"]
        assert client.connection_id != first


async def the_plain_subprotocol_makes_a_new_connection_for_each_cut(world: World) -> None:
    async with world.client(protocol=JSON) as client:
        life, messages = Log(client, *_LIFE), Log(client, GroupMessage)
        await client.join()
        for number in range(3):
            world.service.cut()
            await life.wait(Connected, number + 1)
            await soon(lambda: client.connection_id in world.service.members(GROUP))
            await client.send(number)
            await messages.upto(number)
        assert messages.events[0].sequence_id is None
        assert _names(life) == ["Disconnected", "Connected"] * 3


async def a_limit_of_attempts_ends_it(world: World) -> None:
    attempts = Backoff(initial=0.1, maximum=0.1, jitter=0.0, limit=3)  # time enough to ask for something
    async with world.client(recovery_timeout=0.0, reconnect=attempts) as client, anyio.create_task_group() as tasks:
        log = Log(client, Stopped)
        world.service.refuse()
        world.service.cut()

        async def send() -> None:
            with raises(SendError) as caught:
                await client.send("x")
            assert caught.error.outcome == "unsent"

        await soon(lambda: client.state is not State.CONNECTED)
        tasks.start_soon(send)
        assert isinstance((await log.wait(Stopped)).error, ConnectError)
    assert world.service.call(lambda _, proxy: proxy.refused) >= 3


# --- The function for the URL


async def the_function_for_the_url_is_asked_for_new_connections_only(world: World) -> None:
    asked: list[str] = []

    def provide() -> str:
        asked.append(f"user-{len(asked)}")
        return world.service.url(asked[-1])

    for function in (provide, world.client().slow_provider(provide)):
        asked.clear()
        client = world.client(function)
        life = Log(client, Connected, Recovered)
        async with client:
            for count in (1, 2):
                world.service.cut()
                await life.wait(Recovered, count)
            assert asked == ["user-0"]
            assert client.connection_id
            world.service.end(client.connection_id)
            await life.wait(Connected, 2)
            assert (client.user_id, asked) == ("user-1", ["user-0", "user-1"])


async def a_function_for_the_url_that_fails_is_asked_again(world: World) -> None:
    answers: list[Any] = [world.service.url(), OSError("no token today"), InvalidType("nor now"), world.service.url()]

    def provide() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    async with world.client(provide) as client:
        log = Log(client, Connected, Stopped)
        assert client.connection_id
        world.service.end(client.connection_id)
        await log.wait(Connected)
        assert not answers
        with prompt():
            await client.join()


CHECKS = (
    a_connection_is_recovered_and_nobody_notices,
    many_cuts_lose_nothing_and_repeat_nothing,
    a_cut_may_fall_anywhere,
    what_was_executed_before_a_cut_is_not_executed_again,
    many_without_an_answer_are_not_executed_again,
    without_ack_cuts_lose_some_but_repeat_and_disorder_none,
    requests_made_during_an_outage_wait_for_its_end,
    messages_the_service_has_dropped_are_told,
    after_the_service_ended_it_there_is_a_new_connection_in_the_same_groups,
    a_group_that_can_not_be_joined_again_is_told,
    groups_are_not_joined_again_where_that_is_not_wanted,
    what_can_not_be_recovered_in_time_is_given_up,
    the_plain_subprotocol_makes_a_new_connection_for_each_cut,
    a_limit_of_attempts_ends_it,
    the_function_for_the_url_is_asked_for_new_connections_only,
    a_function_for_the_url_that_fails_is_asked_again,
)
