"""``limpet demo``: publish through connections that are cut again and again, and count the deliveries."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Coroutine
from contextlib import nullcontext
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from limpet import Backoff, Disconnected, Options, Recovered
from limpet.asyncio import Client
from limpet.cli._console import console as new_console
from limpet.cli._options import ALL_ROLES, Number, verbose_option
from limpet.cli._running import log_to_stderr, run
from limpet.service import Service
from limpet.testing._tally import Tally
from limpet.testing.network import ChaosProxy

GROUP = "demo"

# Several cuts a second: recover faster than is sensible on a real network.
OPTIONS = Options(
    recovery_interval=0.05,
    connect_timeout=5.0,
    reconnect=Backoff(initial=0.05, maximum=1.0),
    max_pending_requests=100_000,
)


@dataclasses.dataclass
class Score:
    """The counts of the demo.

    Attributes:
        tallies: of each subscriber.
        asked: messages that the publisher has begun to send.
        published: messages that were acknowledged.
        repeated: published messages whose ack was lost in a cut; the service executed each of them once.
        recoveries: recovered connections.
        reconnects: connections that could not be recovered.
        cuts: connections cut by the proxy.
        delivery: set at each delivery.
    """

    tallies: list[Tally]
    asked: int = 0
    published: int = 0
    repeated: int = 0
    recoveries: int = 0
    reconnects: int = 0
    cuts: int = 0
    delivery: asyncio.Event = dataclasses.field(default_factory=asyncio.Event)

    @property
    def delivered(self) -> int:
        """The deliveries to all subscribers."""
        return sum(tally.delivered for tally in self.tallies)

    @property
    def lost(self) -> int:
        """The missing deliveries; a message counts once for each subscriber."""
        return sum(tally.lost(self.published) for tally in self.tallies)

    @property
    def duplicated(self) -> int:
        """The repeated deliveries."""
        return sum(tally.duplicated for tally in self.tallies)

    @property
    def out_of_order(self) -> int:
        """The deliveries after one with a higher number."""
        return sum(tally.out_of_order for tally in self.tallies)

    def table(self, title: str, *, final: bool) -> Table:
        """Return the score as a table; the number of lost messages is known only at the end."""
        table = Table(title=title, show_header=False, title_justify="left")
        table.add_column(min_width=48)
        table.add_column(justify="right", min_width=9)
        table.add_row("published", f"{self.published:,}")
        table.add_row(f"delivered to {len(self.tallies)} subscribers", f"{self.delivered:,}")
        for name, value in (
            ("lost", self.lost if final else None),
            ("duplicated", self.duplicated),
            ("out of order", self.out_of_order),
        ):
            style = "bold red" if value else "bold green"
            table.add_row(name, f"[{style}]{value:,}[/]" if value is not None else "...")
        table.add_section()
        table.add_row("connections cut", f"{self.cuts:,}")
        table.add_row("recoveries", f"{self.recoveries:,}")
        table.add_row("requests whose ack was lost, executed once", f"{self.repeated:,}")
        table.add_row("connections lost for good", f"{self.reconnects:,}")
        if final and self.recoveries < self.cuts:
            table.caption = (
                "Fewer recoveries than cuts: a connection that is cut again before its recovery is recovered once."
            )
        return table


@click.command("demo", short_help="Lose no message while connections are cut.")
@click.option("--seconds", default=12.0, show_default=True, type=Number(1, 300), help="How long to publish.")
@click.option("--rate", default=600, show_default=True, type=click.IntRange(1, 2000), help="Messages a second.")
@click.option("--subscribers", default=3, show_default=True, type=click.IntRange(1, 20), help="Clients that read.")
@click.option("--seed", type=int, help="Repeat an earlier schedule of cuts.")
@verbose_option
def demo(seconds: float, rate: int, subscribers: int, seed: int | None, verbose: bool) -> None:
    """Show that no message is lost: publish through connections that are cut again and again.

    All parts run on this machine: the local service, a publisher and subscribers over real sockets, and a proxy
    between them that cuts the connections. The exit status is 0 only if no message was lost, duplicated or out of
    order.
    """
    log_to_stderr(verbose)
    run(_demo(seconds, rate, subscribers, seed))


async def _demo(seconds: float, rate: int, subscribers: int, seed: int | None) -> int:
    """Run the demo. Return the exit status: 0 if no message was lost, duplicated or out of order."""
    seed = random.randrange(1_000_000) if seed is None else seed
    console = new_console()
    console.print(
        f"A publisher and {subscribers} subscribers talk through the local service for {seconds:g} s, while a proxy "
        f"cuts their connections (seed {seed}).\n",
    )
    score = Score([Tally() for _ in range(subscribers)])
    async with Service() as service, ChaosProxy(service.host, service.port) as proxy:
        # The audience of the token is the service itself; only the connection goes through the proxy.
        urls = [
            service.client_url(user_id=name, roles=ALL_ROLES).replace(f":{service.port}/", f":{proxy.port}/", 1)
            for name in ("publisher", *(f"subscriber-{index + 1}" for index in range(subscribers)))
        ]
        clients = [Client(url, OPTIONS) for url in urls]
        for client in clients:
            client.on(Recovered, lambda _: _add(score, "recoveries"))
            client.on(Disconnected, lambda event: _add(score, "reconnects") if event.code != 1000 else None)
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(client.start())
        readers = [
            asyncio.create_task(_read(client, tally, score.delivery))
            for client, tally in zip(clients[1:], score.tallies, strict=True)
        ]
        for client in clients[1:]:
            await client.join_group(GROUP)
        work = _run(clients[0], proxy, score, seconds, rate, random.Random(seed))
        await _watch(console, score, proxy, seconds, work)
        for client in clients:
            await client.stop()
        await asyncio.gather(*readers)
    console.print(score.table("Result", final=True))
    good = not (score.lost or score.duplicated or score.out_of_order) and score.published > 0
    console.print("[bold green]Nothing lost, nothing twice, everything in order.[/]" if good else "[bold red]FAILED[/]")
    return 0 if good else 1


def _add(score: Score, name: str) -> None:
    setattr(score, name, getattr(score, name) + 1)


async def _read(client: Client, tally: Tally, delivery: asyncio.Event) -> None:
    async for message in client:
        tally.add(message.data)
        delivery.set()


async def _run(
    publisher: Client, proxy: ChaosProxy, score: Score, seconds: float, rate: int, chance: random.Random
) -> None:
    """Publish at a steady rate through a proxy that cuts connections, then wait for the deliveries."""
    cutter = asyncio.create_task(_cut(proxy, chance))
    requests: set[asyncio.Task[None]] = set()
    begin = time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        while score.asked < elapsed * rate:
            task = asyncio.create_task(_publish(publisher, score, score.asked))
            requests.add(task)
            task.add_done_callback(requests.discard)
            score.asked += 1
        await asyncio.sleep(0.01)
    await asyncio.gather(*requests)
    cutter.cancel()
    await asyncio.gather(cutter, return_exceptions=True)
    proxy.resume()
    proxy.accept()
    try:
        async with asyncio.timeout(15):
            while score.lost > 0:
                score.delivery.clear()
                await score.delivery.wait()
    except TimeoutError:
        return  # the table shows the lost messages


async def _publish(publisher: Client, score: Score, number: int) -> None:
    ack = await publisher.send_to_group(GROUP, number)
    score.published += 1
    score.repeated += ack.duplicate


async def _cut(proxy: ChaosProxy, chance: random.Random) -> None:
    """Cut connections in all ways of the proxy until this task is cancelled."""
    while True:
        await asyncio.sleep(chance.uniform(0.05, 0.25))
        match chance.randrange(5):
            case 0:
                proxy.cut(reset=True)
            case 1:
                proxy.cut(reset=False)
            case 2:
                # Messages still arrive at the service, but their acks do not come back.
                proxy.cut_after(chance.randrange(1, 400), direction="to_client")
            case 3:
                proxy.cut_after(chance.randrange(1, 400), direction="to_service")
            case _:
                proxy.stall()
                await asyncio.sleep(chance.uniform(0.02, 0.1))
                proxy.cut(reset=True)
                proxy.resume()


async def _watch(
    console: Console, score: Score, proxy: ChaosProxy, seconds: float, work: Coroutine[Any, Any, None]
) -> None:
    """Show the score while ``work`` runs: a live table with a bar on a terminal, else a line every two seconds."""
    task = asyncio.create_task(work)
    bar = Progress(TextColumn("{task.description:<15}"), BarColumn(bar_width=44), console=console)
    done = bar.add_task("", total=seconds)
    begin = time.monotonic()
    moves = console.is_terminal and not console.is_dumb_terminal
    try:
        with Live(console=console, transient=True, auto_refresh=False) if moves else nullcontext() as live:
            while not task.done():
                await asyncio.wait([task], timeout=0.2 if live else 2.0)
                score.cuts = proxy.cuts
                elapsed = time.monotonic() - begin
                if live:
                    bar.update(done, completed=elapsed, description=_left(seconds - elapsed))
                    live.update(Group(score.table("Running", final=False), bar), refresh=True)
                elif not task.done():
                    console.print(
                        f"published {score.published:,}, delivered {score.delivered:,}, cuts {score.cuts:,}, "
                        f"recoveries {score.recoveries:,}; {_left(seconds - elapsed)}"
                    )
        await task
    finally:
        task.cancel()


def _left(seconds: float) -> str:
    return f"{seconds:.0f} s left" if seconds >= 0.5 else "last deliveries"
