"""``limpet completion``."""

from __future__ import annotations

from typing import Final

import click
from click.shell_completion import get_completion_class

# How a shell asks the program for the words that fit; the shell's script sets it.
_VARIABLE: Final = "_LIMPET_COMPLETE"

_INSTALL: Final = """\b
bash: echo 'eval "$(limpet completion bash)"' >> ~/.bashrc
zsh:  echo 'eval "$(limpet completion zsh)"' >> ~/.zshrc
fish: limpet completion fish > ~/.config/fish/completions/limpet.fish
"""


@click.command("completion", short_help="Print the completion script of a shell.", epilog=_INSTALL)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes commands, options and files of limpet.

    The next shell has it after the line for your shell:
    """
    made = get_completion_class(shell)
    assert made is not None, "click knows these shells"
    click.echo(made(context.find_root().command, {}, "limpet", _VARIABLE).source())
