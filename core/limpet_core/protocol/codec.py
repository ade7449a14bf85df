"""Codec: how the messages of a subprotocol are written and read. JSON is the only one so far."""

from __future__ import annotations

from typing import Any, Final, Protocol

from limpet_core.protocol import json
from limpet_core.protocol.messages import Incoming
from limpet_core.protocol.names import JSON, RELIABLE_JSON


class Codec(Protocol):
    """Writes the messages of a client, and reads the messages of the service.

    The codecs are for text so far. A binary subprotocol also needs binary frames in ``Link`` and in the connections of
    message transports, and a meaning for :meth:`Session.receive_binary`.

    Attributes:
        ping: the message that asks for a pong.
        ack_id_size: by how many bytes :meth:`with_ack_id` makes a message longer, at most.
    """

    ping: bytes
    ack_id_size: int

    def decode(self, message: bytes, /) -> Incoming:
        """Decode one message; never raises, whatever the peer sends."""
        ...

    def encode_join(self, group: str, ack_id: int, /) -> bytes:
        """Encode a request to join ``group``.

        Raises:
            InvalidType, InvalidValue: ``group`` is no group name; the message names the argument.
        """
        ...

    def encode_leave(self, group: str, ack_id: int, /) -> bytes:
        """Encode a request to leave ``group``. Raises as :meth:`encode_join`."""
        ...

    def encode_send(
        self, group: str, data: Any, data_type: str | None, no_echo: bool, ack_id: int | None, limit: int, /
    ) -> bytes:
        """Encode a publish to ``group``.

        Args:
            ack_id: None: the service shall not answer.
            limit: the largest size in bytes.

        Raises:
            InvalidType, InvalidValue: the message names the argument.
        """
        ...

    def encode_event(self, event: str, data: Any, data_type: str | None, ack_id: int | None, limit: int, /) -> bytes:
        """Encode an event for the application server. Arguments and errors are those of :meth:`encode_send`."""
        ...

    def with_ack_id(self, message: bytes, ack_id: int, /) -> bytes:
        """Return ``message``, which was encoded without an ack id, with ``ack_id``."""
        ...

    def sequence_ack(self, sequence_id: int, /) -> bytes:
        """Encode the message that acknowledges everything up to ``sequence_id`` (client-spec 3.2.3)."""
        ...


_CODECS: Final[dict[str, Codec]] = {RELIABLE_JSON: json, JSON: json}


def codec_for(subprotocol: str) -> Codec:
    """Return the codec of a subprotocol that :class:`~limpet.Options` accepts."""
    return _CODECS[subprotocol]
