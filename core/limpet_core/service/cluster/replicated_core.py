"""The logic of the service at one node of a cluster: it changes by the commands of the log alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from limpet_core.protocol.names import hub_identity
from limpet_core.service import closes
from limpet_core.service.access.tokens import ClientGrant
from limpet_core.service.application_server import (
    ApplicationServer,
    ClientCall,
    ConnectedCall,
    EventCall,
    PendingConnect,
)
from limpet_core.service.cluster import commands
from limpet_core.service.cluster.logged_calls import LoggedCalls
from limpet_core.service.connections.connection import Attachment, Connection
from limpet_core.service.connections.limits import Limits
from limpet_core.service.connections.registry import Registry
from limpet_core.service.connections.transport import Transport
from limpet_core.service.core import ServiceCore
from limpet_core.service.group_states import GroupStates
from limpet_core.service.webhooks.answers import Outcome
from limpet_core.service.webhooks.calls import HandlerCalls
from limpet_core.service.webhooks.cloud_events import Acceptance, Rejection
from limpet_core.service.webhooks.handler_context import HandlerContext
from limpet_core.service.webhooks.handlers import EventSettings, HandlerCall

ROOM_FOR_LAG: Final = 4
"""How many times the limits a connection may have waiting at all nodes: the one that has its client may be behind.

