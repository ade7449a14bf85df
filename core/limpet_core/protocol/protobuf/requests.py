"""The requests of a client in the protobuf subprotocols, and how they are encoded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

from limpet_core.errors import LocalProtocolError
from limpet_core.protocol.messages import StreamEndError
from limpet_core.protocol.protobuf._wire.webpubsub_pb2 import UpstreamMessage
from limpet_core.protocol.protobuf.values import message_data
from limpet_core.protocol.protobuf.varint import read_varint, varint
from limpet_core.protocol.rules import check_event_name, check_group, check_metadata, check_size

_NO_ECHO: Final = {True: True, False: None}  # None: the field is not written

_ACK_ID_TAGS: Final = {0x0A: b"\x10", 0x2A: b"\x18"}
"""The tag of the ack id by the tag of the request: of a sendToGroup, of an event."""


def encode_join(group: str, ack_id: int) -> bytes:
    """Encode a joinGroup. Raises InvalidType or InvalidValue for a name that cannot be one."""
    check_group(group)
    message = UpstreamMessage.JoinGroupMessage(group=group, ack_id=ack_id)
    return UpstreamMessage(join_group_message=message).SerializeToString()


def encode_leave(group: str, ack_id: int) -> bytes:
    """Encode a leaveGroup. Raises as :func:`encode_join`."""
    check_group(group)
    message = UpstreamMessage.LeaveGroupMessage(group=group, ack_id=ack_id)
    return UpstreamMessage(leave_group_message=message).SerializeToString()


def encode_send(
    group: str,
    data: Any,
    data_type: str | None,
    no_echo: bool,
    ack_id: int | None,
    limit: int,
    ttl_seconds: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Encode a sendToGroup.

    Args:
        ack_id: None: the service shall not answer.
        limit: the largest size in bytes.

    Raises:
        InvalidType, InvalidValue: the message names the argument.
    """
    check_group(group)
    message = UpstreamMessage.SendToGroupMessage(
        group=group,
        ack_id=ack_id,
        data=message_data(data, data_type),
        no_echo=_NO_ECHO[bool(no_echo)],
        ttl_seconds=ttl_seconds,
        metadata=_checked(metadata),
    )
    return check_size(UpstreamMessage(send_to_group_message=message).SerializeToString(), limit, "data")


def encode_event(
    event: str,
    data: Any,
    data_type: str | None,
    ack_id: int | None,
    limit: int,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Encode an event. Arguments and errors are those of :func:`encode_send`."""
    check_event_name(event)
    message = UpstreamMessage.EventMessage(
        event=event,
        data=message_data(data, data_type),
        ack_id=ack_id,
        metadata=_checked(metadata),
    )
    return check_size(UpstreamMessage(event_message=message).SerializeToString(), limit, "data")


def encode_stream_start(group: str, stream_id: str, no_echo: bool, idle_timeout_ms: int | None) -> bytes:
    """Encode the start of a stream. Raises InvalidType or InvalidValue for a name that cannot be one."""
    check_group(group)
    message = UpstreamMessage.SendToGroupMessage(
        group=group,
        no_echo=_NO_ECHO[bool(no_echo)],
        stream=UpstreamMessage.StreamStartInfo(stream_id=stream_id, idle_timeout_ms=idle_timeout_ms),
    )
    return UpstreamMessage(send_to_group_message=message).SerializeToString()


def encode_stream_data(stream_id: str, sequence_id: int, data: Any, data_type: str | None, limit: int) -> bytes:
    """Encode one fragment. Arguments and errors are those of :func:`encode_send`."""
    message = UpstreamMessage.StreamDataMessage(
        stream_id=stream_id, stream_sequence_id=sequence_id, data=message_data(data, data_type)
    )
    return check_size(UpstreamMessage(stream_data_message=message).SerializeToString(), limit, "data")


def encode_stream_keepalive(stream_id: str) -> bytes:
    """Encode the message that keeps a stream from its idle timeout."""
    message = UpstreamMessage.StreamDataMessage(stream_id=stream_id)
    return UpstreamMessage(stream_data_message=message).SerializeToString()


def encode_stream_end(stream_id: str, error: StreamEndError | None) -> bytes:
    """Encode the end of a stream."""
    message = UpstreamMessage.StreamEndMessage(stream_id=stream_id)
    if error is not None:
        message.error.CopyFrom(
            UpstreamMessage.StreamEndMessage.StreamEndError(
                message=error.message, user_error_code=error.user_error_code
            )
        )
    return UpstreamMessage(stream_end_message=message).SerializeToString()


def encode_invoke(
    invocation_id: str,
    event: str,
    data: Any,
    data_type: str | None,
    limit: int,
    metadata: Mapping[str, str] | None = None,
) -> NoReturn:
    """Raise LocalProtocolError: invocations have no published protobuf form."""
    raise _only_json("an invocation")


def encode_cancel_invocation(invocation_id: str) -> NoReturn:
    """Raise LocalProtocolError as :func:`encode_invoke`."""
    raise _only_json("an invocation")


def encode_set_group_state(group: str, state: Mapping[str, str] | None, ack_id: int) -> NoReturn:
    """Raise LocalProtocolError: group states have no published protobuf form."""
    raise _only_json("a group state")


def encode_subscribe_group_state(group: str, ack_id: int) -> NoReturn:
    """Raise LocalProtocolError as :func:`encode_set_group_state`."""
    raise _only_json("a group state")


def encode_unsubscribe_group_state(group: str, ack_id: int) -> NoReturn:
    """Raise LocalProtocolError as :func:`encode_set_group_state`."""
    raise _only_json("a group state")


def _checked(metadata: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if metadata is None else check_metadata(metadata)


def _only_json(what: str) -> LocalProtocolError:
    return LocalProtocolError(
        f"{what} has no form in the protobuf subprotocols: use a client whose Options.protocol is RELIABLE_JSON or JSON"
    )


def with_ack_id(message: bytes, ack_id: int) -> bytes:
    """Return ``message``, a sendToGroup or event that was encoded without an ack id, with ``ack_id``."""
    _, start = read_varint(message, 1)
    body = b"%b%b%b" % (message[start:], _ACK_ID_TAGS[message[0]], varint(ack_id))
    return b"%b%b%b" % (message[:1], varint(len(body)), body)


def sequence_ack(sequence_id: int) -> bytes:
    """Encode the message that acknowledges everything up to ``sequence_id`` (client-spec 3.2.3)."""
    message = UpstreamMessage.SequenceAckMessage(sequence_id=sequence_id)
    return UpstreamMessage(sequence_ack_message=message).SerializeToString()
