"""WebSocket frames: the byte stream divided into frames, and a fast lane for ordinary messages in both directions.

wsproto takes some 8 us per frame; a whole, final, unmasked frame can be sliced out of the stream in a fraction of
a microsecond, and nearly all traffic consists of such frames. All other frames go to wsproto, one whole frame at a
time, so that wsproto is always at the border between two frames, and handles control frames, fragments and faults.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from struct import Struct
from typing import Final

from limpet_core.protocol.close import Close

_TEXT: Final = 0x81
_BINARY: Final = 0x82
"""The first byte of a whole message in one frame: final, no reserved bits, and the opcode."""

_header = Struct(">HH").unpack_from  # one call for four bytes is a third quicker than four look-ups

_SMALL: Final = 4096
"""Pieces of an incomplete frame up to this size are put together: an object for each would take more than its bytes."""

_FAST_MASKING_LIMIT: Final = 1024
"""Bytes of the largest payload that is masked here: up to this size, one big integer is faster than wsproto's table."""

_REPEAT: Final = list(accumulate(range(_FAST_MASKING_LIMIT // 4), lambda ones, _: ones << 32 | 1, initial=0))
"""A 32-bit word multiplied by the n-th of these numbers is repeated n times."""

_mask = Struct("<I").unpack_from
_short_head = Struct("<BBI").pack
_long_head = Struct("<BBBBI").pack


class FrameBuffer:
    """Divides the bytes that a client receives into frames.

    Args:
        limit: the size in bytes of the largest message that is accepted.
        fast_lane: cut ordinary frames out here; False leaves all frames to wsproto.
        binary: the ordinary frames are binary ones, and no text frames.
    """

    __slots__ = ("_binary", "_fast_lane", "_fragmented", "_limit", "_message_size", "_missing", "_pieces", "_refused")

    def __init__(self, limit: int, *, fast_lane: bool, binary: bool = False) -> None:
        self._limit = limit
        self._binary = binary
        self._fast_lane = fast_lane
        # A frame that is not complete, and how many bytes are missing before another look at it is worth while.
        self._pieces: list[bytes | bytearray] = []
        self._missing = 0
        # A message in several frames that is not complete, and the size of its frames so far.
        self._fragmented = False
        self._message_size = 0
        self._refused = False

    def feed(self, data: bytes) -> list[list[bytes] | bytes | Close]:
        """Add received bytes.

        Returns:
            In the order of the stream: the payloads of consecutive ordinary frames, as a list; any other frame, as
            bytes for wsproto; and how to close the connection because of a message above the limit. From a frame on
            that a client must refuse, all bytes are for wsproto, which names the fault.
        """
        found: list[list[bytes] | bytes | Close] = []
        position = 0
        while self._pieces and not self._refused:
            # Only the frame that was cut in two is put together: to copy all the data that came with its end would be
            # the greater part of the cost of a long message.
            piece = data[position : position + self._missing]
            self._keep(piece)
            position += len(piece)
            self._missing -= len(piece)
            if self._missing:
                return found
            self._cut(self.incomplete(), 0, found)
        if self._refused:
            found.append(data[position:])
        else:
            self._cut(data, position, found)
        return found

    @property
    def at_rest(self) -> bool:
        """Whether no message in other frames is incomplete: what has read them may be forgotten."""
        return self._fast_lane and not self._fragmented and not self._refused

    def incomplete(self) -> bytes:
        """Take the bytes of the frame that is not complete."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

    def _cut(self, data: bytes, position: int, found: list[list[bytes] | bytes | Close]) -> None:
        end = len(data)
        while position < end:
            if self._fast_lane and not self._fragmented:
                messages: list[bytes] = []
                position = cut_messages(data, position, self._limit, messages, binary=self._binary)
                if messages:
                    found.append(messages)
                if position == end:
                    return
            start, length = measure(data, position, end)
            is_control = data[position] & 0x08  # never too long: measure() refuses a long one
            if start < 0:
                self._refused = True
                found.append(data[position:])
                return
            if start and not is_control and length + self._message_size > self._limit:
                self._refused = True
                found.append(Close(1009, f"a message above max_message_size ({self._limit} bytes)"))
                return
            stop = (start or position) + length
            if stop > end:
                self._keep(data[position:])
                self._missing = stop - end
                return
            if not is_control:  # control frames may come between the frames of a message
                self._fragmented = data[position] < 0x80
                self._message_size = self._message_size + length if self._fragmented else 0
            found.append(data[position:stop])
            position = stop

    def _keep(self, data: bytes) -> None:
        if len(data) > _SMALL:
            self._pieces.append(data)
        elif self._pieces and isinstance(last := self._pieces[-1], bytearray) and len(last) < 16 * _SMALL:
            last += data
        else:
            self._pieces.append(bytearray(data))


def cut_messages(data: bytes, position: int, limit: int, messages: list[bytes], *, binary: bool) -> int:
    """Append the payloads of consecutive ordinary frames in ``data`` to ``messages``: whole, final and unmasked ones.

    Args:
        position: where the first frame begins.
        limit: the size in bytes of the largest payload that is accepted.
        messages: is extended.
        binary: binary frames are ordinary; else text frames are.

    Returns:
        Where the first other frame begins: of another kind, incomplete, too large, or not UTF-8.
    """
    end = len(data)
    # The first two bytes, unmasked: the length is added to them, or is in the next two or eight bytes.
    short = (_BINARY if binary else _TEXT) << 8
    long, longer = short + 126, short + 127
    while position + 4 <= end:
        head, length = _header(data, position)
        if head == long:
            start = position + 4
            if length < 126:
                break
        elif short <= head < long:
            start = position + 2
            length = head - short
        else:
            start = position + 10
            if head != longer or start > end:
                break
            length = int.from_bytes(data[position + 2 : start], "big")
            if length < 1 << 16:
                break
        stop = start + length
        if stop > end or length > limit:
            break
        message = data[start:stop]
        if not binary and not message.isascii() and not is_utf8(message):
            break
        messages.append(message)
        position = stop
    return position


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def measure(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Read the header of the frame that begins at ``start``.

    Returns:
        Where the payload begins and its length; ``(0, n)`` if the header is not complete before ``end``: it has at
        least n bytes; ``(-1, 0)`` if a client must refuse the frame: masked, a length that is not in its shortest form
        or 2**63 and more, reserved bits or opcodes, a control frame that is long or fragmented (RFC 6455 5.2, 5.5).
    """
    if end - start < 2:
        return 0, 2
    first, length = data[start], data[start + 1]
    opcode = first & 0x0F
    if (
        first & 0x70
        or length & 0x80
        or 2 < opcode < 8
        or opcode > 10
        or (opcode >= 8 and (first < 0x80 or length > 125))
    ):
        return -1, 0
    if length < 126:
        return start + 2, length
    size = 2 if length == 126 else 8
    payload = start + 2 + size
    if payload > end:
        return 0, 2 + size
    length = int.from_bytes(data[start + 2 : payload], "big")
    if length < (126 if size == 2 else 1 << 16) or length >> 63:
        return -1, 0
    return payload, length


class Masker:
    """Writes the masked frames of short messages.

    Args:
        random_bytes: returns that many unpredictable bytes, such as ``os.urandom`` (RFC 6455 5.3).
        binary: write binary frames, and no text frames.
    """

    __slots__ = ("_at", "_first", "_pool", "_random_bytes")

    def __init__(self, random_bytes: Callable[[int], bytes], *, binary: bool = False) -> None:
        self._random_bytes = random_bytes
        self._first = _BINARY if binary else _TEXT
        self._pool = b""
        self._at = 0

    def frames(self, payloads: list[bytes], frame_long: Callable[[bytes], bytes]) -> bytes:
        """Return the frames of messages, in order; ``frame_long`` makes those of the payloads that are not short."""
        first, pool, at = self._first, self._pool, self._at
        frames: list[bytes] = []
        for payload in payloads:
            length = len(payload)
            if length > _FAST_MASKING_LIMIT:
                frames.append(frame_long(payload))
                continue
            if at == len(pool):
                pool = self._random_bytes(256)
                at = 0
            (mask,) = _mask(pool, at)
            at += 4
            words = (length + 3) // 4
            # One exclusive or for all bytes. A multiplication repeats the mask, which is cheaper than to repeat its
            # bytes and to convert them into an integer. The bytes behind the end of the payload are cut off.
            masked: int = int.from_bytes(payload, "little") ^ mask * _REPEAT[words]
            if length < 126:
                head = _short_head(first, 0x80 | length, mask)
            else:
                head = _long_head(first, 0xFE, length >> 8, length & 0xFF, mask)
            frames.append(head)
            frames.append(masked.to_bytes(4 * words, "little")[:length])
        self._pool, self._at = pool, at
        return b"".join(frames)
