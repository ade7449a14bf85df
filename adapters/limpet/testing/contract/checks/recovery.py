"""Connections that drop: recovered under the same id, or made anew, and in either case nothing is hidden."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from limpet import (
    JSON,
    Ack,
    Backoff,
    ClientStopped,
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
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, prompt, soon
from limpet.testing.contract.subject import GROUP, Subject
from limpet_core.service import group_publication

_MANY = 30
"""Cuts after which there are enough: on a slow machine there would be a hundred before all is sent."""

_LIFE = (Connected, Recovering, Recovered, Disconnected, MessagesMissed, RejoinGroupFailed, Stopped)


def _names(log: Log) -> list[str]:
    return [type(event).__name__ for event in log.events]


async def _told(log: Log, expected: list[str]) -> None:
    """Wait until exactly these events were told: the blocking client tells them in a thread of their own."""
    await soon(lambda: _names(log) == expected, f"{expected}, and no others")


# ---- Recovered


@check("transport", "tls")
async def a_connection_is_recovered_and_nobody_notices(harness: Harness) -> None:
    client = harness.client()
    life, messages = Log(client, *_LIFE), Log(client, GroupMessage)
    async with client:
        await client.join()
        connection_id = client.connection_id
        for number in range(0, 20, 2):
            assert harness.service.cut(reset=bool(number % 4)) == 1
            harness.service.publish(GROUP, [number])
            await client.send(number + 1)
            assert client.connection_id == connection_id
            await life.wait(Recovered, number // 2 + 1)
        await messages.upto(19)
        assert messages.data == list(range(20))
        assert client.groups == {GROUP}
        assert harness.service.members(GROUP) == {connection_id}
        assert client.state is State.CONNECTED
    await life.wait(Stopped)
    await _told(life, ["Connected", *["Recovering", "Recovered"] * 10, "Disconnected", "Stopped"])
    assert {event.connection_id for event in life.events[:-1]} == {connection_id}
    assert {event.code for event in life.of(Recovering)} == {1006}
    assert life.of(Disconnected)[0].code == 1000


@check("transport", "tls")
async def many_cuts_lose_nothing_and_repeat_nothing(harness: Harness) -> None:
    """Numbers that an undisturbed client publishes arrive once and in order; what the client sends is done once."""
    count = 240
    async with harness.client() as client, harness.undisturbed() as other:
        received, executed = Log(client, GroupMessage), Log(other, GroupMessage)
        life = Log(client, *_LIFE)
        await client.join("down")
        await other.join("up")

        async def publish() -> None:
            for number in range(count):
                await other.send(number, "down")
                if number % 4 == 0:
                    await anyio.sleep(0.005)

        over = anyio.Event()

        async def disturb() -> None:
            with harness.service.disturbed(seed=1):
                with anyio.move_on_after(3.0):  # on a slow machine nothing gets through for as long as there are cuts
                    await soon(lambda: over.is_set() or harness.service.cuts >= _MANY, "enough cuts")
                await soon(lambda: harness.service.cuts > 5, "cuts")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(disturb)
            async with anyio.create_task_group() as senders:
                senders.start_soon(publish)
                for number in range(60):
                    await client.send(number, "up")
                    await anyio.sleep(0.003)
            over.set()
        await received.upto(count - 1)
        await executed.upto(59)
        assert received.data == list(range(count))
        assert executed.data == list(range(60))
        assert set(_names(life)) == {"Recovering", "Recovered"}
        assert harness.service.cuts > 5


@check("transport")
async def a_cut_may_fall_anywhere(harness: Harness) -> None:
    """In the handshake, in the middle of a frame, between two: with FIN or RST, in either direction."""
    sizes = range(0, 700, 33)
    padding = "x" * 100  # in protobuf the rest of a message is small
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        await client.join()
        for number in sizes:
            harness.service.cut_after(number, "to_client", reset=bool(number % 2))
            await client.send([number, padding])
            harness.service.cut_after(number, "to_service", reset=bool(number % 2))
            await client.send([-number, padding])
        harness.service.heal()
        await client.send("last")
        await log.upto("last")
        sent = [[signed, padding] for number in sizes for signed in (number, -number)]
        assert log.data == [*sent, "last"]
        assert harness.service.cuts > 10


@check("transport")
async def what_was_executed_before_a_cut_is_not_executed_again(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other, anyio.create_task_group() as tasks:
        log = Log(other, GroupMessage)
        await other.join()
        acks: list[Ack] = []

        async def send(number: int) -> None:
            acks.append(await client.send(number, ack_id=number))

        harness.service.stall("to_client")
        for number in range(1, 6):
            tasks.start_soon(send, number)
        await log.wait(GroupMessage, 5)
        harness.service.cut()
        harness.service.resume()
        await soon(lambda: len(acks) == 5)
        await client.send("last")
        await log.upto("last")
        assert sorted(acks, key=lambda ack: ack.ack_id) == [Ack(number, duplicate=True) for number in range(1, 6)]
        assert len(log.data) == 6


@check()
async def many_without_an_answer_are_not_executed_again(harness: Harness) -> None:
    """The service remembers the ack ids of the last 1000 requests: no more may be unanswered at a time."""
    count = 1200
    async with harness.client() as client, harness.undisturbed() as other, anyio.create_task_group() as tasks:
        log = Log(other, GroupMessage)
        await other.join()
        harness.service.stall("to_client")
        for number in range(count):
            tasks.start_soon(client.send, number)
        await log.wait(GroupMessage, 200)
        await anyio.sleep(0.1)
        harness.service.cut()
        harness.service.resume()
        await log.wait(GroupMessage, count)
        await client.send("last")
        await log.upto("last")
        assert sorted(log.data[:-1]) == list(range(count))


@check("transport")
async def without_ack_cuts_lose_some_but_repeat_and_disorder_none(harness: Harness) -> None:
    count = 300
    async with harness.client() as client, harness.undisturbed() as other:
        log = Log(other, GroupMessage)
        await other.join()
        with harness.service.disturbed(seed=3):
            for number in range(count):
                await client.send(number, ack=False)
                await anyio.sleep(0.001)
        await client.send(count)
        await log.upto(count)
        assert log.data == sorted(set(log.data))
        assert harness.service.cuts > 3


@check("transport")
async def requests_made_during_an_outage_wait_for_its_end(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other, anyio.create_task_group() as tasks:
        log, life = Log(other, GroupMessage), Log(client, *_LIFE)
        await other.join()
        done: list[object] = []

        async def ask(request: Callable[[], Any]) -> None:
            done.append(await request())

        harness.service.refuse()
        harness.service.cut()
        await life.wait(Recovering)
        await client.send("quiet", ack=False)
        tasks.start_soon(ask, lambda: client.send("asked"))
        tasks.start_soon(ask, lambda: client.join("late"))
        await anyio.sleep(0.1)
        assert not done
        harness.service.accept()
        await soon(lambda: len(done) == 2)
        await log.wait(GroupMessage, 2)
        assert sorted(log.data) == ["asked", "quiet"]
        assert client.groups == {"late"}
        await _told(life, ["Recovering", "Recovered"])


@check()
async def messages_the_service_has_dropped_are_told(harness: Harness) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage, MessagesMissed)
        await client.join()
        harness.service.refuse()
        harness.service.cut()
        await soon(lambda: client.state is State.RECOVERING)
        harness.service.publish(GROUP, [1])
        too_old = group_publication(GROUP, None, "json", b"2", expires=0.0)
        harness.service.call(lambda service, _: service.core.send_to_group("chat", GROUP, too_old))
        harness.service.publish(GROUP, [3])
        harness.service.accept()
        await soon(lambda: len(log.events) == 3)
        assert log.events[1] == MessagesMissed(2, 2)
        assert [log.events[0].data, log.events[2].data] == [1, 3]


# ---- Made anew


@check("transport")
async def after_the_service_ended_it_there_is_a_new_connection_in_the_same_groups(harness: Harness) -> None:
    client = harness.client()
    life, messages = Log(client, *_LIFE), Log(client, GroupMessage)
    async with client:
        await client.join()
        await client.join("another")
        first = client.connection_id
        assert first
        harness.service.end(first, "enough")
        await life.wait(Connected, 2)
        assert client.connection_id not in (None, first)
        await soon(
            lambda: harness.service.members(GROUP) == harness.service.members("another") == {client.connection_id}
        )
        assert client.groups == {GROUP, "another"}
        await client.send(1)
        await messages.upto(1)
    await life.wait(Stopped)
    await _told(life, ["Connected", "Disconnected", "Connected", "Disconnected", "Stopped"])
    assert (life.events[1].connection_id, life.events[1].code) == (first, 1000)
    assert "enough" in life.events[1].reason


@check(needs=("url function",))
async def a_group_that_cannot_be_joined_again_is_told(harness: Harness) -> None:
    urls = [harness.service.url(), harness.service.url(roles=("webpubsub.sendToGroup",))]
    async with harness.client(lambda: urls.pop(0)) as client:
        log = Log(client, RejoinGroupFailed)
        await client.join()
        assert client.connection_id
        harness.service.end(client.connection_id)
        failed = await log.wait(RejoinGroupFailed)
        assert (failed.group, failed.error.name, failed.error.outcome) == (GROUP, "Forbidden", "rejected")
        assert client.groups == frozenset()
        assert client.state is State.CONNECTED


@check()
async def groups_are_not_joined_again_where_that_is_not_wanted(harness: Harness) -> None:
    async with harness.client(auto_rejoin_groups=False) as client:
        log = Log(client, Connected)
        await client.join()
        assert client.connection_id
        harness.service.end(client.connection_id)
        await log.wait(Connected)
        await client.send("x")
        assert client.groups == frozenset()
        assert not harness.service.members(GROUP)


@check("transport")
async def what_cannot_be_recovered_in_time_is_given_up(harness: Harness) -> None:
    async with harness.client(recovery_timeout=0.1) as client, anyio.create_task_group() as tasks:
        life = Log(client, *_LIFE)
        acks: list[Ack] = []

        async def send() -> None:
            acks.append(await client.send("waits"))

        await client.join()
        first = client.connection_id
        harness.service.refuse()
        harness.service.cut()
        await life.wait(Disconnected)
        assert client.state in (State.WAITING, State.CONNECTING)
        tasks.start_soon(send)
        await anyio.sleep(0.05)
        assert not acks
        harness.service.accept()
        await soon(lambda: acks)
        await _told(life, ["Recovering", "Disconnected", "Connected"])
        assert client.connection_id != first


@check("transport")
async def the_plain_subprotocol_makes_a_new_connection_for_each_cut(harness: Harness) -> None:
    async with harness.client(protocol=JSON) as client:
        life, messages = Log(client, *_LIFE), Log(client, GroupMessage)
        await client.join()
        for number in range(3):
            harness.service.cut()
            await life.wait(Connected, number + 1)
            await soon(lambda: client.connection_id in harness.service.members(GROUP))
            await client.send(number)
            await messages.upto(number)
        assert messages.events[0].sequence_id is None
        await _told(life, ["Disconnected", "Connected"] * 3)


@check()
async def a_limit_of_attempts_ends_it(harness: Harness) -> None:
    for delay in (0.1, 1.0, 5.0):  # on a busy machine the request may be made after the last attempt: again
        attempts = Backoff(initial=delay, maximum=delay, jitter=0.0, limit=3)
        outcomes: list[SendError | ClientStopped] = []
        client = harness.client(recovery_timeout=0.0, reconnect=attempts)

        async def send(client: Subject = client, outcomes: list[SendError | ClientStopped] = outcomes) -> None:
            try:
                await client.send("x")
            except (SendError, ClientStopped) as error:
                outcomes.append(error)

        harness.service.accept()
        async with client, anyio.create_task_group() as tasks:
            log = Log(client, Stopped)
            harness.service.refuse()
            harness.service.cut()
            await soon(lambda client=client: client.state is not State.CONNECTED)  # type: ignore[misc]
            tasks.start_soon(send)
            assert isinstance((await log.wait(Stopped)).error, ConnectError)
        if isinstance(outcomes[0], SendError):
            break
    assert isinstance(outcomes[0], SendError)
    assert outcomes[0].outcome == "unsent"
    assert harness.service.call(lambda _, proxy: proxy.refused) >= 3


# ---- The function for the URL


@check(needs=("url function",))
async def the_function_for_the_url_is_asked_for_new_connections_only(harness: Harness) -> None:
    asked: list[str] = []

    def provide() -> str:
        asked.append(f"user-{len(asked)}")
        return harness.service.url(asked[-1])

    for function in (provide, harness.client().slow_provider(provide)):
        asked.clear()
        client = harness.client(function)
        life = Log(client, Connected, Recovered)
        async with client:
            for count in (1, 2):
                harness.service.cut()
                await life.wait(Recovered, count)
            assert asked == ["user-0"]
            assert client.connection_id
            harness.service.end(client.connection_id)
            await life.wait(Connected, 2)
            assert (client.user_id, asked) == ("user-1", ["user-0", "user-1"])


class _Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("an exception without a text")


@check(needs=("url function",))
async def a_function_for_the_url_that_fails_is_asked_again(harness: Harness) -> None:
    answers: list[Any] = [
        harness.service.url(),
        OSError("no token today"),
        InvalidType("nor now"),
        _Speechless(),
        harness.service.url(),
    ]

    def provide() -> str:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return str(answer)

    async with harness.client(provide) as client:
        log = Log(client, Connected, Stopped)
        assert client.connection_id
        harness.service.end(client.connection_id)
        await log.wait(Connected)
        assert not answers
        with prompt():
            await client.join()
