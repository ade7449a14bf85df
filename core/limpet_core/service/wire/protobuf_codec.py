"""The codec of a connection with a protobuf subprotocol. Import it only where such a client is."""

from __future__ import annotations

from limpet_core.service.wire import protobuf_from_client, protobuf_to_client
from limpet_core.service.wire.frames import frame_of
from limpet_core.service.wire.requests import ClientMessage
from limpet_core.service.wire.to_client import Publication


class ProtobufCodec:
    """See :class:`limpet_core.service.wire.codecs.Codec`.

    Args:
        json_as_text: send JSON as ``text_data``, the only form in the published schema, and not as ``json_data``.
            It is the same for all clients of a service.
    """

    binary: bool = True
    pong: bytes = protobuf_to_client.PONG

    @staticmethod
    def decode(data: bytes) -> ClientMessage:
        return protobuf_from_client.decode(data)

    @staticmethod
    def connected(connection_id: str, user_id: str | None, reconnection_token: str | None) -> bytes:
        return protobuf_to_client.connected(connection_id, user_id, reconnection_token)

    @staticmethod
    def disconnected(message: str) -> bytes:
        return protobuf_to_client.disconnected(message)

    @staticmethod
    def ack(ack_id: int) -> bytes:
        return protobuf_to_client.ack(ack_id)

    @staticmethod
    def ack_error(ack_id: int, name: str, message: str) -> bytes:
        return protobuf_to_client.ack_error(ack_id, name, message)

    @staticmethod
    def stream_ack(stream_id: str, expected: int) -> bytes:
        return protobuf_to_client.stream_ack(stream_id, expected)

    @staticmethod
    def stream_nack(stream_id: str, expected: int, name: str, message: str) -> bytes:
        return protobuf_to_client.stream_nack(stream_id, expected, name, message)

    @staticmethod
    def stream_closed(stream_id: str, error: tuple[str, str] | None) -> bytes:
        return protobuf_to_client.stream_closed(stream_id, error)

    def __init__(self, json_as_text: bool) -> None:
        self._json_as_text = json_as_text

    def frame(self, publication: Publication) -> bytes:
        return frame_of(protobuf_to_client.plain(publication, json_as_text=self._json_as_text))

    def numbered_frame(self, publication: Publication, sequence_id: int) -> bytes:
        return frame_of(protobuf_to_client.numbered(publication, sequence_id, json_as_text=self._json_as_text))
