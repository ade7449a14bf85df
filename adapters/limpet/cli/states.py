"""``limpet state``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import click

from limpet import GroupStatesChanged
from limpet.asyncio import Client
from limpet.cli._options import Source, Url, client_options, pairs_of, verbose_option
from limpet.cli._reports import (
    EVENTS,
    LIFECYCLE,
    as_json_line,
    json_line,
    name_of,
    note,
    note_connected,
    print_event,
    report,
)
from limpet.cli._running import log_to_stderr, run
from limpet_core.text import escape


@click.command("state", short_help="Set and watch the states of a group.")
@client_options
@click.argument("group", metavar="GROUP")
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--count", type=click.IntRange(min=1), help="Stop after this many lines.")
@click.option("--json", "as_json", is_flag=True, help="Print each change as one line of JSON.")
@verbose_option
def state(source: Source, group: str, pairs: tuple[str, ...], count: int | None, as_json: bool, verbose: bool) -> None:
    """Print the states of the connections in GROUP, and each change of them.

    With KEY=VALUE, join GROUP first and set the own state there. It lasts until the command ends: Ctrl-C, SIGTERM and
    SIGHUP close the connection; the exit status is 130, 143 or 129 then, and 141 if the output is a pipe that is not
    read any more.
    """
    log_to_stderr(verbose)
    run(_show_states(source.url(), group, pairs_of(pairs, "the state "), count, as_json), prints=True)


async def _show_states(url: Url, group: str, own: Mapping[str, str], count: int | None, as_json: bool) -> None:
    """Print the states of ``group`` and their changes, ``count`` lines if it is given; set the own state, if any."""
    client = Client(url)
    for event_type in LIFECYCLE if as_json else EVENTS:
        client.on(event_type, print_event if as_json else report)
    async with client:
        if not as_json:
            note_connected(client)
        if own:
            await client.join_group(group)
            await client.set_group_state(group, own)
        async with client.watch_group_states(group) as states:
            told = as_json
            async for change in states:
                if not told and not states and change.error is None:
                    note(f"nobody has a state in {name_of(group)}; each change is printed")
                told = True
                for line in _json_lines(change) if as_json else _lines(change):
                    click.echo(line)
                    if count is not None:
                        count -= 1
                        if not count:
                            return
                if change.error is not None:
                    raise change.error


def _json_lines(change: GroupStatesChanged) -> Iterator[str]:
    yield json_line("states", group=change.group, changed=change.changed, removed=change.removed)


def _lines(change: GroupStatesChanged) -> Iterator[str]:
    for each in change.changed:
        user = f" {name_of(each.user_id)}" if each.user_id else ""
        yield escape(f"{name_of(each.connection_id)}{user}: {as_json_line(each.state)}")
    for connection_id in change.removed:
        yield escape(f"{name_of(connection_id)}: gone")
