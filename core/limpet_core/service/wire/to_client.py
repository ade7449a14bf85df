"""Messages from the service to the client: encoding.

A publication is encoded once; the sequence id of each reliable receiver is put in front.
"""

from __future__ import annotations

import binascii
import math
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from limpet_core.service.wire.frames import Binary, frame_head, frame_of

PONG: Final = b'{"type":"pong"}'
"""The answer to a ping (Azure docs)."""

_TYPE: Final = b'"type":"message",'

_BEFORE_ID: Final = len('{"sequenceId":')

# Bytes of a message that the operator % puts together with its head and id in a buffer on the stack. A longer one is
# faster to append, and so is one with percent signs, which would have to be escaped.
_ONE_STEP: Final = 384

_encode = msgspec.json.encode
_decode_text = msgspec.json.Decoder(str).decode


class StreamFault(msgspec.Struct, rename="camel", omit_defaults=True):
    """Why a stream has ended; ``UserError``: its publisher says so (client-spec 3.6.5)."""

    name: str
    message: str | None = None
    user_error_code: str | None = None


class StreamPlace(msgspec.Struct, rename="camel", omit_defaults=True):
    """The place of a message in a stream: a fragment, or the end after the last fragment (client-spec 3.6.5)."""

    stream_id: str
    stream_sequence_id: int
    end_of_stream: bool = False
    error: StreamFault | None = None


class Publication:
    """A message to any number of receivers, encoded once.

    Attributes:
        size: the length of ``plain`` in bytes; the limits of the service count it.
        expires: when an undelivered copy is dropped, in monotonic seconds; ``math.inf``: never.
        group: the group; ``None``: a message of the application server.
        data_type, data, metadata, stream: the content; ``data`` and ``metadata`` (empty: none) are JSON.
        protobuf: the message for protobuf clients without a sequence id, as far as it was needed; see
            :mod:`limpet_core.service.wire.protobuf_to_client`.
    """

    __slots__ = (
        "_after_id",
        "_first_id",
        "_frame",
        "_last_id",
        "_payload_frame",
        "_tail",
        "_template",
        "data",
        "data_type",
        "expires",
        "group",
        "metadata",
        "protobuf",
        "size",
        "stream",
    )

    def __init__(
        self,
        head: bytes,
        group: str | None,
        data_type: str,
        data: bytes,
        metadata: bytes = b"",
        expires: float = math.inf,
        stream: StreamPlace | None = None,
    ) -> None:
        # The members of the JSON object, without the opening and with the closing brace.
        ending = b',"metadata":%b}' % metadata if metadata else b"}"
        if stream is not None:
            ending = b',"stream":%b%b' % (_encode(stream), ending)
        self._tail = b'"type":"message",%b,"dataType":"%b","data":%b%b' % (head, data_type.encode(), data, ending)
        self.size: int = len(self._tail) + 1
        self.expires: float = expires
        self.group: str | None = group
        self.data_type: str = data_type
        self.data: bytes = data
        self.metadata: bytes = metadata
        self.stream: StreamPlace | None = stream
        self.protobuf: bytes | None = None
        self._payload_frame: bytes | None = None
        self._frame: bytes | None = None
        # The frame for a sequence id of as many digits as the newest one, in two parts: the first has "%d" for the id.
        self._template = self._after_id = b""
        self._first_id, self._last_id = 1, 0

    @property
    def plain(self) -> bytes:
        """The encoded message without a sequence id."""
        return b"{" + self._tail

    @property
    def head(self) -> bytes:
        """The beginning of the message, as the constructor takes it: it says whom the message is from."""
        # Names in it are JSON: quotes inside of them have a backslash in front.
        return self._tail[len(_TYPE) : self._tail.index(b',"dataType":"')]

    def payload_frame(self) -> bytes:
        """Return the payload alone as a frame, for raw clients (Azure docs): a binary one unless it is text or JSON."""
        if self._payload_frame is None:
            payload = self.data
            if self.data_type != "json":
                text = _decode_text(payload)
                payload = text.encode() if self.data_type == "text" else Binary(binascii.a2b_base64(text))
            self._payload_frame = frame_of(payload)
        return self._payload_frame

    def frame(self) -> bytes:
        """Return the message without a sequence id as a frame: the same one for all receivers."""
        if self._frame is None:
            self._frame = b"%b{%b" % (frame_head(self.size), self._tail)
        return self._frame

    def numbered_frame(self, sequence_id: int) -> bytes:
        """Return the message with a sequence id as a frame, for a reliable connection (client-spec 3.2)."""
        if not self._first_id <= sequence_id <= self._last_id:
            self._make_template(len(str(sequence_id)))
        frame = self._template % sequence_id
        return frame + self._after_id if self._after_id else frame

    def _make_template(self, digits: int) -> None:
        self._first_id, self._last_id = 10 ** (digits - 1), 10**digits - 1
        head = frame_head(_BEFORE_ID + digits + self.size).replace(b"%", b"%%")
        template = b'%b{"sequenceId":%%d,' % head
        if self.size <= _ONE_STEP and b"%" not in self._tail:
            self._template = template + self._tail
        else:
            self._template, self._after_id = template, self._tail


