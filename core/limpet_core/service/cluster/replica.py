"""A node of a cluster: its part in the log, its clients, and the logic of the service that all nodes share."""

from __future__ import annotations

import logging
import math
from typing import Final, Literal

from limpet_core.protocol.close import NO_CLOSE_FRAME
from limpet_core.protocol.names import is_text
from limpet_core.service import closes
from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.application_server import PendingConnect
from limpet_core.service.cluster import commands
from limpet_core.service.cluster.commands import MAX_DATA, ForeignEntry, UnreadableEntry
from limpet_core.service.cluster.members import Members
from limpet_core.service.cluster.outgoing import Outgoing
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.cluster.rollout import Rollout
from limpet_core.service.cluster.shared_state import BEHAVIOUR, OLDEST_BEHAVIOUR, SharedState
from limpet_core.service.cluster.silence import BEAT, Listening
from limpet_core.service.cluster.snapshot import digest, restore, snapshot
from limpet_core.service.cluster.waiting import Asked, Opening
from limpet_core.service.connections.connection import Attachment, Connection, Transport
from limpet_core.service.data_plane.parameters import OperationError
from limpet_core.service.data_plane.writes import Write
from limpet_core.service.webhooks.answers import Answer, Failure, FailureKind, Headers
from limpet_core.service.webhooks.cloud_events import ConnectRequest, Rejection
from limpet_core.service.webhooks.handlers import HandlerCall
from limpet_core.service.webhooks.listeners import ListenerMessage
from limpet_core.service.wire.raw import RawMode
from limpet_core.service.wire.requests import Ping
from limpet_core.service.wire.subprotocols import choose_subprotocol
from limpet_core.text import one_line

_LOGGER: Final = logging.getLogger("limpet.service")

_ACK_DELAY: Final = 0.1
_ACKS_AT_ONCE: Final = 500
_COMPARE_EVERY: Final = 60.0
_EVENTS: Final = RawMode()


