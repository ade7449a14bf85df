"""Sessions and services that each break one promise about invocations or the states of groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from simulation import inspect
from simulation.oracle import OWN
from simulation.witness import Watched
from tests.helpers.faulty import Meddles
from tests.helpers.faulty_streams import Recovers, edited, fields, of_type

from limpet import Invoked, State
from limpet_core.service import HandlerCall, ServiceCore
from limpet_core.service.webhooks.answers import Headers

# ---- Invocations


class InvokesAgain(Recovers):
    """What was not answered when the transport was lost is asked again after the recovery."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.asked: dict[str, bytes] = {}
        self.again: list[bytes] = []

    def after_recovery(self) -> None:
        self.again = list(self.asked.values())

    def hands_out(self, messages: list[bytes]) -> list[bytes]:
        self.asked.update((fields(raw)["invocationId"], raw) for raw in messages if of_type(raw, "invoke"))
        again, self.again = self.again, []
        return again + messages

    def takes_in(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        for raw in messages:
            if of_type(raw, "invokeResponse"):
                self.asked.pop(fields(raw)["invocationId"], None)
        return messages


class AnswersAnother(InvokesAgain):
    """A reply goes to another invocation, if one waits."""

    def after_recovery(self) -> None: ...

    def takes_in(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        taken = []
        for raw in messages:
            if of_type(raw, "invokeResponse"):
                own = fields(raw)["invocationId"]
                other = next((each for each in self.asked if each != own), own)
                self.asked.pop(other, None)
                raw = edited(raw, invocationId=other)
            taken.append(raw)
        return taken


class SettlesTwice(Watched):
    def events(self) -> list[Any]:
        return [event for event in super().events() for _ in range(1 + isinstance(event, Invoked))]


class NeverSettles(Watched):
    """Every invocation that fails is left without an answer."""

    def events(self) -> list[Any]:
        return [event for event in super().events() if not (isinstance(event, Invoked) and event.error is not None)]


# ---- States


class OlderStatesWin(Watched):
    """Whatever arrives counts as the newest."""

    time: int = 0

    def takes_in(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        return [
            self.renewed(raw) if of_type(raw, "groupStateUpdate", "groupStateSnapshot") else raw for raw in messages
        ]

    def renewed(self, raw: bytes) -> bytes:
        self.time += 1
        return edited(raw, items=[item | {"updatedAt": self.time} for item in fields(raw)["items"]])


class RemovedStatesStay(Watched):
    def takes_in(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        return [
            edited(raw, items=[item for item in fields(raw)["items"] if "state" in item])
            if of_type(raw, "groupStateUpdate")
            else raw
            for raw in messages
        ]


class NeverRestores(Meddles):
    """The own states are not set again on a new connection."""

    def before(self) -> None:
        if self.state is State.CONNECTING:
            inspect.forget_own_states(self)


class TrustsOldStates(Recovers):
    """After a recovery no fresh snapshots are asked for."""

    trusts: bool = False

    def after_recovery(self) -> None:
        self.trusts = True

    def hands_out(self, messages: list[bytes]) -> list[bytes]:
        left, answers = [], []
        for raw in messages:
            if self.trusts and of_type(raw, "subscribeGroupState") and fields(raw)["ackId"] >= OWN:
                answers.append(b'{"type":"ack","ackId":%d,"success":true}' % fields(raw)["ackId"])
            else:
                left.append(raw)
        self.trusts = self.trusts and self.state is State.CONNECTED
        if answers:
            self.receive_messages(answers, self.oracle.clock.now)
        return left


SESSIONS: Final[dict[str, type[Watched]]] = {
    "invocations: asks again after a recovery": InvokesAgain,
    "invocations: gives a reply to another": AnswersAnother,
    "invocations: settles twice": SettlesTwice,
    "invocations: leaves failures without an answer": NeverSettles,
    "states: an older one wins": OlderStatesWin,
    "states: removed ones stay": RemovedStatesStay,
    "states: the own one is not restored": NeverRestores,
    "states: old ones are trusted after a recovery": TrustsOldStates,
}

# ---- Services


class CallsTwice(ServiceCore):
    """An invocation costs two calls of the event handler."""

    def handler_calls(self, now: float) -> list[HandlerCall]:
        return [call for call in super().handler_calls(now) for _ in range(1 + call.is_invocation)]


class AnswersAsBefore(ServiceCore):
    """An invocation gets the reply to the one before."""

    last_body: bytes = b""

    def handler_answered(self, call: HandlerCall, status: int, headers: Headers, body: bytes, now: float) -> None:
        last, self.last_body = self.last_body, body
        super().handler_answered(call, status, headers, last or body, now)


class KeepsStates(ServiceCore):
    """Nobody is told that a client has no state any more."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        inspect.wrap_state_notes(self, lambda note: lambda group, connection, item: (
            note(group, connection, item) if b'"state"' in item else None
        ))  # fmt: skip


SERVICES: Final[dict[str, type[ServiceCore]]] = {
    "service: calls the handler twice": CallsTwice,
    "service: answers with an older reply": AnswersAsBefore,
    "service: does not tell of states that are cleared": KeepsStates,
}
