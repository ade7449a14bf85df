"""Link: the handshake, pings and closes, frames of every kind, and what it writes."""

from __future__ import annotations

import itertools
import struct
import tracemalloc
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulation.inspect import pending, reads_other_frames
from tests.helpers import frames
from tests.helpers.driving import QUIET, URL, WsprotoLink, encoded, hello, news
from tests.helpers.profiles import examples
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, TextMessage

from limpet import (
    Connected,
    ConnectError,
    GroupMessage,
    InvalidValue,
    Link,
    MessagesMissed,
    Options,
    Recovering,
    Session,
    State,
    Stopped,
)
from limpet_core.client import link as link_module
from limpet_core.client.masking import Masker

GREETING = frames.text(encoded(hello("c1")))


class Wire:
    """A session, its link, and the service's end of the bytes, in the hands of a test."""

    def __init__(
        self,
        *,
        url: str = URL,
        fast_lane: bool = True,
        headers: list[tuple[str, str]] | None = None,
        **options: object,
    ) -> None:
        self.session = Session(Options(**(QUIET | options)), random=lambda: 0.5)  # type: ignore[arg-type]
        self.now = 100.0
        self.fast_lane = fast_lane
        self.headers = headers or []
        self.session.start(self.now)
        self.session.url_ready(url, self.now, fixed=True)
        self.dial()

    def dial(self) -> bytes:
        assert self.session.dial is not None
        self.link = (Link if self.fast_lane else WsprotoLink)(
            self.session,
            self.session.dial,
            random_bytes=lambda size: bytes(range(size % 256)) or b"\x01\x02\x03\x04" * (size // 4),
            headers=self.headers,
        )
        (self.handshake,) = self.link.data_to_send()
        return self.handshake

    def upgrade(self) -> Wire:
        self.gets(frames.accept(self.handshake) + GREETING)
        assert self.session.state is State.CONNECTED
        self.session.events()
        return self

    def gets(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.link.receive_data(chunk, self.now)

    def sent(self) -> list[tuple[int, bytes]]:
        return frames.parse_client_frames(b"".join(self.link.data_to_send()))

    def data(self) -> list[object]:
        return [event.data for event in self.session.events() if isinstance(event, GroupMessage)]

    def close_sent(self) -> tuple[int, str]:
        """The close that was the last thing sent: code and reason."""
        opcode, payload = self.sent()[-1]
        assert opcode == frames.CLOSE
        return struct.unpack("!H", payload[:2])[0], payload[2:].decode()

    def error(self) -> ConnectError:
        """Why the first attempt failed."""
        (stopped,) = [event for event in self.session.events() if isinstance(event, Stopped)]
        assert isinstance(stopped.error, ConnectError)
        assert self.link.close_expected
        assert self.link.data_to_send() == []
        return stopped.error


lanes = pytest.mark.parametrize("fast_lane", [True, False])

# ---- The handshake


def test_the_handshake_asks_for_the_subprotocol_and_carries_the_headers() -> None:
    wire = Wire(headers=[("Authorization", "Bearer x"), ("X-Name", "caf\u00e9")])
    request = frames.request_of(wire.handshake)
    assert (request.host, request.target) == ("example.test", "/client/hubs/chat?access_token=SECRET")
    assert request.subprotocols == ["json.reliable.webpubsub.azure.v1"]
    assert (b"authorization", b"Bearer x") in request.extra_headers
    assert (b"x-name", "caf\u00e9".encode("latin-1")) in request.extra_headers
    assert request.extensions == []
    assert wire.link.data_to_send() == []
    assert wire.link.close_expected is False


def test_a_url_that_is_none_is_misuse() -> None:
    session = Session(random=lambda: 0.5)
    session.start(0.0)
    assert session.dial is not None
    with pytest.raises(InvalidValue, match="url"):
        Link(session, session.dial, random_bytes=bytes)


@lanes
def test_frames_may_follow_the_handshake_in_the_same_chunk(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane)
    first = frames.text(encoded(news(1, "one")))
    ping = frames.frame(frames.PING, b"?")
    wire.gets(frames.accept(wire.handshake) + GREETING + first + ping + frames.text(encoded(news(2, "two")))[:-1])
    assert wire.data() == ["one"]
    assert wire.sent() == [(frames.PONG, b"?")]
    wire.gets(b"}")
    assert wire.data() == ["two"]


@lanes
def test_the_handshake_may_come_byte_by_byte(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane)
    answer = frames.accept(wire.handshake) + GREETING
    for index in range(len(answer)):
        assert wire.session.state is State.CONNECTING
        wire.gets(answer[index : index + 1])
    assert wire.session.events() == [Connected("c1")]


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (103, b"", "HTTP status 103"),
        (301, b"", "HTTP status 301"),
        (401, b"bad  token\r\n", "HTTP status 401 (the access token was refused): bad token"),
        (403, b"", "HTTP status 403 (access is forbidden)"),
        (404, b"\xff?", "HTTP status 404 (there is no such endpoint): \ufffd?"),
        (429, b"later", "HTTP status 429: later"),
        (503, b"x" * 3000, "HTTP status 503: " + "x" * 422 + "... (3000 characters)"),
    ],
)
@pytest.mark.parametrize("form", ["length", "chunked", "until closed", "cut"])
def test_a_refusal_says_status_and_reason(status: int, body: bytes, says: str, form: str) -> None:
    head = b"HTTP/1.1 %d No\r\n" % status
    if form == "length":
        answer = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    elif form == "chunked":
        last = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        answer = head + b"Transfer-Encoding: chunked\r\n\r\n" + last + b"0\r\n\r\n"
    elif form == "until closed":
        answer = head + b"\r\n" + body
    else:
        answer = head + b"Content-Length: %d\r\n\r\n" % (len(body) + 5) + body
    for chunks in ([answer], [answer[index : index + 1] for index in range(len(answer))]):
        wire = Wire()
        wire.gets(*chunks)
        wire.gets(b"")
        error = wire.error()
        assert error.status == status
        assert str(error) == f"cannot connect to example.test port 443: the service refused the connection with {says}"


