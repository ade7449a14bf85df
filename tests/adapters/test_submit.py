"""``client.submit``: what the contract does not see of its futures, client by client."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import inspect
import os
import threading
from functools import partial
from typing import Any

import anyio
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.helpers.waiting import LIMIT, until

import limpet.anyio
import limpet.asyncio
import limpet.sync
import limpet.trio
from limpet import (
    Ack,
    ClientStopped,
    GroupMessage,
    Instrument,
    LocalProtocolError,
    Observation,
    OutgoingRequest,
    Recovering,
    SendError,
    Session,
    State,
)
from limpet.testing import BackgroundService

URL = "ws://limpet.test/client/hubs/h"
CLIENTS: dict[str, tuple[Any, str]] = {
    "asyncio": (limpet.asyncio.Client, "asyncio"),
    "trio": (limpet.trio.Client, "trio"),
    "anyio": (limpet.anyio.Client, "asyncio"),
}

# ---- The fast way and the general one


class Recorded(Exception):
    """Leaves the call with what it was given."""


def recorded(self: Session, *arguments: Any, **named: Any) -> None:
    call = dict(zip(("group", "data", "now"), arguments, strict=False)) | named
    call.setdefault("ack", True)
    call.setdefault("ack_id", None)
    raise Recorded(sorted((name, repr(value)) for name, value in call.items() if name not in ("now", "user_data")))


arguments = st.fixed_dictionaries(
    {},
    optional={
        "data_type": st.sampled_from(["text", "json", None]),
        "no_echo": st.booleans(),
        "ack_id": st.none() | st.integers(),
        "metadata": st.none() | st.dictionaries(st.text(), st.text()),
        "ttl": st.none() | st.floats(),
        "timeout": st.none() | st.integers(),
    },
)


@pytest.mark.parametrize("kind", CLIENTS)
@settings(max_examples=30, deadline=None)
@given(st.text(), st.text() | st.integers(), arguments)
def test_with_and_without_an_instrument_the_session_gets_the_same(
    kind: str, group: str, data: Any, named: dict[str, Any]
) -> None:
    client_type, backend = CLIENTS[kind]

    async def calls(**more: Any) -> list[Any]:
        client = client_type(URL, **more)

        async def submit() -> None:
            client.submit.send_to_group(group, data, **named)

        found: list[Any] = []
        for call in (partial(client.send_to_group, group, data, **named), submit):
            with pytest.raises(Recorded) as caught:
                await call()
            found.append(caught.value.args)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Session, "send_to_group", recorded)
        fast = anyio.run(partial(calls), backend=backend)
        general = anyio.run(partial(calls, instrument=Instrument()), backend=backend)
    assert fast == general
    assert fast[0] == fast[1]


@pytest.mark.parametrize("client_type", [limpet.sync.Client, *(kind for kind, _ in CLIENTS.values())])
@pytest.mark.parametrize("name", ["join_group", "leave_group", "send_to_group", "send_event"])
def test_a_method_takes_what_that_of_the_client_takes_and_says_that_it_returns_a_future(
    client_type: Any, name: str
) -> None:
    client = client_type(URL)
    method, own = getattr(client.submit, name), getattr(client, name)
    expected = {key: one for key, one in inspect.signature(own).parameters.items() if key != "ack"}
    assert dict(inspect.signature(method).parameters) == expected
    assert "future" in inspect.getdoc(method)
    assert "client.submit" in inspect.getdoc(type(client.submit))  # what help() shows first


# ---- Asyncio


def test_a_task_that_is_cancelled_while_it_waits_takes_the_request_back() -> None:
    async def main(url: str, service: BackgroundService) -> None:
        async with limpet.asyncio.Client(url) as client:
            lost = client.events(Recovering)
            service.refuse()
            service.cut()
            await anext(lost)
            futures = [client.submit.send_to_group("g", number) for number in range(2)]
            assert all(type(future).__mro__[1] is asyncio.Future for future in futures)
            assert client.stats.requests_unsent == 2
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(futures[0], 0.01)
            assert client.stats.requests_unsent == 1
            assert list(client._driver.publishes.values()) == [futures[1]]
            futures[1].cancel()
            assert client.stats.requests_unsent == 0
            assert not client._driver.publishes
            service.accept()
            assert await asyncio.gather(*[client.submit.send_to_group("g", number) for number in range(3)])
            assert not client._driver.publishes

    with BackgroundService() as service:
        asyncio.run(asyncio.wait_for(main(service.url("ann"), service), LIMIT))


def test_a_client_that_was_interrupted_amid_its_work_leaves_no_future_waiting() -> None:
    async def main(url: str, service: BackgroundService) -> None:
        client = limpet.asyncio.Client(url)
        await client.start()
        lost = client.events(Recovering)
        service.refuse()
        service.cut()
        await anext(lost)
        futures: list[Any] = [client.submit.send_to_group("g", number) for number in range(3)]
        for future in futures:
            assert client._session.withdraw(future.key)  # as if its answer were lost with the interrupt
        client._driver.failed(KeyboardInterrupt())
        for future in futures:
            with pytest.raises(SendError) as caught:
                await future
            assert (caught.value.name, caught.value.outcome) == ("Stopped", "unknown")
        await client.stop()

    with BackgroundService() as service:
        asyncio.run(asyncio.wait_for(main(service.url("ann"), service), LIMIT))


@pytest.mark.parametrize("kind", CLIENTS)
@pytest.mark.parametrize("instrumented", [False, True])
@pytest.mark.parametrize("ack_id", [None, 7])
def test_an_interrupt_right_behind_the_request_does_not_break_its_answer(
    kind: str, ack_id: int | None, instrumented: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    client_type, backend = CLIENTS[kind]
    send = Session.send_to_group

    def interrupted(*arguments: Any, **named: Any) -> None:
        send(*arguments, **named)
        raise KeyboardInterrupt

    noted = Noted() if instrumented else None

    async def main(url: str) -> None:
        client = client_type(url, instrument=noted)
        with anyio.fail_after(LIMIT):
            async with client:
                monkeypatch.setattr(Session, "send_to_group", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    client.submit.send_to_group("g", "x", ack_id=ack_id)
                monkeypatch.undo()
                assert await client.send_to_group("g", "y")
                assert client.state is State.CONNECTED

    with BackgroundService() as service:
        anyio.run(main, service.url("ann"), backend=backend)
    assert noted is None or noted.ends == [("g", "KeyboardInterrupt"), ("g", "NoneType")]


@pytest.mark.parametrize("kind", CLIENTS)
def test_a_call_where_no_event_loop_runs_says_where_it_belongs(kind: str) -> None:
    client_type, backend = CLIENTS[kind]

    async def main(url: str) -> None:
        client = client_type(url)
        async with client:
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                call = pool.submit(client.submit.send_to_group, "g", "x")
                with pytest.raises(LocalProtocolError, match="event loop"):
                    call.result(LIMIT)

    with BackgroundService() as service:
        anyio.run(main, service.url("ann"), backend=backend)
    with pytest.raises(ClientStopped):
        client_type(URL).submit.send_to_group("g", "x")


# ---- Trio and anyio


def test_many_tasks_may_wait_and_the_end_of_one_wait_is_not_that_of_the_request() -> None:
    async def main(url: str, service: BackgroundService) -> None:
        with trio.fail_after(LIMIT):
            async with limpet.trio.Client(url) as client, trio.open_nursery() as nursery:
                service.stall("to_client")
                answer = client.submit.send_to_group("g", "x")
                assert repr(answer) == "<Submitted: waits>"
                got: list[Ack] = []

                async def wait() -> None:
                    got.append(await answer)

                for _ in range(3):
                    nursery.start_soon(wait)
                with trio.move_on_after(0.05):
                    await answer.wait()
                assert not answer.done()
                service.resume()
                got.append(await answer.wait())
                await trio.testing.wait_all_tasks_blocked()
                assert len(got) == 4
                assert repr(answer) == "<Submitted: answered>"

    with BackgroundService() as service:
        trio.run(main, service.url("ann"), service)


def test_what_was_given_up_says_whether_it_was_sent() -> None:
    async def main(url: str, service: BackgroundService) -> None:
        with anyio.fail_after(LIMIT):
            async with limpet.anyio.Client(url) as client:
                service.stall("to_client")
                sent = client.submit.send_to_group("g", "x")
                while client.stats.requests_unsent:  # noqa: ASYNC110 - nothing tells
                    await anyio.sleep(0.01)
                unsent = client.submit.send_to_group("g", "y")  # no task has run since
                for answer, outcome in ((sent, "unknown"), (unsent, "unsent")):
                    assert answer.cancel()
                    assert not answer.cancel()
                    with pytest.raises(SendError) as caught:
                        await answer
                    assert (caught.value.name, caught.value.outcome) == ("Cancelled", outcome)
                service.resume()

    with BackgroundService() as service:
        anyio.run(main, service.url("ann"), service)


# ---- The blocking client


def test_the_standard_library_waits_for_futures_of_the_blocking_client() -> None:
    with BackgroundService() as service, limpet.sync.Client(service.url("ann")) as client:
        service.stall("to_client")
        futures = [client.submit.send_to_group("g", number) for number in range(50)]
        assert concurrent.futures.wait(futures, 0.05).done == set()
        with pytest.raises(TimeoutError):
            futures[0].result(0.01)
        with pytest.raises(TimeoutError):
            futures[0].exception(0.01)
        timer = threading.Timer(0.1, service.resume)
        timer.start()
        assert set(concurrent.futures.as_completed(futures, LIMIT)) == set(futures)
        assert concurrent.futures.wait(futures, LIMIT).not_done == set()
        assert futures[0].exception() is None
        assert not futures[0].running()
        timer.join()
        futures = [client.submit.send_to_group("", "x"), client.submit.send_to_group("g", "x")]
        done = concurrent.futures.wait(futures, LIMIT, return_when=concurrent.futures.ALL_COMPLETED).done
        assert done == set(futures)
        assert isinstance(futures[0].exception(), LocalProtocolError)
        until(lambda: not client._driver.submitted)


def test_a_future_of_the_blocking_client_works_in_an_event_loop() -> None:
    with BackgroundService() as service, limpet.sync.Client(service.url("ann")) as client:

        async def main() -> Ack:
            return await asyncio.wait_for(asyncio.wrap_future(client.submit.send_to_group("g", 1)), LIMIT)

        assert type(asyncio.run(main())) is Ack


def test_callbacks_of_a_future_are_called_once_and_may_call_the_client() -> None:
    called: list[tuple[str, Any]] = []

    with BackgroundService() as service, limpet.sync.Client(service.url("ann")) as client:

        def call_back(future: Any) -> None:
            called.append((threading.current_thread().name, client.send_to_group("g", future.result().ack_id)))

        def fails(future: Any) -> None:
            raise ZeroDivisionError

        def exits(future: Any) -> None:
            raise SystemExit

        service.stall("to_client")
        future = client.submit.send_to_group("g", "x")
        future.add_done_callback(fails)
        future.add_done_callback(exits)
        future.add_done_callback(call_back)
        service.resume()
        until(lambda: called)
        future.add_done_callback(call_back)  # at once: it is done
        assert [name for name, _ in called] == ["limpet-callbacks", threading.current_thread().name]


def test_a_callback_of_the_client_may_wait_for_the_result_of_a_future() -> None:
    found: list[Ack] = []

    with BackgroundService() as service, limpet.sync.Client(service.url("ann")) as client:

        def publish(message: GroupMessage) -> None:
            found.append(client.submit.send_to_group("another", message.data).result(LIMIT))

        client.on(GroupMessage, publish)
        client.join_group("g")
        client.send_to_group("g", "x")
        until(lambda: found)


def test_a_lock_that_an_interrupt_has_left_locked_does_not_stop_the_client() -> None:
    with BackgroundService() as service, limpet.sync.Client(service.url("ann")) as client:
        service.stall("to_client")
        futures = [client.submit.send_to_group("g", number) for number in range(3)]
        futures[0]._condition.acquire()  # as Ctrl-C amid concurrent.futures.wait() leaves it
        service.resume()
        assert [type(future.result(LIMIT)) for future in futures] == [Ack] * 3
        assert client.send_to_group("g", "x")
        assert futures[0].done()
        assert not futures[0].cancelled()
        futures[0]._condition.release()


def test_a_future_that_was_given_up_is_cancelled_for_all_who_wait() -> None:
    with BackgroundService() as service, limpet.sync.Client(service.url("ann")) as client:
        service.stall("to_client")
        future = client.submit.send_to_group("g", "x")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            waits = [pool.submit(future.result, LIMIT), pool.submit(concurrent.futures.wait, [future], LIMIT)]
            until(lambda: len(future._sleepers) == 1 and len(future._waiters) == 1)
            assert future.cancel()
            assert future.cancel()
            assert isinstance(waits[0].exception(LIMIT), concurrent.futures.CancelledError)
            assert waits[1].result(LIMIT).done == {future}
        with pytest.raises(concurrent.futures.CancelledError):
            future.result()
        service.resume()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_waits_for_no_future_of_its_parent() -> None:
    with BackgroundService() as service, limpet.sync.Client(service.url("ann")) as client:
        service.stall("to_client")
        future = client.submit.send_to_group("g", "x")
        child = os.fork()
        if child == 0:
            refused = 0
            for call in (future.result, future.cancel, lambda: client.submit.send_to_group("g", "x")):
                try:
                    call()
                except LocalProtocolError:
                    refused += 1
            os._exit(refused)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        service.resume()
        assert future.result(LIMIT)


# ---- The instrument


class Noted(Instrument):
    """Notes the requests and their ends."""

    def __init__(self) -> None:
        self.ends: list[tuple[str, str]] = []

    def request(self, client: Any, request: OutgoingRequest) -> Observation:
        ends = self.ends

        class Ends(Observation):
            def ended(self, error: BaseException | None, seconds: float) -> None:
                ends.append((request.target, type(error).__name__))

        return Ends()


def test_the_instrument_hears_of_each_request_and_of_its_end() -> None:
    expected = [("", "InvalidValue"), ("ok", "NoneType"), ("given up", "CancelledError")]

    async def main(url: str, service: BackgroundService, noted: Noted) -> None:
        async with limpet.asyncio.Client(url, instrument=noted) as client:
            with pytest.raises(LocalProtocolError):
                client.submit.send_to_group("", "x")
            await client.submit.send_to_group("ok", "x")
            client.submit.send_to_group("given up", "x").cancel()

    with BackgroundService() as service:
        noted = Noted()
        asyncio.run(main(service.url("ann"), service, noted))
        assert noted.ends == expected
        noted = Noted()
        with limpet.sync.Client(service.url("ann"), instrument=noted) as client:
            assert isinstance(client.submit.send_to_group("", "x").exception(LIMIT), LocalProtocolError)
            client.submit.send_to_group("ok", "x").result(LIMIT)
            service.stall("to_client")
            client.submit.send_to_group("given up", "x").cancel()
            service.resume()
        assert noted.ends == expected
    gc.collect()


def test_a_task_cancelled_behind_its_answer_takes_back_no_later_request_with_its_ack_id() -> None:
    async def main(url: str) -> None:
        async with limpet.asyncio.Client(url) as client:
            task = asyncio.create_task(client.send_to_group("g", "first", ack_id=5))
            await asyncio.sleep(0)
            while client.stats.requests_pending:  # noqa: ASYNC110 - looked at between the answer and the task
                await asyncio.sleep(0)
            assert not task.done()
            task.cancel()
            other = client.submit.send_to_group("g", "written at once")
            again = client.submit.send_to_group("g", "second", ack_id=5)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await again).duplicate
            assert await other

    with BackgroundService() as service:
        asyncio.run(asyncio.wait_for(main(service.url("ann")), LIMIT))
