"""WebSocket frames: the byte stream divided into frames, and a fast lane for ordinary messages in both directions.

wsproto takes some 8 us per frame; a whole, final, unmasked frame can be sliced out of the stream in a fraction of
a microsecond, and nearly all traffic consists of such frames. All other frames go to wsproto, one whole frame at a
time, so that wsproto is always at the border between two frames, and handles control frames, fragments and faults.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, TypeAlias

from limpet_core.client.ack_runs import FEWEST, LARGEST, AckRun, cut_acks
from limpet_core.protocol.close import Close

TEXT: Final = 0x81
BINARY: Final = 0x82
"""The first byte of a whole message in one frame: final, no reserved bits, and the opcode."""

# The first two bytes of an unmasked frame of text or not: the length is added, or is in the next two or eight bytes.
_HEADS: Final = tuple((first << 8, (first << 8) + 126, (first << 8) + 127) for first in (TEXT, BINARY))

LONG: Final = 1 << 15
_NOT_LONG: Final = LONG - 1
"""Bytes of text from which on its UTF-8 is checked where it is decoded: the decoder sees nearly all of it anyway."""

_header = Struct(">HH").unpack_from  # one call for four bytes is a third quicker than four look-ups

_SMALL: Final = 4096
"""Pieces of an incomplete frame up to this size are put together: an object for each would take more than its bytes."""


Found: TypeAlias = "list[bytes] | AckRun | memoryview | bytes | Close"


class FrameBuffer:
    """Divides the bytes that a client receives into frames.

    Args:
        limit: the size in bytes of the largest message that is accepted.
        fast_lane: cut ordinary frames out here; False leaves all frames to wsproto.
        binary: the ordinary frames are binary ones, and no text frames.
    """

    __slots__ = (
        "_acks",
        "_between",
        "_binary",
        "_cut_limit",
        "_fast_lane",
        "_fragmented",
        "_header",
        "_limit",
        "_message_size",
        "_missing",
        "_pieces",
        "_refused",
    )

    def __init__(self, limit: int, *, fast_lane: bool, binary: bool = False) -> None:
        self._limit = limit
        self._cut_limit = limit if binary else min(limit, _NOT_LONG)
        self._binary = binary
        self._fast_lane = fast_lane
        self._acks = fast_lane and not binary and limit >= LARGEST
        # A frame that is not complete, and how many bytes are missing before another look at it is worth while. The
        # pieces of an ordinary one are those of its payload, which then needs no copy to be cut out of the frame.
        self._header = b""
        self._pieces: list[bytes | bytearray | memoryview] | None = None
        self._missing = 0
        # A message in several frames that is not complete, and the size of its frames so far.
        self._fragmented = False
        self._message_size = 0
        self._refused = False
        # Whether the next byte begins a frame, and none of a message in several frames, nor behind a fault.
        self._between = fast_lane

    def feed(self, data: bytes) -> list[Found]:
        """Add received bytes.

        Returns:
            In the order of the stream: the payloads of consecutive ordinary frames, as a list; those of a run of acks;
            a long text of one, which may not be UTF-8, as a memoryview; any other frame, as bytes for wsproto; and how
            to close the connection because of a message above the limit. From a frame on that a client must refuse, all
            bytes are for wsproto, which names the fault.
        """
        if self._between:
            # What nearly all reads are: frames cut in a few steps.
            found: list[Found] = []
            # A look at the size in the head spares most other frames the call.
            if self._acks and len(data) >= FEWEST and data[1] <= LARGEST and (acks := cut_acks(data, 0)) is not None:
                found.append(acks)
                position = acks.end
            else:
                messages: list[bytes] = []
                position = cut_messages(data, 0, self._cut_limit, messages, binary=self._binary)
                if messages:
                    found.append(messages)
            if position < len(data):
                self._cut(data, position, found)
                self._between = self._fast_lane and not (self._pieces or self._fragmented or self._refused)
            return found
        found = self._feed_rest(data)
        self._between = self._fast_lane and not (self._pieces or self._fragmented or self._refused)
        return found

    def _feed_rest(self, data: bytes) -> list[Found]:
        """Add bytes that continue a frame or a message, or come after a fault."""
        found: list[Found] = []
        position = 0
        while self._pieces and not self._refused:
            # Only the frame that was cut in two is put together: to copy all the data that came with its end would be
            # the greater part of the cost of a long message.
            stop = position + self._missing
            if stop > len(data):
                self._missing = stop - len(data)
                self._keep(data[position:])
                return found
            self._pieces.append(memoryview(data)[position:stop])
            position = stop
            if self._header:
                self._complete(found)
            else:
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
        data = b"".join((self._header, *(self._pieces or ())))
        self._pieces, self._header = None, b""
        return data

    def _complete(self, found: list[Found]) -> None:
        """Find an ordinary frame whose last bytes have come."""
        header, payload = self._header, b"".join(self._pieces or ())
        self._pieces, self._header = None, b""
        if not self._binary and len(payload) >= LONG:
            found.append(memoryview(payload))
        elif self._binary or payload.isascii() or is_utf8(payload):
            found.append([payload])
        else:
            found.append(header + payload)

    def _cut(self, data: bytes, position: int, found: list[Found]) -> None:
        end = len(data)
        # Once: it looks at all the rest, and a peer may put a ping behind each ack.
        acks = self._acks and not self._fragmented and end - position >= FEWEST
        if acks and (run := cut_acks(data, position)) is not None:
            found.append(run)
            position = run.end
        while position < end:
            if self._fast_lane and not self._fragmented:
                messages: list[bytes] = []
                position = cut_messages(data, position, self._cut_limit, messages, binary=self._binary)
                if messages:
                    found.append(messages)
                if position == end:
                    return
            start, length = measure(data, position, end)
            first = data[position]
            is_control = first & 0x08  # never too long: measure() refuses a long one
            if start < 0:
                self._refused = True
                found.append(data[position:])
                return
            if start and not is_control and length + self._message_size > self._limit:
                self._refused = True
                found.append(Close(1009, f"a message above max_message_size ({self._limit} bytes)"))
                return
            ordinary = self._fast_lane and not self._fragmented and first == (BINARY if self._binary else TEXT)
            stop = (start or position) + length
            if stop > end:
                if ordinary and start:
                    self._header = data[position:start]
                    position = start
                self._keep(data[position:])
                self._missing = stop - end
                return
            if ordinary and not self._binary and length >= LONG:
                found.append(memoryview(data)[start:stop])
                position = stop
                continue
            if not is_control:  # control frames may come between the frames of a message
                self._fragmented = first < 0x80
                self._message_size = self._message_size + length if self._fragmented else 0
            found.append(data[position:stop])
            position = stop

    def _keep(self, data: bytes) -> None:
        if self._pieces is None:
            self._pieces = []
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
        limit: the size in bytes of the largest payload that is accepted; of text, below 64 KiB.
        messages: an empty list, which is filled.
        binary: binary frames are ordinary; else text frames are.

    Returns:
        Where the first other frame begins: of another kind, incomplete, too large, or not UTF-8.
    """
    end = len(data)
    last = end - 4
    header = _header
    short, long, longer = _HEADS[binary]
    while position <= last:
        head, length = header(data, position)
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
        messages.append(data[start:stop])
        position = stop
    # For all of many at once: a method call for each message would be a tenth of the whole.
    if not binary and not (messages[0].isascii() if len(messages) == 1 else all(map(bytes.isascii, messages))):
        for number, message in enumerate(messages):
            if not message.isascii() and not is_utf8(message):
                refused = messages[number:]
                del messages[number:]
                return position - sum(len(text) + _header_size(len(text)) for text in refused)
    return position


def text_frame(payload: memoryview) -> bytes:
    """Return the unmasked frame of a long text, as it came."""
    length = len(payload)
    head = b"\x81\x7e" + length.to_bytes(2, "big") if length < 1 << 16 else b"\x81\x7f" + length.to_bytes(8, "big")
    return head + payload


def _header_size(length: int) -> int:
    return 2 if length < 126 else 4


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