def test_a_refusal_with_a_garbled_body_keeps_its_status() -> None:
    wire = Wire()
    wire.gets(b"HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n")
    wire.gets(b"")
    assert wire.error().status == 401


def test_a_refusal_does_not_wait_for_an_endless_body() -> None:
    wire = Wire()
    wire.gets(b"HTTP/1.1 500 No\r\n\r\n" + b"x" * 10_000)
    assert wire.error().status == 500


def test_a_refusal_of_a_fixed_url_is_final_and_another_is_not() -> None:
    wire = Wire().upgrade()
    wire.gets(frames.close(1008))
    for status, state in ((503, State.WAITING), (401, State.STOPPED)):
        while wire.session.dial is None:
            wire.now = wire.session.deadline
            wire.session.wake(wire.now)
        wire.session.url_ready(URL, wire.now, fixed=True)
        wire.dial()
        wire.gets(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % status)
        assert wire.session.state is state


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"HTTP/1.1 101 Yes\r\n\r\n",
        b"HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: AAAA\r\n\r\n",
        b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Protocol: \xff\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 \xff\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
    ],
)
def test_garbage_for_an_answer_is_a_failed_attempt(answer: bytes) -> None:
    wire = Wire()
    wire.gets(answer, b"")
    assert wire.error().status is None
    wire.gets(b"more", b"", b"HTTP/1.1 401 No\r\n\r\n")
    assert wire.session.events() == []


def test_a_subprotocol_that_was_not_offered_is_quoted_at_length() -> None:
    wire = Wire()
    answer = frames.accept(wire.handshake, subprotocol=None)
    wire.gets(answer[:-2] + b"Sec-WebSocket-Protocol: " + b"x" * 400 + b"\r\n\r\n")
    assert "x" * 350 in str(wire.error())


@pytest.mark.parametrize("subprotocol", [None, "json.webpubsub.azure.v1"])
def test_another_subprotocol_is_a_failed_attempt(subprotocol: str | None) -> None:
    wire = Wire()
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(wire.handshake)
    list(server.events())
    answer = server.send(AcceptConnection())
    if subprotocol is not None:
        answer = answer[:-2] + b"Sec-WebSocket-Protocol: " + subprotocol.encode() + b"\r\n\r\n"
    wire.gets(answer + GREETING)
    assert "subprotocol" in str(wire.error())


def test_an_extension_that_was_not_offered_is_a_failed_attempt() -> None:
    wire = Wire()
    wire.gets(frames.accept(wire.handshake, more=b"Sec-WebSocket-Extensions: permessage-deflate\r\n"))
    assert "handshake" in str(wire.error())


