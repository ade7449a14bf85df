"""Drive a Session by hand, in virtual time: nothing happens unless the test says so, and `now` moves only then."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from limpet import Acked, Close, Dial, Event, LimpetError, Link, Options, Session, State

URL = "wss://example.test/client/hubs/chat?access_token=SECRET"

QUIET = {"keepalive_interval": None, "keepalive_timeout": None}

E = TypeVar("E")
Said = dict[str, Any] | str | bytes


class WsprotoLink(Link):
    """A Link without the fast lane."""

    _fast_lane = False


class Drive:
    """A session, its clock, and the hands of a driver.

    Args:
        options: fields of Options; keepalive is off unless they say otherwise, so that only what a test is
            about makes deadlines.
        random: the session's randomness.
    """

    def __init__(self, *, random: Callable[[], float] = lambda: 0.5, **options: Any) -> None:
        self.options = Options(**(QUIET | options))
        self.session = Session(self.options, random=random)
        self.now = 1000.0

    # ---- What the driver does

    def start(self) -> None:
        self.session.start(self.now)

    def open(self, url: str = URL, *, fixed: bool = False) -> Dial:
        """Open the transport that is wanted, and return its dial."""
        dial = self.session.dial
        assert dial is not None, "no transport is wanted"
        if dial.url is None:
            self.session.url_ready(url, self.now, fixed=fixed)
        self.session.connected(self.now)
        return dial

    def connect(self, connection_id: str = "c1", **fields: Any) -> Dial:
        """Bring the session from stopped, connecting or waiting to connected, and drain it."""
        if self.session.state is State.STOPPED:
            self.start()
        if self.session.state is State.WAITING:
            self.until_dial()
        dial = self.open()
        self.says(hello(connection_id, **fields))
        assert self.session.state is State.CONNECTED
        self.session.events()
        self.session.messages_to_send()
        return dial

    def recover(self) -> list[dict[str, Any]]:
        """Recover the connection, and return everything sent on the way; the events stay."""
        self.until_dial()
        assert self.dial.recovery
        self.open()
        sent = self.sent()
        self.says({"type": "pong"})
        assert self.session.state is State.CONNECTED
        return sent + self.sent()

    def drop(self, code: int = 1006, reason: str = "") -> None:
        self.session.disconnected(self.now, code=code, reason=reason)

    def lose(self) -> None:
        """Lose the connection for good."""
        self.drop(1008, "gone")

    def says(self, *messages: Said) -> None:
        """The service says these messages, in one go."""
        self.session.receive_messages([encoded(message) for message in messages], self.now)

    # ---- Time

    def advance(self, seconds: float) -> None:
        """Let time pass, and wake the session at each deadline on the way."""
        end = self.now + seconds
        while self.session.deadline <= end:
            self.now = max(self.now, self.session.deadline)
            self.session.wake(self.now)
            assert self.session.deadline > self.now, "after wake(deadline) the deadline has moved"
        self.now = end

    def until_dial(self) -> float:
        """Let time pass until a transport is wanted; return how long that took."""
        began = self.now
        while self.session.dial is None:
            assert self.session.deadline < float("inf"), "no transport will ever be wanted"
            self.advance(self.session.deadline - self.now)
        return self.now - began

    # ---- What comes out

    @property
    def state(self) -> State:
        return self.session.state

    @property
    def dial(self) -> Dial:
        assert self.session.dial is not None, "no transport is wanted"
        return self.session.dial

    def sent(self) -> list[dict[str, Any]]:
        return [json.loads(message) for message in self.session.messages_to_send()]

    def events(self, kind: type[E] | None = None) -> list[Any]:
        """What has happened, or only the events of one kind; the others are dropped then."""
        events: list[Event] = self.session.events()
        return [event for event in events if kind is None or isinstance(event, kind)]

    def answers(self) -> dict[int, str]:
        """How the requests ended since the last call: ack id to ``done``, ``duplicate`` or ``Name/outcome``."""
        return {event.ack_id: how(event) for event in self.events(Acked)}


# ---- What the service says


def hello(connection_id: str = "c1", *, token: str | None = "t1", user: str | None = None) -> dict[str, Any]:
    message = {"type": "system", "event": "connected", "connectionId": connection_id, "userId": user}
    return message | ({"reconnectionToken": token} if token is not None else {})


def news(sequence_id: int | None = None, data: Any = "news", **fields: Any) -> dict[str, Any]:
    message = {"type": "message", "from": "group", "group": "g", "dataType": "text", "data": data} | fields
    return message | ({"sequenceId": sequence_id} if sequence_id is not None else {})


def ok(ack_id: int) -> dict[str, Any]:
    return {"type": "ack", "ackId": ack_id, "success": True}


def refused(ack_id: int, name: str, message: str = "no") -> dict[str, Any]:
    return {"type": "ack", "ackId": ack_id, "success": False, "error": {"name": name, "message": message}}


def encoded(message: Said) -> bytes:
    if isinstance(message, dict):
        message = json.dumps(message)
    return message if isinstance(message, bytes) else message.encode("utf-8", "surrogatepass")


# ---- What the session says


def sequence_ack(sequence_id: int) -> dict[str, Any]:
    return {"type": "sequenceAck", "sequenceId": sequence_id}


PING = {"type": "ping"}

OWN = 1 << 52
"""The first ack id of the session's own requests."""


def ack_ids(sent: list[dict[str, Any]]) -> list[int]:
    """The ack ids of the requests among what was sent, in order."""
    return [message["ackId"] for message in sent if "ackId" in message]


def how(event: Acked) -> str:
    if event.error is None:
        return "duplicate" if event.duplicate else "done"
    return f"{event.error.name}/{event.error.outcome}"


def observed(drive: Drive) -> str:
    """Everything that can be seen of a session, its pending requests included, as text to compare.

    Uses the session up: it is drained and stopped.
    """
    session = drive.session
    seen: list[Any] = [session.state, session.deadline, session.dial, session.connection_id, session.user_id]
    seen += [sorted(session.groups), session.events(), session.messages_to_send()]
    try:
        seen.append(session.join_group("probe", drive.now))
    except LimpetError as error:
        seen.append(repr(error))
    session.stop(drive.now)
    seen += [session.messages_to_send(), session.events(), session.dial and session.dial.close, session.deadline]
    session.disconnected(drive.now)
    return repr([*seen, [msgspec.Struct.__repr__(event) for event in session.events()], session.state])


def closed_with(dial: Dial) -> int | None:
    """The close code that the session asked for on this transport."""
    return dial.close.code if isinstance(dial.close, Close) else None
