"""Masked frames: a client's messages on their way to the transport, without wsproto.

A mask is an exclusive or with four bytes (RFC 6455 5.3). The package ``websockets`` has it in C, and it is taken where
it is installed: that is the extra ``speedups``. Python's own way is one big integer for each short message; wsproto has
a table for long ones.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate, chain
from struct import Struct
from typing import Final

from limpet_core.client.frames import BINARY, TEXT

ApplyMask = Callable[[bytes, bytes], bytes]
"""Returns data with a mask of four bytes applied."""

_FAST_MASKING_LIMIT: Final = 1024
"""Bytes of the largest payload that Python masks here: up to this size, one big integer is faster than a table."""

_REPEAT: Final = list(accumulate(range(_FAST_MASKING_LIMIT // 4), lambda ones, _: ones << 32 | 1, initial=0))
"""A 32-bit word multiplied by the n-th of these numbers is repeated n times."""

MOST_HEADS: Final = 4096
"""Heads that are kept: those of payloads that are shorter."""

_MANY: Final = 16
"""From so many messages on, steps for all of them cost less than a loop."""


class Heads(dict[int, bytes]):
    """The heads of masked frames by the length of their payload. To make one costs more than to find it.

    Args:
        first: the first byte of the frames.
    """

    def __init__(self, first: int) -> None:
        super().__init__()
        self._first = first

    def __missing__(self, length: int) -> bytes:
        if length < 126:
            head = bytes((self._first, 0x80 | length))
        elif length < 1 << 16:
            head = bytes((self._first, 0xFE)) + length.to_bytes(2, "big")
        else:
            head = bytes((self._first, 0xFF)) + length.to_bytes(8, "big")
        if length < MOST_HEADS:
            self[length] = head
        return head


_HEADS: Final = {first: Heads(first) for first in (TEXT, BINARY)}

_keys = Struct("4s").iter_unpack
_mask = Struct("<I").unpack_from
_short_head = Struct("<BBI").pack
_long_head = Struct("<BBBBI").pack


def find_apply_mask() -> ApplyMask | None:
    """Return the function of the package ``websockets``, which is written in C; None: it is not installed."""
    try:
        from websockets.speedups import apply_mask
    except ImportError:
        return None
    return apply_mask


APPLY_MASK: Final = find_apply_mask()


class Masker:
    """Writes the masked frames of messages.

    Args:
        random_bytes: returns that many unpredictable bytes, such as ``os.urandom`` (RFC 6455 5.3).
        binary: write binary frames, and no text frames.
        apply_mask: masks in C; None: Python does it.
    """

    __slots__ = ("_apply_mask", "_at", "_first", "_pool", "_random_bytes")

    def __init__(
        self, random_bytes: Callable[[int], bytes], *, binary: bool = False, apply_mask: ApplyMask | None = APPLY_MASK
    ) -> None:
        self._random_bytes = random_bytes
        self._apply_mask = apply_mask
        self._first = BINARY if binary else TEXT
        self._pool = b""
        self._at = 0

    def frames(self, payloads: list[bytes], frame_long: Callable[[bytes], bytes]) -> bytes:
        """Return the frames of messages, in order.

        Args:
            payloads: the messages.
            frame_long: makes the frames of payloads above 1 KiB where there is no ``apply_mask``.
        """
        # The masks of many messages come at once; few have theirs from a pool.
        many = self._random_bytes(4 * len(payloads)) if len(payloads) >= _MANY else b""
        if self._apply_mask is not None:
            return self._quick_frames(payloads, many, self._apply_mask)
        first = self._first
        pool, at = (many, 0) if many else (self._pool, self._at)
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
        if not many:
            self._pool, self._at = pool, at
        return b"".join(frames)

    def _quick_frames(self, payloads: list[bytes], many: bytes, apply_mask: ApplyMask) -> bytes:
        heads = _HEADS[self._first]
        if many:
            keys = [key for (key,) in _keys(many)]
            parts = zip(map(heads.__getitem__, map(len, payloads)), keys, map(apply_mask, payloads, keys), strict=True)
            return b"".join(chain.from_iterable(parts))
        pool, at = self._pool, self._at
        frames: list[bytes] = []
        for payload in payloads:
            if at == len(pool):
                pool = self._random_bytes(256)
                at = 0
            key = pool[at : at + 4]
            at += 4
            frames += heads[len(payload)], key, apply_mask(payload, key)
        self._pool, self._at = pool, at
        return b"".join(frames)
