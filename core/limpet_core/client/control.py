"""Control: pings and sequence acks on their way to the transport."""

from __future__ import annotations

from limpet_core.protocol.codec import Codec


class Control:
    """Messages of the session itself, which go out before requests.

    Attributes:
        messages: the messages to send, in order.
    """

    __slots__ = ("_codec", "messages")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.messages: list[bytes] = []

    def ping(self) -> None:
        """Send a ping, unless one waits to be sent."""
        if self._codec.ping not in self.messages:
            self.messages.append(self._codec.ping)

    def acknowledge(self, sequence_id: int) -> None:
        """Send a sequence ack. It replaces one that is not sent yet: they must not pile up on a slow transport."""
        if self.messages:
            ping = self._codec.ping
            self.messages[:] = [message for message in self.messages if message is ping]
        self.messages.append(self._codec.sequence_ack(sequence_id))
