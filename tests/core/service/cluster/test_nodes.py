"""Nodes come and go, stand still, write entries twice, and disagree: what the log says of them counts."""

from __future__ import annotations

import pytest
from simulation.inspect import skip_a_sequence_id
from tests.core.service.cluster.nodes import Client, Cluster

from limpet_core.service import Limits, RawMode
from limpet_core.service.behaviour import BEHAVIOUR
from limpet_core.service.cluster import commands
from limpet_core.service.cluster.members import Members
from limpet_core.service.data_plane import writes


def publish(client: Client, data: object, ack_id: int) -> None:
    client.says(type="sendToGroup", group="g", data=data, ackId=ack_id)


def test_the_clients_of_a_dead_node_come_back_within_their_window() -> None:
    cluster = Cluster("a", "b", limits=Limits(recovery_window=10))
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    cluster.kill("a")
    publish(bob, 1, 1)
    cluster.run(8)  # dead after 4, so 6 are left
    assert [member.node for member in cluster.nodes["b"].replica.members] == ["b"]
    back = cluster.recover(ann, "b")
    assert back.messages == [(1, 1)]


def test_the_connections_of_a_dead_node_end_after_their_window() -> None:
    cluster = Cluster("a", "b", limits=Limits(recovery_window=10))
    cluster.connect("a")
    cluster.connect("a", subprotocol=None)
    cluster.kill("a")
    cluster.run(3)
    assert cluster.nodes["b"].replica.core.connection_count == 2
    cluster.run(4)
    assert cluster.nodes["b"].replica.core.connection_count == 1  # the one that can be recovered
    cluster.run(12)
    assert cluster.nodes["b"].replica.core.connection_count == 0


def test_nodes_that_are_busy_all_the_time_look_at_the_others_too() -> None:
    cluster = Cluster("a", "b", "c")
    cluster.kill("a")
    bob, cid = cluster.connect("b", "bob", groups=("g",)), cluster.connect("c", "cid", groups=("g",))
    for number in range(4 * 70):  # four entries a second: no node writes a beat
        bob.says(type="sendToGroup", group="g", data=number)
        cid.says(type="sendToGroup", group="g", data=number)
        if number % 100 == 99:
            for client in (bob, cid):
                client.says(type="sequenceAck", sequenceId=client.messages[-1][0])
        cluster.run(0.25)
    shared = cluster.nodes["c"].replica.shared
    assert [member.node for member in shared.members] == ["b", "c"]
    assert shared.compared == 2  # at the start, and after a minute
    assert len(shared.digests) == 2


def test_a_node_that_stood_still_reads_that_it_is_dead_and_its_late_entries_do_not_count() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob", groups=("g",))
    cluster.nodes["a"].is_down = True
    cluster.run(8)
    publish(ann, "of a dead node", 1)
    cluster.nodes["a"].append()
    cluster.nodes["a"].is_down = False
    cluster.run()
    assert bob.messages == []
    assert "without this node" in cluster.nodes["a"].replica.fenced
    assert ann.close.code == 1001


def test_a_sign_of_life_before_the_verdict_cancels_it() -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a", groups=("g",))
    a, b = cluster.nodes["a"], cluster.nodes["b"]
    a.is_down = True
    while not any(isinstance(command, commands.Dead) for command in last_commands(cluster)):
        a.append()  # what it has written already
        cluster.now += 0.25
        b.replica.wake(cluster.now)
        # The verdict is formed now, and written after the sign of life.
        verdict = b.replica.entries_to_append(cluster.now)
        if any(isinstance(command, commands.Dead) for entry in verdict for command in commands.decode(entry).commands):
            publish(ann, "alive", 1)
            a.append()
        for entry in verdict:
            cluster.write(entry)
        b.catch_up()
    a.is_down = False
    cluster.run(1)
    assert a.replica.fenced == ""
    assert ann.messages == [(1, "alive")]


def last_commands(cluster: Cluster) -> list[commands.Command]:
    return commands.decode(cluster.log[-1][1]).commands


def test_entries_that_are_written_twice_count_once() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob", groups=("g",))
    ann.says(type="sendToGroup", group="g", data="without an ack")
    written = cluster.nodes["a"].replica.entries_to_append(cluster.now)
    assert cluster.nodes["a"].replica.unread == len(written) == 1
    for entry in written * 3:
        cluster.write(entry)
    cluster.run()
    assert bob.messages == [(1, "without an ack")]
    assert cluster.nodes["a"].replica.unread == 0
    assert len(cluster.digests()) == 1


def test_an_entry_behind_a_gap_does_not_count_before_the_gap_is_filled() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob", groups=("g",))
    entries = []
    for data in ("one", "two"):
        ann.says(type="sendToGroup", group="g", data=data)
        entries += cluster.nodes["a"].replica.entries_to_append(cluster.now)
    cluster.write(entries[1])  # the first was lost on its way
    cluster.run()
    assert bob.messages == []
    assert cluster.nodes["a"].replica.unread == 2
    for entry in entries:
        cluster.write(entry)
    cluster.run()
    assert bob.messages == [(1, "one"), (2, "two")]