class Replica:
    """A node of a cluster, without IO, clock or randomness.

    **After any call append** :meth:`entries_to_append` **to the log, and carry out** :meth:`transports_with_output`,
    :meth:`openings`, :meth:`answers`, :meth:`handler_calls` **and** :meth:`listener_messages`; **call** :meth:`wake`
    **at** :attr:`deadline`. **Call** :meth:`apply` **for each entry that the log has**, in order, also for those of
    this node: what happens here has no effect before.

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
        self._next_number = 1
        self._openings: dict[int, Opening] = {}
        self._opened: list[Opening] = []
        self._asked: dict[int, Asked] = {}
        self._answers: list[Asked] = []
        # The newest sequence id that each client here has acknowledged, of those that the log does not have yet.
        self._acks: dict[Transport, int] = {}
        self._acks_due = math.inf
        self._deciding: dict[PendingConnect, Opening] = {}
        self._handed_out: list[Transport] = []
        # Those whose end is on its way to the log.
        self._ending: set[Transport] = set()
        self._last_entry = -math.inf
        self._looked = -math.inf
        self._leaving = False

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
        return min(beat, self._acks_due, self.core.attempts_deadline)

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
        opening = self._opening(hub, spelled)
        opening.connection_id = self.core.new_connection_id()
        opening.most = most
        self._open(opening, subprotocol, grant, raw, None)
        return opening

    def ask_to_connect(
        self, hub: str, grant: ClientGrant, request: ConnectRequest, raw: RawMode = _EVENTS, *, most: int | None = None
    ) -> Opening:
        """Ask the event handler whether a client may connect, see :meth:`ServiceCore.ask_to_connect`.

        The outcome comes with :meth:`openings`.
        """
        opening = self._opening(hub, None)
        opening.most = most
        opening.pending = self.core.ask_to_connect(hub, grant, request, raw)
        self._deciding[opening.pending] = opening
        self._decide()
        return opening

    def recover(self, hub: str, connection_id: str, reconnection_token: str, *, spelled: str | None = None) -> Opening:
        """Bring a client back to its connection; the outcome comes with :meth:`openings`."""
        opening = self._opening(hub, spelled)
        opening.is_recovery = True
        opening.connection_id = connection_id
        if self.core.may_recover(hub, connection_id, reconnection_token):
            self._openings[opening.number] = opening
            self._outgoing.add(commands.Recover(connection_id, opening.number, hub))
        else:
            self.core.observers.recovery_refused(hub, connection_id)
            self._refuse_recovery(opening)
        return opening

    def forget(self, opening: Opening) -> None:
        """Handle that a client has left before its WebSocket was open."""
        opening.is_wanted = False
        if opening.pending is not None and self._deciding.pop(opening.pending, None) is not None:
            self.core.forget_connect(opening.pending)
        if opening.transport is not None:
            self.disconnected(opening.transport, NO_CLOSE_FRAME)

    def receive(self, transport: Transport, data: str | bytes, now: float) -> None:
        """Take a message from a client; see :meth:`ServiceCore.receive`."""
        connection = transport.connection
        if connection is None or connection.transport is not transport or transport in self._ending:
            return
        control = self.core.control_message(connection, data)
        if isinstance(control, Ping):
            transport.send(connection.codec.pong)
        elif control is not None:
            self._acknowledge(connection, transport, control.sequence_id, now)
        else:
            most = self.core.limits.max_message_size
            message = commands.Received.of(connection.connection_id, _number(transport), data)
            if len(message.data) > most:
                self._overrun(connection, transport, "too large")
            else:
                self._outgoing.add(message)

    def disconnected(self, transport: Transport, code: int, reason: str = "", *, broken: bool = False) -> None:
        """Handle the end of a WebSocket: closed by the client, lost (1006), or broken by the client.

        See :meth:`ServiceCore.disconnected` and :meth:`ServiceCore.transport_broken`.
        """
        connection = transport.connection
        acknowledged = self._acks.pop(transport, None)
        if connection is not None and connection.transport is transport:
            if acknowledged is not None:  # else the client would get these messages again
                acks = [(connection.connection_id, _number(transport), acknowledged)]
                self._outgoing.add(commands.SequenceAcks(acks))
            self._outgoing.add(commands.Gone(connection.connection_id, _number(transport), code, reason, broken))

    def send_away(self, transport: Transport) -> None:
        """Close a client's WebSocket with 1001: it comes back to its connection, at another node."""
        transport.end(closes.NODE_GONE)
        self.disconnected(transport, closes.NODE_GONE.code)

    def ask(self, write: Write) -> Asked:
        """Have an operation of the data plane carried out; its outcome comes with :meth:`answers`."""
        asked = Asked(self._take_number())
        self._asked[asked.number] = asked
        self._outgoing.add(commands.Ask(asked.number, write))
        return asked

    def leave(self) -> None:
        """End in good order: all clients of this node are told to come back, which they do at another one."""
        self._leaving = True
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
        self._decide()

    def handler_failed(self, call: HandlerCall, kind: FailureKind, text: str, now: float) -> None:
        """Handle the end of a call without an answer; ``text`` is for people."""
        self.core.attempt_ended(call, Failure(kind, text), now)
        self._decide()

    # ---- Time

    def wake(self, now: float) -> None:
        """Write a sign of life and what clients have acknowledged, look at the others, try calls that are due."""
        self.core.try_again(now)
        self._decide()
        if self._acks_due <= now:
            self._flush_acks()
        if self.fenced:
            return
        if self._last_entry + BEAT <= now:
            self._outgoing.add(commands.Beat())
        # A node that writes all the time needs no beat, and has to look at the others, too.
        if self._looked + BEAT <= now:
            self._looked = now
            # The end of one that was lost or replaced meanwhile never comes back.
            self._ending = {transport for transport in self._ending if _is_present(transport)}
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

    def entries_to_append(self, now: float) -> list[bytes]:
        """Return the entries to append to the log, in this order, since the last call."""
        self._look_for_overruns()
        self._outgoing.extend(self.core.logged_calls.outcomes())
        entries = self._outgoing.take()
        if entries:
            self._last_entry = now
        return entries

    def entries_to_repeat(self) -> list[bytes]:
        """Return the entries that were not read back, to be appended once more: after the log has lost its server."""
        return self._outgoing.repeats()

    def transports_with_output(self) -> list[Transport]:
        """Return the transports with new messages or an order to close since the last call."""
        ready = self.core.ready_transports()
        self._handed_out += ready
        self._ending.difference_update([transport for transport in ready if transport.close is not None])
        return ready

    def openings(self) -> list[Opening]:
        """Return the clients whose connection has begun, or was refused, since the last call."""
        opened, self._opened = self._opened, []
        return opened

    def answers(self) -> list[Asked]:
        """Return the operations that were carried out or refused since the last call."""
        answers, self._answers = self._answers, []
        return answers

    def handler_calls(self, now: float) -> list[HandlerCall]:
        """Return the calls of event handlers to start, or to give up, since the last call."""
        # What a node was to call when the log took it out, or will soon, is called by another one.
        return [] if self.fenced or self._leaving else self.core.attempts_to_make(now)

    def listener_messages(self) -> list[ListenerMessage]:
        """Return what listeners are to get from this node since the last call, in order."""
        return self.core.listener_messages()

    # ---- The log

    def snapshot(self) -> bytes:
        """Return the state at :attr:`position`, for :meth:`restore` at a node that comes later.

        What the entries up to :attr:`position` did is in it, so the log may forget them.

        Raises:
            RuntimeError: if this node is fenced: its state may not be that of the cluster.
        """
        if self.fenced:
            raise RuntimeError(f"this node ends: {self.fenced}")
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
        return number in self._openings

    def attached(self, number: int, attachment: Attachment | None) -> None:
        """Handle that a client of this node has its attachment; ``None``: it gets none."""
        opening = self._openings.pop(number)
        if isinstance(attachment, Transport):
            opening.transport = attachment
            self._opened.append(opening)
            if not opening.is_wanted:
                self.disconnected(attachment, NO_CLOSE_FRAME)
        elif opening.is_recovery:
            self._refuse_recovery(opening)
        else:
            text = f"All {opening.most} connections of this service are taken. Try again later."
            opening.rejection = Rejection(429, text)
            self._opened.append(opening)

    def answered(self, number: int, error: OperationError | None) -> None:
        """Handle that an operation of this node was carried out, or refused."""
        asked = self._asked.pop(number, None)
        if asked is not None:
            asked.error = error
            self._answers.append(asked)

    def compare(self, number: int) -> None:
        """Handle that all nodes are to tell the digest of their state at this place."""
        if self.is_member:
            self._outgoing.add(commands.Digest(number, digest(self.shared)))

    def expelled(self, reason: str) -> None:
        """Handle that the cluster goes on without this node."""
        self.fence(f"the cluster goes on without this node: {reason}")

    # ---- Clients that wait

    def _opening(self, hub: str, subprotocol: str | None) -> Opening:
        return Opening(self._take_number(), hub, subprotocol)

    def _take_number(self) -> int:
        self._next_number += 1
        return self._next_number - 1

    def _open(
        self,
        opening: Opening,
        subprotocol: str | None,
        grant: ClientGrant,
        raw: RawMode,
        handed: commands.Handed | None,
    ) -> None:
        # A role that is no text names no group, so it gives no rights, and the log cannot hold it.
        who = (grant.user_id, tuple(filter(is_text, grant.roles)), grant.groups)
        command = commands.Open(
            opening.connection_id, opening.number, opening.hub, subprotocol, *who, raw, handed, opening.most
        )
        if handed is not None and len(bytes(commands.encode(command))) > MAX_DATA:
            text = f"The event handler's answer to the connect event has more than {MAX_DATA} bytes."
            opening.rejection = Rejection(500, text)
            self._opened.append(opening)
            return
        self._openings[opening.number] = opening
        self._outgoing.add(command)

    def _decide(self) -> None:
        """Go on with the clients about whom an event handler has decided."""
        for pending, decision in self.core.decisions():
            opening = self._deciding.pop(pending)
            if isinstance(decision, Rejection):
                opening.rejection = decision
                self._opened.append(opening)
                continue
            name, opening.subprotocol = choose_subprotocol(pending.offers, decision.subprotocol)
            opening.connection_id = pending.context.connection_id
            handed = commands.Handed(*pending.context.handed_over())
            self._open(opening, name, decision.grant, pending.raw, handed)

    def _refuse_recovery(self, opening: Opening) -> None:
        opening.transport = self.core.refused_transport()
        self._opened.append(opening)

    # ---- What this node does with its clients by itself

    def _acknowledge(self, connection: Connection, transport: Transport, sequence_id: int, now: float) -> None:
        if not connection.reliable:
            self.core.acknowledge(transport, sequence_id)  # it changes nothing: the log need not know
            return
        if sequence_id > connection.sequence_id:
            self._overrun(connection, transport, "ahead")
            return
        transport.acknowledged = self._acks[transport] = max(sequence_id, transport.acknowledged)
        self._acks_due = min(self._acks_due, now + _ACK_DELAY)
        if connection.retained > _ACKS_AT_ONCE:
            self._acks_due = now

    def _flush_acks(self) -> None:
        self._acks_due = math.inf
        acks = [
            (transport.connection.connection_id, _number(transport), sequence_id)
            for transport, sequence_id in self._acks.items()
            if transport.connection is not None
        ]
        self._acks.clear()
        if acks:
            self._outgoing.add(commands.SequenceAcks(acks))

    def _look_for_overruns(self) -> None:
        """Say of which clients too much waits, after their transports had the chance to write it."""
        looked_at, self._handed_out = self._handed_out, []
        for transport in looked_at:
            connection = transport.connection
            if connection is None or connection.transport is not transport or transport in self._ending:
                continue
            if self.core.is_overrun(connection, transport):
                self._overrun(connection, transport, "full")

    def _overrun(
        self, connection: Connection, transport: Transport, why: Literal["full", "ahead", "too large"]
    ) -> None:
        self._ending.add(transport)
        self._outgoing.add(commands.Overrun(connection.connection_id, _number(transport), why))

    def fence(self, reason: str) -> None:
        """Take no more part in the cluster, for this reason: clients must go elsewhere, and the node start anew."""
        if not self.fenced:
            self.fenced = reason
            _LOGGER.log(logging.INFO if self._leaving else logging.ERROR, "this node ends: %s", one_line(reason))


def _is_present(transport: Transport) -> bool:
    return transport.connection is not None and transport.connection.transport is transport


def _number(transport: Transport) -> int:
    assert transport.place is not None
    return transport.place[1]
