"""The core layer by layer, for icount.py: what a message costs to cut, decode, put in order, encode, frame, settle."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from _workloads import BATCH, Workload, connected, frame, message, protobuf_message
from simulation.inspect import see_up_to, wake_requests
from wsproto.connection import Connection, ConnectionType
from wsproto.events import TextMessage

import limpet
from limpet_core.client.frames import cut_messages
from limpet_core.client.masking import Masker

LARGE = 16
"""Messages of 64 KiB in a round: they come in reads of 256 KiB, so that one in four is cut in two."""

READ = 1 << 18
HALF = BATCH // 2
"""As many requests as may be in flight at a time."""

MANY = 5000
ROUNDS = 10
"""Sessions for workloads that use one up; icount.py runs fewer."""

ACK = b'{"type":"ack","ackId":%d,"success":true}'


def cutting(name: str, size: int, *, binary: bool = False) -> Workload:
    """The payloads out of the bytes, without anything behind."""
    make = protobuf_message if binary else message
    data = b"".join(frame(make(number, size), binary=binary) for number in range(1, BATCH + 1))

    def run() -> None:
        messages: list[Any] = []
        assert cut_messages(data, 0, 1 << 25, messages, binary=binary) == len(data)

    return Workload(name, run, BATCH)


def session_alone(name: str, size: int, *, binary: bool = False) -> Workload:
    """Whole messages to events: decoding, sequence ids and their acks."""
    session, link = connected(binary=binary)
    make = protobuf_message if binary else message
    messages = [make(number, size) for number in range(1, BATCH + 1)]

    def run() -> None:
        see_up_to(session, 0)
        session.receive_messages(messages, 0.0)
        assert len(session.events()) == BATCH
        link.data_to_send()

    return Workload(name, run, BATCH)


def one_a_read(name: str, size: int) -> Workload:
    """Each message in a read of its own, with the drain behind it, as a paced sender makes it."""
    session, link = connected()
    reads = [frame(message(number, size)) for number in range(1, BATCH + 1)]

    def run() -> None:
        see_up_to(session, 0)
        for data in reads:
            link.receive_data(data, 0.0)
            link.data_to_send()
            assert len(session.events()) == 1

    return Workload(name, run, BATCH)


def large(name: str) -> Workload:
    """Messages of 64 KiB, with the frames that a read ends in."""
    session, link = connected()
    data = b"".join(frame(message(number, 1 << 16)) for number in range(1, LARGE + 1))
    reads = [data[at : at + READ] for at in range(0, len(data), READ)]

    def run() -> None:
        see_up_to(session, 0)
        for read in reads:
            link.receive_data(read, 0.0)
        assert len(session.events()) == LARGE
        link.data_to_send()

    return Workload(name, run, LARGE)


def sending_up_to(name: str, last: str, *, options: limpet.Options | None = None) -> Workload:
    """Half a thousand requests in flight, from the call to the step ``last``; each round has a session of its own."""
    fresh = [connected(options=options) for _ in range(ROUNDS)]
    masker = Masker(os.urandom)
    acks = [ACK % number for number in range(1, HALF + 1)]

    def run() -> None:
        session, _ = fresh.pop()
        for _ in range(HALF):
            session.send_to_group("bench", "hello", 0.0)
        if last == "call":
            return
        messages = session.messages_to_send()
        if last == "take":
            return
        masker.frames(messages, lambda payload: payload)
        if last == "frame":
            return
        session.receive_messages(acks, 0.0)
        assert len(session.events()) == HALF

    return Workload(name, run, HALF)


def sending_in_turn(name: str, *, size: int = 5, options: limpet.Options | None = None) -> Workload:
    """One request after the other: call, drain, ack, drain."""
    session, link = connected(options=options)
    data = "x" * size

    def run() -> None:
        for _ in range(BATCH):
            key = session.send_to_group("bench", data, 0.0)
            session.events()
            link.data_to_send()
            link.receive_data(frame(ACK % key), 0.0)
            assert len(session.events()) == 1
            link.data_to_send()

    return Workload(name, run, BATCH)


def masking(name: str, size: int) -> Workload:
    """Frames for the transport, masked."""
    payloads = [message(number, size) for number in range(1, BATCH + 1)]
    masker = Masker(os.urandom)
    wsproto = Connection(ConnectionType.CLIENT)

    def run() -> None:
        masker.frames(payloads, lambda payload: wsproto.send(TextMessage(data=payload.decode())))

    return Workload(name, run, BATCH)


def waking(name: str) -> Workload:
    """A timer of the requests that finds nothing due, while thousands wait for their answer and may time out."""
    session, link = connected(options=limpet.Options(request_timeout=30.0))
    for _ in range(MANY):
        session.send_to_group("bench", "hello", 0.0)
    link.data_to_send()

    def run() -> None:
        for _ in range(BATCH // 10):
            wake_requests(session, 1.0)

    return Workload(name, run, BATCH // 10)


def listing(name: str) -> Workload:
    """The groups of a client that has joined thousands."""
    session, link = connected()
    for number in range(MANY):
        key = session.join_group(f"group-{number}", 0.0)
        link.data_to_send()
        link.receive_data(frame(ACK % key), 0.0)
        session.events()

    def run() -> None:
        for _ in range(BATCH // 10):
            assert len(session.groups) == MANY

    return Workload(name, run, BATCH // 10)


Layer = Callable[[str], Workload]
RECEIVING: list[tuple[str, Layer]] = [
    ("cut frames, 32 B", lambda name: cutting(name, 32)),
    ("cut frames, 32 B of protobuf", lambda name: cutting(name, 32, binary=True)),
    ("session, 32 B", lambda name: session_alone(name, 32)),
    ("session, 32 B of protobuf", lambda name: session_alone(name, 32, binary=True)),
    ("one message a read, 32 B", lambda name: one_a_read(name, 32)),
    ("receive 64 KiB", large),
]
SENDING: list[tuple[str, Layer]] = [
    ("send: call", lambda name: sending_up_to(name, "call")),
    ("send: call, take", lambda name: sending_up_to(name, "take")),
    ("send: call, take, frame", lambda name: sending_up_to(name, "frame")),
    ("send: call, take, frame, ack", lambda name: sending_up_to(name, "ack")),
    ("send one after another", sending_in_turn),
    ("send 4 KiB one after another", lambda name: sending_in_turn(name, size=4096)),
    ("mask 150 B", lambda name: masking(name, 50)),
    ("mask 1,000 B", lambda name: masking(name, 900)),
    ("mask 4 KiB", lambda name: masking(name, 4096)),
]
GROWING: list[tuple[str, Layer]] = [
    (f"wake, {MANY:,} requests with request_timeout", waking),
    (f"client.groups, {MANY:,} groups", listing),
]


def all_layers() -> dict[str, Callable[[], Workload]]:
    """The layers by their names, each to be set up when it is run."""
    return {name: partial(layer, name) for name, layer in RECEIVING + SENDING + GROWING}
