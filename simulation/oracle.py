"""What the application sees and what the service did, and whether that is what was promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from limpet import (
    Acked,
    Connected,
    ConnectError,
    Disconnected,
    GroupMessage,
    MessagesMissed,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    ServerMessage,
    Session,
    State,
    Stopped,
)
from limpet_core.service import Transport
from simulation.inspect import inspect

if TYPE_CHECKING:
    from simulation.world import World


class Seen(msgspec.Struct):
    """A message from the service, as far as the oracles look at it."""

    type: str
    origin: str = msgspec.field(name="from", default="")
    group: str = ""
    user: str | None = msgspec.field(name="fromUserId", default=None)
    data: int = 0
    sequence_id: int = msgspec.field(name="sequenceId", default=0)


class Sent(msgspec.Struct):
    """A message from a session."""

    type: str
    data: int = 0
    ack_id: int | None = msgspec.field(name="ackId", default=None)
    sequence_id: int = msgspec.field(name="sequenceId", default=0)


REFUSALS_OF_LEAVES = ("InternalServerError", "Forbidden", "Superseded")

seen = msgspec.json.Decoder(Seen).decode
sent = msgspec.json.Decoder(Sent).decode


@dataclass(eq=False)
class Asked:
    """A request of the application: ``number`` is unique and travels as the data of a publication."""

    kind: str
    number: int
    ack_id: int | None
    at: float = 0.0
    outcomes: list[Acked] = field(default_factory=list)
    withdrawn: bool = False


class Ledger:
    """The truth about the service: what it executed, and what it sent to whom."""

    def __init__(self, log: Callable[..., None]) -> None:
        self.log = log
        self.executed: list[int] = []
        self.executed_on: set[tuple[int, str]] = set()  # what, and the connection that asked for it
        self.expiring: set[int] = set()  # publications that may be missed
        self.sent: dict[str, dict[int, Any]] = {}  # connection id -> sequence id, or place -> data
        self.ack_ids: dict[int, int | None] = {}  # of each publication seen on the wire

    def executes(self, number: int, connection_id: str) -> None:
        """Note what the service does."""
        assert (number, connection_id) not in self.executed_on, f"{number} was executed twice for {connection_id}"
        self.executed_on.add((number, connection_id))
        self.executed.append(number)

    def sends(self, transport: Transport, raw: bytes) -> None:
        """Note what the service sends."""
        if b'"from"' not in raw or transport.connection is None:
            return
        message = seen(raw)
        known = self.sent.setdefault(transport.connection.connection_id, {})
        place = message.sequence_id or len(known) + 1
        if place in known:
            self.log("sent again: %s to %s", message, transport.connection.connection_id)
        assert known.setdefault(place, message.data) == message.data, "a sequence id stands for one"


class Oracle:
    """Watches what one session tells its application, and what it sends."""

    fixed: bool  # whether there is one URL for all connections
    paused: bool

    def __init__(self, world: World, name: str, session: Session) -> None:
        self.world, self.name, self.session = world, name, session
        self.options = session.options
        self.asked: list[Asked] = []
        self.delivered: set[Any] = set()
        self.in_order: list[Any] = []
        self.connection_ids: set[str] = set()
        self.connection_id: str | None = None
        self.recovering = False
        self.last = 0  # the sequence id, or the place, up to which everything was delivered or told as missed
        self.unechoed: set[int] = set()
        self.stood = False  # since the last start
        self.disconnections = 0
        self.starts = self.stops = 0
        self.stopping_since: float | None = None
        self.membership_unknown = False
        self.in_room = False  # as the application was told
        self.room_since: int | None = None  # how much was executed when the join was acknowledged

    def sends(self, raw: bytes) -> None:
        """A message that the session hands to a transport."""
        if raw.startswith(b'{"type":"ping"'):
            return
        message = sent(raw)
        if message.type == "sequenceAck":
            assert message.sequence_id <= self.last, "it acknowledges what it has not delivered"
        elif message.type == "sendToGroup":
            known = self.world.ledger.ack_ids.setdefault(message.data, message.ack_id)
            assert known == message.ack_id, "a repeat has the same ack id"

    def saw(self, event: Any) -> None:
        """What the application is told."""
        self.world.log("%s: %s", self.name, event)
        self._SAW[type(event)](self, event)

    def connected(self, event: Connected) -> None:
        self.membership_unknown = False
        self.stood = True
        assert event.connection_id not in self.connection_ids, "Connected once per connection id"
        assert self.connection_id is None, "Disconnected comes before the next Connected"
        self.connection_ids.add(event.connection_id)
        self.connection_id, self.last = event.connection_id, 0

    def disconnected(self, event: Disconnected) -> None:
        assert event.connection_id == self.connection_id
        self.connection_id = None
        self.recovering = False
        self.disconnections += 1

    def recovers(self, event: Recovering) -> None:
        assert event.connection_id == self.connection_id
        assert not self.recovering, "Recovering is told once for each loss"
        self.recovering = True

    def recovered(self, event: Recovered) -> None:
        assert event.connection_id == self.connection_id
        assert self.recovering, "Recovered follows Recovering"
        self.recovering = False

    def has_stopped(self, event: Stopped) -> None:
        self.stops += 1
        self.in_room = False
        if event.error is not None and self.stood:
            assert isinstance(event.error, ConnectError)
            assert self.fixed, "with a provider it never gives up"
            assert event.error.status in (401, 403, 404), "only these are final"
        if self.stopping_since is not None:
            took = self.world.now - self.stopping_since
            assert took <= self.options.close_timeout + 1e-6, "stop() is bounded"
            self.stopping_since = None
        assert self.stops == self.starts, "Stopped exactly once per start"
        assert self.connection_id is None
        self.stopped()

    def missed(self, event: MessagesMissed) -> None:
        assert self.last < event.first <= event.last, "a gap is told once"
        assert event.first == self.last + 1, "a gap is told whole"
        ledger = self.world.ledger
        sent = ledger.sent[self.connection_id or ""]
        gap = {sent[sequence_id] for sequence_id in range(event.first, event.last + 1) if sequence_id in sent}
        # What never went out has expired before it could; anything else would have been sent after the recovery.
        assert gap <= ledger.expiring, "only what expires is missed"
        self.last = event.last

    def not_rejoined(self, event: RejoinGroupFailed) -> None:
        if event.error.outcome != "rejected":
            self.membership_unknown = True
        elif event.group == "room":
            self.in_room = False

    def message(self, event: GroupMessage | ServerMessage) -> None:
        assert self.connection_id is not None, "messages come between Connected and Disconnected"
        if self.options.resend == "safe":
            assert event.data not in self.delivered, f"publication {event.data} was delivered twice"
        self.delivered.add(event.data)
        self.in_order.append(event.data)
        ledger, place = self.world.ledger, self.last + 1
        if self.options.reliable:
            assert event.sequence_id == place, f"after {self.last} came {event.sequence_id} without a word"
        assert ledger.sent[self.connection_id].get(place) == event.data, "what the service sent, in its order"
        self.last = place
        if event.data in self.unechoed:
            assert (event.data, self.connection_id) not in ledger.executed_on, "no echo was wanted"

    def acked(self, event: Acked) -> None:
        asked = event.user_data
        assert isinstance(asked, Asked)
        assert asked.ack_id == event.ack_id or asked.ack_id is None  # None: settled before the call returned
        assert not asked.withdrawn
        asked.outcomes.append(event)
        timeout = self.options.request_timeout
        assert timeout is None or self.world.now <= asked.at + timeout + 1e-6, f"{asked} is late"
        if event.error is not None and event.error.outcome == "rejected":
            refusals = {"forbidden": ("Forbidden",), "event": ("NotFound",), "leave": REFUSALS_OF_LEAVES}
            assert event.error.name in refusals.get(asked.kind, ()), f"{asked} was refused"
        if asked.kind == "room" and event.error is None:
            self.in_room = True
            if self.room_since is None:
                self.room_since = len(self.world.ledger.executed)
        if asked.kind in ("room", "join", "leave") and event.error is not None:
            self.membership_unknown |= event.error.outcome == "unknown"
        if asked.kind in ("forbidden", "event"):
            assert event.error is not None, "the service does not do that"

    _SAW: ClassVar[dict[type, Callable[[Any, Any], None]]] = {
        Connected: connected,
        Disconnected: disconnected,
        Recovering: recovers,
        Recovered: recovered,
        Stopped: has_stopped,
        MessagesMissed: missed,
        GroupMessage: message,
        ServerMessage: message,
        RejoinGroupFailed: not_rejoined,
        Acked: acked,
    }

    def stopped(self) -> None:
        """What the application does when it has stopped."""

    def check(self) -> None:
        """At the end, when all is settled."""
        executed = self.world.ledger.executed
        weather = self.world.weather
        assert self.starts == self.stops
        assert self.session.state is State.STOPPED
        assert (self.session.deadline, self.session.dial) == (float("inf"), None)
        assert self.session.messages_to_send() == []
        assert self.session.events() == []
        self.check_nothing_left()
        counts = Counter(executed)
        for asked in self.asked:
            times = counts[asked.number] if asked.kind != "join" else 0
            if weather.resend == "safe":
                assert times <= 1, f"{asked} was executed {times} times"
            expected = 0 if asked.withdrawn or asked.kind == "untracked" else 1
            assert len(asked.outcomes) == expected, f"{asked} must be settled {expected} times"
            if asked.withdrawn:
                assert times == 0, f"{asked} was withdrawn, and executed"
            for outcome in asked.outcomes:
                if asked.kind.startswith(("publish", "forbidden")):
                    known = {None: 1, "rejected": 0, "unsent": 0}
                    promised = known.get(outcome.error.outcome if outcome.error else None, min(times, 1))
                    assert min(times, 1) == promised, f"{asked} was executed {times} times"
                if weather.gentle:
                    refused = {"forbidden": "Forbidden", "event": "NotFound"}.get(asked.kind)
                    name = outcome.error.name if outcome.error else None
                    assert name == refused, f"{asked} was not acknowledged"
            if weather.gentle and asked.kind.startswith("publish") and not asked.withdrawn:
                assert times == 1, f"{asked} was lost"
        firsts = list(dict.fromkeys(executed))
        mine = {asked.number for asked in self.asked}
        order = [number for number in firsts if number in mine]
        assert order == sorted(order), "executed in the order of the calls"
        if weather.resend == "safe":
            places = [self.world.order[data] for data in self.in_order if data in self.world.order]
            assert places == sorted(places), "delivered in the order of execution"
        if weather.gentle:
            assert self.disconnections == 1, "only the last stop ends the connection"
            assert self.room_since is not None
            missing = set(executed[self.room_since :]) & self.world.room - self.delivered - self.unechoed
            assert not missing, f"{sorted(missing)} never arrived"

    def check_nothing_left(self) -> None:
        """Stopped: no buffer of the session holds anything."""
        session = self.session
        left = inspect(session).left
        assert not left, f"something is left behind: {left}"
        assert session.groups == frozenset()

    def check_caught_up(self) -> None:
        """All is calm: the service agrees on what was delivered."""
        connection = self.world.core.connection(self.connection_id or "")
        assert connection is not None, f"{self.name} believes in a connection that is none"
        if self.options.reliable:
            assert self.last == connection.sequence_id, "delivered or told: everything"
            assert connection.retained == 0, "acknowledged: everything"
        if not self.membership_unknown:  # else the application was told that nobody knows
            assert self.session.groups == frozenset(connection.groups), "both know the same groups"
        assert not self.in_room or "room" in self.session.groups, "what was joined is joined still"
        unsettled = [asked for asked in self.asked if asked.ack_id and not asked.outcomes and not asked.withdrawn]
        assert not unsettled, f"{unsettled} are not settled"
        assert self.session.publishing, "whoever waits to publish can go on"
