"""The promises of a session as code: :class:`SessionOracle` sees its events, requests and messages, and judges.

The simulation, the model test (``tests/core/client/test_model.py``) and the fuzz targets use the same oracle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import msgspec

from limpet import (
    Acked,
    Connected,
    ConnectionFailed,
    Disconnected,
    GroupMessage,
    MessagesMissed,
    Recovered,
    Recovering,
    RejoinGroupFailed,
    ServerMessage,
    Stats,
    Stopped,
)

OWN: Final = 1 << 52
"""Ack ids from here on belong to the session's own requests."""


class Sent(msgspec.Struct):
    """A message from a session, as far as oracles look at it."""

    type: str
    data: Any = None
    ack_id: int | None = msgspec.field(name="ackId", default=None)
    sequence_id: int = msgspec.field(name="sequenceId", default=0)


sent = msgspec.json.Decoder(Sent).decode


@dataclass(eq=False)
class Ask:
    """A request of the application.

    Attributes:
        kind: a name for the texts of failures.
        ack_id: None before the session has given one, and for a request without an ack.
        place: its place in the order of the calls.
        chain: the requests that wait for each other; empty: all that wait for none.
        payload: the message, as it was first handed out.
        times: how often it was handed out.
        sent_on: the connection on which it was handed out last.
        outcomes: how it ended.
        withdrawn: whether the application took it back.
    """

    kind: str
    ack_id: int | None = None
    place: int = 0
    chain: str = ""
    payload: bytes | None = None
    times: int = 0
    sent_on: str | None = None
    outcomes: list[Acked] = field(default_factory=list)
    withdrawn: bool = False