@pytest.mark.parametrize("length", [0, 1, 20, 60])
def test_a_handshake_that_is_cut_short_is_a_failed_attempt(length: int) -> None:
    wire = Wire()
    if length:
        wire.gets(frames.accept(wire.handshake)[:length])
    wire.gets(b"", b"")
    assert "cut short" in str(wire.error())


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("wss://example.test/hub", ""),
        ("ws://example.test:443/hub", "; if that port wants TLS, the URL starts with wss://"),
    ],
)
def test_a_handshake_that_is_cut_short_says_what_may_be_wrong(url: str, hint: str) -> None:
    wire = Wire(url=url)
    wire.gets(b"")
    assert str(wire.error()) == (
        f"cannot connect to example.test port 443: the handshake was cut short: the service closed the connection{hint}"
    )


def reconnecting() -> Wire:
    """The connection was lost, and another one is dialled."""
    wire = Wire().upgrade()
    wire.session.disconnected(wire.now, code=1008)
    wire.now = wire.session.deadline
    wire.session.wake(wire.now)
    wire.session.url_ready(URL, wire.now, fixed=True)
    wire.dial()
    return wire


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
        b"HTTP/1.1 101 Yes\r\n\r\n",
        b"HTTP/1.1 103 No\r\n\r\n",
        b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
        b"HTTP/1.1 500 No\r\n\r\nuntil closed",
        b"HTTP/1.1 500 No\r\n\r\n" + b"endless" * 1000,
        "101 without a subprotocol",
        "101 and a broken frame",
    ],
)
def test_whatever_fails_an_attempt_the_next_one_follows_after_its_backoff(answer: bytes | str) -> None:
    wire = reconnecting()
    if isinstance(answer, str):
        accept = frames.accept(wire.handshake, subprotocol="offered" if "frame" in answer else None)
        answer = accept + frames.frame(frames.TEXT, b"{}", reserved=4)
    wire.gets(answer, b"")
    assert wire.session.state is State.WAITING
    assert wire.session.deadline == wire.now + 1  # the second backoff: 2 s, halved by the jitter


def test_what_refused_the_transport_is_not_the_service() -> None:
    wire = reconnecting()
    wire.link.failed(ConnectError("the proxy refused", status=403), wire.now)
    assert wire.session.state is State.WAITING  # a 403 of the service would be final


# ---- Pings and closes


@lanes
def test_pings_are_answered_in_order_and_pongs_are_not(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane).upgrade()
    wire.gets(frames.frame(frames.PING) + frames.frame(frames.PONG, b"x") + frames.frame(frames.PING, b"2" * 125))
    assert wire.sent() == [(frames.PONG, b""), (frames.PONG, b"2" * 125)]


def test_what_reads_other_frames_is_kept_only_between_the_fragments_of_a_message() -> None:
    wire = Wire().upgrade()
    ping = frames.frame(frames.PING, b"?")
    whole = frames.fragments(encoded(news(1, "whole")), 10)
    wire.gets(ping)
    assert not reads_other_frames(wire.link)
    wire.gets(whole[:12] + ping)
    assert reads_other_frames(wire.link)
    wire.gets(whole[12:])
    assert not reads_other_frames(wire.link)
    assert wire.data() == ["whole"]


def test_a_peer_that_reads_nothing_is_owed_the_newest_500_pongs_and_no_more() -> None:
    wire = Wire().upgrade()
    wire.gets(*(frames.frame(frames.PING, b"%d" % number) for number in range(503)))
    assert wire.sent() == [(frames.PONG, b"%d" % number) for number in range(3, 503)]


@lanes
def test_a_short_frame_is_complete_with_its_last_byte(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane).upgrade()
    for frame in (frames.frame(frames.PING, b""), frames.frame(frames.PING, b"b"), frames.close(1000)):
        wire.gets(*(bytes([byte]) for byte in frame))
    assert wire.sent() == [(frames.PONG, b""), (frames.PONG, b"b"), (frames.CLOSE, b"\x03\xe8")]


def test_any_bytes_are_a_sign_of_life() -> None:
    wire = Wire(keepalive_timeout=10).upgrade()
    for byte in frames.frame(frames.PONG) * 10:
        wire.now += 8
        wire.session.wake(wire.now)
        wire.gets(bytes((byte,)))
    assert wire.session.state is State.CONNECTED


