"""The gateway of a node of a cluster: between clients, REST and event handlers, and the log of the cluster."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from secrets import token_hex, token_urlsafe
from time import monotonic
from typing import TYPE_CHECKING, Final

from limpet.service._admission import Pending, Refusal, recovered_subprotocol
from limpet.service._cluster_node import PORTION, ClusterNode
from limpet.service._entrances import ThroughTheLog
from limpet.service._gateway import Gateway, utc_time
from limpet.service._hold import Hold
from limpet.service._inspected import InspectedCore
from limpet.service._joining import ClusterRefused, settings_digest
from limpet.service._waiting_writes import WaitingWrites, patience, unavailable
from limpet.service.cluster import LogError
from limpet.service.cluster.view import ClusterView, cluster_view
from limpet.service.options import ClusterOptions, ServiceOptions
from limpet_core.service import EventSettings, ServiceCore, Transport
from limpet_core.service.cluster.commands import MAX_DATA
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.cluster.waiting import Opening
from limpet_core.service.data_plane.writes import Write
from limpet_core.text import one_line

if TYPE_CHECKING:
    from limpet.service._webhooks import Called

_LOGGER: Final = logging.getLogger("limpet.service.cluster")


class ClusterGateway(Gateway):
    """A :class:`Gateway` whose clients, application servers and event handlers act through the log of a cluster.

    Args:
        options: of the service; all nodes have the same access keys, limits and event handlers.
        endpoint: as for :class:`Gateway`.
        cluster: the node's place in its cluster.

    Attributes:
        cluster: the node's place in its cluster.
        replica: the node's part of the cluster.
    """

    def __init__(self, options: ServiceOptions, endpoint: str | None, cluster: ClusterOptions) -> None:
        self.cluster: ClusterOptions = cluster  # first: the base calls _make_core()
        if options.access_key is None:
            raise ValueError(
                "the nodes of a cluster need an access key of your own, the same for all "
                "(ServiceOptions.access_key, or --key on the command line)"
            )
        if options.max_message_size > MAX_DATA:
            raise ValueError(f"max_message_size is at most {MAX_DATA} in a cluster, whose log has to hold the message")
        super().__init__(options, endpoint)
        key = options.access_key.encode()
        # A page of a list may come from another node than the one before.
        self.identity.page_key = hmac.digest(key, b"the continuation tokens of a cluster", hashlib.sha256)
        self._entrance = ThroughTheLog(self.replica, lambda: self.options.max_connections, lambda: self.refusal)
        self._node = ClusterNode(
            cluster,
            self.replica,
            applied=self._applied,
            flush=self.flush,
            on_congested=self._congestion_changed,
        )
        self.now = self._node.time
        self._fenced = asyncio.Event()
        self._writes = WaitingWrites(self.replica, self.flush)
        self._hold = Hold(PORTION, self.flush)

    def _make_core(self, options: ServiceOptions, events: EventSettings) -> ServiceCore:
        node = f"{self.cluster.name}-{token_hex(6)}"
        core = ReplicatedCore(
            node,
            options.limits(),
            new_connection_id=lambda: token_urlsafe(18),
            issue_reconnection_token=self.identity.tokens.issue_reconnection_token,
            check_reconnection_token=self.identity.tokens.check_reconnection_token,
            events=events,
            utc_time=utc_time,
        )
        self.replica = Replica(node, core, settings=settings_digest(options), name=self.cluster.name)
        return core

    @property
    def inspected_core(self) -> ServiceCore:
        """The service's logic, to be looked at."""
        return InspectedCore(self.replica.core)

    @property
    def _called(self) -> Called:
        return self.replica

    def cluster_view(self) -> ClusterView:
        """Return what this node knows of its cluster."""
        replica, cluster = self.replica, self.cluster
        return cluster_view(
            replica.shared,
            replica.node,
            self.now(),
            self._node.state,
            node=cluster.name,
            cell=cluster.cell,
            refusal=self.refusal,
        )

    @property
    def refusal(self) -> str | None:
        """Why this node takes no clients at the moment; ``None``: it does."""
        if self.replica.fenced:
            return f"This node of the service ends: {self.replica.fenced}. Connect again, to another one."
        if self._node.is_cut_off or not self.replica.is_member:
            return "This node of the service does not reach the log of its cluster. Connect again, to another one."
        return None

    # ---- Begin and end

    async def open(self) -> None:
        """Join the cluster: read what there is, then say so in the log.

        Raises:
            LogError: if the log cannot be used.
            ClusterRefused: if the cluster does not take this node.
        """
        await self._node.open()

    async def wait_until_fenced(self) -> str:
        """Wait until this node must end, and return why: start a new process."""
        await self._fenced.wait()
        return self.replica.fenced

    def reload(self, options: ServiceOptions) -> tuple[str, ...]:
        """Take no other options: all nodes must have the same, so they count from the start of a node."""
        return self._changed(options)

    def shut_down(self) -> None:
        """Leave the cluster: clients are told to come back, which they do at another node."""
        self.replica.leave()
        self.flush()

    def give_up(self) -> None:
        """Refuse the requests of application servers that still wait for the log."""
        self._node.end("it stops before the log has answered")

    async def close(self) -> None:
        """Leave the cluster if :meth:`shut_down` was not called, and end the log and what a :class:`Gateway` ends."""
        if self._node.appends and not self.replica.is_leaving:
            self.shut_down()
        await self._node.finish()
        self._stop_timer()
        self._hold.close()
        await self._node.close()
        self._congestion_changed(False)  # nobody waits for a log that is closed
        self._writes.refuse()
        await super().close()

    def _congestion_changed(self, congested: bool) -> None:
        self.congested = congested
        if not congested:
            waiting, self._when_free = self._when_free, []
            loop = asyncio.get_running_loop()
            for function in waiting:
                loop.call_soon(function)

    # ---- Inputs

    def forget(self, pending: Pending) -> None:
        """Handle that a client has left before its WebSocket was open."""
        assert isinstance(pending, Opening)
        self._undecided.pop(pending, None)
        self.replica.forget(pending)
        self.flush()

    def receive(self, transport: Transport, data: str | bytes) -> None:
        """Take a message of a client."""
        if self.frame_log is not None:
            self.frame_log.received(transport, data)
        self.replica.receive(transport, data, monotonic())

    def _ended(self, transport: Transport, code: int, reason: str, *, broken: bool) -> None:
        self.replica.disconnected(transport, code, reason, broken=broken)

    async def carry_out(self, write: Write) -> None:
        """Have an operation carried out by the cluster."""
        try:
            async with patience():
                await self._until_free()
        except TimeoutError:
            raise unavailable() from None
        if self.refusal is not None or not self._node.appends:
            raise unavailable()
        await self._writes.carry_out(write)

    async def _until_free(self) -> None:
        """Wait until the log can take more; at once where nobody would be let in then."""
        while self.congested and self._node.appends and self.refusal is None:
            free = asyncio.Event()
            self.when_free(free.set)
            await free.wait()

    async def catch_up(self) -> None:
        """Wait until this node knows all that any node has answered for before."""
        if self.refusal is not None or self._node.log is None:
            raise unavailable()
        try:
            async with patience():
                await self._node.catch_up()
        except (TimeoutError, LogError, ClusterRefused):
            raise unavailable() from None

    # ---- Outputs

    def flush_soon(self) -> None:
        """Carry out the outputs at the end of this turn of the event loop: its commands share an entry of the log."""
        if self.replica.has_output:
            self.gathering.write_soon()
        else:
            self._update_timer()  # acknowledgements wait for more of them

    def _applied(self, size: int) -> None:
        self._hold.add(size)
        self._end_turn()

    def _end_turn(self) -> None:
        if self._hold.waits(self.replica.unread) and not self.replica.fenced:
            self._write_log()
            self._update_timer()
        else:
            self.flush()

    def _write_log(self) -> None:
        self.gathering.written()
        self._node.write()

    def _update_timer(self) -> None:
        if self._node.appends and self.replica.deadline < self._timer_deadline:
            self._set_timer(self.replica.deadline)

    def flush(self) -> None:
        """Carry out the outputs of the replica; call after each group of calls to it."""
        self._write_log()
        self._hold.written()
        replica = self.replica
        self._write(replica.transports_with_output())
        for opening in replica.openings():
            self._answer(opening, _subprotocol(opening))
        self._writes.answer(replica.answers())
        if self.webhooks is not None:
            self.webhooks.carry_out(replica.handler_calls(monotonic()))
        if self.event_hubs is not None:
            self.event_hubs.send(replica.listener_messages())
        if replica.fenced:
            self._writes.refuse()
            if not self._fenced.is_set():
                self._fenced.set()
                self._send_away("ends")
        self._update_timer()

    def _pass_time(self) -> None:
        self.replica.wake(monotonic())
        if self._node.loses_log():
            self._send_away("does not reach the log of its cluster")

    def _send_away(self, reason: str) -> None:
        """Close all WebSockets of this node: clients recover at another one."""
        refusal = self.refusal
        assert refusal is not None, "nobody is sent away without a reason"
        if self._writers:
            count = len(self._writers)
            clients = "1 client is" if count == 1 else f"{count} clients are"
            _LOGGER.warning("%s sent to other nodes: this one %s", clients, one_line(reason))
        for transport, writer in list(self._writers.items()):
            self.replica.send_away(transport)
            writer.flush()
        undecided = list(self._undecided.items())
        self._undecided.clear()
        for pending, respond in undecided:
            assert isinstance(pending, Opening)
            self.replica.forget(pending)  # the log may still let it in
            self._respond(pending.hub, Refusal(503, refusal), respond)


def _subprotocol(opening: Opening) -> str | None:
    if opening.is_recovery and opening.transport is not None:
        return recovered_subprotocol(opening.transport, opening.subprotocol)
    return opening.subprotocol
