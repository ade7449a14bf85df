"""Sessions and clients joined to the service in memory, under a virtual clock."""

from __future__ import annotations

import asyncio
import itertools
import math
import time
import traceback
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limpet import (
    PROTOBUF,
    RELIABLE_JSON,
    RELIABLE_PROTOBUF,
    Acked,
    Backoff,
    Connected,
    ConnectError,
    ConnectionFailed,
    Dial,
    Disconnected,
    GroupMessage,
    InvalidValue,
    Options,
    Recovered,
    Recovering,
    SendError,
    Session,
    State,
    Stopped,
)
from limpet.asyncio import Client
from limpet.testing import VirtualClient, VirtualService, trace
from limpet_core.service import Limits


def data(client: VirtualClient) -> list[object]:
    return [message.data for message in client.events_of(GroupMessage)]


def kinds(client: VirtualClient) -> list[str]:
    return [type(event).__name__ for event in client.events]


@pytest.fixture
def service() -> VirtualService:
    return VirtualService()


@pytest.fixture
def ann(service: VirtualService) -> VirtualClient:
    """Connected, and in the group g."""
    client = service.client("ann")
    client.start()
    client.join_group("g")
    client.events.clear()
    return client


# ---- Sessions


def test_two_sessions_talk_and_what_they_said_is_there(service: VirtualService) -> None:
    ann, bob = service.client("ann", groups=("g",)), service.client("bob")
    assert ann.state is State.STOPPED
    for client in (ann, bob):
        client.start()
    assert (ann.state, ann.connection_id, bob.connection_id) == (State.CONNECTED, "c1", "c2")
    assert bob.send_to_group("g", {"a": 1}) == 1
    assert bob.sent == [{"type": "sendToGroup", "group": "g", "ackId": 1, "dataType": "json", "data": {"a": 1}}]
    assert bob.events == [Connected("c2", "bob"), Acked(1)]
    assert [(message.from_user_id, message.data) for message in ann.events_of(GroupMessage)] == [("bob", {"a": 1})]
    assert service.members("g") == {"c1"}


def test_nothing_happens_unless_time_passes(service: VirtualService, ann: VirtualClient) -> None:
    service.publish("g", ["x"])
    assert service.retained("c1") == 1
    assert service.deadline == service.now + 1, "the sequence ack is due"
    service.advance(0.9)
    assert service.retained("c1") == 1
    service.advance(0.2)
    assert service.retained("c1") == 0
    assert {"type": "sequenceAck", "sequenceId": 1} in ann.sent


def test_what_json_can_not_hold_is_not_published(service: VirtualService, ann: VirtualClient) -> None:
    with pytest.raises(InvalidValue, match="nan"):
        service.publish("g", [{"price": float("nan")}])
    assert data(ann) == []


def test_a_cut_is_recovered_from_and_what_was_published_meanwhile_arrives(
    service: VirtualService, ann: VirtualClient
) -> None:
    service.refuse()
    assert service.cut() == 1
    service.publish("g", [1, 2])
    assert kinds(ann) == ["Recovering", "ConnectionFailed"]
    service.advance(5)
    service.accept()
    service.advance(2)
    failed = len(ann.events_of(ConnectionFailed))
    assert failed > 1
    assert kinds(ann) == ["Recovering", *["ConnectionFailed"] * failed, "Recovered", "GroupMessage", "GroupMessage"]
    assert data(ann) == [1, 2]
    assert ann.connection_id == "c1"


def test_a_connection_that_is_away_too_long_is_lost(service: VirtualService, ann: VirtualClient) -> None:
    service.refuse()
    service.cut()
    service.advance(31)
    assert len(ann.events_of(Disconnected)) == 1
    service.accept()
    service.advance(60)
    assert (ann.connection_id, service.members("g")) == ("c2", {"c2"})
    assert [type(event) for event in service.log if isinstance(event, trace.ConnectionClosed)]


def test_a_recovery_is_refused(service: VirtualService, ann: VirtualClient) -> None:
    assert service.drop("c1", for_good=True)
    service.advance(5)
    assert len(ann.events_of(Disconnected)) == 1
    assert service.log.of(trace.RecoveryRefused)
    assert ann.connection_id == "c2"
    assert not service.drop("c1")


