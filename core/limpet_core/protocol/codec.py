"""Codec: how the messages of a subprotocol are written and read: as JSON, or as protobuf."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from limpet_core.errors import InvalidValue
from limpet_core.protocol import json
from limpet_core.protocol.messages import Incoming, StreamEndError
from limpet_core.protocol.names import JSON, PROTOBUF_SUBPROTOCOLS, RELIABLE_JSON, SUBPROTOCOLS
from limpet_core.text import short_repr


class Codec(Protocol):
    """Writes the messages of a client, and reads the messages of the service.

    Attributes:
        binary: whether messages are in binary frames; else they are in text frames, as UTF-8.
        ping: the message that asks for a pong.
        ack_id_size: by how many bytes :meth:`with_ack_id` makes a message longer, at most.
    """

    binary: bool
    ping: bytes
    ack_id_size: int

    def decode(self, message: bytes, /) -> Incoming:
        """Decode one message; never raises, whatever the peer sends."""
        ...

    def show(self, message: bytes, /, *, received: bool) -> str:
        """Return a message as text, for a log; ``received``: it is one of the service's. Never raises."""
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
        self,
        group: str,
        data: Any,
        data_type: str | None,
        no_echo: bool,
        ack_id: int | None,
        limit: int,
        ttl_seconds: int | None = None,
        metadata: Mapping[str, str] | None = None,
        /,
    ) -> bytes:
        """Encode a publish to ``group``.

        Args:
            ack_id: None: the service shall not answer.
            limit: the largest size in bytes.
            ttl_seconds: the service drops copies that are not delivered by then; None: never.
            metadata: names and values to send along; checked here.

        Raises:
            InvalidType, InvalidValue: the message names the argument.
        """
        ...

    def encode_event(
        self,
        event: str,
        data: Any,
        data_type: str | None,
        ack_id: int | None,
        limit: int,
        metadata: Mapping[str, str] | None = None,
        /,
    ) -> bytes:
        """Encode an event for the application server. Arguments and errors are those of :meth:`encode_send`."""
        ...

    def encode_stream_start(self, group: str, stream_id: str, no_echo: bool, idle_timeout_ms: int | None, /) -> bytes:
        """Encode the start of a stream (client-spec 3.6.1). Raises as :meth:`encode_join`."""
        ...

    def encode_stream_data(
        self, stream_id: str, sequence_id: int, data: Any, data_type: str | None, limit: int, /
    ) -> bytes:
        """Encode one fragment of a stream. Raises as :meth:`encode_send`."""
        ...

    def encode_stream_keepalive(self, stream_id: str, /) -> bytes:
        """Encode the message that keeps a stream from its idle timeout."""
        ...

    def encode_stream_end(self, stream_id: str, error: StreamEndError | None, /) -> bytes:
        """Encode the end of a stream (client-spec 3.6.3)."""
        ...

    def encode_invoke(
        self,
        invocation_id: str,
        event: str,
        data: Any,
        data_type: str | None,
        limit: int,
        metadata: Mapping[str, str] | None = None,
        /,
    ) -> bytes:
        """Encode an invocation (js).

        Raises:
            LocalProtocolError: the subprotocol has none.
            InvalidType, InvalidValue: as :meth:`encode_send`.
        """
        ...

    def encode_cancel_invocation(self, invocation_id: str, /) -> bytes:
        """Encode the message that gives an invocation up (js)."""
        ...

    def encode_set_group_state(self, group: str, state: Mapping[str, str] | None, ack_id: int, /) -> bytes:
        """Encode the own state in a group (js). Raises as :meth:`encode_join`; LocalProtocolError: there are none."""
        ...

    def encode_subscribe_group_state(self, group: str, ack_id: int, /) -> bytes:
        """Encode a subscription of the states of a group (js). Raises as :meth:`encode_set_group_state`."""
        ...

    def encode_unsubscribe_group_state(self, group: str, ack_id: int, /) -> bytes:
        """Encode the end of such a subscription (js). Raises as :meth:`encode_set_group_state`."""
        ...

    def with_ack_id(self, message: bytes, ack_id: int, /) -> bytes:
        """Return ``message``, which was encoded without an ack id, with ``ack_id``."""
        ...

    def sequence_ack(self, sequence_id: int, /) -> bytes:
        """Encode the message that acknowledges everything up to ``sequence_id`` (client-spec 3.2.3)."""
        ...


def codec_for(subprotocol: str) -> Codec:
    """Return the codec of a subprotocol.

    Raises:
        InvalidValue: there is no such subprotocol, or a package that it needs is not installed.
    """
    if subprotocol in (RELIABLE_JSON, JSON):
        return json
    if subprotocol in PROTOBUF_SUBPROTOCOLS:
        return _protobuf(subprotocol)
    choices = f"{', '.join(map(repr, SUBPROTOCOLS[:-1]))} or {SUBPROTOCOLS[-1]!r}"
    raise InvalidValue(f"protocol must be {choices}, not {short_repr(subprotocol)}")


def _protobuf(subprotocol: str) -> Codec:
    try:
        from limpet_core.protocol.protobuf import codec
    except Exception as error:  # the package checks its version with an exception of its own
        hint = "get it with: pip install 'limpet[protobuf]'"
        raise InvalidValue(
            f"protocol {subprotocol!r} needs the package protobuf, which cannot be used ({error}); {hint}"
        ) from error
    return codec
