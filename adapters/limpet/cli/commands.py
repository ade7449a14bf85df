"""The commands, in the order in which the help lists them."""

from __future__ import annotations

from typing import Any

import click

from limpet import __version__
from limpet.cli._running import quiet_ends
from limpet.cli.bench import bench
from limpet.cli.completion import completion
from limpet.cli.demo import demo
from limpet.cli.invoke import invoke
from limpet.cli.pub import pub
from limpet.cli.serve import serve
from limpet.cli.states import state
from limpet.cli.sub import sub
from limpet.cli.tokens import token, url


class _Commands(click.Group):
    """Commands that end quietly, also where their help is printed, and keep their order."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with quiet_ends():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with quiet_ends():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="limpet")
def cli() -> None:
    """A reliable Web PubSub client, and a local service for development and tests."""


for _command in (serve, url, token, sub, pub, invoke, state, bench, demo, completion):
    cli.add_command(_command)