@lanes
@pytest.mark.parametrize("code", [1000, 1001, 1005, 1011, 1008, 4321])
def test_a_close_is_answered_with_its_code(code: int, fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane).upgrade()
    wire.gets((frames.close() if code == 1005 else frames.close(code, "so long")) + frames.text(encoded(news(1))))
    assert wire.sent() == [(frames.CLOSE, b"" if code == 1005 else struct.pack("!H", code) + b"so long")]
    assert wire.link.close_expected
    event = wire.session.events()[0]
    assert (event.code, event.reason) == (code, "" if code == 1005 else "so long")  # type: ignore[union-attr]
    assert isinstance(event, Recovering) is (code != 1008)


@lanes
def test_stop_says_its_last_words_then_closes_with_1000_and_waits_for_the_answer(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane).upgrade()
    wire.gets(frames.text(encoded(news(1))))
    wire.session.send_to_group("g", "bye", wire.now, ack=False)
    wire.session.stop(wire.now)
    *words, closing = wire.sent()
    assert [opcode for opcode, _ in words] == [frames.TEXT, frames.TEXT]
    assert closing == (frames.CLOSE, struct.pack("!H", 1000))
    assert not wire.link.close_expected
    wire.gets(frames.frame(frames.PING, b"too late") + frames.text(encoded(news(2))))
    assert wire.session.state is State.STOPPING
    assert wire.sent() == []
    wire.gets(frames.close(1000))
    assert wire.session.state is State.STOPPED
    assert wire.link.close_expected
    assert wire.sent() == []


@lanes
def test_the_end_of_the_stream_is_a_drop(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane).upgrade()
    wire.gets(frames.text("half")[:3], b"", b"")
    (event,) = wire.session.events()
    assert isinstance(event, Recovering)
    assert event.code == 1006
    assert wire.link.close_expected


# ---- Frames


@lanes
def test_fragments_make_a_message_and_control_frames_may_come_between(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane).upgrade()
    payload = encoded(news(1, "\u00e9" * 50))
    ping = frames.frame(frames.PING, b"between")
    for cuts in ([0], [1, 2, 3], list(range(len(payload))), [len(payload)]):
        wire.gets(frames.fragments(payload, *cuts, between=ping) + frames.text(encoded(news(None, "whole"))))
        assert len(wire.sent()) == len(cuts)
    assert wire.data() == ["\u00e9" * 50, "whole", "whole", "whole", "whole"]


