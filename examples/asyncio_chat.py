"""A chat for the terminal: two asyncio tasks share one client.

python examples/asyncio_chat.py URL     (type lines; Ctrl-D ends)
"""

import asyncio
import sys

from limpet import GroupMessage
from limpet.asyncio import Client, EventStream


async def show(messages: EventStream[GroupMessage]) -> None:
    async for message in messages:
        print(f"{message.from_user_id or 'somebody'}: {message.data}", flush=True)


async def main(url: str) -> None:
    async with Client(url) as client, client.subscribe("lobby") as messages:
        showing = asyncio.create_task(show(messages))
        while line := await asyncio.to_thread(sys.stdin.readline):
            await client.send_to_group("lobby", line.rstrip())
        messages.close()
        await showing


if len(sys.argv) != 2:
    sys.exit(__doc__)
asyncio.run(main(sys.argv[1]))
