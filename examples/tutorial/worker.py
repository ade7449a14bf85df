"""The cook: gets orders, cooks them one after the other, and tells how far each one is."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable

import httpx

from limpet import Backoff, Connected, GroupMessage, MessagesMissed, Options, SendError
from limpet.asyncio import Client

Ticket = dict[str, str]

OPTIONS = Options(
    first_connection=Backoff(),  # the worker may start before the application server
    resend="always",  # to tell progress twice does no harm
)
http = httpx.AsyncClient(base_url="http://127.0.0.1:8000")


async def fresh_url() -> str:
    headers = {"Authorization": f"Bearer {os.environ['COOK_KEY']}"}
    answer = await http.get("/negotiate", params={"user": "cook"}, headers=headers)
    url: str = answer.raise_for_status().json()["url"]
    return url


async def all_tickets() -> list[Ticket]:
    tickets: list[Ticket] = (await http.get("/tickets")).raise_for_status().json()
    return tickets


async def tell(client: Client, ticket: Ticket, status: str) -> None:
    try:
        await client.send_event("progress", {"id": ticket["id"], "status": status})
    except SendError as error:
        print(f"{ticket['dish']}: {error}", flush=True)


async def cook(client: Client, all_tickets: Callable[[], Awaitable[list[Ticket]]], seconds: float = 3.0) -> None:
    """Start the client, and cook every ticket once until the client stops."""
    seen: set[str] = set()
    events = client.events(Connected, MessagesMissed, GroupMessage)  # before the start: Connected is the first one
    async with client:
        await client.set_group_state("board", {"doing": "waiting"})
        async for event in events:
            if isinstance(event, GroupMessage):
                tickets = [event.data] if event.group == "orders" else []
            else:  # messages may be missing: look at all tickets
                tickets = await all_tickets()
            for ticket in tickets:
                if ticket["id"] in seen or ticket["status"] == "ready":
                    continue
                seen.add(ticket["id"])
                print(f"cooking {ticket['dish']} for {ticket['guest']}", flush=True)
                await client.set_group_state("board", {"doing": f"cooking {ticket['dish']}"})
                await tell(client, ticket, "cooking")
                await asyncio.sleep(seconds)
                await tell(client, ticket, "ready")
                await client.set_group_state("board", {"doing": "waiting"})


async def main() -> None:
    task = asyncio.create_task(cook(Client(fresh_url, OPTIONS), all_tickets))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        print("the cook goes home", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
