"""A node of a cluster in a run: drives its replica between clients, the log and the event handlers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from random import Random
from typing import Any, Protocol

from limpet_core.service import HandlerCall, Transport
from limpet_core.service.cluster.replica import Replica
from limpet_core.service.cluster.waiting import Asked, Opening
from limpet_core.service.data_plane.parameters import OperationError
from limpet_core.service.data_plane.writes import Write
from simulation.answering import Answering
from simulation.clock import Clock
from simulation.sim_log import Link, Logged, SimLog


class Carrier(Protocol):
    """Carries what the service sends to one client."""

    def entered(self, opening: Opening) -> None: ...

    def serve(self, transport: Transport) -> None: ...

    def breaks(self, how: str) -> None: ...


class Handlers(Answering):
    """The application server, as one node calls it."""

    node: Node

    may_be_asked_again = True

    def takes(self, core: Any, call: HandlerCall) -> None:
        if not call.cancelled and call.event != "validate":
            self.node.surroundings.calls(self.node, call)
        if call.event in ("connected", "disconnected"):
            if not call.cancelled:
                self.clock.after(0.05, self._answer, core, call, 204, (), b"")
            return
        super().takes(core, call)

    def _answer(self, core: Any, call: HandlerCall, *answer: Any) -> None:
        self.node.do(super()._answer, core, call, *answer)

    def _fail(self, core: Any, call: HandlerCall, *failure: Any) -> None:
        self.node.do(super()._fail, core, call, *failure)


class Surroundings(Protocol):
    """What a node is part of."""

    @property
    def clock(self) -> Clock: ...

    @property
    def log(self) -> SimLog: ...

    def applied(self, node: Node) -> None: ...

    def calls(self, node: Node, call: HandlerCall) -> None: ...

    def ended(self, node: Node, reason: str) -> None: ...


class Node:
    """One run of one node.

    Attributes:
        read_count: how many entries of the log it has applied.
        up: whether it runs.
        still: whether it stands still: all that happens to it waits.
        disturbed: whether it has had a reason to end: it was taken for dead, told to leave, or its release is too old.
    """

    def __init__(
        self, surroundings: Surroundings, name: str, replica: Replica, random: Random, link_type: type[Link] = Link
    ) -> None:
        self.surroundings, self.name, self.replica = surroundings, name, replica
        self.clock, self.log = surroundings.clock, surroundings.log
        self.link = link_type(self.clock, self.log, self, random)
        self.read_count = 0
        self.up, self.still = True, False
        self.disturbed = False
        self.carriers: dict[Transport, Carrier] = {}
        self.waiting: dict[Opening, Carrier] = {}
        self.handlers: Handlers | None = None
        self._last: Logged | None = None
        self._backlog: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self._asked: dict[Asked, Callable[[OperationError | None], None]] = {}
        self._barriers: list[tuple[int, Callable[[], None]]] = []
        self._wakes_at = math.inf
        self._numbers = itertools.count(1)

    # ---- Its driver

    def do(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function when the node is at work, and carry out what comes of it."""
        if self.still:
            self._backlog.append((function, arguments))
        elif self.up:
            function(*arguments)
            self.carry_out()

    def carry_out(self) -> None:
        replica, now = self.replica, self.clock.now
        if not self.up:
            return
        for opening in replica.openings():
            carrier = self.waiting.pop(opening)
            if opening.transport is not None:
                self.carriers[opening.transport] = carrier
            carrier.entered(opening)
        for transport in replica.transports_with_output():
            self.carriers[transport].serve(transport)
        for asked in replica.answers():
            self._asked.pop(asked)(asked.error)
        for call in replica.handler_calls(now):
            assert self.handlers is not None
            self.handlers.takes(replica, call)
        self.link.append(replica.entries_to_append(now))
        if replica.fenced:
            self.ends(replica.fenced)
        elif replica.deadline < self._wakes_at:
            self._wakes_at = replica.deadline
            self.clock.at(max(now, self._wakes_at), self._wake, self._wakes_at)

    def _wake(self, when: float) -> None:
        if when == self._wakes_at:
            self._wakes_at = math.inf
            self.do(self._wakes)

    def _wakes(self) -> None:
        self.replica.wake(self.clock.now)

    def ends(self, reason: str) -> None:
        """Be no more, with all transports."""
        self.up = self.still = False
        self._backlog.clear()
        for carrier in [*self.carriers.values(), *self.waiting.values()]:
            carrier.breaks("cut")
        self.surroundings.ended(self, reason)

    def stand_still(self) -> None:
        self.still = True

    def go_on(self, random: Random) -> None:
        """Go on with all that has come meanwhile: the sockets of clients and of the engine are ready in any order."""
        if self.up and self.still:
            self.still = False
            backlog, self._backlog = self._backlog, []
            if random.random() < 0.5:
                backlog.sort(key=lambda each: each[0] == self._read)  # the log comes last
            for function, arguments in backlog:
                self.do(function, *arguments)

    # ---- The log

    def restore(self, count: int, data: bytes) -> None:
        """Begin with the state behind ``count`` entries."""
        self.replica.restore(data)
        self.read_count = count
        self._last = self.log.entries[count - 1] if count else None
        assert self._last is None or self._last.position == self.replica.position, "a snapshot knows its place"

    def read(self) -> None:
        self.do(self._read)

    def _read(self) -> None:
        log = self.log
        while self.link.connected and self.read_count < log.readable and self.up:
            self._last = entry = log.entries[self.read_count]
            self.read_count += 1
            self.replica.apply(entry.position, entry.time, entry.data)
            self.link.has_read(entry.data)
            self.surroundings.applied(self)
            if self.replica.fenced:
                break
        reached = [barrier for barrier in self._barriers if barrier[0] <= self.read_count]
        self._barriers = [barrier for barrier in self._barriers if barrier[0] > self.read_count]
        for _, function in reached:
            function()

    def reconnected(self) -> None:
        self.do(self._reconnected)

    def _reconnected(self) -> None:
        if self.link.connected:
            return
        if self.log.holds(self.read_count, self._last):
            self.link.stands()
        else:
            fork = self.replica.forked()
            if fork:
                self.link.append_in_any_case(fork)

    # ---- The data plane

    def ask(self, write: Write, answered: Callable[[OperationError | None], None]) -> None:
        self._asked[self.replica.ask(write)] = answered

    @property
    def waits(self) -> bool:
        """Whether somebody waits for the log: to connect, or for an operation."""
        return bool(self._asked or self.waiting)

    def when_caught_up(self, function: Callable[[], None]) -> None:
        """Call a function when all has been read that was readable at the time of the call: the barrier of a read."""
        if self.read_count >= self.log.readable:
            function()
        else:
            self._barriers.append((self.log.readable, function))
