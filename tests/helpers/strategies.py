"""Strategies of hypothesis: messages of a service, streams of frames, whole or spoilt, and ways to cut them."""

from __future__ import annotations

import itertools
import json
from random import Random
from typing import Any

from hypothesis import strategies as st
from tests.helpers import frames
from tests.helpers.driving import hello, news, ok, refused

# ---- Messages

ODD_TEXTS = st.sampled_from(
    ["", "x", "{}", "[]", "null", "{broken", '{"type":1}', '{"type":"future"}', '{"type":"message"}',
     "\u00e9\U0001f600",
     '{"type":"message","from":"server","dataType":"binary","data":"*","sequenceId":3}',
     '{"type":"message","from":"nowhere","sequenceId":2}', '{"type":"system","event":"sunrise"}',
     '{"type":"ack","ackId":"1","success":true}', '{"type":"system","event":"connected"}', "[" * 2000]
)  # fmt: skip

ERROR_NAMES = st.sampled_from(["Forbidden", "Duplicate", "InternalServerError", "BadRequest", "", "Odd"])
ACK_IDS = st.one_of(st.integers(1, 6), st.sampled_from([-1, 0, 2**53, 2**64]))
SEQUENCE_IDS = st.one_of(st.integers(1, 8), st.sampled_from([None, 2**64 - 1]))

MESSAGES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.builds(news, SEQUENCE_IDS, st.text(max_size=8)),
    st.builds(ok, ACK_IDS),
    st.builds(refused, ACK_IDS, ERROR_NAMES),
    st.just(hello("c1")),
    st.just({"type": "pong"}),
    st.just({"type": "system", "event": "disconnected", "message": "maintenance"}),
)

TEXTS: st.SearchStrategy[bytes] = st.one_of(
    MESSAGES.map(lambda message: json.dumps(message, ensure_ascii=False).encode()),
    MESSAGES.map(lambda message: json.dumps(message, ensure_ascii=False).encode()),
    ODD_TEXTS.map(str.encode),
)

PLACES = st.one_of(st.integers(0, 3), st.sampled_from([-1, 2**53, 2**64]))
STREAM_IDS = st.sampled_from(["s", "s", "t"])
STATES = st.fixed_dictionaries(
    {"connectionId": st.sampled_from(["c1", "o1", "o2"]), "updatedAt": st.integers(0, 5)},
    optional={"state": st.sampled_from([{}, {"n": "1"}, None])},
)

PARTS: st.SearchStrategy[bytes] = st.one_of(
    st.builds(lambda n, s: {"type": "streamAck", "streamId": s, "expectedSequenceId": n}, PLACES, STREAM_IDS),
    st.builds(lambda n, s: {"type": "streamNack", "streamId": s, "expectedSequenceId": n}, PLACES, STREAM_IDS),
    st.builds(
        lambda name, s: {"type": "streamClosed", "streamId": s, "error": {"name": name}}, ERROR_NAMES, STREAM_IDS
    ),
    st.builds(lambda s: {"type": "streamClosed", "streamId": s}, STREAM_IDS),
    st.just({"type": "invokeResponse", "invocationId": "i", "success": True, "dataType": "text", "data": "x"}),
    st.builds(lambda name: {"type": "invokeResponse", "invocationId": "i", "error": {"name": name}}, ERROR_NAMES),
    st.builds(
        lambda kind, items: {"type": kind, "group": "g", "items": items},
        st.sampled_from(["groupStateSnapshot", "groupStateUpdate"]),
        st.lists(st.one_of(STATES, STATES, st.just(7)), max_size=3),
    ),
).map(lambda message: json.dumps(message).encode())
"""What the service says of a stream ``s``, an invocation ``i`` and the states of a group ``g``."""

# ---- Frames

CONTROLS = st.one_of(
    st.builds(frames.frame, st.just(frames.PING), st.binary(max_size=8)),
    st.builds(frames.frame, st.just(frames.PONG), st.binary(max_size=8)),
    st.just(frames.frame(frames.PING, b"p" * 125)),
)

