"""The fault schedule S1 to S19: what a service and a network can do wrong, one by one.

In every one: no request takes effect twice, messages keep their order without silent gaps, every send ends in time,
stop() is bounded, nothing is left behind (``run`` sees to that), and there is one Connected for each connection id.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.adapters.harness import GROUP, Log, options, run, soon, url_of, within
from tests.helpers.scripted import (
    BINARY,
    CONTINUATION,
    PING,
    TEXT,
    Message,
    Peer,
    Scripted,
    frame,
    group_message,
)

from holdfast import (
    JSON,
    ClientStopped,
    Connected,
    ConnectError,
    Disconnected,
    GroupMessage,
    MessagesMissed,
    Options,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    SendError,
    State,
    Stopped,
)
from holdfast._proxy import CuttingProxy
from holdfast.asyncio import Client
from holdfast.service import Service


class Ledger:
    """Executes requests as the service does: once for each ack id of a connection (client-spec 3.1.2)."""

    def __init__(self) -> None:
        self.executed: list[Any] = []
        self._seen: set[tuple[str, int]] = set()

    def execute(self, peer: Peer, message: Message) -> bool:
        """Execute a request unless it was; tell whether it was new."""
        key = peer.connection_id, message["ackId"]
        if key in self._seen:
            return False
        self._seen.add(key)
        self.executed.append(message.get("data", message.get("group")))
        return True

    def __call__(self, peer: Peer, message: Message) -> None:
        if self.execute(peer, message):
            peer.ack(message)
        else:
            peer.nack(message, "Duplicate")


def serve(peer: Peer, message: Message) -> None:
    """Say yes to everything."""
    if "ackId" in message:
        peer.ack(message)


class Scene:
    """A client with a scripted service, connected as c1."""

    def __init__(self, service: Scripted, client: Client, log: Log, peer: Peer) -> None:
        self.service, self.client, self.log, self.peer = service, client, log, peer
        self._tasks: list[asyncio.Task[Any]] = []

    def begin(self, coroutine: Any) -> asyncio.Task[Any]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.append(task)
        return task

    def numbers(self) -> list[int]:
        return [message.data for message in self.log.of(GroupMessage)]

    async def recovers(self) -> Peer:
        """The client comes back with its connection id; the service says nothing until it is asked."""
        self.peer = await self.service.recovers()
        return self.peer


@asynccontextmanager
async def scene(
    on_request: Callable[[Peer, Message], None] | None = None, provider: bool = True, **changes: Any
) -> AsyncIterator[Scene]:
    async with Scripted(on_request) as service:
        opts: Options = options(**changes)
        url = service.url
        client = Client((lambda: url) if provider else url, opts)
        log = Log(client)
        starting = asyncio.create_task(client.start())
        peer = await service.stands("c1", opts.protocol)
        await within(2, starting)
        it = Scene(service, client, log, peer)
        yield it
        await within(opts.close_timeout + 2, client.stop())
        for task in it._tasks:
            assert task.done(), f"{task} hangs though the client has stopped"
        await log.wait(Stopped)  # callbacks may still have to do with what was before it
        ids = [event.connection_id for event in log.of(Connected)]
        assert len(ids) == len(set(ids)), "two Connected for one connection id"
        assert len(log.of(Stopped)) == 1
        assert log.names()[-1] == "Stopped"


# --- S1, S2, S3: dropped and refused ------------------------------------------------------------------------------


def test_s01_reset_after_processing_before_the_ack() -> None:
    async def scenario() -> None:
        ledger = Ledger()
        async with scene() as it:
            sends = [it.begin(it.client.send_to_group(GROUP, number)) for number in range(5)]
            sends.append(it.begin(it.client.send_event("order", 5)))
            sends.append(it.begin(it.client.join_group("six")))
            first = [await it.peer.request() for _ in range(7)]
            for request in first[:4]:
                ledger.execute(it.peer, request)  # and no ack
            it.peer.reset()
            await it.recovers()
            again = [await it.peer.request() for _ in range(7)]
            assert again == first, "a repeat is the same to the letter, in the same order"
            for request in again:
                ledger(it.peer, request)
            acks = await within(2, asyncio.gather(*sends))
            assert [ack.duplicate for ack in acks] == [True] * 4 + [False] * 3
            assert ledger.executed == [0, 1, 2, 3, 4, 5, "six"]
            assert it.log.names() == ["Connected", "Recovering", "Recovered"]

    run(scenario)


def test_s01_again_and_again() -> None:
    async def scenario() -> None:
        ledger = Ledger()
        async with scene() as it:
            send = it.begin(it.client.send_to_group(GROUP, "once", ack_id=9, no_echo=True))
            for _ in range(4):
                request = await it.peer.request()
                assert (request["ackId"], request["noEcho"]) == (9, True)
                ledger.execute(it.peer, request)
                it.peer.reset()
                await it.recovers()
            ledger(it.peer, await it.peer.request())
            assert (await within(2, send)).duplicate
            assert ledger.executed == ["once"]

    run(scenario)


@pytest.mark.parametrize("reset", [False, True])
def test_s02_an_end_in_the_middle_of_a_burst(reset: bool) -> None:
    async def scenario() -> None:
        async with scene() as it:
            it.peer.deliver(*range(1, 51))
            it.peer.raw(frame(TEXT, json.dumps(group_message(51, 51)))[:30])
            await it.peer.until(lambda peer: peer.sequence_acks)
            it.peer.reset() if reset else it.peer.fin()
            peer = await it.recovers()
            # The client says at once how far it got; the service goes on from what it knows.
            await peer.until(lambda peer: peer.sequence_acks)
            assert peer.sequence_acks == [50]
            peer.deliver(*range(40, 80))
            await soon(lambda: len(it.numbers()) >= 79)
            assert it.numbers() == list(range(1, 80))
            assert not it.log.of(MessagesMissed)
            await peer.until(lambda peer: peer.sequence_acks[-1] == 79)

    run(scenario)


def test_s03_refused_connects_during_a_recovery() -> None:
    async def scenario() -> None:
        async with scene() as it:
            it.service.reset_next = 6
            it.peer.reset()
            await it.log.wait(Recovering)
            send = it.begin(it.client.send_to_group(GROUP, "in the outage"))
            quiet = it.begin(it.client.send_to_group(GROUP, "quiet", ack=False))
            peer = await it.recovers()
            assert (await peer.request())["data"] == "in the outage"
            assert (await peer.request())["data"] == "quiet"
            peer.ack(peer.received[-2])
            await within(2, asyncio.gather(send, quiet))
            assert len(it.service.peers) == 8
            assert it.log.names() == ["Connected", "Recovering", "Recovered"]

    run(scenario)


def test_s03_refused_connects_for_longer_than_a_connection_can_be_recovered() -> None:
    async def scenario() -> None:
        async with scene(recovery_timeout=0.1) as it:
            it.service.reset_next = 1_000_000
            it.peer.reset()
            await it.log.wait(Disconnected)
            assert it.client.state in (State.WAITING, State.CONNECTING)
            send = it.begin(it.client.send_to_group(GROUP, "waits"))
            await asyncio.sleep(0.1)
            assert not send.done()
            it.service.reset_next = 0
            peer = await it.service.stands("c2")
            peer.ack(await peer.request())
            await within(2, send)
            assert [event.connection_id for event in it.log.of(Connected)] == ["c1", "c2"]

    run(scenario)


def test_s03_the_service_is_gone_for_a_while() -> None:
    async def scenario() -> None:
        service = Service()
        await service.start()
        port = service.port
        now = [service]
        client = Client(lambda: url_of(now[0]), options(recovery_timeout=0.2))
        log = Log(client)
        await client.start()
        await client.join_group(GROUP)
        await service.stop()
        await log.wait(Disconnected)
        waiting = asyncio.create_task(client.send_to_group(GROUP, "hello"))
        await asyncio.sleep(0.2)
        async with Service(port=port) as another:
            now[0] = another
            await within(3, waiting)
            await log.wait(GroupMessage)  # it is in its group again
            assert client.state is State.CONNECTED
            await client.stop()

    run(scenario)


# --- S4, S5, S6: silence ------------------------------------------------------------------------------------------


def test_s04_accepted_but_never_upgraded() -> None:
    async def scenario() -> None:
        async with scene(recovery_timeout=0.9) as it:  # an attempt may take a third of it
            it.peer.reset()
            silent = await it.service.handshake()
            assert silent.query["awps_connection_id"] == ["c1"]
            peer = await it.recovers()
            assert await silent.gone() == 1006
            peer.deliver(1)
            await it.log.wait(GroupMessage)
            peer.reset()
            await it.service.handshake()
            await within(1, it.client.stop())

    run(scenario)


def test_s05_the_upgrade_comes_after_the_timeout() -> None:
    async def scenario() -> None:
        async with Scripted() as service:
            client = Client(service.url, options(connect_timeout=0.1))
            log = Log(client)
            starting = asyncio.create_task(client.start())
            late = await service.handshake()
            with pytest.raises(ConnectError, match="timed out"):
                await within(2, starting)
            late.upgrade()
            late.connected()
            await late.gone()
            await asyncio.sleep(0.05)
            assert client.state is State.STOPPED
            assert log.names() == ["Stopped"]
            starting = asyncio.create_task(client.start())
            await service.stands("c2")
            await within(2, starting)
            await client.stop()

    run(scenario)


@pytest.mark.parametrize("direction", [None, "to_client", "to_service"])
def test_s06_a_black_hole(direction: Any) -> None:
    async def scenario() -> None:
        async with Service() as service, CuttingProxy("127.0.0.1", service.port) as proxy:
            sender = Client(url_of(service), options())
            opts = options(keepalive_interval=0.05, keepalive_timeout=0.15, recovery_timeout=1.5)
            client = Client(url_of(service, port=proxy.port), opts)
            log = Log(client)
            async with sender, client:
                await client.join_group(GROUP)
                for number in range(10):
                    await sender.send_to_group(GROUP, number)
                await log.wait(GroupMessage, 10)
                proxy.stall(direction)
                for number in range(10, 20):
                    await sender.send_to_group(GROUP, number)
                # With one way open the pings of the service are heard: but nobody answers ours.
                sending = asyncio.create_task(client.send_to_group(GROUP, 20))
                if direction != "to_service":
                    await log.wait(Recovering)
                    assert "nothing was heard" in log.of(Recovering)[0].reason
                else:
                    await asyncio.sleep(0.3)
                proxy.cut()
                await asyncio.sleep(0.05)
                proxy.resume()
                await within(4, sending)
                await log.wait(GroupMessage, 21)
                assert [message.data for message in log.of(GroupMessage)] == list(range(21))
                assert len(log.of(Connected)) == 1

    run(scenario)


def test_s06_stop_in_a_black_hole_is_bounded() -> None:
    async def scenario() -> None:
        async with scene() as it:
            it.peer.deaf()
            it.peer.answers_close = False
            for number in range(200):  # more than the sockets take
                it.begin(it.client.send_to_group(GROUP, "x" * 100_000 + str(number), ack=False))
            await asyncio.sleep(0.05)
            asking = it.begin(it.client.send_to_group(GROUP, "x"))
            await asyncio.sleep(0)
            await within(2, it.client.stop())
            with pytest.raises(SendError) as caught:
                await within(1, asking)
            assert caught.value.outcome == "unsent"
            # Those that wait for room in the socket are told that the client is stopped.
            results = await within(1, asyncio.gather(*it._tasks, return_exceptions=True))
            assert {type(result) for result in results} <= {type(None), ClientStopped, SendError}

    run(scenario)


# --- S7, S8, S9: answers ------------------------------------------------------------------------------------------


def test_s07_acks_are_swallowed_while_pings_are_answered() -> None:
    async def scenario() -> None:
        async with scene(ack_timeout=0.05, keepalive_interval=0.02, keepalive_timeout=0.5) as it:
            send = it.begin(it.client.send_to_group(GROUP, "x"))
            with pytest.raises(SendError) as caught:
                await within(2, send)
            assert (caught.value.name, caught.value.outcome) == ("Timeout", "unknown")
            requests = [message for message in it.peer.received if message["type"] == "sendToGroup"]
            assert len(requests) == 4
            assert all(request == requests[0] for request in requests)
            assert requests[0]["ackId"] == caught.value.ack_id
            assert it.peer.pings > 1
            assert it.client.state is State.CONNECTED
            # The caller may go on under the same ack id.
            it.peer.on_request = lambda message: it.peer.nack(message, "Duplicate")
            assert (await within(2, it.client.send_to_group(GROUP, "x", ack_id=caught.value.ack_id))).duplicate

    run(scenario)


def test_s07_a_request_timeout_holds_in_every_state() -> None:
    async def scenario() -> None:
        async with scene(request_timeout=0.15, recovery_timeout=10.0) as it:
            sent = it.begin(it.client.send_to_group(GROUP, "sent"))
            await it.peer.request()
            it.service.reset_next = 1_000_000
            it.peer.reset()
            await it.log.wait(Recovering)
            unsent = it.begin(it.client.send_to_group(GROUP, "unsent"))
            for task, outcome in ((sent, "unknown"), (unsent, "unsent")):
                with pytest.raises(SendError) as caught:
                    await within(2, task)
                assert (caught.value.name, caught.value.outcome) == ("Timeout", outcome)

    run(scenario)


def test_s08_instant_acks_are_never_missed() -> None:
    async def scenario() -> None:
        async with scene(serve, ack_timeout=2.0) as it:
            async with asyncio.timeout(5):
                for number in range(1000):
                    await it.client.send_to_group(GROUP, number)
            # Answers to what nobody asked are no answers.
            it.peer.send(type="ack", ackId=4711, success=True)
            it.peer.send(type="ack", ackId=1, success=False)
            await it.client.send_to_group(GROUP, "x")
            sent = [message["data"] for message in it.peer.received if message["type"] == "sendToGroup"]
            assert sent == [*range(1000), "x"]

    run(scenario, debug=False)


@pytest.mark.parametrize("name", ["Forbidden", "BadRequest", "NotFound", "SomethingNew"])
def test_s09_a_refusal_for_good_is_not_repeated(name: str) -> None:
    async def scenario() -> None:
        async with scene() as it:
            for call in (it.client.join_group(GROUP), it.client.send_to_group(GROUP, 1), it.client.send_event("e", 1)):
                task = it.begin(call)
                it.peer.nack(await it.peer.request(), name, "because")
                with pytest.raises(SendError, match="because") as caught:
                    await within(2, task)
                assert (caught.value.name, caught.value.outcome) == (name, "rejected")
            await asyncio.sleep(0.06)
            assert it.peer.no_request()
            assert it.client.groups == frozenset()

    run(scenario)


def test_s09_an_internal_error_is_repeated_under_the_same_ack_id() -> None:
    async def scenario() -> None:
        async with scene() as it:
            for passes in (True, False):
                task = it.begin(it.client.send_to_group(GROUP, "x"))
                ids = []
                for _ in range(3):
                    request = await it.peer.request()
                    ids.append(request["ackId"])
                    it.peer.nack(request, "InternalServerError")
                request = await it.peer.request()
                if passes:
                    it.peer.ack(request)
                    assert (await within(2, task)).ack_id == request["ackId"]
                else:
                    it.peer.nack(request, "InternalServerError")
                    with pytest.raises(SendError) as caught:
                        await within(2, task)
                    assert (caught.value.name, caught.value.outcome) == ("InternalServerError", "rejected")
                assert set(ids) == {request["ackId"]}
            assert it.peer.no_request()

    run(scenario)


def test_s09_duplicate_means_done() -> None:
    async def scenario() -> None:
        async with scene() as it:
            task = it.begin(it.client.join_group(GROUP))
            it.peer.nack(await it.peer.request(), "Duplicate")
            assert (await within(2, task)).duplicate
            assert it.client.groups == {GROUP}

    run(scenario)


# --- S10, S11: bad messages and frames ----------------------------------------------------------------------------

UNKNOWN = [
    {"type": "future", "x": 1},
    {"type": "system", "event": "future"},
    {"type": "message", "from": "moon", "data": 1},
    {"type": "pong", "more": [1]},
    {"type": "ack", "ackId": 99, "success": True, "more": 1},
]

BROKEN = [
    "not json",
    "{}",
    "[]",
    "null",
    "",
    '{"type":7}',
    '{"type":"ack"}',
    '{"type":"ack","ackId":"1","success":true}',
    '{"type":"message","from":"group"}',
    '{"type":"message","from":"group","group":"g","dataType":"binary","data":"%%%","sequenceId":3}',
    '{"type":"system"}',
    "[" * 10_000,
]


def test_s10_messages_of_the_future_are_ignored() -> None:
    async def scenario() -> None:
        async with scene(serve) as it:
            it.peer.deliver(1)
            for message in UNKNOWN:
                it.peer.send(**message)
            it.peer.send(**group_message(2, {"x": 1}, dataType="future", more="fields"))
            it.peer.send(type="ack", ackId=98, success=False, error={"name": "X"})  # no message
            it.peer.deliver(3)
            await it.log.wait(GroupMessage, 3)
            assert it.numbers() == [1, {"x": 1}, 3]
            await it.client.send_to_group(GROUP, "x")
            assert it.log.names() == ["Connected"] + ["GroupMessage"] * 3

    run(scenario)


@pytest.mark.parametrize("text", BROKEN)
def test_s10_a_broken_message_closes_and_recovers(text: str) -> None:
    async def scenario() -> None:
        async with scene(serve) as it:
            it.peer.deliver(1, 2)
            it.peer.raw(frame(TEXT, text))
            it.peer.deliver(4, 5)  # on a transport that is given up
            assert await it.peer.gone() == 1007
            peer = await it.recovers()
            peer.deliver(3, 4, 5)
            await it.log.wait(GroupMessage, 5)
            assert it.numbers() == [1, 2, 3, 4, 5]
            assert (
                it.log.names()
                == ["Connected"] + ["GroupMessage"] * 2 + ["Recovering", "Recovered"] + ["GroupMessage"] * 3
            )
            await it.client.send_to_group(GROUP, "x")

    run(scenario)


def test_s10_a_message_that_is_broken_every_time_is_skipped_and_told() -> None:
    async def scenario() -> None:
        async with scene(serve) as it:
            poison = frame(TEXT, BROKEN[-3])
            it.peer.deliver(1, 2)
            it.peer.raw(poison)
            peer = await it.recovers()
            peer.deliver(2)
            peer.raw(poison)
            peer.deliver(4, 5)
            await it.log.wait(GroupMessage, 4)
            assert it.numbers() == [1, 2, 4, 5]
            (missed,) = it.log.of(MessagesMissed)
            assert (missed.first, missed.last) == (3, 3)
            assert it.log.names()[-3:] == ["MessagesMissed", "GroupMessage", "GroupMessage"]
            await peer.until(lambda peer: peer.sequence_acks and peer.sequence_acks[-1] == 5)

    run(scenario)


def test_s10_a_plain_client_shrugs() -> None:
    async def scenario() -> None:
        async with scene(serve, protocol=JSON) as it:
            for text in BROKEN:
                it.peer.raw(frame(TEXT, text))
            it.peer.send(**group_message(None, 1))
            await it.log.wait(GroupMessage)
            await it.client.send_to_group(GROUP, "x")
            assert it.log.names() == ["Connected", "GroupMessage"]

    run(scenario)


MESSAGE = json.dumps(group_message(2, "grün"), ensure_ascii=False).encode()

ILLEGAL = {
    "rsv1": (frame(TEXT, MESSAGE, rsv=4), 1002),
    "rsv2": (frame(TEXT, MESSAGE, rsv=2), 1002),
    "reserved opcode": (frame(3, MESSAGE), 1002),
    "lone continuation": (frame(CONTINUATION, MESSAGE), 1002),
    "fragmented ping": (frame(PING, b"x", fin=False), 1002),
    "long ping": (frame(PING, b"x" * 126), 1002),
    "interleaved messages": (frame(TEXT, b"a", fin=False) + frame(TEXT, b"b"), 1002),
    "bad utf-8": (frame(TEXT, b'{"type":"message","from":"group","group":"\xff"}'), 1007),
    "bad utf-8 in fragments": (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"("), 1007),
    "binary": (frame(BINARY, MESSAGE), 1003),
    "huge": (frame(TEXT, b"x" * 70_000), 1009),
    "huge in fragments": (
        frame(TEXT, b"x" * 30_000, fin=False) + frame(CONTINUATION, b"x" * 30_000, fin=False) * 3,
        1009,
    ),
    "announced to be huge": (bytes((0x81, 127)) + (1 << 40).to_bytes(8, "big"), 1009),
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_s11_illegal_frames_close_with_the_right_code_and_recover(name: str) -> None:
    data, code = ILLEGAL[name]

    async def scenario() -> None:
        async with scene(serve, max_message_size=65_536) as it:
            it.peer.deliver(1)
            it.peer.raw(data)
            assert await it.peer.gone() == code
            peer = await it.recovers()
            peer.deliver(1, 2)
            await it.log.wait(GroupMessage, 2)
            assert it.numbers() == [1, 2]
            await it.client.send_to_group(GROUP, "x")

    run(scenario)


def test_s11_fragments_with_pings_between_and_byte_by_byte() -> None:
    async def scenario() -> None:
        async with scene(serve) as it:
            it.peer.deliver(1)
            cut = MESSAGE.index("ü".encode()) + 1  # in the middle of a character
            fragments = [frame(TEXT, MESSAGE[:cut], fin=False), frame(CONTINUATION, MESSAGE[cut:])]
            it.peer.raw(frame(PING, b"1").join(fragments))
            third = json.dumps(group_message(3, "x" * 300))
            await it.peer.trickle(frame(PING) + frame(TEXT, third) + frame(PING, b"2"))
            pieces = [
                frame(TEXT if n == 0 else CONTINUATION, bytes((b,)), fin=False) for n, b in enumerate(b'{"type":')
            ]
            rest = json.dumps(group_message(4, 4)).replace('"sequenceId": 4, "type": ', '"message", "sequenceId": 4,')
            assert rest.startswith('{"message"')
            fourth = '"message",' + json.dumps({**group_message(4, 4), "type": None}).replace('"type": null, ', "")[1:]
            await it.peer.trickle(frame(PING).join(pieces) + frame(CONTINUATION, fourth))
            it.peer.deliver(5)
            await it.log.wait(GroupMessage, 5)
            assert it.numbers() == [1, "grün", "x" * 300, 4, 5]
            assert it.log.names() == ["Connected"] + ["GroupMessage"] * 5

    run(scenario)


def test_s11_a_large_message_in_small_segments() -> None:
    async def scenario() -> None:
        async with Service() as service, CuttingProxy("127.0.0.1", service.port) as proxy:
            proxy.segment = 1000
            proxy.delay = 0.002
            async with Client(url_of(service, port=proxy.port), options()) as client:
                log = Log(client, GroupMessage)
                await client.join_group(GROUP)
                for size in (1, 124, 125, 126, 65_500, 65_536, 300_000):
                    await client.send_to_group(GROUP, "ü" * size)
                await log.wait(GroupMessage, 7)
                assert [len(m.data) for m in log.of(GroupMessage)] == [1, 124, 125, 126, 65_500, 65_536, 300_000]

    run(scenario)


# --- S12, S13, S14: recovery and sequence ids ---------------------------------------------------------------------


@pytest.mark.parametrize("at_once", [True, False])
def test_s12_1008_ends_the_connection(at_once: bool) -> None:
    async def scenario() -> None:
        async with scene() as it:
            joining = it.begin(it.client.join_group("a"))
            it.peer.ack(await it.peer.request())
            await joining
            publish = it.begin(it.client.send_to_group(GROUP, "unknown"))
            join = it.begin(it.client.join_group("b"))
            leave = it.begin(it.client.leave_group("c"))
            for _ in range(3):
                await it.peer.request()
            if at_once:
                it.peer.close(1008, "no")
            else:
                it.peer.reset()
                await it.log.wait(Recovering)
                waiting = it.begin(it.client.send_to_group(GROUP, "never sent before"))
                (await it.recovers()).close(1008, "no")
            peer = await it.service.stands("c2")
            with pytest.raises(SendError) as caught:
                await within(2, publish)
            assert (caught.value.name, caught.value.outcome) == ("ConnectionLost", "unknown")
            requests = [await peer.request() for _ in range(3 if at_once else 4)]
            asked = {(request["type"], request["group"]) for request in requests}
            assert asked >= {("joinGroup", "a"), ("joinGroup", "b"), ("leaveGroup", "c")}
            for request in requests:
                peer.ack(request)
            await within(2, asyncio.gather(join, leave))
            if not at_once:
                await within(2, waiting)
                assert requests[-1]["data"] == "never sent before"
            assert it.client.groups == {"a", "b"}
            (lost,) = it.log.of(Disconnected)
            assert (lost.connection_id, lost.code, lost.reason) == ("c1", 1008, "no")
            peer.deliver(1)  # a new connection counts from 1 again
            await it.log.wait(GroupMessage)

    run(scenario)


def test_s13_a_burst_of_3000_with_a_cap_of_1000_unacknowledged() -> None:
    async def scenario() -> None:
        async with Service() as service:
            sender, client = (Client(url_of(service), options()) for _ in range(2))
            log = Log(client)
            async with sender, client:
                await client.join_group(GROUP)
                acks = await asyncio.gather(*(sender.send_to_group(GROUP, number) for number in range(3000)))
                assert len(acks) == 3000
                await log.wait(GroupMessage, 3000)
                assert [message.data for message in log.of(GroupMessage)] == list(range(3000))
                assert log.names() == ["Connected"] + ["GroupMessage"] * 3000

    run(scenario, debug=False)


def test_s13_acks_come_by_count_by_size_and_by_time() -> None:
    async def scenario() -> None:
        async with scene(sequence_ack_messages=100, sequence_ack_bytes=50_000, sequence_ack_interval=0.2) as it:
            for number in range(1, 3001):
                it.peer.deliver(number)
                if number % 500 == 0:
                    await it.log.wait(GroupMessage, number)
                    await it.peer.until(lambda peer, number=number: peer.sequence_acks[-1:] == [number])  # type: ignore[misc]
            steps = zip([0, *it.peer.sequence_acks], it.peer.sequence_acks, strict=False)
            # A read from the socket may bring more than 100; never may 1000 be unacknowledged.
            assert max(after - before for before, after in steps) <= 600
            it.peer.send(**group_message(3001, "x" * 60_000))
            await it.peer.until(lambda peer: peer.sequence_acks[-1] == 3001)
            it.peer.deliver(3002)
            await it.peer.until(lambda peer: peer.sequence_acks[-1] == 3002)

    run(scenario, debug=False)


@pytest.mark.parametrize("burst", [1500, 4000])
def test_s13_a_burst_of_requests_to_a_group_of_ones_own(burst: int) -> None:
    """What comes back is acknowledged behind what is still to be sent: that must stay below the cap, too."""

    async def scenario() -> None:
        async with Service() as service, Client(url_of(service), options()) as client:
            log = Log(client)
            await client.join_group(GROUP)
            acks = await asyncio.gather(
                *(client.send_to_group(GROUP, number) for number in range(burst)), return_exceptions=True
            )
            assert [ack for ack in acks if isinstance(ack, Exception)] == []
            await log.wait(GroupMessage, burst)
            assert [message.data for message in log.of(GroupMessage)] == list(range(burst))
            assert not log.of(Disconnected)

    run(scenario, debug=False)


def test_s14_ids_seen_before_are_dropped_and_acknowledged() -> None:
    async def scenario() -> None:
        async with scene() as it:
            it.peer.deliver(1, 2, 3)
            await it.peer.until(lambda peer: peer.sequence_acks[-1:] == [3])
            it.peer.deliver(1, 2, 3, 3)
            await it.peer.until(lambda peer: len(peer.sequence_acks) > 1)
            assert it.peer.sequence_acks[-1] == 3
            it.peer.deliver(2, 4)
            await it.peer.until(lambda peer: peer.sequence_acks[-1] == 4)
            assert it.numbers() == [1, 2, 3, 4]
            it.peer.deliver(8)  # a gap is told
            await it.log.wait(GroupMessage, 5)
            (missed,) = it.log.of(MessagesMissed)
            assert (missed.first, missed.last) == (5, 7)
            assert it.log.names()[-2:] == ["MessagesMissed", "GroupMessage"]

    run(scenario)


# --- S15: stop() in every state -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["connected", "recovering", "recovering open", "waiting", "connecting", "stopping"])
def test_s15_stop_in_every_state(state: str) -> None:
    async def scenario() -> None:
        async with scene(recovery_timeout=0.05 if state in ("waiting", "connecting") else 5.0) as it:
            sent = it.begin(it.client.send_to_group(GROUP, "sent"))
            await it.peer.request()
            stops = 1
            if state == "recovering":
                it.service.reset_next = 1_000_000
                it.peer.reset()
                await it.log.wait(Recovering)
            elif state == "recovering open":
                it.peer.reset()
                peer = await it.service.handshake()
                peer.pongs = False
                peer.upgrade()
                await peer.until(lambda peer: peer.pings)
            elif state in ("waiting", "connecting"):
                it.service.reset_next = 1_000_000
                it.peer.reset()
                await it.log.wait(Disconnected)
                if state == "connecting":
                    it.service.reset_next = 0
                    await it.service.handshake()
            elif state == "stopping":
                it.peer.answers_close = False
                stops = 3
            unsent = it.begin(it.client.send_to_group(GROUP, "unsent")) if state in ("recovering", "waiting") else None
            await asyncio.sleep(0)
            before = len(it.service.peers)
            await within(2, asyncio.gather(*(it.client.stop() for _ in range(stops))))
            assert it.client.state is State.STOPPED
            with pytest.raises(SendError) as caught:
                await within(1, sent)
            assert caught.value.outcome == "unknown"
            if unsent is not None:
                with pytest.raises(SendError) as caught:
                    await within(1, unsent)
                assert (caught.value.name, caught.value.outcome) == ("Stopped", "unsent")
            it.service.reset_next = 0
            await asyncio.sleep(0.1)
            assert len(it.service.peers) <= before + 1  # one may have been on its way, none comes later
            assert it.client.state is State.STOPPED

    run(scenario)


# --- S16: handlers ------------------------------------------------------------------------------------------------


def test_s16_handlers_of_every_kind_harm_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with scene(serve, recovery_timeout=0.2) as it:
            slow: list[int] = []

            def throws(event: Any) -> None:
                raise RuntimeError("handler")

            async def throws_later(event: Any) -> None:
                await asyncio.sleep(0.001)
                raise RuntimeError("handler")

            async def sends(event: Any) -> None:
                if it.client.state is State.CONNECTED:
                    await it.client.send_to_group("other", "from a handler")

            async def slowly(event: GroupMessage) -> None:
                await asyncio.sleep(0.002)
                slow.append(event.data)

            def generates(event: Any) -> Any:  # the wrong kind: nobody iterates over what it returns
                yield event

            for kind in (Connected, Recovering, Recovered, Disconnected, GroupMessage, Stopped):
                for handler in (throws, throws_later, generates, sends, lambda: "no argument", int):
                    it.client.on(kind, handler)
            it.client.on(GroupMessage, slowly)
            it.peer.deliver(*range(1, 20))
            it.peer.reset()
            peer = await it.recovers()
            peer.deliver(*range(15, 41))
            await it.log.wait(GroupMessage, 40)
            peer.close(1008)
            peer = await it.service.stands("c2")
            peer.deliver(1, 2)
            await soon(lambda: len(slow) == 42)
            assert slow == it.numbers() == [*range(1, 41), 1, 2]
            assert it.client.state is State.CONNECTED

    with caplog.at_level(logging.CRITICAL, "holdfast"):
        run(scenario)


# --- S17: groups --------------------------------------------------------------------------------------------------


def test_s17_rejoins_that_are_lost_or_refused() -> None:
    async def scenario() -> None:
        groups = ("fine", "refused", "shaky", "lost")
        async with scene(serve, ack_timeout=0.1) as it:
            for group in groups:
                await it.client.join_group(group)
            it.service.on_request = None
            it.peer.close(1008)
            peer = await it.service.stands("c2")
            await it.log.wait(Connected, 2)  # does not wait for the rejoins
            requests = {request["group"]: request for request in [await peer.request() for _ in range(4)]}
            assert tuple(requests) == groups
            peer.ack(requests["fine"])
            peer.nack(requests["refused"], "Forbidden", "not you")
            peer.nack(requests["shaky"], "InternalServerError")
            (failed,) = [await it.log.wait(RejoinGroupFailed)]
            assert (failed.group, failed.error.name) == ("refused", "Forbidden")
            again = [await peer.request(), await peer.request()]
            assert {(request["group"], request["ackId"]) for request in again} == {
                ("shaky", requests["shaky"]["ackId"]),
                ("lost", requests["lost"]["ackId"]),
            }
            for request in again:
                if request["group"] == "shaky":
                    peer.ack(request)
            failed = await it.log.wait(RejoinGroupFailed, 2)
            assert (failed.group, failed.error.name, failed.error.outcome) == ("lost", "Timeout", "unknown")
            assert it.client.groups == {"fine", "shaky", "lost"}
            assert it.client.state is State.CONNECTED

    run(scenario)


def test_s17_no_rejoin_after_a_recovery_nor_when_it_is_not_wanted() -> None:
    async def scenario() -> None:
        async with scene(serve, auto_rejoin_groups=False) as it:
            await it.client.join_group(GROUP)
            it.peer.reset()
            peer = await it.recovers()
            await it.log.wait(Recovered)
            peer.close(1008)
            other = await it.service.stands("c2")
            await it.log.wait(Connected, 2)
            await it.client.send_to_group(GROUP, "x")
            kinds = [message["type"] for message in peer.received + other.received]
            assert "joinGroup" not in kinds
            assert it.client.groups == frozenset()

    run(scenario)


# --- S18, S19: close and tokens -----------------------------------------------------------------------------------


def test_s18_a_close_that_is_never_answered() -> None:
    async def scenario() -> None:
        async with scene(close_timeout=0.1) as it:
            it.peer.answers_close = False
            it.peer.deliver(1, 2)
            await it.log.wait(GroupMessage, 2)
            waiting = it.begin(it.client.send_to_group(GROUP, "x"))
            stopping = it.begin(it.client.stop())
            await it.peer.until(lambda peer: peer.close_code)
            assert it.peer.close_code == 1000
            assert it.peer.sequence_acks[-1] == 2  # before a deliberate close
            with pytest.raises(SendError):
                await within(0.5, waiting)
            await within(1, stopping)
            assert await it.peer.gone() == 1000

    run(scenario)


def test_s19_an_expired_token_does_not_matter_for_a_recovery() -> None:
    async def scenario() -> None:
        asked = 0
        async with Scripted(serve) as service:

            def provider() -> str:
                nonlocal asked
                asked += 1
                return service.url.replace("SECRET", f"token-{asked}") + "&a=&b=1&b=2"

            client = Client(provider, options())
            log = Log(client)
            starting = asyncio.create_task(client.start())
            peer = await service.stands()
            await starting
            for _ in range(3):
                peer.reset()
                peer = await service.recovers()
                await soon(lambda: client.state is State.CONNECTED)
                assert peer.query["access_token"] == ["token-1"]
                assert peer.query["b"] == ["1", "2"]
            await log.wait(Recovered, 3)
            assert asked == 1
            peer.close(1008)
            refused = await service.handshake()
            assert refused.query["access_token"] == ["token-2"]
            refused.refuse(401, "expired")  # the provider may do better next time
            peer = await service.stands("c2")
            await log.wait(Connected, 2)
            assert peer.query["access_token"] == ["token-3"]
            await client.stop()

    run(scenario)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_s19_an_expired_token_of_a_fixed_url_ends_with_a_clear_error(status: int) -> None:
    async def scenario() -> None:
        async with scene(provider=False) as it:
            reader = it.begin(anext(aiter(it.client)))
            await asyncio.sleep(0)
            it.peer.close(1008)
            (await it.service.handshake()).refuse(status, "token expired")
            stopped = await it.log.wait(Stopped)
            assert isinstance(stopped.error, ConnectError)
            assert stopped.error.status == status
            assert "token expired" in str(stopped.error)
            assert "SECRET" not in str(stopped.error)
            with pytest.raises(ConnectError, match="token expired"):
                await within(1, reader)
            with pytest.raises(Exception, match="stopped"):
                await it.client.send_to_group(GROUP, "x")

    run(scenario)
