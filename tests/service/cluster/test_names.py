"""Two nodes of one name: processes of their own, and a real engine."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.service.cluster.kill.node import EXPELLED
from tests.service.cluster.kill.processes import NodeProcess
from tests.service.cluster.servers import Servers

KEY = "k" * 32


def test_a_name_is_refused_while_its_node_lives_and_free_once_that_was_killed(servers: Servers) -> None:
    engine = servers()

    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as ends:

            async def node(number: int) -> NodeProcess:
                made = await NodeProcess.start(servers.folder, "north", number, key=KEY, url=engine.url)
                ends.push_async_callback(made.end)
                return made

            first = await node(1)
            with pytest.raises(AssertionError, match="the name north lives in the cluster already") as refused:
                await node(2)
            assert first.run in str(refused.value)
            assert "Traceback" not in str(refused.value)
            assert first.is_alive
            await first.kill()
            back = await node(3)
            assert back.run not in ("", first.run)
            assert back.is_alive

    asyncio.run(scenario())


def test_a_node_that_stood_still_keeps_its_name_and_the_one_that_came_meanwhile_ends(servers: Servers) -> None:
    engine = servers()

    async def scenario() -> None:
        async with contextlib.AsyncExitStack() as ends:

            async def node(number: int) -> NodeProcess:
                made = await NodeProcess.start(servers.folder, "north", number, key=KEY, url=engine.url)
                ends.push_async_callback(made.end)
                return made

            first = await node(1)
            first.stand_still()
            second = await node(2)
            first.go_on()
            # One of them goes on alone: the first if it was missed for less than four seconds, as the log has it.
            (ended,), (alive,) = await asyncio.wait(
                [asyncio.create_task(each.ended(), name=each.run) for each in (first, second)],
                return_when=asyncio.FIRST_COMPLETED,
            )
            assert ended.result() == EXPELLED
            said = {first.run: first, second.run: second}[ended.get_name()].said()
            assert "lives in the cluster already" in said or "goes on without this node" in said
            alive.cancel()
            await asyncio.wait([alive])

    asyncio.run(scenario())