CLOSES = st.one_of(
    st.builds(frames.close, st.sampled_from([1000, 1001, 1007, 1008, 1011, 3000, 4999]), st.text(max_size=5)),
    st.builds(frames.close, st.sampled_from([0, 999, 1004, 1005, 1006, 1015, 2999, 5000])),
    st.builds(frames.close, st.just(1000), st.just(b"\xff")),
    st.just(frames.close()),
    st.just(frames.frame(frames.CLOSE, b"\x03")),
)

WHOLE = st.one_of(
    TEXTS.map(frames.text),
    st.sampled_from([126, 200, 300, 1100, 70_000]).map(lambda size: frames.text(" " * size + '{"type":"pong"}')),
)

FRAGMENTED = st.builds(
    lambda payload, cuts, between: frames.fragments(payload, *cuts, between=between),
    st.one_of(TEXTS, st.sampled_from([200, 240, 241, 1000]).map(lambda size: b" " * size + b'{"type":"pong"}')),
    st.lists(st.integers(0, 250), min_size=1, max_size=4),
    st.one_of(st.just(b""), CONTROLS),
)

ODD_FRAMES = st.one_of(
    st.builds(frames.frame, st.integers(0, 15), st.binary(max_size=6), fin=st.booleans()),
    st.builds(frames.frame, st.sampled_from([1, 2, 8, 9]), st.binary(max_size=6), reserved=st.integers(1, 7)),
    st.builds(frames.frame, st.sampled_from([1, 9]), st.binary(max_size=6), mask=st.binary(min_size=4, max_size=4)),
    st.builds(frames.frame, st.sampled_from([1, 2, 9]), st.binary(max_size=6), size_form=st.sampled_from([2, 8])),
    st.builds(
        frames.frame, st.just(frames.TEXT), st.sampled_from([b"\xff", b'"\xc3', b"\xed\xa0\x80", b"ab\xe2\x28cd"])
    ),
    st.just(frames.frame(frames.BINARY, b"\x00")),
    st.just(frames.text("not finished", fin=False) + frames.text('{"type":"pong"}')),
    st.just(frames.frame(frames.PING, b"p" * 126)),
    st.just(b"\x81\x7f" + b"\xff" * 8),
    st.just(frames.fragments("\u00e9\u00e9".encode(), 1, 3)),
    st.builds(
        lambda size: frames.fragments(b" " * size + b"{}", 100, 200), st.sampled_from([250, 254, 255, 1022, 1023])
    ),
)

FRAMES = st.one_of(WHOLE, WHOLE, FRAGMENTED, CONTROLS, st.one_of(WHOLE, CLOSES, ODD_FRAMES))


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """The bytes of a service: frames, in most cases all right, else spoilt, or no frames at all."""
    stream = b"".join(draw(st.lists(FRAMES, max_size=8)))
    how = draw(st.sampled_from(["whole", "whole", "cut", "flip", "insert", "delete", "noise", "only noise"]))
    if how == "whole":
        return stream
    at = draw(st.integers(0, max(len(stream) - 1, 0)))
    if how == "cut":
        return stream[:at]
    if how == "flip":
        return stream[:at] + bytes(byte ^ draw(st.integers(1, 255)) for byte in stream[at : at + 1]) + stream[at + 1 :]
    if how == "insert":
        return stream[:at] + draw(st.binary(max_size=4)) + stream[at:]
    if how == "delete":
        return stream[:at] + stream[at + draw(st.integers(1, 4)) :]
    if how == "noise":
        return stream + draw(st.binary(max_size=20))
    return draw(st.binary(max_size=60))


