"""The codec of the protobuf subprotocols: decode the messages of the service, encode the messages of a client.

The functions and constants of :class:`~limpet_core.protocol.codec.Codec`, as a module.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from limpet_core.protocol.protobuf._wire.webpubsub_pb2 import UpstreamMessage
from limpet_core.protocol.protobuf.decoding import decode as decode
from limpet_core.protocol.protobuf.decoding import show_received

# Parts of the codec.
from limpet_core.protocol.protobuf.requests import encode_cancel_invocation as encode_cancel_invocation
from limpet_core.protocol.protobuf.requests import encode_event as encode_event
from limpet_core.protocol.protobuf.requests import encode_invoke as encode_invoke
from limpet_core.protocol.protobuf.requests import encode_join as encode_join
from limpet_core.protocol.protobuf.requests import encode_leave as encode_leave
from limpet_core.protocol.protobuf.requests import encode_send as encode_send
from limpet_core.protocol.protobuf.requests import encode_set_group_state as encode_set_group_state
from limpet_core.protocol.protobuf.requests import encode_stream_data as encode_stream_data
from limpet_core.protocol.protobuf.requests import encode_stream_end as encode_stream_end
from limpet_core.protocol.protobuf.requests import encode_stream_keepalive as encode_stream_keepalive
from limpet_core.protocol.protobuf.requests import encode_stream_start as encode_stream_start
from limpet_core.protocol.protobuf.requests import encode_subscribe_group_state as encode_subscribe_group_state
from limpet_core.protocol.protobuf.requests import encode_unsubscribe_group_state as encode_unsubscribe_group_state
from limpet_core.protocol.protobuf.requests import sequence_ack as sequence_ack
from limpet_core.protocol.protobuf.requests import with_ack_id as with_ack_id

binary: bool = True
ping: bytes = UpstreamMessage(ping_message=UpstreamMessage.PingMessage()).SerializeToString()
ack_id_size: int = 16


def show(message: bytes, *, received: bool) -> str:
    """Return a message as text, for a log, without the token of a connected message; never raises."""
    if received:
        return show_received(message)
    try:
        return str(UpstreamMessage.FromString(message))
    except (DecodeError, UnicodeDecodeError):  # this one is of the parser in Python
        return f"{len(message)} bytes"
