"""``limpet sub``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection
from typing import Any

import click

from limpet import Event, GroupMessage, ServerMessage
from limpet.asyncio import Client
from limpet.cli._options import Source, Url, client_options, verbose_option
from limpet.cli._reports import (
    LIFECYCLE,
    data_as_text,
    json_line,
    message_line,
    name_of,
    note,
    note_connected,
    print_event,
    report,
)
from limpet.cli._running import log_to_stderr, run
from limpet.cli.streams import print_streams
from limpet_core.text import escape

_SERVER = "server"


@click.command("sub", short_help="Print the messages of groups.")
@client_options
@click.argument("groups", metavar="[GROUP]...", nargs=-1)
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many messages.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object a line: messages, and what happens to the connection, each with its type and time.",
)
@click.option("--streams", is_flag=True, help="Print streams alone, fragment by fragment; --count counts streams.")
@verbose_option
def sub(
    source: Source, groups: tuple[str, ...], count: int | None, as_json: bool, streams: bool, verbose: bool
) -> None:
    """Join GROUPs and print their messages, and messages from the server.

    Changes of the connection are reported on standard error, or with --json on standard output. Ctrl-C, SIGTERM and
    SIGHUP close the connection; the exit status is 130, 143 or 129 then, and 141 if the output is a pipe that is not
    read any more.
    """
    log_to_stderr(verbose)
    run((print_streams if streams else _subscribe)(source.url(), groups, count, as_json), prints=True)


async def _subscribe(url: Url, groups: Collection[str], count: int | None, as_json: bool) -> None:
    """Print messages, ``count`` of them if it is given."""
    client = Client(url)
    events: AsyncIterator[Any] = client.events(*LIFECYCLE, GroupMessage, ServerMessage)
    # From the start: while nobody takes the messages of the first group, the answers for the others must wait as well.
    printing = asyncio.create_task(_print_events(events, count, as_json))
    try:
        async with client:
            for group in groups:
                await client.join_group(group)
                if as_json:
                    click.echo(json_line("joined", group=group))
            if not as_json:
                note_connected(client)
                if not groups:
                    note("no GROUP was given: only messages to this user, this connection or the whole hub are printed")
            await printing
    finally:
        printing.cancel()


async def _print_events(events: AsyncIterator[Any], count: int | None, as_json: bool) -> None:
    show = _show_json if as_json else _show_text
    async for event in events:
        try:
            counts = show(event)
        except RecursionError:
            note("a message is not shown: it is nested too deeply")
            counts = True
        if counts and count is not None:
            count -= 1
            if not count:
                return


def _show_json(event: Event) -> bool:
    """Print an event or a message; return whether it is a message."""
    if not isinstance(event, GroupMessage | ServerMessage):
        print_event(event)
        return False
    if isinstance(event, GroupMessage) and event.stream is not None and event.stream.end:
        fault = event.stream.error
        error = None if fault is None else {"name": fault.name, "message": fault.message}
        click.echo(json_line("streamEnded", group=event.group, streamId=event.stream.stream_id, error=error))
        return False
    click.echo(message_line(event))
    return True


def _show_text(event: Event) -> bool:
    if not isinstance(event, GroupMessage | ServerMessage):
        report(event)
        return False
    if isinstance(event, GroupMessage) and event.stream is not None and event.stream.end:
        fault = event.stream.error
        how = "ended" if fault is None else f"failed: {fault.name}: {fault.message}"
        note(f"stream {name_of(event.stream.stream_id)} in {name_of(event.group)} {how}")
        return False
    click.echo(escape(f"{_sender(event)}: {data_as_text(event.data)}"))
    return True


def _sender(message: GroupMessage | ServerMessage) -> str:
    if isinstance(message, ServerMessage):
        return _SERVER
    if message.from_user_id:
        return f"{name_of(message.group)} {name_of(message.from_user_id)}"
    # Without a user behind it: a group can be called ``server``, too.
    return json.dumps(message.group) if message.group == _SERVER else name_of(message.group)
