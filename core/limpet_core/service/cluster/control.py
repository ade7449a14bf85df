"""The messages of clients that a node deals with by itself, or for many clients together."""

from __future__ import annotations

from typing import Final

from limpet_core.service.connections.connection import Connection
from limpet_core.service.wire.from_client import ProtocolViolation, UnknownOperation
from limpet_core.service.wire.requests import Ping, SequenceAck

_LARGEST: Final = 256  # bytes of a ping or a sequence ack; larger ones work, only later


def control_message(connection: Connection, data: str | bytes) -> Ping | SequenceAck | None:
    """Return the ping or the acknowledgement that a message of a client is; ``None`` for all others."""
    wrong_frame = connection.codec.binary and isinstance(data, str)  # JSON may come as either
    if connection.raw is not None or len(data) > _LARGEST or wrong_frame:
        return None
    encoded = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    # Most messages are none, and would be decoded twice. One whose type is escaped works, only later.
    if not connection.codec.binary and b'"ping"' not in encoded and b'"sequenceAck"' not in encoded:
        return None
    try:
        message = connection.codec.decode(encoded)
    except (ProtocolViolation, UnknownOperation):
        return None
    return message if isinstance(message, Ping | SequenceAck) else None
