"""Parts of a cluster that each break one rule, to show that the simulation notices."""

from __future__ import annotations

from typing import Final

import msgspec
from simulation.cluster import Parts
from simulation.inspect import set_limits
from simulation.releases import NEXT, NextCore, NextReplica
from simulation.sim_log import Link, SimLog

from limpet_core.service import Connection
from limpet_core.service.cluster import commands
from limpet_core.service.cluster.members import Member
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.cluster.shared_state import SharedState
from limpet_core.service.connections.connection import Attachment
from limpet_core.service.connections.transport import Transport
from limpet_core.service.data_plane.writes import Write

# ---- The rules of the log


class TakesRepeats(SharedState):
    """Carries out whatever a node that is there has written: also what comes again, and what has a gap before it."""

    def _counts(self, entry: commands.Entry) -> bool:
        member = self.members.get(entry.node)
        if member is not None and entry.counter:
            member.counter = entry.counter - 1
        return super()._counts(entry)


class BelievesEveryVerdict(SharedState):
    """Buries a node although it was heard of since."""

    def _carry_out_for_nodes(self, command: commands.Command, node: str) -> None:
        if isinstance(command, commands.Dead) and (accused := self.members.get(command.node)):
            command = msgspec.structs.replace(command, counter=accused.counter)
        super()._carry_out_for_nodes(command, node)


class HearsTheDead(SharedState):
    """Lets a node that was buried speak on."""

    def _counts(self, entry: commands.Entry) -> bool:
        if self.members.is_gone(entry.node) and entry.counter > 1 and self.members.get(entry.node) is None:
            self.members.add(Member(entry.node, entry.counter - 1, self.core.now, 1, 1, ""))
        return super()._counts(entry)


class GoesBackInTime(SharedState):
    """Takes the time of each entry, also one that is before that of another."""

    def apply(self, position: str, time: float, entry: commands.Entry) -> None:
        self.core.now = time
        super().apply(position, time, entry)


class SkipsWithoutAWord(SharedState):
    """Goes on behind a command that has failed, and tells nobody."""

    def _tell_of_failure(self, command: commands.Command, node: str) -> None:
        pass


class CallsItDone(SharedState):
    """Says of an operation that has failed that it was carried out."""

    def _tell_of_failure(self, command: commands.Command, node: str) -> None:
        if isinstance(command, commands.Ask) and node == self._node:
            self._local.answered(command.number, None)
        else:
            super()._tell_of_failure(command, node)


class HearsEveryAttachment(ReplicatedCore):
    """Takes messages from a transport that was replaced."""

    def attachment(self, place: tuple[str, int], connection_id: str) -> Attachment | None:
        connection = self.connection(connection_id)
        return None if connection is None else connection.attachment


class EndsMembersOfNodesFarBehind(ReplicatedCore):
    """Ends a connection where the log stands, although its own node has not come so far."""

    def is_overrun(self, connection: Connection, transport: Transport) -> bool:
        return False

    def _new_attachment(self, connection: Connection, place: tuple[str, int], here: bool) -> Attachment:
        limits = msgspec.structs.replace(self.limits, retained_messages=self.node_limits.retained_messages)
        set_limits(connection, limits)
        return super()._new_attachment(connection, place, here)


# ---- A node


class RepeatsOutOfOrder(Link):
    def to_repeat(self) -> list[bytes]:
        return super().to_repeat()[::-1]


class RepeatsNothing(Link):
    def to_repeat(self) -> list[bytes]:
        return []


class TellsNobodyOfAFork(Replica):
    """Begins anew, and lets its clients come back."""

    def forked(self) -> bytes:
        self.expelled("it has seen a fork")
        return b""


class AnswersBeforeTheLog(Replica):
    """Says that an operation is done when it is written, and not when it is read."""

    def ask(self, write: Write):  # type: ignore[no-untyped-def]
        asked = super().ask(write)
        self.answered(asked.number, None)
        return asked


class ForgetsTheClientsOfTheDead(ReplicatedCore):
    """Leaves the connections of a node that is gone attached to it for ever."""

    def abandon(self, node: str) -> None:
        pass


class LeavesCallsWithTheDead(ReplicatedCore):
    def reassign_calls(self, node: str, heir: str) -> None:
        pass


class CallsEverywhere(ReplicatedCore):
    """Each node calls the event handler."""

    def begin_entry(self, node: str, *, here: bool) -> None:
        super().begin_entry(node, here=here)
        self.logged_calls.executor = self.logged_calls._node


