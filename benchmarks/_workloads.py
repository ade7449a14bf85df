"""What the core does for each message, without sockets: for micro.py and ratios.py."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

import limpet
from limpet_core.protocol.json import decode
from limpet_core.protocol.protobuf._wire.webpubsub_pb2 import DownstreamMessage, MessageData
from limpet_core.protocol.protobuf.codec import decode as decode_protobuf

sys.path.append(str(Path(__file__).parents[1]))  # these are scripts
from simulation.inspect import see_up_to

BATCH = 1000
URL = "ws://bench.test/client/hubs/bench"
CONNECTED = b'{"type":"system","event":"connected","connectionId":"c","reconnectionToken":"t"}'


@dataclass(frozen=True)
class Workload:
    """Call ``run`` to do it ``count`` times."""

    name: str
    run: Callable[[], object]
    count: int


class WsprotoLink(limpet.Link):
    """A Link without the fast lane."""

    _fast_lane = False


def message(sequence_id: int, size: int) -> bytes:
    return (
        b'{"type":"message","from":"group","fromUserId":"ann","group":"bench","dataType":"text",'
        b'"data":"%b","sequenceId":%d}' % (b"x" * size, sequence_id)
    )


def protobuf_message(sequence_id: int, size: int) -> bytes:
    data = DownstreamMessage.DataMessage(group="bench", data=MessageData(text_data="x" * size), sequence_id=sequence_id)
    setattr(data, "from", "group")
    return DownstreamMessage(data_message=data).SerializeToString()


def protobuf_connected() -> bytes:
    connected = DownstreamMessage.SystemMessage.ConnectedMessage(connection_id="c", reconnection_token="t")
    system = DownstreamMessage.SystemMessage(connected_message=connected)
    return DownstreamMessage(system_message=system).SerializeToString()


def frame(message: bytes, *, binary: bool = False) -> bytes:
    """A whole unmasked frame."""
    size = len(message)
    first = b"\x82" if binary else b"\x81"
    if size < 126:
        return b"%b%c%b" % (first, size, message)
    length = b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big")
    return first + length + message


def connected(
    *, fast_lane: bool = True, binary: bool = False, options: limpet.Options | None = None
) -> tuple[limpet.Session, limpet.Link]:
    """A session that stands, and its link."""
    if options is None:
        options = limpet.Options(protocol=limpet.RELIABLE_PROTOBUF if binary else limpet.RELIABLE_JSON)
    session = limpet.Session(options, random=lambda: 0.5)
    session.start(0.0)
    session.url_ready(URL, 0.0)
    link = opened(session, protobuf_connected() if binary else CONNECTED, 0.0, fast_lane=fast_lane)
    session.events()
    link.data_to_send()
    return session, link


def opened(session: limpet.Session, first: bytes, now: float, *, fast_lane: bool = True) -> limpet.Link:
    """The link that the session wants, open; ``first`` is the service's first message."""
    assert session.dial is not None
    link = (limpet.Link if fast_lane else WsprotoLink)(session, session.dial, random_bytes=os.urandom)
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(b"".join(link.data_to_send()))
    request = next(event for event in server.events() if isinstance(event, Request))
    answer = server.send(AcceptConnection(subprotocol=request.subprotocols[0]))
    link.receive_data(answer + frame(first, binary=session.options.binary), now)
    assert session.state is limpet.State.CONNECTED
    return link


def receiving(name: str, size: int, *, fast_lane: bool = True, binary: bool = False) -> Workload:
    """A thousand group messages: bytes to events, with sequence ids and their acks."""
    session, link = connected(fast_lane=fast_lane, binary=binary)
    make = protobuf_message if binary else message
    # The same bytes again and again: what was seen before costs as much up to the last step, so ids go on by hand.
    data = b"".join(frame(make(number, size), binary=binary) for number in range(1, BATCH + 1))

    def run() -> None:
        see_up_to(session, 0)
        link.receive_data(data, 0.0)
        assert len(session.events()) == BATCH
        link.data_to_send()

    return Workload(name, run, BATCH)


def sending(name: str) -> Workload:
    """A thousand requests in flight, and their answers: call to frame, ack to outcome."""
    session, link = connected()
    ack = b'{"type":"ack","ackId":%d,"success":true}'

    def run() -> None:
        first = session.send_to_group("bench", "hello", 0.0) or 0
        for _ in range(BATCH - 1):
            session.send_to_group("bench", "hello", 0.0)
        answered = first
        while answered < first + BATCH:
            link.data_to_send()  # as many as may be in flight at a time
            upto = min(answered + BATCH // 2, first + BATCH)
            link.receive_data(b"".join(frame(ack % number) for number in range(answered, upto)), 0.0)
            answered = upto
        assert len(session.events()) == BATCH

    return Workload(name, run, BATCH)


def decoding(name: str, size: int, *, binary: bool = False) -> Workload:
    whole = protobuf_message(1, size) if binary else message(1, size)
    read = decode_protobuf if binary else decode

    def run() -> None:
        for _ in range(BATCH):
            read(whole)

    return Workload(name, run, BATCH)


def draining(name: str) -> Workload:
    """What a pump costs that finds nothing to do."""
    session, link = connected()

    def run() -> None:
        for _ in range(BATCH):
            session.events()
            link.data_to_send()

    return Workload(name, run, BATCH)


def all_workloads() -> list[Workload]:
    return [
        decoding("decode 32 B", 32),
        decoding("decode 32 B of protobuf", 32, binary=True),
        receiving("receive 32 B", 32),
        receiving("receive 32 B of protobuf", 32, binary=True),
        receiving("receive 32 B by wsproto", 32, fast_lane=False),
        receiving("receive 4 KiB", 4096),
        receiving("receive 4 KiB of protobuf", 4096, binary=True),
        receiving("receive 4 KiB by wsproto", 4096, fast_lane=False),
        sending("send and ack"),
        draining("drain nothing"),
    ]
