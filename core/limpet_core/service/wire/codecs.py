"""The codec of a connection: how its messages are read and written, by its subprotocol."""

from __future__ import annotations

from typing import Final, Protocol

from limpet_core.errors import InvalidValue
from limpet_core.protocol.codec import codec_for as client_codec_for
from limpet_core.protocol.names import PROTOBUF_SUBPROTOCOLS, SUBPROTOCOLS
from limpet_core.service.wire import from_client, to_client
from limpet_core.service.wire.requests import ClientMessage
from limpet_core.service.wire.to_client import Publication


class Codec(Protocol):
    """Reads the messages of a client, and writes the messages for it.

    Invocations and group states have a JSON form alone: ``to_client`` has their messages.

    Attributes:
        binary: whether the client has binary frames only; all that is written is a :class:`Binary` then.
        pong: the answer to a ping.
    """

    @property
    def binary(self) -> bool: ...

    @property
    def pong(self) -> bytes: ...

    def decode(self, data: bytes, /) -> ClientMessage:
        """Decode and check a message; raise ProtocolViolation or UnknownOperation."""
        ...

    def frame(self, publication: Publication, /) -> bytes:
        """Encode a message without a sequence id, as a whole WebSocket frame."""
        ...

    def numbered_frame(self, publication: Publication, sequence_id: int, /) -> bytes:
        """Encode a message with a sequence id, for a reliable connection (client-spec 3.2), as a whole frame."""
        ...

    def connected(self, connection_id: str, user_id: str | None, reconnection_token: str | None, /) -> bytes:
        """Encode the connected message (client-spec 1.2)."""
        ...

    def disconnected(self, message: str, /) -> bytes:
        """Encode the message that announces a close by the service (client-spec 1.3)."""
        ...

    def ack(self, ack_id: int, /) -> bytes:
        """Encode the success of a request (client-spec 3.1)."""
        ...

    def ack_error(self, ack_id: int, name: str, message: str, /) -> bytes:
        """Encode the failure of a request (Azure docs)."""
        ...

    def stream_ack(self, stream_id: str, expected: int, /) -> bytes:
        """Encode that the service has all fragments of a stream before ``expected`` (client-spec 3.6.4)."""
        ...

    def stream_nack(self, stream_id: str, expected: int, name: str, message: str, /) -> bytes:
        """Encode that the service wants a stream from the fragment ``expected`` on once more (client-spec 3.6.4.5)."""
        ...

    def stream_closed(self, stream_id: str, error: tuple[str, str] | None, /) -> bytes:
        """Encode the end of a stream, with the name and the text of an error if there is one (client-spec 3.6.4)."""
        ...


class JsonCodec:
    """The codec of the JSON subprotocols; see :class:`Codec`."""

    binary: bool = False
    pong: bytes = to_client.PONG

    @staticmethod
    def decode(data: bytes) -> ClientMessage:
        return from_client.decode(data)

    @staticmethod
    def connected(connection_id: str, user_id: str | None, reconnection_token: str | None) -> bytes:
        return to_client.connected(connection_id, user_id, reconnection_token)

    @staticmethod
    def disconnected(message: str) -> bytes:
        return to_client.disconnected(message)

    @staticmethod
    def ack(ack_id: int) -> bytes:
        return to_client.ack(ack_id)

    @staticmethod
    def ack_error(ack_id: int, name: str, message: str) -> bytes:
        return to_client.ack_error(ack_id, name, message)

    @staticmethod
    def stream_ack(stream_id: str, expected: int) -> bytes:
        return to_client.stream_ack(stream_id, expected)

    @staticmethod
    def stream_nack(stream_id: str, expected: int, name: str, message: str) -> bytes:
        return to_client.stream_nack(stream_id, expected, name, message)

    @staticmethod
    def stream_closed(stream_id: str, error: tuple[str, str] | None) -> bytes:
        return to_client.stream_closed(stream_id, error)

    # The methods themselves: called once for each receiver of each message.
    frame: staticmethod[[Publication], bytes] = staticmethod(Publication.frame)
    numbered_frame: staticmethod[[Publication, int], bytes] = staticmethod(Publication.numbered_frame)


_JSON: Final = JsonCodec()


def codec_for(subprotocol: str | None, *, json_as_text: bool = False) -> Codec:
    """Return the codec of a subprotocol that the service speaks; raw clients have one that is not used.

    Args:
        subprotocol: the canonical name, or ``None``.
        json_as_text: send JSON to protobuf clients as ``text_data``, and not as ``json_data``.
    """
    if subprotocol not in PROTOBUF_SUBPROTOCOLS:
        return _JSON
    from limpet_core.service.wire.protobuf_codec import ProtobufCodec

    return ProtobufCodec(json_as_text)


def is_spoken(subprotocol: str) -> bool:
    """Return whether the service speaks a subprotocol; for protobuf it needs the package ``protobuf``."""
    if subprotocol in PROTOBUF_SUBPROTOCOLS:
        try:
            client_codec_for(subprotocol)
        except InvalidValue:
            return False
    return subprotocol in SUBPROTOCOLS
