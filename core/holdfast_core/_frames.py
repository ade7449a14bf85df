"""The fast lane: the one kind of frame that nearly all traffic consists of, read and written by hand.

wsproto costs some 8 us a frame; a whole, final, unmasked text frame can be sliced out in a fraction of one.
Here frames are only told apart and measured. Everything but that one kind goes to wsproto, whole frame by whole
frame, so that wsproto always stands between two frames and decides whatever is unusual.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

TEXT: Final = 0x81
"""First byte of a final, unfragmented text frame without reserved bits."""

_FAST_MASKING_LIMIT: Final = 1024
"""Up to this size, masking by one big integer beats wsproto's table (and costs less than its objects)."""


def cut_texts(data: bytes, position: int, limit: int, texts: list[bytes]) -> int:
    """Cut whole frames of the one kind out of ``data`` and append their payloads to ``texts``.

    Args:
        position: where the first frame begins.
        limit: the largest payload that is accepted.

    Returns:
        Where the first other frame begins: another kind, incomplete, too large, or not UTF-8.
    """
    end = len(data)
    while position + 4 <= end and data[position] == TEXT:
        length = data[position + 1]
        if length < 126:
            start = position + 2
        elif length == 126:
            start = position + 4
            length = data[position + 2] << 8 | data[position + 3]
            if length < 126:
                break
        else:
            start = position + 10
            if length != 127 or start > end:
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
        Where its payload begins and how long that is; ``(0, 0)`` if the header is not complete before ``end``;
        ``(-1, 0)`` if a client must refuse it: masked, a length that is not the shortest form or above 2**63,
        reserved bits or opcodes, a control frame that is long or fragmented (RFC 6455 5.2, 5.5).
    """
    if end - start < 2:
        return 0, 0
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
        return 0, 0
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
        """A whole, final, masked text frame with ``payload``, which is at most 65535 bytes of UTF-8."""
        at = self._at
        if at == len(self._pool):
            self._pool = self._random_bytes(256)
            at = 0
        self._at = at + 4
        mask = self._pool[at : at + 4]
        length = len(payload)
        header = b"\x81%c" % (0x80 | length) if length < 126 else b"\x81\xfe%c%c" % (length >> 8, length & 0xFF)
        pad = (mask * (length // 4 + 1))[:length]
        masked = int.from_bytes(payload, "little") ^ int.from_bytes(pad, "little")
        return header + mask + masked.to_bytes(length, "little")
