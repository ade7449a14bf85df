from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import OPEN, Protocol
from websockets.server import ServerProtocol
from websockets.utils import apply_mask

from limpet.service._server_protocol import LimpetServerProtocol, cut_messages

MAX_SIZE = 300
MASK = b"\x0f\xf1\x5a\xa5"
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Slow(LimpetServerProtocol):
    """Has the library cut all frames."""

    receive_data = ServerProtocol.receive_data


def frame(first: int, payload: bytes, *, masked: bool = True, length: int | None = None) -> bytes:
    """Return a frame; ``length``: the bytes that its length takes besides the first one, also where fewer would do."""
    size = len(payload)
    if length is None:
        length = 0 if size < 126 else 2 if size < 65536 else 8
    short = {0: size, 2: 126, 8: 127}[length]
    head = bytes((first, short | (0x80 if masked else 0))) + (size.to_bytes(length, "big") if length else b"")
    return head + (MASK + apply_mask(payload, MASK) if masked else payload)


PAYLOADS = st.one_of(
    st.binary(max_size=12), st.sampled_from([b"x" * size for size in (125, 126, 127, MAX_SIZE, MAX_SIZE + 1)])
)
MESSAGES = st.builds(frame, st.sampled_from((0x81, 0x82)), PAYLOADS)
ANY = st.builds(
    frame,
    st.sampled_from((0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x88, 0x89, 0x8A, 0x83, 0xC1)),
    st.binary(max_size=12),
    masked=st.integers(0, 9).map(bool),
    length=st.sampled_from((0, 2, 8)),
)


READS = st.lists(st.tuples(MESSAGES | MESSAGES | ANY, st.sampled_from((0, 0, 1, 5, 6, 7, 9, -1))), max_size=9)
"""Frames, and where in each a read ends; 0: not in this one, -1: behind it."""


def reads(frames: list[tuple[bytes, int]]) -> list[bytes]:
    ends, size = [0], 0
    for each, end in frames:
        if end:
            ends.append(size + (len(each) if end < 0 else min(end, len(each))))
        size += len(each)
    sent = b"".join(each for each, _ in frames)
    return [sent[start:end] for start, end in pairwise([*ends, size]) if start < end]


def told(protocol: LimpetServerProtocol) -> list[object]:
    """Return all that a protocol has to say."""
    error = protocol.parser_exc
    ends = (protocol.state, protocol.close_rcvd, protocol.close_sent, type(error), str(error))
    return [protocol.events_received(), protocol.data_to_send(), ends]


@given(READS)
@example([(frame(0x01, b"a"), -1), (frame(0x81, b"b"), 0)])  # a message inside of another
@example([(frame(0x01, b"a"), -1), (frame(0x89, b""), -1), (frame(0x81, b"b"), 0)])
@example([(frame(0x01, b"a"), -1), (frame(0x80, b"b"), -1), (frame(0x81, b"c"), 0)])
@example([(frame(0x81, b"a"), 5), (frame(0x81, b"b"), 0)])
@example([(frame(0x81, apply_mask(frame(0x81, b"not yet"), MASK)), 6)])  # what looks like a frame inside of one
@example([(frame(0x81, b"x" * (MAX_SIZE + 1)), 0)])
@example([(frame(0x81, b"a", masked=False), 0)])
@example([(frame(0x81, b"", length=2), 5)])
@example([(frame(0x81, b"a", length=8), 0), (frame(0x81, b"x" * MAX_SIZE), 0)])
@example([(frame(0x88, b""), -1), (frame(0x81, b"late"), 0)])
def test_the_messages_of_clients_are_the_same_by_the_quick_way(frames: list[tuple[bytes, int]]) -> None:
    quick, slow = (each(max_size=MAX_SIZE, state=OPEN) for each in (LimpetServerProtocol, Slow))
    for data in reads(frames):
        quick.receive_data(data)
        slow.receive_data(data)
    assert told(quick) == told(slow)


def test_messages_behind_other_frames_are_cut_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    protocol = LimpetServerProtocol(max_size=MAX_SIZE, state=OPEN)
    protocol.receive_data(frame(0x01, b"a") + frame(0x89, b""))
    protocol.receive_data(frame(0x80, b"b")[:-1])
    protocol.receive_data(frame(0x80, b"b")[-1:])
    monkeypatch.delattr(Protocol, "receive_data")
    protocol.receive_data(frame(0x81, b"c"))
    opcodes = [event.opcode for event in protocol.events_received() if isinstance(event, Frame)]
    assert opcodes == [Opcode.TEXT, Opcode.PING, Opcode.CONT, Opcode.TEXT]


@pytest.mark.parametrize("error", [frame(0x83, b""), frame(0x81, b"a", masked=False), frame(0xC1, b"a")])
def test_messages_behind_an_error_are_discarded_if_it_came_before_the_answer_to_the_handshake(error: bytes) -> None:
    for kind in (LimpetServerProtocol, Slow):
        protocol = kind(max_size=MAX_SIZE)
        protocol.receive_data(HANDSHAKE + frame(0x81, b"before") + error)
        request, before = protocol.events_received()
        assert isinstance(request, Request)
        assert before == Frame(Opcode.TEXT, b"before")
        protocol.send_response(protocol.accept(request))
        assert protocol.state is OPEN
        protocol.receive_data(frame(0x81, b"behind"))
        assert protocol.events_received() == []


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535])
def test_whole_messages_are_cut_out_without_the_library(size: int) -> None:
    text, binary = Frame(Opcode.TEXT, b"t" * size), Frame(Opcode.BINARY, b"b" * size)
    sent = frame(0x81, b"t" * size) + frame(0x82, b"b" * size)
    assert cut_messages(sent, size) == ([text, binary], b"")
    half = len(sent) // 2
    for part in (1, 2, 5, half - half // 2, half - 1):  # of the second one
        assert cut_messages(sent[: half + part], size) == ([text], sent[half : half + part])


@pytest.mark.parametrize(
    "other",
    [frame(0x81, b"x" * 9), frame(0x01, b"x"), frame(0x89, b""), frame(0x81, b"x", masked=False), frame(0xC1, b"x")],
)
def test_the_library_has_what_is_no_short_message_and_all_behind_it(other: bytes) -> None:
    rest = other + frame(0x81, b"behind")
    assert cut_messages(frame(0x81, b"12345678") + rest, 8) == ([Frame(Opcode.TEXT, b"12345678")], rest)
