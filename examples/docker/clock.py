"""The application of the compose example: publish the time every second, and print what arrives.

It makes its URLs with the key that it shares with the service. An application for the cloud service has a connection
string in place of both, and works the same.
"""

import asyncio
import os
from datetime import UTC, datetime
from pathlib import Path

from limpet import Recovered, Recovering
from limpet.asyncio import Client
from limpet.service import client_url

ROLES = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"]


def url() -> str:
    """Return a URL with a fresh token; the client asks for one whenever it makes a new connection."""
    key = Path(os.environ["LIMPET_ACCESS_KEY_FILE"]).read_text("utf-8").strip()
    connection_string = f"Endpoint={os.environ['LIMPET_ENDPOINT']};AccessKey={key};Version=1.0;"
    return client_url(connection_string, "chat", user_id="clock", roles=ROLES)


async def main() -> None:
    client = Client(url)
    client.on(Recovering, lambda event: print("connection lost:", event.reason, flush=True))
    client.on(Recovered, lambda event: print("connection recovered", flush=True))
    async with client, client.subscribe("clock") as messages, asyncio.TaskGroup() as tasks:
        tasks.create_task(tick(client))
        async for message in messages:
            print("it is", message.data, flush=True)


async def tick(client: Client) -> None:
    while True:
        await client.send_to_group("clock", datetime.now(UTC).isoformat(timespec="seconds"))
        await asyncio.sleep(1)


asyncio.run(main())
