"""``limpet bench``: how many messages a second a service passes on, and how long each takes."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
import time
from array import array
from collections.abc import Sequence
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from limpet import GroupMessage, Options
from limpet.asyncio import Client
from limpet.cli._console import console
from limpet.cli._options import Number, Source, Url, client_options, verbose_option
from limpet.cli._reports import as_json_line, note
from limpet.cli._running import log_to_stderr, run

# A message begins with the name of the run and a number of so many digits; the smallest size has room for both.
_DIGITS: Final = 7
_NUMBERED: Final = 4 + 1 + _DIGITS
_MOST: Final = 10**_DIGITS - 1

# Seconds without a delivery after which the rest counts as lost.
_PATIENCE: Final = 10.0

_PERCENTILES: Final = (50, 90, 99)


@dataclasses.dataclass
class Figures:
    """What is measured. Times are seconds.

    Attributes:
        published: messages that the service has acknowledged, or that were sent if none is.
        delivered: to all subscribers.
        publishing: from the first message to the last answer.
        until_last: from the first message to the last delivery.
        answers: from sending a message to its acknowledgement.
        deliveries: from sending a message to its arrival at a subscriber.
    """

    published: int = 0
    delivered: int = 0
    publishing: float = 0.0
    until_last: float = 0.0
    answers: array[float] = dataclasses.field(default_factory=lambda: array("d"))
    deliveries: array[float] = dataclasses.field(default_factory=lambda: array("d"))


@click.command("bench", short_help="Measure messages a second and latencies.")
@click.argument("address", metavar="[URL]", required=False)
@client_options
@click.option("--group", help="Group to publish to; by default one that nobody else knows.")
@click.option("--count", type=click.IntRange(1, _MOST), help="Stop after this many messages.")
@click.option(
    "--seconds",
    type=Number(0, 3600, min_open=True),
    help="Stop after this time.  [default: 5, without --count]",
)
@click.option(
    "--size",
    default=128,
    show_default=True,
    type=click.IntRange(_NUMBERED, 1_000_000),
    help="Characters of a message, one byte each.",
)
@click.option(
    "--in-flight",
    default=100,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Messages that may wait for their acknowledgement at a time; 1 measures the time of each alone.",
)
@click.option("--subscribers", default=1, show_default=True, type=click.IntRange(0, 1000), help="Clients that read.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as one line of JSON.")
@verbose_option
def bench(
    source: Source,
    address: str | None,
    group: str | None,
    count: int | None,
    seconds: float | None,
    size: int,
    in_flight: int,
    subscribers: int,
    as_json: bool,
    verbose: bool,
) -> None:
    """Publish to a group as fast as the service answers; print messages a second and latencies.

    URL is what --url takes. Publisher and subscribers are in this one process: on a fast network it is the limit, not
    the service. Do not try it on a service that others need: it sends as much as it can.

    The exit status is 1 if a message did not arrive.
    """
    log_to_stderr(verbose)
    if seconds is None and count is None:
        seconds = 5.0
    url = source.url() if address is None else address
    plan = Plan(group or f"bench-{secrets.token_hex(8)}", count, seconds, size, in_flight, subscribers)
    run(_bench(url, plan, as_json))


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is to be done; ``count`` or ``seconds`` may be None, whichever is reached first ends it."""

    group: str
    count: int | None
    seconds: float | None
    size: int
    in_flight: int
    subscribers: int


async def _bench(url: Url, plan: Plan, as_json: bool) -> int:
    options = Options(max_pending_requests=max(plan.in_flight + 1, Options().max_pending_requests))
    clients = [Client(url, options) for _ in range(1 + plan.subscribers)]
    publisher, readers = clients[0], clients[1:]
    trial = _Trial(plan, publisher)
    try:
        for client in clients:  # one after the other: a service may limit how many come at once
            await client.start()
        for reader in readers:
            reader.on(GroupMessage, trial.received)
            await reader.join_group(plan.group)
        if not as_json:
            note(f"publishing to {plan.group}, {_bounds(plan)}, {_readers(plan)}; Ctrl-C stops it")
        figures = await trial.run()
    finally:
        for client in clients:
            await client.stop()
    lost = figures.published * plan.subscribers - figures.delivered
    if as_json:
        click.echo(as_json_line(_as_dict(plan, figures, lost)))
    else:
        _print(console(), figures, plan, lost)
    return 1 if lost > 0 else 0


