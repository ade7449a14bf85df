"""The variables of the command line: an application reads options from the same environment."""

from __future__ import annotations

import click

from limpet import Options
from limpet.cli.commands import cli


def variables() -> set[str]:
    """Return the names of all variables that the commands read."""
    commands = [*cli.commands.values()]
    found: set[str] = set()
    while commands:
        command = commands.pop()
        if isinstance(command, click.Group):
            commands += command.commands.values()
        found |= {each.envvar for each in command.params if isinstance(each.envvar, str)}
    return found


def test_none_of_them_is_taken_for_an_option_of_a_client() -> None:
    assert {"LIMPET_URL", "LIMPET_ACCESS_KEY"} < variables()
    environment = dict.fromkeys(variables(), "x") | {"LIMPET_LOG_LEVEL": "info", "LIMPET_MAX_STREAMS": "3"}
    assert Options.from_mapping(environment, prefix="LIMPET_") == Options(max_streams=3)
