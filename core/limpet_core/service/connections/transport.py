"""Transport: one WebSocket of a client, and the messages that wait to be written to it."""

from __future__ import annotations

import math
import sys
from typing import Final

from limpet_core.protocol.close import Close
from limpet_core.service.connections.connection import Attachment, Connection
from limpet_core.service.connections.limits import Limits
from limpet_core.service.wire.frames import MEDIUM_FRAME, SHORT_FRAME, frame_of, message_of

# Room in the outbox of a reliable transport beyond the messages: for acks, pongs, system messages (emulator).
_CONTROL_FRAMES: Final = 32
_CONTROL_BYTES: Final = 64 * 1024


class Transport(Attachment):
    """One WebSocket of a client, as the service sees it. Compared by identity.

    Once handed out by :meth:`ServiceCore.transports_with_output`: write :meth:`messages_to_send` or
    :meth:`frames_to_send`, then carry out ``close``, if set.

    Attributes:
        close: the order to close; ``None`` while the transport stays open.
        ready: whether the transport waits to be handed out.
        replayed_to: the newest sequence id of the messages that were sent again when the client came back; 0: none was.
        acknowledged: the newest one that the client has acknowledged here, in a cluster: its log may not say so yet.
        expiring: the queued messages that expire: (index in the outbox, when, in seconds of a monotonic clock).
    """

    __slots__ = (
        "_bytes",
        "_max_bytes",
        "_max_frames",
        "_outbox",
        "_replayed",
        "_waiting",
        "acknowledged",
        "close",
        "expiring",
        "ready",
        "replayed_to",
    )

    def __init__(self, waiting: list[Transport], limits: Limits | None, connection: Connection | None) -> None:
        super().__init__(connection)
        self.close: Close | None = None
        self.ready: bool = False
        self.replayed_to: int = 0
        self.acknowledged: int = 0
        self._replayed = 0
        self._waiting = waiting
        # Whole frames: a message to many is framed once. The bytes are those of the messages in them.
        self._outbox: list[bytes] = []
        self._bytes = 0
        self.expiring: list[tuple[int, float]] = []
        self._max_frames = self._max_bytes = sys.maxsize
        if limits is not None:
            reliable = connection is not None and connection.reliable
            self._max_frames = limits.retained_messages + (_CONTROL_FRAMES if reliable else 0)
            self._max_bytes = limits.retained_bytes + (_CONTROL_BYTES if reliable else 0)

    @property
    def transport(self) -> Transport:
        """Itself."""
        return self

    def messages_to_send(self, now: float = -math.inf) -> list[bytes]:
        """Return the messages queued since the last call, without those that have expired by ``now``.

        Send each as one text frame, a :class:`Binary` as one binary frame.
        """
        return [message_of(frame) for frame in self.frames_to_send(now)]

    def frames_to_send(self, now: float = -math.inf) -> list[bytes]:
        """Return the same as :meth:`messages_to_send`, each as a whole frame of an unmasked WebSocket (RFC 6455 5.2).

        Faster where the frames go to a TCP connection as they are. ``now`` matters if :attr:`expiring` has any.
        """
        outbox = self._outbox
        if outbox:
            self._outbox = []
            self._bytes = 0
            if self.expiring:
                expired = {index for index, expires in self.expiring if expires <= now}
                self.expiring = []
                return [frame for index, frame in enumerate(outbox) if index not in expired]
        return outbox

    def send(self, message: bytes) -> bool:
        """Queue a message; see :meth:`send_frame`."""
        return self.send_frame(frame_of(message), math.inf)

    def send_frame(self, frame: bytes, expires: float) -> bool:
        """Queue a message in a frame; return False if there is no room for it: the client is too slow (emulator).

        After the order to close, drop the message.
        """
        if self.close is not None:
            return True
        outbox, length = self._outbox, len(frame)
        size = self._bytes + length - (2 if length <= SHORT_FRAME else 4 if length <= MEDIUM_FRAME else 10)
        if len(outbox) >= self._max_frames or size > self._max_bytes:
            return False
        self._bytes = size
        if expires != math.inf:
            self.expiring.append((len(outbox), expires))
        outbox.append(frame)
        if not self.ready:
            self._hand_out()
        return True

    def has_little(self, limits: Limits) -> bool:
        """Return whether what is queued, and what its connection retains, is within limits, whatever is left out."""
        connection = self.connection
        return connection is None or (
            len(self._outbox) <= limits.retained_messages
            and self._bytes <= limits.retained_bytes
            and connection.retains_little(limits)
        )

    def is_full(self, limits: Limits) -> bool:
        """Return whether more is queued than limits allow."""
        return len(self._outbox) > limits.retained_messages + _CONTROL_FRAMES + self._replayed or self._bytes > (
            limits.retained_bytes + _CONTROL_BYTES
        )

    def replay(self, frames: list[tuple[bytes, float]], sequence_id: int) -> None:
        """Queue retained messages, the newest of which has this sequence id, each with the time when it expires.

        They are within the limits already.
        """
        self._replayed = len(frames)
        self.replayed_to = sequence_id
        for frame, expires in frames:
            if expires != math.inf:
                self.expiring.append((len(self._outbox), expires))
            self._outbox.append(frame)
        if frames:
            self._hand_out()

    def end(self, close: Close, *, discard: bool = False) -> None:
        """Order the transport to close, after the queued messages or without them. Repeats do nothing."""
        if self.close is not None:
            return
        self.close = close
        if discard:
            self._outbox = []
            self.expiring = []
            self._bytes = 0
        self._hand_out()

    def _hand_out(self) -> None:
        if not self.ready:
            self.ready = True
            self._waiting.append(self)
