"""A logical connection, which outlives the attachments of its client."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Protocol

from limpet_core.protocol.close import Close
from limpet_core.protocol.names import RELIABLE_SUBPROTOCOLS, SUBPROTOCOLS
from limpet_core.service.access.permissions import Permissions
from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.connections.backlog import Backlog
from limpet_core.service.connections.limits import Limits
from limpet_core.service.connections.remembered_acks import RememberedAcks
from limpet_core.service.connections.stream import Stream
from limpet_core.service.webhooks.handler_context import HandlerContext
from limpet_core.service.webhooks.handlers import HandlerCall
from limpet_core.service.wire.codecs import Codec, codec_for
from limpet_core.service.wire.raw import RawMode
from limpet_core.service.wire.to_client import Publication


class Attachment:
    """The way by which a client is connected at the moment. Compared by identity.

    One that is no :class:`Transport` is at another node of a cluster: nothing is sent here.

    Attributes:
        connection: ``None`` if a recovery was refused.
        place: which node of a cluster has it, and its number there; ``None``: there is one node.
    """

    __slots__ = ("connection", "place")

    def __init__(self, connection: Connection | None) -> None:
        self.connection: Connection | None = connection
        self.place: tuple[str, int] | None = None

    @property
    def number(self) -> int:
        """The number in :attr:`place`, which there is in a cluster alone."""
        assert self.place is not None, "there is one node"
        return self.place[1]

    @property
    def transport(self) -> WriteTransport | None:
        """The WebSocket of the client, if it is one of this process."""
        return None

    def end(self, close: Close, *, discard: bool = False) -> None:
        """Close it after the queued messages, or without them. Its own node does so: here is nothing to do."""


class WriteTransport(Protocol):
    """The methods of a :class:`Transport` by which its connection is written to."""

    def send(self, message: bytes) -> bool:
        """Queue a message; return False if there is no room for it."""
        ...

    def send_frame(self, frame: bytes, expires: float) -> bool:
        """Queue a message in a frame; return False if there is no room for it."""
        ...

    def end(self, close: Close, *, discard: bool = False) -> None:
        """Order the transport to close, after the queued messages or without them."""
        ...


class Connection:
    """A logical connection: the state of a client that outlives its transports (client-spec 1.4).

    Attributes:
        hub: the lower-case name of the hub.
        connection_id: unique in the service.
        subprotocol: the negotiated one, if any.
        raw: the mode of a raw client; ``None`` for a client with a subprotocol of Web PubSub.
        codec: reads and writes its messages.
        reliable: whether the connection can be recovered.
        user_id: ``None``: anonymous.
        permissions: what the client may do in groups.
        groups: the groups that the client is in, as keys.
        attachment: the way by which the client is connected; ``None`` while detached.
        transport: the attachment if it is a WebSocket of this process, else ``None``.
        context: the state shared with event handlers; ``None`` if the hub has no handlers.
        acks: what was answered to the client's requests.
        deadline: when a detached connection ends, in monotonic seconds; ``math.inf`` otherwise.
        streams: the open streams that the client publishes, by id.
        ended_streams: the newest of those that have ended, by id.
        group_states: the states of the client, by group.
        watched_groups: the groups whose states the client has subscribed, as keys.
        state_time: the time of the newest change of these states, in milliseconds since 1970.
        invocations: the calls of the running invocations, by attachment and id.
        invocation_bytes: the sizes of their messages together.
        warned_of_unknown: whether the log has a warning about a message of this client that the service does not know.
    """

    __slots__ = (
        "_backlog",
        "_counts_released",
        "_keeps_apart",
        "_limits",
        "_retained",
        "_retained_bytes",
        "_sequence_id",
        "_taken",
        "acks",
        "attachment",
        "codec",
        "connection_id",
        "context",
        "deadline",
        "ended_streams",
        "group_states",
        "groups",
        "hub",
        "invocation_bytes",
        "invocations",
        "permissions",
        "raw",
        "reliable",
        "state_time",
        "streams",
        "subprotocol",
        "transport",
        "user_id",
        "warned_of_unknown",
        "watched_groups",
    )

    def __init__(
        self,
        hub: str,
        connection_id: str,
        subprotocol: str | None,
        grant: ClientGrant,
        raw: RawMode,
        limits: Limits,
        context: HandlerContext | None = None,
    ) -> None:
        self.hub: str = hub
        self.connection_id: str = connection_id
        self.subprotocol: str | None = subprotocol
        self.raw: RawMode | None = None if subprotocol in SUBPROTOCOLS else raw
        self.codec: Codec = codec_for(subprotocol, json_as_text=limits.protobuf_json_as_text)
        self.reliable: bool = subprotocol in RELIABLE_SUBPROTOCOLS
        self.user_id: str | None = grant.user_id
        self.permissions: Permissions = Permissions(grant.roles)
        self.groups: dict[str, None] = {}
        self.attachment: Attachment | None = None
        self.transport: WriteTransport | None = None
        self.context: HandlerContext | None = context
        self.acks: RememberedAcks = RememberedAcks(limits.remembered_acks)
        self.deadline: float = math.inf
        self.streams: dict[str, Stream] = {}
        self.ended_streams: dict[str, Stream] = {}
        self.group_states: dict[str, Mapping[str, str]] = {}
        self.watched_groups: dict[str, None] = {}
        self.state_time: int = 0
        self.invocations: dict[tuple[Attachment, str], HandlerCall] = {}
        self.invocation_bytes: int = 0
        self.warned_of_unknown: bool = False
        self._limits = limits
        # Sequence ids have no gaps: the oldest retained message has id sequence_id - len(retained) + 1.
        self._retained: list[Publication] = []
        # Their bytes, or more: those of released messages may still be counted. See retained_bytes.
        self._retained_bytes = 0
        self._counts_released = False
        self._sequence_id = 0
        # Where there are nodes: what this one keeps for many connections, and the number of the next message there.
        self._backlog: Backlog[Connection] | None = None
        self._taken = 0
        self._keeps_apart = False

    def attach(self, attachment: Attachment) -> None:
        """Make an attachment the present one."""
        self.leave_backlog()
        self.attachment = attachment
        self.transport = attachment.transport

    def detach(self) -> None:
        """Have no attachment."""
        self.attachment = self.transport = None

    @property
    def retained(self) -> int:
        """The number of messages that the client has not acknowledged yet."""
        self._take()
        return len(self._retained)

    @property
    def retained_bytes(self) -> int:
        """The bytes of these messages."""
        self._take()
        if self._counts_released:
            self._counts_released = False
            self._retained_bytes = sum(publication.size for publication in self._retained)
        return self._retained_bytes

    @property
    def sequence_id(self) -> int:
        """The newest sequence id used; 0 before the first message."""
        self._take()
        return self._sequence_id

    def deliver(self, publication: Publication) -> bool:
        """Queue a message for the client, and retain it if the connection is reliable (client-spec 3.2).

        Return False if that would exceed the limits; the connection has to end then.
        """
        transport = self.transport
        if self.reliable:
            if transport is None:
                return self._retain(publication)
            size = self._retained_bytes + publication.size
            retained, limits = self._retained, self._limits
            if len(retained) >= limits.retained_messages or size > limits.retained_bytes:
                size = self.retained_bytes + publication.size
                if len(retained) >= limits.retained_messages or size > limits.retained_bytes:
                    return False
            self._retained_bytes = size
            retained.append(publication)
            self._sequence_id = sequence_id = self._sequence_id + 1
            frame = self.codec.numbered_frame(publication, sequence_id)
        elif transport is None:
            return True
        else:
            frame = self.codec.frame(publication) if self.raw is None else publication.payload_frame()
        return transport.send_frame(frame, publication.expires)

    def _retain(self, publication: Publication) -> bool:
        self._take()
        retained, limits = self._retained, self._limits
        size = self._retained_bytes + publication.size
        if size > limits.retained_bytes:
            size = self.retained_bytes + publication.size
        if len(retained) >= limits.retained_messages or size > limits.retained_bytes:
            return False
        self._retained_bytes = size
        retained.append(publication)
        self._sequence_id += 1
        if self._backlog is not None:
            self._backlog.bound(*self._room())
        return True

    def _room(self) -> tuple[int, int]:
        """Return how many messages, and bytes of them, may be retained in addition; or fewer of many bytes."""
        limits = self._limits
        room_bytes = limits.retained_bytes - self._retained_bytes
        if room_bytes < limits.retained_bytes // 2:  # else to count anew would cost more than all else here
            room_bytes = limits.retained_bytes - self.retained_bytes
        return limits.retained_messages - len(self._retained), room_bytes

    def unacknowledged_beyond(self, sequence_id: int, replayed_to: int, limits: Limits) -> bool:
        """Return whether more messages are retained than limits allow.

        Those up to ``sequence_id`` are left out, and those up to ``replayed_to``, which a recovery has sent again: the
        client needs time to acknowledge them.
        """
        left = min(self._sequence_id - max(sequence_id, replayed_to), len(self._retained))
        if left > limits.retained_messages:
            return True
        if left <= 0 or self.retained_bytes <= limits.retained_bytes:
            return False
        return sum(publication.size for publication in self._retained[-left:]) > limits.retained_bytes

    def retains_little(self, limits: Limits) -> bool:
        """Return whether the retained messages are within limits. False may be wrong, while they are many."""
        return len(self._retained) <= limits.retained_messages and self._retained_bytes <= limits.retained_bytes

    def acknowledge(self, sequence_id: int) -> None:
        """Release the messages up to ``sequence_id``; all of them if that sequence id was not used yet."""
        self._take()
        retained = self._retained
        released = len(retained) - max(self._sequence_id - sequence_id, 0)
        if released > 0:
            del retained[:released]
            self._counts_released = True  # to look at each would cost more than all else here

    def unacknowledged(self, now: float) -> list[tuple[bytes, float]]:
        """Return the frames of the retained messages that have not expired, each with the time when it expires."""
        self._take()
        first = self._sequence_id - len(self._retained) + 1
        frame = self.codec.numbered_frame
        return [
            (frame(publication, sequence_id), publication.expires)
            for sequence_id, publication in enumerate(self._retained, first)
            if publication.expires > now
        ]

    @property
    def retained_messages(self) -> Collection[Publication]:
        """The messages that the client has not acknowledged, the oldest first; to be read before the next change."""
        self._take()
        return self._retained

    def retain(self, publications: Iterable[Publication], sequence_id: int) -> None:
        """Put back messages of a snapshot, the last of which has this sequence id."""
        self._retained = list(publications)
        self._retained_bytes = sum(publication.size for publication in self._retained)
        self._sequence_id = sequence_id

    # ---- A backlog of many connections

    def join_backlog(self, backlog: Backlog[Connection], /) -> bool:
        """Take all that a backlog has, and share what comes; return False if messages must come one by one."""
        if self.transport is not None or self._keeps_apart:
            return False
        if not self.reliable:
            return True  # nothing is kept for it
        if self._backlog is None:
            self._backlog, self._taken = backlog, backlog.end
            backlog.sharers[self] = None
        elif self._backlog is not backlog:
            return False  # that of another group
        self._take()
        backlog.bound(*self._room())
        return True

    def leave_backlog(self) -> None:
        """Take the messages, and have later ones come one by one, at least until the backlog is renewed."""
        backlog = self._backlog
        if backlog is not None:
            self._take()
            del backlog.sharers[self]
            backlog.changed()
            self._backlog = None

    def keep_apart(self) -> None:
        """Share no backlog from now on: the client is left out of its own messages."""
        if not self._keeps_apart:
            self._keeps_apart = True
            self.leave_backlog()

    def _take(self) -> None:
        backlog = self._backlog
        if backlog is not None and self._taken != (end := backlog.end):
            messages, size = backlog.take(self._taken)
            self._taken = end
            self._retained.extend(messages)
            self._retained_bytes += size
            self._sequence_id += len(messages)