With more it ends at once, whatever that node says.
"""

_BACKLOGS_FROM: Final = 8
"""Members of a group, with fewer of which each may as well have its messages by itself."""


class ReplicatedCore(ServiceCore):
    """The logic of a service whose inputs come from a log, the same at all nodes.

    Times are those of the log, in seconds since 1970. What a client does not take is bounded by the node that has it:
    its :class:`~limpet_core.service.cluster.replica.Replica` looks at :meth:`is_overrun`.

    Args:
        node: the name of this run of this node.
        limits: what a node lets a connection have.
        new_connection_id, issue_reconnection_token, check_reconnection_token, events: as for
            :class:`~limpet_core.service.core.ServiceCore`; all nodes must accept each other's tokens.
        utc_time: returns a time in seconds since 1970 like ``2026-01-31T12:00:00Z``.

    Attributes:
        now: the time of the newest entry of the log that was applied.
        logged_calls: the calls of event handlers.
        attempts: those of them that this node makes.
        node_limits: the limits that are meant; :attr:`limits` has more room, since a node may be behind.
    """

    def __init__(
        self,
        node: str,
        limits: Limits,
        *,
        new_connection_id: Callable[[], str],
        issue_reconnection_token: Callable[[str], str],
        check_reconnection_token: Callable[[str, str], bool],
        events: EventSettings,
        utc_time: Callable[[float], str],
    ) -> None:
        self.now: float = 0.0
        self.node_limits: Limits = limits
        self.attempts: HandlerCalls = HandlerCalls(events)
        self.logged_calls: LoggedCalls = LoggedCalls(node, self.attempts)
        # CloudEvents have the time of the log, so that all nodes make the same calls.
        events.utc_time = lambda: utc_time(self.now)
        roomy = msgspec.structs.replace(
            limits,
            retained_messages=ROOM_FOR_LAG * limits.retained_messages,
            retained_bytes=ROOM_FOR_LAG * limits.retained_bytes,
        )
        super().__init__(
            roomy,
            new_connection_id=new_connection_id,
            issue_reconnection_token=issue_reconnection_token,
            check_reconnection_token=check_reconnection_token,
            events=events,
            unix_time=lambda: self.now,
            calls=self.logged_calls,
        )
        self.observers.may_fail = True
        self._registry.outbox_limits = None
        self._registry.backlogs_from = _BACKLOGS_FROM
        self._registry.behaviour = 0  # the first node decides
        self._told = 0
        self._given_up: list[tuple[str, int]] = []
        # Whether a client may connect is decided at its node alone, before the log hears of it.
        self._admission = ApplicationServer(events, self.observers, self._own_calls)

    # ---- Parts whose state a snapshot has

    @property
    def registry(self) -> Registry:
        """All connections."""
        return self._registry

    @property
    def states(self) -> GroupStates:
        """The states of all groups."""
        return self._states

    def new_context(self, hub: str, connection_id: str, user_id: str | None) -> HandlerContext | None:
        """Return the state of a client at its event handlers; ``None``: its hub has none."""
        return self._application.new_context(hub, connection_id, user_id)

    # ---- What this node may ask before it writes into the log

    def new_connection_id(self) -> str:
        """Return an id for a new connection."""
        return self._new_connection_id()

    def may_recover(self, hub: str, connection_id: str, reconnection_token: str) -> bool:
        """Return whether a token is one for a connection; whether that is still there is seen when the log says so."""
        connection = self._registry.connections.get(connection_id)
        return (connection is None or connection.hub == hub_identity(hub)) and self._check_token(
            reconnection_token, connection_id
        )

    def is_overrun(self, connection: Connection, transport: Transport) -> bool:
        """Return whether a connection that is attached here, by this transport, has more waiting than limits allow."""
        limits = self.node_limits
        if transport.is_full(limits):
            return True
        return connection.reliable and connection.unacknowledged_beyond(
            transport.acknowledged, transport.replayed_to, limits
        )

    # ---- Commands

    def attachment(self, place: tuple[str, int], connection_id: str) -> Attachment | None:
        """Return the attachment of a connection if it is still the one at this place; ``None``: there is another."""
        connection = self._registry.connections.get(connection_id)
        if connection is None or connection.attachment is None or connection.attachment.place != place:
            return None
        return connection.attachment

    def open(self, command: commands.Open, place: tuple[str, int], *, here: bool) -> Attachment | None:
        """Open a connection; return its attachment, ``None`` if there is no room for it, or its id is taken."""
        connections = self._registry.connections
        if command.connection_id in connections or (command.most is not None and len(connections) >= command.most):
            return None
        hub = hub_identity(command.hub)
        grant = ClientGrant(command.user_id, command.roles, command.groups)
        context = self.new_context(hub, command.connection_id, grant.user_id)
        if context is not None and command.handed is not None:
            context.take_over(command.handed.state, command.handed.cookies)
        connection = Connection(
            hub, command.connection_id, command.subprotocol, grant, command.raw, self.limits, context
        )
        attachment = self._new_attachment(connection, place, here)
        self._registry.open(connection, grant, attachment)
        return attachment

    def recover_at(self, command: commands.Recover, place: tuple[str, int], *, here: bool) -> Attachment | None:
        """Attach a connection to another place; return the attachment, ``None`` if the connection is over."""
        hub = hub_identity(command.hub)
        connection = self._registry.connections.get(command.connection_id)
        if connection is None or not connection.reliable or connection.hub != hub:
            self.observers.recovery_refused(hub, command.connection_id)
            return None
        attachment = self._new_attachment(connection, place, here)
        self._replace(connection, attachment, self.now)
        return attachment

    def end_attachment(self, attachment: Attachment, command: commands.Gone | commands.Overrun) -> None:
        """Carry out the end of an attachment that is the present one of its connection."""
        connection = attachment.connection
        assert connection is not None
        if isinstance(command, commands.Overrun):
            if command.why == "too large":
                self._registry.end(connection, closes.too_large(self.limits.max_message_size))
                return
            full = closes.UNACKNOWLEDGED if connection.reliable else closes.TOO_SLOW
            self._registry.end(connection, closes.FORGOTTEN if command.why == "ahead" else full, discard=True)
        elif command.broken:
            self.transport_broken(attachment, command.code, self.now)
        else:
            self.disconnected(attachment, command.code, self.now, command.reason)

    def acknowledge(self, attachment: Attachment, sequence_id: int) -> None:
        """Release the messages that a client has acknowledged."""
        connection = attachment.connection
        assert connection is not None
        connection.acknowledge(sequence_id)
        observers = self.observers
        if observers:
            if observers.is_brief and len(observers) == 1:  # counted here: see Observers
                observers.totals.others += 1
            else:
                observers.sequence_acked(connection, sequence_id)

    def end_call(self, ended: commands.CallEnded) -> None:
        """Take the outcome of a call of an event handler. If that fails, its client's connection ends, too.

        The first outcome counts: later ones, and those of cancelled calls, do nothing.
        """
        pending = self.logged_calls.pending.get(ended.call)
        if pending is None:
            return
        try:
            self.logged_calls.end(ended)
            self._act_on_results(self.now)
        except Exception:
            self._give_up_call(pending.call)
            raise

    def _give_up_call(self, call: HandlerCall) -> None:
        self.logged_calls.cancel(call)
        purpose = call.purpose
        if isinstance(purpose, ConnectedCall | ClientCall):
            context = purpose.context
            if isinstance(purpose, ConnectedCall):
                context.connected_running = False
            elif context.event_running is call:
                context.event_running = None
            self.give_up(purpose.connection.connection_id)
            self._application.submit_disconnected(context)  # if the client had left before

    def give_up(self, connection_id: str) -> Attachment | None:
        """End a connection, one of whose commands has failed by a fault of ours; return its attachment, if it had one.

        Half of the command may have been carried out. An answer that says it was refused would be wrong then, and a
        client that repeats it would do so twice.
        """
        connection = self._registry.connections.get(connection_id)
        if connection is None:
            return None
        attachment = connection.attachment
        self._registry.end(connection, closes.FAILED)
        if isinstance(attachment, Transport):
            self._given_up.append((connection_id, attachment.number))
        return attachment

    def take_given_up(self) -> list[tuple[str, int]]:
        """Return the connections of this node, with the numbers of their attachments, that were given up since."""
        given_up, self._given_up = self._given_up, []
        return given_up

    def reassign_calls(self, node: str, heir: str) -> None:
        """Have the calls of a node that is gone made by another one."""
        self.logged_calls.reassign(node, heir)

    def abandon(self, node: str) -> None:
        """Detach all connections of a node that is gone: their clients come back, or they end after the window."""
        for connection in list(self._registry.connections.values()):
            attachment = connection.attachment
            if attachment is not None and attachment.place is not None and attachment.place[0] == node:
                attachment.end(closes.NODE_GONE, discard=True)
                self.disconnected(attachment, closes.NODE_GONE.code, self.now)

    def turn_away(self) -> None:
        """Close the transports of this node: the log has lost messages that their clients were told of."""
        for connection in self._registry.connections.values():
            if connection.transport is not None:
                connection.transport.end(closes.FORGOTTEN, discard=True)

    def forget_everything(self) -> None:
        """End all connections, and drop all that waits for a turn: the log has lost what clients were told of."""
        for connection in list(self._registry.connections.values()):
            if self._registry.is_alive(connection):
                self._registry.end(connection, closes.FORGOTTEN, discard=True)
        # What waits behind an event of a client that has left may have been carried out in what the log has lost.
        for pending in self.logged_calls.pending.values():
            if isinstance(pending.call.purpose, EventCall):
                pending.call.purpose.context.clear_queue()

    def begin_anew(self) -> None:
        """Drop all connections and all that waits, as in a new core: the settings have changed while no node was there.

        So no client is there either, and nobody is told. A node that has only stood still sends its clients away.
        """
        for connection in self._registry.connections.values():
            if connection.transport is not None:
                connection.transport.end(closes.NODE_GONE, discard=True)
        self.logged_calls.forget()
        self._registry.forget()
        self.streams.restore(())
        self.states.restore(())
        self.invocations.restore(())

    def begin_entry(self, node: str, *, here: bool) -> None:
        """Prepare for the commands of an entry of a node, which is the one that observes what they do."""
        if not here:
            self.observers.mute()
            self._told = len(self._application.listener_messages)
        self.logged_calls.executor = node

    def pass_time(self) -> None:
        """Do what is due by the time of the log."""
        if self.deadline <= self.now:
            self.wake(self.now)

    def send_news(self) -> None:
        """Send what is told once for all commands of an entry."""
        self._send_news()

    def finish_entry(self, *, here: bool) -> None:
        """End what :meth:`begin_entry` began."""
        if not here:
            # Those of the entries before, of this node, may wait to be sent.
            del self._application.listener_messages[self._told :]
            self.observers.unmute()

    # ---- The event handlers' calls of this node

    @property
    def attempts_deadline(self) -> float:
        """When to call :meth:`try_again`, in monotonic seconds of this machine."""
        return min(self.attempts.deadline, self._own_calls.deadline)

    def try_again(self, now: float) -> None:
        """Try the calls that are due again."""
        self.attempts.wake(now)
        self._own_calls.wake(now)

    def attempt_ended(self, call: HandlerCall, outcome: Outcome, now: float) -> None:
        """Take the end of an attempt."""
        # Each ignores a call that is none of its own.
        self.attempts.ended(call, outcome, now)
        self._own_calls.ended(call, outcome, now)

    def attempts_to_make(self, now: float) -> list[HandlerCall]:
        """Return the calls to start, or to give up, since the last call."""
        return self.attempts.take(now) + self._own_calls.take(now)

    def decisions(self) -> list[tuple[PendingConnect, Acceptance | Rejection]]:
        """Return what event handlers have said of clients that want to connect, since the last call."""
        return [(decided.pending, decided.decision) for decided in self._admission.decisions()]

    # ---- Output

    def ready_transports(self) -> list[Transport]:
        """Return the transports with new messages or an order to close since the last call."""
        return self._registry.transports_with_output()

    def refused_transport(self) -> Transport:
        """Return a transport for a client whose recovery is refused."""
        return self._registry.refuse(closes.REFUSED)

    def _new_attachment(self, connection: Connection, place: tuple[str, int], here: bool) -> Attachment:
        attachment = self._registry.transport(connection) if here else Attachment(connection)
        attachment.place = place
        return attachment
