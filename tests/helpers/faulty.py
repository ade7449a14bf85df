"""Sessions and services that each break one promise, to show that the simulation notices."""

from __future__ import annotations

import itertools
from typing import Any, Final

import msgspec
from simulation.client import Watched

from limpet import Acked, GroupMessage, MessagesMissed, Recovered, ServerMessage
from limpet_core.client.request import Request, Settled
from limpet_core.client.timers import Timer
from limpet_core.service import ServiceCore, Transport

# ---- Sessions


class NeverAcknowledges(Watched):
    def _schedule_sequence_ack(self, now: float) -> None:
        pass


class AcknowledgesTooMuch(Watched):
    def messages_to_send(self) -> list[bytes]:
        if self._sequence.messages:
            self._control.append(b'{"type":"sequenceAck","sequenceId":%d}' % (self._sequence.last + 5))
        return super().messages_to_send()


class LosesAReplay(Watched):
    """The first message after a recovery is dropped, and counted as seen."""

    def events(self) -> list[Any]:
        kept, drop = [], False
        for event in super().events():
            if drop and isinstance(event, GroupMessage):
                drop = False
                continue
            drop = drop or isinstance(event, Recovered)
            kept.append(event)
        return kept


class TellsOthers(Watched):
    """What it tells of every fifth message or answer is up to a subclass."""

    _counted = 0

    def tells(self, event: Any) -> list[Any]:
        raise NotImplementedError

    def events(self) -> list[Any]:
        told: list[Any] = []
        for event in super().events():
            self._counted += isinstance(event, GroupMessage | ServerMessage | Acked)
            told += self.tells(event) if self._counted % 5 == 0 else [event]
        return told


class LosesMessages(TellsOthers):
    def tells(self, event: Any) -> list[Any]:
        return [] if isinstance(event, GroupMessage | ServerMessage) else [event]


class RepeatsMessages(TellsOthers):
    def tells(self, event: Any) -> list[Any]:
        return [event, event] if isinstance(event, GroupMessage | ServerMessage) else [event]


class MakesUpGaps(TellsOthers):
    """Messages that came are told as missed."""

    def tells(self, event: Any) -> list[Any]:
        if isinstance(event, GroupMessage) and (number := event.sequence_id) is not None:
            return [MessagesMissed(number, number)]
        return [event]


class NeverAnswers(TellsOthers):
    def tells(self, event: Any) -> list[Any]:
        return [] if isinstance(event, Acked) else [event]


class AnswersTwice(TellsOthers):
    def tells(self, event: Any) -> list[Any]:
        return [event, event] if isinstance(event, Acked) else [event]


class DeliversTwice(Watched):
    """Sequence ids seen before are delivered again."""

    def _skip_to(self, sequence_id: int, now: float) -> bool:
        return sequence_id <= self._sequence.last or super()._skip_to(sequence_id, now)


class HidesGaps(Watched):
    def _skip_to(self, sequence_id: int, now: float) -> bool:
        return sequence_id > self._sequence.last


class FreshAckIds(Watched):
    """After a lost transport, what was not answered is asked again under another ack id."""

    def _dropped(self, code: int, reason: str, now: float) -> None:
        super()._dropped(code, reason, now)
        for request in self._requests.pending.values():
            request.payload = request.payload.replace(b'"ackId":', b'"ackId":9')


class ForgetsWhatWaits(Watched):
    def _recovered(self, now: float) -> None:
        for request in list(self._requests.pending.values()):
            if request.handed:
                self._requests._forget(request)
        super()._recovered(now)


class RepeatsPublishes(Watched):
    """A publication of unknown outcome is sent again on another connection."""

    def _end_connection(self, code: int, reason: str) -> None:
        for request in self._requests.pending.values():
            request.handed = False
        super()._end_connection(code, reason)


class RepeatsInDisorder(Watched):
    def _recovered(self, now: float) -> None:
        requests = self._requests
        requests.pending = dict(reversed(requests.pending.items()))
        super()._recovered(now)


class SaysUnsent(Watched):
    """A publication that was handed to a transport is called unsent."""

    def _end_connection(self, code: int, reason: str) -> None:
        for request in self._requests.pending.values():
            request.tried = False
        super()._end_connection(code, reason)


class SaysDone(Watched):
    """A request counts as done as soon as it is handed out, whatever becomes of it."""

    def messages_to_send(self) -> list[bytes]:
        messages = super().messages_to_send()
        for request in list(self._requests.pending.values()):
            if request.in_flight and request.key > 0:
                self._settled(self._requests._settle(request))
        return messages


class ConnectedAgain(Watched):
    """A recovery is told as a new connection."""

    def _recovered(self, now: float) -> None:
        super()._recovered(now)
        from limpet import Connected

        assert self._connection_id is not None
        self._events.append(Connected(self._connection_id))


class StopWaitsForEver(Watched):
    def stop(self, now: float) -> None:
        super().stop(now)
        self._timers.stop(Timer.CLOSE)


class NoKeepalive(Watched):
    def _flow(self, now: float) -> None:
        super()._flow(now)
        self._timers.stop(Timer.SILENCE)


class WakesForEver(Watched):
    def wake(self, now: float) -> None:
        super().wake(now)
        self._timers.set(Timer.PING, now)


