"""What the driver does with the transport that its loop gives it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop
from tests.adapters.harness import GROUP, options, soon, url_of

from limpet import GroupMessage
from limpet.asyncio import Client
from limpet.service import Service
from limpet_core.service import group_publication

MESSAGE = "x" * 1000
COUNT = 900


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_a_flood_leaves_others_their_turn(run: Any) -> None:
    """No more than so many bytes are taken in one turn of the loop, whatever the loop would give."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        turns = [0]
        flooding = True

        def next_turn() -> None:
            turns.append(0)
            if flooding:
                loop.call_soon(next_turn)

        def take(message: GroupMessage) -> None:
            turns[-1] += len(message.data)

        async with Service() as service, Client(url_of(service), options()) as client:
            client.on(GroupMessage, take)
            await client.join_group(GROUP)
            publication = group_publication(GROUP, None, "text", b'"%b"' % MESSAGE.encode())
            for _ in range(COUNT):
                service.core.send_to_group("chat", GROUP, publication)
            service.flush()
            # Let it all arrive before the client reads: a whole megabyte is there then, in one go.
            client._driver._transport.read(False)  # type: ignore[union-attr]
            await asyncio.sleep(0.2)
            next_turn()
            client._driver._transport.read(True)  # type: ignore[union-attr]
            await soon(lambda: sum(turns) == COUNT * len(MESSAGE))
            flooding = False
        assert max(turns) <= 2 * 256 * 1024
        assert sum(map(bool, turns)) >= 3

    run(scenario())
