"""The truth about the service: what it executed, and what it sent to whom."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import msgspec

from limpet_core.service import Transport


class Seen(msgspec.Struct):
    """A message from the service, as far as the oracles look at it."""

    type: str
    origin: str = msgspec.field(name="from", default="")
    group: str = ""
    user: str | None = msgspec.field(name="fromUserId", default=None)
    data: int = 0
    sequence_id: int = msgspec.field(name="sequenceId", default=0)


seen = msgspec.json.Decoder(Seen).decode


class Ledger:
    """Publications by their numbers, which travel as their data.

    Attributes:
        executed: what the service executed, in order.
        executed_on: what, and the connection that asked for it.
        order: the place of each publication among the executed ones.
        room: the publications to the group "room".
        expiring: publications that may be missed.
        sent: connection id -> sequence id, or place -> number.
        ack_ids: the ack id of each publication that was seen on its way.
    """

    def __init__(self, log: Callable[..., None]) -> None:
        self.log = log
        self.numbers = itertools.count(1)
        self.executed: list[int] = []
        self.executed_on: set[tuple[int, str]] = set()
        self.order: dict[int, int] = {}
        self.room: set[int] = set()
        self.expiring: set[int] = set()
        self.sent: dict[str, dict[int, Any]] = {}
        self.ack_ids: dict[int, int | None] = {}

    def records(self, raw: bytes, connection_id: str) -> None:
        """Take in what a member of all groups hears while the service listens to ``connection_id``."""
        message = seen(raw)
        if message.origin != "group":
            return
        number = message.data
        assert (number, connection_id) not in self.executed_on, f"{number} was executed twice for {connection_id}"
        self.executed_on.add((number, connection_id))
        self.executed.append(number)
        self.order.setdefault(number, len(self.order))
        if message.group == "room":
            self.room.add(number)
        self.log("executed %s for %s", number, message.user)

    def sends(self, transport: Transport, raw: bytes) -> None:
        """Take in a message that the service sends to a client."""
        if b'"from"' not in raw or transport.connection is None:
            return
        message = seen(raw)
        known = self.sent.setdefault(transport.connection.connection_id, {})
        place = message.sequence_id or len(known) + 1
        if place in known:
            self.log("sent again: %s to %s", message, transport.connection.connection_id)
        assert known.setdefault(place, message.data) == message.data, "a sequence id stands for one"
