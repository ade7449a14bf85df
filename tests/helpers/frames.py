"""WebSocket frames by hand: frames of a service, legal or not, and a parser of the frames of a client."""

from __future__ import annotations

import itertools
import struct

from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Request

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def frame(
    opcode: int,
    payload: bytes | str = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    mask: bytes | None = None,
    size_form: int | None = None,
) -> bytes:
    """One frame.

    Args:
        reserved: the reserved bits, made of 4, 2 and 1.
        mask: four bytes: the frame is masked, as only a client may.
        size_form: bytes of the length field, 0, 2 or 8; by default the shortest, which is the only legal one.
    """
    payload = payload.encode() if isinstance(payload, str) else payload
    length = len(payload)
    if size_form is None:
        size_form = 0 if length < 126 else 2 if length < 1 << 16 else 8
    masked = 0x80 if mask is not None else 0
    first = fin << 7 | reserved << 4 | opcode
    if size_form == 0:
        header = struct.pack("!BB", first, masked | length)
    elif size_form == 2:
        header = struct.pack("!BBH", first, masked | 126, length)
    else:
        header = struct.pack("!BBQ", first, masked | 127, length)
    return header + (payload if mask is None else mask + apply_mask(payload, mask))


def text(payload: str | bytes, *, fin: bool = True) -> bytes:
    return frame(TEXT, payload, fin=fin)


def close(code: int | None = None, reason: str | bytes = "") -> bytes:
    reason = reason.encode() if isinstance(reason, str) else reason
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def fragments(payload: bytes, *cuts: int, opcode: int = TEXT, between: bytes = b"") -> bytes:
    """One message in ``len(cuts) + 1`` frames, with ``between`` after each but the last."""
    bounds = [0, *sorted(min(cut, len(payload)) for cut in cuts), len(payload)]
    parts = [payload[start:stop] for start, stop in itertools.pairwise(bounds)]
    frames = [
        frame(opcode if number == 0 else CONTINUATION, part, fin=number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]
    return between.join(frames)


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def parse_client_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Return the frames of a client as pairs of opcode and unmasked payload; fail on frames a client must not send."""
    frames: list[tuple[int, bytes]] = []
    position = 0
    while position < len(data):
        first, second = data[position], data[position + 1]
        assert first & 0xF0 == 0x80, "a client of ours writes whole messages without reserved bits"
        assert second & 0x80, "a client masks"
        length, position = second & 0x7F, position + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length = int.from_bytes(data[position : position + size], "big")
            position += size
        mask, position = data[position : position + 4], position + 4
        payload = data[position : position + length]
        assert len(payload) == length, "a frame is cut short"
        frames.append((first & 0x0F, apply_mask(payload, mask)))
        position += length
    return frames


def oversize_at(stream: bytes, limit: int) -> int | None:
    """Where the header ends that takes a message of ``stream`` above ``limit``; None where none does, or where
    something illegal comes first that has no place in a stream of frames."""
    position = size = 0
    while position + 2 <= len(stream):
        first, length = stream[position], stream[position + 1]
        if first & 0x70 or length & 0x80:
            return None
        start = position + 2 + (0 if length < 126 else 2 if length == 126 else 8)
        if start > len(stream):
            return None
        if length >= 126:
            length = int.from_bytes(stream[position + 2 : start], "big")
        if not first & 0x08:
            if size + length > limit:
                return start
            size = 0 if first & 0x80 else size + length
        position = start + length
    return None


def accept(handshake: bytes, *, subprotocol: str | None = "offered", more: bytes = b"") -> bytes:
    """The 101 that a service answers to ``handshake``; ``more``: further header lines."""
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(handshake)
    (request,) = server.events()
    assert isinstance(request, Request)
    chosen = request.subprotocols[0] if subprotocol == "offered" else subprotocol
    answer = server.send(AcceptConnection(subprotocol=chosen))
    return answer[:-2] + more + answer[-2:]


def request_of(handshake: bytes) -> Request:
    server = WSConnection(ConnectionType.SERVER)
    server.receive_data(handshake)
    (request,) = server.events()
    assert isinstance(request, Request)
    return request