class LeavesATimer(Watched):
    def _finish(self, error: Any) -> None:
        super()._finish(error)
        self._timers.set(Timer.PING, 1e9)


class FailsLate(Watched):
    """The time that a request may take counts from when it is sent."""

    def _submit(self, request: Request, now: float) -> int:
        request.submitted += 3.0
        return super()._submit(request, now)


class TakesARefusalForFinal(Watched):
    """A provider could give a better URL, but is not asked."""

    def dial_failed(self, error: BaseException, now: float, *, status: int | None = None) -> None:
        self._fixed_url = True
        super().dial_failed(error, now, status=status)


class HopesForever(Watched):
    """The token of a fixed URL has expired, and is tried again and again."""

    def dial_failed(self, error: BaseException, now: float, *, status: int | None = None) -> None:
        self._fixed_url = False
        super().dial_failed(error, now, status=status)


class LosesGroups(Watched):
    """Groups are not joined again on a new connection."""

    def _stands(self, message: Any, now: float) -> None:
        self._groups.clear()
        super()._stands(message, now)


class LosesGroupsToLeaves(Watched):
    """A leave that was not executed costs the group: its rejoin is never made."""

    def _unpark(self, group: str) -> None:
        self._parked.pop(group, None)


class WithdrawsTooLate(Watched):
    def withdraw(self, ack_id: int) -> bool:
        request: Request | None = self._requests.pending.get(ack_id)
        if request is not None:
            request.tried = False
        return super().withdraw(ack_id)


class PacesForEver(Watched):
    """A publish of its own that was lost with its connection never counts as answered."""

    def _settled(self, settled: Settled) -> None:
        if not (settled.request.own and settled.error is not None):
            super()._settled(settled)


SESSIONS: Final[dict[str, type[Watched]]] = {
    "holds publishes back for ever": PacesForEver,
    "never acknowledges": NeverAcknowledges,
    "acknowledges what it has not seen": AcknowledgesTooMuch,
    "loses the first replayed message": LosesAReplay,
    "loses messages": LosesMessages,
    "delivers messages twice": RepeatsMessages,
    "tells of gaps that are none": MakesUpGaps,
    "leaves requests without an answer": NeverAnswers,
    "answers twice": AnswersTwice,
    "delivers what was seen": DeliversTwice,
    "hides gaps": HidesGaps,
    "repeats with a fresh ack id": FreshAckIds,
    "forgets what waits when a transport drops": ForgetsWhatWaits,
    "repeats publishes on another connection": RepeatsPublishes,
    "repeats in disorder": RepeatsInDisorder,
    "calls unsent what was sent": SaysUnsent,
    "calls done what was only sent": SaysDone,
    "connected after a recovery": ConnectedAgain,
    "stop waits for ever": StopWaitsForEver,
    "takes silence for life": NoKeepalive,
    "wakes for ever": WakesForEver,
    "leaves a timer": LeavesATimer,
    "fails requests too late": FailsLate,
    "gives up where a provider is": TakesARefusalForFinal,
    "never gives up a fixed URL": HopesForever,
    "forgets groups": LosesGroups,
    "withdraws what was sent": WithdrawsTooLate,
}

# ---- Services


class ForgetsAckIds(ServiceCore):
    """Executes a repeated request again."""

    def receive(self, transport: Transport, data: str | bytes, now: float) -> None:
        if transport.connection is not None:
            transport.connection._succeeded.clear()
        super().receive(transport, data, now)


class LosesRetained(ServiceCore):
    """Replays all but the newest retained message, and keeps the sequence id that it had."""

    def recover(self, hub: str, connection_id: str, reconnection_token: str, now: float) -> Transport:
        connection = self.connection(connection_id)
        if connection is not None and connection._retained:
            connection._retained.pop()
        return super().recover(hub, connection_id, reconnection_token, now)


class NeverExecutes(ServiceCore):
    """Acknowledges publications without executing every tenth."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        publish, numbers = self._requests._publish, itertools.count(1)
        self._requests._publish = lambda *args: None if next(numbers) % 10 == 0 else publish(*args)  # type: ignore


class SendsTwice(ServiceCore):
    """Every publication is delivered under two sequence ids."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        publish = self._requests._publish
        self._requests._publish = lambda *args: publish(*args) or publish(*args)  # type: ignore


class Echoes(ServiceCore):
    """Everybody in the group hears a publication, wanted or not."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        publish, replace = self._requests._publish, msgspec.structs.replace
        self._requests._publish = lambda of, message, now: publish(of, replace(message, no_echo=False), now)  # type: ignore


class KeepsWhoLeft(ServiceCore):
    """Connections that were closed for good are kept."""

    def disconnected(self, transport: Transport, code: int, now: float) -> None:
        if code != 1000:
            super().disconnected(transport, code, now)


class NeverExpires(ServiceCore):
    """Connections that do not come back are kept."""

    def wake(self, now: float) -> None:
        pass


SERVICES: Final[dict[str, type[ServiceCore]]] = {
    "service: executes again": ForgetsAckIds,
    "service: loses what it retained": LosesRetained,
    "service: acknowledges what it did not do": NeverExecutes,
    "service: delivers twice": SendsTwice,
    "service: echoes what should not be": Echoes,
    "service: keeps those who left": KeepsWhoLeft,
    "service: keeps those who do not come back": NeverExpires,
}
