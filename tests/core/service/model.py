"""A small model of the service: sets and dicts that say what everybody must have heard, and who is where."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hypothesis.stateful import RuleBasedStateMachine, invariant
from tests.core.service.virtual import Client, ServiceUnderTest

from limpet_core.service.data_plane import operations

WINDOW = 30.0
RETAINED = 6
REMEMBERED = 3
GROUPS = ("red", "rose", "blue")
ROLES = tuple(
    f"webpubsub.{permission}{suffix}"
    for permission in ("joinLeaveGroup", "sendToGroup")
    for suffix in ("", ".red", "s.r*")
)


@dataclass(eq=False)
class Line:
    """One transport: what must have come through it since the last look, and how it was closed."""

    client: Client
    expected: list[dict[str, Any]] = field(default_factory=list)
    close: int | None = None


@dataclass(eq=False)
class Member:
    """One logical connection."""

    name: str
    hub: str
    user: str | None
    reliable: bool
    roles: frozenset[str]
    groups: set[str]
    line: Line | None = None
    ends_at: float = math.inf
    token: str = ""
    sent: list[tuple[dict[str, Any], float]] = field(default_factory=list)  # all its messages, and when they expire
    acknowledged: int = 0
    succeeded: list[int] = field(default_factory=list)
    rules: dict[tuple[str, str], bool] = field(default_factory=dict)  # what was granted and revoked since

    def may(self, permission: str, group: str) -> bool:
        role = f"webpubsub.{permission}"
        by_role = not self.roles.isdisjoint({role, f"{role}.{group}", f"{role}s.{group[0]}*"})
        return self.rules.get((permission, group), by_role)


class Model(RuleBasedStateMachine):
    """A service, and what the model says of it; the rules are in test_model.py."""

    def __init__(self) -> None:
        super().__init__()
        self.service = ServiceUnderTest(recovery_window=WINDOW, retained_messages=RETAINED, remembered_acks=REMEMBERED)
        self.core = self.service.core
        self.members: dict[str, Member] = {}
        self.lines: list[Line] = []  # those that are open, or were closed since the last look
        self.gone: list[Line] = []
        self.hellos = 0
        self.numbers = 0

    # ---- The model

    def a_member(self, number: int) -> Member:
        return list(self.members.values())[number % len(self.members)]

    def at(self, hub: str, *, group: str | None = None, user: str | None = None) -> list[Member]:
        return [
            member
            for member in self.members.values()
            if member.hub == hub.lower()
            and (group is None or group in member.groups)
            and (user is None or user == member.user)
        ]

    def news(self) -> int:
        self.numbers += 1
        return self.numbers

    def hears(self, member: Member, message: dict[str, Any]) -> None:
        if member.line is not None:
            member.line.expected.append(message)

    def greets(self, member: Member) -> None:
        hello: dict[str, Any] = {"type": "system", "event": "connected"}
        hello |= {"userId": member.user, "connectionId": member.name}
        if member.reliable:
            self.hellos += 1
            member.token = hello["reconnectionToken"] = f"token-of-{member.name}/{self.hellos}"
        self.hears(member, hello)

    def delivers(self, members: Iterable[Member], message: dict[str, Any], ttl: float = 0.0) -> None:
        for member in list(members):
            if not member.reliable:
                self.hears(member, message)
            elif len(member.sent) - member.acknowledged >= RETAINED:
                if member.line is not None:
                    member.line.expected.clear()
                self.ends(member, 1008)
            else:
                numbered = message | {"sequenceId": len(member.sent) + 1}
                member.sent.append((numbered, self.service.now + ttl if ttl else math.inf))
                self.hears(member, numbered)

    def answers(self, member: Member, ack_id: int | None, error: str | None) -> None:
        if ack_id is None:
            return
        if error is None:
            member.succeeded = [*member.succeeded, ack_id][-REMEMBERED:]
            self.hears(member, {"type": "ack", "ackId": ack_id, "success": True})
        else:
            self.hears(member, {"type": "ack", "ackId": ack_id, "success": False, "error": error})

    def ends(self, member: Member, close: int | None) -> None:
        if member.line is not None:
            self.hangs_up(member, close)
        del self.members[member.name]

    def hangs_up(self, member: Member, close: int | None) -> None:
        assert member.line is not None
        member.line.close = close
        if close is None:
            self.lines.remove(member.line)
            self.gone.append(member.line)
        member.line = None

    # ---- What is compared

    @invariant()
    def everybody_heard_what_was_to_be_heard(self) -> None:
        told = self.core.transports_with_output()
        assert {line.client.transport for line in self.lines if line.expected or line.close} == set(told)
        for line in list(self.lines):
            heard = line.client.received()
            for message in heard:
                if "error" in message:
                    message["error"] = message["error"]["name"]
            assert heard == line.expected
            assert line.client.close_code == line.close
            line.expected.clear()
            if line.close:
                self.lines.remove(line)
                self.gone.append(line)

    @invariant()
    def everybody_is_where_they_are(self) -> None:
        core = self.core
        assert core.connection_count == len(self.members)
        for hub in ("chat", "other"):
            there = self.at(hub)
            assert list(core.hub(hub).connections) == [member.name for member in there]
            assert set(core.hub(hub).users) == {member.user for member in there if member.user}
            assert set(core.hub(hub).groups) == {group for member in there for group in member.groups}
            for group in GROUPS:
                page = operations.list_group(core, hub, group, None, None, None)
                names = [connection.connection_id for connection in page.connections]
                assert names == sorted(member.name for member in self.at(hub, group=group))
        for member in self.members.values():
            connection = core.connection(member.name)
            assert connection is not None
            assert (connection.transport is None) is (member.line is None)
            assert (set(connection.groups), connection.deadline) == (member.groups, member.ends_at)
            if member.reliable:
                assert connection.sequence_id == len(member.sent)
                assert connection.retained == len(member.sent) - member.acknowledged
        assert core.deadline == min((member.ends_at for member in self.members.values()), default=math.inf)
