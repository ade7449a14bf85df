"""Against one real server: how entries travel, their size, what others write, and cells."""

from __future__ import annotations

import asyncio
import re
import subprocess
from typing import Any

import pytest
from tests.helpers.waiting import turns
from tests.service.cluster.nodes import Node, opened, run, until
from tests.service.cluster.servers import Servers

from limpet.service.cluster import MAX_ENTRY
from limpet.service.cluster._redis_connection import Connection


class Overheard:
    """A transport that notes what is written."""

    def __init__(self, transport: Any, writes: list[bytes]) -> None:
        self._transport = transport
        self._writes = writes

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def test_the_entries_of_one_turn_travel_in_one_write(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    server = servers()
    writes: list[bytes] = []
    made = Connection.connection_made
    monkeypatch.setattr(Connection, "connection_made", lambda self, real: made(self, Overheard(real, writes)))  # type: ignore[arg-type]

    async def scenario() -> None:
        node = Node(await opened(server.url), "a")
        writes.clear()
        node.append(50)
        assert writes == []
        await turns(2)
        (write,) = writes
        assert write.count(b"XADD") == 50
        node.start()
        await node.until_read()
        await node.leave()

    run(scenario)


def test_the_engine_is_called_as_it_calls_itself(servers: Servers) -> None:
    server = servers()
    # Such as "Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"
    named = subprocess.run([server.program, "--version"], capture_output=True, text=True, timeout=60).stdout
    found = re.match(r"(\w+) server v=(\S+) ", named)
    assert found is not None, named

    async def scenario() -> None:
        log = await opened(server.url)
        assert log.state.engine == f"{found[1]} {found[2]}"
        server.kill()
        await until(lambda: log.state.primary is None)
        assert log.state.engine is None

    run(scenario)


def test_large_entries_arrive_whole(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        node = Node(await opened(server.url), "a")
        node.append(10, size=MAX_ENTRY - 20)
        node.start()
        await node.until_read()
        assert all(len(entry.data) > MAX_ENTRY - 20 for entry in node.raw)
        for wrong in (b"", b"x" * (MAX_ENTRY + 1)):
            with pytest.raises(ValueError, match="an entry has 1 to"):
                node.log.append(wrong)
        await node.leave()

    run(scenario)


def test_what_others_write_into_the_log_is_left_out(servers: Servers, caplog: pytest.LogCaptureFixture) -> None:
    server = servers()
    key = "{limpet:0}:log"

    async def scenario() -> None:
        node = Node(await opened(server.url), "a")
        node.start()
        server("XADD", key, "*", "other", "1")
        node.append()
        await node.until_read()
        server("XADD", key, "*", "e", "b:1:", "more", "1")
        server("XADD", key, "*", "other", "2")
        await until(lambda: "left out" in caplog.text)
        node.append()
        await node.until_read()
        assert node.counted == ["a:1", "a:2"]
        await node.leave()

    run(scenario)


def test_cells_of_one_engine_have_logs_of_their_own(servers: Servers) -> None:
    server = servers()

    async def scenario() -> None:
        one = Node(await opened(server.url, cell="1"), "a")
        two = Node(await opened(server.url, cell="2"), "b")
        for node in (one, two):
            node.start()
            node.append(10)
            await node.until_read()
        assert len(one.raw) == len(two.raw) == 10
        assert sorted(server("KEYS", "*")) == [b"{limpet:1}:log", b"{limpet:2}:log"]
        await one.leave()
        await two.leave()

    run(scenario)
    with pytest.raises(ValueError, match="a cell has"):
        asyncio.run(opened(server.url, cell="a}b"))


def test_another_event_loop(servers: Servers) -> None:
    uvloop = pytest.importorskip("uvloop")
    server = servers()

    async def scenario() -> None:
        node = Node(await opened(server.url), "a")
        node.start()
        node.append(200)
        await node.until_read()
        await node.leave()

    run(scenario, uvloop.new_event_loop)
