"""The calls of event handlers in a cluster: all nodes know of each, and one node makes it."""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

from limpet_core.service.cluster.commands import MAX_DATA, CallEnded
from limpet_core.service.webhooks.answers import Answer, Failure, Outcome
from limpet_core.service.webhooks.calls import HandlerCalls
from limpet_core.service.webhooks.handlers import HandlerCall


class PendingCall(msgspec.Struct, eq=False):
    """A call without an outcome, and the node that makes it. Compared by identity."""

    number: int
    call: HandlerCall
    executor: str


class LoggedCalls:
    """The calls of a cluster: the part of their state that is the same at all nodes, and the attempts of this node.

    See :class:`~limpet_core.service.webhooks.calls.Calls`. A call ends when the log says so: :meth:`end`.

    Attributes:
        executor: the node that makes the calls that are submitted now.
        pending: the calls without an outcome, by their number, which is the same at all nodes.
        next_number: that of the next call.
    """

    def __init__(self, node: str, attempts: HandlerCalls) -> None:
        self.executor: str = node
        self.pending: dict[int, PendingCall] = {}
        self.next_number: int = 1
        self._node = node
        self._attempts = attempts
        self._numbers: dict[HandlerCall, int] = {}
        self._settled: list[tuple[HandlerCall, Outcome]] = []

    @property
    def deadline(self) -> float:
        """Nothing is due by the time of the log: the attempts have a clock of their own."""
        return math.inf

    @property
    def has_settled(self) -> bool:
        return bool(self._settled)

    def submit(self, call: HandlerCall) -> None:
        number = self.next_number
        self.next_number += 1
        self._numbers[call] = number
        pending = self.pending[number] = PendingCall(number, call, self.executor)
        self._try(pending)

    def restore(self, number: int, call: HandlerCall, executor: str) -> None:
        """Put back a call of a snapshot."""
        self._numbers[call] = number
        self.pending[number] = PendingCall(number, call, executor)

    def cancel(self, call: HandlerCall) -> None:
        call.cancelled = True
        number = self._numbers.pop(call, None)
        if number is not None:
            pending = self.pending.pop(number)
            if pending.executor == self._node:
                self._attempts.cancel(call)

    def cancel_all(self) -> None:
        for pending in list(self.pending.values()):
            self.cancel(pending.call)

    def forget(self) -> None:
        """Drop all calls, as if there had never been one."""
        self.cancel_all()
        self.next_number = 1

    def forget_permissions(self) -> None:
        self._attempts.forget_permissions()

    def wake(self, now: float) -> None:
        """Do nothing: see :attr:`deadline`."""

    def settled(self) -> list[tuple[HandlerCall, Outcome]]:
        settled, self._settled = self._settled, []
        return [(call, outcome) for call, outcome in settled if not call.cancelled]

    # ---- The log

    def end(self, ended: CallEnded) -> None:
        """Take the outcome of a pending call."""
        call = self.pending.pop(ended.call).call
        del self._numbers[call]
        call.delivered, call.attempts, call.duration = ended.delivered, ended.attempts, ended.duration
        self._settled.append((call, ended.outcome))

    def reassign(self, dead: str, heir: str) -> None:
        """Have the calls of a node that is gone made by another one: handlers may get an event again (Azure docs)."""
        for pending in self.pending.values():
            if pending.executor == dead:
                pending.executor = heir
                self._try(pending)

    def outcomes(self) -> Iterable[CallEnded]:
        """Return how calls of this node have ended, to be written into the log."""
        for call, outcome in self._attempts.settled():
            number = self._numbers.get(call)
            if number is None:
                continue
            if isinstance(outcome, Answer) and _size(outcome) > MAX_DATA:
                outcome = Failure("too large", f"the answer has more than {MAX_DATA} bytes")
            yield CallEnded.of(number, call, outcome)

    def _try(self, pending: PendingCall) -> None:
        if pending.executor == self._node:
            self._attempts.submit(pending.call)


def _size(answer: Answer) -> int:
    return len(answer.body) + sum(len(name) + len(value) for name, value in answer.headers)
