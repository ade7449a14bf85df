"""Nodes of a cluster over real sockets, with a log in memory, whose faults come on demand."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
import time
from operator import methodcaller
from typing import Any

import httpx
import pytest
from starlette.responses import Response
from tests.adapters.service import webhook
from tests.adapters.service.sockets import Client, recovery_url, refusal
from tests.helpers.nodes import KEY, Nodes, Rest, eventually, joined, open_client
from tests.helpers.waiting import LIMIT

from limpet.service import (
    ClusterOptions,
    ClusterRefused,
    Service,
    ServiceOptions,
    _cluster_node,
    _cluster_snapshots,
    _waiting_writes,
)
from limpet.service._inspected import CHANGES
from limpet.service.cluster import MAX_ENTRY, EngineRefused, LogId, Snapshot
from limpet_core.service import JSON, Limits, ServiceCore
from limpet_core.service.cluster.commands import MAX_DATA, Ask, CallEnded, Command, Received, encode, envelop
from limpet_core.service.data_plane.parameters import OperationError
from limpet_core.service.data_plane.writes import Close, Message, Send


def test_clients_of_two_nodes_are_in_one_group() -> None:
    async def scenario() -> None:
        async with Nodes().up("a", "b") as (a, b):
            ann, _ = await open_client(a)
            bob, _ = await open_client(b, "bob")
            await joined(bob)
            await ann.send(type="sendToGroup", group="g", data="hello", ackId=2)
            assert (await ann.receive())["success"]
            assert (await bob.receive())["data"] == "hello"
            await ann.send(type="ping")
            assert await ann.receive() == {"type": "pong"}
            await ann.leave()
            await eventually(lambda: b.core.connection_count == 1)
            await bob.leave()

    webhook.run(scenario())


@pytest.mark.parametrize(
    "command",
    [
        Received("a", 1, bytes(MAX_DATA), False),
        Ask(1, Send("chat", "hub", "", Message("json", bytes(MAX_DATA)))),
        CallEnded(1, True, 1, 1.0, 200, (), bytes(MAX_DATA)),
    ],
    ids=lambda command: type(command).__name__,
)
def test_an_entry_has_room_for_the_largest_data_and_the_rest_of_a_command(command: Command) -> None:
    assert len(envelop("a", 1, [encode(command)])) + 1_000_000 <= MAX_ENTRY


def test_a_client_recovers_at_another_node_behind_a_rolling_restart() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("b") as (b,):
            a = nodes.service("a")
            await a.start()
            ann, hello = await open_client(a)
            await joined(ann)
            bob, _ = await open_client(b, "bob")
            stopping = asyncio.create_task(a.stop())
            assert await ann.close_code() == 1001
            await bob.send(type="sendToGroup", group="g", data="meanwhile", ackId=1)
            assert (await bob.receive())["success"]
            back = await Client.open(recovery_url(b, hello))
            assert (await back.receive())["event"] == "connected"
            assert (await back.receive())["data"] == "meanwhile"
            await stopping
            with pytest.raises(RuntimeError, match="make a new service"):
                await a.start()
            await back.leave()
            await bob.leave()

    webhook.run(scenario())


def test_what_one_node_has_answered_is_seen_at_the_other() -> None:
    async def scenario() -> None:
        async with Nodes(read_delay=0.02).up("a", "b") as (a, b):
            ann, hello = await open_client(a)
            at_a, at_b = Rest(a), Rest(b)
            for number in range(5):
                group = f"g{number}"
                path = f"/groups/{group}/connections/{hello['connectionId']}"
                assert (await at_a("HEAD", f"/groups/{group}")).status_code == 404
                assert (await at_b("PUT", path)).status_code == 200
                assert (await at_a("HEAD", f"/groups/{group}")).status_code == 200
                assert (await at_b("DELETE", path)).status_code == 204
                assert (await at_a("HEAD", f"/groups/{group}")).status_code == 404
            assert (await at_b("PUT", "/groups/g/connections/nobody")).status_code == 404
            escaped = {"content": "\x01" * (1 << 20), "headers": {"Content-Type": "text/plain"}}
            assert (await at_b("POST", "/:send", **escaped)).status_code == 400  # six bytes each as JSON
            assert (await at_b("POST", "/users/ann/:send", json="hi")).status_code == 202
            assert (await ann.receive())["data"] == "hi"
            assert (await at_b("DELETE", f"/connections/{hello['connectionId']}?reason=enough")).status_code == 204
            assert "enough" in (await ann.receive())["message"]
            assert await ann.close_code() == 1000

    webhook.run(scenario())


def test_a_list_goes_on_at_another_node() -> None:
    async def scenario() -> None:
        async with Nodes().up("a", "b") as (a, b):
            clients = [await open_client(a) for _ in range(3)]
            for client, _ in clients:
                await joined(client)
            first = (await Rest(a)("GET", "/groups/g/connections?maxpagesize=2")).json()
            query = first["nextLink"].partition("?")[2]
            second = (await Rest(b)("GET", f"/groups/g/connections?{query}")).json()
            found = [each["connectionId"] for each in first["value"] + second["value"]]
            assert sorted(found) == sorted(hello["connectionId"] for _, hello in clients)

    webhook.run(scenario())


def test_an_event_handler_is_called_by_one_node_and_its_reply_reaches_the_client() -> None:
    async def scenario() -> None:
        async with webhook.webhook() as hook:

            async def reply(request: Any) -> Response:
                return Response("reply", media_type="text/plain")

            hook.answers["order"] = reply
            async with Nodes(hook.options()).up("a", "b") as (a, b):
                client = await Client.open(b.client_url("chat", user_id="ann"))
                assert (await hook.next("connect")).method == "POST"
                assert (await client.receive())["event"] == "connected"
                await hook.next("connected")
                received = await webhook.ask(client)
                await hook.next("order")
                assert [each.get("data") for each in received] == ["reply", None]
                await client.leave()
                await hook.next("disconnected")
                await eventually(lambda: a.core.connection_count == 0)
                assert hook.requests.empty()

    webhook.run(scenario())


def test_a_node_that_the_engine_does_not_answer_sends_its_clients_away_and_takes_none() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a", "b") as (a, b):
            ann, hello = await open_client(a)
            nodes.logs["a"].cut()
            assert await ann.close_code() == 1001
            status, text = await refusal(a.client_url())
            assert status == 503
            assert "to another one" in text
            assert (await Rest(a)("HEAD", "/groups/g")).status_code == 503
            assert (await Rest(a)("POST", "/:send", json=1)).status_code == 503
            back = await Client.open(recovery_url(b, hello))
            assert (await back.receive())["event"] == "connected"
            await back.leave()
            await eventually(lambda: len(b._gateway.replica.members) == 1)  # which has taken over
            nodes.logs["a"].mend()
            assert "without this node" in await asyncio.wait_for(a.expelled(), LIMIT)

    webhook.run(scenario())


def test_a_node_alone_serves_again_when_the_engine_does() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            ann, hello = await open_client(a)
            nodes.logs["a"].cut()
            assert await ann.close_code() == 1001
            nodes.logs["a"].mend()
            end = time.monotonic() + LIMIT
            while (await Rest(a)("HEAD", "/groups/g")).status_code == 503:
                assert time.monotonic() < end
            back = await Client.open(recovery_url(a, hello))
            assert (await back.receive())["event"] == "connected"
            await back.leave()

    webhook.run(scenario())


def test_a_node_whose_log_has_lost_entries_ends_all_connections() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a", "b") as (a, b):
            ann, _ = await open_client(a)
            bob, _ = await open_client(b)
            nodes.engine.restart_empty()
            assert await ann.close_code() == 1008
            assert await bob.close_code() == 1008
            assert "lost entries" in await asyncio.wait_for(a.expelled(), LIMIT)
            assert "lost entries" in await asyncio.wait_for(b.expelled(), LIMIT)

    webhook.run(scenario())


@pytest.mark.parametrize("clock", ["goes on", "stands still"])
def test_a_node_begins_with_the_snapshot_of_another_and_the_log_stays_short(
    clock: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cluster_snapshots, "SNAPSHOT_EVERY", 0.2)
    monkeypatch.setattr(_cluster_snapshots, "KEPT", 0.1)

    async def scenario() -> None:
        nodes = Nodes()
        if clock == "stands still":  # as behind an engine whose clock was ahead
            nodes.engine.clock = lambda: 10**12
        async with nodes.up("a") as (a,):
            ann, hello = await open_client(a)
            await joined(ann)
            first = nodes.engine.entries[0].id
            await eventually(lambda: nodes.engine.snapshot is not None and nodes.engine.entries[0].id > first)
            async with nodes.up("b") as (b,):
                await ann.leave()  # by a close frame with 1000, which b hears of
                await eventually(lambda: b.core.connection_count == 0)
                bob, hello = await open_client(a)
                await joined(bob)
                await eventually(lambda: b.core.hub("chat").members("g"))
                back = await Client.open(recovery_url(b, hello))
                assert (await back.receive())["event"] == "connected"
                assert (await Rest(b)("POST", "/groups/g/:send", json=1)).status_code == 202
                assert (await back.receive())["data"] == 1
                await back.leave()

    webhook.run(scenario())


@pytest.mark.parametrize("kept", [None, 0])
def test_a_node_that_is_behind_when_a_snapshot_is_kept_goes_on(
    kept: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kept is not None:
        monkeypatch.setattr(_cluster_snapshots, "KEPT", kept)

    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a", "b") as (a, b):
            ann, _ = await open_client(b)
            await joined(ann)
            nodes.logs["b"].cut()  # as while it connects to the engine again, or stands still for a moment
            monkeypatch.setattr(_cluster_snapshots, "SNAPSHOT_BYTES", 0)
            bob, _ = await open_client(a, "bob")
            await bob.send(type="sendToGroup", group="g", data="meanwhile", ackId=1)
            assert (await bob.receive())["success"]
            await eventually(lambda: nodes.engine.snapshot and nodes.engine.snapshot.at > b._gateway._node.position)
            monkeypatch.undo()
            nodes.logs["b"].mend()
            if kept is None:
                assert (await ann.receive())["data"] == "meanwhile"
                assert not b._gateway.replica.fenced
            else:  # nobody may be behind for long: the log would grow
                assert await ann.close_code() == 1001
                assert "too slow for the log" in b._gateway.replica.fenced

    webhook.run(scenario())


def test_a_snapshot_that_the_engine_refuses_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(_cluster_snapshots, "SNAPSHOT_BYTES", 0)

    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a"):
            log = nodes.logs["a"]
            real = log.save_snapshot

            async def refuses(at: LogId, data: bytes, **kept: LogId) -> bool:
                raise EngineRefused("it is full")

            monkeypatch.setattr(log, "save_snapshot", refuses)
            await eventually(lambda: "it is full" in caplog.text)
            monkeypatch.setattr(log, "save_snapshot", real)
            before = nodes.engine.snapshot
            await eventually(lambda: nodes.engine.snapshot is not before)

    webhook.run(scenario())


def test_a_node_that_is_out_of_its_cluster_takes_no_snapshot(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            await open_client(a)
            a._gateway.replica.fence("its state differs")
            monkeypatch.setattr(_cluster_snapshots, "SNAPSHOT_BYTES", 0)
            last = nodes.engine.entries[-1].id
            nodes.logs["a"].append(b"more")
            await eventually(lambda: a._gateway._node.position > last)
            assert nodes.engine.snapshot is None
            assert "its state differs" in await asyncio.wait_for(a.expelled(), LIMIT)
        assert "this node has failed" not in caplog.text

    webhook.run(scenario())


def test_a_snapshot_that_cannot_be_used_is_refused() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        nodes.engine.snapshot = Snapshot(LogId(1, 0), b"damaged")
        with pytest.raises(ClusterRefused, match="snapshot"):
            await nodes.service("a").start()

    webhook.run(scenario())


def test_a_node_with_other_settings_is_refused() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a"):
            other = nodes.service("b", ServiceOptions(access_key="o" * 32))
            with pytest.raises(ClusterRefused, match="settings"):
                await other.start()

    webhook.run(scenario())


@pytest.mark.parametrize("snapshot_every", [0.0, 60.0], ids=["snapshot", "log alone"])
def test_other_settings_are_taken_once_all_nodes_were_stopped(
    snapshot_every: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_cluster_snapshots, "SNAPSHOT_EVERY", snapshot_every)

    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            ann, _ = await open_client(a)
            await joined(ann)
            await eventually(lambda: nodes.engine.snapshot is not None or snapshot_every)
            with pytest.raises(ClusterRefused, match="stop them all"):
                await nodes.service("b", ServiceOptions(access_key="o" * 32)).start()
        assert await ann.close_code() == 1001
        async with nodes.service("b", ServiceOptions(access_key="o" * 32)) as b:
            assert b.core.connection_count == 0
            bob, _ = await open_client(b)
            await joined(bob)
            assert len(b.core.hub("chat").members("g")) == 1
            with pytest.raises(ClusterRefused, match="settings"):
                await nodes.service("a").start()
            await bob.leave()

    webhook.run(scenario())


def test_a_node_whose_port_is_taken_leaves_its_cluster_again(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            with pytest.raises(OSError, match=str(a.port)):
                await nodes.service("b", port=a.port).start()
            await eventually(lambda: len(a._gateway.replica.members) == 1)
        assert "is in the cluster of 2" in caplog.text
        assert "silent" not in caplog.text

    caplog.set_level(logging.INFO, "limpet.service")
    webhook.run(scenario())


@pytest.mark.parametrize(
    ("options", "text"),
    [({}, "access key"), ({"access_key": KEY, "max_message_size": 4 << 20}, "max_message_size")],
)
def test_options_that_a_node_cannot_have_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Nodes().service("a", ServiceOptions(**options))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"cluster": "redis://localhost"}, "cluster must be ClusterOptions(...), not str"),
        ({"options": {"access_key": KEY}}, "options must be ServiceOptions(...), not dict"),
    ],
)
def test_a_url_in_place_of_options_is_refused_by_the_name_of_the_argument(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=re.escape(said)):
        Service(**arguments)


@pytest.mark.parametrize("wrong", [{}, {"url": "redis://x", "open_log": print}, {"url": "redis://x", "name": ""}])
def test_the_options_of_a_cluster_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"url of its log|name of a node"):
        ClusterOptions(**wrong)


def test_a_node_cuts_a_client_off_and_leaves_its_connection_to_the_log() -> None:
    async def scenario() -> None:
        async with Nodes().up("a", "b") as (a, b):
            client, hello = await open_client(a)
            with pytest.raises(RuntimeError, match="REST"):
                a.drop(hello["connectionId"], for_good=True)
            assert a.drop(hello["connectionId"])
            assert await client.close_code() == 1006
            back = await Client.open(recovery_url(b, hello))
            assert (await back.receive())["event"] == "connected"
            await back.leave()

    webhook.run(scenario())


def test_other_options_need_a_new_start() -> None:
    async def scenario() -> None:
        async with Nodes().up("a") as (a,):
            assert a.reload(ServiceOptions(access_key=KEY, max_connections=5)) == ("max_connections",)
            assert a.options.max_connections is None

    webhook.run(scenario())


def test_clients_wait_while_the_log_is_behind_and_lose_nothing() -> None:
    async def scenario() -> None:
        nodes = Nodes(append_delay=0.001, max_unread=4)
        async with nodes.up("a", "b") as (a, b):
            ann, _ = await open_client(a)
            bob, _ = await open_client(b, "bob", JSON)
            await joined(bob)
            nodes.engine.stop()

            async def flood() -> None:
                for number in range(2000):
                    await ann.send(type="sendToGroup", group="g", data=number)
                    await asyncio.sleep(0)

            flooding = asyncio.create_task(flood())
            await eventually(lambda: a._gateway.congested)
            nodes.engine.go_on()
            got = [(await bob.receive())["data"] for _ in range(2000)]
            assert got == [*range(2000)]
            await flooding
            await ann.leave()
            await bob.leave()

    webhook.run(scenario())


def test_the_number_of_connections_counts_in_the_whole_cluster() -> None:
    async def scenario() -> None:
        async with Nodes(ServiceOptions(access_key=KEY, max_connections=1)).up("a", "b") as (a, b):
            ann, _ = await open_client(a)
            status, text = await refusal(b.client_url())
            assert status == 429
            assert "All 1 connections" in text
            await ann.leave()

    webhook.run(scenario())


def test_a_request_behind_the_leave_of_its_node_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_waiting_writes, "_PATIENCE", 1e6)
    monkeypatch.setattr(_cluster_node, "LEASE", 1e6)

    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            nodes.engine.stop()
            a._gateway.shut_down()
            asked = asyncio.create_task(Rest(a)("POST", "/:send", json=1))
            await eventually(lambda: a._gateway._writes._waiting)
            nodes.engine.go_on()
            assert (await asked).status_code == 503

    webhook.run(scenario())


def test_a_node_stops_although_a_request_waits_for_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_waiting_writes, "_PATIENCE", 1e6)
    monkeypatch.setattr(_cluster_node, "LEASE", 1e6)

    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            nodes.engine.stop()
            asked = asyncio.create_task(Rest(a)("POST", "/:send", json=1))
            await eventually(lambda: a._gateway._writes._waiting)
            async with asyncio.timeout(LIMIT):
                await a.stop()
            with pytest.raises(httpx.TransportError):
                await asked

    webhook.run(scenario())


def test_a_client_that_leaves_before_it_is_let_in_leaves_nothing() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            nodes.engine.stop()
            url = httpx.URL(a.client_url())
            _, writer = await asyncio.open_connection("127.0.0.1", a.port)
            writer.write(
                f"GET {url.raw_path.decode()} HTTP/1.1\r\nHost: localhost:{a.port}\r\nConnection: Upgrade\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n"
                "\r\n".encode()
            )
            await eventually(lambda: a._gateway._undecided)
            writer.close()
            await eventually(lambda: not a._gateway._undecided)
            nodes.engine.go_on()
            # The end of the client is appended in the turn in which its beginning is read.
            await eventually(lambda: not nodes.logs["a"].state.unread_entries)
            assert a.core.connection_count == 0

    webhook.run(scenario())


def test_a_client_that_is_sent_away_before_it_is_let_in_leaves_nothing() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            nodes.logs["a"].cut()
            status, _ = await refusal(a.client_url())
            assert status == 503
            nodes.logs["a"].mend()
            await eventually(lambda: nodes.logs["a"].state.unread_entries == 0)
            await eventually(lambda: a.core.connection_count == 0)

    webhook.run(scenario())


def test_a_client_whose_recovery_is_refused_at_once_waits_for_nothing_more() -> None:
    async def scenario() -> None:
        async with Nodes().up("a") as (a,):
            client, hello = await open_client(a)
            back = await Client.open(recovery_url(a, hello | {"reconnectionToken": "wrong"}))
            # Else the client's answer to the close is not read, and its connection stays for five seconds.
            assert [vars(connection)["_pending"] for connection in a._connections()] == [None, None]
            assert await back.close_code() == 1008
            await client.leave()

    webhook.run(scenario())


def test_no_timer_is_left_of_a_node_whose_start_is_cancelled() -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("b"):
            late = Nodes(append_delay=LIMIT)
            late.engine = nodes.engine
            a = late.service("a")
            starting = asyncio.create_task(a.start())
            await eventually(lambda: late.logs["a"].state.unread_entries if late.logs else 0)
            starting.cancel()
            with pytest.raises(asyncio.CancelledError):  # while b goes on to write
                await starting
            assert a._gateway._timer is None

    webhook.run(scenario())


def test_operations_wait_while_the_log_is_behind() -> None:
    async def scenario() -> None:
        nodes = Nodes(max_unread_bytes=100_000)
        async with nodes.up("a", "b") as (a, b):
            bob, _ = await open_client(b, "bob")
            nodes.engine.stop()
            rest, body = Rest(a), "x" * 100_000
            sending = [asyncio.create_task(rest("POST", "/:send", json=f"{each}{body}")) for each in range(5)]
            await eventually(lambda: len(a._gateway._when_free) == len(sending) - 1)
            assert nodes.logs["a"].state.unread_bytes < 3 * len(body)
            nodes.engine.go_on()
            assert [(await each).status_code for each in sending] == [202] * len(sending)
            got = sorted([(await bob.receive())["data"][0] for _ in sending])
            assert got == ["0", "1", "2", "3", "4"]
            await bob.leave()

    webhook.run(scenario())


def test_operations_that_wait_for_a_log_that_is_behind_are_refused_at_the_end() -> None:
    async def scenario() -> None:
        nodes = Nodes(max_unread_bytes=10)
        a = nodes.service("a")
        await a.start()
        nodes.engine.stop()
        await eventually(lambda: a._gateway.congested)
        waiting = asyncio.create_task(a._gateway.carry_out(Close("chat", "hub", "")))
        await eventually(lambda: a._gateway._when_free)
        await a.stop()
        with pytest.raises(OperationError, match="does not reach the log"):
            await waiting

    webhook.run(scenario())


def test_a_client_that_is_not_read_since_the_log_is_behind_is_not_silent() -> None:
    async def scenario() -> None:
        nodes = Nodes(ServiceOptions(access_key=KEY, keepalive_interval=600), max_unread_bytes=1000)
        async with nodes.up("a") as (a,):
            ann, _ = await open_client(a)
            nodes.engine.stop()
            await ann.send(type="joinGroup", group="g" * 1000)
            await eventually(lambda: a._gateway.congested)
            await ann.send(type="joinGroup", group="g", ackId=1)
            (connection,) = a._connections()
            await eventually(lambda: vars(connection)["_turn_scheduled"])
            for _ in range(3):
                methodcaller("_ping")(connection)
            nodes.engine.go_on()
            assert (await ann.receive())["success"]
            await ann.leave()

    webhook.run(scenario())


def test_a_client_that_is_refused_while_the_log_stands_still_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_cluster_node, "LEASE", 1e6)

    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            nodes.engine.stop()
            asked = asyncio.create_task(refusal(a.client_url()))
            await eventually(lambda: a._gateway._undecided)
            monkeypatch.setattr(_cluster_node, "LEASE", 0.0)
            status, _ = await asked
            assert status == 503
            nodes.engine.go_on()
            await eventually(lambda: not nodes.logs["a"].state.unread_entries)
            assert a.core.connection_count == 0

    webhook.run(scenario())


def test_a_node_that_cannot_append_an_entry_ends(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a", "b") as (a, b):
            ann, hello = await open_client(a)

            def refuses(entry: bytes) -> None:
                raise ValueError("the entry is too large")

            monkeypatch.setattr(nodes.logs["a"], "append", refuses)
            await ann.send(type="joinGroup", group="g", ackId=1)
            assert await ann.close_code() == 1001
            assert "the entry is too large" in await asyncio.wait_for(a.expelled(), LIMIT)
            assert (await refusal(a.client_url()))[0] == 503
            back = await Client.open(recovery_url(b, hello))
            assert (await back.receive())["event"] == "connected"
            await joined(back)  # which is carried out here, and was not there
            await back.leave()

    webhook.run(scenario())
    assert caplog.text.count("an entry could not be appended") == 1


def test_a_node_whose_log_has_lost_entries_ends_also_if_it_cannot_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a") as (a,):
            ann, _ = await open_client(a)

            def refuses(entry: bytes) -> None:
                raise RuntimeError("the log is closed")

            monkeypatch.setattr(nodes.logs["a"], "append", refuses)
            nodes.engine.restart_empty()
            assert await ann.close_code() == 1008
            assert "lost entries" in await asyncio.wait_for(a.expelled(), LIMIT)

    webhook.run(scenario())


def test_no_event_handler_is_asked_about_a_client_for_whom_there_is_no_room() -> None:
    async def scenario() -> None:
        async with webhook.webhook() as hook:
            options = dataclasses.replace(hook.options(), max_connections=1)
            async with Nodes(options).up("a", "b") as (a, b):
                client = await Client.open(b.client_url("chat", user_id="ann"))
                await hook.next("connect")
                await client.receive()
                await hook.next("connected")
                await eventually(lambda: a.core.connection_count == 1)
                for service in (a, b):
                    status, text = await refusal(service.client_url("chat"))
                    assert (status, text.strip()) == (
                        429,
                        "All 1 connections of this service are taken. Try again later.",
                    )
                await client.leave()
                await hook.next("disconnected")
                assert hook.requests.empty()

    webhook.run(scenario())


def test_the_state_of_a_node_can_be_looked_at_and_not_changed() -> None:
    async def scenario() -> None:
        async with Nodes().up("a") as (a,):
            client, hello = await open_client(a)
            await joined(client)
            core = a.core
            assert isinstance(core, ServiceCore)
            (member,) = core.hub("chat").members("g")
            assert core.connection(hello["connectionId"]) is member
            for name in CHANGES | {"give_up", "forget_everything", "begin_entry"}:
                with pytest.raises(RuntimeError, match=f"Service.core.{name} at a node of a cluster.*REST API"):
                    getattr(core, name)
            with pytest.raises(RuntimeError, match=r"Service.core.limits at a node of a cluster.*REST API"):
                core.limits = Limits()
            with pytest.raises(RuntimeError, match=r"Service.core.limits at a node of a cluster.*REST API"):
                del core.limits
            await client.leave()
            await eventually(lambda: core.connection_count == 0)

    webhook.run(scenario())


def test_every_public_method_of_the_logic_is_known_as_a_change_or_as_a_look() -> None:
    looks = {"connection", "group_states", "handler_decides", "hub"}
    public = {name for name, kind in vars(ServiceCore).items() if callable(kind)} | {
        name for base in ServiceCore.__mro__[1:-1] for name, kind in vars(base).items() if callable(kind)
    }
    assert {name for name in public if not name.startswith("_")} == CHANGES | looks


def test_a_node_that_is_behind_serves_its_clients_while_it_catches_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        nodes = Nodes()
        async with nodes.up("a", "b") as (a, b):
            ann, _ = await open_client(a)
            bob, _ = await open_client(b, "bob", JSON)
            await joined(bob)
            nodes.logs["b"].cut()
            for number in range(30):
                await ann.send(type="sendToGroup", group="g", data="x" * 1000, ackId=number)
                assert (await ann.receive())["success"]
            turn, applied = 0, dict[int, int]()
            real, loop = b._gateway.replica.apply, asyncio.get_running_loop()

            def count() -> None:
                nonlocal turn
                turn += 1
                if len(applied) < 3:
                    loop.call_soon(count)

            def apply(position: str, time: float, data: bytes) -> None:
                applied[turn] = applied.get(turn, 0) + len(data)
                real(position, time, data)

            monkeypatch.setattr(b._gateway.replica, "apply", apply)
            count()
            nodes.logs["b"].mend()
            for _ in range(30):
                assert len((await bob.receive())["data"]) == 1000
            assert len(applied) >= 3
            assert max(applied.values()) < 10_000
            await ann.leave()
            await bob.leave()

    webhook.run(scenario())
