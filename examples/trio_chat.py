"""The same chat in trio: the client lives in a nursery, and `async with` cleans up.

python examples/trio_chat.py URL     (type lines; Ctrl-D ends)
"""

import sys
from collections.abc import AsyncIterable

import trio

from limpet import GroupMessage
from limpet.trio import Client


async def show(messages: AsyncIterable[GroupMessage]) -> None:
    async for message in messages:
        print(f"{message.from_user_id or 'somebody'}: {message.data}", flush=True)


async def main(url: str) -> None:
    async with Client(url) as client, client.subscribe("lobby") as messages, trio.open_nursery() as nursery:
        nursery.start_soon(show, messages)
        while line := await trio.to_thread.run_sync(sys.stdin.readline):
            await client.send_to_group("lobby", line.rstrip())
        messages.close()


if len(sys.argv) != 2:
    sys.exit(__doc__)
trio.run(main, sys.argv[1])