@st.composite
def chunked(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """``stream`` in chunks that are not empty: at once, byte by byte, or cut anywhere."""
    how = draw(st.sampled_from(["whole", "bytes", "cut", "cut", "cut"]))
    if how == "bytes" and len(stream) < 1000:
        return [stream[at : at + 1] for at in range(len(stream))]
    cuts = [] if how == "whole" else draw(st.lists(st.integers(0, len(stream)), max_size=8))
    return cut_at(stream, cuts)


def cut_at(stream: bytes, cuts: list[int]) -> list[bytes]:
    bounds = [0, *sorted(cuts), len(stream)]
    return [chunk for start, stop in itertools.pairwise(bounds) if (chunk := stream[start:stop])]


# ---- The same by a seed: long, lively streams that hypothesis rarely makes


def busy_stream(random: Random, *, greet: bool) -> bytes:
    """A service that talks a lot, and spoils the stream now and then.

    Args:
        greet: begin with a connected message.
    """
    sequence_id = random.choice([1, 1, 2])
    parts = [frames.text(json.dumps(hello("c1")))] if greet else []
    for _ in range(random.randrange(30)):
        message: dict[str, Any] = news(sequence_id, random.choice("x\u00e9\U0001f600") * random.choice([0, 1, 30, 250]))
        sequence_id += random.choice([1, 1, 1, 1, 0, -1, 2])
        if random.random() < 0.2:
            message = random.choice([ok(1), refused(2, "Duplicate"), {"type": "pong"}, hello("c1")])
        payload = json.dumps(message, ensure_ascii=False).encode() + b" " * random.choice([0, 0, 0, 90, 170, 1000])
        between = b"".join(_control(random) for _ in range(random.choice([0, 0, 1, 2])))
        kind = random.random()
        if kind < 0.7:
            parts.append(frames.text(payload))
        elif kind < 0.9:
            cuts = [random.randrange(len(payload) + 1) for _ in range(random.randint(1, 4))]
            parts.append(frames.fragments(payload, *cuts, between=between))
        else:
            parts.append(between)
        if random.random() < 0.03:
            parts.append(_odd(random))
    stream = b"".join(parts)
    if random.random() < 0.3 and stream:
        at = random.randrange(len(stream))
        spoilt = bytes(random.randrange(256) for _ in range(random.randrange(3)))
        stream = stream[:at] + spoilt + stream[at + random.randrange(3) :]
    return stream[: random.randrange(len(stream))] if random.random() < 0.2 and stream else stream


def _control(random: Random) -> bytes:
    payload = b"p" * random.choice([0, 1, 125])
    return frames.frame(random.choice([frames.PING, frames.PONG]), payload)


def _odd(random: Random) -> bytes:
    return random.choice(
        [
            frames.close(random.choice([1000, 1001, 1005, 1008, 4000]), "bye"),
            frames.close(),
            frames.frame(frames.BINARY, b"\x00"),
            frames.frame(random.randrange(16), b"odd", fin=random.random() < 0.5),
            frames.frame(frames.TEXT, b"odd", reserved=random.randint(1, 7)),
            frames.frame(frames.TEXT, b"odd", mask=b"mask"),
            frames.frame(frames.TEXT, b"odd", size_form=random.choice([2, 8])),
            frames.text(b"bad \xff"),
            frames.text("not finished", fin=False) + frames.text('{"type":"pong"}'),
            frames.fragments(b"good bad \xe2\x28 good", 3, 10),
            frames.fragments(b"binary", 3, opcode=frames.BINARY),
            frames.text("x" * 2000)[: random.randrange(2000)],
            frames.text(b"{broken"),
        ]
    )


def cut_by(random: Random, stream: bytes) -> list[bytes]:
    """``stream`` in chunks that are not empty, cut as some network might."""
    how = random.randrange(4)
    if how == 0:
        return cut_at(stream, [])
    if how == 1 and len(stream) < 3000:
        return cut_at(stream, list(range(len(stream))))
    return cut_at(stream, [random.randrange(len(stream) + 1) for _ in range(random.choice([1, 5, 40]))])
