"""The messages of clients that a node deals with by itself, or for many clients together."""

from __future__ import annotations

from typing import Final

from limpet_core.service.connections.connection import Connection
from limpet_core.service.wire.from_client import ProtocolViolation, UnknownOperation
from limpet_core.service.wire.requests import Ping, SequenceAck

_LARGEST: Final = 256  # bytes of a ping or a sequence ack; larger ones work, only later
_CONTROL: Final = (SequenceAck, Ping)


def control_message(connection: Connection, data: str | bytes) -> Ping | SequenceAck | None:
    """Return the ping or the acknowledgement that a message of a client is; ``None`` for all others."""
    if len(data) > _LARGEST or connection.raw is not None:
        return None
    encoded = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if connection.codec.binary:
        if isinstance(data, str):  # JSON may come as either
            return None
    # Most messages are none, and would be decoded twice. One whose type is escaped works, only later. The operator in
    # takes longer than the method find: it asks first whether the text is an integer.
    elif encoded.find(b'"sequenceAck"') < 0 and encoded.find(b'"ping"') < 0:
        return None
    try:
        message = connection.codec.decode(encoded)
    except (ProtocolViolation, UnknownOperation):
        return None
    return message if isinstance(message, _CONTROL) else None