FAULTS = [
    (1002, frames.frame(frames.TEXT, b"{}", reserved=4)),
    (1002, frames.frame(frames.TEXT, b"{}", reserved=2)),
    (1002, frames.frame(frames.PING, b"", reserved=1)),
    *[(1002, frames.frame(opcode, b"{}")) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
    (1002, frames.frame(frames.TEXT, b"{}", mask=b"mask")),
    (1002, frames.frame(frames.TEXT, b"{}", size_form=2)),
    (1002, frames.frame(frames.TEXT, b"{}", size_form=8)),
    (1002, frames.frame(frames.TEXT, b"x" * 200, size_form=8)),
    (1002, b"\x81\x7f\x80" + bytes(7)),
    (1002, frames.frame(frames.PING, b"x" * 126)),
    (1002, frames.frame(frames.PING, b"", fin=False)),
    (1002, frames.frame(frames.CONTINUATION, b"{}")),
    (1002, frames.text("{", fin=False) + frames.text("}")),
    (1002, frames.text("not finished", fin=False) + frames.text('{"type":"pong"}')),
    (1002, frames.close(1005)),
    (1002, frames.frame(frames.CLOSE, b"\x03")),
    (1007, frames.text(b"\xff")),
    (1007, frames.text(b'"\xed\xa0\x80"')),
    (1007, frames.text(b"cut \xc3")),
    (1007, frames.fragments(b"cut \xc3 \xa9", 5)),
    (1007, frames.close(1000, b"\xff")),
    (1007, frames.text("{broken")),
    (1003, frames.frame(frames.BINARY, b"{}")),
    (1003, frames.fragments(b"{}", 1, opcode=frames.BINARY)),
]


@lanes
@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(("code", "fault"), FAULTS)
def test_a_fault_closes_with_its_code_and_recovers(code: int, fault: bytes, whole: bool, fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane).upgrade()
    stream = frames.text(encoded(news(1, "before"))) + fault + frames.text(encoded(news(2, "after")))
    wire.gets(*([stream] if whole else [stream[index : index + 1] for index in range(len(stream))]))
    message, recovering = wire.session.events()
    assert isinstance(message, GroupMessage)
    assert isinstance(recovering, Recovering)
    assert recovering.code == code
    assert wire.close_sent()[0] == code
    assert wire.session.dial is not None
    assert wire.session.dial.recovery


@lanes
def test_a_character_in_two_pieces_of_a_frame_that_is_cut_short_is_no_fault(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane).upgrade()
    stream = frames.text("\u00e9" * 10_000)
    wire.gets(stream[:5005], stream[5005:15_000], b"")
    (event,) = wire.session.events()
    assert isinstance(event, Recovering)
    assert event.code == 1006


@lanes
def test_a_message_above_the_limit_is_refused_before_its_payload_arrives(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane, max_message_size=1000).upgrade()
    wire.gets(frames.text(encoded(news(1, "x" * 800))))
    assert wire.data() == ["x" * 800]
    wire.gets(frames.text(b"x" * 1000 + b"y")[:4])
    assert wire.link.close_expected
    assert wire.close_sent() == (1009, "a message above max_message_size (1000 bytes)")


@lanes
def test_the_limit_counts_all_fragments_and_no_control_frame(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane, max_message_size=300).upgrade()
    payload = encoded(news(1)).ljust(300)
    ping = frames.frame(frames.PING, b"x" * 125)
    wire.gets(frames.fragments(payload, 250, between=ping) + frames.fragments(payload, 10, 20, 30, between=ping))
    assert wire.data() == ["news"]
    assert len(wire.sent()) == 4
    wire.gets(frames.fragments(payload + b" ", 250, 270))
    assert wire.close_sent()[0] == 1009


@lanes
def test_a_burst_of_frames_in_one_segment(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane).upgrade()
    wire.gets(b"".join(frames.text(encoded(news(number, str(number)))) for number in range(1, 501)))
    assert [event.sequence_id for event in wire.session.events() if isinstance(event, GroupMessage)] == [*range(1, 501)]


@lanes
def test_a_large_frame_in_many_segments(fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane).upgrade()
    stream = frames.text(encoded(news(1, "x" * 3_000_000)))
    wire.gets(*[stream[at : at + 16_384] for at in range(0, len(stream), 16_384)])
    assert [len(text) for text in wire.data()] == [3_000_000]  # type: ignore[arg-type]


@pytest.mark.parametrize("piece", [7, 5000])
def test_a_frame_in_pieces_takes_little_more_memory_than_its_bytes(piece: int) -> None:
    wire = Wire().upgrade()
    stream = frames.text(b"x" * 40_000)[:-1]
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for at in range(0, len(stream), piece):
            wire.link.receive_data(stream[at : at + piece], wire.now)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2 * len(stream)


# ---- After the session has moved on


@pytest.mark.parametrize("when", ["in the handshake", "connected", "in a message"])
def test_a_stale_link_changes_nothing(when: str) -> None:
    wire = Wire()
    stale, answer = wire.link, frames.accept(wire.handshake) + GREETING
    if when != "in the handshake":
        wire.gets(answer)
        wire.session.events()
    if when == "in a message":
        wire.gets(frames.text(encoded(news(1)))[:10])
    wire.session.stop(wire.now)
    wire.session.disconnected(wire.now)
    wire.session.start(wire.now)
    wire.session.url_ready(URL, wire.now)
    wire.session.events()
    wire.dial()
    for late in (
        answer,
        frames.text(encoded(news(1))),
        frames.frame(frames.PING),
        frames.close(1008),
        b"\xff" * 20,
        b"",
    ):
        stale.receive_data(late, wire.now)
        stale.transport_lost("late", wire.now)
    assert stale.close_expected
    assert wire.session.state is State.CONNECTING
    assert wire.session.events() == []
    wire.upgrade()
    assert [frame for frame in wire.sent() if frame[0] == frames.TEXT] == []
    wire.session.join_group("g", wire.now)
    stale.data_to_send()
    assert len(wire.sent()) == 1, "a stale link takes no messages away"


@pytest.mark.parametrize("before", [(), (frames.frame(frames.PING, b"early"),)], ids=["texts", "a ping and texts"])
def test_a_link_goes_stale_in_the_middle_of_a_chunk(before: tuple[bytes, ...]) -> None:
    wire = Wire().upgrade()
    texts = frames.text(encoded(news(1))) + frames.text("{broken") + frames.text(encoded(news(2)))
    wire.gets(b"".join(before) + texts + frames.frame(frames.PING, b"late") + frames.text(encoded(news(3))))
    assert len(wire.data()) == 1
    assert wire.link.close_expected
    *pongs, (opcode, payload) = wire.sent()
    assert pongs == [(frames.PONG, b"early")] * len(before)
    assert (opcode, payload[:2]) == (frames.CLOSE, struct.pack("!H", 1007))


def test_a_gap_on_the_wire_is_told() -> None:
    wire = Wire().upgrade()
    wire.gets(frames.text(encoded(news(3))))
    assert wire.session.events()[0] == MessagesMissed(1, 2)


# ---- What it writes


@given(
    texts=st.lists(
        st.one_of(st.text(max_size=300), st.integers(0, 140_000).map(lambda size: "\u00e9" * size)), max_size=4
    ),
    fast_lane=st.booleans(),
)
@settings(max_examples=examples(60))
def test_whatever_is_sent_is_read_back_by_wsproto(texts: list[str], fast_lane: bool) -> None:
    wire = Wire(fast_lane=fast_lane).upgrade()
    for text in texts:
        wire.session.send_to_group("g", text, wire.now)
    expected = [request.payload.decode() for request in pending(wire.session)]
    assert read_back(wire) == expected


@pytest.mark.parametrize("lane", ["masked in C", "masked in Python", "wsproto"])
def test_every_size_around_a_boundary_is_read_back(lane: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if lane == "masked in Python":
        monkeypatch.setattr(link_module, "Masker", partial(Masker, apply_mask=None))
    wire = Wire(fast_lane=lane != "wsproto").upgrade()
    empty = len('{"type":"sendToGroup","group":"g","dataType":"text","data":""}')
    sizes = [*range(100, 132), *range(250, 260), *range(1020, 1030), *range(65_530, 65_540)]
    for size in sizes:
        wire.session.send_to_group("g", "x" * (size - empty), wire.now, ack=False)
    assert [len(text) for text in read_back(wire)] == sizes


def read_back(wire: Wire) -> list[str]:
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(wire.handshake)
    list(server.events())
    server.send(AcceptConnection(subprotocol="json.reliable.webpubsub.azure.v1"))
    server.receive_data(b"".join(wire.link.data_to_send()))
    texts: list[str] = []
    for event in server.events():
        assert isinstance(event, TextMessage)
        assert event.message_finished
        texts.append(event.data)
    return texts


def test_masks_come_from_the_caller_and_are_not_repeated() -> None:
    numbers = itertools.count()
    session = Session(Options(**QUIET), random=lambda: 0.5)  # type: ignore[arg-type]
    session.start(0.0)
    session.url_ready(URL, 0.0)
    assert session.dial is not None
    link = Link(
        session,
        session.dial,
        random_bytes=lambda size: b"".join(next(numbers).to_bytes(4, "big") for _ in range(size // 4)),
    )
    (handshake,) = link.data_to_send()
    link.receive_data(frames.accept(handshake) + GREETING, 0.0)
    masks: list[int] = []
    for _ in range(200):
        session.send_event("e", 1, 0.0, ack=False)
        (written,) = link.data_to_send()
        masks.append(int.from_bytes(written[2:6], "big"))
    assert masks == [*range(200)]


def test_the_repr_of_an_open_link() -> None:
    wire = Wire().upgrade()
    assert repr(wire.link) == "<Link to example.test port 443, dial 1, open>"


# ---- A send that fails


def test_after_a_send_that_failed_a_link_reads_on_for_a_second() -> None:
    wire = Wire().upgrade()
    wire.session.send_to_group("g", "x", wire.now)
    wire.link.send_failed(OSError("pipe"), wire.now)
    wire.link.send_failed("again", wire.now + 0.5)
    assert wire.link.data_to_send() == []
    wire.gets(frames.text(encoded(news(1))))
    assert wire.data() == ["news"]
    assert wire.session.deadline == wire.now + 1.0
    wire.session.wake(wire.now + 1.0)
    assert wire.session.events() == [Recovering("c1", 1006, "pipe")]
    assert wire.link.close_expected
    wire.link.send_failed("late", wire.now + 1.0)
    assert wire.session.events() == []


def test_a_send_that_fails_before_the_handshake_is_done_is_the_end_of_the_attempt() -> None:
    wire = Wire()
    wire.link.send_failed(OSError("pipe"), wire.now)
    assert str(wire.error()) == "cannot connect to example.test port 443: the handshake was cut short: pipe"
