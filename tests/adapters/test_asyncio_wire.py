"""What the asyncio client puts on the wire, to the letter, before a service that does what ours would never do.

In each of these every send ends in time, stop() is bounded, nothing is left behind (``run`` sees to that), and there
is one Connected for each connection id.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.adapters.harness import GROUP, Log, bounded, options, run, soon
from tests.helpers.frames import BINARY, CONTINUATION, PING, TEXT, frame
from tests.helpers.scripted import Message, Peer, Scripted, group_message
from tests.helpers.waiting import skip

from limpet import (
    ClientStopped,
    Connected,
    Disconnected,
    GroupMessage,
    InvalidType,
    MessagesMissed,
    Options,
    Recovered,
    Recovering,
    SendError,
    State,
    Stopped,
)
from limpet.asyncio import Client


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
        peer = await service.establishes("c1", opts.protocol)
        await bounded(starting)
        it = Scene(service, client, log, peer)
        yield it
        await bounded(client.stop())
        for task in it._tasks:
            assert task.done(), f"{task} hangs though the client has stopped"
        await log.wait(Stopped)  # callbacks may still have to do with what was before it
        ids = [event.connection_id for event in log.of(Connected)]
        assert len(ids) == len(set(ids)), "two Connected for one connection id"
        assert len(log.of(Stopped)) == 1
        assert log.names()[-1] == "Stopped"


# --- Dropped


def test_reset_after_processing_before_the_ack() -> None:
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
            acks = await bounded(asyncio.gather(*sends))
            assert [ack.duplicate for ack in acks] == [True] * 4 + [False] * 3
            assert ledger.executed == [0, 1, 2, 3, 4, 5, "six"]
            assert it.log.names() == ["Connected", "Recovering", "Recovered"]

    run(scenario)


@pytest.mark.parametrize("reset", [False, True])
def test_an_end_in_the_middle_of_a_burst(reset: bool) -> None:
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


# --- Silence


def test_accepted_but_never_upgraded() -> None:
    async def scenario() -> None:
        async with scene(connect_timeout=6.0, recovery_timeout=60.0) as it:
            it.peer.reset()
            silent = await it.service.handshake()
            await skip(6.0)
            assert silent.query["awps_connection_id"] == ["c1"]
            peer = await it.recovers()
            assert await silent.gone() == 1006
            peer.deliver(1)
            await it.log.wait(GroupMessage)
            peer.reset()
            await it.service.handshake()
            await bounded(it.client.stop())

    run(scenario)


def test_a_stop_settles_sends_that_wait_for_room_in_a_full_socket() -> None:
    async def scenario() -> None:
        async with scene(close_timeout=0.1) as it:
            it.peer.stop_reading()
            it.peer.answers_close = False
            for number in range(200):  # more than the sockets take
                it.begin(it.client.send_to_group(GROUP, "x" * 100_000 + str(number), ack=False))
            await asyncio.sleep(0.05)
            asking = it.begin(it.client.send_to_group(GROUP, "x"))
            await asyncio.sleep(0)
            await bounded(it.client.stop())
            with pytest.raises(SendError) as caught:
                await bounded(asking)
            assert caught.value.outcome == "unsent"
            # Those that wait for room in the socket are told that the client is stopped.
            results = await bounded(asyncio.gather(*it._tasks, return_exceptions=True))
            assert {type(result) for result in results} <= {type(None), ClientStopped, SendError}

    run(scenario)


# --- Bad messages and frames


@pytest.mark.parametrize("text", ["not json", "[" * 10_000])
def test_a_broken_message_closes_and_recovers(text: str) -> None:
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


MESSAGE = json.dumps(group_message(2, "grün"), ensure_ascii=False).encode()


ILLEGAL = {
    "rsv1": (frame(TEXT, MESSAGE, reserved=4), 1002),
    "rsv2": (frame(TEXT, MESSAGE, reserved=2), 1002),
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
def test_illegal_frames_close_with_the_right_code_and_recover(name: str) -> None:
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


def test_fragments_with_pings_between_and_byte_by_byte() -> None:
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


# --- Stop, and callbacks


@pytest.mark.parametrize("state", ["recovering", "connecting", "stopping"])
def test_stop_while_a_transport_is_half_open(state: str) -> None:
    async def scenario() -> None:
        async with scene(recovery_timeout=0.05 if state == "connecting" else 60.0, close_timeout=0.1) as it:
            sent = it.begin(it.client.send_to_group(GROUP, "sent"))
            await it.peer.request()
            if state == "recovering":
                it.peer.reset()
                peer = await it.service.handshake()
                peer.pongs = False
                peer.upgrade()
                await peer.until(lambda peer: peer.pings)
            elif state == "connecting":
                it.service.reset_next = 1_000_000
                it.peer.reset()
                await it.log.wait(Disconnected)
                it.service.reset_next = 0
                await it.service.handshake()
            else:
                it.peer.answers_close = False
            before = len(it.service.peers)
            await bounded(asyncio.gather(*(it.client.stop() for _ in range(3))))
            assert it.client.state is State.STOPPED
            with pytest.raises(SendError) as caught:
                await bounded(sent)
            assert caught.value.outcome == "unknown"
            await asyncio.sleep(0.1)
            assert len(it.service.peers) <= before + 1  # one may have been on its way, none comes later
            assert it.client.state is State.STOPPED

    run(scenario)


def test_a_close_that_is_never_answered() -> None:
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
                await bounded(waiting)
            await bounded(stopping)
            assert await it.peer.gone() == 1000

    run(scenario)


def test_handlers_of_every_kind_harm_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with scene(serve) as it:
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
                for handler in (throws, throws_later, generates, sends, int):
                    it.client.on(kind, handler)
                with pytest.raises(InvalidType, match="as its one argument"):
                    it.client.on(kind, lambda: "no argument")
            it.client.on(GroupMessage, slowly)
            it.peer.deliver(*range(1, 20))
            it.peer.reset()
            peer = await it.recovers()
            peer.deliver(*range(15, 41))
            await it.log.wait(GroupMessage, 40)
            peer.close(1008)
            peer = await it.service.establishes("c2")
            peer.deliver(1, 2)
            await soon(lambda: len(slow) == 42)
            assert slow == it.numbers() == [*range(1, 41), 1, 2]
            assert it.client.state is State.CONNECTED

    with caplog.at_level(logging.CRITICAL, "limpet"):
        run(scenario)
