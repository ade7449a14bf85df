"""What a cluster ought to do: a replica that reads every entry first, beside a small model of the rules of the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from limpet_core.service import Close, Connection, Transport
from limpet_core.service.cluster import commands
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.replicated_core import ROOM_FOR_LAG, ReplicatedCore
from simulation.inspect import connect_unnoticed, listen, wrap_commands, wrap_receive
from simulation.ledger import Ledger, seen
from simulation.planted import Planted, PlantedFault
from simulation.releases import known
from simulation.sim_log import Logged

_TOO_MUCH: Final = ("The outbound message queue is full", "The reliable message buffer is full")


class Rules:
    """The rules of the log, once more: which entries count, and which attachment of a connection speaks.

    Attributes:
        counters: the newest counter of each node that is there, by name.
        gone: the nodes that are not there any more.
        attached: the node and the number of the attachment of each connection.
        behaviours: the oldest and the newest behaviour of each node that is there, by name.
        active: the behaviour of all of them.
    """

    def __init__(self) -> None:
        self.counters: dict[str, int] = {}
        self.gone: set[str] = set()
        self.attached: dict[str, tuple[str, int]] = {}
        self.behaviours: dict[str, tuple[int, int]] = {}
        self.active = 0

    def counts(self, entry: commands.Entry) -> bool:
        """Return whether an entry has an effect: the next one of a node that is there, or the first of a new one."""
        if entry.counter == 0:
            return True
        if entry.node in self.gone or entry.counter != self.counters.get(entry.node, 0) + 1:
            return False
        hello = entry.commands[0] if entry.counter == 1 else None
        if isinstance(hello, commands.Hello):
            self.active = self.active or hello.newest
            if not hello.oldest <= self.active <= hello.newest:
                self.gone.add(entry.node)
                return False
            self.behaviours[entry.node] = hello.oldest, hello.newest
        self.counters[entry.node] = entry.counter
        return True

    def carried_out(self, command: commands.Command, node: str) -> None:
        """Take in a command that has had its effect."""
        if isinstance(command, commands.Gone):
            if self.attached.get(command.connection_id) == (node, command.number):
                del self.attached[command.connection_id]
        elif isinstance(command, commands.Dead):
            if self.counters.get(command.node) == command.counter:
                self._bury(command.node)
        elif isinstance(command, commands.Leave):
            self._bury(node)
        elif isinstance(command, commands.Activate):
            if all(oldest <= command.behaviour <= newest for oldest, newest in self.behaviours.values()):
                self.active = max(self.active, command.behaviour)
        elif isinstance(command, commands.Fork):
            self.attached.clear()
            self._bury(node)

    def effective(self, entry: commands.Entry) -> int:
        """Return how many commands of an entry that counts have an effect: none behind the end of its node."""
        ends = [isinstance(command, commands.Leave | commands.Fork) for command in entry.commands]
        return ends.index(True) + 1 if True in ends else len(ends)

    def _bury(self, node: str) -> None:
        self.counters.pop(node, None)
        self.behaviours.pop(node, None)
        self.gone.add(node)
        self.attached = {each: place for each, place in self.attached.items() if place[0] != node}


class Truth:
    """Reads the log before any node does, and tells the ledger.

    Args:
        replica: a new one.
        silent: the first entries, which the ledger knows already.
        before: what was the truth so far.
        planted: the fault of the replica's logic, if it has one.

    Attributes:
        core: has the state that every node is to have at the end of the log.
        rules: the model beside it.
        marks: how much was executed before each entry.
        server_messages: how much was executed before each message of the application server, by its number.
        failures: how many commands had failed by a planted fault behind each entry.
    """

    def __init__(
        self,
        replica: Replica,
        ledger: Ledger,
        silent: Sequence[Logged] = (),
        before: Truth | None = None,
        *,
        planted: Planted | None = None,
    ) -> None:
        self.replica, self.ledger = replica, ledger
        self.core: ReplicatedCore = replica.core
        self.rules = Rules()
        self.marks: list[int] = []
        self.server_messages: dict[int, int] = {}
        self.failures: list[int] = []
        self._planted = planted
        self._failed: list[str] = []  # the connections that commands of this entry were about, and that failed
        self._silent = True
        self._broken: AssertionError | None = None  # a promise, found out where the replica catches what is raised
        self._entry: commands.Entry | None = None
        self._command: commands.Command | None = None
        self._carried_out = self._received = 0
        self._speaking = ""
        self._calls: set[tuple[str, str]] = set()
        self._next_call = 1
        listen(self.core, self)
        wrap_receive(self.core, self._wrap_receive)
        wrap_commands(replica.shared, self._wrap_commands)
        self._recorder = self._new_recorder()
        for logged in silent:
            self.reads(logged)
        if before is not None:
            self.marks = before.marks[: len(silent)]
            self.server_messages = {
                number: mark for number, mark in before.server_messages.items() if number in self.server_messages
            }
        self._silent = False

    def _new_recorder(self) -> Transport:
        return connect_unnoticed(self.core, "chat", ("room", "side"))

    # ---- Entries

    def reads(self, logged: Logged) -> None:
        """Take an entry, in the order of the log."""
        self.marks.append(len(self.ledger.executed))
        entry = self._entry = commands.decode(known(logged.data))
        before, behaviour = self.core.now, self.core.behaviour
        counts = self.rules.counts(entry)
        self._carried_out, self._speaking = 0, ""
        self._failed.clear()
        self.replica.apply(logged.position, logged.time, logged.data)
        self._record()
        if self._broken is not None:
            raise self._broken
        failures = self.replica.shared.failures
        assert failures == len(self._planted.raised if self._planted is not None else ()), "a fault that nobody planted"
        self.failures.append(failures)
        for connection_id in self._failed:
            assert self.core.connection(connection_id) is None, f"a command of {connection_id} failed: it ends"
        assert self._carried_out == (self.rules.effective(entry) if counts else 0), (
            "what counts has an effect, and nothing else"
        )
        assert self.core.now >= before, "the time of the log does not go back"
        assert {member.node for member in self.replica.members} == set(self.rules.counters), "the nodes that are there"
        assert self.core.behaviour == self.rules.active, "a behaviour is active once all nodes have it, and for good"
        if behaviour and self.core.behaviour != behaviour:
            self.ledger.log("behaviour %s is active", self.core.behaviour)
        self._watch_calls()

    def _wrap_commands(self, carry_out: Callable[..., None]) -> Callable[..., None]:
        def carries_out(command: commands.Command, node: str) -> None:
            try:
                self._carries_out(carry_out, command, node)
            except AssertionError as broken:
                self._broken = self._broken or broken
                raise

        return carries_out

    def _carries_out(self, carry_out: Callable[..., None], command: commands.Command, node: str) -> None:
        self._carried_out += 1
        self._command = command
        speaks = False
        if isinstance(command, commands.Received):
            attached = self.rules.attached.get(command.connection_id)
            speaks = attached == (node, command.number) and self.core.connection(command.connection_id) is not None
        received = self._received
        client = self._client_of(command)
        try:
            carry_out(command, node)
        except PlantedFault:
            self._failed.extend(client)
            raise
        assert (self._received > received) is speaks, "the present attachment of a connection speaks, and no other"
        attaches = isinstance(command, commands.Open | commands.Recover)
        if attaches and self.core.connection(command.connection_id) is not None:
            self.rules.attached[command.connection_id] = node, command.number
        self.rules.carried_out(command, node)
        if isinstance(command, commands.Fork):
            self.core.transports_with_output()
            self._recorder = self._new_recorder()

    def _client_of(self, command: commands.Command) -> tuple[str, ...]:
        """Return the id of the connection that a command is about, if it is about one."""
        if isinstance(command, commands.CallEnded):
            pending = self.core.logged_calls.pending.get(command.call)
            return () if pending is None else (pending.call.about[1],)
        of_client = commands.Open | commands.Recover | commands.Received | commands.Gone | commands.Overrun
        return (command.connection_id,) if isinstance(command, of_client) else ()

    def _wrap_receive(self, receive: Callable[..., None]) -> Callable[..., None]:
        def receives(attachment: Any, data: str | bytes, now: float) -> None:
            self._received += 1
            self._speaking = attachment.connection.connection_id
            try:
                receive(attachment, data, now)
            finally:
                self._record()

        return receives

    def _record(self) -> None:
        """Have the ledger take in what a member of all groups has heard."""
        for transport in self.core.transports_with_output():
            assert transport is self._recorder, "all clients are elsewhere"
            for raw in transport.messages_to_send():
                if raw.startswith(b'{"type":"message","from":"server"'):
                    number = int(seen(raw).data)
                    assert number not in self.server_messages, f"{number} of the application server is sent twice"
                    self.server_messages[number] = len(self.ledger.executed)
                elif not self._silent:
                    self.ledger.records(raw, self._speaking)

    # ---- Ends, and calls of event handlers

    def opened(self, connection: Connection) -> None:
        """Handle a new connection."""

    def closed(self, connection: Connection, close: Close, *, by_client: bool) -> None:
        """Check why a connection ends."""
        self.ledger.log("%s ends: %s", connection.connection_id, close)
        if close.reason.startswith(_TOO_MUCH):
            limits = self.core.node_limits
            own = isinstance(self._command, commands.Overrun)
            assert own or connection.retained >= ROOM_FOR_LAG * limits.retained_messages, (
                "only a client's own node says so"
            )

    def _watch_calls(self) -> None:
        """Check that the end of a connection is told once."""
        calls = self.core.logged_calls
        for number in range(self._next_call, calls.next_number):
            pending = calls.pending.get(number)
            if pending is not None and pending.call.event in ("connected", "disconnected"):
                told = pending.call.event, pending.call.about[1]
                assert told not in self._calls, f"{told} is decided twice"
                self._calls.add(told)
        self._next_call = calls.next_number
