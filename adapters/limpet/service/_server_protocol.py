"""The WebSocket protocol at the service's end of a connection, with a quick way for the messages of clients."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from websockets.frames import Frame, Opcode
from websockets.server import ServerProtocol
from websockets.streams import StreamReader

from limpet_core.protocol.close import Close
from limpet_core.service.closes import broken_frame

try:
    from websockets.speedups import apply_mask
except ImportError:  # no wheel for this Python
    from websockets.utils import apply_mask

# To look a member of an enumeration up takes longer than most of what is done with it.
CONT: Final = Opcode.CONT
TEXT: Final = Opcode.TEXT
DATA_OPCODES: Final = (TEXT, Opcode.BINARY, CONT)

# The first byte of the frame of a whole message: final, without extensions.
_WHOLE: Final = {0x81: TEXT, 0x82: Opcode.BINARY}
_MASKED: Final = 0x80
_MASK_SIZE: Final = 4
_SHORT_HEAD: Final = 2 + _MASK_SIZE
_MEDIUM: Final = 126  # the size is in two bytes behind it; behind a larger number, in eight


class _Reader(StreamReader):
    """What the library has not parsed yet.

    Attributes:
        is_between_frames: whether the library waits for the first byte of a frame.
    """

    is_between_frames: bool = False

    def at_eof(self) -> Generator[None, None, bool]:
        """Wait for a byte, or for the end of all. The library does so before each frame."""
        self.is_between_frames = True
        is_over = yield from super().at_eof()
        self.is_between_frames = False
        return is_over


class LimpetServerProtocol(ServerProtocol):
    """Cuts whole messages out of what comes by itself, in fewer steps than the library, which does all else.

    Its close frames say first what the cloud says, and then what the library has found.
    """

    def __init__(self, *, max_size: int, **options: Any) -> None:
        super().__init__(max_size=max_size, **options)
        self._max_size = max_size
        self._is_in_message = False  # behind a fragment
        self.reader: _Reader = _Reader()
        self.parser = self.parse()  # the library's own one reads from another reader
        next(self.parser)

    def receive_data(self, data: bytes | bytearray) -> None:
        """Take bytes of the client."""
        # Behind an error or a close frame the library sends the end and discards the rest. The state does not tell: it
        # is open where the error came before the answer to the handshake.
        if self.reader.is_between_frames and not self._is_in_message and not self.eof_sent:
            frames, data = cut_messages(data, self._max_size)
            self.events += frames
            if not data:
                return
        super().receive_data(data)
        for event in self.events:
            if isinstance(event, Frame) and event.opcode in DATA_OPCODES:
                self._is_in_message = not event.fin

    def fail(self, code: int, reason: str = "") -> None:
        super().fail(code, Close.because(code, f"{broken_frame(code)} {reason}".rstrip()).reason)


def cut_messages(data: bytes | bytearray, max_size: int) -> tuple[list[Frame], bytes | bytearray]:
    """Return the frames at the beginning that are whole messages below 64 KiB, and the rest.

    The rest begins with anything else: a longer message than ``max_size``, a fragment, a control frame, a part of a
    frame, an error. ``data`` begins with a frame, and no message has begun before.
    """
    frames: list[Frame] = []
    start, end = 0, len(data)
    while end - start >= _SHORT_HEAD:
        opcode = _WHOLE.get(data[start])
        size = data[start + 1] - _MASKED
        payload = start + _SHORT_HEAD
        if size == _MEDIUM:
            size = data[start + 2] << 8 | data[start + 3]
            payload += 2
        elif not 0 <= size < _MEDIUM:
            break
        next_start = payload + size
        if opcode is None or size > max_size or next_start > end:
            break
        frames.append(Frame(opcode, apply_mask(data[payload:next_start], data[payload - _MASK_SIZE : payload])))
        start = next_start
    return frames, data[start:]
