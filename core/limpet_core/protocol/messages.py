"""The messages of the protocol: data, answers and news of the service, as they are decoded.

Messages are decoded from the wire straight into the Structs that are the events: there is no second copy.
Group and server messages are told apart by the wire's ``from``, hence their tags.
"""

from __future__ import annotations

import builtins
from typing import Annotated, Any, Final, Literal

import msgspec

from limpet_core.protocol.any_data import MessageType, unpack_message
from limpet_core.protocol.typed_data import NO_DATA, DataT, WithData

MAX_SEQUENCE_ID: Final = 2**64 - 1
"""Ids are unsigned 64-bit numbers; one beyond that would make duplicates of all that follow."""

MAX_UPDATED_AT: Final = 2**53
"""Milliseconds since 1970: a greater number is no time, and no state could ever be later."""

_SequenceId = Annotated[int, msgspec.Meta(ge=1)]


class StreamFault(msgspec.Struct, frozen=True, gc=False, repr_omit_defaults=True, rename="camel"):
    """Why a stream ended before its publisher ended it, or the error that its publisher ended it with.

    Attributes:
        name: ``UserError`` (of the publisher), ``IdleTimeout``, ``Cancelled``, ``Forbidden``,
            ``InternalServerError``, or a name of the future.
        message: an explanation, as the publisher or the service wrote it.
        user_error_code: the publisher's code, if it gave one.
    """

    name: str = "Unknown"
    message: str = ""
    user_error_code: str | None = None


class StreamEndError(msgspec.Struct, frozen=True, gc=False, rename="camel", omit_defaults=True):
    """The error with which a publisher ends its stream; it has no name (client-spec 3.6.3)."""

    message: str | None = None
    user_error_code: str | None = None


class StreamInfo(msgspec.Struct, frozen=True, gc=False, kw_only=True, repr_omit_defaults=True):
    """The place of a group message in a stream (client-spec 3.6.5).

    Attributes:
        stream_id: the stream's id, chosen by its publisher.
        sequence_id: the position in the stream, from 1. The end of the stream has the id after the last fragment.
        end: whether the stream ends with this message; the message's data is empty then, or None.
        error: why it ends, unless its publisher simply ended it.
    """

    stream_id: str = msgspec.field(name="streamId")
    sequence_id: _SequenceId = msgspec.field(name="streamSequenceId")
    end: bool = msgspec.field(name="endOfStream", default=False)
    error: StreamFault | None = None


class GroupMessage(
    WithData[DataT],
    msgspec.Struct,
    frozen=True,
    gc=False,
    kw_only=True,
    repr_omit_defaults=True,
    tag_field="from",
    tag="group",
    rename="camel",
):
    """A message published to a group that this connection is in (client-spec 3.2).

    Attributes:
        group: the group's name.
        data: str for ``text``, bytes for ``binary`` and ``protobuf``, the JSON value for ``json``; for a data
            type of the future whatever JSON value was sent. Where the application asked for a ``type``, its object.
        data_type: ``text``, ``json``, ``binary``, ``protobuf``, or a name of the future.
        from_user_id: the sender's user id; None for anonymous senders and for the application server.
        sequence_id: the position in this connection's stream (reliable subprotocol), from 1; else None.
        metadata: what the sender attached, or None.
        stream: the place in a stream, if the message is a fragment or the end of one; else None.
    """

    group: str
    data: DataT = NO_DATA
    data_type: str = "json"
    from_user_id: str | None = None
    sequence_id: _SequenceId | None = None
    metadata: dict[str, str] | None = None
    stream: StreamInfo | None = None
    # Checked while decoding: a frame of the future may have the same "from".
    type: Literal["message"] = "message"

    def unpack(self, message_type: builtins.type[MessageType]) -> MessageType:
        """Return the protobuf message that is the data, as :func:`limpet.unpack` does.

        Raises:
            InvalidType: the data type is not ``protobuf``.
            InvalidValue: the data holds a message of another type.
        """
        return unpack_message(self.data, self.data_type, message_type)


class ServerMessage(
    WithData[DataT],
    msgspec.Struct,
    frozen=True,
    gc=False,
    kw_only=True,
    repr_omit_defaults=True,
    tag_field="from",
    tag="server",
    rename="camel",
):
    """A message from the application server to this connection; the fields are those of GroupMessage."""

    data: DataT = NO_DATA
    data_type: str = "json"
    sequence_id: _SequenceId | None = None
    metadata: dict[str, str] | None = None
    type: Literal["message"] = "message"

    def unpack(self, message_type: builtins.type[MessageType]) -> MessageType:
        """Return the protobuf message that is the data, see :meth:`GroupMessage.unpack`."""
        return unpack_message(self.data, self.data_type, message_type)


