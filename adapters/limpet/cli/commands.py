"""The commands, in the order in which the help lists them."""

from __future__ import annotations

from collections import UserDict
from importlib import import_module
from typing import Any, Final

import click

from limpet import __version__
from limpet._extras import extra
from limpet.cli._running import quiet_ends

# Each command and the module of this package that has it. A module is imported when its command is run or listed: the
# demo and the benchmark draw tables, the service has a web server, and no other command should wait for these.
_MODULES: Final = {
    "serve": "serve",
    "url": "tokens",
    "token": "tokens",
    "sub": "sub",
    "pub": "pub",
    "invoke": "invoke",
    "state": "states",
    "bench": "bench",
    "demo": "demo",
    "completion": "completion",
}


class _Imported(UserDict[str, Any]):
    """Commands by name: it holds the name of the module, which is imported when the command is asked for."""

    def __getitem__(self, name: str) -> Any:
        with extra("cli"):
            return getattr(import_module(f"limpet.cli.{super().__getitem__(name)}"), name)


class _Commands(click.Group):
    """Commands that end quietly, also where their help is printed, and keep their order."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with quiet_ends():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with quiet_ends():
            try:
                return super().invoke(ctx)
            except click.NoSuchOption as error:
                raise _with_a_hint_at_data(error) from None

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def _with_a_hint_at_data(error: click.NoSuchOption) -> click.NoSuchOption:
    """Return an error that also says how to give DATA such as ``-5``, unless an option was misspelt."""
    takes_data = error.ctx is not None and any(each.name == "data" for each in error.ctx.command.params)
    if takes_data and not error.possibilities:
        message = f"{error.message.rstrip('.')}; DATA that begins with '-' goes after '--'"
        return click.NoSuchOption(error.option_name, message, ctx=error.ctx)
    return error


@click.group(cls=_Commands, commands=_Imported(_MODULES), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="limpet")
def cli() -> None:
    """A reliable Web PubSub client, and a local service for development and tests.

    Begin with `limpet serve`: it prints URLs and a connection string, which the other commands need. `limpet sub
    --help` has the options of one.
    """
