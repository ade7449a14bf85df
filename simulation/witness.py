"""One session beside the service's ledger: whether it tells what the service did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from limpet import (
    Acked,
    Connected,
    ConnectError,
    Disconnected,
    GroupMessage,
    MessagesMissed,
    RejoinGroupFailed,
    ServerMessage,
    Session,
    State,
    Stopped,
)
from limpet_core.client.incoming_streams import IncomingStreams
from simulation.clock import Clock
from simulation.inspect import inspect
from simulation.oracle import Ask, SessionOracle, sent
from simulation.service import Service
from simulation.weather import Weather

REFUSALS: dict[str, tuple[str, ...]] = {
    "forbidden": ("Forbidden",),
    "event": ("NotFound",),
    "own state": ("Forbidden",),
    "side state": ("Forbidden",),
    "note": ("BadRequest", "InternalServerError", "NotFound", "Timeout"),
    "leave": ("InternalServerError", "Forbidden", "Superseded"),
}
"""By the kind of a request, the errors with which the service may refuse it."""


SERVERS_GROUPS = "server's "
"""The names of the groups that the application server alone adds clients to begin with it."""


class Watched(Session):
    """A session whose messages the oracle sees when they are handed out, to a Link or to a transport."""

    oracle: Witness
    sorter_type: ClassVar[type[IncomingStreams]] = IncomingStreams  # what its readers use

    def receive_messages(self, messages: Sequence[bytes], now: float) -> None:
        self.oracle.hears(messages)
        super().receive_messages(self.takes_in(messages), now)

    def takes_in(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        """Return what the session gets of ``messages``; a faulty session may change them."""
        return messages

    def messages_to_send(self) -> list[bytes]:
        messages = self.hands_out(super().messages_to_send())
        for message in messages:
            self.oracle.sends(message)
        return messages

    def hands_out(self, messages: list[bytes]) -> list[bytes]:
        """Return what the driver gets of ``messages``; a faulty session may change them."""
        return messages


@dataclass(eq=False)
class Asked(Ask):
    """A request.

    Attributes:
        number: unique; it travels as the data of a publication.
        at: the time of the call.
        group: the group that a request about states is for.
        state: what the own state is to be; None: there is to be none.
        timeout: of the call, in seconds; None: that of the options.
    """

    number: int = 0
    at: float = 0.0
    group: str = ""
    state: dict[str, str] | None = None
    timeout: float | None = None

    @property
    def unknown(self) -> bool:
        """Whether the application was told that the outcome is unknown."""
        return any(outcome.error is not None and outcome.error.outcome == "unknown" for outcome in self.outcomes)


class Witness(SessionOracle):
    """Watches what one session tells its application, and what it sends."""

    fixed: ClassVar[bool] = False  # whether there is one URL for all connections

    def __init__(self, clock: Clock, service: Service, weather: Weather, name: str, session: Watched) -> None:
        super().__init__(reliable=session.options.reliable, safe=weather.resend == "safe")
        session.oracle = self
        self.clock, self.service, self.ledger, self.weather = clock, service, service.ledger, weather
        self.name, self.session, self.options = name, session, session.options
        self.asked: list[Asked] = []
        self.delivered: set[Any] = set()
        self.in_order: list[Any] = []
        self.unechoed: set[int] = set()
        self.stood = False  # since the last start
        self.disconnections = 0
        self.stopping_since: float | None = None
        self.membership_unknown = False
        self.in_room = False  # as the application was told
        self.room_since: int | None = None  # how much was executed when the join was acknowledged

    def drain(self) -> None:
        """Drive the session on after a call."""
        raise NotImplementedError

    # ---- What the session is given, hands out and tells

    def hears(self, messages: Sequence[bytes]) -> None:
        """Take in what the session is given."""

    def sends(self, raw: bytes) -> None:
        super().sends(raw)
        message = sent(raw)
        if message.type == "sendToGroup" and message.data is not None:
            known = self.ledger.ack_ids.setdefault(message.data, message.ack_id)
            assert known == message.ack_id, "a repeat has the same ack id"

    def saw(self, event: Any) -> None:
        self.clock.log("%s: %s", self.name, event)
        super().saw(event)

    def connected(self, event: Connected) -> None:
        super().connected(event)
        self.membership_unknown = False
        self.stood = True

    def disconnected(self, event: Disconnected) -> None:
        super().disconnected(event)
        self.disconnections += 1

    def stopped(self, event: Stopped) -> None:
        super().stopped(event)
        self.in_room = False
        if event.error is not None and self.stood:
            assert isinstance(event.error, ConnectError)
            assert self.fixed, "with a provider it never gives up"
            assert event.error.status in (401, 403, 404), "only these are final"
        if self.stopping_since is not None:
            took = self.clock.now - self.stopping_since
            assert took <= self.options.close_timeout + 1e-6, "stop() is bounded"
            self.stopping_since = None

    def missed(self, event: MessagesMissed) -> None:
        super().missed(event)
        sent = self.ledger.sent[self.connection_id or ""]
        gap = {sent[sequence_id] for sequence_id in range(event.first, event.last + 1) if sequence_id in sent}
        # What never went out has expired before it could; anything else would have been sent after the recovery.
        assert gap <= self.ledger.expiring, "only what expires is missed"

    def not_rejoined(self, event: RejoinGroupFailed) -> None:
        super().not_rejoined(event)
        if event.error.outcome != "rejected":
            self.membership_unknown = True
        elif event.group == "room":
            self.in_room = False

    def message(self, event: GroupMessage | ServerMessage) -> None:
        number = event.data
        if isinstance(event, GroupMessage) and event.stream is not None and event.stream.end:
            number = f"the end of {event.stream.stream_id}: {event.stream.error}"
            if event.stream.sequence_id == 1 and event.stream.error is not None:
                number = f"{number}, {event.sequence_id}"  # another stream of the same id may follow, see Ledger
        if self.safe:
            assert number not in self.delivered, f"publication {number} was delivered twice"
        super().message(event)
        self.delivered.add(number)
        self.in_order.append(number)
        assert self.connection_id is not None
        if self.reliable:
            assert event.sequence_id is not None
        else:
            self.last += 1  # the place of the message on its connection
        assert self.ledger.sent[self.connection_id].get(self.last) == event.data, "what the service sent, in its order"
        if event.data in self.unechoed:
            assert (event.data, self.connection_id) not in self.ledger.executed_on, "no echo was wanted"

    def acked(self, event: Acked) -> Ask:
        asked = super().acked(event)
        assert asked is event.user_data
        assert isinstance(asked, Asked)
        timeout = self.options.request_timeout if asked.timeout is None else asked.timeout
        assert timeout is None or self.clock.now <= asked.at + timeout + 1e-6, f"{asked} is late"
        if event.error is not None and event.error.outcome == "rejected":
            assert event.error.name in REFUSALS.get(asked.kind, ()), f"{asked} was refused"
        if asked.kind == "room" and event.error is None:
            self.in_room = True
            if self.room_since is None:
                self.room_since = len(self.ledger.executed)
        if asked.kind in ("room", "join", "leave") and event.error is not None:
            self.membership_unknown |= event.error.outcome == "unknown"
        if asked.kind in ("forbidden", "event"):
            assert event.error is not None, "the service does not do that"
        return asked

    # ---- At the end

    def check(self) -> None:
        """Check what holds when the session has stopped and all is settled."""
        assert self.starts == self.stops
        assert self.session.state is State.STOPPED
        assert (self.session.deadline, self.session.dial) == (float("inf"), None), "something is left to do"
        assert self.session.messages_to_send() == []
        assert self.session.events() == []
        assert self.session.groups == frozenset()
        left = inspect(self.session).left
        assert not left, f"something is left behind: {left}"
        executed = Counter(self.ledger.executed)
        for asked in self.asked:
            self._check_outcome(asked, executed[asked.number] if asked.kind != "join" else 0)
        self._check_order()
        if self.weather.gentle:
            assert self.disconnections == 1, "only the last stop ends the connection"
            assert self.room_since is not None
            since = set(self.ledger.executed[self.room_since :])
            missing = since & self.ledger.room - self.delivered - self.unechoed
            assert not missing, f"{sorted(missing)} never arrived"

    def waits_for_events(self, asked: Asked) -> bool:
        """Return whether a request may have waited long behind the client's own events."""
        return False

    def _check_outcome(self, asked: Asked, times: int) -> None:
        """Check that what the application was told of a request is what the service did, so many times."""
        if self.safe:
            assert times <= 1, f"{asked} was executed {times} times"
        if asked.number in self.ledger.forgotten:
            return  # the loss of the connection has told so
        expected = 0 if asked.withdrawn or asked.ack_id is None else 1
        assert len(asked.outcomes) == expected, f"{asked} must be settled {expected} times"
        if asked.withdrawn:
            assert times == 0, f"{asked} was withdrawn, and executed"
        for outcome in asked.outcomes:
            if asked.kind.startswith(("publish", "forbidden")):
                known = {None: 1, "rejected": 0, "unsent": 0}
                promised = known.get(outcome.error.outcome if outcome.error else None, min(times, 1))
                assert min(times, 1) == promised, f"{asked} was executed {times} times"
            if self.weather.gentle:
                refused = {"forbidden": "Forbidden", "event": "NotFound"}.get(asked.kind)
                name = outcome.error.name if outcome.error else None
                may = asked.kind == "side state" and name == "Forbidden"  # the client may have left
                may |= asked.kind == "note"  # the event handler may do anything
                may |= name == "Timeout" and self.waits_for_events(asked)
                assert may or name == refused, f"{asked} was not acknowledged"
        if self.weather.gentle and asked.kind.startswith("publish") and not asked.withdrawn:
            assert times == 1, f"{asked} was lost"

    def _check_order(self) -> None:
        """Check that requests were executed in the order of the calls: on each connection, and in all if their outcome
        is known. The last bytes on a connection that was given up may reach the service after those of the next one.
        """
        asked = {ask.number: ask for ask in self.asked}
        order = [number for number in dict.fromkeys(self.ledger.executed) if number in asked]
        known = [number for number in order if asked[number].ack_id is not None and not asked[number].unknown]
        assert known == sorted(known), "executed in the order of the calls"
        for connection in {asked[number].sent_on for number in order}:
            same = [number for number in order if asked[number].sent_on == connection]
            assert same == sorted(same), "executed in the order of the calls"
        if self.safe:
            places = [self.ledger.order[data] for data in self.in_order if data in self.ledger.order]
            assert places == sorted(places), "delivered in the order of execution"

    def check_caught_up(self) -> None:
        """Check what holds when all is calm: the service agrees on what was delivered."""
        connection = self.service.core.connection(self.connection_id or "")
        assert connection is not None, f"{self.name} believes in a connection that is none"
        if self.reliable:
            assert self.last == connection.sequence_id, "delivered or told: everything"
            assert connection.retained == 0, "acknowledged: everything"
        if not self.membership_unknown:  # else the application was told that nobody knows
            known = {group for group in connection.groups if not group.startswith(SERVERS_GROUPS)}
            assert self.session.groups == known, "both know the same groups"
        assert not self.in_room or "room" in self.session.groups, "what was joined is joined still"
        assert not self.waiting, f"{self.waiting} are not settled"
        assert self.session.publishing, "senders that wait to publish can go on"
