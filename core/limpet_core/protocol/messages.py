"""The messages of the protocol: data, answers and news of the service, as they are decoded.

Messages are decoded from the wire straight into the Structs that are the events: there is no second copy.
Group and server messages are told apart by the wire's ``from``, hence their tags.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

import msgspec

MAX_SEQUENCE_ID: Final = 2**64 - 1
"""Ids are unsigned 64-bit numbers; one beyond that would make duplicates of all that follow."""

_SequenceId = Annotated[int, msgspec.Meta(ge=1)]


class GroupMessage(
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
            type of the future whatever JSON value was sent.
        data_type: ``text``, ``json``, ``binary``, ``protobuf``, or a name of the future.
        from_user_id: the sender's user id; None for anonymous senders and for the application server.
        sequence_id: the position in this connection's stream (reliable subprotocol), from 1; else None.
        metadata: what the sender attached, or None.
    """

    group: str
    data: Any = None
    data_type: str = "json"
    from_user_id: str | None = None
    sequence_id: _SequenceId | None = None
    metadata: dict[str, str] | None = None
    # Checked while decoding: a frame of the future may have the same "from".
    type: Literal["message"] = "message"


class ServerMessage(
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

    data: Any = None
    data_type: str = "json"
    sequence_id: _SequenceId | None = None
    metadata: dict[str, str] | None = None
    type: Literal["message"] = "message"


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


Incoming = GroupMessage | ServerMessage | AckMessage | SystemMessage | PongMessage | Ignored | Broken
