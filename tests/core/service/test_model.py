"""The service against the model of it in model.py, under any sequence of calls."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from tests.core.service.model import GROUPS, ROLES, Line, Member
from tests.core.service.model_streams import ModelOfStreams
from tests.core.service.virtual import Client
from tests.helpers.profiles import examples

from limpet_core.service import JSON, RELIABLE_JSON, Filter, group_publication, server_publication
from limpet_core.service.data_plane import operations
from limpet_core.service.data_plane.parameters import OperationError

group_names = st.sampled_from(GROUPS)
users = st.sampled_from(["ann", "ben", None])
hubs = st.sampled_from(["chat", "chat", "Chat", "other"])
ack_ids = st.sampled_from([None, 1, 2, 3, 4, 5, 2**64 - 1])
some = st.integers(0, 9)  # which of those there are, counted around
excluded = st.lists(st.integers(1, 9).map("c{}".format), max_size=2)
permissions = st.sampled_from(["sendToGroup", "joinLeaveGroup"])

CLOSED = "Application server closed the connection."


class ServiceAgainstModel(ModelOfStreams):
    # ---- Coming and going

    @initialize()
    def three_are_there(self) -> None:
        """What is compared is worth more if there is somebody who may do something."""
        self.connect("chat", "ann", True, frozenset(ROLES), {"red"})
        self.connect("chat", "ann", True, frozenset(), {"red", "rose"})
        self.connect("chat", "ben", False, frozenset(ROLES), {"red"})

    @rule(
        hub=hubs,
        user=users,
        reliable=st.booleans(),
        roles=st.frozensets(st.sampled_from(ROLES)),
        groups=st.sets(group_names),
    )
    def connect(self, hub: str, user: str | None, reliable: bool, roles: frozenset[str], groups: set[str]) -> None:
        client = self.service.connect(
            hub=hub,
            subprotocol=RELIABLE_JSON if reliable else JSON,
            user=user,
            roles=tuple(sorted(roles)),
            groups=tuple(sorted(groups)),
        )
        assert client.transport.connection is not None
        name = client.transport.connection.connection_id
        member = Member(name, hub.lower(), user, reliable, roles, set(groups))
        assert name not in self.members
        self.members[name] = member
        self.attach(member, client)

    def attach(self, member: Member, client: Client) -> None:
        member.line = Line(client)
        self.lines.append(member.line)
        member.ends_at = math.inf
        self.greets(member)

    @precondition(lambda self: self.members)
    @rule(who=some, hub=hubs, good=st.sampled_from([True, True, True, False]))
    def recover(self, who: int, hub: str, good: bool) -> None:
        member = self.a_member(who)
        hello = {"connectionId": member.name, "reconnectionToken": member.token if good else "made up"}
        client = self.service.recover(hello, hub=hub)
        if not (good and member.reliable and hub.lower() == member.hub):
            self.lines.append(Line(client, close=1008))
            return
        if member.line is not None:
            member.line.expected.clear()
            self.hangs_up(member, 1006)
        self.attach(member, client)
        for message, expires in member.sent[member.acknowledged :]:
            if expires > self.service.now:
                self.hears(member, message)

    @precondition(lambda self: self.members)
    @rule(who=some, code=st.sampled_from([1006, 1006, 1001, 1008, 1000, 1007]))
    def drop(self, who: int, code: int) -> None:
        member = self.a_member(who)
        if member.line is None:
            return
        member.line.client.drop(code)
        if member.reliable and code != 1000:
            self.hangs_up(member, None)
            self.leaves(member)
        else:
            self.ends(member, None)

    @precondition(lambda self: self.members)
    @rule(who=some, for_good=st.booleans())
    def be_cut_off(self, who: int, for_good: bool) -> None:
        """The service cuts a transport; what is sent before it has heard of the end goes to nobody, but is retained."""
        member = self.a_member(who)
        line = member.line
        assert self.core.drop(member.name, for_good=for_good) is (line is not None)
        if line is not None:
            line.expected.clear()
        if for_good:
            self.ends(member, 1006)
        elif line is not None:
            self.hangs_up(member, 1006)
            data = self.news()
            self.core.send_to_connection(member.name, server_publication("json", b"%d" % data))
            self.delivers([member], {"type": "message", "from": "server", "dataType": "json", "data": data})
            line.client.drop(1006)
            if member.reliable:
                self.leaves(member)
            else:
                self.ends(member, None)
        assert not self.core.drop("nobody")

    @precondition(lambda self: self.members)
    @rule(who=some, ttl=st.sampled_from([0, 3, 10]), seconds=st.sampled_from([1.0, 6.0, 30.0]))
    def miss_something(self, who: int, ttl: int, seconds: float) -> None:
        """Most sequences of rules alone would never get there: away while something happens, and back again."""
        member = self.a_member(who)
        self.drop(who, 1006)
        self.send(member.hub, "red", None, "all", [], ttl)
        self.everybody_heard_what_was_to_be_heard()  # what expires does so on the way to those who are away
        self.wait(seconds)
        if member.name in self.members:
            self.recover(list(self.members).index(member.name), member.hub, True)

    @rule(seconds=st.sampled_from([1.0, 3.0, 6.0, 29.0]))
    def wait(self, seconds: float) -> None:
        self.waits(self.service.now + seconds)

    @precondition(lambda self: self.members)
    @rule(who=some, text=st.sampled_from(["{", '{"type":"joinGroup"}', '{"type":"ping"', "[]"]))
    def say_nonsense(self, who: int, text: str) -> None:
        member = self.a_member(who)
        if member.line is not None:
            member.line.client.send_raw(text)
            self.ends(member, 1007)

    @precondition(lambda self: self.gone)
    @rule(which=some)
    def speak_through_a_dead_line(self, which: int) -> None:
        client = self.gone[which % len(self.gone)].client
        client.send({"type": "joinGroup", "group": "blue", "ackId": 1})
        client.send_raw("nonsense")
        client.drop(1000)
        assert client.received() == []

    # ---- What clients ask for

    def speaks(self, who: int, message: dict[str, Any], ack_id: int | None) -> Member | None:
        """Send it; the member, unless it is away or has asked the same before."""
        member = self.a_member(who)
        if member.line is None:
            return None
        member.line.client.send(message if ack_id is None else message | {"ackId": ack_id})
        if ack_id in member.succeeded:
            self.answers(member, ack_id, "Duplicate")
            return None
        return member

    @precondition(lambda self: self.members)
    @rule(who=some, group=group_names, ack_id=ack_ids, joins=st.sampled_from([True, True, False]))
    def join_or_leave(self, who: int, group: str, ack_id: int | None, joins: bool) -> None:
        member = self.speaks(who, {"type": "joinGroup" if joins else "leaveGroup", "group": group}, ack_id)
        if member is None:
            return
        if not member.may("joinLeaveGroup", group):
            self.answers(member, ack_id, "Forbidden")
            return
        (member.groups.add if joins else member.groups.discard)(group)
        self.answers(member, ack_id, None)

    @precondition(lambda self: self.members)
    @rule(
        who=some,
        group=group_names,
        ack_id=ack_ids,
        no_echo=st.booleans(),
        ttl=st.sampled_from([0, 0, 5]),
        times=st.sampled_from([1, 1, 1, 4]),
    )
    def publish(self, who: int, group: str, ack_id: int | None, no_echo: bool, ttl: int, times: int) -> None:
        for _ in range(times):
            if not self.members:
                return
            data = self.news()
            message = {"type": "sendToGroup", "group": group, "data": data, "noEcho": no_echo, "ttlSeconds": ttl}
            member = self.speaks(who, message, ack_id)
            if member is None:
                return
            if not member.may("sendToGroup", group):
                self.answers(member, ack_id, "Forbidden")
                return
            heard = {"type": "message", "from": "group", "group": group, "fromUserId": member.user}
            heard |= {"dataType": "json", "data": data}
            receivers = [other for other in self.at(member.hub, group=group) if not (no_echo and other is member)]
            self.delivers(receivers, heard, ttl)
            self.answers(member, ack_id, None)

    @precondition(lambda self: self.members)
    @rule(who=some, ack_id=ack_ids)
    def raise_an_event_nobody_handles(self, who: int, ack_id: int | None) -> None:
        member = self.speaks(who, {"type": "event", "event": "e", "data": 1}, ack_id)
        if member is not None:
            self.answers(member, ack_id, "NotFound")

    @precondition(lambda self: self.members)
    @rule(who=some)
    def ping(self, who: int) -> None:
        member = self.speaks(who, {"type": "ping"}, None)
        if member is not None:
            self.hears(member, {"type": "pong"})

    @precondition(lambda self: self.members)
    @rule(who=some, messages=st.integers(1, 4), behind=st.sampled_from([None, 0, 0, 1, 3, -2]))
    def hear_and_acknowledge(self, who: int, messages: int, behind: int | None) -> None:
        """Acknowledge all but so many of the messages; less than none was never given out."""
        member = self.a_member(who)
        for _ in range(messages):
            data = self.news()
            self.core.send_to_connection(member.name, server_publication("json", b"%d" % data))
            if member.name in self.members:
                self.delivers([member], {"type": "message", "from": "server", "dataType": "json", "data": data})
        if behind is None or member.name not in self.members:
            return
        sequence_id = max(len(self.a_member(who).sent) - behind, 0)
        member = self.speaks(who, {"type": "sequenceAck", "sequenceId": sequence_id}, None)
        if member is not None:
            member.acknowledged = max(member.acknowledged, min(sequence_id, len(member.sent)))

    # ---- What the application server asks for

    @rule(
        hub=hubs,
        group=group_names,
        user=users,
        to=st.sampled_from(["all", "group", "user"]),
        without=excluded,
        ttl=st.sampled_from([0, 0, 5]),
    )
    def send(self, hub: str, group: str, user: str | None, to: str, without: list[str], ttl: int) -> None:
        data, core = self.news(), self.core
        text, expires = b"%d" % data, self.service.now + ttl if ttl else math.inf
        publication = server_publication("json", text, expires=expires)
        heard: dict[str, Any] = {"type": "message", "from": "server"}
        if to == "group":
            publication = group_publication(group, None, "json", text, expires=expires)
            heard |= {"from": "group", "group": group, "fromUserId": None}
            core.send_to_group(hub, group, publication, None, without)
            members = self.at(hub, group=group)
        elif to == "user":
            core.send_to_user(hub, user or "zoe", publication, None, without)
            members = self.at(hub, user=user or "zoe")
        else:
            core.send_to_all(hub, publication, None, without)
            members = self.at(hub)
        receivers = [member for member in members if member.name not in without]
        self.delivers(receivers, heard | {"dataType": "json", "data": data}, ttl)

    @rule(group=group_names, user=st.sampled_from(["ann", "ben"]))
    def send_by_filter(self, group: str, user: str) -> None:
        data = self.news()
        where = Filter(f"userId eq '{user}' and not ('{group}' in groups)")
        self.core.send_to_all("chat", server_publication("json", b"%d" % data), where)
        receivers = [member for member in self.at("chat", user=user) if group not in member.groups]
        self.delivers(receivers, {"type": "message", "from": "server", "dataType": "json", "data": data})

    @rule(number=st.integers(1, 9), hub=hubs, group=group_names)
    def add_a_connection(self, number: int, hub: str, group: str) -> None:
        member = self.members.get(f"c{number}")
        if member is not None and member.hub == hub.lower():
            operations.add_connection_to_group(self.core, hub, member.name, group)
            member.groups.add(group)
        else:
            with pytest.raises(OperationError):
                operations.add_connection_to_group(self.core, hub, f"c{number}", group)

    @rule(hub=hubs, user=st.sampled_from(["ann", "ben"]), group=group_names)
    def add_a_user(self, hub: str, user: str, group: str) -> None:
        members = self.at(hub, user=user)
        if members:
            operations.add_user_to_group(self.core, hub, user, group)
            for member in members:
                member.groups.add(group)
        else:
            with pytest.raises(OperationError):
                operations.add_user_to_group(self.core, hub, user, group)

    @rule(hub=hubs, user=st.sampled_from(["ann", "ben"]), groups=st.none() | st.sets(group_names))
    def remove_a_user(self, hub: str, user: str, groups: set[str] | None) -> None:
        operations.remove_from_groups(self.core, self.core.hub(hub).user(user), groups)
        for member in self.at(hub, user=user):
            member.groups -= member.groups if groups is None else groups

    @rule(number=st.integers(1, 9), hub=hubs, name=permissions, group=group_names, grants=st.booleans())
    def change_permissions(self, number: int, hub: str, name: str, group: str, grants: bool) -> None:
        member = self.members.get(f"c{number}")
        there = member is not None and member.hub == hub.lower()
        if grants and not there:
            with pytest.raises(OperationError):
                operations.grant(self.core, hub, name, f"c{number}", group)
        else:
            (operations.grant if grants else operations.revoke)(self.core, hub, name, f"c{number}", group)
        if member is not None and there:
            member.rules[name, group] = grants
        has = operations.has_permission(self.core, hub, name, f"c{number}", group)
        assert has is (there and grants)

    @rule(hub=hubs, group=st.none() | group_names, without=excluded, often=some)
    def close(self, hub: str, group: str | None, without: list[str], often: int) -> None:
        if often:  # else there would be nobody left soon
            without = [*without, *(member.name for member in list(self.members.values())[1:])]
        hub_of_core = self.core.hub(hub)
        connections = list(hub_of_core.connections.values()) if group is None else hub_of_core.members(group)
        operations.close(self.core, connections, "enough", without)
        for member in self.at(hub, group=group):
            if member.name not in without and member.name in self.members:
                self.hears(member, {"type": "system", "event": "disconnected", "message": f"{CLOSED} Reason: enough"})
                self.ends(member, 1000)

    @rule(really=some)
    def shut_down(self, really: int) -> None:
        if really == 0:
            self.core.shut_down()
            for member in list(self.members.values()):
                if member.name not in self.members:
                    continue  # too slow for the end of another one's stream
                goodbye = "The service is shutting down."
                self.hears(member, {"type": "system", "event": "disconnected", "message": goodbye})
                self.ends(member, 1001)


TestServiceAgainstModel = ServiceAgainstModel.TestCase
TestServiceAgainstModel.settings = settings(max_examples=examples(60), stateful_step_count=40)
