"""Sessions and services that each break one promise, to show that the simulation notices."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from simulation import inspect
from simulation.witness import Watched

from limpet import Acked, Connected, GroupMessage, MessagesMissed, Recovered, ServerMessage, State, Stopped
from limpet_core.client.request import Request
from limpet_core.client.timers import Timer
from limpet_core.service import ServiceCore, Transport

SEQUENCE_ACK = b'{"type":"sequenceAck"'
SEQUENCE_ID = re.compile(rb'"sequenceId":(\d+)')

# ---- Sessions


class Meddles(Watched):
    """A session that meddles with its state around the inputs that lose, find or end a connection."""

    def before(self) -> None: ...

    def after(self) -> None: ...

    def receive_messages(self, messages: Sequence[bytes], now: float) -> None:
        self.before()
        super().receive_messages(messages, now)
        self.after()

    def disconnected(self, now: float, **close: Any) -> None:
        self.before()
        super().disconnected(now, **close)
        self.after()

    def wake(self, now: float) -> None:
        self.before()
        super().wake(now)
        self.after()


class NeverAcknowledges(Watched):
    def hands_out(self, messages: list[bytes]) -> list[bytes]:
        return [message for message in messages if not message.startswith(SEQUENCE_ACK)]


class AcknowledgesTooMuch(Watched):
    def hands_out(self, messages: list[bytes]) -> list[bytes]:
        return [
            SEQUENCE_ID.sub(lambda found: b'"sequenceId":%d' % (int(found[1]) + 5), message)
            if message.startswith(SEQUENCE_ACK)
            else message
            for message in messages
        ]


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
    """In place of every fifth message or answer a subclass tells other events."""

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


class IgnoresOrder(Watched):
    """Takes every message for the next one where :meth:`wrong` says so."""

    def wrong(self, sequence_id: int, last: int) -> bool:
        raise NotImplementedError

    def receive_messages(self, messages: Sequence[bytes], now: float) -> None:
        for message in messages:
            found = SEQUENCE_ID.search(message)
            last = inspect.inspect(self).last
            if found and self.wrong(int(found[1]), last):
                inspect.see_up_to(self, int(found[1]) - 1)
            super().receive_messages([message], now)
            inspect.see_up_to(self, max(last, inspect.inspect(self).last) if self.connection_id else 0)


class DeliversTwice(IgnoresOrder):
    """Sequence ids seen before are delivered again."""

    def wrong(self, sequence_id: int, last: int) -> bool:
        return sequence_id <= last


class HidesGaps(IgnoresOrder):
    def wrong(self, sequence_id: int, last: int) -> bool:
        return sequence_id > last


class FreshAckIds(Meddles):
    """After a lost transport, what was not answered is asked again under another ack id."""

    was: State = State.STOPPED

    def before(self) -> None:
        self.was = self.state

    def after(self) -> None:
        if self.was is State.CONNECTED and self.state is not State.CONNECTED:
            for request in inspect.pending(self):
                request.payload = request.payload.replace(b'"ackId":', b'"ackId":9')


class ForgetsWhatWaits(Meddles):
    def before(self) -> None:
        if self.state is State.RECOVERING:
            for request in inspect.pending(self):
                if request.handed:
                    inspect.forget(self, request)


class RepeatsPublishes(Meddles):
    """A publication of unknown outcome is sent again on another connection."""

    def disconnected(self, now: float, **close: Any) -> None:
        self.as_if_never_handed(lambda: super(RepeatsPublishes, self).disconnected(now, **close))

    def wake(self, now: float) -> None:
        self.as_if_never_handed(lambda: super(RepeatsPublishes, self).wake(now))

    def as_if_never_handed(self, call: Callable[[], None]) -> None:
        handed = [request for request in inspect.pending(self) if request.handed]
        connection_id = self.connection_id
        for request in handed:
            request.handed = False
        call()
        if self.connection_id == connection_id:
            for request in handed:
                request.handed = True


class RepeatsInDisorder(Meddles):
    def before(self) -> None:
        if self.state is State.RECOVERING:
            inspect.reverse_pending(self)


class SaysUnsent(Meddles):
    """A publication that was handed to a transport is called unsent."""

    tried: Sequence[Request] = ()

    def before(self) -> None:
        self.tried = [request for request in inspect.pending(self) if request.tried]
        for request in self.tried:
            request.tried = False

    def after(self) -> None:
        for request in self.tried:
            request.tried = True


class SaysDone(Watched):
    """A request counts as done as soon as it is handed out, whatever becomes of it."""

    def hands_out(self, messages: list[bytes]) -> list[bytes]:
        if self.state is State.CONNECTED:
            for request in inspect.pending(self):
                if request.in_flight and request.key > 0:
                    ack = b'{"type":"ack","ackId":%d,"success":true}' % request.key
                    self.receive_messages([ack], self.oracle.clock.now)
        return messages


class ConnectedAgain(Watched):
    """A recovery is told as a new connection."""

    def events(self) -> list[Any]:
        told: list[Any] = []
        for event in super().events():
            told += [event, Connected(event.connection_id)] if isinstance(event, Recovered) else [event]
        return told


class StopWaitsForEver(Watched):
    def stop(self, now: float) -> None:
        super().stop(now)
        inspect.set_timer(self, Timer.CLOSE, math.inf)


class NoKeepalive(Meddles):
    def after(self) -> None:
        inspect.set_timer(self, Timer.SILENCE, math.inf)


class WakesForEver(Watched):
    def wake(self, now: float) -> None:
        super().wake(now)
        inspect.set_timer(self, Timer.PING, now)


class LeavesATimer(Watched):
    def events(self) -> list[Any]:
        events = super().events()
        if any(isinstance(event, Stopped) for event in events):
            inspect.set_timer(self, Timer.PING, 1e9)
        return events


class FailsLate(Watched):
    """The time that a request may take counts from 3 s after the call."""

    known: list[Request]

    def events(self) -> list[Any]:
        pending = inspect.pending(self)
        for request in pending:
            if not any(request is other for other in self.__dict__.setdefault("known", [])):
                request.submitted += 3.0
        self.known = list(pending)
        return super().events()


class TakesARefusalForFinal(Watched):
    """A provider could give a better URL, but is not asked."""

    def url_ready(self, url: str, now: float, *, fixed: bool = False) -> None:
        super().url_ready(url, now, fixed=True)


class HopesForever(Watched):
    """The token of a fixed URL has expired, and is tried again and again."""

    def url_ready(self, url: str, now: float, *, fixed: bool = False) -> None:
        super().url_ready(url, now, fixed=False)


class LosesGroups(Meddles):
    """Groups are not joined again on a new connection."""

    def before(self) -> None:
        if self.state is State.CONNECTING:
            inspect.forget_groups(self)


class LosesGroupsToLeaves(Meddles):
    """A leave that was not executed costs the group: its rejoin is never made."""

    def after(self) -> None:
        inside = inspect.inspect(self)
        for group in inside.rejoins - inside.leaving:
            inspect.forget_rejoin(self, group)


class WithdrawsTooLate(Watched):
    def withdraw(self, ack_id: int) -> bool:
        for request in inspect.pending(self):
            if request.key == ack_id:
                request.tried = False
        return super().withdraw(ack_id)


class PacesForEver(Meddles):
    """A publish of its own that was lost with its connection never counts as answered."""

    own: Sequence[Request] = ()

    def before(self) -> None:
        self.own = [request for request in inspect.pending(self) if request.own]

    def after(self) -> None:
        left = {request.key for request in inspect.pending(self)}
        for request in self.own:
            if request.key not in left and self.state is not State.STOPPED:
                inspect.unanswer(self)

    def receive_messages(self, messages: Sequence[bytes], now: float) -> None:
        Watched.receive_messages(self, messages, now)  # these are answers


SESSIONS: Final[dict[str, type[Watched]]] = {
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
        inspect.forget_ack_ids(transport)
        super().receive(transport, data, now)


class LosesRetained(ServiceCore):
    """Replays all but the newest retained message, and keeps the sequence id that it had."""

    def recover(self, hub: str, connection_id: str, reconnection_token: str, now: float) -> Transport:
        inspect.lose_newest_retained(self, connection_id)
        return super().recover(hub, connection_id, reconnection_token, now)


class NeverExecutes(ServiceCore):
    """Acknowledges publications without executing every tenth."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        numbers = itertools.count(1)
        inspect.wrap_publish(self, lambda publish: lambda *args: (next(numbers) % 10 and publish(*args)) or None)


class SendsTwice(ServiceCore):
    """Every publication is delivered under two sequence ids."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        inspect.wrap_publish(self, lambda publish: lambda *args: publish(*args) or publish(*args))


class Echoes(ServiceCore):
    """Everybody in the group hears a publication, wanted or not."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        replace = msgspec.structs.replace
        inspect.wrap_publish(
            self, lambda publish: lambda of, message, now: publish(of, replace(message, no_echo=False), now)
        )


class KeepsWhoLeft(ServiceCore):
    """Connections that were closed for good are kept."""

    def disconnected(self, transport: Transport, code: int, now: float, reason: str = "") -> None:
        if code != 1000:
            super().disconnected(transport, code, now, reason)


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