def test_a_lost_ack_is_asked_for_again_and_the_request_is_not_executed_twice(
    service: VirtualService, ann: VirtualClient
) -> None:
    service.lose_ack()
    ann.send_to_group("g", "x")
    assert ann.events_of(Acked) == [Acked(2, duplicate=True)]
    assert len(ann.events_of(Recovered)) == 1
    assert data(ann) == ["x"]
    ann.send_to_group("g", "y")
    assert len(ann.events_of(Recovered)) == 1, "only one was lost"


def test_only_the_ack_of_one_client_is_lost(service: VirtualService, ann: VirtualClient) -> None:
    bob = service.client("bob")
    bob.start()
    service.lose_ack("c2")
    ann.send_to_group("g", "x")
    assert ann.events_of(Recovering) == []
    bob.send_to_group("g", "y")
    assert len(bob.events_of(Recovering)) == 1


@pytest.mark.parametrize("direction", [None, "to_client", "to_service"])
def test_what_hangs_arrives_when_it_goes_on(service: VirtualService, ann: VirtualClient, direction: str | None) -> None:
    service.stall(direction)  # type: ignore[arg-type]
    ann.send_to_group("g", "x")
    assert ann.events == []
    assert bool(service.log.of(trace.Published)) is (direction == "to_client")
    service.advance(3)
    assert ann.events == []
    service.resume()
    assert data(ann) == ["x"]
    assert ann.events_of(Acked) == [Acked(2)]


def test_what_hangs_is_lost_with_the_transport(service: VirtualService, ann: VirtualClient) -> None:
    service.stall("to_service")
    ann.send_to_group("g", "x")
    service.cut()
    service.resume()
    service.advance(3)
    assert data(ann) == ["x"], "it was sent again"
    assert len(service.log.of(trace.Published)) == 1


def test_a_client_that_hangs_while_it_connects(service: VirtualService) -> None:
    client = service.client(options=Options(connect_timeout=5.0, reconnect=Backoff(initial=1.0, maximum=1.0)))
    service.stall()
    client.start()
    service.advance(3)
    assert (client.state, service.core.connection_count) == (State.CONNECTING, 0)
    service.resume()
    assert client.state is State.CONNECTED


def test_a_deliberate_close_is_told_and_final(service: VirtualService, ann: VirtualClient) -> None:
    service.end("c1", "enough")
    service.advance(5)
    (disconnected,) = ann.events_of(Disconnected)
    assert disconnected.reason == "Application server closed the connection. Reason: enough"
    assert ann.connection_id == "c2"


def test_stopping_is_told_to_the_service(service: VirtualService, ann: VirtualClient) -> None:
    ann.stop()
    assert ann.state is State.STOPPED
    assert isinstance(ann.events[-1], Stopped)
    assert service.core.connection_count == 0
    assert service.deadline == math.inf
    ann.start()
    assert ann.connection_id == "c2"


def test_one_message_too_many_while_a_client_is_away_ends_its_connection() -> None:
    service = VirtualService(Limits(retained_messages=3))
    client = service.client(groups=("g",))
    client.start()
    service.refuse()
    service.cut()
    service.publish("g", range(4))
    assert service.retained("c1") is None, "one too many ends the connection"
    service.accept()
    service.advance(60)
    assert client.connection_id == "c2"


def test_a_token_of_somebody_else_is_refused(service: VirtualService) -> None:
    client = VirtualClient(
        service, "ws://service.test/client/hubs/chat?access_token=other", Session(random=lambda: 0.5)
    )
    client.start()
    while client.exchange():
        pass
    (stopped,) = client.events_of(Stopped)
    assert "not one of this service" in str(stopped.error)


def test_what_can_not_be_a_url_is_refused_at_once(service: VirtualService) -> None:
    with pytest.raises(ValueError, match="not a hub name"):
        service.url(hub="1st")
    with pytest.raises(TypeError, match="not a single string"):
        service.client(groups="room")


# ---- asyncio


