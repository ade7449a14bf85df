"""What a :class:`~limpet.Session` tells its user: the closed union :data:`Event`.

Messages are decoded from the wire straight into the Structs that are the events: there is no second copy.
Group and server messages are told apart by the wire's ``from``, hence their tags.
"""

from __future__ import annotations

from typing import Any

import msgspec

from limpet_core.errors import LimpetError, SendError
from limpet_core.protocol.messages import GroupMessage, ServerMessage


class Connected(msgspec.Struct, frozen=True, gc=False):
    """A new connection stands. Raised once for each connection id, never after a recovery (client-spec 1.2).

    Attributes:
        connection_id: the service's id of this connection.
        user_id: the user named by the access token; None for anonymous users.
    """

    connection_id: str
    user_id: str | None = None


class Recovering(msgspec.Struct, frozen=True, gc=False):
    """The transport was lost; the connection is being recovered (client-spec 1.4). Requests wait meanwhile.

    Attributes:
        connection_id: the connection's id.
        code: the WebSocket close code; 1006 where there was none.
        reason: the close reason or the error, for people: what the service or a library said, without the tokens that
            are known and at most 1000 characters of it, but as it is otherwise. Escape it where you show it.
    """

    connection_id: str
    code: int
    reason: str


class Recovered(msgspec.Struct, frozen=True, gc=False):
    """The connection is back under the same id: nothing was lost and groups are as they were.

    Attributes:
        connection_id: the connection's id.
    """

    connection_id: str


class Disconnected(msgspec.Struct, frozen=True, gc=False):
    """The connection is over and cannot be recovered: messages until the next Connected may be missed.

    Attributes:
        connection_id: the id that is gone.
        code: the WebSocket close code; 1006 where there was none.
        reason: what the service or the transport said, for people, as in :class:`Recovering`.
    """

    connection_id: str
    code: int
    reason: str


class Stopped(msgspec.Struct, frozen=True):
    """The client has stopped; raised exactly once for each start.

    Attributes:
        error: None after ``stop()``; otherwise why it could not go on.
    """

    error: LimpetError | None = None


class MessagesMissed(msgspec.Struct, frozen=True, gc=False):
    """Sequence ids were skipped: these messages were not and will not be delivered.

    Happens when the service drops messages whose time to live is over, or sends one that cannot be delivered: ``text``
    that is no string, ``binary`` that is no base64, JSON that is nested too deeply.

    Attributes:
        first: the first missing sequence id; 0 for a message without one, which is told by itself.
        last: the last missing sequence id; 0 with ``first``.
    """

    first: int
    last: int


class RejoinGroupFailed(msgspec.Struct, frozen=True):
    """A group of the old connection could not be joined again on the new one.

    Attributes:
        group: the group's name.
        error: why, as ``join_group`` would have raised it. With the outcome ``rejected`` the client is not in the
            group any more. Where no answer came nobody knows: the group stays among ``groups``, to be joined again
            on the next connection; ``join_group`` asks once more at once.
    """

    group: str
    error: SendError


class Ack(msgspec.Struct, frozen=True, gc=False):
    """A request was executed by the service; what the clients' methods return.

    Attributes:
        ack_id: the request's ack id.
        duplicate: the service had executed it before, under the same ack id.
    """

    ack_id: int
    duplicate: bool = False


class Acked(msgspec.Struct, frozen=True):
    """A request is settled: answered by the service, or given up with a known or unknown outcome.

    Attributes:
        ack_id: the request's ack id.
        user_data: what the caller passed in with the request; the core never looks at it.
        duplicate: the service had executed this ack id before: success (client-spec 3.1.2).
        error: None on success.
    """

    ack_id: int
    user_data: Any = None
    duplicate: bool = False
    error: SendError | None = None


Message = GroupMessage | ServerMessage
"""What is delivered in order and without duplicates."""

Event = (
    GroupMessage
    | ServerMessage
    | Acked
    | Connected
    | Recovering
    | Recovered
    | Disconnected
    | Stopped
    | MessagesMissed
    | RejoinGroupFailed
)
"""Everything that :meth:`Session.events` can return."""
