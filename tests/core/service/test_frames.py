"""Frames for clients: held equal to the messages in them, and read by another implementation of WebSockets."""

from __future__ import annotations

import json
import math
from typing import cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.core.service.virtual import ServiceUnderTest
from wsproto.frame_protocol import FrameProtocol, Opcode

from limpet_core.service import RELIABLE_JSON, Binary, ClientGrant, Limits, Publication, RawMode, group_publication
from limpet_core.service.connections.connection import Connection
from limpet_core.service.connections.transport import Transport
from limpet_core.service.wire.frames import frame_of, message_of

PROTOBUF = "protobuf.reliable.webpubsub.azure.v1"
ROOM = ("room",)

# Where the heads of frames become longer, and the ways of making them differ.
SIZES = (0, 1, 125, 126, 127, 65535, 65536, 70000)


def published(text: str) -> Publication:
    return group_publication("room", "ann", "text", json.dumps(text).encode())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", [bytes, Binary])
def test_a_frame_is_what_a_client_reads(size: int, kind: type[bytes]) -> None:
    message = kind(b"%" * size)
    protocol = FrameProtocol(client=True, extensions=[])
    protocol.receive_bytes(frame_of(message))
    pieces: list[bytes] = []
    opcodes: list[Opcode] = []
    for frame in protocol.received_frames():
        opcodes.append(frame.opcode)
        pieces.append(
            bytes(frame.payload, "utf-8") if isinstance(frame.payload, str) else bytes(cast(bytes, frame.payload))
        )
        assert frame.message_finished
    assert b"".join(pieces) == message
    assert opcodes == [Opcode.BINARY if kind is Binary else Opcode.TEXT]
    back = message_of(frame_of(message))
    assert (back, type(back)) == (message, kind)


@given(
    st.one_of(st.text(max_size=60), st.sampled_from(["x", "%", "%d", "é"]).map(lambda text: text * 150)),
    st.lists(st.integers(0, 5).flatmap(lambda digits: st.integers(1, 10**digits)), max_size=8),
    st.integers(0, 400),
)
@example("", [9, 10, 9, 99, 100, 1, 1000, 999], 0)
@example("%", [9, 10, 9, 99, 100, 1, 1000, 999], 0)
@example("x" * 65_400, [1, 10, 100, 1000, 10_000, 100_000, 1], 0)
def test_the_quick_ways_make_the_frames_of_the_general_one(text: str, ids: list[int], more: int) -> None:
    publication = published(text + "x" * more)
    assert publication.frame() == frame_of(publication.plain)
    for sequence_id in ids:
        general = frame_of(b'{"sequenceId":%d,%b' % (sequence_id, publication.plain[1:]))
        assert publication.numbered_frame(sequence_id) == general


@pytest.mark.parametrize("length", range(285, 410))
@pytest.mark.parametrize("filler", ["x", "%"])
def test_each_length_of_a_numbered_frame_is_right(length: int, filler: str) -> None:
    publication = published(filler * (length - len(published("").plain)))
    assert publication.size == length
    for sequence_id in (1, 9, 10, 12345):
        general = frame_of(b'{"sequenceId":%d,%b' % (sequence_id, publication.plain[1:]))
        assert publication.numbered_frame(sequence_id) == general


def test_whole_frames_are_the_messages_that_have_not_expired() -> None:
    def filled() -> list[Transport]:
        service = ServiceUnderTest()
        kinds = ("json.webpubsub.azure.v1", RELIABLE_JSON, PROTOBUF)
        members = [service.connect(subprotocol=kind, groups=ROOM) for kind in kinds]
        members.append(service.connect(raw=RawMode(), groups=ROOM))
        publisher = service.connect(subprotocol="json.webpubsub.azure.v1")
        for number, data in enumerate([{"dataType": "text", "data": "x"}, {"dataType": "binary", "data": "AP8="}]):
            publisher.send({"type": "sendToGroup", "group": "room", "ttlSeconds": 1 + number, **data})
        publisher.publish({"%d": "é" * 200})
        return [member.transport for member in members]

    for after, left in ((0.0, 3), (1.5, 2), (2.5, 1)):
        for number, (framed, plain) in enumerate(zip(filled(), filled(), strict=True)):
            now = ServiceUnderTest().now + after
            frames, messages = framed.frames_to_send(now), plain.messages_to_send(now)
            assert [message_of(frame) for frame in frames][1:] == messages[1:]  # the first has another token
            assert [frame_of(message) for message in messages][1:] == frames[1:]
            assert len(frames) == len(messages) == left + (number < 3)  # raw clients get no connected message
            assert framed.frames_to_send(now) == plain.messages_to_send(now) == []


@pytest.mark.parametrize("size", [100, 125, 126, 65535, 65536, 70000])
def test_the_heads_of_frames_do_not_count_for_the_limits(size: int) -> None:
    limits = Limits(retained_bytes=2 * size)
    exact = Transport([], limits, None)
    assert exact.send(b"x" * size)
    assert exact.send(b"x" * size)
    assert not exact.send(b"x")
    assert [len(message) for message in exact.messages_to_send()] == [size, size]
    assert exact.send(b"x" * 2 * size)
    assert not Transport([], limits, None).send_frame(frame_of(b"x" * (2 * size + 1)), math.inf)


def test_one_frame_is_made_for_all_members_without_ids() -> None:
    publication = published("x")
    for raw in (False, True):
        frames: list[bytes] = []
        for _ in range(2):
            subprotocol = None if raw else "json.webpubsub.azure.v1"
            connection = Connection("chat", "c", subprotocol, ClientGrant(), RawMode(), Limits())
            connection.transport = Transport([], Limits(), connection)
            assert connection.deliver(publication)
            frames += connection.transport.frames_to_send()
        assert frames[0] is frames[1]


def test_a_client_without_a_transport_loses_what_cannot_be_kept() -> None:
    connection = Connection("chat", "c", None, ClientGrant(), RawMode(), Limits())
    assert connection.deliver(published("x"))
    assert connection.retained == 0