def test_a_client_of_asyncio_lives_through_an_hour_in_no_time(service: VirtualService) -> None:
    heard: list[object] = []
    went: list[str] = []

    async def main() -> str | None:
        async with Client(service.url("ann"), connect=service.connect) as client:
            client.on(GroupMessage, lambda message: heard.append(message.data))
            for kind in (Recovering, Recovered, Disconnected):
                client.on(kind, lambda event: went.append(type(event).__name__))
            await client.join_group("g")
            for number in range(60):
                service.publish("g", [number])
                service.cut()
                await asyncio.sleep(60)
            service.lose_ack()
            assert (await client.send_to_group("g", "end")).duplicate
            await asyncio.sleep(1)
            assert went == ["Recovering", "Recovered"] * 61
            return client.connection_id

    begun, now = time.monotonic(), service.now
    assert service.run(main()) == "c1"
    assert service.now - now > 3600
    assert time.monotonic() - begun < 60
    assert heard == [*range(60), "end"]
    assert service.core.connection_count == 0, "it was stopped"


def test_a_client_of_asyncio_meets_a_black_hole_and_time_runs(service: VirtualService) -> None:
    async def main() -> None:
        async with Client(service.url("ann"), Options(ack_timeout=10.0), connect=service.connect) as client:
            service.stall("to_client")
            now = asyncio.get_running_loop().time()
            with pytest.raises(SendError) as failed:
                await client.send_to_group("g", "x")
            assert failed.value.outcome == "unknown"
            assert asyncio.get_running_loop().time() >= now + 40, "it was asked four times"
            service.stall()
            await asyncio.sleep(90)
            assert client.state is State.RECOVERING, "silent for 120 s, and lost for less than 30"
            service.resume()
            await client.join_group("g")

    service.run(main())


def test_a_session_and_clients_of_asyncio_share_the_service(service: VirtualService, ann: VirtualClient) -> None:
    async def main() -> None:
        async with Client(service.url("bob"), connect=service.connect) as bob:
            await bob.send_to_group("g", "hello")
            async with bob.subscribe("g") as messages:
                ann.send_to_group("g", "hello, too")
                assert (await anext(messages)).data == "hello, too"
            await asyncio.sleep(100)

    service.run(main())
    assert data(ann) == ["hello", "hello, too"]


def test_protobuf_clients_in_memory(service: VirtualService) -> None:
    session = service.client("ann", groups=("g",), options=Options(protocol=RELIABLE_PROTOBUF))
    session.start()

    async def main() -> None:
        async with Client(service.url("bob"), Options(protocol=PROTOBUF), connect=service.connect) as bob:
            async with bob.subscribe("g") as messages:
                session.send_to_group("g", {"a": 1})
                assert (await anext(messages)).data == {"a": 1}
            await bob.send_to_group("g", "hello")

    service.run(main())
    assert data(session) == [{"a": 1}, "hello"]
    assert any("send_to_group_message" in message.get("text", "") for message in session.sent)


def test_a_transport_in_memory_sends_text_and_binary(service: VirtualService) -> None:
    async def main() -> None:
        transport = await service.connect(Dial(1, RELIABLE_JSON, recovery=False, url=service.url()))
        assert '"connected"' in str(await transport.receive())
        for ping in ('{"type":"ping"}', b'{"type":"ping"}'):
            await transport.send(ping)
            assert await transport.receive() == '{"type":"pong"}'
        await transport.close(1000, "")

    service.run(main())


def test_a_refusing_network_and_a_wrong_token(service: VirtualService) -> None:
    async def main() -> None:
        service.refuse()
        options = Options(reconnect=Backoff(limit=0))
        for url, text in (
            (service.url(), "refuses"),
            ("ws://service.test/client/hubs/chat?access_token=x", "not one of this"),
        ):
            with pytest.raises(Exception, match=text):
                await Client(url, options, connect=service.connect).start()
            service.accept()

    service.run(main())


def test_a_client_without_the_connect_of_the_service_gets_a_hint() -> None:
    async def main(*, connect: bool) -> None:
        options = Options(reconnect=Backoff(limit=0))
        # A port that nothing listens on, in place of the service's name, which would be looked up.
        url = service.url().replace("service.test", "127.0.0.1:9")
        await Client(url, options, **({"connect": service.connect} if connect else {})).start()

    def notes(*, connect: bool) -> list[str]:
        with pytest.raises(ConnectError) as failed:
            service.run(main(connect=connect))
        return list(getattr(failed.value, "__notes__", ()))

    service = VirtualService()
    (note,) = notes(connect=False)
    assert note.endswith("Client(url, connect=service.connect)")
    assert notes(connect=True) == []