def test_a_log_that_stood_still_makes_no_node_dead() -> None:
    cluster = Cluster("a", "b")
    a, b = cluster.nodes["a"], cluster.nodes["b"]
    cluster.run(8)
    waiting: dict[str, list[bytes]] = {"a": [], "b": []}
    for _ in range(40):
        cluster.now += 0.25
        for node in (a, b):
            if node.replica.deadline <= cluster.now:
                node.replica.wake(cluster.now)
            waiting[node.name] += node.replica.entries_to_append(cluster.now)
    for name in "ab":  # the log takes entries again, those of b when it tries the next time
        for entry in waiting[name]:
            cluster.write(entry)
        b.is_down = name == "a"
        cluster.run(1.5)
    cluster.run(8)
    assert [member.node for member in a.replica.members] == ["a", "b"]
    assert len(cluster.up) == 2
    cluster.kill("b")
    cluster.run(8)
    assert [member.node for member in a.replica.members] == ["a"]


def test_a_jump_of_the_logs_clock_makes_no_node_dead() -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a", groups=("g",))
    cluster.run(8)
    cluster.log_ahead = 3600.0
    publish(ann, "x", 1)
    a = cluster.nodes["a"]
    a.append()
    a.catch_up()
    cluster.now += 1.0
    a.replica.wake(cluster.now)  # before b has written anything at the new time
    cluster.run(8)
    assert [node.name for node in cluster.up] == ["a", "b"]
    assert len(cluster.nodes["a"].replica.members) == 2


def test_time_never_goes_back() -> None:
    cluster = Cluster("a")
    cluster.run(5)
    replica = cluster.nodes["a"].replica
    before = replica.core.now
    replica.apply("x", before - 100, commands.envelop("nobody", 1, []))
    assert replica.core.now == before


def test_a_node_that_comes_later_has_the_same_state() -> None:
    cluster = Cluster("a")
    ann = cluster.connect("a", groups=("g",))
    publish(ann, "x", 1)
    cluster.run(3)
    cluster.start("b")
    cluster.run()
    assert cluster.nodes["b"].replica.is_member
    assert len(cluster.digests()) == 1


def test_a_node_with_other_settings_is_refused() -> None:
    cluster = Cluster("a")
    cluster.start("b", settings=b"others")
    cluster.run(1)
    assert "settings" in cluster.nodes["b"].replica.fenced
    assert [member.node for member in cluster.nodes["a"].replica.members] == ["a"]


@pytest.mark.parametrize(("oldest", "newest"), [(BEHAVIOUR + 1, BEHAVIOUR + 2), (0, BEHAVIOUR - 1)])
def test_a_node_whose_release_cannot_behave_like_the_others_is_refused(oldest: int, newest: int) -> None:
    cluster = Cluster("a")
    cluster.write(commands.envelop("b", 1, [commands.encode(commands.Hello(b"same", oldest, newest, "b"))]))
    cluster.write(commands.envelop("b", 2, [commands.encode(commands.Beat())]))
    cluster.run()
    assert [member.node for member in cluster.nodes["a"].replica.members] == ["a"]


@pytest.mark.parametrize(("newest", "active"), [(BEHAVIOUR + 1, BEHAVIOUR), (BEHAVIOUR, BEHAVIOUR)])
def test_a_behaviour_is_active_only_if_all_nodes_have_it(newest: int, active: int) -> None:
    cluster = Cluster("a")
    cluster.write(commands.envelop("b", 1, [commands.encode(commands.Hello(b"same", BEHAVIOUR, newest, "b"))]))
    cluster.write(commands.envelop("b", 2, [commands.encode(commands.Activate(BEHAVIOUR + 1))]))
    cluster.write(commands.envelop("b", 3, [commands.encode(commands.Activate(active))]))
    cluster.run()
    assert cluster.nodes["a"].replica.shared.behaviour == BEHAVIOUR


@pytest.mark.parametrize("first", [[], [commands.Beat()]], ids=["nothing", "no hello"])
def test_a_node_that_does_not_introduce_itself_does_not_count(first: list[commands.Command]) -> None:
    cluster = Cluster("a")
    ann = cluster.connect("a")
    ask = commands.Ask(1, writes.Close("h", "hub", ""))
    cluster.write(commands.envelop("b", 1, [commands.encode(each) for each in [*first, ask]]))
    cluster.write(commands.envelop("c", 7, [commands.encode(ask)]))
    cluster.run()
    assert ann.close is None


def test_a_node_that_leaves_sends_its_clients_to_the_others_and_they_lose_nothing() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a", groups=("g",)), cluster.connect("b", "bob")
    cluster.nodes["a"].replica.leave()
    cluster.run()
    assert ann.close.code == 1001
    assert cluster.nodes["a"].replica.fenced
    publish(bob, "meanwhile", 1)
    cluster.run()
    back = cluster.recover(ann, "b")
    assert back.messages == [(1, "meanwhile")]
    assert cluster.nodes["a"].replica.deadline == pytest.approx(float("inf"))


