"""The fast lane: the one kind of frame that nearly all traffic consists of, read and written by hand.

wsproto costs some 8 us a frame; a whole, final, unmasked text frame can be sliced out in a fraction of one.
Here frames are only told apart and measured. Everything but that one kind goes to wsproto, whole frame by whole
frame, so that wsproto always stands between two frames and decides whatever is unusual.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from struct import Struct
from typing import Final

_TEXT: Final = 0x8100
"""A final, unfragmented, unmasked text frame without reserved bits: the first two bytes, with a length of 0."""

_LONG: Final = _TEXT + 126
_LONGER: Final = _TEXT + 127
"""The same with its length in the next two or eight bytes."""

_header = Struct(">HH").unpack_from  # one call for four bytes: a third quicker than to look at each

_FAST_MASKING_LIMIT: Final = 1024
"""Up to this size, masking by one big integer beats wsproto's table (and costs less than its objects)."""

_REPEAT: Final = list(accumulate(range(_FAST_MASKING_LIMIT // 4), lambda ones, _: ones << 32 | 1, initial=0))
"""Times the n-th of these, a 32-bit word is repeated n times."""

_mask = Struct("<I").unpack_from
_short_head = Struct("<BBI").pack
_long_head = Struct("<BBBBI").pack


def cut_texts(data: bytes, position: int, limit: int, texts: list[bytes]) -> int:
    """Cut whole frames of the one kind out of ``data`` and append their payloads to ``texts``.

    Args:
        position: where the first frame begins.
        limit: the largest payload that is accepted.

    Returns:
        Where the first other frame begins: another kind, incomplete, too large, or not UTF-8.
    """
    end = len(data)
    while position + 4 <= end:
        head, length = _header(data, position)
        if head == _LONG:
            start = position + 4
            if length < 126:
                break
        elif _TEXT <= head < _LONG:
            start = position + 2
            length = head - _TEXT
        else:
            start = position + 10
            if head != _LONGER or start > end:
                break
            length = int.from_bytes(data[position + 2 : start], "big")
            if length < 1 << 16:
                break
        stop = start + length
        if stop > end or length > limit:
            break
        text = data[start:stop]
        if not text.isascii() and not is_utf8(text):
            break
        texts.append(text)
        position = stop
    return position


def is_utf8(data: bytes) -> bool:
    """Whether ``data`` is UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def measure(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Read the header of the frame that begins at ``start``.

    Returns:
        Where its payload begins and how long that is; ``(0, n)`` if the header is not complete before ``end``:
        it has at least n bytes;
        ``(-1, 0)`` if a client must refuse it: masked, a length that is not the shortest form or above 2**63,
        reserved bits or opcodes, a control frame that is long or fragmented (RFC 6455 5.2, 5.5).
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
    """Writes masked text frames by hand.

    Args:
        random_bytes: returns that many unpredictable bytes, such as ``os.urandom`` (RFC 6455 5.3).
    """

    __slots__ = ("_at", "_pool", "_random_bytes")

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._pool = b""
        self._at = 0

    @staticmethod
    def suits(payload: bytes) -> bool:
        """Whether ``payload`` is short enough to be written here faster than by wsproto."""
        return len(payload) <= _FAST_MASKING_LIMIT

    def text_frame(self, payload: bytes) -> bytes:
        """A whole, final, masked text frame with ``payload``, which is one that :meth:`suits`."""
        at = self._at
        if at == len(self._pool):
            self._pool = self._random_bytes(256)
            at = 0
        self._at = at + 4
        (mask,) = _mask(self._pool, at)
        length = len(payload)
        words = (length + 3) // 4
        # One exclusive or for all bytes. The mask is repeated by a multiplication, which is cheaper than to make
        # these bytes and turn them into an integer; those behind the end are cut off.
        masked: int = int.from_bytes(payload, "little") ^ mask * _REPEAT[words]
        if length < 126:
            head = _short_head(0x81, 0x80 | length, mask)
        else:
            head = _long_head(0x81, 0xFE, length >> 8, length & 0xFF, mask)
        return head + masked.to_bytes(4 * words, "little")[:length]
