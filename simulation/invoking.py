"""Invocations in a run: what applications ask the event handler, and what they are told of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, Final

import msgspec

from limpet import ClientStopped, Disconnected, Invoked, Recovering, Reply, State, TooManyRequests
from simulation.answering import EVENT
from simulation.inspect import pending
from simulation.oracle import SessionOracle
from simulation.witness import Witness

REPLIES: Final = ("json", "text", "nothing")
"""The ways of the event handler that are replies."""

REJECTIONS: Final = {"400": "BadRequest", "unreachable": "NotFound"}
"""By the way of the event handler, the error of an invocation that it certainly has not carried out."""

FAILURES: Final = {"500": "InternalServerError", "broken": "InternalServerError", "silent": "Timeout"}
"""By the way of the event handler, the error of an invocation that it may have carried out."""


class Call(msgspec.Struct):
    """A message about an invocation from a session, as far as the oracle looks at it."""

    type: str
    invocation_id: str = msgspec.field(name="invocationId")
    data: Any = None


call = msgspec.json.Decoder(Call).decode


@dataclass(eq=False)
class Invocation:
    """An invocation of an application.

    Attributes:
        number: unique; it travels as the data.
        at: the time of the call.
        timeout: the time that it may take, in seconds.
        invocation_id: its id.
        handed: how often it was handed to a transport.
        outcomes: how it ended: what the application was told, or what it was told when it gave up.
        cancellations: how often a message asked the service to cancel it.
    """

    number: int
    at: float
    timeout: float | None
    invocation_id: str = ""
    handed: int = 0
    outcomes: list[Invoked | str] = field(default_factory=list)
    cancellations: int = 0


class Invoking(Witness):
    """Invokes an event handler, gives some invocations up, and watches what the session tells of them."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.invocations: list[Invocation] = []
        self.by_id: dict[str, Invocation] = {}
        self.open_invocations: dict[str, Invocation] = {}

    # ---- What the application does

    def invoke_some(self, random: Random) -> None:
        """Invoke the handler a few times at once, and perhaps give one of them up soon."""
        for _ in range(random.choice([1, 1, 3])):
            timeout = random.choice([None, None, None, 6.0] if self.weather.gentle else [None, None, 1.0, 5.0, 30.0])
            invocation = self.invoke(timeout)
            if invocation is not None and random.random() < 0.2:
                self.clock.after(random.choice([0.0, 0.1, 1.0, 5.0]), self.cancel, invocation)

    def invoke(self, timeout: float | None) -> Invocation | None:
        limit = self.session.options.request_timeout if timeout is None else timeout
        invocation = Invocation(next(self.ledger.numbers), self.clock.now, limit)
        try:
            invocation_id = self.session.invoke(
                EVENT, invocation.number, self.clock.now, timeout=timeout, user_data=invocation
            )
        except TooManyRequests:
            self.clock.log("%s: too many requests", self.name)
            waiting = len(pending(self.session)) + len(self.open_invocations)
            assert waiting >= self.options.max_pending_requests
            return None
        except ClientStopped:
            assert self.session.state in (State.STOPPED, State.STOPPING)
            return None
        assert invocation_id not in self.by_id, "an id stands for one invocation"
        invocation.invocation_id = invocation_id
        self.invocations.append(invocation)
        self.by_id[invocation_id] = self.open_invocations[invocation_id] = invocation
        return invocation

    def cancel(self, invocation: Invocation) -> None:
        """The application was cancelled while it waited, or has just been told."""
        outcome = self.session.cancel_invocation(invocation.invocation_id, self.clock.now)
        self.clock.log("%s: invocation %s cancelled: %s", self.name, invocation.invocation_id, outcome)
        assert (outcome is None) is bool(invocation.outcomes), f"{invocation} cannot be cancelled twice"
        if outcome is not None:
            self._ends(invocation, outcome)
            self._check_handed(invocation, outcome)
        self.drain()

    # ---- What the session is given, hands out and tells

    def hears(self, messages: Sequence[bytes]) -> None:
        super().hears(messages)
        for raw in messages:
            if raw.startswith(b'{"type":"invokeResponse"') and call(raw).invocation_id not in self.open_invocations:
                self.clock.log("%s: a late reply to invocation %s", self.name, call(raw).invocation_id)

    def sends(self, raw: bytes) -> None:
        super().sends(raw)
        if raw.startswith(b'{"type":"invoke"'):
            message = call(raw)
            invocation = self.open_invocations.get(message.invocation_id)
            assert invocation is not None, "only what waits for a reply is sent"
            assert message.data == invocation.number, "each under its own id"
            assert not invocation.handed, f"{invocation} is sent again"
            assert self.connection_id is not None
            invocation.handed += 1
        elif raw.startswith(b'{"type":"cancelInvocation"'):
            invocation = self.by_id[call(raw).invocation_id]
            assert invocation.handed, "what was never sent is not cancelled at the service"
            assert invocation.outcomes, "what still waits is not cancelled"
            assert not invocation.cancellations, "cancelled once"
            invocation.cancellations += 1

    def saw_all(self, events: Iterable[Any]) -> None:
        events = list(events)
        super().saw_all(events)
        for event in events:
            if isinstance(event, Invoked) and event.error is not None and event.error.name == "ConnectionLost":
                lost = any(isinstance(other, Recovering | Disconnected) for other in events)
                assert lost, f"{event} tells of a loss that is none"

    def invoked(self, event: Invoked) -> None:
        invocation = self.open_invocations.get(event.invocation_id)
        assert invocation is not None, f"{event} settles what does not wait: settled twice, or given up"
        assert invocation is event.user_data
        self._ends(invocation, event)
        timeout = invocation.timeout
        assert timeout is None or self.clock.now <= invocation.at + timeout + 1e-6, f"{invocation} is late"
        times, way = self.ledger.called[invocation.number], self.ledger.answers.get(invocation.number, "")
        error = event.error
        if error is None:
            assert times == 1, f"{invocation} succeeds, and the handler was called {times} times"
            assert way in REPLIES, f"{invocation} succeeds, and the handler's answer was {way!r}"
            assert event.reply == self._reply(invocation.number, way), "the reply is the handler's own"
            return
        assert event.reply is None
        self._check_handed(invocation, error.outcome)
        if error.outcome == "rejected":
            assert error.name == REJECTIONS.get(way), f"{invocation} is rejected, and the answer was {way!r}"
        elif error.name == "Stopped":
            assert self.session.state in (State.STOPPED, State.STOPPING)
        elif error.name != "ConnectionLost":
            late = error.name == "Timeout" and timeout is not None and self.clock.now >= invocation.at + timeout - 1e-6
            assert late or error.name == FAILURES.get(way), f"{invocation} fails, and the answer was {way!r}"

    def _ends(self, invocation: Invocation, outcome: Invoked | str) -> None:
        del self.open_invocations[invocation.invocation_id]
        invocation.outcomes.append(outcome)

    def _check_handed(self, invocation: Invocation, outcome: str) -> None:
        assert bool(invocation.handed) is (outcome != "unsent"), f"{invocation} is called {outcome}"

    def _reply(self, number: int, way: str) -> Reply:
        return {"json": Reply(number, "json"), "text": Reply(str(number), "text")}.get(way, Reply())

    def stopped(self, event: Any) -> None:
        super().stopped(event)
        assert not self.open_invocations, "Invoked comes before Stopped"

    # ---- At the end

    def check_caught_up(self) -> None:
        super().check_caught_up()
        assert not self.open_invocations, f"{self.open_invocations} are not settled"

    def check(self) -> None:
        super().check()
        for invocation in self.invocations:
            times = self.ledger.called[invocation.number]
            assert len(invocation.outcomes) == 1, f"{invocation} must be settled once"
            assert times <= 1, f"the handler was called {times} times for {invocation}"
            assert times <= invocation.handed, f"the handler was called for {invocation}"

    _HANDLERS: ClassVar[dict[type, str]] = SessionOracle._HANDLERS | {Invoked: "invoked"}
