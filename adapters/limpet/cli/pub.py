"""``limpet pub``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import click

from limpet.asyncio import Client
from limpet.cli._input import data_options, values_of
from limpet.cli._options import Number, Source, Url, client_options, metadata_option, verbose_option
from limpet.cli._reports import EVENTS, note, report
from limpet.cli._running import log_to_stderr, run, user_errors
from limpet.cli.streams import write_stream

# Messages without an answer so far, with --rate: as many as a second brings on a slow network at a usual rate.
_UNANSWERED: Final = 1000

# Seconds by which --rate may be behind and catch up: a timer of the system is late by some milliseconds each time.
_CATCH_UP: Final = 0.1


@click.command("pub", short_help="Send messages to a group, or events to the server.")
@client_options
@click.argument("target", metavar="GROUP")
@click.argument("data", metavar="[DATA]...", nargs=-1)
@click.option("--event", is_flag=True, help="GROUP is the name of an event for the application server.")
@click.option("--stream", is_flag=True, help="Each DATA, or line, is a fragment of one stream.")
@data_options
@metadata_option
@click.option(
    "--ttl",
    metavar="SECONDS",
    type=float,
    help="The service drops what is not delivered after that time: at most 300, whole seconds (fractions are rounded "
    "up); 0: never.",
)
@click.option("--no-ack", is_flag=True, help="Do not wait for the service's answers; its errors are silent then.")
@click.option(
    "--rate",
    metavar="NUMBER",
    type=Number(min=0, min_open=True),
    help="Send so many messages a second, and do not wait for the answer to one before the next.",
)
@verbose_option
def pub(
    source: Source,
    target: str,
    data: tuple[str, ...],
    files: tuple[str, ...],
    form: str | None,
    event: bool,
    stream: bool,
    metadata: dict[str, str],
    ttl: float | None,
    no_ack: bool,
    rate: float | None,
    verbose: bool,
) -> None:
    """Send each DATA to GROUP and wait for the acknowledgement; without DATA, send each line of standard input.

    DATA that begins with '-' goes after '--': limpet pub room -- -5
    """
    log_to_stderr(verbose)
    if event and ttl is not None:
        raise click.UsageError("--ttl is for messages to a group: an event has no time to live")
    if stream and (event or no_ack or metadata or ttl is not None):
        raise click.UsageError("--stream goes with none of --event, --no-ack, --metadata and --ttl")
    url = source.url()

    def send(client: Client, value: Any) -> Awaitable[object]:
        if event and no_ack:
            return client.send_event(target, value, metadata=metadata, ack=False)
        if event:
            return client.send_event(target, value, metadata=metadata)
        if no_ack:
            return client.send_to_group(target, value, metadata=metadata, ttl=ttl, ack=False)
        return client.send_to_group(target, value, metadata=metadata, ttl=ttl)

    with user_errors():
        values = values_of(data, files, form)
    if rate is not None:
        values = _paced(values, rate)
    if stream:
        run(write_stream(url, target, values))
    run(_publish(url, values, send, at_once=1 if rate is None else _UNANSWERED, acknowledged=not no_ack))


async def _publish(
    url: Url,
    values: AsyncIterator[Any],
    send: Callable[[Client, Any], Awaitable[object]],
    *,
    at_once: int,
    acknowledged: bool,
) -> None:
    """Send each of ``values``, while less than ``at_once`` wait for their answers."""
    client = Client(url)
    for event_type in EVENTS:
        client.on(event_type, report)
    sent = 0
    free = asyncio.Semaphore(at_once)

    async def one(value: Any) -> None:
        nonlocal sent
        await send(client, value)
        sent += 1
        free.release()

    async with client:
        try:
            async with asyncio.TaskGroup() as tasks:
                async for value in values:
                    await free.acquire()
                    tasks.create_task(one(value))
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
    note(_summary(sent, acknowledged))


def _summary(sent: int, acknowledged: bool) -> str:
    return f"{sent} message{'s' if sent != 1 else ''} sent" + (" and acknowledged" if acknowledged else "")


async def _paced(values: AsyncIterator[Any], rate: float) -> AsyncIterator[Any]:
    """Yield ``values``, ``rate`` of them a second; the time in which there was none is not made up for."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    async for value in values:
        now = loop.time()
        if due > now:
            await asyncio.sleep(due - now)
        yield value
        due = max(due, now - _CATCH_UP) + 1 / rate
