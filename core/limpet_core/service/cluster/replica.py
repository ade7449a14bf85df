"""A node of a cluster: its part in the log, its clients, and the logic of the service that all nodes share."""

from __future__ import annotations

import logging
import math
from typing import Final

from limpet_core.protocol.close import NO_CLOSE_FRAME
from limpet_core.service import closes
from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.behaviour import BEHAVIOUR, OLDEST_BEHAVIOUR
from limpet_core.service.cluster import commands
from limpet_core.service.cluster.acknowledgements import Acknowledgements
from limpet_core.service.cluster.commands import ForeignEntry, UnreadableEntry
from limpet_core.service.cluster.control import control_message
from limpet_core.service.cluster.members import SILENCE, Members
from limpet_core.service.cluster.openings import Openings
from limpet_core.service.cluster.outgoing import Outgoing
from limpet_core.service.cluster.overruns import Overruns
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.cluster.rollout import Rollout
from limpet_core.service.cluster.shared_state import SharedState
from limpet_core.service.cluster.silence import BEAT, Listening
from limpet_core.service.cluster.snapshot import digest, restore, snapshot
from limpet_core.service.cluster.waiting import Asked, Opening, Operations
from limpet_core.service.connections.connection import Attachment
from limpet_core.service.connections.transport import Transport
from limpet_core.service.data_plane.parameters import OperationError
from limpet_core.service.data_plane.writes import Write
from limpet_core.service.webhooks.answers import Answer, Failure, FailureKind, Headers
from limpet_core.service.webhooks.cloud_events import ConnectRequest
from limpet_core.service.webhooks.handlers import HandlerCall
from limpet_core.service.webhooks.listeners import ListenerMessage
from limpet_core.service.wire.raw import RawMode
from limpet_core.service.wire.requests import SequenceAck
from limpet_core.text import one_line

_LOGGER: Final = logging.getLogger("limpet.service.cluster")

_COMPARE_EVERY: Final = 60.0
"""Seconds, by the time of the log, between comparisons of the states of all nodes."""

_EVENTS: Final = RawMode()