def test_commands_behind_the_end_of_a_node_do_not_count() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a", subprotocol=None), cluster.connect("b", "bob", groups=("g",))
    cluster.nodes["a"].replica.leave()
    cluster.nodes["a"].replica.ask(writes.Send("h", "group", "g", writes.Message("json", b"1")))
    cluster.run()
    assert bob.messages == []
    assert ann.close.code == 1001


def test_all_nodes_can_be_replaced() -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a", groups=("g",))
    cluster.kill("a")
    cluster.kill("b")
    cluster.start("c")
    cluster.run(10)
    assert [member.node for member in cluster.nodes["c"].replica.members] == ["c"]
    back = cluster.recover(ann, "c")
    publish(back, "x", 1)
    cluster.run()
    assert back.messages == [(1, "x")]


def test_a_fork_ends_all_connections_and_the_node_that_saw_it() -> None:
    cluster = Cluster("a", "b")
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob")
    cluster.write(cluster.nodes["a"].replica.forked())
    cluster.nodes["a"].carry_out()
    cluster.run()
    assert (ann.close.code, bob.close.code) == (1008, 1008)
    assert "lost entries" in cluster.nodes["a"].replica.fenced
    assert cluster.nodes["b"].replica.fenced == ""
    assert cluster.nodes["b"].replica.core.connection_count == 0
    assert [member.node for member in cluster.nodes["b"].replica.members] == ["b"]


def test_a_fork_ends_also_those_that_the_end_of_another_has_ended() -> None:
    cluster = Cluster("a", "b", limits=Limits(retained_messages=10))
    ann, bob = cluster.connect("a"), cluster.connect("b", "bob", groups=("g",))
    ann.says(type="sendToGroup", group="g", stream={"streamId": "s"}, ackId=1)
    bob.is_lost()
    cluster.run()
    for number in range(40):  # as many as bob's connection can hold
        publish(ann, number, number + 2)
    cluster.run()
    assert cluster.nodes["b"].replica.core.connection_count == 2
    cluster.write(cluster.nodes["a"].replica.forked())  # ann's end ends her stream, of which bob would be told
    cluster.run()
    assert cluster.nodes["b"].replica.core.connection_count == 0
    assert cluster.nodes["b"].replica.shared.failures == 0


def test_a_node_that_is_out_of_the_cluster_writes_no_more_signs_of_life() -> None:
    cluster = Cluster("a")
    replica = cluster.nodes["a"].replica
    replica.fence("a test")
    replica.wake(cluster.now + 100)
    assert replica.entries_to_append(cluster.now + 100) == []


def test_an_answer_that_nobody_waits_for_is_nothing() -> None:
    replica = Cluster("a").nodes["a"].replica
    replica.answered(99, None)
    assert replica.answers() == []


def test_of_nodes_that_are_gone_the_newest_thousand_are_known() -> None:
    members = Members()
    for number in range(1001):
        members.remove(f"n{number}")
    assert (members.is_gone("n0"), members.is_gone("n1"), len(members.gone)) == (False, True, 1000)


def test_a_client_that_has_acknowledged_more_than_there_was_ends() -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a")
    ann.says(type="sequenceAck", sequenceId=5)
    ann.says(type="sequenceAck", sequenceId=6)
    cluster.run()
    assert ann.close.code == 1008
    assert "lost" in ann.close.reason
    assert cluster.nodes["b"].replica.core.connection_count == 0


def test_a_node_whose_state_differs_from_that_of_most_ends() -> None:
    cluster = Cluster("a", "b", "c")
    ann = cluster.connect("a")
    cluster.run(70)
    assert cluster.nodes["c"].replica.shared.compared > 0
    connection = cluster.nodes["c"].replica.core.connection(ann.connection_id)
    assert connection is not None
    skip_a_sequence_id(connection)  # by a fault
    cluster.run(70)
    assert "differs" in cluster.nodes["c"].replica.fenced
    assert [node.name for node in cluster.up] == ["a", "b"]


def test_a_command_that_makes_the_logic_raise_is_left_out_at_all_nodes(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster("a", "b")
    ann = cluster.connect("a")
    damaged = commands.Received(ann.connection_id, 1, b"a secret\xff", True)  # which no node writes
    cluster.nodes["a"].replica.apply("x", cluster.now, commands.envelop("z", 1, []))
    cluster.write(commands.envelop("z", 1, [commands.encode(commands.Hello(b"same", BEHAVIOUR, BEHAVIOUR, "z"))]))
    opened = commands.Open("z-1", 1, "h", None, None, (), (), RawMode())
    received = commands.Received("z-1", 1, damaged.data, True)
    cluster.write(commands.envelop("z", 2, [commands.encode(opened), commands.encode(received)]))
    cluster.run()
    assert [node.replica.shared.failures for node in cluster.up] == [1, 1]
    assert "a fault of this service: Received of client z-1" in caplog.text
    assert "secret" not in caplog.text
    assert len(cluster.digests()) == 1