def test_events_of_refuses_what_is_no_event_of_a_client(ann: VirtualClient) -> None:
    kinds: dict[Any, str] = {
        trace.Acked: r"^trace\.Acked is an event of the service; a client has limpet\.Acked$",
        trace.Joined: r"^trace\.Joined is an event of the service; a client has the types of limpet$",
        "Acked": r"^an event type of limpet is needed, not 'Acked'$",
    }
    for kind, text in kinds.items():
        with pytest.raises(TypeError, match=text):
            ann.events_of(kind)
    ann.join_group("h")
    assert len(ann.events_of(Acked)) == 1


def test_waiting_for_what_will_never_happen_is_an_error(service: VirtualService) -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(RuntimeError, match="nothing will ever happen"):
        service.run(main())


def test_a_scenario_that_never_ends_is_given_up_where_it_waits(service: VirtualService) -> None:
    async def main() -> None:
        async with Client(service.url(), connect=service.connect) as client:
            async for _ in client:
                pass

    began = service.now
    with pytest.raises(TimeoutError, match=r"^the coroutine did not end within 3600 virtual seconds$") as caught:
        service.run(main(), limit=3600)
    assert service.now - began == 3600
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)
    assert "__anext__" in {entry.name for entry in traceback.extract_tb(caught.value.__cause__.__traceback__)}


def test_a_scenario_within_its_limit_keeps_its_result_and_its_own_timeouts(service: VirtualService) -> None:
    async def main() -> str:
        await asyncio.sleep(60)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.sleep(1)
        return "done"

    async def fails() -> None:
        raise TimeoutError("its own")

    assert service.run(main(), limit=60) == "done"
    with pytest.raises(TimeoutError, match="its own"):
        service.run(fails(), limit=60)


def test_healing_ends_every_fault_of_the_network_and_takes_a_lost_ack_back(
    service: VirtualService, ann: VirtualClient
) -> None:
    service.lose_ack()
    service.stall()
    service.refuse()
    service.heal()
    ann.session.join_group("g", service.now)
    service.settle()
    assert service.log.of(trace.ConnectionDropped) == []
    service.lose_ack()
    ann.session.leave_group("g", service.now)
    service.settle()
    assert len(service.log.of(trace.ConnectionDropped)) == 1


def test_the_same_run_twice_is_the_same() -> None:
    def run() -> Iterator[object]:
        service = VirtualService()
        chance = itertools.cycle((0.1, 0.7, 0.4))
        client = service.client(random=lambda: next(chance))
        client.start()
        for _ in range(20):
            service.refuse()
            service.cut()
            service.advance(7)
            service.accept()
            service.advance(31)
        yield from map(repr, client.events)  # errors are equal only to themselves
        yield from service.log
        yield service.now

    assert list(run()) == list(run())


VERBS = st.one_of(
    st.tuples(st.sampled_from(["publish", "send", "cut", "resume", "refuse", "accept", "lose_ack", "drop"])),
    st.tuples(st.just("stall"), st.sampled_from([None, "to_client", "to_service"])),
    st.tuples(st.just("advance"), st.sampled_from([0.0, 0.1, 1.0, 5.0, 20.0])),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(VERBS, max_size=40))
def test_whatever_the_network_does_messages_arrive_once_and_in_order_or_it_is_told(
    steps: list[tuple[Any, ...]],
) -> None:
    service = VirtualService()
    client = service.client(groups=("g",))
    client.start()
    published, asked = itertools.count(), 0
    for verb, *arguments in steps:
        match verb:
            case "publish":
                service.publish("g", [next(published)])
            case "send":
                asked += client.send_to_group("elsewhere", "x") is not None
            case "drop" if client.connection_id is not None:
                service.drop(client.connection_id)
            case "drop":
                pass
            case _:
                getattr(service, verb)(*arguments)
    service.resume()
    service.accept()
    service.advance(300)
    assert client.state is State.CONNECTED
    assert len(client.events_of(Acked)) == asked
    heard = data(client)
    assert heard == sorted(set(heard)), "in order, and none twice"
    if not client.events_of(Disconnected):
        assert heard == list(range(next(published)))
