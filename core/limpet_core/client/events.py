"""The events of a :class:`~limpet.Session`: the closed union :data:`Event`.

Data messages are events as they are decoded, see :mod:`limpet_core.protocol.messages`: there is no second copy.
"""

from __future__ import annotations

from typing import Any

import msgspec

from limpet_core.errors import ConnectError, InvocationError, LimpetError, SendError, StreamError
from limpet_core.protocol.messages import GroupMessage, GroupState, ServerMessage
from limpet_core.protocol.typed_data import NO_DATA, DataT, WithData, shown_struct


class Connected(msgspec.Struct, frozen=True, gc=False, repr_omit_defaults=True):
    """A new connection is established. Once for each connection id, never after a recovery (client-spec 1.2).

    It has the groups of its token. The session joins the other groups of the connection before again, behind this
    event; a join of such a group is answered after that. Messages to these groups are lost until then.

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


class ConnectionFailed(msgspec.Struct, frozen=True):
    """An attempt to connect, to reconnect or to recover the connection has failed. Once for each attempt.

    Attempts to recover fail between :class:`Recovering` and ``Recovered`` or ``Disconnected``; the others before
    ``Connected`` or ``Stopped``.

    Attributes:
        error: the reason, as in the log: its text has no tokens.
        attempt: the number of the attempt, from 1 in this outage: since the start, or since the transport was lost.
        next_in: seconds until the next attempt; None: none follows. ``check()`` makes it sooner; an attempt to recover
            is not made any more once the connection is given up.
    """

    error: ConnectError
    attempt: int
    next_in: float | None


class Disconnected(msgspec.Struct, frozen=True, gc=False):
    """The connection is lost and cannot be recovered.

    Messages may be missed until the next :class:`Connected`, and until the groups are joined again behind it.

    Attributes:
        connection_id: the id of the lost connection.
        code: the WebSocket close code; 1006: there was no close frame.
        reason: the close reason, or the text of the error, for people, as in :class:`Recovering`.
    """

    connection_id: str
    code: int
    reason: str


class Stopped(msgspec.Struct, frozen=True, repr_omit_defaults=True):
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


class Ack(msgspec.Struct, frozen=True, gc=False, repr_omit_defaults=True):
    """The service executed a request: the result of the clients' methods.

    Attributes:
        ack_id: the request's ack id.
        duplicate: the service had executed the request before, under the same ack id.
    """

    ack_id: int
    duplicate: bool = False


class Acked(msgspec.Struct, frozen=True, repr_omit_defaults=True):
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


class StreamOpened(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """The service has accepted the start of a stream: fragments may be written.

    Attributes:
        stream_id: the stream's id.
        user_data: the caller's object, as given to ``open_stream``.
    """

    stream_id: str
    user_data: Any = None


class StreamProgress(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """The service has acknowledged fragments of a stream, so that there may be room for more.

    Attributes:
        stream_id: the stream's id.
        acknowledged: how many fragments the service has, from the first one on.
        user_data: the caller's object, as given to ``open_stream``.
    """

    stream_id: str
    acknowledged: int
    user_data: Any = None


class StreamClosed(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """A stream is over. Exactly once for each stream that was opened.

    Attributes:
        stream_id: the stream's id. It may be used again, unless the session has failed the stream: then only when the
            service has closed it, too, or the connection has ended.
        acknowledged: how many fragments the service has for certain.
        user_data: the caller's object, as given to ``open_stream``.
        error: None after ``end_stream`` or ``abort_stream``, if the service has done it; otherwise the reason.
    """

    stream_id: str
    acknowledged: int
    user_data: Any = None
    error: StreamError | None = None


class Reply(WithData[DataT], msgspec.Struct, frozen=True, gc=False):
    """The reply of an event handler to an invocation: the result of the clients' ``invoke``.

    Attributes:
        data: str for ``text``, bytes for ``binary`` and ``protobuf``, the JSON value for ``json``; None without data.
        data_type: ``text``, ``json``, ``binary``, ``protobuf``, or a name of the future; None: the reply has no data.
    """

    data: DataT = NO_DATA
    data_type: str | None = None


class Invoked(msgspec.Struct, frozen=True, repr_omit_defaults=True):
    """An invocation is settled: answered by the service, or given up with a known or unknown outcome.

    Attributes:
        invocation_id: the invocation's id.
        user_data: the caller's object, as given to ``invoke``.
        reply: the reply; None with an error.
        error: None on success.
    """

    invocation_id: str
    user_data: Any = None
    reply: Reply | None = None
    error: InvocationError | None = None


class GroupStatesChanged(msgspec.Struct, frozen=True):
    """The states of a group, as :meth:`Session.group_states` returns them, have changed.

    The first event after a subscription has all states that there are; it comes even if there are none. When a
    subscription ends, all states are removed.

    Attributes:
        group: the group's name.
        changed: the states that are new or different.
        removed: the ids of the connections that have no state any more.
        error: why the subscription has ended, if the service refused to renew it after a recovery, a reconnect or a
            leave; else None.
    """

    group: str
    changed: tuple[GroupState, ...]
    removed: tuple[str, ...]
    error: SendError | None = None

    def __repr__(self) -> str:
        return shown_struct(self)


Message = GroupMessage | ServerMessage
"""The data messages: delivered in order and without duplicates."""

Event = (
    GroupMessage
    | ServerMessage
    | Acked
    | Connected
    | Recovering
    | Recovered
    | ConnectionFailed
    | Disconnected
    | Stopped
    | MessagesMissed
    | RejoinGroupFailed
    | StreamOpened
    | StreamProgress
    | StreamClosed
    | Invoked
    | GroupStatesChanged
)
"""All that :meth:`Session.events` can return."""
