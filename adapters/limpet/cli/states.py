"""``limpet state``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import click

from limpet import GroupStatesChanged
from limpet.asyncio import Client
from limpet.cli._reports import EVENTS, as_json_line, name_of, note, report
from limpet_core.text import escape


def parse_state(pairs: tuple[str, ...]) -> dict[str, str]:
    """Return the state that ``KEY=VALUE ...`` says. Raises click.UsageError for what is no pair, or repeats a key."""
    state: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise click.UsageError(f"{pair!r} is not KEY=VALUE")
        if key in state:
            raise click.UsageError(f"{key!r} is given twice: a state has one value for each key")
        state[key] = value
    return state


async def show_states(
    url: str | Callable[[], str], group: str, state: Mapping[str, str], count: int | None, as_json: bool
) -> None:
    """Print the states of ``group`` and their changes, ``count`` lines if it is given; set the own state, if any."""
    client = Client(url)
    for event_type in EVENTS:
        client.on(event_type, report)
    async with client:
        note(f"connected as {client.connection_id}" + (f", user {name_of(client.user_id)}" if client.user_id else ""))
        if state:
            await client.join_group(group)
            await client.set_group_state(group, state)
        async with client.watch_group_states(group) as states:
            async for change in states:
                for line in [as_json_line(change)] if as_json else _lines(change):
                    click.echo(escape(line))
                    if count is not None:
                        count -= 1
                        if not count:
                            return
                if change.error is not None:
                    raise change.error


def _lines(change: GroupStatesChanged) -> Iterator[str]:
    for each in change.changed:
        user = f" {name_of(each.user_id)}" if each.user_id else ""
        yield f"{name_of(each.connection_id)}{user}: {as_json_line(each.state)}"
    for connection_id in change.removed:
        yield f"{name_of(connection_id)}: gone"
