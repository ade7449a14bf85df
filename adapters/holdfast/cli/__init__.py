"""The command line: ``holdfast serve``, ``token``, ``url``, ``sub``, ``pub``, ``demo``."""

from __future__ import annotations

import sys

from holdfast._extras import MissingExtra, extra

__all__ = ["main"]


def main() -> None:
    """Run the command line; the entry point of ``holdfast``."""
    try:
        with extra("cli"):
            from holdfast.cli.commands import cli
    except MissingExtra as error:
        sys.exit(f"holdfast: {error}")
    cli(prog_name="holdfast")
