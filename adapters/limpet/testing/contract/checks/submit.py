"""Requests with futures: thousands at once, each once and in order, given up or refused, and never silent."""

from __future__ import annotations

import gc

from limpet import Ack, ClientStopped, GroupMessage, LocalProtocolError, SendError, State, TooManyRequests
from limpet.testing.contract.check import check
from limpet.testing.contract.harness import Harness, Log, logged, prompt, raises, soon
from limpet.testing.contract.subject import GROUP, Subject


@check("transport", "tls", needs=("submit",))
async def futures_of_thousands_keep_the_order_and_end_with_their_acks(harness: Harness) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        await client.submit("join_group", GROUP).wait()
        assert client.groups == {GROUP}
        futures = [client.submit("send_to_group", GROUP, number) for number in range(3000)]
        acks = [await future.wait() for future in futures]
        assert len({ack.ack_id for ack in acks}) == 3000
        assert all(future.done() for future in futures)
        await log.wait(GroupMessage, 3000)
        assert log.data == list(range(3000))
        assert await client.submit("send_to_group", GROUP, "once", ack_id=9000).wait() == Ack(9000, duplicate=False)
        again = client.submit("send_to_group", GROUP, "once", ack_id=9000)
        assert await again.wait() == await again.wait() == Ack(9000, duplicate=True)
        await client.submit("leave_group", GROUP).wait()
        assert client.groups == frozenset()
        await client.submit("send_to_group", GROUP, "into the void").wait()
        await client.join()
        await client.submit("send_to_group", GROUP, "last", no_echo=False, timeout=30.0).wait()
        await log.upto("last")
        assert log.data == [*range(3000), "once", "last"]


@check(needs=("submit",))
async def errors_come_out_of_the_future_as_often_as_one_asks(harness: Harness) -> None:
    async with harness.client(harness.service.url(roles=())) as client:
        for call in (("join_group", GROUP), ("leave_group", GROUP), ("send_to_group", GROUP, "x")):
            future = client.submit(*call)
            for _ in range(2):
                with raises(SendError) as caught:
                    await future.wait()
                assert (caught.error.name, caught.error.outcome) == ("Forbidden", "rejected")
        with raises(SendError) as caught:
            await client.submit("send_event", "order", {"id": 7}).wait()
        assert caught.error.name == "NotFound"
        for method, arguments in (
            ("join_group", [""]),
            ("send_to_group", [GROUP, object()]),
            ("send_event", ["7", "x"]),
        ):
            with raises(LocalProtocolError):  # of the call, or of the future
                await client.submit(method, *arguments).wait()
        assert client.state is State.CONNECTED


@check(needs=("submit",))
async def futures_of_a_client_that_is_stopped_end_with_its_stop(harness: Harness) -> None:
    client = harness.client()
    with raises(ClientStopped):
        client.submit("send_to_group", GROUP, "x")
    async with client:
        harness.service.stall("to_client")
        futures = [client.submit("send_to_group", GROUP, number) for number in range(100)]
        await client.stop()
        for future in futures:
            with prompt(), raises(SendError) as caught:
                await future.wait()
            assert caught.error.name == "Stopped"
        with raises(ClientStopped):
            client.submit("send_to_group", GROUP, "x")


@check("transport", needs=("submit",))
async def futures_outlive_a_recovery_and_nothing_is_sent_twice(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        log = Log(other, GroupMessage)
        await other.join()
        harness.service.stall("to_client")
        futures = [client.submit("send_to_group", GROUP, number) for number in range(200)]
        await log.wait(GroupMessage, 100)
        harness.service.cut()
        harness.service.resume()
        futures += [client.submit("send_to_group", GROUP, number) for number in range(200, 400)]
        for future in futures:
            await future.wait()
        await log.wait(GroupMessage, 400)
        await client.send("last")
        await log.upto("last")
        assert log.data == [*range(400), "last"]


@check(needs=("submit",))
async def a_future_that_is_cancelled_takes_back_what_was_not_sent(harness: Harness) -> None:
    async with harness.client() as client:
        log = Log(client, GroupMessage)
        await client.join()
        harness.service.refuse()
        harness.service.cut()
        await soon(lambda: client.state is State.RECOVERING)
        kept, given_up = (client.submit("send_to_group", GROUP, data) for data in ("kept", "given up"))
        joined = client.submit("join_group", "another")
        for future in (given_up, joined):
            assert await future.cancel()
            assert future.done()
        assert not kept.done()
        harness.service.accept()
        await kept.wait()
        assert not await kept.cancel()
        await client.send("last")
        await log.upto("last")
        assert log.data == ["kept", "last"]
        assert client.groups == {GROUP}


@check(needs=("submit",))
async def a_future_that_is_cancelled_too_late_harms_nothing(harness: Harness) -> None:
    async with harness.client() as client, harness.undisturbed() as other:
        log = Log(other, GroupMessage)
        await other.join()
        harness.service.stall("to_client")
        futures = [client.submit("send_to_group", GROUP, number) for number in range(3)]
        await log.upto(2)
        for future in futures:
            assert await future.cancel()
        harness.service.resume()
        await client.submit("send_to_group", GROUP, "last").wait()
        await log.upto("last")
        assert log.data == [0, 1, 2, "last"]


@check(needs=("submit",))
async def over_the_limit_the_call_itself_raises_and_there_is_room_after_an_answer(harness: Harness) -> None:
    async with harness.client(max_pending_requests=20) as client, harness.undisturbed() as other:
        log = Log(other, GroupMessage)
        await other.join()
        harness.service.stall("to_client")
        futures = [client.submit("send_to_group", GROUP, number) for number in range(20)]
        with prompt(), raises(TooManyRequests):
            client.submit("send_to_group", GROUP, "too many")
        harness.service.resume()
        sent = 20
        while sent < 200:
            try:
                futures.append(client.submit("send_to_group", GROUP, sent))
                sent += 1
            except TooManyRequests:
                await futures.pop(0).wait()
        for future in futures:
            await future.wait()
        await log.wait(GroupMessage, 200)
        assert log.data == list(range(200))


@check(needs=("submit", "log"))
async def an_error_that_nobody_looks_at_is_logged_once_in_a_while(harness: Harness) -> None:
    async with harness.client(harness.service.url(roles=())) as client:
        with logged() as lines:
            seen = client.submit("send_to_group", GROUP, "seen")
            with raises(SendError):
                await seen.wait()
            given_up = client.submit("send_to_group", GROUP, "given up")
            if not await given_up.cancel():  # the answer was faster
                with raises(SendError):
                    await given_up.wait()
            del seen, given_up
            gc.collect()
            assert not lines
            await _send_and_forget(client, 25)
            await soon(lambda: _collected(lines, 2))  # the first and the tenth
            assert len(lines) == 2
            assert all("Forbidden" in line and "client.submit" in line for line in lines)


async def _send_and_forget(client: Subject, count: int) -> None:
    futures = [client.submit("send_to_group", GROUP, "x") for _ in range(count)]
    await soon(lambda: all(future.done() for future in futures))


def _collected(lines: list[str], count: int) -> bool:
    gc.collect()
    return len(lines) >= count