class Replica:
    """A node of a cluster, without IO, clock or randomness.

    **After any call append** :meth:`entries_to_append` **to the log, and carry out** :meth:`transports_with_output`,
    :meth:`openings`, :meth:`answers`, :meth:`handler_calls` **and** :meth:`listener_messages`; **call** :meth:`wake`
    **at** :attr:`deadline`. **Call** :meth:`apply` **for each entry that the log has**, in order, also for those of
    this node: what happens here has no effect before. **Repeat**, in order, the entries of this node that the log has
    lost before they were read back.

    Args:
        node: the name of this run of this node, which no other run of any node has.
        core: a new one, of the same ``node``.
        settings: a digest of all that must be the same at all nodes.
        name: of the node, for people.
        behaviours: the oldest and the newest behaviour of the service that this release has.

    Times in arguments called ``now`` are monotonic seconds of this machine.

    Attributes:
        core: the logic of the service; to be read.
        shared: what the log says, which is the same at all nodes; to be read.
        node: the name of this run of this node.
        fenced: why this node must end, and start anew under another name; empty while it may go on.
        is_leaving: whether :meth:`leave` was called.
    """

    def __init__(
        self,
        node: str,
        core: ReplicatedCore,
        *,
        settings: bytes = b"",
        name: str = "",
        behaviours: tuple[int, int] = (OLDEST_BEHAVIOUR, BEHAVIOUR),
    ) -> None:
        self.node: str = node
        self.core: ReplicatedCore = core
        self.fenced: str = ""
        self.shared: SharedState = SharedState(node, core, self, settings)
        self._outgoing = Outgoing(node)
        self._outgoing.add(commands.Hello(settings, *behaviours, name))
        self._behaviours = behaviours
        self._rollout = Rollout()
        self._listening = Listening(node)
        self._openings = Openings(core, self._outgoing)
        self._operations = Operations(self._outgoing)
        self._acknowledgements = Acknowledgements(self._outgoing)
        self._overruns = Overruns(core, self._outgoing)
        self._last_entry = -math.inf  # when this node has written one
        self._looked = -math.inf  # at the other nodes
        self.is_leaving: bool = False

    # ---- State

    @property
    def position(self) -> str:
        """The id of the newest entry that was applied; empty before the first."""
        return self.shared.position

    @property
    def members(self) -> Members:
        """The nodes of the cluster."""
        return self.shared.members

    @property
    def deadline(self) -> float:
        """When to call :meth:`wake`, in monotonic seconds of this machine."""
        beat = math.inf if self.fenced else min(self._last_entry, self._looked) + BEAT
        return min(beat, self._acknowledgements.due, self.core.attempts_deadline)

    @property
    def is_member(self) -> bool:
        """Whether the log has taken this node in: clients are served from then on."""
        return self.members.get(self.node) is not None

    @property
    def unread(self) -> int:
        """The number of this node's entries that were not read back yet."""
        return self._outgoing.unread

    # ---- Clients

    def connect(
        self,
        hub: str,
        subprotocol: str | None,
        grant: ClientGrant,
        raw: RawMode = _EVENTS,
        *,
        spelled: str | None = None,
        most: int | None = None,
    ) -> Opening:
        """Open a connection, see :meth:`ServiceCore.connect`; the outcome comes with :meth:`openings`.

        Args:
            spelled: the subprotocol in the client's own spelling, for the answer to the handshake.
            most: connections of the whole service, at most; the client is rejected with 429 if there are as many.
        """
        return self._openings.connect(hub, subprotocol, grant, raw, spelled=spelled, most=most)

    def ask_to_connect(
        self, hub: str, grant: ClientGrant, request: ConnectRequest, raw: RawMode = _EVENTS, *, most: int | None = None
    ) -> Opening:
        """Ask the event handler whether a client may connect, see :meth:`ServiceCore.ask_to_connect`.

        The outcome comes with :meth:`openings`.
        """
        return self._openings.ask_to_connect(hub, grant, request, raw, most=most)

    def recover(self, hub: str, connection_id: str, reconnection_token: str, *, spelled: str | None = None) -> Opening:
        """Bring a client back to its connection; the outcome comes with :meth:`openings`."""
        return self._openings.recover(hub, connection_id, reconnection_token, spelled=spelled)

    def forget(self, opening: Opening) -> None:
        """Handle that a client has left before its WebSocket was open."""
        self._openings.forget(opening)
        if opening.transport is not None:
            self.disconnected(opening.transport, NO_CLOSE_FRAME)

    def receive(self, transport: Transport, data: str | bytes, now: float) -> None:
        """Take a message from a client; see :meth:`ServiceCore.receive`."""
        connection = transport.connection
        if connection is None or connection.transport is not transport or self._overruns.is_ending(transport):
            return
        control = control_message(connection, data)
        if control is None:
            most = self.core.limits.max_message_size
            message = commands.Received.of(connection.connection_id, transport.number, data)
            if len(message.data) > most:
                self._overruns.report(connection, transport, "too large")
            else:
                self._outgoing.add(message)
        elif isinstance(control, SequenceAck):
            sequence_id = control.sequence_id
            if not connection.reliable:
                self.core.acknowledge(transport, sequence_id)  # it changes nothing: the log need not know
            elif sequence_id > connection.sequence_id:
                self._overruns.report(connection, transport, "ahead")
            else:
                self._acknowledgements.add(connection, transport, sequence_id, now)
        else:
            transport.send(connection.codec.pong)

    def disconnected(self, transport: Transport, code: int, reason: str = "", *, broken: bool = False) -> None:
        """Handle the end of a WebSocket: closed by the client, lost (1006), or broken by the client.

        See :meth:`ServiceCore.disconnected` and :meth:`ServiceCore.transport_broken`.
        """
        connection = transport.connection
        is_present = connection is not None and connection.transport is transport
        self._acknowledgements.lost(transport, is_present=is_present)
        if connection is not None and is_present:
            self._outgoing.add(commands.Gone(connection.connection_id, transport.number, code, reason, broken))

    def send_away(self, transport: Transport) -> None:
        """Close a client's WebSocket with 1001: it comes back to its connection, at another node."""
        transport.end(closes.NODE_GONE)
        self.disconnected(transport, closes.NODE_GONE.code)

    def ask(self, write: Write) -> Asked:
        """Have an operation of the data plane carried out; its outcome comes with :meth:`answers`."""
        return self._operations.ask(write)

    def leave(self) -> None:
        """End in good order: all clients of this node are told to come back, which they do at another one."""
        self.is_leaving = True
        self._outgoing.add(commands.Leave())

    def forked(self) -> bytes:
        """Handle that the log no longer has the entry that was applied last: clients know more than it.

        Append the returned entry: it ends all connections of the cluster. This node must end, and start anew.
        """
        self.fence("the log has lost entries that clients were told of")
        # The connections themselves end when the log says so: else handlers would hear of it from this node, too.
        self.core.turn_away()
        return self._outgoing.fork()

    # ---- Event handlers

    def handler_answered(self, call: HandlerCall, status: int, headers: Headers, body: bytes, now: float) -> None:
        """Handle the answer to a call, see :meth:`ServiceCore.handler_answered`."""
        self.core.attempt_ended(call, Answer(status, headers, body), now)
        self._openings.decide()

    def handler_failed(self, call: HandlerCall, kind: FailureKind, text: str, now: float) -> None:
        """Handle the end of a call without an answer; ``text`` is for people."""
        self.core.attempt_ended(call, Failure(kind, text), now)
        self._openings.decide()

    # ---- Time

    def wake(self, now: float) -> None:
        """Write a sign of life and what clients have acknowledged, look at the others, try calls that are due."""
        self.core.try_again(now)
        self._openings.decide()
        if self._acknowledgements.due <= now:
            self._acknowledgements.flush()
        if self.fenced:
            return
        if self._last_entry + BEAT <= now:
            self._outgoing.add(commands.Beat())
        # A node that writes all the time needs no beat, and has to look at the others, too.
        if self._looked + BEAT <= now:
            self._looked = now
            self._overruns.forget()
            self._outgoing.extend(self._listening.accusations(self.shared, now))
            self._compare()
            behaviour = self._rollout.proposal(self.shared, self.node)
            if behaviour is not None:
                self._outgoing.add(commands.Activate(behaviour))

    def _compare(self) -> None:
        shared = self.shared
        if self.members.first == self.node and shared.core.now - shared.compared_at >= _COMPARE_EVERY:
            self._outgoing.add(commands.Compare())
        told = shared.digests
        mine = told.get(self.node)
        if mine is not None and 2 * sum(value != mine for value in told.values()) > len(self.members):
            self.fence("its state differs from that of most nodes: that is a fault of the service")

    # ---- Outputs

    @property
    def has_output(self) -> bool:
        """Whether messages of clients have led to something for the log, or for clients: most acknowledgements wait."""
        return self._outgoing.has_commands or self.core.registry.has_output

    def entries_to_append(self, now: float) -> list[bytes]:
        """Return the entries to append to the log, in this order, since the last call."""
        self._overruns.look()
        # If the fault was one of this node alone, the others still have the connection, and nobody else would end it.
        self._outgoing.extend(commands.Overrun(*each, "ahead") for each in self.core.take_given_up())
        self._outgoing.extend(self.core.logged_calls.outcomes())
        entries = self._outgoing.take(now)
        if entries:
            self._last_entry = now
        return entries

    def transports_with_output(self) -> list[Transport]:
        """Return the transports with new messages or an order to close since the last call."""
        ready = self.core.ready_transports()
        self._overruns.handed_out(ready)
        return ready

    def openings(self) -> list[Opening]:
        """Return the clients whose connection has begun, or was refused, since the last call."""
        return self._openings.take()

    def answers(self) -> list[Asked]:
        """Return the operations that were carried out or refused since the last call."""
        return self._operations.take()

    def handler_calls(self, now: float) -> list[HandlerCall]:
        """Return the calls of event handlers to start, or to give up, since the last call."""
        # What a node was to call when the log took it out, or will soon, is called by another one. That may have
        # happened already if the others have not heard of this node for so long: it has stood still, or is cut off.
        may_be_dead = now - self._outgoing.alive_at > SILENCE
        return [] if self.fenced or self.is_leaving or may_be_dead else self.core.attempts_to_make(now)

    def listener_messages(self) -> list[ListenerMessage]:
        """Return what listeners are to get from this node since the last call, in order."""
        return self.core.listener_messages()

    # ---- The log

    def snapshot(self) -> bytes:
        """Return the state at :attr:`position`, for :meth:`restore` at a node that comes later.

        What the entries up to :attr:`position` did is in it, so the log may forget them.

        Raises:
            RuntimeError: if this node is fenced, or has other settings: its state may not be that of the cluster.
        """
        if self.fenced or self.shared.is_foreign:
            raise RuntimeError(f"this node ends: {self.fenced}" if self.fenced else "the cluster has other settings")
        return snapshot(self.shared)

    def restore(self, data: bytes) -> None:
        """Begin with a snapshot in place of the entries up to its :attr:`position`: call it before :meth:`apply`.

        Raises:
            UnreadableSnapshot: if the bytes are no snapshot for this node; nothing has changed then.
        """
        restore(self.shared, data)

    def apply(self, position: str, time: float, data: bytes) -> None:
        """Carry out an entry of the log, which has an id and a time in seconds since 1970.

        Call it for every entry, in their order, also for those of this node.
        """
        try:
            entry = commands.decode(data)
        except ForeignEntry as error:
            # The nodes that are there go on among themselves; one that comes has to be of their release.
            if not self.is_member:
                self.fence(f"the cluster is of another release: {error}")
            else:
                _LOGGER.warning("an entry of the log does not count: %s", error)
        except UnreadableEntry as error:
            _LOGGER.error("an entry of the log does not count: %s", one_line(str(error)))
        else:
            self._apply(position, time, entry)

    def _apply(self, position: str, time: float, entry: commands.Entry) -> None:
        (oldest, newest), active = self._behaviours, self.shared.behaviour
        if active and not oldest <= active <= newest:
            self.fence(
                f"the log needs version {active} of the service's behaviour; this release has {oldest} to {newest}"
            )
            return
        self.shared.apply(position, time, entry)

    def read_back(self, counter: int) -> None:
        """Handle that an entry of this node has come back; see :class:`LocalNode`."""
        self._outgoing.read_back(counter)

    def expects(self, number: int) -> bool:
        """Return whether a client of this node waits for the attachment with this number."""
        return self._openings.expects(number)

    def attached(self, number: int, attachment: Attachment | None) -> None:
        """Handle that a client of this node has its attachment; ``None``: it gets none."""
        opening = self._openings.attached(number, attachment)
        if opening.transport is not None and not opening.is_wanted:
            self.disconnected(opening.transport, NO_CLOSE_FRAME)

    def failed(self, number: int) -> None:
        """Handle that a client of this node gets no attachment, by a fault of ours."""
        self._openings.failed(number)

    def answered(self, number: int, error: OperationError | None) -> None:
        """Handle that an operation of this node was carried out, or refused."""
        self._operations.answered(number, error)

    def compare(self, number: int) -> None:
        """Handle that all nodes are to tell the digest of their state at this place."""
        if self.is_member:
            self._outgoing.add(commands.Digest(number, digest(self.shared)))

    def expelled(self, reason: str) -> None:
        """Handle that the cluster goes on without this node."""
        self.fence(f"the cluster goes on without this node: {reason}")

    def fence(self, reason: str) -> None:
        """Take no more part in the cluster, for this reason: clients must go elsewhere, and the node start anew."""
        if not self.fenced:
            self.fenced = reason
            _LOGGER.log(logging.DEBUG if self.is_leaving else logging.ERROR, "this node ends: %s", one_line(reason))