class SessionOracle:
    """Raises AssertionError where a session breaks a promise.

    Args:
        reliable: whether the subprotocol is reliable.
        safe: whether ``resend`` is ``"safe"``.

    Attributes:
        connection_id: the connection, as the application was told.
        recovering: whether the application was told that its transport is lost.
        failed: how many attempts have failed since the last connection that worked.
        told: what was told of each kind that :class:`limpet.Stats` counts, since the session was made.
        last: the largest sequence id that was delivered or told as missed.
        waiting: the requests that wait for an answer, by ack id.
    """

    def __init__(self, *, reliable: bool, safe: bool = True) -> None:
        self.reliable, self.safe = reliable, safe
        self.running = False
        self.starts = self.stops = 0
        self.connection_ids: set[str] = set()
        self.connection_id: str | None = None
        self.recovering = False
        self.established = False  # in this run
        self.failed = 0
        self.told: Counter[str] = Counter()
        self.last_attempt: ConnectionFailed | None = None  # since the last other event of the connection
        self.last = 0
        self.waiting: dict[int, Ask] = {}
        self._places = 0
        self._newest_sent: dict[str, int] = {}

    # ---- What the application does

    def started(self) -> None:
        assert not self.running
        self.running = True
        self.established = False
        self.failed = 0
        self.starts += 1

    def asks(self, ask: Ask) -> None:
        """Take in a request that the session has accepted."""
        self._places += 1
        ask.place = self._places
        if ask.ack_id is not None:
            assert ask.ack_id not in self.waiting, "an ack id stands for one request"
            self.waiting[ask.ack_id] = ask

    def withdrew(self, ask: Ask) -> None:
        """Take in that the session has given a request back."""
        assert ask.times == 0, f"{ask} was withdrawn, and had been handed out"
        assert ask.ack_id is not None
        assert self.waiting.pop(ask.ack_id) is ask
        ask.withdrawn = True

    # ---- What the session hands to a transport

    def sends(self, raw: bytes) -> None:
        if raw == b'{"type":"ping"}':
            return
        message = sent(raw)
        if message.type == "sequenceAck":
            assert self.reliable
            assert 0 < message.sequence_id <= self.last, "it acknowledges what it has not delivered"
        elif message.ack_id is not None and message.ack_id < OWN:
            ask = self.waiting.get(message.ack_id)
            assert ask is not None, f"{message} has an ack id that nobody waits for: a repeat has the same"
            self._hands_out(ask, message, raw)

    def _hands_out(self, ask: Ask, message: Sent, raw: bytes) -> None:
        assert ask.payload in (None, raw), f"a repeat of {ask} is the same"
        if ask.chain:
            first = min(other.place for other in self.waiting.values() if other.chain == ask.chain)
            assert ask.place == first, f"{ask} is sent while one before it is not settled"
        if not ask.times:
            assert ask.place > self._newest_sent.get(ask.chain, 0), "sent in the order of the calls"
            self._newest_sent[ask.chain] = ask.place
        elif self.safe and message.type in ("sendToGroup", "event"):
            assert ask.sent_on == self.connection_id, "a publish is never repeated on another connection"
        ask.payload, ask.sent_on, ask.times = raw, self.connection_id, ask.times + 1

    # ---- What the application is told

    def saw_all(self, events: Iterable[Any]) -> None:
        for event in events:
            self.saw(event)

    def saw(self, event: Any) -> None:
        assert self.running, f"{event} while stopped"
        getattr(self, self._HANDLERS[type(event)])(event)

    def connected(self, event: Connected) -> None:
        assert event.connection_id not in self.connection_ids, "Connected once per connection id"
        assert self.connection_id is None, "Disconnected comes before the next Connected"
        self.connection_ids.add(event.connection_id)
        self.told["reconnects"] += self.established
        self.established = True
        self.failed, self.last_attempt = 0, None
        self.connection_id, self.last = event.connection_id, 0

    def recovers(self, event: Recovering) -> None:
        assert self.reliable
        assert event.connection_id == self.connection_id
        assert not self.recovering, "Recovering is told once for each loss"
        assert self.failed == 0, "an outage begins with its own count"
        self.recovering = True

    def recovered(self, event: Recovered) -> None:
        assert event.connection_id == self.connection_id
        assert self.recovering, "Recovered follows Recovering"
        self.recovering = False
        self.failed, self.last_attempt = 0, None
        self.told["recoveries"] += 1

    def attempt_failed(self, event: ConnectionFailed) -> None:
        assert self.connection_id is None or self.recovering, "no attempt is made while a connection stands"
        assert self.last_attempt is None or self.last_attempt.next_in is not None, "no attempt follows the last one"
        self.failed += 1
        assert event.attempt == self.failed, "attempts count from 1 in each outage"
        assert event.next_in is None or event.next_in >= 0.0
        self.last_attempt = event
        self.told["failed_attempts"] += 1

    def disconnected(self, event: Disconnected) -> None:
        assert event.connection_id == self.connection_id
        self.connection_id, self.recovering = None, False

    def stopped(self, event: Stopped) -> None:
        assert self.connection_id is None, "Disconnected comes before Stopped"
        assert not self.waiting, f"{self.waiting} are not settled before Stopped"
        if event.error is None:
            assert self.last_attempt is None or self.last_attempt.next_in is not None, "stopped, and nothing says why"
        self.last_attempt = None
        self.running = False
        self.stops += 1
        assert self.stops == self.starts, "Stopped exactly once per start"

    def missed(self, event: MessagesMissed) -> None:
        assert self.connection_id is not None
        self.told["missed"] += event.last - event.first + 1
        if event == MessagesMissed(0, 0):  # a message without a sequence id that could not be read
            return
        assert self.reliable
        assert self.last < event.first <= event.last, "a gap is told once"
        assert event.first == self.last + 1, "a gap is told whole"
        self.last = event.last

    def message(self, event: GroupMessage | ServerMessage) -> None:
        assert self.connection_id is not None, "messages come between Connected and Disconnected"
        assert not self.recovering, "Recovered comes before what follows"
        self.told["messages_in"] += 1
        if self.reliable and event.sequence_id is not None:
            assert event.sequence_id == self.last + 1, f"after {self.last} came {event.sequence_id} without a word"
            self.last = event.sequence_id

    def acked(self, event: Acked) -> Ask:
        """Take in the end of a request, and return the request."""
        ask = self.waiting.pop(event.ack_id, None)
        assert ask is not None, f"{event} settles what does not wait: settled twice, or withdrawn"
        ask.outcomes.append(event)
        if event.error is not None and event.error.outcome == "unsent":
            assert ask.times == 0, f"{ask} was sent"
        else:
            assert ask.times > 0, f"{ask} was never sent"
        return ask

    def counted(self, stats: Stats) -> None:
        """Judge the counters of the session, all of whose events were taken."""
        for name in ("messages_in", "recoveries", "reconnects", "failed_attempts", "missed"):
            assert getattr(stats, name) == self.told[name], f"{name} of {stats}: {self.told[name]} were told"
        assert (stats.connected_since is not None) == (self.connection_id is not None)
        assert stats.requests_pending >= len(self.waiting)
        assert stats.requests_unsent + stats.acks_outstanding <= stats.requests_pending

    def not_rejoined(self, event: RejoinGroupFailed) -> None:
        assert self.connection_id is not None

    _HANDLERS: ClassVar[dict[type, str]] = {
        Connected: "connected",
        Disconnected: "disconnected",
        Recovering: "recovers",
        Recovered: "recovered",
        ConnectionFailed: "attempt_failed",
        Stopped: "stopped",
        MessagesMissed: "missed",
        GroupMessage: "message",
        ServerMessage: "message",
        RejoinGroupFailed: "not_rejoined",
        Acked: "acked",
    }
