"""Callbacks: every event once, in order, one at a time, whatever they do."""

from __future__ import annotations

from typing import Any

import anyio

from limpet import GroupMessage, InvalidType, LocalProtocolError, State, Stopped
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, impatient, logged, prompt, raises, soon
from limpet.testing.contract.subject import GROUP, Steps


@check(needs=("callbacks",))
async def callbacks_run_in_order_one_at_a_time(harness: Harness) -> None:
    calls: list[tuple[str, int]] = []
    running: list[int] = []

    def plain(message: GroupMessage) -> None:
        assert not running
        calls.append(("plain", message.data))

    def waiting(message: GroupMessage) -> Steps:
        assert not running
        running.append(message.data)
        yield "sleep", 0.001 * (message.data % 3)
        calls.append(("waiting", message.data))
        running.clear()

    async with harness.client() as client:
        client.on_steps(GroupMessage, waiting)
        client.on(GroupMessage, plain)
        await client.join()
        harness.service.publish(GROUP, range(20))
        for number in range(20, 30):
            await client.send(number)
        await soon(lambda: len(calls) == 60)
        assert calls == [(name, number) for number in range(30) for name in ("waiting", "plain")]


@check(needs=("callbacks", "log"))
async def a_callback_that_raises_is_logged_and_holds_up_nothing(harness: Harness) -> None:
    seen: list[int] = []

    def bad(message: GroupMessage) -> None:
        raise ZeroDivisionError("bad")

    def worse(message: GroupMessage) -> Steps:
        yield "sleep", 0
        raise ZeroDivisionError("worse")

    with logged() as errors:
        async with harness.client() as client:
            client.on(GroupMessage, bad)
            client.on_steps(GroupMessage, worse)
            client.on(GroupMessage, bad)
            client.on(GroupMessage, lambda message: seen.append(message.data))
            await client.join()
            harness.service.publish(GROUP, range(5))
            await soon(lambda: 4 in seen)
    assert seen == list(range(5))
    assert errors == ["bad", "worse", "bad"] * 5


@check(needs=("callbacks", "log"))
async def a_callback_that_waits_for_what_another_is_to_get_is_named_in_the_log(harness: Harness) -> None:
    """Also where the other is for the same event, and where the client is about to stop."""
    heard: list[str] = []
    done: list[str] = []
    begun: list[str] = []

    def waits(message: GroupMessage) -> Steps:
        begun.append(message.data)
        while message.data not in done:
            yield "sleep", 0.02
        heard.append("waits")

    def also(message: GroupMessage) -> None:
        heard.append("also")

    with impatient(), logged() as warnings:
        async with harness.client() as client:
            client.on_steps(GroupMessage, waits)
            client.on(GroupMessage, also)
            await client.join()
            harness.service.publish(GROUP, ["first"])
            await soon(lambda: warnings, "a warning")
            done.append("first")
            await soon(lambda: len(heard) == 2)
            harness.service.publish(GROUP, ["second", "third"])
            await soon(lambda: "second" in begun)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.stop)
                await soon(lambda: len(warnings) == 2, "a second warning")
                done.extend(["second", "third"])
        await soon(lambda: len(heard) == 6)
    assert len(warnings) == 2, "one for each of its calls"
    for warning in warnings:
        assert "a_callback_that_waits" in warning
        assert ".waits for GroupMessage" in warning


@check(needs=("callbacks",))
async def a_callback_may_call_the_client(harness: Harness) -> None:
    log: list[Any] = []

    def answer(message: GroupMessage) -> Steps:
        if message.group == GROUP:
            ack = yield "send_to_group", "answers", message.data
            assert ack.ack_id
        else:
            log.append(message.data)

    async with harness.client() as client:
        client.on_steps(GroupMessage, answer)
        await client.join()
        await client.join("answers")
        harness.service.publish(GROUP, range(20))
        await soon(lambda: len(log) == 20)
        assert log == list(range(20))


@check(needs=("streams", "callbacks"))
async def a_callback_may_register_others_and_itself_no_more(harness: Harness) -> None:
    log: list[tuple[str, int]] = []

    def later(message: GroupMessage) -> None:
        log.append(("later", message.data))

    def once(message: GroupMessage) -> None:
        log.append(("once", message.data))
        client.off(GroupMessage, once)
        client.on(GroupMessage, later)

    async with harness.client() as client:
        client.on(GroupMessage, once)
        await client.join()
        await client.send(1)
        await soon(lambda: log)
        await client.send(2)
        await client.send(3)
        await soon(lambda: ("later", 3) in log)
        assert log == [("once", 1), ("later", 2), ("later", 3)]
        client.off(GroupMessage, later)
        with raises(LocalProtocolError):
            client.off(GroupMessage, later)
        await client.send(4)
        assert (await anext(aiter(client))).data == 4  # nobody else takes it now
        assert len(log) == 3


@check("transport", needs=("callbacks",))
async def a_callback_may_stop_the_client(harness: Harness) -> None:
    done: list[bool] = []

    def stop(_: GroupMessage) -> Steps:
        yield ("stop",)
        done.append(True)

    client = harness.client()
    log = Log(client, Stopped)
    client.on_steps(GroupMessage, stop)
    async with client:
        await client.join()
        await client.send("stop", ack=False)
        with prompt():
            await soon(lambda: done)
        assert client.state is State.STOPPED
    await log.wait(Stopped)
    assert log.events == [Stopped(None)]


@check(needs=("callbacks", "restart", "cancel"))
async def callbacks_go_on_after_a_body_that_was_cancelled_amid_one(harness: Harness) -> None:
    ended: list[object] = []

    def waiting(event: GroupMessage | Stopped) -> Steps:
        first = isinstance(event, GroupMessage) and event.data == 0
        began.append(event)
        yield "sleep", 0.1 if first else 0
        ended.append(event.data if isinstance(event, GroupMessage) else event)

    began: list[object] = []
    client = harness.client()
    client.on_steps(GroupMessage, waiting)
    client.on_steps(Stopped, waiting)
    log = Log(client, GroupMessage, Stopped)
    with anyio.CancelScope() as scope:
        async with client:
            await client.join()
            harness.service.publish(GROUP, range(3))
            await soon(lambda: began)
            scope.cancel()
            await anyio.sleep_forever()
    # What waits may be cut off by the cancellation; what does not hears of all, and in order.
    await log.wait(Stopped)
    heard = [event.data for event in log.of(GroupMessage)]
    assert heard == list(range(len(heard)))
    assert log.events[len(heard) :] == [Stopped(None)]
    async with client:
        await client.join()
        await client.send("again")
        await soon(lambda: "again" in ended)
    await log.wait(Stopped, 2)


@check(needs=("streams", "callbacks"))
async def wrong_callbacks_and_types_raise(harness: Harness) -> None:
    not_callable: Any = "no function"
    client = harness.client()
    rubbish: tuple[Any, ...] = (int, "GroupMessage", GroupMessage | Stopped, None)
    for wrong in rubbish:
        with raises(InvalidType):
            client.on(wrong, print)
        with raises(InvalidType):
            client.events(wrong)
    with raises(InvalidType):
        client.on(GroupMessage, not_callable)
    with raises(InvalidType):
        client.events()
    client.on(GroupMessage, print)
    client.on(GroupMessage, print)
    client.off(GroupMessage, print)
    client.off(GroupMessage, print)
    with raises(LocalProtocolError):
        client.off(GroupMessage, print)