def group_publication(
    group: str,
    from_user_id: str | None,
    data_type: str,
    data: bytes,
    metadata: bytes = b"",
    expires: float = math.inf,
    stream: StreamPlace | None = None,
) -> Publication:
    """Return a message to a group; ``data`` and ``metadata`` (empty: none) are JSON, copied unchanged."""
    head = b'"from":"group","group":%b,"fromUserId":%b' % (_encode(group), _encode(from_user_id))
    return Publication(head, group, data_type, data, metadata, expires, stream)


def server_publication(data_type: str, data: bytes, metadata: bytes = b"", expires: float = math.inf) -> Publication:
    """Return a message of the application server; ``data`` and ``metadata`` are JSON, copied unchanged."""
    return Publication(b'"from":"server"', None, data_type, data, metadata, expires)


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
    data_type: str | msgspec.UnsetType = msgspec.UNSET
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: _Error | msgspec.UnsetType = msgspec.UNSET


class _GroupStateItem(msgspec.Struct, rename="camel"):
    connection_id: str
    user_id: str | msgspec.UnsetType
    state: Mapping[str, str] | msgspec.UnsetType
    updated_at: int


class _ItemState(msgspec.Struct):
    state: dict[str, str]


_state_decoder: Final = msgspec.json.Decoder(_ItemState)


class _StreamAck(msgspec.Struct, tag="streamAck", tag_field="type", rename="camel"):
    stream_id: str
    expected_sequence_id: int


class _StreamNack(msgspec.Struct, tag="streamNack", tag_field="type", rename="camel"):
    stream_id: str
    expected_sequence_id: int
    name: str
    message: str


class _StreamClosed(msgspec.Struct, tag="streamClosed", tag_field="type", rename="camel", omit_defaults=True):
    stream_id: str
    error: _Error | None = None


def connected(connection_id: str, user_id: str | None, reconnection_token: str | None) -> bytes:
    """Encode the connected message; anonymous users are ``null`` (client-spec 1.2, emulator)."""
    token = msgspec.UNSET if reconnection_token is None else reconnection_token
    return _encode(_Connected("connected", user_id, connection_id, token))


def disconnected(message: str) -> bytes:
    """Encode the message that announces a close by the service (client-spec 1.3)."""
    return _encode(_Disconnected("disconnected", readable(message)))


def ack(ack_id: int) -> bytes:
    """Encode the success of a request (client-spec 3.1)."""
    return b'{"type":"ack","ackId":%d,"success":true}' % ack_id


def ack_error(ack_id: int, name: str, message: str) -> bytes:
    """Encode the failure of a request; ``name`` is such as ``Forbidden`` or ``NotFound`` (Azure docs)."""
    return _encode(_Ack(ack_id, False, _Error(name, readable(message))))


def invocation_error(invocation_id: str, name: str, message: str) -> bytes:
    """Encode the failure of an invocation (js)."""
    return _encode(_InvokeResponse(invocation_id, False, error=_Error(name, readable(message))))


def invocation_result(invocation_id: str, data_type: str | None, data: bytes) -> bytes:
    """Encode the reply to an invocation (js); ``data`` is JSON, copied unchanged. Without a type there is no data."""
    if data_type is None:
        return _encode(_InvokeResponse(invocation_id, True))
    return _encode(_InvokeResponse(invocation_id, True, data_type, msgspec.Raw(data)))


def group_state_item(
    connection_id: str, user_id: str | None, state: Mapping[str, str] | None, updated_at: int
) -> bytes:
    """Encode the state of a connection, ``None`` if it has none any more, for the two messages below (js)."""
    user = msgspec.UNSET if user_id is None else user_id
    return _encode(_GroupStateItem(connection_id, user, msgspec.UNSET if state is None else state, updated_at))


def group_state_of(item: bytes) -> Mapping[str, str]:
    """Return the state that an item has.

    Raises:
        msgspec.DecodeError: if it is no item with a state.
    """
    return _state_decoder.decode(item).state


def group_state_snapshot(group: str, items: Iterable[bytes]) -> bytes:
    """Encode all states of a group (js)."""
    return b'{"type":"groupStateSnapshot","group":%b,"items":[%b]}' % (_encode(group), b",".join(items))


def group_state_update(group: str, items: Iterable[bytes]) -> bytes:
    """Encode the states of a group that have changed (js)."""
    return b'{"type":"groupStateUpdate","group":%b,"items":[%b]}' % (_encode(group), b",".join(items))


def stream_ack(stream_id: str, expected: int) -> bytes:
    """Encode that the service has all fragments of a stream before ``expected`` (client-spec 3.6.4)."""
    return _encode(_StreamAck(stream_id, expected))


def stream_nack(stream_id: str, expected: int, name: str, message: str) -> bytes:
    """Encode that the service wants a stream from the fragment ``expected`` on once more (client-spec 3.6.4.5)."""
    return _encode(_StreamNack(stream_id, expected, name, message))


def stream_closed(stream_id: str, error: tuple[str, str] | None) -> bytes:
    """Encode the end of a stream, with the name and the text of an error if there is one (client-spec 3.6.4)."""
    return _encode(_StreamClosed(stream_id, None if error is None else _Error(error[0], readable(error[1]))))


def readable(text: str) -> str:
    """Return text without lone surrogates, which cannot be encoded."""
    return text.encode("utf-8", "replace").decode()