class ErrorDetail(msgspec.Struct, frozen=True, gc=False):
    """Why the service did not execute a request."""

    name: str = "Unknown"
    message: str = ""


class AckMessage(msgspec.Struct, frozen=True, gc=False, tag="ack", rename="camel"):
    """The answer to a request (client-spec 3.1.1)."""

    ack_id: int
    success: bool
    error: ErrorDetail | None = None


class SystemMessage(msgspec.Struct, frozen=True, gc=False, tag="system", rename="camel"):
    """``connected``, ``disconnected`` and system events of the future (client-spec 1.2, 1.3)."""

    event: str
    connection_id: str | None = None
    user_id: str | None = None
    reconnection_token: str | None = None
    message: str | None = None


class PongMessage(msgspec.Struct, frozen=True, gc=False, tag="pong"):
    """The answer to a ping."""


class StreamAckMessage(msgspec.Struct, frozen=True, gc=False, tag="streamAck", rename="camel"):
    """The service has all fragments before ``expected_sequence_id``; 1: the stream is started (client-spec 3.6.4)."""

    stream_id: str
    expected_sequence_id: int


class StreamNackMessage(msgspec.Struct, frozen=True, gc=False, tag="streamNack", rename="camel"):
    """The service wants the fragments from ``expected_sequence_id`` on once more (client-spec 3.6.4.5)."""

    stream_id: str
    expected_sequence_id: int
    name: str = ""
    message: str = ""


class StreamClosedMessage(msgspec.Struct, frozen=True, gc=False, tag="streamClosed", rename="camel"):
    """The service has closed a stream; without an error as its publisher asked (client-spec 3.6.4)."""

    stream_id: str
    error: ErrorDetail | None = None


class InvokeResponseMessage(msgspec.Struct, frozen=True, gc=False, tag="invokeResponse", rename="camel"):
    """The answer to an invocation (js). Without ``data_type`` there is no data.

    A reply whose data cannot be read is decoded as an error of the name ``InvalidReply``.
    """

    invocation_id: str
    success: bool = False
    data_type: str | None = None
    data: Any = None
    error: ErrorDetail | None = None


class GroupState(msgspec.Struct, frozen=True, gc=False, kw_only=True, rename="camel", repr_omit_defaults=True):
    """The state of one connection in a group.

    Attributes:
        connection_id: the connection.
        user_id: its user; None for an anonymous user.
        state: names and values; None: the connection has no state any more. Never None where states are listed.
        updated_at: when it was set, by the service's clock, in milliseconds since 1970. A later state is greater.
    """

    connection_id: Annotated[str, msgspec.Meta(min_length=1)]
    user_id: str | None = None
    state: dict[str, str] | None = None
    updated_at: (
        Annotated[int, msgspec.Meta(ge=0, le=MAX_UPDATED_AT)] | Annotated[float, msgspec.Meta(ge=0, le=MAX_UPDATED_AT)]
    )


class GroupStateSnapshot(msgspec.Struct, frozen=True, tag="groupStateSnapshot"):
    """The states of all connections in a group (js); None: an item that cannot be read."""

    group: str
    items: list[GroupState | None]


class GroupStateUpdate(msgspec.Struct, frozen=True, tag="groupStateUpdate"):
    """States that have changed (js); None: an item that cannot be read."""

    group: str
    items: list[GroupState | None]


class Ignored(msgspec.Struct, frozen=True, gc=False):
    """A well-formed message of a kind this version does not know; to be skipped (client-spec 1).

    Attributes:
        what: what is unknown, for people.
        sequence_id: the sequence id of a data message, if it has one.
    """

    what: str
    sequence_id: int | None = None


class Broken(msgspec.Struct, frozen=True, gc=False):
    """A message that does not belong to this protocol, or a data message that cannot be delivered.

    Attributes:
        reason: what is wrong, for people; never holds the message's data.
        sequence_id: the sequence id of a data message, where at least that could be read.
        may_be_data: whether it is a data message, or may have been one.
    """

    reason: str
    sequence_id: int | None = None
    may_be_data: bool = True


StreamControl = StreamAckMessage | StreamNackMessage | StreamClosedMessage
"""What the service says to the publisher of a stream."""

StatesMessage = GroupStateSnapshot | GroupStateUpdate
"""What the service says of the states of a group."""

Incoming = (
    GroupMessage
    | ServerMessage
    | AckMessage
    | SystemMessage
    | PongMessage
    | StreamControl
    | InvokeResponseMessage
    | StatesMessage
    | Ignored
    | Broken
)