class CountsWhatItSends(ReplicatedCore):
    """Lets the state depend on where it is: a client that is here uses one more sequence id."""

    def _new_attachment(self, connection: Connection, place: tuple[str, int], here: bool) -> Attachment:
        attachment = super()._new_attachment(connection, place, here)
        if isinstance(attachment, Transport) and place[1] % 3 == 0:
            connection.sequence_id += 1
        return attachment


# ---- Two releases


class WritesTheNewFormatTooEarly(NextReplica):
    """Writes the new format while there are nodes that cannot read it."""

    @property
    def writes_next(self) -> bool:
        return self.is_member


class BehavesInTheNewWayTooEarly(NextCore):
    """Behaves in the new way while there are nodes that do not."""

    @property
    def is_next(self) -> bool:
        return True


class ActivatesForSome(SharedState):
    """Goes over to a new behaviour although a node does not have it, which is all alone with the old one then."""

    def _activate(self, behaviour: int) -> None:
        if behaviour > self.behaviour:
            self.core.registry.behaviour = behaviour


class IsInAHurry(NextReplica):
    """Proposes what one node has."""

    def wake(self, now: float) -> None:
        super().wake(now)
        if self.is_member and self.shared.behaviour < NEXT:
            self._outgoing.add(commands.Activate(NEXT))


# ---- The engine


class ReadsBeforeReplication(SimLog):
    """Nodes read from the primary."""

    def add(self, data: bytes) -> None:
        super().add(data)
        self.readable = len(self.entries)
        for function in self.on_read:
            function()

    def fail_over(self, kept: int, skew: float) -> None:
        super().fail_over(self._copied if kept == self.readable else kept, skew)

    _copied = 0

    def _replicated(self, server: int, count: int) -> None:
        if server == self.server:
            self._copied = count
        super()._replicated(server, count)


class GoesBackInTimeItself(SimLog):
    """Gives ids by the clock of the server alone."""

    def next_id(self, milliseconds: int) -> tuple[int, int]:
        return (milliseconds, 0) if milliseconds != self._last[0] else (milliseconds, self._last[1] + 1)


class Reorders(SimLog):
    """Appends some entries one place too early."""

    def add(self, data: bytes) -> None:
        super().add(data)
        if len(self.entries) % 5 == 0 and self.readable < len(self.entries) - 1:
            self.entries[-1], self.entries[-2] = self.entries[-2], self.entries[-1]


PARTS: Final = {
    "takes repeats": Parts(shared=TakesRepeats),
    "believes every verdict": Parts(shared=BelievesEveryVerdict),
    "hears the dead": Parts(shared=HearsTheDead),
    "goes back in time": Parts(shared=GoesBackInTime, log=GoesBackInTimeItself),
    "skips without a word": Parts(shared=SkipsWithoutAWord),
    "calls it done": Parts(shared=CallsItDone),
    "hears every attachment": Parts(core=HearsEveryAttachment),
    "ends members of nodes far behind": Parts(core=EndsMembersOfNodesFarBehind),
    "repeats out of order": Parts(link=RepeatsOutOfOrder),
    "repeats nothing": Parts(link=RepeatsNothing),
    "tells nobody of a fork": Parts(replica=TellsNobodyOfAFork),
    "answers before the log": Parts(replica=AnswersBeforeTheLog),
    "forgets the clients of the dead": Parts(core=ForgetsTheClientsOfTheDead),
    "leaves calls with the dead": Parts(core=LeavesCallsWithTheDead),
    "calls everywhere": Parts(core=CallsEverywhere),
    "counts what it sends": Parts(core=CountsWhatItSends),
    "writes the new format too early": Parts(next_replica=WritesTheNewFormatTooEarly),
    "behaves in the new way too early": Parts(next_core=BehavesInTheNewWayTooEarly),
    "activates for some": Parts(shared=ActivatesForSome, next_replica=IsInAHurry),
    "reads before replication": Parts(log=ReadsBeforeReplication),
}
"""Clusters by what is wrong with them."""

SHOWN_BY: Final = {
    "skips without a word": ("cluster-faulty",),
    "calls it done": ("cluster-faulty",),
    "writes the new format too early": ("cluster-rollout",),
    "behaves in the new way too early": ("cluster-rollout",),
    "activates for some": ("cluster-rollout",),
}
"""The kinds of runs that alone show a fault."""

HARMLESS: Final = {
    # Each node that reads the proposal looks at all nodes again.
    "a node that proposes what others do not have": Parts(next_replica=IsInAHurry),
    # The logic of a node keeps the largest time that it has seen.
    "an engine whose time goes back": Parts(log=GoesBackInTimeItself),
}
"""Clusters with a fault that another rule makes up for."""
