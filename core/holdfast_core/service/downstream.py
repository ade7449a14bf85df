"""Messages from the service to the client: encoding.

A published message is encoded once; each reliable receiver gets its own sequence id spliced in front.
"""

from __future__ import annotations

import math
from typing import Final

import msgspec

__all__ = [
    "PONG",
    "Publication",
    "ack",
    "ack_error",
    "connected",
    "disconnected",
    "group_publication",
    "server_publication",
]

PONG: Final = b'{"type":"pong"}'
"""The answer to a ping (Azure docs)."""

_encode = msgspec.json.encode


class Publication:
    """One message on its way to any number of receivers, encoded once.

    ``size`` is the length in bytes of a copy without its sequence id, which is what the limits count;
    ``expires`` is when an undelivered copy is dropped, in monotonic seconds (`math.inf`: never).
    """

    __slots__ = ("_tail", "expires", "plain", "size")

    def __init__(self, members: bytes, expires: float = math.inf) -> None:
        # `members` are the members of the JSON object, without the opening and with the closing brace.
        self._tail = members
        self.plain: bytes = b"{" + members
        self.size: int = len(self.plain)
        self.expires: float = expires

    def numbered(self, sequence_id: int) -> bytes:
        """Return the message for a reliable connection, where every message is numbered (client-spec 3.2)."""
        return b'{"sequenceId":%d,%b' % (sequence_id, self._tail)


def group_publication(
    group: str,
    from_user_id: str | None,
    data_type: str,
    data: bytes,
    metadata: bytes = b"",
    expires: float = math.inf,
) -> Publication:
    """Encode a message to a group; ``data`` and ``metadata`` (empty: none) are JSON, copied as they are."""
    return Publication(
        b'"type":"message","from":"group","group":%b,"fromUserId":%b,"dataType":"%b","data":%b%b}'
        % (_encode(group), _encode(from_user_id), data_type.encode(), data, _metadata(metadata)),
        expires,
    )


def server_publication(data_type: str, data: bytes, metadata: bytes = b"", expires: float = math.inf) -> Publication:
    """Encode a message of the application server; ``data`` and ``metadata`` are JSON, copied as they are."""
    return Publication(
        b'"type":"message","from":"server","dataType":"%b","data":%b%b}'
        % (data_type.encode(), data, _metadata(metadata)),
        expires,
    )


def _metadata(metadata: bytes) -> bytes:
    return b',"metadata":' + metadata if metadata else b""


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


def connected(connection_id: str, user_id: str | None, reconnection_token: str | None) -> bytes:
    """Encode the connected message; anonymous users are ``null`` (client-spec 1.2, emulator)."""
    token = msgspec.UNSET if reconnection_token is None else reconnection_token
    return _encode(_Connected("connected", user_id, connection_id, token))


def disconnected(message: str) -> bytes:
    """Encode the message that announces a close by the service (client-spec 1.3)."""
    return _encode(_Disconnected("disconnected", message))


def ack(ack_id: int) -> bytes:
    """Encode a successful answer to a request (client-spec 3.1)."""
    return b'{"type":"ack","ackId":%d,"success":true}' % ack_id


def ack_error(ack_id: int, name: str, message: str) -> bytes:
    """Encode an unsuccessful answer: ``Forbidden``, ``Duplicate``, ``InternalServerError`` (Azure docs)."""
    return _encode(_Ack(ack_id, False, _Error(name, message)))
