"""The events of a :class:`~limpet.Session`: the closed union :data:`Event`.

Data messages are events as they are decoded, see :mod:`limpet_core.protocol.messages`: there is no second copy.
"""

from __future__ import annotations

from typing import Any

import msgspec

from limpet_core.errors import LimpetError, SendError
from limpet_core.protocol.messages import GroupMessage, ServerMessage


class Connected(msgspec.Struct, frozen=True, gc=False):
    """A new connection is established. Once for each connection id, never after a recovery (client-spec 1.2).

    Attributes:
        connection_id: the service's id of this connection.
        user_id: the user of the access token; None for anonymous users.
    """

    connection_id: str
    user_id: str | None = None


class Recovering(msgspec.Struct, frozen=True, gc=False):
    """The transport was lost; the connection is being recovered (client-spec 1.4). Requests wait meanwhile.

    Attributes:
        connection_id: the connection's id.
        code: the WebSocket close code; 1006: there was no close frame.
        reason: the close reason, or the text of the error, for people. At most 1000 characters, without known tokens,
            but otherwise as the service or a library wrote it: escape the text before you show it.
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
    """The connection is lost and cannot be recovered: messages until the next :class:`Connected` may be missed.

    Attributes:
        connection_id: the id of the lost connection.
        code: the WebSocket close code; 1006: there was no close frame.
        reason: the close reason, or the text of the error, for people, as in :class:`Recovering`.
    """

    connection_id: str
    code: int
    reason: str


class Stopped(msgspec.Struct, frozen=True):
    """The client has stopped. Exactly once for each start.

    Attributes:
        error: None after ``stop()``; otherwise the reason why the client could not go on.
    """

    error: LimpetError | None = None


class MessagesMissed(msgspec.Struct, frozen=True, gc=False):
    """Sequence ids were skipped: these messages were not and will not be delivered.

    The service drops messages whose time to live is over, or sent a message that cannot be delivered: ``text`` that is
    no string, ``binary`` that is no base64, JSON that is nested too deeply.

    Attributes:
        first: the first missing sequence id; 0: a message without a sequence id, which has an event of its own.
        last: the last missing sequence id; 0 if ``first`` is 0.
    """

    first: int
    last: int


class RejoinGroupFailed(msgspec.Struct, frozen=True):
    """A group of the old connection could not be joined again on the new one.

    Attributes:
        group: the group's name.
        error: the error of the join, as ``join_group`` would have raised it. With the outcome ``rejected`` the client
            is no longer in the group. Without an answer its membership is unknown: the group stays in ``groups``, and
            is joined again on the next connection, or at once by another ``join_group``.
    """

    group: str
    error: SendError


class Ack(msgspec.Struct, frozen=True, gc=False):
    """The service executed a request: the result of the clients' methods.

    Attributes:
        ack_id: the request's ack id.
        duplicate: the service had executed the request before, under the same ack id.
    """

    ack_id: int
    duplicate: bool = False


class Acked(msgspec.Struct, frozen=True):
    """A request is settled: answered by the service, or given up with a known or unknown outcome.

    Attributes:
        ack_id: the request's ack id.
        user_data: the caller's object, as given with the request; the core never looks at it.
        duplicate: the service had executed this ack id before, which is a success (client-spec 3.1.2).
        error: None on success.
    """

    ack_id: int
    user_data: Any = None
    duplicate: bool = False
    error: SendError | None = None


Message = GroupMessage | ServerMessage
"""The data messages: delivered in order and without duplicates."""

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
"""All that :meth:`Session.events` can return."""