class _Trial:
    """One run: the publisher numbers its messages, so that a reader finds the time at which one was sent."""

    def __init__(self, plan: Plan, publisher: Client) -> None:
        self._plan = plan
        self._publisher = publisher
        self._figures = Figures()
        self._sent_at = array("d")
        self._run = secrets.token_hex(2)  # messages of another run in the same group do not count
        self._progress = asyncio.Event()

    def received(self, message: GroupMessage) -> None:
        now = time.perf_counter()
        run, _, number = str(message.data)[:_NUMBERED].partition(":")
        if run != self._run or not number.isdecimal() or int(number) >= len(self._sent_at):
            return
        self._figures.deliveries.append(now - self._sent_at[int(number)])
        self._figures.delivered += 1
        self._progress.set()

    async def run(self) -> Figures:
        figures, plan = self._figures, self._plan
        begin = time.perf_counter()
        until = None if plan.seconds is None else begin + plan.seconds
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(plan.in_flight):
                    tasks.create_task(self._publish(until))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        figures.publishing = time.perf_counter() - begin
        wanted = figures.published * plan.subscribers
        try:
            while figures.delivered < wanted:
                self._progress.clear()
                async with asyncio.timeout(_PATIENCE):
                    await self._progress.wait()
        except TimeoutError:
            note(f"nothing has arrived for {_PATIENCE:g} seconds: {wanted - figures.delivered} deliveries are missing")
        figures.until_last = time.perf_counter() - begin
        return figures

    async def _publish(self, until: float | None) -> None:
        plan, figures, sent_at = self._plan, self._figures, self._sent_at
        count = _MOST if plan.count is None else plan.count
        while len(sent_at) < count:
            now = time.perf_counter()
            if until is not None and now >= until:
                return
            text = f"{self._run}:{len(sent_at):0{_DIGITS}}".ljust(plan.size, ".")
            sent_at.append(now)
            await self._publisher.send_to_group(plan.group, text)
            figures.answers.append(time.perf_counter() - now)
            figures.published += 1


def percentiles(times: Sequence[float]) -> dict[str, float] | None:
    """Return p50, p90, p99 and max of ``times``, or None if there are none: values that occurred, by nearest rank."""
    if not times:
        return None
    ordered = sorted(times)
    found = {f"p{percent}": ordered[-(-percent * len(ordered) // 100) - 1] for percent in _PERCENTILES}
    return {**found, "max": ordered[-1]}


def _rate(number: int, seconds: float) -> float:
    return number / seconds if seconds > 0 else 0.0


def _as_dict(plan: Plan, figures: Figures, lost: int) -> dict[str, Any]:
    """Return the figures for ``--json``; latencies are seconds."""
    return {
        "size": plan.size,
        "inFlight": plan.in_flight,
        "subscribers": plan.subscribers,
        "published": figures.published,
        "delivered": figures.delivered,
        "missing": lost,
        "seconds": round(figures.publishing, 6),
        "publishedPerSecond": round(_rate(figures.published, figures.publishing), 1),
        "deliveredPerSecond": round(_rate(figures.delivered, figures.until_last), 1),
        "ackSeconds": _rounded(percentiles(figures.answers)),
        "deliverySeconds": _rounded(percentiles(figures.deliveries)),
    }


def _rounded(times: dict[str, float] | None) -> dict[str, float] | None:
    return None if times is None else {name: round(seconds, 6) for name, seconds in times.items()}


def _readers(plan: Plan) -> str:
    return f"{plan.subscribers} subscriber{'s' if plan.subscribers != 1 else ''}"


def _bounds(plan: Plan) -> str:
    bounds = [f"{plan.count:,} messages"] if plan.count is not None else []
    bounds += [f"{plan.seconds:g} s"] if plan.seconds is not None else []
    return " or ".join(bounds)


def _print(console: Console, figures: Figures, plan: Plan, lost: int) -> None:
    rates = Table(title=f"{plan.size:,} bytes a message, {plan.in_flight:,} in flight", title_justify="left")
    rates.add_column("")
    for heading in ("messages", "a second", "MB a second"):
        rates.add_column(heading, justify="right")
    rows = [("published", figures.published, figures.publishing)]
    if plan.subscribers:
        rows.append((f"delivered to {plan.subscribers}", figures.delivered, figures.until_last))
    for name, number, seconds in rows:
        rate = _rate(number, seconds)
        rates.add_row(name, f"{number:,}", f"{rate:,.0f}", f"{rate * plan.size / 1e6:,.2f}")
    if lost > 0:
        rates.add_row("missing", f"[bold red]{lost:,}[/]", "", "")
    console.print(rates)
    times = Table(title="latency in milliseconds", title_justify="left")
    times.add_column("from sending to")
    for heading in (*(f"p{percent}" for percent in _PERCENTILES), "max"):
        times.add_column(heading, justify="right")
    for name, measured in (("acknowledgement", figures.answers), ("delivery", figures.deliveries)):
        found = percentiles(measured)
        if found is not None:
            times.add_row(name, *(f"{seconds * 1000:,.2f}" for seconds in found.values()))
    console.print(times)
