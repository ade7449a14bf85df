"""Messages from the service to the client: encoding.

A publication is encoded once; the sequence id of each reliable receiver is put in front.
"""

from __future__ import annotations

import binascii
import math
from typing import Final

import msgspec

PONG: Final = b'{"type":"pong"}'
"""The answer to a ping (Azure docs)."""

_encode = msgspec.json.encode
_decode_text = msgspec.json.Decoder(str).decode


class Binary(bytes):
    """A message for a binary frame; all other messages are for text frames."""


class Publication:
    """A message to any number of receivers, encoded once.

    Attributes:
        plain: the encoded message without a sequence id.
        size: the length of ``plain`` in bytes; the limits of the service count it.
        expires: when an undelivered copy is dropped, in monotonic seconds; ``math.inf``: never.
    """

    __slots__ = ("_data", "_data_type", "_payload", "_tail", "expires", "plain", "size")

    def __init__(
        self, head: bytes, data_type: str, data: bytes, metadata: bytes = b"", expires: float = math.inf
    ) -> None:
        # The members of the JSON object, without the opening and with the closing brace.
        ending = b',"metadata":%b}' % metadata if metadata else b"}"
        self._tail = b'"type":"message",%b,"dataType":"%b","data":%b%b' % (head, data_type.encode(), data, ending)
        self.plain: bytes = b"{" + self._tail
        self.size: int = len(self.plain)
        self.expires: float = expires
        self._data_type = data_type
        self._data = data
        self._payload: bytes | None = None

    @property
    def payload(self) -> bytes:
        """The payload alone, for raw clients (Azure docs): :class:`Binary` unless it is text or JSON."""
        if self._payload is None:
            if self._data_type == "json":
                self._payload = self._data
            else:
                text = _decode_text(self._data)
                self._payload = text.encode() if self._data_type == "text" else Binary(binascii.a2b_base64(text))
        return self._payload

    def numbered(self, sequence_id: int) -> bytes:
        """Return the message with a sequence id, for a reliable connection (client-spec 3.2)."""
        return b'{"sequenceId":%d,%b' % (sequence_id, self._tail)


def group_publication(
    group: str,
    from_user_id: str | None,
    data_type: str,
    data: bytes,
    metadata: bytes = b"",
    expires: float = math.inf,
) -> Publication:
    """Return a message to a group; ``data`` and ``metadata`` (empty: none) are JSON, copied unchanged."""
    head = b'"from":"group","group":%b,"fromUserId":%b' % (_encode(group), _encode(from_user_id))
    return Publication(head, data_type, data, metadata, expires)


def server_publication(data_type: str, data: bytes, metadata: bytes = b"", expires: float = math.inf) -> Publication:
    """Return a message of the application server; ``data`` and ``metadata`` are JSON, copied unchanged."""
    return Publication(b'"from":"server"', data_type, data, metadata, expires)


class _Connected(msgspec.Struct, tag="system", tag_field="type", rename="camel"):
    event: str
    user_id: str | None
    connection_id: str
    reconnection_token: str | msgspec.UnsetType = msgspec.UNSET


class _Disconnected(msgspec.Struct, tag="system", tag_field="type"):
    event: str
    message: str


class _Error(msgspec.Struct):
    name: str
    message: str


class _Ack(msgspec.Struct, tag="ack", tag_field="type", rename="camel"):
    ack_id: int
    success: bool
    error: _Error


class _InvokeResponse(msgspec.Struct, tag="invokeResponse", tag_field="type", rename="camel"):
    invocation_id: str
    success: bool
    error: _Error


class _StreamClosed(msgspec.Struct, tag="streamClosed", tag_field="type", rename="camel"):
    stream_id: str
    error: _Error


def connected(connection_id: str, user_id: str | None, reconnection_token: str | None) -> bytes:
    """Encode the connected message; anonymous users are ``null`` (client-spec 1.2, emulator)."""
    token = msgspec.UNSET if reconnection_token is None else reconnection_token
    return _encode(_Connected("connected", user_id, connection_id, token))


def disconnected(message: str) -> bytes:
    """Encode the message that announces a close by the service (client-spec 1.3)."""
    return _encode(_Disconnected("disconnected", _readable(message)))


def ack(ack_id: int) -> bytes:
    """Encode the success of a request (client-spec 3.1)."""
    return b'{"type":"ack","ackId":%d,"success":true}' % ack_id


def ack_error(ack_id: int, name: str, message: str) -> bytes:
    """Encode the failure of a request; ``name`` is such as ``Forbidden`` or ``NotFound`` (Azure docs)."""
    return _encode(_Ack(ack_id, False, _Error(name, _readable(message))))


def invocation_error(invocation_id: str, name: str, message: str) -> bytes:
    """Encode the failure of an invocation (js)."""
    return _encode(_InvokeResponse(invocation_id, False, _Error(name, message)))


def stream_error(stream_id: str, name: str, message: str) -> bytes:
    """Encode the end of a stream with an error (client-spec 3.6)."""
    return _encode(_StreamClosed(stream_id, _Error(name, message)))


def _readable(text: str) -> str:
    """Return text without lone surrogates, which cannot be encoded."""
    return text.encode("utf-8", "replace").decode()
