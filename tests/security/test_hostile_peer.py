"""A hostile service cannot make a client keep more than its limits allow."""

from __future__ import annotations

import struct
import tracemalloc

import pytest
from tests.helpers import frames
from tests.helpers.driving import QUIET, URL, encoded, hello, news

from limpet import Link, Options, Session, State

LITTLE = 256 * 1024
LIMIT = 1 << 20


class Victim:
    """A client over bytes, whose driver cannot write: the peer does not read."""

    def __init__(self, *, stands: bool = True) -> None:
        self.session = Session(Options(**QUIET, max_message_size=LIMIT), random=lambda: 0.5)  # type: ignore[arg-type]
        self.session.start(0.0)
        self.session.url_ready(URL, 0.0, fixed=True)
        assert self.session.dial is not None
        self.link = Link(self.session, self.session.dial, random_bytes=bytes)
        (self.handshake,) = self.link.data_to_send()
        if stands:
            self.link.receive_data(frames.accept(self.handshake) + frames.text(encoded(hello("c1"))), 0.0)
            assert self.session.state is State.CONNECTED

    def grows(self, data: bytes, times: int) -> int:
        """How many bytes more it keeps after that."""
        tracemalloc.start()
        try:
            for _ in range(times):
                self.link.receive_data(data, 0.0)
                self.session.events()
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()


FLOODS = {
    "pings that are not read": frames.frame(frames.PING, b"x" * 125) * 500,
    "pongs": frames.frame(frames.PONG, b"x" * 125) * 500,
    "acks that nobody waits for": frames.text('{"type":"ack","ackId":77,"success":true}') * 500,
    "messages seen before": frames.text(encoded(news(1))) * 500,
    "greetings": frames.text(encoded(hello("c1", token="t" * 500))) * 500,
    "unknown messages": frames.text('{"type":"future","x":"' + "x" * 500 + '"}') * 500,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
def test_a_flood_is_not_kept(flood: bytes) -> None:
    victim = Victim()
    assert victim.grows(flood, 20) < LITTLE
    assert victim.session.state is State.CONNECTED


def test_after_a_flood_of_pings_the_newest_is_answered() -> None:
    victim = Victim()
    for number in range(2000):
        victim.link.receive_data(frames.frame(frames.PING, b"%d" % number), 0.0)
    answers = frames.parse_client_frames(b"".join(victim.link.data_to_send()))
    assert answers == [(frames.PONG, b"%d" % number) for number in range(1500, 2000)]


def test_endless_empty_fragments_are_not_kept() -> None:
    victim = Victim()
    victim.link.receive_data(frames.frame(frames.TEXT, b"", fin=False), 0.0)
    assert victim.grows(frames.frame(frames.CONTINUATION, b"", fin=False) * 500, 100) < LITTLE // 2


def test_tiny_fragments_take_little_more_than_their_bytes() -> None:
    victim = Victim()
    victim.link.receive_data(frames.frame(frames.TEXT, b"ab", fin=False), 0.0)
    count = 30_000
    assert victim.grows(frames.frame(frames.CONTINUATION, b"ab", fin=False) * 500, count // 500) < 8 * 2 * count


def test_tiny_pieces_of_a_large_frame_take_little_more_than_their_bytes() -> None:
    victim = Victim()
    victim.link.receive_data(struct.pack("!BBQ", 0x81, 127, LIMIT), 0.0)
    assert victim.grows(b"xy", 200_000) < 4 * 400_000


@pytest.mark.parametrize("opcode", [frames.TEXT, frames.BINARY])
def test_fragments_together_are_held_to_the_limit(opcode: int) -> None:
    victim = Victim()
    victim.link.receive_data(frames.frame(opcode, b"x", fin=False), 0.0)
    assert victim.grows(frames.frame(frames.CONTINUATION, b"x" * 1000, fin=False), 2000) < 6 * LIMIT
    assert victim.session.state is State.RECOVERING


def test_the_size_in_a_header_reserves_nothing() -> None:
    victim = Victim()
    assert victim.grows(struct.pack("!BBQ", 0x81, 127, 1 << 62), 1) < LITTLE
    assert victim.session.state is State.RECOVERING


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"", b"X-A: b\r\n" * 100),
        (b"HTTP/1.1 101 Switching Protocols\r\n", b"X-A: b\r\n" * 100),
        (b"HTTP/1.1 101 Switching Protocols\r\nX: ", b"x" * 1000),
        (b"HTTP/1.1 ", b"1" * 1000),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
        (b"HTTP/1.1 500 x\r\n\r\n", b"x" * 1000),
        (b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * 1000),
    ],
    ids=["no status", "headers", "one header", "status line", "informational answers", "body", "size of a chunk"],
)
def test_an_endless_answer_to_the_handshake_is_given_up(first: bytes, more: bytes) -> None:
    victim = Victim(stands=False)
    if first:
        victim.link.receive_data(first, 0.0)
    assert victim.grows(more, 1000) < LITTLE
    assert victim.link.close_expected
    assert victim.session.state is State.STOPPED


def test_an_identity_too_long_for_a_url_is_refused() -> None:
    for fields in ({"token": "t" * 20_000}, {"connection_id": "c" * 20_000}):
        victim = Victim(stands=False)
        victim.link.receive_data(frames.accept(victim.handshake) + frames.text(encoded(hello(**fields))), 0.0)  # type: ignore[arg-type]
        assert victim.session.state is State.STOPPED


def test_a_compression_that_was_not_offered_is_refused() -> None:
    victim = Victim(stands=False)
    assert b"extensions" not in victim.handshake.lower()
    answer = frames.accept(victim.handshake).replace(
        b"\r\n\r\n", b"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
    )
    victim.link.receive_data(answer, 0.0)
    assert victim.session.state is State.STOPPED
