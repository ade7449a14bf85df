"""What is the same at all nodes: the members, and the logic of the service, both changed by the log alone."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

from limpet_core.service.cluster import commands
from limpet_core.service.cluster.members import ABANDONED, Member, Members
from limpet_core.service.cluster.replicated_core import ReplicatedCore
from limpet_core.service.connections.connection import Attachment
from limpet_core.service.connections.transport import Transport
from limpet_core.service.data_plane.parameters import OperationError
from limpet_core.text import one_line

_LOGGER: Final = logging.getLogger("limpet.service.cluster")

_FAILED: Final = "a command of the cluster failed, which is a fault of this service: %s"

_OfNode = (
    commands.Hello
    | commands.Beat
    | commands.Dead
    | commands.Leave
    | commands.Fork
    | commands.Activate
    | commands.Compare
    | commands.Digest
)
_OfClient = commands.Open | commands.Recover | commands.Received | commands.Gone | commands.Overrun


class LocalNode(Protocol):
    """What the log says about this node itself."""

    def read_back(self, counter: int) -> None:
        """Handle that an entry of this node has come back."""
        ...

    def expects(self, number: int) -> bool:
        """Return whether a client of this node waits for the attachment with this number."""
        ...

    def attached(self, number: int, attachment: Attachment | None) -> None:
        """Handle that a client of this node has its attachment; ``None``: it gets none."""
        ...

    def failed(self, number: int) -> None:
        """Handle that a client of this node gets no attachment, by a fault of ours."""
        ...

    def answered(self, number: int, error: OperationError | None) -> None:
        """Handle that an operation of this node was carried out, or refused."""
        ...

    def compare(self, number: int) -> None:
        """Handle that all nodes are to tell the digest of their state at this place."""
        ...

    def expelled(self, reason: str) -> None:
        """Handle that the cluster goes on without this node."""
        ...


class SharedState:
    """The state that the entries of the log lead to.

    A node whose settings are not those of the cluster learns of its nodes alone: it cannot tell how the others treat
    their clients. It is taken in when the others have stopped, and the cluster begins anew then.

    Attributes:
        own_settings: a digest of all that must be the same at all nodes, as this node has it.
        settings: the same of the cluster; before the first node, those of this node.
        is_foreign: whether these differ.
        core: the logic of the service.
        members: the nodes of the cluster.
        position: the id of the newest entry; empty before the first.
        compared: the number of the newest comparison of digests; 0 before the first.
        compared_at: when that was, in seconds of the log.
        digests: what the nodes have told at that place.
        failures: how often the logic has raised, at all nodes alike: faults of this release.
    """

    def __init__(self, node: str, core: ReplicatedCore, local: LocalNode, settings: bytes = b"") -> None:
        self.own_settings: bytes = settings
        self.settings: bytes = settings
        self.is_foreign: bool = False
        self.core: ReplicatedCore = core
        self.members: Members = Members()
        self.position: str = ""
        self.compared: int = 0
        self.compared_at: float = 0.0
        self.digests: dict[str, bytes] = {}
        self.failures: int = 0
        self._node = node
        self._local = local

    @property
    def behaviour(self) -> int:
        """The version of the service's behaviour that the nodes have agreed on; 0 before the first node."""
        return self.core.behaviour

    def apply(self, position: str, time: float, entry: commands.Entry) -> None:
        """Carry out an entry; one that does not count only makes time pass."""
        self.position = position
        core, node = self.core, entry.node
        core.now = max(core.now, float(time))  # an integer is encoded in another way
        own = node == self._node
        if not self._counts(entry):
            return
        if own:
            self._local.read_back(entry.counter)
        core.begin_entry(node if self.members.get(node) else self.members.first, here=own)
        self._guard(core.pass_time, "the time of an entry")
        for command in entry.commands:
            if self.is_foreign and not isinstance(command, _OfNode):
                continue
            self._try(command, node)
            if self.members.is_gone(node):
                break  # nobody would answer for the rest
        self._guard(core.send_news, "the end of an entry")
        core.finish_entry(here=own)

    def _try(self, command: commands.Command, node: str) -> None:
        """Carry out a command. If that fails by a fault of ours, the client or the server that waits is told so."""
        try:
            self._carry_out(command, node)
        except Exception:
            self.failures += 1
            what = _title(command)
            _LOGGER.exception(_FAILED, what)
            self._guard(partial(self._tell_of_failure, command, node), f"the answer to {what}")

    def _guard(self, step: Callable[[], None], what: str) -> None:
        """Take a step. One that fails by a fault of ours does so at all nodes, which go on behind it."""
        try:
            step()
        except Exception:
            self.failures += 1
            _LOGGER.exception(_FAILED, what)

    def _tell_of_failure(self, command: commands.Command, node: str) -> None:
        if isinstance(command, commands.Ask):
            if node == self._node:
                text = "The service has failed: the operation may have been carried out in part."
                self._local.answered(command.number, OperationError(500, "Error.InternalServerError", text))
        elif isinstance(command, _OfClient):
            attachment = self.core.give_up(command.connection_id)
            waits = isinstance(command, commands.Open | commands.Recover) and self._local.expects(command.number)
            if not waits or node != self._node:
                return
            if isinstance(attachment, Transport) and attachment.place == (node, command.number):
                self._local.attached(command.number, attachment)  # it has the order to close
            else:
                self._local.failed(command.number)

    def _counts(self, entry: commands.Entry) -> bool:
        """Return whether an entry is the next one of a node that is there, or that comes with it."""
        if entry.counter == 0:
            return True  # a fork, whatever became of the entries before
        member = self.members.get(entry.node)
        if member is None:
            first = entry.commands[0] if entry.commands else None
            if entry.counter != 1 or self.members.is_gone(entry.node) or not isinstance(first, commands.Hello):
                return False
            return self._welcome(entry.node, first)
        if entry.counter != member.counter + 1:
            return False
        member.counter = entry.counter
        member.seen = self.core.now
        return True

    # ---- Commands

    def _carry_out(self, command: commands.Command, node: str) -> None:
        core = self.core
        if isinstance(command, commands.Received):
            attachment = core.attachment((node, command.number), command.connection_id)
            if attachment is not None:
                core.receive(attachment, command.message, core.now)
        elif isinstance(command, commands.SequenceAcks):
            for connection_id, number, sequence_id in command.acks:
                attachment = core.attachment((node, number), connection_id)
                if attachment is not None:
                    core.acknowledge(attachment, sequence_id)
        elif isinstance(command, commands.Ask):
            self._write(command, node)
        elif isinstance(command, commands.Open | commands.Recover):
            here = node == self._node and self._local.expects(command.number)
            place = (node, command.number)
            if isinstance(command, commands.Open):
                found = core.open(command, place, here=here)
            else:
                found = core.recover_at(command, place, here=here)
            if here:
                self._local.attached(command.number, found)
        elif isinstance(command, commands.Gone | commands.Overrun):
            attachment = core.attachment((node, command.number), command.connection_id)
            if attachment is not None:
                core.end_attachment(attachment, command)
        elif isinstance(command, commands.CallEnded):
            core.end_call(command)
        else:
            self._carry_out_for_nodes(command, node)

    def _write(self, command: commands.Ask, node: str) -> None:
        error = None
        try:
            command.write.carry_out(self.core, self.core.now)
        except OperationError as refused:
            error = refused
        if node == self._node:
            self._local.answered(command.number, error)

    def _carry_out_for_nodes(self, command: commands.Command, node: str) -> None:
        if isinstance(command, commands.Dead):
            accused = self.members.get(command.node)
            # A sign of life between the look and the verdict cancels it.
            if accused is not None and accused.counter == command.counter:
                self._bury(command.node, "it was silent for too long")
        elif isinstance(command, commands.Leave):
            self._bury(node, "it has left", logging.INFO)
        elif isinstance(command, commands.Fork):
            _LOGGER.error("node %s says that the log has lost entries: all connections end", one_line(node))
            self.core.forget_everything()
            self._bury(node, "it has seen that the log has lost entries")
        elif isinstance(command, commands.Activate):
            self._activate(command.behaviour)
        elif isinstance(command, commands.Compare):
            self.compared += 1
            self.compared_at = self.core.now
            self.digests.clear()
            self._local.compare(self.compared)
        elif isinstance(command, commands.Digest) and command.number == self.compared:
            self.digests[node] = command.value
        # A beat has done its work with the time of its entry, and a Hello when the entry was looked at.

    # ---- Nodes

    def _activate(self, behaviour: int) -> None:
        # Entries that were written for a behaviour do not make sense to an older one: there is no way back.
        if behaviour > self.behaviour and all(each.oldest <= behaviour <= each.newest for each in self.members):
            self.core.registry.behaviour = behaviour
            _LOGGER.info("all nodes of the cluster behave like version %d of the service from now on", behaviour)

    def _welcome(self, node: str, hello: commands.Hello) -> bool:
        refusal = ""
        if not self.behaviour:
            self.core.registry.behaviour = hello.newest  # the log says so, and not the release that reads it
        changes = hello.settings != self.settings
        if changes and not self.members.are_stopped(self.core.now):
            refusal = (
                "its settings (limits, access keys, event handlers) are not those of the cluster. Give it those of the "
                "other nodes; or stop them all, to begin anew with these: a node that was killed counts as stopped "
                f"after {ABANDONED:.0f} s"
            )
        elif not hello.oldest <= self.behaviour <= hello.newest:
            refusal = f"its release cannot behave like version {self.behaviour} of the service, as the cluster does"
        if refusal:
            self._bury(node, refusal)
            return False
        if changes:
            self._begin_anew(hello.settings)
        self.core.reassign_calls("", node)  # those of the last node, if it left
        self.members.add(Member(node, 1, self.core.now, hello.oldest, hello.newest, hello.name))
        if changes:
            self._tell(
                logging.WARNING,
                "the cluster begins anew, since its settings (limits, access keys, event handlers) have changed while "
                "all nodes were stopped: clients and group states of before are forgotten",
            )
        self._tell(logging.INFO, "node %s is in the cluster of %d", one_line(node), len(self.members))
        return True

    def _begin_anew(self, settings: bytes) -> None:
        self.core.begin_anew()  # first: to bury a node ends its clients, of which this node would tell
        for member in list(self.members):
            self._bury(member.node, "all nodes were silent for long, and one with other settings has begun anew")
        self.settings = settings
        self.is_foreign = settings != self.own_settings
        self.failures = 0

    def _bury(self, node: str, reason: str, level: int = logging.WARNING) -> None:
        """Take a node out of the cluster: its later entries do not count."""
        self.members.remove(node)
        self._tell(level, "node %s is out of the cluster: %s", one_line(node), reason, always=node == self._node)
        self.core.abandon(node)
        self.core.reassign_calls(node, self.members.first)
        if node == self._node:
            self._local.expelled(reason)

    def _tell(self, level: int, text: str, *values: object, always: bool = False) -> None:
        # A new node reads what others were told of long ago: in its log it would look like news.
        if always or self.members.get(self._node) is not None:
            _LOGGER.log(level, text, *values)


def _title(command: commands.Command) -> str:
    # Its values are no text for a log: messages, and what handlers have said in confidence.
    name = type(command).__name__
    return f"{name} of client {one_line(command.connection_id)}" if isinstance(command, _OfClient) else name
